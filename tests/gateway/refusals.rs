//! The refusal matrix: every way to say no, provoked over a socket, and what each tells to whom.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis::refusal::Reason;
use ring::{digest, hmac};
use serde_json::Value;

use crate::harness::{Gate, NOON_MS, PATIENCE, POLICY, Plan, Reply, Service, connect};
use crate::tokens;

/// One reason: its name, the status, the public code and the stage that go with it, the rule that
/// the record must name (the beginning of its address; nothing where no rule refuses), and the way
/// to it.
pub type Row = (&'static str, u16, &'static str, &'static str, &'static str, Way);

/// How a reason is provoked.
pub enum Way {
    /// By these bytes, over TLS, at the usual gate.
    Sent(fn(&Usual) -> Vec<u8>),
    /// By something that takes more than one connection or gate.
    Staged(fn() -> Staged),
    /// Not at all over a socket, for this reason.
    Not(&'static str),
}

use Way::{Not, Sent, Staged as Stage};

/// A gate of its own that has just refused; and the answer, unless nobody was there to hear it.
pub struct Staged {
    pub gate: Gate,
    pub reply: Option<Reply>,
}

const BAD: &str = "invalid_request";
const DENIED: &str = "unauthorized";
const FORBIDDEN: &str = "forbidden";

const LISTEN: &[Row] = &[
    (
        "request-line-malformed",
        400,
        BAD,
        "listen",
        "",
        Sent(|_| "GET  /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n".into()),
    ),
    (
        "version-unsupported",
        505,
        "version_not_supported",
        "listen",
        "",
        Sent(|_| "GET /v1/open HTTP/3.0\r\nHost: localhost\r\n\r\n".into()),
    ),
    ("header-malformed", 400, BAD, "listen", "", Sent(|_| get("/v1/open", "X-A : 1\r\n"))),
    (
        "framing-ambiguous",
        400,
        BAD,
        "listen",
        "",
        Sent(|_| get("/v1/open", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n")),
    ),
    (
        "length-malformed",
        400,
        BAD,
        "listen",
        "",
        Sent(|_| get("/v1/open", "Content-Length: +3\r\n")),
    ),
    (
        "transfer-coding-unsupported",
        400,
        BAD,
        "listen",
        "",
        Sent(|_| get("/v1/open", "Transfer-Encoding: gzip\r\n")),
    ),
    (
        "chunk-malformed",
        400,
        BAD,
        "listen",
        "routes.create.body",
        Sent(|usual| usual.chunked("/v1/things", "zz\r\n{}\r\n0\r\n\r\n")),
    ),
    (
        "target-too-long",
        414,
        "uri_too_long",
        "listen",
        "",
        Sent(|_| get(&format!("/{}", "a".repeat(9000)), "")),
    ),
    (
        "head-too-large",
        431,
        "headers_too_large",
        "listen",
        "",
        Sent(|_| get("/v1/open", &format!("X-A: {}\r\n", "a".repeat(17_000)))),
    ),
    ("head-timeout", 408, "request_timeout", "listen", "", Stage(head_timeout)),
    ("plaintext-refused", 400, BAD, "listen", "", Stage(plaintext)),
];

const HEAD: &[Row] = &[
    (
        "method-unsupported",
        405,
        "method_not_allowed",
        "head",
        "",
        Sent(|_| "TRACE /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n".into()),
    ),
    ("host-missing", 400, BAD, "head", "", Sent(|_| "GET /v1/open HTTP/1.1\r\n\r\n".into())),
    (
        "host-malformed",
        400,
        BAD,
        "head",
        "",
        Sent(|_| "GET /v1/open HTTP/1.1\r\nHost: a*b\r\n\r\n".into()),
    ),
    (
        "host-mismatch",
        421,
        "misdirected_request",
        "head",
        "",
        Sent(|_| "GET /v1/open HTTP/1.1\r\nHost: example.com\r\n\r\n".into()),
    ),
    ("target-malformed", 400, BAD, "head", "", Sent(|_| get("*", ""))),
    ("path-ambiguous", 400, BAD, "head", "", Sent(|_| get("/v1/../admin", ""))),
    ("query-malformed", 400, BAD, "head", "", Sent(|_| get("/v1/open?a=%zz", ""))),
    (
        "header-name-refused",
        400,
        BAD,
        "head",
        "",
        Sent(|_| get("/v1/open", "X_Forwarded_User: admin\r\n")),
    ),
    (
        "header-repeated",
        400,
        BAD,
        "head",
        "",
        Sent(|_| get("/v1/open", "Content-Type: text/plain\r\nContent-Type: text/html\r\n")),
    ),
    (
        "expectation-unsupported",
        417,
        BAD,
        "head",
        "",
        Sent(|_| get("/v1/open", "Expect: a-miracle\r\n")),
    ),
    (
        "upgrade-unsupported",
        400,
        BAD,
        "head",
        "",
        Sent(|_| get("/v1/open", "Connection: upgrade\r\nUpgrade: h2c\r\n")),
    ),
    ("address-banned", 403, FORBIDDEN, "head", "", Stage(banned)),
];

const ROUTE: &[Row] = &[
    ("route-unknown", 404, "not_found", "route", "", Sent(|usual| usual.get("/v1/nothing"))),
    (
        "method-not-allowed",
        405,
        "method_not_allowed",
        "route",
        "",
        Sent(|usual| usual.request("DELETE", "/v1/things", "")),
    ),
];

const AUTHENTICATE: &[Row] = &[
    (
        "token-malformed",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("token-malformed")),
    ),
    (
        "token-algorithm",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("token-algorithm")),
    ),
    ("token-type", 401, DENIED, "authenticate", "jwt.main", Stage(|| tokens::staged("token-type"))),
    (
        "token-key-unknown",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("token-key-unknown")),
    ),
    (
        "token-wrong",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("token-wrong")),
    ),
    (
        "token-expired",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("token-expired")),
    ),
    (
        "token-future",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("token-future")),
    ),
    (
        "token-issuer",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("token-issuer")),
    ),
    (
        "token-audience",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("token-audience")),
    ),
    (
        "token-revoked",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("token-revoked")),
    ),
    (
        "token-unbound",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("token-unbound")),
    ),
    (
        "proof-malformed",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("proof-malformed")),
    ),
    (
        "proof-wrong",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("proof-wrong")),
    ),
    (
        "proof-replayed",
        401,
        DENIED,
        "authenticate",
        "jwt.main",
        Stage(|| tokens::staged("proof-replayed")),
    ),
    (
        "proof-nonce",
        401,
        DENIED,
        "authenticate",
        "jwt.fresh",
        Stage(|| tokens::staged("proof-nonce")),
    ),
    (
        "token-inactive",
        401,
        DENIED,
        "authenticate",
        "introspection.main",
        Stage(|| tokens::staged("token-inactive")),
    ),
    (
        "introspection-failed",
        503,
        "service_unavailable",
        "authenticate",
        "introspection.main",
        Stage(|| tokens::staged("introspection-failed")),
    ),
    (
        "token-keys-missing",
        503,
        "service_unavailable",
        "authenticate",
        "jwt.away",
        Stage(|| tokens::staged("token-keys-missing")),
    ),
    ("credential-missing", 401, DENIED, "authenticate", "", Sent(|_| get("/v1/things", ""))),
    (
        "credential-malformed",
        401,
        DENIED,
        "authenticate",
        "",
        Sent(|usual| bearer("/v1/things", &mistyped(&usual.member))),
    ),
    (
        "credential-unknown",
        401,
        DENIED,
        "authenticate",
        "",
        Sent(|_| bearer("/v1/things", "somebody-elses-key-0123456789")),
    ),
    (
        "credential-expired",
        401,
        DENIED,
        "authenticate",
        "",
        Sent(|usual| bearer("/v1/things", &usual.expired)),
    ),
    (
        "credential-revoked",
        401,
        DENIED,
        "authenticate",
        "",
        Sent(|usual| bearer("/v1/things", &usual.revoked)),
    ),
    (
        "credential-suspended",
        401,
        DENIED,
        "authenticate",
        "",
        Sent(|usual| bearer("/v1/things", &usual.suspended)),
    ),
    ("credential-canary", 401, DENIED, "authenticate", "", Stage(canary)),
    (
        "credential-plaintext",
        400,
        BAD,
        "authenticate",
        "",
        Not("on this machine nobody else reads along; `authenticate::exposure` provokes it"),
    ),
    (
        "credential-network",
        401,
        DENIED,
        "authenticate",
        "",
        Sent(|usual| bearer("/v1/things", &usual.elsewhere)),
    ),
    (
        "credential-environment",
        401,
        DENIED,
        "authenticate",
        "",
        Sent(|usual| bearer("/v1/things", &usual.foreign)),
    ),
    (
        "credential-owner-mismatch",
        401,
        DENIED,
        "authenticate",
        "",
        Sent(|usual| {
            let lines = usual.bobs.sign(&Signing::of("GET", "/v1/both"));
            get("/v1/both", &format!("Authorization: Bearer {}\r\n{lines}", usual.member))
        }),
    ),
    ("signature-missing", 401, DENIED, "authenticate", "", Sent(|_| get("/v1/signed", ""))),
    (
        "signature-malformed",
        401,
        DENIED,
        "authenticate",
        "signatures.request",
        Sent(|_| get("/v1/signed", "Signature-Input: (((\r\nSignature: a=:AA==:\r\n")),
    ),
    (
        "signature-coverage",
        401,
        DENIED,
        "authenticate",
        "signatures.request",
        Sent(|usual| {
            get(
                "/v1/signed",
                &usual.alices.sign(&Signing {
                    covers: &["@method", "@path"],
                    ..Signing::of("GET", "/v1/signed")
                }),
            )
        }),
    ),
    (
        "signature-key-unknown",
        401,
        DENIED,
        "authenticate",
        "signatures.request",
        Sent(|usual| {
            let nobody = Signer { id: "AAAAAAAA".to_owned(), ..usual.alices.clone() };
            get("/v1/signed", &nobody.sign(&Signing::of("GET", "/v1/signed")))
        }),
    ),
    (
        "signature-algorithm",
        401,
        DENIED,
        "authenticate",
        "signatures.request",
        Sent(|usual| {
            get(
                "/v1/signed",
                &usual.alices.sign(&Signing {
                    algorithm: "hmac-sha512",
                    ..Signing::of("GET", "/v1/signed")
                }),
            )
        }),
    ),
    (
        "signature-expired",
        401,
        DENIED,
        "authenticate",
        "signatures.request",
        Sent(|usual| {
            get(
                "/v1/signed",
                &usual
                    .alices
                    .sign(&Signing { created: NOW_S - 61, ..Signing::of("GET", "/v1/signed") }),
            )
        }),
    ),
    (
        "signature-future",
        401,
        DENIED,
        "authenticate",
        "signatures.request",
        Sent(|usual| {
            get(
                "/v1/signed",
                &usual
                    .alices
                    .sign(&Signing { created: NOW_S + 6, ..Signing::of("GET", "/v1/signed") }),
            )
        }),
    ),
    (
        "signature-wrong",
        401,
        DENIED,
        "authenticate",
        "signatures.request",
        Sent(|usual| get("/v1/signed", &usual.alices.sign(&Signing::of("GET", "/v1/other")))),
    ),
    ("signature-replayed", 401, DENIED, "authenticate", "signatures.request", Stage(replayed)),
    (
        "nonce-store-full",
        503,
        "service_unavailable",
        "authenticate",
        "signatures.request",
        Stage(nonces_full),
    ),
    (
        "credential-repeated",
        400,
        BAD,
        "authenticate",
        "",
        Sent(|usual| {
            get(
                "/v1/things",
                &format!("Authorization: Bearer {0}\r\nX-API-Key: {0}\r\n", usual.member),
            )
        }),
    ),
    (
        "credential-in-query",
        400,
        BAD,
        "authenticate",
        "",
        Sent(|usual| usual.get("/v1/things?api_key=x")),
    ),
    (
        "failure-budget-empty",
        429,
        "rate_limit_exceeded",
        "authenticate",
        "address.failed_credentials",
        Stage(failures_spent),
    ),
];

const AUTHORIZE: &[Row] = &[
    (
        "claim-missing",
        403,
        FORBIDDEN,
        "authorize",
        "routes.department.allow[0]",
        Stage(|| tokens::staged("claim-missing")),
    ),
    (
        "step-up-required",
        401,
        DENIED,
        "authorize",
        "routes.sensitive.allow[0]",
        Stage(|| tokens::staged("step-up-required")),
    ),
    (
        "scope-missing",
        403,
        FORBIDDEN,
        "authorize",
        "routes.list",
        Sent(|usual| bearer("/v1/things", &usual.poor)),
    ),
    (
        "role-missing",
        403,
        FORBIDDEN,
        "authorize",
        "routes.create",
        Sent(|usual| post_as(&usual.writer, "/v1/things", "application/json", "{}")),
    ),
    (
        "tier-missing",
        403,
        FORBIDDEN,
        "authorize",
        "routes.paying",
        Sent(|usual| usual.get("/v1/paying")),
    ),
    (
        "not-owner",
        403,
        FORBIDDEN,
        "authorize",
        "routes.own",
        Sent(|usual| usual.get("/v1/owners/bob")),
    ),
    (
        "network-refused",
        403,
        FORBIDDEN,
        "authorize",
        "routes.inside",
        Sent(|usual| usual.get("/v1/inside")),
    ),
    (
        "certificate-missing",
        403,
        FORBIDDEN,
        "authorize",
        "routes.certified",
        Sent(|usual| usual.get("/v1/certified")),
    ),
    (
        "time-refused",
        403,
        FORBIDDEN,
        "authorize",
        "routes.night",
        Sent(|usual| usual.get("/v1/night")),
    ),
    (
        "door-denied",
        403,
        FORBIDDEN,
        "authorize",
        "routes.never.deny",
        Sent(|usual| usual.get("/v1/never")),
    ),
];

const LIMIT: &[Row] = &[
    ("address-budget-empty", 429, "rate_limit_exceeded", "limit", "address", Stage(address_spent)),
    ("budget-empty", 429, "rate_limit_exceeded", "limit", "limits.few", Stage(budget_spent)),
    ("limit-store-full", 503, "service_unavailable", "limit", "limits.many", Stage(buckets_full)),
];

const INSPECT: &[Row] = &[
    (
        "body-too-large",
        413,
        "payload_too_large",
        "inspect",
        "routes.create.body",
        Sent(|usual| {
            usual.post("/v1/things", "application/json", &format!("\"{}\"", "a".repeat(70_000)))
        }),
    ),
    (
        "body-unexpected",
        400,
        BAD,
        "inspect",
        "defaults.body",
        Sent(|usual| usual.request("GET", "/v1/things", "Content-Length: 2\r\n\r\n{}")),
    ),
    (
        "body-required",
        400,
        BAD,
        "inspect",
        "routes.required.body",
        Sent(|usual| usual.post("/v1/required", "application/json", "")),
    ),
    ("body-timeout", 408, "request_timeout", "inspect", "routes.create.body", Stage(body_timeout)),
    ("body-incomplete", 400, BAD, "inspect", "routes.create.body", Stage(body_incomplete)),
    (
        "body-malformed",
        400,
        BAD,
        "inspect",
        "routes.form.body",
        Sent(|usual| usual.post("/v1/form", "multipart/form-data; boundary=a", "no part")),
    ),
    (
        "buffer-full",
        503,
        "service_unavailable",
        "inspect",
        "routes.create.body",
        Stage(buffer_full),
    ),
    (
        "content-type-refused",
        415,
        "unsupported_media_type",
        "inspect",
        "routes.create.body",
        Sent(|usual| usual.post("/v1/things", "text/plain", "{}")),
    ),
    (
        "content-encoding-refused",
        415,
        "unsupported_media_type",
        "inspect",
        "routes.create.body",
        Sent(|usual| usual.post("/v1/things", "application/json\r\nContent-Encoding: gzip", "{}")),
    ),
    (
        "digest-missing",
        400,
        BAD,
        "inspect",
        "routes.digest.body",
        Sent(|usual| usual.post("/v1/digest", "application/json", "{}")),
    ),
    (
        "digest-unsupported",
        400,
        BAD,
        "inspect",
        "routes.digest.body",
        Sent(|usual| {
            usual.post("/v1/digest", "application/json\r\nContent-Digest: md5=:AAAA:", "{}")
        }),
    ),
    (
        "digest-mismatch",
        400,
        BAD,
        "inspect",
        "routes.digest.body",
        Sent(|usual| {
            let digest = format!("application/json\r\nContent-Digest: {}", content_digest("{ }"));
            usual.post("/v1/digest", &digest, "{}")
        }),
    ),
    (
        "json-malformed",
        400,
        BAD,
        "inspect",
        "routes.create.body",
        Sent(|usual| usual.json("{\"a\":}")),
    ),
    (
        "json-depth",
        400,
        BAD,
        "inspect",
        "routes.create.body",
        Sent(|usual| usual.json(&"[".repeat(33))),
    ),
    (
        "json-size",
        400,
        BAD,
        "inspect",
        "routes.create.body",
        Sent(|usual| usual.json(&format!("[{}0]", "0,".repeat(10_000)))),
    ),
    (
        "json-duplicate",
        400,
        BAD,
        "inspect",
        "routes.create.body",
        Sent(|usual| usual.json("{\"a\":1,\"\\u0061\":2}")),
    ),
    ("json-number", 400, BAD, "inspect", "routes.create.body", Sent(|usual| usual.json("1e999"))),
    (
        "json-text",
        400,
        BAD,
        "inspect",
        "routes.create.body",
        Sent(|usual| usual.json("\"\\ud800\"")),
    ),
    (
        "field-unknown",
        422,
        "validation_error",
        "inspect",
        "routes.schema.body",
        Sent(|usual| {
            usual.post("/v1/schema", "application/json", "{\"title\":\"a\",\"is_admin\":true}")
        }),
    ),
    (
        "schema-mismatch",
        422,
        "validation_error",
        "inspect",
        "routes.schema.body",
        Sent(|usual| usual.post("/v1/schema", "application/json", "{\"title\":7}")),
    ),
    (
        "query-refused",
        400,
        BAD,
        "inspect",
        "routes.query.query",
        Sent(|usual| usual.get("/v1/query?offset=1")),
    ),
    (
        "header-refused",
        400,
        BAD,
        "inspect",
        "routes.headers.headers",
        Sent(|usual| usual.request("GET", "/v1/headers", "X-Debug: 1\r\n")),
    ),
    (
        "sql",
        400,
        BAD,
        "inspect",
        "filters.all",
        Sent(|usual| usual.get("/v1/things?q=1%27+OR+%271%27=%271")),
    ),
    (
        "nosql",
        400,
        BAD,
        "inspect",
        "filters.all",
        Sent(|usual| usual.json("{\"password\":{\"$ne\":null}}")),
    ),
    (
        "command",
        400,
        BAD,
        "inspect",
        "filters.all",
        Sent(|usual| usual.get("/v1/things?q=a;cat+/etc/passwd")),
    ),
    (
        "path-traversal",
        400,
        BAD,
        "inspect",
        "filters.all",
        Sent(|usual| usual.get("/v1/things?q=../../../etc/shadow")),
    ),
    ("template", 400, BAD, "inspect", "filters.all", Sent(|usual| usual.json("\"{{7*7}}\""))),
    (
        "script",
        400,
        BAD,
        "inspect",
        "filters.all",
        Sent(|usual| usual.json("\"<script>alert(1)</script>\"")),
    ),
    (
        "encoding-layers",
        400,
        BAD,
        "inspect",
        "filters.all",
        Sent(|usual| usual.get("/v1/things?q=%252525252541")),
    ),
    (
        "field-complex",
        400,
        BAD,
        "inspect",
        "filters.all",
        Sent(|usual| usual.json(&format!(r#"{{"a":"{}"}}"#, "$(".repeat(20_000)))),
    ),
];

const FORWARD: &[Row] = &[
    ("upstream-unreachable", 502, "bad_gateway", "forward", "", Stage(unreachable)),
    ("upstream-unhealthy", 503, "service_unavailable", "forward", "", Stage(unhealthy)),
    ("upstream-busy", 503, "service_unavailable", "forward", "", Stage(busy)),
    ("upstream-broken", 502, "bad_gateway", "forward", "", Stage(broken)),
    (
        "upstream-credential-missing",
        503,
        "service_unavailable",
        "forward",
        "",
        Stage(no_credential),
    ),
    ("upstream-timeout", 504, "gateway_timeout", "forward", "", Stage(timeout)),
    (
        "key-call-refused",
        422,
        "validation_error",
        "forward",
        "routes.my-keys.self_service",
        Sent(|usual| usual.call("/v1/my-keys", r#"{"do":"dance"}"#)),
    ),
    (
        "key-caller-refused",
        403,
        FORBIDDEN,
        "forward",
        "routes.my-keys.self_service",
        Sent(|usual| usual.call("/v1/my-keys", r#"{"do":"suspend","id":"AAAAAAAA"}"#)),
    ),
    (
        "key-beyond",
        403,
        FORBIDDEN,
        "forward",
        "routes.my-keys.self_service",
        Sent(|usual| {
            let wish = r#"{"do":"create","template":{"name":"a","roles":["admin"]}}"#;
            usual.call("/v1/my-keys", wish)
        }),
    ),
    (
        "key-unknown",
        404,
        "not_found",
        "forward",
        "routes.my-keys.self_service",
        Sent(|usual| usual.call("/v1/my-keys", r#"{"do":"show","id":"AAAAAAAA"}"#)),
    ),
    (
        "key-unfit",
        409,
        "conflict",
        "forward",
        "routes.my-keys.self_service",
        Sent(|usual| {
            let id = &usual.revoked[8..16];
            let wish = format!(r#"{{"do":"rotate","id":"{id}","overlap_s":60}}"#);
            usual.call("/v1/my-keys", &wish)
        }),
    ),
    (
        "keys-too-many",
        409,
        "conflict",
        "forward",
        "routes.my-only-key.self_service",
        Sent(|usual| usual.call("/v1/my-only-key", r#"{"do":"create","template":{"name":"a"}}"#)),
    ),
    (
        "keys-unavailable",
        503,
        "service_unavailable",
        "forward",
        "",
        Not("only a store that fails, or disks that keep four calls for five seconds, lead there"),
    ),
];

const RECORD: &[Row] = &[
    ("client-left", 499, "client_left", "record", "", Stage(client_left)),
    (
        "gateway-fault",
        500,
        "server_error",
        "record",
        "",
        Not(
            "it stands where only a fault of our own can lead, such as an upstream of another configuration; no bytes lead there",
        ),
    ),
];

/// The whole matrix, in the order of the way.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    [LISTEN, HEAD, ROUTE, AUTHENTICATE, AUTHORIZE, LIMIT, INSPECT, FORWARD, RECORD]
        .into_iter()
        .flatten()
}

/// Routes that the policy of all tests has no need of.
const MORE: &str = r#"
[routes.my-keys]
summary      = "One's own keys"
match        = "POST /v1/my-keys"
self_service = { keys_max = 1000 }
allow        = [{ anyone = true }]

[routes.my-only-key]
summary      = "One's own key"
match        = "POST /v1/my-only-key"
self_service = { keys_max = 1 }
allow        = [{ anyone = true }]

[routes.both]
summary  = "A key and a signature"
match    = "GET /v1/both"
upstream = "service"
auth     = { all = ["api-key", "signature.request"] }
allow    = [{ anyone = true }]

[routes.paying]
summary  = "For those who pay"
match    = "GET /v1/paying"
upstream = "service"
allow    = [{ tiers = ["pro"] }]

[routes.inside]
summary  = "For those inside"
match    = "GET /v1/inside"
upstream = "service"
allow    = [{ from = ["10.0.0.0/8"] }]

[routes.required]
summary  = "Needs a body"
match    = "POST /v1/required"
upstream = "service"
allow    = [{ anyone = true }]
body     = { max = "1KiB", types = ["application/json"], required = true }

[routes.digest]
summary  = "Needs a digest"
match    = "POST /v1/digest"
upstream = "service"
allow    = [{ anyone = true }]
body     = { max = "1KiB", types = ["application/json"], digest = "required" }

[routes.form]
summary  = "A form"
match    = "POST /v1/form"
upstream = "service"
allow    = [{ anyone = true }]
body     = { max = "1KiB", types = ["multipart/form-data"] }

[routes.schema]
summary  = "A body of one form"
match    = "POST /v1/schema"
upstream = "service"
allow    = [{ anyone = true }]
body     = { max = "1KiB", types = ["application/json"], schema = "schemas/thing.json", extra_fields = "refuse" }

[routes.query]
summary  = "A strict query"
match    = "GET /v1/query"
upstream = "service"
allow    = [{ anyone = true }]
query    = { allow = ["limit"] }

[routes.headers]
summary  = "Strict headers"
match    = "GET /v1/headers"
upstream = "service"
allow    = [{ anyone = true }]
headers  = { refuse = ["x-debug"] }
"#;

const SCHEMA: &str =
    r#"{"type":"object","required":["title"],"properties":{"title":{"type":"string"}}}"#;

/// What the hand of the usual gate shows, in Unix seconds: the short-lived keys are over then.
pub const NOW_S: u64 = NOON_MS / 1000 + 61;

/// The gate that most rows need, with a key of every kind.
pub struct Usual {
    pub gate: Gate,
    pub service: Service,
    /// Alice's: every scope, the role `member`, no tier.
    pub member: String,
    /// Every scope, no role.
    pub writer: String,
    /// No scope at all.
    pub poor: String,
    pub expired: String,
    pub revoked: String,
    pub suspended: String,
    /// Good from another network.
    pub elsewhere: String,
    /// Of another gateway, for another environment.
    pub foreign: String,
    pub alices: Signer,
    pub bobs: Signer,
    /// Holds for a minute, which is over.
    pub expired_signer: Signer,
    pub revoked_signer: Signer,
    pub elsewhere_signer: Signer,
}

impl Usual {
    pub fn new() -> Self {
        let service = Service::ok();
        let gate = plan(&service).start();
        let foreign = {
            let other = plan(&service).extra("[keys]\nenvironment = \"other\"\n").start();
            other.key(r#""name":"f","subject":"alice""#)
        };
        let revoked = gate.keys(r#"{"do":"create","template":{"name":"r","subject":"alice"}}"#);
        gate.keys(&format!(r#"{{"do":"revoke","id":{}}}"#, revoked["id"]));
        let suspended = gate.keys(r#"{"do":"create","template":{"name":"s","subject":"alice"}}"#);
        gate.keys(&format!(r#"{{"do":"suspend","id":{}}}"#, suspended["id"]));
        let revoked_signer = signer(&gate, r#""name":"r","subject":"alice""#);
        gate.keys(&format!(r#"{{"do":"revoke","id":"{}"}}"#, revoked_signer.id));
        let usual = Self {
            member: gate.key(r#""name":"m","subject":"alice","roles":["member"],"scopes":["things:read","things:write"]"#),
            writer: gate.key(r#""name":"w","subject":"alice","scopes":["things:read","things:write"]"#),
            poor: gate.key(r#""name":"p","subject":"bob""#),
            expired: gate.key(r#""name":"e","subject":"alice","expires_in_s":60"#),
            revoked: revoked["secret"].as_str().unwrap().to_owned(),
            suspended: suspended["secret"].as_str().unwrap().to_owned(),
            elsewhere: gate.key(r#""name":"n","subject":"alice","networks":["10.0.0.0/8"]"#),
            foreign,
            alices: signer(&gate, r#""name":"s","subject":"alice""#),
            bobs: signer(&gate, r#""name":"s","subject":"bob""#),
            expired_signer: signer(&gate, r#""name":"e","subject":"alice","expires_in_s":60"#),
            revoked_signer,
            elsewhere_signer: signer(&gate, r#""name":"n","subject":"alice","networks":["10.0.0.0/8"]"#),
            gate,
            service,
        };
        usual.gate.hand.advance(Duration::from_secs(61));
        usual
    }

    fn get(&self, target: &str) -> Vec<u8> {
        bearer(target, &self.member)
    }

    /// A request of the member; `rest` is its further header lines, and perhaps its body.
    fn request(&self, method: &str, target: &str, rest: &str) -> Vec<u8> {
        let end = if rest.contains("\r\n\r\n") { "" } else { "\r\n" };
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{rest}{end}", self.member).into()
    }

    fn post(&self, target: &str, content_type: &str, body: &str) -> Vec<u8> {
        post_as(&self.member, target, content_type, body)
    }

    fn call(&self, target: &str, body: &str) -> Vec<u8> {
        self.post(target, "application/json", body)
    }

    fn json(&self, body: &str) -> Vec<u8> {
        self.post("/v1/things", "application/json", body)
    }

    fn chunked(&self, target: &str, body: &str) -> Vec<u8> {
        self.request(
            "POST",
            target,
            &format!("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
        )
    }
}

/// The usual gate, to be started.
pub fn plan(service: &Service) -> Plan {
    Plan::new(service.address, POLICY).file("more.toml", MORE).file("schemas/thing.json", SCHEMA)
}

/// A GET without credentials, with these header lines.
pub fn get(target: &str, lines: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into()
}

/// A GET with a key.
pub fn bearer(target: &str, key: &str) -> Vec<u8> {
    get(target, &format!("Authorization: Bearer {key}\r\n"))
}

fn post_as(key: &str, target: &str, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into()
}

/// The key with its last character changed.
pub fn mistyped(key: &str) -> String {
    let (begin, last) = key.split_at(key.len() - 1);
    format!("{begin}{}", if last == "A" { "B" } else { "A" })
}

pub fn content_digest(body: &str) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest::digest(&digest::SHA256, body.as_bytes())))
}

/// A signing secret. It signs by RFC 9421 alone, with no line of the gateway's code.
#[derive(Clone)]
pub struct Signer {
    pub id: String,
    pub secret: String,
}

/// What a signature is over, and on what terms.
#[derive(Clone)]
pub struct Signing<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub body: Option<&'a str>,
    pub trailers: &'a [(&'a str, &'a str)],
    pub covers: &'a [&'a str],
    pub created: u64,
    pub algorithm: &'a str,
    pub nonce: String,
}

impl<'a> Signing<'a> {
    /// All that is demanded of a request without a body, now, with a nonce of its own.
    pub fn of(method: &'a str, target: &'a str) -> Self {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self {
            method,
            target,
            body: None,
            trailers: &[],
            covers: &["@method", "@authority", "@path", "@query"],
            created: NOW_S,
            algorithm: "hmac-sha256",
            nonce: format!("nonce-{count:08}"),
        }
    }
}

impl Signer {
    /// The header lines that sign a request to `localhost`.
    pub fn sign(&self, signing: &Signing<'_>) -> String {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(&self.secret).unwrap());
        self.sign_by(signing, "localhost", |base| hmac::sign(&secret, base).as_ref().to_vec())
    }

    /// The same for another host, by whatever makes the signature of a base.
    pub fn sign_by(
        &self,
        signing: &Signing<'_>,
        authority: &str,
        by: impl Fn(&[u8]) -> Vec<u8>,
    ) -> String {
        let Signing { method, target, body, trailers, covers, created, algorithm, nonce } = signing;
        let trailer = |name| trailers.iter().find(|(own, _)| *own == name).unwrap().1;
        // A name in quotes, and its parameters behind.
        let identifier = |component: &str| match component.split_once(';') {
            Some((name, parameters)) => format!("\"{name}\";{parameters}"),
            None => format!("\"{component}\""),
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let digest = body.map(content_digest);
        let mut base = String::new();
        for component in *covers {
            let value = match *component {
                "@method" => (*method).to_owned(),
                "@authority" => authority.to_owned(),
                "@path" => path.to_owned(),
                "@query" => format!("?{query}"),
                "content-type" => "application/json".to_owned(),
                "content-digest" => digest.clone().unwrap(),
                other => match other.split_once(';').expect("nobody covers this") {
                    (name, "tr") => trailer(name).to_owned(),
                    (name, "bs;tr") => format!(":{}:", STANDARD.encode(trailer(name))),
                    _ => panic!("nobody covers {other}"),
                },
            };
            base.push_str(&format!("{}: {value}\n", identifier(component)));
        }
        let list: Vec<String> = covers.iter().map(|component| identifier(component)).collect();
        let list = list.join(" ");
        let id = &self.id;
        let terms = format!(
            "({list});created={created};nonce=\"{nonce}\";keyid=\"{id}\";alg=\"{algorithm}\""
        );
        base.push_str(&format!("\"@signature-params\": {terms}"));
        let digest =
            digest.map(|digest| format!("Content-Digest: {digest}\r\n")).unwrap_or_default();
        format!(
            "{digest}Signature-Input: sig={terms}\r\nSignature: sig=:{}:\r\n",
            STANDARD.encode(by(base.as_bytes()))
        )
    }
}

fn signer(gate: &Gate, facts: &str) -> Signer {
    let (id, secret) = gate.signing_key(facts);
    Signer { id, secret }
}

fn head_timeout() -> Staged {
    let gate =
        plan(&Service::ok()).listener("[listener.bounds]\nheader_timeout = \"100ms\"\n").start();
    let reply = gate.send("GET /v1/open HTTP/1.1\r\nHost: local");
    Staged { gate, reply: Some(reply) }
}

fn plaintext() -> Staged {
    let gate = plan(&Service::ok()).start();
    let reply = over(gate.tls(), &get("/v1/open", ""));
    Staged { gate, reply }
}

fn banned() -> Staged {
    let gate = plan(&Service::ok()).start();
    let ban = gate.ask_admin(
        "POST",
        "/v1/bans",
        r#"{"network":"127.0.0.0/8","seconds":60,"why":"test"}"#,
    );
    assert_eq!(ban.status, 200, "{ban:?}");
    let reply = gate.send_bytes(&get("/v1/open", ""));
    Staged { gate, reply: Some(reply) }
}

fn canary() -> Staged {
    let gate = plan(&Service::ok()).start();
    let key = gate.key(r#""name":"trap","subject":"nobody","canary":true"#);
    let reply = gate.send_bytes(&bearer("/v1/things", &key));
    Staged { gate, reply: Some(reply) }
}

fn replayed() -> Staged {
    let gate = plan(&Service::ok()).start();
    let signer = signer(&gate, r#""name":"s","subject":"alice""#);
    let signing = Signing { created: NOON_MS / 1000, ..Signing::of("GET", "/v1/signed") };
    let request = get("/v1/signed", &signer.sign(&signing));
    assert_eq!(gate.send_bytes(&request).status, 200);
    let reply = gate.send_bytes(&request);
    Staged { gate, reply: Some(reply) }
}

fn nonces_full() -> Staged {
    let gate = plan(&Service::ok()).extra("nonces_max = 1\n").start();
    let signer = signer(&gate, r#""name":"s","subject":"alice""#);
    let request = || {
        let signing = Signing { created: NOON_MS / 1000, ..Signing::of("GET", "/v1/signed") };
        get("/v1/signed", &signer.sign(&signing))
    };
    assert_eq!(gate.send_bytes(&request()).status, 200);
    let reply = gate.send_bytes(&request());
    Staged { gate, reply: Some(reply) }
}

fn failures_spent() -> Staged {
    let policy = POLICY
        .replace("{ burst = 1000, refill = \"1000/min\" }", "{ burst = 1, refill = \"1/min\" }");
    let gate = Gate::new(Service::ok().address, &policy);
    assert_eq!(gate.get("/v1/things", "not-a-key").status, 401);
    let reply = gate.get("/v1/things", "not-a-key");
    assert_eq!(
        gate.get("/v1/things", &gate.first_key()).status,
        200,
        "a good credential still passes"
    );
    Staged { gate, reply: Some(reply) }
}

fn address_spent() -> Staged {
    let policy = POLICY
        .replace("burst              = 100000", "burst = 1")
        .replace("refill             = \"100000/s\"", "refill = \"1/min\"");
    let gate = Gate::new(Service::ok().address, &policy);
    assert_eq!(gate.send_bytes(&get("/v1/open", "")).status, 200);
    let reply = gate.send_bytes(&get("/v1/open", ""));
    Staged { gate, reply: Some(reply) }
}

fn budget_spent() -> Staged {
    let gate = plan(&Service::ok()).start();
    let key = gate.first_key();
    for left in [2, 1, 0] {
        let reply = gate.get("/v1/limited", &key);
        assert_eq!(
            reply.header("x-ratelimit-remaining"),
            Some(left.to_string().as_str()),
            "{reply:?}"
        );
    }
    let reply = gate.get("/v1/limited", &key);
    Staged { gate, reply: Some(reply) }
}

fn buckets_full() -> Staged {
    let gate = plan(&Service::ok()).extra("buckets_max = 1\n").start();
    let key = gate.first_key();
    let reply = gate.get("/v1/things", &key);
    Staged { gate, reply: Some(reply) }
}

fn body_timeout() -> Staged {
    let gate =
        plan(&Service::ok()).listener("[listener.bounds]\nbody_timeout = \"100ms\"\n").start();
    let request = post_as(&gate.first_key(), "/v1/things", "application/json", "{\"a\":1}");
    let reply = gate.send_bytes(&request[..request.len() - 1]);
    Staged { gate, reply: Some(reply) }
}

fn body_incomplete() -> Staged {
    let gate = plan(&Service::ok()).start();
    let request = post_as(&gate.first_key(), "/v1/things", "application/json", "{\"a\":1}");
    let mut stream = connect(gate.plain());
    std::io::Write::write_all(&mut stream, &request[..request.len() - 1]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let reply = Reply::read(&mut stream, false);
    Staged { gate, reply }
}

fn buffer_full() -> Staged {
    let gate = plan(&Service::ok()).extra("buffered_bytes_max = \"1KiB\"\n").start();
    let reply =
        gate.put("POST", "/v1/things", &gate.first_key(), &format!("\"{}\"", "a".repeat(2000)));
    Staged { gate, reply: Some(reply) }
}

/// An address where nobody listens.
pub fn nowhere() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn unreachable() -> Staged {
    let gate = Gate::new(nowhere(), POLICY);
    let reply = gate.send_bytes(&get("/v1/open", ""));
    Staged { gate, reply: Some(reply) }
}

/// The token endpoint is not there, so nothing proves the gateway to the service.
fn no_credential() -> Staged {
    let service = Service::ok();
    let url = format!("http://{}/token", nowhere());
    let secret = "env:PATH";
    let oauth = format!(
        "credential.oauth = {{ token_url = \"{url}\", client_id = \"{secret}\", client_secret = \"{secret}\" }}\n"
    );
    let gate = Plan::new(service.address, POLICY).upstream(&oauth).start();
    let reply = gate.send_bytes(&get("/v1/open", ""));
    Staged { gate, reply: Some(reply) }
}

fn unhealthy() -> Staged {
    let gate = Plan::new(nowhere(), POLICY)
        .upstream("health = { every = \"100ms\", down_after = 1 }\n")
        .start();
    let down = || {
        gate.metrics().lines().any(|line| {
            line.starts_with("portcullis_upstream_target_healthy") && line.ends_with(" 0")
        })
    };
    wait_until("the target is found down", down);
    let reply = gate.send_bytes(&get("/v1/open", ""));
    Staged { gate, reply: Some(reply) }
}

/// Two workers with one place each: at the latest the third request that is held finds none.
fn busy() -> Staged {
    let (open, opened) = std::sync::mpsc::channel::<()>();
    let opened = std::sync::Mutex::new(opened);
    let service = Service::answering(move |_| {
        let _ = opened.lock().unwrap().recv_timeout(PATIENCE);
        String::new()
    });
    let gate =
        Plan::new(service.address, POLICY).upstream("pool = { max = 1, wait = 0 }\n").start();
    let mut held = Vec::new();
    let reply = loop {
        assert!(held.len() < 3, "three requests were forwarded at a time");
        let before = service.connections.load(std::sync::atomic::Ordering::SeqCst);
        let mut stream = connect(gate.plain());
        std::io::Write::write_all(&mut stream, &get("/v1/open", "")).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        if let Some(reply) = Reply::read(&mut stream, false) {
            break reply;
        }
        assert!(service.connections.load(std::sync::atomic::Ordering::SeqCst) > before);
        held.push(stream);
    };
    drop(open);
    Staged { gate, reply: Some(reply) }
}

fn broken() -> Staged {
    let gate = Gate::new(Service::answering(|_| "BANANA\r\n\r\n".to_owned()).address, POLICY);
    let reply = gate.send_bytes(&get("/v1/open", ""));
    Staged { gate, reply: Some(reply) }
}

fn slow() -> Service {
    Service::answering(|_| {
        std::thread::sleep(Duration::from_secs(2));
        String::new()
    })
}

fn timeout() -> Staged {
    let gate = Plan::new(slow().address, POLICY)
        .upstream("timeout = { first_byte = \"200ms\" }\n")
        .start();
    let reply = gate.send_bytes(&get("/v1/open", ""));
    Staged { gate, reply: Some(reply) }
}

fn client_left() -> Staged {
    let service = slow();
    let gate = Gate::new(service.address, POLICY);
    let mut stream = connect(gate.plain());
    std::io::Write::write_all(&mut stream, &get("/v1/open", "")).unwrap();
    wait_until("the service has the request", || !service.requests().is_empty());
    drop(stream);
    Staged { gate, reply: None }
}

/// Sends bytes over plain TCP and reads one answer.
pub fn over(address: std::net::SocketAddr, request: &[u8]) -> Option<Reply> {
    let mut stream = connect(address);
    std::io::Write::write_all(&mut stream, request).unwrap();
    Reply::read(&mut stream, false)
}

/// Waits for something that must soon be so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Provokes every reason that a socket can provoke, and shows each with its gate and the answer;
/// the number is how often it had been counted before.
pub fn provoke(usual: &Usual, mut visit: impl FnMut(&Row, &Gate, Option<&Reply>, f64)) {
    for row in rows() {
        match &row.5 {
            Sent(request) => {
                let before = refused(&usual.gate, row);
                let reply = usual.gate.send_bytes(&request(usual));
                visit(row, &usual.gate, Some(&reply), before);
            }
            Stage(stage) => {
                let staged = stage();
                visit(row, &staged.gate, staged.reply.as_ref(), 0.0);
            }
            Not(_) => {}
        }
    }
}

/// How often a reason was counted, over all routes, by its own stage.
fn refused(gate: &Gate, row: &Row) -> f64 {
    let (reason, stage) = (format!("reason=\"{}\"", row.0), format!("stage=\"{}\"", row.3));
    let metrics = gate.metrics();
    let counted = metrics.lines().filter(|line| {
        line.starts_with("portcullis_decisions_total{")
            && line.contains(&reason)
            && line.contains(&stage)
            && line.contains("decision=\"refuse\"")
            && line.contains("mode=\"enforce\"")
    });
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// The one record that holds this text.
pub fn record(gate: &Gate, holding: &str) -> Value {
    let log = gate.log(holding);
    let found: Vec<&str> = log.lines().filter(|line| line.contains(holding)).collect();
    assert_eq!(found.len(), 1, "records that hold {holding}, in:\n{log}");
    serde_json::from_str(found[0]).unwrap_or_else(|_| panic!("{}", found[0]))
}

/// The reason that the record has for an answer; `-` when it was no refusal.
pub fn reason_of(gate: &Gate, reply: &Reply) -> String {
    let record = record(gate, reply.header("x-request-id").unwrap_or_else(|| panic!("{reply:?}")));
    record["reason"].as_str().unwrap_or("-").to_owned()
}

const UNAUTHORIZED: &str =
    r#"{"error":{"code":"unauthorized","message":"Invalid or missing API key"}}"#;

fn check_body(row: &Row, reply: &Reply) {
    let (name, status, code, ..) = *row;
    let reason = Reason::by_name(name).unwrap();
    if status == 401 {
        assert_eq!(reply.body, UNAUTHORIZED, "{name}");
        let scheme = if name.starts_with("signature") {
            "Signature realm=\"test\""
        } else if name == "step-up-required" {
            "Bearer error=\"insufficient_user_authentication\""
        } else if name == "proof-nonce" {
            "DPoP error=\"use_dpop_nonce\""
        } else {
            "Bearer realm=\"test\""
        };
        assert!(
            reply.header("www-authenticate").is_some_and(|value| value.starts_with(scheme)),
            "{reply:?}"
        );
        return;
    }
    let body = reply.json();
    let error = body["error"].as_object().unwrap_or_else(|| panic!("{name}: {body}"));
    assert_eq!(body.as_object().unwrap().len(), 1, "{name}: {body}");
    let members: Vec<&String> = error.keys().collect();
    assert_eq!(members, ["code", "details", "message"], "{name}: {body}");
    assert_eq!(
        (error["code"].as_str(), error["message"].as_str()),
        (Some(code), Some(reason.message())),
        "{name}"
    );
    let details = error["details"].as_object().unwrap_or_else(|| panic!("{name}: {body}"));
    match status {
        422 => {
            assert!(!details.is_empty() && details.values().all(Value::is_string), "{name}: {body}")
        }
        429 => {
            assert!(details.keys().eq(["limit", "remaining", "resetAt"]), "{name}: {body}");
            assert_eq!(details["remaining"], 0, "{name}");
            assert!(
                details["resetAt"].as_str().unwrap().starts_with("2026-11-23T12:"),
                "{name}: {body}"
            );
            assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() > 0, "{name}");
            assert_eq!(reply.header("x-ratelimit-remaining"), Some("0"), "{name}");
        }
        _ => assert_eq!(body["error"]["details"], serde_json::json!({ "reason": name }), "{name}"),
    }
    assert_eq!(reply.header("allow").is_some(), status == 405, "{name}: Allow goes with 405");
}

fn check_record(row: &Row, gate: &Gate, reply: Option<&Reply>) {
    let (name, status, _, stage, rule, _) = *row;
    let wanted = match reply {
        Some(reply) => {
            reply.header("x-request-id").unwrap_or_else(|| panic!("{name}: {reply:?}")).to_owned()
        }
        None => format!("\"reason\":\"{name}\""),
    };
    let record = record(gate, &wanted);
    if reply.is_some() {
        assert_eq!(
            (record["id"].as_str(), wanted.len()),
            (Some(wanted.as_str()), 26),
            "{name}: {record}"
        );
    }
    assert_eq!(record["decision"], "refuse", "{name}: {record}");
    assert_eq!(record["reason"], name, "{record}");
    assert_eq!(record["stage"], stage, "{name}: {record}");
    assert_eq!(record["status"], status, "{name}: {record}");
    assert_eq!(record["client"], "127.0.0.1", "{name}: {record}");
    let told = record["rule"].as_str().unwrap_or_default();
    assert!(
        told.starts_with(rule) && told.is_empty() == rule.is_empty(),
        "{name} by {told:?} and not by {rule:?}"
    );
    assert!(
        rule.is_empty() || told.contains(".toml:"),
        "{name}: {told} says where the rule stands"
    );
}

#[test]
fn every_refusal_tells_the_caller_the_record_and_the_metrics_what_each_may_know() {
    let usual = Usual::new();
    let mut wrong = Vec::new();
    provoke(&usual, |row, gate, reply, before| {
        let (name, status, ..) = *row;
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if let Some(reply) = reply {
                assert_eq!(reply.status, status, "{name}: {reply:?}");
                assert_eq!(reply.header("content-type"), Some("application/json"), "{name}");
                assert_eq!(reply.header("cache-control"), Some("no-store"), "{name}");
                assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{name}");
                check_body(row, reply);
            }
            check_record(row, gate, reply);
            wait_until(&format!("{name} is counted"), || refused(gate, row) > before);
            assert_eq!(refused(gate, row), before + 1.0, "{name}");
        }));
        if checked.is_err() {
            wrong.push(name);
        }
    });
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_matrix_has_every_reason_once_and_in_the_order_of_the_way() {
    let mut stated: Vec<&str> = rows().map(|row| row.0).collect();
    let mut known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    stated.sort_unstable();
    known.sort_unstable();
    assert_eq!(stated, known);
    for (name, status, code, stage, ..) in rows() {
        let reason = Reason::by_name(name).unwrap();
        assert_eq!(
            (reason.status().as_u16(), reason.code(), reason.stage().name()),
            (*status, *code, *stage),
            "{name}"
        );
    }
}

#[test]
fn reasons_that_no_bytes_provoke_are_few_and_say_why() {
    let not: Vec<&str> = rows()
        .filter(|row| matches!(row.5, Not(why) if !why.is_empty()))
        .map(|row| row.0)
        .collect();
    assert_eq!(not, ["credential-plaintext", "keys-unavailable", "gateway-fault"]);
}

#[test]
fn who_asks_for_problem_details_gets_them_but_for_401() {
    let usual = Usual::new();
    let ask = |request: Vec<u8>| {
        let request = String::from_utf8(request).unwrap();
        usual.gate.send(&request.replacen(
            "Host: localhost\r\n",
            "Host: localhost\r\nAccept: application/problem+json\r\n",
            1,
        ))
    };
    for (request, status, reason) in [
        (usual.get("/v1/nothing"), 404, "route-unknown"),
        (bearer("/v1/things", &usual.poor), 403, "scope-missing"),
        (usual.json("{"), 400, "json-malformed"),
        (usual.post("/v1/schema", "application/json", "{}"), 422, "schema-mismatch"),
    ] {
        let reply = ask(request);
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (status, Some("application/problem+json")),
            "{reply:?}"
        );
        let problem = reply.json();
        assert_eq!(
            (problem["status"].as_u64(), problem["reason"].as_str()),
            (Some(u64::from(status)), Some(reason)),
            "{problem}"
        );
        assert_eq!(problem["requestId"].as_str(), reply.header("x-request-id"), "{problem}");
        assert_eq!(problem["title"], Reason::by_name(reason).unwrap().message());
        assert!(problem.get("error").is_none(), "{problem}");
    }
    let reply = ask(get("/v1/things", ""));
    assert_eq!((reply.status, reply.body.as_str()), (401, UNAUTHORIZED));
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

/// What becomes of requests: of each its name, its bytes, and the reason; `-` when it passes.
fn hold_against(usual: &Usual, cases: Vec<(&str, Vec<u8>, &str)>) {
    let outcomes: Vec<(&str, String)> = cases
        .iter()
        .map(|(name, request, _)| {
            let reply = usual.gate.send_bytes(request);
            assert_eq!(
                reply.status == 200,
                reason_of(&usual.gate, &reply) == "-",
                "{name}: {reply:?}"
            );
            if reply.status == 401 && !request.starts_with(b"HEAD") {
                assert_eq!(reply.body, UNAUTHORIZED, "{name}");
            }
            (*name, reason_of(&usual.gate, &reply))
        })
        .collect();
    let expected: Vec<(&str, String)> =
        cases.iter().map(|(name, _, reason)| (*name, (*reason).to_owned())).collect();
    assert_eq!(outcomes, expected);
}

#[test]
fn an_api_key_passes_only_whole_known_and_alive() {
    let usual = Usual::new();
    let key = &usual.member;
    let with = |lines: &str| get("/v1/things", lines);
    hold_against(
        &usual,
        vec![
            ("absent", with(""), "credential-missing"),
            ("good", bearer("/v1/things", key), "-"),
            (
                "good, scheme in another case",
                with(&format!("authorization: bEARER {key}\r\n")),
                "-",
            ),
            ("good, as X-API-Key", with(&format!("X-API-Key: {key}\r\n")), "-"),
            ("empty", with("Authorization: Bearer \r\n"), "credential-malformed"),
            ("no scheme", with(&format!("Authorization: {key}\r\n")), "credential-malformed"),
            ("another scheme", with("Authorization: Basic YTpi\r\n"), "credential-malformed"),
            (
                "two blanks",
                with(&format!("Authorization: Bearer  {key}\r\n")),
                "credential-malformed",
            ),
            (
                "two keys in a line",
                with(&format!("Authorization: Bearer {key}, {key}\r\n")),
                "credential-malformed",
            ),
            ("mistyped", bearer("/v1/things", &mistyped(key)), "credential-malformed"),
            ("cut", bearer("/v1/things", &key[..key.len() - 1]), "credential-malformed"),
            ("too long", bearer("/v1/things", &"a".repeat(513)), "credential-malformed"),
            ("unknown", bearer("/v1/things", &"a".repeat(40)), "credential-unknown"),
            ("expired", bearer("/v1/things", &usual.expired), "credential-expired"),
            ("revoked", bearer("/v1/things", &usual.revoked), "credential-revoked"),
            ("wrong network", bearer("/v1/things", &usual.elsewhere), "credential-network"),
            ("wrong environment", bearer("/v1/things", &usual.foreign), "credential-environment"),
            (
                "a signing secret as a key",
                bearer("/v1/things", &usual.alices.secret),
                "credential-unknown",
            ),
            ("an unknown path of a stranger", get("/v1/nothing", ""), "credential-missing"),
            (
                "another method of a stranger",
                b"DELETE /v1/things HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
                "credential-missing",
            ),
        ],
    );
}

#[test]
fn an_api_key_is_shown_once_and_never_in_a_url_or_to_the_service() {
    let usual = Usual::new();
    let key = &usual.member;
    let with = |lines: &str| get("/v1/things", lines);
    hold_against(
        &usual,
        vec![
            ("good", bearer("/v1/things", key), "-"),
            ("good, as X-API-Key", with(&format!("X-API-Key: {key}\r\n")), "-"),
            ("good, where none is wanted", bearer("/v1/open", key), "-"),
            (
                "twice in one header",
                with(&format!("Authorization: Bearer {key}\r\nAuthorization: Bearer {key}\r\n")),
                "credential-repeated",
            ),
            (
                "twice in the other header",
                with(&format!("X-API-Key: {key}\r\nX-API-Key: {key}\r\n")),
                "credential-repeated",
            ),
            (
                "in both headers",
                with(&format!("X-API-Key: {key}\r\nAuthorization: Bearer {key}\r\n")),
                "credential-repeated",
            ),
            (
                "good and bad",
                with(&format!("X-API-Key: nothing\r\nAuthorization: Bearer {key}\r\n")),
                "credential-repeated",
            ),
            ("in the query", get(&format!("/v1/things?key={key}"), ""), "credential-in-query"),
            (
                "in the query and in the header",
                bearer(&format!("/v1/things?key={key}"), key),
                "credential-in-query",
            ),
        ],
    );
    assert_eq!(usual.service.requests().len(), 3);
    for request in usual.service.requests() {
        assert!(
            !request.contains(key.as_str()) && !request.to_lowercase().contains("x-api-key"),
            "{request}"
        );
    }
}

/// A GET with a query that is signed so.
fn signed(signer: &Signer, signing: &Signing<'_>) -> Vec<u8> {
    get("/v1/signed?a=1", &signer.sign(signing))
}

fn signing() -> Signing<'static> {
    Signing::of("GET", "/v1/signed?a=1")
}

#[test]
fn a_signature_passes_only_over_all_that_is_demanded_and_as_it_was_made() {
    const WITH_BODY: [&str; 6] =
        ["@method", "@authority", "@path", "@query", "content-type", "content-digest"];
    let usual = Usual::new();
    let alice = &usual.alices;
    let body = "{\"a\":1}";
    let post = |covers: &[&str], sent: &str| {
        let signing = Signing { body: Some(body), covers, ..Signing::of("POST", "/v1/signed") };
        let (lines, length) = (alice.sign(&signing), sent.len());
        format!(
            "POST /v1/signed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             {lines}Content-Length: {length}\r\n\r\n{sent}"
        )
        .into_bytes()
    };
    let covering = |covers: &[&str]| signed(alice, &Signing { covers, ..signing() });
    let whole = String::from_utf8(signed(alice, &signing())).unwrap();
    let twice = ["@method", "@authority", "@path", "@query", "@method"];
    hold_against(
        &usual,
        vec![
            ("absent", get("/v1/signed", ""), "signature-missing"),
            ("an API key in its stead", bearer("/v1/signed", &usual.member), "signature-missing"),
            ("good", signed(alice, &signing()), "-"),
            ("good, with a body", post(&WITH_BODY, body), "-"),
            ("another body", post(&WITH_BODY, "{\"a\":2}"), "digest-mismatch"),
            ("the digest not covered", post(&WITH_BODY[..5], body), "signature-coverage"),
            ("the query not covered", covering(&twice[..3]), "signature-coverage"),
            ("nothing covered", covering(&[]), "signature-coverage"),
            ("a component twice", covering(&twice), "signature-malformed"),
            ("another method", whole.replacen("GET", "HEAD", 1).into_bytes(), "signature-wrong"),
            ("another query", whole.replacen("a=1", "a=2", 1).into_bytes(), "signature-wrong"),
            (
                "another path",
                whole.replacen("signed", "limited", 1).into_bytes(),
                "credential-missing",
            ),
        ],
    );
}

#[test]
fn a_signature_passes_only_by_a_key_that_holds_and_only_once_while_it_is_fresh() {
    let usual = Usual::new();
    let alice = &usual.alices;
    let good = signed(alice, &signing());
    let called = |id: &str| signed(&Signer { id: id.to_owned(), ..alice.clone() }, &signing());
    let made = |created: u64| signed(alice, &Signing { created, ..signing() });
    let by = |algorithm: &str| signed(alice, &Signing { algorithm, ..signing() });
    let others = Signer { id: alice.id.clone(), ..usual.bobs.clone() };
    let short = signed(alice, &Signing { nonce: "short".into(), ..signing() });
    hold_against(
        &usual,
        vec![
            ("good", good.clone(), "-"),
            ("replayed", good, "signature-replayed"),
            ("another key's secret", signed(&others, &signing()), "signature-wrong"),
            ("unknown key", called("unknown1"), "signature-key-unknown"),
            ("an API key's id", called(&usual.member[8..16]), "signature-key-unknown"),
            ("no key's id", called(""), "signature-malformed"),
            ("another algorithm", by("none"), "signature-algorithm"),
            ("no algorithm's name", by(""), "signature-malformed"),
            ("as old as may be", made(NOW_S - 60), "-"),
            ("older", made(NOW_S - 61), "signature-expired"),
            ("as far ahead as may be", made(NOW_S + 5), "-"),
            ("further ahead", made(NOW_S + 6), "signature-future"),
            ("from the beginning of time", made(0), "signature-expired"),
            ("a short nonce", short, "signature-malformed"),
            ("expired key", signed(&usual.expired_signer, &signing()), "credential-expired"),
            ("revoked key", signed(&usual.revoked_signer, &signing()), "credential-revoked"),
            ("wrong network", signed(&usual.elsewhere_signer, &signing()), "credential-network"),
        ],
    );
}

#[test]
fn a_signature_is_one_and_well_formed() {
    let usual = Usual::new();
    let lines = usual.alices.sign(&signing());
    let alone = lines.split_once("Signature: ").unwrap().0;
    let renamed = lines.replacen("sig=", "other=", 1);
    let second = lines.replace("sig=", "two=");
    let cut = format!("{}:\r\n", &lines[..lines.len() - "abc=:\r\n".len()]);
    let with = |lines: &str| get("/v1/signed?a=1", lines);
    hold_against(
        &usual,
        vec![
            ("no Signature", with(alone), "signature-malformed"),
            ("labels that do not agree", with(&renamed), "signature-malformed"),
            (
                "no dictionary",
                with("Signature-Input: (\r\nSignature: )\r\n"),
                "signature-malformed",
            ),
            ("a label twice", with(&format!("{lines}{lines}")), "signature-malformed"),
            ("two signatures", with(&format!("{lines}{second}")), "signature-malformed"),
            ("a MAC that was cut", with(&cut), "signature-wrong"),
            ("good after all", with(&lines), "-"),
        ],
    );
}

#[test]
fn two_kinds_of_credential_must_both_be_good_and_of_one_owner() {
    let usual = Usual::new();
    let key = |key: &str| format!("Authorization: Bearer {key}\r\n");
    let signature = |signer: &Signer| signer.sign(&Signing::of("GET", "/v1/both"));
    let both = |one: String, other: String| get("/v1/both", &format!("{one}{other}"));
    hold_against(
        &usual,
        vec![
            ("both", both(key(&usual.member), signature(&usual.alices)), "-"),
            ("neither", get("/v1/both", ""), "credential-missing"),
            ("the key alone", get("/v1/both", &key(&usual.member)), "signature-missing"),
            (
                "the signature alone",
                get("/v1/both", &signature(&usual.alices)),
                "credential-missing",
            ),
            (
                "two owners",
                both(key(&usual.member), signature(&usual.bobs)),
                "credential-owner-mismatch",
            ),
            (
                "a revoked key",
                both(key(&usual.revoked), signature(&usual.alices)),
                "credential-revoked",
            ),
            (
                "a revoked secret",
                both(key(&usual.member), signature(&usual.revoked_signer)),
                "credential-revoked",
            ),
        ],
    );
}

#[test]
fn a_401_asks_for_what_was_wanted() {
    let usual = Usual::new();
    let ask = |request: Vec<u8>| usual.gate.send_bytes(&request);
    let covers = "sig1=(\"@method\" \"@authority\" \"@path\" \"@query\"";
    for (request, challenge, signature) in [
        (get("/v1/things", ""), "Bearer realm=\"test\"", false),
        (
            bearer("/v1/things", &usual.expired),
            "Bearer realm=\"test\", error=\"invalid_token\"",
            false,
        ),
        (get("/v1/signed", ""), "Signature realm=\"test\"", true),
        (
            get("/v1/signed", "Signature-Input: (\r\nSignature: (\r\n"),
            "Signature realm=\"test\", error=\"invalid_token\"",
            true,
        ),
        (get("/v1/both", ""), "Bearer realm=\"test\"", true),
        (get("/v1/nothing", ""), "Bearer realm=\"test\"", false),
    ] {
        let reply = ask(request);
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some(challenge)));
        let wanted = reply.header("accept-signature");
        assert_eq!(wanted.is_some_and(|value| value.starts_with(covers)), signature, "{reply:?}");
        // A request without a body has nothing to digest.
        assert_eq!(reply.header("want-content-digest"), None, "{reply:?}");
    }
}
