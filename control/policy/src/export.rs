//! A policy in AWS's shapes again.

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;
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
pub(crate) fn object<const N: usize>(items: [(&str, Value); N]) -> Value {
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
        let v4 = self.addresses.iter().filter(|a| a.is_ipv4()).enumerate();
        let v6 = self.addresses.iter().filter(|a| a.is_ipv6());
        let prefixes = |v4: bool, key: &str| -> Value {
            let own = self.prefixes.iter().filter(|p| p.addr().is_ipv4() == v4);
            own.map(|p| json!({ key: p.to_string() })).collect()
        };
        let v4 = v4.map(|(i, a)| json!({ "PrivateIpAddress": a, "Primary": i == 0 }));
        let mut item = object([
            ("NetworkInterfaceId", json!(self.id)),
            ("VpcId", json!(self.vpc)),
            ("MacAddress", json!(self.mac.to_string())),
            ("Groups", self.groups.iter().map(|g| json!({ "GroupId": g })).collect()),
            ("PrivateIpAddresses", v4.collect()),
            ("Ipv6Addresses", v6.map(|a| json!({ "Ipv6Address": a })).collect()),
            ("Ipv4Prefixes", prefixes(true, "Ipv4Prefix")),
            ("Ipv6Prefixes", prefixes(false, "Ipv6Prefix")),
            ("SourceDestCheck", json!(self.source_dest_check)),
        ]);
        if let Some(subnet) = &self.subnet {
            item["SubnetId"] = json!(subnet);
        }
        if let Some(attachment) = &self.attachment {
            item["Attachment"] =
                json!({ "InstanceId": attachment.instance, "DeviceIndex": attachment.device_index });
        }
        if self.timeouts != TrackingTimeouts::default() {
            item["ConnectionTrackingConfiguration"] = timeouts(&self.timeouts);
        }
        item
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
