//! The API's Unix socket: one daemon has it, and a dead one's is taken over.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Group};

/// A socket that listens, and the lock that says it is ours. Dropped, both go.
pub struct ApiSocket {
    /// Does not block.
    pub listener: UnixListener,
    /// The group that may use it.
    pub group: Option<Gid>,
    path: PathBuf,
    _lock: Flock<File>,
}

impl ApiSocket {
    /// Takes the socket: makes its folder, locks it against other daemons,
    /// removes what a dead one left, and sets mode and group.
    pub fn claim(path: &Path, mode: u32, group: Option<&str>) -> Result<ApiSocket> {
        let gid = group.map(group_id).transpose()?;
        let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let lock = lock(path)?;
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                tracing::info!("taking over {}: whoever made it is gone", path.display());
                std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
            Ok(_) => bail!("{} is there and is no socket: it is left alone", path.display()),
            Err(_) => {}
        }
        // Nobody may connect before mode and group are set.
        let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        nix::sys::stat::umask(before);
        let listener = listener.with_context(|| format!("cannot listen on {}", path.display()))?;
        listener.set_nonblocking(true)?;
        let socket = ApiSocket { listener, group: gid, path: path.to_path_buf(), _lock: lock };
        nix::unistd::chown(path, None, gid)
            .with_context(|| format!("cannot set the group of {}", path.display()))?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", path.display()))?;
        Ok(socket)
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

fn group_id(name: &str) -> Result<Gid> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => bail!("there is no group named '{name}' for the socket"),
        Err(error) => Err(error).with_context(|| format!("cannot look up the group '{name}'")),
    }
}

/// A lock beside the socket, which the kernel drops when its holder ends,
/// however it ends.
fn lock(path: &Path) -> Result<Flock<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .with_context(|| format!("cannot open {}", name.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())?;
            Ok(lock)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            drop(file.read_to_string(&mut pid));
            bail!("{} is in use by a daemon that lives (process {})", path.display(), pid.trim())
        }
        Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", name.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_living_daemons_socket_is_refused_and_a_dead_ones_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/sg.sock");
        let socket = ApiSocket::claim(&path, 0o640, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let refused = ApiSocket::claim(&path, 0o640, None).err().unwrap().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(socket);
        assert!(!path.exists());
        // A socket without its daemon.
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let socket = ApiSocket::claim(&path, 0o600, None).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(socket);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let refused = ApiSocket::claim(&path, 0o600, None).err().unwrap().to_string();
        assert!(refused.contains("no socket"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
        let refused = ApiSocket::claim(&folder.path().join("s"), 0o600, Some("no-such-group")).err().unwrap();
        assert!(refused.to_string().contains("no-such-group"));
    }
}
