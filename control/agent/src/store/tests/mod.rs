mod chains;

use super::*;

const KEPT: usize = 100;

fn record(generation: u64, document: &str) -> Record<'_> {
    Record { generation, document, is_change: false, change: "push", uid: Some(7), counts: [1, 2, 3] }
}

fn open(path: &Path) -> Store {
    Store::open(path, KEPT).unwrap()
}

fn save(store: &mut Store, record: &Record<'_>) -> Result<(), SaveError> {
    store.save(|saving| saving.add(record))
}

fn refused(path: &Path) -> String {
    format!("{:#}", Store::open(path, KEPT).err().expect("it is refused"))
}

#[test]
fn the_last_policy_survives_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/policy.db");
    let mut store = open(&path);
    assert!(store.last().unwrap().is_none() && store.range().unwrap().is_none());
    for generation in 1..=150 {
        save(&mut store, &record(generation, &format!("document {generation}"))).unwrap();
    }
    assert!(
        matches!(save(&mut store, &record(150, "again")), Err(SaveError::Failed(_))),
        "a generation is stored once"
    );
    drop(store);
    let store = open(&path);
    let last = store.last().unwrap().unwrap();
    assert_eq!((last.generation, last.document.as_str()), (150, "document 150"));
    assert_eq!(store.range().unwrap(), Some((51, 150)));
    assert!(store.document(50).unwrap().is_none() && store.document(u64::MAX).unwrap().is_none());
    assert_eq!(store.document(51).unwrap().unwrap().document, "document 51");
    let history = store.history(2).unwrap();
    assert_eq!(history.iter().map(|entry| entry.generation).collect::<Vec<_>>(), [150, 149]);
    let Entry { change, uid, counts, bytes, time, .. } = &history[0];
    assert_eq!((change.as_str(), *uid, *counts, *bytes), ("push", Some(7), [Some(1), Some(2), Some(3)], 12));
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
}

#[test]
fn the_file_does_not_grow_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    let mut store = Store::open(&path, 5).unwrap();
    // Documents that cannot be packed.
    let mut state = 1u64;
    let mut noise = |bytes: usize| -> String {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (state >> 40) as u8 % 95)
        };
        (0..bytes).map(|_| next()).collect()
    };
    let mut largest = 0;
    for generation in 1..=60 {
        save(&mut store, &record(generation, &noise(200_000))).unwrap();
        largest = largest.max(std::fs::metadata(&path).unwrap().len());
    }
    assert!(largest < 12 * 200_000, "five documents of 200,000 bytes take {largest}");
    for generation in 61..=80 {
        save(&mut store, &record(generation, "small")).unwrap();
    }
    drop(store);
    let left = std::fs::metadata(&path).unwrap().len();
    assert!(left < 200_000, "it has given its pages back: {left}");
}

#[test]
fn a_store_has_one_user_and_the_next_when_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    let mut store = open(&path);
    save(&mut store, &record(1, "one")).unwrap();
    let error = refused(&path);
    assert!(error.contains("in use by another process"), "{error}");
    drop(store);
    assert_eq!(open(&path).last().unwrap().unwrap().document, "one");
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.join("policy.db"), file.join("deep/policy.db"), folder.path().to_path_buf()] {
        let error = refused(&path);
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn the_first_version_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE policy (generation INTEGER PRIMARY KEY, document TEXT NOT NULL,
                              pushed_at TEXT NOT NULL, pushed_by_uid INTEGER) STRICT;
         INSERT INTO policy VALUES (6, 'six', '2026-01-02 03:04:05', NULL), (7, 'seven', '2026-01-02 03:04:06', 0);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    for _ in 0..2 {
        let store = open(&path);
        assert_eq!(store.last().unwrap().unwrap().document, "seven");
        let history = store.history(10).unwrap();
        let expected = Entry {
            generation: 6,
            time: "2026-01-02T03:04:05Z".to_string(),
            change: "push".to_string(),
            uid: None,
            counts: [None; 3],
            bytes: 3,
        };
        assert_eq!((history.len(), &history[1]), (2, &expected));
    }
}

fn port(name: &str, present: bool) -> StoredPort {
    StoredPort { name: name.to_string(), device: format!("net_null0,{name}"), present }
}

#[test]
fn ports_are_remembered_and_move_to_a_new_store_with_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    let mut store = open(&path);
    save(&mut store, &record(1, "one")).unwrap();
    store.remember_port(port("b", true)).unwrap();
    store.remember_port(port("a", true)).unwrap();
    store.remember_port(port("b", false)).unwrap();
    store.forget_port("nosuch").unwrap();
    drop(store);
    let mut store = open(&path);
    let expected = [port("a", true), port("b", false)];
    assert_eq!(store.ports(), expected);
    // They are no change that a push would take for somebody else's.
    store.forget_port("a").unwrap();
    store.remember_port(port("a", true)).unwrap();
    save(&mut store, &record(2, "two")).unwrap();
    std::fs::write(&path, "nonsense").unwrap();
    let Err(SaveError::Damaged(error)) = save(&mut store, &record(3, "three")) else {
        panic!("it is damaged")
    };
    store.begin_anew(&error, Some(&record(2, "two"))).unwrap();
    drop(store);
    let mut ports = open(&path).ports().to_vec();
    ports.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(ports, expected);
}

#[test]
fn the_second_and_third_version_are_brought_up_to_date_and_keep_their_policies() {
    for older in ["DROP TABLE ports; PRAGMA user_version = 2;", "PRAGMA user_version = 3;"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.db");
        let mut store = open(&path);
        save(&mut store, &record(1, "one")).unwrap();
        store.db.execute_batch("ALTER TABLE generations DROP COLUMN is_change;").unwrap();
        store.db.execute_batch(older).unwrap();
        drop(store);
        let mut store = open(&path);
        assert_eq!(store.last().unwrap().unwrap().document, "one");
        assert_eq!(store.ports(), []);
        store.remember_port(port("a", true)).unwrap();
        assert!(chains::takes_changes(&mut store, 2), "what it holds is whole");
    }
}

#[test]
fn a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    open(&path).db.pragma_update(None, "user_version", 99).unwrap();
    let error = refused(&path);
    assert!(error.contains("newer version (99)"), "{error}");
    assert!(!folder.path().join("policy.db.corrupt-1").exists());
}

#[test]
fn a_damaged_store_is_put_aside_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    for n in 1..=2 {
        std::fs::write(&path, vec![7; 5000]).unwrap();
        let store = open(&path);
        let fault = store.fault().unwrap();
        assert!(
            fault.contains("policy.db cannot be used") && fault.contains(&format!("corrupt-{n}")),
            "{fault}"
        );
        assert_eq!((store.faults(), store.last().unwrap().is_none()), (1, true));
        let copy = std::fs::read(folder.path().join(format!("policy.db.corrupt-{n}"))).unwrap();
        assert!(copy == [7; 5000], "it is kept as it was");
        drop(store);
    }
    // A page of it, in the middle of documents.
    let mut store = open(&path);
    assert!(store.fault().is_none());
    for generation in 1..=20 {
        let document: String = (0..5000u64).map(|n| (n * generation * 7919 % 9973).to_string()).collect();
        save(&mut store, &record(generation, &document)).unwrap();
    }
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let store = open(&path);
    assert!(store.fault().is_some_and(|fault| fault.contains("corrupt-3")), "{:?}", store.fault());
}

#[test]
fn a_store_that_is_damaged_replaced_or_gone_while_it_is_open_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("written over", |path| std::fs::write(path, vec![7; 100]).unwrap()),
        ("cut", |path| {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(4000).unwrap();
        }),
        ("replaced", |path| {
            let other = path.with_extension("other");
            drop(std::fs::remove_file(&other));
            let mut store = Store::open(&other, 5).unwrap();
            save(&mut store, &record(77, "another")).unwrap();
            drop(store);
            std::fs::rename(other, path).unwrap();
        }),
        ("gone", |path| std::fs::remove_file(path).unwrap()),
    ];
    for (what, harm) in harms {
        let mut store = open(&path);
        let next = store.last().unwrap().map_or(1, |last| last.generation + 1);
        save(&mut store, &record(next, "running")).unwrap();
        // All of it in the file, none in its log.
        store.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        store.left = Fingerprint::of(&path);
        harm(&path);
        let error = match save(&mut store, &record(next + 1, "next")) {
            Err(SaveError::Damaged(error)) => error,
            other => panic!("{what}: {other:?}"),
        };
        store.begin_anew(&error, Some(&record(next, "running"))).unwrap();
        assert_eq!(store.faults(), 1, "{what}");
        save(&mut store, &record(next + 1, "next")).unwrap();
        drop(store);
        let store = open(&path);
        assert_eq!(store.range().unwrap(), Some((next, next + 1)), "{what}");
        assert_eq!(store.last().unwrap().unwrap().document, "next");
    }
}

#[test]
fn a_replacement_that_was_cut_short_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    let mut store = open(&damage::next(&path));
    save(&mut store, &record(3, "running")).unwrap();
    drop(store);
    assert_eq!(open(&path).last().unwrap().unwrap().document, "running");
    assert!(!damage::next(&path).exists());
    // One that was never needed is no policy.
    let mut left_over = open(&damage::next(&path));
    save(&mut left_over, &record(9, "left over")).unwrap();
    drop(left_over);
    assert_eq!(open(&path).last().unwrap().unwrap().generation, 3);
}

#[test]
fn a_store_that_was_only_touched_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.db");
    let mut store = open(&path);
    save(&mut store, &record(1, "one")).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    save(&mut store, &record(2, "two")).unwrap();
    assert_eq!((store.faults(), store.range().unwrap()), (0, Some((1, 2))));
}
