//! Every input that is kept, once more: the corpora, and what fuzzers have found.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// Runs a target on the files of its folders.
fn replay(name: &str, target: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for file in files(&root.join("corpus").join(name)).into_iter().chain(findings(root, name)) {
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if catch_unwind(|| target(&bytes)).is_err() {
            broken.push(file);
        }
    }
    assert!(broken.is_empty(), "{name} does not hold for {broken:#?}");
}

/// The files of a folder, which must have some: an empty one would prove nothing.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// What was found in a target; there is no folder as long as that is nothing.
fn findings(root: &Path, name: &str) -> Vec<PathBuf> {
    let folder = root.join("regressions").join(name);
    if folder.exists() { files(&folder) } else { vec![] }
}

#[test]
fn packet() {
    replay("packet", fuzz_targets::packet);
}

#[test]
fn pipeline() {
    replay("pipeline", fuzz_targets::pipeline);
}

#[test]
fn document() {
    replay("document", fuzz_targets::document);
}

#[test]
fn edit() {
    replay("edit", fuzz_targets::edit);
}

#[test]
fn explain() {
    replay("explain", fuzz_targets::explain);
}

#[test]
fn table() {
    replay("table", fuzz_targets::table);
}
