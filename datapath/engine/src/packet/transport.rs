//! The headers above IP that decide what flow a packet belongs to.

use super::cursor::{Frame, be16, be32};
use super::icmp::{IcmpError, Query};
use super::nd::Nd;
use crate::verdict::DropReason;

/// The header above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment (RFC 9293).
    Tcp(Tcp),
    /// A UDP datagram (RFC 768).
    Udp(Udp),
    /// An ICMP message that has an identifier and asks for an answer, or is one.
    Query(Query),
    /// An ICMP error, with what it tells of the packet it quotes.
    Error(IcmpError),
    /// Any other ICMP message in IPv4, or ICMPv6 message in IPv6.
    Icmp {
        /// The message's type.
        icmp_type: u8,
        /// Its code.
        code: u8,
    },
    /// A router or neighbour message, or a redirect (RFC 4861).
    NeighbourDiscovery(Nd),
    /// A fragment, the first included.
    Fragment(Fragment),
    /// Every other protocol, ICMP in IPv6 and ICMPv6 in IPv4 among them.
    Other,
}

impl Transport {
    /// The source and destination port, where the protocol has none the
    /// conventions of [`FlowKey`](crate::flow::FlowKey). For an ICMP error
    /// those of the packet it quotes. `None` for neighbour discovery, which is
    /// of no flow, and for fragments whose flow is not known yet.
    #[inline]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self {
            Transport::Tcp(tcp) => Some((tcp.src_port, tcp.dst_port)),
            Transport::Udp(udp) => Some((udp.src_port, udp.dst_port)),
            Transport::Query(query) => Some(query.ports()),
            Transport::Error(error) => Some((error.quoted.src_port, error.quoted.dst_port)),
            Transport::Icmp { icmp_type, code } => Some(one_way(*icmp_type, *code)),
            Transport::Other => Some((0, 0)),
            Transport::Fragment(fragment) => fragment.ports,
            Transport::NeighbourDiscovery(_) => None,
        }
    }
}

/// The ports of an ICMP message that expects no answer: the same type from the
/// other side is another flow.
#[inline]
pub(super) fn one_way(icmp_type: u8, code: u8) -> (u16, u16) {
    (u16::from_be_bytes([icmp_type, code]), u16::MAX)
}

/// The facts of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// The sender's port.
    pub src_port: u16,
    /// The receiver's port.
    pub dst_port: u16,
    /// Sequence number of the first byte (of the SYN, if there is one).
    pub seq: u32,
    /// Acknowledgement number; meaningless without [`TcpFlags::ACK`].
    pub ack: u32,
    /// The control bits.
    pub flags: TcpFlags,
    /// Bytes of data behind the header.
    pub payload: u32,
}

/// The control bits of a TCP header (RFC 9293, 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// Reset the connection.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Push.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgement number counts.
    pub const ACK: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer counts.
    pub const URG: TcpFlags = TcpFlags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: TcpFlags = TcpFlags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: TcpFlags = TcpFlags(0x80);

    /// Whether all of these bits are set.
    #[inline]
    pub const fn contains(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// SYN alone: the first segment of a connection.
    #[inline]
    pub const fn opens(self) -> bool {
        self.contains(TcpFlags::SYN)
            && !self.intersects(TcpFlags(TcpFlags::ACK.0 | TcpFlags::RST.0 | TcpFlags::FIN.0))
    }

    /// Whether any of these bits is set.
    #[inline]
    pub const fn intersects(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 != 0
    }
}

impl std::ops::BitOr for TcpFlags {
    type Output = TcpFlags;

    fn bitor(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }
}

impl std::fmt::Debug for TcpFlags {
    /// As traces write them: `SYN|ACK`, or `-` for none.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let mut set =
            NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name);
        f.write_str(set.next().unwrap_or(&"-"))?;
        set.try_for_each(|name| write!(f, "|{name}"))
    }
}

/// The facts of a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// The sender's port; 0 if it expects no answer.
    pub src_port: u16,
    /// The receiver's port.
    pub dst_port: u16,
}

/// Where a fragment belongs (RFC 791, 3.2; RFC 8200, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The identification that all fragments of a packet share: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Where its data begins in the whole packet's, in bytes; 0 for the first.
    pub offset: u16,
    /// Bytes of data, never 0; they end within the largest packet.
    pub length: u16,
    /// Whether more fragments follow.
    pub more: bool,
    /// Source and destination port, by the convention of
    /// [`FlowKey`](crate::flow::FlowKey): the first fragment brings them, to
    /// the others they are given when it has been seen.
    pub ports: Option<(u16, u16)>,
}

impl Fragment {
    /// Checks what any host checks: data of which every fragment but the last
    /// has a multiple of 8 bytes, and which ends within the largest packet.
    pub(super) fn new(id: u32, offset: u32, more: bool, data: u32) -> Result<Fragment, DropReason> {
        let whole = data > 0 && (!more || data.is_multiple_of(8));
        if !whole || offset + data > u32::from(u16::MAX) {
            return Err(DropReason::MalformedHeader);
        }
        Ok(Fragment { id, offset: offset as u16, length: data as u16, more, ports: None })
    }

    /// A first fragment that brings this: its own header whole (RFC 1858, RFC
    /// 7112), so that no later fragment could change what it was judged by.
    /// ICMP errors are never so large that they come in pieces.
    pub(super) fn first(
        self,
        frame: Frame<'_>,
        transport: Result<Transport, DropReason>,
    ) -> Result<Fragment, DropReason> {
        match transport {
            Err(DropReason::Truncated) if frame.is_at_hand() => Err(DropReason::FragmentTiny),
            Err(reason) => Err(reason),
            Ok(Transport::Error(_)) => Err(DropReason::MalformedHeader),
            Ok(transport) => Ok(Fragment { ports: transport.ports(), ..self }),
        }
    }
}

/// The header of an IP packet of a protocol that both families share; `whole`
/// unless the frame has its first fragment only.
pub(super) fn parse(protocol: u8, frame: Frame<'_>, whole: bool) -> Result<Transport, DropReason> {
    match protocol {
        super::protocol::UDP => {
            udp(frame, if whole { frame.length } else { u16::MAX.into() }).map(Transport::Udp)
        }
        super::protocol::TCP => tcp(frame).map(Transport::Tcp),
        _ => Ok(Transport::Other),
    }
}

#[inline]
fn tcp(frame: Frame<'_>) -> Result<Tcp, DropReason> {
    let header: &[u8; 20] = frame.header()?;
    let header_length = u32::from(header[12] >> 4) * 4;
    if header_length < 20 {
        return Err(DropReason::MalformedHeader);
    }
    Ok(Tcp {
        src_port: be16(header, 0),
        dst_port: be16(header, 2),
        seq: be32(header, 4),
        ack: be32(header, 8),
        flags: TcpFlags(header[13]),
        payload: frame.length.checked_sub(header_length).ok_or(DropReason::Truncated)?,
    })
}

#[inline]
fn udp(frame: Frame<'_>, most: u32) -> Result<Udp, DropReason> {
    let header: &[u8; 8] = frame.skip(8).and(frame.header())?;
    let length = u32::from(be16(header, 4));
    if length < 8 || length > most {
        return Err(DropReason::MalformedHeader);
    }
    Ok(Udp { src_port: be16(header, 0), dst_port: be16(header, 2) })
}
