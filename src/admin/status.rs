//! What runs and how it fares, for `status` and for those who send requests here.

use std::time::Duration;

use serde_json::{Value, json};

use crate::admin::Desk;
use crate::admin::answer::Failure;
use crate::clock::rfc3339;

impl Desk {
    /// Whether requests should be sent here. The policy is loaded and the listeners are bound
    /// before there is a desk, so what remains is that we serve on and that somebody is behind us.
    ///
    /// # Errors
    /// 503 with everything that is missing.
    pub(in crate::admin) fn ready(&self) -> Result<Value, Failure> {
        let mut missing = Vec::new();
        if self.parts.drain.is_draining() {
            missing.push("the gateway is stopping".to_owned());
        }
        for upstream in self.parts.upstreams.iter() {
            if !upstream.targets().iter().any(|target| target.is_healthy()) {
                missing.push(format!("upstream `{}` has no healthy target", upstream.name()));
            }
        }
        if missing.is_empty() {
            return Ok(json!({ "status": "ready" }));
        }
        Err(Failure::unavailable("The gateway is not ready", missing))
    }

    /// Everything that `status` prints. It walks through all keys, so it is made on a thread that
    /// may block.
    pub(in crate::admin) fn status(&self) -> Value {
        let now = self.parts.shared.clock.now();
        let up = now.since(self.started);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime": length(up),
            "uptime_s": up.as_secs(),
            "draining": self.parts.drain.is_draining(),
            "policy": self.policy(),
            "upstreams": self.upstreams(),
            "certificates": self.certificates(),
            "keys": self.keys_by_state(),
            "bans": self.bans.count(now),
        })
    }

    fn policy(&self) -> Value {
        let (policy, last) = (self.parts.shared.policy.load(), self.reloads.last());
        json!({
            "name": &**policy.name(),
            "hash": &**policy.hash(),
            "routes": policy.routes().len(),
            "in_force_since": rfc3339(last.in_force_since.unix_ms),
            "last_reload": { "at": rfc3339(last.at.unix_ms), "result": last.result },
        })
    }

    fn upstreams(&self) -> Value {
        let upstreams = self.parts.upstreams.iter().map(|upstream| {
            let targets = upstream.targets().iter().map(|target| {
                json!({
                    "address": &**target.name(),
                    "healthy": target.is_healthy(),
                    "in_flight": target.in_flight(),
                })
            });
            json!({ "name": upstream.name(), "targets": targets.collect::<Vec<_>>() })
        });
        upstreams.collect()
    }

    fn certificates(&self) -> Value {
        let listeners = self.parts.listeners.iter().map(|listener| &listener.settings);
        let certificates = listeners.flat_map(|settings| {
            settings.tls_hosts().iter().map(|host| {
                let not_after_ms = host.certificates().not_after_unix_s().saturating_mul(1000);
                let (listener, not_after) = (&**settings.name(), rfc3339(not_after_ms));
                match host.name() {
                    "" => json!({ "listener": listener, "not_after": not_after }),
                    host => json!({ "listener": listener, "not_after": not_after, "host": host }),
                }
            })
        });
        certificates.collect()
    }

    fn keys_by_state(&self) -> Value {
        let counts = self.parts.directory.counts_by_state(self.parts.shared.clock.now());
        json!({
            "active": counts.active,
            "rotating": counts.rotating,
            "expiring": counts.expiring,
            "suspended": counts.suspended,
            "expired": counts.expired,
            "revoked": counts.revoked,
            "next_expiry": counts.next_expiry_ms.map(rfc3339),
        })
    }
}

/// A length of time for people, in its two largest units: `3d 4h`, `2m 5s`.
fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        (_, _, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_told_in_its_two_largest_units() {
        for (seconds, wanted) in [
            (0, "0s"),
            (59, "59s"),
            (125, "2m 5s"),
            (3600, "1h 0m"),
            (90_061, "1d 1h"),
            (10 * 86_400, "10d 0h"),
        ] {
            assert_eq!(length(Duration::from_secs(seconds)), wanted);
        }
    }
}
