//! The demonstration: a switch between real network stacks, a policy, and a
//! table of what passes and what does not.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use system_tests::policy::{all, document, from_everyone, from_group, group, ping_from};
use system_tests::{Lab, Options, stop_on_signals};

/// Lines of the table.
#[derive(Default)]
struct Table {
    lines: usize,
    differ: usize,
}

impl Table {
    fn section(&self, title: &str) {
        println!("\n{title}");
    }

    /// One attempt: what the rules say, and what was seen.
    fn line(&mut self, attempt: &str, expected: bool, observed: bool) {
        let word = |passes| if passes { "allowed" } else { "denied" };
        let ok = if expected == observed { "ok" } else { "DIFFERS" };
        println!("  {attempt:<66} {:<8} {:<8} {ok}", word(expected), word(observed));
        self.lines += 1;
        self.differ += usize::from(expected != observed);
    }
}

/// What the demonstration changes in its policy as it goes.
#[derive(Clone, Copy)]
struct Stage {
    /// Whether web still has its rule for everyone on port 80.
    open_web: bool,
    /// Whether clients still reach web on port 22.
    ssh: bool,
    /// Whether the stranger has become a client.
    stranger_is_client: bool,
}

/// web serves HTTP to everyone, SSH, DNS and ping to clients; db serves web alone.
fn policy(lab: &Lab, stage: Stage) -> Value {
    let mut web = Vec::from(ping_from("sg-clients"));
    web.push(from_group("udp", 53, 53, "sg-clients"));
    if stage.open_web {
        web.push(from_everyone("tcp", 80, 80));
    }
    if stage.ssh {
        web.push(from_group("tcp", 22, 22, "sg-clients"));
    }
    let groups = [
        group("sg-web", &web, &[all()]),
        group("sg-db", &[from_group("tcp", 5432, 5432, "sg-web")], &[]),
        group("sg-clients", &[], &[all()]),
        group("sg-strangers", &[], &[all()]),
    ];
    let stranger: &[&str] = if stage.stranger_is_client { &["sg-clients"] } else { &["sg-strangers"] };
    let members: [(&str, &[&str]); 4] =
        [("web", &["sg-web"]), ("db", &["sg-db"]), ("client", &["sg-clients"]), ("stranger", stranger)];
    document(lab, &groups, &members)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let once = arguments.iter().any(|a| a == "--once");
    let hugepages = arguments.iter().any(|a| a == "--hugepages");
    let stopped = stop_on_signals();
    println!("== namespaces with veth pairs: web, db, client, stranger");
    let mut lab = Lab::new(&["web", "db", "client", "stranger"]);
    let memory = if hugepages { "hugepages" } else { "ordinary pages" };
    println!("== sgswitchd on them, one worker, with {memory}");
    lab.start(&Options { hugepages, ..Options::default() });
    let mut table = Table::default();
    attempts(&lab, &mut table);
    println!("\n== what the switch has counted (sgctl show drops, and /metrics)");
    print!("{}", lab.sgctl(&["show", "drops"]).1);
    for name in [
        "sgswitch_generation",
        "sgswitch_received_packets_total",
        "sgswitch_transmitted_packets_total",
        "sgswitch_connections_inserted_total",
        "sgswitch_connections",
    ] {
        println!("{name} {}", lab.total(name));
    }
    println!(
        "\n{} attempts, {} as expected, {} differ",
        table.lines,
        table.lines - table.differ,
        table.differ
    );
    if !once {
        play(&lab);
        while !stopped.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("\n== taking it down");
    }
    drop(lab);
    if table.differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How to go on by hand.
fn play(lab: &Lab) {
    let socket = lab.socket();
    println!("\nIt stays up until Ctrl-C. To play, from another shell:");
    println!("  sgctl --socket {} show rules", socket.display());
    println!(
        "  sgctl --socket {} explain --from {} --to eni-web --port 22",
        socket.display(),
        lab.instance("stranger").v4()
    );
    println!("  sgctl --socket {} flows list", socket.display());
    for instance in lab.instances() {
        println!("  ip netns exec {} ping {}", instance.netns(), lab.instance("web").v4());
    }
}

fn attempts(lab: &Lab, table: &mut Table) {
    let [web, db, client, stranger] = ["web", "db", "client", "stranger"].map(|name| lab.instance(name));
    let _servers = [
        web.serve(&["tcp-echo", "80"]),
        web.serve(&["tcp-echo", "81"]),
        web.serve(&["tcp-echo", "22"]),
        web.serve(&["udp-echo", "53"]),
        web.serve(&["udp-echo", "54"]),
        db.serve(&["tcp-echo", "5432"]),
        db.serve(&["tcp-echo", "5433"]),
        client.serve(&["tcp-echo", "80"]),
    ];
    println!("  {:<66} {:<8} observed", "attempt", "expected");

    table.section("without a policy the switch is closed");
    table.line("client pings web", false, client.ping(&web.v4()));

    let mut stage = Stage { open_web: true, ssh: true, stranger_is_client: false };
    lab.push(&policy(lab, stage));
    client.forget_neighbours();
    table.section("the example policy: IPv4");
    table.line("client pings web", true, client.ping(&web.v4()));
    table.line("stranger pings web", false, stranger.ping(&web.v4()));
    table.line(
        "client connects to web, TCP 80 (open to everyone)",
        true,
        client.probe(&["tcp", &web.v4(), "80"]),
    );
    table.line("stranger connects to web, TCP 80", true, stranger.probe(&["tcp", &web.v4(), "80"]));
    table.line("stranger connects to web, TCP 81", false, stranger.probe(&["tcp", &web.v4(), "81"]));
    table.line(
        "client connects to web, TCP 22 (by group reference)",
        true,
        client.probe(&["tcp", &web.v4(), "22"]),
    );
    table.line("stranger connects to web, TCP 22", false, stranger.probe(&["tcp", &web.v4(), "22"]));
    table.line("client asks web, UDP 53", true, client.probe(&["udp", &web.v4(), "53"]));
    table.line("client asks web, UDP 54", false, client.probe(&["udp", &web.v4(), "54"]));
    table.line("stranger asks web, UDP 53", false, stranger.probe(&["udp", &web.v4(), "53"]));

    table.section("IPv6");
    table.line("client pings web", true, client.ping(&web.v6()));
    table.line("stranger pings web", false, stranger.ping(&web.v6()));
    table.line("stranger connects to web, TCP 80", true, stranger.probe(&["tcp", &web.v6(), "80"]));
    table.line("client connects to web, TCP 22", true, client.probe(&["tcp", &web.v6(), "22"]));
    table.line("stranger connects to web, TCP 22", false, stranger.probe(&["tcp", &web.v6(), "22"]));
    table.line("client asks web, UDP 53", true, client.probe(&["udp", &web.v6(), "53"]));

    table.section("state: a reply needs no rule, and opens nothing");
    table.line(
        "web connects to db, TCP 5432; db has no outbound rule",
        true,
        web.probe(&["tcp", &db.v4(), "5432"]),
    );
    table.line("web connects to db, TCP 5433", false, web.probe(&["tcp", &db.v4(), "5433"]));
    table.line("client connects to db, TCP 5432", false, client.probe(&["tcp", &db.v4(), "5432"]));
    table.line("db connects to web, TCP 80", false, db.probe(&["tcp", &web.v4(), "80"]));
    table.line("web connects to client, TCP 80", false, web.probe(&["tcp", &client.v4(), "80"]));

    table.section("rules are revoked while connections are open");
    let mut untracked = stranger.talk("tcp", &web.v4(), 80);
    let mut tracked = client.talk("tcp", &web.v4(), 22);
    let mut lives = |table: &mut Table, when: &str, open: bool, ssh: bool| {
        let (one, other) = (&mut untracked, &mut tracked);
        table.line(
            &format!("stranger's open connection to TCP 80 (untracked), {when}"),
            open,
            one.as_mut().is_some_and(|t| t.lives()),
        );
        table.line(
            &format!("client's open connection to TCP 22 (tracked), {when}"),
            ssh,
            other.as_mut().is_some_and(|t| t.lives()),
        );
    };
    lives(table, "before", true, true);
    stage = Stage { open_web: false, ssh: false, ..stage };
    lab.push(&policy(lab, stage));
    lives(table, "after", false, true);
    table.line("client connects anew to web, TCP 22", false, client.probe(&["tcp", &web.v4(), "22"]));
    table.line("stranger connects anew to web, TCP 80", false, stranger.probe(&["tcp", &web.v4(), "80"]));

    table.section("a group changes its members");
    table.line("stranger pings web, before", false, stranger.ping(&web.v4()));
    lab.push(&policy(lab, Stage { stranger_is_client: true, ..stage }));
    table.line("stranger, now a client, pings web", true, stranger.ping(&web.v4()));
    table.line("stranger, now a client, asks web, UDP 53", true, stranger.probe(&["udp", &web.v4(), "53"]));
    table.line("stranger, now a client, asks web, UDP 54", false, stranger.probe(&["udp", &web.v4(), "54"]));
    lab.push(&policy(lab, stage));
    table.line(
        "stranger, a stranger again, asks web, UDP 53",
        false,
        stranger.probe(&["udp", &web.v4(), "53"]),
    );
}
