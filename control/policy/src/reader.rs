//! Values of a document with their places, so that whatever is wrong can be
//! told with its path. A path becomes text only when it is told.

use std::fmt;
use std::ops::RangeInclusive;

use crate::report::Report;
use crate::tree::{Object, Tree};

/// Where a value is: a key, or an item of the list under a key, of a parent.
#[derive(Clone, Copy)]
pub(crate) struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    key: &'p str,
    index: Option<usize>,
}

impl<'p> Place<'p> {
    const ROOT: Place<'static> = Place { parent: None, key: "", index: None };

    fn child(&'p self, key: &'p str, index: Option<usize>) -> Place<'p> {
        Place { parent: Some(self), key, index }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if parent.parent.is_some() && !self.key.is_empty() {
                f.write_str(".")?;
            }
        }
        f.write_str(self.key)?;
        self.index.map_or(Ok(()), |i| write!(f, "[{i}]"))
    }
}

/// A value of a document and its place.
#[derive(Clone, Copy)]
pub(crate) struct Node<'v, 'p> {
    pub value: &'v Tree<'v>,
    place: Place<'p>,
}

impl<'v> Node<'v, 'static> {
    pub fn root(value: &'v Tree<'v>) -> Node<'v, 'static> {
        Node { value, place: Place::ROOT }
    }
}

impl<'v, 'p> Node<'v, 'p> {
    /// The path of this value.
    pub fn path(&self) -> String {
        self.place.to_string()
    }

    /// The path of what is, or should be, under a key.
    pub fn path_of(&self, key: &str) -> String {
        self.place.child(key, None).to_string()
    }

    fn wrong(&self, report: &mut Report, expected: &str) {
        let message = format!("expected {expected}, found {}", self.value.kind());
        report.fault("InvalidParameterValue", self.path(), message);
    }

    /// The value under a key; null counts as missing.
    pub fn get<'s>(&'s self, key: &'s str) -> Option<Node<'v, 's>> {
        let value = self.value.get(key).filter(|v| !v.is_null())?;
        Some(Node { value, place: self.place.child(key, None) })
    }

    /// Whether there is something under a key.
    pub fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some_and(|v| !v.is_null())
    }

    /// The object this is; a fault and `None` if it is something else.
    pub fn object(&self, report: &mut Report) -> Option<Object<'v>> {
        let object = self.value.as_object();
        if object.is_none() {
            self.wrong(report, "an object");
        }
        object
    }

    /// The object under a key.
    pub fn child<'s>(&'s self, report: &mut Report, key: &'s str) -> Option<Node<'v, 's>> {
        self.get(key).filter(|node| node.object(report).is_some())
    }

    /// The objects of the list under a key; none if it is missing.
    pub fn list<'s>(
        &'s self,
        report: &mut Report,
        key: &'s str,
    ) -> impl Iterator<Item = Node<'v, 's>> + use<'v, 's, 'p> {
        let list = self.get(key);
        let items = list.and_then(|list| list.value.as_list());
        if let (Some(list), None) = (&list, items) {
            list.wrong(report, "a list");
        }
        let node = |(i, value)| Node { value, place: self.place.child(key, Some(i)) };
        let items = items.unwrap_or_default().iter().enumerate().map(node);
        // First what is none, in all of the list.
        for item in items.clone() {
            item.object(report);
        }
        items.filter(|item| item.value.as_object().is_some())
    }

    /// An item of the list under a key, which does not lie in this object itself.
    pub fn item<'s>(&'s self, key: &'s str, n: usize, value: &'v Tree<'v>) -> Node<'v, 's> {
        Node { value, place: self.place.child(key, Some(n)) }
    }

    /// Which item of its list this is.
    pub fn index(&self) -> usize {
        self.place.index.unwrap_or_default()
    }

    /// The string under a key.
    pub fn string(&self, report: &mut Report, key: &str) -> Option<&'v str> {
        self.get(key)?.text(report)
    }

    fn text(&self, report: &mut Report) -> Option<&'v str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong(report, "a string");
        }
        text
    }

    /// Notes that something must be under a key, and is not.
    pub fn missing(&self, report: &mut Report, key: &str) {
        let message = format!("the request must contain the parameter {key}");
        report.fault("MissingParameter", self.path_of(key), message);
    }

    /// The string under a key that must be there.
    pub fn required(&self, report: &mut Report, key: &str) -> Option<&'v str> {
        let node = self.get(key);
        if node.is_none() {
            self.missing(report, key);
        }
        node?.text(report)
    }

    /// The whole number under a key, within bounds.
    pub fn number(&self, report: &mut Report, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        self.get(key)?.whole_number(report, range)
    }

    /// The whole number that this is, within bounds.
    pub fn whole_number(&self, report: &mut Report, range: RangeInclusive<i64>) -> Option<i64> {
        let number = match self.value {
            Tree::Number(number) => number.as_i64().filter(|n| range.contains(n)),
            _ => None,
        };
        if number.is_none() {
            let found = match self.value {
                Tree::Number(n) => n.to_string(),
                other => other.kind().to_string(),
            };
            let (low, high) = (range.start(), range.end());
            let message = format!("expected a whole number from {low} to {high}, found {found}");
            report.fault("InvalidParameterValue", self.path(), message);
        }
        number
    }

    /// The boolean under a key.
    pub fn flag(&self, report: &mut Report, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        if let Tree::Bool(flag) = node.value {
            return Some(*flag);
        }
        node.wrong(report, "true or false");
        None
    }

    /// Notes keys that are in none of these lists.
    pub fn known(&self, report: &mut Report, used: &[&str], unused: &[&str]) {
        let Some(object) = self.value.as_object() else { return };
        for key in object.keys().filter(|k| !used.contains(k) && !unused.contains(k)) {
            report.notice(self.path_of(key), "this key is not known and has no effect");
        }
    }

    /// Refuses what would deny (D26), wherever in the document it is, and
    /// nesting deeper than any document has.
    pub fn refuse_denials(&self, report: &mut Report) {
        refuse_denials(self.value, &self.place, MAX_DEPTH, report);
    }

    /// The same of an item of a list of the document.
    pub fn refuse_denials_in_item(&self, report: &mut Report) {
        refuse_denials(self.value, &self.place, MAX_DEPTH - 2, report);
    }
}

/// How deep values may nest. AWS's reach 8.
const MAX_DEPTH: usize = 32;

fn refuse_denials(value: &Tree<'_>, place: &Place<'_>, depth: usize, report: &mut Report) {
    if depth == 0 {
        let message = format!("values nest more than {MAX_DEPTH} deep");
        report.fault("InvalidParameterValue", place.to_string(), message);
        return;
    }
    match value {
        Tree::List(items) => {
            for (i, item) in items.iter().enumerate() {
                // A list within a list has no key of its own.
                let place = place.child("", Some(i));
                refuse_denials(item, &place, depth - 1, report);
            }
        }
        Tree::Object(object) => {
            for (key, value) in object.iter() {
                // What is there to deny is told apart by its own reader.
                if place.parent.is_none() && key == "NetworkAcls" {
                    refuse_depth(value, &place.child(key, None), depth - 1, report);
                } else if denies(key, value) {
                    let message = "security groups only permit: a rule cannot deny";
                    report.fault("InvalidParameterValue", place.child(key, None).to_string(), message);
                } else if matches!(value, Tree::List(_) | Tree::Object(_)) {
                    refuse_denials(value, &place.child(key, None), depth - 1, report);
                }
            }
        }
        Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::String(_) => {}
    }
}

/// Refuses deep nesting alone.
fn refuse_depth(value: &Tree<'_>, place: &Place<'_>, depth: usize, report: &mut Report) {
    let inner: Vec<&Tree<'_>> = match value {
        Tree::List(items) => items.iter().collect(),
        Tree::Object(object) => object.iter().map(|(_, value)| value).collect(),
        Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::String(_) => return,
    };
    if depth == 0 {
        let message = format!("values nest more than {MAX_DEPTH} deep");
        report.fault("InvalidParameterValue", place.to_string(), message);
        return;
    }
    inner.into_iter().for_each(|value| refuse_depth(value, place, depth - 1, report));
}

/// Whether a key and its value ask for traffic to be denied: an action that
/// does not permit, or a key of denials that is not empty.
fn denies(key: &str, value: &Tree<'_>) -> bool {
    if is_action(key) {
        let permits = |v: &str| ["allow", "permit", "accept"].iter().any(|p| v.eq_ignore_ascii_case(p));
        return value.as_str().is_some_and(|v| !permits(v));
    }
    if !is_of_denials(key) {
        return false;
    }
    match value {
        Tree::Null | Tree::Bool(false) => false,
        Tree::List(items) => !items.is_empty(),
        Tree::Bool(true) | Tree::Number(_) | Tree::String(_) | Tree::Object(_) => true,
    }
}

/// Whether there are values with which a key asks for traffic to be denied.
pub(crate) fn may_deny(key: &str) -> bool {
    is_action(key) || is_of_denials(key)
}

fn is_action(key: &str) -> bool {
    ["action", "ruleaction", "effect"].iter().any(|word| key.eq_ignore_ascii_case(word))
}

fn is_of_denials(key: &str) -> bool {
    // Four letters at once, small ones: each key of a document is looked at.
    let is_deny = |part: &[u8; 4]| u32::from_ne_bytes(*part) | 0x2020_2020 == u32::from_ne_bytes(*b"deny");
    let bytes = key.as_bytes();
    let is = bytes.first_chunk().is_some_and(is_deny) || bytes.last_chunk().is_some_and(is_deny);
    // The one exception is AWS's, of interfaces without a way to the internet; no rule.
    is && !key.eq_ignore_ascii_case("denyalligwtraffic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_denials_are_told_in_any_letters() {
        for key in ["deny", "DENY", "DenyRules", "denied_DenY", "RulesDENY"] {
            assert!(denies(key, &Tree::Bool(true)), "{key}");
            assert!(!denies(key, &Tree::Bool(false)) && !denies(key, &Tree::List(&[])), "{key}");
        }
        for key in
            ["den", "Deni", "d\u{5}ny", "denied", "DenyAllIgwTraffic", "denyALLigwtraffic", "", "Identity"]
        {
            assert!(!denies(key, &Tree::Bool(true)), "{key}");
        }
        for key in ["Action", "ruleACTION", "Effect"] {
            assert!(denies(key, &Tree::String("drop")) && !denies(key, &Tree::String("Allow")), "{key}");
        }
    }
}
