//! From the bytes of files to one document.

use std::collections::BTreeMap;

use serde::de::DeserializeSeed;
use serde_json::de::{Deserializer, Read, SliceRead, StrRead};

use crate::report::{Fault, Faults, Report};
use crate::tree::{Arena, Object, Reader, Tree};

/// Reads a file of JSON: one document or several one after the other, as
/// outputs of the AWS CLI put together. Each is named after the file.
///
/// # Errors
/// What is not JSON, UTF-8 included; values nested deeper than 127; a key that
/// an object has twice, since one of the two would be lost.
pub fn parse<'d>(arena: &'d Arena, file: &str, bytes: &'d [u8]) -> Result<Vec<(String, Tree<'d>)>, Faults> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let values = match std::str::from_utf8(bytes) {
        Ok(text) => values(arena, StrRead::new(text)),
        // It tells where.
        Err(_) => values(arena, SliceRead::new(bytes)),
    };
    let fault = |message: String| Fault { code: "MalformedDocument", message, path: file.to_string() };
    let values = values.map_err(|error| fault(error.to_string()))?;
    match values.is_empty() {
        true => Err(fault("the file is empty".to_string()).into()),
        false => Ok(values.into_iter().map(|value| (file.to_string(), value)).collect()),
    }
}

fn values<'d>(arena: &'d Arena, read: impl Read<'d>) -> Result<Vec<Tree<'d>>, serde_json::Error> {
    let mut deserializer = Deserializer::new(read);
    let reader = Reader::new(arena);
    let mut values = Vec::new();
    // It is an error if there is more.
    while deserializer.end().is_err() {
        values.push(reader.deserialize(&mut deserializer)?);
    }
    Ok(values)
}

/// Puts documents side by side into one: lists are joined in the order of the
/// files, objects too. A `NextToken` of any is one of all.
///
/// # Errors
/// A file that is no object; a key that is a list in one and something else in
/// another; a setting that two files give differently.
pub fn merge<'d>(arena: &'d Arena, parts: Vec<(String, Tree<'d>)>) -> Result<Tree<'d>, Faults> {
    let mut report = Report::default();
    let mut whole: BTreeMap<&str, Tree<'_>> = BTreeMap::new();
    for (file, part) in parts {
        let Some(part) = part.as_object() else {
            report.fault("InvalidParameterValue", file, format!("expected an object, found {}", part.kind()));
            continue;
        };
        for (key, value) in part.iter() {
            match (whole.get_mut(key), value) {
                // The CLI writes those into every output.
                (_, Tree::Null) => {}
                (Some(_), _) if key == "NextToken" || key == "ResponseMetadata" => {}
                (None, value) => {
                    whole.insert(key, value.clone());
                }
                (Some(all @ Tree::List(_)), Tree::List(more)) => {
                    let items: Vec<_> = all.as_list().into_iter().flatten().chain(*more).cloned().collect();
                    *all = arena.list(items);
                }
                (Some(all @ Tree::Object(_)), Tree::Object(more)) => {
                    let mut entries: BTreeMap<_, _> = all.as_object().iter().flat_map(Object::iter).collect();
                    for (inner, value) in more.iter() {
                        if entries.insert(inner, value).is_some_and(|before| before != value) {
                            let message = format!("{file} gives another value for it than a file before");
                            report.fault("InvalidParameterValue", format!("{key}.{inner}"), message);
                        }
                    }
                    let entries = entries.into_iter().map(|(key, value)| (key, value.clone()));
                    *all = arena.object(entries.collect());
                }
                (Some(before), value) if before == value => {}
                (Some(before), value) => {
                    let message =
                        format!("{file} has {} where a file before has {}", value.kind(), before.kind());
                    report.fault("InvalidParameterValue", key, message);
                }
            }
        }
    }
    report.finish().map(|_| arena.object(whole.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refusal(bytes: &[u8]) -> String {
        let faults = parse(&Arena::default(), "p.json", bytes).unwrap_err();
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
        assert!(parse(&Arena::default(), "p", br#"{"a": {"b": 1}, "b": {"b": 1}}"#).is_ok());
        // Also of many keys.
        let many = |last: &str| {
            let keys: Vec<_> = (0..100).map(|n| format!("\"k{n}\": {{\"k1\": 1}}")).collect();
            format!("{{{}, \"{last}\": 1}}", keys.join(", "))
        };
        for key in ["k0", "k15", "k16", "k17", "k99"] {
            assert!(refusal(many(key).as_bytes()).contains(&format!("'{key}' is there twice")));
        }
        let (arena, whole) = (Arena::default(), many("k100"));
        let parts = parse(&arena, "p", whole.as_bytes()).unwrap();
        let of = |key| parts[0].1.get(key).map(ToString::to_string);
        assert_eq!([of("k7"), of("k100"), of("k101")], [Some("{\"k1\":1}".into()), Some("1".into()), None]);
    }

    #[test]
    fn one_file_may_hold_several_documents() {
        let arena = Arena::default();
        let text = b"\xef\xbb\xbf{\"A\": [1]}\n{\"A\": [2.5, -1, null, true, \"x\\n\"]}";
        let merged = merge(&arena, parse(&arena, "p", text).unwrap()).unwrap();
        assert_eq!(json!(merged), json!({ "A": [1, 2.5, -1, null, true, "x\n"] }));
    }

    fn merged(parts: &[(&str, Value)]) -> Result<Value, Faults> {
        let arena = Arena::default();
        let parts = parts.iter().map(|(name, value)| (name.to_string(), arena.tree(value)));
        merge(&arena, parts.collect()).map(|whole| json!(whole))
    }

    #[test]
    fn documents_side_by_side_are_one() {
        let part = |name, value| (name, value);
        let merged = merged(&[
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
        let part = |value| ("f", value);
        let faults = merged(&[
            part(json!({ "Vpcs": [], "Settings": { "x": 1 } })),
            part(json!({ "Vpcs": {}, "Settings": { "x": 2 } })),
            part(json!([1])),
        ]);
        let paths: Vec<_> = faults.unwrap_err().errors.into_iter().map(|f| f.path).collect();
        assert_eq!(paths, ["Settings.x", "Vpcs", "f"]);
    }
}
