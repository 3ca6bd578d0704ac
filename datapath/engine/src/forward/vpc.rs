use hashbrown::HashMap;

use crate::addr::MacAddr;
use crate::ids::{InterfaceId, PortIndex, VlanId};

/// Where the policy says that something beyond the uplinks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Behind this one of its VPC's, and no other.
    Uplink(PortIndex),
    /// Behind one that is out of service: it cannot be reached, and nothing comes from it.
    Absent,
}

impl Behind {
    /// Whether it is behind this port.
    #[inline]
    pub fn is(self, port: PortIndex) -> bool {
        self == Behind::Uplink(port)
    }

    /// The uplink, if it is in service.
    #[inline]
    pub fn uplink(self) -> Option<PortIndex> {
        match self {
            Behind::Uplink(port) => Some(port),
            Behind::Absent => None,
        }
    }
}

/// How it is known by which uplink of a VPC something is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// There is one, and nobody is said to be elsewhere.
    Sole(PortIndex, Option<VlanId>),
    /// By what was heard.
    #[default]
    Learnt,
    /// By what the policy says of some, and for the others by what was heard.
    Told,
}

/// A VPC: whom a flooded packet reaches, and by which uplink the others are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vpc {
    uplinks: Vec<(PortIndex, Option<VlanId>)>,
    local: Vec<InterfaceId>,
    hosts: HashMap<MacAddr, Behind>,
    are_located: bool,
    pub(crate) way: Way,
}

impl Vpc {
    /// Of the uplinks that carry it, each with its tag there, and its interfaces that
    /// are bound to a port.
    pub fn new(uplinks: Vec<(PortIndex, Option<VlanId>)>, local: Vec<InterfaceId>) -> Vpc {
        let way = match uplinks[..] {
            [(port, tag)] => Way::Sole(port, tag),
            _ => Way::Learnt,
        };
        Vpc { uplinks, local, hosts: HashMap::new(), are_located: false, way }
    }

    /// With hosts that are no interfaces and where each is. `are_located`: whether some
    /// of its interfaces have such a place, too ([`super::Interface::behind`]).
    pub fn with_located(self, hosts: HashMap<MacAddr, Behind>, are_located: bool) -> Vpc {
        let way = if hosts.is_empty() && !are_located { self.way } else { Way::Told };
        Vpc { hosts, are_located, way, ..self }
    }

    /// The uplinks that carry it, each with its tag there.
    #[inline]
    pub fn uplinks(&self) -> &[(PortIndex, Option<VlanId>)] {
        &self.uplinks
    }

    /// Its interfaces that are bound to a port.
    #[inline]
    pub fn local(&self) -> &[InterfaceId] {
        &self.local
    }

    /// The hosts that are no interfaces, and where each is.
    pub fn hosts(&self) -> impl Iterator<Item = (MacAddr, Behind)> {
        self.hosts.iter().map(|(mac, behind)| (*mac, *behind))
    }

    /// Where a host is that is no interface, if the policy says so.
    #[inline]
    pub fn host(&self, mac: MacAddr) -> Option<Behind> {
        self.hosts.get(&mac).copied()
    }

    /// Whether the policy says of some of its interfaces where they are.
    #[inline]
    pub fn are_located(&self) -> bool {
        self.are_located
    }

    /// Whether the policy says of some where they are.
    #[inline]
    pub fn is_told(&self) -> bool {
        self.way == Way::Told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::build::mac;

    #[test]
    fn one_uplink_is_the_only_way_unless_somebody_is_elsewhere() {
        let (one, other) = (PortIndex(1), PortIndex(2));
        let of = |ports: &[PortIndex]| Vpc::new(ports.iter().map(|port| (*port, None)).collect(), vec![]);
        assert_eq!(of(&[one]).way, Way::Sole(one, None));
        assert_eq!(of(&[]).way, Way::Learnt);
        assert_eq!(of(&[one, other]).way, Way::Learnt);
        assert!(!of(&[one]).with_located(HashMap::new(), false).is_told());
        assert!(of(&[one]).with_located(HashMap::new(), true).is_told());
        let told = of(&[one]).with_located([(mac(9), Behind::Absent)].into_iter().collect(), false);
        assert!(told.is_told());
        assert!(told.hosts().eq([(mac(9), Behind::Absent)]));
        assert_eq!((told.host(mac(9)), told.host(mac(8))), (Some(Behind::Absent), None));
        assert_eq!((Behind::Absent.uplink(), Behind::Uplink(one).uplink()), (None, Some(one)));
        assert!(Behind::Uplink(one).is(one) && !Behind::Uplink(one).is(other) && !Behind::Absent.is(one));
    }
}
