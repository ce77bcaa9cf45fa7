//! Finds a member that an object has twice, at the same cost whatever names a caller thinks of.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::inspect::json::pointer::Span;

/// The names of all members of one JSON text, by object.
///
/// One open-addressed table serves all objects of a text. Its hash has a key that callers do not
/// know (SipHash), so that names which collide cannot be chosen. Objects are numbered on from text
/// to text, so that nothing has to be wiped between two: what has an older number is vacant.
#[derive(Default)]
pub(in crate::inspect::json) struct Names {
    slots: Vec<Slot>,
    used: usize,
    /// The number of the last object of the text before.
    before: u32,
    /// The number of the last object.
    last: u32,
    /// Names that were written with escapes, as they are meant.
    decoded: String,
    keys: RandomState,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u64,
    object: u32,
    name: Span,
}

/// Spreads the numbers of objects over all bits: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Above this many slots the table is not kept for the next text.
const SLOTS_KEPT_MAX: usize = 4096;

/// Above this many bytes the decoded names are not kept for the next text.
const DECODED_KEPT_MAX: usize = 16 * 1024;

impl Names {
    /// Makes ready for a new text.
    pub(in crate::inspect::json) fn begin(&mut self) {
        if self.last > u32::MAX / 2 {
            self.slots.fill(Slot::default());
            self.last = 0;
        }
        self.before = self.last;
        self.used = 0;
        self.decoded.clear();
    }

    /// Gives back what a large text made grow.
    pub(in crate::inspect::json) fn end(&mut self) {
        if self.slots.len() > SLOTS_KEPT_MAX {
            self.slots = Vec::new();
        }
        self.decoded.clear();
        self.decoded.shrink_to(DECODED_KEPT_MAX);
    }

    /// The number of a new object.
    pub(in crate::inspect::json) fn object(&mut self) -> u32 {
        self.last = self.last.saturating_add(1);
        self.last
    }

    /// Names that were written with escapes, as they are meant.
    pub(in crate::inspect::json) fn decoded(&self) -> &str {
        &self.decoded
    }

    /// Keeps a name that was written with escapes.
    pub(in crate::inspect::json) fn keep(&mut self, decode: impl FnOnce(&mut String)) -> Span {
        let start = self.decoded.len();
        decode(&mut self.decoded);
        // Escapes are never shorter than what they mean, so this is no longer than the text.
        let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { start: position(start), end: position(self.decoded.len()), decoded: true }
    }

    /// Adds a name to an object. Says `false` if the object has it already.
    pub(in crate::inspect::json) fn add(&mut self, text: &str, object: u32, span: Span) -> bool {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let name = span.of(text, &self.decoded);
        let hash = self.hash(object, name);
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while let Some(slot) = self.slots.get_mut(at) {
            if slot.object <= self.before {
                *slot = Slot { hash, object, name: span };
                self.used += 1;
                return true;
            }
            let same = slot.hash == hash && slot.object == object;
            if same && slot.name.of(text, &self.decoded) == name {
                return false;
            }
            at = (at + 1) & mask;
        }
        true
    }

    /// One write of the name alone is all that the hash is asked for; the object, which callers
    /// cannot choose freely, only has to move it elsewhere.
    fn hash(&self, object: u32, name: &str) -> u64 {
        let mut hasher = self.keys.build_hasher();
        hasher.write(name.as_bytes());
        hasher.finish() ^ u64::from(object).wrapping_mul(SPREAD)
    }

    /// The longest run of slots in use: what one look can cost.
    #[cfg(test)]
    pub(in crate::inspect::json) fn longest_run(&self) -> usize {
        self.slots
            .split(|slot| slot.object <= self.before)
            .map(<[Slot]>::len)
            .max()
            .unwrap_or_default()
    }

    /// Doubles the table.
    fn grow(&mut self) {
        let doubled = (self.slots.len() * 2).max(64);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); doubled]);
        let mask = doubled - 1;
        for kept in old.into_iter().filter(|slot| slot.object > self.before) {
            let mut at = kept.hash as usize & mask;
            while let Some(slot) = self.slots.get_mut(at) {
                if slot.object == 0 {
                    *slot = kept;
                    break;
                }
                at = (at + 1) & mask;
            }
        }
    }
}
