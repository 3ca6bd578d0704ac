//! What the tables of a policy take: `cargo bench -p policy --bench memory`.

#[path = "../tests/common/large.rs"]
mod large;

use large::large;
use policy::{Compiler, Ports};

/// What the tables of ten thousand interfaces with ten addresses each take, of a
/// thousand groups of sixty rules.
fn main() {
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
