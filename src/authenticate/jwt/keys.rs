//! The keys of an issuer: a set that requests read without a lock, and that is replaced behind them.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::authenticate::client::Site;
use crate::authenticate::jwt::algorithm::Algorithm;
use crate::authenticate::jwt::json::Object;
use crate::authenticate::jwt::jwk::{Key, Unfit};
use crate::authenticate::jwt::jws::Jws;
use crate::clock::Now;
use crate::refusal::extra::Extra;
use crate::refusal::{Reason, Refusal};
use crate::secret::Secret;

/// How many keys a set may have.
const KEYS_MAX: usize = 100;

/// How many sets a process may hold.
const SETS_MAX: usize = 64;

/// After so many seconds it makes sense to ask again, when keys have never been there.
const RETRY_S: u32 = 5;

/// Where keys come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A file with a JWK Set.
    File(PathBuf),
    /// A URL with a JWK Set.
    Url(Box<Site>),
}

/// Where keys come from, and how they are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The place.
    pub place: Place,
    /// The algorithm of RSA keys that name none.
    pub rsa: Algorithm,
    /// How often they are fetched again.
    pub refresh: Duration,
    /// How long they are used when they cannot be fetched again.
    pub stale: Duration,
}

/// The keys of one issuer.
pub struct KeySet {
    source: Option<Source>,
    held: ArcSwapOption<Held>,
    /// Rung when a token names a key that is not there.
    pub(in crate::authenticate) wanted: Arc<Notify>,
    fetched: AtomicU64,
    failed: AtomicU64,
}

/// The keys as they were fetched.
#[derive(Debug)]
pub struct Held {
    keys: Box<[Key]>,
    /// Which set of keys this is: it changes whenever one comes or goes.
    pub generation: u64,
    fetched: Now,
}

impl Held {
    /// The one key that may have signed a token.
    ///
    /// # Errors
    /// [`Reason::TokenKeyUnknown`] when there is none, or more than one.
    pub fn key_of(&self, jws: &Jws<'_>) -> Result<&Key, Refusal> {
        let kid = jws.kid()?;
        let named = || self.keys.iter().filter(|key| key.answers_to(kid));
        // A name that only one key has is enough: another algorithm is then told as such.
        let by_name = kid.and_then(|_| only(named()));
        let fits = || named().filter(|key| key.algorithm() == jws.algorithm);
        by_name.or_else(|| only(fits())).ok_or_else(|| Refusal::new(Reason::TokenKeyUnknown))
    }

    /// The keys.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}

fn only<'k>(mut keys: impl Iterator<Item = &'k Key>) -> Option<&'k Key> {
    let first = keys.next();
    first.filter(|_| keys.next().is_none())
}

impl KeySet {
    /// A set of one key that is never fetched.
    pub fn fixed(key: Key) -> Self {
        let fetched = Now { steady_ns: 0, unix_ms: 0 };
        let held = Held { keys: [key].into(), generation: 1, fetched };
        Self { held: ArcSwapOption::from_pointee(held), ..Self::empty(None) }
    }

    fn empty(source: Option<Source>) -> Self {
        Self {
            source,
            held: ArcSwapOption::empty(),
            wanted: Arc::default(),
            fetched: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Where its keys come from; nothing for a set that is never fetched.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// The keys that hold now.
    ///
    /// # Errors
    /// [`Reason::TokenKeysMissing`] while none were ever fetched, and when those that were are
    /// too old: nobody is let in or turned away by keys that may have been withdrawn.
    pub fn current(&self, now: Now) -> Result<Arc<Held>, Refusal> {
        let missing = |says: &'static str| {
            let retry = Extra::RetryAfter(RETRY_S);
            Refusal::new(Reason::TokenKeysMissing).because(says).with(retry)
        };
        let held = self.held.load_full().ok_or_else(|| missing("no keys were fetched yet"))?;
        let stale = self.source.as_ref().map(|source| source.refresh.max(source.stale));
        if stale.is_some_and(|stale| now.since(held.fetched) > stale) {
            return Err(missing("the keys are too old, and new ones cannot be fetched"));
        }
        Ok(held)
    }

    /// Asks for the keys to be fetched, because a token names one that is not there. Whoever
    /// fetches them bounds how often.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Takes the text of a JWK Set. Keys that are not for us are left out.
    ///
    /// # Errors
    /// When it is none, or holds no key to verify with: then the keys stay as they were.
    pub fn take(&self, text: &[u8], now: Now) -> Result<Vec<String>, String> {
        let rsa = self.source.as_ref().map_or(Algorithm::Rs256, |source| source.rsa);
        let (keys, left_out) = read_set(text, rsa)?;
        let earlier = self.held.load_full();
        let generation = match &earlier {
            Some(earlier) if earlier.keys == keys => earlier.generation,
            Some(earlier) => earlier.generation + 1,
            None => 1,
        };
        self.held.store(Some(Arc::new(Held { keys, generation, fetched: now })));
        self.fetched.fetch_add(1, Ordering::Relaxed);
        Ok(left_out)
    }

    /// Counts an attempt that brought nothing.
    pub fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How often its keys were fetched, and how often that failed.
    pub fn counts(&self) -> (u64, u64) {
        (self.fetched.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// How old its keys are in seconds, and how many; nothing before the first.
    pub fn age(&self, now: Now) -> Option<(f64, usize)> {
        let held = self.held.load_full()?;
        Some((now.since(held.fetched).as_secs_f64(), held.keys.len()))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({:?})", self.source)
    }
}

/// The keys in the text of a JWK Set (RFC 7517, section 5), and why others are left out.
///
/// # Errors
/// When it is none, or holds no key to verify with.
pub fn read_set(text: &[u8], rsa: Algorithm) -> Result<(Box<[Key]>, Vec<String>), String> {
    let set = Object::read(text).map_err(|says| format!("the set of keys {says}"))?;
    let list = set.get("keys").map(|keys| keys.each()).ok_or("the set of keys has no `keys`")?;
    if list.len() > KEYS_MAX {
        return Err(format!("the set has more than {KEYS_MAX} keys"));
    }
    let (mut keys, mut left_out) = (Vec::new(), Vec::new());
    for (number, jwk) in list.iter().enumerate() {
        match jwk.object().map(|jwk| Key::read(jwk, rsa)) {
            Some(Ok(key)) => keys.push(key),
            Some(Err(Unfit::Foreign)) => {}
            Some(Err(Unfit::Bad(says))) => left_out.push(format!("key {number} {says}")),
            None => left_out.push(format!("key {number} is no object")),
        }
    }
    if keys.is_empty() {
        left_out.insert(0, "the set holds no key to verify with".to_owned());
        return Err(left_out.join("; "));
    }
    Ok((keys.into(), left_out))
}

/// All sets of a process. They outlive every policy, so that a new one begins with their keys.
#[derive(Debug, Default)]
pub struct KeySets {
    sets: Mutex<Vec<Arc<KeySet>>>,
    /// Rung when a set was added.
    pub(in crate::authenticate) added: Notify,
    /// In a rehearsal this secret signs and verifies in place of every key.
    rehearsed: Option<Secret>,
}

impl KeySets {
    /// The sets of a rehearsal, which asks nobody outside: one secret stands for all keys.
    pub fn rehearsed(secret: Secret) -> Self {
        Self { rehearsed: Some(secret), ..Self::default() }
    }

    /// A set of one key for this algorithm, in a rehearsal.
    pub fn stand_in(&self, algorithm: Algorithm) -> Option<Arc<KeySet>> {
        let secret = self.rehearsed.as_ref()?;
        Some(Arc::new(KeySet::fixed(Key::shared(algorithm, secret))))
    }

    /// The set that comes from there: one that is known already, or a new one that will be fetched.
    /// Nothing when there are too many.
    pub fn find(&self, source: &Source) -> Option<Arc<KeySet>> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sets.iter().find(|set| set.source.as_ref() == Some(source)) {
            return Some(Arc::clone(known));
        }
        if sets.len() == SETS_MAX {
            return None;
        }
        let set = Arc::new(KeySet::empty(Some(source.clone())));
        sets.push(Arc::clone(&set));
        self.added.notify_one();
        Some(set)
    }

    /// The sets that a policy still uses. The others are forgotten.
    pub fn in_use(&self) -> Vec<Arc<KeySet>> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        // One count is this list's own; those who fetch hold weak ones.
        sets.retain(|set| Arc::strong_count(set) > 1);
        sets.clone()
    }
}
