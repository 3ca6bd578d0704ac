//! The packet path allocates nothing, whatever comes.

#[path = "../benches/support/mod.rs"]
mod support;

use engine::offload::{Layers, Segmentation};
use engine::packet::build::{Packet, mac};
use engine::packet::{Frame, TcpFlags};
use engine::pipeline::BURST;
use support::{NOW, Rules, Switch, UPLINK, beginnings, replies, requests};

/// Frames of every kind, from port 0.
fn all_kinds() -> Vec<Vec<u8>> {
    let udp = |port: u16| Packet::udp(&format!("10.0.0.9:{port}"), "10.1.0.9:53", &[0; 40]);
    let tcp = |flags| Packet::tcp("10.0.0.8:9", "10.1.0.8:80", flags, 1, 1, b"data");
    let packets = [
        udp(1),
        udp(2),
        tcp(TcpFlags::SYN),
        tcp(TcpFlags::ACK),
        tcp(TcpFlags::RST),
        Packet::ping("10.0.0.7", "10.1.0.7", 3),
        Packet::error_about("10.0.0.9", &Packet::udp("10.1.0.9:53", "10.0.0.9:1", b""), 3, 3),
        udp(4).fragment(1, 0, true),
        udp(4).fragment(1, 48, false),
        udp(5).fragment(2, 8, true),
        Packet::udp("10.9.0.9:1", "10.1.0.9:53", b"of somebody else"),
        Packet::udp("10.0.0.9:1", "10.7.0.9:53", b"to nobody"),
    ];
    let mut frames: Vec<_> = packets.iter().map(|packet| packet.frame(mac(1), mac(2))).collect();
    frames.push(udp(6).frame(mac(1), engine::addr::MacAddr::BROADCAST));
    frames.push(vec![0; 13]);
    frames.push(vec![0xff; 60]);
    frames
}

#[test]
fn bursts_allocate_nothing() {
    let all = [Rules::Block, Rules::Everyone, Rules::Nothing, Rules::Outbound];
    for (rules, kind) in all.into_iter().flat_map(|rules| (0..4).map(move |kind| (rules, kind))) {
        let mut switch = Switch::new(2000, 1500, rules);
        match kind {
            1 => switch.keep_accounts(),
            2 => switch.move_beyond(2, false),
            3 => switch.move_beyond(2, true),
            _ => {}
        }
        // More flows than there is room for, and than one end may have, so that some are given up.
        let (there, back, odd) = (requests(4096), replies(4096), all_kinds());
        let flood = beginnings(4096);
        let counted = allocation_counter::measure(|| {
            for ((there, back), flood) in there.chunks(BURST).zip(back.chunks(BURST)).zip(flood.chunks(BURST))
            {
                switch.run(0, there);
                switch.run(UPLINK, flood);
                switch.run(1, back);
                switch.run(0, &odd);
                switch.pipeline.housekeep(NOW);
                switch.pipeline.tell_accounts(0, 64, &mut |_| ());
            }
        });
        assert_eq!(counted.count_total, 0, "{counted:?}");
        assert!(there.len() > switch.pipeline.table().capacity());
    }
}

#[test]
fn completing_and_cutting_allocate_nothing() {
    for (src, dst) in [("10.0.0.9:1", "10.1.0.9:80"), ("[fd00::9]:1", "[fd00::8]:80")] {
        let packets =
            [Packet::tcp(src, dst, TcpFlags::ACK, 1, 1, &[5; 9000]), Packet::udp(src, dst, &[5; 9000])];
        for frame in packets.map(|packet| packet.frame(mac(1), mac(2))) {
            let mut sums = 0;
            let counted = allocation_counter::measure(|| {
                let layers = Layers::of(Frame::whole(&frame)).expect("it is TCP or UDP");
                let segments = || frame.chunks(2048);
                sums += u32::from(layers.completed(segments()));
                let cut = Segmentation::new(&frame, layers, 1448).expect("it can be cut");
                (0..cut.count()).for_each(|index| sums += cut.headers(index, segments()).len() as u32);
            });
            assert_eq!((counted.count_total, sums > 7 * 40), (0, true), "{counted:?}");
        }
    }
}

#[test]
fn an_allocation_would_be_noticed() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![0u8; 9])));
    assert_eq!(counted.count_total, 1);
}
