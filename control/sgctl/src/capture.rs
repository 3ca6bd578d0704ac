//! Capture files: read for `explain`, written by `trace`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, Endianness, TsResolution};
use serde_json::{Value, json};

use crate::client::Failure;
use crate::{EXIT_INVALID, EXIT_OTHER};

/// The most packets that the daemon takes at a time.
const MAX_PACKETS: usize = 10_000;

/// The bytes of each frame that headers can be in.
const MAX_HEAD: usize = 512;

fn wrong(path: &Path, message: impl std::fmt::Display) -> Failure {
    Failure::local(EXIT_INVALID, "InvalidParameterValue", format!("{}: {message}", path.display()))
}

/// The packets of a capture (pcap or pcapng, of Ethernet), as the daemon takes them.
pub fn read(path: &Path) -> Result<Value, Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::local(EXIT_OTHER, "FileError", format!("{}: {error}", path.display())))?;
    let mut reader = BufReader::new(file);
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(|_| wrong(path, "it is no capture file: it is too short"))?;
    let reader = magic.as_slice().chain(reader);
    let mut frames = Vec::new();
    let mut add = |time: Duration, data: &[u8], length: u32| -> Result<(), Failure> {
        if frames.len() == MAX_PACKETS {
            return Err(wrong(
                path,
                format!("it has more than {MAX_PACKETS} packets: cut it, as with editcap -c"),
            ));
        }
        let head = &data[..data.len().min(MAX_HEAD)];
        frames.push(json!({ "Data": hex::encode(head), "Length": length, "Time": time.as_secs_f64() }));
        Ok(())
    };
    let no_ethernet =
        |link| wrong(path, format!("it is of {link:?}: only captures of Ethernet can be judged"));
    if magic == [0x0a, 0x0d, 0x0d, 0x0a] {
        let mut capture = PcapNgReader::new(reader).map_err(|error| wrong(path, error))?;
        let mut links: Vec<DataLink> = Vec::new();
        while let Some(block) = capture.next_block() {
            match block.map_err(|error| wrong(path, error))? {
                Block::InterfaceDescription(interface) => links.push(interface.linktype),
                Block::EnhancedPacket(packet) => {
                    match links.get(packet.interface_id as usize) {
                        Some(DataLink::ETHERNET) => {}
                        other => return Err(no_ethernet(other.copied().unwrap_or(DataLink::NULL))),
                    }
                    add(packet.timestamp, &packet.data, packet.original_len)?;
                }
                _ => {}
            }
        }
    } else {
        let mut capture = PcapReader::new(reader).map_err(|error| wrong(path, error))?;
        if capture.header().datalink != DataLink::ETHERNET {
            return Err(no_ethernet(capture.header().datalink));
        }
        while let Some(packet) = capture.next_packet() {
            let packet = packet.map_err(|error| wrong(path, error))?;
            add(packet.timestamp, &packet.data, packet.orig_len)?;
        }
    }
    Ok(json!({ "Frames": frames }))
}

/// A capture file that packets are added to as they come.
pub struct Writer(PcapWriter<BufWriter<File>>);

impl Writer {
    /// Makes the file.
    pub fn create(path: &Path) -> Result<Writer, Failure> {
        let failed =
            |error: String| Failure::local(EXIT_OTHER, "FileError", format!("{}: {error}", path.display()));
        let file = File::create(path).map_err(|error| failed(error.to_string()))?;
        let header = PcapHeader {
            version_major: 2,
            version_minor: 4,
            ts_correction: 0,
            ts_accuracy: 0,
            snaplen: 65_535,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::native(),
        };
        let writer = PcapWriter::with_header(BufWriter::new(file), header);
        writer.map(Writer).map_err(|error| failed(error.to_string()))
    }

    /// Adds a packet that the daemon has shown.
    pub fn add(&mut self, packet: &Value) -> Result<(), Failure> {
        let failed = |error: String| Failure::local(EXIT_OTHER, "FileError", error);
        let data = hex::decode(packet["Data"].as_str().unwrap_or_default())
            .map_err(|error| failed(format!("a packet of the daemon's: {error}")))?;
        let time = Duration::from_secs_f64(packet["Time"].as_f64().unwrap_or(0.0).clamp(0.0, 4e9));
        let length = packet["Length"].as_u64().unwrap_or(0) as u32;
        let packet = PcapPacket::new(time, length.max(data.len() as u32), &data);
        self.0.write_packet(&packet).map_err(|error| failed(error.to_string()))?;
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::local(EXIT_OTHER, "FileError", error.to_string());
        self.0.into_writer().flush().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen.pcap");
        let mut writer = Writer::create(&path).unwrap();
        writer.add(&json!({ "Data": "0011ff", "Length": 60, "Time": 12.25 })).unwrap();
        writer.add(&json!({ "Data": "aa", "Length": 1, "Time": 13.0 })).unwrap();
        writer.finish().unwrap();
        let frames = json!([{ "Data": "0011ff", "Length": 60, "Time": 12.25 }, { "Data": "aa", "Length": 1, "Time": 13.0 }]);
        assert_eq!(read(&path).unwrap(), json!({ "Frames": frames }));
    }

    #[test]
    fn what_is_no_capture_of_ethernet_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let of_link = |link: u32| -> Vec<u8> {
            [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, link].iter().flat_map(|w| w.to_le_bytes()).collect()
        };
        let cases: [(Vec<u8>, &str); 4] = [
            (vec![1, 2], "too short"),
            (vec![7; 100], "x:"),
            (of_link(113), "only captures of Ethernet"),
            ([of_link(1), vec![0; 20]].concat(), "x:"),
        ];
        for (bytes, word) in cases {
            std::fs::write(&path, &bytes).unwrap();
            match read(&path) {
                Err(failure) => {
                    let message = failure.body["errors"][0]["message"].as_str().unwrap().to_string();
                    assert!(message.contains(word), "{message}");
                    assert_eq!(failure.exit, EXIT_INVALID);
                }
                Ok(read) => panic!("{bytes:?}: {read}"),
            }
        }
        assert_eq!(read(&folder.path().join("none")).unwrap_err().exit, EXIT_OTHER);
    }
}
