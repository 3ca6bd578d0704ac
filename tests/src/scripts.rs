//! The scripts of the source, over the binaries that tests are made of.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::binary;

/// The folder that cargo builds into.
///
/// # Panics
/// If the daemon has not been built.
pub fn target() -> PathBuf {
    binary("sgswitchd").ancestors().nth(2).expect("a folder of builds").to_path_buf()
}

/// A script, which takes the binaries that are beside this program instead of building.
///
/// # Panics
/// As [`target`].
pub fn script(name: &str) -> Command {
    let programs = binary("sgswitchd").parent().expect("a folder").to_path_buf();
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name));
    command.env("CARGO_TARGET_DIR", target());
    command.env("SGSWITCH_PROFILE", programs.file_name().expect("a profile"));
    command
}

/// Runs a command to its end. Returns what it printed.
///
/// # Panics
/// If it fails.
pub fn must(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}{errors}", output.status);
    said
}
