//! Protects that the store keeps what it was given, from the disk and from strangers.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::{Command, Stdio};

use super::*;

const CHILD_DIR: &str = "STORE_TEST_DIR";

fn master() -> Secret {
    Secret::new(vec![7; 32])
}

fn put(id: &str, value: &[u8]) -> Batch {
    let mut batch = Batch::default();
    batch.put(Table::Keys, id, Zeroizing::new(value.to_vec()));
    batch
}

#[test]
fn what_was_written_is_there_when_the_store_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &master()).unwrap();
    let mut batch = put("a", b"1");
    batch.put(Table::Keys, "b", Zeroizing::new(b"2".to_vec()));
    batch.put(Table::Bans, "a", Zeroizing::new(b"3".to_vec()));
    store.write(batch).unwrap();
    let mut batch = put("a", b"4");
    batch.delete(Table::Keys, "b");
    batch.delete(Table::Keys, "never there");
    store.write(batch).unwrap();
    drop(store);
    let store = Store::open(dir.path(), &master()).unwrap();
    let mut seen = Vec::new();
    for table in Table::ALL {
        store
            .scan(table, |id, value| {
                seen.push((table, id.to_owned(), value.to_vec()));
                Ok::<(), StoreFault>(())
            })
            .unwrap();
    }
    assert_eq!(
        seen,
        [
            (Table::Keys, "a".to_owned(), b"4".to_vec()),
            (Table::Bans, "a".to_owned(), b"3".to_vec())
        ]
    );
    assert_eq!(store.get(Table::Keys, "a").unwrap().unwrap().as_slice(), b"4");
    assert!(store.get(Table::Keys, "b").unwrap().is_none());
}

#[test]
fn the_file_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), &master()).unwrap());
    let path = dir.path().join(FILE_NAME);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let fault = Store::open(dir.path(), &master()).unwrap_err();
    assert!(matches!(fault, StoreFault::Exposed(_)), "{fault}");
    assert!(fault.to_string().contains("chmod 600"), "{fault}");
}

#[test]
fn a_second_opener_is_told_that_the_store_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path(), &master()).unwrap();
    let fault = Store::open(dir.path(), &master()).unwrap_err();
    assert!(matches!(fault, StoreFault::InUse(_)), "{fault}");
    assert!(fault.to_string().contains("already in use by a running gateway"), "{fault}");
    drop(first);
    Store::open(dir.path(), &master()).unwrap();
}

#[test]
fn a_wrong_master_key_is_told_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path(), &master()).unwrap().write(put("a", b"1")).unwrap();
    let fault = Store::open(dir.path(), &Secret::new(vec![8; 32])).unwrap_err();
    assert!(matches!(fault, StoreFault::WrongMaster), "{fault}");
    let fault = Store::open(dir.path(), &Secret::new(vec![7; 31])).unwrap_err();
    assert!(matches!(fault, StoreFault::WeakMaster { bytes: 31 }), "{fault}");
    let store = Store::open(dir.path(), &master()).unwrap();
    assert_eq!(store.get(Table::Keys, "a").unwrap().unwrap().as_slice(), b"1");
}

#[test]
fn a_layout_of_another_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let header = embedded::Header {
        schema_version: 2,
        data_keys: seal::Wrapped { current: vec![0; 61], previous: None },
    };
    Embedded::open(&path).unwrap().begin(&header).unwrap();
    let fault = Store::open(dir.path(), &master()).unwrap_err();
    assert!(matches!(fault, StoreFault::UnknownVersion { found: 2 }), "{fault}");
}

#[test]
fn a_file_that_is_no_store_is_a_fault_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    let text = b"not a database ".repeat(1000);
    std::fs::write(&path, &text).unwrap();
    let fault = Store::open(dir.path(), &master()).unwrap_err();
    assert!(matches!(fault, StoreFault::Disk(_)), "{fault}");
    assert_eq!(std::fs::read(&path).unwrap(), text);
}

#[test]
fn a_file_that_was_changed_never_panics_and_never_gives_another_value() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &master()).unwrap();
    for number in 0..20 {
        store.write(put(&format!("record-{number}"), b"the value")).unwrap();
    }
    drop(store);
    let path = dir.path().join(FILE_NAME);
    let whole = std::fs::read(&path).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut noticed = 0;
    for at in used.iter().copied().step_by(used.len() / 100 + 1) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        std::fs::write(&path, &changed).unwrap();
        let read = Store::open(dir.path(), &master()).and_then(|store| {
            store.scan(Table::Keys, |_, value| {
                assert_eq!(value, b"the value");
                Ok::<(), StoreFault>(())
            })
        });
        noticed += usize::from(read.is_err());
    }
    assert!(noticed > 0, "not one of the changes was noticed");
}

#[test]
fn a_store_in_memory_keeps_while_it_lives() {
    let store = Store::in_memory().unwrap();
    store.write(put("a", b"1")).unwrap();
    assert_eq!(store.get(Table::Keys, "a").unwrap().unwrap().as_slice(), b"1");
}

/// The child of the test below: writes for ever and says so after each write.
#[test]
#[ignore = "runs only as the child of what_was_written_survives_kill_9"]
fn writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let store = Store::open(Path::new(&dir), &master()).unwrap();
    for number in 0_u32.. {
        store.write(put(&format!("{number:08}"), &number.to_be_bytes())).unwrap();
        println!("written {number}");
    }
}

#[test]
fn what_was_written_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::writes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut promised = None;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, number)) = line.split_once("written ") {
            promised = Some(number.trim().parse::<u32>().unwrap());
            if promised == Some(20) {
                child.kill().unwrap();
                break;
            }
        }
    }
    child.wait().unwrap();
    assert_eq!(promised, Some(20));
    let store = Store::open(dir.path(), &master()).unwrap();
    for number in 0..=20_u32 {
        let value = store.get(Table::Keys, &format!("{number:08}")).unwrap().unwrap();
        assert_eq!(value.as_slice(), number.to_be_bytes());
    }
}

/// Every value of the table, as a store that was opened with this master key reads it.
fn values(dir: &Path, master: &Secret) -> Vec<Vec<u8>> {
    let store = Store::open(dir, master).unwrap();
    let mut seen = Vec::new();
    let keep = |_: &str, value: &[u8]| {
        seen.push(value.to_vec());
        Ok::<(), StoreFault>(())
    };
    store.scan(Table::Keys, keep).unwrap();
    seen
}

#[test]
fn another_master_key_takes_over_and_the_old_one_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let other = Secret::new(vec![8; 32]);
    let store = Store::open(dir.path(), &master()).unwrap();
    store.write(put("a", b"1")).unwrap();
    let weak = Secret::new(vec![9; 31]);
    assert!(matches!(store.rewrap(&weak), Err(StoreFault::WeakMaster { bytes: 31 })));
    store.prove(&master()).unwrap();
    store.rewrap(&other).unwrap();
    store.write(put("b", b"2")).unwrap();
    assert!(matches!(store.prove(&master()), Err(StoreFault::WrongMaster)));
    assert!(matches!(store.renew(&master()), Err(StoreFault::WrongMaster)));
    drop(store);
    assert!(matches!(Store::open(dir.path(), &master()), Err(StoreFault::WrongMaster)));
    assert_eq!(values(dir.path(), &other), [b"1".to_vec(), b"2".to_vec()]);
}

#[test]
fn a_new_data_key_seals_everything_while_others_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &master()).unwrap();
    let mut batch = Batch::default();
    for number in 0..5_000_u32 {
        let value = Zeroizing::new(number.to_be_bytes().to_vec());
        batch.put(Table::Keys, format!("{number:08}"), value);
    }
    store.write(batch).unwrap();
    let sealed = || store.embedded.get(Table::Keys, "00000000").unwrap().unwrap();
    let before = (sealed(), store.embedded.header().unwrap().unwrap().data_keys);
    let written = std::thread::scope(|scope| {
        let renewing = scope.spawn(|| store.renew(&master()).unwrap());
        let mut written = 0;
        while !renewing.is_finished() || written < 10 {
            store.write(put(&format!("more-{written:06}"), b"more")).unwrap();
            assert!(store.get(Table::Keys, "00004999").unwrap().is_some());
            written += 1;
        }
        assert!(renewing.join().unwrap() >= 5_000);
        written
    });
    let after = (sealed(), store.embedded.header().unwrap().unwrap().data_keys);
    assert!(before.0 != after.0 && before.1.current != after.1.current);
    assert_eq!(after.1.previous, None);
    // What the old data key has sealed is nothing to this store any more.
    assert!(store.seal().open(Table::Keys, "00000000", &before.0).is_err());
    drop(store);
    let seen = values(dir.path(), &master());
    assert_eq!(seen.len(), 5_000 + written);
    assert!((0..5_000_u32).all(|number| seen[number as usize] == number.to_be_bytes()));
}

/// The child of the test below: gives the store new keys for ever, and says so each time.
#[test]
#[ignore = "runs only as the child of new_keys_survive_kill_9_at_any_moment"]
fn rekeys_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let store = Store::open(Path::new(&dir), &master()).unwrap();
    loop {
        store.renew(&master()).unwrap();
        println!("written 20");
    }
}

#[test]
fn new_keys_survive_kill_9_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &master()).unwrap();
    let mut batch = Batch::default();
    for number in 0..9_000_u32 {
        let value = Zeroizing::new(number.to_be_bytes().to_vec());
        batch.put(Table::Keys, format!("{number:08}"), value);
    }
    store.write(batch).unwrap();
    drop(store);
    let mut midway = 0;
    for round in 0..6_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::rekeys_until_it_is_killed", "--ignored"])
            .arg("--nocapture")
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("written")));
        std::thread::sleep(std::time::Duration::from_millis(13 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(dir.path(), &master()).unwrap();
        midway += usize::from(store.is_being_renewed());
        drop(store);
        let seen = values(dir.path(), &master());
        assert_eq!(seen.len(), 9_000, "round {round}");
        assert!((0..9_000_u32).all(|number| seen[number as usize] == number.to_be_bytes()));
    }
    assert!(midway > 0, "no kill came in the middle");
    // Who comes next brings it to its end.
    let store = Store::open(dir.path(), &master()).unwrap();
    store.renew(&master()).unwrap();
    assert!(!store.is_being_renewed());
    drop(store);
    assert_eq!(values(dir.path(), &master()).len(), 9_000);
}

#[test]
fn many_records_are_scanned_in_parts_and_none_is_left_out() {
    let store = Store::in_memory().unwrap();
    let begins = ["B".to_owned(), "Z".to_owned()];
    let id = |number: usize| format!("{}{number:07}", char::from(b'0' + (number % 75) as u8));
    for count in [100, 11_000] {
        let mut batch = Batch::default();
        (0..count).for_each(|number| {
            batch.put(Table::Keys, id(number), Zeroizing::new(id(number).into_bytes()));
        });
        store.write(batch).unwrap();
        let parts =
            store.scan_in_parts(Table::Keys, &begins, |part: &mut Vec<String>, id, value| {
                assert_eq!(value, id.as_bytes());
                part.push(id.to_owned());
                Ok::<(), StoreFault>(())
            });
        let parts = parts.unwrap();
        assert_eq!(parts.len(), if count == 100 { 1 } else { 3 });
        let mut expected: Vec<String> = (0..count).map(id).collect();
        expected.sort();
        assert_eq!(parts.concat(), expected);
    }
    let failed =
        store.scan_in_parts(Table::Keys, &begins, |(): &mut (), _, _| Err(StoreFault::WrongMaster));
    assert!(matches!(failed, Err(StoreFault::WrongMaster)));
}
