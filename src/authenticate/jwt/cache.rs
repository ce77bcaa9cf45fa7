//! Remembers what was learned of tokens, so that a token seen again costs no verification.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

/// How many places one token may take.
const WAYS: usize = 4;

/// The SHA-256 of a token.
pub type Digest = [u8; 32];

/// What is known of tokens, each under its SHA-256, in a fixed number of places. Nothing is locked;
/// a token that finds its places taken replaces another, which then is learned again.
pub struct Cache<T> {
    slots: Box<[ArcSwapOption<Held<T>>]>,
    evicted: AtomicU64,
}

struct Held<T> {
    digest: Digest,
    until_s: u64,
    known: Arc<T>,
}

impl<T> Cache<T> {
    /// A cache for so many tokens; for none when it is zero.
    pub fn new(capacity: usize) -> Self {
        let places = if capacity == 0 { 0 } else { capacity.next_multiple_of(WAYS) };
        let slots = std::iter::repeat_with(ArcSwapOption::empty).take(places).collect();
        Self { slots, evicted: AtomicU64::new(0) }
    }

    /// What is known of the token with this digest, if that still counts.
    pub fn get(&self, digest: &Digest, now_s: u64) -> Option<Arc<T>> {
        self.places(digest).iter().find_map(|place| {
            let held = place.load();
            let held = held.as_ref().filter(|held| held.digest == *digest)?;
            (now_s < held.until_s).then(|| Arc::clone(&held.known))
        })
    }

    /// What was last known of the token with this digest, whether that still counts or not.
    pub fn last(&self, digest: &Digest) -> Option<Arc<T>> {
        self.places(digest).iter().find_map(|place| {
            let held = place.load();
            let held = held.as_ref().filter(|held| held.digest == *digest)?;
            Some(Arc::clone(&held.known))
        })
    }

    /// Remembers what is known of a token until a Unix second.
    pub fn put(&self, digest: Digest, known: Arc<T>, until_s: u64, now_s: u64) {
        let places = self.places(&digest);
        let holds = |place: &&ArcSwapOption<Held<T>>, of: &dyn Fn(&Held<T>) -> bool| {
            place.load().as_ref().is_some_and(|held| of(held))
        };
        // Its own place first, so that no token ever has two.
        let own = places.iter().find(|place| holds(place, &|held| held.digest == digest));
        let free = || places.iter().find(|place| !holds(place, &|held| now_s < held.until_s));
        // Which one has to go follows from the digest, which nobody chooses.
        let victim = usize::from(digest[31]) % WAYS;
        let place = own.or_else(free);
        if place.is_none() && !places.is_empty() {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(place) = place.or_else(|| places.get(victim)) {
            place.store(Some(Arc::new(Held { digest, until_s, known })));
        }
    }

    /// How many tokens were forgotten for others before their time, since this was last asked.
    pub fn take_evicted(&self) -> u64 {
        self.evicted.swap(0, Ordering::Relaxed)
    }

    fn places(&self, digest: &Digest) -> &[ArcSwapOption<Held<T>>] {
        let sets = self.slots.len() / WAYS;
        if sets == 0 {
            return &[];
        }
        let [a, b, c, d, ..] = *digest;
        let first = u32::from_be_bytes([a, b, c, d]) as usize % sets * WAYS;
        self.slots.get(first..first + WAYS).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digest in the first set of any cache, told apart by its last byte.
    fn digest(last: u8) -> Digest {
        let mut digest = Digest::default();
        digest[31] = last;
        digest
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_time() {
        let cache = Cache::new(4);
        for last in 0..4 {
            cache.put(digest(last), Arc::new(last), 100, 0);
        }
        for last in 0..4 {
            assert_eq!(cache.get(&digest(last), 99).as_deref(), Some(&last));
            assert_eq!(cache.get(&digest(last), 100), None);
        }
        assert_eq!(cache.take_evicted(), 0);
        cache.put(digest(0), Arc::new(9), 200, 50);
        assert_eq!((cache.get(&digest(0), 50).as_deref(), cache.take_evicted()), (Some(&9), 0));
        cache.put(digest(4), Arc::new(4), 200, 50);
        assert_eq!(cache.get(&digest(4), 50).as_deref(), Some(&4));
        let left = (0..4).filter(|last| cache.get(&digest(*last), 50).is_some()).count();
        assert_eq!((left, cache.take_evicted()), (3, 1));
        // Those that have expired go first.
        cache.put(digest(5), Arc::new(5), 200, 150);
        assert_eq!(cache.get(&digest(4), 150).as_deref(), Some(&4));
        assert_eq!(cache.take_evicted(), 0);
        let none = Cache::new(0);
        none.put(digest(0), Arc::new(0), 100, 0);
        assert_eq!(none.get(&digest(0), 0), None);
    }
}
