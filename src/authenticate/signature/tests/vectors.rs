//! The vectors of RFC 9421, and one of our own with everything in it.

use super::*;
use crate::authenticate::signature::Choice;
use crate::authenticate::signature::fields;
use crate::authenticate::signature::reader;
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
    assert_eq!(&*evidence.grant.credential, "test-shared-secret");
    assert!(!evidence.digest_covered);
    assert_eq!(
        explain(&Message::of(&request), scheme.choice()).unwrap().text(),
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
        explain(&Message::of(&request), &Choice::default()).unwrap().text(),
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
    assert_eq!(&*evidence.grant.credential, KEYID);
    assert!(evidence.digest_covered);

    // Signing makes the very same headers.
    let (_, signed) = Draft::default().sign();
    assert_eq!(
        signed.signature_input,
        request.headers.get("signature-input").unwrap().to_str().unwrap()
    );
    assert_eq!(signed.signature, request.headers.get("signature").unwrap().to_str().unwrap());
    assert_eq!(
        signed.content_digest.unwrap(),
        request.headers.get("content-digest").unwrap().to_str().unwrap()
    );
    assert_eq!(signed.base, explain(&Message::of(&request), &Choice::default()).unwrap().text());
}

/// Whether the signature under this label verifies with the key that it names.
fn verifies(request: &Head, label: &str) -> bool {
    let texts = fields::Texts::of(&request.headers).unwrap().unwrap();
    let inputs = reader::inputs(&texts.inputs, &[]).unwrap();
    let input = inputs.iter().find(|input| input.label == label).unwrap();
    assert_eq!(input.fault, None);
    let signature = reader::signature(&texts.signatures, label).unwrap();
    let key = keys().find(input.keyid().unwrap()).unwrap();
    key.0.verifier.verify(&Message::of(request), input, &signature).unwrap()
}

/// The signatures of appendix B.2 on the test request: label, input, signature, and a rule that
/// demands what it covers. B.2.4 is on a response; B.2.5 stands above.
const SIGNED: [(&str, &str, &str, &str); 4] = [
    (
        "sig-b21",
        r#"();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd""#,
        "d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==",
        "",
    ),
    (
        "sig-b22",
        r#"("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";tag="header-example""#,
        "LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==",
        "components = ['@authority', '@query-param;name=\"Pet\"']\nbody_components = ['content-digest']\ntag = 'header-example'",
    ),
    (
        "sig-b23",
        r#"("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#,
        "bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==",
        "algorithm = 'rsa-pss-sha512'",
    ),
    (
        "sig-b26",
        r#"("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
        "components = ['@method', '@path', '@authority']\nbody_components = ['content-type', 'content-length']\nalgorithm = 'ed25519'",
    ),
];

#[test]
fn the_standards_signatures_by_public_keys_verify() {
    for (label, input, signature, rule) in SIGNED {
        let input = format!("{label}={input}");
        let value = format!("{label}=:{signature}:");
        let request = || standard_request(&[("signature-input", &input), ("signature", &value)]);
        assert!(verifies(&request(), label), "{label}");
        let rule = format!("{rule}\nnonce = 'optional'");
        let attempt = scheme(&rule).attempt(&request(), at(1_618_884_473));
        if label == "sig-b21" {
            // It covers nothing, so it is no proof here although it verifies.
            assert_eq!(rejected(attempt).reason, Reason::SignatureCoverage);
            continue;
        }
        accepted(attempt);
        // A covered thing changed, and nothing else.
        let mut other = request();
        match label {
            "sig-b22" => other.target = "/foo?param=Value&Pet=cat".into(),
            _ => other.method = Method::PUT,
        }
        let refusal = rejected(scheme(&rule).attempt(&other, at(1_618_884_473)));
        assert_eq!(refusal.reason, Reason::SignatureWrong, "{label}");
    }
}

#[test]
fn all_signatures_of_the_standard_together_and_each_by_its_label() {
    let inputs: Vec<String> =
        SIGNED.iter().map(|(label, input, ..)| format!("{label}={input}")).collect();
    let values: Vec<String> =
        SIGNED.iter().map(|(label, _, value, _)| format!("{label}=:{value}:")).collect();
    let request = || {
        standard_request(&[
            ("signature-input", &inputs.join(", ")),
            ("signature", &values.join(", ")),
        ])
    };
    for (label, _, _, rule) in &SIGNED[1..] {
        let rule = format!("{rule}\nnonce = 'optional'\nlabel = '{label}'");
        accepted(scheme(&rule).attempt(&request(), at(1_618_884_473)));
    }
    // By the tag, and by nothing at all.
    let (_, _, _, rule) = SIGNED[1];
    accepted(scheme(&format!("{rule}\nnonce = 'optional'")).attempt(&request(), at(1_618_884_473)));
    let refusal = rejected(scheme("nonce = 'optional'").attempt(&request(), at(1_618_884_473)));
    assert_eq!(refusal.reason, Reason::SignatureMalformed);
    assert_eq!(refusal.private, "more than one signature, and nothing to choose by");
}

#[test]
fn the_standards_proxy_that_vouches_for_a_client_certificate_verifies() {
    // Appendix B.3, by ECDSA. The gateway stands where the internal service does.
    let certificate = ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:";
    let request = |certificate: &str| {
        head(
            "POST",
            "service.internal.example",
            None,
            "/foo?param=Value&Pet=dog",
            &[
                ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
                ("content-type", "application/json"),
                ("content-length", "18"),
                ("client-cert", certificate),
                (
                    "signature-input",
                    r#"ttrp=("@path" "@query" "@method" "@authority" "client-cert");created=1618884473;keyid="test-key-ecc-p256""#,
                ),
                (
                    "signature",
                    "ttrp=:xVMHVpawaAC/0SbHrKRs9i8I3eOs5RtTMGCWXm/9nvZzoHsIg6Mce9315T6xoklyy0yzhD9ah4JHRwMLOgmizw==:",
                ),
            ],
            br#"{"hello": "world"}"#,
        )
    };
    let rule = "components = ['@path', '@query', '@method', '@authority', 'client-cert']\nbody_components = []\nnonce = 'optional'\nalgorithm = 'ecdsa-p256-sha256'";
    let (scheme, _) = compile(rule, Nonces::with_history(1));
    let scheme = scheme.unwrap();
    accepted(scheme.attempt(&request(certificate), at(1_618_884_473)));
    let other = certificate.replacen("MII", "MIJ", 1);
    let refusal = rejected(scheme.attempt(&request(&other), at(1_618_884_473)));
    assert_eq!(refusal.reason, Reason::SignatureWrong);
}

#[test]
fn a_signature_survives_the_transformations_that_the_standard_lists() {
    // Appendix B.4.
    type Fields = &'static [(&'static str, &'static str)];
    const DATE: (&str, &str) = ("date", "Fri, 15 Jul 2022 14:24:55 GMT");
    const JSON: (&str, &str) = ("accept", "application/json");
    const ANY: (&str, &str) = ("accept", "*/*");
    let attempt = |method: &str, host: &str, target: &str, fields: Fields| {
        let mut request = head(method, host, None, target, fields, b"");
        put(
            &mut request,
            "signature-input",
            r#"transform=("@method" "@path" "@authority" "accept");created=1618884473;keyid="test-key-ed25519""#,
        );
        put(
            &mut request,
            "signature",
            "transform=:ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==:",
        );
        let rule = "components = ['@method', '@path', '@authority', 'accept']\nnonce = 'optional'";
        scheme(rule).attempt(&request, at(1_618_884_473))
    };
    let target = "/demo?name1=Value1&Name2=value2";
    let longer = "/demo?name1=Value1&Name2=value2&param=added";
    for (what, target, fields) in [
        ("as signed", target, &[DATE, JSON, ANY] as Fields),
        (
            "a language and a parameter more",
            longer,
            &[DATE, JSON, ANY, ("accept-language", "en-US,en;q=0.5")],
        ),
        (
            "no date, a referer, and one line of Accept",
            target,
            &[
                ("referer", "https://developer.example.org/demo"),
                ("accept", "application/json, */*"),
            ],
        ),
        ("other fields in another order", target, &[JSON, ANY, DATE]),
    ] {
        let attempt = attempt("GET", "example.org", target, fields);
        assert!(matches!(attempt, Attempt::Accepted(_)), "{what}: {attempt:?}");
    }
    for (what, method, host, fields) in [
        ("another method and authority", "POST", "example.com", &[DATE, JSON, ANY] as Fields),
        ("another method", "POST", "example.org", &[DATE, JSON, ANY]),
        ("another authority", "GET", "example.com", &[DATE, JSON, ANY]),
        ("Accept in another order", "GET", "example.org", &[DATE, ANY, JSON]),
    ] {
        let refusal = rejected(attempt(method, host, target, fields));
        assert_eq!(refusal.reason, Reason::SignatureWrong, "{what}");
    }
}
