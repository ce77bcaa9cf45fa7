//! Loads the policy again, one load at a time, and keeps in mind and in metrics what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Now;
use crate::gateway::Shared;
use crate::policy::reload::{Outcome, Reloader};
use crate::record::families;

/// The series of a route that is gone stay for an hour, until Prometheus has surely seen their end.
const ROUTE_KEPT: Duration = Duration::from_secs(3600);
const RESULTS: [&str; 3] = ["applied", "unchanged", "refused"];

/// What came of the last load.
#[derive(Clone, Copy, Debug)]
pub struct Last {
    /// When it was.
    pub at: Now,
    /// `started`, `applied`, `unchanged` or `refused`.
    pub result: &'static str,
    /// When the policy in force was loaded.
    pub in_force_since: Now,
}

/// Loads the policy again when asked or when its files have changed.
pub struct Reloads {
    shared: Arc<Shared>,
    reloader: Reloader,
    last: Mutex<Last>,
    /// The routes that have series and that the policy in force does not have, each with when that
    /// was first seen. Held during a load: series are not forgotten while a policy takes them up.
    gone: Mutex<BTreeMap<Box<str>, Now>>,
}

impl Reloads {
    /// With a policy in force since now.
    pub fn new(shared: Arc<Shared>, reloader: Reloader) -> Self {
        let now = shared.clock.now();
        let last = Mutex::new(Last { at: now, result: "started", in_force_since: now });
        let reloads = Self { shared, reloader, last, gone: Mutex::default() };
        for result in RESULTS {
            reloads.shared.record.metrics().add(families::POLICY_RELOADS, [result], 0);
        }
        reloads.tell_policy();
        reloads.tell_success(true, now);
        reloads
    }

    /// Loads the policy again, and tells the log and the metrics what came of it.
    pub fn reload(&self) -> Outcome {
        let _turn = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.reloader.reload();
        self.tell(&outcome);
        outcome
    }

    /// Looks whether the files have changed, and loads them if so.
    pub fn poll(&self) {
        let _turn = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = self.reloader.poll() {
            self.tell(&outcome);
        }
    }

    /// What came of the last load.
    pub fn last(&self) -> Last {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the series of routes that have been gone for an hour.
    pub fn forget_routes(&self, now: Now) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = self.shared.policy.load();
        let metrics = self.shared.record.metrics();
        let in_force: BTreeSet<&str> = policy.routes().iter().map(|route| &*route.name).collect();
        let absent: BTreeSet<Box<str>> =
            metrics.routes().into_iter().filter(|name| !in_force.contains(&**name)).collect();
        gone.retain(|name, _| absent.contains(name));
        for name in absent {
            let since = *gone.entry(name.clone()).or_insert(now);
            if now.since(since) >= ROUTE_KEPT {
                metrics.forget_route(&name);
                gone.remove(&name);
            }
        }
    }

    fn tell(&self, outcome: &Outcome) {
        let now = self.shared.clock.now();
        let result = result_name(outcome);
        match outcome {
            Outcome::Applied(hash) => {
                tracing::info!(%hash, "a new policy is in force");
                self.tell_policy();
            }
            Outcome::Unchanged(hash) => tracing::info!(%hash, "the policy has not changed"),
            Outcome::Refused(says) => {
                tracing::error!(%says, "the new policy is refused; the one in force stays");
            }
        }
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            (last.at, last.result) = (now, result);
            if matches!(outcome, Outcome::Applied(_)) {
                last.in_force_since = now;
            }
        }
        self.shared.record.metrics().add(families::POLICY_RELOADS, [result], 1);
        self.tell_success(!matches!(outcome, Outcome::Refused(_)), self.last().in_force_since);
    }

    fn tell_success(&self, successful: bool, in_force_since: Now) {
        let metrics = self.shared.record.metrics();
        let loaded_s = in_force_since.unix_ms as f64 / 1000.0;
        metrics.set(families::POLICY_LAST_RELOAD_SUCCESSFUL, [], f64::from(u8::from(successful)));
        metrics.set(families::POLICY_LAST_RELOAD_SUCCESS_TIMESTAMP, [], loaded_s);
    }

    fn tell_policy(&self) {
        let (metrics, policy) = (self.shared.record.metrics(), self.shared.policy.load());
        metrics.clear(families::POLICY_INFO);
        metrics.set(families::POLICY_INFO, [policy.name(), policy.hash()], 1.0);
        metrics.clear(families::POLICY_OBSERVE_UNTIL);
        for (rule, until_s) in policy.watching() {
            metrics.set(families::POLICY_OBSERVE_UNTIL, [&**rule], *until_s as f64);
        }
    }
}

/// The name of an outcome, as metrics and the API have it.
pub fn result_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Applied(_) => "applied",
        Outcome::Unchanged(_) => "unchanged",
        Outcome::Refused(_) => "refused",
    }
}
