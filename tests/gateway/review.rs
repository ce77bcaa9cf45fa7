//! What a hostile reading of the whole gateway found once, and must not find again.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::harness::{POLICY, Service};
use crate::operations::{Process, ask, directory, eventually, get, portcullis};

/// The ids of all keys; for a directory that no gateway serves from.
fn ids(dir: &Path) -> Vec<String> {
    let (code, keys, talk) = portcullis(dir, &["keys", "list", "--format", "json"]);
    assert_eq!(code, Some(0), "{talk}");
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
    keys.as_array().unwrap().iter().map(|key| key["id"].to_string()).collect()
}

#[test]
fn no_key_is_made_that_cannot_be_handed_over() {
    let dir = directory(Service::ok().address, POLICY, "");
    fs::write(dir.path().join("taken"), "mine").unwrap();
    let create = ["keys", "create", "--name", "reader", "--scope", "things:read", "--out"];
    for file in ["taken", "no/such/place"] {
        let (code, _, talk) = portcullis(dir.path(), &[&create[..], &[file]].concat());
        assert_eq!(code, Some(2), "{talk}");
        assert_eq!(ids(dir.path()), [""; 0], "{file}");
    }
    assert_eq!(fs::read_to_string(dir.path().join("taken")).unwrap(), "mine");
    // A key that cannot be made leaves no file behind.
    let nameless = ["keys", "create", "--name", "", "--out", "key"];
    assert_eq!(portcullis(dir.path(), &nameless).0, Some(2));
    assert!(!dir.path().join("key").exists());

    let (code, printed, talk) = portcullis(dir.path(), &[&create[..], &["key"]].concat());
    assert_eq!((code, printed.as_str()), (Some(0), ""), "{talk}");
    let key = fs::read_to_string(dir.path().join("key")).unwrap();
    assert!(key.starts_with("pcl_") && key.ends_with('\n'));
    let mode = fs::metadata(dir.path().join("key")).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, ids(dir.path()).len()), (0o600, 1));
}

#[test]
fn a_first_key_that_cannot_be_written_is_made_at_the_next_start() {
    let dir = directory(Service::ok().address, POLICY, "");
    let file = dir.path().join(".portcullis/first-key");
    fs::DirBuilder::new().mode(0o700).create(dir.path().join(".portcullis")).unwrap();
    fs::write(&file, "of a store that was deleted").unwrap();
    let mut process = Process::spawn(dir.path(), &[]);
    assert_eq!(process.ended().code(), Some(2), "{}", process.said());
    assert!(process.said().contains("first-key cannot be written"), "{}", process.said());

    fs::remove_file(&file).unwrap();
    let process = Process::start(dir.path());
    let key = fs::read_to_string(&file).unwrap();
    let reply = ask(process.address("http"), &get("/v1/things", key.trim())).unwrap();
    assert_eq!(reply.status, 200);
}

#[test]
fn the_access_log_goes_on_in_a_new_file_after_it_was_moved_away() {
    let dir = directory(Service::ok().address, POLICY, "");
    let config = dir.path().join("gateway.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"none\"", "\"file:access.log\"")).unwrap();
    let process = Process::start(dir.path());
    let (log, moved) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let told = |file: &Path, path: &str| {
        eventually(|| fs::read_to_string(file).is_ok_and(|text| text.contains(path)))
    };
    assert!(ask(process.address("http"), &get("/v1/before", "no-key")).is_some());
    assert!(told(&log, "/v1/before"));
    fs::rename(&log, &moved).unwrap();
    process.signal("HUP");
    assert!(process.wait_for("policy"), "{}", process.said());
    assert!(ask(process.address("http"), &get("/v1/after", "no-key")).is_some());
    assert!(told(&log, "/v1/after"));
    assert!(!fs::read_to_string(&moved).unwrap().contains("/v1/after"));
}
