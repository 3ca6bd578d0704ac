//! `lint` and `verify`.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use crate::cli::Arguments;
use crate::client::{Ask, Failure, ask};
use crate::output::{cell, items, table};
use crate::{EXIT_INVALID, documents};

#[derive(Debug, Args)]
pub struct Lint {
    /// Documents to look at, without asking a daemon; - for standard input. Without
    /// any: the policy in force.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// About so many packets are asked about.
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
}

/// What may not be meant.
pub fn linted(arguments: &Arguments, verb: &Lint) -> Result<Value, Failure> {
    if verb.files.is_empty() {
        return ask(&arguments.socket, Ask::get("/v1/lint"));
    }
    let documents = documents::read(&verb.files)?;
    // The ports of the switch that it is for are not known here.
    let ports = policy::Ports::default();
    let context = policy::Context { ports: &ports, partial: true, missing_ports_are_notices: true };
    let (policy, _) = policy::validate(&documents.whole, &context).map_err(|faults| {
        let mut failure = Failure { exit: EXIT_INVALID, body: json!(faults) };
        documents.locate(&mut failure);
        failure
    })?;
    Ok(json!({ "State": "offline", "Findings": policy::lint(&policy) }))
}

/// Whether something is most likely not meant.
pub fn has_warnings(answer: &Value) -> bool {
    items(answer, "Findings").iter().any(|finding| finding["Severity"] != "info")
}

/// A line for each finding.
pub fn in_words(answer: &Value) -> String {
    let findings = items(answer, "Findings");
    if findings.is_empty() {
        return "nothing found\n".to_string();
    }
    let row = |finding: &Value| {
        let part = |key: &str| cell(&finding[key]);
        vec![part("Severity"), part("Check"), part("Id"), part("SecurityGroupRuleId"), part("Message")]
    };
    table(&["SEVERITY", "CHECK", "ID", "RULE", "FINDING"], findings.iter().map(row))
}

/// Asks for the tables in force to be held against their rules.
pub fn verified(arguments: &Arguments, verb: &Verify) -> Result<Value, Failure> {
    let samples = verb.samples.map_or(String::new(), |n| format!("?samples={n}"));
    let path = format!("/v1/verify{samples}");
    ask(&arguments.socket, Ask { method: Method::POST, path: &path, body: None, if_match: None })
}

/// What came out.
pub fn verified_in_words(answer: &Value) -> String {
    let part = |key: &str| cell(&answer[key]);
    let generation = part("Generation");
    match answer["Mismatch"].as_str() {
        Some(mismatch) => format!("generation {generation} is enforced wrongly: {mismatch}\n"),
        None => format!(
            "generation {generation}: tables and rules agree on {} packets at {} interfaces\n",
            part("PacketsAsked"),
            part("NetworkInterfaces")
        ),
    }
}
