//! What browsers meet: preflights, answers that pages of other origins may read, redirects to TLS.

use std::io::Write;

use crate::harness::{Gate, POLICY, Plan, Reply, Service, connect};

const APP: &str = "https://app.example.com";

fn gate() -> (Service, Gate) {
    let service = Service::answering(|_| {
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n".to_owned()
    });
    let cors = format!("[defaults]\ncors   = {{ origins = [\"{APP}\"] }}");
    let gate = Gate::new(service.address, &POLICY.replace("[defaults]", &cors));
    (service, gate)
}

fn preflight(gate: &Gate, path: &str, origin: &str, method: &str, headers: &str) -> Reply {
    gate.send(&format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\
         Access-Control-Request-Headers: {headers}\r\n\r\n"
    ))
}

#[test]
fn a_preflight_is_answered_from_policy_without_a_credential() {
    let (service, gate) = gate();
    let reply = preflight(&gate, "/v1/things", APP, "POST", "authorization,content-type");
    assert_eq!(reply.status, 204, "{reply:?}");
    assert_eq!(reply.header("access-control-allow-origin"), Some(APP));
    assert_eq!(reply.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(reply.header("access-control-allow-headers"), Some("authorization, content-type"));
    assert_eq!(reply.header("access-control-max-age"), Some("600"));
    assert_eq!(service.requests(), Vec::<String>::new());
}

#[test]
fn a_preflight_for_what_is_not_allowed_learns_nothing() {
    let (_service, gate) = gate();
    for (path, origin, method, headers) in [
        ("/v1/things", "https://evil.example", "POST", "content-type"),
        ("/v1/things", "null", "POST", "content-type"),
        ("/v1/things", APP, "DELETE", "content-type"),
        ("/v1/things", APP, "POST", "x-secret"),
        ("/v1/nothing", APP, "POST", "content-type"),
    ] {
        let reply = preflight(&gate, path, origin, method, headers);
        assert_eq!(reply.status, 401, "{path} {origin} {method} {headers}");
        assert!(reply.header("access-control-allow-methods").is_none());
    }
}

#[test]
fn pages_of_allowed_origins_may_read_answers_and_refusals_and_no_others() {
    let (_service, gate) = gate();
    let ask = |origin: &str, key: &str| {
        gate.send(&format!(
            "GET /v1/things HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAuthorization: Bearer {key}\r\n\r\n"
        ))
    };
    let key = gate.first_key();
    for (key, status) in [(key.as_str(), 200), ("nonsense", 401)] {
        let reply = ask(APP, key);
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("access-control-allow-origin"), Some(APP));
        assert!(reply.header("access-control-expose-headers").unwrap().contains("retry-after"));
        assert_eq!(reply.header("vary"), Some("Origin"));
        // What the service says of origins is not its to say here.
        assert_eq!(ask("https://evil.example", key).header("access-control-allow-origin"), None);
    }
}

#[test]
fn a_listener_that_only_redirects_sends_every_request_to_tls() {
    let service = Service::ok();
    let redirecting =
        "[[listener]]\nname = \"redirect\"\nbind = [\"127.0.0.1:0\"]\nredirect_to_https = 8443\n";
    let gate = Plan::new(service.address, POLICY).extra(redirecting).start();
    let mut stream = connect(gate.listener("redirect"));
    stream
        .write_all(
            b"POST /v1/things?a=b HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 2\r\n\r\n{}",
        )
        .unwrap();
    let reply = Reply::read(&mut stream, false).unwrap();
    assert_eq!(reply.status, 308, "{reply:?}");
    assert_eq!(reply.header("location"), Some("https://api.example.com:8443/v1/things?a=b"));
    assert_eq!(service.requests(), Vec::<String>::new());
}
