//! Issuers of tokens for these tests: keys, key sets and tokens of every form, good and bad.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::{Value, json};

use super::merged;

/// A key that signs.
pub struct Signer {
    kid: String,
    alg: &'static str,
    pub public: Vec<u8>,
    secret: Secret,
}

enum Secret {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Shared(ring::hmac::Key),
}

impl Signer {
    pub fn ecdsa(kid: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        Self { kid: kid.to_owned(), alg: "ES256", public, secret: Secret::Ecdsa(pair) }
    }

    pub fn ed25519(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        Self { kid: kid.to_owned(), alg: "EdDSA", public, secret: Secret::Ed25519(pair) }
    }

    pub fn shared(secret: &[u8]) -> Self {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let public = secret.to_vec();
        Self { kid: String::new(), alg: "HS256", public, secret: Secret::Shared(key) }
    }

    pub fn jwk(&self) -> Value {
        match &self.secret {
            Secret::Ecdsa(_) => {
                let (x, y) = self.public[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
            Secret::Ed25519(_) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&self.public)})
            }
            Secret::Shared(_) => json!({"kty": "oct", "k": encode(&self.public)}),
        }
    }

    /// RFC 7638.
    pub fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let text = |name: &str| jwk[name].as_str().unwrap();
        hash(&format!(
            r#"{{"crv":"{}","kty":"{}","x":"{}","y":"{}"}}"#,
            text("crv"),
            text("kty"),
            text("x"),
            text("y")
        ))
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.secret {
            Secret::Ecdsa(pair) => {
                pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
            }
            Secret::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Secret::Shared(key) => ring::hmac::sign(key, message).as_ref().to_vec(),
        }
    }
}

pub struct Issuer {
    pub es: Signer,
    pub ed: Signer,
}

impl Issuer {
    pub fn new() -> Self {
        Self { es: Signer::ecdsa("es"), ed: Signer::ed25519("ed") }
    }

    pub fn key_set(&self) -> Value {
        let named = |signer: &Signer| merged(signer.jwk(), json!({"kid": signer.kid}));
        let foreign = json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"});
        json!({"keys": [named(&self.es), named(&self.ed), foreign]})
    }

    /// A token by this key; members of `header` replace the usual ones.
    pub fn mint(&self, signer: &Signer, header: Value, claims: Value) -> String {
        let usual = json!({"alg": signer.alg, "kid": signer.kid, "typ": "JWT"});
        self.mint_raw(signer, &merged(usual, header).to_string(), &claims.to_string())
    }

    pub fn mint_raw(&self, signer: &Signer, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let signature = encode(&signer.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// SHA-256 in base64url.
pub fn hash(text: &str) -> String {
    encode(digest(&SHA256, text.as_bytes()).as_ref())
}

/// Another number each time.
pub fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
