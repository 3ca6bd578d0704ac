//! The cutting of a super-frame (RFC 9293, 3.7.1: segments of what the receiver
//! takes; for UDP, datagrams of one size).

use std::ops::Range;

use arrayvec::ArrayVec;

use super::{Layers, Protocol, Sum, slices};
use crate::packet::TcpFlags;

/// The most packets that one frame is cut into: 64 KiB of them are 512 bytes each,
/// less than what any link carries (RFC 9293, 3.7.1: 536).
pub const MAX_SEGMENTS: usize = 128;

/// The longest headers: Ethernet with a tag, IPv6 with as many extensions as fit,
/// TCP with options. What has more is not cut.
const MAX_HEADERS: usize = 256;

/// The fixed header of IPv6, which its length does not count.
const IPV6_HEADER: usize = 40;

/// The headers of a packet, up to its data.
pub type Headers = ArrayVec<u8, MAX_HEADERS>;

/// How a frame is to be cut.
#[derive(Clone, Debug)]
pub struct Segmentation {
    layers: Layers,
    /// Those of the whole frame.
    headers: Headers,
    /// Bytes of data in each packet but the last.
    size: usize,
}

impl Segmentation {
    /// Of a frame with these layers into packets with `size` bytes of data; `None`
    /// if that is nothing, more than [`MAX_SEGMENTS`], or the headers are too long.
    pub fn new(head: &[u8], layers: Layers, size: u16) -> Option<Segmentation> {
        let headers = Headers::try_from(head.get(..layers.data)?).ok()?;
        let segmentation = Segmentation { layers, headers, size: size.into() };
        let most = MAX_SEGMENTS * segmentation.size;
        (size > 0 && layers.end - layers.data <= most).then_some(segmentation)
    }

    /// How many packets it makes; at least one.
    pub fn count(&self) -> usize {
        (self.layers.end - self.layers.data).div_ceil(self.size).max(1)
    }

    /// Which bytes of the frame are the data of packet `index`.
    pub fn data(&self, index: usize) -> Range<usize> {
        let start = (self.layers.data + index * self.size).min(self.layers.end);
        start..(start + self.size).min(self.layers.end)
    }

    /// The headers of packet `index`, whose data is in the frame's `segments`.
    pub fn headers<'a>(&self, index: usize, segments: impl Iterator<Item = &'a [u8]>) -> Headers {
        let Range { start, end } = self.data(index);
        let Layers { v6, protocol, ip, transport, data, end: whole } = self.layers;
        let own = Layers { end: data + (end - start), ..self.layers };
        let mut headers = self.headers.clone();
        let header = headers.as_mut_slice();
        if v6 {
            put16(header, ip + 4, own.end - ip - IPV6_HEADER);
        } else {
            put16(header, ip + 2, own.end - ip);
            // Each packet has an identification of its own (RFC 791, 3.2).
            let id = u16::from_be_bytes([header[ip + 4], header[ip + 5]]);
            put16(header, ip + 4, id.wrapping_add(index as u16).into());
            put16(header, ip + 10, 0);
            let checksum = Sum::default().with(&header[ip..transport]).checksum();
            put16(header, ip + 10, checksum.into());
        }
        match protocol {
            Protocol::Tcp => {
                let sequence = header[transport + 4..].first_chunk_mut().expect("TCP's header has 20 bytes");
                *sequence = u32::from_be_bytes(*sequence).wrapping_add((start - data) as u32).to_be_bytes();
                // The last tells the end, the first that the window was reduced (RFC 3168, 6.1.2).
                let (is_first, is_last) = (index == 0, index + 1 == self.count());
                let last = TcpFlags::FIN | TcpFlags::PSH;
                let kept =
                    if is_last { 0xff } else { !last.0 } & if is_first { 0xff } else { !TcpFlags::CWR.0 };
                header[transport + 13] &= kept;
            }
            Protocol::Udp => put16(header, transport + 4, own.end - transport),
        }
        // The field has the pseudo-header's sum with the length of the whole: that is
        // taken out, and the packet's own put in. It stays right with a routing
        // header, whose pseudo-header has another address (RFC 8200, 8.1).
        let [out, put] = [!(whole - transport) as u32, (own.end - transport) as u32].map(u32::to_be_bytes);
        let sum = Sum::default().with(&out).with(&put).with(&header[transport..]);
        let sum = slices(segments, start..end).fold(sum, Sum::with);
        own.set_checksum(header, sum.checksum());
        headers
    }
}

fn put16(header: &mut [u8], at: usize, value: usize) {
    header[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}
