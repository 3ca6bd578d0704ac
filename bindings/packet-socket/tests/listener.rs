//! Which of many packet sockets have something. Needs root, for an interface to listen at.

use std::process::Command;
use std::time::{Duration, Instant};

use dpdk::{Burst, Eal, Mbuf, Mempool, MempoolConfig, PortConfig};
use packet_socket::{Listener, Port, RxQueue, TxQueue};

/// More than one listening tells of.
const MANY: usize = 70;

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).status().is_ok_and(|status| status.success())
}

/// Both ends of a cable, until dropped.
struct Cable([String; 2]);

impl Cable {
    fn new() -> Cable {
        let ends = ["a", "b"].map(|end| format!("sgl{}{end}", std::process::id()));
        assert!(ip(&format!("link add {} type veth peer name {}", ends[0], ends[1])), "this needs root");
        let cable = Cable(ends);
        for end in &cable.0 {
            // The kernel is not to say anything of its own.
            assert!(ip(&format!("link set {end} arp off multicast off addrgenmode none up")));
        }
        cable
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.0[0]));
    }
}

fn open(end: &str, n: usize, pool: &Mempool, large: &Mempool) -> (RxQueue, TxQueue) {
    let port = Port::open(&format!("p{n}"), end).expect("the port opens");
    let config = PortConfig { rx_queues: 1, tx_queues: 1, ..PortConfig::default() };
    let (mut receive, mut send) = port.start(&config, std::slice::from_ref(pool), large).expect("it starts");
    (receive.remove(0), send.remove(0))
}

#[test]
fn a_listener_tells_which_queues_have_something() {
    let arguments = ["-l", "0", "--no-huge", "--no-shconf", "--no-pci", "-m", "512", "--log-level", "error"];
    let eal = Eal::init("listener", &arguments.map(String::from)).expect("EAL starts");
    let pool = MempoolConfig { mbufs: 8191, cache: 0, data_room: 2048, socket: None };
    let pool = Mempool::new(&eal, "small", &pool).expect("there is memory");
    let large = MempoolConfig { mbufs: 255, cache: 0, data_room: 16_384, socket: None };
    let large = Mempool::new(&eal, "large", &large).expect("there is memory");
    let cable = Cable::new();
    let (_, mut sender) = open(&cable.0[0], MANY, &pool, &large);
    let mut queues: Vec<RxQueue> = (0..MANY).map(|n| open(&cable.0[1], n, &pool, &large).0).collect();
    let mut landing = queues[0].take_landing().expect("each queue brings one");
    let mut received = |queue: &mut RxQueue| queue.receive(&mut landing, &mut Burst::new(), |_, _| true);
    let mut listener = Listener::open().expect("there is a descriptor");
    queues.iter_mut().for_each(|queue| listener.add(queue).expect("it is listened to"));
    assert_eq!(listener.count(), MANY);

    // One that was never asked may have something, and so may one that is not listened to.
    assert!(queues.iter().all(|queue| listener.may_have(queue)));
    assert!(queues.iter_mut().all(|queue| received(queue) == 0));
    let mut stranger = open(&cable.0[1], MANY + 1, &pool, &large).0;
    assert_eq!(received(&mut stranger), 0);
    let start = Instant::now();
    listener.listen(Duration::from_millis(30));
    assert!(start.elapsed() >= Duration::from_millis(30), "it waited for what did not come");
    assert!(!queues.iter().any(|queue| listener.may_have(queue)));
    assert!(listener.may_have(&stranger));

    // A frame ends the wait; it comes to all of them.
    let mut send = || {
        let mut frame = Mbuf::alloc(&pool).expect("there is one");
        frame.append(60).expect("it has room").fill(0xff);
        let mut burst = Burst::new();
        assert!(burst.push(frame).is_ok());
        assert_eq!(sender.send(&mut burst), 1);
    };
    send();
    listener.listen(Duration::from_secs(60));
    let heard = |listener: &Listener, queues: &[RxQueue]| -> Vec<usize> {
        (0..queues.len()).filter(|at| listener.may_have(&queues[*at])).collect()
    };
    let first = heard(&listener, &queues);
    assert_eq!(first.len(), 64, "no more are told of at once");
    assert!(first.iter().all(|at| received(&mut queues[*at]) == 1));
    assert!(first.iter().all(|at| listener.may_have(&queues[*at])), "they are not silent");
    assert!(first.iter().all(|at| received(&mut queues[*at]) == 0));
    listener.listen(Duration::ZERO);
    let others = heard(&listener, &queues);
    assert_eq!(others.len(), MANY - 64, "and then of the others");
    assert!(others.iter().all(|at| !first.contains(at)));
    assert!(others.iter().all(|at| received(&mut queues[*at]) == 1 && received(&mut queues[*at]) == 0));

    // What it does not listen to any more it does not tell of; the place is another's.
    listener.remove(&mut queues[3]);
    listener.listen(Duration::ZERO);
    assert_eq!(heard(&listener, &queues), [3]);
    listener.add(&mut stranger).expect("it is listened to");
    send();
    assert_eq!(received(&mut stranger), 2, "both frames");
    assert_eq!(received(&mut stranger), 0);
    drop(queues);
    listener.listen(Duration::ZERO);
    assert!(!listener.may_have(&stranger));
    send();
    listener.listen(Duration::from_secs(60));
    assert!(listener.may_have(&stranger));

    // Where large buffers are missing, what fits an ordinary one comes all the same.
    let few = MempoolConfig { mbufs: 3, cache: 0, data_room: 16_384, socket: None };
    let few = Mempool::new(&eal, "few", &few).expect("there is memory");
    let (mut poor, _) = open(&cable.0[1], MANY + 2, &pool, &few);
    let mut landing = poor.take_landing().expect("each queue brings one");
    for _ in 0..3 {
        (0..3).for_each(|_| send());
        assert_eq!(poor.receive(&mut landing, &mut Burst::new(), |_, _| true), 3);
        assert_eq!(few.available(), 0);
    }
}
