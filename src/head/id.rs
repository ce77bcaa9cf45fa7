//! Makes names for requests and traces: unique, cheap, and no secret.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::clock::Now;
use crate::head::RequestId;

/// Crockford's base 32: no I, L, O or U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl RequestId {
    /// A new name: 48 bits of calendar milliseconds and 80 random bits.
    pub fn new(now: Now) -> Self {
        let random = u128::from(random()) << 64 | u128::from(random());
        let number = u128::from(now.unix_ms) << 80 | random >> 48;
        let mut text = [b'0'; 26];
        for (place, character) in (0..26_u32).rev().zip(text.iter_mut()) {
            let digit = usize::try_from(number >> (5 * place) & 31).unwrap_or_default();
            *character = ALPHABET.get(digit).copied().unwrap_or(b'0');
        }
        Self(text)
    }

    /// The id as ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// 64 random bits (xoroshiro128+). They need to be unique and spread, not secret: no decision
/// rests on them, so a generator per thread does, seeded once from the system.
pub(in crate::head) fn random() -> u64 {
    thread_local! {
        static STATE: Cell<(u64, u64)> = Cell::new((seed(), seed()));
    }
    let (first, second) = STATE.get();
    let mixed = first ^ second;
    STATE.set((first.rotate_left(24) ^ mixed ^ (mixed << 16), mixed.rotate_left(37)));
    first.wrapping_add(second)
}

/// A seed from the keys that the standard library draws for its hash maps. Never zero.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn an_id_begins_with_its_time() {
        // The example of the ULID specification.
        let (clock, _) = Clock::set_at(1_469_918_176_385);
        let id = RequestId::new(clock.now());
        assert_eq!(&id.as_str()[..10], "01ARYZ6S41");
        assert!(id.as_str()[10..].bytes().all(|byte| ALPHABET.contains(&byte)));
    }

    #[test]
    fn ids_of_one_moment_differ_on_all_threads() {
        let (clock, _) = Clock::set_at(0);
        let made = || (0..2000).map(|_| RequestId::new(clock.now())).collect::<Vec<_>>();
        let all: Vec<RequestId> = std::thread::scope(|scope| {
            let others = [scope.spawn(made), scope.spawn(made)];
            others.into_iter().flat_map(|thread| thread.join().unwrap()).chain(made()).collect()
        });
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 6000);
        for place in 10..26 {
            let seen: HashSet<u8> = all.iter().map(|id| id.0[place]).collect();
            assert_eq!(seen.len(), 32, "place {place} does not vary");
        }
    }
}
