//! TCP through real stacks: two namespaces joined by a veth pair, by a Linux
//! bridge with nftables, and by the switch.

use std::io;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::command::{run, try_run};
use crate::lab::{Instance, Kind, Lab, Options};
use crate::policy::{all, document, from_group, group};

/// How the two namespaces are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By one veth pair.
    Veth,
    /// By a Linux bridge that lets one port and what belongs to it pass.
    Bridge,
    /// By the switch with ports of this kind, under groups that permit the same.
    Switch(Kind),
}

impl Way {
    /// All, in the order in which they take turns.
    pub const ALL: [Way; 6] = [
        Way::Veth,
        Way::Bridge,
        Way::Switch(Kind::PacketSocket),
        Way::Switch(Kind::AfXdp),
        Way::Switch(Kind::AfPacket),
        Way::Switch(Kind::Tap),
    ];

    /// The stable name.
    pub fn label(self) -> String {
        match self {
            Way::Veth => "veth".to_string(),
            Way::Bridge => "bridge and nftables".to_string(),
            Way::Switch(kind) => format!("sgswitch, {}", kind.label()),
        }
    }
}

/// What one way carries.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Which.
    pub way: Way,
    /// Connections at once.
    pub streams: u32,
    /// Gigabits of data per second, one figure of each round.
    pub gigabits: Vec<f64>,
}

impl Stream {
    /// The one in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.gigabits.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Where iperf3 listens.
const PORT: u16 = 5201;

/// Measures all ways in turn, with an MTU of 1500 and the kernel's offloads as
/// they are: on, but for `net_af_packet`, which carries no super-frames.
///
/// # Errors
/// If iperf3 does not get through.
pub fn measure(rounds: usize, tell: impl Fn(&str)) -> io::Result<Vec<Stream>> {
    let mut streams: Vec<Stream> = Way::ALL
        .into_iter()
        .flat_map(|way| [1, 4].map(|streams| Stream { way, streams, gigabits: vec![] }))
        .collect();
    for round in 0..rounds {
        for way in Way::ALL {
            let kind = if let Way::Switch(kind) = way { kind } else { Kind::PacketSocket };
            let mut lab = Lab::of(&[("client", kind), ("server", kind)]);
            let _joined = join(way, &mut lab);
            let mut server = iperf3(lab.instance("server"), &["-s"]).spawn()?;
            // Until it listens, and the switch's ports are up.
            sleep(Duration::from_millis(500));
            let result: io::Result<()> =
                streams.iter_mut().filter(|stream| stream.way == way).try_for_each(|stream| {
                    tell(&format!("round {}: {}, {} streams", round + 1, way.label(), stream.streams));
                    stream.gigabits.push(send(&lab, stream.streams)?);
                    Ok(())
                });
            stop(&mut server);
            result?;
        }
    }
    Ok(streams)
}

fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn iperf3(instance: &Instance, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", instance.netns(), "iperf3", "-p", &PORT.to_string()]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn send(lab: &Lab, streams: u32) -> io::Result<f64> {
    let (server, streams) = (lab.instance("server").v4(), streams.to_string());
    let mut command = iperf3(lab.instance("client"), &["-c", &server, "-t", "3", "-P", &streams, "-J"]);
    let output = command.stdout(Stdio::piped()).output()?;
    let report: Value = serde_json::from_slice(&output.stdout).map_err(io::Error::other)?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
    bits.map(|bits| bits / 1e9).ok_or_else(|| io::Error::other(format!("iperf3: {}", report["error"])))
}

/// The namespace of the bridge, which goes when dropped.
struct Joined(String);

impl Drop for Joined {
    fn drop(&mut self) {
        try_run(&format!("ip netns del {}", self.0));
    }
}

fn join(way: Way, lab: &mut Lab) -> Joined {
    let joined = Joined(format!("sgbench-{:x}", std::process::id()));
    let [client, server] = ["client", "server"].map(|name| lab.instance(name).clone());
    match way {
        Way::Veth => {
            for instance in [&client, &server] {
                run(&format!("ip -n {} link del eth0", instance.netns()));
            }
            let (one, other) = (client.netns(), server.netns());
            run(&format!("ip -n {one} link add eth0 type veth peer name eth0 netns {other}"));
            for instance in [&client, &server] {
                let netns = instance.netns();
                run(&format!("ip -n {netns} addr add {}/24 dev eth0", instance.v4()));
                run(&format!("ip -n {netns} link set eth0 up"));
            }
        }
        Way::Bridge => {
            // With rules of its own, and its packets shown to them.
            let netns = &joined.0;
            run(&format!("ip netns add {netns}"));
            run(&format!("ip -n {netns} link add bridge0 type bridge"));
            run(&format!("ip netns exec {netns} sysctl -qw net.bridge.bridge-nf-call-iptables=1"));
            for instance in [&client, &server] {
                run(&format!("ip link set {} netns {netns}", instance.host()));
                run(&format!("ip -n {netns} link set {} master bridge0 up", instance.host()));
            }
            run(&format!("ip -n {netns} link set bridge0 up"));
            let nft = |words: &str| run(&format!("ip netns exec {netns} nft {words}"));
            nft("add table ip bench");
            nft("add chain ip bench forward {type filter hook forward priority 0;policy drop;}");
            nft("add rule ip bench forward ct state established,related accept");
            nft(&format!(
                "add rule ip bench forward ct state new ip saddr {} tcp dport {PORT} accept",
                client.v4()
            ));
        }
        Way::Switch(_) => {
            lab.start(&Options::default());
            let groups = [
                group("sg-client", &[], &[all()]),
                group("sg-server", &[from_group("tcp", PORT, PORT, "sg-client")], &[all()]),
            ];
            let policy = document(lab, &groups, &[("client", &["sg-client"]), ("server", &["sg-server"])]);
            lab.push(&policy);
        }
    }
    joined
}
