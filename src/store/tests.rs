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
    let header = embedded::Header { schema_version: 2, wrapped_data_key: vec![0; 61] };
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
