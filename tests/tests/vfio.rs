//! Network cards by VFIO, in a machine with an emulated IOMMU: the packaged switch
//! takes two kinds of them, and judges what passes between namespaces outside of
//! that machine.

use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::policy::{all, document, from_group, group, ping_from};
use system_tests::{Kind, Lab, Machine, ask};

const OPEN: &str = "8080";
const SHUT: &str = "8081";

/// Vendor and device: an Intel 82574L, and a virtio network card.
const E1000E: &str = "8086:10d3";
const VIRTIO: &str = "1af4:1041";

/// An Intel 82540EM, and VMware's paravirtual card.
const E1000: &str = "8086:100e";
const VMXNET3: &str = "15ad:07b0";

/// The lines of `sgswitch-vfio status`, word by word.
fn status(machine: &Machine) -> Vec<Vec<String>> {
    let text = machine.must("sgswitch-vfio status");
    text.lines().skip(1).map(|line| line.split_whitespace().map(String::from).collect()).collect()
}

fn find(machine: &Machine, id: &str) -> Vec<String> {
    let all = status(machine);
    all.iter().find(|words| words[1] == id).unwrap_or_else(|| panic!("{id} in {all:?}")).clone()
}

/// A machine with a card for each instance, or for each member of its bond.
fn hardware(lab: &Lab, iommu: bool, cards: [&str; 2]) -> Vec<String> {
    let mut words: Vec<String> = ["-M", "q35", "-m", "1024", "-smp", "2"].map(String::from).into();
    if iommu {
        words.extend(["-device", "intel-iommu,intremap=off"].map(String::from));
    }
    for (instance, card) in lab.instances().iter().zip(cards) {
        let taps = match instance.kind {
            Kind::Bond => instance.members().to_vec(),
            _ => vec![instance.host().to_string()],
        };
        for (which, tap) in taps.iter().enumerate() {
            let mac = format!("02:00:00:00:{:02x}:{:02x}", which + 1, instance.number);
            words.extend([
                "-netdev".to_string(),
                format!("tap,id={tap},ifname={tap},script=no,downscript=no"),
            ]);
            words.extend(["-device".to_string(), format!("{card},netdev={tap},mac={mac}")]);
        }
    }
    words
}

fn prepare(machine: &Machine) {
    machine.must("echo 200 > /proc/sys/vm/nr_hugepages; mkdir -p /run/sgswitch /var/lib/sgswitch");
}

/// Starts the packaged switch over these cards, as root without a single power of root's.
/// It must be allowed to lock memory: otherwise it says so, and takes no card. `eal` is
/// for DPDK. Returns what it shows of its ports.
fn start(machine: &Machine, devices: [&str; 2], eal: &str, limit: &str) -> String {
    let [alpha, beta] = devices;
    let wait = "for i in $(seq 100); do sgctl show status > /dev/null 2>&1 && break; usleep 100000; done";
    machine.must(&format!(
        "ulimit -l {limit}; /usr/bin/setpriv --bounding-set=-all sgswitchd --idle sleep --cores 1 \
         --connections 10000 --mbufs 8191 --port alpha={alpha} --port beta={beta} -- -l 0 --in-memory {eal} \
         > /tmp/daemon.log 2>&1 & echo $! > /tmp/pid; {wait}"
    ));
    machine.run("sgctl -o json port show").1
}

const STOP: &str = "kill $(cat /tmp/pid); \
    for i in $(seq 50); do kill -0 $(cat /tmp/pid) 2> /dev/null || break; usleep 100000; done";

/// A policy, and traffic both ways between the namespaces under it.
fn judged(lab: &Lab, machine: &Machine) {
    for instance in lab.instances() {
        match instance.kind {
            Kind::Bond => instance.bridge(),
            _ => instance.move_tap(),
        }
    }
    let mut open = vec![from_group("tcp", 8080, 8080, "sg-all"), from_group("udp", 8080, 8080, "sg-all")];
    open.extend(ping_from("sg-all"));
    let groups = [group("sg-all", &open, &[all()])];
    let policy = document(lab, &groups, &[("alpha", &["sg-all"]), ("beta", &["sg-all"])]);
    machine.must(&format!("echo '{policy}' > /tmp/policy.json; sgctl push /tmp/policy.json"));

    for (from, to) in [("alpha", "beta"), ("beta", "alpha")] {
        let (from, to) = (lab.instance(from), lab.instance(to));
        let served = [["transfer-server", OPEN], ["udp-echo", OPEN], ["tcp-echo", SHUT]];
        let _served: Vec<_> = served.iter().map(|words| to.serve(words)).collect();
        for host in [to.v4(), to.v6()] {
            assert!(
                (0..10).any(|_| from.ping(&host)),
                "{host}: {}",
                machine.run("sgctl drops; sgctl port show").1
            );
            for direction in ["up", "down"] {
                let passed = from.probe(&["transfer", direction, &host, OPEN, "2000000"]);
                assert!(passed, "{direction} to {host}: {}", machine.run("sgctl drops").1);
            }
            assert!(from.probe(&["udp", &host, OPEN]), "UDP to {host}");
        }
        let opened = from.reaches(to, SHUT);
        assert_eq!(opened, [false; 4], "TCP and UDP {SHUT}, over IPv4 and IPv6");
        assert_eq!((from.checksum_errors(), to.checksum_errors()), (0, 0));
    }
    assert!(machine.must("sgctl drops").contains("inbound_denied"));
}

/// Generous: the machine is emulated, and looks at links once a second.
fn within_a_while(machine: &Machine, what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        let shown =
            || machine.run("sgctl -o json port show alpha; sgctl drops; tail -n 30 /tmp/daemon.log").1;
        assert!(Instant::now() < deadline, "{what}: {}", shown());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Under the policy of [`judged`], alpha by a bond of two cards. It changes over when
/// the member that sends loses its link; when both have lost theirs it has none itself.
fn changes_over(lab: &Lab, machine: &Machine) {
    let (alpha, beta) = (lab.instance("alpha"), lab.instance("beta"));
    let members = alpha.members();
    let shown = |what: &str| {
        let text = machine.must("sgctl -o json port show alpha");
        serde_json::from_str::<Value>(&text).unwrap()[what].clone()
    };
    // A cable has two ends.
    let set = |member: usize, up| {
        machine.set_link(&members[member], up);
        alpha.set_member(member, up);
    };
    let _served: Vec<_> = [alpha, beta]
        .into_iter()
        .flat_map(|to| {
            [to.serve(&["tcp-echo", OPEN]), to.serve(&["tcp-echo", SHUT]), to.serve(&["udp-echo", SHUT])]
        })
        .collect();
    let open = OPEN.parse().unwrap();
    let mut talks = Vec::new();
    within_a_while(machine, "the bond carries", || alpha.ping(&beta.v4()) && beta.ping(&alpha.v6()));
    assert!(!alpha.large_ping(&beta.v6(), 8900), "nobody has told it an MTU");
    lab.instances().iter().for_each(|instance| instance.set_mtu(1500));
    for (from, host) in [(alpha, beta.v6()), (beta, alpha.v4())] {
        talks.push(from.talk("tcp", &host, open).expect("a conversation"));
    }
    let mut carried_by = |member: usize, what: &str| {
        for talk in &mut talks {
            within_a_while(machine, what, || talk.lives());
        }
        let before = [0, 1].map(|member| alpha.received_by_member(member));
        assert!(talks.iter_mut().all(|talk| talk.lives()), "{what}: they go on");
        let after = [0, 1].map(|member| alpha.received_by_member(member));
        assert!(after[member] > before[member], "{what}: {before:?} {after:?}");
        assert_eq!(after[1 - member], before[1 - member], "{what}: by one member only");
        assert!(beta.probe(&["tcp", &alpha.v4(), OPEN]), "{what}: a new connection");
        let opened =
            ask([&|| beta.probe(&["tcp", &alpha.v4(), SHUT]), &|| alpha.probe(&["udp", &beta.v6(), SHUT])]);
        assert_eq!(opened, [false; 2], "{what}: TCP {SHUT} by the bond, UDP {SHUT} from it");
        assert_eq!(shown("LinkUp"), true, "{what}");
    };
    carried_by(0, "with both links");
    set(0, false);
    carried_by(1, "the sending member's link lost");
    assert_eq!(shown("LinkLosses"), 0, "the bond has kept its own");

    set(1, false);
    within_a_while(machine, "no link is left", || shown("LinkUp") == false && shown("LinkLosses") == 1);
    assert!(!beta.ping(&alpha.v4()));
    set(0, true);
    carried_by(0, "the first link is back");
    set(1, true);
    set(0, false);
    // It may have none for a moment.
    carried_by(1, "so is the second, and the first lost again");
}

#[test]
fn cards_are_bound_judged_and_given_back() {
    let lab = Lab::of(&[("alpha", Kind::Bond), ("beta", Kind::Tap)]);
    let hardware = hardware(&lab, true, ["e1000e", "virtio-net-pci,disable-legacy=on,iommu_platform=on"]);
    let machine = Machine::boot(lab.folder(), "appliance", "initrd-switch", "intel_iommu=on", &hardware);
    machine.must("echo 1 > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts");

    // What carries the default route is refused, and what is no network card.
    let (virtio, e1000e) = (find(&machine, VIRTIO), find(&machine, E1000E));
    let (address, interface) = (&virtio[0], &virtio[4]);
    assert_eq!(virtio[2], "virtio-pci", "{virtio:?}");
    machine.must(&format!("ip addr add 192.0.2.1/24 dev {interface}; ip link set {interface} up"));
    machine.must("ip route add default via 192.0.2.2");
    let (code, text) = machine.run(&format!("sgswitch-vfio bind {} {address}", e1000e[0]));
    assert!(code == 1 && text.contains("carries the machine's default route"), "{text}");
    assert!(machine.must("sgswitch-vfio status").contains("(default route)"));
    assert_eq!(find(&machine, E1000E), e1000e, "nothing has changed");
    for (words, said) in [
        ("bind 0000:00:00.0", "is no network device"),
        ("bind 0000:77:00.0", "there is no PCI device"),
        ("bind eth0", "is no PCI address"),
    ] {
        let (code, text) = machine.run(&format!("sgswitch-vfio {words}"));
        assert!(code == 1 && text.contains(said), "{words}: {text}");
    }
    let (code, text) = machine.run(&format!("sgswitch-vfio unbind {address}"));
    assert!(code == 1 && text.contains("is not bound to vfio-pci"), "{text}");

    let text = machine.must(&format!("sgswitch-vfio bind --force {} {address}", e1000e[0]));
    assert_eq!(text.matches("-> vfio-pci, IOMMU group").count(), 2, "{text}");
    let bound = [find(&machine, VIRTIO), find(&machine, E1000E)];
    assert!(bound.iter().all(|words| words[2] == "vfio-pci"), "{bound:?}");
    assert_ne!(bound[0][3], bound[1][3], "each has an IOMMU group of its own");

    prepare(&machine);
    let second = status(&machine).into_iter().rfind(|words| words[1] == E1000E).unwrap();
    assert_ne!(second[0], e1000e[0]);
    machine.must(&format!("sgswitch-vfio bind {}", second[0]));
    let bond = format!("--vdev net_bonding0,mode=1,slave={},slave={}", e1000e[0], second[0]);
    let shown = start(&machine, ["net_bonding0", address], &bond, "8192");
    assert_eq!(shown.matches("LimitMEMLOCK").count(), 2, "{shown}");
    assert!(!shown.contains("in service"), "{shown}");
    machine.must(STOP);
    let jumbo = [&e1000e[0], address].map(|card| format!("{card},mtu=9000"));
    let shown = start(&machine, [&jumbo[0], &jumbo[1]], "", "unlimited");
    let log = machine.must("cat /tmp/daemon.log");
    assert!(shown.contains("net_e1000_em") && shown.contains("net_virtio"), "{shown}\n{log}");
    assert!(!log.contains("Cannot set up DMA remapping"), "{log}");

    judged(&lab, &machine);
    lab.instances().iter().for_each(|instance| instance.set_mtu(9000));
    for (from, to) in [("alpha", "beta"), ("beta", "alpha")] {
        let (from, to) = (lab.instance(from), lab.instance(to));
        assert!(from.large_ping(&to.v6(), 8900), "{}", machine.run("sgctl -o json port show").1);
        let _served = to.serve(&["transfer-server", OPEN]);
        assert!(from.probe(&["transfer", "up", &to.v4(), OPEN, "2000000"]));
    }
    machine.must(STOP);

    // The same card with another one as a bond.
    let shown = start(&machine, ["net_bonding0", address], &bond, "unlimited");
    assert_eq!(shown.matches("in service").count(), 2, "members are no ports: {shown}");
    changes_over(&lab, &machine);

    // The kernel has them back.
    machine.must(STOP);
    let text = machine.must(&format!("sgswitch-vfio unbind {address}"));
    assert!(text.contains("vfio-pci -> virtio-pci"), "{text}");
    assert_eq!(find(&machine, VIRTIO)[2], "virtio-pci");
}

/// Two kinds more, one of them of the old bus.
#[test]
fn cards_of_other_kinds_are_judged_alike() {
    let lab = Lab::of(&[("alpha", Kind::Tap), ("beta", Kind::Tap)]);
    let hardware = hardware(&lab, true, ["e1000", "vmxnet3"]);
    let machine = Machine::boot(lab.folder(), "appliance", "initrd-switch", "intel_iommu=on", &hardware);
    machine.must("echo 1 > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts");
    let addresses = [E1000, VMXNET3].map(|id| find(&machine, id)[0].clone());
    machine.must(&format!("sgswitch-vfio bind {}", addresses.join(" ")));
    prepare(&machine);
    let shown = start(&machine, [&addresses[0], &addresses[1]], "", "unlimited");
    let log = machine.must("cat /tmp/daemon.log");
    assert!(shown.contains("net_e1000_em") && shown.contains("net_vmxnet3"), "{shown}\n{log}");
    judged(&lab, &machine);
}

#[test]
fn without_an_iommu_no_card_is_taken() {
    let lab = Lab::of(&[("alpha", Kind::Tap), ("beta", Kind::Tap)]);
    let hardware = hardware(&lab, false, ["e1000e", "vmxnet3"]);
    let machine = Machine::boot(lab.folder(), "appliance", "initrd-switch", "", &hardware);
    let before = status(&machine);
    let addresses = format!("{} {}", find(&machine, E1000E)[0], find(&machine, VMXNET3)[0]);
    let (code, text) = machine.run(&format!("sgswitch-vfio bind {addresses}"));
    assert!(code == 1 && text.contains("is behind no IOMMU"), "{text}");
    // Debian's kernels have no such mode; nothing is half done.
    let (code, text) = machine.run(&format!("sgswitch-vfio bind --no-iommu {addresses}"));
    assert!(code == 1 && text.contains("UNSAFE") && text.contains("CONFIG_VFIO_NOIOMMU"), "{text}");
    assert_eq!(status(&machine), before);
}
