//! Trailers in a signature base (RFC 9421, 2.1.4), and when a body is waited for because of them.

use super::*;
use crate::authenticate::Wanted;
use crate::authenticate::signature::Choice;
use crate::authenticate::signature::sign::explain;

const EXPIRES: &str = "Wed, 9 Nov 2022 07:28:00 GMT";
/// A rule that lets a body be held for trailers.
const HELD: &str = "trailers = \"1KiB\"";

fn fields(lines: &[(&'static str, &'static str)]) -> Fields {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    lines.iter().map(field).collect()
}

/// The lines that the base gives these components of a request with these trailers.
fn told(components: &str, trailers: Option<&Fields>) -> Result<String, String> {
    let headers = [("trailer", "Expires"), ("expires", "never"), ("priority", "u=7")];
    let mut head = head("GET", "www.example.com", None, "/", &headers, b"");
    put(&mut head, "signature-input", &format!("s=({components})"));
    let message = Message { trailers, ..Message::of(&head) };
    let examined = explain(&message, &Choice::default());
    let examined = examined.map_err(|refusal| {
        assert_eq!(refusal.reason, Reason::SignatureMalformed);
        refusal.private.into_owned()
    })?;
    let base = examined.text();
    let (lines, parameters) = base.rsplit_once('\n').unwrap();
    assert_eq!(parameters, format!("\"@signature-params\": ({components})"));
    Ok(lines.to_owned())
}

#[test]
fn rfc_9421_2_1_4_a_trailer_is_told_apart_from_the_header_of_its_name() {
    let trailers = fields(&[("expires", EXPIRES)]);
    assert_eq!(
        told("\"trailer\" \"expires\";tr", Some(&trailers)).unwrap(),
        format!("\"trailer\": Expires\n\"expires\";tr: {EXPIRES}")
    );
    assert_eq!(
        told("\"expires\";tr \"expires\"", Some(&trailers)).unwrap(),
        format!("\"expires\";tr: {EXPIRES}\n\"expires\": never")
    );
    for absent in [None, Some(&Fields::new()), Some(&fields(&[("x", "1")]))] {
        assert!(told("\"expires\";tr", absent).unwrap_err().contains("missing"));
    }
    // What came as a trailer is no header.
    assert!(told("\"x\"", Some(&fields(&[("x", "1")]))).unwrap_err().contains("missing"));
}

#[test]
fn forms_of_trailers_are_those_of_headers_and_tr_stays_on_its_side() {
    let trailers = fields(&[
        ("priority", "u=1,    i;x=1"),
        ("priority", " s=(a   b)  "),
        ("content-digest", "sha-256=:YQ==:"),
    ]);
    for (component, value) in [
        ("\"priority\";tr", "u=1,    i;x=1, s=(a   b)"),
        ("\"priority\";tr;sf", "u=1, i;x=1, s=(a b)"),
        ("\"priority\";sf;tr", "u=1, i;x=1, s=(a b)"),
        ("\"priority\";key=\"s\";tr", "(a b)"),
        ("\"priority\";tr;key=\"u\"", "1"),
        ("\"priority\";bs;tr", ":dT0xLCAgICBpO3g9MQ==:, :cz0oYSAgIGIp:"),
        ("\"content-digest\";tr;key=\"sha-256\"", ":YQ==:"),
    ] {
        let line = told(component, Some(&trailers)).unwrap();
        assert_eq!(line, format!("{component}: {value}"));
    }
    for component in [
        "\"priority\";tr;tr",
        "\"priority\";tr=?0",
        "\"priority\";tr=1",
        "\"priority\";tr=\"x\"",
        "\"priority\";tr;sf;bs",
        "\"priority\";tr;req",
        "\"priority\";key=\"z\";tr",
        "\"@method\";tr",
        "\"@query-param\";name=\"a\";tr",
        // Twice the same, however written (section 2).
        "\"priority\";tr \"priority\";tr",
        "\"priority\";tr;sf \"priority\";sf;tr",
    ] {
        told(component, Some(&trailers)).unwrap_err();
    }
}

/// A signed request with a trailer, and the trailers.
fn draft() -> (Draft, Fields) {
    let components = [&COVERED[..], &["x-sum;tr"]].concat();
    (Draft { components, ..Draft::default() }, fields(&[("x-sum", "17")]))
}

fn sent(draft: &Draft, trailers: &Fields) -> Head {
    draft.sign_with(Some(trailers)).0
}

#[test]
fn a_body_is_asked_for_once_and_what_follows_it_decides() {
    let scheme = scheme(HELD);
    let (draft, trailers) = draft();
    let head = sent(&draft, &trailers);
    let Attempt::Trailers(Wanted { bytes_max: 1024, rule }) = scheme.attempt(&head, at(CREATED))
    else {
        panic!("nothing is waited for");
    };
    assert_eq!(rule.to_string(), "signatures.request, policy.toml:1");
    let whole = |trailers: &Fields| scheme.attempt_whole(&head, Some(trailers), at(CREATED));
    let altered = rejected(whole(&fields(&[("x-sum", "18")])));
    assert_eq!(altered.reason, Reason::SignatureWrong);
    let twice = rejected(whole(&fields(&[("x-sum", "17"), ("x-sum", "17")])));
    assert_eq!(twice.reason, Reason::SignatureWrong);
    let absent = rejected(whole(&Fields::new()));
    assert_eq!(absent.reason, Reason::SignatureMalformed);
    assert!(absent.private.contains("trailer") || absent.private.contains("missing"));
    // None of these has used the nonce up.
    assert!(accepted(whole(&trailers)).digest_covered);
    assert_eq!(rejected(whole(&trailers)).reason, Reason::SignatureReplayed);
    // Whatever trailers there are, a signature that covers none asks for none.
    accepted(
        scheme.attempt(
            &Draft { nonce: Some("another-nonce"), ..Draft::default() }.head(),
            at(CREATED),
        ),
    );
}

#[test]
fn nothing_is_held_for_a_signature_that_is_known_to_be_wrong() {
    let (good, trailers) = draft();
    let without = sent(&good, &trailers);
    let refusal = rejected(scheme("").attempt(&without, at(CREATED)));
    assert_eq!(refusal.reason, Reason::SignatureMalformed);
    assert!(refusal.private.contains("`trailers`"), "{}", refusal.private);

    let cut = |from: &str, to: &str| {
        let mut head = sent(&good, &trailers);
        let input = head.headers.get("signature-input").unwrap().to_str().unwrap();
        let changed = input.replace(from, to);
        assert_ne!(changed, input);
        put(&mut head, "signature-input", &changed);
        head
    };
    let mut short = sent(&good, &trailers);
    put(&mut short, "signature", "sig1=:AAAA:");
    let mut gone = sent(&good, &trailers);
    gone.headers.remove("content-type");
    for (name, head, now, expected) in [
        ("expired", sent(&good, &trailers), CREATED + 61, Reason::SignatureExpired),
        ("early", sent(&good, &trailers), CREATED - 6, Reason::SignatureFuture),
        ("an unknown key", cut(KEYID, "task-writer-2"), CREATED, Reason::SignatureKeyUnknown),
        ("a revoked key", cut(KEYID, "revoked"), CREATED, Reason::CredentialRevoked),
        ("another algorithm", cut("hmac-sha256", "ed25519"), CREATED, Reason::SignatureAlgorithm),
        ("a short signature", short, CREATED, Reason::SignatureWrong),
        ("a component left out", cut("\"@path\" ", ""), CREATED, Reason::SignatureCoverage),
        ("a header that is gone", gone, CREATED, Reason::SignatureMalformed),
        (
            "no component",
            cut("\"@path\" ", "\"@path\" \"@x\" "),
            CREATED,
            Reason::SignatureMalformed,
        ),
    ] {
        let refusal = rejected(scheme(HELD).attempt(&head, at(now)));
        assert_eq!(refusal.reason, expected, "{name}: {}", refusal.private);
    }
}

#[test]
fn a_demanded_trailer_is_asked_for_and_does_not_stand_for_the_header() {
    let scheme = scheme(&format!("{HELD}\nbody_components = [\"content-digest;tr\"]"));
    assert_eq!(
        scheme.accept_signature(true),
        r#"sig1=("@method" "@authority" "@path" "@query" "content-digest";tr);created"#
    );
    let trailers = fields(&[("content-digest", "sha-256=:YQ==:")]);
    let covering = |last| {
        let components = vec!["@method", "@authority", "@path", "@query", last];
        sent(&Draft { components, ..Draft::default() }, &trailers)
    };
    let refusal = rejected(scheme.attempt(&covering("content-digest"), at(CREATED)));
    assert_eq!(refusal.reason, Reason::SignatureCoverage);
    let head = covering("content-digest;tr");
    let evidence = accepted(scheme.attempt_whole(&head, Some(&trailers), at(CREATED)));
    assert!(!evidence.digest_covered, "the head declares none that the filters could demand");
}

#[test]
fn a_rule_says_what_it_takes_to_demand_trailers() {
    for (rule, says) in [
        ("trailers = \"0B\"", "no body has zero bytes"),
        (
            "trailers = \"1KiB\"\ncomponents = [\"@method\", \"x-sum;tr\"]",
            "only bodies have trailers",
        ),
        ("body_components = [\"content-digest\", \"x-sum;tr;bs\"]", "`x-sum;tr;bs` is demanded"),
        ("trailers = \"1KiB\"\nbody_components = [\"@method;tr\"]", "cannot be covered"),
        (
            "trailers = \"1KiB\"\nbody_components = [\"content-digest\", \"x;tr;tr\"]",
            "tr stands twice",
        ),
    ] {
        let (scheme, mistakes) = compile(rule, Nonces::with_history(1));
        assert!(scheme.is_none(), "{rule}");
        let told: Vec<String> = mistakes.iter().map(|mistake| mistake.says.clone()).collect();
        assert!(told.iter().any(|told| told.contains(says)), "{rule}: {told:?}");
    }
    for written in ["x;tr", "x;tr;bs", "x;bs;tr", "priority;key=\"a;tr\";tr", "x;sf;tr"] {
        let read = crate::authenticate::signature::component::Component::read(written).unwrap();
        assert!(read.is_trailer());
        assert_eq!(read.to_string(), written);
    }
}
