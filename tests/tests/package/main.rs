//! The Debian package, made of the binaries that tests are made of: what is in
//! it, and that it runs with its own configuration as the documentation says.

mod machine;
mod walk;

use std::path::{Path, PathBuf};
use std::process::Command;

use machine::Machine;
use system_tests::{must, script};
use walk::walk;

/// The package of these tests' binaries.
fn packaged(folder: &Path) -> PathBuf {
    let printed = must(script("package").env("SGSWITCH_PACKAGES", folder));
    let path = PathBuf::from(printed.lines().last().expect("a path"));
    assert_eq!(path, folder.join(format!("sgswitch_{}_amd64.deb", env!("CARGO_PKG_VERSION"))));
    path
}

/// The files of a package, in a folder beside it.
fn unpacked(deb: &Path) -> PathBuf {
    let root = deb.with_file_name("root");
    must(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&root));
    root
}

#[test]
fn the_package_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let deb = packaged(folder.path());
    let field =
        |name: &str| must(Command::new("dpkg-deb").arg("--field").arg(&deb).arg(name)).trim().to_string();
    assert_eq!((field("Package"), field("Version")), ("sgswitch".into(), env!("CARGO_PKG_VERSION").into()));
    let depends = field("Depends");
    for library in
        ["libc6 (", "librte-eal23 (", "librte-ethdev23 (", "librte-mempool-ring23", "librte-meta-net"]
    {
        assert!(depends.contains(library), "{library} in {depends}");
    }
    let contents = must(Command::new("dpkg-deb").arg("--contents").arg(&deb));
    for line in contents.lines() {
        assert!(line.contains(" root/root "), "{line}");
        let may_write = &line[5..6] == "w" || &line[8..9] == "w";
        assert!(!may_write, "others may write: {line}");
    }

    let root = unpacked(&deb);
    for file in [
        "lib/systemd/system/sgswitchd.service",
        "lib/systemd/system/sgswitch-vfio@.service",
        "usr/share/bash-completion/completions/sgctl",
        "usr/share/zsh/vendor-completions/_sgctl",
        "usr/share/fish/vendor_completions.d/sgctl.fish",
        "usr/share/man/man1/sgctl.1.gz",
        "usr/share/man/man1/sgctl-push.1.gz",
        "usr/share/man/man1/sgctl-flows-list.1.gz",
        "usr/share/man/man8/sgswitchd.8.gz",
        "usr/share/doc/sgswitch/copyright",
        "usr/share/doc/sgswitch/operations.md",
        "usr/share/doc/sgswitch/sgswitchd.toml",
    ] {
        assert!(std::fs::metadata(root.join(file)).is_ok_and(|f| f.len() > 0), "{file} is missing or empty");
    }
    let sections = must(Command::new("readelf").arg("-SW").arg(root.join("usr/sbin/sgswitchd")));
    assert!(!sections.contains(".debug_info"), "it is not stripped");

    let control = folder.path().join("control");
    must(Command::new("dpkg-deb").arg("-e").arg(&deb).arg(&control));
    assert_eq!(std::fs::read_to_string(control.join("conffiles")).unwrap(), "/etc/sgswitch/sgswitchd.toml\n");
    must(Command::new("md5sum").args(["--check", "--quiet"]).arg(control.join("md5sums")).current_dir(&root));
    for script in ["postinst", "prerm", "postrm"] {
        must(Command::new("sh").arg("-n").arg(control.join(script)));
    }
}

#[test]
fn the_first_steps_are_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let root = unpacked(&packaged(folder.path()));
    let document = std::fs::read_to_string(root.join("usr/share/doc/sgswitch/operations.md")).unwrap();
    let mut machine = Machine::with(&root);
    walk(&mut machine, "docs/operations.md", &document, "First steps");
    let said = machine.stop();
    assert_eq!(said.last().map(String::as_str), Some("it ended with 0"), "{said:#?}");
}

#[test]
fn without_binaries_there_is_no_package() {
    let folder = tempfile::tempdir().unwrap();
    let mut package = script("package");
    package.env("CARGO_TARGET_DIR", folder.path()).env("SGSWITCH_PACKAGES", folder.path());
    let output = package.env("SGSWITCH_PROFILE", "debug").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("debug/sgswitchd: run cargo build"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
