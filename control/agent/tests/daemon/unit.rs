//! The unit that the package installs: systemd understands it, and ports open
//! with no more power than it leaves.

use std::path::Path;
use std::process::Command;

use crate::support::{Daemon, command};

const UNIT: &str = include_str!("../../../../packaging/sgswitchd.service");

/// The values of a key, each line's.
fn values(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// What systemd has to say against a unit.
fn verify(unit: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sgswitchd.service");
    std::fs::write(&path, unit.replace("/usr/sbin/sgswitchd", env!("CARGO_BIN_EXE_sgswitchd"))).unwrap();
    let mut analyze = Command::new("systemd-analyze");
    let output = analyze.args(["verify", "--man=no"]).arg(&path).output().expect("systemd is installed");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn systemd_has_nothing_against_the_unit() {
    assert_eq!(verify(UNIT), "");
    let wrong = verify(&UNIT.replace("WatchdogSec=", "WatchdogSecs="));
    assert!(wrong.contains("WatchdogSecs"), "it would say so: {wrong}");
    assert_eq!(values("Type"), ["notify"]);
    assert_eq!(values("ExecStart"), ["/usr/sbin/sgswitchd --config /etc/sgswitch/sgswitchd.toml"]);
}

/// Two ends of a cable; removed when it is dropped.
struct Cable(String);

impl Cable {
    fn new() -> Cable {
        let name = format!("sgu{}", std::process::id());
        let arguments = ["link", "add", &name, "type", "veth", "peer", "name", &format!("{name}p")];
        assert!(Command::new("ip").args(arguments).status().expect("iproute2").success());
        Cable(name)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["link", "del", &self.0]).status());
    }
}

/// The daemon's command, run with these capabilities at most, and no way to more.
fn bounded(folder: &Path, capabilities: &str, ports: &[&str]) -> Command {
    let daemon = command(folder, ports, "-l 0 --no-huge --no-shconf --no-pci -m 64");
    let mut bounded = Command::new("setpriv");
    bounded.args(["--no-new-privs", "--inh-caps=-all", &format!("--bounding-set=-all{capabilities}")]);
    bounded.arg(daemon.get_program()).args(daemon.get_args());
    bounded
}

#[test]
fn ports_open_with_the_capabilities_of_the_unit_and_not_without() {
    let folder = tempfile::tempdir().unwrap();
    let cable = Cable::new();
    let packet = format!("net_af_packet0,iface={}", cable.0);
    let tap = format!("net_tap0,iface={}t", cable.0);
    let of_unit = values("CapabilityBoundingSet").join(" ").replace("CAP_", ",+").replace(' ', "");
    let command = bounded(folder.path(), &of_unit.to_lowercase(), &["--port", &packet, "--port", &tap]);
    let daemon = Daemon::launch(folder.path(), command);
    let states = |daemon: &Daemon| {
        let shown = daemon.show("/v1/ports");
        let ports = shown["Ports"].as_array().expect("a list").iter();
        ports.map(|port| port["State"].as_str().unwrap_or_default().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(states(&daemon), ["in service", "in service"], "{}", daemon.log());
    assert!(daemon.stop().success());
    for (without, port) in [("net_raw", &packet), ("net_admin", &tap)] {
        let less = of_unit.to_lowercase().replace(&format!(",+{without}"), "");
        let daemon = Daemon::launch(folder.path(), bounded(folder.path(), &less, &["--port", port]));
        assert_eq!(states(&daemon), ["failed"], "without {without}: {}", daemon.log());
        assert!(daemon.log().contains("cannot be opened"), "{}", daemon.log());
        assert!(daemon.stop().success());
    }
}
