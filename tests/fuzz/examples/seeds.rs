//! Writes the inputs that fuzzing starts from into the corpus folders:
//! `cargo run -p fuzz-targets --example seeds`.

use std::fs;
use std::path::Path;

use engine::ids::VlanId;
use engine::packet::TcpFlags;
use engine::packet::build::{Packet, arp, ip, mac};

fn main() {
    for (target, seeds) in [
        ("packet", packets()),
        ("pipeline", pipelines()),
        ("document", documents()),
        ("edit", changes()),
        ("explain", requests()),
        ("table", tables()),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&folder).expect("the folder can be made");
        for (name, bytes) in seeds {
            fs::write(folder.join(format!("seed-{name}")), bytes).expect("the file can be written");
        }
    }
}

type Seeds = Vec<(String, Vec<u8>)>;

fn named(seeds: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Seeds {
    seeds.into_iter().map(|(name, bytes)| (name.to_string(), bytes)).collect()
}

/// A well-formed frame of every kind, and some that are cut or lie.
fn packets() -> Seeds {
    let udp = Packet::udp("10.0.0.1:1000", "10.0.0.9:53", b"hello");
    let six = Packet::udp("[fd00::1]:1000", "[fd00::9]:53", b"hello");
    let link = [1, 1, 2, 0, 0, 0, 0, 1];
    let question = [&[0; 4], &ip("fd00::9").0.to_be_bytes()[..], &link].concat();
    let redirect = [&[0; 4], &ip("fe80::9").0.to_be_bytes()[..], &[0; 16], &link].concat();
    let extended =
        six.clone().extension(60, &[0; 14]).extension(43, &[4, 0, 0, 0, 0, 0]).extension(0, &[0; 6]);
    let nine = (0..9).fold(six.clone(), |packet, _| packet.extension(60, &[0; 6]));
    let frames = [
        ("udp", udp.clone()),
        ("udp-options", udp.clone().options(&[7, 7, 4, 1, 2, 3, 4, 1])),
        ("udp-options-that-lie", udp.clone().options(&[7, 9, 4, 1])),
        ("udp-fragment", udp.clone().fragment(1, 1480, false)),
        ("udp6", six.clone()),
        ("udp6-extensions", extended),
        ("udp6-nine-extensions", nine),
        ("udp6-atomic", six.clone().fragment(1, 0, false)),
        ("udp6-first-fragment", Packet::udp("[fd00::1]:1", "[fd00::9]:2", &[0; 8]).fragment(1, 0, true)),
        ("udp6-last-fragment", six.clone().fragment(1, 1480, false)),
        ("tcp", Packet::tcp("10.0.0.1:1000", "10.0.0.9:80", TcpFlags::SYN, 7, 0, b"data")),
        ("tcp6", Packet::tcp("[fd00::1]:1000", "[fd00::9]:80", TcpFlags::ACK, 7, 9, b"data")),
        ("ping", Packet::ping("10.0.0.1", "10.0.0.9", 77)),
        ("pong6", Packet::pong("fd00::1", "fd00::9", 77)),
        ("redirect4", Packet::icmp("10.0.0.1", "10.0.0.9", 5, 1, &[0; 4])),
        ("report6", Packet::icmp("fd00::1", "ff02::16", 143, 0, &[0; 4])),
        ("error", Packet::error_about("192.0.2.1", &udp, 3, 3)),
        (
            "error-about-ping",
            Packet::error_about("192.0.2.1", &Packet::ping("10.0.0.1", "10.0.0.9", 7), 11, 0),
        ),
        ("error6", Packet::error_about("2001:db8::1", &six.clone().extension(60, &[0; 6]), 2, 0)),
        (
            "error6-about-fragment",
            Packet::error_about("2001:db8::1", &six.clone().fragment(1, 0, true), 1, 0),
        ),
        ("gre", Packet::new(ip("10.0.0.1"), ip("10.0.0.9"), 47, vec![0; 8])),
        ("esp6", Packet::new(ip("fd00::1"), ip("fd00::9"), 50, vec![0; 8])),
        ("router-solicitation", Packet::nd("fe80::1", "ff02::2", 133, &[0; 4])),
        ("router-advertisement", Packet::nd("fe80::1", "fd00::9", 134, &[&[0; 12], &link[..]].concat())),
        ("neighbour-solicitation", Packet::nd("fe80::1", "ff02::1:ff00:9", 135, &question)),
        ("neighbour-advertisement", Packet::nd("fd00::9", "fe80::1", 136, &question)),
        ("redirect6", Packet::nd("fe80::1", "fd00::9", 137, &redirect)),
        ("dhcp", Packet::udp("0.0.0.0:68", "255.255.255.255:67", &[1; 240])),
    ];
    let mut seeds = named(frames.map(|(name, packet)| (name, packet.frame(mac(1), mac(2)))));
    let whole = udp.frame(mac(1), mac(2));
    seeds.extend(named([
        ("tagged", udp.tagged(mac(1), mac(2), VlanId(100))),
        ("priority-tag", six.tagged(mac(1), mac(2), VlanId(0))),
        ("arp-request", arp(1, (mac(1), "10.0.0.1"), (mac(0), "10.0.0.9"))),
        ("arp-reply", arp(2, (mac(1), "10.0.0.1"), (mac(2), "10.0.0.9"))),
        ("padded", [&whole[..], &[0; 18]].concat()),
        ("cut", whole[..30].to_vec()),
        ("nothing", vec![]),
    ]));
    seeds
}

/// Two open interfaces that talk, then a change of rules, time, and talk again.
fn pipelines() -> Seeds {
    const OPEN: [u8; 3] = [0x01, 0x01, 0];
    const SHUT: [u8; 3] = [0, 0, 0];
    const TCP: [u8; 3] = [0x04, 0x08, 0];
    let start = |size: u8, rules: [[u8; 3]; 3]| [&[0, size, 0], rules.concat().as_slice()].concat();
    // From a to b and back: MACs, shape, IPv4, hosts, ports, numbers, flags, no data, the port.
    let tcp = |from: u8, to: u8, ports: [u8; 2], flags: u8| {
        vec![8, from, to, 3, 0, from, to, ports[0], ports[1], 9, 9, flags, 0, from]
    };
    let udp = |from: u8, to: u8| vec![8, from, to, 0, 0, from, to, 2, 0, from];
    let ping = |from: u8, to: u8| vec![8, from, to, 6, 1, from, to, 0, from];
    let (run, wait, long) = (vec![5], vec![0, 60], vec![1, 0xff, 0xff]);
    let shut = [&[3, 1], &SHUT[..]].concat();
    let handshake =
        [tcp(0, 1, [2, 1], 2), tcp(1, 0, [1, 2], 0x12), run.clone(), tcp(0, 1, [2, 1], 0x10), run.clone()];
    named([
        ("open-udp", [start(20, [OPEN; 3]), udp(0, 1), udp(1, 0), run.clone()].concat()),
        ("ping-and-time", [start(20, [OPEN; 3]), ping(0, 1), wait, ping(1, 0), long, ping(0, 1)].concat()),
        (
            "handshake-then-revoked",
            [start(20, [TCP; 3]), handshake.concat(), shut.clone(), handshake.concat()].concat(),
        ),
        ("shut", [start(20, [SHUT; 3]), handshake.concat(), ping(0, 1), run.clone()].concat()),
        ("small-table", [start(0, [TCP; 3]), handshake.concat(), tcp(0, 2, [3, 1], 2), run.clone()].concat()),
        ("out-by-the-uplink", [start(20, [OPEN; 3]), udp(0, 3), udp(3, 0), ping(0, 3), run.clone()].concat()),
        ("flood", [start(20, [OPEN; 3]), vec![8, 0, 4, 0, 0, 0, 6, 2, 0, 0], run.clone()].concat()),
        ("arp", [start(20, [SHUT; 3]), vec![8, 0, 4, 15, 0, 1, 0, 0], run].concat()),
    ])
}

/// AWS's shapes, whole and broken.
fn documents() -> Seeds {
    let described = br#"{"SecurityGroups":[{"Description":"web","GroupName":"web","IpPermissions":[{"FromPort":80,"IpProtocol":"tcp","IpRanges":[{"CidrIp":"0.0.0.0/0"}],"Ipv6Ranges":[{"CidrIpv6":"::/0"}],"PrefixListIds":[],"ToPort":80,"UserIdGroupPairs":[]},{"IpProtocol":"icmp","FromPort":8,"ToPort":-1,"IpRanges":[{"CidrIp":"10.0.0.0/8","Description":"ping"}]}],"OwnerId":"123456789012","GroupId":"sg-0123456789abcdef0","IpPermissionsEgress":[{"IpProtocol":"-1","IpRanges":[{"CidrIp":"0.0.0.0/0"}]}],"Tags":[{"Key":"Name","Value":"web"}],"VpcId":"vpc-1"}]}"#;
    let interfaces = br#"{"NetworkInterfaces":[{"Attachment":{"DeviceIndex":0,"InstanceId":"i-1"},"Groups":[{"GroupName":"web","GroupId":"sg-0123456789abcdef0"}],"MacAddress":"02:00:00:00:00:01","NetworkInterfaceId":"eni-1","PrivateIpAddresses":[{"Primary":true,"PrivateIpAddress":"10.0.0.11"}],"Ipv6Addresses":[{"Ipv6Address":"fd00::11"}],"SourceDestCheck":true,"Status":"in-use","VpcId":"vpc-1"}],"Bindings":[{"NetworkInterfaceId":"eni-1","Port":"p0"},{"Uplink":"up","VpcId":"vpc-1","VlanId":100}],"Settings":{"Quotas":{"RulesPerSecurityGroup":100,"SecurityGroupsPerInterface":10}}}"#;
    let lists = br#"{"PrefixLists":[{"PrefixListId":"pl-1","AddressFamily":"IPv4","MaxEntries":2,"Version":1}],"PrefixListEntries":{"pl-1":[{"Cidr":"203.0.113.0/28"},{"Cidr":"203.0.113.5/28","Description":"host bits"}]}}"#;
    let peering = br#"{"VpcPeeringConnections":[{"VpcPeeringConnectionId":"pcx-1","RequesterVpcInfo":{"VpcId":"vpc-1"},"AccepterVpcInfo":{"VpcId":"vpc-2"},"Status":{"Code":"deleted"}}],"SecurityGroups":[{"GroupId":"sg-1","GroupName":"a","Description":"a","VpcId":"vpc-1","IpPermissions":[{"IpProtocol":"tcp","FromPort":1,"ToPort":2,"UserIdGroupPairs":[{"GroupId":"sg-2","PeeringStatus":"deleted"}]}]},{"GroupId":"sg-2","GroupName":"b","Description":"b","VpcId":"vpc-2"}]}"#;
    let located = br#"{"SecurityGroups":[{"GroupId":"sg-1","GroupName":"a","Description":"a","VpcId":"vpc-1"}],"NetworkInterfaces":[{"NetworkInterfaceId":"eni-far","VpcId":"vpc-1","MacAddress":"02:00:00:00:00:01","Groups":[{"GroupId":"sg-1"}],"PrivateIpAddresses":[{"PrivateIpAddress":"10.0.0.11"}]}],"Bindings":[{"Uplink":"up","VpcId":"vpc-1","VlanId":7},{"NetworkInterfaceId":"eni-far","Uplink":"up"},{"Uplink":"p2","VpcId":"vpc-1","MacAddresses":["02:00:00:00:00:fe","02:00:00:00:00:fd"]}]}"#;
    let nested = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
    let within = |depth: usize| [&b"{\"Vpcs\":"[..], &nested(depth), b"}"].concat();
    let refused: [&[u8]; 9] = [
        b"",
        b"{\"a\": 1",
        b"{\"a\": \"\xff\"}",
        b"[1]",
        br#"{"SecurityGroups": [], "SecurityGroups": [1]}"#,
        br#"{"NextToken": "t", "SecurityGroups": 1e999}"#,
        br#"{"SecurityGroups":[{"GroupId":"sg-1","GroupName":"a","Description":"a","VpcId":"v","IpPermissions":[{"IpProtocol":"tcp","FromPort":80,"Action":"deny","IpRanges":[{"CidrIp":"1.2.3.4"}]}]}]}"#,
        br#"{"Vpcs":[{"VpcId":"vpc-1"},{"VpcId":"vpc-1"}],"Subnets":{},"NetworkInterfaces":[null,1,{}]}"#,
        b"\xef\xbb\xbf{\"Unknown\": [2.5, -1, null, true, \"\\ud800\"]}",
    ];
    let mut seeds = named([
        ("groups", described.to_vec()),
        ("several", [&described[..], b"\n", interfaces].concat()),
        ("lists", lists.to_vec()),
        ("peering", peering.to_vec()),
        ("located", located.to_vec()),
        ("deep-31", within(31)),
        ("deep-33", within(33)),
        ("deep-200", within(200)),
        ("the-example", vec![0]),
        ("another-port", vec![0, 2, 0, 0x80, 7, 3, 0, 99]),
    ]);
    seeds.extend(refused.iter().enumerate().map(|(n, bytes)| (format!("refused-{n}"), bytes.to_vec())));
    seeds
}

/// Single changes, one a line: one of each action, and some that are refused.
fn changes() -> Seeds {
    let rule = r#"{"IpProtocol":"tcp","FromPort":1,"ToPort":2,"IpRanges":[{"CidrIp":"10.0.0.0/8","Description":"d"}]}"#;
    let of = |group: &str| format!(r#"{{"GroupId":"{group}","IpPermissions":[{rule}]}}"#);
    let lines = [
        r#"CreateSecurityGroup {"GroupName":"new","Description":"d","VpcId":"vpc-1"}"#.to_string(),
        r#"CreateSecurityGroup {"GroupName":"web","Description":"d","VpcId":"vpc-1"}"#.to_string(),
        r#"CopySecurityGroup {"SourceGroupId":"sg-web","GroupName":"copy","Description":"d"}"#.to_string(),
        r#"DeleteSecurityGroup {"GroupId":"sg-web"}"#.to_string(),
        format!("AuthorizeSecurityGroupIngress {}", of("sg-web")),
        format!("AuthorizeSecurityGroupEgress {}\nRevokeSecurityGroupEgress {}", of("sg-web"), of("sg-web")),
        r#"RevokeSecurityGroupIngress {"GroupId":"sg-web","SecurityGroupRuleIds":["sgr-1"]}"#.to_string(),
        r#"UpdateSecurityGroupRuleDescriptionsIngress {"GroupId":"sg-web","SecurityGroupRuleDescriptions":[{"SecurityGroupRuleId":"sgr-1","Description":"d"}]}"#.to_string(),
        r#"ModifyNetworkInterfaceAttribute {"NetworkInterfaceId":"eni-web","Groups":["sg-web"]}"#.to_string(),
        r#"ModifyInstanceAttribute {"InstanceId":"i-1","Groups":["sg-web"]}"#.to_string(),
        r#"CreateManagedPrefixList {"PrefixListName":"p","AddressFamily":"IPv6","MaxEntries":2,"Entries":[{"Cidr":"::/0"}]}"#.to_string(),
        r#"ModifyManagedPrefixList {"PrefixListId":"pl-1","CurrentVersion":3,"AddEntries":[{"Cidr":"192.0.2.0/24"}]}"#.to_string(),
        r#"ModifyManagedPrefixList {"PrefixListId":"pl-1","MaxEntries":1}"#.to_string(),
        r#"DeleteManagedPrefixList {"PrefixListId":"pl-1"}"#.to_string(),
        "CreateSecurityGroup []\nDeleteSecurityGroup {\nNothing {}".to_string(),
    ];
    lines.into_iter().enumerate().map(|(n, text)| (format!("action-{n}"), text.into_bytes())).collect()
}

/// Requests as `sgctl` writes them, and some that are none.
fn requests() -> Seeds {
    let asked = [
        r#"{"from":"eni-client","to":"10.0.0.11","protocol":"udp","port":53}"#,
        r#"{"from":"192.0.2.1","to":"eni-web","protocol":"tcp","port":80,"source_port":4000}"#,
        r#"{"from":"10.0.0.12","to":"10.0.0.11","protocol":"icmp","icmp_type":8,"icmp_code":0,"vpc":"vpc-1"}"#,
        r#"{"from":"2001:db8:ffff::1","to":"eni-client","protocol":"58"}"#,
        r#"{"from":"eni-far","to":"eni-web","protocol":"47"}"#,
        r#"{"from":"eni-web","to":"eni-far","protocol":"tcp"}"#,
        r#"{"from":"::ffff:10.0.0.12","to":"fd00::11","protocol":"tcp","port":80}"#,
        r#"{"from":"x","to":"y","protocol":"z"}"#,
        r#"{"from":"eni-web","to":"eni-far","protocol":"tcp","port":65536}"#,
        r#"{"from":"eni-web","from":"eni-far","to":"","protocol":"tcp"}"#,
        r#"{"from":"eni-web","to":"eni-far","protocol":"tcp","unknown":1}"#,
        "[]",
    ];
    let mut seeds: Seeds =
        asked.iter().enumerate().map(|(n, text)| (format!("json-{n}"), text.as_bytes().to_vec())).collect();
    seeds.extend(named([
        ("chosen-allowed", vec![0, 1, 4, 1, 0, 4]),
        ("chosen-of-a-list", vec![0, 11, 0, 0, 0, 2]),
        ("chosen-ping", vec![0, 5, 4, 2, 29, 8, 0, 0]),
        ("chosen-ipv6", vec![0, 16, 14, 0, 2, 7, 8]),
    ]));
    seeds
}

/// Connections that are opened, go on, end and are swept.
fn tables() -> Seeds {
    let opened = |n: u8, kind: u8| vec![0, n, kind, 0];
    let tcp = |what: u8, n: u8, flags: u8, side: u8| vec![what, n, 3, flags, 9, 9, 0, side];
    let handshake = |n| [tcp(0, n, 2, 0), tcp(8, n, 0x12, 1), tcp(8, n, 0x10, 0)].concat();
    let close = |n| [tcp(8, n, 0x11, 0), tcp(8, n, 0x11, 1), tcp(8, n, 0x10, 0)].concat();
    let many = |kind: u8| (0..60).flat_map(|n| opened(n, kind)).collect::<Vec<_>>();
    let time = [vec![14, 60], vec![13, 7], vec![15, 1, 0]].concat();
    named([
        ("one-of-each", [vec![50, 0], opened(1, 0), opened(2, 1), opened(3, 2), handshake(4)].concat()),
        ("closed", [vec![50, 0], handshake(4), close(4), time.clone(), handshake(4)].concat()),
        ("collisions", [vec![99, 1], many(2), vec![11, 0, 11, 20, 6, 40]].concat()),
        ("shed", [vec![30, 0], many(0), handshake(70)].concat()),
        ("refused", [vec![30, 5], many(2), handshake(70)].concat()),
        ("expired", [vec![30, 3], many(0), time, many(2)].concat()),
        ("replaced", [vec![30, 3], opened(1, 0), vec![12, 1, 2, 1], vec![6, 1]].concat()),
    ])
}
