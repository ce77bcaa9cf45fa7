//! Finds out who calls: asks the route's schemes in turn and makes a `Principal`.

use std::sync::Arc;

use crate::clock::Now;
use crate::head::Head;
use crate::name::{Name, Names};
use crate::refusal::Refusal;

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
