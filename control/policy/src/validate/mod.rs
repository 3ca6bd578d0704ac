//! From a document to [`Validated`]: all that is wrong at once.

mod bindings;
pub(crate) mod defaults;
pub(crate) mod groups;
mod interfaces;
mod keys;
mod locations;
mod network_acls;
mod networks;
mod places;
mod prefix_lists;
pub(crate) mod quotas;
pub(crate) mod references;
pub(crate) mod rule_ids;
mod settings;
pub(crate) mod words;

use std::cmp::Ordering;
use std::fmt::{self, Write};
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;

pub(crate) use self::places::Reference;
use crate::model::{Id, Rule, SecurityGroup, Validated};
use crate::outline::{self, List, Outline};
use crate::ports::Ports;
use crate::precedent::{Known, Object, Precedent, ReadGroup, ReadInterface, ReadRule};
use crate::reader::Node;
use crate::report::{Faults, Notice, Report};
use crate::tree::{Arena, Tree};

/// What a document is validated against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    /// The switch's ports.
    pub ports: &'c Ports,
    /// Whether a document cut short by `NextToken` is accepted (D28).
    pub partial: bool,
    /// Whether a binding to a port that does not exist is a notice: when a stored
    /// policy is restored.
    pub missing_ports_are_notices: bool,
}

/// Validates a document.
///
/// # Errors
/// Everything that is wrong with it.
pub fn validate(document: &Value, context: &Context<'_>) -> Result<(Validated, Vec<Notice>), Faults> {
    validate_tree(&Arena::default().tree(document), context)
}

/// The same of a document as it is read.
///
/// # Errors
/// As above.
pub fn validate_tree(document: &Tree<'_>, context: &Context<'_>) -> Result<(Validated, Vec<Notice>), Faults> {
    let mut report = Report::default();
    let mut all = Validated::default();
    let root = Node::root(document);
    if root.object(&mut report).is_some() {
        root.refuse_denials(&mut report);
        read(&root, &mut report, &mut all, context, None);
    }
    report.finish().map(|notices| (all, notices))
}

/// Why a document that was not read as a whole has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Again {
    /// Something is wrong.
    Wrong,
    /// Something that was taken over may be another today.
    Doubtful,
}

/// What the long lists of a document say, each object by itself.
#[derive(Debug)]
pub(crate) struct Found {
    pub groups: Vec<Arc<ReadGroup>>,
    pub rules: Vec<Arc<ReadRule>>,
    pub interfaces: Vec<Arc<ReadInterface>>,
    /// Whether the default group of a VPC has the id of one that the document describes.
    pub is_any_replaced: bool,
}

/// Validates a document whose long lists lie apart, taking over what is the same as in
/// one before.
pub(crate) fn validate_outline(
    outline: &Outline<'_>,
    context: &Context<'_>,
    before: &Precedent,
) -> Result<(Validated, Vec<Notice>, Found), Again> {
    let mut report = Report::default();
    let mut all = Validated::default();
    let root = Node::root(&outline.rest);
    if outline.is_any_odd {
        root.refuse_denials(&mut report);
        for (key, list) in [
            ("SecurityGroups", &outline.groups),
            ("SecurityGroupRules", &outline.rules),
            ("NetworkInterfaces", &outline.interfaces),
        ] {
            list.news().for_each(|(n, value)| root.item(key, n, value).refuse_denials_in_item(&mut report));
        }
    }
    all.groups = before.policy.groups.clone();
    let gone = outline.groups.gone(&before.groups).map(Object::id);
    gone.chain(before.undescribed.iter().map(Id::as_str)).for_each(|id| drop(all.groups.remove(id)));
    all.interfaces = before.policy.interfaces.clone();
    outline.interfaces.gone(&before.interfaces).for_each(|known| drop(all.interfaces.remove(known.id())));
    let found = read(&root, &mut report, &mut all, context, Some((outline, before)));
    if report.is_doubtful() {
        return Err(Again::Doubtful);
    }
    report.finish().map(|notices| (all, notices, found)).map_err(|_| Again::Wrong)
}

/// An object of a long list of the document.
enum Item<'v, 'p, K> {
    /// One that is taken over, and which item of the list it is now.
    Same(usize, &'v K),
    /// One to be read.
    New(Node<'v, 'p>),
}

/// The objects of a long list: where they lie apart, or in the document.
fn items<'v, 's, K>(
    root: &'s Node<'v, '_>,
    report: &mut Report,
    key: &'s str,
    apart: Option<(&'v List<'v>, &'v [Known<K>])>,
) -> Vec<Item<'v, 's, K>> {
    let Some((list, known)) = apart else { return root.list(report, key).map(Item::New).collect() };
    let item = |(n, item): (usize, &'v outline::Item<'v>)| match item {
        outline::Item::Same(place) => Item::Same(n, &known[*place].object),
        outline::Item::New(value) => Item::New(root.item(key, n, value)),
    };
    list.items.iter().enumerate().map(item).collect()
}

fn read(
    root: &Node<'_, '_>,
    report: &mut Report,
    all: &mut Validated,
    context: &Context<'_>,
    apart: Option<(&Outline<'_>, &Precedent)>,
) -> Found {
    known(root, report, &keys::DOCUMENT);
    let cut_short = root.string(report, "NextToken").is_some_and(|token| !token.is_empty());
    if cut_short && !context.partial {
        let message = "the document is one page of several: it would close what the others open; \
                       fetch all pages, or say that it is meant to be partial";
        report.fault("InvalidParameterValue", root.path_of("NextToken"), message);
    }
    all.settings = settings::read(root, report);
    let described = networks::read(root, report, all);
    network_acls::read(root, report, all);
    prefix_lists::read(root, report, all);
    let none = Precedent::default();
    let precedent = apart.map_or(&none, |(_, precedent)| precedent);
    let before = &*precedent.policy;
    // What groups and rules by themselves depend on.
    let is_strict = all.settings.strict_rule_descriptions;
    let takes_over = apart.is_some_and(|(outline, _)| outline.groups.has_same() || outline.rules.has_same());
    if takes_over
        && (is_strict != before.settings.strict_rule_descriptions
            || before.prefix_lists.keys().any(|id| !all.prefix_lists.contains_key(id)))
    {
        report.doubt();
    }
    let list = apart.map(|(outline, precedent)| (&outline.groups, &*precedent.groups));
    let places = groups::read(items(root, report, "SecurityGroups", list), report, all);
    let list = apart.map(|(outline, precedent)| (&outline.interfaces, &*precedent.interfaces));
    let interfaces = interfaces::read(items(root, report, "NetworkInterfaces", list), report, all, precedent);
    settings::check(report, all);
    let is_any_replaced = defaults::fill(&described, &places, all);
    let list = apart.map(|(outline, precedent)| (&outline.rules, &*precedent.rules));
    let rules = rule_ids::read(items(root, report, "SecurityGroupRules", list), report, all, before);
    references::check(report, all, &places, before);
    quotas::check(report, all, &places, before);
    bindings::read(root, report, all, context);
    let groups = places.described.into_iter().map(|described| described.read).collect();
    Found { groups, rules, interfaces, is_any_replaced }
}

/// One order of a group's rules, whichever they were given in.
pub(crate) fn sort_rules(group: &mut SecurityGroup) {
    for rules in [&mut group.inbound, &mut group.outbound] {
        rules.sort_by(order);
    }
}

/// The order of rules means nothing (S19): one order makes policies that say the same equal.
fn order(one: &Rule, other: &Rule) -> Ordering {
    (one.service, &one.peer).cmp(&(other.service, &other.peer))
}

fn known(node: &Node<'_, '_>, report: &mut Report, keys: &keys::Keys) {
    node.known(report, keys.0, keys.1);
}

/// A CIDR block in EC2's notation: always with a length (S24, S25), of the
/// family that is wanted. Host bits are cleared, with a notice (D5).
pub(crate) fn cidr(report: &mut Report, node: &Node<'_, '_>, key: &str, ipv6: bool) -> Option<IpNet> {
    let text = node.required(report, key)?;
    block(report, text, ipv6, || node.path_of(key))
}

fn block(report: &mut Report, text: &str, ipv6: bool, path: impl Fn() -> String) -> Option<IpNet> {
    let net = strict(text).filter(|net| matches!(net, IpNet::V6(_)) == ipv6);
    // IPv4 in IPv6's clothes would never meet a packet.
    let net = net.filter(|net| !matches!(net, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some()));
    let Some(net) = net else {
        report.fault("InvalidParameterValue", path(), format!("CIDR block {text} is malformed"));
        return None;
    };
    let canonical = net.trunc();
    if canonical != net {
        report.notice(path(), format!("{text} has host bits set: it is taken as {canonical}"));
    }
    Some(canonical)
}

/// A block in plain numbers: `010.0.0.0/8` is 8.0.0.0/8 to some programs.
fn strict(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let plain = length == "0" || length.starts_with(|c: char| c.is_ascii_digit() && c != '0');
    IpNet::new(address.parse().ok()?, length.parse().ok().filter(|_| plain)?).ok()
}

/// A description or name: at most 255 of EC2's characters. `&` is allowed in
/// rules only where that is not strict (D1).
pub(crate) fn is_plain(text: &str, ampersand: bool) -> bool {
    let allowed = |b: u8| {
        b.is_ascii_alphanumeric() || b" ._-:/()#,@[]+=;{}!$*".contains(&b) || (ampersand && b == b'&')
    };
    text.len() <= 255 && text.bytes().all(allowed)
}

/// An id: the prefix, then AWS's hex digits, or other letters, digits and
/// dashes where people write documents themselves.
pub(crate) fn is_id(id: &str, prefix: &str) -> bool {
    let plain = |rest: &str| rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    id.len() <= 64 && id.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && plain(rest))
}

/// FNV-1a, for ids that must be the same in every version of the switch.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Fnv {
    /// Of a text.
    fn of(text: &str) -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325).and(text)
    }

    /// Of that and a text behind it.
    fn and(self, text: &str) -> Fnv {
        let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Fnv(text.bytes().fold(self.0, step))
    }
}

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        *self = self.and(text);
        Ok(())
    }
}
