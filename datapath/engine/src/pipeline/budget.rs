use crate::ids::{InterfaceId, PortIndex};
use crate::time::{TICKS_PER_SECOND, Tick};

/// Unfiltered and flooded packets one interface may send per second and worker.
/// EC2 allows 1024 packets per second to its link-local services.
pub const EXEMPT_PER_SECOND: u32 = 1024;

/// The same for everything that an uplink brings: the hosts of a whole network.
pub const UPLINK_EXEMPT_PER_SECOND: u32 = 16 * EXEMPT_PER_SECOND;

/// ICMP errors about its flows that one interface may be sent per second and
/// worker (D17), and that may leave by the uplinks.
pub const RELATED_PER_SECOND: u32 = 1024;

/// Caps what is not held back by rules or state (D22): ARP, neighbour discovery,
/// DHCP and floods; and ICMP errors about connections. A new allowance with each tick.
pub(super) struct Budget {
    interfaces: Box<[Spent]>,
    uplinks: Vec<Spent>,
    related: Box<[Spent]>,
    related_out: Spent,
}

#[derive(Clone, Copy, Default)]
struct Spent {
    tick: Tick,
    packets: u32,
}

impl Spent {
    fn spend(&mut self, now: Tick, per_second: u32) -> bool {
        if self.tick != now {
            *self = Spent { tick: now, packets: 0 };
        }
        self.packets += 1;
        self.packets <= per_second / TICKS_PER_SECOND
    }
}

impl Budget {
    pub fn new(interface_slots: usize) -> Budget {
        let interfaces: Box<[Spent]> = vec![Spent::default(); interface_slots].into();
        Budget { related: interfaces.clone(), interfaces, uplinks: Vec::new(), related_out: Spent::default() }
    }

    /// Whether this interface may send one more now. A slot beyond the table may not.
    pub fn interface(&mut self, id: InterfaceId, now: Tick) -> bool {
        self.interfaces.get_mut(id.slot()).is_some_and(|s| s.spend(now, EXEMPT_PER_SECOND))
    }

    /// Whether one more error may go to this interface now, or out by the uplinks.
    pub fn related(&mut self, receiver: InterfaceId, now: Tick) -> bool {
        match receiver.is_some() {
            true => self.related.get_mut(receiver.slot()).is_some_and(|s| s.spend(now, RELATED_PER_SECOND)),
            false => self.related_out.spend(now, UPLINK_EXEMPT_PER_SECOND),
        }
    }

    /// Whether this uplink may bring one more now.
    pub fn uplink(&mut self, port: PortIndex, now: Tick) -> bool {
        let port = port.slot();
        if port >= self.uplinks.len() {
            self.uplinks.resize(port + 1, Spent::default());
        }
        self.uplinks[port].spend(now, UPLINK_EXEMPT_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_per_tick_for_each() {
        let mut budget = Budget::new(2);
        let (a, b) = (InterfaceId::new(0, 1), InterfaceId::new(1, 1));
        let allowance = EXEMPT_PER_SECOND / TICKS_PER_SECOND;
        for _ in 0..allowance {
            assert!(budget.interface(a, Tick(5)));
        }
        assert!(!budget.interface(a, Tick(5)));
        assert!(budget.interface(b, Tick(5)), "the neighbour has its own");
        assert!(budget.interface(a, Tick(6)), "a new tick, a new allowance");
        assert!(!budget.interface(InterfaceId::new(2, 1), Tick(6)), "no such slot");
        assert!(budget.uplink(PortIndex(3), Tick(6)));
    }
}
