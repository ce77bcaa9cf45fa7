//! Protects that changes last, that nothing of a secret lies in the store, and that sizes hold.

mod life;
mod own;
mod reading;

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;
use crate::authenticate::Grant;
use crate::authenticate::directory::change::{CREDENTIALS_MAX, Created};
use crate::authenticate::directory::owners::Owned;
use crate::authenticate::directory::record::NewKey;
use crate::authenticate::directory::state::EXPIRING_MS;
use crate::authenticate::signature::algorithm::Algorithm;
use crate::authenticate::signature::base::Message;
use crate::authenticate::signature::coverage::Coverage;
use crate::authenticate::signature::input::Input;
use crate::authenticate::signature::parameter::Parameters;
use crate::authenticate::signature::public_key::PublicKey;
use crate::authenticate::tests::{NOW, pepper};
use crate::fields::Fields;
use crate::store::FILE_NAME;

const DAY_MS: u64 = 86_400_000;

fn open(dir: &Path) -> Directory {
    let store = Store::open(dir, &Secret::new(vec![7; 32])).unwrap();
    Directory::open(Arc::new(store), &pepper(), "live").unwrap()
}

fn wish() -> NewKey {
    NewKey {
        name: "ci exporter".into(),
        subject: "user-1".into(),
        roles: vec!["member".into()],
        scopes: vec!["tasks:read".into(), "tasks:write".into()],
        tier: Some("free".into()),
        networks: vec!["10.8.0.0/16".parse().unwrap()],
        not_before_ms: Some(NOW.unix_ms),
        expires_ms: Some(NOW.unix_ms + 90 * DAY_MS),
        note: Some("für den Export".into()),
        environment: None,
        canary: false,
        made_by: None,
    }
}

fn text_of(created: &Created) -> String {
    String::from_utf8(created.secret.expose().to_vec()).unwrap()
}

fn after(days: u64) -> Now {
    Now { unix_ms: NOW.unix_ms + days * DAY_MS, ..NOW }
}

#[test]
fn everything_about_a_key_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    let key = directory.create(wish(), NOW).unwrap();
    let before = directory.describe(key.id).unwrap();
    drop(directory);
    let directory = open(dir.path());
    assert_eq!(directory.describe(key.id).unwrap(), before);
    assert_eq!(directory.list().unwrap(), std::slice::from_ref(&before));
    assert_eq!(
        before.again(NOW),
        NewKey { not_before_ms: None, environment: Some("live".into()), ..wish() }
    );
    let (entry, _) = directory.find_api_key(text_of(&key)).unwrap();
    let grant = Grant {
        credential: key.id.as_str().into(),
        subject: "user-1".into(),
        roles: ["member"].into_iter().collect(),
        scopes: ["tasks:read", "tasks:write"].into_iter().collect(),
        tier: Some(Name::new("free")),
        made_s: NOW.unix_s() as u32,
        ..Grant::default()
    };
    assert_eq!(*entry.grant, grant);
    assert_eq!(directory.id_of(&text_of(&key)), Some(key.id));
}

#[test]
fn revocation_rotation_and_import_last() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    let revoked = directory.create(wish(), NOW).unwrap();
    directory.revoke(revoked.id, NOW).unwrap();
    let old = directory.create(wish(), NOW).unwrap();
    let new = directory.rotate(old.id, Duration::from_secs(86_400), after(30)).unwrap();
    assert_eq!(directory.import(["legacy-key-0123456789", ""], &wish(), NOW).unwrap(), 1);
    drop(directory);
    let directory = open(dir.path());
    let state = |id, now| directory.describe(id).unwrap().state(now);
    assert_eq!(state(revoked.id, NOW), State::Revoked);
    assert_eq!(state(old.id, after(30)), State::Rotating);
    assert_eq!(state(old.id, after(31)), State::Expired);
    let successor = directory.describe(new.id).unwrap();
    assert_eq!(directory.describe(old.id).unwrap().rotated_to, Some(new.id));
    assert_eq!(successor.expires_ms, Some(after(120).unix_ms), "it lasts as long as the old one");
    let (imported, _) = directory.find_api_key("legacy-key-0123456789").unwrap();
    let id = KeyId::parse(&imported.grant.credential).unwrap();
    assert_eq!(directory.describe(id).unwrap().kind, Kind::Imported);
    directory.revoke(id, NOW).unwrap();
    let now_of = |text| directory.find_api_key(text).unwrap().0.state(NOW).0;
    assert_eq!(now_of("legacy-key-0123456789"), State::Revoked);
    // A second import of the same file brings nothing back.
    assert_eq!(directory.import(["legacy-key-0123456789"], &wish(), NOW).unwrap(), 0);
    assert_eq!(now_of("legacy-key-0123456789"), State::Revoked);
}

/// Whether this is the key's signature over nothing.
fn verifies(key: &SigningKey, signature: &[u8]) -> bool {
    let input = Input {
        label: "s",
        coverage: Coverage::Listed(vec![]),
        parameters: Parameters::default(),
        strict: None,
        fault: None,
    };
    let headers = Fields::new();
    let message = Message {
        method: "GET",
        scheme: "https",
        host: "localhost",
        port: None,
        target: "/",
        headers: &headers,
        trailers: None,
    };
    key.verifier.verify(&message, &input, signature).unwrap()
}

#[test]
fn public_keys_outlive_the_process_and_have_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let text = BASE64.encode(pair.public_key());
    let key = PublicKey::read(Algorithm::Ed25519, &text).unwrap();
    let id = directory.create_verifying(wish(), key.clone(), NOW).unwrap();
    drop(directory);
    let directory = open(dir.path());
    let described = directory.describe(id).unwrap();
    assert_eq!((described.kind, described.public_key), (Kind::Verifying, Some(key)));
    let found = SigningKeys::find(&directory, id.as_str()).unwrap().0;
    assert_eq!(found.verifier.algorithm(), Algorithm::Ed25519);
    let signature = pair.sign(b"\"@signature-params\": ()");
    assert!(verifies(&found, signature.as_ref()));
    // What stands in place of a secret signs nothing.
    let zeros = hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]);
    assert!(!verifies(&found, hmac::sign(&zeros, b"\"@signature-params\": ()").as_ref()));

    let refused = directory.rotate(id, Duration::from_secs(60), NOW).unwrap_err();
    assert!(refused.to_string().contains("only its holder"), "{refused}");
    directory.revoke(id, NOW).unwrap();
    assert!(SigningKeys::find(&directory, id.as_str()).unwrap().0.bounds.revoked);
}

#[test]
fn a_record_whose_kind_and_public_key_do_not_agree_is_unreadable() {
    let key = PublicKey::read(Algorithm::Ed25519, &BASE64.encode([1; 32])).unwrap();
    for (kind, key) in [(Kind::Verifying, None), (Kind::Signing, Some(key))] {
        let id = KeyId::random().unwrap();
        let mut record = Record::new(id, kind, wish(), "live", NOW, [0; 32].into());
        record.described.public_key = key;
        assert!(SigningEntry::new(&record, &mut Shared::default(), None).is_none());
        let bytes = record.to_bytes().unwrap();
        assert!(Record::from_bytes(id.as_str(), &bytes).is_err());
    }
}

#[test]
fn signing_secrets_are_shown_once_and_found_by_their_id() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    let created = directory.create_signing(wish(), NOW).unwrap();
    let secret = BASE64.decode(created.secret.expose()).unwrap();
    assert_eq!(secret.len(), 32);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let expected = hmac::sign(&key, b"\"@signature-params\": ()");
    drop(directory);
    let directory = open(dir.path());
    let found = SigningKeys::find(&directory, created.id.as_str()).unwrap().0;
    assert!(verifies(&found, expected.as_ref()));
    assert!(!verifies(&found, &[0; 32]));
    assert_eq!(&*found.grant.subject, "user-1");
    assert_eq!(found.bounds.expires_ms, wish().expires_ms);
    assert_eq!(*found.bounds.networks, *wish().networks);
    for id in ["", "0", "unknown0", &"a".repeat(1000)] {
        assert!(SigningKeys::find(&directory, id).is_none(), "{id}");
    }
    // It signs; it is no API key.
    assert!(directory.find_api_key(text_of(&created)).is_none());
    let successor = directory.rotate(created.id, Duration::ZERO, NOW).unwrap();
    let found = SigningKeys::find(&directory, created.id.as_str()).unwrap().0;
    assert_eq!(found.bounds.expires_ms, Some(NOW.unix_ms), "without overlap it ends at once");
    assert!(SigningKeys::find(&directory, successor.id.as_str()).is_some());
    directory.revoke(successor.id, NOW).unwrap();
    let found = SigningKeys::find(&directory, successor.id.as_str()).unwrap().0;
    assert!(found.bounds.revoked);
}

#[test]
fn signing_keys_of_another_environment_are_not_found() {
    let store = Arc::new(Store::in_memory().unwrap());
    let test = Directory::open(Arc::clone(&store), &pepper(), "test").unwrap();
    let id = test.create_signing(wish(), NOW).unwrap().id;
    assert!(SigningKeys::find(&test, id.as_str()).is_some());
    let live = Directory::open(store, &pepper(), "live").unwrap();
    assert!(SigningKeys::find(&live, id.as_str()).is_none());
}

#[test]
fn a_copy_of_the_store_reveals_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    let key = directory.create(wish(), NOW).unwrap();
    let signing = directory.create_signing(wish(), NOW).unwrap();
    directory.import(["legacy-key-0123456789"], &wish(), NOW).unwrap();
    directory.rotate(signing.id, Duration::ZERO, NOW).unwrap();
    directory.revoke(key.id, NOW).unwrap();
    drop(directory);
    let file = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
    let holds = |bytes: &[u8]| memchr::memmem::find(&file, bytes).is_some();
    // The test can fail: ids are not sealed.
    assert!(holds(key.id.as_str().as_bytes()));
    let key = text_of(&key);
    let random = &key[key.len() - 32..key.len() - 6];
    let secret = BASE64.decode(signing.secret.expose()).unwrap();
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pepper().expose()), key.as_bytes());
    let plain: [&[u8]; 7] = [
        key.as_bytes(),
        random.as_bytes(),
        &secret,
        mac.as_ref(),
        b"legacy-key-0123456789",
        b"ci exporter",
        b"user-1",
    ];
    for bytes in plain {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!holds(bytes), "{hex}");
        assert!(!holds(hex.as_bytes()) && !holds(hex.to_uppercase().as_bytes()), "{hex}");
        assert!(!holds(BASE64.encode(bytes).trim_end_matches('=').as_bytes()), "{hex}");
    }
    // Not even the right master key helps without the pepper.
    let store = Store::open(dir.path(), &Secret::new(vec![7; 32])).unwrap();
    let other = Directory::open(Arc::new(store), &Secret::new(vec![6; 32]), "live").unwrap();
    assert!(other.find_api_key(&key).is_none());
    assert!(other.find_api_key("legacy-key-0123456789").is_none());
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let directory = Directory::in_memory(&pepper(), "live").unwrap();
    for (field, new) in [
        ("name", NewKey { name: String::new(), ..wish() }),
        ("name", NewKey { name: "a\nb".into(), ..wish() }),
        ("subject", NewKey { subject: "a b".into(), ..wish() }),
        ("subject", NewKey { subject: "a".repeat(129), ..wish() }),
        ("roles", NewKey { roles: vec![String::new()], ..wish() }),
        ("scopes", NewKey { scopes: vec!["s".into(); 65], ..wish() }),
        ("tier", NewKey { tier: Some("é".into()), ..wish() }),
        ("networks", NewKey { networks: vec!["10.0.0.0/8".parse().unwrap(); 65], ..wish() }),
        ("expires_ms", NewKey { expires_ms: Some(NOW.unix_ms), ..wish() }),
        ("expires_ms", NewKey { not_before_ms: Some(after(91).unix_ms), ..wish() }),
        ("note", NewKey { note: Some("n".repeat(513)), ..wish() }),
    ] {
        let fault = directory.create(new.clone(), NOW).unwrap_err().to_string();
        assert!(fault.starts_with(&format!("`{field}` must")), "{fault}");
        assert!(directory.create_signing(new.clone(), NOW).is_err());
        assert!(directory.import(["legacy-key-0123456789"], &new, NOW).is_err());
    }
    for (line, text) in [
        ("line 2 is not a key: it must have", "legacy-key-0123456789\n123456789012345"),
        ("line 1 is not a key: it must have", &"a".repeat(513)),
        ("line 3 is not a key: only letters", "legacy-key-0123456789\n\nlegacy key 0123456789"),
    ] {
        let fault = directory.import(text.lines(), &wish(), NOW).unwrap_err().to_string();
        assert!(fault.starts_with(line), "{fault}");
        assert!(!fault.contains("0123456789"), "{fault}");
    }
    assert!(directory.list().unwrap().is_empty());
    let nobody = KeyId::parse("nobody00").unwrap();
    assert!(matches!(directory.revoke(nobody, NOW), Err(DirectoryFault::Unknown(_))));
    let key = directory.create(wish(), NOW).unwrap().id;
    let overlap = Duration::from_secs(60);
    directory.rotate(key, overlap, NOW).unwrap();
    let fault = directory.rotate(key, overlap, NOW).unwrap_err();
    assert!(matches!(fault, DirectoryFault::AlreadyRotated { .. }), "{fault}");
    let key = directory.create(wish(), NOW).unwrap().id;
    let fault = directory.rotate(key, overlap, after(90)).unwrap_err();
    assert!(matches!(fault, DirectoryFault::Over(_)), "{fault}");
    directory.revoke(key, NOW).unwrap();
    directory.revoke(key, after(1)).unwrap();
    assert_eq!(directory.describe(key).unwrap().revoked_ms, Some(NOW.unix_ms));
    let fault = directory.rotate(key, overlap, NOW).unwrap_err();
    assert!(matches!(fault, DirectoryFault::Over(_)), "{fault}");
}

#[test]
fn a_directory_that_is_full_takes_no_more() {
    let directory = Directory::in_memory(&pepper(), "live").unwrap();
    directory.turn().count = CREDENTIALS_MAX - 1;
    let fault = directory
        .import(["legacy-key-0123456789", "legacy-key-9876543210"], &wish(), NOW)
        .unwrap_err();
    assert!(matches!(fault, DirectoryFault::Full { .. }), "{fault}");
    directory.create(wish(), NOW).unwrap();
    assert!(matches!(directory.create(wish(), NOW), Err(DirectoryFault::Full { .. })));
}

#[test]
fn weak_peppers_and_strange_environments_are_refused() {
    let fault = Directory::in_memory(&Secret::new(vec![5; 31]), "live").unwrap_err();
    assert!(matches!(fault, DirectoryFault::WeakPepper { bytes: 31 }), "{fault}");
    for environment in ["", "Live", "a_b", "12345678901234567"] {
        let fault = Directory::in_memory(&pepper(), environment).unwrap_err();
        assert!(matches!(fault, DirectoryFault::BadEnvironment(_)), "{fault}");
    }
}

#[test]
fn counts_follow_the_lives_of_credentials() {
    let directory = Directory::in_memory(&pepper(), "live").unwrap();
    let endless = NewKey { expires_ms: None, ..wish() };
    directory.create(endless.clone(), NOW).unwrap();
    directory.create_signing(endless, NOW).unwrap();
    let soon = NewKey { expires_ms: Some(NOW.unix_ms + EXPIRING_MS - 1), ..wish() };
    directory.create(soon, NOW).unwrap();
    let revoked = directory.create(wish(), NOW).unwrap();
    directory.revoke(revoked.id, NOW).unwrap();
    let old = directory.create(wish(), NOW).unwrap();
    directory.rotate(old.id, Duration::from_millis(DAY_MS), NOW).unwrap();
    directory.import(["legacy-key-0123456789"], &wish(), NOW).unwrap();
    let expected = Counts {
        active: 4,
        rotating: 1,
        expiring: 1,
        suspended: 0,
        expired: 0,
        revoked: 1,
        overdue: 0,
        next_expiry_ms: Some(after(1).unix_ms),
    };
    assert_eq!(directory.counts_by_state(NOW), expected);
    let later = directory.counts_by_state(after(90));
    assert_eq!((later.active, later.expired, later.next_expiry_ms), (2, 4, None));
}

#[test]
fn last_use_is_noted_and_stays_through_changes() {
    let directory = Directory::in_memory(&pepper(), "live").unwrap();
    let key = directory.create(wish(), NOW).unwrap();
    assert_eq!(directory.describe(key.id).unwrap().last_used_s, None);
    let address = "192.0.2.7".parse().unwrap();
    directory.find_api_key(text_of(&key)).unwrap().0.grant.usage.note(address, NOW);
    directory.revoke(key.id, NOW).unwrap();
    assert_eq!(directory.describe(key.id).unwrap().last_used_s, Some(NOW.unix_s()));
    assert_eq!(directory.list().unwrap()[0].last_used_s, Some(NOW.unix_s()));
}

#[test]
fn an_entry_is_small_enough_for_a_million() {
    // What it gives, with its terms and counters; the place on the shelf, of which a third is free; its
    // owner, in a tree whose nodes are half full at worst.
    let grant = 16 + size_of::<Grant>();
    let place = size_of::<(u64, Entry)>() * 3 / 2;
    let owner = 2 * size_of::<Owned>() + 8;
    assert!(grant + place + owner <= 300, "{grant} + {place} + {owner}");
}

#[test]
fn a_record_that_was_moved_or_cut_is_told_by_its_id() {
    let store = Arc::new(Store::in_memory().unwrap());
    let mut batch = crate::store::Batch::default();
    batch.put(Table::Keys, "7Fq2kT9x", zeroize::Zeroizing::new(vec![0; 31]));
    store.write(batch).unwrap();
    let fault = Directory::open(store, &pepper(), "live").unwrap_err().to_string();
    assert!(
        fault.starts_with("record `7Fq2kT9x` in the store cannot be read (it is too"),
        "{fault}"
    );
}
