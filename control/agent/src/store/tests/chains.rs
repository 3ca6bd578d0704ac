//! Generations that are told by what changed.

use super::*;
use serde_json::{Value, json};

pub(super) fn takes_changes(store: &mut Store, generation: u64) -> bool {
    let mut takes = false;
    let asked = store.save(|saving| {
        takes = saving.takes_changes(generation);
        Ok(())
    });
    asked.unwrap();
    takes
}

/// A document of one group for each generation that changed it, with that many rules.
fn whole(groups: &[(&str, u64)]) -> String {
    let rules = |id: &str, n: u64| {
        (0..n)
            .map(move |r| json!({ "GroupId": id, "SecurityGroupRuleId": format!("{id}-{r}") }))
            .collect::<Vec<_>>()
    };
    let of = |(id, n): &(&str, u64)| json!({ "GroupId": id, "Description": n.to_string() });
    json!({
        "Vpcs": [],
        "SecurityGroups": groups.iter().map(of).collect::<Value>(),
        "SecurityGroupRules": groups.iter().flat_map(|(id, n)| rules(id, *n)).collect::<Value>(),
        "NetworkInterfaces": [{ "NetworkInterfaceId": "eni-1" }],
    })
    .to_string()
}

/// Documents without regard to the order of rules.
fn same(one: &str, other: &str) -> bool {
    let [mut one, mut other]: [Value; 2] = [one, other].map(|text| serde_json::from_str(text).unwrap());
    for value in [&mut one, &mut other] {
        value["SecurityGroupRules"].as_array_mut().unwrap().sort_by_key(|rule| rule.to_string());
    }
    one == other
}

#[test]
fn generations_told_by_what_changed_are_whole_when_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    let mut store = Store::open(&path, 10).unwrap();
    assert!(!takes_changes(&mut store, 1), "there is nothing before it");
    save(&mut store, &record(1, &whole(&[("sg-a", 1), ("sg-b", 1)]))).unwrap();
    assert!(takes_changes(&mut store, 2) && !takes_changes(&mut store, 3) && !takes_changes(&mut store, 1));
    for generation in 2..=30 {
        let change = whole(&[("sg-b", generation)]).replace("\"Vpcs\":[]", "\"x\":0");
        save(&mut store, &Record { is_change: true, ..record(generation, &change) }).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(store.range().unwrap(), Some((21, 30)), "the first is there for those that it tells");
        assert_eq!(store.history(100).unwrap().len(), 10);
        for generation in 21..=30 {
            let document = store.document(generation).unwrap().unwrap().document;
            assert!(same(&document, &whole(&[("sg-a", 1), ("sg-b", generation)])), "{document}");
        }
        assert!(store.document(20).unwrap().is_none() && store.document(1).unwrap().is_none());
        assert_eq!(store.last().unwrap().unwrap().generation, 30);
        drop(store);
        store = Store::open(&path, 10).unwrap();
        assert!(takes_changes(&mut store, 31));
    }
    // Those before a whole one go when none that is kept needs them.
    for generation in 31..=45 {
        save(&mut store, &record(generation, &whole(&[("sg-c", generation)]))).unwrap();
    }
    let rows: u64 = store.db.query_row("SELECT count(*) FROM generations", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 10);
    assert!(same(&store.document(36).unwrap().unwrap().document, &whole(&[("sg-c", 36)])));
}

#[test]
fn changes_do_not_follow_each_other_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("policy.db"), 10).unwrap();
    save(&mut store, &record(1, &whole(&[("sg-a", 1)]))).unwrap();
    let large = whole(&[("sg-a", 1000)]);
    let mut generation = 1;
    while takes_changes(&mut store, generation + 1) {
        generation += 1;
        save(&mut store, &Record { is_change: true, ..record(generation, &large) }).unwrap();
    }
    let bytes = large.len() as u64 * (generation - 1);
    assert!(bytes > 262_144 && bytes < 262_144 + 3 * large.len() as u64, "{generation} of {}", large.len());
    save(&mut store, &record(generation + 1, &large)).unwrap();
    assert!(takes_changes(&mut store, generation + 2));
}

#[test]
fn generations_of_one_transaction_are_told_one_by_one_and_are_all_there_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    let mut store = Store::open(&path, 3000).unwrap();
    save(&mut store, &record(1, &whole(&[("sg-a", 1), ("sg-b", 1)]))).unwrap();
    // More than may be told by what changed: those that may not are whole.
    let (mut generation, mut told) = (1, vec![]);
    let words = ["one", "another"];
    while generation < 2500 {
        let saved = store.save(|saving| {
            for _ in 0..256 {
                generation += 1;
                let is_change = saving.takes_changes(generation);
                assert!(!saving.takes_changes(generation + 1), "the one before it is not there yet");
                let all = [("sg-a", 1), ("sg-b", generation % 7)];
                let document = whole(if is_change { &all[1..] } else { &all });
                told.push(is_change);
                let uid = Some(generation as u32);
                let change = words[generation as usize % 2];
                saving.add(&Record { is_change, change, uid, ..record(generation, &document) })?;
            }
            Ok(())
        });
        saved.unwrap();
    }
    assert!(
        told.iter().any(|is_change| !is_change) && told.iter().filter(|is_change| **is_change).count() > 2000
    );
    let newest = store.newest.clone();
    let half = store.save(|saving| {
        saving.add(&record(generation + 1, "half"))?;
        saving.add(&record(generation, "again"))
    });
    assert!(matches!(half, Err(SaveError::Failed(_))), "a generation is stored once");
    for _ in 0..2 {
        assert_eq!(store.newest, newest, "nothing is left of a half");
        assert_eq!(store.range().unwrap(), Some((1, generation)));
        for generation in (2..=generation).step_by(97).chain([generation]) {
            let document = store.document(generation).unwrap().unwrap().document;
            assert!(
                same(&document, &whole(&[("sg-a", 1), ("sg-b", generation % 7)])),
                "{generation}: {document}"
            );
        }
        for entry in store.history(3000).unwrap().iter().filter(|entry| entry.generation > 1) {
            let own = (words[entry.generation as usize % 2], Some(entry.generation as u32));
            assert_eq!((entry.change.as_str(), entry.uid), own);
        }
        let (chain, wholes) = (store.chain, store.wholes.clone());
        drop(store);
        store = Store::open(&path, 3000).unwrap();
        assert_eq!(wholes, store.wholes);
        assert_eq!(
            (chain.changes, chain.bytes, chain.whole),
            (store.chain.changes, store.chain.bytes, store.chain.whole)
        );
    }
    save(&mut store, &record(generation + 1, "next")).unwrap();
}

#[test]
fn of_more_generations_in_one_transaction_than_are_kept_the_last_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    let mut store = Store::open(&path, 10).unwrap();
    let rows = |store: &Store| -> (u64, u64) {
        let query = "SELECT min(generation), count(*) FROM generations";
        store.db.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    let all = |generation: u64| [("sg-a", 1), ("sg-b", generation % 7)];
    let add = |store: &mut Store, generations: std::ops::RangeInclusive<u64>, wholes: &[u64]| {
        let saved = store.save(|saving| {
            for generation in generations {
                let is_change = !wholes.contains(&generation);
                let all = all(generation);
                let document = whole(if is_change { &all[1..] } else { &all });
                saving.add(&Record { is_change, ..record(generation, &document) })?;
            }
            Ok(())
        });
        saved.unwrap();
    };
    add(&mut store, 1..=5, &[1]);
    add(&mut store, 6..=35, &[12, 25, 33]);
    // 26 to 35 are kept, of which the first is told from 25 on.
    assert_eq!((rows(&store), store.range().unwrap()), ((25, 11), Some((26, 35))));
    add(&mut store, 36..=41, &[]);
    assert_eq!(rows(&store), (25, 17), "32 is told from there as well");
    for _ in 0..2 {
        let last = store.newest.as_ref().unwrap().generation + 1;
        add(&mut store, last..=last, &[]);
        assert_eq!(rows(&store), (33, last - 32));
        for generation in last - 9..=last {
            let document = store.document(generation).unwrap().unwrap().document;
            assert!(same(&document, &whole(&all(generation))), "{generation}: {document}");
        }
        drop(store);
        store = Store::open(&path, 10).unwrap();
    }
}
