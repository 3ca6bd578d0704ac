//! Documents from files: JSON or YAML, side by side.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::EXIT_INVALID;
use crate::client::Failure;

/// Reads files and puts them side by side: lists of the same name are joined.
pub fn read(files: &[PathBuf]) -> Result<Value, Failure> {
    let read = |file: &PathBuf| Ok((file.display().to_string(), read_one(file)?));
    let parts = files.iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
    policy::merge(parts).map_err(|faults| Failure { exit: EXIT_INVALID, body: json!(faults) })
}

fn read_one(file: &Path) -> Result<Value, Failure> {
    let mut bytes = Vec::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().lock().read_to_end(&mut bytes),
        _ => std::fs::File::open(file).and_then(|mut f| f.read_to_end(&mut bytes)),
    };
    read.map_err(|error| invalid(file, &format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        invalid(file, &format!("is no UTF-8, from byte {} on", error.utf8_error().valid_up_to()))
    })?;
    // JSON is YAML too, but its own parser says better what is wrong.
    match text.trim_start().starts_with(['{', '[']) {
        true => serde_json::from_str(&text).map_err(|error| invalid(file, &format!("is no JSON: {error}"))),
        false => {
            serde_yaml_ng::from_str(&text).map_err(|error| invalid(file, &format!("is no YAML: {error}")))
        }
    }
}

fn invalid(file: &Path, message: &str) -> Failure {
    Failure::local(EXIT_INVALID, "MalformedDocument", format!("{}: {message}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(contents: &[&[u8]]) -> (PathBuf, Vec<PathBuf>) {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = std::env::temp_dir().join(format!(
            "sgctl-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        std::fs::create_dir(&folder).unwrap();
        let paths = contents.iter().enumerate().map(|(i, content)| {
            let path = folder.join(i.to_string());
            std::fs::write(&path, content).unwrap();
            path
        });
        (folder.clone(), paths.collect())
    }

    #[test]
    fn json_and_yaml_side_by_side() {
        let (folder, paths) = files(&[
            br#"{"Vpcs": [{"VpcId": "vpc-1"}]}"#,
            b"Vpcs:\n- VpcId: vpc-2\nSettings:\n  Quotas: unlimited\n",
        ]);
        let whole = read(&paths).unwrap();
        assert_eq!(
            whole,
            json!({ "Vpcs": [{ "VpcId": "vpc-1" }, { "VpcId": "vpc-2" }], "Settings": { "Quotas": "unlimited" } })
        );
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_be_read_names_the_file() {
        for (content, word) in [
            (&b"{\"a\": }"[..], "no JSON"),
            (b"a: [", "no YAML"),
            (b"[1]", "expected an object"),
            (b"{\"a\": \"\xff\"}", "byte 7"),
        ] {
            let (folder, paths) = files(&[content]);
            let failure = read(&paths).unwrap_err();
            let message = failure.body.to_string();
            assert!(message.contains(word) && message.contains("/0"), "{message}");
            assert_eq!(failure.exit, EXIT_INVALID);
            std::fs::remove_dir_all(folder).unwrap();
        }
        let (folder, paths) = files(&[b"{\"a\": [1]}", b"{\"a\": 2}"]);
        assert!(read(&paths).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
