//! Opaque tokens: what their issuer is asked, how often, and what its answers are believed for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{Bed, NOW_S, POLICY, bearer, claims, merged};
use crate::harness::Service;
use crate::refusals::reason_of;

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// An issuer whose answer follows from the token's first word.
pub fn endpoint() -> Service {
    Service::answering(|request| {
        let token = request.split("token=").nth(1).unwrap_or_default();
        let active = |change| {
            answer("200 OK", &merged(merged(claims(), json!({"active": true})), change).to_string())
        };
        match token.split("%2D").next().unwrap_or_default() {
            "active" => active(json!({})),
            "gone" => active(json!({"jti": "gone-1"})),
            "soon" => active(json!({"exp": NOW_S + 5})),
            "endless" => active(json!({"exp": null, "iat": null})),
            "expired" => active(json!({"exp": NOW_S - 60})),
            "elsewhere" => active(json!({"aud": "https://other.example.com"})),
            "bound" => active(json!({"cnf": {"jkt": "x"}})),
            "holder" => {
                let (_, print) = token.split_once("%2D").unwrap();
                let print = print.split('&').next().unwrap().replace("%2D", "-");
                active(json!({"cnf": {"jkt": print.replace("%5F", "_")}}))
            }
            "text" => answer("200 OK", r#"{"active":"true"}"#),
            "twice" => answer("200 OK", r#"{"active":false,"active":true}"#),
            "broken" => answer("500 Internal Server Error", "{}"),
            "moved" => {
                "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
                    .to_owned()
            }
            "large" => answer("200 OK", &"x".repeat(300_000)),
            "slow" => {
                std::thread::sleep(Duration::from_secs(2));
                active(json!({}))
            }
            _ => answer("200 OK", r#"{"active":false}"#),
        }
    })
}

#[test]
fn an_opaque_token_is_worth_what_its_issuer_says() {
    let bed = Bed::new();
    for (token, expected) in [
        ("active-1", "-"),
        ("endless-1", "-"),
        ("inactive-1", "token-inactive"),
        ("expired-1", "token-inactive"),
        ("elsewhere-1", "token-inactive"),
        ("bound-1", "token-unbound"),
        ("text-1", "token-inactive"),
        ("twice-1", "introspection-failed"),
        ("broken-1", "introspection-failed"),
        ("moved-1", "introspection-failed"),
        ("large-1", "introspection-failed"),
        ("slow-1", "introspection-failed"),
        ("a.b.c", "token-inactive"),
    ] {
        let reply = bed.get("/v1/opaque", &[bearer(token)]);
        assert_eq!(reason_of(&bed.gate, &reply), expected, "{token}: {reply:?}");
        let status = match expected {
            "-" => 200,
            "introspection-failed" => 503,
            _ => 401,
        };
        assert_eq!(reply.status, status, "{token}");
    }
    assert_eq!(bed.get("/v1/opaque", &[bearer(&bed.key)]).status, 200, "a key is nobody's token");
    let seen = bed.asked.seen.lock().unwrap().join("\n");
    assert!(!seen.contains(&bed.key));
    assert!(seen.contains("authorization: Basic "), "{seen}");
    assert!(seen.contains("token_type_hint=access_token"));
}

#[test]
fn a_token_is_asked_about_once_for_as_long_as_the_answer_counts() {
    let bed = Bed::new();
    let asked = || bed.asked.seen.lock().unwrap().len();
    let status = |token: &str| bed.get("/v1/opaque", &[bearer(token)]).status;
    for _ in 0..3 {
        assert_eq!((status("active-1"), asked()), (200, 1));
    }
    for _ in 0..3 {
        assert_eq!((status("inactive-1"), asked()), (401, 2));
    }
    assert_eq!((status("soon-1"), asked()), (200, 3));
    bed.gate.hand.advance(Duration::from_secs(10));
    assert_eq!((status("active-1"), asked()), (200, 3));
    assert_eq!((status("inactive-1"), asked()), (401, 4));
    bed.gate.hand.advance(Duration::from_secs(50));
    assert_eq!((status("active-1"), asked()), (200, 5));
    // It ended meanwhile, whatever its issuer says.
    assert_eq!((status("soon-1"), asked()), (401, 6));
    assert_eq!(
        bed.gate.metric(
            "portcullis_introspections_total{result=\"cached\",scheme=\"introspection.main\"}"
        ),
        5.0
    );
    // Revoked here is revoked, whatever its issuer says.
    bed.gate.ask_admin("POST", "/v1/sessions", "{\"jti\":\"token-1\"}");
    assert_eq!((status("active-1"), asked()), (401, 6));
}

#[test]
fn many_who_show_one_token_at_once_are_one_question() {
    let bed = Bed::with(Service::answering(|_| {
        std::thread::sleep(Duration::from_millis(300));
        answer("200 OK", &merged(claims(), json!({"active": true})).to_string())
    }));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(bed.get("/v1/opaque", &[bearer("one-token")]).status, 200));
        }
    });
    assert_eq!(bed.asked.seen.lock().unwrap().len(), 1);
}

/// A bed whose issuer answers until it is told not to, with these lines in the rule.
fn faltering(lines: &str) -> (Bed, Arc<AtomicBool>, Arc<AtomicBool>) {
    let (answers, is_active) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let (says, active) = (Arc::clone(&answers), Arc::clone(&is_active));
    let asked = Service::answering(move |_| match says.load(Ordering::SeqCst) {
        false => answer("503 Service Unavailable", "{}"),
        true => {
            let active = active.load(Ordering::SeqCst);
            let end = NOW_S + 4000;
            answer("200 OK", &merged(claims(), json!({"active": active, "exp": end})).to_string())
        }
    });
    let policy = POLICY.replace("timeout       = \"1s\"", lines);
    (Bed::by(&policy, Service::ok().address, asked), answers, is_active)
}

#[test]
fn without_an_answer_the_last_one_counts_only_where_the_policy_says_so_and_for_so_long() {
    let stale = "on_failure = \"allow_cached\"\nstale = \"2m\"";
    for (lines, goes_on) in [("", false), ("on_failure = \"refuse\"", false), (stale, true)] {
        let (bed, answers, _) = faltering(lines);
        let status = |token: &str| bed.get("/v1/opaque", &[bearer(token)]).status;
        let advance = |seconds| bed.gate.hand.advance(Duration::from_secs(seconds));
        assert_eq!(status("one"), 200);
        answers.store(false, Ordering::SeqCst);
        advance(60);
        assert_eq!(status("one"), if goes_on { 200 } else { 503 }, "{lines}");
        assert_eq!(status("two"), 503, "of which nothing was known");
        if !goes_on {
            continue;
        }
        let asked = || bed.asked.seen.lock().unwrap().len();
        let before = asked();
        assert_eq!((status("one"), asked()), (200, before), "not asked about each time");
        advance(119);
        assert_eq!((status("one"), asked()), (200, before + 1));
        let series =
            "portcullis_introspections_total{result=\"stale\",scheme=\"introspection.main\"}";
        assert_eq!(bed.gate.metric(series), 2.0);
        advance(1);
        assert_eq!(status("one"), 503);
        // Revoked here is revoked, and what the issuer says again counts again.
        answers.store(true, Ordering::SeqCst);
        assert_eq!(status("one"), 200);
        answers.store(false, Ordering::SeqCst);
        advance(60);
        assert_eq!(status("one"), 200);
        bed.gate.ask_admin("POST", "/v1/sessions", "{\"jti\":\"token-1\"}");
        assert_eq!(status("one"), 401);
    }
}

#[test]
fn a_token_that_was_called_inactive_last_never_goes_on() {
    let (bed, answers, is_active) = faltering("on_failure = \"allow_cached\"");
    let status = || bed.get("/v1/opaque", &[bearer("one")]).status;
    assert_eq!(status(), 200);
    is_active.store(false, Ordering::SeqCst);
    bed.gate.hand.advance(Duration::from_secs(60));
    assert_eq!(status(), 401);
    answers.store(false, Ordering::SeqCst);
    bed.gate.hand.advance(Duration::from_secs(10));
    assert_eq!(status(), 503);
}
