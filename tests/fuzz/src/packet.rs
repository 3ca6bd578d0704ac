//! The header parsers.

use engine::flow::FlowKey;
use engine::ids::{VlanId, VpcIndex};
use engine::packet::{Body, Frame, Ip, Packet, Transport, build, parse};
use engine::verdict::DropReason;

/// The most bytes of a frame whose every beginning is tried.
const SMALL: usize = 300;

/// Reads the bytes as a frame: as they are, and with the IPv4 header's sum made
/// right, which no fuzzer guesses.
pub fn packet(bytes: &[u8]) {
    frame(bytes);
    if let Some(mended) = mended(bytes) {
        frame(&mended);
    }
}

fn frame(bytes: &[u8]) {
    let whole = parse(Frame::whole(bytes));
    if let Ok(packet) = &whole {
        facts(packet, bytes);
    }
    behind_a_tag(bytes, &whole);
    padded(bytes, &whole);
    for end in ends(bytes.len()) {
        cut(bytes, end, &whole);
    }
}

/// Where frames are cut: everywhere, or in long ones where headers may end.
fn ends(length: usize) -> impl Iterator<Item = usize> {
    (0..length.min(SMALL)).chain((SMALL..length).step_by(64))
}

/// What later stages rely on.
fn facts(packet: &Packet, bytes: &[u8]) {
    assert!(!packet.source.is_group(), "a group as source: {packet:?}");
    assert_eq!((packet.destination.0, packet.source.0), (mac_at(bytes, 0), mac_at(bytes, 6)));
    assert!(packet.tagged || packet.vlan.is_none(), "a VLAN without a tag: {packet:?}");
    assert!(packet.vlan.is_none_or(|VlanId(id)| (1..=4094).contains(&id)), "{packet:?}");
    if let Body::Ip(ip) = &packet.body {
        ip_facts(ip);
    }
}

fn mac_at(bytes: &[u8], at: usize) -> [u8; 6] {
    std::array::from_fn(|i| bytes[at + i])
}

fn ip_facts(ip: &Ip) {
    assert_eq!(ip.src.family(), ip.dst.family(), "{ip:?}");
    assert_ne!(ip.src, ip.dst);
    assert!(!ip.src.is_group(), "{ip:?}");
    match ip.transport {
        Transport::Fragment(fragment) => {
            assert!(fragment.more || fragment.offset > 0, "a whole packet as fragment: {ip:?}");
            assert!(fragment.offset.is_multiple_of(8) && fragment.length > 0, "{ip:?}");
            assert!(u32::from(fragment.offset) + u32::from(fragment.length) <= 0xffff, "{ip:?}");
        }
        // It is for whoever sent what it quotes.
        Transport::Error(error) => assert_eq!(error.quoted.src, ip.dst),
        Transport::NeighbourDiscovery(_) => assert_eq!(ip.protocol, 58),
        Transport::Tcp(_) => assert_eq!(ip.protocol, 6),
        Transport::Udp(_) => assert_eq!(ip.protocol, 17),
        Transport::Query(_) | Transport::Icmp { .. } | Transport::Other => {}
    }
    flow(ip);
}

/// Every packet but fragments and neighbour discovery has a flow, between its
/// own addresses, and the same one from either end.
fn flow(ip: &Ip) {
    let vpc = VpcIndex(7);
    let without = match ip.transport {
        Transport::NeighbourDiscovery(_) => true,
        Transport::Fragment(fragment) => fragment.offset != 0,
        _ => false,
    };
    let Some((key, side)) = FlowKey::of(vpc, ip) else {
        assert!(without, "no flow of {ip:?}");
        return;
    };
    assert!(!without, "a flow of {ip:?}");
    let sender = if let Transport::Error(_) = ip.transport { ip.dst } else { ip.src };
    assert_eq!((key.vpc(), key.endpoint(side).0), (vpc, sender));
    assert_eq!(key.family(), ip.src.family());
    let back = FlowKey::new(vpc, key.protocol(), key.endpoint(side.other()), key.endpoint(side));
    assert_eq!(back.0, key);
}

/// A tag says nothing of what is behind it.
fn behind_a_tag(bytes: &[u8], whole: &Result<Packet, DropReason>) {
    let Some((macs, rest)) = bytes.split_at_checked(12) else { return };
    if rest.len() < 2 || rest.starts_with(&[0x81, 0x00]) {
        return;
    }
    let tagged = parse(Frame::whole(&[macs, &[0x81, 0x00, 0xe0, 0x05], rest].concat()));
    let expected = whole.map(|packet| Packet { tagged: true, vlan: Some(VlanId(5)), ..packet });
    assert_eq!(tagged, expected, "behind a tag");
}

/// What follows a packet in its frame changes nothing, at hand or in a later segment.
fn padded(bytes: &[u8], whole: &Result<Packet, DropReason>) {
    let padded = parse(Frame::whole(&[bytes, &[0xff; 46]].concat()));
    let length = bytes.len() as u32;
    let longer = [length + 46, length.saturating_add(1 << 16), u32::MAX];
    let segmented = longer.map(|length| parse(Frame { head: bytes, length }));
    if whole.is_ok() {
        assert_eq!(&padded, whole, "with padding");
        assert!(segmented.iter().all(|longer| longer == whole), "with later segments");
    }
    for packet in segmented.iter().flatten() {
        facts(packet, bytes);
    }
}

/// A beginning of a frame is read as the frame is, or not at all: nothing comes
/// from beyond its end, and nothing is made of what is missing.
fn cut(bytes: &[u8], end: usize, whole: &Result<Packet, DropReason>) {
    let head = &bytes[..end];
    for cut in [parse(Frame::whole(head)), parse(Frame { head, length: bytes.len() as u32 })] {
        match (&cut, whole) {
            (Ok(_), _) => assert_eq!(&cut, whole, "cut at {end}"),
            // A quotation that is cut short is none.
            (Err(DropReason::Truncated | DropReason::MalformedHeader), _) => {}
            (Err(reason), Ok(_)) => panic!("{reason} when cut at {end}"),
            (Err(_), Err(_)) => {}
        }
    }
}

/// The frame with the sum of its IPv4 header made right, if it has such a header.
pub(crate) fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let ethertype = |at: usize| bytes.get(at..at + 2);
    let at = if ethertype(12)? == [0x81, 0x00] { 18 } else { 14 };
    let length = usize::from(bytes.get(at)? & 15) * 4;
    if ethertype(at - 2)? != [0x08, 0x00] || length < 20 || bytes.len() < at + length {
        return None;
    }
    let mut mended = bytes.to_vec();
    mended[at + 10..at + 12].fill(0);
    let sum = build::checksum(&mended[at..at + length]);
    mended[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
    Some(mended)
}
