use super::Sum;
use crate::packet::{self, Frame};

/// A protocol whose checksum and segments devices know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Protocol {
    /// Where its checksum is, from the beginning of its header.
    pub const fn checksum(self) -> usize {
        match self {
            Protocol::Tcp => 16,
            Protocol::Udp => 6,
        }
    }
}

/// Where the headers of a whole TCP or UDP packet are in its frame, in bytes. All
/// of them lie in the first segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Whether it is of IPv6.
    pub v6: bool,
    /// What is above IP.
    pub protocol: Protocol,
    /// Where the IP header begins.
    pub ip: usize,
    /// Where the header above IP begins.
    pub transport: usize,
    /// Where the data begins.
    pub data: usize,
    /// Where the IP packet ends; what follows in the frame is padding.
    pub end: usize,
}

impl Layers {
    /// Those of a frame; `None` if it carries anything else, a fragment, or what is malformed.
    pub fn of(frame: Frame<'_>) -> Option<Layers> {
        let packet::Headers { v6, ip, transport, protocol, end } = packet::Headers::of(frame)?;
        let header = frame.head.get(transport..)?;
        let (protocol, length) = match protocol {
            packet::protocol::TCP => (Protocol::Tcp, usize::from(header.get(12)? >> 4) * 4),
            packet::protocol::UDP => (Protocol::Udp, 8),
            _ => return None,
        };
        let least = if protocol == Protocol::Tcp { 20 } else { 8 };
        let data = transport + length;
        let fits = length >= least && header.len() >= length && data <= end;
        fits.then_some(Layers { v6, protocol, ip, transport, data, end })
    }

    /// The sum of the pseudo-header of a packet with `length` bytes above IP
    /// (RFC 9293, 3.1; RFC 8200, 8.1).
    pub(super) fn pseudo_header(&self, head: &[u8], length: usize) -> Sum {
        let (from, bytes) = if self.v6 { (8, 32) } else { (12, 8) };
        let addresses = head.get(self.ip + from..self.ip + from + bytes).unwrap_or_default();
        let protocol = match self.protocol {
            Protocol::Tcp => packet::protocol::TCP,
            Protocol::Udp => packet::protocol::UDP,
        };
        let length = length as u32;
        Sum::default().with(addresses).with(&[0, protocol]).with(&length.to_be_bytes())
    }

    /// Where the checksum is.
    fn field(&self) -> usize {
        self.transport + self.protocol.checksum()
    }

    /// The checksum as the packet carries it.
    pub(super) fn checksum(&self, head: &[u8]) -> Option<[u8; 2]> {
        head.get(self.field()..)?.first_chunk().copied()
    }

    /// Writes the checksum. A UDP packet has none if it is zero (RFC 768).
    pub fn set_checksum(&self, head: &mut [u8], checksum: u16) {
        let checksum = if checksum == 0 && self.protocol == Protocol::Udp { 0xffff } else { checksum };
        if let Some(field) = head.get_mut(self.field()..self.field() + 2) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
    }

    /// Whether the checksum is partial: the pseudo-header's sum alone.
    ///
    /// For ports whose driver does not tell. A complete checksum that happens to be
    /// this number is not harmed: completed, it is the same again.
    pub fn has_partial_checksum(&self, head: &[u8]) -> bool {
        let sum = self.pseudo_header(head, self.end - self.transport).folded();
        self.checksum(head) == Some(sum.to_be_bytes())
    }

    /// Writes the pseudo-header's sum where the checksum belongs, as senders do that
    /// leave the rest to others. For tests and tools.
    #[cfg(any(test, feature = "build"))]
    pub fn make_partial(&self, head: &mut [u8]) {
        let sum = self.pseudo_header(head, self.end - self.transport).folded();
        let field = self.field();
        if let Some(field) = head.get_mut(field..field + 2) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }
}
