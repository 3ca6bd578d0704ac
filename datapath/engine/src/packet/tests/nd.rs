//! Neighbour discovery: the checks of RFC 4861.

use super::*;
use crate::packet::build::ip;

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

const SOURCE_LINK: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 1];
const TARGET_LINK: [u8; 8] = [2, 1, 2, 0, 0, 0, 0, 1];
const MTU: [u8; 8] = [5, 1, 0, 0, 0, 0, 5, 220];

/// Four bytes of flags, then an address.
fn about(flags: u8, target: &str) -> Vec<u8> {
    [&[flags, 0, 0, 0][..], &ip(target).0.to_be_bytes()].concat()
}

fn discover(src: &str, dst: &str, icmp_type: u8, parts: &[&[u8]]) -> Result<Nd, DropReason> {
    read(&Packet::nd(src, dst, icmp_type, &parts.concat())).map(|ip| match ip.transport {
        Transport::NeighbourDiscovery(nd) => {
            assert_eq!((ip.protocol, ip.transport.ports()), (58, None));
            nd
        }
        other => panic!("{other:?}"),
    })
}

fn nd(
    kind: NdKind,
    target: &str,
    source_link: Option<u8>,
    target_link: Option<u8>,
) -> Result<Nd, DropReason> {
    Ok(Nd { kind, target: ip(target), source_link: source_link.map(mac), target_link: target_link.map(mac) })
}

#[test]
fn each_message_is_read() {
    let to_routers = discover("fe80::1", "ff02::2", ROUTER_SOLICITATION, &[&[0; 4], &SOURCE_LINK]);
    assert_eq!(to_routers, nd(NdKind::RouterSolicitation, "::", Some(1), None));

    let offer = discover("fe80::1", "ff02::1", ROUTER_ADVERTISEMENT, &[&[0; 12], &SOURCE_LINK, &MTU]);
    assert_eq!(offer, nd(NdKind::RouterAdvertisement, "::", Some(1), None));

    let question = [&about(0, "fd00::2")[..], &SOURCE_LINK];
    let who_has = discover("fd00::1", "ff02::1:ff00:2", NEIGHBOUR_SOLICITATION, &question);
    assert_eq!(who_has, nd(NdKind::NeighbourSolicitation, "fd00::2", Some(1), None));

    let answer = [&about(0x60, "fd00::1")[..], &TARGET_LINK];
    let is_at = discover("fd00::1", "fd00::2", NEIGHBOUR_ADVERTISEMENT, &answer);
    assert_eq!(is_at, nd(NdKind::NeighbourAdvertisement, "fd00::1", None, Some(1)));

    let hop = [&about(0, "fe80::9")[..], &[0; 16], &TARGET_LINK];
    let elsewhere = discover("fe80::1", "fd00::2", REDIRECT, &hop);
    assert_eq!(elsewhere, nd(NdKind::Redirect, "fe80::9", None, Some(1)));
}

#[test]
fn options_are_optional() {
    let bare = discover("fd00::1", "fd00::2", NEIGHBOUR_SOLICITATION, &[&about(0, "fd00::2")]);
    assert_eq!(bare, nd(NdKind::NeighbourSolicitation, "fd00::2", None, None));
}

#[test]
fn only_from_the_link_itself_with_code_zero() {
    let message = |code, hops| {
        let body = about(0, "fd00::2");
        read(&Packet::icmp("fd00::1", "fd00::2", NEIGHBOUR_SOLICITATION, code, &body).hop_limit(hops))
    };
    assert!(message(0, 255).is_ok());
    assert_eq!(message(0, 254), Err(DropReason::MalformedHeader));
    assert_eq!(message(1, 255), Err(DropReason::MalformedHeader));
}

#[test]
fn never_in_fragments() {
    let question = Packet::nd("fd00::1", "fd00::2", NEIGHBOUR_SOLICITATION, &about(0, "fd00::2"));
    assert_eq!(read(&question.clone().fragment(1, 0, false)), Err(DropReason::ExtensionHeaders));
    assert!(read(&question.extension(60, &[0; 6])).is_ok());
}

#[test]
fn each_message_has_a_least_length() {
    for (icmp_type, body) in [
        (ROUTER_SOLICITATION, vec![0; 4]),
        (ROUTER_ADVERTISEMENT, vec![0; 12]),
        (NEIGHBOUR_SOLICITATION, about(0, "fd00::2")),
        (NEIGHBOUR_ADVERTISEMENT, about(0, "fd00::2")),
        (REDIRECT, [about(0, "fe80::9"), vec![0; 16]].concat()),
    ] {
        assert!(discover("fe80::1", "fd00::2", icmp_type, &[&body]).is_ok(), "{icmp_type}");
        for length in 0..body.len() {
            let refused = discover("fe80::1", "fd00::2", icmp_type, &[&body[..length]]);
            assert_eq!(refused, Err(DropReason::Truncated), "{icmp_type}: {length}");
        }
    }
}

#[test]
fn options_must_fill_the_message() {
    let question = about(0, "fd00::2");
    let with = |options: &[u8]| discover("fd00::1", "fd00::2", NEIGHBOUR_SOLICITATION, &[&question, options]);
    assert_eq!(with(&[5, 0, 0, 0, 0, 0, 0, 0]), Err(DropReason::MalformedHeader), "no length");
    assert_eq!(with(&[1, 0, 0, 0, 0, 0, 0, 0]), Err(DropReason::MalformedHeader), "no length");
    assert_eq!(with(&[5, 2, 0, 0, 0, 0, 0, 0]), Err(DropReason::Truncated), "beyond the message");
    assert_eq!(with(&SOURCE_LINK[..7]), Err(DropReason::Truncated), "half an option");
    assert_eq!(with(&[5]), Err(DropReason::Truncated), "half an option");
    assert_eq!(with(&[1, 2].repeat(8)), Err(DropReason::MalformedHeader), "too long for a MAC");
    assert!(with(&[5, 2].repeat(8)).is_ok());
}

#[test]
fn a_second_link_layer_address_is_refused() {
    let question = about(0, "fd00::2");
    let with =
        |a: &[u8], b: &[u8]| discover("fd00::1", "fd00::2", NEIGHBOUR_SOLICITATION, &[&question, a, b]);
    assert_eq!(with(&SOURCE_LINK, &SOURCE_LINK), Err(DropReason::MalformedHeader));
    assert_eq!(with(&TARGET_LINK, &TARGET_LINK), Err(DropReason::MalformedHeader));
    assert_eq!(
        with(&SOURCE_LINK, &TARGET_LINK),
        nd(NdKind::NeighbourSolicitation, "fd00::2", Some(1), Some(1))
    );
}

#[test]
fn at_most_32_options() {
    let offer = |count| discover("fe80::1", "ff02::1", ROUTER_ADVERTISEMENT, &[&[0; 12], &MTU.repeat(count)]);
    assert!(offer(32).is_ok());
    assert_eq!(offer(33), Err(DropReason::MalformedHeader));
}

#[test]
fn the_target_is_one_ipv6_host() {
    for (target, allowed) in [("fd00::2", true), ("ff02::1", false), ("::ffff:10.0.0.1", false)] {
        for icmp_type in [NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT] {
            let outcome = discover("fd00::1", "fd00::2", icmp_type, &[&about(0, target)]);
            let martian = outcome == Err(DropReason::MartianAddress);
            assert_eq!((outcome.is_ok(), martian), (allowed, !allowed), "{target}");
        }
    }
}

#[test]
fn routers_speak_from_their_link_local_address() {
    for (icmp_type, body) in
        [(ROUTER_ADVERTISEMENT, vec![0; 12]), (REDIRECT, [about(0, "fe80::9"), vec![0; 16]].concat())]
    {
        assert!(discover("fe80::1", "fd00::2", icmp_type, &[&body]).is_ok());
        for src in ["fd00::1", "::"] {
            let refused = discover(src, "fd00::2", icmp_type, &[&body]);
            assert_eq!(refused, Err(DropReason::MalformedHeader), "{icmp_type} from {src}");
        }
    }
}

#[test]
fn who_has_no_address_yet_asks_without_its_link_layer_address() {
    let question = about(0, "fd00::1");
    let ask = |dst, option: &[u8]| discover("::", dst, NEIGHBOUR_SOLICITATION, &[&question, option]);
    assert_eq!(ask("ff02::1:ff00:1", &[]), nd(NdKind::NeighbourSolicitation, "fd00::1", None, None));
    assert_eq!(ask("ff02::1:ff00:1", &SOURCE_LINK), Err(DropReason::MalformedHeader));
    // Duplicate address detection asks the solicited-node group and nobody else.
    for dst in ["fd00::2", "ff02::1", "ff02::1:fe00:1", "ff05::1:ff00:1"] {
        assert_eq!(ask(dst, &[]), Err(DropReason::MalformedHeader), "{dst}");
    }
    let routers = |option: &[u8]| discover("::", "ff02::2", ROUTER_SOLICITATION, &[&[0; 4], option]);
    assert!(routers(&[]).is_ok());
    assert_eq!(routers(&SOURCE_LINK), Err(DropReason::MalformedHeader));
}

#[test]
fn an_advertisement_is_either_solicited_or_for_all() {
    let tell = |src, dst, flags| discover(src, dst, NEIGHBOUR_ADVERTISEMENT, &[&about(flags, "fd00::1")]);
    assert!(tell("fd00::1", "fd00::2", 0x40).is_ok());
    assert!(tell("fd00::1", "ff02::1", 0x20).is_ok());
    assert_eq!(tell("fd00::1", "ff02::1", 0x60), Err(DropReason::MalformedHeader));
    assert_eq!(tell("::", "ff02::1", 0x20), Err(DropReason::MalformedHeader));
}

#[test]
fn in_ipv4_it_is_another_protocol() {
    let packet = Packet::new(ip("10.0.0.1"), ip("10.0.0.2"), 58, vec![135; 24]).hop_limit(255);
    assert_eq!(read(&packet).unwrap().transport, Transport::Other);
}
