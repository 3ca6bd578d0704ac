//! `history`, `rollback`, `export`: what was in force, and back to it.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use crate::actions::When;
use crate::cli::Arguments;
use crate::client::{Ask, Failure, ask};
use crate::output::{cell, items, table};

#[derive(Debug, Args)]
pub struct History {
    /// At most so many, the last ones.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

#[derive(Debug, Args)]
pub struct Rollback {
    /// The generation to go back to; it comes into force as a new one.
    pub generation: u64,
    #[command(flatten)]
    pub when: When,
}

#[derive(Debug, Args)]
pub struct Export {
    /// Instead of the policy in force, that of this generation.
    #[arg(long, value_name = "N")]
    pub generation: Option<u64>,
}

/// Asks for the generations that are kept.
pub fn history(arguments: &Arguments, verb: &History) -> Result<Value, Failure> {
    let limit = verb.limit.map_or(String::new(), |limit| format!("?limit={limit}"));
    ask(&arguments.socket, Ask::get(&format!("/v1/history{limit}")))
}

/// Puts a generation into force again.
pub fn rollback(arguments: &Arguments, verb: &Rollback) -> Result<Value, Failure> {
    let path = format!("/v1/rollback/{}?wait={}", verb.generation, !verb.when.no_wait);
    let if_match = verb.when.if_generation;
    ask(&arguments.socket, Ask { method: Method::POST, path: &path, body: None, if_match })
}

/// Asks for a policy as a document.
pub fn export(arguments: &Arguments, verb: &Export) -> Result<Value, Failure> {
    let path = verb.generation.map_or("/v1/policy".to_string(), |n| format!("/v1/history/{n}"));
    ask(&arguments.socket, Ask::get(&path))
}

/// A line for each generation.
pub fn in_words(answer: &Value) -> String {
    let row = |entry: &Value| {
        let part = |key: &str| cell(&entry[key]);
        let who = match (entry["User"].as_str(), &entry["Uid"]) {
            (Some(user), _) => user.to_string(),
            (None, uid) => cell(uid),
        };
        vec![
            if entry["InForce"] == true { "*" } else { "" }.to_string(),
            part("Generation"),
            part("Time"),
            who,
            part("Change"),
            part("SecurityGroups"),
            part("Rules"),
            part("NetworkInterfaces"),
            part("Bytes"),
        ]
    };
    let headers = ["", "GENERATION", "TIME", "BY", "CHANGE", "GROUPS", "RULES", "INTERFACES", "BYTES"];
    table(&headers, items(answer, "History").iter().map(row))
}
