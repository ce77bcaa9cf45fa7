//! How each component is told in a signature base, and which inputs are no signature at all.

use super::*;
use crate::authenticate::signature::Choice;
use crate::authenticate::signature::sign::{Unsignable, explain};

/// The value that the base gives one component of a request.
fn value_of(component: &str, target: &str, fields: &[(&str, &str)]) -> Result<String, String> {
    let mut head = head("GET", "www.example.com", None, target, fields, b"");
    put(&mut head, "signature-input", &format!("s=({component})"));
    match explain(&Message::of(&head), &Choice::default()) {
        Ok(examined) => {
            let base = examined.text();
            let line = base.split('\n').next().unwrap();
            Ok(line.strip_prefix(&format!("{component}: ")).unwrap_or(line).to_owned())
        }
        Err(refusal) => {
            assert_eq!(refusal.reason, Reason::SignatureMalformed);
            Err(refusal.private.into_owned())
        }
    }
}

#[test]
fn targets_are_told_as_received() {
    // Target, @path, @query, @target-uri.
    for (target, path, query, uri) in [
        ("/path?param=value", "/path", "?param=value", "https://www.example.com/path?param=value"),
        ("/", "/", "?", "https://www.example.com/"),
        ("/?", "/", "?", "https://www.example.com/?"),
        ("/a%2fb/../c?x=%41", "/a%2fb/../c", "?x=%41", "https://www.example.com/a%2fb/../c?x=%41"),
        ("*", "/", "?", "https://www.example.com"),
        ("https://www.example.com/p?q", "/p", "?q", "https://www.example.com/p?q"),
        ("https://www.example.com", "/", "?", "https://www.example.com"),
        ("https://www.example.com?a=b", "/", "?a=b", "https://www.example.com?a=b"),
    ] {
        assert_eq!(value_of("\"@path\"", target, &[]).unwrap(), path, "{target}");
        assert_eq!(value_of("\"@query\"", target, &[]).unwrap(), query, "{target}");
        assert_eq!(value_of("\"@target-uri\"", target, &[]).unwrap(), uri, "{target}");
        assert_eq!(value_of("\"@request-target\"", target, &[]).unwrap(), target);
    }
    assert_eq!(value_of("\"@scheme\"", "/", &[]).unwrap(), "https");
    assert_eq!(value_of("\"@method\"", "/", &[]).unwrap(), "GET");
    for target in ["", "path", "www.example.com:443", "/a\n\"@method\": GET", "/a b", "/\x7f"] {
        value_of("\"@path\"", target, &[]).unwrap_err();
    }
}

#[test]
fn the_authority_has_no_default_port() {
    for (scheme, port, authority) in [
        ("https", None, "www.example.com"),
        ("https", Some(443), "www.example.com"),
        ("https", Some(80), "www.example.com:80"),
        ("http", Some(80), "www.example.com"),
        ("http", Some(8080), "www.example.com:8080"),
    ] {
        let mut head = head("GET", "www.example.com", port, "/", &[], b"");
        let client = head.parties.client;
        head.parties = Arc::new(Parties::new(client, scheme, "www.example.com", port));
        put(&mut head, "signature-input", "s=(\"@authority\")");
        let base = explain(&Message::of(&head), &Choice::default()).unwrap().text();
        assert_eq!(base.split('\n').next().unwrap(), format!("\"@authority\": {authority}"));
    }
}

#[test]
fn query_parameters_are_decoded_and_encoded_anew() {
    // RFC 9421, 2.2.8.
    let target = "/parameters?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something";
    for (name, value) in [
        ("var", "this%20is%20a%20big%0Amultiline%20value"),
        ("bar", "with%20plus%20whitespace"),
        ("fa%C3%A7ade%22%3A%20", "something"),
    ] {
        let component = format!("\"@query-param\";name=\"{name}\"");
        assert_eq!(value_of(&component, target, &[]).unwrap(), value);
    }
    let target = "/path?param=value&foo=bar&baz=batman&qux=&flag&odd=%zz%&tilde=~*-._";
    for (name, value) in
        [("baz", "batman"), ("qux", ""), ("flag", ""), ("odd", "%25zz%25"), ("tilde", "%7E*-._")]
    {
        let component = format!("\"@query-param\";name=\"{name}\"");
        assert_eq!(value_of(&component, target, &[]).unwrap(), value);
    }
    for (name, target) in [("a", "/"), ("a", "/?b=1"), ("a", "/?a=1&a=1"), ("a", "/?a=1&%61=2")] {
        value_of(&format!("\"@query-param\";name=\"{name}\""), target, &[]).unwrap_err();
    }
}

#[test]
fn fields_are_trimmed_and_joined() {
    // RFC 9421, 2.1.
    let fields = [
        ("x-ows-header", "  Leading and trailing whitespace.  "),
        ("cache-control", "max-age=60"),
        ("cache-control", "   must-revalidate"),
        ("x-empty-header", ""),
        ("content-digest", "sha-256=:YQ==:,   sha-512=:Yg==:;a =b"),
        ("example-dict", "a=1,    b=2;x=1;y=2,   c=(a   b   c), d"),
    ];
    for (component, value) in [
        ("\"x-ows-header\"", "Leading and trailing whitespace."),
        ("\"cache-control\"", "max-age=60, must-revalidate"),
        ("\"x-empty-header\"", ""),
        ("\"cache-control\";bs", ":bWF4LWFnZT02MA==:, :bXVzdC1yZXZhbGlkYXRl:"),
    ] {
        assert_eq!(value_of(component, "/", &fields).unwrap(), value, "{component}");
    }
    let fields = [("priority", "u=1,    i;x=1,   s=(a   b   c), d=?1")];
    for (component, value) in [
        ("\"priority\";sf", "u=1, i;x=1, s=(a b c), d"),
        ("\"priority\";key=\"u\"", "1"),
        ("\"priority\";key=\"i\"", "?1;x=1"),
        ("\"priority\";key=\"s\"", "(a b c)"),
        ("\"priority\"", "u=1,    i;x=1,   s=(a   b   c), d=?1"),
    ] {
        assert_eq!(value_of(component, "/", &fields).unwrap(), value, "{component}");
    }
    // Lists and items, as their types are known.
    let fields = [
        ("accept", "text/html;q=0.5"),
        ("accept", "*/*;   q=0.10"),
        ("client-cert", ":AA==:"),
        ("content-length", "0018"),
        ("idempotency-key", "\"a\\\\b\";  x"),
    ];
    for (component, value) in [
        ("\"accept\";sf", "text/html;q=0.5, */*;q=0.1"),
        ("\"client-cert\";sf", ":AA==:"),
        ("\"content-length\";sf", "18"),
        ("\"idempotency-key\";sf", "\"a\\\\b\";x"),
    ] {
        assert_eq!(value_of(component, "/", &fields).unwrap(), value, "{component}");
    }
    value_of("\"accept\";key=\"text/html\"", "/", &fields).unwrap_err();
    value_of("\"client-cert\";sf", "/", &[("client-cert", ":AA==:, :AA==:")]).unwrap_err();
    let fields = [("priority", "u=1,    i;x=1,   s=(a   b   c), d=?1")];
    value_of("\"priority\";key=\"z\"", "/", &fields).unwrap_err();
    value_of("\"x-unknown\";sf", "/", &[("x-unknown", "a=1")]).unwrap_err();
    value_of("\"priority\";sf", "/", &[("priority", "u=")]).unwrap_err();
}

#[test]
fn absent_trailers_and_other_messages_are_refused_with_the_reason() {
    let fields = [("expires", "now"), ("trailer", "expires")];
    for (component, says) in [
        ("\"expires\";tr", "trailer"),
        ("\"expires\";bs;tr", "trailer"),
        ("\"expires\";tr;bs", "trailer"),
        ("\"@method\";req", "responses"),
        ("\"expires\";req", "responses"),
        ("\"@query-param\";name=\"a\";req", "responses"),
    ] {
        let told = value_of(component, "/?a=1", &fields).unwrap_err();
        assert!(told.contains(says), "{component}: {told}");
    }
}

#[test]
fn what_is_no_component_is_malformed() {
    let fields = [("content-type", "a"), ("priority", "u=1"), ("trailer", "x")];
    for component in [
        "\"@status\"",
        "\"@signature-params\"",
        "\"@unknown\"",
        "\"@\"",
        "\"\"",
        "\"@Method\"",
        "\"@method\";sf",
        "\"@method\";req",
        "\"@path\";name=\"a\"",
        "\"@query-param\"",
        "\"@query-param\";name",
        "\"@query-param\";name=a",
        "\"@query-param\";key=\"a\"",
        "\"Content-Type\"",
        "\"content-type\";sf;bs",
        "\"content-type\";req",
        "\"content-type\";tr",
        "\"content-type\";bs=?0",
        "\"content-type\";bs=1",
        "\"priority\";key",
        "\"priority\";key=u",
        "\"priority\";key=\"u\";sf",
        "\"priority\";sf;sf",
        "\"content-type\" \"content-type\"",
        "\"content-type\" \"@method\" \"@method\"",
        "content-type",
        "1",
        "\"content type\"",
        "\"missing\"",
        "\"con\\\"tent\"",
    ] {
        value_of(component, "/", &fields).unwrap_err();
    }
}

#[test]
fn an_input_that_is_not_canonical_is_covered_in_its_canonical_form() {
    let (mut head, signed) = Draft::default().sign();
    let loose = signed
        .signature_input
        .replace("(\"", "(   \"")
        .replace("\" \"", "\"    \"")
        .replace(";nonce", ";   nonce")
        .replace("created=1767225600", "created=001767225600");
    assert_ne!(loose, signed.signature_input);
    put(&mut head, "signature-input", &format!("  {loose}  "));
    put(&mut head, "signature", &format!("{};note=1 ", signed.signature));
    accepted(scheme("").attempt(&head, at(CREATED)));
}

#[test]
fn escapes_in_parameters_are_written_again() {
    let draft = Draft { nonce: Some(r#"a\"b\\c"d\"#), ..Draft::default() };
    let (head, signed) = draft.sign();
    assert!(signed.signature_input.contains(r#"nonce="a\\\"b\\\\c\"d\\""#), "{signed:?}");
    accepted(scheme("").attempt(&head, at(CREATED)));
}

#[test]
fn fields_over_several_lines_are_one() {
    let (mut head, signed) = Draft::default().sign();
    head.headers.append("signature-input", HeaderValue::from_static("other=();created=1"));
    head.headers.append("signature", HeaderValue::from_static("other=:YQ==:"));
    accepted(scheme("label = \"sig1\"").attempt(&head, at(CREATED)));
    // The same label again, on whatever line, is refused.
    for name in ["signature-input", "signature"] {
        let mut head = Draft::default().head();
        let again = head.headers.get(name).unwrap().to_header_value().unwrap();
        head.headers.append(name, again);
        assert_eq!(reason(&head), Reason::SignatureMalformed, "{name}");
    }
    assert!(signed.content_digest.is_some());
}

#[test]
fn what_exceeds_its_bounds_is_malformed() {
    let (_, signed) = Draft::default().sign();
    let long = |length| "n".repeat(length);
    let many: Vec<String> = (0..21).map(|number| format!("\"x-{number}\"")).collect();
    let labels: Vec<String> = (0..5).map(|number| format!("s{number}=()")).collect();
    for input in [
        format!("{};long=\"{}\"", signed.signature_input, long(4096)),
        format!("sig1=({});created=1", many.join(" ")),
        labels.join(", "),
        signed.signature_input.replace("k7J2mQpX9sT4vB1c", "short"),
        signed.signature_input.replace("k7J2mQpX9sT4vB1c", &long(129)),
        signed.signature_input.replace(KEYID, &long(65)),
        signed.signature_input.replace(KEYID, ""),
        signed.signature_input.replace("task-api", &long(65)),
        signed.signature_input.replace("created=1767225600", "created=-1"),
        signed.signature_input.replace("created=1767225600", "created=1.0"),
        signed.signature_input.replace("created=1767225600", "created=\"1767225600\""),
        signed.signature_input.replace("created=1767225600", "created"),
        signed.signature_input.replace(";created=1767225600", ""),
        signed
            .signature_input
            .replace("created=1767225600", "created=1767225600;created=1767225600"),
        signed.signature_input.replace("keyid=\"task-writer-1\"", "keyid=task-writer-1"),
        signed.signature_input.replace(";keyid=\"task-writer-1\"", ""),
        format!("{};extra=1", signed.signature_input),
        "sig1=1".to_owned(),
        "sig1".to_owned(),
        "sig1=(".to_owned(),
        String::new(),
        "sig2=()".to_owned(),
    ] {
        assert_ne!(input, signed.signature_input);
        let mut head = Draft::default().head();
        put(&mut head, "signature-input", &input);
        assert_eq!(reason(&head), Reason::SignatureMalformed, "{input}");
    }
    for signature in
        ["", "sig1", "sig1=()", "sig1=\"YQ==\"", "sig2=:YQ==:", "sig1=:%:", "sig1=:YQ=="]
    {
        let mut head = Draft::default().head();
        put(&mut head, "signature", signature);
        assert_eq!(reason(&head), Reason::SignatureMalformed, "{signature}");
    }
}

#[test]
fn what_cannot_be_verified_is_not_signed() {
    let head = Draft::default().unsigned();
    let request = ToSign { message: Message::of(&head), body: BODY };
    let good = Terms {
        label: "sig1",
        components: &["@method"],
        keyid: KEYID,
        created: CREATED,
        expires: None,
        nonce: None,
        tag: None,
    };
    assert!(sign(&request, &good, &secret()).is_ok());
    for bad in [
        Terms { label: "Sig 1", ..good.clone() },
        Terms { label: "a=(), b", ..good.clone() },
        Terms { components: &["@nothing"], ..good.clone() },
        Terms { components: &["x-missing"], ..good.clone() },
        Terms { components: &["@method", "@method"], ..good.clone() },
        Terms { keyid: "", ..good.clone() },
        Terms { keyid: "k\u{e4}y", ..good.clone() },
        Terms { nonce: Some("short"), ..good.clone() },
        Terms { nonce: Some("line\nbreak"), ..good.clone() },
        Terms { created: u64::MAX, ..good.clone() },
    ] {
        let Unsignable(why) = sign(&request, &bad, &secret()).unwrap_err();
        assert!(!why.is_empty());
    }
}
