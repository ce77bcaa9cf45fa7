//! Protects suspension, what holds for all keys of an owner, the greatest age, and the notes of usage.

use std::collections::HashMap;

use super::*;
use crate::authenticate::directory::life::Which;
use crate::authenticate::directory::tally::Used;
use crate::authenticate::standing::Keeper;
use crate::refusal::Reason;

fn owned(subject: &str) -> NewKey {
    NewKey { subject: subject.into(), not_before_ms: None, ..wish() }
}

fn says(directory: &Directory, text: &str, now: Now) -> Result<(), Reason> {
    let client = "10.8.0.1".parse().unwrap();
    directory.find_api_key(text).unwrap().0.check(directory.environment_name(), client, now)
}

#[test]
fn what_a_signing_key_proved_ends_with_the_key() {
    let directory = Directory::in_memory(&pepper(), "live").unwrap();
    let signing = directory.create_signing(wish(), NOW).unwrap();
    let other = directory.create_signing(wish(), NOW).unwrap();
    let (_, ticket) = SigningKeys::find(&directory, signing.id.as_str()).unwrap();
    let holds = || directory.still_holds(ticket, "10.8.0.1".parse().unwrap(), NOW);
    directory.revoke(other.id, NOW).unwrap();
    assert_eq!(holds(), Ok(()));
    directory.suspend(&Which::Key(signing.id), "", NOW).unwrap();
    assert_eq!(holds(), Err(Reason::CredentialSuspended));
    directory.resume(&Which::Key(signing.id)).unwrap();
    assert_eq!(holds(), Ok(()));
    directory.revoke(signing.id, NOW).unwrap();
    assert_eq!(holds(), Err(Reason::CredentialRevoked));
}

#[test]
fn a_suspended_key_holds_again_once_it_is_resumed_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    let key = directory.create(wish(), NOW).unwrap();
    let signing = directory.create_signing(wish(), NOW).unwrap();
    for id in [key.id, signing.id] {
        let which = Which::Key(id);
        assert_eq!(directory.suspend(&which, "seen in a\nticket", NOW).unwrap(), [id]);
        assert_eq!(directory.suspend(&which, "again", NOW).unwrap(), [], "it was already");
    }
    drop(directory);
    let directory = open(dir.path());
    assert_eq!(says(&directory, &text_of(&key), NOW), Err(Reason::CredentialSuspended));
    let client = "10.8.0.1".parse().unwrap();
    let secret = || SigningKeys::find(&directory, signing.id.as_str()).unwrap().0;
    assert_eq!(secret().bounds.check(client, NOW), Err(Reason::CredentialSuspended));
    let described = directory.describe(key.id).unwrap();
    assert_eq!(described.state(NOW), State::Suspended);
    assert_eq!(described.suspended_why.as_deref(), Some("seen in aticket"));
    assert_eq!(directory.counts_by_state(NOW).suspended, 2);
    let fault = directory.rotate(key.id, Duration::ZERO, NOW).unwrap_err();
    assert!(matches!(fault, DirectoryFault::Suspended(_)), "{fault}");
    assert_eq!(directory.resume(&Which::Key(key.id)).unwrap(), [key.id]);
    assert_eq!(directory.resume(&Which::Key(key.id)).unwrap(), []);
    directory.resume(&Which::Key(signing.id)).unwrap();
    assert_eq!(says(&directory, &text_of(&key), NOW), Ok(()));
    assert_eq!(secret().bounds.check(client, NOW), Ok(()));
    assert_eq!(says(&directory, &text_of(&key), after(90)), Err(Reason::CredentialExpired));
    directory.revoke(key.id, NOW).unwrap();
    assert_eq!(directory.suspend(&Which::Key(key.id), "", NOW).unwrap(), [], "it is over");
}

#[test]
fn what_is_done_to_an_owner_is_done_to_all_of_theirs_and_to_nobody_elses() {
    let directory = Directory::in_memory(&pepper(), "live").unwrap();
    let mine = directory.create(owned("mine"), NOW).unwrap();
    let signing = directory.create_signing(owned("mine"), NOW).unwrap();
    directory.import(["legacy-key-0123456789"], &owned("mine"), NOW).unwrap();
    let imported = directory.id_of("legacy-key-0123456789").unwrap();
    let other = directory.create(owned("other"), NOW).unwrap();
    let owner = Which::Owner("mine".into());
    let mut all = vec![mine.id, signing.id, imported];
    all.sort();
    assert_eq!(directory.suspend(&owner, "", NOW).unwrap(), all);
    assert!(directory.rotate_owner("mine", Duration::ZERO, NOW).is_err(), "none of them holds");
    assert_eq!(directory.resume(&owner).unwrap(), all);
    let rotated = directory.rotate_owner("mine", Duration::from_secs(60), NOW).unwrap();
    let old: Vec<KeyId> = rotated.iter().map(|rotated| rotated.id).collect();
    assert_eq!(old, all);
    for rotated in &rotated {
        let successor = directory.describe(rotated.successor.id).unwrap();
        assert_eq!(successor.rotated_from, Some(rotated.id));
        assert_eq!(directory.describe(rotated.id).unwrap().state(NOW), State::Rotating);
    }
    let fault = directory.rotate_owner("nobody", Duration::ZERO, NOW).unwrap_err();
    assert!(matches!(fault, DirectoryFault::Nobody(_)), "{fault}");
    assert_eq!(directory.revoke_all(&owner, NOW).unwrap().len(), 6, "successors too");
    assert_eq!(directory.revoke_all(&owner, NOW).unwrap(), []);
    assert_eq!(says(&directory, &text_of(&other), NOW), Ok(()));
    assert!(directory.revoke_all(&Which::Owner("nobody".into()), NOW).is_err());
}

#[test]
fn a_key_for_another_environment_is_made_here_and_refused_here() {
    let store = Arc::new(Store::in_memory().unwrap());
    let live = Directory::open(Arc::clone(&store), &pepper(), "live").unwrap();
    let wish = NewKey { environment: Some("test".into()), ..wish() };
    let key = text_of(&live.create(wish.clone(), NOW).unwrap());
    assert!(key.starts_with("pcl_test_"));
    assert_eq!(says(&live, &key, NOW), Err(Reason::CredentialEnvironment));
    let test = Directory::open(store, &pepper(), "test").unwrap();
    assert_eq!(says(&test, &key, NOW), Ok(()));
    let bad = NewKey { environment: Some("Test".into()), ..wish };
    assert!(live.create(bad, NOW).unwrap_err().to_string().starts_with("`environment` must"));
}

#[test]
fn no_key_is_made_that_may_grow_too_old_and_older_ones_are_counted() {
    let store = Arc::new(Store::in_memory().unwrap());
    let before = Directory::open(Arc::clone(&store), &pepper(), "live").unwrap();
    let old = before.create(wish(), NOW).unwrap();
    let days = |days: u64| Duration::from_millis(days * DAY_MS);
    let max_ages = HashMap::from([("live".to_owned(), days(30))]);
    let directory = Directory::open(store, &pepper(), "live").unwrap().limited(max_ages);
    let until = |days: u64| NewKey { expires_ms: Some(after(days).unix_ms), ..wish() };
    for new in [until(31), NewKey { expires_ms: None, ..wish() }] {
        let fault = directory.create(new.clone(), NOW).unwrap_err();
        assert!(matches!(fault, DirectoryFault::TooOld { .. }), "{fault}");
        assert!(directory.create_signing(new.clone(), NOW).is_err());
        assert!(directory.import(["legacy-key-0123456789"], &new, NOW).is_err());
        // Another environment has no such limit.
        directory.create(NewKey { environment: Some("test".into()), ..new }, NOW).unwrap();
    }
    directory.create(until(30), NOW).unwrap();
    assert_eq!(directory.counts_by_state(after(29)).overdue, 0);
    assert_eq!(directory.counts_by_state(after(31)).overdue, 1, "the old one holds on, and shows");
    assert_eq!(says(&directory, &text_of(&old), after(31)), Ok(()));
    let successor = directory.rotate(old.id, Duration::ZERO, after(31)).unwrap();
    let successor = directory.describe(successor.id).unwrap();
    assert_eq!(successor.expires_ms, Some(after(61).unix_ms), "no longer than is allowed now");
}

/// What was noted of a key: total, last use, addresses, scopes.
fn told(used: &Used) -> (u64, u64, Vec<&str>, Vec<&str>) {
    (
        used.total,
        used.last_s,
        used.addresses.iter().map(|seen| &*seen.address).collect(),
        used.scopes.iter().map(|(scope, _)| &**scope).collect(),
    )
}

#[test]
fn usage_is_added_up_and_survives_changes_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    let key = directory.create(wish(), NOW).unwrap();
    let note = |directory: &Directory, address: &str, now| {
        let entry = directory.find_api_key(text_of(&key)).unwrap().0;
        entry.grant.usage.note(address.parse().unwrap(), now);
        let read: crate::name::Names = ["tasks:read"].into_iter().collect();
        entry.grant.usage.note_scopes(entry.grant.scopes.places(&read));
    };
    note(&directory, "192.0.2.1", NOW);
    note(&directory, "192.0.2.2", NOW);
    let last_s = NOW.unix_s();
    let expected = (2, last_s, vec!["192.0.2.1", "192.0.2.2"], vec!["tasks:read"]);
    assert_eq!(told(&directory.used(key.id).unwrap()), expected, "before it is stored");
    assert_eq!(directory.keep_usage().unwrap(), 1);
    assert_eq!(directory.keep_usage().unwrap(), 0, "nothing new");
    assert_eq!(told(&directory.used(key.id).unwrap()), expected, "and behind");
    directory.suspend(&Which::Key(key.id), "", NOW).unwrap();
    note(&directory, "192.0.2.1", after(1));
    directory.resume(&Which::Key(key.id)).unwrap();
    directory.keep_usage().unwrap();
    drop(directory);
    let directory = open(dir.path());
    let used = directory.used(key.id).unwrap();
    let day = NOW.unix_s() / 86_400;
    assert_eq!(used.days, [(day, 2), (day + 1, 1)]);
    assert_eq!(used.today(after(1)), 1);
    assert_eq!((used.total, used.first_s), (3, last_s));
    assert_eq!(directory.describe(key.id).unwrap().last_used_s, Some(after(1).unix_s()));
    assert_eq!(directory.list().unwrap()[0].last_used_s, Some(after(1).unix_s()));
    let scopes = &wish().scopes;
    assert_eq!(used.unused(scopes, NOW.unix_ms, after(29)), Vec::<&str>::new(), "too young to say");
    assert_eq!(used.unused(scopes, NOW.unix_ms, after(31)), ["tasks:write"]);
    assert_eq!(used.unused(scopes, NOW.unix_ms, after(32)), ["tasks:read", "tasks:write"]);
}

#[test]
fn what_is_kept_of_usage_is_bounded() {
    let directory = Directory::in_memory(&pepper(), "live").unwrap();
    let key = directory.create(wish(), NOW).unwrap();
    let entry = directory.find_api_key(text_of(&key)).unwrap().0;
    for day in 0..100 {
        entry.grant.usage.note([192, 0, 2, u8::try_from(day).unwrap()].into(), after(day));
        directory.keep_usage().unwrap();
    }
    let used = directory.used(key.id).unwrap();
    assert_eq!((used.total, used.days.len(), used.addresses.len()), (100, 35, 16));
    assert_eq!(used.addresses[0].address, "192.0.2.0", "the first one stays");
    assert_eq!(used.addresses[15].address, "192.0.2.99");
    assert_eq!(used.days.last().unwrap().0, after(99).unix_s() / 86_400);
}

#[test]
fn a_store_of_an_earlier_version_gets_the_table_that_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let key = open(dir.path()).create(wish(), NOW).unwrap();
    let database = redb::Database::open(dir.path().join(FILE_NAME)).unwrap();
    let writing = database.begin_write().unwrap();
    let usage = redb::TableDefinition::<&str, &[u8]>::new("usage");
    assert!(writing.delete_table(usage).unwrap(), "the test can fail");
    writing.commit().unwrap();
    drop(database);
    let directory = open(dir.path());
    directory.find_api_key(text_of(&key)).unwrap().0.grant.usage.note([192, 0, 2, 1].into(), NOW);
    assert_eq!(directory.keep_usage().unwrap(), 1);
}

#[test]
fn many_keys_are_all_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let texts: Vec<String> =
        (0..11_000).map(|number| format!("key-of-a-client-{number}")).collect();
    let directory = open(dir.path());
    assert_eq!(directory.import(texts.iter().map(String::as_str), &wish(), NOW).unwrap(), 11_000);
    let made = text_of(&directory.create(wish(), NOW).unwrap());
    drop(directory);
    let directory = open(dir.path());
    assert_eq!(directory.list().unwrap().len(), 11_001);
    assert!(texts.iter().chain([&made]).all(|text| directory.find_api_key(text).is_some()));
    assert!(directory.find_api_key("key-of-a-client-11000").is_none());
}
