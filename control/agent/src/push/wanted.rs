//! From what is asked for to a valid policy.

use policy::{Arena, Context, Edited, Learned, Notice, Ports, Validated, edit, merge, parse, validate_tree};
use serde_json::Value;

use super::{Change, DOCUMENT, PushError};
use crate::metrics::Step;
use crate::switch::Switch;

/// The policy that a change wants in force, valid.
pub(super) struct Wanted {
    pub policy: Validated,
    pub notices: Vec<Notice>,
    /// What the next document may take over of this one.
    pub learned: Learned,
}

impl Switch {
    /// The policy that a change wants in force.
    pub(super) fn wanted(
        &self,
        change: Change<'_>,
        partial: bool,
        ports: &Ports,
    ) -> Result<Wanted, PushError> {
        let arena = Arena::default();
        let context = Context { ports, partial, missing_ports_are_notices: false };
        let none = Validated::default();
        let current = self.current.as_ref().map_or(&none, |current| &current.policy);
        let kept = match change {
            Change::Document(bytes) => {
                let read = || self.precedent.read(&arena, DOCUMENT, bytes);
                let document = self.metrics.time(Step::Parse, read).map_err(PushError::Invalid)?;
                let validated = self.metrics.time(Step::Validate, || document.validate(&context));
                let (mut policy, notices, learned) = validated.map_err(PushError::Invalid)?;
                policy.share(current);
                return Ok(Wanted { policy, notices, learned });
            }
            Change::Rollback(generation) => self.kept(generation)?,
            Change::Ports(_) => current.to_document(),
        };
        let document = arena.tree(&kept);
        let validated = self.metrics.time(Step::Validate, || validate_tree(&document, &context));
        let (mut policy, notices) = validated.map_err(PushError::Invalid)?;
        policy.share(current);
        Ok(Wanted { policy, notices, learned: Learned::default() })
    }

    /// The policy that an action makes of another, with what it answers and is noticed for.
    pub(super) fn edited(
        &self,
        before: &Validated,
        action: &str,
        request: &[u8],
        context: &Context<'_>,
    ) -> Result<Edited, PushError> {
        let arena = Arena::default();
        let read = || parse(&arena, "the request", request).and_then(|parts| merge(&arena, parts));
        let request = self.metrics.time(Step::Parse, read).map_err(PushError::Invalid)?;
        let edited = self.metrics.time(Step::Validate, || edit(before, action, &request));
        let mut edited = edited.ok_or(PushError::UnknownAction)?.map_err(PushError::Invalid)?;
        if !edited.is_settled {
            let document = edited.policy.to_document();
            let validate = || validate_tree(&arena.tree(&document), context);
            // What the rest of the policy is noticed for is known already.
            let (mut policy, _) = self.metrics.time(Step::Validate, validate).map_err(PushError::Invalid)?;
            policy.share(before);
            edited.policy = policy;
        }
        Ok(edited)
    }

    /// The document of a generation that the store keeps.
    ///
    /// # Errors
    /// It is not kept, or the store cannot be read.
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
}
