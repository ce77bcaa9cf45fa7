//! The public keys of partners who sign without sharing a secret.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};

use crate::authenticate::rsa::{Weakness, weakness};
use crate::authenticate::signature::algorithm::Algorithm;

/// No written key is longer; an RSA key of 8192 bits takes some 1,500 bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
/// The algorithm identifiers of SubjectPublicKeyInfo, without their outer tag (RFC 8410, RFC 5480,
/// RFC 8017).
const OF_ED25519: &[u8] = &[0x06, 3, 0x2b, 0x65, 0x70];
const OF_P256: &[u8] =
    &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const OF_RSA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0];

/// A public key and the one algorithm that it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct PublicKey {
    algorithm: Algorithm,
    /// As verifying takes it: 32 bytes of Ed25519, an uncompressed point of P-256, or a PKCS#1
    /// RSAPublicKey.
    key: Box<[u8]>,
}

/// A public key as programs write it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    algorithm: Algorithm,
    key: String,
}

/// What keeps a text from being a public key. Holds nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKey(pub &'static str);

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadKey {}

impl PublicKey {
    /// Reads a key for this algorithm: PEM (`PUBLIC KEY` or `RSA PUBLIC KEY`), a JWK (RFC 7517), or
    /// the base64 of its bytes.
    ///
    /// # Errors
    /// When it is none, or one for another algorithm, when it holds a private key, or when RSA has
    /// fewer than 2048 bits.
    pub fn read(algorithm: Algorithm, text: &str) -> Result<Self, BadKey> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(BadKey("it is too long"));
        }
        if algorithm == Algorithm::HmacSha256 {
            return Err(BadKey("hmac-sha256 has no public key; its secret is made here"));
        }
        let bytes = if text.starts_with('{') {
            from_jwk(algorithm, text)?
        } else if text.starts_with("-----BEGIN") {
            from_pem(text)?
        } else {
            STANDARD.decode(text).map_err(|_| BadKey("it is no PEM, no JWK and no base64"))?
        };
        Self::from_bytes(algorithm, &bytes)
    }

    /// Takes the bytes of a key, bare or within SubjectPublicKeyInfo.
    fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, BadKey> {
        const OTHER: BadKey = BadKey("it is no public key for this algorithm");
        let wrapped = unwrapped(bytes);
        let bare = match (algorithm, wrapped) {
            (Algorithm::Ed25519, Some((OF_ED25519, key)))
            | (Algorithm::EcdsaP256Sha256, Some((OF_P256, key)))
            | (Algorithm::RsaPssSha512 | Algorithm::RsaV1_5Sha256, Some((OF_RSA, key))) => key,
            (_, Some(_)) => return Err(OTHER),
            (_, None) => bytes,
        };
        match algorithm {
            Algorithm::HmacSha256 => return Err(OTHER),
            Algorithm::Ed25519 if bare.len() == 32 => {}
            Algorithm::EcdsaP256Sha256 if bare.len() == 65 && bare.first() == Some(&4) => {}
            Algorithm::Ed25519 | Algorithm::EcdsaP256Sha256 => return Err(OTHER),
            Algorithm::RsaPssSha512 | Algorithm::RsaV1_5Sha256 => {
                let says = match weakness(modulus(bare).ok_or(OTHER)?) {
                    None => None,
                    Some(Weakness::Short) => Some("an RSA key needs at least 2048 bits"),
                    Some(Weakness::Long) => Some("an RSA key may have at most 8192 bits"),
                    Some(Weakness::Roca) => {
                        Some("anybody can break this RSA key (ROCA, CVE-2017-15361)")
                    }
                };
                says.map_or(Ok(()), |says| Err(BadKey(says)))?;
            }
        }
        Ok(Self { algorithm, key: bare.into() })
    }

    /// The algorithm that it is for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How many bytes a signature with it has.
    pub fn signature_bytes(&self) -> usize {
        match self.algorithm {
            Algorithm::HmacSha256 => 32,
            Algorithm::Ed25519 | Algorithm::EcdsaP256Sha256 => 64,
            Algorithm::RsaPssSha512 | Algorithm::RsaV1_5Sha256 => {
                modulus(&self.key).map_or(0, <[u8]>::len)
            }
        }
    }

    /// Whether the holder of the private key signed this message so.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let by: &'static dyn VerificationAlgorithm = match self.algorithm {
            // There is no such key: see `from_bytes`.
            Algorithm::HmacSha256 => return false,
            Algorithm::Ed25519 => &ED25519,
            Algorithm::EcdsaP256Sha256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::RsaPssSha512 => &RSA_PSS_2048_8192_SHA512,
            Algorithm::RsaV1_5Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(by, &self.key).verify(message, signature).is_ok()
    }
}

impl TryFrom<Written> for PublicKey {
    type Error = BadKey;

    fn try_from(written: Written) -> Result<Self, BadKey> {
        Self::read(written.algorithm, &written.key)
    }
}

impl From<PublicKey> for Written {
    fn from(key: PublicKey) -> Self {
        Self { algorithm: key.algorithm, key: STANDARD.encode(&key.key) }
    }
}

/// The bytes within a PEM block.
fn from_pem(text: &str) -> Result<Vec<u8>, BadKey> {
    if text.contains("PRIVATE KEY-----") {
        return Err(BadKey("it holds a private key, which belongs to the partner alone"));
    }
    let inner = ["PUBLIC KEY", "RSA PUBLIC KEY"].into_iter().find_map(|label| {
        let rest = text.strip_prefix(&format!("-----BEGIN {label}-----"))?;
        rest.strip_suffix(&format!("-----END {label}-----"))
    });
    let inner = inner.ok_or(BadKey("it is no PEM of one public key"))?;
    let joined: String = inner.split_ascii_whitespace().collect();
    STANDARD.decode(joined).map_err(|_| BadKey("its PEM is no base64"))
}

/// A JSON Web Key (RFC 7517, RFC 7518 section 6, RFC 8037) as the bytes that it stands for.
fn from_jwk(algorithm: Algorithm, text: &str) -> Result<Vec<u8>, BadKey> {
    let key: serde_json::Value =
        serde_json::from_str(text).map_err(|_| BadKey("its JWK is no JSON"))?;
    if key.get("d").is_some() {
        return Err(BadKey("it holds a private key, which belongs to the partner alone"));
    }
    let text = |name: &str| key.get(name).and_then(serde_json::Value::as_str);
    let bytes = |name: &str| {
        text(name)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .ok_or(BadKey("its JWK lacks a member of its kind"))
    };
    match (algorithm, text("kty"), text("crv")) {
        (Algorithm::Ed25519, Some("OKP"), Some("Ed25519")) => bytes("x"),
        (Algorithm::EcdsaP256Sha256, Some("EC"), Some("P-256")) => {
            Ok([[4].as_slice(), &bytes("x")?, &bytes("y")?].concat())
        }
        (Algorithm::RsaPssSha512 | Algorithm::RsaV1_5Sha256, Some("RSA"), _) => {
            let numbers = [integer(&bytes("n")?), integer(&bytes("e")?)].concat();
            Ok(der(SEQUENCE, &numbers))
        }
        _ => Err(BadKey("its JWK is for another algorithm")),
    }
}

/// The algorithm identifier and the key of a SubjectPublicKeyInfo; nothing when it is none.
fn unwrapped(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (outer, []) = taken(bytes, SEQUENCE)? else { return None };
    let (algorithm, rest) = taken(outer, SEQUENCE)?;
    let (bits, []) = taken(rest, BIT_STRING)? else { return None };
    // No bit of the last byte is unused in any of these keys.
    Some((algorithm, bits.strip_prefix(&[0])?))
}

/// The modulus of a PKCS#1 RSAPublicKey; nothing when it is none.
fn modulus(bytes: &[u8]) -> Option<&[u8]> {
    let (numbers, []) = taken(bytes, SEQUENCE)? else { return None };
    let (modulus, rest) = taken(numbers, INTEGER)?;
    let (_, []) = taken(rest, INTEGER)? else { return None };
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    modulus.first().is_some_and(|first| *first != 0).then_some(modulus)
}

/// The content of a DER element with this tag, and what follows it (X.690, section 8.1).
fn taken(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match bytes {
        [own, short, rest @ ..] if *own == tag && *short < 0x80 => (usize::from(*short), rest),
        [own, 0x81, length, rest @ ..] if *own == tag => (usize::from(*length), rest),
        [own, 0x82, high, low, rest @ ..] if *own == tag => {
            (usize::from(u16::from_be_bytes([*high, *low])), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A DER element.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head: &[u8] = match length {
        [0, short @ ..0x80] => &[tag, short],
        [0, long] => &[tag, 0x81, long],
        [high, low] => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}

/// A DER integer of this unsigned number.
fn integer(number: &[u8]) -> Vec<u8> {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let number = number.get(start..).unwrap_or_default();
    let is_high = number.first().is_none_or(|first| *first >= 0x80);
    der(INTEGER, &[if is_high { &[0][..] } else { &[] }, number].concat())
}
