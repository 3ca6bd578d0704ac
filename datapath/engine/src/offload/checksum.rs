use std::ops::Range;

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
        slices(segments, start..end).fold(Sum::default(), Sum::with)
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
        let is_odd = bytes.len() % 2 == 1;
        // Bytes that get to the other place of their pair are at the other half of its
        // number (RFC 1071, 2.B).
        let words = if self.odd { u64::from(fold(words).swap_bytes()) } else { words };
        Sum { words: self.words + words, odd: self.odd ^ is_odd }
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

/// Those bytes of a frame in segments that are in the range, segment by segment.
pub fn slices<'a>(
    segments: impl Iterator<Item = &'a [u8]>,
    range: Range<usize>,
) -> impl Iterator<Item = &'a [u8]> {
    let mut at = 0;
    segments.map_while(move |segment| {
        let from = range.start.saturating_sub(at).min(segment.len());
        let to = range.end.checked_sub(at).filter(|left| *left > 0)?.min(segment.len());
        at += segment.len();
        Some(&segment[from..to.max(from)])
    })
}

impl Layers {
    /// The checksum to write in place of a partial one: that of all from the
    /// transport's header on, which the field is part of. `segments` are the frame's.
    pub fn completed<'a>(&self, segments: impl Iterator<Item = &'a [u8]>) -> u16 {
        Sum::between(segments, self.transport, self.end).checksum()
    }
}
