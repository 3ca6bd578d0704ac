//! From the bytes of files to one document.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::reader::kind;
use crate::report::{Fault, Faults, Report};

/// Reads a file of JSON: one document or several one after the other, as
/// outputs of the AWS CLI put together. Each is named after the file.
///
/// # Errors
/// What is not JSON, UTF-8 included; values nested deeper than 127; a key that
/// an object has twice, since one of the two would be lost.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<(String, Value)>, Faults> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let fault = |message: String| Fault { code: "MalformedDocument", message, path: file.to_string() };
    let mut parts = Vec::new();
    for value in serde_json::Deserializer::from_slice(bytes).into_iter::<Strict>() {
        let Strict(value) = value.map_err(|error| fault(error.to_string()))?;
        parts.push((file.to_string(), value));
    }
    if parts.is_empty() { Err(fault("the file is empty".to_string()).into()) } else { Ok(parts) }
}

/// A value none of whose objects has a key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(de::Error::custom(format!("the key '{key}' is there twice")));
            }
            let Strict(value) = entries.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// Puts documents side by side into one: lists are joined in the order of the
/// files, objects too. A `NextToken` of any is one of all.
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
                // The CLI writes those into every output.
                (_, Value::Null) => {}
                (Some(_), _) if key == "NextToken" || key == "ResponseMetadata" => {}
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
    report.finish().map(|_| Value::Object(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(bytes: &[u8]) -> String {
        let faults = parse("p.json", bytes).unwrap_err();
        let [fault] = &faults.errors[..] else { panic!("{faults:?}") };
        assert_eq!((fault.code, fault.path.as_str()), ("MalformedDocument", "p.json"));
        fault.message.clone()
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        assert!(refusal(b"").contains("empty"));
        assert!(refusal(b"{\"a\": 1").contains("line 1"));
        assert!(refusal(b"{\"a\": \"\xff\"}").contains("unicode"));
        assert!(refusal(&[b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat()).contains("recursion"));
        assert!(refusal(b"{} x").contains("column 4"));
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused() {
        assert!(refusal(br#"{"SecurityGroups": [], "SecurityGroups": [1]}"#).contains("'SecurityGroups'"));
        assert!(refusal(br#"{"a": [{"b": 1, "b": 1}]}"#).contains("'b' is there twice"));
        assert!(parse("p", br#"{"a": {"b": 1}, "b": {"b": 1}}"#).is_ok());
    }

    #[test]
    fn one_file_may_hold_several_documents() {
        let parts = parse("p", b"\xef\xbb\xbf{\"A\": [1]}\n{\"A\": [2.5, -1, null, true, \"x\"]}").unwrap();
        assert_eq!(merge(parts).unwrap(), json!({ "A": [1, 2.5, -1, null, true, "x"] }));
    }

    #[test]
    fn documents_side_by_side_are_one() {
        let part = |name: &str, value| (name.to_string(), value);
        let merged = merge(vec![
            part(
                "a",
                json!({ "SecurityGroups": [1], "Settings": { "x": 1 }, "ResponseMetadata": { "id": 1 } }),
            ),
            part(
                "b",
                json!({ "SecurityGroups": [2], "Settings": { "y": 2 }, "ResponseMetadata": { "id": 2 } }),
            ),
            part("c", json!({ "NextToken": "t", "Vpcs": null, "SecurityGroups": [] })),
            part("d", json!({ "NextToken": "u", "PrefixListEntries": { "pl-1": [] } })),
        ]);
        let whole = json!({
            "SecurityGroups": [1, 2], "Settings": { "x": 1, "y": 2 }, "ResponseMetadata": { "id": 1 },
            "NextToken": "t", "PrefixListEntries": { "pl-1": [] },
        });
        assert_eq!(merged.unwrap(), whole);
    }

    #[test]
    fn documents_that_contradict_each_other_are_refused() {
        let part = |value| ("f".to_string(), value);
        let faults = merge(vec![
            part(json!({ "Vpcs": [], "Settings": { "x": 1 } })),
            part(json!({ "Vpcs": {}, "Settings": { "x": 2 } })),
            part(json!([1])),
        ]);
        let paths: Vec<_> = faults.unwrap_err().errors.into_iter().map(|f| f.path).collect();
        assert_eq!(paths, ["Settings.x", "Vpcs", "f"]);
    }
}
