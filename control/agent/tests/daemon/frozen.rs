//! One thread of a daemon, made to stand still: ptrace(2) stops a thread, where
//! a signal would stop the whole process.

use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::support::Daemon;

/// A thread that stands still until this is dropped, on the thread that made it.
pub struct Frozen(Pid);

impl Frozen {
    /// Stops the daemon's thread of this name.
    pub fn new(daemon: &Daemon, name: &str) -> Frozen {
        let thread = thread(daemon, name);
        ptrace::seize(thread, ptrace::Options::empty()).expect("a child's thread may be traced");
        ptrace::interrupt(thread).expect("it is traced");
        waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
        Frozen(thread)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

fn thread(daemon: &Daemon, name: &str) -> Pid {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it lives");
    let is_it = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let found = tasks.flatten().find(is_it).unwrap_or_else(|| panic!("no thread is named {name}"));
    Pid::from_raw(found.file_name().to_string_lossy().parse().expect("tasks are numbers"))
}

/// Waits until something holds, for twenty seconds at most.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("not in time: {what}");
}
