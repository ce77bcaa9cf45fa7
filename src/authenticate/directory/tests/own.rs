//! Protects that owners find their credentials, all of them and nobody else's, without a walk through everybody's.

use std::collections::BTreeSet;

use super::*;
use crate::authenticate::directory::life::Which;
use crate::authenticate::directory::own::{Asker, Shown};
use crate::authenticate::directory::shelf::looked_at;

const OTHERS: usize = 5_000;

fn wish_of(subject: &str) -> NewKey {
    NewKey { subject: subject.into(), not_before_ms: None, networks: Vec::new(), ..wish() }
}

fn asker(subject: &str, id: KeyId) -> Asker {
    Asker {
        subject: subject.into(),
        shown: Shown::Kept(id),
        live_max: 50,
        max_age: Duration::from_secs(86_400),
        made_keys: true,
    }
}

/// A directory in which many keys are somebody else's.
fn crowded(dir: &Path) -> Directory {
    let directory = open(dir);
    let texts: Vec<String> =
        (0..OTHERS).map(|number| format!("key-of-another-{number:06}")).collect();
    for (part, texts) in texts.chunks(OTHERS / 50).enumerate() {
        let new = wish_of(&format!("other-{part}"));
        directory.import(texts.iter().map(String::as_str), &new, NOW).unwrap();
    }
    directory
}

/// What is done, and how many entries it looked at.
fn counted<T>(act: impl FnOnce() -> T) -> (T, usize) {
    looked_at::take();
    let done = act();
    (done, looked_at::take())
}

#[test]
fn an_owner_finds_their_credentials_without_a_look_at_everybody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let directory = crowded(dir.path());
    let first = directory.create(wish_of("alice"), NOW).unwrap();
    let mut own =
        BTreeSet::from([first.id, directory.create_signing(wish_of("alice"), NOW).unwrap().id]);
    let alice = asker("alice", first.id);
    let new = NewKey { expires_ms: None, note: None, tier: None, ..wish_of("alice") };
    for _ in 0..3 {
        let may = |_: &str| Vec::new();
        let (made, looked) =
            counted(|| directory.create_own(&alice, new.clone(), may, NOW).unwrap());
        own.insert(made.id);
        assert!(looked < 20, "{looked} entries were looked at to make one key");
    }
    let ids = |listed: Vec<Described>| listed.iter().map(|one| one.id).collect::<BTreeSet<_>>();
    let (listed, looked) = counted(|| directory.own(&alice, NOW).unwrap());
    assert_eq!(ids(listed), own);
    assert!(looked < 20, "{looked} entries were looked at to list five");
    // After a restart it is the same, and a change of them all finds them too.
    drop(directory);
    let directory = open(dir.path());
    assert_eq!(ids(directory.own(&alice, NOW).unwrap()), own);
    let which = Which::Owner("alice".to_owned());
    let (revoked, looked) = counted(|| directory.revoke_all(&which, NOW).unwrap());
    assert_eq!(revoked.into_iter().collect::<BTreeSet<_>>(), own);
    assert!(looked < 30, "{looked} entries were looked at to revoke five");
    // The test can fail: what walks is counted as such.
    let ((), looked) = counted(|| directory.each_grant(|_| ()));
    assert!(looked > OTHERS, "{looked}");
}

#[test]
fn owners_whose_hashes_are_the_same_stay_apart() {
    let directory = Directory::in_memory(&pepper(), "live").unwrap();
    let mine = directory.create(wish_of("alice"), NOW).unwrap();
    let other = directory.create(wish_of("bob"), NOW).unwrap();
    // As if both names had one hash.
    let mut writer = directory.turn();
    let number = number_of(directory.find_api_key(text_of(&other)).unwrap().0.mac());
    writer.owners.add(vec![(directory.mark("alice", false), number)]);
    drop(writer);
    let listed = directory.own(&asker("alice", mine.id), NOW).unwrap();
    assert_eq!(listed.iter().map(|one| one.id).collect::<Vec<_>>(), [mine.id]);
}
