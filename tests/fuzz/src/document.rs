//! Policy documents.

mod edits;

use policy::{
    Arena, Compiler, Context, Faults, MAX_FAULTS, Ports, Tree, Validated, merge, parse, self_check,
    validate_tree,
};

use crate::example::{context, ports};
use crate::input::Input;

/// The most bytes of a document that are looked at.
const MOST: usize = 64 << 10;

/// More than any fault's words or path may have: 500 bytes and an ellipsis.
const MOST_TEXT: usize = 503;

/// Reads the bytes as a file with documents; after a zero byte, which no JSON
/// begins with, as edits of the example.
pub fn document(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MOST)];
    match bytes {
        [0, edits @ ..] => judged(&Arena::default().tree(&edits::edited(&mut Input(edits)))),
        _ => {
            let arena = Arena::default();
            let merged = parse(&arena, "fuzz.json", bytes).and_then(|parts| merge(&arena, parts));
            match merged {
                Ok(document) => judged(&document),
                Err(faults) => told(&faults),
            }
        }
    }
}

fn judged(document: &Tree<'_>) {
    let ports = ports();
    match validate_tree(document, &context(&ports)) {
        Ok((policy, notices)) => {
            assert!(notices.len() <= MAX_FAULTS + 1);
            accepted(&policy, &ports);
        }
        Err(faults) => told(&faults),
    }
    // What is wrong with a whole document may be right for a page of one, and when restored.
    let none = Ports::default();
    let lenient = Context { ports: &none, partial: true, missing_ports_are_notices: true };
    if let Err(faults) = validate_tree(document, &lenient) {
        told(&faults);
    }
}

/// A refusal says something, and not too much.
fn told(faults: &Faults) {
    assert!(!faults.errors.is_empty() && faults.errors.len() <= MAX_FAULTS);
    assert!(faults.not_listed == 0 || faults.errors.len() == MAX_FAULTS);
    for fault in &faults.errors {
        assert!(!fault.code.is_empty() && !fault.message.is_empty(), "{fault:?}");
        assert!(fault.message.len() <= MOST_TEXT && fault.path.len() <= MOST_TEXT, "{fault:?}");
    }
}

fn accepted(policy: &Validated, ports: &Ports) {
    restored(policy, ports);
    let mut compiler = Compiler::new(64);
    let snapshot = match compiler.compile(policy, 1, ports) {
        Ok(snapshot) => snapshot,
        Err(faults) => return told(&faults),
    };
    if let Err(mismatch) = self_check(policy, &compiler, &snapshot, 300) {
        panic!("{mismatch}");
    }
    assert_eq!(snapshot.interfaces.iter().count(), policy.interfaces.len());
    // The same again is the same.
    let again = compiler.compile(policy, 2, ports).expect("it was compiled before");
    assert_eq!((again.ports, again.vpcs), (snapshot.ports, snapshot.vpcs));
    for interface in again.interfaces.iter() {
        assert!(interface.revoked.is_none(), "nothing was taken from {:?}", interface.id);
    }
}

/// A policy survives the way to disk and back, also onto a switch without ports.
fn restored(policy: &Validated, ports: &Ports) {
    let stored = policy.to_document().to_string();
    let arena = Arena::default();
    let document = parse(&arena, "stored", stored.as_bytes()).and_then(|parts| merge(&arena, parts));
    let document = document.expect("what is stored is a document");
    let (again, _) = validate_tree(&document, &context(ports)).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(&again, policy);
    let none = Ports::default();
    let elsewhere = Context { ports: &none, partial: false, missing_ports_are_notices: true };
    let (bare, _) = validate_tree(&document, &elsewhere).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(&bare, policy);
}
