//! Which headers are refused, kept and dropped.

use super::*;

#[test]
fn ambiguous_headers_are_refused() {
    use Reason::{ExpectationUnsupported, HeaderNameRefused, HeaderRepeated, UpgradeUnsupported};
    let table = [
        ("underscore", get("/").with("x_forwarded_user", "root"), Some(HeaderNameRefused)),
        ("dot", get("/").with("x.api.key", "a"), Some(HeaderNameRefused)),
        (
            "types",
            get("/").with("content-type", "a/b").with("content-type", "a/b"),
            Some(HeaderRepeated),
        ),
        ("ranges", get("/").with("range", "a").with("range", "b"), Some(HeaderRepeated)),
        ("agents", get("/").with("user-agent", "a").with("user-agent", "b"), Some(HeaderRepeated)),
        (
            "upgrades",
            get("/").with("upgrade", "websocket").with("upgrade", "h2c"),
            Some(HeaderRepeated),
        ),
        ("lists may repeat", get("/").with("accept", "a/b").with("accept", "c/d"), None),
        ("keys are authenticate's", get("/").with("x-api-key", "a").with("x-api-key", "b"), None),
        ("100-continue", get("/").with("expect", "100-Continue"), None),
        ("another expectation", get("/").with("expect", "200-ok"), Some(ExpectationUnsupported)),
        (
            "h2c",
            Sent {
                in_clear: true,
                ..get("/").with("connection", "Upgrade, HTTP2-Settings").with("upgrade", "h2c")
            },
            None,
        ),
        (
            "h2c over TLS",
            get("/").with("connection", "Upgrade").with("upgrade", "h2c"),
            Some(UpgradeUnsupported),
        ),
        (
            "several",
            get("/").with("connection", "upgrade").with("upgrade", "websocket, h2c"),
            Some(UpgradeUnsupported),
        ),
        (
            "by POST",
            get("/").method("POST").with("connection", "upgrade").with("upgrade", "websocket"),
            Some(UpgradeUnsupported),
        ),
        ("not named", get("/").with("upgrade", "h2c"), None),
        (
            "connection floods",
            get("/").with("connection", &["a"; 33].join(",")),
            Some(Reason::HeaderMalformed),
        ),
        ("connection at its ceiling", get("/").with("connection", &["a"; 32].join(",")), None),
        ("key in query", get("/?api_key=x"), Some(Reason::CredentialInQuery)),
    ];
    for (name, sent, expected) in table {
        assert_eq!(sent.refused(), expected, "{name}");
    }
    assert!(get("/").with("expect", "100-continue").read().unwrap().headers.is_empty());
}

#[test]
fn a_websocket_gets_through_and_only_its_own_way() {
    let asked = || get("/ws").with("upgrade", "WebSocket");
    let head = asked().with("connection", "keep-alive, Upgrade").read().unwrap();
    assert_eq!(head.upgrade.unwrap(), "websocket");
    assert!(head.headers.is_empty());
    assert_eq!(asked().read().unwrap().upgrade, None);
    let old = asked().with("connection", "upgrade").version(Version::HTTP_10).read().unwrap();
    assert_eq!(old.upgrade, None);
}

#[test]
fn what_only_the_gateway_may_say_is_dropped() {
    for name in [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-prefix",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-forwarded-uri",
        "x-forwarded-user",
        "x-forwarded-client-cert",
        "x-ssl-client-cert",
        "x-ssl-client-s-dn",
        "x-tls-client-verified",
        "x-client-cert",
        "x-client-cert-chain",
        "x-client-dn",
        "client-cert",
        "client-cert-chain",
        "ssl-client-subject-dn",
        "x-remote-user",
        "remote-user",
        "x-auth-request-user",
        "x-authenticated-userid",
        "x-consumer-username",
        "x-credential-identifier",
        "x-forwarded",
        "x-real-ip",
        "x-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "x-cluster-client-ip",
        "x-original-url",
        "x-original-method",
        "x-rewrite-url",
        "x-request-id",
        "traceparent",
        "tracestate",
        "x-portcullis-subject",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        // Hop by hop.
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ] {
        for peer in ["203.0.113.5:1", "10.0.0.1:1"] {
            // A header of the caller's own, so that each row also proves that others stay.
            let sent = get("/").with(name, "a").with("x-kept", "b").from(peer);
            let head = sent.read().unwrap();
            assert_eq!(head.headers.keys().collect::<Vec<_>>(), ["x-kept"], "{name}");
        }
        let parsed = HeaderName::from_static(name);
        assert!(headers::is_managed(&parsed) != headers::is_hop_by_hop(&parsed), "{name}");
    }
}

#[test]
fn connection_takes_away_only_what_is_the_callers() {
    let sent = get("/")
        .with("connection", "close, X-Mine, Authorization, X-API-Key, Content-Type, Host")
        .with("connection", "X-Forwarded-For, x-portcullis-subject, content-length, bad name")
        .with("x-mine", "1")
        .with("x-other", "1")
        .with("authorization", "Bearer a")
        .with("x-api-key", "a")
        .with("content-type", "application/json")
        .with("content-length", "2")
        .with("x-forwarded-for", "198.51.100.7")
        .from("10.0.0.1:1");
    let head = sent.read().unwrap();
    assert_eq!(head.parties.client.to_string(), "198.51.100.7");
    let mut kept: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["authorization", "content-length", "content-type", "x-api-key", "x-other"]);
}

#[test]
fn cookies_of_several_lines_are_joined() {
    let head = get("/").with("cookie", "a=1").with("cookie", "b=2; c=3").read().unwrap();
    let lines: Vec<_> = head.all(&http::header::COOKIE).collect();
    assert_eq!(lines, ["a=1; b=2; c=3"]);
}
