//! The bodies of single changes.

use policy::{Arena, Edited, Validated, merge, parse, validate};

use crate::example::{context, document, ports};

/// The most changes of one input.
const STEPS: usize = 16;

/// Reads the bytes as lines, each an action's name and its request, and makes
/// the changes one after the other, as the API does.
pub fn edit(bytes: &[u8]) {
    let mut policy = validated(&document()).expect("the example is valid");
    for line in bytes.split(|byte| *byte == b'\n').take(STEPS) {
        let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (action, request) = line.split_at(space);
        let Ok(action) = std::str::from_utf8(action) else { continue };
        let arena = Arena::default();
        let request = parse(&arena, "the request", request).and_then(|parts| merge(&arena, parts));
        let Ok(request) = request else { continue };
        let before = policy.clone();
        match policy::edit(&policy, action, &request) {
            None => {}
            Some(Err(faults)) => {
                assert!(!faults.errors.is_empty(), "refused without a reason");
                assert!(faults.errors.iter().all(|f| !f.code.is_empty() && !f.message.is_empty()));
            }
            Some(Ok(Edited { policy: next, answer, is_settled, .. })) => {
                assert!(answer.is_object(), "{action}: {answer}");
                // Quotas and the like are for validation to say, unless nothing is left to say;
                // what it lets through is what was meant.
                let read = validated(&next.to_document());
                if is_settled {
                    assert_eq!(read.as_ref(), Some(&next), "{action}");
                }
                if let Some(read) = read {
                    assert_eq!(read.groups.len(), next.groups.len());
                    assert_eq!(read.interfaces, next.interfaces);
                    assert_eq!(read.prefix_lists, next.prefix_lists);
                    assert_eq!(rules(&read), rules(&next), "{action}");
                    policy = read;
                }
            }
        }
        assert_eq!((policy.vpcs.len(), policy.settings.clone()), (before.vpcs.len(), before.settings));
    }
}

fn validated(document: &serde_json::Value) -> Option<Validated> {
    let ports = ports();
    validate(document, &context(&ports)).ok().map(|(policy, _)| policy)
}

/// The ids of all rules, in order.
fn rules(policy: &Validated) -> Vec<&str> {
    let rules = policy.groups.values().flat_map(|g| g.inbound.iter().chain(&g.outbound));
    let mut ids: Vec<&str> = rules.map(|rule| rule.id.as_str()).collect();
    ids.sort_unstable();
    ids
}
