//! From valid policies to what every worker judges by.

use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::{Ports, Rulebook, SecurityGroup, Validated, self_check_by, self_check_changes, self_check_push};
use worker::NotEnforced;

use super::{PushError, SELF_CHECK_SAMPLES};
use crate::metrics::Step;
use crate::store::{Record, SaveError, Saving};
use crate::switch::{Current, Switch};

/// A policy that is to be a generation, and where it comes from.
pub(super) struct Next {
    pub policy: Arc<Validated>,
    /// Its groups, rules and interfaces.
    pub counts: [usize; 3],
    /// What made it, in the words of the history.
    words: String,
    uid: Option<u32>,
}

impl Next {
    /// The one after a policy of which the counts are known.
    pub fn new(
        before: Option<(&Validated, [usize; 3])>,
        policy: Validated,
        words: String,
        uid: Option<u32>,
    ) -> Next {
        let counts = match before {
            Some((before, known)) => counts_after(before, known, &policy),
            None => counts(&policy),
        };
        Next { policy: Arc::new(policy), counts, words, uid }
    }
}

/// What is asked to find out whether tables and rules agree.
#[derive(Clone, Copy)]
pub(super) enum Check {
    /// So many packets at least about what differs.
    Changes(usize),
    /// That, and some about all the rest.
    Push,
    /// Some about all of it.
    Whole,
}

/// What was published together.
pub(super) struct Published {
    /// The first generation and the last, by which workers judge.
    generations: [u64; 2],
    /// Groups, rules and interfaces of that.
    counts: [usize; 3],
    at: Instant,
    /// When every worker did.
    pub enforced: Option<Instant>,
    /// What tables took until it was published.
    tables: Duration,
}

impl Published {
    /// From when a request was received to published, and to enforced: 0 if it is not known to be.
    pub fn microseconds_since(&self, received: Instant) -> [u64; 2] {
        [Some(self.at), self.enforced].map(|at| at.map_or(0, |at| (at - received).as_micros() as u64))
    }

    /// In one line.
    pub fn log(&self, received: Instant) {
        let ([first, last], [groups, rules, interfaces]) = (self.generations, self.counts);
        let [published, enforced] = self.microseconds_since(received);
        let what = format_args!(
            "{groups} groups, {rules} rules, {interfaces} interfaces, published after {published} us, \
             enforced after {enforced} us"
        );
        match first == last {
            true => tracing::info!("generation {last}: {what}"),
            false => tracing::info!("generations {first} to {last}: {what}"),
        }
    }
}

impl Switch {
    /// The policy in force, with its counts.
    pub(super) fn in_force(&self) -> Option<(&Validated, [usize; 3])> {
        self.current.as_ref().map(|current| (&*current.policy, current.counts))
    }

    /// Puts policies into force, each made of the one before it. Each is stored as a generation
    /// of its own; workers judge by the last.
    ///
    /// # Errors
    /// One cannot be put into force. Nothing has changed then.
    pub(super) fn put_into_force(
        &mut self,
        earlier: &[Next],
        last: &Next,
        ports: &Ports,
        check: Check,
    ) -> Result<Published, PushError> {
        let metrics = self.metrics.clone();
        let first = self.generation() + 1;
        let generation = first + earlier.len() as u64;
        let policy = &last.policy;
        let start = Instant::now();
        let snapshot = metrics
            .time(Step::Compile, || self.compiler.compile(policy, generation, ports))
            .map_err(PushError::Invalid)?;
        let compiled = start.elapsed();
        let before = self.current.as_ref().map(|current| current.book.clone());
        let book = metrics.time(Step::Arrange, || match &before {
            Some(before) => self.compiler.arrange(before, policy.clone()),
            None => Rulebook::new(policy.clone()),
        });
        let ask = || match check {
            Check::Changes(samples) => self_check_changes(&book, &self.compiler, &snapshot, samples),
            Check::Push => self_check_push(&book, &self.compiler, &snapshot, SELF_CHECK_SAMPLES),
            Check::Whole => {
                self_check_by(&book, |id| self.compiler.interface_id(id), &snapshot, SELF_CHECK_SAMPLES)
            }
        };
        let kept = metrics
            .time(Step::SelfCheck, ask)
            .map_err(|mismatch| PushError::SelfCheck(mismatch.to_string()))
            .and_then(|_| {
                metrics.time(Step::Store, || {
                    let before = before.as_ref().map(|before| &**before.policy());
                    self.store(|saving| {
                        let all = earlier.iter().chain([last]);
                        let befores = [before].into_iter().chain(all.clone().map(|next| Some(&*next.policy)));
                        let mut all = (first..).zip(all).zip(befores);
                        all.try_for_each(|((generation, next), before)| add(saving, generation, next, before))
                    })
                })
            });
        if let Err(error) = kept {
            self.compiler.discard();
            return Err(error);
        }
        // First, so that the accounts know what workers will speak of.
        metrics.time(Step::Account, || self.accounts.published(generation, book.clone(), self.names()));
        let publishing = Instant::now();
        metrics.time(Step::Publish, || self.datapath.publish(snapshot.clone()));
        let at = Instant::now();
        let (policy, counts) = (policy.clone(), last.counts);
        self.current = Some(Current { generation, policy, book, counts, snapshot });
        let generations = [first, generation];
        Ok(Published { generations, counts, at, enforced: None, tables: compiled + (at - publishing) })
    }

    /// Waits until every worker judges by what was published last.
    ///
    /// # Errors
    /// Some do not in time. They will: it stays published.
    pub(super) fn wait_enforced(&mut self, published: &mut Published) -> Result<(), NotEnforced> {
        let metrics = self.metrics.clone();
        metrics.time(Step::Enforce, || self.datapath.wait_enforced(self.enforce_timeout))?;
        let now = Instant::now();
        metrics.tables(published.tables + (now - published.at));
        published.enforced = Some(now);
        Ok(())
    }

    /// Stores policies before the last is published. A store that turns out to be
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
}

/// Adds a policy to what is stored: told by what it changes in the one before where that may
/// be, whole where not.
fn add(
    saving: &mut Saving<'_>,
    generation: u64,
    next: &Next,
    before: Option<&Validated>,
) -> anyhow::Result<()> {
    let Next { policy, counts, words, uid } = next;
    let before = before.filter(|_| saving.takes_changes(generation));
    let changes = before.and_then(|before| policy.changes_since(before));
    let is_change = changes.is_some();
    let document = changes.unwrap_or_else(|| policy.to_document().to_string());
    let (change, uid, counts) = (words.as_str(), *uid, *counts);
    saving.add(&Record { generation, document: &document, is_change, change, uid, counts })
}

/// Groups, rules and interfaces of a policy.
pub fn counts(policy: &Validated) -> [usize; 3] {
    let rules = policy.groups.values().map(|g| g.inbound.len() + g.outbound.len()).sum();
    [policy.groups.len(), rules, policy.interfaces.len()]
}

/// The same of the policy that follows one, at the cost of what differs.
fn counts_after(before: &Validated, [_, rules, _]: [usize; 3], policy: &Validated) -> [usize; 3] {
    let of = |group: Option<&SecurityGroup>| group.map_or(0, |g| g.inbound.len() + g.outbound.len());
    let changes = before.groups.differences(&policy.groups);
    let rules = changes.fold(rules, |rules, (_, old, new)| rules + of(new) - of(old));
    [policy.groups.len(), rules, policy.interfaces.len()]
}
