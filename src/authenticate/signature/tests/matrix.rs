//! Every reason for which a signature is refused, and that nothing else is.

use super::*;

#[test]
fn an_unsigned_request_holds_no_credential() {
    let absent = scheme("").attempt(&Draft::default().unsigned(), at(CREATED));
    assert!(matches!(absent, Attempt::Absent), "{absent:?}");
}

#[test]
fn one_header_without_the_other_is_malformed() {
    for name in ["signature", "signature-input"] {
        let mut head = Draft::default().head();
        head.headers.remove(name);
        assert_eq!(reason(&head), Reason::SignatureMalformed, "{name}");
    }
}

#[test]
fn a_good_signature_is_accepted_once() {
    let scheme = scheme("");
    let head = Draft::default().head();
    let evidence = accepted(scheme.attempt(&head, at(CREATED)));
    assert_eq!(&*evidence.grant.credential, KEYID);
    assert!(evidence.digest_covered);
    for later in [0, 1, 59] {
        let refusal = rejected(scheme.attempt(&head, at(CREATED + later)));
        assert_eq!(refusal.reason, Reason::SignatureReplayed);
        assert_eq!(refusal.rule.unwrap().rule(), "signatures.request");
    }
    // The same nonce under another signature is spent too.
    let again = Draft { created: CREATED + 1, ..Draft::default() }.head();
    let refusal = rejected(scheme.attempt(&again, at(CREATED + 1)));
    assert_eq!(refusal.reason, Reason::SignatureReplayed);
}

#[test]
fn a_request_without_body_needs_no_digest() {
    let draft = Draft {
        method: Method::GET,
        body: b"",
        headers: Vec::new(),
        components: COVERED[..4].into(),
        ..Draft::default()
    };
    let evidence = accepted(scheme("").attempt(&draft.head(), at(CREATED)));
    assert!(!evidence.digest_covered);
}

#[test]
fn a_body_must_be_covered_however_long_it_says_it_is() {
    let draft = Draft { components: COVERED[..4].into(), ..Draft::default() };
    let mut head = draft.head();
    for length in [Length::Exactly(23), Length::Unknown] {
        head.length = length;
        let refusal = rejected(scheme("").attempt(&head, at(CREATED)));
        assert_eq!(refusal.reason, Reason::SignatureCoverage);
        assert_eq!(refusal.private, "content-digest is not covered");
    }
}

#[test]
fn each_demanded_component_must_be_covered() {
    for missing in COVERED {
        let mut draft = Draft::default();
        draft.components.retain(|component| *component != missing);
        assert_eq!(reason(&draft.head()), Reason::SignatureCoverage, "{missing}");
    }
    // One member of a field is not the field.
    let mut draft = Draft::default();
    draft
        .headers
        .push(("content-digest", "sha-256=:auMgInBK/VAVXONBkYWyhsCS0dPTQxdXrbazsWp0xPg=:"));
    draft.components.retain(|component| *component != "content-digest");
    draft.components.push("content-digest;key=\"sha-256\"");
    assert_eq!(reason(&draft.head()), Reason::SignatureCoverage);
}

#[test]
fn a_covered_digest_must_be_there() {
    let mut head = Draft::default().head();
    head.headers.remove("content-digest");
    let refusal = rejected(scheme("").attempt(&head, at(CREATED)));
    assert_eq!(refusal.reason, Reason::SignatureMalformed);
    assert_eq!(refusal.private, "a covered field is missing");
}

const HOST: &str = "api.example.com";

/// A caller with this address, and what it asks.
fn between(client: [u8; 4], host: &str, port: Option<u16>) -> Arc<Parties> {
    Arc::new(Parties::new(client.into(), "https", host, port))
}

#[test]
fn what_is_covered_cannot_be_changed() {
    type Change = fn(&mut Head);
    let changes: [(&str, Change); 10] = [
        ("method", |head| head.method = Method::PUT),
        ("host", |head| head.parties = between([192, 0, 2, 7], "api.example.org", None)),
        ("port", |head| head.parties = between([192, 0, 2, 7], HOST, Some(8443))),
        ("path", |head| head.target = "/v1/tasks/?notify=1".into()),
        ("path in another spelling", |head| head.target = "/v1/t%61sks?notify=1".into()),
        ("query", |head| head.target = "/v1/tasks?notify=2".into()),
        ("no query", |head| head.target = "/v1/tasks".into()),
        ("content type", |head| put(head, "content-type", "text/plain")),
        ("second line", |head| {
            head.headers.append("content-type", HeaderValue::from_static("text/plain"));
        }),
        ("digest", |head| {
            put(head, "content-digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
        }),
    ];
    for (what, change) in changes {
        let mut head = Draft::default().head();
        change(&mut head);
        assert_eq!(reason(&head), Reason::SignatureWrong, "{what}");
    }
    // And what says the same is the same: the scheme's own port, aloud.
    let mut head = Draft::default().head();
    head.parties = between([192, 0, 2, 7], HOST, Some(443));
    accepted(scheme("").attempt(&head, at(CREATED)));
}

#[test]
fn the_parameters_are_covered_too() {
    let (head, signed) = Draft::default().sign();
    for (from, to) in [
        ("created=1767225600", "created=1767225601"),
        ("expires=1767225660", "expires=1767225659"),
        ("k7J2mQpX9sT4vB1c", "k7J2mQpX9sT4vB1d"),
        ("task-api", "task-apj"),
        (";alg=\"hmac-sha256\"", ""),
        ("keyid=\"task-writer-1\"", "keyid=\"test-shared-secret\""),
        ("\"@method\" \"@authority\"", "\"@authority\" \"@method\""),
    ] {
        let mut head = Head { headers: head.headers.clone(), ..Draft::default().unsigned() };
        assert!(signed.signature_input.contains(from), "{from}");
        put(&mut head, "signature-input", &signed.signature_input.replace(from, to));
        assert_eq!(reason(&head), Reason::SignatureWrong, "{from}");
    }
}

#[test]
fn a_signature_of_another_length_is_wrong() {
    for value in ["sig1=::", "sig1=:YQ==:", "sig1=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"] {
        let mut head = Draft::default().head();
        put(&mut head, "signature", value);
        assert_eq!(reason(&head), Reason::SignatureWrong, "{value}");
    }
}

#[test]
fn an_unknown_key_goes_the_same_way_as_a_known_one() {
    let draft = Draft { keyid: "nobody", ..Draft::default() };
    assert_eq!(reason(&draft.head()), Reason::SignatureKeyUnknown);
    // Everything before the comparison is told alike, whether the key is known or not.
    let bare = Draft { components: COVERED[..4].into(), ..draft.clone() };
    assert_eq!(reason(&bare.head()), Reason::SignatureCoverage);
    let late = Draft { created: CREATED - 61, expires: None, ..draft };
    assert_eq!(reason(&late.head()), Reason::SignatureExpired);
}

#[test]
fn nobody_signs_with_the_decoy() {
    let (mut head, signed) = Draft { keyid: "nobody", ..Draft::default() }.sign();
    let decoy = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[0; 32]);
    let mac = STANDARD.encode(ring::hmac::sign(&decoy, signed.base.as_bytes()));
    put(&mut head, "signature", &format!("sig1=:{mac}:"));
    assert_eq!(reason(&head), Reason::SignatureKeyUnknown);
}

#[test]
fn the_algorithm_is_the_keys() {
    let (mut head, signed) = Draft::default().sign();
    for other in ["hmac-sha512", "rsa-v1_5-sha256", "none", "HMAC-SHA256"] {
        let input = signed.signature_input.replace("hmac-sha256", other);
        put(&mut head, "signature-input", &input);
        assert_eq!(reason(&head), Reason::SignatureAlgorithm, "{other}");
    }
    // A secret is not the public key of somebody else, and what a public key verifies is no MAC by
    // it: the confusion that JSON Web Tokens suffered from has no place to happen.
    let draft = Draft { keyid: "test-key-ed25519", ..Draft::default() };
    assert_eq!(reason(&draft.head()), Reason::SignatureAlgorithm);
}

#[test]
fn a_signature_holds_from_its_making_to_its_age() {
    let head = Draft { expires: None, ..Draft::default() }.head();
    for (now, expected) in [
        (CREATED - 6, Some((Reason::SignatureFuture, "created lies 6 s ahead, 5 s are allowed"))),
        (CREATED - 5, None),
        (CREATED + 60, None),
        (CREATED + 61, Some((Reason::SignatureExpired, "created 61 s ago, 60 s are allowed"))),
    ] {
        match (scheme("").attempt(&head, at(now)), expected) {
            (Attempt::Accepted(_), None) => {}
            (Attempt::Rejected(refusal), Some((reason, private))) => {
                assert_eq!((refusal.reason, refusal.private.as_ref()), (reason, private));
            }
            (other, _) => panic!("{now}: {other:?}"),
        }
    }
    let head = Draft { expires: Some(CREATED + 10), ..Draft::default() }.head();
    accepted(scheme("").attempt(&head, at(CREATED + 9)));
    let refusal = rejected(scheme("").attempt(&head, at(CREATED + 10)));
    assert_eq!(refusal.reason, Reason::SignatureExpired);
}

#[test]
fn an_end_that_makes_no_sense_is_malformed() {
    for expires in [CREATED + 61, u64::from(u32::MAX) * 1000] {
        let head = Draft { expires: Some(expires), ..Draft::default() }.head();
        assert_eq!(reason(&head), Reason::SignatureMalformed, "{expires}");
    }
    // Ahead of us, but not ahead of its own making.
    let head =
        Draft { created: CREATED + 5, expires: Some(CREATED + 5), ..Draft::default() }.head();
    assert_eq!(reason(&head), Reason::SignatureMalformed);
}

#[test]
fn a_nonce_is_needed_unless_the_policy_says_otherwise() {
    let head = Draft { nonce: None, ..Draft::default() }.head();
    assert_eq!(reason(&head), Reason::SignatureCoverage);
    let scheme = scheme("nonce = \"optional\"");
    accepted(scheme.attempt(&head, at(CREATED)));
    accepted(scheme.attempt(&head, at(CREATED)));
    // One that is sent is claimed all the same.
    let head = Draft::default().head();
    accepted(scheme.attempt(&head, at(CREATED)));
    let refusal = rejected(scheme.attempt(&head, at(CREATED)));
    assert_eq!(refusal.reason, Reason::SignatureReplayed);
}

#[test]
fn only_a_verified_signature_claims_a_nonce() {
    let scheme = scheme("");
    let mut forged = Draft::default().head();
    put(&mut forged, "signature", "sig1=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:");
    let refusal = rejected(scheme.attempt(&forged, at(CREATED)));
    assert_eq!(refusal.reason, Reason::SignatureWrong);
    accepted(scheme.attempt(&Draft::default().head(), at(CREATED)));
}

#[test]
fn a_full_store_refuses() {
    let (scheme, _) = compile("", Nonces::with_history(1));
    let scheme = scheme.unwrap();
    accepted(scheme.attempt(&Draft::default().head(), at(CREATED)));
    let head = Draft { nonce: Some("another nonce"), ..Draft::default() }.head();
    let refusal = rejected(scheme.attempt(&head, at(CREATED)));
    assert_eq!(refusal.reason, Reason::NonceStoreFull);
    assert_eq!(refusal.reason.status(), 503);
}

#[test]
fn one_key_cannot_use_up_the_nonces_of_others() {
    // Four may be remembered, and one of each key.
    let (scheme, _) = compile("", Nonces::new(4, at(CREATED)));
    let scheme = scheme.unwrap();
    accepted(scheme.attempt(&Draft::default().head(), at(CREATED)));
    let head = Draft { nonce: Some("another nonce"), ..Draft::default() }.head();
    let refusal = rejected(scheme.attempt(&head, at(CREATED)));
    assert_eq!(refusal.reason, Reason::NonceStoreFull);
    assert!(refusal.private.contains("whole share"), "{}", refusal.private);
    let other = Draft { keyid: "test-shared-secret", ..Draft::default() }.head();
    accepted(scheme.attempt(&other, at(CREATED)));
}

#[test]
fn a_demanded_end_must_be_there() {
    let draft = Draft { expires: None, ..Draft::default() };
    let refusal = rejected(scheme("expires = 'required'").attempt(&draft.head(), at(CREATED)));
    assert_eq!(refusal.reason, Reason::SignatureCoverage);
    accepted(scheme("expires = 'required'").attempt(&Draft::default().head(), at(CREATED)));
}

#[test]
fn after_a_start_signatures_from_before_it_are_refused() {
    let (scheme, _) = compile("", Nonces::new(100, at(CREATED + 1)));
    let scheme = scheme.unwrap();
    let refusal = rejected(scheme.attempt(&Draft::default().head(), at(CREATED + 2)));
    assert_eq!(refusal.reason, Reason::SignatureReplayed);
    let head = Draft { created: CREATED + 1, ..Draft::default() }.head();
    accepted(scheme.attempt(&head, at(CREATED + 2)));
}

#[test]
fn a_key_out_of_its_bounds_is_refused_and_fills_no_store() {
    let nonces = Arc::new(Nonces::with_history(1));
    let (scheme, _) = compile("", Nonces::with_history(1));
    let scheme = SignatureScheme { nonces: Arc::clone(&nonces), ..scheme.unwrap() };
    let head = Draft { keyid: "revoked", ..Draft::default() }.head();
    let refusal = rejected(scheme.attempt(&head, at(CREATED)));
    assert_eq!(refusal.reason, Reason::CredentialRevoked);
    assert!(nonces.is_empty());

    let office = vec!["10.0.0.0/8".parse().unwrap()].into();
    let bounds = Bounds { networks: office, ..Bounds::default() };
    let keys = Arc::new(Keys(vec![key(KEYID, bounds)]));
    let scheme = SignatureScheme { keys, ..scheme };
    let mut head = Draft::default().head();
    let refusal = rejected(scheme.attempt(&head, at(CREATED)));
    assert_eq!(refusal.reason, Reason::CredentialNetwork);
    head.parties = between([10, 1, 2, 3], HOST, None);
    accepted(scheme.attempt(&head, at(CREATED)));
}

#[test]
fn of_several_signatures_the_policy_chooses() {
    let (mut head, signed) = Draft::default().sign();
    let foreign = r#"proxy=("@status" "x-unknown";req);created=1;keyid="p";tag="other";what=1"#;
    put(&mut head, "signature-input", &format!("{foreign}, {}", signed.signature_input));
    put(&mut head, "signature", &format!("proxy=:YQ==:, {}", signed.signature));
    assert_eq!(reason(&head), Reason::SignatureMalformed);
    for rule in ["tag = \"task-api\"", "label = \"sig1\"", "label = \"sig1\"\ntag = \"task-api\""] {
        accepted(scheme(rule).attempt(&head, at(CREATED)));
    }
    for rule in ["tag = \"task-apj\"", "label = \"sig2\"", "label = \"proxy\"\ntag = \"task-api\""]
    {
        let refusal = rejected(scheme(rule).attempt(&head, at(CREATED)));
        assert_eq!(refusal.reason, Reason::SignatureCoverage, "{rule}");
    }
    // The foreign one is not accepted when it is the one that counts.
    let refusal = rejected(scheme("label = \"proxy\"").attempt(&head, at(CREATED)));
    assert_eq!(refusal.reason, Reason::SignatureMalformed);
}
