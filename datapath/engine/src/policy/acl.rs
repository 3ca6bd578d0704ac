//! Network ACLs: numbered entries that permit or deny, the first that matches
//! decides, without state (S49). What must be interrupted at once, state
//! notwithstanding, is denied here.
//!
//! Entries are walked one by one: their number is bounded by [`MAX_ENTRIES`],
//! and most interfaces have no ACL at all.

use super::{Direction, Service, ServiceSet};
use crate::addr::{Addr, Family, Prefix};

/// The most entries of one direction (EC2's upper quota).
pub const MAX_ENTRIES: usize = 40;

/// One numbered entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclEntry {
    /// Whether it permits or denies.
    pub allow: bool,
    /// From or to whom.
    pub block: Prefix,
    /// What it is about.
    pub services: ServiceSet,
}

/// The entries of a network ACL, by direction, in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkAcl {
    entries: [Vec<(AclEntry, bool)>; 2],
}

impl NetworkAcl {
    /// # Panics
    /// With more than [`MAX_ENTRIES`] of a direction: the caller has validated that.
    pub fn new(inbound: Vec<AclEntry>, outbound: Vec<AclEntry>) -> NetworkAcl {
        let known = |entries: Vec<AclEntry>| {
            assert!(entries.len() <= MAX_ENTRIES, "{} entries of one direction", entries.len());
            let with = |entry: AclEntry| {
                let icmp = if entry.block.addr().family() == Family::V4 { 1 } else { 58 };
                let all_icmp = entry.services.covers(&ServiceSet::protocol(icmp));
                (entry, all_icmp)
            };
            entries.into_iter().map(with).collect()
        };
        NetworkAcl { entries: [known(inbound), known(outbound)] }
    }

    /// Whether a packet from or to `remote` may pass the subnet's border: by the
    /// first entry that matches, and not if none does. `None` as service is a
    /// later fragment of ICMP, whose type nobody knows: only an entry about all
    /// of ICMP matches it.
    pub fn permits(&self, direction: Direction, remote: Addr, service: Option<Service>) -> bool {
        let matches = |(entry, all_icmp): &&(AclEntry, bool)| {
            entry.block.contains(remote) && service.map_or(*all_icmp, |s| entry.services.contains(s))
        };
        self.entries[direction as usize].iter().find(matches).is_some_and(|(entry, _)| entry.allow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(allow: bool, block: u32, length: u8, services: ServiceSet) -> AclEntry {
        AclEntry { allow, block: Prefix::new(Addr::v4(block), length).unwrap(), services }
    }

    #[test]
    fn s49_the_first_entry_that_matches_decides_and_none_denies() {
        let acl = NetworkAcl::new(
            vec![
                entry(false, 0x0a00_0001, 32, ServiceSet::all()),
                entry(true, 0x0a00_0000, 8, ServiceSet::ports(6, 80, 80)),
                entry(false, 0, 0, ServiceSet::ports(6, 0, 1023)),
                entry(true, 0, 0, ServiceSet::protocol(6)),
            ],
            vec![
                entry(true, 0, 0, ServiceSet::icmp(1, Some(8), None)),
                entry(true, 0x0a00_0000, 8, ServiceSet::protocol(1)),
            ],
        );
        let tcp = |port| Some(Service::new(Family::V4, 6, port));
        let inbound = |remote, service| acl.permits(Direction::Inbound, Addr::v4(remote), service);
        assert!(!inbound(0x0a00_0001, tcp(80)) && !inbound(0x0a00_0001, tcp(5000)));
        assert!(
            inbound(0x0a00_0002, tcp(80))
                && !inbound(0x0a00_0002, tcp(81))
                && inbound(0x0a00_0002, tcp(1024))
        );
        assert!(!inbound(0x0b00_0002, tcp(80)) && inbound(0x0b00_0002, tcp(1024)));
        assert!(!inbound(0x0b00_0002, Some(Service::new(Family::V4, 17, 1024))), "none matches");
        assert!(!acl.permits(Direction::Inbound, Addr(1 << 100), Some(Service::new(Family::V6, 6, 1024))));
        // A later fragment of ICMP.
        let outbound = |remote| acl.permits(Direction::Outbound, Addr::v4(remote), None);
        assert!(outbound(0x0a00_0002) && !outbound(0x0b00_0002));
    }
}
