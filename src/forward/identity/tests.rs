//! Tests of the header with a MAC, in both versions.

use super::*;
use crate::name::Names;

const NOW: Now = Now { steady_ns: 0, unix_ms: 1_764_000_000_000 };
const BOTH: [Version; 2] = [Version::First, Version::Second];
const HERE: (&str, &str, &str) = ("GET", "/v1/tasks", "limit=5");

fn secret() -> Secret {
    Secret::new(vec![7; 32])
}

fn signed(version: Version, roles: Names) -> HeaderValue {
    let grant = Grant {
        subject: "user-1".into(),
        roles,
        scopes: ["tasks:read"].into_iter().collect(),
        ..Grant::default()
    };
    let (method, path, query) = HERE;
    let request_id = "01J00000000000000000000000";
    let facts = Facts { grant: Some(&grant), method, path, query, request_id };
    Signer::new(&secret(), version).sign(&facts, NOW).unwrap()
}

#[test]
fn the_service_reads_what_the_gateway_signed() {
    for version in BOTH {
        let value = signed(version, ["admin", "editor"].into_iter().collect());
        let verifier = Verifier::new(&secret());
        let identity = verifier.verify(value.as_bytes(), HERE, NOW).unwrap();
        assert_eq!(identity.subject.as_deref(), Some("user-1"));
        assert_eq!(identity.roles.len(), 2);
        assert_eq!(identity.scopes.len(), usize::from(version == Version::Second));
        assert_eq!(identity.signed_at_s, 1_764_000_000);
    }
}

#[test]
fn an_identity_holds_for_its_own_request_and_time_alone() {
    for version in BOTH {
        let value = signed(version, Names::default());
        let value = value.as_bytes();
        let verifier = Verifier::new(&secret());
        let check = |here, now| verifier.verify(value, here, now).unwrap_err();
        let (method, path, query) = HERE;
        assert_eq!(check(("PUT", path, query), NOW), IdentityFault::Elsewhere);
        assert_eq!(check((method, "/v1/tasks/1", query), NOW), IdentityFault::Elsewhere);
        for unix_ms in [NOW.unix_ms - 61_000, NOW.unix_ms + 61_000] {
            assert_eq!(check(HERE, Now { unix_ms, ..NOW }), IdentityFault::Stale);
        }
    }
}

#[test]
fn the_second_version_holds_for_its_own_query_alone() {
    let verifier = Verifier::new(&secret());
    let elsewhere = ("GET", "/v1/tasks", "limit=500");
    let second = signed(Version::Second, Names::default());
    let fault = verifier.verify(second.as_bytes(), elsewhere, NOW).unwrap_err();
    assert_eq!(fault, IdentityFault::Elsewhere);
    let first = signed(Version::First, Names::default());
    assert!(verifier.verify(first.as_bytes(), elsewhere, NOW).is_ok());
}

#[test]
fn a_header_of_one_version_is_none_of_the_other() {
    let verifier = Verifier::new(&secret());
    let second = signed(Version::Second, Names::default());
    let stripped = &second.as_bytes()[3..];
    assert_eq!(verifier.verify(stripped, HERE, NOW).unwrap_err(), IdentityFault::Wrong);
    let first = signed(Version::First, Names::default());
    let raised = [b"v2.", first.as_bytes()].concat();
    assert_eq!(verifier.verify(&raised, HERE, NOW).unwrap_err(), IdentityFault::Wrong);
}

#[test]
fn every_changed_byte_is_noticed() {
    for version in BOTH {
        let value = signed(version, Names::default());
        let verifier = Verifier::new(&secret());
        for at in 0..value.len() {
            let mut changed = value.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(verifier.verify(&changed, HERE, NOW).is_err(), "{at}");
        }
        let other = Verifier::new(&Secret::new(vec![8; 32]));
        let fault = other.verify(value.as_bytes(), HERE, NOW).unwrap_err();
        assert_eq!(fault, IdentityFault::Wrong);
        let long = vec![b'A'; LENGTH_MAX + 1];
        assert_eq!(verifier.verify(&long, HERE, NOW).unwrap_err(), IdentityFault::TooLong);
        assert_eq!(verifier.verify(b"", HERE, NOW).unwrap_err(), IdentityFault::Malformed);
    }
}

#[test]
fn what_no_reader_would_accept_is_not_signed() {
    let path = "/x".repeat(LENGTH_MAX);
    let facts = Facts { grant: None, method: "GET", path: &path, query: "", request_id: "" };
    assert_eq!(Signer::new(&secret(), Version::Second).sign(&facts, NOW), None);
}
