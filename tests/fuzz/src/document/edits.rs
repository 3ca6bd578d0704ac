//! The example with places of it changed: from bytes, documents that get past
//! the reader and differ from a right one in a few places.

use serde_json::{Number, Value, json};

use crate::example;
use crate::input::Input;

/// Words that mean something somewhere in a document.
const WORDS: &str = "\
    -1 tcp udp icmp icmpv6 47 6 ICMP default web unlimited active deleted associated AWS IPv4 IPv6 \
    vpc-1 vpc-2 vpc-3 subnet-1 sg-web sg-client sg-far sg-gone sg- eni-web eni-client eni-far \
    eni-new pl-1 pl-6 pl-9 sgr-1 pcx-1 p0 p1 p2 up 10.0.0.11 10.0.0.12 10.0.0.300 10.7.0.1 127.0.0.1 \
    224.0.0.1 fd00::11 2001:db8:1::5 :: ::1 ::ffff:10.0.0.1 0.0.0.0/0 0.0.0.0/1 10.0.0.0/8 \
    10.0.0.11/32 10.0.0.11/8 255.255.255.255/32 10.0.0.0/33 ::/0 ::/1 2001:db8::/32 ::ffff:0:0/96 \
    ::ffff:10.0.0.0/104 ffff::/16 02:00:00:00:00:01 02:00:00:00:00:04 01:00:5e:00:00:01 deny";

/// Keys that are somewhere in a document.
const KEYS: &str = "\
    VpcId SubnetId CidrBlock Ipv6CidrBlock Ipv6CidrBlockAssociationSet GroupId GroupName Description \
    IpPermissions IpPermissionsEgress IpProtocol FromPort ToPort IpRanges Ipv6Ranges PrefixListIds \
    UserIdGroupPairs CidrIp CidrIpv6 PrefixListId PeeringStatus Cidr Cidrs MaxEntries OwnerId Groups \
    PrivateIpAddress PrivateIpAddresses Ipv6Addresses Ipv4Prefixes Ipv6Prefixes SourceDestCheck \
    Attachment Port Uplink VlanId Quotas NextToken Action SecurityGroupRules";

/// The most edits: beyond them nothing of the example would be left.
const EDITS: usize = 40;

pub(super) fn edited(input: &mut Input<'_>) -> Value {
    let mut document = example::document();
    for _ in 0..EDITS {
        if input.is_empty() {
            break;
        }
        edit(&mut document, input);
    }
    document
}

/// Walks down as the bytes say and changes what is there.
fn edit(place: &mut Value, input: &mut Input<'_>) {
    let way = input.byte();
    match place {
        Value::Object(object) if way & 0x80 == 0 && !object.is_empty() => {
            let nth = usize::from(way) % object.len();
            edit(object.values_mut().nth(nth).expect("less than there are"), input);
        }
        Value::Array(list) if way & 0x80 == 0 && !list.is_empty() => {
            let nth = usize::from(way) % list.len();
            edit(&mut list[nth], input);
        }
        _ => change(place, input),
    }
}

fn change(place: &mut Value, input: &mut Input<'_>) {
    match (input.byte() % 8, place) {
        (0 | 1, Value::Object(object)) => {
            let key = word(KEYS, input).to_string();
            object.insert(key, value(input, 2));
        }
        (2, Value::Object(object)) => {
            object.remove(word(KEYS, input));
        }
        (3, Value::Object(object)) => {
            let nth = usize::from(input.byte()) % object.len().max(1);
            if let Some(key) = object.keys().nth(nth).cloned() {
                object.remove(&key);
            }
        }
        (0, Value::Array(list)) => list.push(value(input, 2)),
        // Once more, for what must not be there twice.
        (1 | 2, Value::Array(list)) if !list.is_empty() => {
            list.push(list[usize::from(input.byte()) % list.len()].clone());
        }
        (3, Value::Array(list)) if !list.is_empty() => {
            list.remove(usize::from(input.byte()) % list.len());
        }
        (_, place) => *place = value(input, 3),
    }
}

fn value(input: &mut Input<'_>, depth: u8) -> Value {
    match input.byte() % 12 {
        0 => Value::Null,
        1 => Value::Bool(input.flag()),
        2 => json!(input.byte()),
        3 => json!(input.u16()),
        4 => json!(-i64::from(input.u16())),
        5 => Number::from_f64(f64::from(input.u32()) / 256.0).map_or(Value::Null, Value::Number),
        6 if depth > 0 => {
            let items = input.byte() % 4;
            (0..items).map(|_| value(input, depth - 1)).collect()
        }
        7 if depth > 0 => {
            let entries = input.byte() % 4;
            (0..entries).map(|_| (word(KEYS, input).to_string(), value(input, depth - 1))).collect()
        }
        // An item of a list as it should be.
        8 if depth > 0 => json!([{ word(KEYS, input): word(WORDS, input) }]),
        9 => {
            let length = usize::from(input.byte());
            Value::String(String::from_utf8_lossy(input.take(length)).into_owned())
        }
        _ => json!(word(WORDS, input)),
    }
}

/// One of the words of a text.
fn word(words: &'static str, input: &mut Input<'_>) -> &'static str {
    let count = words.split(' ').count();
    words.split(' ').nth(usize::from(input.byte()) % count).expect("less than there are")
}
