//! Checks signature values, with the key that is named or with a decoy that costs the same.

use ring::hmac;

use crate::authenticate::signature::algorithm::Algorithm;
use crate::authenticate::signature::base::{self, Message};
use crate::authenticate::signature::fields::Malformed;
use crate::authenticate::signature::input::Input;
use crate::authenticate::signature::public_key::PublicKey;
use crate::secret;

/// A base has seldom more bytes; one that has grows.
const BASE_BYTES: usize = 512;
/// How many bytes an RSA signature of 2048 bits has.
const RSA_BYTES: usize = 256;

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
        match &self.0 {
            Kind::Mac(key) => {
                let mut context = hmac::Context::with_key(key);
                base::write(message, input, &mut context)?;
                Ok(secret::equal(context.sign().as_ref(), signature))
            }
            Kind::Public(key) => {
                let mut base = Vec::with_capacity(BASE_BYTES);
                base::write(message, input, &mut base)?;
                Ok(key.verify(&base, signature))
            }
        }
    }
}

/// Keys that are nobody's, one for each algorithm. An unknown key costs what a known one does.
#[derive(Debug)]
pub struct Decoys([Verifier; 5]);

impl Decoys {
    /// Makes them. What they verify is never accepted, so it does not matter who could sign for
    /// them: they only have to be keys that the arithmetic takes.
    pub fn make() -> Self {
        let public = |algorithm, text| match PublicKey::read(algorithm, text) {
            Ok(key) => Verifier::public(key),
            // Unreachable while the tests hold; another cost, and still no way in.
            Err(_) => Verifier::hmac(&[0; 32]),
        };
        // 2^2048 - 1 is odd and has 2048 bits, which is all that is asked of a modulus.
        let modulus = "_".repeat(RSA_BYTES * 8 / 6) + "w";
        let rsa = format!(r#"{{"kty":"RSA","n":"{modulus}","e":"AQAB"}}"#);
        Self([
            Verifier::hmac(&[0; 32]),
            public(Algorithm::Ed25519, ED25519_POINT),
            public(Algorithm::EcdsaP256Sha256, P256_POINT),
            public(Algorithm::RsaPssSha512, &rsa),
            public(Algorithm::RsaV1_5Sha256, &rsa),
        ])
    }

    /// The decoy that costs what the key would that a caller pretends to: one of the algorithm that
    /// the message names, or else of one whose signatures have so many bytes.
    pub fn like(&self, claimed: Option<Algorithm>, signature: &[u8]) -> &Verifier {
        let [mac, ed25519, ecdsa, pss, v1_5] = &self.0;
        match (claimed, signature.len()) {
            (Some(Algorithm::Ed25519), _) => ed25519,
            (Some(Algorithm::EcdsaP256Sha256), _) => ecdsa,
            (Some(Algorithm::RsaPssSha512), _) => pss,
            (Some(Algorithm::RsaV1_5Sha256), _) => v1_5,
            (Some(Algorithm::HmacSha256), _) => mac,
            (None, 64) => ed25519,
            (None, RSA_BYTES..) => pss,
            (None, _) => mac,
        }
    }
}

/// The base point of Ed25519 (RFC 8032, section 5.1).
const ED25519_POINT: &str = "WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY=";
/// The base point of P-256 (SEC 2, section 2.4.2).
const P256_POINT: &str = r#"{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}"#;
