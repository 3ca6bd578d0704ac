//! Documents from files: JSON or YAML, side by side.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use policy::{Arena, Object, Tree};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::Failure;
use crate::progress::{self, Step};
use crate::{EXIT_INVALID, EXIT_OTHER};

/// Files put side by side.
#[derive(Debug)]
pub struct Documents {
    /// The one document that they are.
    pub whole: Value,
    origins: Vec<Origin>,
}

/// Where a file's items of a list begin.
#[derive(Debug)]
struct Origin {
    list: String,
    start: usize,
    file: String,
}

/// Reads files and puts them side by side: lists of the same name are joined.
pub fn read(files: &[PathBuf]) -> Result<Documents, Failure> {
    // Whoever types a document sees it.
    if std::io::stdin().is_terminal() && files.iter().any(|file| is_standard_input(file)) {
        return read_all(files);
    }
    progress::beside(&Step::new("reading the documents"), || read_all(files))
}

fn is_standard_input(file: &Path) -> bool {
    file.to_str() == Some("-")
}

fn read_all(files: &[PathBuf]) -> Result<Documents, Failure> {
    let arena = Arena::default();
    let files: Vec<File> = files.iter().map(|file| read_one(file)).collect::<Result<_, _>>()?;
    let mut parts = Vec::new();
    for file in &files {
        match &file.content {
            Content::Json(bytes) => {
                let read = policy::parse(&arena, &file.name, bytes);
                parts.extend(read.map_err(|faults| invalid(json!(faults)))?);
            }
            Content::Yaml(values) => {
                parts.extend(values.iter().map(|value| (file.name.clone(), arena.tree(value))));
            }
        }
    }
    let origins = if parts.len() > 1 { origins(&parts) } else { vec![] };
    let whole = policy::merge(&arena, parts).map_err(|faults| invalid(json!(faults)))?;
    Ok(Documents { whole: json!(whole), origins })
}

fn origins(parts: &[(String, Tree<'_>)]) -> Vec<Origin> {
    let mut origins: Vec<Origin> = Vec::new();
    let mut lengths = std::collections::HashMap::new();
    for (file, part) in parts {
        for (list, value) in part.as_object().iter().flat_map(Object::iter) {
            let Some(items) = value.as_list() else { continue };
            let start = lengths.entry(list).or_insert(0);
            origins.push(Origin { list: list.to_string(), start: *start, file: file.clone() });
            *start += items.len();
        }
    }
    origins
}

impl Documents {
    /// Adds to each error the file that has its place, where there are several.
    pub fn locate(&self, failure: &mut Failure) {
        for error in failure.body["errors"].as_array_mut().into_iter().flatten() {
            let file = error["path"].as_str().and_then(|path| self.file(path));
            if let Some(file) = file {
                error["file"] = json!(file);
            }
        }
    }

    /// The file that a place of the whole is from, and the place in it.
    fn file(&self, path: &str) -> Option<String> {
        let (list, rest) = path.split_once('[')?;
        let (index, rest) = rest.split_once(']')?;
        let index: usize = index.parse().ok()?;
        let of_list = |origin: &&Origin| origin.list == list && origin.start <= index;
        let Origin { start, file, .. } = self.origins.iter().rev().find(of_list)?;
        Some(format!("{file}: {list}[{}]{rest}", index - start))
    }
}

/// What is in a file.
struct File {
    name: String,
    content: Content,
}

enum Content {
    Json(Vec<u8>),
    Yaml(Vec<Value>),
}

fn read_one(file: &Path) -> Result<File, Failure> {
    let mut bytes = Vec::new();
    let read = match is_standard_input(file) {
        true => std::io::stdin().lock().read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|mut f| f.read_to_end(&mut bytes)),
    };
    let name = file.display().to_string();
    read.map_err(|error| {
        Failure::local(EXIT_OTHER, "UnreadableFile", format!("{name} cannot be read: {error}"))
    })?;
    let content = match is_yaml(file, &bytes) {
        true => Content::Yaml(yaml(&name, &bytes)?),
        false => Content::Json(bytes),
    };
    Ok(File { name, content })
}

/// By name; where that says nothing, by the first character. JSON is YAML too,
/// but its own parser says better what is wrong.
fn is_yaml(file: &Path, bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    match file.extension().and_then(|e| e.to_str()) {
        Some("yaml" | "yml") => true,
        Some("json") => false,
        _ => !matches!(text.first(), None | Some(b'{' | b'[')),
    }
}

/// One document or several, divided by `---`; those that are empty are left out.
fn yaml(name: &str, bytes: &[u8]) -> Result<Vec<Value>, Failure> {
    let wrong = |message: String| {
        let error = json!({ "code": "MalformedDocument", "message": message, "path": name });
        invalid(json!({ "errors": [error], "not_listed": 0 }))
    };
    let mut values = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_slice(bytes) {
        // By way of YAML's own values, which refuse a key that is there twice.
        let value = serde_yaml_ng::Value::deserialize(document)
            .map_err(|error| wrong(format!("is no YAML: {error}")))?;
        let value = serde_json::to_value(value)
            .map_err(|error| wrong(format!("has what JSON cannot say: {error}")))?;
        if !value.is_null() {
            values.push(value);
        }
    }
    match values.is_empty() {
        true => Err(wrong("the file is empty".to_string())),
        false => Ok(values),
    }
}

fn invalid(body: Value) -> Failure {
    Failure { exit: EXIT_INVALID, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(contents: &[(&str, &[u8])]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let write = |(name, content): &(&str, &[u8])| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let paths = contents.iter().map(write).collect();
        (folder, paths)
    }

    #[test]
    fn json_and_yaml_side_by_side() {
        let (_folder, paths) = files(&[
            ("a.json", br#"{"Vpcs": [{"VpcId": "vpc-1"}]} {"Vpcs": []}"#),
            ("b.yaml", b"Vpcs:\n- VpcId: vpc-2\n---\n---\nSettings: {Quotas: unlimited}\n"),
            ("c", b"\xef\xbb\xbf{\"Vpcs\": [{\"VpcId\": \"vpc-3\"}]}"),
            ("d", b"# YAML by its looks\nVpcs: [{VpcId: vpc-4}]"),
        ]);
        let vpc = |n| json!({ "VpcId": format!("vpc-{n}") });
        let whole =
            json!({ "Vpcs": [vpc(1), vpc(2), vpc(3), vpc(4)], "Settings": { "Quotas": "unlimited" } });
        assert_eq!(read(&paths).unwrap().whole, whole);
    }

    #[test]
    fn what_is_wrong_names_the_file() {
        for (name, content, word) in [
            ("a.json", &b"{\"a\": }"[..], "expected value"),
            ("a.json", b"a: 1", "expected value"),
            ("a", b"a: [", "no YAML"),
            ("a.yml", b"a: 1\na: 2", "duplicate"),
            ("a", b"{\"a\": 1, \"a\": 2}", "twice"),
            ("a", b"[1]", "expected an object"),
            ("a", b"", "empty"),
            ("a.yaml", b"# nothing\n", "empty"),
            ("a", b"{\"a\": \"\xff\"}", "unicode"),
            ("a.yaml", b"\xff\xfe", "no YAML"),
        ] {
            let (_folder, paths) = files(&[(name, content)]);
            let failure = read(&paths).unwrap_err();
            let error = &failure.body["errors"][0];
            assert!(error["message"].as_str().unwrap().contains(word), "{error}");
            assert!(error["path"].as_str().unwrap().ends_with(name), "{error}");
            assert_eq!(failure.exit, EXIT_INVALID);
        }
        let (_folder, paths) = files(&[("a", b"{\"a\": [1]}"), ("b", b"{\"a\": 2}")]);
        assert_eq!(read(&paths).unwrap_err().exit, EXIT_INVALID);
        assert_eq!(read(&["/nonexistent".into()]).unwrap_err().exit, EXIT_OTHER);
    }

    #[test]
    fn an_error_is_located_in_its_file() {
        let (folder, paths) =
            files(&[("a", br#"{"G": [1, 2], "H": [1]}"#), ("b", br#"{"H": [2, 3], "G": [3]}"#)]);
        let documents = read(&paths).unwrap();
        let place = |path: &str| documents.file(path);
        let file = |name: &str| folder.path().join(name).display().to_string();
        assert_eq!(place("G[1].X"), Some(format!("{}: G[1].X", file("a"))));
        assert_eq!(place("G[2].X[0]"), Some(format!("{}: G[0].X[0]", file("b"))));
        assert_eq!(place("H[2]"), Some(format!("{}: H[1]", file("b"))));
        assert_eq!(place("I[0]"), None);
        assert_eq!(place("Settings.Quotas"), None);
        assert_eq!(read(&paths[..1]).unwrap().file("G[1]"), None, "of one file there is nothing to say");
    }
}
