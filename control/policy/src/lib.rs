//! From a document to a compiled snapshot: reading, validating (every error at
//! once, each with its path), compiling, and the linear oracle beside it all.

#![forbid(unsafe_code)]

mod by_id;
mod changes;
mod check;
mod compile;
mod document;
mod edit;
mod explain;
mod export;
mod lint;
mod model;
pub mod oracle;
mod outline;
mod plan;
mod ports;
mod precedent;
mod reader;
mod report;
mod rulebook;
mod sieve;
mod tree;
mod validate;

pub use by_id::ById;
pub use changes::with_changes;
pub use check::{Mismatch, self_check, self_check_by, self_check_changes, self_check_push};
pub use compile::{Compiler, InterfaceNames};
pub use document::{merge, parse};
pub use edit::{Edited, edit};
pub use explain::{
    Between, EndExplanation, ExplainError, ExplainRequest, Explanation, NearestMiss, explain, explain_ends,
    protocol_number,
};
pub use lint::{Finding, Severity, lint};
pub use model::*;
pub use plan::{Change, Group, ObjectChange, Plan, QuotaUse, RuleChange, VerdictChange, plan};
pub use ports::Ports;
pub use precedent::{Document, Learned, Precedent};
pub use report::{Fault, Faults, MAX_FAULTS, Notice};
pub use rulebook::Rulebook;
pub use tree::{Arena, Object, Tree};
pub use validate::{Context, validate, validate_tree};
