//! Takes a token apart: three parts, strict base64url, one JSON header (RFC 7515, RFC 8725).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::authenticate::jwt::algorithm::Algorithm;
use crate::authenticate::jwt::decoy;
use crate::authenticate::jwt::json::{Json, Object};
use crate::authenticate::jwt::jwk::Key;
use crate::refusal::{Reason, Refusal};

/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8192;

/// The longest name of a key, in bytes.
const KID_BYTES_MAX: usize = 256;

/// A signed token, taken apart. Nothing of it is believed before [`Jws::payload`] gave it.
#[derive(Debug)]
pub struct Jws<'a> {
    /// The header's members. Those that bring or name keys are never used.
    pub header: Object,
    /// What the header says it is signed with.
    pub algorithm: Algorithm,
    signed: &'a [u8],
    payload: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Reason::TokenMalformed`] when it is no signed token, [`Reason::TokenAlgorithm`] when it
    /// names none of our algorithms.
    pub fn read(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed("the token has more than 8192 bytes"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            // Five parts are an encrypted token.
            return Err(malformed("the token does not have three parts"));
        };
        let decoded = |part: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("a part is not strict base64url"))
        };
        let header = Object::read(&decoded(header)?)
            .map_err(|_| malformed("the header is not one JSON object without repeated members"))?;
        check_header(&header)?;
        let signature = decoded(signature)?;
        let algorithm = match header.get("alg") {
            Some(Json::Text(name)) => Algorithm::by_name(name),
            Some(_) | None => return Err(malformed("the header has no `alg`")),
        };
        let Some(algorithm) = algorithm else {
            return Err(Refusal::new(Reason::TokenAlgorithm)
                .because("`alg` names no algorithm that is verified here"));
        };
        let signed = token.len() - token.rsplit('.').next().map_or(0, str::len) - 1;
        let signed = token.as_bytes().get(..signed).unwrap_or_default();
        Ok(Self { header, algorithm, signed, payload, signature })
    }

    /// The name of the key, if the header has one.
    ///
    /// # Errors
    /// When it is no short text.
    pub fn kid(&self) -> Result<Option<&str>, Refusal> {
        match self.header.get("kid") {
            None => Ok(None),
            Some(Json::Text(kid)) if kid.len() <= KID_BYTES_MAX => Ok(Some(kid)),
            Some(_) => Err(malformed("`kid` is no short text")),
        }
    }

    /// The claims, when the key signed them.
    ///
    /// # Errors
    /// As [`Jws::verify`], and when the payload is no JSON object.
    pub fn payload(&self, key: &Key) -> Result<Object, Refusal> {
        Object::read(&self.verify(key)?)
            .map_err(|_| malformed("the claims are not one JSON object without repeated members"))
    }

    /// What was signed, when it was the key that signed it.
    ///
    /// # Errors
    /// [`Reason::TokenAlgorithm`] when the token names another algorithm than the key's own,
    /// [`Reason::TokenWrong`] when the signature is not the key's.
    pub fn verify(&self, key: &Key) -> Result<Vec<u8>, Refusal> {
        if self.algorithm != key.algorithm() {
            self.verify_in_vain();
            return Err(Refusal::new(Reason::TokenAlgorithm)
                .because("`alg` names another algorithm than the key's"));
        }
        if !key.verifies(self.signed, &self.signature) {
            return Err(Refusal::new(Reason::TokenWrong));
        }
        URL_SAFE_NO_PAD
            .decode(self.payload)
            .map_err(|_| malformed("the payload is not strict base64url"))
    }

    /// Costs what [`Jws::verify`] does, for a token that names no key of ours.
    pub fn verify_in_vain(&self) {
        decoy::verify(self.algorithm, self.signed, &self.signature);
    }
}

/// The issuer that a token names, whoever made it: only to know whose keys it has to be held against.
pub(in crate::authenticate) fn claimed_issuer(token: &str) -> Option<String> {
    let mut parts = token.split('.').skip(1);
    let (payload, _signature) = (parts.next()?, parts.next()?);
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let claims = Object::read(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims.text("iss").map(str::to_owned)
}

/// What no header may say: that there is more to understand, or that another token lies inside.
fn check_header(header: &Object) -> Result<(), Refusal> {
    if header.get("crit").is_some() {
        return Err(malformed("the header has `crit`, and no extension is understood"));
    }
    if header.get("b64").is_some() || header.get("zip").is_some() || header.get("enc").is_some() {
        return Err(malformed("the header asks for an unencoded, packed or encrypted token"));
    }
    let is_nested = match header.get("cty") {
        None => false,
        Some(Json::Text(kind)) => {
            let kind = kind.to_ascii_lowercase();
            matches!(kind.as_str(), "jwt" | "application/jwt")
        }
        Some(_) => true,
    };
    if is_nested {
        return Err(malformed("the token holds another token"));
    }
    Ok(())
}

pub(in crate::authenticate) fn malformed(says: &'static str) -> Refusal {
    Refusal::new(Reason::TokenMalformed).because(says)
}
