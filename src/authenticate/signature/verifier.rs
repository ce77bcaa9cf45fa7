//! Checks signature values, with the key that is named or with a decoy that costs the same.

use std::cell::Cell;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::authenticate::signature::algorithm::Algorithm;
use crate::authenticate::signature::base::{self, Message};
use crate::authenticate::signature::fields::Malformed;
use crate::authenticate::signature::input::Input;
use crate::authenticate::signature::public_key::PublicKey;

/// A base has seldom more bytes; the memory of one that has is not kept.
const BASE_BYTES_KEPT: usize = 4096;

thread_local! {
    /// The memory that the bases of a thread are written to, one after the other.
    static BASE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The lengths of RSA signatures, in bytes, for which there are decoys: 2048, 3072, 4096 and 8192 bits.
const RSA_BYTES: [usize; 4] = [256, 384, 512, 1024];

/// What checks the signatures of one key.
#[derive(Debug)]
pub struct Verifier(Kind);

#[derive(Debug)]
enum Kind {
    Mac(hmac::Key),
    Public(PublicKey),
}

impl Verifier {
    /// Of a secret that both sides hold, for hmac-sha256.
    pub fn hmac(secret: &[u8]) -> Self {
        Self(Kind::Mac(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// Of the public key of somebody who keeps the private one.
    pub fn public(key: PublicKey) -> Self {
        Self(Kind::Public(key))
    }

    /// The one algorithm of the key.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Kind::Mac(_) => Algorithm::HmacSha256,
            Kind::Public(key) => key.algorithm(),
        }
    }

    /// How many bytes a signature by this key has.
    pub fn signature_bytes(&self) -> usize {
        match &self.0 {
            Kind::Mac(_) => 32,
            Kind::Public(key) => key.signature_bytes(),
        }
    }

    /// Whether this key made the signature over what `input` covers of the message.
    ///
    /// # Errors
    /// As [`base::write`].
    pub fn verify(
        &self,
        message: &Message<'_>,
        input: &Input<'_>,
        signature: &[u8],
    ) -> Result<bool, Malformed> {
        let mut base = BASE.take();
        base.clear();
        let written = base::write(message, input, &mut base);
        let verified = written.map(|()| match &self.0 {
            Kind::Mac(key) => hmac::verify(key, &base, signature).is_ok(),
            Kind::Public(key) => key.verify(&base, signature),
        });
        if base.capacity() <= BASE_BYTES_KEPT {
            BASE.set(base);
        }
        verified
    }
}

/// Keys that are nobody's, for each algorithm. An unknown key costs what a known one does.
#[derive(Debug)]
pub struct Decoys {
    mac: Verifier,
    ed25519: Verifier,
    ecdsa: Verifier,
    /// Of each length, the shortest first.
    pss: [Verifier; 4],
    v1_5: [Verifier; 4],
}

impl Decoys {
    /// Makes them. What they verify is never accepted, so it does not matter who could sign for
    /// them: they only have to be keys that the arithmetic takes.
    pub fn make() -> Self {
        let public = |algorithm, text: &str| match PublicKey::read(algorithm, text) {
            Ok(key) => Verifier::public(key),
            // Unreachable while the tests hold; another cost, and still no way in.
            Err(_) => Verifier::hmac(&[0; 32]),
        };
        let rsa = |algorithm, bytes: usize| {
            // 2^n - 1 is odd and has n bits, which is all that is asked of a modulus.
            let modulus = URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
            public(algorithm, &format!(r#"{{"kty":"RSA","n":"{modulus}","e":"AQAB"}}"#))
        };
        Self {
            mac: Verifier::hmac(&[0; 32]),
            ed25519: public(Algorithm::Ed25519, ED25519_POINT),
            ecdsa: public(Algorithm::EcdsaP256Sha256, P256_POINT),
            pss: RSA_BYTES.map(|bytes| rsa(Algorithm::RsaPssSha512, bytes)),
            v1_5: RSA_BYTES.map(|bytes| rsa(Algorithm::RsaV1_5Sha256, bytes)),
        }
    }

    /// The decoy that costs what the key would that a caller pretends to: one of the algorithm that
    /// the message names, or else of one whose signatures have so many bytes.
    pub fn like(&self, claimed: Option<Algorithm>, signature: &[u8]) -> &Verifier {
        let length = signature.len();
        let Self { mac, ed25519, ecdsa, pss, v1_5 } = self;
        match claimed {
            Some(Algorithm::Ed25519) => ed25519,
            Some(Algorithm::EcdsaP256Sha256) => ecdsa,
            Some(Algorithm::RsaPssSha512) => as_long(pss, length),
            Some(Algorithm::RsaV1_5Sha256) => as_long(v1_5, length),
            Some(Algorithm::HmacSha256) => mac,
            None if length == 64 => ed25519,
            None if RSA_BYTES.contains(&length) => as_long(pss, length),
            None => mac,
        }
    }
}

/// The decoy whose signatures have so many bytes; the shortest where there is none.
fn as_long([shortest, longer @ ..]: &[Verifier; 4], length: usize) -> &Verifier {
    longer.iter().find(|decoy| decoy.signature_bytes() == length).unwrap_or(shortest)
}

/// The base point of Ed25519 (RFC 8032, section 5.1).
const ED25519_POINT: &str = "WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY=";
/// The base point of P-256 (SEC 2, section 2.4.2).
const P256_POINT: &str = r#"{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}"#;
