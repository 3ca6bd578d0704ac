use std::fmt;

use serde_json::{Map, Value};

use crate::report::{Faults, Report};

/// A value of a document and its place.
#[derive(Clone)]
pub(crate) struct Node<'v> {
    pub value: &'v Value,
    pub path: String,
}

/// What kind of value this is, in a document's words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl<'v> Node<'v> {
    pub fn root(value: &'v Value) -> Node<'v> {
        Node { value, path: String::new() }
    }

    fn wrong(&self, report: &mut Report, expected: &str) {
        let message = format!("expected {expected}, found {}", kind(self.value));
        report.fault("InvalidParameterValue", &self.path, message);
    }

    /// The value under a key; null counts as missing.
    pub fn get(&self, key: &str) -> Option<Node<'v>> {
        let value = self.value.get(key).filter(|v| !v.is_null())?;
        let path = if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) };
        Some(Node { value, path })
    }

    /// The object this is; a fault and `None` if it is something else.
    pub fn object(&self, report: &mut Report) -> Option<&'v Map<String, Value>> {
        let object = self.value.as_object();
        if object.is_none() {
            self.wrong(report, "an object");
        }
        object
    }

    /// The items of the list under a key; none if it is missing.
    pub fn list(&self, report: &mut Report, key: &str) -> Vec<Node<'v>> {
        let Some(list) = self.get(key) else { return vec![] };
        let Some(items) = list.value.as_array() else {
            list.wrong(report, "a list");
            return vec![];
        };
        let node = |(i, value)| Node { value, path: format!("{}[{i}]", list.path) };
        items.iter().enumerate().map(node).collect()
    }

    /// The string under a key.
    pub fn string(&self, report: &mut Report, key: &str) -> Option<&'v str> {
        let node = self.get(key)?;
        if node.value.as_str().is_none() {
            node.wrong(report, "a string");
        }
        node.value.as_str()
    }

    /// The string under a key that must be there.
    pub fn required(&self, report: &mut Report, key: &str) -> Option<&'v str> {
        if self.get(key).is_none() {
            let path = if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) };
            report.fault("MissingParameter", path, format!("the request must contain the parameter {key}"));
        }
        self.string(report, key)
    }

    /// The whole number under a key, within bounds.
    pub fn number(
        &self,
        report: &mut Report,
        key: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let node = self.get(key)?;
        let number = node.value.as_i64().filter(|n| range.contains(n));
        if number.is_none() {
            let (low, high) = (range.start(), range.end());
            let found = match node.value {
                Value::Number(n) => n.to_string(),
                other => kind(other).to_string(),
            };
            let message = format!("expected a whole number from {low} to {high}, found {found}");
            report.fault("InvalidParameterValue", &node.path, message);
        }
        number
    }

    /// The boolean under a key.
    pub fn flag(&self, report: &mut Report, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        if node.value.as_bool().is_none() {
            node.wrong(report, "true or false");
        }
        node.value.as_bool()
    }

    /// Notes keys that nobody reads, and refuses what would deny (D26).
    pub fn known(&self, report: &mut Report, known: &[&str]) {
        let Some(object) = self.object(report) else { return };
        for (key, value) in object {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            let denies = value
                .as_str()
                .is_some_and(|v| v.eq_ignore_ascii_case("deny") || v.eq_ignore_ascii_case("drop"));
            if denies && ["Action", "RuleAction", "Effect"].iter().any(|k| k.eq_ignore_ascii_case(key)) {
                report.fault(
                    "InvalidParameterValue",
                    path,
                    "security groups only permit: a rule cannot deny",
                );
            } else if !known.contains(&key.as_str()) {
                report.notice(path, "this key is not known and has no effect");
            }
        }
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Puts documents side by side into one: lists are joined in the order of the
/// files, objects too.
///
/// # Errors
/// A file that is no object; a key that is a list in one and something else in
/// another; a setting that two files give differently.
pub fn merge(parts: Vec<(String, Value)>) -> Result<Value, Faults> {
    let mut report = Report::default();
    let mut whole = Map::new();
    for (file, part) in parts {
        let Value::Object(part) = part else {
            report.fault("InvalidParameterValue", file, format!("expected an object, found {}", kind(&part)));
            continue;
        };
        for (key, value) in part {
            match (whole.get_mut(&key), value) {
                (None, value) => {
                    whole.insert(key, value);
                }
                (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
                (Some(Value::Object(all)), Value::Object(more)) => {
                    for (inner, value) in more {
                        if all.get(&inner).is_some_and(|v| *v != value) {
                            let message = format!("{file} gives another value for it than a file before");
                            report.fault("InvalidParameterValue", format!("{key}.{inner}"), message);
                        }
                        all.insert(inner, value);
                    }
                }
                (Some(before), value) if *before == value => {}
                (Some(before), value) => {
                    let message =
                        format!("{file} has {} where a file before has {}", kind(&value), kind(before));
                    report.fault("InvalidParameterValue", key, message);
                }
            }
        }
    }
    if report.faults.errors.is_empty() { Ok(Value::Object(whole)) } else { Err(report.faults) }
}
