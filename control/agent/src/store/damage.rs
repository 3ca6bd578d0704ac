use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A store that cannot be trusted, and why.
#[derive(Clone, Debug)]
pub(super) struct Damaged(pub String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

/// How a file was left. SQLite keeps what it has read, so that it would not
/// notice what somebody else does to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([Option<(u64, u64, i64, i64)>; 2]);

impl Fingerprint {
    /// Of the file and its write-ahead log, as they are.
    pub fn of(path: &Path) -> Fingerprint {
        let of = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
        };
        Fingerprint([of(path), of(&beside(path, "-wal"))])
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A copy of a file as it was found; gone when it is dropped.
pub(super) struct Copy(PathBuf);

impl Copy {
    pub fn of(path: &Path) -> Result<Copy> {
        let copy = Copy(beside(path, ".found"));
        std::fs::copy(path, &copy.0).with_context(|| format!("cannot copy {}", path.display()))?;
        Ok(copy)
    }

    /// In the place of the file.
    pub fn put_back(self, path: &Path) -> Result<()> {
        for suffix in ["-wal", "-shm"] {
            drop(std::fs::remove_file(beside(path, suffix)));
        }
        std::fs::rename(&self.0, path).with_context(|| format!("cannot put back {}", path.display()))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // It is not there any more if it was put back.
        drop(std::fs::remove_file(&self.0));
    }
}

/// The name of a store that is to take another's place.
pub(super) fn next(path: &Path) -> PathBuf {
    beside(path, ".new")
}

/// Removes a store and what SQLite has beside it.
pub(super) fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(beside(path, suffix)));
    }
}

/// Gives a new store its place where the old one has gone from it, also where an
/// earlier daemon did not come to that.
pub(super) fn finish_replacing(path: &Path) -> Result<()> {
    let next = next(path);
    if next.exists() && !path.exists() {
        std::fs::rename(&next, path).with_context(|| format!("cannot rename {}", next.display()))?;
    }
    Ok(())
}

/// The most damaged stores that are kept.
const MAX_ASIDE: u32 = 1000;

/// Renames a store, and what SQLite has beside it, to the first free name of
/// `NAME.corrupt-1`, `NAME.corrupt-2`, ... `None` if there is no file.
pub(super) fn put_aside(path: &Path) -> Result<Option<PathBuf>> {
    if !path.exists() {
        // A log without its file would be taken for the new one's.
        for suffix in ["-wal", "-shm"] {
            drop(std::fs::remove_file(beside(path, suffix)));
        }
        return Ok(None);
    }
    let free = (1..=MAX_ASIDE).map(|n| beside(path, &format!(".corrupt-{n}"))).find(|name| !name.exists());
    let aside = free.with_context(|| format!("{} has too many damaged copies beside it", path.display()))?;
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (beside(path, suffix), beside(&aside, suffix));
        if from.exists() {
            std::fs::rename(&from, &to)
                .with_context(|| format!("the damaged store {} cannot be put aside", from.display()))?;
        }
    }
    Ok(Some(aside))
}
