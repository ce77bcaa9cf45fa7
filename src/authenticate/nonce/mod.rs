//! Remembers the nonces of signed requests, so that each request is accepted once.

mod shard;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::quality::FixedState;
use zeroize::Zeroizing;

use crate::authenticate::nonce::shard::{Fingerprint, Shard};
use crate::clock::Now;
use crate::store::{Batch, Store, StoreFault, Table};

/// Into how many parts the store is cut, each under its own lock.
const SHARDS: usize = 64;

/// One key may hold one part in so many of the store: no partner can lock all others out.
const SHARE_OF: usize = 4;

/// The record that says what a clean stop kept, and how the names of its parts begin.
const HISTORY: &str = "nonces";
/// How many nonces a part holds, in 16 bytes each.
const PART_NONCES: usize = 50_000;

/// The nonces that were used and could be used again. Bounded; when it is full of live ones,
/// signed requests are refused, because forgetting one would let it be replayed.
#[derive(Debug)]
pub struct Nonces {
    shards: [Mutex<Shard>; SHARDS],
    /// What nonces are hashed with; see [`Nonces::fingerprint`].
    seed: u64,
    held: AtomicUsize,
    capacity: usize,
    /// How many of them one key may hold.
    share_max: usize,
    /// Every nonce of a signature made at this Unix second or later is remembered, if it was used.
    history_from_s: AtomicU64,
    /// For how many seconds after it was made a signature may be accepted, by whichever rule allows
    /// the most. All nonces are remembered for so long: what one rule forgot, another could accept.
    window_s: AtomicU64,
}

/// How many nonces are remembered for one key. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Share(Arc<AtomicUsize>);

/// What came of claiming a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is new, and is remembered from now on.
    Claimed,
    /// It was claimed before.
    Seen,
    /// It may be new, but there is no room to remember it.
    Full,
    /// It may be new, but the key has as many remembered as one key may have.
    OverShare,
}

/// A fingerprint and the Unix milliseconds until which it is remembered.
const ENTRY_BYTES: usize = 16;
/// What is hashed to see whether a later process hashes as this one does.
const PROBE: (&str, &str) = ("probe", "0123456789abcdefghijklmnopqrstuvwxyz");

impl Nonces {
    /// An empty store for at most `capacity` nonces, which knows nothing of what was used before
    /// `started`: see [`Nonces::remembers`]. One key gets at most a quarter of it. One nonce takes
    /// some 60 bytes.
    pub fn new(capacity: usize, started: Now) -> Self {
        // What was signed within the second of the start may have been used just before it.
        let history_from_s = AtomicU64::new(started.unix_ms.div_ceil(1000));
        let share_max = capacity.div_ceil(SHARE_OF);
        Self { history_from_s, share_max, ..Self::with_history(capacity) }
    }

    /// An empty store that stands for a complete one, all of it for whichever key: for policy tests
    /// and explanations, where nothing ever happened before.
    pub fn with_history(capacity: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            // Random, and the standard library's own randomness cannot fail.
            seed: RandomState::new().hash_one(SHARDS),
            held: AtomicUsize::new(0),
            capacity,
            share_max: capacity,
            history_from_s: AtomicU64::new(0),
            window_s: AtomicU64::new(0),
        }
    }

    /// As [`Nonces::new`], with what [`Nonces::save`] kept when the gateway last stopped in good
    /// order. What was kept is taken out of the store, on disk, before this returns: a history is
    /// good for one start, and after a crash there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub fn restored(capacity: usize, store: &Store, started: Now) -> Result<Self, StoreFault> {
        let mut nonces = Self::new(capacity, started);
        let Some(header) = store.get(Table::Meta, HISTORY)? else { return Ok(nonces) };
        let mut batch = Batch::default();
        batch.delete(Table::Meta, HISTORY);
        let [from_s, window_s, count, seed, probe] = numbers(&header);
        let mut kept = Vec::new();
        for part in 0..usize::try_from(count).unwrap_or(usize::MAX).div_ceil(PART_NONCES) {
            let id = format!("{HISTORY}.{part}");
            kept.extend(store.get(Table::Meta, &id)?);
            batch.delete(Table::Meta, id);
        }
        store.write(batch)?;
        let fresh = std::mem::replace(&mut nonces.seed, seed);
        if nonces.fingerprint(PROBE.0, PROBE.1) != probe {
            // It was kept by a version that hashes otherwise, and says nothing to this one.
            nonces.seed = fresh;
            return Ok(nonces);
        }
        let whole = kept.iter().map(|part| part.len() / ENTRY_BYTES).sum::<usize>();
        if u64::try_from(whole) != Ok(count) || whole > capacity {
            // What cannot be remembered whole is no history.
            return Ok(nonces);
        }
        for entry in kept.iter().flat_map(|part| part.as_chunks::<ENTRY_BYTES>().0) {
            nonces.restore(entry, started);
        }
        nonces.history_from_s.store(from_s, Ordering::Relaxed);
        nonces.window_s.store(window_s, Ordering::Relaxed);
        Ok(nonces)
    }

    /// Keeps all nonces that could still be used again, for the next start. To be called once no
    /// request can claim one any more. Says how many they are.
    ///
    /// # Errors
    /// When the store fails; the next start has no history then.
    pub fn save(&self, store: &Store, now: Now) -> Result<usize, StoreFault> {
        let steady_ms = now.steady_ns / 1_000_000;
        let mut entries = Vec::new();
        for shard in &self.shards {
            for (fingerprint, until) in locked(shard).entries() {
                if let Some(left_ms) = until.checked_sub(steady_ms).filter(|left| *left > 0) {
                    let until_ms = now.unix_ms.saturating_add(left_ms);
                    let entry = [fingerprint, until_ms].map(u64::to_be_bytes);
                    entries.extend_from_slice(entry.as_flattened());
                }
            }
        }
        let count = entries.len() / ENTRY_BYTES;
        let mut batch = Batch::default();
        for (part, entries) in entries.chunks(PART_NONCES * ENTRY_BYTES).enumerate() {
            let entries = Zeroizing::new(entries.to_vec());
            batch.put(Table::Meta, format!("{HISTORY}.{part}"), entries);
        }
        let header = [
            self.history_from_s.load(Ordering::Relaxed),
            self.window_s.load(Ordering::Relaxed),
            u64::try_from(count).unwrap_or(u64::MAX),
            self.seed,
            self.fingerprint(PROBE.0, PROBE.1),
        ];
        let header = header.map(u64::to_be_bytes).as_flattened().to_vec();
        batch.put(Table::Meta, HISTORY, Zeroizing::new(header));
        store.write(batch)?;
        Ok(count)
    }

    /// Takes one nonce of a history back.
    fn restore(&self, entry: &[u8; ENTRY_BYTES], started: Now) {
        let [fingerprint, until_ms] = numbers(entry);
        let left_ms = until_ms.saturating_sub(started.unix_ms).saturating_add(1);
        let until = (started.steady_ns / 1_000_000).saturating_add(left_ms);
        let Some(own) = self.shard(fingerprint) else { return };
        if self.reserve() {
            // Whose it was is not kept, so it counts for nobody's share.
            let steady_ms = started.steady_ns / 1_000_000;
            let is_new = locked(own).insert(fingerprint, (until, steady_ms), &Share::default());
            self.give_back(usize::from(!is_new));
        }
    }

    /// Until when the nonce of a signature made at `created_s` has to be remembered, in Unix
    /// milliseconds, where the rule that it is under accepts it for `window_s` seconds. Nothing
    /// when nobody can know whether it was used: see [`Nonces::remembers`].
    pub fn until_ms(&self, created_s: u64, window_s: u64, now: Now) -> Option<u64> {
        let before = self.window_s.load(Ordering::Acquire);
        if window_s > before {
            if before > 0 {
                // A rule that accepts signatures for longer is new: what is older than any earlier
                // rule accepted may have been used, and forgotten.
                let known_from_s = now.unix_s().saturating_sub(before);
                self.history_from_s.fetch_max(known_from_s, Ordering::AcqRel);
            }
            self.window_s.fetch_max(window_s, Ordering::AcqRel);
        }
        if !self.remembers(created_s) {
            return None;
        }
        let seconds = created_s.saturating_add(before.max(window_s)).saturating_add(1);
        Some(seconds.saturating_mul(1000))
    }

    /// Whether a nonce of a signature made at this Unix second would be known, had it been used.
    pub fn remembers(&self, created_s: u64) -> bool {
        created_s >= self.history_from_s.load(Ordering::Acquire)
    }

    /// How many nonces are remembered, those included whose time has come but that nobody swept.
    pub fn len(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many can be remembered.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Claims a nonce of a key until a calendar time in Unix milliseconds, after which no signature
    /// with it is accepted anyway. Of several claims at once exactly one succeeds.
    ///
    /// The time is reckoned on the steady clock, so a calendar that jumps ahead forgets nothing.
    /// One that is set back makes forgotten signatures young again: callers add to `until_ms` what
    /// they allow clocks to differ by.
    pub fn claim(&self, keyid: &str, share: &Share, nonce: &str, until_ms: u64, now: Now) -> Claim {
        let fingerprint = self.fingerprint(keyid, nonce);
        let steady_ms = now.steady_ns / 1_000_000;
        let left_ms = until_ms.saturating_sub(now.unix_ms).saturating_add(1);
        let until = steady_ms.saturating_add(left_ms);
        let Some(own) = self.shard(fingerprint) else { return Claim::Full };

        let mut refused = Claim::Full;
        for is_full in [false, true] {
            if is_full {
                // Perhaps only of what other shards need not hold any more. Never under two locks.
                self.make_room(steady_ms);
            }
            let mut shard = locked(own);
            self.give_back(shard.sweep(steady_ms));
            // What was seen is told as such, whether there is room or not.
            let lacking = if !share.reserve(self.share_max) {
                Some(Claim::OverShare)
            } else if !self.reserve() {
                share.give_back();
                Some(Claim::Full)
            } else {
                None
            };
            if let Some(lacking) = lacking {
                if shard.holds(fingerprint, steady_ms) {
                    return Claim::Seen;
                }
                refused = lacking;
                continue;
            }
            if shard.insert(fingerprint, (until, steady_ms), share) {
                return Claim::Claimed;
            }
            share.give_back();
            self.give_back(1);
            return Claim::Seen;
        }
        refused
    }

    /// A seeded hash of a nonce and whose it is.
    ///
    /// A replay always has the fingerprint of what it repeats, whatever the hash, so none passes. Two
    /// nonces with one fingerprint would have the second refused: among a million that are remembered
    /// that meets one request in 10^13. Who could choose such nonces, for which the seed is needed,
    /// would have none but their own requests refused: the key is hashed too.
    fn fingerprint(&self, keyid: &str, nonce: &str) -> Fingerprint {
        let mut hasher = FixedState::with_seed(self.seed).build_hasher();
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hasher.write_usize(keyid.len());
        hasher.write(keyid.as_bytes());
        hasher.write(nonce.as_bytes());
        hasher.finish()
    }

    fn shard(&self, fingerprint: Fingerprint) -> Option<&Mutex<Shard>> {
        usize::try_from(fingerprint).ok().and_then(|number| self.shards.get(number % SHARDS))
    }

    /// Takes one place, if there is one.
    fn reserve(&self) -> bool {
        self.held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                (held < self.capacity).then_some(held + 1)
            })
            .is_ok()
    }

    fn give_back(&self, places: usize) {
        if places > 0 {
            self.held.fetch_sub(places, Ordering::AcqRel);
        }
    }

    /// Sweeps shards until one had something to forget.
    fn make_room(&self, steady_ms: u64) {
        for shard in &self.shards {
            let swept = locked(shard).sweep(steady_ms);
            if swept > 0 {
                self.give_back(swept);
                return;
            }
        }
    }
}

impl Share {
    /// Takes one place of this key's, if it has one left.
    fn reserve(&self, max: usize) -> bool {
        let more = |held| (held < max).then_some(held + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn give_back(&self) {
        let fewer = |held: usize| held.checked_sub(1);
        // One that was restored was never counted.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
    }
}

/// A poisoned lock still guards a whole shard: nothing between its two changes can panic.
fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers that such bytes are; zeros where there are too few of them.
fn numbers<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut numbers = bytes.as_chunks().0.iter().map(|bytes| u64::from_be_bytes(*bytes));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests;
