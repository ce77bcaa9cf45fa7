//! Finds out who calls: asks the route's schemes in turn and makes a `Principal`.

pub mod rule;
pub mod challenge;
pub mod bounds;
mod scan;
pub mod key_format;
pub mod key_finder;
pub mod credential;
pub mod usage;
pub mod alarm;
pub mod directory;
pub mod management;
pub mod api_key;
pub mod certificate;
pub mod exposure;
pub mod self_service;
pub mod digest;
pub mod nonce;
mod rsa;
pub mod signature;
pub mod standing;
pub mod assurance;
pub mod bearer;
pub mod client;
pub mod outside;
pub mod sessions;
pub mod jwt;
pub mod introspection;
pub mod ask;
mod identify;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::authenticate::ask::Question;
use crate::authenticate::assurance::Assurance;
use crate::authenticate::bearer::Carried;
use crate::authenticate::bounds::Bounds;
use crate::authenticate::challenge::Challenge;
use crate::authenticate::credential::CredentialId;
use crate::authenticate::directory::entry::Terms;
use crate::authenticate::nonce::Share;
use crate::authenticate::signature::fields::{SIGNATURE, SIGNATURE_INPUT};
use crate::authenticate::signature::verifier::Verifier;
use crate::authenticate::standing::{Keeper, Standing, Standings, Ticket};
use crate::authenticate::usage::Usage;
use crate::clock::Now;
use crate::fields::Fields;
use crate::head::Head;
use crate::mistake::source::Origin;
use crate::name::{Name, Names};
use crate::refusal::{Reason, Refusal};

/// The headers that carry credentials.
static CREDENTIAL_HEADERS: [HeaderName; 5] =
    [jwt::dpop::DPOP, AUTHORIZATION, api_key::X_API_KEY, SIGNATURE, SIGNATURE_INPUT];

/// What a route demands before it knows who calls. Made by [`Authenticate::compile`].
pub struct Authenticate {
    demand: Demand,
    schemes: Box<[Member]>,
    /// What is refused when nothing at all is shown.
    missing: Reason,
    /// For requests without a body and with one; of each, for those who showed nothing, and for those
    /// who showed something that did not do.
    challenges: Option<[(Challenge, Challenge); 2]>,
}

/// How many of the schemes a caller has to satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    None,
    Any,
    All,
}

/// A scheme of a route.
struct Member {
    scheme: Arc<dyn Scheme>,
    /// Its name as policy writes it, or those of the tables that share it.
    names: Vec<Box<str>>,
    /// The first part of the scheme's name, as records show it.
    family: &'static str,
    /// What is refused when nothing of this kind is shown.
    missing: Reason,
}

impl Authenticate {
    /// Whether nothing is asked: `auth = "none"`.
    pub fn is_open(&self) -> bool {
        self.demand == Demand::None
    }

    /// How many proofs a caller has to bring, at least.
    pub fn proofs(&self) -> usize {
        match self.demand {
            Demand::None => 0,
            Demand::Any => 1,
            Demand::All => self.schemes.len(),
        }
    }

    /// The names of its schemes, in the order of the rule; tables of tokens stand together.
    pub fn schemes(&self) -> impl Iterator<Item = &str> {
        self.schemes.iter().flat_map(|member| &member.names).map(|name| &**name)
    }

    /// What is asked for, in words: `api-key`, `api-key and signature.request`, `none`.
    pub fn describe(&self) -> String {
        let names: Vec<&str> = self.schemes().collect();
        match self.demand {
            Demand::None => "none".to_owned(),
            Demand::Any => names.join(" or "),
            Demand::All => names.join(" and "),
        }
    }

    /// What a refusal for this reason has to ask for; nothing unless it is a 401.
    ///
    /// Only those who showed nothing are spared `error`. It also stands where a good key came
    /// without its signature, so that a stolen key cannot be tried out without one.
    /// What a signature has to cover depends on whether there is a body, so the challenge does too.
    pub fn challenge(&self, reason: Reason, with_body: bool) -> Option<&Challenge> {
        let [bare, whole] = self.challenges.as_ref()?;
        let (first, failed) = if with_body { whole } else { bare };
        // A door that asks for more brings a challenge of its own, and so does a proof without nonce.
        let has_own = matches!(reason, Reason::StepUpRequired | Reason::ProofNonce);
        if reason.status() != StatusCode::UNAUTHORIZED || has_own {
            return None;
        }
        Some(if reason == self.missing { first } else { failed })
    }
}

impl std::fmt::Debug for Authenticate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of ", self.demand)?;
        f.debug_list().entries(self.schemes()).finish()
    }
}

/// Whether a header carries a credential, which is nobody's business but ours.
pub fn is_credential(name: &HeaderName) -> bool {
    CREDENTIAL_HEADERS.contains(name)
}

/// What a credential gives to whoever shows it: the facts of one key record that requests need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The public id of the credential, for records; never the secret.
    pub credential: CredentialId,
    /// Who owns it: the subject that `owner` doors and the service see.
    pub subject: Arc<str>,
    /// Roles, as given to the credential; a policy's `includes` widens them when doors compile.
    pub roles: Names,
    /// Scopes.
    pub scopes: Names,
    /// Tier; nothing means the policy's strictest.
    pub tier: Option<Name>,
    /// Unix seconds at which the credential was made; 0 for one that nobody keeps.
    pub made_s: u32,
    /// Unix seconds at which it gives way to its successor; nothing while it has none.
    pub retires_s: Option<NonZeroU32>,
    /// What is noted while it is used.
    pub usage: Usage,
    /// On what terms the directory keeps it; only API keys have such.
    pub terms: Terms,
}

/// A caller proved for this request. Made by [`Authenticate`](super::authenticate) alone.
#[derive(Clone, Debug, Default)]
pub struct Principal {
    pub(in crate::authenticate) grant: Option<Arc<Grant>>,
    pub(in crate::authenticate) scheme: Family,
    pub(in crate::authenticate) digest_covered: bool,
    pub(in crate::authenticate) standings: Standings,
    assurance: Option<Arc<Assurance>>,
    dpop_nonce: Option<Box<HeaderValue>>,
}

/// The first part of a scheme's name; `none` until one has proved the caller.
#[derive(Clone, Copy, Debug)]
pub(in crate::authenticate) struct Family(&'static str);

impl Default for Family {
    fn default() -> Self {
        Self("none")
    }
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
        self.scheme.0
    }

    /// What a token said of how and when its holder was authenticated; nothing without one.
    pub fn assurance(&self) -> Option<&Assurance> {
        self.assurance.as_deref()
    }

    /// Unix seconds at which the credential gives way to its successor; nothing while it has none.
    pub fn retires_s(&self) -> Option<u64> {
        self.grant.as_ref()?.retires_s.map(|at_s| u64::from(at_s.get()))
    }

    /// Whether a signature covered `Content-Digest`, so that the body must be read whole and compared.
    pub fn digest_covered(&self) -> bool {
        self.digest_covered
    }

    /// The nonce that the caller's next proof of possession must have, where it is another than the
    /// one it has; taken once, by whoever answers.
    pub fn take_dpop_nonce(&mut self) -> Option<Box<HeaderValue>> {
        self.dpop_nonce.take()
    }

    /// What tells later whether the caller's credentials still hold; taken once, by whoever carries
    /// the exchange to its end.
    pub fn take_standings(&mut self) -> Standings {
        std::mem::take(&mut self.standings)
    }

    /// Adds what a good credential proves. The first gives; the others only have to be of the
    /// same subject.
    fn accept(&mut self, family: &'static str, evidence: Evidence) -> Result<(), Refusal> {
        match &self.grant {
            Some(grant) if grant.subject != evidence.grant.subject => {
                return Err(Reason::CredentialOwnerMismatch.into());
            }
            Some(_) => {}
            None => {
                self.grant = Some(evidence.grant);
                self.scheme = Family(family);
            }
        }
        self.digest_covered |= evidence.digest_covered;
        evidence.standing.into_iter().for_each(|standing| self.standings.push(standing));
        if self.assurance.is_none() {
            self.assurance = evidence.assurance;
        }
        if self.dpop_nonce.is_none() {
            self.dpop_nonce = evidence.dpop_nonce;
        }
        Ok(())
    }
}

/// One way to prove who calls. Synchronous: a scheme reads memory only.
pub trait Scheme: Send + Sync {
    /// The name, as policy writes it: `api-key`, `signature.request`.
    fn name(&self) -> &str;

    /// Looks at a head for this kind of credential.
    fn attempt(&self, head: &Head, now: Now) -> Attempt;

    /// As [`attempt`](Self::attempt), once a body is read whole and its trailers are known; only
    /// signatures ask for that.
    fn attempt_whole(&self, head: &Head, _: Option<&Fields>, now: Now) -> Attempt {
        self.attempt(head, now)
    }

    /// What `Accept-Signature` says for this scheme (RFC 9421 section 5.1) to requests with or
    /// without a body; only signatures do.
    fn challenge(&self, _with_body: bool) -> Option<HeaderValue> {
        None
    }

    /// The same scheme for a route on which `Authorization` may carry these kinds of credential;
    /// nothing for schemes that do not read it.
    fn on_route(&self, _: Carried) -> Option<Arc<dyn Scheme>> {
        None
    }

    /// What verifies the tokens of each issuer, for the scheme that takes such.
    fn issuers(&self) -> &[Arc<jwt::Verifier>] {
        &[]
    }
}

/// The answers of a scheme. A rejected credential ends the search.
#[derive(Debug)]
pub enum Attempt {
    /// The head holds no credential of this kind.
    Absent,
    /// The credential is good.
    Accepted(Evidence),
    /// Nobody here knows. Once the question is answered, the scheme is asked again.
    Ask(Question),
    /// What follows the body decides. Once that is read, the scheme is asked again.
    Trailers(Wanted),
    /// There is one, and it is wrong. Its refusal's public face is the same whatever was wrong.
    Rejected(Refusal),
}

/// How much of a body may be held, before it is known who calls, for the trailers behind it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// So many bytes.
    pub bytes_max: u64,
    /// The rule that says so.
    pub rule: Origin,
}

/// What a good credential proves.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What it gives.
    pub grant: Arc<Grant>,
    /// Whether it covered `Content-Digest`.
    pub digest_covered: bool,
    /// How to find out later whether it still holds. Nothing only where it cannot end before its
    /// connection does: without one, no revocation ends what has begun.
    pub standing: Option<Standing>,
    /// What it says of how and when its holder was authenticated; only tokens do.
    pub assurance: Option<Arc<Assurance>>,
    /// The nonce for the caller's next proof of possession, where it has to know another.
    pub dpop_nonce: Option<Box<HeaderValue>>,
}

/// A key that requests are signed with (RFC 9421): a shared secret, or a partner's public key.
#[derive(Debug)]
pub struct SigningKey {
    /// What checks its signatures; it knows the key's one algorithm.
    pub verifier: Verifier,
    /// What its signatures give.
    pub grant: Arc<Grant>,
    /// When and whence it holds.
    pub bounds: Bounds,
    /// How many nonces are remembered for it.
    pub share: Share,
}

/// Where signing keys are found, by their `keyid`. Reads memory only.
pub trait SigningKeys: Keeper {
    /// The key with this id, and the ticket by which it is asked for later.
    fn find(&self, id: &str) -> Option<(Arc<SigningKey>, Ticket)>;
}

#[cfg(test)]
impl Principal {
    /// A caller for tests of later stages: proved by `api-key`, or anonymous.
    pub(crate) fn for_tests(grant: Option<Arc<Grant>>) -> Self {
        let scheme = if grant.is_some() { "api-key" } else { "none" };
        Self { grant, scheme: Family(scheme), ..Self::default() }
    }
}
