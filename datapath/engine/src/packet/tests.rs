//! Named cases for every header and for every way it can be wrong.

use super::build::{Packet, mac};
use super::*;

fn read(packet: &Packet) -> Result<Ip, DropReason> {
    let frame = packet.frame(mac(1), mac(2));
    parse(Frame::whole(&frame)).map(|packet| match packet.body {
        Body::Ip(ip) => ip,
        Body::Arp(arp) => panic!("{arp:?}"),
    })
}

#[test]
fn udp_and_tcp_of_both_families() {
    for (a, b) in [("10.0.0.1", "10.0.0.2"), ("[fd00::1]", "[fd00::2]")] {
        let (a, b) = (format!("{a}:1000"), format!("{b}:53"));
        let ip = read(&Packet::udp(&a, &b, b"x")).unwrap();
        assert_eq!(ip.transport, Transport::Udp(Udp { src_port: 1000, dst_port: 53 }));
        let ip = read(&Packet::tcp(&a, &b, TcpFlags::SYN | TcpFlags::ACK, 7, 9, b"data")).unwrap();
        let Transport::Tcp(tcp) = ip.transport else { panic!("{ip:?}") };
        assert_eq!((tcp.src_port, tcp.dst_port, tcp.seq, tcp.ack, tcp.payload), (1000, 53, 7, 9, 4));
        assert_eq!(format!("{:?}", tcp.flags), "SYN|ACK");
    }
}
