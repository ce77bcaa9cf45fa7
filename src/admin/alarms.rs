//! Acts when a key was used as it must not be: bans the address, suspends the key, tells the operator.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::admin::Desk;
use crate::admin::bans::{CANARY_WHY, NewBan};
use crate::authenticate::alarm::{Alarm, Cause};
use crate::authenticate::directory::life::Which;
use crate::units::Network;

impl Desk {
    /// Acts upon all alarms that wait, as the policy in force says. It waits for the disk.
    pub(in crate::admin) fn answer_alarms(&self) {
        let mut alarms = self.parts.directory.alarms().take();
        // Whoever tries it a thousand times in a moment is banned once.
        let mut seen = HashSet::new();
        alarms.retain(|alarm| seen.insert(*alarm));
        for alarm in alarms {
            match alarm.cause {
                Cause::Canary => self.ban(&alarm),
                Cause::Url | Cause::Plaintext => self.suspend(&alarm),
            }
        }
    }

    fn ban(&self, alarm: &Alarm) {
        let Alarm { id, client, .. } = alarm;
        let address = client.map(tracing::field::display);
        tracing::error!(%id, address, "a canary key was used: somebody has what nobody may have");
        let Some(client) = client else {
            tracing::error!(%id, "its user is not banned: only the proxy in front is known");
            return;
        };
        let (network, now) = (network_of(*client), self.now());
        let seconds = self.parts.shared.policy.load().keys().canary_ban().as_secs();
        let until_ms = now.unix_ms.saturating_add(seconds.saturating_mul(1000));
        let in_force = self.parts.shared.bans.list(now);
        if in_force.iter().any(|ban| ban.network == network && ban.until_ms >= until_ms) {
            return;
        }
        let new = NewBan { network, seconds, why: format!("{CANARY_WHY}{id} was used") };
        if let Err(failure) = self.bans.add(&new, now) {
            tracing::error!(%id, says = failure.message(), "the user of a canary key is not banned");
        }
    }

    fn suspend(&self, alarm: &Alarm) {
        let Alarm { id, cause, .. } = alarm;
        let says = cause.says();
        tracing::warn!(%id, "a key is exposed: {says}");
        if !self.parts.shared.policy.load().keys().suspends() {
            return;
        }
        match self.parts.directory.suspend(&Which::Key(*id), says, self.now()) {
            Ok(ids) if ids.is_empty() => {}
            Ok(_) => tracing::warn!(%id, "the exposed key is suspended"),
            Err(fault) => tracing::error!(%id, %fault, "the exposed key is not suspended"),
        }
    }
}

/// What one caller is given: an IPv4 address, or the first 64 bits of an IPv6 one.
fn network_of(client: IpAddr) -> Network {
    let bits = if client.is_ipv4() { 32 } else { 64 };
    Network(IpNet::new(client, bits).map_or_else(|_| IpNet::from(client), |whole| whole.trunc()))
}
