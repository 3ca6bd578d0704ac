//! The compiled rules and their lookup.
//!
//! Groups only permit, so a verdict is an OR, and each field of a packet is
//! classified on its own: the remote address to the sources it belongs to (the
//! groups of the interface that has it, the CIDR blocks and prefix lists that
//! hold it), protocol and port to one number. A policy is what an interned set
//! of groups permits: services open to everyone, and services per source.
//!
//! The work per packet is bounded by what one address can belong to
//! ([`MAX_GROUPS`] groups and [`MAX_COVERING`] blocks), not by rules.
//!
//! Rejected: a table of policies times addresses (80 GB at a million members);
//! members expanded into rules; tuple-space search, which an attacker lengthens;
//! DPDK's `rte_acl`, which is rebuilt as a whole on each change of members, and
//! `rte_fib`, which in 22.11 cannot be replaced while it is read.

mod acl;
mod cidrs;
mod members;
mod rules;
mod service;
#[cfg(test)]
mod tests;

pub use acl::{AclEntry, MAX_ENTRIES, NetworkAcl};
pub use cidrs::{Cidrs, MAX_COVERING, TooManyCovering};
pub use members::{MAX_GROUPS, Members};
pub use rules::{Direction, DirectionRules, Policy, Query, Revoked, SourceId};
pub use service::{Service, ServiceSet};

use std::sync::Arc;

use hashbrown::HashMap;

use crate::addr::Addr;
use crate::ids::VpcIndex;

/// Who a remote address is.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Addresses of interfaces, exactly.
    pub members: Members,
    /// Prefixes delegated to interfaces, by VPC.
    pub delegated: HashMap<VpcIndex, Arc<Cidrs>>,
    /// Blocks that rules and prefix lists name.
    pub cidrs: Arc<Cidrs>,
    /// In which VPCs a VPC's rules find members: itself, and those it has an
    /// active peering with. By [`VpcIndex`]; a missing one has none.
    pub scopes: Vec<Vec<VpcIndex>>,
}

impl Tables {
    /// Whether `test` holds for a source that the address belongs to, seen from this VPC.
    #[inline]
    fn any_source(&self, vpc: VpcIndex, addr: Addr, mut test: impl FnMut(SourceId) -> bool) -> bool {
        let scopes = self.scopes.get(usize::from(vpc.0)).map_or(&[][..], Vec::as_slice);
        for &scope in scopes {
            if self.members.get(scope, addr).iter().any(|s| test(*s)) {
                return true;
            }
            if let Some(delegated) = self.delegated.get(&scope)
                && delegated.covering(addr).iter().any(|s| test(*s))
            {
                return true;
            }
        }
        self.cidrs.covering(addr).iter().any(|s| test(*s))
    }
}
