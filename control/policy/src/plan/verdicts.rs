use std::collections::{BTreeMap, HashSet};

use engine::policy::Direction;
use engine::verdict::Judgement;
use serde::{Deserialize, Serialize};

use crate::check::{Concerned, edges};
use crate::model::{Id, NetworkInterface, Peer, Rule, Validated};
use crate::oracle::{self, Packet, Rules};
use crate::rulebook::Rulebook;

/// New flows that would be judged otherwise, and one packet of them for example.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VerdictChange {
    /// The interface.
    pub network_interface_id: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// `denied`, `tracked` or `untracked` now.
    pub before: String,
    /// The same then.
    pub after: String,
    /// The rules that permit the example now.
    pub rules_before: Vec<String>,
    /// And then.
    pub rules_after: Vec<String>,
    /// The example: protocol number.
    pub protocol: u8,
    /// Destination port; of ICMP, type times 256 plus code.
    pub port: u16,
    /// Source port.
    pub source_port: u16,
    /// The address at the other end.
    pub remote: String,
    /// Packets asked about that change likewise.
    pub packets: usize,
}

/// The changes, and how many packets were asked about.
pub(super) fn changes(before: &Rulebook, after: &Rulebook, most: usize) -> (Vec<VerdictChange>, usize) {
    let concerned = concerned(before, after);
    let share = (most / concerned.len().max(1)).max(80);
    // Of many interfaces every n-th.
    let stride = (concerned.len() * 80).div_ceil(most.max(1)).max(1);
    let mut found: BTreeMap<_, VerdictChange> = BTreeMap::new();
    let mut asked = 0;
    for id in concerned.iter().step_by(stride) {
        let sides = [before, after].map(|book| (book, book.policy().interfaces.get(id)));
        let mut packets = Vec::new();
        for (book, interface) in sides {
            let Some(interface) = interface else { continue };
            let rules = Rules::of(book.policy(), interface);
            edges(book, &rules, share, 0, &Concerned::default(), &mut packets);
        }
        for (direction, packet) in packets {
            asked += 1;
            let [(was, rules_before), (will, rules_after)] =
                [before, after].map(|book| judged(book, id, direction, &packet));
            if was == will {
                continue;
            }
            let word = direction_word(direction);
            let kind = (id.to_string(), word, was, will, rules_before.clone(), rules_after.clone());
            let change = found.entry(kind).or_insert_with(|| VerdictChange {
                network_interface_id: id.to_string(),
                direction: word.to_string(),
                before: was.to_string(),
                after: will.to_string(),
                rules_before,
                rules_after,
                protocol: packet.protocol,
                port: packet.port,
                source_port: packet.source_port,
                remote: packet.remote.to_string(),
                packets: 0,
            });
            change.packets += 1;
        }
    }
    (found.into_values().collect(), asked)
}

/// What a policy says at an interface, in a word, and by which rules. Without
/// the interface, or a port that serves it, nothing passes there.
fn judged(book: &Rulebook, id: &str, direction: Direction, packet: &Packet) -> (&'static str, Vec<String>) {
    let Some(interface) = book.served(id) else { return ("absent", vec![]) };
    let (judgement, rules) = book.judge(interface, direction, packet);
    let word = match judgement {
        Judgement::Denied => "denied",
        Judgement::Tracked => "tracked",
        Judgement::Untracked => "untracked",
    };
    (word, rules.iter().map(|rule| rule.id.to_string()).collect())
}

fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

/// The interfaces, plugged in here before or after, at which a verdict may change.
fn concerned<'p>(before: &'p Rulebook, after: &'p Rulebook) -> Vec<&'p str> {
    let (old, new): (&'p Validated, &'p Validated) = (before.policy(), after.policy());
    let other_scopes = old.peerings != new.peerings;
    let groups = old.groups.differences(&new.groups).filter(|(_, a, b)| {
        !matches!((a, b), (Some(a), Some(b)) if a.inbound == b.inbound && a.outbound == b.outbound)
    });
    let groups: HashSet<&str> = groups.map(|(id, ..)| id).collect();
    let lists = old.prefix_lists.differences(&new.prefix_lists);
    let lists = lists.filter(|(_, a, b)| a.map(|l| &l.entries) != b.map(|l| &l.entries));
    let lists: HashSet<&str> = lists.map(|(id, ..)| id).collect();
    let members = moved_members(old, new);
    let matters = |rule: &Rule| match &rule.peer {
        Peer::Group { id, .. } => members.contains(id.as_str()),
        Peer::PrefixList(id) => lists.contains(id.as_str()),
        Peer::Cidr(_) => false,
    };
    let rules_matter = |policy: &Validated, interface: &NetworkInterface| {
        [Direction::Inbound, Direction::Outbound]
            .into_iter()
            .any(|direction| oracle::rules(policy, interface, direction).any(matters))
    };
    let ids =
        old.interfaces.keys().chain(new.interfaces.keys().filter(|id| !old.interfaces.contains_key(id)));
    let is_concerned = |id: &&Id| {
        let bound = [before, after].map(|book| book.served(id).is_some());
        let (a, b) = (old.interfaces.get(id), new.interfaces.get(id));
        let forced = |policy: &Validated| policy.settings.interfaces.get(id).map(|s| s.force_tracking);
        match (a, b) {
            _ if bound == [false, false] => false,
            (Some(a), Some(b)) => {
                bound[0] != bound[1]
                    || other_scopes
                    || a.groups != b.groups
                    || a.vpc != b.vpc
                    || forced(old) != forced(new)
                    || b.groups.iter().any(|group| groups.contains(group.as_str()))
                    || rules_matter(new, b)
            }
            _ => true,
        }
    };
    ids.filter(is_concerned).map(Id::as_str).collect()
}

/// Groups whose members' addresses are others.
fn moved_members<'p>(old: &'p Validated, new: &'p Validated) -> HashSet<&'p str> {
    let mut moved = HashSet::new();
    for (_, a, b) in old.interfaces.differences(&new.interfaces) {
        let same = |a: &NetworkInterface, b: &NetworkInterface| {
            (&a.groups, &a.addresses, &a.prefixes, &a.vpc) == (&b.groups, &b.addresses, &b.prefixes, &b.vpc)
        };
        if !matches!((a, b), (Some(a), Some(b)) if same(a, b)) {
            moved.extend([a, b].into_iter().flatten().flat_map(|i| &i.groups).map(Id::as_str));
        }
    }
    moved
}
