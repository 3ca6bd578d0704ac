//! What updates take on the control thread, from a request to published tables:
//! medians and the 99th of a hundred, since the goals are of the latter.
//! `cargo bench -p policy` does all of it; `-- members 1000000 50` and `-- rules 10000 50` (so
//! many members, so many changes of a membership, or of a rule), `-- pushes 10` and `-- whole 10`
//! (so many pushes that take over what did not change, or nothing) do a part, as a profiler
//! wants it: what so many more of them take in instructions is what they take.

use std::sync::Arc;
use std::time::{Duration, Instant};

#[path = "../tests/common/large.rs"]
mod large;

use engine::snapshot::Snapshot;
use large::large;
use policy::{
    Arena, Compiler, Context, Edited, Ports, Precedent, Rulebook, Validated, edit, self_check_changes,
    self_check_push,
};
use serde_json::json;

/// Times by step, in the order in which steps were first taken.
#[derive(Default)]
struct Times(Vec<(&'static str, Vec<Duration>)>);

impl Times {
    fn time<R>(&mut self, step: &'static str, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        self.note(step, start.elapsed());
        result
    }

    fn note(&mut self, step: &'static str, time: Duration) {
        match self.0.iter_mut().find(|(known, _)| *known == step) {
            Some((_, times)) => times.push(time),
            None => self.0.push((step, vec![time])),
        }
    }

    fn print(mut self, title: &str) {
        println!("{title}");
        for (step, times) in &mut self.0 {
            times.sort_unstable();
            let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
            println!("    {step:<28} p50 {:>10.1} us   p99 {:>10.1} us", at(0.5), at(0.99));
        }
    }
}

/// A switch without workers.
struct Control {
    compiler: Compiler,
    publisher: rcu::Publisher<Snapshot>,
    book: Rulebook,
    generation: u64,
}

impl Control {
    fn new(policy: &Validated) -> Control {
        let mut compiler = Compiler::new(1 << 20);
        let snapshot = compiler.compile(policy, 1, &Ports::default()).expect("a valid policy");
        let (publisher, _) = rcu::channel(Box::new(snapshot), 0);
        Control { compiler, publisher, book: Rulebook::new(Arc::new(policy.clone())), generation: 1 }
    }

    /// The way of an update behind validation, without the store.
    fn put(&mut self, times: &mut Times, policy: Validated, single: bool) {
        self.generation += 1;
        let start = Instant::now();
        let snapshot = times.time("compile", || {
            self.compiler.compile(&policy, self.generation, &Ports::default()).expect("a valid policy")
        });
        let compiled = start.elapsed();
        let policy = Arc::new(policy);
        let book = times.time("arrange", || self.compiler.arrange(&self.book, policy));
        times
            .time("self-check", || match single {
                true => self_check_changes(&book, &self.compiler, &snapshot, 64),
                false => self_check_push(&book, &self.compiler, &snapshot, 2000),
            })
            .expect("tables and rules agree");
        let start = Instant::now();
        times.time("publish and free", || {
            self.publisher.publish(Box::new(snapshot.clone()));
            self.publisher.reclaim();
        });
        times.note("compile, publish and free", compiled + start.elapsed());
        self.book = book;
    }

    fn act(&mut self, times: &mut Times, action: &str, request: &serde_json::Value) {
        let edited = times
            .time("edit", || edit(self.book.policy(), action, &Arena::default().tree(request)))
            .expect("a known action");
        let Edited { policy, .. } = edited.expect("a valid request");
        self.put(times, policy, true);
    }
}

fn memberships(members: u32, rounds: u32) {
    let mut control = Control::new(&large(members, 1000, 60));
    let mut times = Times::default();
    for n in 0..rounds {
        let id = n.wrapping_mul(0x9e37_79b1) % members;
        let request = json!({
            "NetworkInterfaceId": format!("eni-{id}"), "Groups": [format!("sg-{}", (id + n + 1) % 1000)],
        });
        let start = Instant::now();
        control.act(&mut times, "ModifyNetworkInterfaceAttribute", &request);
        times.note("all of it", start.elapsed());
    }
    times.print(&format!("one membership among {members} members"));
}

fn rules(members: u32, rounds: u32) {
    let mut control = Control::new(&large(members, 1000, 60));
    let mut times = Times::default();
    for n in 0..rounds {
        let request = json!({ "GroupId": format!("sg-{}", n % 1000), "IpPermissions": [{
            "IpProtocol": "udp", "FromPort": n, "ToPort": n,
            "UserIdGroupPairs": [{ "GroupId": "sg-1" }],
        }] });
        let start = Instant::now();
        control.act(&mut times, "AuthorizeSecurityGroupIngress", &request);
        times.note("all of it", start.elapsed());
    }
    times.print(&format!("one rule for a group of {} members", members / 1000));
}

/// A whole document of ten thousand rules, one of which is another each time.
/// Either all of it is read, or what is as in the document before is taken over.
fn pushes(rounds: u32, takes_over: bool) {
    let title = if takes_over { "one of them another" } else { "all of them read" };
    let policy = large(1000, 1000, 9);
    let mut control = Control::new(&policy);
    let mut document = policy.to_document();
    let (ports, mut times) = (Ports::default(), Times::default());
    let mut precedent = Precedent::default();
    for n in 0..rounds {
        let at = n as usize % 1000;
        document["SecurityGroups"][at]["IpPermissions"][0]["FromPort"] = json!(n);
        document.as_object_mut().expect("an object").remove("SecurityGroupRules");
        let bytes = document.to_string();
        let start = Instant::now();
        let (arena, none) = (Arena::default(), Precedent::default());
        let before = if takes_over { &precedent } else { &none };
        let read = times.time("parse", || before.read(&arena, "a document", bytes.as_bytes())).expect("JSON");
        let context = Context { ports: &ports, partial: false, missing_ports_are_notices: false };
        let (mut policy, _, learned) =
            times.time("validate", || read.validate(&context)).expect("a valid document");
        times.time("share", || policy.share(control.book.policy()));
        control.put(&mut times, policy, false);
        times.note("all of it", start.elapsed());
        times.time("free the tree", || drop(arena));
        let policy = control.book.policy();
        let learned = times.time("remember", || learned.precedent(bytes.as_bytes(), policy));
        precedent = learned.expect("one document");
    }
    times.print(&format!("a push of ten thousand rules, {title}"));
}

fn main() {
    // Cargo says `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let number = |at: usize, default: u32| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(default);
    match args.first().map(String::as_str) {
        Some("members") => memberships(number(1, 10_000), number(2, 2000)),
        Some("rules") => rules(number(1, 10_000), number(2, 200)),
        Some("pushes") => pushes(number(1, 100), true),
        Some("whole") => pushes(number(1, 100), false),
        Some(other) => panic!("expected members, rules, pushes or whole, found {other}"),
        None => {
            memberships(10_000, 2000);
            memberships(100_000, 2000);
            rules(10_000, 200);
            pushes(100, false);
            pushes(100, true);
        }
    }
}
