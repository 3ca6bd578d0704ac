//! Group commit: single changes that wait at the same moment are taken together. Each is made
//! on top of the one before it and is a generation of its own, with its own row in the store;
//! all share one transaction, one compilation, one self-check and one publication.
//!
//! Nobody is answered before the fate of all is known. What one is refused for may have been
//! made by another, of which nothing is left if the group fails: its members are then taken
//! anew, in halves, until whoever is to blame is alone with it.

use std::time::Instant;

use axum::body::Bytes;
use policy::{Context, Edited, Validated};
use tokio::sync::oneshot;

use super::force::{Check, Next, Published};
use super::{PushError, PushOptions, Pushed, is_at};
use crate::bodies::Place;
use crate::switch::Switch;

/// The most that are taken together: nobody waits for many more than came before him.
pub const MOST: usize = 256;

/// Packets that the self-check of one change asks about: it reaches few interfaces.
const SAMPLES: usize = 64;

/// And of each further one: as many as an interface takes, so that the more are looked at.
const FURTHER_SAMPLES: usize = 8;

type Answer = Result<Pushed, PushError>;

/// Answers, each with who waits for it, and may be gone.
pub type Answered = Vec<(oneshot::Sender<Answer>, Answer)>;

/// A single change that waits for its turn.
pub struct Waiting {
    /// EC2's name of it.
    pub action: String,
    /// The request, as JSON.
    pub request: Bytes,
    /// How it is to be done.
    pub options: PushOptions,
    /// When all of it had arrived.
    received: Instant,
    reply: oneshot::Sender<Answer>,
    /// What the request takes of memory until it is answered.
    _place: Place,
}

impl Waiting {
    /// A change that has arrived now, and where its answer will be.
    pub fn new(
        action: String,
        request: Bytes,
        options: PushOptions,
        place: Place,
    ) -> (Waiting, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let received = Instant::now();
        (Waiting { action, request, options, received, reply, _place: place }, answer)
    }
}

impl Switch {
    /// Puts single changes into force in the order in which they came. Those that are answered at
    /// the same moment are so by one call.
    pub fn act(&mut self, group: Vec<Waiting>, answer: &impl Fn(Answered)) {
        group.iter().for_each(|waiting| self.metrics.waited(waiting.received.elapsed()));
        self.act_together(group, answer);
    }

    fn act_together(&mut self, mut group: Vec<Waiting>, answer: &impl Fn(Answered)) {
        match self.make(&group) {
            Ok((answers, published)) => self.tell(group, answers, published, answer),
            Err(_) if group.len() > 1 => {
                let rest = group.split_off(group.len() / 2);
                self.act_together(group, answer);
                self.act_together(rest, answer);
            }
            Err(error) => self.tell(group, vec![Err(error)], None, answer),
        }
    }

    /// Makes each change on top of the one before it, and publishes them together but for those
    /// that are refused by themselves.
    ///
    /// # Errors
    /// They cannot be put into force together. Nothing has changed then.
    fn make(&mut self, group: &[Waiting]) -> Result<(Vec<Answer>, Option<Published>), PushError> {
        let ports = self.bindable();
        let (none, current) = (Validated::default(), self.generation());
        let mut made: Vec<Next> = Vec::with_capacity(group.len());
        let mut edits = Vec::with_capacity(group.len());
        for Waiting { action, request, options, .. } in group {
            let before = made.last().map(|next| (&*next.policy, next.counts)).or(self.in_force());
            let context =
                Context { ports: &ports, partial: options.partial, missing_ports_are_notices: false };
            let edited = is_at(current + made.len() as u64, options.if_generation).and_then(|()| {
                self.edited(before.map_or(&none, |(policy, _)| policy), action, request, &context)
            });
            let edited = edited.map(|Edited { policy, answer, notices, .. }| {
                (Next::new(before, policy, action.clone(), options.uid), answer, notices)
            });
            edits.push(edited.map(|(next, answer, notices)| {
                made.push(next);
                (made.len() - 1, answer, notices)
            }));
        }
        let published = match made.split_last() {
            Some((last, earlier)) => {
                let samples = SAMPLES + earlier.len() * FURTHER_SAMPLES;
                let published = self.put_into_force(earlier, last, &ports, Check::Changes(samples))?;
                self.metrics.together(made.len());
                Some(published)
            }
            None => None,
        };
        let pushed = |(at, answer, notices): (usize, _, _)| {
            Pushed::new(&made[at], current + 1 + at as u64, notices, answer)
        };
        Ok((edits.into_iter().map(|edit| edit.map(pushed)).collect(), published))
    }

    /// Answers those who wait: when their changes are enforced, unless they do not want to wait
    /// for that.
    fn tell(
        &mut self,
        group: Vec<Waiting>,
        answers: Vec<Answer>,
        mut published: Option<Published>,
        answer: &impl Fn(Answered),
    ) {
        let oldest = group.iter().map(|waiting| waiting.received).min();
        let all = group.into_iter().zip(answers);
        let (patient, others): (Vec<_>, Vec<_>) =
            all.partition(|(waiting, answer)| answer.is_ok() && !waiting.options.no_wait);
        self.tell_now(others, published.as_ref(), answer);
        let Some(published) = &mut published else { return };
        if !patient.is_empty()
            && let Err(late) = self.wait_enforced(published)
        {
            let late = |(waiting, _)| (waiting, Err(PushError::NotEnforced(late.clone())));
            return self.tell_now(patient.into_iter().map(late).collect(), None, answer);
        }
        self.tell_now(patient, Some(published), answer);
        if let Some(oldest) = oldest {
            published.log(oldest);
        }
    }

    /// Answers with what is known now.
    fn tell_now(
        &self,
        all: Vec<(Waiting, Answer)>,
        published: Option<&Published>,
        answer: &impl Fn(Answered),
    ) {
        if all.is_empty() {
            return;
        }
        let told = all.into_iter().map(|(waiting, answer)| {
            self.metrics.finished(answer.is_ok());
            let answer = answer.map(|pushed| match published {
                Some(published) => self.told(pushed, published, waiting.received),
                None => pushed,
            });
            (waiting.reply, answer)
        });
        answer(told.collect());
    }
}
