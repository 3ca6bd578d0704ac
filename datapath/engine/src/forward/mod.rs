//! Who is plugged in where: interfaces and what they own, the role of each port,
//! and where a packet goes.

mod addresses;
mod endpoint;
mod interfaces;
mod locations;
mod roles;
mod vpc;

pub use addresses::Addresses;
pub use endpoint::Endpoint;
pub use interfaces::{Interfaces, Shared};
pub use locations::Locations;
pub use roles::{PortRole, PortRoles};
pub(crate) use vpc::Way;
pub use vpc::{Behind, Vpc};

use std::sync::Arc;

use crate::addr::{Addr, Family, MacAddr};
use crate::conntrack::Timeouts;
use crate::ids::{InterfaceId, PortIndex, VlanId, VpcIndex};
use crate::policy::{Direction, NetworkAcl, Policy, Probe, Query, Revoked, Tables};
use crate::verdict::Judgement;

/// An elastic network interface: what security groups protect.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its slot and incarnation; connections refer to it by this.
    pub id: InterfaceId,
    /// The VPC its addresses belong to.
    pub vpc: VpcIndex,
    /// Its one Ethernet address.
    pub mac: MacAddr,
    /// The port that serves it. `None`: it lives elsewhere and is reached by an
    /// uplink; its addresses count where its groups are referenced.
    pub port: Option<PortIndex>,
    /// Of one that lives elsewhere: where, if the policy says so.
    pub behind: Option<Behind>,
    /// What it may send from and be sent to.
    pub addresses: Addresses,
    /// EC2's `SourceDestCheck`: whether both directions are held to `addresses`.
    pub source_dest_check: bool,
    /// The rules of its groups, all in one.
    pub policy: Arc<Policy>,
    /// What was open to everyone under an earlier policy and no longer is.
    pub revoked: Option<Arc<Revoked>>,
    /// How long its connections are remembered.
    pub timeouts: Timeouts,
    /// The operator's choices for it.
    pub settings: InterfaceSettings,
    /// The border of its subnet, where that is guarded.
    pub border: Option<Border>,
}

/// The border of a subnet: what passes it is judged by its network ACL (S49).
#[derive(Clone, Debug)]
pub struct Border {
    /// Which subnet: the same number within one snapshot.
    pub subnet: u32,
    /// What may pass.
    pub acl: Arc<NetworkAcl>,
}

/// What an operator may choose for an interface beyond EC2's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// Whether all its flows are tracked, also those that rules open to everyone (D25).
    pub force_tracking: bool,
    /// How ICMP errors are judged (D17).
    pub icmp_errors: IcmpErrors,
    /// Connections that it may track at each worker (D23).
    pub connections: u32,
}

impl Default for InterfaceSettings {
    fn default() -> InterfaceSettings {
        InterfaceSettings { force_tracking: false, icmp_errors: IcmpErrors::default(), connections: u32::MAX }
    }
}

/// How ICMP errors are judged at an interface (D17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IcmpErrors {
    /// By the flow of the packet that they quote, or by rules.
    #[default]
    Related,
    /// By rules alone.
    Rules,
}

/// A service that groups do not filter where an operator says so (D22): EC2's
/// name servers, instance metadata and time service are such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExemptService {
    /// Its address, beyond the uplinks.
    pub address: Addr,
    /// TCP or UDP.
    pub protocol: u8,
    /// Its port.
    pub port: u16,
}

impl Interface {
    /// Whether the address is its own: listed, delegated, or the link-local
    /// address made from its MAC.
    #[inline]
    pub fn owns(&self, addr: Addr) -> bool {
        self.addresses.owns(addr) || addr == link_local(self.mac)
    }

    /// Whether it may send from this address (source check).
    #[inline]
    pub fn may_send_from(&self, addr: Addr) -> bool {
        self.owns(addr) || (!self.source_dest_check && !addr.is_link_local_v6())
    }

    /// How its groups judge a packet in this direction.
    #[inline]
    pub fn judge(&self, tables: &Tables, direction: Direction, query: &Query) -> Judgement {
        match self.policy.judge(tables, direction, query) {
            Judgement::Untracked if self.settings.force_tracking => Judgement::Tracked,
            judgement => judgement,
        }
    }

    /// How they judge every packet, as [`Policy::judge_all`] has it.
    pub fn judge_all(&self, direction: Direction, family: Family, protocol: u8) -> Option<Judgement> {
        let judgement = self.policy.judge_all(direction, family, protocol)?;
        (judgement != Judgement::Untracked || !self.settings.force_tracking).then_some(judgement)
    }

    /// The same in two steps, as [`Policy::judge_or_probe`] has them.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn judge_or_probe(
        &self,
        tables: &Tables,
        direction: Direction,
        query: &Query,
    ) -> Result<Judgement, Probe> {
        match self.policy.judge_or_probe(tables, direction, query) {
            Ok(Judgement::Untracked) if self.settings.force_tracking => Ok(Judgement::Tracked),
            result => result,
        }
    }

    /// Whether it may be sent packets for this address (destination check).
    #[inline]
    pub fn may_receive_for(&self, addr: Addr) -> bool {
        self.owns(addr) || (!self.source_dest_check && !addr.is_link_local_v6())
    }
}

/// The link-local IPv6 address made from a MAC (RFC 4291, appendix A). The one
/// link-local address an interface has without listing it.
#[inline]
pub const fn link_local(mac: MacAddr) -> Addr {
    let [a, b, c, d, e, f] = mac.0;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Addr(0xfe80 << 112 | id as u128)
}

/// Which VPCs a port to the rest of the network carries, and under which tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// The VPC of frames without a tag.
    pub untagged: Option<VpcIndex>,
    /// The VPC of each tag, sorted by tag.
    pub vlans: Vec<(VlanId, VpcIndex)>,
}

impl Uplink {
    /// The VPC of a frame with this tag; `None` if the port does not carry the tag.
    #[inline]
    pub fn vpc(&self, vlan: Option<VlanId>) -> Option<VpcIndex> {
        match vlan {
            None => self.untagged,
            Some(tag) => self.vlans.binary_search_by_key(&tag, |v| v.0).ok().map(|i| self.vlans[i].1),
        }
    }
}

/// One copy of a packet on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The port it leaves by.
    pub port: PortIndex,
    /// What becomes of its VLAN tag.
    pub vlan: VlanEdit,
    /// The interface it is for; `NONE` on an uplink.
    pub receiver: InterfaceId,
}

/// What to do to the VLAN tag of a frame before it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanEdit {
    /// Leave the frame as it is.
    Keep,
    /// Take the tag off.
    Strip,
    /// Put a tag on.
    Push(VlanId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_is_made_from_the_mac() {
        let mac: MacAddr = "02:00:00:00:00:0a".parse().unwrap();
        assert_eq!(link_local(mac).to_string(), "fe80::ff:fe00:a");
    }

    #[test]
    fn an_uplink_knows_its_tags() {
        let u = Uplink { untagged: None, vlans: vec![(VlanId(7), VpcIndex(1)), (VlanId(100), VpcIndex(0))] };
        assert_eq!(u.vpc(None), None);
        assert_eq!(u.vpc(Some(VlanId(100))), Some(VpcIndex(0)));
        assert_eq!(u.vpc(Some(VlanId(99))), None);
        assert_eq!(u.vpc(Some(VlanId(101))), None);
    }
}
