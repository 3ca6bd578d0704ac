//! A policy in AWS's shapes again.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

use crate::model::{
    AclEntry, Binding, ExemptService, InterfaceSettings, NetworkAcl, NetworkInterface, Peer, Peering,
    PrefixList, Rule, RuleService, SecurityGroup, Subnet, TrackingTimeouts, Validated, Vpc,
};

impl Validated {
    /// The document of this policy, in the shapes of the AWS CLI. Validating it
    /// again gives the same policy.
    pub fn to_document(&self) -> Value {
        let quotas = match self.settings.quotas {
            None => json!("unlimited"),
            Some(q) => json!({
                "RulesPerSecurityGroup": q.rules_per_group,
                "SecurityGroupsPerInterface": q.groups_per_interface,
            }),
        };
        let chosen =
            self.settings.interfaces.iter().map(|(id, chosen)| (id.to_string(), interface_settings(chosen)));
        let entries = self.prefix_lists.values().map(|l| (l.id.to_string(), l.entries_document()));
        let settings = object([
            ("Quotas", quotas),
            ("StrictRuleDescriptions", json!(self.settings.strict_rule_descriptions)),
            ("Timeouts", timeouts(&self.settings.timeouts)),
            ("ExemptServices", self.settings.exempt_services.iter().map(exempt_service).collect()),
            ("NetworkInterfaces", Value::Object(chosen.collect())),
        ]);
        object([
            ("Vpcs", self.vpcs.iter().map(|(id, v)| vpc(id, v)).collect()),
            ("Subnets", self.subnets.iter().map(|(id, s)| subnet(id, s)).collect()),
            ("NetworkAcls", self.network_acls.values().map(network_acl).collect()),
            ("VpcPeeringConnections", self.peerings.iter().map(peering).collect()),
            ("PrefixLists", self.prefix_lists.values().map(PrefixList::to_document).collect()),
            ("PrefixListEntries", Value::Object(entries.collect())),
            ("SecurityGroups", self.groups.values().map(SecurityGroup::to_document).collect()),
            ("SecurityGroupRules", self.groups.values().flat_map(SecurityGroup::rules_document).collect()),
            ("NetworkInterfaces", self.interfaces.values().map(NetworkInterface::to_document).collect()),
            ("Bindings", self.bindings.iter().map(binding).collect()),
            ("Settings", settings),
        ])
    }
}

/// An object of these values: `json!` would copy them.
fn object<const N: usize>(items: [(&str, Value); N]) -> Value {
    Value::Object(items.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
}

fn exempt_service(service: &ExemptService) -> Value {
    let protocol = if service.protocol == 6 { "tcp" } else { "udp" };
    json!({ "Address": service.address, "Protocol": protocol, "Port": service.port })
}

fn interface_settings(chosen: &InterfaceSettings) -> Value {
    let errors = if chosen.icmp_errors_by_rules { "rules" } else { "related" };
    json!({ "ForceTracking": chosen.force_tracking, "IcmpErrors": errors })
}

fn vpc(id: &str, vpc: &Vpc) -> Value {
    let associated = json!({ "Ipv6CidrBlockState": { "State": "associated" } });
    let blocks = if vpc.ipv6 { json!([associated]) } else { json!([]) };
    json!({ "VpcId": id, "Ipv6CidrBlockAssociationSet": blocks })
}

fn subnet(id: &str, subnet: &Subnet) -> Value {
    let (v4, v6): (Vec<&IpNet>, Vec<_>) = subnet.blocks.iter().partition(|b| b.addr().is_ipv4());
    let associated = |b: &&IpNet| json!({ "Ipv6CidrBlock": b.to_string(), "Ipv6CidrBlockState": { "State": "associated" } });
    json!({
        "SubnetId": id,
        "VpcId": subnet.vpc,
        "CidrBlock": v4.first().map(ToString::to_string),
        "Ipv6CidrBlockAssociationSet": v6.iter().map(associated).collect::<Value>(),
    })
}

fn network_acl(acl: &NetworkAcl) -> Value {
    let entries = |entries: &BTreeMap<u16, AclEntry>, egress: bool| {
        entries.iter().map(|(number, entry)| acl_entry(*number, entry, egress)).collect::<Vec<_>>()
    };
    let entries = [entries(&acl.inbound, false), entries(&acl.outbound, true)].concat();
    json!({
        "NetworkAclId": acl.id,
        "VpcId": acl.vpc,
        "Entries": entries,
        "Associations": acl.subnets.iter().map(|subnet| json!({ "SubnetId": subnet })).collect::<Value>(),
    })
}

fn acl_entry(number: u16, entry: &AclEntry, egress: bool) -> Value {
    let mut item = json!({
        "RuleNumber": number,
        "Egress": egress,
        "RuleAction": if entry.allow { "allow" } else { "deny" },
    });
    let block = if entry.block.addr().is_ipv4() { "CidrBlock" } else { "Ipv6CidrBlock" };
    item[block] = json!(entry.block.to_string());
    let (protocol, about) = match entry.service {
        RuleService::All => ("-1".to_string(), None),
        RuleService::Ports(number, from, to) => {
            (number.to_string(), Some(("PortRange", json!({ "From": from, "To": to }))))
        }
        RuleService::Icmp(number, kind, code) => {
            let or_all = |v: Option<u8>| v.map_or(-1, i64::from);
            let about = json!({ "Type": or_all(kind), "Code": or_all(code) });
            (number.to_string(), Some(("IcmpTypeCode", about)))
        }
        RuleService::Protocol(number, _) => (number.to_string(), None),
    };
    item["Protocol"] = json!(protocol);
    if let Some((key, value)) = about {
        item[key] = value;
    }
    item
}

fn peering(peering: &Peering) -> Value {
    json!({
        "VpcPeeringConnectionId": peering.id,
        "RequesterVpcInfo": { "VpcId": peering.vpcs[0] },
        "AccepterVpcInfo": { "VpcId": peering.vpcs[1] },
        "Status": { "Code": if peering.active { "active" } else { "deleted" } },
    })
}

impl PrefixList {
    /// As `describe-managed-prefix-lists` shows it.
    pub fn to_document(&self) -> Value {
        let mut item = json!({
            "PrefixListId": self.id,
            "AddressFamily": if self.ipv6 { "IPv6" } else { "IPv4" },
        });
        // EC2 has no list of no entries; only one that is not described has.
        if self.max_entries > 0 {
            item["MaxEntries"] = json!(self.max_entries);
        }
        if self.aws_managed {
            item["OwnerId"] = json!("AWS");
        }
        if let Some(name) = &self.name {
            item["PrefixListName"] = json!(name);
        }
        if let Some(version) = self.version {
            item["Version"] = json!(version);
        }
        item
    }

    /// As `get-managed-prefix-list-entries` shows them.
    pub fn entries_document(&self) -> Value {
        let entry = |(net, description): &(IpNet, Option<String>)| match description {
            Some(text) => json!({ "Cidr": net.to_string(), "Description": text }),
            None => json!({ "Cidr": net.to_string() }),
        };
        self.entries.iter().map(entry).collect()
    }
}

impl SecurityGroup {
    /// As `describe-security-groups` shows it: rules of the same protocol and
    /// ports are one item.
    pub fn to_document(&self) -> Value {
        object([
            ("GroupId", json!(self.id)),
            ("GroupName", json!(self.name)),
            ("Description", json!(self.description)),
            ("VpcId", json!(self.vpc)),
            ("IpPermissions", permissions(&self.inbound)),
            ("IpPermissionsEgress", permissions(&self.outbound)),
        ])
    }

    /// As `describe-security-group-rules` shows its rules.
    pub fn rules_document(&self) -> Vec<Value> {
        let rule = |rule: &Rule, egress: bool| {
            let range = rule.service.range().unwrap_or((-1, -1));
            let mut item = json!({
                "SecurityGroupRuleId": rule.id,
                "GroupId": self.id,
                "IsEgress": egress,
                "IpProtocol": rule.service.protocol(),
                "FromPort": range.0,
                "ToPort": range.1,
            });
            match &rule.peer {
                Peer::Cidr(net @ IpNet::V4(_)) => item["CidrIpv4"] = json!(net.to_string()),
                Peer::Cidr(net) => item["CidrIpv6"] = json!(net.to_string()),
                Peer::PrefixList(id) => item["PrefixListId"] = json!(id),
                Peer::Group { id, .. } => item["ReferencedGroupInfo"] = json!({ "GroupId": id }),
            }
            if let Some(description) = &rule.description {
                item["Description"] = json!(description);
            }
            item
        };
        let inbound = self.inbound.iter().map(|r| rule(r, false));
        inbound.chain(self.outbound.iter().map(|r| rule(r, true))).collect()
    }
}

/// The items of `IpPermissions`, in the order of the first rule of each.
fn permissions(rules: &[Rule]) -> Value {
    let mut items: Vec<Value> = Vec::new();
    let mut known = HashMap::new();
    for rule in rules {
        let at = *known.entry(rule.service).or_insert_with(|| {
            let mut item = json!({
                "IpProtocol": rule.service.protocol(),
                "IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [], "UserIdGroupPairs": [],
            });
            if let Some((from, to)) = rule.service.range() {
                item["FromPort"] = json!(from);
                item["ToPort"] = json!(to);
            }
            items.push(item);
            items.len() - 1
        });
        let (list, mut source) = match &rule.peer {
            Peer::Cidr(net @ IpNet::V4(_)) => ("IpRanges", json!({ "CidrIp": net.to_string() })),
            Peer::Cidr(net) => ("Ipv6Ranges", json!({ "CidrIpv6": net.to_string() })),
            Peer::PrefixList(id) => ("PrefixListIds", json!({ "PrefixListId": id })),
            Peer::Group { id, stale: false } => ("UserIdGroupPairs", json!({ "GroupId": id })),
            // Tells that it once went through a peering, if the group is in another VPC.
            Peer::Group { id, stale: true } => {
                ("UserIdGroupPairs", json!({ "GroupId": id, "PeeringStatus": "deleted" }))
            }
        };
        if let Some(description) = &rule.description {
            source["Description"] = json!(description);
        }
        if let Some(list) = items[at][list].as_array_mut() {
            list.push(source);
        }
    }
    Value::Array(items)
}

impl NetworkInterface {
    /// As `describe-network-interfaces` shows it.
    pub fn to_document(&self) -> Value {
        serde_json::to_value(InDocument(self)).expect("its keys are text")
    }
}

/// An interface in AWS's shape. It is written without the tree of a document between: changes
/// of interfaces are what is stored most often.
pub(crate) struct InDocument<'i>(pub &'i NetworkInterface);

impl Serialize for InDocument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let InDocument(interface) = self;
        let addresses = interface.addresses.iter();
        let v4 = addresses.clone().filter(|a| a.is_ipv4()).enumerate();
        let v4 = v4.map(|(n, address)| PrivateAddress { address, primary: n == 0 });
        let v6 = addresses.filter(|a| a.is_ipv6()).map(|address| Item("Ipv6Address", address));
        let prefixes = |v4: bool, key| {
            let own = interface.prefixes.iter().filter(move |p| p.addr().is_ipv4() == v4);
            List(own.map(move |prefix| Item(key, prefix)))
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("NetworkInterfaceId", &interface.id)?;
        map.serialize_entry("VpcId", &interface.vpc)?;
        map.serialize_entry("MacAddress", &format_args!("{}", interface.mac))?;
        map.serialize_entry("Groups", &List(interface.groups.iter().map(|id| Item("GroupId", id))))?;
        map.serialize_entry("PrivateIpAddresses", &List(v4))?;
        map.serialize_entry("Ipv6Addresses", &List(v6))?;
        map.serialize_entry("Ipv4Prefixes", &prefixes(true, "Ipv4Prefix"))?;
        map.serialize_entry("Ipv6Prefixes", &prefixes(false, "Ipv6Prefix"))?;
        map.serialize_entry("SourceDestCheck", &interface.source_dest_check)?;
        if let Some(subnet) = &interface.subnet {
            map.serialize_entry("SubnetId", subnet)?;
        }
        if let Some(attachment) = &interface.attachment {
            let attachment =
                json!({ "InstanceId": attachment.instance, "DeviceIndex": attachment.device_index });
            map.serialize_entry("Attachment", &attachment)?;
        }
        if interface.timeouts != TrackingTimeouts::default() {
            map.serialize_entry("ConnectionTrackingConfiguration", &timeouts(&interface.timeouts))?;
        }
        map.end()
    }
}

#[derive(serde::Serialize)]
struct PrivateAddress<'a> {
    #[serde(rename = "PrivateIpAddress")]
    address: &'a IpAddr,
    #[serde(rename = "Primary")]
    primary: bool,
}

/// An object of one value.
struct Item<'a, T>(&'static str, &'a T);

impl<T: Serialize> Serialize for Item<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.0, self.1)])
    }
}

/// What an iterator has.
struct List<I>(I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for List<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

fn timeouts(timeouts: &TrackingTimeouts) -> Value {
    let given = [
        ("TcpEstablishedTimeout", timeouts.tcp_established),
        ("UdpTimeout", timeouts.udp),
        ("UdpStreamTimeout", timeouts.udp_stream),
    ];
    let given = given.into_iter().filter_map(|(key, seconds)| Some((key.to_string(), json!(seconds?))));
    Value::Object(given.collect::<Map<_, _>>())
}

fn binding(binding: &Binding) -> Value {
    match binding {
        Binding::Interface { interface, port } => json!({ "NetworkInterfaceId": interface, "Port": port }),
        Binding::Behind { interface, uplink } => json!({ "NetworkInterfaceId": interface, "Uplink": uplink }),
        Binding::Uplink { port, vpc, vlan, hosts } => {
            let mut item = json!({ "Uplink": port, "VpcId": vpc });
            if let Some(vlan) = vlan {
                item["VlanId"] = json!(vlan);
            }
            if !hosts.is_empty() {
                item["MacAddresses"] = hosts.iter().map(|mac| json!(mac.to_string())).collect();
            }
            item
        }
    }
}
