//! The Debian package, made of the binaries that tests are made of: what is in
//! it, and that it runs with its own configuration and its own example.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use system_tests::{must, script};

/// The package of these tests' binaries.
fn packaged(folder: &Path) -> PathBuf {
    let printed = must(script("package").env("SGSWITCH_PACKAGES", folder));
    let path = PathBuf::from(printed.lines().last().expect("a path"));
    assert_eq!(path, folder.join(format!("sgswitch_{}_amd64.deb", env!("CARGO_PKG_VERSION"))));
    path
}

/// A daemon that is killed when it is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_package_is_whole_and_runs_as_it_is_installed() {
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

    let root = folder.path().join("root");
    must(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&root));
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
    runs(folder.path(), &root);
}

/// Starts what the package has, with its configuration, and asks it.
fn runs(folder: &Path, root: &Path) {
    let socket = folder.join("sg.sock");
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut daemon = Command::new(root.join("usr/sbin/sgswitchd"));
    daemon.arg("--config").arg(root.join("etc/sgswitch/sgswitchd.toml"));
    // The group is made where it is installed.
    daemon.arg("--socket").arg(&socket).args(["--socket-group", "root"]);
    daemon.arg("--store").arg(folder.join("policy.db"));
    daemon.args(["--port", "web=net_null0,no-rx=1", "--port", "db=net_null1,no-rx=1"]);
    let daemon = daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut daemon = Daemon(daemon.spawn().unwrap());
    let sgctl = |arguments: &[&str]| {
        let mut sgctl = Command::new(root.join("usr/bin/sgctl"));
        sgctl.arg("--socket").arg(&socket).args(["-o", "json"]).args(arguments);
        sgctl
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !sgctl(&["show", "status"]).output().unwrap().status.success() {
        let log = std::fs::read_to_string(folder.join("log")).unwrap();
        assert!(daemon.0.try_wait().unwrap().is_none() && Instant::now() < deadline, "{log}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let show = |what: &str| serde_json::from_str::<Value>(&must(&mut sgctl(&["show", what]))).unwrap();
    assert_eq!(show("status")["State"], "closed");
    let example = root.join("usr/share/doc/sgswitch/examples/policy.yaml");
    let pushed: Value =
        serde_json::from_str(&must(&mut sgctl(&["push", example.to_str().unwrap()]))).unwrap();
    assert_eq!((&pushed["enforced"], &pushed["notices"]), (&true.into(), &Value::Array(vec![])), "{pushed}");
    assert_eq!(show("status")["State"], "enforcing");
    kill(Pid::from_raw(daemon.0.id() as i32), Signal::SIGTERM).unwrap();
    assert!(daemon.0.wait().unwrap().success());
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
