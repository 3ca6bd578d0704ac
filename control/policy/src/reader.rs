//! Values of a document with their places, so that whatever is wrong can be
//! told with its path. A path becomes text only when it is told.

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::report::Report;

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
    pub value: &'v Value,
    place: Place<'p>,
}

/// What kind of value this is, in a document's words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl<'v> Node<'v, 'static> {
    pub fn root(value: &'v Value) -> Node<'v, 'static> {
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
        let message = format!("expected {expected}, found {}", kind(self.value));
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
    pub fn object(&self, report: &mut Report) -> Option<&'v Map<String, Value>> {
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
    pub fn list<'s>(&'s self, report: &mut Report, key: &'s str) -> Vec<Node<'v, 's>> {
        let Some(list) = self.get(key) else { return vec![] };
        let Some(items) = list.value.as_array() else {
            list.wrong(report, "a list");
            return vec![];
        };
        let node = |(i, value)| Node { value, place: self.place.child(key, Some(i)) };
        items.iter().enumerate().map(node).filter(|item| item.object(report).is_some()).collect()
    }

    /// The string under a key.
    pub fn string(&self, report: &mut Report, key: &str) -> Option<&'v str> {
        let node = self.get(key)?;
        let text = node.value.as_str();
        if text.is_none() {
            node.wrong(report, "a string");
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
        if !self.has(key) {
            self.missing(report, key);
        }
        self.string(report, key)
    }

    /// The whole number under a key, within bounds.
    pub fn number(&self, report: &mut Report, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let node = self.get(key)?;
        let number = node.value.as_i64().filter(|n| range.contains(n));
        if number.is_none() {
            let found = match node.value {
                Value::Number(n) => n.to_string(),
                other => kind(other).to_string(),
            };
            let (low, high) = (range.start(), range.end());
            let message = format!("expected a whole number from {low} to {high}, found {found}");
            report.fault("InvalidParameterValue", node.path(), message);
        }
        number
    }

    /// The boolean under a key.
    pub fn flag(&self, report: &mut Report, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        let flag = node.value.as_bool();
        if flag.is_none() {
            node.wrong(report, "true or false");
        }
        flag
    }

    /// Notes keys that are in none of these lists.
    pub fn known(&self, report: &mut Report, used: &[&str], unused: &[&str]) {
        let Some(object) = self.value.as_object() else { return };
        for key in object.keys().map(String::as_str).filter(|k| !used.contains(k) && !unused.contains(k)) {
            report.notice(self.path_of(key), "this key is not known and has no effect");
        }
    }

    /// Refuses what would deny (D26), wherever in the document it is, and
    /// nesting deeper than any document has.
    pub fn refuse_denials(&self, report: &mut Report) {
        refuse_denials(self.value, &self.place, MAX_DEPTH, report);
    }
}

/// How deep values may nest. AWS's reach 8.
const MAX_DEPTH: usize = 32;

fn refuse_denials(value: &Value, place: &Place<'_>, depth: usize, report: &mut Report) {
    if depth == 0 {
        let message = format!("values nest more than {MAX_DEPTH} deep");
        report.fault("InvalidParameterValue", place.to_string(), message);
        return;
    }
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                // A list within a list has no key of its own.
                let place = place.child("", Some(i));
                refuse_denials(item, &place, depth - 1, report);
            }
        }
        Value::Object(object) => {
            for (key, value) in object {
                let place = place.child(key, None);
                // What is there to deny is told apart by its own reader.
                if key == "NetworkAcls" && place.parent.is_some_and(|p| p.parent.is_none()) {
                    refuse_depth(value, &place, depth - 1, report);
                } else if denies(key, value) {
                    let message = "security groups only permit: a rule cannot deny";
                    report.fault("InvalidParameterValue", place.to_string(), message);
                } else if value.is_array() || value.is_object() {
                    refuse_denials(value, &place, depth - 1, report);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Refuses deep nesting alone.
fn refuse_depth(value: &Value, place: &Place<'_>, depth: usize, report: &mut Report) {
    let inner: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(object) => object.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
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
fn denies(key: &str, value: &Value) -> bool {
    let key = key.to_ascii_lowercase();
    match key.as_str() {
        "action" | "ruleaction" | "effect" => value
            .as_str()
            .is_some_and(|v| !["allow", "permit", "accept"].iter().any(|p| v.eq_ignore_ascii_case(p))),
        // AWS's, of interfaces without a way to the internet; no rule.
        "denyalligwtraffic" => false,
        key if key.starts_with("deny") || key.ends_with("deny") => match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Object(_) => true,
        },
        _ => false,
    }
}
