//! A credential as requests meet it: small, shared, and checked without a look at the store.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::authenticate::bounds::{Bounds, Holding};
use crate::authenticate::directory::record::{Described, Kind, PROOF_BYTES, Record};
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

/// An API key in memory, of either kind. With a grant it takes some 270 bytes, so a million fit
/// beside everything else.
#[derive(Debug)]
pub(in crate::authenticate) struct Entry {
    /// The keyed hash of the full text.
    pub(in crate::authenticate) mac: [u8; PROOF_BYTES],
    /// What it gives.
    pub(in crate::authenticate) grant: Arc<Grant>,
    networks: Arc<[Network]>,
    not_before_ms: u64,
    expires_ms: u64,
    /// Where it was made to hold.
    pub(in crate::authenticate) environment: Name,
    marks: Marks,
    /// Whether nobody must ever use it.
    pub(in crate::authenticate) canary: bool,
}

impl Entry {
    /// The record, made ready; `before` is the entry that it replaces.
    pub(in crate::authenticate) fn new(
        record: &Record,
        shared: &mut Shared,
        before: Option<&Self>,
    ) -> Self {
        let described = &record.described;
        Self {
            mac: *record.proof,
            grant: shared.grant(described, before.map(|before| &before.grant.usage)),
            networks: shared.networks(&described.networks),
            not_before_ms: described.not_before_ms.unwrap_or(0),
            expires_ms: described.expires_ms.unwrap_or(u64::MAX),
            environment: Name::new(&described.environment),
            marks: described.marks(),
            canary: described.canary,
        }
    }

    /// Whether it holds in this environment, for a caller at this address, now. Asked only after
    /// the caller proved that they know the key, so that nothing is told to strangers.
    pub(in crate::authenticate) fn check(
        &self,
        environment: Name,
        client: IpAddr,
        now: Now,
    ) -> Result<(), Reason> {
        if self.environment != environment {
            return Err(Reason::CredentialEnvironment);
        }
        Holding {
            not_before_ms: self.not_before_ms,
            expires_ms: self.expires_ms,
            revoked: self.marks.revoked,
            suspended: self.marks.suspended,
            networks: &self.networks,
        }
        .check(client, now)
    }

    /// Whether its use is an alarm: it is a canary, and nobody has taken it back.
    pub(in crate::authenticate) fn is_trap(&self, now: Now) -> bool {
        self.canary && self.state(now).0.is_live()
    }

    /// Where it stands in its life, and when that ends.
    pub(in crate::authenticate) fn state(&self, now: Now) -> (State, Option<u64>) {
        let expires_ms = Some(self.expires_ms).filter(|expires| *expires < u64::MAX);
        (State::of(self.marks, expires_ms, now), expires_ms)
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
        let key = SigningKey {
            verifier,
            grant: shared.grant(described, before.map(|before| &before.key.grant.usage)),
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
    names: HashMap<Vec<String>, Names>,
    subjects: HashSet<Arc<str>>,
    networks: Vec<Arc<[Network]>>,
}

impl Shared {
    fn grant(&mut self, described: &Described, noted: Option<&Usage>) -> Arc<Grant> {
        let retires_ms = described.rotating_until_ms;
        let retires_s = retires_ms.and_then(|until_ms| u32::try_from(until_ms / 1000).ok());
        Arc::new(Grant {
            credential: described.id.as_str().into(),
            subject: self.subject(&described.subject),
            roles: self.names(&described.roles),
            scopes: self.names(&described.scopes),
            tier: described.tier.as_deref().map(Name::new),
            made_s: u32::try_from(described.created_ms / 1000).unwrap_or(u32::MAX),
            retires_s: retires_s.and_then(NonZeroU32::new),
            usage: Usage::moved(noted),
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

    fn names(&mut self, texts: &[String]) -> Names {
        if let Some(kept) = self.names.get(texts) {
            return kept.clone();
        }
        let names: Names = texts.iter().map(String::as_str).collect();
        if self.names.len() < SHARED_MAX {
            self.names.insert(texts.to_vec(), names.clone());
        }
        names
    }

    /// Few sets of networks are in use at a time; the last hundred are looked through in turn.
    fn networks(&mut self, networks: &[Network]) -> Arc<[Network]> {
        if let Some(kept) = self.networks.iter().find(|kept| &***kept == networks) {
            return Arc::clone(kept);
        }
        let fresh: Arc<[Network]> = networks.into();
        if self.networks.len() >= 100 {
            self.networks.remove(0);
        }
        self.networks.push(Arc::clone(&fresh));
        fresh
    }
}
