//! Judging against a linear twin: rules in a list, walked one by one.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::addr::{Family, Prefix};
use crate::verdict::Judgement;

#[derive(Clone, Debug)]
enum Peer {
    /// 0.0.0.0/0 or ::/0.
    Everyone(Family),
    Block(Prefix),
    Group(u32),
}

#[derive(Clone, Debug)]
struct Rule {
    direction: Direction,
    peer: Peer,
    /// 0 for all traffic.
    protocol: u8,
    ports: (u16, u16),
}

impl Rule {
    fn services(&self) -> ServiceSet {
        match self.protocol {
            0 => ServiceSet::all(),
            p => ServiceSet::ports(p, self.ports.0, self.ports.1),
        }
    }

    fn is_for_service(&self, protocol: u8, port: u16) -> bool {
        match self.protocol {
            0 => true,
            6 | 17 => self.protocol == protocol && (self.ports.0..=self.ports.1).contains(&port),
            p => p == protocol,
        }
    }
}

fn addr(host: u8) -> Addr {
    Addr::v4(0x0a00_0000 + u32::from(host))
}

/// The interfaces of the VPC: n below 16 has address 10.0.0.n and the groups
/// whose bit n sets; nobody has the addresses beyond.
fn groups_of(host: u8) -> Vec<SourceId> {
    (0..4).filter(|g| host < 16 && host >> g & 1 == 1).map(SourceId).collect()
}

fn tables(rules: &[Rule]) -> Tables {
    let members = (0..16).map(|n| ((VpcIndex(0), addr(n)), Some(Arc::from(groups_of(n)))));
    let blocks = rules.iter().enumerate().filter_map(|(n, r)| match r.peer {
        Peer::Block(prefix) => Some((prefix, SourceId(100 + n as u32))),
        _ => None,
    });
    Tables {
        members: Members::default().with_changes(members),
        cidrs: Arc::new(Cidrs::new(blocks).unwrap()),
        scopes: vec![vec![VpcIndex(0)]],
        ..Tables::default()
    }
}

fn policy(rules: &[Rule]) -> Policy {
    let mut both = [DirectionRules::default(), DirectionRules::default()];
    for (n, rule) in rules.iter().enumerate() {
        let plane = &mut both[rule.direction as usize];
        match rule.peer {
            Peer::Everyone(family) => plane.permit_everyone(family, &rule.services()),
            Peer::Block(_) => plane.permit_block(SourceId(100 + n as u32), &rule.services()),
            Peer::Group(group) => plane.permit_group(SourceId(group), &rule.services()),
        }
    }
    let [inbound, outbound] = both;
    Policy::new(inbound, outbound)
}

fn slow(
    rules: &[Rule],
    direction: Direction,
    protocol: u8,
    src_port: u16,
    dst_port: u16,
    remote: u8,
) -> Judgement {
    let everyone = |d: Direction, port: u16| {
        rules.iter().any(|r| {
            r.direction == d
                && matches!(r.peer, Peer::Everyone(Family::V4))
                && r.is_for_service(protocol, port)
        })
    };
    let open = |d: Direction| {
        rules.iter().any(|r| {
            r.direction == d
                && matches!(r.peer, Peer::Everyone(Family::V4))
                && (r.protocol == 0 || (r.protocol == protocol && r.ports == (0, 65535)))
        })
    };
    let permitted = rules.iter().any(|r| {
        let peer = match r.peer {
            Peer::Everyone(family) => family == Family::V4,
            Peer::Block(prefix) => prefix.contains(addr(remote)),
            Peer::Group(group) => groups_of(remote).contains(&SourceId(group)),
        };
        r.direction == direction && peer && r.is_for_service(protocol, dst_port)
    });
    let tcp_or_udp = protocol == 6 || protocol == 17;
    let untracked = tcp_or_udp
        && (everyone(direction, dst_port) && open(direction.other())
            || open(direction) && everyone(direction.other(), src_port));
    match (permitted, untracked) {
        (false, _) => Judgement::Denied,
        (true, true) => Judgement::Untracked,
        (true, false) => Judgement::Tracked,
    }
}

fn query(protocol: u8, src_port: u16, dst_port: u16, remote: u8) -> Query {
    let service = |port| Service::new(Family::V4, protocol, port);
    let reply_service = (protocol == 6 || protocol == 17).then(|| service(src_port));
    Query {
        vpc: VpcIndex(0),
        family: Family::V4,
        service: service(dst_port),
        reply_service,
        remote: addr(remote),
    }
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let direction = prop_oneof![Just(Direction::Inbound), Just(Direction::Outbound)];
    let peer = prop_oneof![
        3 => Just(Peer::Everyone(Family::V4)),
        1 => Just(Peer::Everyone(Family::V6)),
        3 => (0u8..16, 28u8..=32).prop_map(|(n, l)| Peer::Block(Prefix::new(addr(n), l).unwrap())),
        3 => (0u32..4).prop_map(Peer::Group),
    ];
    let ports = prop_oneof![
        2 => Just((0u16, 65535u16)),
        1 => Just((0, 65534)),
        4 => (1u16..6, 0u16..3).prop_map(|(low, width)| (low, low + width)),
    ];
    let protocol = prop_oneof![Just(0u8), Just(6), Just(17), Just(47)];
    let rule = (direction, peer, protocol, ports).prop_map(|(direction, peer, protocol, ports)| Rule {
        direction,
        peer,
        protocol,
        ports,
    });
    proptest::collection::vec(rule, 0..8)
}

/// Such as are often all that one thing needs to be said of.
fn rules_for_everyone() -> impl Strategy<Value = Vec<Rule>> {
    rules().prop_map(|rules| {
        let all = rules.into_iter().filter(|rule| matches!(rule.peer, Peer::Everyone(_)));
        all.map(|rule| Rule { ports: (0, 65535), ..rule }).collect()
    })
}

#[test]
fn all_packets_are_alike_where_all_is_open_or_nothing_is() {
    let rule = |direction, protocol| Rule {
        direction,
        peer: Peer::Everyone(Family::V4),
        protocol,
        ports: (0, 65535),
    };
    let of = |rules: &[Rule]| {
        let policy = policy(rules);
        [Direction::Inbound, Direction::Outbound]
            .map(|direction| [6, 17].map(|protocol| policy.judge_all(direction, Family::V4, protocol)))
    };
    let (untracked, denied) = (Some(Judgement::Untracked), Some(Judgement::Denied));
    let both = [rule(Direction::Inbound, 0), rule(Direction::Outbound, 17)];
    // Of TCP, what comes in is tracked, and of what goes out nothing is permitted: but what
    // rules permit of another protocol is not told apart.
    assert_eq!(of(&both), [[None, untracked], [None, untracked]]);
    assert_eq!(of(&both[..1]), [[None, None], [denied, denied]]);
    assert_eq!(of(&[]), [[denied, denied], [denied, denied]]);
    let group = Rule { peer: Peer::Group(1), ..rule(Direction::Inbound, 6) };
    assert_eq!(of(&[group]), [[None, None], [denied, denied]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn agrees_with_a_walk_over_the_rules(rules in rules()) {
        let (policy, tables) = (policy(&rules), tables(&rules));
        for direction in [Direction::Inbound, Direction::Outbound] {
            for protocol in [6, 17, 47, 50] {
                for (src_port, dst_port) in [(0, 1), (1, 0), (2, 3), (3, 2), (5, 9), (9, 5), (8, 65535), (65535, 4)] {
                    for remote in [0, 1, 2, 5, 7, 8, 15, 16, 17] {
                        prop_assert_eq!(
                            policy.judge(&tables, direction, &query(protocol, src_port, dst_port, remote)),
                            slow(&rules, direction, protocol, src_port, dst_port, remote),
                            "{:?} protocol {} {} -> {} remote {}", direction, protocol, src_port, dst_port, remote
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_said_of_all_packets_is_right_of_each(
        rules in prop_oneof![rules(), rules_for_everyone()],
        ports in prop::collection::vec((any::<u16>(), any::<u16>(), 0u8..18), 20),
    ) {
        let (policy, tables) = (policy(&rules), tables(&rules));
        for direction in [Direction::Inbound, Direction::Outbound] {
            for protocol in [6, 17] {
                let Some(all) = policy.judge_all(direction, Family::V4, protocol) else { continue };
                for &(src_port, dst_port, remote) in ports.iter().chain(&[(0, 1, 3), (5, 0, 3), (65535, 3, 16), (4, 65535, 16)]) {
                    prop_assert_eq!(slow(&rules, direction, protocol, src_port, dst_port, remote), all);
                    prop_assert_eq!(policy.judge(&tables, direction, &query(protocol, src_port, dst_port, remote)), all);
                }
            }
        }
    }

    #[test]
    fn d11_the_class_of_a_flow_is_that_of_both_directions(rules in rules(), protocol in prop_oneof![Just(6u8), Just(17)], p in 0u16..8, q in 0u16..8) {
        let (policy, tables) = (policy(&rules), tables(&rules));
        let there = policy.judge(&tables, Direction::Inbound, &query(protocol, p, q, 3));
        let back = policy.judge(&tables, Direction::Outbound, &query(protocol, q, p, 3));
        prop_assert_eq!(there == Judgement::Untracked, back == Judgement::Untracked);
    }

    #[test]
    fn s19_the_order_of_rules_changes_nothing(rules in rules(), remote in 0u8..18, port in 0u16..8) {
        let reversed: Vec<Rule> = rules.iter().rev().cloned().collect();
        // Sources are numbered by place: the same tables would not do.
        let ask = |rules: &[Rule]| policy(rules).judge(&tables(rules), Direction::Inbound, &query(6, 1, port, remote));
        prop_assert_eq!(ask(&rules), ask(&reversed));
    }
}

fn everyone(direction: Direction, protocol: u8, ports: (u16, u16)) -> Rule {
    Rule { direction, peer: Peer::Everyone(Family::V4), protocol, ports }
}

fn block(direction: Direction, prefix: &str, length: u8, protocol: u8, ports: (u16, u16)) -> Rule {
    let addr = prefix.parse::<std::net::IpAddr>().unwrap().into();
    Rule { direction, peer: Peer::Block(Prefix::new(addr, length).unwrap()), protocol, ports }
}

fn judge(rules: &[Rule], direction: Direction, query: &Query) -> Judgement {
    policy(rules).judge(&tables(rules), direction, query)
}

#[test]
fn d11_only_a_literal_rule_for_everyone_opens_a_flow() {
    use Direction::{Inbound, Outbound};
    let all_out = everyone(Outbound, 0, (0, 65535));
    let web = everyone(Inbound, 6, (80, 80));
    let ask = query(6, 5000, 80, 1);
    assert_eq!(judge(&[web.clone(), all_out.clone()], Inbound, &ask), Judgement::Untracked);
    // The return may be all of the protocol, but not nearly all, and not of another.
    assert_eq!(judge(&[web.clone(), everyone(Outbound, 6, (0, 65535))], Inbound, &ask), Judgement::Untracked);
    assert_eq!(judge(&[web.clone(), everyone(Outbound, 6, (0, 65534))], Inbound, &ask), Judgement::Tracked);
    assert_eq!(judge(&[web.clone(), everyone(Outbound, 6, (1, 65535))], Inbound, &ask), Judgement::Tracked);
    assert_eq!(judge(&[web.clone(), everyone(Outbound, 17, (0, 65535))], Inbound, &ask), Judgement::Tracked);
    // Two rules that make up all ports together are no such rule.
    let halves = [everyone(Outbound, 6, (0, 30000)), everyone(Outbound, 6, (30001, 65535))];
    assert_eq!(judge(&[std::slice::from_ref(&web), &halves[..]].concat(), Inbound, &ask), Judgement::Tracked);
    // Nor are two /1.
    let split = [block(Outbound, "0.0.0.0", 1, 0, (0, 0)), block(Outbound, "128.0.0.0", 1, 0, (0, 0))];
    assert_eq!(judge(&[std::slice::from_ref(&web), &split[..]].concat(), Inbound, &ask), Judgement::Tracked);
    let narrow = block(Inbound, "10.0.0.0", 24, 6, (80, 80));
    assert_eq!(judge(&[narrow.clone(), all_out.clone()], Inbound, &ask), Judgement::Tracked);
    // One that qualifies suffices beside others (S37).
    assert_eq!(judge(&[narrow, web, all_out], Inbound, &ask), Judgement::Untracked);
}

#[test]
fn s44_icmp_is_always_tracked() {
    let open = [everyone(Direction::Inbound, 0, (0, 0)), everyone(Direction::Outbound, 0, (0, 0))];
    for protocol in [1, 47, 50, 58, 132] {
        assert_eq!(
            judge(&open, Direction::Inbound, &query(protocol, 0, 0, 1)),
            Judgement::Tracked,
            "{protocol}"
        );
    }
}

#[test]
fn s27_families_are_apart() {
    let six = Rule { peer: Peer::Everyone(Family::V6), ..everyone(Direction::Inbound, 0, (0, 0)) };
    assert_eq!(judge(&[six], Direction::Inbound, &query(6, 1, 80, 1)), Judgement::Denied);
}

#[test]
fn s34_members_are_found_in_their_vpc_and_its_peers_alone() {
    let mut tables = tables(&[]);
    let policy = policy(&[Rule { peer: Peer::Group(0), ..everyone(Direction::Inbound, 0, (0, 0)) }]);
    let ask = |tables: &Tables, vpc| {
        policy.judge(tables, Direction::Inbound, &Query { vpc: VpcIndex(vpc), ..query(6, 1, 80, 1) })
    };
    assert_eq!((ask(&tables, 0), ask(&tables, 1)), (Judgement::Tracked, Judgement::Denied));
    tables.scopes = vec![vec![VpcIndex(0)], vec![VpcIndex(1), VpcIndex(0)]];
    assert_eq!(ask(&tables, 1), Judgement::Tracked, "an active peering");
    // By a delegated prefix of a member, to its edge.
    let prefix = Prefix::new(Addr::v4(0x0a01_0000), 28).unwrap();
    let cidrs = Cidrs::new([(prefix, SourceId(0))]).unwrap();
    tables.delegated.insert(VpcIndex(0), Arc::new(cidrs));
    let ask = |remote: u32| {
        policy.judge(&tables, Direction::Inbound, &Query { remote: Addr::v4(remote), ..query(6, 1, 80, 1) })
    };
    assert_eq!((ask(0x0a01_000f), ask(0x0a01_0010)), (Judgement::Tracked, Judgement::Denied));
}
