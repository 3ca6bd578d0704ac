//! What the accounts do when there is no room for more.

use engine::ids::{InterfaceId, VpcIndex};
use engine::packet::build::{Packet, mac};
use engine::packet::{self, Body, Frame};

use super::*;

/// A packet of the n-th of many flows, from one of our interfaces to the other.
pub fn sighting(n: u32, fate: Fate) -> Sighting {
    let source = std::net::Ipv4Addr::from_bits(0x0a01_0000 + (n >> 16));
    let frame = Packet::udp(&format!("{source}:{}", n & 0xffff), "10.0.0.1:443", b"").frame(mac(2), mac(1));
    let Ok(packet::Packet { body: Body::Ip(ip), .. }) = packet::parse(Frame::whole(&frame)) else {
        panic!("it is a datagram");
    };
    Sighting {
        ip,
        vpc: Some(VpcIndex(0)),
        sender: InterfaceId::new(2, 1),
        receiver: InterfaceId::new(1, 1),
        fate,
        packets: 1,
        bytes: frame.len() as u64,
        tcp_flags: packet::TcpFlags(0),
    }
}

/// Generation 1 of a policy with two interfaces.
pub fn books() -> Books {
    let interface = |n: u8| {
        serde_json::json!({
            "NetworkInterfaceId": format!("eni-{n}"), "VpcId": "vpc-1", "MacAddress": format!("02:00:00:00:00:0{n}"),
            "PrivateIpAddresses": [{ "PrivateIpAddress": format!("10.0.0.{n}") }],
        })
    };
    let bindings = serde_json::json!([
        { "NetworkInterfaceId": "eni-1", "Port": "p1" }, { "NetworkInterfaceId": "eni-2", "Port": "p2" },
    ]);
    let document =
        serde_json::json!({ "NetworkInterfaces": [interface(1), interface(2)], "Bindings": bindings });
    let ports = ["p1", "p2"].into_iter().collect();
    let context = policy::Context { ports: &ports, partial: false, missing_ports_are_notices: false };
    let (policy, _) = policy::validate(&document, &context).expect("a valid document");
    let names = (1..=2).map(|n| (InterfaceId::new(n, 1), format!("eni-{n}").into())).collect();
    let names = Names { interfaces: names, vpcs: HashMap::from([(VpcIndex(0), "vpc-1".into())]) };
    let mut books = Books::default();
    books.add(1, Rulebook::new(Arc::new(policy)), names);
    books
}

const UNTRACKED: Fate = Fate::Passed(PassClass::Untracked);

#[test]
fn a_full_list_of_untracked_flows_refuses_new_ones_and_goes_on_with_the_old() {
    let (mut books, mut flows, now) = (books(), UntrackedFlows::default(), Instant::now());
    let book = books.of(1).unwrap();
    // Listing costs as much as noting: only at the end.
    for n in 0..untracked::MAX_FLOWS as u32 - 1 {
        let sighting = sighting(n, UNTRACKED);
        assert!(flows.note(&Tuple::of_ip(&sighting.ip), &sighting, book, now));
    }
    let full = untracked::MAX_FLOWS;
    let mut note = |n, now| {
        let sighting = sighting(n, UNTRACKED);
        let noted = flows.note(&Tuple::of_ip(&sighting.ip), &sighting, book, now);
        flows.close(now);
        (noted, flows.list(now).len())
    };
    assert_eq!(note(full as u32 - 1, now), (true, full));
    assert_eq!(note(full as u32, now), (false, full), "one too many");
    assert_eq!(note(0, now), (true, full), "a known one");
    // A minute later the silent ones make room.
    let later = now + Duration::from_secs(61);
    note(0, later);
    assert_eq!(note(full as u32, later), (true, 2));
}

#[test]
fn measurements_are_few_bounded_and_given_up_when_nobody_ends_them() {
    let (mut books, mut tops, now) = (books(), Tops::default(), Instant::now());
    let ids: Vec<u64> = (0..top::MAX_TOPS).map(|_| tops.begin(now).unwrap()).collect();
    assert!(tops.begin(now).is_err(), "one too many");
    for id in &ids[1..] {
        tops.end(*id, now).unwrap();
    }
    let book = books.of(1).unwrap();
    for n in 0..top::MAX_FLOWS as u32 + 3 {
        let sighting = sighting(n, UNTRACKED);
        tops.note(&Tuple::of_ip(&sighting.ip), &sighting, book);
    }
    let answer = tops.end(ids[0], now).unwrap();
    assert_eq!((answer.talkers.len(), answer.others), (top::MAX_FLOWS, 3));
    let id = tops.begin(now).unwrap();
    assert!(!tops.abandon(now + Duration::from_secs(89)) && tops.abandon(now + Duration::from_secs(90)));
    assert!(tops.end(id, now).is_none() && tops.is_empty());
}

#[test]
fn policies_of_the_last_generations_are_kept_and_no_more() {
    let mut books = books();
    for generation in 2..=6 {
        books.add(generation, Rulebook::default(), Names::default());
    }
    let known: Vec<u64> = (1..=7).filter(|generation| books.of(*generation).is_some()).collect();
    assert_eq!(known, [3, 4, 5, 6]);
}

#[test]
fn what_is_told_late_is_of_the_last_policy_that_knew_both_ends() {
    let mut books = books();
    let both = [InterfaceId::new(2, 1), InterfaceId::new(1, 1)];
    let generation = |books: &mut Books, told, ends| books.knowing(told, ends).map(|book| book.generation);
    assert_eq!(generation(&mut books, 1, both), Some(1));
    let left = Names { interfaces: [(both[1], "eni-1".into())].into_iter().collect(), ..Names::default() };
    books.add(2, Rulebook::default(), left);
    assert_eq!(generation(&mut books, 2, both), Some(1), "one is gone since");
    assert_eq!(generation(&mut books, 2, [InterfaceId::NONE, both[1]]), Some(2));
    assert_eq!(generation(&mut books, 2, [InterfaceId::new(7, 1), both[1]]), Some(2), "nobody ever knew it");
    assert_eq!(generation(&mut books, 3, both), None);
}
