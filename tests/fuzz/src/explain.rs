//! The body of a request to explain a packet.

use std::sync::LazyLock;

use engine::snapshot::Snapshot;
use policy::{Compiler, EndExplanation, ExplainError, ExplainRequest, Explanation, Validated, validate};

use crate::example::{context, document, ports};
use crate::input::Input;

struct Policy {
    validated: Validated,
    compiler: Compiler,
    snapshot: Snapshot,
}

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let ports = ports();
    let (validated, _) =
        validate(&document(), &context(&ports)).unwrap_or_else(|faults| panic!("the example: {faults:?}"));
    let mut compiler = Compiler::new(8);
    let snapshot = compiler.compile(&validated, 1, &ports).expect("the example can be compiled");
    Policy { validated, compiler, snapshot }
});

/// Reads the bytes as the JSON of a request; after a zero byte, which no JSON
/// begins with, as choices of what a request may say.
pub fn explain(bytes: &[u8]) {
    match bytes {
        [0, choices @ ..] => answered(&chosen(&mut Input(choices))),
        _ => {
            if let Ok(request) = serde_json::from_slice::<ExplainRequest>(bytes) {
                answered(&request);
            }
        }
    }
}

fn answered(request: &ExplainRequest) {
    let written = serde_json::to_vec(request).expect("a request can be written");
    let read: ExplainRequest = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(&read, request);
    let Policy { validated, compiler, snapshot } = &*POLICY;
    match policy::explain(validated, compiler, snapshot, request) {
        Ok(explanation) => holds(&explanation),
        Err(ExplainError::Invalid(message)) => assert!(!message.is_empty()),
        // The switch's own defect, whatever the request.
        Err(ExplainError::Mismatch(message)) => panic!("{message}: {request:?}"),
    }
}

fn holds(explanation: &Explanation) {
    let Explanation { allowed, summary, ends } = explanation;
    assert!(!summary.is_empty() && ends.len() <= 2, "{explanation:?}");
    let denied = |end: &EndExplanation| end.verdict == "denied";
    assert_eq!(*allowed, !ends.is_empty() && !ends.iter().any(denied), "{explanation:?}");
    for end in ends {
        let interface = POLICY.validated.interfaces.get(&end.interface).expect("an end is an interface");
        assert_eq!(end.rules.is_empty(), denied(end), "{end:?}");
        let asked = end.nearest.iter().map(|miss| &miss.group);
        assert!(!denied(end) || asked.eq(interface.groups.iter()), "one miss for each group: {end:?}");
        let groups = interface.groups.iter().filter_map(|id| POLICY.validated.groups.get(id));
        let known: Vec<&str> =
            groups.flat_map(|g| g.inbound.iter().chain(&g.outbound)).map(|rule| rule.id.as_str()).collect();
        let named = end.rules.iter().chain(end.nearest.iter().filter_map(|miss| miss.rule.as_ref()));
        named.for_each(|id| assert!(known.contains(&id.as_str()), "{id} is no rule of {}", end.interface));
    }
}

const ENDS: [&str; 22] = [
    "eni-web",
    "eni-client",
    "eni-far",
    "eni-gone",
    "10.0.0.11",
    "10.0.0.12",
    "10.0.0.13",
    "10.7.0.1",
    "10.1.0.11",
    "192.0.2.1",
    "203.0.113.15",
    "203.0.113.16",
    "255.255.255.255",
    "0.0.0.0",
    "fd00::11",
    "2001:db8:1::5",
    "2001:db8:ffff::1",
    "2001:db8::1",
    "::",
    "::ffff:10.0.0.12",
    "::ffff:192.0.2.1",
    "web",
];
const PROTOCOLS: [&str; 10] = ["tcp", "udp", "icmp", "icmpv6", "TCP", "47", "0", "255", "256", "sctp"];
const VPCS: [&str; 3] = ["vpc-1", "vpc-2", "vpc-3"];
const PORTS: [u16; 10] = [0, 21, 22, 23, 53, 54, 55, 80, 40_000, 65_535];

fn chosen(input: &mut Input<'_>) -> ExplainRequest {
    let (from, to) = (input.pick(&ENDS).to_string(), input.pick(&ENDS).to_string());
    let protocol = input.pick(&PROTOCOLS).to_string();
    let given = input.byte();
    ExplainRequest {
        from,
        to,
        protocol,
        port: (given & 1 == 0).then(|| input.pick(&PORTS)),
        source_port: (given & 2 != 0).then(|| input.pick(&PORTS)),
        icmp_type: (given & 4 != 0).then(|| input.byte()),
        icmp_code: (given & 8 != 0).then(|| input.byte()),
        vpc: (given & 16 != 0).then(|| input.pick(&VPCS).to_string()),
    }
}
