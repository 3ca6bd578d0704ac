//! What these tests ask of a daemon.

use std::process::{Command, Output};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Answer, Daemon, ask};

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What an answer has for a success.
    pub fn show(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    pub fn put(&self, query: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        ask(self.connect(), "PUT", &format!("/v1/policy{query}"), headers, body)
    }

    /// Pushes a policy that is to be accepted.
    pub fn push(&self, document: &Value) -> Value {
        let answer = self.put("", &[], document.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The value of a metric, its labels written as they are on the page.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").text();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().expect("a number")
    }

    /// Ends it as a fault does.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }
}

/// Runs a daemon that is expected to end by itself, and says why.
pub fn refused(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().expect("sgswitchd can be run");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}
