//! Several issuers on one route: each token is judged by the table whose issuer it names, and by no other.

use serde_json::{Value, json};

use super::issuer::Issuer;
use super::{bearer, claims, merged};
use crate::harness::{Gate, Plan, Service};
use crate::refusals::reason_of;

const POLICY: &str = r#"
version = 1
name    = "test"

[roles]
member = { summary = "Ordinary" }

[scopes]
"things:read"  = "Read things"
"things:write" = "Change things"

[address]
burst              = 100000
refill             = "100000/s"
failed_credentials = { burst = 1000, refill = "1000/min" }

[jwt.a]
issuer   = "https://a.example.com"
audience = ["https://api.example.com"]
keys     = "file:a.json"

[jwt.b]
issuer   = "https://b.example.com"
audience = ["https://api.b.example.com"]
keys     = "file:b.json"
scopes   = ["permissions"]

[routes.both]
summary  = "For the users of either"
match    = "GET /v1/both"
upstream = "service"
auth     = { any = ["jwt.a", "api-key", "jwt.b"] }
allow    = [{ scopes = ["things:read"] }]

[routes.first]
summary  = "For the users of one"
match    = "GET /v1/first"
upstream = "service"
auth     = { any = ["jwt.a"] }
allow    = [{ scopes = ["things:read"] }]
"#;

struct Bed {
    gate: Gate,
    a: Issuer,
    b: Issuer,
}

impl Bed {
    fn new() -> Self {
        let (a, b) = (Issuer::new(), Issuer::new());
        let gate = Plan::new(Service::ok().address, POLICY)
            .file("a.json", &a.key_set().to_string())
            .file("b.json", &b.key_set().to_string())
            .start();
        Self { gate, a, b }
    }

    /// The status and the private reason that this token is answered with, twice: the second time it
    /// may be known.
    fn says(&self, path: &str, token: &str) -> (u16, String) {
        let (name, value) = bearer(token);
        let ask = || {
            let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\n\r\n");
            let reply = self.gate.send(&head);
            (reply.status, reason_of(&self.gate, &reply))
        };
        let said = ask();
        assert_eq!(ask(), said, "{path} {token}");
        said
    }
}

fn of_a(change: Value) -> Value {
    merged(merged(claims(), json!({"iss": "https://a.example.com"})), change)
}

fn of_b(change: Value) -> Value {
    let own = json!({
        "iss": "https://b.example.com", "aud": "https://api.b.example.com",
        "scope": null, "permissions": ["things:read"],
    });
    merged(merged(claims(), own), change)
}

#[test]
fn a_token_is_judged_by_the_table_whose_issuer_it_names() {
    let bed = Bed::new();
    let (a, b) = (&bed.a, &bed.b);
    let passed = (200, "-".to_owned());
    for token in [
        a.mint(&a.es, json!({}), of_a(json!({}))),
        a.mint(&a.ed, json!({}), of_a(json!({}))),
        b.mint(&b.es, json!({}), of_b(json!({}))),
        b.mint(&b.ed, json!({"kid": null}), of_b(json!({}))),
    ] {
        assert_eq!(bed.says("/v1/both", &token), passed);
    }
    // Each table has its own audience, and its own claims for scopes.
    let to_a = b.mint(&b.es, json!({}), of_b(json!({"aud": "https://api.example.com"})));
    assert_eq!(bed.says("/v1/both", &to_a), (401, "token-audience".to_owned()));
    let as_a = b.mint(&b.es, json!({}), of_b(json!({"permissions": [], "scope": "things:read"})));
    assert_eq!(bed.says("/v1/both", &as_a), (403, "scope-missing".to_owned()));
    let expired = b.mint(&b.es, json!({}), of_b(json!({"exp": 1})));
    assert_eq!(bed.says("/v1/both", &expired), (401, "token-expired".to_owned()));
}

#[test]
fn a_token_of_one_issuer_never_passes_by_the_keys_of_another() {
    let bed = Bed::new();
    let (a, b) = (&bed.a, &bed.b);
    let wrong = (401, "token-wrong".to_owned());
    // The names of the keys are the same with both, so each is tried, and only the right one.
    for (signer, claims) in [(&b.es, of_a(json!({}))), (&b.ed, of_a(json!({})))] {
        assert_eq!(bed.says("/v1/both", &b.mint(signer, json!({}), claims)), wrong);
    }
    for (signer, claims) in [(&a.es, of_b(json!({}))), (&a.ed, of_b(json!({})))] {
        assert_eq!(bed.says("/v1/both", &a.mint(signer, json!({}), claims)), wrong);
    }
    // What one route remembers of a token opens no other that does not believe its issuer.
    let good = b.mint(&b.es, json!({}), of_b(json!({})));
    assert_eq!(bed.says("/v1/both", &good), (200, "-".to_owned()));
    assert_eq!(bed.says("/v1/first", &good), wrong);
}

#[test]
fn an_issuer_that_no_table_names_is_refused_as_with_one_table() {
    let bed = Bed::new();
    let (a, b) = (&bed.a, &bed.b);
    for (token, reason) in [
        (a.mint(&a.es, json!({}), of_a(json!({"iss": "https://c.example.com"}))), "token-issuer"),
        (a.mint(&a.es, json!({}), of_a(json!({"iss": null}))), "token-issuer"),
        (a.mint(&a.es, json!({}), of_a(json!({"iss": ["https://b.example.com"]}))), "token-issuer"),
        (a.mint(&a.es, json!({}), of_a(json!({"iss": "https://a.example.com/"}))), "token-issuer"),
        (b.mint(&b.es, json!({}), of_b(json!({"iss": "https://c.example.com"}))), "token-wrong"),
        (b.mint(&b.es, json!({"kid": "no"}), of_b(json!({"iss": "c"}))), "token-key-unknown"),
    ] {
        let refused = (401, reason.to_owned());
        assert_eq!(bed.says("/v1/first", &token), refused);
        assert_eq!(bed.says("/v1/both", &token), refused, "as on the route of one issuer");
    }
    // Two names in one token: which one counts is nobody's to choose.
    let twice = of_a(json!({})).to_string().replacen('{', "{\"iss\":\"https://b.example.com\",", 1);
    let twice = a.mint_raw(&a.es, r#"{"alg":"ES256","kid":"es"}"#, &twice);
    assert_eq!(bed.says("/v1/both", &twice), (401, "token-malformed".to_owned()));
}
