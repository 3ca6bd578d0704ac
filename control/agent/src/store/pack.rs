//! Documents as they lie in the store: in zlib's format.

use std::io::{Read, Result, Write};

use adler2::adler32_slice;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

/// The most bytes of a document: what the API takes, and what it may grow by when
/// it is written out with all its defaults.
const MAX_DOCUMENT: u64 = 1 << 30;

/// Up to so many bytes, setting up a compressor takes longer than all else that a change does.
const SMALL: usize = 2048;

/// Documents repeat themselves: a tenth of their size and less is left of them. What a small
/// one changes is framed as it is.
pub(super) fn pack(document: &str) -> Result<Vec<u8>> {
    if document.len() <= SMALL {
        return Ok(framed(document.as_bytes()));
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(document.as_bytes())?;
    encoder.finish()
}

pub(super) fn unpack(packed: &[u8]) -> Result<String> {
    let mut document = String::new();
    ZlibDecoder::new(packed).take(MAX_DOCUMENT).read_to_string(&mut document)?;
    Ok(document)
}

/// In one stored block (RFC 1950 and 1951).
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u16;
    let mut framed = Vec::with_capacity(bytes.len() + 11);
    framed.extend([0x78, 0x01, 0x01]);
    framed.extend(length.to_le_bytes());
    framed.extend((!length).to_le_bytes());
    framed.extend(bytes);
    framed.extend(adler32_slice(bytes).to_be_bytes());
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_whether_small_or_not() {
        for length in [0, 1, 2, 3, 255, 256, 257, 600, SMALL - 1, SMALL, SMALL + 1, 100_000] {
            // The largest sums, and text.
            for text in ["\u{7f}", "{\"GroupId\": \"sg-1\"} "] {
                let document: String = text.chars().cycle().take(length).collect();
                let packed = pack(&document).unwrap();
                assert_eq!(unpack(&packed).unwrap(), document);
                assert!(packed.len() <= length.min(SMALL) + 11, "{length}: {}", packed.len());
                let mut harmed = packed.clone();
                let last = harmed.len() - 1;
                harmed[last] ^= 1;
                assert!(unpack(&harmed).is_err(), "{length}: it is checked");
            }
        }
    }
}
