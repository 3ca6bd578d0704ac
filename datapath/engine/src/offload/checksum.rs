use super::Layers;

/// The one's complement sum of bytes in pairs (RFC 1071), piece by piece.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Of words in the machine's own order, whose carries come in when it is folded.
    words: u64,
    /// Whether an odd number of bytes has been added: the next is the second of a pair.
    odd: bool,
}

impl Sum {
    /// That of the bytes from `start` to `end` of a frame in segments.
    pub fn between<'a>(segments: impl Iterator<Item = &'a [u8]>, start: usize, end: usize) -> Sum {
        let (mut sum, mut at) = (Sum::default(), 0);
        for segment in segments {
            let from = start.saturating_sub(at).min(segment.len());
            let to = end.saturating_sub(at).min(segment.len());
            sum = sum.with(&segment[from..to.max(from)]);
            at += segment.len();
            if at >= end {
                break;
            }
        }
        sum
    }

    /// With these bytes behind those before.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Sum {
        let (fours, rest) = bytes.as_chunks::<4>();
        // 2^32 words of 32 bits fit; a packet has 2^14.
        let words: u64 = fours.iter().map(|four| u64::from(u32::from_ne_bytes(*four))).sum();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        let words = words + u64::from(u32::from_ne_bytes(last));
        self.and(Sum { words, odd: bytes.len() % 2 == 1 })
    }

    /// With the sum of what follows. Bytes that get to the other place of their
    /// pair are at the other half of its number (RFC 1071, 2.B).
    #[must_use]
    pub(super) fn and(self, rest: Sum) -> Sum {
        let words = if self.odd { u64::from(fold(rest.words).swap_bytes()) } else { rest.words };
        Sum { words: self.words + words, odd: self.odd ^ rest.odd }
    }

    /// The 16 bits of the sum, as a number.
    pub fn folded(self) -> u16 {
        u16::from_be(fold(self.words))
    }

    /// The checksum: the complement of the sum.
    pub fn checksum(self) -> u16 {
        !self.folded()
    }
}

fn fold(mut words: u64) -> u16 {
    while words > 0xffff {
        words = (words & 0xffff) + (words >> 16);
    }
    words as u16
}

impl Layers {
    /// The checksum to write in place of a partial one: that of all from the
    /// transport's header on, which the field is part of. `segments` are the frame's.
    pub fn completed<'a>(&self, segments: impl Iterator<Item = &'a [u8]>) -> u16 {
        Sum::between(segments, self.transport, self.end).checksum()
    }
}
