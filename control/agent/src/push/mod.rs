//! The one way of an update: validate, compile, check, store, publish, enforce.

use std::sync::Arc;
use std::time::Instant;

use policy::{
    Arena, Context, Edited, Faults, Learned, Notice, Rulebook, SecurityGroup, Tree, Validated, edit, merge,
    parse, self_check_by, self_check_changes, self_check_push, validate_tree,
};
use serde::Serialize;
use serde_json::Value;
use worker::NotEnforced;

use crate::metrics::{PushMetrics, Step};
use crate::store::{Record, SaveError, Saving};
use crate::switch::{Current, Switch};

/// Packets that the self-check of a whole policy asks about.
pub const SELF_CHECK_SAMPLES: usize = 2000;

/// The same of a single change, which reaches few interfaces.
const CHANGE_SAMPLES: usize = 64;

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

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Change<'c> {
    /// This document is the policy from now on.
    Document(&'c [u8]),
    /// An action of EC2's, with its request, changes the policy in force.
    Action {
        /// EC2's name of it.
        name: &'c str,
        /// The request, as JSON.
        request: &'c [u8],
    },
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
            Change::Action { name, .. } => name.to_string(),
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

/// The policy that a change wants in force.
struct Wanted {
    policy: Validated,
    /// What a single change answers.
    answer: Value,
    notices: Vec<Notice>,
    /// What the next document may take over of this one.
    learned: Learned,
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
        let metrics = self.metrics.clone();
        let result = self.push_steps(change, options, &metrics);
        metrics.finished(result.is_ok());
        result
    }

    /// The policy that a change wants in force, valid.
    fn wanted(
        &self,
        change: Change<'_>,
        partial: bool,
        ports: &policy::Ports,
        metrics: &PushMetrics,
    ) -> Result<Wanted, PushError> {
        let none = Validated::default();
        let current = self.current.as_ref().map_or(&none, |current| &current.policy);
        let arena = Arena::default();
        let context = Context { ports, partial, missing_ports_are_notices: false };
        let kept;
        let (document, answer, meant) = match change {
            Change::Document(bytes) => {
                let document = metrics.time(Step::Parse, || self.precedent.read(&arena, DOCUMENT, bytes));
                let document = document.map_err(PushError::Invalid)?;
                let (mut policy, notices, learned) = metrics
                    .time(Step::Validate, || document.validate(&context))
                    .map_err(PushError::Invalid)?;
                policy.share(current);
                return Ok(Wanted { policy, answer: Value::Null, notices, learned });
            }
            Change::Action { name, request } => {
                let request = metrics.time(Step::Parse, || read(&arena, "the request", request));
                let request = request.map_err(PushError::Invalid)?;
                let edited = metrics.time(Step::Validate, || edit(current, name, &request));
                let edited = edited.ok_or(PushError::UnknownAction)?.map_err(PushError::Invalid)?;
                let Edited { policy, answer, notices, is_settled } = edited;
                if is_settled {
                    return Ok(Wanted { policy, answer, notices, learned: Learned::default() });
                }
                kept = policy.to_document();
                (arena.tree(&kept), answer, Some(notices))
            }
            Change::Rollback(generation) => {
                kept = self.kept(generation)?;
                (arena.tree(&kept), Value::Null, None)
            }
            Change::Ports(_) => {
                kept = current.to_document();
                (arena.tree(&kept), Value::Null, None)
            }
        };
        let (mut policy, notices) = metrics
            .time(Step::Validate, || validate_tree(&document, &context))
            .map_err(PushError::Invalid)?;
        policy.share(current);
        // Of a single change, what the rest of the policy is noticed for is known already.
        Ok(Wanted { policy, answer, notices: meant.unwrap_or(notices), learned: Learned::default() })
    }

    /// The document of a generation that the store keeps.
    pub fn kept(&self, generation: u64) -> Result<Value, PushError> {
        let failed = |error| PushError::Store(format!("the store cannot be read: {error:#}"));
        match self.store.document(generation).map_err(failed)? {
            Some(stored) => serde_json::from_str(&stored.document)
                .map_err(|error| PushError::Store(format!("generation {generation} is no JSON: {error}"))),
            None => Err(PushError::NotKept(match self.store.range().map_err(failed)? {
                Some((first, last)) => {
                    format!("generation {generation} is not kept: {first} to {last} are")
                }
                None => format!("generation {generation} is not kept: there is none yet"),
            })),
        }
    }

    /// Stores a policy before it is published. A store that turns out to be
    /// damaged is put aside, and a new one gets the policy in force.
    fn store(&mut self, add: impl FnOnce(&mut Saving<'_>) -> anyhow::Result<()>) -> Result<(), PushError> {
        let error = match self.store.save(add) {
            Ok(()) => return Ok(()),
            Err(SaveError::Failed(error)) => {
                return Err(PushError::Store(format!("the policy cannot be stored: {error:#}")));
            }
            Err(SaveError::Damaged(error)) => error,
        };
        let running = self
            .current
            .as_ref()
            .map(|c| (c.generation, c.policy.to_document().to_string(), c.policy.clone()));
        let running = running.as_ref().map(|(generation, document, policy)| Record {
            generation: *generation,
            document,
            is_change: false,
            change: "kept after a damage of the store",
            uid: None,
            counts: counts(policy),
        });
        let anew = match self.store.begin_anew(&error, running.as_ref()) {
            Ok(()) => "a new one holds the policy in force: push again".to_string(),
            Err(error) => format!("a new one cannot be made: {error:#}"),
        };
        Err(PushError::Store(format!("the policy is not stored: {error:#}; {anew}")))
    }

    /// Whether the generation that somebody wants to change is the one in force.
    pub fn is_at(&self, wanted: Option<u64>) -> Result<(), PushError> {
        match (self.generation(), wanted) {
            (current, Some(wanted)) if wanted != current => Err(PushError::Conflict { current }),
            _ => Ok(()),
        }
    }

    fn push_steps(
        &mut self,
        change: Change<'_>,
        options: PushOptions,
        metrics: &PushMetrics,
    ) -> Result<Pushed, PushError> {
        let start = options.received.unwrap_or_else(Instant::now);
        metrics.waited(start.elapsed());
        self.is_at(options.if_generation)?;
        let current = self.generation();
        let ports = self.bindable();
        let Wanted { policy, answer, notices, learned } =
            self.wanted(change, options.partial, &ports, metrics)?;
        let generation = current + 1;
        let mut tables = Instant::now();
        let snapshot = metrics
            .time(Step::Compile, || self.compiler.compile(&policy, generation, &ports))
            .map_err(PushError::Invalid)?;
        let compiled = tables.elapsed();
        let policy = Arc::new(policy);
        let before = self.current.as_ref().map(|current| current.book.clone());
        let book = metrics.time(Step::Arrange, || match &before {
            Some(before) => self.compiler.arrange(before, policy.clone()),
            None => Rulebook::new(policy.clone()),
        });
        let counts = match &self.current {
            Some(current) => counts_after(current, &policy),
            None => counts(&policy),
        };
        let check = || match change {
            Change::Action { .. } => self_check_changes(&book, &self.compiler, &snapshot, CHANGE_SAMPLES),
            Change::Document(_) => self_check_push(&book, &self.compiler, &snapshot, SELF_CHECK_SAMPLES),
            _ => self_check_by(&book, |id| self.compiler.interface_id(id), &snapshot, SELF_CHECK_SAMPLES),
        };
        let kept = metrics
            .time(Step::SelfCheck, check)
            .map_err(|mismatch| PushError::SelfCheck(mismatch.to_string()))
            .and_then(|_| {
                let change = change.in_words();
                metrics.time(Step::Store, || {
                    self.store(|saving| {
                        let before = before.as_ref().filter(|_| saving.takes_changes(generation));
                        let changes = before.and_then(|before| policy.changes_since(before.policy()));
                        let is_change = changes.is_some();
                        let document = changes.unwrap_or_else(|| policy.to_document()).to_string();
                        let (document, uid) = (document.as_str(), options.uid);
                        saving.add(&Record { generation, document, is_change, change: &change, uid, counts })
                    })
                })
            });
        if let Err(error) = kept {
            self.compiler.discard();
            return Err(error);
        }
        // First, so that the accounts know what workers will speak of.
        metrics.time(Step::Account, || self.accounts.published(generation, book.clone(), self.names()));
        tables = Instant::now();
        metrics.time(Step::Publish, || self.datapath.publish(snapshot.clone()));
        let published_us = start.elapsed().as_micros() as u64;
        let mut pushed = pushed(counts, generation, notices, answer);
        pushed.published_us = published_us;
        self.current = Some(Current { generation, policy: policy.clone(), book, counts, snapshot });
        if !options.no_wait {
            metrics
                .time(Step::Enforce, || self.datapath.wait_enforced(self.enforce_timeout))
                .map_err(PushError::NotEnforced)?;
            pushed.enforced = true;
            pushed.enforced_us = start.elapsed().as_micros() as u64;
            metrics.enforced(start.elapsed(), compiled + tables.elapsed());
        }
        // Once the policy is in force, so that this delays it not.
        if let Change::Document(bytes) = change
            && let Some(precedent) = learned.precedent(bytes, &policy)
        {
            self.precedent = precedent;
        }
        tracing::info!(
            "generation {generation}: {} groups, {} rules, {} interfaces, published after {} us, enforced after {} us",
            pushed.groups,
            pushed.rules,
            pushed.interfaces,
            pushed.published_us,
            pushed.enforced_us
        );
        Ok(pushed)
    }
}

/// The bytes of a request as one value.
fn read<'d>(arena: &'d Arena, name: &str, bytes: &'d [u8]) -> Result<Tree<'d>, Faults> {
    parse(arena, name, bytes).and_then(|parts| merge(arena, parts))
}

/// Groups, rules and interfaces of a policy.
pub fn counts(policy: &Validated) -> [usize; 3] {
    let rules = policy.groups.values().map(|g| g.inbound.len() + g.outbound.len()).sum();
    [policy.groups.len(), rules, policy.interfaces.len()]
}

/// The same of the policy that follows one, at the cost of what differs.
fn counts_after(before: &Current, policy: &Validated) -> [usize; 3] {
    let of = |group: Option<&SecurityGroup>| group.map_or(0, |g| g.inbound.len() + g.outbound.len());
    let changes = before.policy.groups.differences(&policy.groups);
    let [_, rules, _] = before.counts;
    let rules = changes.fold(rules, |rules, (_, old, new)| rules + of(new) - of(old));
    [policy.groups.len(), rules, policy.interfaces.len()]
}

fn pushed(counts: [usize; 3], generation: u64, notices: Vec<Notice>, answer: Value) -> Pushed {
    let [groups, rules, interfaces] = counts;
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
