//! Ethernet, 802.1Q and ARP.

use super::*;
use crate::packet::build::{arp, ethernet, ip};

fn datagram() -> Packet {
    Packet::udp("10.0.0.1:1000", "10.0.0.2:53", b"x")
}

fn refused(frame: &[u8]) -> DropReason {
    parse(Frame::whole(frame)).unwrap_err()
}

#[test]
fn addresses_and_tags() {
    let packet = parse(Frame::whole(&datagram().frame(mac(1), mac(2)))).unwrap();
    assert_eq!((packet.source, packet.destination), (mac(1), mac(2)));
    assert_eq!((packet.tagged, packet.vlan), (false, None));
    for (vid, vlan) in [(1, Some(VlanId(1))), (4094, Some(VlanId(4094))), (0, None)] {
        let frame = datagram().tagged(mac(1), mac(2), VlanId(vid));
        let packet = parse(Frame::whole(&frame)).unwrap();
        assert_eq!((packet.tagged, packet.vlan), (true, vlan), "VID {vid}");
    }
    let with_priority = datagram().tagged(mac(1), mac(2), VlanId(0xe000 | 7));
    assert_eq!(parse(Frame::whole(&with_priority)).unwrap().vlan, Some(VlanId(7)));
}

#[test]
fn the_reserved_vid_is_malformed() {
    assert_eq!(refused(&datagram().tagged(mac(1), mac(2), VlanId(0xfff))), DropReason::MalformedHeader);
}

#[test]
fn a_second_tag_is_an_unknown_ethertype() {
    for inner in [0x8100u16, 0x88a8] {
        let inside = [&[0, 7, 0x08, 0x00][..], &datagram().ip()].concat();
        let twice = ethernet(mac(1), mac(2), Some(VlanId(5)), inner, &inside);
        assert_eq!(refused(&twice), DropReason::UnknownEtherType);
    }
}

#[test]
fn other_ethertypes_and_802_3_lengths_are_unknown() {
    for ethertype in [0x0000, 0x002e, 0x05dc, 0x0842, 0x8847, 0x8863, 0x88a8, 0x88cc, 0xffff] {
        let frame = ethernet(mac(1), mac(2), None, ethertype, &[0; 46]);
        assert_eq!(refused(&frame), DropReason::UnknownEtherType, "{ethertype:#06x}");
    }
}

#[test]
fn no_group_sends() {
    for source in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1]), MacAddr([0x33, 0x33, 0, 0, 0, 1])] {
        assert_eq!(refused(&datagram().frame(source, mac(2))), DropReason::MartianAddress);
    }
    assert!(parse(Frame::whole(&datagram().frame(mac(1), MacAddr::BROADCAST))).is_ok());
}

#[test]
fn the_version_must_agree_with_the_ethertype() {
    let (v4, v6) = (datagram().ip(), Packet::udp("[fd00::1]:1", "[fd00::2]:2", b"").ip());
    for (ethertype, bytes) in [(ethertype::IPV6, v4), (ethertype::IPV4, v6)] {
        let long_enough = [bytes, vec![0; 40]].concat();
        let frame = ethernet(mac(1), mac(2), None, ethertype, &long_enough);
        assert_eq!(refused(&frame), DropReason::MalformedHeader, "{ethertype:#06x}");
    }
}

#[test]
fn arp_requests_and_replies() {
    for (number, operation) in [(1, ArpOperation::Request), (2, ArpOperation::Reply)] {
        let frame = arp(number, (mac(1), "10.0.0.1"), (mac(2), "10.0.0.2"));
        let expected = Arp {
            operation,
            sender_mac: mac(1),
            sender: ip("10.0.0.1"),
            target_mac: mac(2),
            target: ip("10.0.0.2"),
        };
        assert_eq!(parse(Frame::whole(&frame)).unwrap().body, Body::Arp(expected));
        let padded = [frame, vec![0; 18]].concat();
        assert_eq!(parse(Frame::whole(&padded)).unwrap().body, Body::Arp(expected));
    }
}

#[test]
fn arp_of_other_kinds_is_malformed() {
    for operation in [0, 3, 4, 8, 9, 0x100, 0x0101] {
        let frame = arp(operation, (mac(1), "10.0.0.1"), (mac(2), "10.0.0.2"));
        assert_eq!(refused(&frame), DropReason::MalformedHeader, "operation {operation}");
    }
    // Hardware type, protocol type, hardware length, protocol length.
    for (at, value) in [(0, 1), (1, 6), (2, 0x86), (3, 6), (4, 8), (5, 16)] {
        let mut frame = arp(1, (mac(1), "10.0.0.1"), (mac(2), "10.0.0.2"));
        frame[14 + at] = value;
        assert_eq!(refused(&frame), DropReason::MalformedHeader, "byte {at}");
    }
}
