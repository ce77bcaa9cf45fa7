//! One part of the nonces that are remembered, and in which second each may be forgotten.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::authenticate::nonce::Share;

/// How many nonces a claim forgets at most, when their time has come. It adds one and takes away up
/// to so many, so what has expired drains faster than it can gather.
const SWEPT_PER_CLAIM: usize = 8;

/// What a nonce is told by.
pub(super) type Fingerprint = u64;

/// Nonces, each until its time.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// Until when each is remembered, in steady milliseconds, and for whom.
    ///
    /// Fingerprints are hashes already, so a quick hash does.
    held: HashMap<Fingerprint, (u64, Share), foldhash::fast::RandomState>,
    /// In which steady second each may be forgotten, the soonest first. Those of one second stand in
    /// no order, so that adding one is writing it behind the last.
    soonest: VecDeque<(u64, Vec<Fingerprint>)>,
    /// The memory of a second that is over, for one that begins.
    spare: Vec<Fingerprint>,
}

impl Shard {
    /// All of them, with their times.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Fingerprint, u64)> {
        self.held.iter().map(|(fingerprint, (until, _))| (*fingerprint, *until))
    }

    /// Forgets a few whose time has come, and says how many.
    pub(super) fn sweep(&mut self, steady_ms: u64) -> usize {
        let mut forgotten = 0;
        for _ in 0..SWEPT_PER_CLAIM {
            let Some((second, due)) = self.soonest.front_mut() else { break };
            if *second > second_of(steady_ms) {
                break;
            }
            let Some(fingerprint) = due.pop() else {
                self.spare = self.soonest.pop_front().map(|(_, due)| due).unwrap_or_default();
                continue;
            };
            match self.held.get(&fingerprint) {
                Some((until, _)) if *until <= steady_ms => {
                    if let Some((_, share)) = self.held.remove(&fingerprint) {
                        share.give_back();
                        forgotten += 1;
                    }
                }
                // Its second has begun, but not gone as far as that.
                Some((until, _)) if second_of(*until) == *second => {
                    due.push(fingerprint);
                    break;
                }
                // A nonce that was claimed anew after its time is due later, and stays.
                Some(_) | None => {}
            }
        }
        forgotten
    }

    /// Whether it is remembered.
    pub(super) fn holds(&self, fingerprint: Fingerprint, steady_ms: u64) -> bool {
        self.held.get(&fingerprint).is_some_and(|(until, _)| *until > steady_ms)
    }

    /// Remembers one until a time, unless it is remembered: then nothing. Otherwise it says whether it
    /// took the place of its own earlier, expired claim.
    pub(super) fn insert(
        &mut self,
        fingerprint: Fingerprint,
        (until, steady_ms): (u64, u64),
        share: &Share,
    ) -> Option<bool> {
        let is_anew = match self.held.entry(fingerprint) {
            Entry::Vacant(place) => {
                place.insert((until, share.clone()));
                false
            }
            Entry::Occupied(earlier) if earlier.get().0 > steady_ms => return None,
            Entry::Occupied(mut earlier) => {
                let (_, share) = earlier.insert((until, share.clone()));
                share.give_back();
                true
            }
        };
        let second = second_of(until);
        let place = self.soonest.partition_point(|(earlier, _)| *earlier < second);
        match self.soonest.get_mut(place) {
            Some((same, due)) if *same == second => due.push(fingerprint),
            Some(_) | None => {
                let mut due = std::mem::take(&mut self.spare);
                due.push(fingerprint);
                self.soonest.insert(place, (second, due));
            }
        }
        Some(is_anew)
    }
}

fn second_of(steady_ms: u64) -> u64 {
    steady_ms / 1000
}
