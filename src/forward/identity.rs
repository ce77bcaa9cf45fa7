//! Tells the service behind who calls, in a header that only the gateway can have written.
//!
//! The header is `BASE64URL(JSON) "." BASE64URL(HMAC-SHA256)`, without padding. The MAC is taken over a
//! fixed prefix and the encoded JSON, so that nobody has to agree on how JSON is written, and the
//! same secret can never be made to sign anything else. It holds for one method, one path and two
//! minutes, so that a copied header opens nothing.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::name::{Name, Names};
use crate::secret::Secret;

/// The header's name.
pub const IDENTITY: HeaderName = HeaderName::from_static("x-portcullis-identity");

/// The longest header that is made or looked at, in bytes.
const LENGTH_MAX: usize = 8192;

/// How far the time of signing may lie from the time of reading, in seconds.
const SKEW_S_MAX: u64 = 60;

/// What is signed in front of the encoded JSON.
const PREFIX: &[u8] = b"portcullis-identity-v1.";

/// What the service is told of one request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who calls; nothing for an anonymous caller.
    pub subject: Option<&'a str>,
    /// The caller's roles.
    pub roles: Option<&'a Names>,
    /// The caller's tier.
    pub tier: Option<Name>,
    /// The method, as it is forwarded.
    pub method: &'a str,
    /// The path without query, as it is forwarded.
    pub path: &'a str,
    /// The request's id.
    pub request_id: &'a str,
}

/// Signs identities with one upstream's secret.
pub struct Signer(hmac::Key);

impl Signer {
    /// A signer with this secret, which the service shares.
    pub fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
    }

    /// The header's value; nothing when the facts would make it longer than a reader accepts.
    pub fn sign(&self, facts: &Facts<'_>, now: Now) -> Option<HeaderValue> {
        let written = Written {
            sub: facts.subject,
            roles: facts
                .roles
                .map(|roles| roles.iter().map(Name::text).collect())
                .unwrap_or_default(),
            tier: facts.tier.map(Name::text),
            method: facts.method,
            path: facts.path,
            iat: now.unix_s(),
            rid: facts.request_id,
        };
        let json = serde_json::to_vec(&written).ok()?;
        let mut text = URL_SAFE_NO_PAD.encode(json);
        let mac = mac(&self.0, text.as_bytes());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(mac.as_ref(), &mut text);
        if text.len() > LENGTH_MAX {
            return None;
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// Who calls, as the gateway proved it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Who calls; nothing for an anonymous caller.
    #[serde(rename = "sub")]
    pub subject: Option<Box<str>>,
    /// The caller's roles.
    pub roles: Vec<Box<str>>,
    /// The caller's tier.
    pub tier: Option<Box<str>>,
    /// The method it was signed for.
    pub method: Box<str>,
    /// The path it was signed for.
    pub path: Box<str>,
    /// When it was signed, in Unix seconds.
    #[serde(rename = "iat")]
    pub signed_at_s: u64,
    /// The request's id.
    #[serde(rename = "rid")]
    pub request_id: Box<str>,
}

/// Why an identity is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityFault {
    /// It is longer than any that the gateway makes.
    TooLong,
    /// It does not have the form of an identity.
    Malformed,
    /// Somebody else made it, or it was changed.
    Wrong,
    /// It was signed more than a minute ago, or ahead.
    Stale,
    /// It was signed for another method or path.
    Elsewhere,
}

impl fmt::Display for IdentityFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the identity is too long",
            Self::Malformed => "the identity is malformed",
            Self::Wrong => "the identity was not signed by this gateway",
            Self::Stale => "the identity is too old or lies ahead",
            Self::Elsewhere => "the identity was signed for another request",
        })
    }
}

impl std::error::Error for IdentityFault {}

/// Verifies identities, on the service's side.
pub struct Verifier(hmac::Key);

impl Verifier {
    /// A verifier with the secret that the gateway signs with.
    pub fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
    }

    /// Who sent the request with this method and path, when `value` proves it.
    ///
    /// # Errors
    /// Why it proves nothing. Nothing of the JSON is read before the MAC is found right, which
    /// takes the same time wherever it is wrong.
    pub fn verify(
        &self,
        value: &[u8],
        method: &str,
        path: &str,
        now: Now,
    ) -> Result<Identity, IdentityFault> {
        if value.len() > LENGTH_MAX {
            return Err(IdentityFault::TooLong);
        }
        let mut parts = value.split(|byte| *byte == b'.');
        let (Some(text), Some(mac), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(IdentityFault::Malformed);
        };
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| IdentityFault::Malformed)?;
        let signed = [PREFIX, text].concat();
        hmac::verify(&self.0, &signed, &mac).map_err(|_| IdentityFault::Wrong)?;
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| IdentityFault::Malformed)?;
        let identity: Identity =
            serde_json::from_slice(&json).map_err(|_| IdentityFault::Malformed)?;
        if identity.signed_at_s.abs_diff(now.unix_s()) > SKEW_S_MAX {
            return Err(IdentityFault::Stale);
        }
        if &*identity.method != method || &*identity.path != path {
            return Err(IdentityFault::Elsewhere);
        }
        Ok(identity)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

#[derive(Serialize)]
struct Written<'a> {
    sub: Option<&'a str>,
    roles: Vec<&'a str>,
    tier: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    iat: u64,
    rid: &'a str,
}

fn mac(key: &hmac::Key, text: &[u8]) -> hmac::Tag {
    let mut signing = hmac::Context::with_key(key);
    signing.update(PREFIX);
    signing.update(text);
    signing.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { steady_ns: 0, unix_ms: 1_764_000_000_000 };

    fn secret() -> Secret {
        Secret::new(vec![7; 32])
    }

    fn signed(roles: &Names) -> HeaderValue {
        let facts = Facts {
            subject: Some("user-1"),
            roles: Some(roles),
            tier: None,
            method: "GET",
            path: "/v1/tasks",
            request_id: "01J00000000000000000000000",
        };
        Signer::new(&secret()).sign(&facts, NOW).unwrap()
    }

    #[test]
    fn the_service_reads_what_the_gateway_signed() {
        let roles: Names = ["admin", "editor"].into_iter().collect();
        let value = signed(&roles);
        let verifier = Verifier::new(&secret());
        let identity = verifier.verify(value.as_bytes(), "GET", "/v1/tasks", NOW).unwrap();
        assert_eq!(identity.subject.as_deref(), Some("user-1"));
        assert_eq!(identity.roles.len(), 2);
        assert_eq!(identity.signed_at_s, 1_764_000_000);
    }

    #[test]
    fn an_identity_holds_for_its_own_request_and_time_alone() {
        let value = signed(&Names::default());
        let value = value.as_bytes();
        let verifier = Verifier::new(&secret());
        let check = |method, path, now| verifier.verify(value, method, path, now).unwrap_err();
        assert_eq!(check("PUT", "/v1/tasks", NOW), IdentityFault::Elsewhere);
        assert_eq!(check("GET", "/v1/tasks/1", NOW), IdentityFault::Elsewhere);
        for unix_ms in [NOW.unix_ms - 61_000, NOW.unix_ms + 61_000] {
            let now = Now { unix_ms, ..NOW };
            assert_eq!(check("GET", "/v1/tasks", now), IdentityFault::Stale);
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let value = signed(&Names::default());
        let verifier = Verifier::new(&secret());
        for at in 0..value.len() {
            let mut changed = value.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(verifier.verify(&changed, "GET", "/v1/tasks", NOW).is_err(), "{at}");
        }
        let other = Verifier::new(&Secret::new(vec![8; 32]));
        let fault = other.verify(value.as_bytes(), "GET", "/v1/tasks", NOW).unwrap_err();
        assert_eq!(fault, IdentityFault::Wrong);
        let long = vec![b'A'; LENGTH_MAX + 1];
        assert_eq!(verifier.verify(&long, "GET", "/", NOW).unwrap_err(), IdentityFault::TooLong);
        assert_eq!(verifier.verify(b"", "GET", "/", NOW).unwrap_err(), IdentityFault::Malformed);
    }

    #[test]
    fn what_no_reader_would_accept_is_not_signed() {
        let path = "/x".repeat(LENGTH_MAX);
        let facts = Facts {
            subject: None,
            roles: None,
            tier: None,
            method: "GET",
            path: &path,
            request_id: "",
        };
        assert_eq!(Signer::new(&secret()).sign(&facts, NOW), None);
    }
}
