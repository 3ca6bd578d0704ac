//! What the tables of a policy take: `cargo bench -p policy --bench memory`.

#[path = "../tests/common/large.rs"]
mod large;

use std::sync::Arc;

use large::large;
use policy::{Arena, Compiler, Context, Ports, Precedent, validate};

/// What is kept of a document of ten thousand rules, for the next to take over.
fn precedents() {
    let policy = large(1000, 1000, 9);
    let mut document = policy.to_document();
    for named in [true, false] {
        if !named {
            document.as_object_mut().expect("an object").remove("SecurityGroupRules");
        }
        let text = document.to_string();
        let (ports, none) = (Ports::default(), Precedent::default());
        let context = Context { ports: &ports, partial: false, missing_ports_are_notices: false };
        let mut kept = None;
        let all = allocation_counter::measure(|| {
            let arena = Arena::default();
            let read = none.read(&arena, "a document", text.as_bytes()).expect("JSON");
            let (policy, _, learned) = read.validate(&context).expect("a valid document");
            kept = learned.precedent(text.as_bytes(), &Arc::new(policy));
        });
        let mut alone = None;
        let policy = allocation_counter::measure(|| alone = validate(&document, &context).ok());
        println!(
            "a precedent of 10,000 rules, {}: {:.1} MB beside {:.1} MB of policy, of a document of {:.1} MB",
            if named { "each named" } else { "none named" },
            (all.bytes_current - policy.bytes_current) as f64 / 1e6,
            policy.bytes_current as f64 / 1e6,
            text.len() as f64 / 1e6,
        );
        drop(alone);
        drop(kept);
    }
}

/// What the tables of ten thousand interfaces with ten addresses each take, of a
/// thousand groups of sixty rules.
fn main() {
    precedents();
    for sets in [1, 2] {
        let mut policy = large(10_000, 1000, 60);
        let mut n = 0u32;
        policy.interfaces.change_all(|interface| {
            n += 1;
            let address =
                |i: u32| std::net::IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a80_0000 + n * 16 + i));
            interface.addresses = (0..10).map(address).collect();
            if sets == 2 {
                // A pair that few others have.
                interface.groups.push(format!("sg-{}", (n * 7 + n / 1000) % 1000).into());
                interface.groups.sort_unstable();
                interface.groups.dedup();
            }
        });
        let mut kept = None;
        let counted = allocation_counter::measure(|| {
            let mut compiler = Compiler::new(1 << 20);
            kept = compiler.compile(&policy, 1, &Ports::default()).ok();
        });
        println!(
            "tables of 10,000 interfaces with {sets} of 1000 groups of 60 rules each, {} members: {:.1} MB",
            kept.map_or(0, |snapshot| snapshot.tables.members.len()),
            counted.bytes_current as f64 / 1e6,
        );
    }
}
