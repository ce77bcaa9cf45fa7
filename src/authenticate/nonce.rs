//! Remembers the nonces of signed requests, so that each request is accepted once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256};

use crate::clock::Now;

/// How many nonces a claim forgets at most, when their time has come. It adds one and takes away up
/// to so many, so what has expired drains faster than it can gather.
const SWEPT_PER_CLAIM: usize = 8;

/// Into how many parts the store is cut, each under its own lock.
const SHARDS: usize = 64;

/// The nonces that were used and could be used again. Bounded; when it is full of live ones,
/// signed requests are refused, because forgetting one would let it be replayed.
#[derive(Debug)]
pub struct Nonces {
    shards: [Mutex<Shard>; SHARDS],
    held: AtomicUsize,
    capacity: usize,
    history_from_s: u64,
}

/// What came of claiming a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is new, and is remembered from now on.
    Claimed,
    /// It was claimed before.
    Seen,
    /// It may be new, but there is no room to remember it.
    Full,
}

/// The first half of a SHA-256: nobody finds two nonces with the same.
type Fingerprint = [u8; 16];

#[derive(Debug, Default)]
struct Shard {
    /// Until when each is remembered, in steady milliseconds.
    held: HashMap<Fingerprint, u64>,
    /// The same, soonest first.
    soonest: BinaryHeap<Reverse<(u64, Fingerprint)>>,
}

impl Nonces {
    /// An empty store for at most `capacity` nonces, which knows nothing of what was used before
    /// `started`: see [`Nonces::remembers`]. One nonce takes some 80 bytes.
    pub fn new(capacity: usize, started: Now) -> Self {
        // What was signed within the second of the start may have been used just before it.
        let history_from_s = started.unix_ms.div_ceil(1000);
        Self { history_from_s, ..Self::with_history(capacity) }
    }

    /// An empty store that stands for a complete one: for policy tests and explanations, where
    /// nothing ever happened before.
    pub fn with_history(capacity: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, held: AtomicUsize::new(0), capacity, history_from_s: 0 }
    }

    /// Whether a nonce of a signature made at this Unix second would be known, had it been used.
    pub fn remembers(&self, created_s: u64) -> bool {
        created_s >= self.history_from_s
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
    pub fn claim(&self, keyid: &str, nonce: &str, until_ms: u64, now: Now) -> Claim {
        let fingerprint = fingerprint(keyid, nonce);
        let steady_ms = now.steady_ns / 1_000_000;
        let left_ms = until_ms.saturating_sub(now.unix_ms).saturating_add(1);
        let until = steady_ms.saturating_add(left_ms);
        let Some(own) = self.shards.get(usize::from(fingerprint[0]) % SHARDS) else {
            return Claim::Full;
        };

        for is_full in [false, true] {
            if is_full {
                // Perhaps only of what other shards need not hold any more. Never under two locks.
                self.make_room(steady_ms);
            }
            let mut shard = locked(own);
            self.give_back(shard.sweep(steady_ms));
            if shard.holds(&fingerprint, steady_ms) {
                return Claim::Seen;
            }
            if self.reserve() {
                self.give_back(usize::from(shard.insert(fingerprint, until)));
                return Claim::Claimed;
            }
        }
        Claim::Full
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

impl Shard {
    /// Forgets a few whose time has come, and says how many.
    fn sweep(&mut self, steady_ms: u64) -> usize {
        let mut forgotten = 0;
        for _ in 0..SWEPT_PER_CLAIM {
            match self.soonest.peek() {
                Some(Reverse((until, _))) if *until <= steady_ms => {}
                _ => break,
            }
            let Some(Reverse((until, fingerprint))) = self.soonest.pop() else { break };
            // A nonce that was claimed anew after its time is due later, and stays.
            if self.held.get(&fingerprint) == Some(&until) {
                self.held.remove(&fingerprint);
                forgotten += 1;
            }
        }
        forgotten
    }

    fn holds(&self, fingerprint: &Fingerprint, steady_ms: u64) -> bool {
        self.held.get(fingerprint).is_some_and(|until| *until > steady_ms)
    }

    /// Remembers one, and says whether it took the place of its own earlier, expired claim.
    fn insert(&mut self, fingerprint: Fingerprint, until: u64) -> bool {
        self.soonest.push(Reverse((until, fingerprint)));
        self.held.insert(fingerprint, until).is_some()
    }
}

/// A poisoned lock still guards a whole shard: nothing between its two changes can panic.
fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fingerprint(keyid: &str, nonce: &str) -> Fingerprint {
    let mut hash = Context::new(&SHA256);
    // The length keeps ("ab", "c") and ("a", "bc") apart.
    hash.update(&keyid.len().to_be_bytes());
    hash.update(keyid.as_bytes());
    hash.update(nonce.as_bytes());
    hash.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    const START_MS: u64 = 1_767_225_600_000;

    #[test]
    fn a_nonce_is_claimed_once_per_key() {
        let (clock, _) = Clock::set_at(START_MS);
        let now = clock.now();
        let nonces = Nonces::with_history(10);
        assert_eq!(nonces.claim("a", "nonce-01", START_MS + 60_000, now), Claim::Claimed);
        assert_eq!(nonces.claim("a", "nonce-01", START_MS + 60_000, now), Claim::Seen);
        assert_eq!(nonces.claim("b", "nonce-01", START_MS + 60_000, now), Claim::Claimed);
        assert_eq!(nonces.claim("an", "once-01", START_MS + 60_000, now), Claim::Claimed);
        assert_eq!(nonces.len(), 3);
    }

    #[test]
    fn a_full_store_refuses_and_forgets_nothing_live() {
        let (clock, hand) = Clock::set_at(START_MS);
        let nonces = Nonces::with_history(3);
        for nonce in ["one", "two", "three"] {
            assert_eq!(nonces.claim("a", nonce, START_MS + 60_000, clock.now()), Claim::Claimed);
        }
        assert_eq!(nonces.claim("a", "four", START_MS + 60_000, clock.now()), Claim::Full);
        for nonce in ["one", "two", "three"] {
            assert_eq!(nonces.claim("a", nonce, START_MS + 60_000, clock.now()), Claim::Seen);
        }
        hand.advance(Duration::from_millis(60_000));
        assert_eq!(nonces.claim("a", "four", START_MS + 99_000, clock.now()), Claim::Full);
        hand.advance(Duration::from_millis(1));
        assert_eq!(nonces.claim("a", "four", START_MS + 99_000, clock.now()), Claim::Claimed);
        assert!(nonces.len() <= 3);
    }

    #[test]
    fn what_expired_is_swept_with_bounded_work_and_may_be_claimed_anew() {
        let (clock, hand) = Clock::set_at(START_MS);
        let nonces = Nonces::with_history(10_000);
        for number in 0..10_000 {
            let nonce = format!("nonce-{number}");
            assert_eq!(nonces.claim("a", &nonce, START_MS + 1000, clock.now()), Claim::Claimed);
        }
        hand.advance(Duration::from_secs(2));
        for number in 0..10_000 {
            let nonce = format!("nonce-{number}");
            assert_eq!(nonces.claim("a", &nonce, START_MS + 9000, clock.now()), Claim::Claimed);
            assert_eq!(nonces.claim("a", &nonce, START_MS + 9000, clock.now()), Claim::Seen);
        }
        assert_eq!(nonces.len(), 10_000);
        assert_eq!(nonces.claim("a", "one more", START_MS + 9000, clock.now()), Claim::Full);
    }

    #[test]
    fn a_calendar_that_jumps_ahead_forgets_nothing() {
        let (clock, _) = Clock::set_at(START_MS);
        let now = clock.now();
        let nonces = Nonces::with_history(10);
        assert_eq!(nonces.claim("a", "nonce-01", START_MS + 60_000, now), Claim::Claimed);
        let later = Now { unix_ms: START_MS + 86_400_000, ..now };
        assert_eq!(nonces.claim("a", "nonce-01", later.unix_ms + 60_000, later), Claim::Seen);
    }

    #[test]
    fn of_many_threads_one_claims_a_nonce() {
        let (clock, _) = Clock::set_at(START_MS);
        let nonces = Nonces::with_history(1000);
        let claimed = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..500 {
                        let nonce = format!("nonce-{number}");
                        let claim = nonces.claim("a", &nonce, START_MS + 60_000, clock.now());
                        claimed.fetch_add(u32::from(claim == Claim::Claimed), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(claimed.into_inner(), 500);
        assert_eq!(nonces.len(), 500);
    }

    #[test]
    fn many_threads_never_hold_more_than_the_capacity() {
        let (clock, _) = Clock::set_at(START_MS);
        let nonces = Nonces::with_history(100);
        let claimed = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (nonces, claimed, now) = (&nonces, &claimed, clock.now());
                scope.spawn(move || {
                    for number in 0..100 {
                        let nonce = format!("nonce-{thread}-{number}");
                        let claim = nonces.claim("a", &nonce, START_MS + 60_000, now);
                        claimed.fetch_add(u32::from(claim == Claim::Claimed), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(claimed.into_inner(), 100);
        assert_eq!(nonces.len(), 100);
    }

    #[test]
    fn after_a_start_earlier_signatures_are_not_remembered() {
        let now = Now { steady_ns: 0, unix_ms: START_MS + 1 };
        let nonces = Nonces::new(10, now);
        assert!(!nonces.remembers(START_MS / 1000));
        assert!(nonces.remembers(START_MS / 1000 + 1));
        assert!(Nonces::with_history(10).remembers(0));
    }
}
