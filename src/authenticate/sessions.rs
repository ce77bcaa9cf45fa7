//! Tokens and sessions that were revoked before their time, in memory, for every request to see.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::authenticate::jwt::claims::Verified;
use crate::clock::Now;
use crate::refusal::{Reason, Refusal};

/// How many revocations may be in force.
pub const REVOCATIONS_MAX: usize = 100_000;

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Revoked {
    /// One token, by its `jti`.
    Jti(Box<str>),
    /// One session, by the `sid` of its tokens.
    Sid(Box<str>),
    /// Every token of a subject that was issued until a moment.
    Subject(Box<str>),
}

/// For how long something is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Tokens issued in this Unix second or before are refused; all of them by `jti` and `sid`.
    pub issued_until_s: u64,
    /// The revocation is forgotten at this moment, in Unix milliseconds.
    pub until_ms: u64,
}

/// The revocations in force. Requests read them without a lock.
#[derive(Debug, Default)]
pub struct Sessions {
    held: ArcSwap<HashMap<Revoked, Term>>,
    turn: Mutex<()>,
}

impl Sessions {
    /// Adds a revocation, or replaces one of the same. False when there are too many.
    pub fn revoke(&self, what: Revoked, term: Term) -> bool {
        self.change(|held| {
            let fits = held.len() < REVOCATIONS_MAX || held.contains_key(&what);
            if fits {
                held.insert(what, term);
            }
            fits
        })
    }

    /// Adds what a store remembers, at once.
    pub fn restore(&self, all: impl IntoIterator<Item = (Revoked, Term)>) {
        self.change(|held| held.extend(all.into_iter().take(REVOCATIONS_MAX)));
    }

    /// Forgets what has ended, and tells what that was.
    pub fn expire(&self, now: Now) -> Vec<Revoked> {
        let has_ended = |term: &Term| term.until_ms <= now.unix_ms;
        if !self.held.load().values().any(has_ended) {
            return Vec::new();
        }
        self.change(|held| {
            held.extract_if(|_, term| has_ended(term)).map(|(what, _)| what).collect()
        })
    }

    /// All revocations.
    pub fn list(&self) -> Vec<(Revoked, Term)> {
        self.held.load().iter().map(|(what, term)| (what.clone(), *term)).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.held.load().len()
    }

    /// Whether a token was revoked.
    ///
    /// # Errors
    /// [`Reason::TokenRevoked`]. A token that does not say when it was issued counts as old.
    pub fn check(&self, token: &Verified) -> Result<(), Refusal> {
        let held = self.held.load();
        if held.is_empty() {
            return Ok(());
        }
        let issued_s = token.times.issued_s.unwrap_or(0);
        let named = |what: Revoked| held.get(&what).copied();
        let jti = token.jti.clone().map(Revoked::Jti).and_then(named);
        let sid = token.sid.clone().map(Revoked::Sid).and_then(named);
        let subject = named(Revoked::Subject((*token.grant.subject).into()));
        if jti.is_some() || sid.is_some() {
            return Err(Reason::TokenRevoked.into());
        }
        match subject {
            Some(term) if issued_s <= term.issued_until_s => Err(Reason::TokenRevoked.into()),
            Some(_) | None => Ok(()),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Revoked, Term>) -> T) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = HashMap::clone(&self.held.load());
        let changed = change(&mut held);
        self.held.store(Arc::new(held));
        changed
    }
}
