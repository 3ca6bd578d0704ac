//! Ports over `net_pcap`, which reads and writes captures.

mod support;

use std::fs;
use std::path::PathBuf;

use dpdk::{Burst, Port, PortConfig};
use support::{burst, eal, frame, pool, unique};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

/// A capture of these frames: libpcap's format, little endian, Ethernet.
fn write_capture(path: &PathBuf, frames: &[Vec<u8>]) {
    let mut capture = vec![];
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        capture.extend(word.to_le_bytes());
    }
    for (n, frame) in frames.iter().enumerate() {
        for word in [n as u32, 0, frame.len() as u32, frame.len() as u32] {
            capture.extend(word.to_le_bytes());
        }
        capture.extend(frame);
    }
    fs::write(path, capture).unwrap();
}

fn read_capture(path: &PathBuf) -> Vec<Vec<u8>> {
    let capture = fs::read(path).unwrap();
    let mut rest = &capture[24..];
    let mut frames = vec![];
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

#[test]
fn a_capture_is_read_to_its_end_and_written_as_it_was() {
    let pool = pool(2048);
    let (input, output) = (path("in.pcap"), path("out.pcap"));
    let frames: Vec<Vec<u8>> = (0..40).map(frame).collect();
    write_capture(&input, &frames);
    let devargs = format!("{},rx_pcap={},tx_pcap={}", unique("net_pcap"), input.display(), output.display());
    let port = Port::attach(&eal(), &devargs).unwrap();
    let (mut rx, mut tx) = port.start(&PortConfig::default(), &pool).unwrap();
    let mut packets = Burst::new();
    let mut seen = vec![];
    while rx[0].receive(&mut packets) > 0 {
        seen.extend(packets.iter().map(|m| m.data().to_vec()));
        let count = packets.len();
        assert_eq!(tx[0].send(&mut packets), count);
    }
    assert_eq!(seen, frames);
    assert_eq!(tx[0].send(&mut burst(&pool, 200..203)), 3);
    let statistics = port.statistics().unwrap();
    assert_eq!((statistics.rx_packets, statistics.tx_packets), (40, 43));
    assert_eq!((statistics.rx_bytes, statistics.tx_bytes), (2400, 2580));
    drop((rx, tx, port));
    assert_eq!(pool.in_use(), 0);
    assert_eq!(read_capture(&output), frames.into_iter().chain((200..203).map(frame)).collect::<Vec<_>>());
    fs::remove_file(input).unwrap();
    fs::remove_file(output).unwrap();
}

#[test]
fn a_frame_longer_than_an_mbuf_comes_in_segments_and_is_whole_in_a_larger_one() {
    let (small, large) = (pool(1024), pool(9216));
    let (input, output) = (path("long-in.pcap"), path("long-out.pcap"));
    let long: Vec<u8> = (0..5000u32).map(|i| (i % 251) as u8).collect();
    write_capture(&input, &[frame(1), long.clone(), frame(2)]);
    let devargs = format!("{},rx_pcap={},tx_pcap={}", unique("net_pcap"), input.display(), output.display());
    let port = Port::attach(&eal(), &devargs).unwrap();
    let (mut rx, mut tx) = port.start(&PortConfig::default(), &small).unwrap();
    let mut packets = Burst::new();
    while rx[0].receive(&mut packets) > 0 {}
    let shape: Vec<_> = packets.iter().map(|m| (m.data().len(), m.total_len(), m.segments())).collect();
    assert_eq!(shape, [(60, 60, 1), (1024, 5000, 5), (60, 60, 1)]);
    assert_eq!(packets[1].data(), &long[..1024]);
    assert_eq!(small.in_use(), 7);
    packets[1] = packets[1].copy(&large).unwrap();
    assert_eq!((small.in_use(), large.in_use()), (2, 1));
    assert_eq!(tx[0].send(&mut packets), 3);
    drop((rx, tx, port));
    assert_eq!((small.in_use(), large.in_use()), (0, 0));
    assert_eq!(read_capture(&output), [frame(1), long, frame(2)]);
    fs::remove_file(input).unwrap();
    fs::remove_file(output).unwrap();
}
