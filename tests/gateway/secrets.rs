//! The keys that secrets are sealed with: new ones while the gateway serves, wrong and missing ones.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::{POLICY, Service};
use crate::operations::{Process, ask, directory, get, portcullis};

/// Makes a key with the command.
fn made(dir: &Path, admin: &[&str]) -> String {
    let create = ["keys", "create", "--name", "reader", "--scope", "things:read"];
    let (code, key, talk) = portcullis(dir, &[&create, admin].concat());
    assert_eq!(code, Some(0), "{talk}");
    key.trim().to_owned()
}

fn status(process: &Process, key: &str) -> u16 {
    ask(process.address("http"), &get("/v1/things", key)).unwrap().status
}

fn state(dir: &Path, name: &str) -> Vec<u8> {
    std::fs::read(dir.join(".portcullis").join(name)).unwrap()
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn new_keys_are_put_in_place_while_the_gateway_serves() {
    let dir = directory(Service::ok().address, POLICY, "");
    let mut process = Process::start(dir.path());
    let admin = process.address("metrics").to_string();
    let admin = ["--admin", admin.as_str()];
    let key = made(dir.path(), &admin);
    let (master, store) = (state(dir.path(), "master.key"), state(dir.path(), "store.redb"));
    let (code, said, talk) =
        portcullis(dir.path(), &[&["secrets", "rekey", "--data"], &admin[..]].concat());
    assert_eq!(code, Some(0), "{talk}");
    assert!(said.contains("master.key is the master key now"), "{said}");
    // The first key, and the one that was made.
    assert!(said.contains("2 secrets are sealed anew"), "{said}");
    let new_master = state(dir.path(), "master.key");
    assert!(master != new_master && store != state(dir.path(), "store.redb"));
    assert_eq!(status(&process, &key), 200);
    let later = made(dir.path(), &admin);

    // A copy of the file tells nothing: no key, no master key, old or new.
    let bytes = state(dir.path(), "store.redb");
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    for text in [key.as_bytes(), later.as_bytes(), master.trim_ascii(), new_master.trim_ascii()] {
        assert!(!holds(text) && !holds(&text[text.len() - 20..]));
    }

    process.signal("TERM");
    assert_eq!(process.ended().code(), Some(0));
    // While nothing runs, the command works on the store itself.
    let (code, _, talk) = portcullis(dir.path(), &["secrets", "rekey"]);
    assert_eq!(code, Some(0), "{talk}");
    assert_ne!(new_master, state(dir.path(), "master.key"));
    let process = Process::start(dir.path());
    assert!(!process.said().contains("first run"), "{}", process.said());
    assert_eq!((status(&process, &key), status(&process, &later)), (200, 200));
}

#[test]
fn a_master_key_elsewhere_takes_over_and_the_old_one_is_told_to_be_wrong() {
    let dir = directory(Service::ok().address, POLICY, "");
    let mut process = Process::start(dir.path());
    let admin = process.address("metrics").to_string();
    let key = made(dir.path(), &["--admin", &admin]);
    write_private(&dir.path().join("second.key"), &"s".repeat(43));
    let rekey = ["secrets", "rekey", "--admin", &admin, "--new", "file:second.key"];
    let (code, said, talk) = portcullis(dir.path(), &rekey);
    assert_eq!(code, Some(0), "{talk}");
    assert!(said.contains("file:second.key is the master key now"), "{said}");
    assert!(talk.contains("master_key = \"file:second.key\""), "{talk}");
    assert_eq!(status(&process, &key), 200);
    process.signal("TERM");
    process.ended();

    let path = dir.path().join("gateway.toml");
    let files = || {
        let entries = std::fs::read_dir(dir.path().join(".portcullis")).unwrap().flatten();
        entries.map(|entry| entry.file_name()).collect::<BTreeSet<_>>()
    };
    let before = files();
    let config = std::fs::read_to_string(&path).unwrap();
    let with = |line: &str| std::fs::write(&path, format!("{config}\n[state]\n{line}\n")).unwrap();
    write_private(&dir.path().join("third.key"), &"t".repeat(43));
    for (line, told) in [
        ("", ["store.redb", "master.key"]),
        ("master_key = \"file:third.key\"", ["store.redb", "file:third.key"]),
        ("master_key = \"file:fourth.key\"", ["gateway.toml", "fourth.key"]),
        ("master_key = \"env:NO_SUCH_VARIABLE\"", ["gateway.toml", "NO_SUCH_VARIABLE"]),
    ] {
        with(line);
        for command in [&["run"][..], &["keys", "list"], &["secrets", "rekey"]] {
            let (code, _, talk) = portcullis(dir.path(), command);
            assert_eq!(code, Some(2), "{line} {command:?}: {talk}");
            assert!(told.iter().all(|part| talk.contains(part)), "{line} {command:?}: {talk}");
        }
        assert_eq!(files(), before, "{line}");
    }
    with("master_key = \"file:second.key\"");
    let process = Process::start(dir.path());
    assert_eq!(status(&process, &key), 200);
}
