//! What must be done again and again: look at files, forget what has ended.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::admin::{Admin, Desk};
use crate::clock::Now;
use crate::forward::credential::Credential;
use crate::forward::credential::oauth::OAuth;
use crate::record::families;

const TURN: Duration = Duration::from_secs(1);
/// Certificates are looked at every so many turns.
const CERTIFICATE_TURNS: u64 = 5;
/// What has ended is forgotten every so many turns.
const FORGET_TURNS: u64 = 60;
/// All buckets are visited once in about so many turns.
const BUCKET_TURNS: usize = 16;

/// Keeps house until `stop` is ready. The work waits for disks and compiles policies, so it is done
/// on a thread that may block.
pub async fn keep(admin: Arc<Admin>, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut turns = interval(TURN);
    // After a long load of the policy there is nothing to catch up with.
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = 0_u64;
    loop {
        let desk = admin.desk();
        let alarmed = tokio::select! {
            _ = turns.tick() => false,
            () = desk.parts.directory.alarms().rings() => true,
            () = &mut stop => return,
        };
        if alarmed {
            let acted = tokio::task::spawn_blocking(move || desk.answer_alarms()).await;
            if let Err(fault) = acted {
                tracing::error!(%fault, "an alarm about a key could not be answered");
            }
            continue;
        }
        let kept = tokio::task::spawn_blocking(move || desk.keep_house(turn)).await;
        if let Err(fault) = kept {
            tracing::error!(%fault, "housekeeping broke off; it goes on with the next turn");
        }
        turn = turn.wrapping_add(1);
    }
}

impl Desk {
    /// One turn of housekeeping.
    pub(in crate::admin) fn keep_house(&self, turn: u64) {
        let now = self.parts.shared.clock.now();
        if self.parts.watch {
            self.reloads.poll();
        }
        let buckets = &self.parts.buckets;
        for _ in 0..buckets.segments().div_ceil(BUCKET_TURNS) {
            buckets.sweep(now);
        }
        if turn.is_multiple_of(CERTIFICATE_TURNS) {
            self.look_at_certificates();
            self.look_at_upstreams();
        }
        if turn.is_multiple_of(FORGET_TURNS) {
            // A failing disk is logged where it fails.
            let _ = self.bans.expire(now);
            let _ = self.sessions.expire(now);
            self.reloads.forget_routes(now);
            self.tend_identity(now);
            self.keep_usage();
        }
    }

    /// Rotates the keys that tokens are signed with, where tokens are.
    fn tend_identity(&self, now: Now) {
        let issuer = &self.parts.issuer;
        if issuer.count() == 0 {
            return;
        }
        match issuer.tend(&self.parts.store, now) {
            Ok(false) => {}
            Ok(true) => tracing::info!(published = issuer.count(), "the identity keys changed"),
            Err(fault) => tracing::error!(%fault, "the identity keys stay as they are"),
        }
    }

    fn look_at_upstreams(&self) {
        let metrics = self.parts.shared.record.metrics();
        for upstream in self.parts.upstreams.iter() {
            let name = upstream.name();
            let oauth = upstream.credential().and_then(Credential::oauth);
            if let Some(says) = oauth.and_then(OAuth::take_fault) {
                tracing::error!(upstream = %name, %says, "no token for the service was to be had");
            }
            upstream.reload_if_changed(|what, done| {
                let result = match done {
                    Ok(()) => {
                        tracing::info!(upstream = %name, what, "changed files are in use");
                        "applied"
                    }
                    Err(says) => {
                        tracing::error!(upstream = %name, what, %says, "the changed files are refused; what is in use stays");
                        "refused"
                    }
                };
                metrics.add(families::UPSTREAM_RELOADS, [name, what, result], 1);
            });
        }
    }

    /// Moves what was noted of the use of credentials to the store.
    pub(in crate::admin) fn keep_usage(&self) {
        if let Err(fault) = self.parts.directory.keep_usage() {
            let metrics = self.parts.shared.record.metrics();
            metrics.add(families::KEY_USAGE_FAULTS, [], 1);
            tracing::error!(%fault, "how keys were used could not be stored; it is tried again");
        }
    }

    fn look_at_certificates(&self) {
        let metrics = self.parts.shared.record.metrics();
        for listener in &self.parts.listeners {
            let name = listener.settings.name();
            for host in listener.settings.tls_hosts() {
                let result = match host.reload_if_changed() {
                    Ok(false) => continue,
                    Ok(true) => {
                        tracing::info!(listener = %name, host = host.name(), "new certificate files are in use");
                        "applied"
                    }
                    Err(says) => {
                        tracing::error!(listener = %name, host = host.name(), %says, "the new certificate files are refused; those in use stay");
                        "refused"
                    }
                };
                metrics.add(families::CERTIFICATE_RELOADS, [name, result], 1);
            }
        }
    }
}
