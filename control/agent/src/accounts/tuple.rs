use std::net::IpAddr;

use engine::packet::{Ip, Transport};
use policy::oracle;

/// Who spoke to whom, as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// Protocol number.
    pub protocol: u8,
    /// The sender.
    pub src: IpAddr,
    /// The receiver.
    pub dst: IpAddr,
    /// The sender's port of TCP and UDP; 0 for others.
    pub src_port: u16,
    /// The receiver's port; of ICMP, type times 256 plus code.
    pub dst_port: u16,
}

impl Tuple {
    /// Of an IP packet.
    pub fn of_ip(ip: &Ip) -> Tuple {
        let icmp = |icmp_type, code| (0, u16::from_be_bytes([icmp_type, code]));
        let (src_port, dst_port) = match ip.transport {
            Transport::Query(query) => icmp(query.icmp_type, query.code),
            Transport::Error(error) => icmp(error.icmp_type, error.code),
            Transport::Icmp { icmp_type, code } => icmp(icmp_type, code),
            _ if matches!(ip.protocol, 6 | 17) => ip.transport.ports().unwrap_or((0, 0)),
            _ => (0, 0),
        };
        Tuple { protocol: ip.protocol, src: ip.src.into(), dst: ip.dst.into(), src_port, dst_port }
    }

    /// As the sender's rules see it.
    pub fn at_sender(&self) -> oracle::Packet {
        self.seen_from(self.dst)
    }

    /// As the receiver's rules see it.
    pub fn at_receiver(&self) -> oracle::Packet {
        self.seen_from(self.src)
    }

    fn seen_from(&self, remote: IpAddr) -> oracle::Packet {
        let Tuple { protocol, src_port, dst_port, .. } = *self;
        oracle::Packet { remote, protocol, port: dst_port, source_port: src_port }
    }

    /// The same flow, whichever of its two ends sent the packet.
    pub fn both_ways(&self) -> Tuple {
        let back =
            Tuple { src: self.dst, dst: self.src, src_port: self.dst_port, dst_port: self.src_port, ..*self };
        // Ports of ICMP are no ports.
        if matches!(self.protocol, 6 | 17) { (*self).min(back) } else { *self }
    }
}
