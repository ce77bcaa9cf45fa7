//! What the administration does at its edges: ceilings, unknown things, counters.

use super::*;

#[test]
fn a_failure_never_repeats_a_key() {
    let bench = bench();
    let secret = "an-old-key-0123456789";
    for wrong in [
        json!({ "do": "import", "template": { "name": "a", "subject": "b" }, "keys": secret }),
        json!({ "do": "import", "template": { "name": "a", "subject": "b" }, "keys": [secret, "sh ort"] }),
        json!({ "do": secret }),
        json!({ secret: 1 }),
    ] {
        let (status, body) = bench.answer(post("/v1/keys", &wrong));
        assert!(status.is_client_error());
        assert!(!body.contains(secret), "{body}");
    }
}

#[test]
fn bodies_have_ceilings() {
    let bench = bench();
    let long = "x".repeat(BODY_BYTES_MAX);
    let ban = json!({ "network": "192.0.2.1", "seconds": 1, "why": long });
    assert_eq!(bench.answer(post("/v1/bans", &ban)).0, StatusCode::PAYLOAD_TOO_LARGE);
    let create =
        json!({ "do": "create", "template": { "name": "a", "subject": "b", "note": long } });
    assert_eq!(bench.answer(post("/v1/keys", &create)).0, StatusCode::PAYLOAD_TOO_LARGE);
    let keys: Vec<String> = (0..5000).map(|count| format!("an-old-key-{count:08}")).collect();
    let import =
        json!({ "do": "import", "template": { "name": "a", "subject": "b" }, "keys": keys });
    assert_eq!(bench.json(post("/v1/keys", &import)), json!({ "imported": 5000 }));
}

#[test]
fn bans_are_added_listed_and_lifted_over_the_listener() {
    let bench = bench();
    let ban = json!({ "network": "203.0.113.0/24", "seconds": 60, "why": "guessing" });
    bench.json(post("/v1/bans", &ban));
    assert_eq!(bench.series("portcullis_bans{source=\"manual\"}"), Some(1.0));
    assert_eq!(bench.json(get("/v1/bans"))[0]["until"], "2026-11-23T12:01:00Z");
    let lift = json!({ "network": "203.0.113.0/24" });
    assert_eq!(bench.json(post("/v1/bans/remove", &lift)), json!({ "removed": true }));
    assert_eq!(bench.json(post("/v1/bans/remove", &lift)), json!({ "removed": false }));
    let (status, body) =
        bench.answer(post("/v1/bans", &json!({ "network": "here", "seconds": 1 })));
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("`here` is not a network"), "{body}");
}

#[test]
fn decisions_that_are_not_known_are_not_found() {
    let bench = bench();
    for path in ["/v1/decisions/last-refused", "/v1/decisions/0199aabb"] {
        assert_eq!(bench.answer(get(path)).0, StatusCode::NOT_FOUND);
    }
}

#[test]
fn what_listeners_and_upstreams_count_is_raised_and_not_counted_twice() {
    let bench = bench();
    let desk = bench.admin.desk();
    let counters = &desk.parts.listeners[0].counters;
    let set = |counter: &std::sync::atomic::AtomicU64, value| {
        counter.store(value, std::sync::atomic::Ordering::Relaxed);
    };
    set(&counters.open, 5);
    set(&counters.in_flight, 9);
    set(&counters.handshakes_tls13, 7);
    set(&counters.refused_ceiling, 3);
    for _ in 0..2 {
        for (series, wanted) in [
            ("portcullis_connections{listener=\"public\",state=\"active\"}", 5.0),
            ("portcullis_connections{listener=\"public\",state=\"idle\"}", 0.0),
            (
                "portcullis_tls_handshakes_total{listener=\"public\",result=\"ok\",version=\"1.3\"}",
                7.0,
            ),
            ("portcullis_connections_refused_total{listener=\"public\",reason=\"ceiling\"}", 3.0),
            ("portcullis_limit_buckets_max", 1000.0),
            ("portcullis_buffered_bytes_max", f64::from(1 << 20)),
        ] {
            assert_eq!(bench.series(series), Some(wanted), "{series}");
        }
    }
    assert!(
        bench.series("portcullis_certificate_expiry_timestamp_seconds{certificate=\"public\"}")
            > Some(1_795_435_200.0)
    );
}
