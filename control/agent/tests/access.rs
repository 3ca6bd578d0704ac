//! Who may use the socket. A program of its own: it changes its user, which all
//! its threads share.

mod support;

use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::unistd::{Gid, Uid, getegid, geteuid, setegid, seteuid};
use std::os::unix::fs::PermissionsExt;
use support::{Answer, Daemon, ask, connect, document};

/// A user and a group without rights.
const NOBODY: u32 = 65534;

/// Does something as another user.
fn as_user<R>(uid: u32, gid: u32, work: impl FnOnce() -> R) -> R {
    let (before, before_group) = (geteuid(), getegid());
    setegid(Gid::from_raw(gid)).expect("tests run as root");
    seteuid(Uid::from_raw(uid)).expect("tests run as root");
    let result = work();
    seteuid(before).expect("root before");
    setegid(before_group).expect("root before");
    result
}

fn status(socket: &Path) -> Answer {
    ask(connect(socket), "GET", "/v1/status", &[], b"")
}

#[test]
fn unprivileged_peers_are_refused() {
    assert!(geteuid().is_root(), "tests run as root");
    let folder = tempfile::tempdir().unwrap();
    // The folder keeps nobody out, so that the socket has to.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();

    // By the socket's mode: the connection itself is refused.
    let daemon = Daemon::start(folder.path(), &["--socket-mode", "0660"]);
    let socket = daemon.socket();
    let refused = as_user(NOBODY, NOBODY, || UnixStream::connect(&socket)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(daemon.stop().success());

    // By the peer's credentials, where the mode lets everyone in.
    let daemon = Daemon::start(folder.path(), &["--socket-mode", "0666"]);
    let document = document().to_string();
    let refused =
        as_user(NOBODY, NOBODY, || ask(connect(&socket), "PUT", "/v1/policy", &[], document.as_bytes()));
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.head.contains("application/json"));
    assert_eq!(refused.errors(), [("UnauthorizedOperation".to_string(), String::new())]);
    for path in ["/v1/policy", "/v1/flows", "/metrics", "/healthz"] {
        let answer = as_user(NOBODY, NOBODY, || ask(connect(&socket), "GET", path, &[], b""));
        assert_eq!(answer.status, 403, "{path}");
    }
    // Any number of them keeps nobody out who may.
    let crowd: Vec<UnixStream> = as_user(NOBODY, NOBODY, || (0..100).map(|_| connect(&socket)).collect());
    assert_eq!(status(&socket).json()["Generation"], 0, "nothing was pushed");
    drop(crowd);
    assert!(daemon.log().contains("user 65534 may not use the socket"));
    assert!(daemon.stop().success());

    // The group that the socket was given to may, and only that one.
    let group = nix::unistd::Group::from_gid(Gid::from_raw(NOBODY)).unwrap().expect("nobody's group").name;
    let daemon = Daemon::start(folder.path(), &["--socket-mode", "0666", "--socket-group", &group]);
    assert_eq!(as_user(NOBODY, NOBODY, || status(&socket)).status, 200);
    assert_eq!(as_user(NOBODY - 1, NOBODY - 1, || status(&socket)).status, 403);
    assert!(daemon.stop().success());
}
