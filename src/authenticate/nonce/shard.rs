//! One part of the nonces that are remembered, and when each may be forgotten.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::authenticate::nonce::Share;

/// How many nonces a claim forgets at most, when their time has come. It adds one and takes away up
/// to so many, so what has expired drains faster than it can gather.
const SWEPT_PER_CLAIM: usize = 8;

/// What a nonce is told by.
pub(super) type Fingerprint = u64;

/// Nonces, each until its time.
///
/// A new nonce goes where no cache has been, so what is touched is kept small: a slot of 16 bytes in
/// the map, and the end of a queue.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// Until when each is remembered, in steady milliseconds.
    ///
    /// Fingerprints are hashes already, so a quick hash does.
    held: HashMap<Fingerprint, u64, foldhash::fast::RandomState>,
    /// All claims in the order in which they came, which is nearly that in which they end: signers
    /// say when they signed, and sign when they send. One that ends later than those behind it keeps
    /// them for longer than they need be, but never beyond the window after they came.
    claims: VecDeque<Claimed>,
}

/// A claim, and whose share it counts for.
#[derive(Debug)]
struct Claimed {
    until: u64,
    fingerprint: Fingerprint,
    share: Share,
}

impl Shard {
    /// All of them, with their times, in the order in which they came.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Fingerprint, u64)> {
        self.claims.iter().map(|claimed| (claimed.fingerprint, claimed.until))
    }

    /// Forgets a few whose time has come, and says how many.
    pub(super) fn sweep(&mut self, steady_ms: u64) -> usize {
        let mut forgotten = 0;
        while forgotten < SWEPT_PER_CLAIM
            && let Some(ended) = self.claims.pop_front_if(|claimed| claimed.until <= steady_ms)
        {
            // A nonce that was claimed anew after its time stays, under its later claim.
            if let Entry::Occupied(held) = self.held.entry(ended.fingerprint)
                && *held.get() <= steady_ms
            {
                held.remove();
            }
            ended.share.give_back();
            forgotten += 1;
        }
        forgotten
    }

    /// Whether it is remembered.
    pub(super) fn holds(&self, fingerprint: Fingerprint, steady_ms: u64) -> bool {
        self.held.get(&fingerprint).is_some_and(|until| *until > steady_ms)
    }

    /// Remembers one until a time, unless it is remembered. Says whether it does so from now on.
    pub(super) fn insert(
        &mut self,
        fingerprint: Fingerprint,
        (until, steady_ms): (u64, u64),
        share: &Share,
    ) -> bool {
        match self.held.entry(fingerprint) {
            Entry::Vacant(place) => {
                place.insert(until);
            }
            Entry::Occupied(earlier) if *earlier.get() > steady_ms => return false,
            Entry::Occupied(mut earlier) => {
                earlier.insert(until);
            }
        }
        self.claims.push_back(Claimed { until, fingerprint, share: share.clone() });
        true
    }
}
