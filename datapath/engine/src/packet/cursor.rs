//! Where the parsers are in a frame.

use crate::verdict::DropReason;

/// A frame as the parsers see it; to them also what is left of one behind the
/// headers already read.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The first segment. Headers must lie in it.
    pub head: &'a [u8],
    /// The whole frame in bytes, all segments; not less than `head.len()`.
    pub length: u32,
}

impl<'a> Frame<'a> {
    /// A frame of one segment.
    #[inline]
    pub fn whole(bytes: &'a [u8]) -> Frame<'a> {
        Frame { head: bytes, length: u32::try_from(bytes.len()).unwrap_or(u32::MAX) }
    }

    /// The next `N` bytes, to be read.
    #[inline]
    pub(super) fn header<const N: usize>(self) -> Result<&'a [u8; N], DropReason> {
        self.head.first_chunk().ok_or(DropReason::Truncated)
    }

    /// What lies behind the next `count` bytes.
    #[inline]
    pub(super) fn skip(self, count: u32) -> Result<Frame<'a>, DropReason> {
        let length = self.length.checked_sub(count).ok_or(DropReason::Truncated)?;
        Ok(Frame { head: self.head.get(count as usize..).unwrap_or_default(), length })
    }

    /// Whether no byte of it lies in a later segment.
    #[inline]
    pub(super) fn is_at_hand(self) -> bool {
        self.head.len() as u64 == u64::from(self.length)
    }

    /// The first `length` bytes: what a header's length field says it holds.
    #[inline]
    pub(super) fn limit(self, length: u32) -> Result<Frame<'a>, DropReason> {
        if length > self.length {
            return Err(DropReason::Truncated);
        }
        Ok(Frame { head: self.head.get(..length as usize).unwrap_or(self.head), length })
    }
}

/// The big-endian 16 bits at `offset`, which must be a constant inside the header.
#[inline]
pub(super) fn be16<const N: usize>(header: &[u8; N], offset: usize) -> u16 {
    u16::from_be_bytes([header[offset], header[offset + 1]])
}

/// The big-endian 32 bits at `offset`, which must be a constant inside the header.
#[inline]
pub(super) fn be32<const N: usize>(header: &[u8; N], offset: usize) -> u32 {
    u32::from_be_bytes([header[offset], header[offset + 1], header[offset + 2], header[offset + 3]])
}

/// The little-endian 64 bits at `offset`, which must be a constant inside the bytes.
#[inline]
pub(super) fn le64<const N: usize>(bytes: &[u8; N], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}

/// The IPv6 address at `offset`, which must be a constant inside the header.
#[inline]
pub(super) fn be128<const N: usize>(header: &[u8; N], offset: usize) -> u128 {
    let word = |at| u128::from(be32(header, offset + at));
    word(0) << 96 | word(4) << 64 | word(8) << 32 | word(12)
}
