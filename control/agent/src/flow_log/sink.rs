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
pub(super) struct Sinks(Vec<Sink>);

impl Sinks {
    pub fn new(config: &FlowLogConfig) -> Sinks {
        let file = config.file.clone().map(|(path, rotation)| Sink::new(path, To::File(rotation, None)));
        let socket = config.socket.clone().map(|path| Sink::new(path, To::Socket(None)));
        Sinks(file.into_iter().chain(socket).collect())
    }

    /// Writes lines to each sink; how many of them were written, and how many lost.
    pub fn write(&mut self, lines: &[String]) -> (u64, u64) {
        let text = lines.concat();
        let taken = self.0.iter_mut().filter_map(|sink| sink.write(&text).then_some(())).count();
        let count = lines.len() as u64;
        (taken as u64 * count, (self.0.len() - taken) as u64 * count)
    }
}

struct Sink {
    path: PathBuf,
    to: To,
    /// Whether the last lines were lost.
    failing: bool,
}

/// What is there, opened when it is first needed, and anew after a failure.
enum To {
    File(Rotation, Option<(File, u64)>),
    Socket(Option<UnixStream>),
}

impl Sink {
    fn new(path: PathBuf, to: To) -> Sink {
        Sink { path, to, failing: false }
    }

    /// False if the lines are lost. That is said once, until it works again.
    fn write(&mut self, text: &str) -> bool {
        let written = match &mut self.to {
            To::File(rotation, open) => {
                append(&self.path, *rotation, open, text).inspect_err(|_| *open = None)
            }
            To::Socket(open) => send(&self.path, open, text).inspect_err(|_| *open = None),
        };
        let was_failing = std::mem::replace(&mut self.failing, written.is_err());
        if let Err(error) = &written
            && !was_failing
        {
            tracing::warn!("flow logs cannot be written to {}: {error}; lines are lost", self.path.display());
        }
        written.is_ok()
    }
}

fn append(
    path: &Path,
    rotation: Rotation,
    open: &mut Option<(File, u64)>,
    text: &str,
) -> std::io::Result<()> {
    if open.take_if(|(_, bytes)| *bytes >= rotation.bytes).is_some() {
        rotate(path, rotation.kept)?;
    }
    let (file, bytes) = match open {
        Some(open) => open,
        None => {
            let file = OpenOptions::new().append(true).create(true).open(path)?;
            let bytes = file.metadata()?.len();
            open.insert((file, bytes))
        }
    };
    if let Err(error) = file.write_all(text.as_bytes()) {
        // No half lines: of a full disk, say.
        drop(file.set_len(*bytes));
        return Err(error);
    }
    *bytes += text.len() as u64;
    Ok(())
}

/// `NAME.1` becomes `NAME.2` and so on, the last one goes.
fn rotate(path: &Path, kept: usize) -> std::io::Result<()> {
    if kept == 0 {
        return std::fs::remove_file(path);
    }
    for n in (1..kept).rev() {
        let (from, to) = (numbered(path, n), numbered(path, n + 1));
        if from.exists() {
            std::fs::rename(from, to)?;
        }
    }
    std::fs::rename(path, numbered(path, 1))
}

fn numbered(path: &Path, n: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

fn send(path: &Path, open: &mut Option<UnixStream>, text: &str) -> std::io::Result<()> {
    let stream = match open {
        Some(stream) => stream,
        None => {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            open.insert(stream)
        }
    };
    stream.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, bytes: u64, kept: usize) -> Sink {
        Sink::new(path.to_path_buf(), To::File(Rotation { bytes, kept }, None))
    }

    fn lines(text: &str) -> String {
        format!("{text}\n")
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
        let mut log = Sink::new(path.clone(), To::Socket(None));
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
