//! The one way of an update: validate, compile, check, store, publish, enforce.
//! A document goes it alone; single changes that wait at the same moment go it together.

mod force;
mod group;
mod wanted;

pub use force::counts;
pub use group::{Answered, MOST, Waiting};

use std::time::Instant;

use policy::{Arena, Context, Faults, Notice, Rulebook, self_check_by};
use serde::Serialize;
use serde_json::Value;
use worker::NotEnforced;

use crate::switch::Switch;
use force::{Check, Next, Published};
use wanted::Wanted;

/// Packets that the self-check of a whole policy asks about.
pub const SELF_CHECK_SAMPLES: usize = 2000;

/// What a document is called in errors.
const DOCUMENT: &str = "the document";

/// What a push did.
#[derive(Clone, Debug, Serialize)]
pub struct Pushed {
    /// The new generation.
    pub generation: u64,
    /// Whether every worker judges by it.
    pub enforced: bool,
    /// From received to stored and published, and to enforced, in microseconds.
    pub published_us: u64,
    /// Likewise; 0 if nobody waited.
    pub enforced_us: u64,
    /// Groups, rules and interfaces of the policy.
    pub groups: usize,
    /// Rules of all groups.
    pub rules: usize,
    /// Interfaces.
    pub interfaces: usize,
    /// What may not be meant as it is written.
    pub notices: Vec<Notice>,
    /// What a single change answers, in AWS's shape.
    #[serde(skip)]
    pub answer: Value,
}

/// What is asked for, if not a single change.
#[derive(Clone, Copy, Debug)]
pub enum Change<'c> {
    /// This document is the policy from now on.
    Document(&'c [u8]),
    /// The policy of this generation, which is kept, is the policy again.
    Rollback(u64),
    /// The policy in force, with the ports as they are now. In the words of the history.
    Ports(&'c str),
}

impl Change<'_> {
    /// In the words of the history.
    fn in_words(&self) -> String {
        match self {
            Change::Document(_) => "push".to_string(),
            Change::Rollback(generation) => format!("rollback to {generation}"),
            Change::Ports(words) => words.to_string(),
        }
    }
}

/// Why a push changed nothing, but for the last, which came too late to.
#[derive(Debug)]
pub enum PushError {
    /// The document or the request is wrong.
    Invalid(Faults),
    /// There is no such action.
    UnknownAction,
    /// The generation to go back to is not kept; which are.
    NotKept(String),
    /// It is for another generation than the one in force.
    Conflict {
        /// The generation in force.
        current: u64,
    },
    /// The switch itself is wrong: compiled tables and rules differ.
    SelfCheck(String),
    /// It could not be stored.
    Store(String),
    /// It is in force, but not with every worker yet.
    NotEnforced(NotEnforced),
}

/// How a push is to be done.
#[derive(Clone, Copy, Debug, Default)]
pub struct PushOptions {
    /// Accept a document that says it is incomplete.
    pub partial: bool,
    /// Answer when it is published, without waiting for the workers.
    pub no_wait: bool,
    /// The generation that must be in force.
    pub if_generation: Option<u64>,
    /// Who pushes.
    pub uid: Option<u32>,
    /// When all of the request had arrived.
    pub received: Option<Instant>,
}

impl Switch {
    /// Takes a document as far as a push would before anything changes: validated,
    /// compiled and checked.
    pub fn prepare(&mut self, document: &[u8], partial: bool) -> Result<(Rulebook, Vec<Notice>), PushError> {
        let arena = Arena::default();
        let document = self.precedent.read(&arena, DOCUMENT, document).map_err(PushError::Invalid)?;
        let ports = self.bindable();
        let context = Context { ports: &ports, partial, missing_ports_are_notices: false };
        let (mut policy, notices, _) = document.validate(&context).map_err(PushError::Invalid)?;
        let before = self.current.as_ref().map(|current| current.book.clone()).unwrap_or_default();
        policy.share(before.policy());
        let generation = self.generation() + 1;
        let snapshot = self.compiler.compile(&policy, generation, &ports).map_err(PushError::Invalid)?;
        let book = before.with(policy.into());
        let checked =
            self_check_by(&book, |id| self.compiler.interface_id(id), &snapshot, SELF_CHECK_SAMPLES);
        self.compiler.discard();
        checked.map_err(|mismatch| PushError::SelfCheck(mismatch.to_string()))?;
        Ok((book, notices))
    }

    /// Puts a change into force.
    pub fn push(&mut self, change: Change<'_>, options: PushOptions) -> Result<Pushed, PushError> {
        let result = self.push_steps(change, options);
        self.metrics.finished(result.is_ok());
        result
    }

    /// Whether the generation that somebody wants to change is the one in force.
    pub fn is_at(&self, wanted: Option<u64>) -> Result<(), PushError> {
        is_at(self.generation(), wanted)
    }

    fn push_steps(&mut self, change: Change<'_>, options: PushOptions) -> Result<Pushed, PushError> {
        let received = options.received.unwrap_or_else(Instant::now);
        self.metrics.waited(received.elapsed());
        self.is_at(options.if_generation)?;
        let ports = self.bindable();
        let Wanted { policy, notices, learned } = self.wanted(change, options.partial, &ports)?;
        let next = Next::new(self.in_force(), policy, change.in_words(), options.uid);
        let check = match change {
            Change::Document(_) => Check::Push,
            Change::Rollback(_) | Change::Ports(_) => Check::Whole,
        };
        let mut published = self.put_into_force(&[], &next, &ports, check)?;
        if !options.no_wait {
            self.wait_enforced(&mut published).map_err(PushError::NotEnforced)?;
        }
        let pushed = Pushed::new(&next, self.generation(), notices, Value::Null);
        let pushed = self.told(pushed, &published, received);
        // Once the policy is in force, so that this delays it not.
        if let Change::Document(bytes) = change
            && let Some(precedent) = learned.precedent(bytes, &next.policy)
        {
            self.precedent = precedent;
        }
        published.log(received);
        Ok(pushed)
    }

    /// With what has become of it since it was received.
    fn told(&self, pushed: Pushed, published: &Published, received: Instant) -> Pushed {
        let [published_us, enforced_us] = published.microseconds_since(received);
        if let Some(at) = published.enforced {
            self.metrics.enforced(at - received);
        }
        Pushed { published_us, enforced: published.enforced.is_some(), enforced_us, ..pushed }
    }
}

fn is_at(current: u64, wanted: Option<u64>) -> Result<(), PushError> {
    match wanted {
        Some(wanted) if wanted != current => Err(PushError::Conflict { current }),
        _ => Ok(()),
    }
}

impl Pushed {
    /// Of a policy that has become a generation.
    fn new(next: &Next, generation: u64, notices: Vec<Notice>, answer: Value) -> Pushed {
        let [groups, rules, interfaces] = next.counts;
        Pushed {
            generation,
            enforced: false,
            published_us: 0,
            enforced_us: 0,
            groups,
            rules,
            interfaces,
            notices,
            answer,
        }
    }
}
