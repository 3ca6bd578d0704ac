//! Who may use the socket, beyond its mode.

use nix::unistd::{Gid, Group, Uid, User, geteuid};
use tokio::net::unix::UCred;

/// Whether a peer may: root, the daemon's own user, and the members of the
/// socket's group.
pub fn is_allowed(peer: &UCred, group: Option<Gid>) -> bool {
    let uid = Uid::from_raw(peer.uid());
    if uid.is_root() || uid == geteuid() {
        return true;
    }
    let Some(gid) = group else { return false };
    peer.gid() == gid.as_raw() || is_member(uid, gid)
}

fn is_member(uid: Uid, gid: Gid) -> bool {
    let user = User::from_uid(uid).ok().flatten();
    let group = Group::from_gid(gid).ok().flatten();
    matches!((user, group), (Some(user), Some(group)) if user.gid == gid || group.mem.contains(&user.name))
}
