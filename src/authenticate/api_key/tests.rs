//! Protects how keys are presented, and what each wrong one is told.

use std::time::Duration;

use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::authenticate::directory::change::Created;
use crate::authenticate::directory::record::NewKey;
use crate::authenticate::tests::{NOW, head, pepper};
use crate::store::Store;

fn scheme() -> ApiKeyScheme {
    ApiKeyScheme::new(Arc::new(Directory::in_memory(&pepper(), "live").unwrap()))
}

fn wish() -> NewKey {
    NewKey { name: "ci".into(), subject: "user-1".into(), ..NewKey::default() }
}

fn text_of(created: &Created) -> String {
    String::from_utf8(created.secret.expose().to_vec()).unwrap()
}

/// What the scheme says of these headers: `absent`, the subject, or the name of the reason.
fn said(scheme: &ApiKeyScheme, headers: &[(&str, &str)], now: Now) -> String {
    match scheme.attempt(&head(headers), now) {
        Attempt::Absent | Attempt::Ask(_) | Attempt::Trailers(_) => "absent".to_owned(),
        Attempt::Accepted(evidence) => evidence.grant.subject.to_string(),
        Attempt::Rejected(refusal) => refusal.reason.name().to_owned(),
    }
}

#[test]
fn a_key_is_taken_from_either_carrier() {
    let scheme = scheme();
    let key = text_of(&scheme.directory.create(wish(), NOW).unwrap());
    assert_eq!(said(&scheme, &[], NOW), "absent");
    for word in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(said(&scheme, &[("authorization", &format!("{word} {key}"))], NOW), "user-1");
    }
    assert_eq!(said(&scheme, &[("x-api-key", &key)], NOW), "user-1");
}

#[test]
fn two_carriers_are_refused_even_when_equal() {
    let scheme = scheme();
    let key = text_of(&scheme.directory.create(wish(), NOW).unwrap());
    let bearer = format!("Bearer {key}");
    let (bearer, plain) = (("authorization", bearer.as_str()), ("x-api-key", key.as_str()));
    let basic = ("authorization", "Basic dTpw");
    for headers in [[bearer, bearer], [plain, plain], [bearer, plain], [basic, plain]] {
        assert_eq!(said(&scheme, &headers, NOW), "credential-repeated");
    }
}

#[test]
fn what_is_not_exactly_a_token_is_malformed() {
    let scheme = scheme();
    let key = text_of(&scheme.directory.create(wish(), NOW).unwrap());
    let long = "a".repeat(513);
    for value in [
        key.as_str(),
        "Bearer",
        "Bearer ",
        &format!("Bearer  {key}"),
        &format!("Bearer\t{key}"),
        &format!("Bearer {key} "),
        &format!("Bearer {key},{key}"),
        &format!("Bearer \"{key}\""),
        &format!("Bearer {long}"),
        &format!("Basic {key}"),
        &format!("Bearer{key}"),
        "Bearer ====",
        "",
    ] {
        let answer = said(&scheme, &[("authorization", value)], NOW);
        assert_eq!(answer, "credential-malformed", "{value}");
    }
    for value in ["", "a b", "a,b", "=a", &long] {
        assert_eq!(said(&scheme, &[("x-api-key", value)], NOW), "credential-malformed", "{value}");
    }
}

#[test]
fn a_mistyped_an_unknown_and_a_strange_key_are_told_apart_in_private() {
    let scheme = scheme();
    let key = text_of(&scheme.directory.create(wish(), NOW).unwrap());
    let other = |env| {
        let (_, secret) = scheme.directory.format().generate(env).unwrap();
        String::from_utf8(secret.expose().to_vec()).unwrap()
    };
    let ask = |key: &str| said(&scheme, &[("x-api-key", key)], NOW);
    assert_eq!(ask(&key[..key.len() - 1]), "credential-malformed");
    assert_eq!(ask(&other("live")), "credential-unknown");
    assert_eq!(ask(&other("test")), "credential-environment");
    assert_eq!(ask("some-other-token"), "credential-unknown");
    assert_eq!(ask(&key), "user-1");
}

#[test]
fn a_key_with_a_known_id_and_another_secret_is_unknown_whatever_its_bounds() {
    let scheme = scheme();
    let created = scheme.directory.create(wish(), NOW).unwrap();
    scheme.directory.revoke(created.id, NOW).unwrap();
    // The same id, another secret, and a checksum that fits.
    let key = text_of(&created);
    let mut forged = key[..key.len() - 6].to_owned();
    let end = if forged.ends_with('0') { "1" } else { "0" };
    forged.replace_range(forged.len() - 1.., end);
    let check = crc32fast::hash(forged.as_bytes());
    let alphabet: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
    forged.extend((0..6).rev().map(|power| alphabet[(check / 62_u32.pow(power) % 62) as usize]));
    let parsed = scheme.directory.format().parse(&forged).unwrap();
    assert_eq!(parsed.id, created.id);
    assert_eq!(said(&scheme, &[("x-api-key", &forged)], NOW), "credential-unknown");
    assert_eq!(said(&scheme, &[("x-api-key", &key)], NOW), "credential-revoked");
}

#[test]
fn bounds_are_kept() {
    let scheme = scheme();
    let at = |ms: u64| Now { unix_ms: NOW.unix_ms + ms, ..NOW };
    let bounded = NewKey {
        not_before_ms: Some(at(1000).unix_ms),
        expires_ms: Some(at(2000).unix_ms),
        ..wish()
    };
    let key = text_of(&scheme.directory.create(bounded, NOW).unwrap());
    let ask = |now| said(&scheme, &[("x-api-key", &key)], now);
    assert_eq!(ask(at(999)), "credential-expired");
    assert_eq!(ask(at(1000)), "user-1");
    assert_eq!(ask(at(1999)), "user-1");
    assert_eq!(ask(at(2000)), "credential-expired");
    for (network, answer) in [("192.0.2.0/24", "user-1"), ("10.0.0.0/8", "credential-network")] {
        let bounded = NewKey { networks: vec![network.parse().unwrap()], ..wish() };
        let key = text_of(&scheme.directory.create(bounded, NOW).unwrap());
        assert_eq!(said(&scheme, &[("x-api-key", &key)], NOW), answer);
    }
}

#[test]
fn a_revoked_key_is_refused_from_the_next_request_on() {
    let scheme = scheme();
    let created = scheme.directory.create(wish(), NOW).unwrap();
    let key = text_of(&created);
    assert_eq!(said(&scheme, &[("x-api-key", &key)], NOW), "user-1");
    scheme.directory.revoke(created.id, NOW).unwrap();
    assert_eq!(said(&scheme, &[("x-api-key", &key)], NOW), "credential-revoked");
}

#[test]
fn a_known_key_of_another_environment_is_refused() {
    let store = Arc::new(Store::in_memory().unwrap());
    let test = Directory::open(Arc::clone(&store), &pepper(), "test").unwrap();
    let key = text_of(&test.create(wish(), NOW).unwrap());
    let live = ApiKeyScheme::new(Arc::new(Directory::open(store, &pepper(), "live").unwrap()));
    assert_eq!(said(&live, &[("x-api-key", &key)], NOW), "credential-environment");
}

#[test]
fn both_keys_hold_while_they_overlap() {
    let scheme = scheme();
    let old = scheme.directory.create(wish(), NOW).unwrap();
    let new = scheme.directory.rotate(old.id, Duration::from_secs(60), NOW).unwrap();
    let later = Now { unix_ms: NOW.unix_ms + 60_000, ..NOW };
    for (created, now, answer) in [
        (&old, NOW, "user-1"),
        (&new, NOW, "user-1"),
        (&old, later, "credential-expired"),
        (&new, later, "user-1"),
    ] {
        assert_eq!(said(&scheme, &[("x-api-key", &text_of(created))], now), answer);
    }
}

#[test]
fn a_key_in_the_query_is_refused_beside_a_good_one() {
    let scheme = scheme();
    let created = scheme.directory.create(wish(), NOW).unwrap();
    let key = text_of(&created);
    let asked = |query: &str| {
        let mut head = head(&[("x-api-key", &key)]);
        head.query = Some(query.into());
        match scheme.attempt(&head, NOW) {
            Attempt::Rejected(refusal) => {
                assert_eq!(refusal.reason, Reason::CredentialInQuery);
                assert!(!refusal.private.contains(&key[20..]), "{}", refusal.private);
                false
            }
            Attempt::Accepted(_) => true,
            Attempt::Absent | Attempt::Ask(_) | Attempt::Trailers(_) => {
                panic!("the header was not seen")
            }
        }
    };
    for query in [&format!("a=1&k={key}"), "Access_Token=x", "limit=5&api_key", "apikey=1"] {
        assert!(!asked(query), "{query}");
    }
    for query in ["", "limit=5&sort=api_key", "q=pcl_live_", &format!("q={}", &key[..30])] {
        assert!(asked(query), "{query}");
    }
}

#[test]
fn garbage_never_proves_anybody() {
    let scheme = scheme();
    scheme.directory.create(wish(), NOW).unwrap();
    scheme.directory.import(["imported-key-0123456789"], &wish(), NOW).unwrap();
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        prop::collection::vec(0x20_u8..0x7f, 0..600),
        "[0-9A-Za-z._~+/-]{0,100}={0,3}".prop_map(String::into_bytes),
        "(pcl_live_|imported-key-)[0-9A-Za-z]{40}".prop_map(String::into_bytes),
    ];
    let word = prop::sample::select(vec!["", "Bearer ", "bearer ", "Basic "]);
    proptest!(|(word in word, bearer in bytes.clone(), plain in bytes, carriers in 0..3_u8)| {
        let mut head = head(&[]);
        let bearer = HeaderValue::from_bytes(&[word.as_bytes(), &bearer].concat());
        if let (Ok(value), 0 | 2) = (bearer, carriers) {
            head.headers.append(AUTHORIZATION, value);
        }
        if let (Ok(value), 1 | 2) = (HeaderValue::from_bytes(&plain), carriers) {
            head.headers.append(X_API_KEY, value);
        }
        let empty = head.headers.is_empty();
        match scheme.attempt(&head, NOW) {
            Attempt::Accepted(_) => prop_assert!(false, "garbage was accepted"),
            Attempt::Absent | Attempt::Ask(_) | Attempt::Trailers(_) => prop_assert!(empty),
            Attempt::Rejected(_) => prop_assert!(!empty),
        }
    });
}
