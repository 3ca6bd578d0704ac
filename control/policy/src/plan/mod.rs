//! What a push would change: rules, whatever else there is, verdicts, quotas.
//! Nothing here knows of live connections; whoever does asks [`Rulebook`]s.

mod objects;
mod quotas;
mod rules;
mod verdicts;

pub use objects::ObjectChange;
pub use quotas::QuotaUse;
pub use rules::{Group, RuleChange};
pub use verdicts::VerdictChange;

use serde::{Deserialize, Serialize};

use crate::rulebook::Rulebook;

/// The most changes of verdicts that a plan lists.
const MAX_VERDICTS: usize = 1000;

/// What becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is not there yet.
    Added,
    /// It will be gone.
    Removed,
    /// It stays and is otherwise.
    Changed,
}

/// The difference between two policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Plan {
    /// Rules that come and go, those of whole groups included.
    pub rules: Vec<RuleChange>,
    /// Everything else that comes, goes or changes.
    pub objects: Vec<ObjectChange>,
    /// New flows that would be judged otherwise, found at the edges of all rules
    /// that matter to them.
    pub verdicts: Vec<VerdictChange>,
    /// How many more of those there are.
    pub verdicts_not_listed: usize,
    /// Packets that both policies were asked about.
    pub packets_asked: usize,
    /// Quotas of which much is used, or more than before.
    pub quotas: Vec<QuotaUse>,
}

impl Plan {
    /// Whether the policies say the same.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.objects.is_empty()
    }
}

/// What changes from one policy to another. At most `packets` packets are asked
/// about, spread over the interfaces that can be concerned.
pub fn plan(before: &Rulebook, after: &Rulebook, packets: usize) -> Plan {
    let rules = rules::changes(before.policy(), after.policy());
    let objects = objects::changes(before.policy(), after.policy());
    let (mut verdicts, packets_asked) = match rules.is_empty() && objects.is_empty() {
        true => (vec![], 0),
        false => verdicts::changes(before, after, packets),
    };
    let verdicts_not_listed = verdicts.len().saturating_sub(MAX_VERDICTS);
    verdicts.truncate(MAX_VERDICTS);
    let quotas = quotas::uses(before.policy(), after.policy());
    Plan { rules, objects, verdicts, verdicts_not_listed, packets_asked, quotas }
}
