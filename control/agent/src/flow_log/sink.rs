use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::FlowLogConfig;

/// How long somebody at the other end of a socket may take to read.
const PATIENCE: Duration = Duration::from_secs(2);

/// When a file is put aside, and how many such are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes after which the next window goes to a new file.
    pub bytes: u64,
    /// Files kept beside it: `NAME.1` is the newest.
    pub kept: usize,
}

/// Where lines go.
pub(super) struct Sinks {
    file: Option<LogFile>,
    socket: Option<LogSocket>,
}

impl Sinks {
    pub fn new(config: &FlowLogConfig) -> Sinks {
        Sinks {
            file: config.file.clone().map(|(path, rotation)| LogFile {
                path,
                rotation,
                open: None,
                failing: false,
            }),
            socket: config.socket.clone().map(|path| LogSocket { path, open: None, failing: false }),
        }
    }

    /// Writes lines to each sink; how many of them were written, and how many lost.
    pub fn write(&mut self, lines: &[String]) -> (u64, u64) {
        let count = lines.len() as u64;
        let results = [
            self.file.as_mut().map(|file| file.write(lines)),
            self.socket.as_mut().map(|socket| socket.write(lines)),
        ];
        let written = results.iter().flatten().filter(|ok| **ok).count() as u64;
        let lost = results.iter().flatten().filter(|ok| !**ok).count() as u64;
        (written * count, lost * count)
    }
}

struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    open: Option<(File, u64)>,
    failing: bool,
}

impl LogFile {
    fn write(&mut self, lines: &[String]) -> bool {
        let result = self.try_write(lines);
        if let Err(error) = &result {
            // Opened anew the next time: it may be elsewhere by then.
            self.open = None;
            complain(&mut self.failing, &self.path, error);
        } else {
            self.failing = false;
        }
        result.is_ok()
    }

    fn try_write(&mut self, lines: &[String]) -> std::io::Result<()> {
        if self.open.as_ref().is_some_and(|(_, bytes)| *bytes >= self.rotation.bytes) {
            self.open = None;
            self.rotate()?;
        }
        if self.open.is_none() {
            let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
            let bytes = file.metadata()?.len();
            self.open = Some((file, bytes));
        }
        let Some((file, bytes)) = &mut self.open else { return Ok(()) };
        let text = lines.concat();
        let before = *bytes;
        if let Err(error) = file.write_all(text.as_bytes()) {
            // No half lines: of a full disk, say.
            drop(file.set_len(before));
            return Err(error);
        }
        *bytes += text.len() as u64;
        Ok(())
    }

    /// `NAME.1` becomes `NAME.2` and so on, the last one goes.
    fn rotate(&self) -> std::io::Result<()> {
        if self.rotation.kept == 0 {
            return std::fs::remove_file(&self.path);
        }
        for n in (1..self.rotation.kept).rev() {
            let (from, to) = (numbered(&self.path, n), numbered(&self.path, n + 1));
            if from.exists() {
                std::fs::rename(from, to)?;
            }
        }
        std::fs::rename(&self.path, numbered(&self.path, 1))
    }
}

fn numbered(path: &Path, n: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

struct LogSocket {
    path: PathBuf,
    open: Option<UnixStream>,
    failing: bool,
}

impl LogSocket {
    fn write(&mut self, lines: &[String]) -> bool {
        let result = self.try_write(lines);
        if let Err(error) = &result {
            self.open = None;
            complain(&mut self.failing, &self.path, error);
        } else {
            self.failing = false;
        }
        result.is_ok()
    }

    fn try_write(&mut self, lines: &[String]) -> std::io::Result<()> {
        if self.open.is_none() {
            let stream = UnixStream::connect(&self.path)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            self.open = Some(stream);
        }
        let Some(stream) = &mut self.open else { return Ok(()) };
        stream.write_all(lines.concat().as_bytes())
    }
}

/// Says once that lines are lost, until it works again.
fn complain(failing: &mut bool, path: &Path, error: &std::io::Error) {
    if !std::mem::replace(failing, true) {
        tracing::warn!("flow logs cannot be written to {}: {error}; lines are lost", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, bytes: u64, kept: usize) -> LogFile {
        LogFile { path: path.to_path_buf(), rotation: Rotation { bytes, kept }, open: None, failing: false }
    }

    fn lines(text: &str) -> Vec<String> {
        vec![format!("{text}\n")]
    }

    #[test]
    fn files_are_put_aside_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.log");
        let mut log = file(&path, 5, 2);
        for n in 0..5 {
            assert!(log.write(&lines(&format!("line{n}"))));
        }
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(path.clone()), "line4\n");
        assert_eq!(read(numbered(&path, 1)), "line3\n");
        assert_eq!(read(numbered(&path, 2)), "line2\n");
        assert!(!numbered(&path, 3).exists());
        // What was written before is gone on with.
        let mut again = file(&path, 100, 2);
        assert!(again.write(&lines("more")));
        assert_eq!(read(path.clone()), "line4\nmore\n");
        let mut none = file(&path, 1, 0);
        assert!(none.write(&lines("a")) && none.write(&lines("b")));
        assert_eq!(read(path), "b\n");
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_the_next_is_tried() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/flows.log");
        let mut log = file(&path, 100, 1);
        assert!(!log.write(&lines("lost")));
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        assert!(log.write(&lines("kept")));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept\n");
    }

    #[test]
    fn a_socket_may_come_and_go() {
        use std::io::Read;
        use std::os::unix::net::UnixListener;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut log = LogSocket { path: path.clone(), open: None, failing: false };
        assert!(!log.write(&lines("nobody listens")));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(log.write(&lines("one")));
        let (mut peer, _) = listener.accept().unwrap();
        let mut bytes = [0; 4];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"one\n");
        drop(peer);
        assert!(!log.write(&lines("to nobody")));
        assert!(log.write(&lines("two")), "it is connected anew");
    }
}
