//! The one way of an update: validate, compile, check, store, publish, enforce.

use std::sync::Arc;
use std::time::Instant;

use policy::{Faults, Notice, Validated, merge, parse, self_check, validate};
use serde::Serialize;
use worker::NotEnforced;

use crate::metrics::{PushMetrics, Step};
use crate::switch::{Current, Switch};

/// Packets that the self-check asks about.
const SELF_CHECK_SAMPLES: usize = 2000;

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
}

/// Why a push changed nothing, but for the last, which came too late to.
#[derive(Debug)]
pub enum PushError {
    /// The document is wrong.
    Invalid(Faults),
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
}

impl Switch {
    /// Puts a document into force.
    pub fn push(&mut self, document: &[u8], options: PushOptions) -> Result<Pushed, PushError> {
        let metrics = self.metrics.clone();
        let result = self.push_steps(document, options, &metrics);
        metrics.finished(result.is_ok());
        result
    }

    fn push_steps(
        &mut self,
        document: &[u8],
        options: PushOptions,
        metrics: &PushMetrics,
    ) -> Result<Pushed, PushError> {
        let start = Instant::now();
        let current = self.generation();
        if options.if_generation.is_some_and(|wanted| wanted != current) {
            return Err(PushError::Conflict { current });
        }
        let document = metrics
            .time(Step::Parse, || parse("the document", document).and_then(merge))
            .map_err(PushError::Invalid)?;
        let (policy, notices) = metrics
            .time(Step::Validate, || validate(&document, &self.context(options.partial)))
            .map_err(PushError::Invalid)?;
        let generation = current + 1;
        let snapshot = metrics
            .time(Step::Compile, || self.compiler.compile(&policy, generation, &self.ports))
            .map_err(PushError::Invalid)?;
        let kept = metrics
            .time(Step::SelfCheck, || self_check(&policy, &self.compiler, &snapshot, SELF_CHECK_SAMPLES))
            .map_err(|mismatch| PushError::SelfCheck(mismatch.to_string()))
            .and_then(|_| {
                let text = policy.to_document().to_string();
                metrics
                    .time(Step::Store, || self.store.save(generation, &text, options.uid))
                    .map_err(|error| PushError::Store(format!("the policy cannot be stored: {error:#}")))
            });
        if let Err(error) = kept {
            self.compiler.discard();
            return Err(error);
        }
        metrics.time(Step::Publish, || self.datapath.publish(snapshot.clone()));
        let published_us = start.elapsed().as_micros() as u64;
        let mut pushed = pushed(&policy, generation, notices);
        pushed.published_us = published_us;
        self.current = Some(Current { generation, policy: Arc::new(policy), snapshot });
        if !options.no_wait {
            metrics
                .time(Step::Enforce, || self.datapath.wait_enforced(self.enforce_timeout))
                .map_err(PushError::NotEnforced)?;
            pushed.enforced = true;
            pushed.enforced_us = start.elapsed().as_micros() as u64;
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

fn pushed(policy: &Validated, generation: u64, notices: Vec<Notice>) -> Pushed {
    Pushed {
        generation,
        enforced: false,
        published_us: 0,
        enforced_us: 0,
        groups: policy.groups.len(),
        rules: policy.groups.values().map(|g| g.inbound.len() + g.outbound.len()).sum(),
        interfaces: policy.interfaces.len(),
        notices,
    }
}
