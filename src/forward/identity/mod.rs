//! Tells the service behind who calls, in a header that only the gateway can have written.
//!
//! There are two forms, and an upstream gets one of them. A *token* is a JWT that the gateway signs
//! with keys of its own, and that anybody can verify who has their public halves ([`token`],
//! [`issuer`]). A *MAC* needs a secret that the service shares:
//!
//! `"v2." BASE64URL(JSON) "." BASE64URL(HMAC-SHA256)`, without padding. The MAC is taken over a
//! fixed prefix and the encoded JSON, so that nobody has to agree on how JSON is written, and the
//! same secret can never be made to sign anything else. It holds for one method, one path, one
//! query and two minutes, so that a copied header opens nothing. Version 1, which begins with the
//! JSON at once, says nothing of the query; it is for verifiers that know nothing else.

pub mod issuer;
pub mod rule;
pub mod token;

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::authenticate::Grant;
use crate::clock::Now;
use crate::forward::identity::token::Tokens;
use crate::name::Name;
use crate::secret::Secret;
use crate::secret::watched::Watched;

/// The header's name.
pub const IDENTITY: HeaderName = HeaderName::from_static("x-portcullis-identity");

/// The longest header that is made or looked at, in bytes.
const LENGTH_MAX: usize = 8192;

/// How far the time of signing may lie from the time of reading, in seconds.
const SKEW_S_MAX: u64 = 60;

/// What a header of version 2 begins with.
const SECOND: &[u8] = b"v2";

/// The form of a header with a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Without scopes and query.
    First,
    /// With them.
    Second,
}

impl Version {
    /// What is signed in front of the encoded JSON.
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::First => b"portcullis-identity-v1.",
            Self::Second => b"portcullis-identity-v2.",
        }
    }
}

/// What the service is told of one request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the caller's credential gives; nothing for an anonymous caller.
    pub grant: Option<&'a Grant>,
    /// The method, as it is forwarded.
    pub method: &'a str,
    /// The path without query, as it is forwarded.
    pub path: &'a str,
    /// The query without its `?`, as it is forwarded; empty when there is none.
    pub query: &'a str,
    /// The request's id.
    pub request_id: &'a str,
}

/// How one upstream is told who calls.
#[derive(Debug)]
pub enum Teller {
    /// With the MAC of a secret that the service shares.
    Mac(Signer),
    /// With a token that the gateway signs.
    Token(Tokens),
}

impl Teller {
    /// The header's value; nothing when it cannot be made, and then the request must not be sent.
    pub fn tell(&self, facts: &Facts<'_>, now: Now) -> Option<HeaderValue> {
        match self {
            Self::Mac(signer) => signer.sign(facts, now),
            Self::Token(tokens) => tokens.token(facts, now),
        }
    }

    /// Whether what is told holds for one request alone, its query included.
    pub fn binds_query(&self) -> bool {
        match self {
            Self::Mac(signer) => signer.version == Version::Second,
            Self::Token(tokens) => tokens.binds_request(),
        }
    }
}

/// The key of one upstream's MACs, which follows its secret where that lies in a file.
pub type MacKey = Arc<Watched<hmac::Key>>;

/// The key that is made of a secret.
pub(in crate::forward) fn mac_key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose())
}

/// Signs identities with one upstream's secret.
pub struct Signer {
    key: MacKey,
    version: Version,
}

impl Signer {
    /// A signer with this secret, which the service shares.
    pub fn new(secret: &Secret, version: Version) -> Self {
        Self::following(Arc::new(Watched::fixed(mac_key(secret))), version)
    }

    /// A signer with this key, whose secret the service shares.
    pub(in crate::forward) fn following(key: MacKey, version: Version) -> Self {
        Self { key, version }
    }

    /// A verifier of what this signs, which follows the secret as this does.
    pub fn verifier(&self) -> Verifier {
        Verifier(Arc::clone(&self.key))
    }

    /// Follows the reference to the secret again. True when another one is in force.
    ///
    /// # Errors
    /// What is there is no good; what was there before stays in force.
    pub(in crate::forward) fn reload_if_changed(&self) -> Result<bool, String> {
        self.key.reload_if_changed().map_err(|fault| fault.sentence())
    }

    /// The header's value; nothing when the facts would make it longer than a reader accepts.
    pub fn sign(&self, facts: &Facts<'_>, now: Now) -> Option<HeaderValue> {
        let second = self.version == Version::Second;
        let texts = |names: fn(&Grant) -> &crate::name::Names| -> Vec<&'static str> {
            facts
                .grant
                .map(|grant| names(grant).iter().map(Name::text).collect())
                .unwrap_or_default()
        };
        let written = Written {
            sub: facts.grant.map(|grant| &*grant.subject),
            roles: texts(|grant| &grant.roles),
            scopes: second.then(|| texts(|grant| &grant.scopes)),
            tier: facts.grant.and_then(|grant| grant.tier).map(Name::text),
            method: facts.method,
            path: facts.path,
            query: second.then_some(facts.query),
            iat: now.unix_s(),
            rid: facts.request_id,
        };
        let json = serde_json::to_vec(&written).ok()?;
        let mut text = String::new();
        if second {
            text.push_str("v2.");
        }
        let begin = text.len();
        URL_SAFE_NO_PAD.encode_string(json, &mut text);
        let mac = mac(&self.key.load(), self.version, text.get(begin..)?.as_bytes());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(mac.as_ref(), &mut text);
        header_value(text)
    }
}

/// A header's value that readers accept; nothing when it is too long.
fn header_value(text: String) -> Option<HeaderValue> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
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
    /// The caller's scopes. Version 1 tells none.
    #[serde(default)]
    pub scopes: Vec<Box<str>>,
    /// The caller's tier.
    pub tier: Option<Box<str>>,
    /// The method it was signed for.
    pub method: Box<str>,
    /// The path it was signed for.
    pub path: Box<str>,
    /// The query it was signed for, empty when there was none. Version 1 tells nothing of it.
    #[serde(default)]
    pub query: Option<Box<str>>,
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
    /// It was signed for another method, path or query.
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
pub struct Verifier(MacKey);

impl Verifier {
    /// A verifier with the secret that the gateway signs with.
    pub fn new(secret: &Secret) -> Self {
        Self(Arc::new(Watched::fixed(mac_key(secret))))
    }

    /// Who sent the request with this method, path and query, when `value` proves it. The query is
    /// what follows the `?`, empty when nothing does; a header of version 1 holds for any.
    ///
    /// # Errors
    /// Why it proves nothing. Nothing of the JSON is read before the MAC is found right, which
    /// takes the same time wherever it is wrong.
    pub fn verify(
        &self,
        value: &[u8],
        (method, path, query): (&str, &str, &str),
        now: Now,
    ) -> Result<Identity, IdentityFault> {
        if value.len() > LENGTH_MAX {
            return Err(IdentityFault::TooLong);
        }
        let mut parts = value.split(|byte| *byte == b'.');
        let (version, text, mac) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(text), Some(mac), None, None) => (Version::First, text, mac),
            (Some(SECOND), Some(text), Some(mac), None) => (Version::Second, text, mac),
            _ => return Err(IdentityFault::Malformed),
        };
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| IdentityFault::Malformed)?;
        let signed = [version.prefix(), text].concat();
        hmac::verify(&self.0.load(), &signed, &mac).map_err(|_| IdentityFault::Wrong)?;
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| IdentityFault::Malformed)?;
        let identity: Identity =
            serde_json::from_slice(&json).map_err(|_| IdentityFault::Malformed)?;
        if identity.signed_at_s.abs_diff(now.unix_s()) > SKEW_S_MAX {
            return Err(IdentityFault::Stale);
        }
        let covers = match version {
            Version::First => identity.query.is_none(),
            Version::Second => identity.query.as_deref() == Some(query),
        };
        if &*identity.method != method || &*identity.path != path || !covers {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<&'a str>>,
    tier: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    iat: u64,
    rid: &'a str,
}

fn mac(key: &hmac::Key, version: Version, text: &[u8]) -> hmac::Tag {
    let mut signing = hmac::Context::with_key(key);
    signing.update(version.prefix());
    signing.update(text);
    signing.sign()
}

#[cfg(test)]
mod tests;
