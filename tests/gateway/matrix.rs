//! The matrix: what becomes of each kind of credential in each state that it may be in, over both
//! versions of HTTP.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;

use crate::harness::{Gate, PATIENCE, Plan, Reply, Service, connect};
use crate::mtls::{client, pki};
use crate::operations::eventually;
use crate::refusals::{NOW_S, Signer, Signing, mistyped, reason_of};
use crate::tokens::issuer::{self, Issuer};
use crate::tokens::{self, SECRET, claims, introspection, merged};

/// The schemes, in the order of the columns.
const SCHEMES: [&str; 6] =
    ["api-key", "hmac-sha256", "ed25519", "jwt", "introspection", "certificate"];

/// What is shown, and what it comes to: the status and the private reason in the record; or `none`,
/// when there is no connection, and the reason for which the handshake was refused. What stands in
/// parentheses explains. A cell that begins with a dash does not apply, for the reason that it says.
#[rustfmt::skip]
const MATRIX: [(&str, [&str; 6]); 14] = [
    ("absent", [
        "401 credential-missing", "401 signature-missing", "401 signature-missing",
        "401 credential-missing", "401 credential-missing", "401 credential-missing",
    ]),
    ("good", ["200 -", "200 -", "200 -", "200 -", "200 -", "200 -"]),
    ("malformed", [
        "401 credential-malformed (a character mistyped: its checksum is wrong)",
        "401 signature-malformed", "401 signature-malformed",
        "401 token-malformed", "401 credential-malformed",
        "401 credential-malformed (two SPIFFE IDs in one certificate)",
    ]),
    ("unknown", [
        "401 credential-unknown", "401 signature-key-unknown", "401 signature-key-unknown",
        "401 token-key-unknown", "401 token-inactive (its issuer does not know it)", "none unknown-issuer",
    ]),
    ("wrong", [
        "401 credential-unknown (a key that exists, with another secret)",
        "401 signature-wrong", "401 signature-wrong", "401 token-wrong",
        "- an opaque token has no parts of which one could be wrong",
        "- TLS proves that the caller holds the certificate's key, or there is no connection",
    ]),
    ("expired", [
        "401 credential-expired", "401 credential-expired", "401 credential-expired",
        "401 token-expired", "401 token-inactive (though its issuer called it active)", "none expired",
    ]),
    ("revoked", [
        "401 credential-revoked", "401 credential-revoked", "401 credential-revoked",
        "401 token-revoked", "401 token-revoked (though its issuer calls it active)", "none revoked",
    ]),
    ("wrong audience", [
        "- a key is for whoever made it; that of another gateway is unknown here",
        "401 signature-wrong (made for another host, which @authority covers)", "401 signature-wrong",
        "401 token-audience", "401 token-inactive (active, but for somebody else)",
        "401 credential-unknown (such certificates count at another host)",
    ]),
    ("wrong network", [
        "401 credential-network", "401 credential-network", "401 credential-network",
        "- a token names no networks; a door's `from` does", "- a token names no networks; a door's `from` does",
        "- a certificate names no networks; a door's `from` does",
    ]),
    ("wrong environment", [
        "401 credential-environment", "401 signature-key-unknown (keys of other environments are not looked at)",
        "401 signature-key-unknown", "401 token-issuer (each environment has an issuer of its own)",
        "- an issuer is asked that knows no other environment's tokens",
        "401 credential-unknown (the SPIFFE ID names the environment)",
    ]),
    ("replayed", [
        "200 - (whoever bears a key may show it again)", "401 signature-replayed", "401 signature-replayed",
        "401 proof-replayed (a token bound to a key, and one proof shown twice)",
        "200 - (whoever bears a token may show it again)",
        "- each handshake is signed anew, and early data is off",
    ]),
    ("duplicated", [
        "400 credential-repeated", "401 signature-malformed", "401 signature-malformed",
        "400 credential-repeated", "400 credential-repeated", "- a connection shows one certificate",
    ]),
    // Beside an API key on a route that takes either.
    ("two kinds at once, of one owner", ["200 -", "200 -", "200 -", "200 -", "200 -", "200 -"]),
    ("two kinds at once, of two owners", [
        "401 credential-owner-mismatch", "401 credential-owner-mismatch", "401 credential-owner-mismatch",
        "401 credential-owner-mismatch", "401 credential-owner-mismatch", "401 credential-owner-mismatch",
    ]),
];

/// Routes for each scheme, and one for all of them.
const ROUTES: &str = r#"
[signatures.request]
max_age = "60s"

[certificates.services]
identities = [{ name = "spiffe://example.org/ns/prod/*", subject = "alice" }]

[certificates.elsewhere]
hosts      = ["elsewhere.example.com"]
identities = [{ name = "spiffe://example.org/ns/prod/*" }]

[routes.by-key]
summary  = "By API key"
match    = "GET /v1/api-key"
upstream = "service"
auth     = { any = ["api-key"] }
allow    = [{ anyone = true }]

[routes.by-signature]
summary  = "By signature"
match    = "GET /v1/signature"
upstream = "service"
auth     = { any = ["signature.request"] }
allow    = [{ anyone = true }]

[routes.by-token]
summary  = "By token of an issuer"
match    = "GET /v1/jwt"
upstream = "service"
auth     = { any = ["jwt.main"] }
allow    = [{ anyone = true }]

[routes.by-opaque-token]
summary  = "By token that its issuer is asked about"
match    = "GET /v1/introspection"
upstream = "service"
auth     = { any = ["introspection.main"] }
allow    = [{ anyone = true }]

[routes.by-certificate]
summary  = "By client certificate"
match    = "GET /v1/certificate"
upstream = "service"
auth     = { any = ["certificate.services"] }
allow    = [{ anyone = true }]

[routes.by-certificate-elsewhere]
summary  = "By client certificate of another host"
match    = "GET /v1/elsewhere"
upstream = "service"
auth     = { any = ["certificate.elsewhere"] }
allow    = [{ anyone = true }]

[routes.by-any]
summary  = "By whatever is shown"
match    = "GET /v1/any"
upstream = "service"
auth     = { any = ["api-key", "signature.request", "jwt.main", "introspection.main", "certificate.services"] }
allow    = [{ anyone = true }]
"#;

/// What a caller shows.
#[derive(Default)]
struct Shown {
    path: &'static str,
    lines: Vec<(&'static str, String)>,
    certificate: Option<&'static str>,
    /// Shown once more after this; the second answer counts.
    twice: bool,
}

/// A gate that takes all of them, and credentials in all their states.
struct Bed {
    gate: Gate,
    issuer: Issuer,
    ed25519: issuer::Signer,
    holder: issuer::Signer,
}

/// The facts of keys that are not good.
const STATES: [(&str, &str); 4] = [
    ("good", ""),
    ("expired", ",\"expires_in_s\":60"),
    ("wrong network", ",\"networks\":[\"10.0.0.0/8\"]"),
    ("wrong environment", ",\"environment\":\"other\""),
];

impl Bed {
    fn new() -> Self {
        let (issuer, asked) = (Issuer::new(), introspection::endpoint());
        let policy = tokens::POLICY.replace("ISSUER", &asked.address.port().to_string());
        let at = pki().display();
        let gate = Plan::new(Service::ok().address, &format!("{policy}{ROUTES}"))
            .file("keys.json", &issuer.key_set().to_string())
            .secret("shared.secret", SECRET)
            .tls(&format!(
                "client_ca = \"{at}/one.pem\"\nclient_crl = [\"{at}/lists.crl\"]\nclient_cert = \"optional\"\n"
            ))
            .start();
        for jti in ["revoked-1", "gone-1"] {
            let told = gate.ask_admin("POST", "/v1/sessions", &format!("{{\"jti\":\"{jti}\"}}"));
            assert_eq!(told.status, 200, "{told:?}");
        }
        let ed25519 = issuer::Signer::ed25519("");
        Self { gate, issuer, ed25519, holder: issuer::Signer::ecdsa("") }
    }

    /// A credential of this scheme, made for this state: its id and its secret.
    fn made(&self, scheme: &str, subject: &str, state: &str) -> (String, String) {
        let facts = STATES.iter().find(|(known, _)| *known == state).map_or("", |(_, facts)| facts);
        let more = match scheme {
            "api-key" => String::new(),
            "ed25519" => {
                let key = STANDARD.encode(&self.ed25519.public);
                format!(
                    ",\"signing\":true,\"public_key\":{{\"algorithm\":\"ed25519\",\"key\":\"{key}\"}}"
                )
            }
            _ => ",\"signing\":true".to_owned(),
        };
        let made = self.gate.keys(&format!(
            "{{\"do\":\"create\"{more},\"template\":{{\"name\":\"k\",\"subject\":\"{subject}\"{facts}}}}}"
        ));
        let id = made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        if state == "revoked" {
            self.gate.keys(&format!("{{\"do\":\"revoke\",\"id\":\"{id}\"}}"));
        }
        (id, made["secret"].as_str().unwrap_or_default().to_owned())
    }

    /// What is shown for a cell; nothing where the cell does not apply.
    fn shown(&self, scheme: &'static str, state: &str) -> Option<Shown> {
        let two = state.strip_prefix("two kinds at once, of ");
        let mut shown = match scheme {
            "api-key" => self.key(if two.is_some() { "good" } else { state })?,
            "hmac-sha256" | "ed25519" => {
                self.signature(scheme, if two.is_some() { "good" } else { state }, two.is_some())?
            }
            "jwt" => self.token(if two.is_some() { "good" } else { state })?,
            "introspection" => self.opaque(if two.is_some() { "good" } else { state })?,
            _ => certificate(if two.is_some() { "good" } else { state })?,
        };
        if let Some(owners) = two {
            shown.path = "/v1/any";
            let subject = if owners == "one owner" { "alice" } else { "bob" };
            // Beside a key the other kind is a token.
            let line = if scheme == "api-key" {
                let claims = merged(claims(), json!({"sub": subject}));
                ("authorization", format!("Bearer {}", self.minted(claims)))
            } else {
                ("x-api-key", self.made("api-key", subject, "good").1)
            };
            if scheme == "api-key" {
                let key = shown.lines.remove(0).1.replace("Bearer ", "");
                shown.lines.push(("x-api-key", key));
            }
            shown.lines.push(line);
        }
        Some(shown)
    }

    fn key(&self, state: &str) -> Option<Shown> {
        let good = || self.made("api-key", "alice", "good").1;
        let bearer = |key: String| vec![("authorization", format!("Bearer {key}"))];
        let lines = match state {
            "absent" => vec![],
            "good" | "replayed" => bearer(good()),
            "malformed" => bearer(mistyped(&good())),
            // Of another gate, whose keys have the same form.
            "unknown" => {
                bearer(Gate::new(Service::ok().address, crate::harness::POLICY).first_key())
            }
            "wrong" => bearer(with_other_secret(&good())),
            "duplicated" => [bearer(good()), bearer(good())].concat(),
            "expired" | "revoked" | "wrong network" | "wrong environment" => {
                bearer(self.made("api-key", "alice", state).1)
            }
            _ => return None,
        };
        Some(Shown { path: "/v1/api-key", lines, twice: state == "replayed", ..Shown::default() })
    }

    fn signature(&self, scheme: &'static str, state: &str, beside: bool) -> Option<Shown> {
        let path = if beside { "/v1/any" } else { "/v1/signature" };
        let (mut id, secret) = self.made(scheme, "alice", state);
        if state == "unknown" {
            id = "nobody00".to_owned();
        }
        let signing = Signing { algorithm: scheme, created: NOW_S, ..Signing::of("GET", path) };
        let authority = if state == "wrong audience" { "example.com" } else { "localhost" };
        let signer = Signer { id, secret: secret.clone() };
        let mac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &STANDARD.decode(secret).unwrap());
        let text = signer.sign_by(&signing, authority, |base| {
            let mut made = match scheme {
                "ed25519" => self.ed25519.sign(base),
                _ => ring::hmac::sign(&mac, base).as_ref().to_vec(),
            };
            made[0] ^= u8::from(state == "wrong");
            made
        });
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        let mut lines: Vec<_> = lines
            .map(|(name, value)| {
                let name = if name == "Signature" { "signature" } else { "signature-input" };
                (name, value.to_owned())
            })
            .collect();
        match state {
            "absent" => lines.clear(),
            "malformed" => lines[0].1.push('('),
            "duplicated" => lines.extend(lines.clone()),
            _ => {}
        }
        Some(Shown { path, lines, twice: state == "replayed", ..Shown::default() })
    }

    fn token(&self, state: &str) -> Option<Shown> {
        let with = |change| self.minted(merged(claims(), change));
        let bearer = |token: String| vec![("authorization", format!("Bearer {token}"))];
        let header = |change| self.issuer.mint(&self.issuer.es, change, claims());
        let lines = match state {
            "absent" => vec![],
            "good" => bearer(with(json!({}))),
            "malformed" => bearer(header(json!({"crit": ["exp"]}))),
            "unknown" => bearer(header(json!({"kid": "nobody"}))),
            "wrong" => {
                let other = issuer::Signer::ecdsa("es");
                bearer(self.issuer.mint(&other, json!({}), claims()))
            }
            "expired" => bearer(with(json!({"exp": NOW_S - 31}))),
            "revoked" => bearer(with(json!({"jti": "revoked-1"}))),
            "wrong audience" => bearer(with(json!({"aud": "https://other.example.com"}))),
            "wrong environment" => bearer(with(json!({"iss": "https://id.staging.example.com/"}))),
            "replayed" => self.bound(),
            "duplicated" => [bearer(with(json!({}))), bearer(with(json!({})))].concat(),
            _ => return None,
        };
        Some(Shown { path: "/v1/jwt", lines, twice: state == "replayed", ..Shown::default() })
    }

    /// A token that is bound to a key, and a proof by that key.
    fn bound(&self) -> Vec<(&'static str, String)> {
        let bound = json!({"cnf": {"jkt": self.holder.thumbprint()}});
        let token = self.minted(merged(claims(), bound));
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.holder.jwk()});
        let proof = json!({
            "jti": format!("proof-{}", issuer::number()), "htm": "GET", "htu": "https://localhost/v1/jwt",
            "iat": NOW_S, "ath": issuer::hash(&token),
        });
        let proof = self.issuer.mint_raw(&self.holder, &header.to_string(), &proof.to_string());
        vec![("authorization", format!("DPoP {token}")), ("dpop", proof)]
    }

    fn opaque(&self, state: &str) -> Option<Shown> {
        let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
        let lines = match state {
            "absent" => vec![],
            "good" | "replayed" => bearer("active-1"),
            "malformed" => bearer("active 1"),
            "unknown" => bearer("nobody-1"),
            "expired" => bearer("expired-1"),
            "revoked" => bearer("gone-1"),
            "wrong audience" => bearer("elsewhere-1"),
            "duplicated" => [bearer("active-1"), bearer("active-1")].concat(),
            _ => return None,
        };
        let twice = state == "replayed";
        Some(Shown { path: "/v1/introspection", lines, twice, ..Shown::default() })
    }

    fn minted(&self, claims: serde_json::Value) -> String {
        self.issuer.mint(&self.issuer.es, json!({}), claims)
    }
}

fn certificate(state: &str) -> Option<Shown> {
    let (path, certificate) = match state {
        "absent" => ("/v1/certificate", None),
        "good" => ("/v1/certificate", Some("ages")),
        "malformed" => ("/v1/certificate", Some("ages-double")),
        "unknown" => ("/v1/certificate", Some("ages-strange")),
        "expired" => ("/v1/certificate", Some("ages-over")),
        "revoked" => ("/v1/certificate", Some("ages-revoked")),
        "wrong audience" => ("/v1/elsewhere", Some("ages")),
        "wrong environment" => ("/v1/certificate", Some("ages-test")),
        _ => return None,
    };
    Some(Shown { path, certificate, ..Shown::default() })
}

/// A key of the same id with another secret, whole and with a checksum that fits.
fn with_other_secret(key: &str) -> String {
    let said = &key[..key.len() - 6];
    let (begin, last) = said.split_at(said.len() - 1);
    let said = format!("{begin}{}", if last == "A" { "B" } else { "A" });
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc32fast::hash(said.as_bytes());
    let mut check = [b'0'; 6];
    for character in check.iter_mut().rev() {
        *character = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    said + std::str::from_utf8(&check).unwrap()
}

/// One request over a connection of its own; nothing when the connection does not come about.
fn over_http_1(gate: &Gate, shown: &Shown) -> Option<Reply> {
    let config = client(gate, shown.certificate);
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, connect(gate.tls()));
    let lines: String =
        shown.lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n", shown.path);
    stream.write_all(request.as_bytes()).ok()?;
    Reply::read(&mut stream, false)
}

/// The same over HTTP/2.
fn over_http_2(gate: &Gate, shown: &Shown) -> Option<Reply> {
    let mut config = client(gate, shown.certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut request = http::Request::get(format!("https://localhost{}", shown.path));
    for (name, value) in &shown.lines {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let exchange = async {
        let stream = tokio::net::TcpStream::connect(gate.tls()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tls = connector.connect(name, stream).await.ok()?;
        let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
        let (mut sender, connection) = opened.ok()?;
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        Some(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers.iter().map(header).collect(),
            body: String::from_utf8(body.collect().await.ok()?.to_bytes().to_vec()).unwrap(),
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await.unwrap() })
}

/// What it came to, in the words of the matrix.
fn told(
    gate: &Gate,
    shown: &Shown,
    expected: &str,
    ask: fn(&Gate, &Shown) -> Option<Reply>,
) -> String {
    let turned = |reason: &str| {
        gate.metric(&format!(
            "portcullis_client_certificates_refused_total{{listener=\"public\",reason=\"{reason}\"}}"
        ))
    };
    let refused = expected.strip_prefix("none ");
    let before = refused.map(turned);
    let mut reply = ask(gate, shown);
    if shown.twice {
        let first = reply.unwrap();
        assert_eq!(first.status, 200, "{first:?}");
        reply = ask(gate, shown);
    }
    let Some(reply) = reply else {
        let counted = refused
            .zip(before)
            .is_some_and(|(reason, before)| eventually(|| turned(reason) > before));
        return if counted { expected.to_owned() } else { "none".to_owned() };
    };
    if reply.status == 401 {
        let one = r#"{"error":{"code":"unauthorized","message":"Invalid or missing API key"}}"#;
        assert_eq!(reply.body, one, "whatever failed");
    }
    format!("{} {}", reply.status, reason_of(gate, &reply))
}

#[test]
fn each_scheme_in_each_state_over_both_versions_of_http() {
    let bed = Bed::new();
    let mut wrong = Vec::new();
    let mut tried = 0;
    let mut cells = Vec::new();
    for (state, row) in MATRIX {
        for (scheme, cell) in SCHEMES.into_iter().zip(row) {
            let both = [0, 1].map(|_| bed.shown(scheme, state));
            assert_eq!(both[0].is_none(), cell.starts_with("- "), "{state}, {scheme}: {cell}");
            let expected = cell.split(" (").next().unwrap();
            cells.push((state, scheme, expected, both));
        }
    }
    // Those that hold for a minute are over.
    bed.gate.hand.advance(Duration::from_secs(61));
    for (state, scheme, expected, both) in cells {
        let ways = [
            ("HTTP/1.1", over_http_1 as fn(&Gate, &Shown) -> Option<Reply>),
            ("HTTP/2", over_http_2),
        ];
        for ((version, ask), shown) in ways.into_iter().zip(both) {
            let Some(shown) = shown else { continue };
            let told = told(&bed.gate, &shown, expected, ask);
            tried += 1;
            if told != expected {
                wrong.push(format!("{state}, {scheme}, {version}: {told}, expected {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(tried, 150, "every cell that applies, over each version");
}
