//! One record per request, written also for a caller who left early.

pub mod account;
pub mod entry;
pub mod families;
mod line;
pub mod log;
pub mod meters;
pub mod metrics;
mod process;
pub mod recent;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::clock::{Clock, Now};
use crate::listen::Peer;
use crate::record::account::Account;
use crate::record::entry::Entry;
use crate::record::log::Log;
use crate::record::meters::ListenerMeters;
use crate::record::metrics::Metrics;
use crate::record::recent::Recent;
use crate::refusal::Mode;

/// How many requests that passed are kept for `explain --trace`, and how many refusals.
const RECENT_ALLOWED_MAX: usize = 1024;
const RECENT_REFUSED_MAX: usize = 1024;

/// Everything that is told of requests: metrics, the access log, and the last decisions.
#[derive(Debug)]
pub struct Record {
    clock: Clock,
    metrics: Metrics,
    log: Log,
    recent: Recent,
}

impl Record {
    /// A record that tells these.
    pub fn new(metrics: Metrics, log: Log, clock: Clock) -> Arc<Self> {
        let recent = Recent::new(RECENT_ALLOWED_MAX, RECENT_REFUSED_MAX);
        Arc::new(Self { clock, metrics, log, recent })
    }

    /// Opens the entry of a request, before anything else is done with it. `policy` is the hash of
    /// the policy that the request keeps.
    pub fn open(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        listener: &Arc<ListenerMeters>,
        policy: &Arc<str>,
        now: Now,
    ) -> Entry {
        let account = Account::new(peer, policy, self.metrics.unmatched(), now);
        Entry::open(account, self, listener)
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The access log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The last decisions.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// One scrape, for `/metrics`.
    pub fn scrape(&self) -> String {
        self.metrics.raise(families::ACCESS_RECORDS_DROPPED, [], self.log.dropped());
        self.metrics.render()
    }

    pub(in crate::record) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Tells a request that has ended.
    pub(in crate::record) fn keep(&self, account: Box<Account>) {
        let meters = &account.meters;
        if let Some(answer) = &account.answer {
            meters.answered(answer.status, answer.by);
            let upstream = account.upstream.as_ref().map(|(_, first_byte)| *first_byte);
            let gateway = answer.after.saturating_sub(upstream.unwrap_or_default());
            meters.took(account.took, gateway, upstream);
        }
        match &account.refusal {
            Some(refusal) => meters.refused(refusal.reason, Mode::Enforce),
            None => meters.allowed(),
        }
        for refusal in &account.observed {
            meters.refused(refusal.reason, Mode::Observe);
        }
        meters.bytes(account.received(), account.bytes_out);
        self.log.tell(&account);
        self.recent.keep(account);
    }
}
