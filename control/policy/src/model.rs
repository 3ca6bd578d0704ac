//! What a validated document says, in types: nothing here needs checking again.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use compact_str::CompactString;
use engine::addr::MacAddr;
use ipnet::IpNet;

use crate::by_id::ById;

/// An id. AWS's fit into it without memory of their own: a policy has tens of
/// thousands, which are compared and copied all the time.
pub type Id = CompactString;

/// A whole policy. A copy shares all that is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validated {
    /// VPCs, those only mentioned included.
    pub vpcs: ById<Vpc>,
    /// Subnets.
    pub subnets: ById<Subnet>,
    /// Network ACLs.
    pub network_acls: ById<NetworkAcl>,
    /// Security groups, the default one of each VPC included (S50).
    pub groups: ById<SecurityGroup>,
    /// Network interfaces.
    pub interfaces: ById<NetworkInterface>,
    /// Prefix lists.
    pub prefix_lists: ById<PrefixList>,
    /// Peerings between VPCs.
    pub peerings: Vec<Peering>,
    /// Which port serves what.
    pub bindings: Arc<Vec<Binding>>,
    /// The operator's choices.
    pub settings: Settings,
}

/// A VPC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vpc {
    /// Whether it has an IPv6 block (D14).
    pub ipv6: bool,
}

/// A subnet: where its interfaces' addresses lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The VPC it belongs to.
    pub vpc: Id,
    /// Its blocks, the IPv4 one first.
    pub blocks: Vec<IpNet>,
}

/// A network ACL: numbered entries that permit or deny what passes the border
/// of its subnets, without state (S49).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkAcl {
    /// `acl-...`
    pub id: Id,
    /// The VPC it belongs to.
    pub vpc: Id,
    /// What enters, by number.
    pub inbound: BTreeMap<u16, AclEntry>,
    /// What leaves, by number.
    pub outbound: BTreeMap<u16, AclEntry>,
    /// The subnets that it guards.
    pub subnets: Vec<Id>,
}

/// One entry of a network ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclEntry {
    /// Whether it permits or denies.
    pub allow: bool,
    /// What it is about.
    pub service: RuleService,
    /// From or to whom.
    pub block: IpNet,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// `sg-...`
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// The VPC it belongs to.
    pub vpc: Id,
    /// Rules for what reaches its interfaces.
    pub inbound: Vec<Rule>,
    /// Rules for what leaves them.
    pub outbound: Vec<Rule>,
}

/// One rule: one protocol, one range, one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `sgr-` and 17 hex digits: the document's, or made from the rule's properties.
    pub id: Id,
    /// What it permits.
    pub service: RuleService,
    /// From or to whom.
    pub peer: Peer,
    /// Its description.
    pub description: Option<String>,
}

/// What a rule permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleService {
    /// All traffic (protocol `-1`).
    All,
    /// TCP (6) or UDP (17) ports, both included.
    Ports(u8, u16, u16),
    /// ICMP (1) or ICMPv6 (58): type and code, `None` for all (D4).
    Icmp(u8, Option<u8>, Option<u8>),
    /// Another protocol, whole; ports are kept and have no effect (D2).
    Protocol(u8, Option<(u16, u16)>),
}

/// The source of an inbound rule, or the destination of an outbound one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// An address block, in canonical form (D5).
    Cidr(IpNet),
    /// A prefix list.
    PrefixList(Id),
    /// The members of a group.
    Group {
        /// The group.
        id: Id,
        /// Whether it is gone or no longer reachable by a peering (D10, S36):
        /// then the rule matches nothing.
        stale: bool,
    },
}

/// An elastic network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterface {
    /// `eni-...`
    pub id: Id,
    /// The VPC it is in.
    pub vpc: Id,
    /// The subnet it is in.
    pub subnet: Option<Id>,
    /// What it is attached to.
    pub attachment: Option<Attachment>,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its groups, in the order of their ids and without repetition; never empty (S3).
    pub groups: Vec<Id>,
    /// Private addresses, the primary one of IPv4 before others of IPv4.
    pub addresses: Vec<IpAddr>,
    /// Delegated prefixes.
    pub prefixes: Vec<IpNet>,
    /// Whether it may only send and receive as itself.
    pub source_dest_check: bool,
    /// How long its connections are remembered (D18).
    pub timeouts: TrackingTimeouts,
}

/// The instance that an interface is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// `i-...`
    pub instance: Option<Id>,
    /// 0 for the instance's primary interface (S10).
    pub device_index: Option<u32>,
}

/// EC2's `ConnectionTrackingConfiguration`, in seconds; `None` for the default (D18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackingTimeouts {
    /// `TcpEstablishedTimeout`
    pub tcp_established: Option<u32>,
    /// `UdpTimeout`
    pub udp: Option<u32>,
    /// `UdpStreamTimeout`
    pub udp_stream: Option<u32>,
}

/// A prefix list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixList {
    /// `pl-...`
    pub id: Id,
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<u64>,
    /// Whether its entries are IPv6.
    pub ipv6: bool,
    /// Whether AWS keeps it: then its weight says nothing about its entries.
    pub aws_managed: bool,
    /// Its weight in quotas: `MaxEntries`, or how many entries it has (D6).
    pub max_entries: usize,
    /// Its entries, each with its description.
    pub entries: Vec<(IpNet, Option<String>)>,
}

/// A peering of two VPCs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peering {
    /// `pcx-...`
    pub id: Id,
    /// Who asked for it, and who accepted.
    pub vpcs: [Id; 2],
    /// Whether it is in force.
    pub active: bool,
}

/// What a port is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// It serves an interface.
    Interface {
        /// The interface.
        interface: Id,
        /// The port's name.
        port: String,
    },
    /// It leads to the rest of the network.
    Uplink {
        /// The port's name.
        port: String,
        /// The VPC it carries.
        vpc: Id,
        /// Under this VLAN, or untagged.
        vlan: Option<u16>,
        /// MACs of hosts of that VPC that are behind it and are no interfaces, in order.
        hosts: Vec<MacAddr>,
    },
    /// No port serves the interface: it is behind an uplink.
    Behind {
        /// The interface.
        interface: Id,
        /// The uplink's name.
        uplink: String,
    },
}

/// The operator's choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Limits, `None` for unlimited (D20).
    pub quotas: Option<Quotas>,
    /// Whether `&` is refused in descriptions of rules, as EC2's text has it (D1).
    pub strict_rule_descriptions: bool,
    /// How long connections are remembered where the interface does not say.
    pub timeouts: TrackingTimeouts,
    /// Services that groups do not filter (D22), in order.
    pub exempt_services: Vec<ExemptService>,
    /// What is chosen for single interfaces, by their ids.
    pub interfaces: ById<InterfaceSettings>,
}

/// A service that groups do not filter (D22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExemptService {
    /// Its address.
    pub address: IpAddr,
    /// TCP (6) or UDP (17).
    pub protocol: u8,
    /// Its port.
    pub port: u16,
}

/// What an operator chooses for one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// Whether all its flows are tracked (D25).
    pub force_tracking: bool,
    /// Whether ICMP errors are judged by rules alone (D17).
    pub icmp_errors_by_rules: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            quotas: Some(Quotas::default()),
            strict_rule_descriptions: false,
            timeouts: TrackingTimeouts::default(),
            exempt_services: Vec::new(),
            interfaces: ById::default(),
        }
    }
}

/// EC2's public quotas (D20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Rules of a group, for each direction and family.
    pub rules_per_group: usize,
    /// Groups of an interface.
    pub groups_per_interface: usize,
}

impl Quotas {
    /// The most rules times groups of an interface.
    pub const MAX_PRODUCT: usize = 1000;
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas { rules_per_group: 60, groups_per_interface: 5 }
    }
}

/// The name of the group that every VPC has (S52).
pub const DEFAULT_GROUP: &str = "default";

impl RuleService {
    /// The protocol as EC2 shows it (D3).
    pub fn protocol(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            RuleService::All => "-1",
            RuleService::Ports(6, ..) => "tcp",
            RuleService::Ports(17, ..) => "udp",
            RuleService::Icmp(1, ..) => "icmp",
            RuleService::Icmp(..) => "icmpv6",
            RuleService::Ports(number, ..) | RuleService::Protocol(number, _) => {
                return Cow::Owned(number.to_string());
            }
        })
    }

    /// `FromPort` and `ToPort` as EC2 shows them; none for all traffic.
    pub fn range(&self) -> Option<(i64, i64)> {
        let or_all = |v: Option<u8>| v.map_or(-1, i64::from);
        match *self {
            RuleService::All => None,
            RuleService::Ports(_, from, to) => Some((from.into(), to.into())),
            RuleService::Icmp(_, icmp_type, code) => Some((or_all(icmp_type), or_all(code))),
            RuleService::Protocol(_, ports) => ports.map(|(from, to)| (from.into(), to.into())),
        }
    }
}

impl fmt::Display for RuleService {
    /// As people write it: `tcp 443`, `udp 7000-8000`, `icmp type 8`, `all traffic`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.protocol();
        match *self {
            RuleService::All => f.write_str("all traffic"),
            RuleService::Ports(_, 0, u16::MAX) => write!(f, "{name} all ports"),
            RuleService::Ports(_, from, to) if from == to => write!(f, "{name} {from}"),
            RuleService::Ports(_, from, to) => write!(f, "{name} {from}-{to}"),
            RuleService::Icmp(_, None, _) => f.write_str(&name),
            RuleService::Icmp(_, Some(t), None) => write!(f, "{name} type {t}"),
            RuleService::Icmp(_, Some(t), Some(c)) => write!(f, "{name} type {t} code {c}"),
            RuleService::Protocol(number, _) => write!(f, "protocol {number}"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Cidr(net) => net.fmt(f),
            Peer::PrefixList(id) => f.write_str(id),
            Peer::Group { id, stale: false } => f.write_str(id),
            Peer::Group { id, stale: true } => write!(f, "{id} (stale)"),
        }
    }
}

impl Validated {
    /// Takes over from another policy what is the same there, so that the two
    /// share it: what differs is then found at the cost of what differs.
    pub fn share(&mut self, with: &Validated) {
        self.vpcs.share(&with.vpcs);
        self.subnets.share(&with.subnets);
        self.network_acls.share(&with.network_acls);
        self.groups.share(&with.groups);
        self.interfaces.share(&with.interfaces);
        self.prefix_lists.share(&with.prefix_lists);
        self.settings.interfaces.share(&with.settings.interfaces);
    }

    /// Notes that there is a VPC, if only by name.
    pub(crate) fn mention(&mut self, vpc: &str) {
        if !self.vpcs.contains_key(vpc) {
            self.vpcs.or_default(vpc);
        }
    }

    /// The VPCs that may refer to each other's groups: the VPC itself, then
    /// those it has an active peering with.
    pub fn scopes<'v>(&'v self, vpc: &'v str) -> impl Iterator<Item = &'v str> {
        let peers = self.peerings.iter().filter(|p| p.active).filter_map(move |p| match &p.vpcs {
            [one, other] if one == vpc => Some(other.as_str()),
            [other, one] if one == vpc => Some(other.as_str()),
            _ => None,
        });
        std::iter::once(vpc).chain(peers)
    }

    /// The ports that serve interfaces, by interface.
    pub fn ports_by_interface(&self) -> HashMap<&str, &str> {
        self.bindings
            .iter()
            .filter_map(|binding| match binding {
                Binding::Interface { interface, port } => Some((interface.as_str(), port.as_str())),
                Binding::Uplink { .. } | Binding::Behind { .. } => None,
            })
            .collect()
    }

    /// The uplinks that interfaces are behind, as far as bindings say so, by interface.
    pub fn uplinks_by_interface(&self) -> HashMap<&str, &str> {
        self.bindings
            .iter()
            .filter_map(|binding| match binding {
                Binding::Behind { interface, uplink } => Some((interface.as_str(), uplink.as_str())),
                Binding::Interface { .. } | Binding::Uplink { .. } => None,
            })
            .collect()
    }

    /// The uplink that an interface is behind, if a binding says so.
    pub fn uplink_of(&self, id: &str) -> Option<&str> {
        self.bindings.iter().find_map(|b| match b {
            Binding::Behind { interface, uplink } if interface == id => Some(uplink.as_str()),
            _ => None,
        })
    }

    /// The port that serves an interface.
    pub fn port_of(&self, id: &str) -> Option<&str> {
        self.bindings.iter().find_map(|b| match b {
            Binding::Interface { interface, port } if interface == id => Some(port.as_str()),
            _ => None,
        })
    }
}
