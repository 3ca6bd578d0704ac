//! A guest that means harm: the other end of a vhost-user socket, by DPDK's
//! virtio-user, which says of its frames what is not so.
//!
//!     rogue SOCKET FROM-MAC FROM-IP TO-MAC TO-IP
//!
//! FROM is the guest's own, so that its frames get as far as they can.

#![forbid(unsafe_code)]

use std::error::Error;
use std::time::Duration;

use dpdk::{Burst, Eal, Mbuf, Mempool, MempoolConfig, Port, PortConfig, TxQueue, TxRequest};
use engine::addr::MacAddr;
use engine::packet::TcpFlags;
use engine::packet::build::Packet;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [socket, from_mac, from, to_mac, to] = &words[..] else {
        return Err("usage: rogue SOCKET FROM-MAC FROM-IP TO-MAC TO-IP".into());
    };
    let arguments = ["-l", "0", "--no-huge", "--no-shconf", "--no-pci", "-m", "128", "--log-level", "error"];
    let eal = Eal::init("rogue", &arguments.map(String::from))?;
    let _registration = eal.register_thread()?;
    let config = MempoolConfig { mbufs: 4095, cache: 0, ..MempoolConfig::default() };
    let pool = Mempool::new(&eal, "rogue", &config)?;
    let port = Port::attach(&eal, &format!("net_virtio_user0,path={socket},queues=1,queue_size=256"))?;
    let (_receive, mut send) = port.start(&PortConfig::default(), &pool)?;
    let queue = &mut send[0];
    let (from_mac, to_mac): (MacAddr, MacAddr) = (from_mac.parse()?, to_mac.parse()?);
    let tcp = |data: &[u8]| {
        let (src, dst) = (format!("{from}:1000"), format!("{to}:8080"));
        Packet::tcp(&src, &dst, TcpFlags::SYN, 1, 0, data).frame(from_mac, to_mac)
    };

    // Frames of every small length, and one that no IP packet can be as long as.
    let whole = tcp(&[7; 40]);
    for length in 1..whole.len() {
        put(queue, &pool, &whole[..length], None)?;
    }
    put(queue, &pool, &vec![0; 65_535], None)?;
    let mut longest = tcp(&[7; 1000]);
    longest.resize(65_535, 9);
    put(queue, &pool, &longest, None)?;

    // What is to be cut into nothing, into single bytes, into more than there is; and
    // headers that are elsewhere than it says, within our own buffer.
    let large = tcp(&vec![7; 40_000]);
    let honest = TxRequest { v6: false, tcp: true, l2: 14, l3: 20, l4: 20, size: None };
    for size in [0, 1, 2, 100, 312, 313, 1448, u16::MAX] {
        put(queue, &pool, &large, Some(TxRequest { size: Some(size), ..honest }))?;
        put(queue, &pool, &whole, Some(TxRequest { size: Some(size), ..honest }))?;
        let datagram = Packet::udp(&format!("{from}:1000"), &format!("{to}:8080"), &vec![1; 3000]);
        put(queue, &pool, &datagram.frame(from_mac, to_mac), Some(TxRequest { size: Some(size), ..honest }))?;
    }
    for (l2, l3, l4) in
        [(0, 0, 0), (14, 0, 0), (127, 20, 20), (14, 511, 20), (127, 511, 255), (14, 24, 20), (10, 20, 20)]
    {
        for size in [None, Some(1000)] {
            for v6 in [false, true] {
                put(queue, &pool, &whole, Some(TxRequest { v6, tcp: true, l2, l3, l4, size }))?;
                put(queue, &pool, &large, Some(TxRequest { v6, tcp: false, l2, l3, l4, size }))?;
            }
        }
    }
    // A request for what is no packet at all.
    put(queue, &pool, &[0xee; 1000], Some(TxRequest { size: Some(100), ..honest }))?;
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

/// Sends a frame of any length, as often as the ring is full.
fn put(
    queue: &mut TxQueue,
    pool: &Mempool,
    bytes: &[u8],
    request: Option<TxRequest>,
) -> Result<(), Box<dyn Error>> {
    let mut frame = Mbuf::alloc(pool).ok_or("no mbuf is left")?;
    if !frame.extend(pool, bytes) {
        return Err("no mbuf is left for a long frame".into());
    }
    if let Some(request) = request {
        frame.request(request);
    }
    let mut burst = Burst::new();
    drop(burst.push(frame));
    for _ in 0..1000 {
        queue.send(&mut burst);
        if burst.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}
