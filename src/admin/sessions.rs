//! Revocations of tokens and sessions, in memory and on disk, changed together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::admin::answer::Failure;
use crate::authenticate::sessions::{Revoked, Sessions, Term};
use crate::clock::{Now, rfc3339};
use crate::store::{Batch, Store, StoreFault, Table};

/// A revocation outlasts every token that a policy may accept: 31 days, in seconds.
const TOKEN_S: u64 = 31 * 86_400;
/// A session is renewed with new tokens of the same name, so it stays revoked for a year.
const SESSION_S: u64 = 365 * 86_400;
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// A revocation that is asked for: exactly one of the three.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRevocation {
    /// One token, by its `jti`.
    pub jti: Option<Box<str>>,
    /// One session, by the `sid` of its tokens.
    pub sid: Option<Box<str>>,
    /// Every token of a subject that was issued until now.
    pub subject: Option<Box<str>>,
}

/// The revocations that requests see, and the table that brings them back after a restart.
pub struct Register {
    sessions: Arc<Sessions>,
    store: Arc<Store>,
    /// Changes take turns, so that memory and disk end up the same.
    turn: Mutex<()>,
}

impl Register {
    /// A register over these two.
    pub fn new(sessions: Arc<Sessions>, store: Arc<Store>) -> Self {
        Self { sessions, store, turn: Mutex::new(()) }
    }

    /// The revocations in force, the first to be forgotten first.
    pub fn list(&self) -> Value {
        let mut all = self.sessions.list();
        all.sort_by_key(|(_, term)| term.until_ms);
        all.iter().map(|(what, term)| shown(what, *term)).collect()
    }

    /// How many are in force.
    pub fn count(&self) -> usize {
        self.sessions.count()
    }

    /// Revokes a token, a session or all tokens of a subject, from the next request on. It is on
    /// disk before it holds.
    ///
    /// # Errors
    /// 422 unless exactly one is named, 409 when there are too many, 500 when the disk fails.
    pub fn revoke(&self, new: NewRevocation, now: Now) -> Result<Value, Failure> {
        let (what, seconds) = match (new.jti, new.sid, new.subject) {
            (Some(jti), None, None) => (Revoked::Jti(jti), TOKEN_S),
            (None, Some(sid), None) => (Revoked::Sid(sid), SESSION_S),
            (None, None, Some(subject)) => (Revoked::Subject(subject), TOKEN_S),
            _ => return Err(Failure::unacceptable("Name one of `jti`, `sid` and `subject`")),
        };
        if !(1..=NAME_BYTES_MAX).contains(&name(&what).1.len()) {
            return Err(Failure::unacceptable("A name has 1 to 512 bytes"));
        }
        let _turn = self.turn();
        let until_ms = now.unix_ms.saturating_add(seconds * 1000);
        let term = Term { issued_until_s: now.unix_s(), until_ms };
        let value = serde_json::to_vec(&term).map_err(|error| Failure::fault(error.to_string()))?;
        let mut batch = Batch::default();
        batch.put(Table::Revocations, id(&what), Zeroizing::new(value));
        self.store.write(batch).map_err(|fault| broken(&fault))?;
        if !self.sessions.revoke(what.clone(), term) {
            self.forget(std::slice::from_ref(&what))?;
            return Err(Failure::conflict("There are as many revocations as there may be"));
        }
        tracing::info!(kind = name(&what).0, "a token or session was revoked");
        Ok(shown(&what, term))
    }

    /// Forgets the revocations that have outlasted every token, in memory and on disk.
    ///
    /// # Errors
    /// 500 when the disk fails; what is left there is forgotten at the next start.
    pub fn expire(&self, now: Now) -> Result<usize, Failure> {
        let _turn = self.turn();
        let ended = self.sessions.expire(now);
        if !ended.is_empty() {
            self.forget(&ended)?;
        }
        Ok(ended.len())
    }

    fn forget(&self, what: &[Revoked]) -> Result<(), Failure> {
        let mut batch = Batch::default();
        for what in what {
            batch.delete(Table::Revocations, id(what));
        }
        self.store.write(batch).map_err(|fault| broken(&fault))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings back the revocations that the store keeps, before the first request.
///
/// # Errors
/// When one cannot be read: a gateway that forgot it would let the revoked in.
pub fn restore(store: &Store, sessions: &Sessions) -> Result<(), String> {
    let mut all = Vec::new();
    store
        .scan(Table::Revocations, |id, bytes| {
            let damaged = || StoreFault::Damaged { table: "revocations", id: id.to_owned() };
            let (kind, name) = id.split_once(':').ok_or_else(damaged)?;
            let what = match kind {
                "jti" => Revoked::Jti(name.into()),
                "sid" => Revoked::Sid(name.into()),
                "subject" => Revoked::Subject(name.into()),
                _ => return Err(damaged()),
            };
            all.push((what, serde_json::from_slice::<Term>(bytes).map_err(|_| damaged())?));
            Ok::<(), StoreFault>(())
        })
        .map_err(|fault| fault.to_string())?;
    sessions.restore(all);
    Ok(())
}

fn name(what: &Revoked) -> (&'static str, &str) {
    match what {
        Revoked::Jti(name) => ("jti", name),
        Revoked::Sid(name) => ("sid", name),
        Revoked::Subject(name) => ("subject", name),
    }
}

fn id(what: &Revoked) -> String {
    let (kind, name) = name(what);
    format!("{kind}:{name}")
}

fn shown(what: &Revoked, term: Term) -> Value {
    let (kind, name) = name(what);
    json!({
        "kind": kind, "name": name, "until": rfc3339(term.until_ms),
        "issuedUntil": rfc3339(term.issued_until_s.saturating_mul(1000)),
    })
}

fn broken(fault: &StoreFault) -> Failure {
    tracing::error!(%fault, "revocations could not be stored");
    Failure::fault(fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::secret::Secret;

    fn of_subject(subject: &str) -> NewRevocation {
        NewRevocation { jti: None, sid: None, subject: Some(subject.into()) }
    }

    #[test]
    fn revocations_outlive_the_process_and_end_after_every_token() {
        let (dir, master) = (tempfile::tempdir().unwrap(), Secret::random(32).unwrap());
        let (clock, hand) = Clock::set_at(1_764_000_000_000);
        {
            let store = Arc::new(Store::open(dir.path(), &master).unwrap());
            let register = Register::new(Arc::default(), store);
            register.revoke(of_subject("alice"), clock.now()).unwrap();
        }
        let store = Arc::new(Store::open(dir.path(), &master).unwrap());
        let sessions = Arc::new(Sessions::default());
        restore(&store, &sessions).unwrap();
        let register = Register::new(Arc::clone(&sessions), Arc::clone(&store));
        assert_eq!(
            register.list(),
            json!([{ "kind": "subject", "name": "alice", "issuedUntil": "2025-11-24T16:00:00Z", "until": "2025-12-25T16:00:00Z" }])
        );
        hand.advance(std::time::Duration::from_secs(TOKEN_S - 1));
        assert_eq!(register.expire(clock.now()).unwrap(), 0);
        hand.advance(std::time::Duration::from_secs(1));
        assert_eq!(register.expire(clock.now()).unwrap(), 1);
        let again = Sessions::default();
        restore(&store, &again).unwrap();
        assert_eq!((register.count(), again.count()), (0, 0));
    }

    #[test]
    fn exactly_one_thing_is_revoked_at_a_time() {
        let register = Register::new(Arc::default(), Arc::new(Store::in_memory().unwrap()));
        let now = Clock::set_at(0).0.now();
        let both = NewRevocation { jti: Some("a".into()), ..of_subject("b") };
        let none = NewRevocation { jti: None, sid: None, subject: None };
        for wrong in [both, none, of_subject(""), of_subject(&"a".repeat(513))] {
            assert!(register.revoke(wrong, now).is_err());
        }
        assert_eq!(register.count(), 0);
    }

    #[test]
    fn a_revocation_that_cannot_be_read_keeps_the_gateway_from_starting() {
        let store = Store::in_memory().unwrap();
        let mut batch = Batch::default();
        batch.put(Table::Revocations, "jti:a", Zeroizing::new(b"{}".to_vec()));
        store.write(batch).unwrap();
        assert!(restore(&store, &Sessions::default()).is_err());
    }
}
