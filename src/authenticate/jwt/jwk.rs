//! Keys that tokens are verified with, each for one algorithm (RFC 7517, RFC 7518).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::signature::{RsaPublicKeyComponents, UnparsedPublicKey};

use crate::authenticate::jwt::algorithm::{Algorithm, Ring};
use crate::authenticate::jwt::decoy;
use crate::authenticate::jwt::json::{Json, Object};
use crate::authenticate::rsa::{Weakness, weakness};
use crate::secret::Secret;

/// The longest name of a key, in bytes.
const KID_BYTES_MAX: usize = 256;

/// Members that only a private or shared key has.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A key, with its one algorithm.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    material: Material,
}

#[derive(Clone)]
enum Material {
    /// A point of an elliptic curve, as `ring` takes it.
    Point(Box<[u8]>),
    /// Modulus and exponent.
    Rsa { n: Box<[u8]>, e: Box<[u8]> },
    /// A shared secret.
    Shared(hmac::Key, Secret),
}

impl PartialEq for Material {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Point(one), Self::Point(other)) => one == other,
            (Self::Rsa { n, e }, Self::Rsa { n: other_n, e: other_e }) => {
                n == other_n && e == other_e
            }
            (Self::Shared(_, one), Self::Shared(_, other)) => {
                crate::secret::equal(one.expose(), other.expose())
            }
            (Self::Point(_) | Self::Rsa { .. } | Self::Shared(..), _) => false,
        }
    }
}

impl Eq for Material {}

/// Why a key of a set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is for something else, or of a kind that is not verified with here. Sets may hold such.
    Foreign,
    /// It is wrong or weak.
    Bad(&'static str),
}

impl Key {
    /// A shared secret as a key. It answers to every name.
    pub fn shared(algorithm: Algorithm, secret: &Secret) -> Self {
        let hmac_algorithm = match algorithm.ring() {
            Ring::Hmac(algorithm) => algorithm,
            Ring::Bytes(_) | Ring::Rsa(_) => hmac::HMAC_SHA256,
        };
        let key = hmac::Key::new(hmac_algorithm, secret.expose());
        Self { kid: None, algorithm, material: Material::Shared(key, secret.clone()) }
    }

    /// A key of a set. `rsa` is the algorithm of RSA keys that name none.
    ///
    /// # Errors
    /// Why it is not used.
    pub fn read(jwk: &Object, rsa: Algorithm) -> Result<Self, Unfit> {
        if PRIVATE.iter().any(|member| jwk.get(member).is_some()) {
            return Err(Unfit::Bad("holds what is secret of it"));
        }
        let verifies = |operation: &Json| operation.text() == Some("verify");
        let is_for_us = jwk.get("use").is_none_or(|usage| usage.text() == Some("sig"))
            && jwk.get("key_ops").is_none_or(|operations| operations.each().iter().any(verifies));
        if !is_for_us {
            return Err(Unfit::Foreign);
        }
        let kid = match jwk.get("kid") {
            None => None,
            Some(Json::Text(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
            Some(_) => return Err(Unfit::Bad("has a `kid` that is no short text")),
        };
        let (usual, material) = material(jwk, rsa)?;
        let algorithm = match jwk.get("alg") {
            None => usual,
            Some(named) => {
                let named = named.text().and_then(Algorithm::by_name).ok_or(Unfit::Foreign)?;
                let fits = named == usual || (named.is_rsa() && usual.is_rsa());
                if !fits {
                    return Err(Unfit::Bad("names an algorithm of another kind of key"));
                }
                named
            }
        };
        Ok(Self { kid, algorithm, material })
    }

    /// Its name in its set.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its one algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether a token that names this key, or none, may be signed by it.
    pub fn answers_to(&self, kid: Option<&str>) -> bool {
        match (&self.material, kid) {
            (Material::Shared(..), _) | (_, None) => true,
            (Material::Point(_) | Material::Rsa { .. }, Some(kid)) => self.kid() == Some(kid),
        }
    }

    /// Whether the signature is this key's over the message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match (self.algorithm.ring(), &self.material) {
            (Ring::Bytes(algorithm), Material::Point(point)) => {
                UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
            }
            (Ring::Rsa(_), Material::Rsa { n, .. }) if n.len() != signature.len() => {
                decoy::verify(self.algorithm, message, signature);
                false
            }
            (Ring::Rsa(parameters), Material::Rsa { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (Ring::Hmac(_), Material::Shared(key, _)) => {
                hmac::verify(key, message, signature).is_ok()
            }
            // A rehearsal's own key stands for keys of every kind.
            (Ring::Bytes(_) | Ring::Rsa(_), Material::Shared(key, _)) => {
                hmac::verify(key, message, signature).is_ok()
            }
            (Ring::Bytes(_) | Ring::Rsa(_) | Ring::Hmac(_), _) => false,
        }
    }

    /// The signature of a shared key over a message; nothing for public keys, which cannot sign.
    pub fn sign(&self, message: &[u8]) -> Option<impl AsRef<[u8]> + use<>> {
        match &self.material {
            Material::Shared(key, _) => Some(hmac::sign(key, message)),
            Material::Point(_) | Material::Rsa { .. } => None,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {:?})", self.algorithm.name(), self.kid)
    }
}

/// The public part of a key, and the algorithm that such keys have.
fn material(jwk: &Object, rsa: Algorithm) -> Result<(Algorithm, Material), Unfit> {
    match (jwk.text("kty"), jwk.text("crv")) {
        (Some("RSA"), _) => {
            let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
            check_rsa(&n, &e)?;
            Ok((rsa, Material::Rsa { n: n.into(), e: e.into() }))
        }
        (Some("EC"), Some("P-256")) => Ok((Algorithm::Es256, point(jwk, 32)?)),
        (Some("EC"), Some("P-384")) => Ok((Algorithm::Es384, point(jwk, 48)?)),
        (Some("OKP"), Some("Ed25519")) => {
            let point = bytes(jwk, "x")?;
            if point.len() != 32 {
                return Err(Unfit::Bad("has an `x` that is not 32 bytes long"));
            }
            Ok((Algorithm::EdDsa, Material::Point(point.into())))
        }
        (Some(_), _) => Err(Unfit::Foreign),
        (None, _) => Err(Unfit::Bad("has no `kty`")),
    }
}

fn point(jwk: &Object, length: usize) -> Result<Material, Unfit> {
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != length || y.len() != length {
        return Err(Unfit::Bad("has coordinates of the wrong length"));
    }
    Ok(Material::Point([&[4][..], &x, &y].concat().into()))
}

/// Minimal encodings, a modulus of a sound length, and an exponent that encrypts at all.
fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), Unfit> {
    let (Some(first), Some(last)) = (n.first(), n.last()) else {
        return Err(Unfit::Bad("has an empty modulus"));
    };
    if *first == 0 || e.first().is_none_or(|first| *first == 0) {
        return Err(Unfit::Bad("has a number that begins with zero"));
    }
    match weakness(n) {
        Some(Weakness::Short | Weakness::Long) => {
            return Err(Unfit::Bad("is an RSA key with fewer than 2048 bits, or more than 8192"));
        }
        Some(Weakness::Roca) => {
            return Err(Unfit::Bad("is an RSA key that anybody can break (ROCA, CVE-2017-15361)"));
        }
        None => {}
    }
    let exponent = e.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let is_sound = e.len() <= 4 && exponent >= 3 && exponent % 2 == 1 && last % 2 == 1;
    is_sound.then_some(()).ok_or(Unfit::Bad("is no RSA key: its exponent or modulus cannot be one"))
}

fn bytes(jwk: &Object, member: &'static str) -> Result<Vec<u8>, Unfit> {
    let text = jwk.text(member).ok_or(Unfit::Bad("lacks a number"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Unfit::Bad("has a number that is no base64url"))
}

/// The SHA-256 thumbprint of a public key (RFC 7638, section 3), in base64url.
pub fn thumbprint(jwk: &Object) -> Option<String> {
    let members: &[&str] = match jwk.text("kty")? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    let mut text = String::from("{");
    for member in members {
        let value = jwk.text(member)?;
        // What needs no escape in JSON; base64url and the names of curves need none.
        if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return None;
        }
        let comma = if text.len() > 1 { "," } else { "" };
        text.push_str(&format!("{comma}\"{member}\":\"{value}\""));
    }
    text.push('}');
    Some(URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Key, Unfit> {
        Key::read(&Object::read(text.as_bytes()).unwrap(), Algorithm::Rs256)
    }

    const P256: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638_and_of_rfc_8037() {
        let rsa = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
        let of = |text: &str| thumbprint(&Object::read(text.as_bytes()).unwrap());
        assert_eq!(of(rsa).as_deref(), Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
        let ed =
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        assert_eq!(of(ed).as_deref(), Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
        assert_eq!(of(r#"{"kty":"oct","k":"AAAA"}"#), None);
    }

    #[test]
    fn each_key_has_one_algorithm() {
        assert_eq!(read(&format!("{{{P256}}}")).unwrap().algorithm(), Algorithm::Es256);
        for (alg, answer) in [
            ("ES256", None),
            ("ES384", Some(Unfit::Bad("names an algorithm of another kind of key"))),
            ("HS256", Some(Unfit::Bad("names an algorithm of another kind of key"))),
            ("none", Some(Unfit::Foreign)),
        ] {
            let key = read(&format!("{{{P256},\"alg\":\"{alg}\"}}"));
            assert_eq!(key.err(), answer, "{alg}");
        }
    }

    #[test]
    fn keys_that_are_weak_secret_or_for_something_else_are_not_taken() {
        let foreign = |more: &str| read(&format!("{{{P256},{more}}}")).unwrap_err();
        assert_eq!(foreign("\"use\":\"enc\""), Unfit::Foreign);
        assert_eq!(foreign("\"key_ops\":[\"sign\"]"), Unfit::Foreign);
        assert_eq!(foreign("\"d\":\"AA\""), Unfit::Bad("holds what is secret of it"));
        assert_eq!(
            read(r#"{"kty":"oct","k":"AAAA"}"#).unwrap_err(),
            Unfit::Bad("holds what is secret of it")
        );
        assert_eq!(read(r#"{"kty":"EC","crv":"secp256k1"}"#).unwrap_err(), Unfit::Foreign);
        let modulus = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let rsa = |n: &[u8], e: &[u8]| {
            read(&format!(r#"{{"kty":"RSA","n":"{}","e":"{}"}}"#, modulus(n), modulus(e)))
        };
        let good = [0xff; 256];
        assert!(rsa(&good, &[1, 0, 1]).is_ok());
        let mut short = [0xff; 256];
        short[0] = 0x7f;
        let mut even = good;
        even[255] = 0xfe;
        for (n, e) in [
            (&short[..], &[1, 0, 1][..]),
            (&good[..128], &[1, 0, 1]),
            (&even, &[1, 0, 1]),
            (&good, &[1]),
            (&good, &[4]),
            (&good, &[0, 1, 0, 1]),
            (&good, &[1, 0, 0, 0, 1]),
            (&[], &[1, 0, 1]),
        ] {
            assert!(matches!(rsa(n, e), Err(Unfit::Bad(_))), "{e:?}");
        }
    }
}
