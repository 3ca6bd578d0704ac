use std::time::{SystemTime, UNIX_EPOCH};

use super::FlowLogConfig;
use super::window::{Flow, Key, Place};

macro_rules! fields {
    ($($name:ident = $text:literal, version $version:literal;)+) => {
        /// A field of a line, by AWS's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $(#[doc = $text] $name,)+ }

        impl Field {
            /// All, in AWS's order.
            pub const ALL: &'static [Field] = &[$(Field::$name,)+];

            /// AWS's name.
            pub fn name(self) -> &'static str {
                match self { $(Field::$name => $text,)+ }
            }

            /// The version of the format that brought it.
            fn version(self) -> u8 {
                match self { $(Field::$name => $version,)+ }
            }
        }
    };
}

fields! {
    Version = "version", version 2;
    AccountId = "account-id", version 2;
    InterfaceId = "interface-id", version 2;
    SrcAddr = "srcaddr", version 2;
    DstAddr = "dstaddr", version 2;
    SrcPort = "srcport", version 2;
    DstPort = "dstport", version 2;
    Protocol = "protocol", version 2;
    Packets = "packets", version 2;
    Bytes = "bytes", version 2;
    Start = "start", version 2;
    End = "end", version 2;
    Action = "action", version 2;
    LogStatus = "log-status", version 2;
    VpcId = "vpc-id", version 3;
    SubnetId = "subnet-id", version 3;
    InstanceId = "instance-id", version 3;
    TcpFlags = "tcp-flags", version 3;
    Type = "type", version 3;
    PktSrcAddr = "pkt-srcaddr", version 3;
    PktDstAddr = "pkt-dstaddr", version 3;
    Region = "region", version 4;
    AzId = "az-id", version 4;
    SublocationType = "sublocation-type", version 4;
    SublocationId = "sublocation-id", version 4;
    PktSrcAwsService = "pkt-src-aws-service", version 5;
    PktDstAwsService = "pkt-dst-aws-service", version 5;
    FlowDirection = "flow-direction", version 5;
    TrafficPath = "traffic-path", version 5;
}

/// The default line: version 2, whole.
pub const DEFAULT_FIELDS: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol \
                                  packets bytes start end action log-status";

impl Field {
    /// The fields of a format: names, as AWS writes them, also as `${name}`.
    pub fn format(text: &str) -> Result<Vec<Field>, String> {
        let fields: Result<Vec<Field>, String> = text
            .split_whitespace()
            .map(|word| {
                let name = word.strip_prefix("${").and_then(|w| w.strip_suffix('}')).unwrap_or(word);
                Field::ALL.iter().copied().find(|field| field.name() == name).ok_or_else(|| {
                    let names: Vec<&str> = Field::ALL.iter().map(|field| field.name()).collect();
                    format!("'{name}' is no field of a flow log: expected some of {}", names.join(" "))
                })
            })
            .collect();
        let fields = fields?;
        if fields.is_empty() { Err("a flow log has at least one field".to_string()) } else { Ok(fields) }
    }
}

/// What all lines of a window share.
pub(super) struct Context<'c> {
    pub config: &'c FlowLogConfig,
    pub start: SystemTime,
    pub end: SystemTime,
}

impl Context<'_> {
    /// A line: of a flow, or of an interface that has none to show.
    pub fn line(&self, flow: Option<(&Key, &Flow)>, place: &Place, status: &str) -> String {
        let fields = &self.config.fields;
        let mut line = String::with_capacity(160);
        for (at, field) in fields.iter().enumerate() {
            if at > 0 {
                line.push(' ');
            }
            line.push_str(&self.value(*field, flow, place, status).unwrap_or_else(|| "-".to_string()));
        }
        line.push('\n');
        line
    }

    fn value(
        &self,
        field: Field,
        flow: Option<(&Key, &Flow)>,
        place: &Place,
        status: &str,
    ) -> Option<String> {
        let seconds =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()).to_string();
        let (key, counts) = flow.unzip();
        let tuple = key.map(|key| key.tuple);
        let ported = tuple.filter(|t| matches!(t.protocol, 6 | 17));
        let port = |of: fn(crate::accounts::Tuple) -> u16| tuple.map(|_| ported.map_or(0, of).to_string());
        match field {
            // The highest version of the fields, as AWS has it.
            Field::Version => {
                self.config.fields.iter().map(|field| field.version()).max().map(|v| v.to_string())
            }
            Field::AccountId => self.config.account.clone(),
            Field::InterfaceId => Some(place.interface.to_string()),
            Field::SrcAddr | Field::PktSrcAddr => tuple.map(|t| t.src.to_string()),
            Field::DstAddr | Field::PktDstAddr => tuple.map(|t| t.dst.to_string()),
            Field::SrcPort => port(|t| t.src_port),
            Field::DstPort => port(|t| t.dst_port),
            Field::Protocol => tuple.map(|t| t.protocol.to_string()),
            Field::Packets => counts.map(|c| c.packets.to_string()),
            Field::Bytes => counts.map(|c| c.bytes.to_string()),
            Field::Start => Some(seconds(counts.and_then(|c| c.first).unwrap_or(self.start))),
            Field::End => Some(seconds(counts.and_then(|c| c.last).unwrap_or(self.end))),
            Field::Action => key.map(|k| if k.accept { "ACCEPT" } else { "REJECT" }.to_string()),
            Field::LogStatus => Some(status.to_string()),
            Field::VpcId => Some(place.vpc.to_string()),
            Field::SubnetId => place.subnet.as_ref().map(ToString::to_string),
            Field::InstanceId => place.instance.as_ref().map(ToString::to_string),
            // SYN, FIN, RST, and SYN with ACK are what AWS records; ACK alone is 0.
            Field::TcpFlags => counts.map(|c| {
                let flags = if c.tcp_flags & 0x02 != 0 { c.tcp_flags & 0x17 } else { c.tcp_flags & 0x05 };
                flags.to_string()
            }),
            Field::Type => tuple.map(|t| if t.src.is_ipv4() { "IPv4" } else { "IPv6" }.to_string()),
            Field::Region => self.config.region.clone(),
            Field::FlowDirection => key.map(|k| if k.egress { "egress" } else { "ingress" }.to_string()),
            // 1: through another resource in the same VPC. Beyond an uplink nothing is known.
            Field::TrafficPath => {
                flow.filter(|(key, counts)| key.egress && counts.is_local).map(|_| "1".to_string())
            }
            Field::AzId
            | Field::SublocationType
            | Field::SublocationId
            | Field::PktSrcAwsService
            | Field::PktDstAwsService => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_lists_of_names() {
        let default = Field::format(DEFAULT_FIELDS).unwrap();
        assert_eq!(default.len(), 14);
        assert!(default.iter().all(|field| field.version() == 2));
        assert_eq!(Field::format("${srcaddr} action").unwrap(), [Field::SrcAddr, Field::Action]);
        for (text, word) in
            [("srcadr", "'srcadr' is no field"), ("", "at least one"), ("${action", "no field")]
        {
            assert!(Field::format(text).unwrap_err().contains(word), "{text}");
        }
    }
}
