//! What each source may reach, by source: the rows of one direction of a policy.
//!
//! # Design
//! A row is found by its source in a sorted table with gaps: sources are spread
//! by a multiplication, each row lies where its number says or as few places
//! behind as others leave free, and whatever is behind a larger number or a gap
//! is not there. Most sources of an address are in no row of a policy, and
//! most of these are told in one line.
//!
//! Most rows are one range of services, and most of these are short, or reach to the
//! end of a protocol, or are everything: their ends are kept in place, in four bytes.
//! Other ranges lie apart. The rows of several ranges share one division of all
//! services into classes, which is located once per packet however many sources there
//! are; each is a set of bits over classes. Where classes are so many that the bits
//! would take more than the ranges do several times over, the row's ranges are
//! searched.

use hashbrown::HashMap;

use super::SourceId;
use super::service::{Service, ServiceSet, contains};

/// Spreads sources, which are numbered one after the other.
const SPREAD: u32 = 0x9e37_79b1;

/// Bits may take so many times the memory of ranges.
const BITS_TO_RANGES: usize = 4;

/// What one source may reach.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// The source, spread.
    key: u32,
    reach: Reach,
}

impl Row {
    /// No source has this key, and no packet's service is in reach.
    const GAP: Row = Row { key: u32::MAX, reach: Reach::new(0, (1 << Reach::FIRST) - 1) };
}

const _: () = assert!(size_of::<Row>() == 8);

/// Ranges of services: in the lower bits the first service, or a place among those
/// that lie apart; in the upper bits how many follow it, or one of the words below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reach(u32);

impl Reach {
    /// Bits of the first service: protocols are up to 256.
    const FIRST: u32 = 25;
    /// The most that follow.
    const LONGEST: u32 = 123;
    /// All up to the end of the protocol.
    const TO_END: u32 = 124;
    /// Everything there is.
    const EVERYTHING: u32 = 125;
    /// A range that lies apart.
    const RANGE: u32 = 126;
    /// Several ranges, apart.
    const SEVERAL: u32 = 127;

    const fn new(how: u32, first: u32) -> Reach {
        assert!(first < 1 << Reach::FIRST);
        Reach(how << Reach::FIRST | first)
    }

    /// One range, if it can be said in place.
    fn in_place(low: u32, high: u32) -> Option<Reach> {
        match high - low {
            _ if (low, high) == (0, u32::MAX) => Some(Reach::new(Reach::EVERYTHING, 0)),
            _ if low >= 1 << Reach::FIRST => None,
            more @ 0..=Reach::LONGEST => Some(Reach::new(more, low)),
            _ if high == low | 0xffff => Some(Reach::new(Reach::TO_END, low)),
            _ => None,
        }
    }

    #[inline]
    fn how(self) -> u32 {
        self.0 >> Reach::FIRST
    }

    /// The first service, or the place.
    #[inline]
    fn first(self) -> u32 {
        self.0 & ((1 << Reach::FIRST) - 1)
    }
}

/// The rows of one direction of a policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// By key, with gaps; the last is one. Empty if there are no rows.
    table: Box<[Row]>,
    /// The places that keys are spread over; the rows of the last may lie behind.
    places: usize,
    apart: Option<Box<Apart>>,
}

/// What is not said in place.
#[derive(Clone, Debug)]
struct Apart {
    /// Single ranges.
    ranges: Box<[(u32, u32)]>,
    several: Several,
}

/// Rows of several ranges.
#[derive(Clone, Debug)]
enum Several {
    /// Classes of services begin at `starts`; each row has `words` of the bits.
    Bits { starts: Box<[u32]>, words: usize, bits: Box<[u64]> },
    /// Each row has a span of the ranges.
    Ranges { spans: Box<[(u32, u32)]>, ranges: Box<[(u32, u32)]> },
}

/// The class of a packet's service, located when it is first needed.
#[derive(Clone, Copy)]
struct Located {
    service: Service,
    class: Option<usize>,
}

impl Located {
    fn new(service: Service) -> Located {
        Located { service, class: None }
    }
}

impl Rows {
    pub fn new<'r>(rows: impl Iterator<Item = (SourceId, &'r ServiceSet)>) -> Rows {
        let (mut single, mut several) = (Vec::new(), Vec::new());
        let mut known = HashMap::new();
        let mut sorted: Vec<Row> = rows
            .filter(|(_, services)| !services.is_empty())
            .map(|(source, services)| {
                let key = source.0.wrapping_mul(SPREAD);
                assert!(key != Row::GAP.key, "sources are numbered from 0 on");
                let in_place = match services.ranges() {
                    [(low, high)] => Reach::in_place(*low, *high),
                    _ => None,
                };
                let apart = || match services.ranges() {
                    [range] => {
                        single.push(*range);
                        Reach::new(Reach::RANGE, single.len() as u32 - 1)
                    }
                    ranges => {
                        several.push(ranges);
                        Reach::new(Reach::SEVERAL, several.len() as u32 - 1)
                    }
                };
                let reach = in_place.unwrap_or_else(|| *known.entry(services).or_insert_with(apart));
                Row { key, reach }
            })
            .collect();
        if sorted.is_empty() {
            return Rows::default();
        }
        sorted.sort_unstable_by_key(|row| row.key);
        // Three quarters full.
        let places = sorted.len() + sorted.len() / 3 + 1;
        let mut table = Vec::with_capacity(places + 1);
        for row in sorted {
            table.resize(home(row.key, places).max(table.len()), Row::GAP);
            table.push(row);
        }
        table.resize((table.len() + 1).max(places), Row::GAP);
        let has_apart = !single.is_empty() || !several.is_empty();
        let apart = has_apart.then(|| Apart { ranges: single.into(), several: Several::new(&several) });
        let apart = apart.map(Box::new);
        Rows { table: table.into(), places, apart }
    }

    /// Whether one of the sources may reach the service.
    #[inline(never)]
    pub fn permit_any(&self, sources: &[SourceId], service: Service) -> bool {
        let mut located = Located::new(service);
        sources.iter().any(|source| self.permits(*source, &mut located))
    }

    /// Whether the source may reach the service.
    #[inline]
    fn permits(&self, source: SourceId, located: &mut Located) -> bool {
        let key = source.0.wrapping_mul(SPREAD);
        let from = home(key, self.places);
        for row in self.table.get(from..).unwrap_or(&[]) {
            if row.key >= key {
                return row.key == key && self.permits_by(row, located);
            }
        }
        false
    }

    #[inline]
    fn permits_by(&self, row: &Row, located: &mut Located) -> bool {
        let service = located.service.number();
        let (how, first) = (row.reach.how(), row.reach.first());
        if how <= Reach::LONGEST {
            return service.wrapping_sub(first) <= how;
        }
        if how == Reach::SEVERAL {
            return self.apart.as_deref().is_some_and(|apart| apart.several.permits(first as usize, located));
        }
        match how {
            Reach::TO_END => (first..=first | 0xffff).contains(&service),
            Reach::EVERYTHING => true,
            _ => self.apart.as_deref().is_some_and(|apart| {
                let (low, high) = apart.ranges[first as usize];
                (low..=high).contains(&service)
            }),
        }
    }
}

/// Where the row of a key lies, if those before it leave the place.
#[inline]
fn home(key: u32, places: usize) -> usize {
    ((u64::from(key) * places as u64) >> 32) as usize
}

impl Several {
    #[inline]
    fn permits(&self, row: usize, located: &mut Located) -> bool {
        match self {
            Several::Bits { starts, words, bits } => {
                let service = located.service.number();
                let class = *located.class.get_or_insert_with(|| starts.partition_point(|s| *s <= service));
                bits[row * words + class / 64] >> (class % 64) & 1 == 1
            }
            Several::Ranges { spans, ranges } => {
                let (start, end) = spans[row];
                contains(&ranges[start as usize..end as usize], located.service)
            }
        }
    }

    fn new(rows: &[&[(u32, u32)]]) -> Several {
        let ranges: usize = rows.iter().map(|row| row.len()).sum();
        // Class 0 is what lies before the first start: no row's.
        let edges = rows.iter().flat_map(|row| row.iter());
        let mut starts: Vec<u32> =
            edges.flat_map(|&(low, high)| [Some(low), high.checked_add(1)]).flatten().collect();
        starts.sort_unstable();
        starts.dedup();
        let words = (starts.len() + 1).div_ceil(64);
        if rows.len() * words > BITS_TO_RANGES * ranges {
            return Several::ranges(rows);
        }
        let mut bits = vec![0u64; rows.len() * words];
        for (row, bits) in rows.iter().zip(bits.chunks_exact_mut(words)) {
            for &(low, high) in *row {
                let class = |service| starts.partition_point(|s| *s <= service);
                (class(low)..=class(high)).for_each(|class| bits[class / 64] |= 1 << (class % 64));
            }
        }
        Several::Bits { starts: starts.into(), words, bits: bits.into() }
    }

    fn ranges(rows: &[&[(u32, u32)]]) -> Several {
        let mut ranges = Vec::new();
        let spans = rows.iter().map(|row| {
            let start = ranges.len() as u32;
            ranges.extend_from_slice(row);
            (start, ranges.len() as u32)
        });
        Several::Ranges { spans: spans.collect(), ranges: ranges.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Family;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Ends of ranges around the longest that is kept in place, and of a protocol.
    const ENDS: [u16; 7] = [122, 123, 124, 140, 30_000, 65_534, 65_535];

    fn permits(rows: &Rows, source: u32, port: u16) -> bool {
        rows.permits(SourceId(source), &mut Located::new(Service::new(Family::V4, 6, port)))
    }

    #[test]
    fn no_row_lies_far_from_its_place() {
        for stride in [1u32, 2, 3, 7, 16, 64, 1000, 1 << 20] {
            for count in [1u32, 10, 60, 1000, 4000] {
                let set = ServiceSet::ports(6, 22, 22);
                let rows = Rows::new((0..count).map(|n| (SourceId(n.wrapping_mul(stride)), &set)));
                let far = rows.table.iter().enumerate().filter(|(_, row)| row.key != Row::GAP.key);
                let far = far.map(|(at, row)| at - home(row.key, rows.places)).max().unwrap();
                assert!(far <= 24, "{far} for {count} at {stride}");
                assert!((0..count).all(|n| permits(&rows, n.wrapping_mul(stride), 22)));
                assert!((0..count).all(|n| !permits(&rows, n.wrapping_mul(stride), 23)));
                assert!(!permits(&rows, count.wrapping_mul(stride), 22));
            }
        }
    }

    #[test]
    fn bits_that_would_take_too_much_are_ranges() {
        let pairs = |n: u16| {
            ServiceSet::union_of(&[
                ServiceSet::ports(6, 4 * n, 4 * n),
                ServiceSet::ports(6, 4 * n + 2, 4 * n + 2),
            ])
        };
        for (count, expected) in [(30u16, true), (3000, false)] {
            let sets: Vec<_> = (0..count).map(pairs).collect();
            let rows = Rows::new(sets.iter().enumerate().map(|(n, set)| (SourceId(n as u32), set)));
            let several = &rows.apart.as_ref().expect("rows of several ranges").several;
            assert_eq!(matches!(several, Several::Bits { .. }), expected);
            for n in 0..count {
                let at = |port| permits(&rows, n.into(), port);
                assert!(at(4 * n) && at(4 * n + 2) && !at(4 * n + 1) && !at(4 * n + 3));
            }
        }
    }

    proptest! {
        #[test]
        fn a_row_permits_what_its_set_holds(
            given in proptest::collection::btree_map(
                prop_oneof![0u32..20, any::<u32>().prop_filter("the gap's", |n| n.wrapping_mul(SPREAD) != u32::MAX)],
                proptest::collection::vec((0u16..40, prop_oneof![3 => 0u16..40, 1 => prop::sample::select(&ENDS[..])]), 0..5), 0..20),
            all in any::<bool>(),
        ) {
            let mut sets: BTreeMap<u32, ServiceSet> = given.into_iter().map(|(source, ranges)| {
                let ranges: Vec<_> = ranges.into_iter().map(|(low, high)| ServiceSet::ports(6, low, high)).collect();
                (source, ServiceSet::union_of(&ranges))
            }).collect();
            if all && let Some(mut first) = sets.first_entry() {
                first.insert(ServiceSet::all());
            }
            let rows = Rows::new(sets.iter().map(|(source, set)| (SourceId(*source), set)));
            for source in (0..21).chain(sets.keys().copied()) {
                // One location serves all rows, whichever is asked first.
                for port in (0..42).chain(ENDS.into_iter().flat_map(|end| [end, end.wrapping_add(1)])) {
                    let mut located = Located::new(Service::new(Family::V4, 6, port));
                    for source in [source, 0, 1, 2, source] {
                        let expected = sets.get(&source).is_some_and(|set| set.contains(located.service));
                        prop_assert_eq!(rows.permits(SourceId(source), &mut located), expected);
                    }
                }
            }
        }
    }
}
