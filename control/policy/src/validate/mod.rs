//! From a document to [`Validated`]: all that is wrong at once.

mod bindings;
pub(crate) mod defaults;
pub(crate) mod groups;
mod interfaces;
mod keys;
mod locations;
mod network_acls;
mod networks;
mod prefix_lists;
pub(crate) mod quotas;
pub(crate) mod references;
pub(crate) mod rule_ids;
mod settings;

use std::fmt::{self, Write};

use ipnet::IpNet;
use serde_json::Value;

use crate::model::{SecurityGroup, Validated};
use crate::ports::Ports;
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
        read(&root, &mut report, &mut all, context);
    }
    report.finish().map(|notices| (all, notices))
}

fn read(root: &Node<'_, '_>, report: &mut Report, all: &mut Validated, context: &Context<'_>) {
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
    let places = groups::read(root, report, all);
    interfaces::read(root, report, all);
    settings::check(report, all);
    defaults::fill(&described, &places, all);
    rule_ids::read(root, report, all);
    references::check(report, all, &places);
    quotas::check(report, all, &places);
    bindings::read(root, report, all, context);
    // The order of rules means nothing (S19): one order makes policies that say the same equal.
    all.groups.change_all(sort_rules);
}

/// One order of a group's rules, whichever they were given in.
pub(crate) fn sort_rules(group: &mut SecurityGroup) {
    for rules in [&mut group.inbound, &mut group.outbound] {
        rules.sort_by(|a, b| (a.service, &a.peer).cmp(&(b.service, &b.peer)));
    }
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
fn fnv(text: impl fmt::Display) -> u64 {
    struct Fnv(u64);
    impl Write for Fnv {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            self.0 = text.bytes().fold(self.0, step);
            Ok(())
        }
    }
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    write!(hash, "{text}").expect("numbers take any text");
    hash.0
}
