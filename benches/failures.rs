//! What each failure of identification costs, in instructions: whoever has no good credential must not
//! learn from the time which part of it was wrong.
//!
//! `cargo test --bench failures` runs this program once more under valgrind's callgrind, which counts what
//! happens within `counted` and nothing else, and fails when the dearest well-formed bad credential of a kind
//! costs more than [`FACTOR`] times what the cheapest one does. What has not the form of its kind is refused for
//! less: its form tells its sender nothing that he did not write himself.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for the terminal, which may stop"
)]

mod ground;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, HeaderValue, Method, Version};
use portcullis::authenticate::directory::Directory;
use portcullis::authenticate::directory::life::Which;
use portcullis::authenticate::directory::record::NewKey;
use portcullis::authenticate::key_format::{KeyFormat, KeyId};
use portcullis::authenticate::nonce::Nonces;
use portcullis::authenticate::outside::Outside;
use portcullis::authenticate::sessions::{Revoked, Term};
use portcullis::authenticate::signature::algorithm::Algorithm;
use portcullis::authenticate::signature::base::Message;
use portcullis::authenticate::signature::public_key::PublicKey;
use portcullis::authenticate::signature::sign::{Terms, ToSign, sign_with};
use portcullis::clock::{Clock, Hand, Now};
use portcullis::fields::Fields;
use portcullis::head::{self, Head};
use portcullis::limit::buckets::Buckets;
use portcullis::listen::{Length, Peer, RawHead};
use portcullis::mistake::Mistakes;
use portcullis::policy::Policy;
use portcullis::policy::compile::Ground;
use portcullis::policy::files::Files;
use portcullis::secret::Secret;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::{Value, json};

use crate::ground::{COUNTED, peer, policy, record, upstreams};

/// How far the failures of a kind may lie apart, the dearest from the cheapest. The arithmetic of curves
/// itself varies by a few hundredths from one signature to the next.
const FACTOR: f64 = 1.35;
/// How often each failure is tried; each time with a credential of its own where one is used up.
const CALLS: usize = 16;

fn main() {
    if std::env::args().any(|word| word == COUNTED) {
        return measure();
    }
    if !cfg!(target_os = "linux") {
        println!("SKIPPED: what failures cost is not compared; valgrind is for Linux");
        return;
    }
    let counts = count();
    let mut far_apart = Vec::new();
    println!("| kind | failure | instructions |\n|---|---|---|");
    for (kind, failure, instructions) in &counts {
        println!("| {kind} | {failure} | {instructions} |");
    }
    for kinds in counts.chunk_by(|one, other| one.0 == other.0) {
        let cheapest = kinds.iter().min_by_key(|count| count.2).unwrap();
        let dearest = kinds.iter().max_by_key(|count| count.2).unwrap();
        let factor = dearest.2 as f64 / cheapest.2 as f64;
        println!("{}: {factor:.2} from `{}` to `{}`", cheapest.0, cheapest.1, dearest.1);
        if factor > FACTOR {
            far_apart.push(cheapest.0.as_str());
        }
    }
    assert!(
        far_apart.is_empty(),
        "CVE-2026-41263 (and Envoy's OAuth2 HMAC, cqs#74): failures of {far_apart:?} lie further apart than {FACTOR}"
    );
}

/// Runs this program under callgrind. Of each failure its kind, its name and the instructions of one.
fn count() -> Vec<(String, String, u64)> {
    let (told, dumps) = ground::counted("failures::counted_failures");
    let failures: Vec<(&str, &str)> =
        told.lines().filter_map(|line| line.split_once('\t')).collect();
    assert_eq!(dumps.len(), failures.len(), "one dump of each");
    let each = |((kind, name), count): (&(&str, &str), u64)| {
        ((*kind).to_owned(), (*name).to_owned(), count / CALLS as u64)
    };
    failures.iter().zip(dumps).map(each).collect()
}

/// Tries every failure.
fn measure() {
    let bed = Bed::new();
    bed.api_keys();
    bed.signatures();
    bed.tokens();
}

/// The one place that counts.
#[inline(never)]
fn counted_failures(policy: &Policy, heads: &[Head], now: Now) -> usize {
    let mut refused = 0;
    for head in heads {
        let (route, _) = policy.find(head).unwrap();
        refused += usize::from(black_box(route.authenticate.who(head, now)).is_err());
    }
    refused
}

const POLICY: &str = r#"
version = 1

[roles]
member = { summary = "Ordinary" }

[signatures.request]
max_age = "60s"
nonce   = "required"

[jwt.main]
issuer   = "https://id.example.com"
audience = ["https://api.example.com"]
keys     = "file:keys.json"

[jwt.second]
issuer   = "https://second.example.com"
audience = ["https://api.example.com"]
keys     = "file:second.json"

[routes.key]
summary  = "By key"
match    = "GET /key"
upstream = "service"
auth     = { any = ["api-key"] }
allow    = [{ anyone = true }]

[routes.signature]
summary  = "By signature"
match    = "GET /signature"
upstream = "service"
auth     = { any = ["signature.request"] }
allow    = [{ anyone = true }]

[routes.token]
summary  = "By token"
match    = "GET /token"
upstream = "service"
auth     = { any = ["jwt.main"] }
allow    = [{ anyone = true }]

[routes.either]
summary  = "By token of either issuer"
match    = "GET /either"
upstream = "service"
auth     = { any = ["jwt.main", "jwt.second"] }
allow    = [{ anyone = true }]
"#;

/// A policy without sockets, and keys of every kind.
struct Bed {
    clock: Clock,
    hand: Hand,
    directory: Arc<Directory>,
    outside: Outside,
    policy: Arc<Policy>,
    peer: Arc<Peer>,
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
}

fn pairs() -> (Ed25519KeyPair, EcdsaKeyPair) {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let p256 = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    (Ed25519KeyPair::from_seed_unchecked(&[seed(); 32]).unwrap(), p256)
}

/// Another number each time.
fn seed() -> u8 {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(7);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn key_set(ed25519: &[u8], p256: &[u8]) -> Value {
    let (x, y) = p256.split_at(1).1.split_at(32);
    let rsa = encode(&[0xfd; 256]);
    json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "kid": "ES256", "x": encode(x), "y": encode(y) },
        { "kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": encode(ed25519) },
        { "kty": "RSA", "kid": "RS256", "alg": "RS256", "n": rsa, "e": "AQAB" },
    ]})
}

impl Bed {
    fn new() -> Self {
        let directory = Directory::in_memory(&Secret::random(32).unwrap(), "dev").unwrap();
        let directory = Arc::new(directory);
        let (ed25519, p256) = pairs();
        let dir = tempfile::tempdir().unwrap();
        let keys = key_set(ed25519.public_key().as_ref(), p256.public_key().as_ref());
        std::fs::write(dir.path().join("keys.json"), keys.to_string()).unwrap();
        let (other_ed25519, other_p256) = pairs();
        let keys = key_set(other_ed25519.public_key().as_ref(), other_p256.public_key().as_ref());
        std::fs::write(dir.path().join("second.json"), keys.to_string()).unwrap();
        std::fs::write(dir.path().join("policy.toml"), POLICY).unwrap();
        let (clock, hand) = Clock::set_at(1_795_435_200_000);
        let outside = Outside::new(Arc::new(|_| Err(String::new())));
        let ground = Ground {
            upstreams: upstreams("service"),
            directory: Arc::clone(&directory),
            nonces: Arc::new(Nonces::with_history(100_000)),
            outside: outside.clone(),
            buckets: Arc::new(Buckets::new(1_000)),
            record: record(&clock),
            clock: clock.clone(),
        };
        let files = Files::read(dir.path(), &mut Mistakes::default());
        let (peer, policy) = (peer(None), policy(&files, &ground));
        Self { clock, hand, directory, outside, policy, peer, ed25519, p256 }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn head(&self, target: &str, authorization: Option<&str>) -> Head {
        let mut headers = Fields::new();
        headers.insert(HOST, value("localhost"));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, value(&format!("Bearer {authorization}")));
        }
        let raw = RawHead {
            method: Method::GET,
            target: target.into(),
            version: Version::HTTP_11,
            authority: None,
            headers,
            length: Length::None,
        };
        *head::read(raw, &self.peer, &[], self.now()).unwrap()
    }

    /// Counts one failure, which must be one for this reason.
    fn fails(&self, kind: &str, name: &str, reason: &str, mut head: impl FnMut() -> Head) {
        let one = head();
        let (route, _) = self.policy.find(&one).unwrap();
        let refusal = route.authenticate.who(&one, self.now()).unwrap_err();
        assert_eq!(refusal.reason.name(), reason, "{kind}: {name}");
        let heads: Vec<Head> = (0..CALLS).map(|_| head()).collect();
        let refused = counted_failures(&self.policy, &heads, self.now());
        assert_eq!(refused, CALLS, "{kind}: {name}");
        println!("{kind}\t{name}");
    }

    /// What a new credential is like in this state.
    fn facts(&self, state: &str) -> NewKey {
        let now_ms = self.now().unix_ms;
        let mut facts = NewKey { name: "k".into(), subject: "alice".into(), ..NewKey::default() };
        match state {
            "expired" => facts.expires_ms = Some(now_ms + 1_000),
            "not yet" => facts.not_before_ms = Some(now_ms + 86_400_000),
            "wrong network" => facts.networks = vec!["10.0.0.0/8".parse().unwrap()],
            "wrong environment" => facts.environment = Some("other".into()),
            _ => {}
        }
        facts
    }

    /// Ends a credential as its state says.
    fn end(&self, id: KeyId, state: &str) {
        match state {
            "revoked" => self.directory.revoke(id, self.now()).unwrap(),
            "suspended" => drop(self.directory.suspend(&Which::Key(id), "-", self.now()).unwrap()),
            "expired" => self.hand.advance(Duration::from_secs(2)),
            _ => {}
        }
    }

    fn api_keys(&self) {
        let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).unwrap();
        let stranger = text(&KeyFormat::default().generate("dev").unwrap().1);
        let fails = |name: &str, reason: &str, key: &str| {
            self.fails("api-key", name, reason, || self.head("/key", Some(key)));
        };
        fails("unknown", "credential-unknown", &stranger);
        for (state, reason) in [
            ("wrong secret", "credential-unknown"),
            ("expired", "credential-expired"),
            ("not yet", "credential-expired"),
            ("revoked", "credential-revoked"),
            ("suspended", "credential-suspended"),
            ("wrong network", "credential-network"),
            ("wrong environment", "credential-environment"),
        ] {
            let made = self.directory.create(self.facts(state), self.now()).unwrap();
            let key = text(&made.secret);
            self.end(made.id, state);
            let key = if state == "wrong secret" { with_other_secret(&key) } else { key };
            fails(state, reason, &key);
        }
    }

    fn signatures(&self) {
        for algorithm in [Algorithm::HmacSha256, Algorithm::Ed25519, Algorithm::EcdsaP256Sha256] {
            for (state, reason) in [
                ("unknown", "signature-key-unknown"),
                ("wrong environment", "signature-key-unknown"),
                ("wrong", "signature-wrong"),
                ("another algorithm", "signature-algorithm"),
                ("expired", "credential-expired"),
                ("revoked", "credential-revoked"),
                ("wrong network", "credential-network"),
                ("replayed", "signature-replayed"),
            ] {
                self.signature(algorithm, state, reason);
            }
        }
    }

    fn signature(&self, algorithm: Algorithm, state: &str, reason: &str) {
        let now = self.now();
        let public = |key: &[u8]| {
            let key = PublicKey::read(algorithm, &STANDARD.encode(key)).unwrap();
            (self.directory.create_verifying(self.facts(state), key, now).unwrap(), Vec::new())
        };
        let (id, secret) = match algorithm {
            // The key is one of another algorithm than its caller says.
            _ if state == "another algorithm" && algorithm == Algorithm::HmacSha256 => {
                let key = self.ed25519.public_key().as_ref();
                let key = PublicKey::read(Algorithm::Ed25519, &STANDARD.encode(key)).unwrap();
                let id = self.directory.create_verifying(self.facts(state), key, now).unwrap();
                (id, Vec::new())
            }
            Algorithm::Ed25519 if state != "another algorithm" => {
                public(self.ed25519.public_key().as_ref())
            }
            Algorithm::EcdsaP256Sha256 if state != "another algorithm" => {
                public(self.p256.public_key().as_ref())
            }
            _ => {
                let made = self.directory.create_signing(self.facts(state), now).unwrap();
                (made.id, STANDARD.decode(made.secret.expose()).unwrap())
            }
        };
        self.end(id, state);
        let now = self.now();
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let keyid = if state == "unknown" { "nobody00".to_owned() } else { id.to_string() };
        let number = std::cell::Cell::new(0);
        let signed = || {
            let mut head = self.head("/signature", None);
            let nonce = format!("{}-{state}-{:08}", algorithm.name(), number.get());
            let nonce: String = nonce.replace(' ', "-");
            number.set(number.get() + u32::from(state != "replayed"));
            let terms = Terms {
                label: "sig1",
                components: &["@method", "@authority", "@path", "@query"],
                keyid: &keyid,
                created: now.unix_s(),
                expires: None,
                nonce: Some(&nonce),
                tag: None,
            };
            let request = ToSign { message: Message::of(&head), body: &[] };
            let headers = sign_with(&request, &terms, algorithm, |base| {
                let base = if state == "wrong" { b"something else" } else { base };
                Ok(match algorithm {
                    Algorithm::Ed25519 => self.ed25519.sign(base).as_ref().to_vec(),
                    Algorithm::EcdsaP256Sha256 => {
                        self.p256.sign(&SystemRandom::new(), base).unwrap().as_ref().to_vec()
                    }
                    _ => hmac::sign(&mac, base).as_ref().to_vec(),
                })
            })
            .unwrap();
            for (name, text) in
                [("signature-input", &headers.signature_input), ("signature", &headers.signature)]
            {
                head.headers.insert(HeaderName::from_static(name), value(text));
            }
            head
        };
        if state == "replayed" {
            let first = signed();
            self.policy.find(&first).unwrap().0.authenticate.who(&first, now).unwrap();
        }
        self.fails(algorithm.name(), state, reason, signed);
    }

    fn tokens(&self) {
        let until_ms = u64::MAX;
        let term = Term { issued_until_s: self.now().unix_s(), until_ms };
        assert!(self.outside.sessions.revoke(Revoked::Jti("revoked".into()), term));
        for alg in ["ES256", "EdDSA"] {
            for (state, reason, header, claims) in [
                ("unknown kid", "token-key-unknown", json!({"kid": "nobody"}), json!({})),
                ("another key's kid", "token-algorithm", json!({"kid": "RS256"}), json!({})),
                ("wrong", "token-wrong", json!({}), json!({"sub": "wrong"})),
                ("expired", "token-expired", json!({}), json!({"exp": 1})),
                ("not yet", "token-future", json!({}), json!({"nbf": 9_000_000_000_u64})),
                ("wrong issuer", "token-issuer", json!({}), json!({"iss": "https://b.example"})),
                ("wrong audience", "token-audience", json!({}), json!({"aud": "b"})),
                ("revoked", "token-revoked", json!({}), json!({"jti": "revoked"})),
            ] {
                let token = self.token(alg, &header, &claims);
                self.fails(alg, state, reason, || self.head("/token", Some(&token)));
            }
        }
        // Where there are two issuers, which of them a token names costs nothing, and neither does naming
        // one that nobody knows.
        for alg in ["ES256", "EdDSA"] {
            let kind = format!("{alg} of two issuers");
            let second = json!({"iss": "https://second.example.com"});
            for (state, reason, header, claims) in [
                ("unknown kid", "token-key-unknown", json!({"kid": "nobody"}), json!({})),
                ("wrong", "token-wrong", json!({}), json!({"sub": "wrong"})),
                ("expired", "token-expired", json!({}), json!({"exp": 1})),
                ("unknown issuer", "token-issuer", json!({}), json!({"iss": "https://b.example"})),
                ("no issuer", "token-issuer", json!({}), json!({"iss": 1})),
                ("the other issuer", "token-wrong", json!({}), second.clone()),
                ("the other's kid", "token-key-unknown", json!({"kid": "nobody"}), second),
            ] {
                let token = self.token(alg, &header, &claims);
                self.fails(&kind, state, reason, || self.head("/either", Some(&token)));
            }
        }
        // Nobody can sign for that modulus here, which two failures do not need.
        for (state, reason, kid) in [
            ("unknown kid", "token-key-unknown", "nobody"),
            ("wrong", "token-wrong", "RS256"),
            ("another key's kid", "token-algorithm", "ES256"),
        ] {
            let token = self.token("RS256", &json!({"kid": kid}), &json!({}));
            self.fails("RS256", state, reason, || self.head("/token", Some(&token)));
        }
    }

    /// A token with these changes.
    fn token(&self, alg: &str, header: &Value, claims: &Value) -> String {
        let now_s = self.now().unix_s();
        let merged = |mut whole: Value, change: &Value| {
            for (name, value) in change.as_object().unwrap() {
                whole.as_object_mut().unwrap().insert(name.clone(), value.clone());
            }
            whole.to_string()
        };
        let header = merged(json!({"alg": alg, "kid": alg, "typ": "JWT"}), header);
        let said = merged(
            json!({
                "iss": "https://id.example.com", "aud": "https://api.example.com", "sub": "alice",
                "jti": "0123456789abcdef", "iat": now_s, "exp": now_s + 300,
            }),
            claims,
        );
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(said.as_bytes()));
        let is_wrong = claims.get("sub").is_some();
        let base = if is_wrong { "something else" } else { &signed };
        let signature = match alg {
            "ES256" => {
                self.p256.sign(&SystemRandom::new(), base.as_bytes()).unwrap().as_ref().to_vec()
            }
            "EdDSA" => self.ed25519.sign(base.as_bytes()).as_ref().to_vec(),
            _ => vec![0x3d; 256],
        };
        format!("{signed}.{}", encode(&signature))
    }
}

/// A key of the same id with another secret, whole and with a checksum that fits.
fn with_other_secret(key: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let (said, _) = key.split_at(key.len() - 6);
    let (begin, last) = said.split_at(said.len() - 1);
    let said = format!("{begin}{}", if last == "A" { "B" } else { "A" });
    let mut rest = crc32fast::hash(said.as_bytes());
    let mut check = Vec::new();
    for _ in 0..6 {
        check.insert(0, *DIGITS.get((rest % 62) as usize).unwrap());
        rest /= 62;
    }
    said + std::str::from_utf8(&check).unwrap()
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap()
}
