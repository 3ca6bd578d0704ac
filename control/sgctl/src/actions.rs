//! Single changes: their command lines, and the requests they make, in the
//! shapes of EC2's API.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::EXIT_INVALID;
use crate::client::Failure;
use crate::documents;

/// When a change is made, and when it is answered.
#[derive(Debug, Args)]
pub struct When {
    /// Only if this generation is in force.
    #[arg(long, value_name = "N")]
    pub if_generation: Option<u64>,
    /// Do not wait until every worker enforces it.
    #[arg(long)]
    pub no_wait: bool,
}

/// A name and a description.
#[derive(Debug, Args)]
pub struct Described {
    /// Its name, unique in its VPC.
    #[arg(long)]
    name: String,
    /// What it is for.
    #[arg(long)]
    description: String,
}

#[derive(Debug, Args)]
pub struct CreateGroup {
    #[command(flatten)]
    described: Described,
    /// The VPC it belongs to.
    #[arg(long)]
    vpc: String,
    #[command(flatten)]
    pub when: When,
}

#[derive(Debug, Args)]
pub struct CopyGroup {
    /// The group whose rules it gets.
    source: String,
    #[command(flatten)]
    described: Described,
    #[command(flatten)]
    pub when: When,
}

#[derive(Debug, Args)]
pub struct DeleteGroup {
    /// The group.
    group: String,
    #[command(flatten)]
    pub when: When,
}

/// Which of a group's rule sets.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Direction {
    /// What reaches the members.
    #[arg(long)]
    ingress: bool,
    /// What leaves them.
    #[arg(long)]
    egress: bool,
}

impl Direction {
    fn name(&self) -> &'static str {
        if self.egress { "Egress" } else { "Ingress" }
    }
}

/// A rule by its properties.
#[derive(Debug, Args)]
struct Properties {
    /// tcp, udp, icmp, icmpv6, all or a number.
    #[arg(long)]
    protocol: Option<String>,
    /// A port, or a range such as 7000-8000.
    #[arg(long, value_name = "PORT[-PORT]", value_parser = port_range)]
    port: Option<(u16, u16)>,
    /// ICMP type.
    #[arg(long, value_name = "N")]
    icmp_type: Option<u8>,
    /// ICMP code.
    #[arg(long, value_name = "N", requires = "icmp_type")]
    icmp_code: Option<u8>,
    /// An address block, such as 203.0.113.0/24 or ::/0.
    #[arg(long, value_name = "BLOCK")]
    cidr: Option<String>,
    /// A prefix list.
    #[arg(long, value_name = "PL-ID", conflicts_with = "cidr")]
    prefix_list: Option<String>,
    /// The members of a group.
    #[arg(long = "group", value_name = "SG-ID", conflicts_with_all = ["cidr", "prefix_list"])]
    source_group: Option<String>,
    /// Permissions as the AWS CLI takes them: a file with GroupId and IpPermissions.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["protocol", "port", "icmp_type", "cidr", "prefix_list", "source_group"])]
    cli_input_json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Authorize {
    /// The group that gets the rule.
    group: String,
    #[command(flatten)]
    direction: Direction,
    #[command(flatten)]
    properties: Properties,
    /// What the rule is for.
    #[arg(long)]
    description: Option<String>,
    #[command(flatten)]
    pub when: When,
}

#[derive(Debug, Args)]
pub struct Revoke {
    /// The group that loses the rule.
    group: String,
    #[command(flatten)]
    direction: Direction,
    /// The rule's id; may be given several times.
    #[arg(long = "rule", value_name = "SGR-ID")]
    rules: Vec<String>,
    #[command(flatten)]
    properties: Properties,
    #[command(flatten)]
    pub when: When,
}

#[derive(Debug, Args)]
pub struct DescribeRule {
    /// The group that has the rule.
    group: String,
    #[command(flatten)]
    direction: Direction,
    /// The rule's id.
    #[arg(long = "rule", value_name = "SGR-ID")]
    rule: String,
    /// What it is for; empty for nothing.
    #[arg(long)]
    description: String,
    #[command(flatten)]
    pub when: When,
}

#[derive(Debug, Args)]
pub struct SetGroups {
    /// An interface (eni-...), or an instance (i-...) for its primary interface.
    target: String,
    /// The groups it has from now on.
    #[arg(required = true)]
    groups: Vec<String>,
    #[command(flatten)]
    pub when: When,
}

#[derive(Debug, Args)]
pub struct PrefixLists {
    #[command(subcommand)]
    verb: PrefixList,
    #[command(flatten)]
    pub when: When,
}

#[derive(Debug, Subcommand)]
enum PrefixList {
    /// Make a list.
    Create {
        /// Its name.
        #[arg(long)]
        name: String,
        /// For IPv6 blocks.
        #[arg(long)]
        ipv6: bool,
        /// How many entries it may have, which is its weight in quotas.
        #[arg(long, value_name = "N")]
        max_entries: u64,
        /// Its first entries.
        blocks: Vec<String>,
    },
    /// Add entries.
    Add {
        /// The list.
        list: String,
        /// The version that the change is meant for.
        #[arg(long, value_name = "N")]
        version: u64,
        /// What the entries are for.
        #[arg(long)]
        description: Option<String>,
        /// The entries.
        #[arg(required = true)]
        blocks: Vec<String>,
    },
    /// Remove entries.
    Remove {
        /// The list.
        list: String,
        /// The version that the change is meant for.
        #[arg(long, value_name = "N")]
        version: u64,
        /// The entries.
        #[arg(required = true)]
        blocks: Vec<String>,
    },
    /// Let it have more entries, or fewer.
    Resize {
        /// The list.
        list: String,
        /// How many.
        max_entries: u64,
    },
    /// Delete a list that no rule names.
    Delete {
        /// The list.
        list: String,
    },
}

/// An action and its request.
pub type Action = (String, Value);

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse().map_err(|_| format!("expected PORT or PORT-PORT, found '{text}'"));
    Ok((port(from)?, port(to)?))
}

fn entries(blocks: &[String], description: Option<&str>) -> Value {
    let entry = |block: &String| match description {
        Some(text) => json!({ "Cidr": block, "Description": text }),
        None => json!({ "Cidr": block }),
    };
    blocks.iter().map(entry).collect()
}

impl CreateGroup {
    /// What it asks for.
    pub fn action(&self) -> Action {
        let Described { name, description } = &self.described;
        let request = json!({ "GroupName": name, "Description": description, "VpcId": self.vpc });
        ("CreateSecurityGroup".to_string(), request)
    }
}

impl CopyGroup {
    /// What it asks for.
    pub fn action(&self) -> Action {
        let Described { name, description } = &self.described;
        let request = json!({ "SourceGroupId": self.source, "GroupName": name, "Description": description });
        ("CopySecurityGroup".to_string(), request)
    }
}

impl DeleteGroup {
    /// What it asks for.
    pub fn action(&self) -> Action {
        ("DeleteSecurityGroup".to_string(), json!({ "GroupId": self.group }))
    }
}

impl Properties {
    fn is_given(&self) -> bool {
        self.protocol.is_some() || self.cli_input_json.is_some()
    }

    /// The request for a group: its permissions, from the flags or from a file.
    fn request(&self, group: &str, description: Option<&str>) -> Result<Value, Failure> {
        if let Some(file) = &self.cli_input_json {
            let mut request = documents::read(std::slice::from_ref(file))?.whole;
            request["GroupId"] = json!(group);
            return Ok(request);
        }
        let Some(protocol) = &self.protocol else {
            let message = "give a rule by --protocol and a source, by --rule, or by --cli-input-json";
            return Err(Failure::local(EXIT_INVALID, "MissingParameter", message));
        };
        let mut item = Map::new();
        item.insert(
            "IpProtocol".to_string(),
            json!(if protocol == "all" { "-1" } else { protocol.as_str() }),
        );
        let range = match (self.port, self.icmp_type) {
            (Some((from, to)), _) => Some((i64::from(from), i64::from(to))),
            (None, Some(kind)) => Some((i64::from(kind), self.icmp_code.map_or(-1, i64::from))),
            (None, None) => None,
        };
        if let Some((from, to)) = range {
            item.insert("FromPort".to_string(), json!(from));
            item.insert("ToPort".to_string(), json!(to));
        }
        let source = match (&self.cidr, &self.prefix_list, &self.source_group) {
            (Some(block), ..) if block.contains(':') => Some(("Ipv6Ranges", "CidrIpv6", block)),
            (Some(block), ..) => Some(("IpRanges", "CidrIp", block)),
            (_, Some(list), _) => Some(("PrefixListIds", "PrefixListId", list)),
            (.., Some(group)) => Some(("UserIdGroupPairs", "GroupId", group)),
            (None, None, None) => None,
        };
        if let Some((list, key, value)) = source {
            let mut peer = json!({ key: value });
            if let Some(text) = description {
                peer["Description"] = json!(text);
            }
            item.insert(list.to_string(), json!([peer]));
        }
        Ok(json!({ "GroupId": group, "IpPermissions": [item] }))
    }
}

impl Authorize {
    /// What it asks for.
    pub fn action(&self) -> Result<Action, Failure> {
        let request = self.properties.request(&self.group, self.description.as_deref())?;
        Ok((format!("AuthorizeSecurityGroup{}", self.direction.name()), request))
    }
}

impl Revoke {
    /// What it asks for.
    pub fn action(&self) -> Result<Action, Failure> {
        let mut request = match self.properties.is_given() || self.rules.is_empty() {
            true => self.properties.request(&self.group, None)?,
            false => json!({ "GroupId": self.group }),
        };
        if !self.rules.is_empty() {
            request["SecurityGroupRuleIds"] = json!(self.rules);
        }
        Ok((format!("RevokeSecurityGroup{}", self.direction.name()), request))
    }
}

impl DescribeRule {
    /// What it asks for.
    pub fn action(&self) -> Action {
        let description = json!({ "SecurityGroupRuleId": self.rule, "Description": self.description });
        let request = json!({ "GroupId": self.group, "SecurityGroupRuleDescriptions": [description] });
        (format!("UpdateSecurityGroupRuleDescriptions{}", self.direction.name()), request)
    }
}

impl SetGroups {
    /// What it asks for.
    pub fn action(&self) -> Action {
        let (action, key) = match self.target.starts_with("i-") {
            true => ("ModifyInstanceAttribute", "InstanceId"),
            false => ("ModifyNetworkInterfaceAttribute", "NetworkInterfaceId"),
        };
        (action.to_string(), json!({ key: self.target, "Groups": self.groups }))
    }
}

impl PrefixLists {
    /// What it asks for.
    pub fn action(&self) -> Action {
        let modify = "ModifyManagedPrefixList";
        let (action, request) = match &self.verb {
            PrefixList::Create { name, ipv6, max_entries, blocks } => {
                let family = if *ipv6 { "IPv6" } else { "IPv4" };
                let entries = entries(blocks, None);
                let request = json!({ "PrefixListName": name, "AddressFamily": family, "MaxEntries": max_entries, "Entries": entries });
                ("CreateManagedPrefixList", request)
            }
            PrefixList::Add { list, version, description, blocks } => {
                let entries = entries(blocks, description.as_deref());
                (modify, json!({ "PrefixListId": list, "CurrentVersion": version, "AddEntries": entries }))
            }
            PrefixList::Remove { list, version, blocks } => {
                let entries = entries(blocks, None);
                (modify, json!({ "PrefixListId": list, "CurrentVersion": version, "RemoveEntries": entries }))
            }
            PrefixList::Resize { list, max_entries } => {
                (modify, json!({ "PrefixListId": list, "MaxEntries": max_entries }))
            }
            PrefixList::Delete { list } => ("DeleteManagedPrefixList", json!({ "PrefixListId": list })),
        };
        (action.to_string(), request)
    }
}
