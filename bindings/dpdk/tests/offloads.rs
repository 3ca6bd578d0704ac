//! What packets say of their offloads, and what ports say they do.

mod support;

use dpdk::{Burst, Mbuf, Offload, Port, PortConfig, TxOffloads, TxRequest};
use support::{burst, eal, frame, pool, unique};

#[test]
fn a_packet_keeps_what_its_sender_has_left_to_others() {
    let pool = pool(2048);
    let mut mbuf = Mbuf::from_bytes(&pool, &frame(1)).unwrap();
    assert_eq!((mbuf.has_offload(), mbuf.offload()), (false, None));
    for offload in [Offload::Checksum, Offload::Segments(1448), Offload::Segments(0)] {
        mbuf.set_offload(Some(offload));
        assert_eq!((mbuf.has_offload(), mbuf.offload()), (true, Some(offload)));
        assert_eq!(mbuf.copy(&pool).unwrap().offload(), Some(offload), "copies for a flood");
    }
    mbuf.set_note(u64::MAX);
    mbuf.set_port(3);
    assert_eq!(mbuf.offload(), Some(Offload::Segments(0)), "what rings need is elsewhere");
    assert_eq!(mbuf.requested(), None);
    for (v6, tcp, size) in
        [(false, true, Some(1000)), (true, true, None), (true, false, Some(9)), (false, false, None)]
    {
        let request = TxRequest { v6, tcp, l2: 18, l3: 40, l4: 32, size };
        mbuf.request(request);
        assert_eq!((mbuf.offload(), mbuf.requested()), (None, Some(request)), "it takes the offload's place");
    }
    mbuf.set_offload(None);
    assert_eq!(mbuf.data(), frame(1));
}

#[test]
fn a_packet_grows_over_segments_and_shows_all_of_them() {
    let (large, small) = (pool(2048), pool(256));
    let bytes: Vec<u8> = (0..1000u16).map(|i| (i / 3) as u8).collect();
    let mut mbuf = Mbuf::from_bytes(&large, &bytes[..100]).unwrap();
    assert!(mbuf.extend(&small, &bytes[100..]));
    assert_eq!((mbuf.segments(), mbuf.total_len()), (1, 1000), "what fits stays together");
    drop(mbuf);
    let mut mbuf = Mbuf::from_bytes(&small, &bytes[..100]).unwrap();
    assert!(mbuf.extend(&small, &bytes[100..]) && mbuf.extend(&small, &[]));
    // 256 in the first, 256 in each that follows.
    assert_eq!((mbuf.segments(), mbuf.total_len(), small.in_use()), (4, 1000, 4));
    assert_eq!(mbuf.segment_data().flatten().copied().collect::<Vec<u8>>(), bytes);
    let tail = mbuf.copy(&large).unwrap();
    mbuf.chain(tail).unwrap();
    assert_eq!((mbuf.segments(), mbuf.total_len()), (5, 2000));
    assert_eq!(mbuf.segment_data().last().unwrap(), bytes);
    drop(mbuf);
    assert_eq!((small.in_use(), large.in_use()), (0, 0));
}

#[test]
fn a_pool_without_mbufs_adds_none() {
    let (large, small) = (pool(2048), pool(256));
    let mut taken: Vec<Mbuf> = (0..2046).map(|_| Mbuf::alloc(&small).unwrap()).collect();
    let mut mbuf = Mbuf::from_bytes(&large, &[1; 2048]).unwrap();
    assert!(!mbuf.extend(&small, &[2; 300]));
    assert!(mbuf.total_len() <= 2048 + 256);
    drop(mbuf);
    taken.clear();
    assert_eq!((small.in_use(), large.in_use()), (0, 0));
}

#[test]
fn ports_of_software_leave_offloads_to_us() {
    let pool = pool(2048);
    let port = Port::attach(&eal(), &unique("net_null9")).unwrap();
    let (_rx, mut tx) = port.start(&PortConfig::default(), &pool).unwrap();
    assert_eq!(tx[0].offloads(), TxOffloads::default());
    let mut burst: Burst = burst(&pool, 0..4);
    assert_eq!(tx[0].send(&mut burst), 4);
}

#[test]
fn a_vhost_port_without_a_guest_cuts_nothing() {
    let pool = pool(2048);
    let socket = std::env::temp_dir().join(format!("sgswitch-offloads-{}.sock", std::process::id()));
    let device = format!("net_vhost7,iface={},tso=1", socket.display());
    let port = Port::attach(&eal(), &device).unwrap();
    let (_rx, tx) = port.start(&PortConfig::default(), &pool).unwrap();
    assert_eq!(tx[0].offloads(), TxOffloads { checksum: true, ..TxOffloads::default() });
    drop((tx, _rx, port));
    // The same number again is watched again.
    let port = Port::attach(&eal(), &device).unwrap();
    port.start(&PortConfig::default(), &pool).unwrap();
    drop(port);
    drop(std::fs::remove_file(socket));
}
