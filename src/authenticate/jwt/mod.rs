//! Proves callers by signed tokens of an issuer (RFC 7519, RFC 8725, RFC 9068).

pub mod json;
pub mod algorithm;
pub mod jwk;
pub mod decoy;
pub mod jws;
pub mod claims;
pub mod token;
pub mod keys;
pub mod refresh;
pub mod cache;
pub mod dpop_nonce;
pub mod dpop;
pub mod binding;
pub mod mint;
pub mod rule;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::digest::{SHA256, digest};

use crate::authenticate::bearer::{Carried, Presented, has_three_parts, presented};
use crate::authenticate::jwt::algorithm::Algorithm;
use crate::authenticate::jwt::binding::Demand;
use crate::authenticate::jwt::cache::{Cache, Digest};
use crate::authenticate::jwt::claims::{Limits, Mapping, Verified, check_ends};
use crate::authenticate::jwt::dpop_nonce::DpopNonces;
use crate::authenticate::jwt::jws::{Jws, malformed};
use crate::authenticate::jwt::keys::{Held, KeySet};
use crate::authenticate::jwt::token::Token;
use crate::authenticate::nonce::Nonces;
use crate::authenticate::sessions::Sessions;
use crate::authenticate::standing::{Keeper, Standing, Ticket};
use crate::authenticate::{Attempt, Evidence, Scheme};
use crate::clock::Now;
use crate::head::Head;
use crate::mistake::source::Origin;
use crate::refusal::{Reason, Refusal};

/// The family of these schemes, as `auth` names them before the dot.
pub const FAMILY: &str = "jwt";

/// Accepts the tokens of an issuer as a policy's `[jwt.NAME]` demands, or those of several: each token
/// is judged by the table whose issuer it names, and by that one alone.
pub struct JwtScheme {
    verifiers: Box<[Arc<Verifier>]>,
    /// What else `Authorization` may carry on the route.
    carried: Carried,
}

/// What all routes that name the scheme share.
pub struct Verifier {
    /// `jwt.NAME`.
    name: String,
    origin: Origin,
    issuer: Box<str>,
    audience: Box<[Box<str>]>,
    keys: Arc<KeySet>,
    algorithms: Box<[Algorithm]>,
    kind: Kind,
    limits: Limits,
    mapping: Mapping,
    is_bound: bool,
    dpop_nonces: Option<DpopNonces>,
    cache: Cache<Token>,
    sessions: Arc<Sessions>,
    nonces: Arc<Nonces>,
    counts: Counts,
}

/// What a token may say that it is (`typ`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing, `JWT` or `at+jwt`.
    Any,
    /// `JWT` alone.
    Jwt,
    /// `at+jwt` alone, with all claims that RFC 9068 demands.
    AccessToken,
}

/// How often tokens were found in the cache, and how often they had to be verified, since the
/// counts were last taken.
#[derive(Debug, Default)]
pub struct Counts {
    /// Found.
    pub cached: AtomicU64,
    /// Verified, and good.
    pub verified: AtomicU64,
    /// Refused, whatever for.
    pub refused: AtomicU64,
}

impl JwtScheme {
    /// The scheme of these tables, at least one, no two of one issuer.
    pub fn of(verifiers: Vec<Arc<Verifier>>, carried: Carried) -> Self {
        Self { verifiers: verifiers.into(), carried }
    }

    /// The table that judges a token: the one that has verified it before, or whose issuer it names.
    ///
    /// What it names is not believed: that table's keys have to have signed it. One that names none
    /// of them, or nothing that can be read, goes to the first, which refuses it for what it would
    /// if it stood alone, at the same cost.
    fn judge(&self, token: &str, digest: &Digest, now: Now) -> Option<&Arc<Verifier>> {
        let (first, others) = self.verifiers.split_first()?;
        if others.is_empty() {
            return Some(first);
        }
        let knows = |table: &&Arc<Verifier>| table.cache.get(digest, now.unix_s()).is_some();
        let named = || {
            let issuer = jws::claimed_issuer(token)?;
            self.verifiers.iter().find(|table| *table.issuer == *issuer)
        };
        self.verifiers.iter().find(knows).or_else(named).or(Some(first))
    }

    /// The token that `Authorization` carries for this scheme, and how; nothing when it carries
    /// none, or something that another scheme of the route takes.
    fn shown<'h>(&self, head: &'h Head) -> Result<Option<(Presented, &'h str)>, Refusal> {
        let Some((how, text)) = presented(&head.headers)? else { return Ok(None) };
        match how {
            Presented::Bearer if has_three_parts(text) => Ok(Some((how, text))),
            Presented::Bearer if self.carried.keys || self.carried.opaque => Ok(None),
            Presented::Dpop if !has_three_parts(text) && self.carried.opaque => Ok(None),
            Presented::Dpop => Ok(Some((how, text))),
            Presented::Bearer => Err(malformed("the token does not have three parts")),
        }
    }

    fn rejected(&self, by: Option<&Arc<Verifier>>, refusal: Refusal) -> Attempt {
        let Some(table) = by else { return Attempt::Rejected(refusal) };
        table.counts.refused.fetch_add(1, Ordering::Relaxed);
        Attempt::Rejected(refusal.by(&table.origin))
    }
}

impl Scheme for JwtScheme {
    fn name(&self) -> &str {
        self.verifiers.first().map_or(FAMILY, |table| &table.name)
    }

    fn attempt(&self, head: &Head, now: Now) -> Attempt {
        let (how, token) = match self.shown(head) {
            Ok(None) => return Attempt::Absent,
            Ok(Some(shown)) => shown,
            Err(refusal) => return self.rejected(self.verifiers.first(), refusal),
        };
        let digest = sha256(token);
        let Some(table) = self.judge(token, &digest, now) else { return Attempt::Absent };
        match table.prove((how, token, &digest), head, now) {
            Ok(evidence) => Attempt::Accepted(evidence),
            Err(refusal) => self.rejected(Some(table), refusal),
        }
    }

    fn on_route(&self, carried: Carried) -> Option<Arc<dyn Scheme>> {
        Some(Arc::new(Self { verifiers: self.verifiers.clone(), carried }))
    }

    fn issuers(&self) -> &[Arc<Verifier>] {
        &self.verifiers
    }
}

impl Verifier {
    /// The name of the scheme, `jwt.NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whose tokens it verifies: their `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The issuer's keys.
    pub fn keys(&self) -> &Arc<KeySet> {
        &self.keys
    }

    /// How it fared.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many tokens were forgotten for others before they expired, since this was last asked.
    pub fn take_evicted(&self) -> u64 {
        self.cache.take_evicted()
    }

    /// Proves the caller who shows this token.
    ///
    /// The signature is verified once; whether the token holds, is bound or was revoked is looked
    /// at each time. A token is known by its SHA-256: a quicker hash could be made to collide, and
    /// whoever holds one token would pass for another's holder; to compare the tokens themselves,
    /// they would have to lie in memory, where only their hashes do.
    fn prove(
        &self,
        (how, token, digest): (Presented, &str, &Digest),
        head: &Head,
        now: Now,
    ) -> Result<Evidence, Refusal> {
        let keys = self.keys.current(now)?;
        let known = self.cache.get(digest, now.unix_s());
        // One that holds no longer costs what it did when it was seen first.
        let holds = |known: &Arc<Token>| {
            known.verified.generation == keys.generation && known.check(now).is_ok()
        };
        let held = match known.filter(holds) {
            Some(known) => {
                self.counts.cached.fetch_add(1, Ordering::Relaxed);
                known
            }
            None => {
                let verified = self.verify(token, digest, &keys)?;
                let fresh = Arc::new(Token::new(verified, self.limits, &self.sessions));
                // What does not hold is not worth a place.
                fresh.check(now)?;
                self.counts.verified.fetch_add(1, Ordering::Relaxed);
                self.cache.put(*digest, Arc::clone(&fresh), fresh.end_s(), now.unix_s());
                fresh
            }
        };
        let demand = Demand {
            is_bound: self.is_bound,
            skew_s: self.limits.skew_s,
            nonces: &self.nonces,
            dpop_nonces: self.dpop_nonces.as_ref(),
        };
        let verified = &held.verified;
        let dpop_nonce = binding::check(verified, (how, token), head, now, demand)?;
        let (grant, assurance) = (Arc::clone(&verified.grant), Arc::clone(&verified.assurance));
        let keeper: Arc<dyn Keeper> = held;
        Ok(Evidence {
            grant,
            digest_covered: false,
            standing: Some(Standing::new(keeper, Ticket::default())),
            assurance: Some(assurance),
            dpop_nonce,
        })
    }

    /// Verifies the signature, and everything of a token that never changes.
    fn verify(&self, token: &str, digest: &Digest, keys: &Held) -> Result<Verified, Refusal> {
        let jws = Jws::read(token)?;
        if !self.algorithms.contains(&jws.algorithm) {
            return Err(Refusal::new(Reason::TokenAlgorithm)
                .because("the policy does not accept this algorithm"));
        }
        self.check_kind(&jws)?;
        let key = keys.key_of(&jws).inspect_err(|_| {
            self.keys.want();
            jws.verify_in_vain();
        })?;
        let claims = jws.payload(key)?;
        check_ends(&claims, Some(&self.issuer), &self.audience)?;
        if self.kind == Kind::AccessToken {
            let needed = ["iat", "jti", "client_id", "sub"];
            if needed.iter().any(|name| claims.get(name).is_none()) {
                return Err(malformed("lacks a claim that RFC 9068 demands"));
            }
        }
        let credential = |jti: Option<&str>| credential(jti, digest);
        Verified::of(&claims, &self.mapping, credential, keys.generation)
    }

    /// A token that says it is something else than an access token is none (RFC 8725, 3.11).
    fn check_kind(&self, jws: &Jws<'_>) -> Result<(), Refusal> {
        let kind = jws.header.get("typ");
        let kind = kind.map(|kind| kind.text().unwrap_or_default().to_ascii_lowercase());
        let kind = kind.as_deref().map(|kind| kind.strip_prefix("application/").unwrap_or(kind));
        let fits = match self.kind {
            Kind::Any => matches!(kind, None | Some("jwt" | "at+jwt")),
            Kind::Jwt => kind == Some("jwt"),
            Kind::AccessToken => kind == Some("at+jwt"),
        };
        fits.then_some(()).ok_or_else(|| Reason::TokenType.into())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)
    }
}

impl fmt::Debug for JwtScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtScheme({:?})", self.verifiers)
    }
}

/// The SHA-256 of a token.
pub(in crate::authenticate) fn sha256(token: &str) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

/// What records call a token: its own name where that is one, otherwise the beginning of its hash.
pub(in crate::authenticate) fn credential(jti: Option<&str>, digest: &Digest) -> Arc<str> {
    let is_plain = |jti: &&str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        jti.len() <= 64 && jti.bytes().all(is_part)
    };
    match jti.filter(is_plain) {
        Some(jti) => jti.into(),
        None => digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>().into(),
    }
}
