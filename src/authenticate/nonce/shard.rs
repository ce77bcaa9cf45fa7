//! One part of the nonces that are remembered, and in which second each may be forgotten.

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
                self.soonest.pop_front();
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

    /// Remembers one, and says whether it took the place of its own earlier, expired claim.
    pub(super) fn insert(&mut self, fingerprint: Fingerprint, until: u64, share: Share) -> bool {
        let second = second_of(until);
        let place = self.soonest.partition_point(|(earlier, _)| *earlier < second);
        match self.soonest.get_mut(place) {
            Some((same, due)) if *same == second => due.push(fingerprint),
            Some(_) | None => self.soonest.insert(place, (second, vec![fingerprint])),
        }
        let earlier = self.held.insert(fingerprint, (until, share));
        earlier.inspect(|(_, share)| share.give_back()).is_some()
    }
}

fn second_of(steady_ms: u64) -> u64 {
    steady_ms / 1000
}
