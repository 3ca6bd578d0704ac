/// The kinds of super-frames (virtio 1.1, 5.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segmented {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP datagrams of one size (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
}

/// What stands in front of a frame: `struct virtio_net_hdr` without the count of
/// buffers, in the machine's order of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// Where the partial checksum begins to count, and where it is from there.
    pub checksum: Option<(u16, u16)>,
    /// What the frame is to be cut into: the kind, and bytes of data in each packet.
    pub segments: Option<(Segmented, u16)>,
    /// Bytes of all headers of a super-frame.
    pub headers: u16,
}

/// A kind of super-frame that is not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCarried;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_*`.
const TCP4: u8 = 1;
const TCP6: u8 = 4;
const UDP: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_ECN`: a bit beside the kind.
const ECN: u8 = 0x80;

impl VnetHeader {
    /// Its length in bytes.
    pub const LENGTH: usize = 10;

    /// Reads one.
    ///
    /// # Errors
    /// [`NotCarried`] for a kind that nobody here knows.
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Result<VnetHeader, NotCarried> {
        let [flags, kind, headers @ .., s0, s1, c0, c1, o0, o1] = bytes;
        let size = u16::from_ne_bytes([s0, s1]);
        let segments = match kind & !ECN {
            0 => None,
            TCP4 => Some((Segmented::Tcp4, size)),
            TCP6 => Some((Segmented::Tcp6, size)),
            UDP => Some((Segmented::Udp, size)),
            _ => return Err(NotCarried),
        };
        let checksum = (u16::from_ne_bytes([c0, c1]), u16::from_ne_bytes([o0, o1]));
        Ok(VnetHeader {
            checksum: (flags & NEEDS_CHECKSUM != 0).then_some(checksum),
            segments,
            headers: u16::from_ne_bytes(headers),
        })
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let (flags, (start, offset)) = match self.checksum {
            Some(checksum) => (NEEDS_CHECKSUM, checksum),
            None => (0, (0, 0)),
        };
        let (kind, size) = match self.segments {
            None => (0, 0),
            Some((Segmented::Tcp4, size)) => (TCP4, size),
            Some((Segmented::Tcp6, size)) => (TCP6, size),
            Some((Segmented::Udp, size)) => (UDP, size),
        };
        let [h0, h1] = self.headers.to_ne_bytes();
        let [s0, s1] = size.to_ne_bytes();
        let [c0, c1] = start.to_ne_bytes();
        let [o0, o1] = offset.to_ne_bytes();
        [flags, kind, h0, h1, s0, s1, c0, c1, o0, o1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let kinds = [Segmented::Tcp4, Segmented::Tcp6, Segmented::Udp].map(|kind| Some((kind, 1448)));
        for segments in kinds.into_iter().chain([None]) {
            for checksum in [Some((34, 16)), None] {
                let header = VnetHeader { checksum, segments, headers: 66 };
                assert_eq!(VnetHeader::from_bytes(header.to_bytes()), Ok(header));
            }
        }
        assert_eq!(VnetHeader::default().to_bytes(), [0; 10]);
    }

    #[test]
    fn the_bytes_are_the_kernels() {
        // Needs a checksum; TCP over IPv4 with ECN; 54 bytes of headers; 1448 of data.
        let bytes = [1, 0x81, 54, 0, 0xa8, 0x05, 34, 0, 16, 0];
        let header =
            VnetHeader { checksum: Some((34, 16)), segments: Some((Segmented::Tcp4, 1448)), headers: 54 };
        assert_eq!(VnetHeader::from_bytes(bytes), Ok(header));
        // UDP in fragments (VIRTIO_NET_HDR_GSO_UDP) is no more, and others never were.
        for kind in [2, 3, 6, 0x7f] {
            assert_eq!(VnetHeader::from_bytes([0, kind, 0, 0, 0, 0, 0, 0, 0, 0]), Err(NotCarried));
        }
    }
}
