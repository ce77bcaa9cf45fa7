//! The last decisions, kept in memory for `explain --trace` and `explain --last-refused`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::record::account::Account;
use crate::record::line;

/// So many requests are kept in a turn; those beyond it are forgotten at once.
///
/// A busy gateway would otherwise turn its ring over many times a second: nobody could ask for a
/// request that quickly, and every request would wait for memory that no cache holds.
const KEPT_PER_TURN: u64 = 64;
/// A turn is 2^24 nanoseconds, about 17 ms; so up to some 3,800 requests a second all are kept.
const TURN_BITS: u32 = 24;

/// The last decisions. Refusals have a ring of their own, so that busy days do not wash them out.
#[derive(Debug)]
pub struct Recent {
    allowed: Ring,
    refused: Ring,
}

#[derive(Debug)]
struct Ring {
    slots: Box<[Mutex<Option<Box<Account>>>]>,
    next: AtomicUsize,
    /// The number of the turn, and how many were kept in it.
    turn: AtomicU64,
}

impl Recent {
    /// Room for so many requests that passed and so many that were refused. Each takes about 1 KiB.
    pub fn new(allowed_max: usize, refused_max: usize) -> Self {
        Self { allowed: Ring::new(allowed_max), refused: Ring::new(refused_max) }
    }

    /// The request with this id, as JSON with every stage it passed.
    pub fn find(&self, id: &str) -> Option<String> {
        let has_id =
            |account: &Account| account.id.as_ref().is_some_and(|known| known.as_str() == id);
        self.refused.newest(has_id).or_else(|| self.allowed.newest(has_id))
    }

    /// The last request that was refused, as JSON with every stage it passed.
    pub fn last_refused(&self) -> Option<String> {
        self.refused.newest(|_| true)
    }

    /// The last request that passed, as JSON with every stage it passed.
    pub fn last_allowed(&self) -> Option<String> {
        self.allowed.newest(|_| true)
    }

    pub(in crate::record) fn keep(&self, account: Box<Account>) {
        let ring = if account.refusal.is_some() { &self.refused } else { &self.allowed };
        if ring.has_room(account.started.steady_ns) {
            ring.push(account);
        }
    }
}

impl Ring {
    fn new(max: usize) -> Self {
        let slots = std::iter::repeat_with(Mutex::default).take(max).collect();
        Self { slots, next: AtomicUsize::new(0), turn: AtomicU64::new(0) }
    }

    /// Whether one more is kept in this turn. Two threads that count at the same time may keep one
    /// more or less, which nobody notices.
    fn has_room(&self, steady_ns: u64) -> bool {
        let turn = steady_ns >> TURN_BITS << 32;
        let before = self.turn.load(Ordering::Relaxed);
        let kept = if before & !0xffff_ffff == turn { before & 0xffff_ffff } else { 0 };
        if kept < KEPT_PER_TURN {
            self.turn.store(turn | (kept + 1), Ordering::Relaxed);
        }
        kept < KEPT_PER_TURN
    }

    fn push(&self, account: Box<Account>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len().max(1);
        let Some(slot) = self.slots.get(number) else { return };
        let before = slot.lock().unwrap_or_else(PoisonError::into_inner).replace(account);
        // Freed here, after the lock.
        drop(before);
    }

    fn newest(&self, fits: impl Fn(&Account) -> bool) -> Option<String> {
        let count = self.slots.len();
        let next = self.next.load(Ordering::Relaxed);
        (1..=count).find_map(|back| {
            let slot = self.slots.get(next.wrapping_add(count - back) % count)?;
            let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.as_deref().filter(|account| fits(account)).map(line::trace)
        })
    }
}
