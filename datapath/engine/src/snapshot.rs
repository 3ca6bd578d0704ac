//! A compiled policy: all that a worker needs to judge a packet, immutable.

use crate::addr::{Addr, MacAddr};
use crate::forward::{Behind, ExemptService, Interfaces, PortRole, PortRoles, Vpc};
use crate::ids::{PortIndex, VpcIndex};
use crate::policy::Tables;

/// One generation of policy. Built by the control plane, published by pointer
/// swap; a packet is judged by one snapshot, entirely.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Its number, from 1. 0 is the closed switch that has no policy yet (D29). Rules are the
    /// same in all snapshots of one: connections note what these have refused.
    pub generation: u64,
    /// The interfaces.
    pub interfaces: Interfaces,
    /// What each port is for.
    pub ports: PortRoles,
    /// The VPCs, by [`VpcIndex`].
    pub vpcs: Vec<Vpc>,
    /// Who a remote address is.
    pub tables: Tables,
    /// Services that groups do not filter (D22).
    pub exempt: Vec<ExemptService>,
}

impl Snapshot {
    /// The snapshot of a switch without a policy: nothing passes.
    pub fn closed() -> Snapshot {
        Snapshot::default()
    }

    /// What this port is for.
    #[inline]
    pub fn port(&self, port: PortIndex) -> &PortRole {
        self.ports.get(port)
    }

    /// The VPC of this index, if the snapshot has it.
    #[inline]
    pub fn vpc(&self, vpc: VpcIndex) -> Option<&Vpc> {
        self.vpcs.get(vpc.0 as usize)
    }
    /// Where the policy says that a MAC beyond the uplinks is.
    #[inline]
    pub fn behind(&self, vpc: VpcIndex, mac: MacAddr) -> Option<Behind> {
        let of = self.vpc(vpc)?;
        // No host has the MAC of an interface.
        match of.host(mac) {
            None if of.are_located() => self.interfaces.by_mac(vpc, mac)?.behind,
            place => place,
        }
    }

    /// Whether what has come by an uplink is from where the policy says that its MAC
    /// and its source address are.
    #[inline]
    pub fn may_come_by(&self, port: PortIndex, vpc: VpcIndex, mac: MacAddr, src: Option<Addr>) -> bool {
        let is_right = |place: Option<Behind>| place.is_none_or(|behind| behind.is(port));
        let are_located = self.vpc(vpc).is_some_and(Vpc::are_located);
        let of_address = |src| if are_located { self.interfaces.by_address(vpc, src)?.behind } else { None };
        is_right(self.behind(vpc, mac)) && is_right(src.and_then(of_address))
    }
}
