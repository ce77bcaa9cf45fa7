//! A map that is read without a lock and changed by copying a small part of it.
//!
//! Readers meet no writer and no other reader: they load a pointer and search a sorted slice. A
//! writer copies one of 4,096 compartments, so with a million entries it copies about 250.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// How many compartments there are, as a power of two.
const COMPARTMENT_BITS: u32 = 12;

/// What a compartment holds: entries sorted by their number.
type Compartment<V> = ArcSwap<Vec<(u64, V)>>;

/// A map from numbers to shared values.
pub(in crate::authenticate) struct Shelf<V> {
    compartments: Box<[Compartment<V>]>,
}

impl<V: Clone> Shelf<V> {
    /// An empty map. Its compartments share one empty slice until they get an entry.
    pub(in crate::authenticate) fn new() -> Self {
        let empty = Arc::new(Vec::new());
        let compartments =
            (0..1_u32 << COMPARTMENT_BITS).map(|_| ArcSwap::new(Arc::clone(&empty))).collect();
        Self { compartments }
    }

    /// The value with this number.
    pub(in crate::authenticate) fn find(&self, number: u64) -> Option<V> {
        let entries = self.compartments.get(compartment(number))?.load();
        let at = entries.binary_search_by_key(&number, |entry| entry.0).ok()?;
        entries.get(at).map(|entry| entry.1.clone())
    }

    /// Sets many values at once. Where a number stands twice, the last one holds.
    ///
    /// Callers take turns: two writers at a time could undo each other's change.
    pub(in crate::authenticate) fn set(&self, mut fresh: Vec<(u64, V)>) {
        fresh.sort_by_key(|(number, _)| compartment(*number));
        for group in fresh.chunk_by(|a, b| compartment(a.0) == compartment(b.0)) {
            let Some(of_group) =
                group.first().and_then(|first| self.compartments.get(compartment(first.0)))
            else {
                continue;
            };
            let old = of_group.load();
            let mut entries = Vec::with_capacity(old.len() + group.len());
            // The sort is stable, so the newest stands first among equals and is the one kept.
            entries.extend(group.iter().rev().cloned());
            entries.extend(old.iter().cloned());
            entries.sort_by_key(|entry| entry.0);
            entries.dedup_by_key(|entry| entry.0);
            entries.shrink_to_fit();
            of_group.store(Arc::new(entries));
        }
    }

    /// Shows every entry, in no order that means anything.
    pub(in crate::authenticate) fn each(&self, mut visit: impl FnMut(&V)) {
        for compartment in &self.compartments {
            for (_, value) in compartment.load().iter() {
                visit(value);
            }
        }
    }
}

/// Where a number belongs. The numbers are our own, random, but made of few bits of each byte;
/// the multiplication (by 2^64 over the golden ratio) spreads them.
fn compartment(number: u64) -> usize {
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(spread >> (u64::BITS - COMPARTMENT_BITS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_answers_as_a_map_does(
            batches in prop::collection::vec(
                prop::collection::vec((0_u64..50, any::<u32>()), 0..40), 0..8),
        ) {
            let shelf = Shelf::new();
            let mut map = BTreeMap::new();
            for batch in batches {
                map.extend(batch.iter().copied());
                shelf.set(batch);
            }
            for number in 0..60 {
                prop_assert_eq!(shelf.find(number), map.get(&number).copied());
            }
            let mut all = Vec::new();
            shelf.each(|value| all.push(*value));
            all.sort_unstable();
            let mut expected: Vec<u32> = map.into_values().collect();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn random_ids_spread_over_the_compartments() {
        let mut counts = vec![0; 1 << COMPARTMENT_BITS];
        for _ in 0..40_960 {
            let id = crate::authenticate::key_format::KeyId::random().unwrap();
            counts[compartment(id.number())] += 1;
        }
        assert!(counts.iter().all(|count| *count < 40), "{:?}", counts.iter().max());
    }
}
