//! A policy in AWS's shapes again.

use serde_json::{Map, Value, json};

use crate::model::{Binding, NetworkInterface, Peer, PrefixList, Rule, SecurityGroup, Validated};

impl Validated {
    /// The document of this policy, in the shapes of the AWS CLI. Validating it
    /// again gives the same policy.
    pub fn to_document(&self) -> Value {
        let list = |items: Vec<Value>| Value::Array(items);
        let entries: Map<String, Value> =
            self.prefix_lists.values().map(|l| (l.id.clone(), prefix_entries(l))).collect();
        let quotas = match self.settings.quotas {
            None => json!("unlimited"),
            Some(q) => json!({
                "RulesPerSecurityGroup": q.rules_per_group,
                "SecurityGroupsPerInterface": q.groups_per_interface,
            }),
        };
        json!({
            "Vpcs": list(self.vpcs.iter().map(|(id, vpc)| match vpc.ipv6 {
                true => json!({ "VpcId": id, "Ipv6CidrBlockAssociationSet": [{ "Ipv6CidrBlockState": { "State": "associated" } }] }),
                false => json!({ "VpcId": id, "Ipv6CidrBlockAssociationSet": [] }),
            }).collect()),
            "VpcPeeringConnections": list(self.peerings.iter().map(|p| json!({
                "VpcPeeringConnectionId": p.id,
                "RequesterVpcInfo": { "VpcId": p.vpcs[0] },
                "AccepterVpcInfo": { "VpcId": p.vpcs[1] },
                "Status": { "Code": if p.active { "active" } else { "deleted" } },
            })).collect()),
            "PrefixLists": list(self.prefix_lists.values().map(prefix_list).collect()),
            "PrefixListEntries": entries,
            "SecurityGroups": list(self.groups.values().map(SecurityGroup::to_document).collect()),
            "SecurityGroupRules": list(self.groups.values().flat_map(SecurityGroup::rules_document).collect()),
            "NetworkInterfaces": list(self.interfaces.values().map(NetworkInterface::to_document).collect()),
            "Bindings": list(self.bindings.iter().map(binding).collect()),
            "Settings": { "Quotas": quotas, "StrictRuleDescriptions": self.settings.strict_rule_descriptions },
        })
    }
}

impl SecurityGroup {
    /// As `describe-security-groups` shows it: rules of the same protocol and
    /// ports are one item.
    pub fn to_document(&self) -> Value {
        json!({
            "GroupId": self.id,
            "GroupName": self.name,
            "Description": self.description,
            "VpcId": self.vpc,
            "IpPermissions": permissions(&self.inbound),
            "IpPermissionsEgress": permissions(&self.outbound),
        })
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
                Peer::Cidr(net @ ipnet::IpNet::V4(_)) => item["CidrIpv4"] = json!(net.to_string()),
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

impl NetworkInterface {
    /// As `describe-network-interfaces` shows it.
    pub fn to_document(&self) -> Value {
        let v4 = self.addresses.iter().filter(|a| a.is_ipv4()).enumerate();
        let v4: Vec<_> = v4.map(|(i, a)| json!({ "PrivateIpAddress": a, "Primary": i == 0 })).collect();
        let v6: Vec<_> =
            self.addresses.iter().filter(|a| a.is_ipv6()).map(|a| json!({ "Ipv6Address": a })).collect();
        let (p4, p6): (Vec<ipnet::IpNet>, Vec<ipnet::IpNet>) =
            self.prefixes.iter().copied().partition(|p| matches!(p, ipnet::IpNet::V4(_)));
        let mut item = json!({
            "NetworkInterfaceId": self.id,
            "VpcId": self.vpc,
            "MacAddress": self.mac.to_string(),
            "Groups": self.groups.iter().map(|g| json!({ "GroupId": g })).collect::<Vec<_>>(),
            "PrivateIpAddresses": v4,
            "Ipv6Addresses": v6,
            "Ipv4Prefixes": p4.iter().map(|p| json!({ "Ipv4Prefix": p.to_string() })).collect::<Vec<_>>(),
            "Ipv6Prefixes": p6.iter().map(|p| json!({ "Ipv6Prefix": p.to_string() })).collect::<Vec<_>>(),
            "SourceDestCheck": self.source_dest_check,
        });
        let timeouts = [
            ("TcpEstablishedTimeout", self.tcp_established_timeout),
            ("UdpTimeout", self.udp_timeout),
            ("UdpStreamTimeout", self.udp_stream_timeout),
        ];
        let timeouts: Map<String, Value> =
            timeouts.into_iter().filter_map(|(key, t)| Some((key.to_string(), json!(t?)))).collect();
        if !timeouts.is_empty() {
            item["ConnectionTrackingConfiguration"] = Value::Object(timeouts);
        }
        item
    }
}

fn permissions(rules: &[Rule]) -> Value {
    let mut items: Vec<(&Rule, Value)> = Vec::new();
    for rule in rules {
        let at = match items.iter().position(|(first, _)| first.service == rule.service) {
            Some(at) => at,
            None => {
                let mut item = json!({
                    "IpProtocol": rule.service.protocol(),
                    "IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [], "UserIdGroupPairs": [],
                });
                if let Some((from, to)) = rule.service.range() {
                    item["FromPort"] = json!(from);
                    item["ToPort"] = json!(to);
                }
                items.push((rule, item));
                items.len() - 1
            }
        };
        let (list, mut peer) = match &rule.peer {
            Peer::Cidr(net @ ipnet::IpNet::V4(_)) => ("IpRanges", json!({ "CidrIp": net.to_string() })),
            Peer::Cidr(net) => ("Ipv6Ranges", json!({ "CidrIpv6": net.to_string() })),
            Peer::PrefixList(id) => ("PrefixListIds", json!({ "PrefixListId": id })),
            Peer::Group { id, .. } => ("UserIdGroupPairs", json!({ "GroupId": id })),
        };
        if let Some(description) = &rule.description {
            peer["Description"] = json!(description);
        }
        if let Some(list) = items[at].1[list].as_array_mut() {
            list.push(peer);
        }
    }
    items.into_iter().map(|(_, item)| item).collect()
}

fn prefix_list(list: &PrefixList) -> Value {
    let mut item = json!({
        "PrefixListId": list.id,
        "AddressFamily": if list.ipv6 { "IPv6" } else { "IPv4" },
    });
    if list.max_entries > 0 {
        item["MaxEntries"] = json!(list.max_entries);
    }
    if let Some(name) = &list.name {
        item["PrefixListName"] = json!(name);
    }
    if let Some(version) = list.version {
        item["Version"] = json!(version);
    }
    item
}

fn prefix_entries(list: &PrefixList) -> Value {
    let entry = |(net, description): &(ipnet::IpNet, Option<String>)| match description {
        Some(text) => json!({ "Cidr": net.to_string(), "Description": text }),
        None => json!({ "Cidr": net.to_string() }),
    };
    list.entries.iter().map(entry).collect()
}

fn binding(binding: &Binding) -> Value {
    match binding {
        Binding::Interface { interface, port } => json!({ "NetworkInterfaceId": interface, "Port": port }),
        Binding::Uplink { port, vpc, vlan: None } => json!({ "Uplink": port, "VpcId": vpc }),
        Binding::Uplink { port, vpc, vlan: Some(vlan) } => {
            json!({ "Uplink": port, "VpcId": vpc, "VlanId": vlan })
        }
    }
}
