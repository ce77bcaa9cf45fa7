//! Finds out who calls: asks the route's schemes in turn and makes a `Principal`.

pub mod digest;

use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Now;
use crate::head::Head;
use crate::name::{Name, Names};
use crate::refusal::{Reason, Refusal};
use crate::units::Network;

/// What a credential gives to whoever shows it: the facts of one key record that requests need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The public id of the credential, for records; never the secret.
    pub credential: Arc<str>,
    /// Who owns it: the subject that `owner` doors and the service see.
    pub subject: Arc<str>,
    /// Roles, as given to the credential; a policy's `includes` widens them when doors compile.
    pub roles: Names,
    /// Scopes.
    pub scopes: Names,
    /// Tier; nothing means the policy's strictest.
    pub tier: Option<Name>,
}

/// A caller proved for this request. Made by [`Authenticate`](super::authenticate) alone.
#[derive(Clone, Debug)]
pub struct Principal {
    pub(in crate::authenticate) grant: Option<Arc<Grant>>,
    pub(in crate::authenticate) scheme: &'static str,
    pub(in crate::authenticate) digest_covered: bool,
}

impl Principal {
    /// What the credential gives; nothing for an anonymous caller on a route that allows one.
    pub fn grant(&self) -> Option<&Grant> {
        self.grant.as_deref()
    }

    /// The same, shared, for those who keep it longer than the request's own stages.
    pub fn shared_grant(&self) -> Option<Arc<Grant>> {
        self.grant.clone()
    }

    /// The scheme that proved the caller: `api-key`, `signature`, or `none`.
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Whether a signature covered `Content-Digest`, so that the body must be read whole and compared.
    pub fn digest_covered(&self) -> bool {
        self.digest_covered
    }
}

/// One way to prove who calls. Synchronous: a scheme reads memory only.
pub trait Scheme: Send + Sync {
    /// The name, as policy writes it: `api-key`, `signature.request`.
    fn name(&self) -> &str;

    /// Looks at a head for this kind of credential.
    fn attempt(&self, head: &Head, now: Now) -> Attempt;
}

/// The three answers of a scheme. A rejected credential ends the search.
#[derive(Debug)]
pub enum Attempt {
    /// The head holds no credential of this kind.
    Absent,
    /// The credential is good.
    Accepted(Evidence),
    /// There is one, and it is wrong. Its refusal's public face is the same whatever was wrong.
    Rejected(Refusal),
}

/// What a good credential proves.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What it gives.
    pub grant: Arc<Grant>,
    /// Whether it covered `Content-Digest`.
    pub digest_covered: bool,
}

/// When, whence and where a credential holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Unix milliseconds before which it does not hold yet.
    pub not_before_ms: Option<u64>,
    /// Unix milliseconds from which on it no longer holds.
    pub expires_ms: Option<u64>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Networks it may be shown from; none means any.
    pub networks: Box<[Network]>,
}

impl Bounds {
    /// Whether the credential holds now, for a caller at this address.
    ///
    /// # Errors
    /// The private reason why it does not; its public face is always the same.
    pub fn check(&self, client: IpAddr, now: Now) -> Result<(), Reason> {
        if self.revoked {
            return Err(Reason::CredentialRevoked);
        }
        if self.expires_ms.is_some_and(|expires| now.unix_ms >= expires)
            || self.not_before_ms.is_some_and(|begins| now.unix_ms < begins)
        {
            return Err(Reason::CredentialExpired);
        }
        if !self.networks.is_empty()
            && !self.networks.iter().any(|network| network.contains(client))
        {
            return Err(Reason::CredentialNetwork);
        }
        Ok(())
    }
}

/// A shared secret that signs requests (RFC 9421, hmac-sha256).
#[derive(Debug)]
pub struct SigningKey {
    /// The prepared key.
    pub mac: ring::hmac::Key,
    /// What its signatures give.
    pub grant: Arc<Grant>,
    /// When and whence it holds.
    pub bounds: Bounds,
}

/// Where signing keys are found, by their `keyid`. Reads memory only.
pub trait SigningKeys: Send + Sync {
    /// The key with this id.
    fn find(&self, id: &str) -> Option<Arc<SigningKey>>;
}
