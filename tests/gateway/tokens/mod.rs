//! Tokens of issuers: every way in which one can be wrong, over both versions of HTTP.

pub mod issuer;
mod issuers;
mod independent;
mod keys;
pub mod introspection;
mod ends;
mod dpop_nonce;

use std::net::SocketAddr;

use serde_json::{Value, json};

use self::issuer::{Issuer, Signer};
use crate::harness::{Gate, NOON_MS, Plan, Reply, Service};
use crate::http2;
use crate::refusals::{Staged, reason_of};

pub const POLICY: &str = include_str!("policy.toml");
pub const NOW_S: u64 = NOON_MS / 1000;
pub const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef";

/// A gate that believes an issuer, and whom it asks about opaque tokens.
pub struct Bed {
    pub gate: Gate,
    pub issuer: Issuer,
    pub asked: Service,
    pub key: String,
}

impl Bed {
    pub fn new() -> Self {
        Self::with(introspection::endpoint())
    }

    pub fn with(asked: Service) -> Self {
        Self::in_front(Service::ok().address, asked, "")
    }

    /// In front of this service, with more routes.
    fn in_front(service: SocketAddr, asked: Service, routes: &str) -> Self {
        Self::by(&format!("{POLICY}{routes}"), service, asked)
    }

    /// By another policy.
    fn by(policy: &str, service: SocketAddr, asked: Service) -> Self {
        let issuer = Issuer::new();
        let policy = policy.replace("ISSUER", &asked.address.port().to_string());
        let gate = Plan::new(service, &policy)
            .file("keys.json", &issuer.key_set().to_string())
            .secret("shared.secret", SECRET)
            .start();
        let key = gate.key(r#""name":"k","subject":"alice","scopes":["things:read"]"#);
        Self { gate, issuer, asked, key }
    }

    /// A request with these header lines, over HTTP/1.1.
    pub fn get(&self, path: &str, lines: &[(&str, String)]) -> Reply {
        let lines: String =
            lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.gate.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"))
    }

    /// The same over HTTP/2.
    fn get2(&self, path: &str, lines: &[(&str, String)]) -> Reply {
        let mut request = http2::request("GET", path);
        for (name, value) in lines {
            request = request.header(*name, value);
        }
        http2::ask(&self.gate, request, b"")
    }

    /// The token of somebody who may do everything here.
    pub fn token(&self) -> String {
        self.issuer.mint(&self.issuer.es, json!({}), claims())
    }

    fn with_claims(&self, change: Value) -> String {
        self.issuer.mint(&self.issuer.es, json!({}), merged(claims(), change))
    }

    fn with_header(&self, change: Value) -> String {
        self.issuer.mint(&self.issuer.es, change, claims())
    }
}

/// What a good token says.
pub fn claims() -> Value {
    json!({
        "iss": "https://id.example.com/", "aud": ["https://other.example.com", "https://api.example.com"],
        "sub": "alice", "exp": NOW_S + 300, "iat": NOW_S - 10, "nbf": NOW_S - 10, "jti": "token-1", "sid": "session-1",
        "auth_time": NOW_S - 60, "scope": "openid things:read unheard:of", "roles": ["member", "unheard-of"], "tier": "pro",
        "acr": "urn:example:loa:mfa", "amr": ["pwd", "otp"], "department": "sales", "level": 3, "staff": true,
    })
}

/// The first object with the members of the second; `null` takes one away.
pub fn merged(mut claims: Value, change: Value) -> Value {
    let members = claims.as_object_mut().unwrap();
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.clone(), value.clone())),
        }
    }
    claims
}

pub fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

/// A case: its name, the path, the header lines, and the reason that the record must have.
type Case = (&'static str, &'static str, Vec<(&'static str, String)>, &'static str);

/// What is wrong with the form of tokens, each named after the rule or the flaw.
#[expect(clippy::too_many_lines, reason = "one table")]
fn form(bed: &Bed) -> Vec<Case> {
    let good = bed.token();
    let parts: Vec<&str> = good.split('.').collect();
    let raw = |header: &str| bed.issuer.mint_raw(&bed.issuer.es, header, &claims().to_string());
    let es = &bed.issuer.es;
    let pem = bed.issuer.es.public.clone();
    let hmac = Signer::shared(&pem);
    let twice = claims().to_string().replacen("{", "{\"sub\":\"bob\",", 1);
    let token = |name, token: String, reason| (name, "/v1/things", vec![bearer(&token)], reason);
    let header = |change: Value| bed.with_header(change);
    vec![
        token("good", good.clone(), "-"),
        token("good again, from the cache", good.clone(), "-"),
        token("good, EdDSA", bed.issuer.mint(&bed.issuer.ed, json!({}), claims()), "-"),
        token("good, without typ", header(json!({"typ": null})), "-"),
        token("good, typ at+jwt", header(json!({"typ": "application/at+JWT"})), "-"),
        token("two parts", parts[..2].join("."), "credential-malformed"),
        token("five parts (a JWE)", format!("{good}.a.b"), "credential-malformed"),
        token("padding", format!("{good}="), "token-malformed"),
        token("no signature", format!("{}.{}.", parts[0], parts[1]), "token-wrong"),
        token(
            "CVE-2026-39999: HS256 keyed with the public key",
            bed.issuer.mint(&hmac, json!({"kid": "es"}), claims()),
            "token-algorithm",
        ),
        token(
            "RFC 8725 3.1: alg none",
            format!("{}.{}.", issuer::encode(br#"{"alg":"none"}"#), parts[1]),
            "token-algorithm",
        ),
        token("RFC 8725 3.1: alg None", header(json!({"alg": "None"})), "token-algorithm"),
        token("RFC 8725 3.1: alg nOnE", header(json!({"alg": "nOnE"})), "token-algorithm"),
        token("alg empty", header(json!({"alg": ""})), "token-algorithm"),
        token("alg missing", header(json!({"alg": null})), "token-malformed"),
        token("alg in lower case", header(json!({"alg": "es256"})), "token-algorithm"),
        token("alg of another key", header(json!({"alg": "EdDSA"})), "token-algorithm"),
        token("another key's kid", header(json!({"kid": "ed"})), "token-algorithm"),
        token("unknown kid", header(json!({"kid": "nobody"})), "token-key-unknown"),
        token("kid of another type", header(json!({"kid": 7})), "token-malformed"),
        token("no kid, and one key fits", header(json!({"kid": null})), "-"),
        token(
            "CVE-2018-0114: the key in the header",
            bed.issuer.mint(
                &Signer::ecdsa("evil"),
                json!({"kid": "es", "jwk": Signer::ecdsa("evil").jwk()}),
                claims(),
            ),
            "token-wrong",
        ),
        token(
            "jku and x5u are not followed",
            header(
                json!({"jku": "http://127.0.0.1:9/", "x5u": "http://127.0.0.1:9/", "x5c": ["AA"]}),
            ),
            "-",
        ),
        token("RFC 7515 4.1.11: crit", header(json!({"crit": ["exp"]})), "token-malformed"),
        token("RFC 7797: b64", header(json!({"b64": false})), "token-malformed"),
        token("zip", header(json!({"zip": "DEF"})), "token-malformed"),
        token("RFC 7519 5.2: nested", header(json!({"cty": "JWT"})), "token-malformed"),
        token("RFC 8725 3.11: another typ", header(json!({"typ": "secevent+jwt"})), "token-type"),
        token("an ID of a proof as a token", header(json!({"typ": "dpop+jwt"})), "token-type"),
        token(
            "a header member twice",
            raw(r#"{"alg":"ES256","alg":"ES256","kid":"es"}"#),
            "token-malformed",
        ),
        token("a header that is no object", raw(r#"["ES256"]"#), "token-malformed"),
        token(
            "a claim twice",
            bed.issuer.mint_raw(es, r#"{"alg":"ES256","kid":"es"}"#, &twice),
            "token-malformed",
        ),
        token(
            "claims that are no object",
            bed.issuer.mint_raw(es, r#"{"alg":"ES256","kid":"es"}"#, "[]"),
            "token-malformed",
        ),
        token(
            "signed by another key",
            bed.issuer.mint(&Signer::ecdsa("es"), json!({}), claims()),
            "token-wrong",
        ),
        token(
            "claims changed",
            format!(
                "{}.{}.{}",
                parts[0],
                issuer::encode(merged(claims(), json!({"sub": "bob"})).to_string().as_bytes()),
                parts[2]
            ),
            "token-wrong",
        ),
        token(
            "a longer token than is read",
            bed.with_claims(json!({"pad": "a".repeat(7000)})),
            "token-malformed",
        ),
    ]
}

/// What is wrong with what tokens say.
fn content(bed: &Bed) -> Vec<Case> {
    let said = |name, change: Value, reason| {
        (name, "/v1/things", vec![bearer(&bed.with_claims(change))], reason)
    };
    vec![
        said(
            "CVE-2026-25537: exp as a text",
            json!({"exp": (NOW_S + 300).to_string()}),
            "token-malformed",
        ),
        said("CVE-2026-25537: nbf as a text", json!({"nbf": "0"}), "token-malformed"),
        said("iat as a text", json!({"iat": "0"}), "token-malformed"),
        said("auth_time as a text", json!({"auth_time": "0"}), "token-malformed"),
        said("exp missing", json!({"exp": null}), "token-malformed"),
        said("exp negative", json!({"exp": -1}), "token-malformed"),
        said("exp too large", json!({"exp": 1e300}), "token-malformed"),
        said("exp with a fraction", json!({"exp": NOW_S as f64 + 0.5}), "-"),
        said("expired, within the skew", json!({"exp": NOW_S - 29}), "-"),
        said("expired", json!({"exp": NOW_S - 30}), "token-expired"),
        said("not yet, within the skew", json!({"nbf": NOW_S + 30}), "-"),
        said("not yet", json!({"nbf": NOW_S + 31}), "token-future"),
        said("issued ahead", json!({"iat": NOW_S + 31}), "token-future"),
        said("as long as may be", json!({"iat": NOW_S, "exp": NOW_S + 86_400}), "-"),
        said("too long", json!({"iat": NOW_S, "exp": NOW_S + 86_401}), "token-expired"),
        said("too long, without iat", json!({"iat": null, "exp": NOW_S + 86_401}), "token-expired"),
        said("an old session", json!({"auth_time": NOW_S - 8 * 3600 - 1}), "token-expired"),
        said("a session of unknown age", json!({"auth_time": null}), "token-expired"),
        said("another issuer", json!({"iss": "https://id.example.com"}), "token-issuer"),
        said("no issuer", json!({"iss": null}), "token-issuer"),
        said("issuer in a list", json!({"iss": ["https://id.example.com/"]}), "token-issuer"),
        said("audience as a text", json!({"aud": "https://api.example.com"}), "-"),
        said("another audience", json!({"aud": "https://other.example.com"}), "token-audience"),
        said("no audience", json!({"aud": null}), "token-audience"),
        said("audience of another type", json!({"aud": 7}), "token-malformed"),
        said("nobody's", json!({"sub": null}), "token-malformed"),
        said("subject empty", json!({"sub": ""}), "token-malformed"),
        said("subject of another type", json!({"sub": 7}), "token-malformed"),
        said("jti of another type", json!({"jti": 7}), "token-malformed"),
        said("RFC 7800: bound to what is unknown", json!({"cnf": {"kid": "x"}}), "token-unbound"),
        said("RFC 7800: bound to nothing", json!({"cnf": {}}), "token-unbound"),
        said(
            "RFC 8705: bound to a certificate, none shown",
            json!({"cnf": {"x5t#S256": issuer::encode(&[7; 32])}}),
            "token-unbound",
        ),
        said(
            "RFC 9449: bound to a key, as a bearer",
            json!({"cnf": {"jkt": "x"}}),
            "token-unbound",
        ),
        said("no scope", json!({"scope": null}), "scope-missing"),
        said("scopes as a list in scp", json!({"scope": null, "scp": ["things:read"]}), "-"),
        said("scopes with commas", json!({"scope": "openid,things:read"}), "scope-missing"),
    ]
}

/// Where tokens meet keys and doors.
#[expect(clippy::too_many_lines, reason = "one table")]
fn meeting(bed: &Bed) -> Vec<Case> {
    let (good, key) = (bed.token(), &bed.key);
    let bad = bed.with_claims(json!({"exp": 1}));
    let plain = ("x-api-key", key.clone());
    let sensitive = |name, change: Value, reason| {
        (name, "/v1/sensitive", vec![bearer(&bed.with_claims(change))], reason)
    };
    let department = |name, change: Value, reason| {
        (name, "/v1/department", vec![bearer(&bed.with_claims(change))], reason)
    };
    let bob = bed.with_claims(json!({"sub": "bob"}));
    let shared = Signer::shared(SECRET.as_bytes());
    let access = merged(claims(), json!({"iss": "https://shared.example.com", "client_id": "app"}));
    let hs = |header: Value, change: Value| {
        bearer(&bed.issuer.mint(&shared, header, merged(access.clone(), change)))
    };
    vec![
        ("nothing", "/v1/things", vec![], "credential-missing"),
        ("a key", "/v1/things", vec![bearer(key)], "-"),
        ("a key and a token", "/v1/things", vec![plain.clone(), bearer(&good)], "-"),
        (
            "a key and an expired token",
            "/v1/things",
            vec![plain.clone(), bearer(&bad)],
            "token-expired",
        ),
        (
            "a key and another's token",
            "/v1/things",
            vec![plain.clone(), bearer(&bob)],
            "credential-owner-mismatch",
        ),
        ("two tokens", "/v1/things", vec![bearer(&good), bearer(&good)], "credential-repeated"),
        (
            "a token and a key in one header each",
            "/v1/things",
            vec![bearer(key), bearer(&good)],
            "credential-repeated",
        ),
        ("a token where only keys are", "/v1/key", vec![bearer(&good)], "credential-malformed"),
        (
            "a key and a token where only keys are",
            "/v1/key",
            vec![plain.clone(), bearer(&good)],
            "credential-repeated",
        ),
        ("a key where only tokens are", "/v1/token", vec![bearer(key)], "token-malformed"),
        (
            "Basic where only tokens are",
            "/v1/token",
            vec![("authorization", "Basic dTpw".into())],
            "credential-malformed",
        ),
        ("role and tier of a token", "/v1/token", vec![bearer(&good)], "-"),
        ("both are asked for", "/v1/both", vec![plain.clone(), bearer(&good)], "-"),
        ("both are asked for, and one is missing", "/v1/both", vec![plain], "credential-missing"),
        ("an unknown path with a token", "/v1/nothing", vec![bearer(&good)], "route-unknown"),
        ("an unknown path with a bad token", "/v1/nothing", vec![bearer(&bad)], "token-expired"),
        ("keys that were never there", "/v1/away", vec![bearer(&good)], "token-keys-missing"),
        (
            "RFC 9068: an access token",
            "/v1/shared",
            vec![hs(json!({"typ": "at+jwt", "kid": null}), json!({}))],
            "-",
        ),
        ("RFC 9068: no typ", "/v1/shared", vec![hs(json!({"typ": null}), json!({}))], "token-type"),
        (
            "RFC 9068: typ JWT",
            "/v1/shared",
            vec![hs(json!({"typ": "JWT"}), json!({}))],
            "token-type",
        ),
        (
            "RFC 9068: no client_id",
            "/v1/shared",
            vec![hs(json!({"typ": "at+jwt"}), json!({"client_id": null}))],
            "token-malformed",
        ),
        ("RFC 9470: as strong and fresh as asked", "/v1/sensitive", vec![bearer(&good)], "-"),
        (
            "RFC 9470: a key never opens such a door",
            "/v1/sensitive",
            vec![bearer(key)],
            "step-up-required",
        ),
        sensitive("RFC 9470: the second level", json!({"acr": "phr"}), "-"),
        sensitive("RFC 9470: another level", json!({"acr": "pwd"}), "step-up-required"),
        sensitive("RFC 9470: no level", json!({"acr": null}), "step-up-required"),
        sensitive("RFC 9470: another method", json!({"amr": ["pwd"]}), "step-up-required"),
        sensitive("RFC 9470: just fresh", json!({"auth_time": NOW_S - 300}), "-"),
        sensitive("RFC 9470: too long ago", json!({"auth_time": NOW_S - 301}), "step-up-required"),
        sensitive(
            "rights come before factors",
            json!({"acr": null, "scope": null}),
            "scope-missing",
        ),
        department("claims", json!({}), "-"),
        department("claims in a list", json!({"department": ["x", "support"]}), "-"),
        department("another claim", json!({"department": "legal"}), "claim-missing"),
        department("a claim of another type", json!({"level": "3"}), "claim-missing"),
        department("a claim that is false", json!({"staff": false}), "claim-missing"),
        department("no claim", json!({"staff": null}), "claim-missing"),
        ("claims of a key", "/v1/department", vec![bearer(key)], "claim-missing"),
    ]
}

/// Proofs of possession (RFC 9449). Each is used once, so each has a name of its own.
#[expect(clippy::too_many_lines, reason = "one table")]
fn proofs(bed: &Bed) -> Vec<Case> {
    let holder = Signer::ecdsa("");
    let token = bed.with_claims(json!({"cnf": {"jkt": holder.thumbprint()}}));
    let lines = |proof: String| vec![("authorization", format!("DPoP {token}")), ("dpop", proof)];
    let proof = |header: Value, change: Value| {
        let header =
            merged(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": holder.jwk()}), header);
        let claims = json!({
            "jti": format!("proof-{}", issuer::number()), "htm": "GET", "htu": "https://localhost/v1/things", "iat": NOW_S,
            "ath": issuer::hash(&token),
        });
        bed.issuer.mint_raw(&holder, &header.to_string(), &merged(claims, change).to_string())
    };
    let port = bed.gate.tls().port();
    let case =
        |name, header, change, reason| (name, "/v1/things", lines(proof(header, change)), reason);
    let same = proof(json!({}), json!({}));
    let other = Signer::ecdsa("");
    let mut two = lines(proof(json!({}), json!({})));
    two.push(("dpop", proof(json!({}), json!({}))));
    let unbound = vec![
        ("authorization", format!("DPoP {}", bed.token())),
        ("dpop", proof(json!({}), json!({}))),
    ];
    let private = merged(holder.jwk(), json!({"d": "AAAA"}));
    vec![
        case("a proof", json!({}), json!({}), "-"),
        case(
            "htu in another spelling",
            json!({}),
            json!({"htu": "HTTPS://LOCALHOST:443/v1/%74hings?a=1#b"}),
            "-",
        ),
        ("a proof used once", "/v1/things", lines(same.clone()), "-"),
        ("a proof used twice", "/v1/things", lines(same), "proof-replayed"),
        (
            "no proof",
            "/v1/things",
            vec![("authorization", format!("DPoP {token}"))],
            "proof-malformed",
        ),
        ("two proofs", "/v1/things", two, "proof-malformed"),
        ("a token that is bound to no key", "/v1/things", unbound, "token-unbound"),
        ("a proof that is no token", "/v1/things", lines("x".into()), "proof-malformed"),
        case("another typ", json!({"typ": "JWT"}), json!({}), "proof-malformed"),
        case("no key in the header", json!({"jwk": null}), json!({}), "proof-malformed"),
        case("a private key in the header", json!({"jwk": private}), json!({}), "proof-malformed"),
        case("another's key", json!({"jwk": other.jwk()}), json!({}), "proof-wrong"),
        case("a shared secret", json!({"alg": "HS256"}), json!({}), "proof-malformed"),
        case("alg none", json!({"alg": "none"}), json!({}), "proof-malformed"),
        case("another method", json!({}), json!({"htm": "POST"}), "proof-wrong"),
        case(
            "another path",
            json!({}),
            json!({"htu": "https://localhost/v1/token"}),
            "proof-wrong",
        ),
        case(
            "another host",
            json!({}),
            json!({"htu": "https://example.com/v1/things"}),
            "proof-wrong",
        ),
        case(
            "another port",
            json!({}),
            json!({"htu": format!("https://localhost:{port}/v1/things")}),
            "proof-wrong",
        ),
        case(
            "another scheme",
            json!({}),
            json!({"htu": "http://localhost/v1/things"}),
            "proof-wrong",
        ),
        case("another token", json!({}), json!({"ath": issuer::hash("other")}), "proof-wrong"),
        case("no token's hash", json!({}), json!({"ath": null}), "proof-wrong"),
        case("too old", json!({}), json!({"iat": NOW_S - 61}), "proof-wrong"),
        case("too far ahead", json!({}), json!({"iat": NOW_S + 31}), "proof-wrong"),
        case("from before the start", json!({}), json!({"iat": NOW_S - 1}), "proof-replayed"),
        case("no time", json!({}), json!({"iat": null}), "proof-malformed"),
        case("no name", json!({}), json!({"jti": null}), "proof-malformed"),
    ]
}

fn hold(bed: &Bed, cases: &[Case], get: impl Fn(&str, &[(&str, String)]) -> Reply) {
    let told: Vec<(&str, String)> = cases
        .iter()
        .map(|(name, path, lines, _)| {
            let reply = get(path, lines);
            let reason = reason_of(&bed.gate, &reply);
            assert_eq!(reply.status == 200, reason == "-", "{name}: {reply:?}");
            if reply.status == 401 {
                assert!(reply.body.contains("Invalid or missing API key"), "{name}: {reply:?}");
            }
            (*name, reason)
        })
        .collect();
    let wrong: Vec<_> = told.iter().zip(cases).filter(|(told, case)| told.1 != case.3).collect();
    let wrong: Vec<_> = wrong.iter().map(|(told, case)| (told.0, &told.1, case.3)).collect();
    assert!(wrong.is_empty(), "name, told, expected: {wrong:#?}");
}

fn all(bed: &Bed) -> Vec<Case> {
    [form(bed), content(bed), meeting(bed), proofs(bed)].concat()
}

#[test]
fn a_token_passes_only_whole_meant_for_us_and_alive_over_http_1() {
    let bed = Bed::new();
    hold(&bed, &all(&bed), |path, lines| bed.get(path, lines));
    assert!(
        bed.gate.metric("portcullis_tokens_total{result=\"cached\",scheme=\"jwt.main\"}") > 0.0
    );
}

#[test]
fn a_token_passes_only_whole_meant_for_us_and_alive_over_http_2() {
    let bed = Bed::new();
    hold(&bed, &all(&bed), |path, lines| bed.get2(path, lines));
}

#[test]
fn a_step_up_is_asked_for_to_the_letter_of_rfc_9470() {
    let bed = Bed::new();
    let reply = bed.get("/v1/sensitive", &[bearer(&bed.key)]);
    assert_eq!(reply.status, 401);
    let asked: Vec<_> =
        reply.headers.iter().filter(|(name, _)| name == "www-authenticate").collect();
    assert_eq!(asked.len(), 1, "{reply:?}");
    assert_eq!(
        asked[0].1,
        "Bearer error=\"insufficient_user_authentication\", error_description=\"A different authentication level is required\", acr_values=\"urn:example:loa:mfa phr\", max_age=\"300\""
    );
}

#[test]
fn a_401_says_that_tokens_bound_to_a_key_would_do() {
    let bed = Bed::new();
    let asked = |lines: &[(&str, String)]| -> Vec<String> {
        let reply = bed.get("/v1/token", lines);
        let asked = reply.headers.into_iter().filter(|(name, _)| name == "www-authenticate");
        asked.map(|(_, value)| value).collect()
    };
    let algorithms = "algs=\"ES256 ES384 EdDSA RS256 RS384 RS512 PS256 PS384 PS512\"";
    assert_eq!(asked(&[]), ["Bearer realm=\"test\"".to_owned(), format!("DPoP {algorithms}")]);
    assert_eq!(
        asked(&[bearer("a.b.c")]),
        [
            "Bearer realm=\"test\", error=\"invalid_token\"".to_owned(),
            format!("DPoP error=\"invalid_token\", {algorithms}")
        ]
    );
}

#[test]
fn what_is_revoked_is_refused_from_the_next_request_on() {
    for what in ["\"jti\":\"token-1\"", "\"sid\":\"session-1\"", "\"subject\":\"alice\""] {
        let bed = Bed::new();
        let (token, other) =
            (bed.token(), bed.with_claims(json!({"jti": "x", "sid": "y", "sub": "bob"})));
        assert_eq!(bed.get("/v1/things", &[bearer(&token)]).status, 200);
        let revoked = bed.gate.ask_admin("POST", "/v1/sessions", &format!("{{{what}}}"));
        assert_eq!(revoked.status, 200, "{revoked:?}");
        let reply = bed.get("/v1/things", &[bearer(&token)]);
        assert_eq!((reply.status, reason_of(&bed.gate, &reply)), (401, "token-revoked".to_owned()));
        assert_eq!(bed.get("/v1/things", &[bearer(&other)]).status, 200, "{what}");
        if what.contains("subject") {
            // What is issued afterwards holds.
            bed.gate.hand.advance(std::time::Duration::from_secs(1));
            let later = bed.with_claims(json!({"iat": NOW_S + 1}));
            assert_eq!(bed.get("/v1/things", &[bearer(&later)]).status, 200);
        }
        let listed = bed.gate.ask_admin("GET", "/v1/sessions", "");
        assert!(listed.body.contains("issuedUntil"), "{listed:?}");
        assert_eq!(bed.gate.metric("portcullis_revocations"), 1.0);
    }
}

#[test]
fn no_token_is_written_anywhere() {
    let bed = Bed::new();
    let good = bed.token();
    let reply = bed.get("/v1/things", &[bearer(&good)]);
    let log = bed.gate.log(reply.header("x-request-id").unwrap());
    assert!(log.contains("\"credential\":\"token-1\""), "{log}");
    let signature = good.rsplit('.').next().unwrap();
    assert!(!log.contains(signature) && !bed.gate.metrics().contains(signature));
    let seen = bed.asked.seen.lock().unwrap().join("\n");
    assert!(!seen.contains(signature));
}

#[test]
fn the_example_with_tokens_passes_check_and_its_own_tests() {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tokens/gateway.toml");
    for command in ["check", "test"] {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_portcullis"));
        crate::clients::run(program, &[command, "--config", config], &[]);
    }
}

#[test]
fn operators_revoke_from_the_command_line() {
    let bed = Bed::new();
    let admin = bed.gate.admin().to_string();
    let token_file = bed.gate.dir.path().join(".portcullis/admin.token");
    let sessions = |arguments: &[&str]| {
        let common = ["--admin", &admin, "--token-file", token_file.to_str().unwrap(), "sessions"];
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_portcullis"));
        crate::clients::run(program, &[&common, arguments].concat(), &[])
    };
    assert_eq!(sessions(&["list"]), "nothing is revoked\n");
    let token = bed.token();
    assert_eq!(bed.get("/v1/things", &[bearer(&token)]).status, 200);
    assert!(sessions(&["revoke", "--sid", "session-1"]).starts_with("sid session-1 is revoked"));
    assert_eq!(bed.get("/v1/things", &[bearer(&token)]).status, 401);
    assert!(sessions(&["list"]).starts_with("sid      session-1"));
}

/// A gate that has just refused for this reason, for the refusal matrix.
pub fn staged(reason: &str) -> Staged {
    let bed = Bed::new();
    let reply = match reason {
        "token-revoked" => {
            bed.gate.ask_admin("POST", "/v1/sessions", "{\"sid\":\"session-1\"}");
            bed.get("/v1/things", &[bearer(&bed.token())])
        }
        "proof-nonce" => dpop_nonce::refused(&bed),
        "token-inactive" => bed.get("/v1/opaque", &[bearer("inactive-token")]),
        "introspection-failed" => bed.get("/v1/opaque", &[bearer("broken-token")]),
        _ => {
            let cases = all(&bed);
            let at = cases.iter().position(|case| case.3 == reason).unwrap();
            let before = at.saturating_sub(usize::from(reason == "proof-replayed"));
            let mut replies =
                cases[before..=at].iter().map(|(_, path, lines, _)| bed.get(path, lines));
            let first = replies.next().unwrap();
            replies.next().unwrap_or(first)
        }
    };
    Staged { gate: bed.gate, reply: Some(reply) }
}
