//! Documents as they lie in the store: in zlib's format.

use std::io::{Read, Result, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

/// The most bytes of a document: what the API takes, and what it may grow by when
/// it is written out with all its defaults.
const MAX_DOCUMENT: u64 = 1 << 30;

/// Documents repeat themselves: a tenth of their size and less is left of them.
pub(super) fn pack(document: &str) -> Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(document.as_bytes())?;
    encoder.finish()
}

pub(super) fn unpack(packed: &[u8]) -> Result<String> {
    let mut document = String::new();
    ZlibDecoder::new(packed).take(MAX_DOCUMENT).read_to_string(&mut document)?;
    Ok(document)
}
