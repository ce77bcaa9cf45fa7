//! Remembers tokens that were verified, so that a token seen again costs no verification.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::authenticate::jwt::claims::Verified;

/// How many places one token may take.
const WAYS: usize = 4;

/// The SHA-256 of a token.
pub type Digest = [u8; 32];

/// Verified tokens, each under its SHA-256, in a fixed number of places. Nothing is locked; a token
/// that finds its places taken replaces another, which then is verified again.
pub struct Cache {
    slots: Box<[ArcSwapOption<Held>]>,
    evicted: AtomicU64,
}

struct Held {
    digest: Digest,
    verified: Arc<Verified>,
}

impl Cache {
    /// A cache for so many tokens; for none when it is zero.
    pub fn new(capacity: usize) -> Self {
        let places = if capacity == 0 { 0 } else { capacity.next_multiple_of(WAYS) };
        let slots = std::iter::repeat_with(ArcSwapOption::empty).take(places).collect();
        Self { slots, evicted: AtomicU64::new(0) }
    }

    /// The token with this digest, if it is remembered.
    pub fn get(&self, digest: &Digest) -> Option<Arc<Verified>> {
        self.places(digest).iter().find_map(|place| {
            let held = place.load();
            let held = held.as_ref().filter(|held| held.digest == *digest)?;
            Some(Arc::clone(&held.verified))
        })
    }

    /// Remembers a token. One that has expired by `now_s` is forgotten first.
    pub fn put(&self, digest: Digest, verified: Arc<Verified>, now_s: u64) {
        let places = self.places(&digest);
        let is_free = |place: &&ArcSwapOption<Held>| {
            place
                .load()
                .as_ref()
                .is_none_or(|held| held.digest == digest || held.verified.times.expires_s <= now_s)
        };
        let free = places.iter().find(is_free);
        // Which one has to go follows from the digest, which nobody chooses.
        let victim = usize::from(digest[31]) % WAYS;
        let Some(place) = free.or_else(|| places.get(victim)) else { return };
        if free.is_none() {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        place.store(Some(Arc::new(Held { digest, verified })));
    }

    /// How many tokens were forgotten for others before they expired, since this was last asked.
    pub fn take_evicted(&self) -> u64 {
        self.evicted.swap(0, Ordering::Relaxed)
    }

    fn places(&self, digest: &Digest) -> &[ArcSwapOption<Held>] {
        let sets = self.slots.len() / WAYS;
        if sets == 0 {
            return &[];
        }
        let [a, b, c, d, ..] = *digest;
        let first = u32::from_be_bytes([a, b, c, d]) as usize % sets * WAYS;
        self.slots.get(first..first + WAYS).unwrap_or_default()
    }
}
