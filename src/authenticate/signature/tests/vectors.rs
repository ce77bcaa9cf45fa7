//! The vectors of RFC 9421, and one of our own with everything in it.

use super::*;
use crate::authenticate::signature::Choice;
use crate::authenticate::signature::sign::explain;

/// Appendix B.2: the test request.
fn standard_request(extra: &[(&str, &str)]) -> Head {
    let mut fields = vec![
        ("host", "example.com"),
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        (
            "content-digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
        ("content-length", "18"),
    ];
    fields.extend_from_slice(extra);
    head("POST", "example.com", None, "/foo?param=Value&Pet=dog", &fields, br#"{"hello": "world"}"#)
}

#[test]
fn the_hmac_vector_of_the_standard_verifies() {
    let request = standard_request(&[
        (
            "signature-input",
            r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        ),
        ("signature", "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"),
    ]);
    let scheme = scheme(
        "components = [\"date\", \"@authority\", \"content-type\"]\nbody_components = []\nnonce = \"optional\"",
    );
    let evidence = accepted(scheme.attempt(&request, at(1_618_884_473)));
    assert_eq!(evidence.grant.credential.as_ref(), "test-shared-secret");
    assert!(!evidence.digest_covered);
    assert_eq!(
        explain(&Message::of(&request), scheme.choice()).unwrap(),
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
         \"@authority\": example.com\n\
         \"content-type\": application/json\n\
         \"@signature-params\": (\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\""
    );
}

#[test]
fn the_base_of_the_standards_full_vector_is_ours() {
    // Appendix B.2.3, whose signature is RSA, so that only the base can be compared.
    let request = standard_request(&[(
        "signature-input",
        r#"sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#,
    )]);
    assert_eq!(
        explain(&Message::of(&request), &Choice::default()).unwrap(),
        r#""date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@query": ?param=Value&Pet=dog
"@authority": example.com
"content-type": application/json
"content-digest": sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#
    );
}

#[test]
fn a_full_example_of_our_own_verifies() {
    let request = head(
        "POST",
        "api.example.com",
        None,
        "/v1/tasks?notify=1",
        &[
            ("content-type", "application/json"),
            ("content-digest", "sha-256=:auMgInBK/VAVXONBkYWyhsCS0dPTQxdXrbazsWp0xPg=:"),
            (
                "signature-input",
                r#"sig1=("@method" "@authority" "@path" "@query" "content-type" "content-digest");created=1767225600;expires=1767225660;nonce="k7J2mQpX9sT4vB1c";keyid="task-writer-1";alg="hmac-sha256";tag="task-api""#,
            ),
            ("signature", "sig1=:fy0aibaaVChwEG++7qTRhKPgv9q4uuk20zbZWMkTe0Y=:"),
        ],
        BODY,
    );
    let evidence = accepted(scheme("tag = \"task-api\"").attempt(&request, at(CREATED)));
    assert_eq!(evidence.grant.credential.as_ref(), KEYID);
    assert!(evidence.digest_covered);

    // Signing makes the very same headers.
    let (_, signed) = Draft::default().sign();
    assert_eq!(signed.signature_input, request.headers["signature-input"].to_str().unwrap());
    assert_eq!(signed.signature, request.headers["signature"].to_str().unwrap());
    assert_eq!(signed.content_digest.unwrap(), request.headers["content-digest"].to_str().unwrap());
    assert_eq!(signed.base, explain(&Message::of(&request), &Choice::default()).unwrap());
}
