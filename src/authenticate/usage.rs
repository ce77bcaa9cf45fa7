//! What is noted of a credential while it is used: when, how often, whence, for which scopes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::Now;

/// How many different addresses are noted between two looks: the last one, and some before it.
const ADDRESSES: usize = 3;
/// Marks an IPv4 address among the first halves of IPv6 addresses; no caller has such a one.
const IPV4: u64 = 0xFFFF << 32;

/// The notes of one credential. Requests only add to them, with a few relaxed operations and
/// without a lock; whoever keeps house takes them away from time to time.
///
/// Two requests at one instant may lose one of two addresses; no use is ever lost.
#[derive(Default)]
pub struct Usage {
    addresses: [AtomicU64; ADDRESSES],
    scopes: AtomicU64,
    uses: AtomicU32,
    last_s: AtomicU32,
}

/// Notes that were taken away, or only looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::authenticate) struct Notes {
    /// Addresses, the last one first; 0 for none.
    pub(in crate::authenticate) addresses: [u64; ADDRESSES],
    /// One bit for each scope that opened a door, in the order of the credential's scopes.
    pub(in crate::authenticate) scopes: u64,
    /// How often it was used.
    pub(in crate::authenticate) uses: u32,
    /// Unix seconds of the last use; 0 for none.
    pub(in crate::authenticate) last_s: u32,
}

impl Usage {
    /// Notes one use, by a caller at this address.
    pub(in crate::authenticate) fn note(&self, client: IpAddr, now: Now) {
        let now_s = u32::try_from(now.unix_s()).unwrap_or(u32::MAX);
        if self.last_s.load(Ordering::Relaxed) != now_s {
            self.last_s.store(now_s, Ordering::Relaxed);
        }
        self.uses.fetch_add(1, Ordering::Relaxed);
        let [last, before @ ..] = &self.addresses;
        let (address, displaced) = (packed(client), last.load(Ordering::Relaxed));
        if address == displaced {
            return;
        }
        last.store(address, Ordering::Relaxed);
        if displaced == 0 || before.iter().any(|seen| seen.load(Ordering::Relaxed) == displaced) {
            return;
        }
        // Whichever place the low bits choose: callers that come in turns keep to their places.
        let place = usize::try_from(displaced).unwrap_or_default() % before.len();
        if let Some(place) = before.get(place) {
            place.store(displaced, Ordering::Relaxed);
        }
    }

    /// Notes that these scopes, one bit each in the order of the credential's, opened a door.
    pub fn note_scopes(&self, used: u64) {
        if self.scopes.load(Ordering::Relaxed) & used != used {
            self.scopes.fetch_or(used, Ordering::Relaxed);
        }
    }

    /// The notes as they stand.
    pub(in crate::authenticate) fn notes(&self) -> Notes {
        Notes {
            addresses: self.addresses.each_ref().map(|seen| seen.load(Ordering::Relaxed)),
            scopes: self.scopes.load(Ordering::Relaxed),
            uses: self.uses.load(Ordering::Relaxed),
            last_s: self.last_s.load(Ordering::Relaxed),
        }
    }

    /// Takes the notes away, if there are any. The last address and the time of the last use stay:
    /// they are what is asked for most.
    pub(in crate::authenticate) fn take(&self) -> Option<Notes> {
        if self.uses.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let notes = self.notes();
        let [_, before @ ..] = &self.addresses;
        before.iter().for_each(|seen| seen.store(0, Ordering::Relaxed));
        let uses = self.uses.swap(0, Ordering::Relaxed);
        Some(Notes { scopes: self.scopes.swap(0, Ordering::Relaxed), uses, ..notes })
            .filter(|notes| notes.uses > 0)
    }

    /// Gives notes back that could not be kept elsewhere, so that the next look finds them.
    pub(in crate::authenticate) fn give_back(&self, notes: &Notes) {
        self.uses.fetch_add(notes.uses, Ordering::Relaxed);
        self.scopes.fetch_or(notes.scopes, Ordering::Relaxed);
        for (place, seen) in self.addresses.iter().zip(notes.addresses) {
            let _ = place.compare_exchange(0, seen, Ordering::Relaxed, Ordering::Relaxed);
        }
        let _ = self.last_s.compare_exchange(0, notes.last_s, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The notes of the same credential, moved here: its other facts have changed.
    pub(in crate::authenticate) fn moved(before: Option<&Self>) -> Self {
        let fresh = Self::default();
        if let Some(before) = before {
            let kept = Notes { uses: 0, scopes: 0, ..before.notes() };
            fresh.give_back(&before.take().unwrap_or(kept));
        }
        fresh
    }
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notes().fmt(f)
    }
}

/// A copy begins with what the original has noted.
impl Clone for Usage {
    fn clone(&self) -> Self {
        let fresh = Self::default();
        fresh.give_back(&self.notes());
        fresh
    }
}

/// What a credential gives does not depend on how often it was used.
impl PartialEq for Usage {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Usage {}

/// An address in one word: IPv4 whole, of IPv6 the first 64 bits, which is what one caller is given.
fn packed(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => IPV4 | u64::from(address.to_bits()),
        // The unspecified network, of which `::1` is one, must not look like no address at all.
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or_default().max(1),
    }
}

/// The address in such a word, as people read it: `203.0.113.9` or `2001:db8:1:2::/64`.
pub(in crate::authenticate) fn shown(packed: u64) -> String {
    if packed >> 32 == IPV4 >> 32 {
        let bits = u32::try_from(packed & 0xFFFF_FFFF).unwrap_or_default();
        return Ipv4Addr::from_bits(bits).to_string();
    }
    let first = if packed == 1 { 0 } else { packed };
    format!("{}/64", Ipv6Addr::from_bits(u128::from(first) << 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::tests::NOW;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_shown_as_it_came() {
        for (from, told) in [
            ("203.0.113.9", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("0.0.0.0", "0.0.0.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("::1", "::/64"),
        ] {
            assert_eq!(shown(packed(ip(from))), told);
            assert_ne!(packed(ip(from)), 0, "0 is no address");
        }
    }

    #[test]
    fn uses_are_counted_and_taken_once() {
        let usage = Usage::default();
        assert_eq!(usage.take(), None);
        for _ in 0..3 {
            usage.note(ip("192.0.2.1"), NOW);
        }
        usage.note_scopes(0b101);
        let notes = usage.take().unwrap();
        assert_eq!((notes.uses, notes.scopes, notes.last_s), (3, 0b101, NOW.unix_s() as u32));
        assert_eq!(usage.take(), None);
        assert_eq!(usage.notes().last_s, NOW.unix_s() as u32, "the last use stays");
        usage.give_back(&notes);
        assert_eq!(usage.take(), Some(notes));
    }

    #[test]
    fn callers_that_come_in_turns_are_all_seen() {
        let usage = Usage::default();
        let seen = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        for turn in 0..30 {
            usage.note(ip(seen[turn % seen.len()]), NOW);
        }
        let notes = usage.take().unwrap();
        let mut told = notes.addresses.map(shown);
        assert_eq!(told[0], "192.0.2.3", "the last one stands first");
        told.sort();
        assert_eq!(told, seen);
    }

    #[test]
    fn notes_are_moved_and_not_doubled() {
        let old = Usage::default();
        old.note(ip("192.0.2.1"), NOW);
        let new = Usage::moved(Some(&old));
        assert_eq!((old.notes().uses, new.notes().uses), (0, 1));
        let newer = Usage::moved(Some(&new));
        newer.take().unwrap();
        let newest = Usage::moved(Some(&newer));
        assert_eq!((newest.notes().uses, newest.notes().last_s), (0, NOW.unix_s() as u32));
    }
}
