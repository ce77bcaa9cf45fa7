//! Protects that the quick reader of records and the general one make the same of them, that old stores load, and how keys are found.

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::store::Batch;

/// Text as records have it: mostly plain, sometimes with what JSON escapes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[ !#-\\[\\]-~]{1,12}", 1 => "[ -~é\\\\\"\n]{1,6}"]
}

fn listed() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..3)
}

prop_compose! {
    fn described()(
        (name, subject, tier, note) in (text(), text(), prop::option::of(text()), prop::option::of(text())),
        (roles, scopes) in (listed(), listed()),
        networks in prop::sample::subsequence(vec!["10.8.0.0/16", "2001:db8::/32"], 0..=2),
        is_imported in any::<bool>(),
        (created_ms, canary) in (any::<u64>(), any::<bool>()),
        times in prop::array::uniform5(prop::option::of(any::<u64>())),
        (why, made_by) in (prop::option::of(text()), prop::option::of(text())),
        others in prop::array::uniform2(any::<bool>()),
    ) -> Described {
        let id = KeyId::parse("7Fq2kT9x").unwrap();
        let [not_before_ms, expires_ms, revoked_ms, suspended_ms, rotating_until_ms] = times;
        let [rotated_from, rotated_to] = others.map(|is_there| is_there.then_some(id));
        Described {
            id,
            kind: if is_imported { Kind::Imported } else { Kind::ApiKey },
            name, subject, roles, scopes, tier,
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            environment: "live".into(),
            created_ms, not_before_ms, expires_ms, revoked_ms, suspended_ms,
            suspended_why: why,
            canary, made_by, rotated_from, rotated_to, rotating_until_ms, note,
            public_key: None,
            last_used_s: None,
        }
    }
}

/// The same facts, whatever the lists look like.
fn same(quick: &Facts<'_>, general: &Facts<'_>) -> bool {
    let lists = |facts: &Facts<'_>| {
        [&facts.roles, &facts.scopes, &facts.networks]
            .map(|list| serde_json::from_str::<Vec<String>>(list).unwrap())
    };
    let bare = Facts { roles: "".into(), scopes: "".into(), networks: "".into(), ..quick.clone() };
    let other =
        Facts { roles: "".into(), scopes: "".into(), networks: "".into(), ..general.clone() };
    lists(quick) == lists(general) && bare == other
}

proptest! {
    #[test]
    fn both_readers_make_the_same_of_a_record(described in described()) {
        let json = serde_json::to_vec(&described).unwrap();
        let read: Described = serde_json::from_slice(&json).unwrap();
        let quick = Facts::read(&json);
        if let Some(quick) = &quick {
            prop_assert!(same(quick, &Facts::of(&read)), "{quick:?} {read:?}");
        }
        let is_plain = !json.contains(&b'\\');
        prop_assert_eq!(quick.is_some(), is_plain, "{}", String::from_utf8_lossy(&json));
    }

    #[test]
    fn what_the_quick_reader_takes_the_general_one_takes_too(
        described in described(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"\"\\,:[]{}0123456789e.-".to_vec())],
        cut in 0_usize..3,
    ) {
        let mut json = serde_json::to_vec(&described).unwrap();
        let at = at.index(json.len());
        let end = (at + cut).min(json.len());
        json.splice(at..end, [byte]);
        if let Some(quick) = Facts::read(&json) {
            // A list whose members are none is told when it is made ready.
            let read: Result<Described, _> = serde_json::from_slice(&json);
            let are_networks = serde_json::from_str::<Vec<crate::units::Network>>(&quick.networks).is_ok();
            prop_assert_eq!(read.is_ok(), are_networks, "{}", String::from_utf8_lossy(&json));
            if let Ok(read) = read {
                prop_assert!(same(&quick, &Facts::of(&read)), "{quick:?} {read:?}");
            }
        }
    }
}

/// A record as an earlier version wrote it.
fn kept(json: &str, text: &str) -> Zeroizing<Vec<u8>> {
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pepper().expose()), text.as_bytes());
    Zeroizing::new([mac.as_ref(), json.as_bytes()].concat())
}

#[test]
fn records_of_earlier_versions_and_in_other_orders_load() {
    let store = Arc::new(Store::in_memory().unwrap());
    let mut batch = Batch::default();
    let texts = ["legacy-key-0123456789", "pcl_live_AAAAAAAB", "escaped-key-0123456789"];
    for (id, text, json) in [
        (
            "AAAAAAAA",
            texts[0],
            r#"{"id":"AAAAAAAA","kind":"imported","name":"n","subject":"alice","roles":["member"],"scopes":["tasks:read"],"networks":["10.8.0.0/16"],"environment":"live","created_ms":1767225600000}"#,
        ),
        (
            "AAAAAAAB",
            texts[1],
            r#"{ "kind": "api-key", "id": "AAAAAAAB", "created_ms": 1767225600000, "environment": "live", "networks": ["10.8.0.0/16"],
                "scopes": ["tasks:read"], "roles": ["member"], "subject": "alice", "name": "n", "of_a_later_version": 1 }"#,
        ),
        (
            "AAAAAAAC",
            texts[2],
            r#"{"id":"AAAAAAAC","kind":"imported","name":"\u00e9","subject":"a\u006cice","roles":["member"],"scopes":["tasks:read"],"networks":["10.8.0.0/16"],"environment":"live","created_ms":1767225600000,"last_used_s":1}"#,
        ),
    ] {
        batch.put(Table::Keys, id, kept(json, text));
    }
    store.write(batch).unwrap();
    let directory = Directory::open(store, &pepper(), "live").unwrap();
    let client = "10.8.0.1".parse().unwrap();
    for (text, id) in texts.iter().zip(["AAAAAAAA", "AAAAAAAB", "AAAAAAAC"]) {
        let (entry, _) = directory.find_api_key(text).unwrap();
        assert_eq!((&*entry.grant.credential, &*entry.grant.subject), (id, "alice"));
        assert_eq!(entry.grant.scopes, ["tasks:read"].into_iter().collect());
        assert_eq!(entry.check(directory.environment_name(), client, NOW), Ok(()));
        let away = entry.check(directory.environment_name(), "192.0.2.1".parse().unwrap(), NOW);
        assert_eq!(away, Err(crate::refusal::Reason::CredentialNetwork));
    }
}

#[test]
fn a_record_with_a_network_that_is_none_is_told_and_not_passed_over() {
    let store = Arc::new(Store::in_memory().unwrap());
    let mut batch = Batch::default();
    let json = r#"{"id":"AAAAAAAA","kind":"imported","name":"n","subject":"a","roles":[],"scopes":[],"networks":["10.8.0.0/99"],"environment":"live","created_ms":1}"#;
    batch.put(Table::Keys, "AAAAAAAA", kept(json, "legacy-key-0123456789"));
    store.write(batch).unwrap();
    let fault = Directory::open(store, &pepper(), "live").unwrap_err().to_string();
    assert!(fault.starts_with("record `AAAAAAAA` in the store cannot be read"), "{fault}");
}

#[test]
fn tyk_murmur64_a_key_is_known_by_a_keyed_hash_and_by_nothing_shorter() {
    let texts = ["legacy-key-0123456789", "legacy-key-0123456790"];
    let keyed = |pepper: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pepper), text.as_bytes()).as_ref().to_vec()
    };
    for text in texts {
        let own = hash(&hmac::Key::new(hmac::HMAC_SHA256, pepper().expose()), text.as_bytes());
        assert_eq!((own.len(), own.to_vec()), (32, keyed(pepper().expose(), text)));
        assert_ne!(own.to_vec(), keyed(&[6; 32], text), "who lacks the pepper cannot compute it");
    }
    let directory = Directory::in_memory(&pepper(), "live").unwrap();
    directory.import([texts[0]], &wish(), NOW).unwrap();
    assert!(directory.find_api_key(texts[0]).is_some());
    assert!(directory.find_api_key(texts[1]).is_none());
}
