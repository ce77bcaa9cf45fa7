//! A credential as requests meet it: small, shared, and checked without a look at the store.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::authenticate::bounds::{Bounds, Holding};
use crate::authenticate::directory::facts::Facts;
use crate::authenticate::directory::record::{Kind, PROOF_BYTES, Record};
use crate::authenticate::directory::state::{Marks, State};
use crate::authenticate::nonce::Share;
use crate::authenticate::signature::verifier::Verifier;
use crate::authenticate::usage::Usage;
use crate::authenticate::{Grant, SigningKey};
use crate::clock::Now;
use crate::name::{Name, Names};
use crate::refusal::Reason;
use crate::units::Network;

/// How many different values of a kind are shared between credentials. Beyond, each has its own.
const SHARED_MAX: usize = 1 << 16;

/// An API key in memory, of either kind. It takes some 220 bytes, so a million fit beside everything
/// else.
#[derive(Clone, Debug)]
pub(in crate::authenticate) struct Entry {
    /// What it gives. The terms that it holds on stand beside that, in one piece of memory: of a
    /// million keys none is in a cache, and each further piece would be waited for.
    pub(in crate::authenticate) grant: Arc<Grant>,
}

/// On what terms the directory keeps an API key: what proves it, and when and whence it holds.
#[derive(Clone, Default)]
pub struct Terms {
    /// The keyed hash of the full text.
    mac: [u8; PROOF_BYTES],
    networks: Arc<[Network]>,
    not_before_ms: u64,
    /// Without a credential nothing holds: the default is over.
    expires_ms: u64,
    /// Where it was made to hold.
    environment: Option<Name>,
    marks: Marks,
    /// Whether nobody must ever use it.
    canary: bool,
}

/// What a credential gives does not depend on when and whence it holds.
impl PartialEq for Terms {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Terms {}

/// Without the hash.
impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Terms({:?}, {:?})", self.environment, self.marks)
    }
}

impl Entry {
    /// The facts, made ready; `before` is the entry that they replace. Nothing when a list among
    /// them is none.
    pub(in crate::authenticate::directory) fn new(
        facts: &Facts<'_>,
        mac: &[u8; PROOF_BYTES],
        shared: &mut Shared,
        before: Option<&Self>,
    ) -> Option<Self> {
        let terms = Terms {
            mac: *mac,
            networks: shared.networks(&facts.networks)?,
            not_before_ms: facts.not_before_ms.unwrap_or(0),
            expires_ms: facts.expires_ms.unwrap_or(u64::MAX),
            environment: Some(shared.name(facts.environment)),
            marks: facts.marks,
            canary: facts.canary,
        };
        let grant = shared.grant(facts, before.map(|before| &before.grant.usage), terms)?;
        Some(Self { grant: Arc::new(grant) })
    }

    /// The keyed hash of its full text.
    pub(in crate::authenticate) fn mac(&self) -> &[u8; PROOF_BYTES] {
        &self.grant.terms.mac
    }

    /// Where it was made to hold.
    pub(in crate::authenticate) fn environment(&self) -> Option<Name> {
        self.grant.terms.environment
    }

    /// Whether nobody must ever use it.
    pub(in crate::authenticate) fn is_canary(&self) -> bool {
        self.grant.terms.canary
    }

    /// Whether it holds in this environment, for a caller at this address, now. Asked only after
    /// the caller proved that they know the key, so that nothing is told to strangers.
    pub(in crate::authenticate) fn check(
        &self,
        environment: Name,
        client: IpAddr,
        now: Now,
    ) -> Result<(), Reason> {
        let terms = &self.grant.terms;
        if terms.environment != Some(environment) {
            return Err(Reason::CredentialEnvironment);
        }
        Holding {
            not_before_ms: terms.not_before_ms,
            expires_ms: terms.expires_ms,
            revoked: terms.marks.revoked,
            suspended: terms.marks.suspended,
            networks: &terms.networks,
        }
        .check(client, now)
    }

    /// Whether its use is an alarm: it is a canary, and nobody has taken it back.
    pub(in crate::authenticate) fn is_trap(&self, now: Now) -> bool {
        self.is_canary() && self.state(now).0.is_live()
    }

    /// Where it stands in its life, and when that ends.
    pub(in crate::authenticate) fn state(&self, now: Now) -> (State, Option<u64>) {
        let terms = &self.grant.terms;
        let expires_ms = Some(terms.expires_ms).filter(|expires| *expires < u64::MAX);
        (State::of(terms.marks, expires_ms, now), expires_ms)
    }
}

/// A signing key in memory.
#[derive(Clone)]
pub(in crate::authenticate) struct SigningEntry {
    /// What schemes are given.
    pub(in crate::authenticate) key: Arc<SigningKey>,
    /// Where it was made to hold.
    pub(in crate::authenticate) environment: Name,
    marks: Marks,
}

impl SigningEntry {
    /// The record, made ready; `before` is the entry that it replaces, whose nonces still count.
    /// Nothing when there is no key in it.
    pub(in crate::authenticate) fn new(
        record: &Record,
        shared: &mut Shared,
        before: Option<&Self>,
    ) -> Option<Self> {
        let described = &record.described;
        let verifier = match (described.kind, &described.public_key) {
            (Kind::Signing, None) => Verifier::hmac(record.proof.as_slice()),
            (Kind::Verifying, Some(key)) => Verifier::public(key.clone()),
            // Such a record is refused when it is read; were it to come here, nobody holds it.
            _ => return None,
        };
        let facts = Facts::of(described);
        let noted = before.map(|before| &before.key.grant.usage);
        let key = SigningKey {
            verifier,
            grant: Arc::new(shared.grant(&facts, noted, Terms::default())?),
            bounds: Bounds {
                not_before_ms: described.not_before_ms,
                expires_ms: described.expires_ms,
                revoked: described.revoked_ms.is_some(),
                suspended: described.suspended_ms.is_some(),
                networks: described.networks.as_slice().into(),
            },
            share: before.map_or_else(Share::default, |before| before.key.share.clone()),
        };
        Some(Self {
            key: Arc::new(key),
            environment: Name::new(&described.environment),
            marks: described.marks(),
        })
    }

    /// Where it stands in its life, and when that ends.
    pub(in crate::authenticate) fn state(&self, now: Now) -> (State, Option<u64>) {
        let expires_ms = self.key.bounds.expires_ms;
        (State::of(self.marks, expires_ms, now), expires_ms)
    }
}

/// The parts that many credentials have in common, so that each is in memory once.
#[derive(Default)]
pub(in crate::authenticate) struct Shared {
    lists: Once<Names>,
    networks: Once<Arc<[Network]>>,
    names: Once<Name>,
    subjects: HashSet<Arc<str>, foldhash::fast::RandomState>,
}

impl Shared {
    fn grant(&mut self, facts: &Facts<'_>, noted: Option<&Usage>, terms: Terms) -> Option<Grant> {
        let retires_ms = facts.rotating_until_ms;
        let retires_s = retires_ms.and_then(|until_ms| u32::try_from(until_ms / 1000).ok());
        Some(Grant {
            credential: facts.id.into(),
            subject: self.subject(facts.subject),
            roles: self.list(&facts.roles)?,
            scopes: self.list(&facts.scopes)?,
            tier: facts.tier.map(|tier| self.name(tier)),
            made_s: u32::try_from(facts.created_ms / 1000).unwrap_or(u32::MAX),
            retires_s: retires_s.and_then(NonZeroU32::new),
            usage: Usage::moved(noted),
            terms,
        })
    }

    fn subject(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.subjects.get(text) {
            return Arc::clone(kept);
        }
        let subject: Arc<str> = text.into();
        if self.subjects.len() < SHARED_MAX {
            self.subjects.insert(Arc::clone(&subject));
        }
        subject
    }

    /// A name takes a lock that all threads share, so each asks for it once.
    fn name(&mut self, text: &str) -> Name {
        self.names.of(text, |text| Some(Name::new(text))).unwrap_or_else(|| Name::new(text))
    }

    fn list(&mut self, json: &str) -> Option<Names> {
        self.lists.of(json, |json| {
            let texts: Vec<String> = serde_json::from_str(json).ok()?;
            Some(texts.iter().map(String::as_str).collect())
        })
    }

    fn networks(&mut self, json: &str) -> Option<Arc<[Network]>> {
        self.networks
            .of(json, |json| serde_json::from_str::<Vec<Network>>(json).ok().map(Arc::from))
    }
}

/// What was made of texts, once for each.
struct Once<T>(HashMap<Box<str>, T, foldhash::fast::RandomState>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T: Clone> Once<T> {
    fn of(&mut self, text: &str, make: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        if let Some(kept) = self.0.get(text) {
            return Some(kept.clone());
        }
        let made = make(text)?;
        if self.0.len() < SHARED_MAX {
            self.0.insert(text.into(), made.clone());
        }
        Some(made)
    }
}
