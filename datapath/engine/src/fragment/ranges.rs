use crate::packet::Fragment;
use crate::verdict::DropReason;

/// Stretches of data with gaps between them that one packet may have.
pub const RANGES: usize = 16;

/// The data of a packet that has come so far: stretches in order, none of which
/// touches another, and where the packet ends, if that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// First byte, and the first byte behind.
    list: [(u16, u16); RANGES],
    len: u8,
    end: Option<u16>,
}

impl Ranges {
    fn list(&self) -> &[(u16, u16)] {
        &self.list[..usize::from(self.len)]
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        matches!((self.list(), self.end), (&[(0, last)], Some(end)) if last == end)
    }

    /// With the data of one more fragment.
    ///
    /// # Errors
    /// `FragmentOverlap` if some of it has come before, lies behind the end, or
    /// ends the packet where it cannot end; `FragmentFull` with too many gaps.
    pub fn with(&self, fragment: &Fragment) -> Result<Ranges, DropReason> {
        // Both ends within 65535: the parser has seen to it.
        let (start, stop) = (fragment.offset, fragment.offset.saturating_add(fragment.length));
        let known_end = self.list().last().map_or(0, |(_, stop)| *stop);
        let end = match (self.end, fragment.more) {
            (Some(end), true) if stop <= end => Some(end),
            (None, true) => None,
            (None, false) if known_end <= start => Some(stop),
            _ => return Err(DropReason::FragmentOverlap),
        };
        let at = self.list().partition_point(|(_, before)| *before <= start);
        if self.list().get(at).is_some_and(|(next, _)| *next < stop) {
            return Err(DropReason::FragmentOverlap);
        }
        let joins_before = at > 0 && self.list[at - 1].1 == start;
        let joins_next = self.list().get(at).is_some_and(|(next, _)| *next == stop);
        let mut with = Ranges { end, ..*self };
        let len = usize::from(self.len);
        match (joins_before, joins_next) {
            (true, true) => {
                with.list[at - 1].1 = self.list[at].1;
                with.list.copy_within(at + 1..len, at);
                with.len -= 1;
            }
            (true, false) => with.list[at - 1].1 = stop,
            (false, true) => with.list[at].0 = start,
            (false, false) if len == RANGES => return Err(DropReason::FragmentFull),
            (false, false) => {
                with.list.copy_within(at..len, at + 1);
                with.list[at] = (start, stop);
                with.len += 1;
            }
        }
        Ok(with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(start: u16, stop: u16, more: bool) -> Fragment {
        Fragment { id: 1, offset: start, length: stop - start, more, ports: None }
    }

    fn after(pieces: &[(u16, u16, bool)]) -> Result<Ranges, DropReason> {
        pieces.iter().try_fold(Ranges::default(), |ranges, &(start, stop, more)| {
            ranges.with(&piece(start, stop, more))
        })
    }

    #[test]
    fn pieces_in_any_order_make_a_whole() {
        let pieces = [(0, 8, true), (8, 24, true), (24, 32, true), (32, 35, false)];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let pieces = order.map(|i| pieces[i]);
            assert!(after(&pieces).unwrap().is_whole());
            assert!(!after(&pieces[..3]).unwrap().is_whole());
        }
    }

    #[test]
    fn what_overlaps_is_refused() {
        let overlap = Err(DropReason::FragmentOverlap);
        let known = [(0, 24, true), (48, 64, true)];
        for (start, stop, more) in [
            (0, 24, true),
            (0, 8, true),
            (8, 16, true),
            (16, 32, true),
            (40, 56, true),
            (48, 72, true),
            (24, 56, true),
            (56, 60, false),
            (24, 30, false),
        ] {
            assert_eq!(after(&[known[0], known[1], (start, stop, more)]), overlap, "{start} {stop} {more}");
        }
        for (start, stop, more) in [(24, 48, true), (32, 40, true), (64, 70, false), (72, 80, true)] {
            assert!(after(&[known[0], known[1], (start, stop, more)]).is_ok(), "{start} {stop} {more}");
        }
        // Behind the end, or with a second end.
        assert_eq!(after(&[(64, 70, false), (72, 80, true)]), overlap);
        assert_eq!(after(&[(64, 70, false), (64, 72, false)]), overlap);
        assert_eq!(after(&[(64, 72, false), (72, 80, false)]), overlap);
    }

    #[test]
    fn gaps_are_bounded() {
        let mut ranges = Ranges::default();
        for n in 0..RANGES as u16 {
            ranges = ranges.with(&piece(n * 16, n * 16 + 8, true)).unwrap();
        }
        assert_eq!(ranges.with(&piece(8000, 8008, true)), Err(DropReason::FragmentFull));
        assert!(ranges.with(&piece(8, 16, true)).is_ok(), "what closes a gap has room");
    }

    proptest! {
        #[test]
        fn ranges_agree_with_a_set_of_bytes(
            pieces in prop::collection::vec((0..12u16, 1..4u16, any::<bool>()), 1..24)
        ) {
            let mut ranges = Ranges::default();
            let (mut seen, mut end) = ([false; 200], None);
            for (start, length, more) in pieces {
                let (start, stop) = (start * 8, (start + length) * 8);
                let bytes = usize::from(start)..usize::from(stop);
                let overlaps = seen[bytes.clone()].contains(&true)
                    || end.is_some_and(|end| stop > end || !more)
                    || (!more && seen[bytes.end..].contains(&true));
                match ranges.with(&piece(start, stop, more)) {
                    Ok(next) => {
                        prop_assert!(!overlaps);
                        ranges = next;
                        seen[bytes].fill(true);
                        if !more {
                            end = Some(stop);
                        }
                    }
                    Err(_) => prop_assert!(overlaps),
                }
                let whole = end.is_some_and(|end| seen[..usize::from(end)].iter().all(|b| *b));
                prop_assert_eq!(ranges.is_whole(), whole);
            }
        }
    }
}
