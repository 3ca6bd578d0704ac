//! The disk of the appliance boots: systemd is its first process, the package's unit comes
//! up with the package's configuration, over hugepages, and judges what passes between
//! namespaces outside of the machine, by cards; a daemon that hangs is replaced.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use system_tests::policy::{all, document, from_group, group, ping_from};
use system_tests::{Kind, Lab, Machine, must, script};

const OPEN: &str = "8080";
const SHUT: &str = "8081";

/// What answers at the second serial port.
const CONSOLE: &str = r#"#!/bin/sh
stty -F /dev/ttyS1 raw -echo
exec 3<> /dev/ttyS1
echo ready >&3
while read -r line <&3; do
    eval "$line" >&3 2>&3 3>&-
    echo "status $?" >&3
done
"#;

const CONSOLE_UNIT: &str = "[Service]\nExecStart=/usr/local/sbin/console\n";

/// Makes the disk, with a console for this test on it.
fn disk(folder: &Path) -> PathBuf {
    let overlay = folder.join("overlay");
    let put = |path: &str, text: &str, mode: u32| {
        let path = overlay.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    put("usr/local/sbin/console", CONSOLE, 0o755);
    put("etc/systemd/system/console.service", CONSOLE_UNIT, 0o644);
    let wants = overlay.join("etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir(&wants).unwrap();
    symlink("../console.service", wants.join("console.service")).unwrap();
    let (keys, disk) = (folder.join("keys"), folder.join("disk.qcow2"));
    std::fs::write(&keys, "ssh-ed25519 AAAA operator\n").unwrap();
    must(script("disk").arg("--authorized-keys").arg(&keys).arg("--overlay").arg(&overlay).arg(&disk));
    disk
}

fn hardware(lab: &Lab) -> Vec<String> {
    let mut words: Vec<String> =
        ["-M", "q35", "-m", "1536", "-smp", "2", "-device", "intel-iommu,intremap=off"]
            .map(String::from)
            .into();
    let cards = ["e1000e,addr=0x10", "virtio-net-pci,addr=0x11,disable-legacy=on,iommu_platform=on"];
    for (instance, card) in lab.instances().iter().zip(cards) {
        let (name, host, number) = (&instance.name, instance.host(), instance.number);
        words.extend(["-netdev".to_string(), format!("tap,id={name},ifname={host},script=no,downscript=no")]);
        words
            .extend(["-device".to_string(), format!("{card},netdev={name},mac=02:00:00:00:01:{number:02x}")]);
    }
    words
}

const ADDRESSES: [&str; 2] = ["0000:00:10.0", "0000:00:11.0"];

fn property(machine: &Machine, name: &str) -> String {
    machine.must(&format!("systemctl show --value -p {name} sgswitchd")).trim().to_string()
}

/// Waits until a line of shell succeeds.
fn wait_for(machine: &Machine, line: &str) {
    let done = (0..60).any(|_| machine.run(&format!("{line} || {{ sleep 2; false; }}")).0 == 0);
    assert!(done, "{line}: {}", machine.run("systemctl status sgswitchd; journalctl -u sgswitchd -n 50").1);
}

fn judged(lab: &Lab, machine: &Machine) {
    for (from, to) in [("alpha", "beta"), ("beta", "alpha")] {
        let (from, to) = (lab.instance(from), lab.instance(to));
        let _served = [to.serve(&["transfer-server", OPEN]), to.serve(&["tcp-echo", SHUT])];
        for host in [to.v4(), to.v6()] {
            let told = || machine.run("sgctl drops; sgctl port show; journalctl -u sgswitchd").1;
            assert!((0..10).any(|_| from.ping(&host)), "{host}: {}", told());
            for direction in ["up", "down"] {
                let passed = from.probe(&["transfer", direction, &host, OPEN, "1000000"]);
                assert!(passed, "{direction} to {host}: {}", machine.run("sgctl drops").1);
            }
            assert!(!from.probe(&["tcp", &host, SHUT]), "TCP {SHUT} of {host}");
        }
    }
}

#[test]
#[ignore = "bootstraps Debian and boots it emulated, which takes minutes: scripts/test --vm"]
fn the_disk_boots_and_its_unit_judges_and_outlives_a_hang() {
    let lab = Lab::of(&[("alpha", Kind::Tap), ("beta", Kind::Tap)]);
    let disk = disk(lab.folder());
    let machine = Machine::boot_disk(lab.folder(), "appliance", &disk, &hardware(&lab));

    // As it comes: systemd, the unit with all that it asks of the kernel, the package's
    // configuration, hugepages.
    assert_eq!(machine.must("cat /proc/1/comm").trim(), "systemd");
    wait_for(&machine, "systemctl is-active --quiet sgswitchd");
    let of = |name: &str| property(&machine, name);
    assert_eq!((of("Type"), of("NotifyAccess")), ("notify".to_string(), "main".to_string()));
    assert_eq!((of("WatchdogUSec"), of("NRestarts")), ("10s".to_string(), "0".to_string()));
    let process = of("MainPID");
    let status = machine.must(&format!("cat /proc/{process}/status"));
    // CAP_NET_ADMIN and CAP_NET_RAW, no new privileges, a filter of system calls.
    for line in ["CapEff:\t0000000000003000", "CapBnd:\t0000000000003000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.lines().any(|found| found == line), "{line}: {status}");
    }
    machine.must(&format!("! nsenter -t {process} -m touch /usr/forbidden /etc/forbidden"));
    assert!(machine.must("cat /proc/cmdline").contains("intel_iommu=on"));
    let pages = machine.must("cat /proc/meminfo");
    let pages = |name: &str| {
        let line = pages.lines().find(|line| line.starts_with(name)).expect("a line of the kernel's");
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(pages("HugePages_Total:"), 256);
    assert!(pages("HugePages_Free:") < 256, "the daemon uses them");
    assert!(machine.must("sgctl -o json show status").contains("closed"), "no policy was pushed");
    assert_eq!(machine.must("stat -c %a%U /root/.ssh/authorized_keys").trim(), "600root");
    wait_for(&machine, "systemctl is-active --quiet ssh && test -s /etc/ssh/ssh_host_ed25519_key");
    assert_eq!(machine.run("systemctl --failed --quiet --plain").1.trim(), "");

    // Cards, handed over by their units, and a policy.
    for (address, instance) in ADDRESSES.iter().zip(lab.instances()) {
        machine.must("echo 1 > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts");
        machine.must(&format!("systemctl enable --quiet --now sgswitch-vfio@{address}"));
        machine.must(&format!("sgctl port add {} {address}", instance.name));
        instance.move_tap();
    }
    let mut open = vec![from_group("tcp", 8080, 8080, "sg-all")];
    open.extend(ping_from("sg-all"));
    let groups = [group("sg-all", &open, &[all()])];
    let policy = document(&lab, &groups, &[("alpha", &["sg-all"]), ("beta", &["sg-all"])]);
    machine.must(&format!("echo '{policy}' > /root/policy.json; sgctl push /root/policy.json"));
    judged(&lab, &machine);

    // One that hangs says nothing to systemd, which replaces it: ports and policy are back.
    let (process, restarts) = (of("MainPID"), of("NRestarts"));
    machine.must(&format!("kill -STOP {process}"));
    wait_for(&machine, &format!("test $(systemctl show --value -p NRestarts sgswitchd) -gt {restarts}"));
    wait_for(&machine, "systemctl is-active --quiet sgswitchd");
    assert_ne!(of("MainPID"), process);
    let journal = machine.must("journalctl -u sgswitchd");
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    let shown = machine.must("sgctl -o json port show");
    assert_eq!(shown.matches("\"in service\"").count(), 2, "as many ports as were added: {shown}");
    judged(&lab, &machine);
}
