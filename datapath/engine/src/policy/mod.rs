//! The compiled rules and their lookup.
//!
//! Groups only permit, so a verdict is an OR, and each field of a packet is
//! classified on its own: the remote address to the sources it belongs to (the
//! groups of the interface that has it, the CIDR blocks and prefix lists that
//! hold it), protocol and port to one number. A policy is what an interned set
//! of groups permits: services open to everyone, and services per source.
//!
//! A sub-batch of packets is judged in two steps: [`Policy::judge_or_probe`] asks for
//! the line of each remote address that matters, [`Policy::judge_probed`] reads it.
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
mod rows;
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

use self::rules::Named;
use crate::addr::{Addr, Family};
use crate::ids::VpcIndex;
use crate::shards::KeyHash;

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

/// A remote address that was asked for: its hash. It means nothing of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Probe(KeyHash);

impl Probe {
    /// Nothing was asked for.
    pub const NONE: Probe = Probe(KeyHash::NONE);
}

/// VPCs whose entry of an address is asked for ahead of its use.
const PROBED_SCOPES: usize = 4;

impl Tables {
    /// Asks for what a judgement on a packet of this remote address will read, by rules
    /// that name these.
    // Not of a query, which would have to be put together for packets that ask for nothing.
    #[inline]
    fn probe(&self, named: Named, vpc: VpcIndex, family: Family, remote: Addr) -> Probe {
        if named.blocks {
            self.cidrs.prefetch(family, remote);
        }
        if !named.groups {
            return Probe::NONE;
        }
        let hash = KeyHash::of(remote.0);
        for &scope in self.scopes(vpc).iter().take(PROBED_SCOPES) {
            self.members.prefetch(hash, scope, remote);
        }
        Probe(hash)
    }

    #[inline]
    fn scopes(&self, vpc: VpcIndex) -> &[VpcIndex] {
        self.scopes.get(usize::from(vpc.0)).map_or(&[][..], Vec::as_slice)
    }

    /// Whether `test` holds for one of the sources that the remote address belongs to, of
    /// the kinds that rules name. `hash` is asked for where there are groups among these.
    #[inline]
    fn any_source(
        &self,
        named: Named,
        query: &Query,
        hash: impl Fn() -> KeyHash,
        mut test: impl FnMut(&[SourceId]) -> bool,
    ) -> bool {
        let Query { vpc, family, remote, .. } = *query;
        (named.groups && self.any_group(vpc, family, remote, hash(), &mut test))
            || named.blocks && test(self.cidrs.covering_of(family, remote))
    }

    /// Whether `test` holds for one of the groups of the interface that has the address, seen
    /// from this VPC.
    #[inline]
    fn any_group(
        &self,
        vpc: VpcIndex,
        family: Family,
        addr: Addr,
        hash: KeyHash,
        test: &mut impl FnMut(&[SourceId]) -> bool,
    ) -> bool {
        self.scopes(vpc).iter().any(|&scope| {
            test(self.members.get_hashed(hash, scope, addr))
                || self.delegated.get(&scope).is_some_and(|all| test(all.covering_of(family, addr)))
        })
    }
}
