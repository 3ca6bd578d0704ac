//! Which tests prove which requirement: from the requirements' list, the names
//! of tests, and what a run of them printed.
//!
//! A test proves what its name begins with: `s3_s50_to_s54_d14_words` is for S3,
//! S50 to S54 and D14, `r7_12_words` for the 12th line of section 7.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A line of the list.
struct Requirement {
    id: String,
    statement: String,
    /// Why it cannot be met, where it cannot.
    unmet: Option<String>,
}

/// A test as it was reported: the program it is in, its name, its result.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    program: String,
    name: String,
    ok: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (log, write) = match words[..] {
        [log] => (log, false),
        ["--write", log] => (log, true),
        _ => {
            eprintln!("conformance [--write] LOG: LOG is what `cargo test --workspace` has printed");
            return ExitCode::from(2);
        }
    };
    match run(Path::new(log), write) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(log: &Path, write: bool) -> Result<bool, String> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|e| format!("{} cannot be read: {e}", path.display()));
    let text = |path: &Path| read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let requirements = requirements(&text(&root.join("requirements.tsv"))?)?;
    let proofs = proofs(&tests(&text(log)?));
    let known: BTreeSet<&str> = requirements.iter().map(|r| r.id.as_str()).collect();
    if let Some((id, tests)) = proofs.iter().find(|(id, _)| !known.contains(id.as_str())) {
        return Err(format!("{} claims to prove {id}, which is no requirement", names(tests)));
    }
    let (mut passed, mut failed, mut missing) = (0, 0, 0);
    for requirement in &requirements {
        let proving = proofs.get(&requirement.id).map_or(&[][..], Vec::as_slice);
        let result = match (&requirement.unmet, proving) {
            (Some(reason), _) => format!("not met: {reason}"),
            (None, []) => {
                missing += 1;
                "MISSING".to_string()
            }
            (None, tests) if tests.iter().all(|t| t.ok) => {
                passed += 1;
                format!("ok: {}", names(tests))
            }
            (None, tests) => {
                failed += 1;
                let broken: Vec<Test> = tests.iter().filter(|t| !t.ok).cloned().collect();
                format!("FAILED: {}", names(&broken))
            }
        };
        println!("{:<6} {result}", requirement.id);
    }
    let table = table(&requirements, &proofs);
    let page = root.join("../docs/conformance.md");
    let mut current = true;
    if write {
        std::fs::write(&page, table).map_err(|e| format!("{} cannot be written: {e}", page.display()))?;
    } else if text(&page)? != table {
        println!("docs/conformance.md is out of date: make it anew with scripts/conformance --write");
        current = false;
    }
    println!("conformance: {passed} passed, {failed} failed, {missing} missing");
    Ok(failed + missing == 0 && current)
}

fn names(tests: &[Test]) -> String {
    tests.iter().map(|t| format!("{} {}", t.program, t.name)).collect::<Vec<_>>().join(", ")
}

fn requirements(list: &str) -> Result<Vec<Requirement>, String> {
    let line = |line: &str| {
        let mut parts = line.split('\t').map(str::to_string);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(id), Some(statement), unmet) => Ok(Requirement { id, statement, unmet }),
            _ => Err(format!("requirements.tsv: '{line}' is not: id, tab, statement")),
        }
    };
    list.lines().map(line).collect()
}

/// The tests of a run, each once; one that is run by several programs is ok if all are.
fn tests(log: &str) -> Vec<Test> {
    let mut program = String::new();
    let mut all: BTreeMap<(String, String), bool> = BTreeMap::new();
    for line in log.lines() {
        let line = line.trim();
        if let Some((_, path)) = line.strip_prefix("Running ").and_then(|rest| rest.split_once('(')) {
            let file = path.trim_end_matches(')').rsplit('/').next().unwrap_or_default();
            program = file.rsplit_once('-').map_or(file, |(name, _)| name).to_string();
        }
        let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            continue;
        };
        // What a test itself prints may stand between its name and its result.
        let ok = result == "ok" || result.ends_with(" ok");
        *all.entry((program.clone(), name.trim().to_string())).or_insert(true) &= ok;
    }
    all.into_iter().map(|((program, name), ok)| Test { program, name, ok }).collect()
}

fn proofs(tests: &[Test]) -> BTreeMap<String, Vec<Test>> {
    let mut proofs: BTreeMap<String, Vec<Test>> = BTreeMap::new();
    for test in tests {
        let name = test.name.rsplit("::").next().unwrap_or_default();
        for id in ids(name) {
            proofs.entry(id).or_default().push(test.clone());
        }
    }
    proofs
}

/// The requirements that a test's name begins with: `s1`, `d2`, `r7_3`, and
/// ranges such as `s50_to_s54` and `r7_10_to_r7_15`.
fn ids(name: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut words: &[&str] = &name.split('_').collect::<Vec<_>>();
    loop {
        let to = words.first() == Some(&"to") && !found.is_empty();
        let Some((id, rest)) = id(if to { &words[1..] } else { words }) else { return found };
        if to {
            let (Some((section, first)), Some((same, last))) =
                (found.last().and_then(|f| numbered(f)), numbered(&id))
            else {
                return found;
            };
            if section != same || first >= last {
                return found;
            }
            found.extend((first + 1..=last).map(|n| format!("{section}{n}")));
        } else {
            found.push(id);
        }
        words = rest;
    }
}

/// The requirement that these words begin with, and the words behind it.
fn id<'w>(words: &'w [&'w str]) -> Option<(String, &'w [&'w str])> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (word, rest) = words.split_first()?;
    match word.split_at_checked(1)? {
        ("r", section) if is_number(section) => {
            let (line, rest) = rest.split_first().filter(|(line, _)| is_number(line))?;
            Some((format!("R{section}.{line}"), rest))
        }
        ("s", number) if is_number(number.trim_end_matches('b')) => Some((format!("S{number}"), rest)),
        ("d", number) if is_number(number) => Some((format!("D{number}"), rest)),
        _ => None,
    }
}

/// What stands before the last number of an id, and that number.
fn numbered(id: &str) -> Option<(String, u32)> {
    let at = id.rfind(|c: char| !c.is_ascii_digit())? + 1;
    Some((id[..at].to_string(), id[at..].parse().ok()?))
}

/// The page: without results, which are the run's.
fn table(requirements: &[Requirement], proofs: &BTreeMap<String, Vec<Test>>) -> String {
    let mut page = String::from(
        "# Conformance\n\nEvery requirement, and the tests that prove it; each of them passes whenever the tests do. \
         Made by\n`scripts/conformance --write` from `tests/requirements.tsv` and the names of the tests: a test proves what\n\
         its name begins with. S lines are the statements of EC2's documentation, D lines decisions where it is\n\
         silent, R lines what users rely on beside it (6), errors (7), and what is easily forgotten (8).\n\n\
         Beside these, `specification every_verdict_reason_and_connection_is_as_specified` compares the whole with\n\
         an executable specification (`tests/src/specification`) over random packets, changes and time.\n\n\
         | id | requirement | proven by |\n| --- | --- | --- |\n",
    );
    for requirement in requirements {
        let by = match (&requirement.unmet, proofs.get(&requirement.id)) {
            (Some(reason), _) => format!("**not met**: {reason}"),
            (None, None) => "**missing**".to_string(),
            (None, Some(tests)) => {
                tests.iter().map(|t| format!("`{} {}`", t.program, t.name)).collect::<Vec<_>>().join("<br>")
            }
        };
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| {} | {} | {by} |", requirement.id, requirement.statement);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_what_it_proves() {
        assert_eq!(ids("s1_words"), ["S1"]);
        assert_eq!(ids("s3_s50_to_s52_d14_every_vpc"), ["S3", "S50", "S51", "S52", "D14"]);
        assert_eq!(ids("s44b_r8_10_d2_s"), ["S44b", "R8.10", "D2"]);
        assert_eq!(ids("r7_3_to_the_end"), ["R7.3"]);
        assert_eq!(ids("r7_10_to_r7_12_s1_x"), ["R7.10", "R7.11", "R7.12", "S1"]);
        assert!(ids("words_s1").is_empty() && ids("rules_1").is_empty() && ids("d").is_empty());
    }

    #[test]
    fn results_are_read_from_a_log() {
        let log = "     Running unittests src/lib.rs (target/debug/deps/engine-0a1b)\n\
                   test a::s1_b ... ok\ntest a::s1_c ... FAILED\ntest s2_x ... noise ok\ntest d ... ignored\n";
        let tests = tests(log);
        let found: Vec<_> = tests.iter().map(|t| (t.program.as_str(), t.name.as_str(), t.ok)).collect();
        assert_eq!(
            found,
            [
                ("engine", "a::s1_b", true),
                ("engine", "a::s1_c", false),
                ("engine", "d", false),
                ("engine", "s2_x", true)
            ]
        );
        let proofs = proofs(&tests);
        assert_eq!((proofs["S1"].len(), proofs["S2"].len()), (2, 1));
    }

    #[test]
    fn the_list_is_in_order_and_complete() {
        let list = requirements(include_str!("../../requirements.tsv")).unwrap();
        let of = |prefix: &str| list.iter().filter(|r| r.id.starts_with(prefix)).count();
        assert_eq!((of("S"), of("D"), of("R6."), of("R7."), of("R8.")), (67, 30, 9, 18, 11));
        let ids: BTreeSet<_> = list.iter().map(|r| &r.id).collect();
        assert_eq!(ids.len(), list.len());
    }
}
