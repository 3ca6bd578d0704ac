use std::process::{Command, Output, Stdio};

/// Runs a command line of words and returns what it prints.
///
/// # Panics
/// If it cannot be run or fails: the laboratory is not as it must be.
pub fn run(line: &str) -> String {
    let output = output(line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}\n{text}{error}", output.status);
    text
}

/// The same, whether it succeeds or not.
pub(crate) fn try_run(line: &str) -> bool {
    output(line).status.success()
}

fn output(line: &str) -> Output {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command has a program");
    Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program} cannot be run ({e}): is it installed?"))
}
