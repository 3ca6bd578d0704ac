//! Which uplink leads to a MAC beyond them, as a bridge learns it (IEEE 802.1Q, 8.7).

use crate::addr::MacAddr;
use crate::arch::aes_round;
use crate::ids::{PortIndex, VpcIndex};
use crate::time::{Tick, Ticks};

/// How long a location counts after the MAC was seen there last: a bridge's
/// default (IEEE 802.1Q, 8.8.3).
const AGEING: Ticks = Ticks::from_secs(300);

/// MACs that are remembered at a time, in places of their own. One that takes the
/// place of another is no harm: what is for that goes by all uplinks until it
/// speaks again.
const PLACES: usize = 8192;

#[derive(Clone, Copy)]
struct Location {
    mac: MacAddr,
    vpc: VpcIndex,
    port: PortIndex,
    /// When it was seen last, to half of `AGEING`.
    seen: Tick,
}

/// One worker's: both directions of a flow have one owner, so who sends to a
/// host has heard from it.
pub struct Locations {
    places: Box<[Option<Location>]>,
    /// Nobody outside can choose MACs that share a place.
    key: u128,
}

impl Locations {
    /// None is known.
    pub fn new(key: u128) -> Locations {
        Locations { places: vec![None; PLACES].into(), key }
    }

    #[inline]
    fn place(&self, vpc: VpcIndex, mac: MacAddr) -> usize {
        let [a, b, c, d, e, f] = mac.0;
        let [v, w] = vpc.0.to_be_bytes();
        let block = u128::from(u64::from_be_bytes([v, w, a, b, c, d, e, f]));
        let mixed = (0..3).fold(block, |state, _| aes_round(state, self.key));
        mixed as usize % PLACES
    }

    /// Notes where a MAC was seen. Writes only what has changed.
    #[inline]
    pub fn learn(&mut self, vpc: VpcIndex, mac: MacAddr, port: PortIndex, now: Tick) {
        let place = self.place(vpc, mac);
        let known = self.places[place].is_some_and(|known| {
            let is_it = known.mac == mac && known.vpc == vpc && known.port == port;
            is_it && now < known.seen + Ticks(AGEING.0 / 2)
        });
        if !known {
            self.places[place] = Some(Location { mac, vpc, port, seen: now });
        }
    }

    /// The uplink by which a MAC was seen last; `None` if that is too long ago.
    #[inline]
    pub fn find(&self, vpc: VpcIndex, mac: MacAddr, now: Tick) -> Option<PortIndex> {
        let found = self.places[self.place(vpc, mac)]?;
        (found.mac == mac && found.vpc == vpc && now < found.seen + AGEING).then_some(found.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::build::mac;

    const V: VpcIndex = VpcIndex(3);

    #[test]
    fn the_last_place_counts_until_it_is_too_old() {
        let mut locations = Locations::new(7);
        let at = Tick::from_secs;
        assert_eq!(locations.find(V, mac(1), at(0)), None);
        locations.learn(V, mac(1), PortIndex(4), at(10));
        assert_eq!(locations.find(V, mac(1), at(309)), Some(PortIndex(4)));
        assert_eq!(locations.find(V, mac(1), at(310)), None);
        assert_eq!(locations.find(VpcIndex(2), mac(1), at(10)), None, "another VPC's is another's");
        assert_eq!(locations.find(V, mac(2), at(10)), None);
        // It moves at once, and is known as long as it speaks.
        locations.learn(V, mac(1), PortIndex(5), at(11));
        assert_eq!(locations.find(V, mac(1), at(11)), Some(PortIndex(5)));
        for seconds in (11..2000).step_by(100) {
            locations.learn(V, mac(1), PortIndex(5), at(seconds));
        }
        assert_eq!(locations.find(V, mac(1), at(2000)), Some(PortIndex(5)));
    }

    #[test]
    fn more_macs_than_places_lose_old_ones_and_never_lie() {
        let mut locations = Locations::new(0x1234_5678_9abc_def1);
        let mac = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            MacAddr([2, 0, a, b, c, d])
        };
        let port = |n: u32| PortIndex((n % 7) as u16);
        let count = 4 * PLACES as u32;
        (0..count).for_each(|n| locations.learn(V, mac(n), port(n), Tick(0)));
        let known = (0..count).filter(|n| match locations.find(V, mac(*n), Tick(0)) {
            Some(found) => {
                assert_eq!(found, port(*n));
                true
            }
            None => false,
        });
        // Places are spread: nearly all are taken.
        assert!(known.count() > PLACES * 9 / 10);
    }
}
