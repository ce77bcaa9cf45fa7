//! A map that is read without a lock and changed by copying a small part of it.
//!
//! Readers meet no writer and no other reader: they load a pointer and look at a slot or two. Each
//! of 1,024 compartments is a table with open addressing, so that a search in a million entries,
//! none of which is in a cache, waits for memory once and not at every halving. A writer copies one
//! compartment, about 1,000 entries of that million.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// How many compartments there are, as a power of two.
const COMPARTMENT_BITS: u32 = 10;

/// A map from numbers to shared values.
pub(in crate::authenticate) struct Shelf<V> {
    compartments: Box<[ArcSwap<Table<V>>]>,
}

impl<V: Clone> Shelf<V> {
    /// An empty map. Its compartments share one empty table until they get an entry.
    pub(in crate::authenticate) fn new() -> Self {
        let empty = Arc::new(Table::of(Vec::new()));
        let compartments =
            (0..1_u32 << COMPARTMENT_BITS).map(|_| ArcSwap::new(Arc::clone(&empty))).collect();
        Self { compartments }
    }

    /// The value with this number.
    pub(in crate::authenticate) fn find(&self, number: u64) -> Option<V> {
        #[cfg(test)]
        looked_at::note(1);
        let spread = spread(number);
        self.compartments.get(compartment(spread))?.load().find(number, spread).cloned()
    }

    /// Sets many values at once. Where a number stands twice, the last one holds.
    ///
    /// Callers take turns: two writers at a time could undo each other's change.
    pub(in crate::authenticate) fn set(&self, fresh: Vec<(u64, V)>) {
        let mut groups: BTreeMap<usize, Vec<(u64, V)>> = BTreeMap::new();
        // The newest first, for of equals the first one is kept.
        for entry in fresh.into_iter().rev() {
            groups.entry(compartment(spread(entry.0))).or_default().push(entry);
        }
        for (at, mut entries) in groups {
            let Some(of_group) = self.compartments.get(at) else { continue };
            entries.extend(of_group.load().entries().cloned());
            of_group.store(Arc::new(Table::of(entries)));
        }
    }

    /// Shows every entry, in no order that means anything.
    pub(in crate::authenticate) fn each(&self, mut visit: impl FnMut(&V)) {
        for compartment in &self.compartments {
            for (_, value) in compartment.load().entries() {
                #[cfg(test)]
                looked_at::note(1);
                visit(value);
            }
        }
    }
}

/// The entries of one compartment. Each stands in the slot that its number begs for, or in the first
/// free one behind it; a third of the slots is free, so that a search soon meets one.
struct Table<V> {
    slots: Box<[Option<(u64, V)>]>,
}

impl<V> Table<V> {
    /// Of entries with the same number the first one is kept.
    fn of(entries: Vec<(u64, V)>) -> Self {
        let length = if entries.is_empty() { 0 } else { entries.len() + entries.len() / 2 + 1 };
        let mut slots: Box<[Option<(u64, V)>]> =
            std::iter::repeat_with(|| None).take(length).collect();
        for entry in entries {
            for at in places(spread(entry.0), length) {
                let Some(slot) = slots.get_mut(at) else { break };
                match slot {
                    Some((number, _)) if *number != entry.0 => {}
                    Some(_) => break,
                    None => {
                        *slot = Some(entry);
                        break;
                    }
                }
            }
        }
        Self { slots }
    }

    fn find(&self, number: u64, spread: u64) -> Option<&V> {
        for at in places(spread, self.slots.len()) {
            let (known, value) = self.slots.get(at)?.as_ref()?;
            if *known == number {
                return Some(value);
            }
        }
        None
    }

    fn entries(&self) -> impl Iterator<Item = &(u64, V)> {
        self.slots.iter().flatten()
    }
}

/// The slots that an entry may stand in, in order.
fn places(spread: u64, length: usize) -> impl Iterator<Item = usize> {
    // The upper bits chose the compartment, so the place is chosen by those below.
    let below = u128::from(spread << COMPARTMENT_BITS);
    let first = usize::try_from((below * length as u128) >> u64::BITS).unwrap_or_default();
    (first..length).chain(0..first)
}

/// The numbers are our own, random, but made of few bits of each byte; the multiplication (by 2^64
/// over the golden ratio) spreads them, and folding its upper half in makes every bit count.
fn spread(number: u64) -> u64 {
    let product = u128::from(number) * 0x9E37_79B9_7F4A_7C15;
    let folded = (product ^ (product >> u64::BITS)) as u64;
    folded.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Which compartment a number belongs to.
fn compartment(spread: u64) -> usize {
    usize::try_from(spread >> (u64::BITS - COMPARTMENT_BITS)).unwrap_or_default()
}

/// How many entries this thread has looked at, so that a test can tell a search from a walk.
#[cfg(test)]
pub(super) mod looked_at {
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn note(more: usize) {
        COUNT.set(COUNT.get() + more);
    }

    pub(in crate::authenticate::directory) fn take() -> usize {
        COUNT.take()
    }
}

#[cfg(test)]
mod tests {
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
    fn a_search_ends_after_a_few_slots() {
        let random = |_| crate::authenticate::key_format::KeyId::random().unwrap().number();
        let numbers: Vec<u64> = (0..20_000).map(random).collect();
        let shelf = Shelf::new();
        shelf.set(numbers.iter().map(|number| (*number, ())).collect());
        let steps = |number: u64, sought: Option<(u64, ())>| {
            let table = shelf.compartments[compartment(spread(number))].load();
            let mut places = places(spread(number), table.slots.len());
            1 + places.position(|at| table.slots[at] == sought).unwrap()
        };
        let found: usize = numbers.iter().map(|number| steps(*number, Some((*number, ())))).sum();
        let missed: usize = (0..20_000).map(random).map(|number| steps(number, None)).sum();
        assert!(found < 20_000 * 5 / 2 && missed < 20_000 * 6, "{found} {missed}");
    }

    #[test]
    fn random_ids_spread_over_the_compartments() {
        let mut counts = vec![0; 1 << COMPARTMENT_BITS];
        for _ in 0..40_960 {
            let id = crate::authenticate::key_format::KeyId::random().unwrap();
            counts[compartment(spread(id.number()))] += 1;
        }
        assert!(counts.iter().all(|count| *count < 90), "{:?}", counts.iter().max());
    }
}
