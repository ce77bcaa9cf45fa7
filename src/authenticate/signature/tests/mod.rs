//! Tests of signatures: the standard's vectors, every reason to refuse, and what must hold always.

mod bases;
mod matrix;
mod properties;
mod public;
mod rules;
mod standard;
mod trailers;
mod vectors;

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, Version};

use crate::authenticate::bounds::Bounds;
use crate::authenticate::nonce::{Nonces, Share};
use crate::authenticate::signature::SignatureScheme;
use crate::authenticate::signature::algorithm::Algorithm;
use crate::authenticate::signature::base::Message;
use crate::authenticate::signature::public_key::PublicKey;
use crate::authenticate::signature::rule::SignatureRule;
use crate::authenticate::signature::sign::{SignedHeaders, Terms, ToSign, sign};
use crate::authenticate::signature::verifier::Verifier;
use crate::authenticate::standing::{Keeper, Ticket};
use crate::authenticate::{Attempt, Evidence, Grant, Scheme, SigningKey, SigningKeys};
use crate::clock::Now;
use crate::fields::Fields;
use crate::head::{Head, RequestId, Trace};
use crate::listen::{Length, Peer};
use crate::mistake::source::Source;
use crate::mistake::{Mistakes, Reading, read};
use crate::parties::Parties;
use crate::refusal::{Reason, Refusal};
use crate::secret::Secret;

/// The shared secret of RFC 9421, B.1.5.
const SECRET: &str =
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
const KEYID: &str = "task-writer-1";
const CREATED: u64 = 1_767_225_600;
const BODY: &[u8] = br#"{"title":"Rotate keys"}"#;
const COVERED: [&str; 6] =
    ["@method", "@authority", "@path", "@query", "content-type", "content-digest"];

/// Some keys, by their id.
#[derive(Default)]
struct Keys(Vec<(String, Arc<SigningKey>)>);

impl SigningKeys for Keys {
    fn find(&self, id: &str) -> Option<(Arc<SigningKey>, Ticket)> {
        let at = self.0.iter().position(|(own, _)| own == id)?;
        Some((Arc::clone(&self.0[at].1), Ticket(at as u64, 0)))
    }
}

impl Keeper for Keys {
    fn still_holds(&self, ticket: Ticket, client: IpAddr, now: Now) -> Result<(), Reason> {
        self.0[ticket.0 as usize].1.bounds.check(client, now)
    }
}

fn secret() -> Secret {
    Secret::new(STANDARD.decode(SECRET).unwrap())
}

fn key(id: &str, bounds: Bounds) -> (String, Arc<SigningKey>) {
    let grant = Arc::new(Grant { credential: id.into(), ..Grant::default() });
    let verifier = Verifier::hmac(secret().expose());
    let share = Share::default();
    (id.to_owned(), Arc::new(SigningKey { verifier, grant, bounds, share }))
}

/// A public key of the standard (RFC 9421, appendix B.1), under its name there.
fn public(id: &str, algorithm: Algorithm, text: &str) -> (String, Arc<SigningKey>) {
    let grant = Arc::new(Grant { credential: id.into(), ..Grant::default() });
    let verifier = Verifier::public(PublicKey::read(algorithm, text).unwrap());
    let (bounds, share) = (Bounds::default(), Share::default());
    (id.to_owned(), Arc::new(SigningKey { verifier, grant, bounds, share }))
}

/// Keys for every case: one that holds, a revoked one, and the standard's.
fn keys() -> Arc<Keys> {
    Arc::new(Keys(vec![
        key(KEYID, Bounds::default()),
        key("test-shared-secret", Bounds::default()),
        key("revoked", Bounds { revoked: true, ..Bounds::default() }),
        public("test-key-ed25519", Algorithm::Ed25519, standard::ED25519),
        public("test-key-ecc-p256", Algorithm::EcdsaP256Sha256, standard::P256),
        public("test-key-rsa-pss", Algorithm::RsaPssSha512, standard::RSA_PSS),
        public("test-key-rsa", Algorithm::RsaV1_5Sha256, standard::RSA),
    ]))
}

fn compile(rule: &str, nonces: Nonces) -> (Option<SignatureScheme>, Mistakes) {
    let source = Source::new("policy.toml", format!("[signatures.request]\n{rule}"));
    let mut mistakes = Mistakes::default();
    let section = read::top(&source, &mut mistakes).pop().unwrap();
    let entry = read::members(section, &source, &mut mistakes).pop().unwrap();
    let rule = read::rule::<SignatureRule>("a signature", entry.node, &source, &mut mistakes);
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let scheme = rule.and_then(|rule| {
        rule.compile("request", &entry.span, keys(), Arc::new(nonces), &mut reading)
    });
    (scheme, mistakes)
}

fn scheme(rule: &str) -> SignatureScheme {
    let (scheme, mistakes) = compile(rule, Nonces::with_history(100));
    scheme.unwrap_or_else(|| panic!("{mistakes:?}"))
}

fn at(unix_s: u64) -> Now {
    Now { steady_ns: 0, unix_ms: unix_s * 1000 }
}

/// A request that is about to be signed.
#[derive(Clone)]
struct Draft {
    components: Vec<&'static str>,
    keyid: &'static str,
    created: u64,
    expires: Option<u64>,
    nonce: Option<&'static str>,
    tag: Option<&'static str>,
    label: &'static str,
    method: Method,
    host: &'static str,
    port: Option<u16>,
    target: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static [u8],
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            components: COVERED.into(),
            keyid: KEYID,
            created: CREATED,
            expires: Some(CREATED + 60),
            nonce: Some("k7J2mQpX9sT4vB1c"),
            tag: Some("task-api"),
            label: "sig1",
            method: Method::POST,
            host: "api.example.com",
            port: None,
            target: "/v1/tasks?notify=1",
            headers: vec![("content-type", "application/json")],
            body: BODY,
        }
    }
}

impl Draft {
    fn unsigned(&self) -> Head {
        head(self.method.as_str(), self.host, self.port, self.target, &self.headers, self.body)
    }

    fn sign(&self) -> (Head, SignedHeaders) {
        self.sign_with(None)
    }

    fn sign_with(&self, trailers: Option<&Fields>) -> (Head, SignedHeaders) {
        let mut head = self.unsigned();
        let terms = Terms {
            label: self.label,
            components: &self.components,
            keyid: self.keyid,
            created: self.created,
            expires: self.expires,
            nonce: self.nonce,
            tag: self.tag,
        };
        let message = Message { trailers, ..Message::of(&head) };
        let request = ToSign { message, body: self.body };
        let signed = sign(&request, &terms, &secret()).unwrap();
        if let Some(digest) = &signed.content_digest {
            put(&mut head, "content-digest", digest);
        }
        put(&mut head, "signature-input", &signed.signature_input);
        put(&mut head, "signature", &signed.signature);
        (head, signed)
    }

    fn head(&self) -> Head {
        self.sign().0
    }
}

fn put(head: &mut Head, name: &str, value: &str) {
    let name: HeaderName = name.parse().unwrap();
    head.headers.insert(name, HeaderValue::from_str(value).unwrap());
}

fn head(
    method: &str,
    host: &str,
    port: Option<u16>,
    target: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Head {
    let mut headers = Fields::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let length = match body.len() as u64 {
        0 => Length::None,
        length => Length::Exactly(length),
    };
    let peer = Peer {
        address: ([192, 0, 2, 7], 40_000).into(),
        local: ([127, 0, 0, 1], 8443).into(),
        listener: "public".into(),
        tls: None,
        trusted: Arc::default(),
        redirect_port: None,
        parties: Default::default(),
    };
    Head {
        method: method.parse().unwrap(),
        path: "/".into(),
        query: None,
        target: target.into(),
        version: Version::HTTP_11,
        headers,
        length,
        upgrade: None,
        parties: Arc::new(Parties::new([192, 0, 2, 7].into(), "https", host, port)),
        peer: Arc::new(peer),
        id: RequestId([b'0'; 26]),
        trace: Trace::begin(),
    }
}

fn accepted(attempt: Attempt) -> Evidence {
    match attempt {
        Attempt::Accepted(evidence) => evidence,
        other => panic!("not accepted: {other:?}"),
    }
}

fn rejected(attempt: Attempt) -> Refusal {
    match attempt {
        Attempt::Rejected(refusal) => refusal,
        other => panic!("not rejected: {other:?}"),
    }
}

/// Why a scheme with the rule's defaults refuses this head at the time it was signed.
fn reason(head: &Head) -> Reason {
    rejected(scheme("").attempt(head, at(CREATED))).reason
}
