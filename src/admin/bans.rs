//! Bans in memory and on disk, changed together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::admin::answer::Failure;
use crate::clock::{Now, rfc3339};
use crate::head::bans::{Ban, Bans};
use crate::store::{Batch, Store, StoreFault, Table};
use crate::units::Network;

/// The longest ban: ten years, in seconds.
const SECONDS_MAX: u64 = 10 * 365 * 86_400;

/// How the reason of a ban begins that a canary key brought about.
pub(in crate::admin) const CANARY_WHY: &str = "canary key ";

/// A ban that is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBan {
    /// Whom it refuses.
    pub network: Network,
    /// For how long, in seconds: 1 to ten years.
    pub seconds: u64,
    /// Why, in the operator's words; cut at 200 characters.
    #[serde(default)]
    pub why: String,
}

/// A ban that shall be lifted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiftedBan {
    /// Whom it refuses, as the list shows it.
    pub network: Network,
}

/// A ban as the store keeps it, under its network.
#[derive(Serialize, Deserialize)]
struct Stored {
    until_ms: u64,
    why: String,
}

/// The bans that requests see, and the table that brings them back after a restart.
pub struct Register {
    bans: Arc<Bans>,
    store: Arc<Store>,
    /// Changes take turns, so that memory and disk end up the same.
    turn: Mutex<()>,
}

impl Register {
    /// A register over these two.
    pub fn new(bans: Arc<Bans>, store: Arc<Store>) -> Self {
        Self { bans, store, turn: Mutex::new(()) }
    }

    /// The bans in force, the first to end first: `[{network, until, why}]`.
    pub fn list(&self, now: Now) -> Value {
        let mut bans = self.bans.list(now);
        bans.sort_by_key(|ban| ban.until_ms);
        bans.iter().map(shown).collect()
    }

    /// Adds a ban, or replaces the one of the same network. It is on disk before it holds.
    ///
    /// # Errors
    /// 422 for a time out of range, 409 when there are too many bans, 500 when the disk fails.
    pub fn add(&self, new: &NewBan, now: Now) -> Result<Value, Failure> {
        if !(1..=SECONDS_MAX).contains(&new.seconds) {
            return Err(Failure::unacceptable(
                "`seconds` must be 1 to 315360000, which is ten years",
            ));
        }
        let _turn = self.turn();
        let until_ms = now.unix_ms.saturating_add(new.seconds.saturating_mul(1000));
        let stored = Stored { until_ms, why: new.why.clone() };
        let value =
            serde_json::to_vec(&stored).map_err(|error| Failure::fault(error.to_string()))?;
        let mut batch = Batch::default();
        batch.put(Table::Bans, new.network.to_string(), Zeroizing::new(value));
        self.store.write(batch).map_err(|fault| broken(&fault))?;
        if !self.bans.add(new.network, until_ms, &new.why, now) {
            // A ban that replaces another is never one too many, so nothing else is deleted here.
            self.forget(&[new.network])?;
            return Err(Failure::conflict(
                "There are as many bans as there may be; lift some first",
            ));
        }
        tracing::info!(network = %new.network, seconds = new.seconds, "a ban was added");
        Ok(json!({ "network": new.network.to_string(), "until": rfc3339(until_ms) }))
    }

    /// Lifts a ban: `{removed}` tells whether there was one.
    ///
    /// # Errors
    /// 500 when the disk fails; the ban holds on then.
    pub fn remove(&self, network: Network) -> Result<Value, Failure> {
        let _turn = self.turn();
        self.forget(&[network])?;
        let removed = self.bans.remove(network);
        if removed {
            tracing::info!(%network, "a ban was lifted");
        }
        Ok(json!({ "removed": removed }))
    }

    /// Forgets the bans that have ended, in memory and on disk.
    ///
    /// # Errors
    /// 500 when the disk fails; what is left there is forgotten at the next start.
    pub fn expire(&self, now: Now) -> Result<usize, Failure> {
        let _turn = self.turn();
        let ended = self.bans.expire(now);
        if !ended.is_empty() {
            self.forget(&ended)?;
        }
        Ok(ended.len())
    }

    /// How many bans are in force.
    pub fn count(&self, now: Now) -> usize {
        self.bans.list(now).len()
    }

    /// How many bans are in force: by operators, and for the use of a canary.
    pub fn counts(&self, now: Now) -> (usize, usize) {
        let bans = self.bans.list(now);
        let canary = bans.iter().filter(|ban| ban.why.starts_with(CANARY_WHY)).count();
        (bans.len() - canary, canary)
    }

    fn forget(&self, networks: &[Network]) -> Result<(), Failure> {
        let mut batch = Batch::default();
        for network in networks {
            batch.delete(Table::Bans, network.to_string());
        }
        self.store.write(batch).map_err(|fault| broken(&fault))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bans that the store keeps, for the start. A record that cannot be read is passed over with a
/// warning: one bad ban must not keep the gateway from serving.
pub fn stored(store: &Store) -> Vec<Ban> {
    let mut bans = Vec::new();
    let read = store.scan(Table::Bans, |id, bytes| {
        let network = id.parse::<Network>();
        let stored = serde_json::from_slice::<Stored>(bytes);
        match (network, stored) {
            (Ok(network), Ok(Stored { until_ms, why })) => {
                bans.push(Ban { network, until_ms, why: why.into() });
            }
            (Err(_), _) | (_, Err(_)) => {
                tracing::warn!(id, "a stored ban cannot be read and does not hold")
            }
        }
        Ok::<(), StoreFault>(())
    });
    if let Err(fault) = read {
        tracing::error!(%fault, "not all stored bans could be read; those that were hold");
    }
    bans
}

fn shown(ban: &Ban) -> Value {
    json!({ "network": ban.network.to_string(), "until": rfc3339(ban.until_ms), "why": ban.why })
}

fn broken(fault: &StoreFault) -> Failure {
    tracing::error!(%fault, "bans could not be stored");
    Failure::fault(fault.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::secret::Secret;

    fn ban(network: &str, seconds: u64) -> NewBan {
        NewBan { network: network.parse().unwrap(), seconds, why: "guessing keys".to_owned() }
    }

    fn register(store: &Arc<Store>) -> Register {
        Register::new(Arc::default(), Arc::clone(store))
    }

    #[test]
    fn bans_outlive_the_process() {
        let (dir, master) = (tempfile::tempdir().unwrap(), Secret::random(32).unwrap());
        let now = Clock::set_at(1_764_000_000_000).0.now();
        {
            let store = Arc::new(Store::open(dir.path(), &master).unwrap());
            let register = register(&store);
            register.add(&ban("203.0.113.9", 60), now).unwrap();
            register.add(&ban("203.0.113.9", 3600), now).unwrap();
            register.add(&ban("2001:db8::/32", 60), now).unwrap();
            let lifted = register.remove("2001:db8::/32".parse().unwrap()).unwrap();
            assert_eq!(lifted, json!({ "removed": true }));
            let lifted = register.remove("2001:db8::/32".parse().unwrap()).unwrap();
            assert_eq!(lifted, json!({ "removed": false }));
            assert_eq!(register.count(now), 1);
        }
        let store = Store::open(dir.path(), &master).unwrap();
        let wanted = Ban {
            network: "203.0.113.9".parse().unwrap(),
            until_ms: now.unix_ms + 3_600_000,
            why: "guessing keys".into(),
        };
        assert_eq!(stored(&store), [wanted]);
    }

    #[test]
    fn bans_that_have_ended_are_forgotten_in_memory_and_on_disk() {
        let store = Arc::new(Store::in_memory().unwrap());
        let (clock, hand) = Clock::set_at(1_764_000_000_000);
        let register = register(&store);
        register.add(&ban("203.0.113.9", 60), clock.now()).unwrap();
        register.add(&ban("203.0.113.10", 120), clock.now()).unwrap();
        assert_eq!(register.expire(clock.now()).unwrap(), 0);
        hand.advance(Duration::from_secs(60));
        assert_eq!(register.expire(clock.now()).unwrap(), 1);
        assert_eq!(stored(&store).len(), 1);
        let list = register.list(clock.now());
        assert_eq!(
            list,
            json!([{ "network": "203.0.113.10/32", "until": "2025-11-24T16:02:00Z", "why": "guessing keys" }])
        );
    }

    #[test]
    fn a_ban_has_an_end() {
        let register = register(&Arc::new(Store::in_memory().unwrap()));
        let now = Clock::set_at(0).0.now();
        for seconds in [0, SECONDS_MAX + 1, u64::MAX] {
            let refused = register.add(&ban("192.0.2.1", seconds), now).unwrap_err();
            assert_eq!(refused.status(), http::StatusCode::UNPROCESSABLE_ENTITY);
        }
        assert_eq!(register.count(now), 0);
    }

    #[test]
    fn one_ban_too_many_is_refused_and_not_stored() {
        let store = Arc::new(Store::in_memory().unwrap());
        let bans = Arc::new(Bans::default());
        let now = Clock::set_at(0).0.now();
        let mut count = 0_u32;
        while bans.add(Network(std::net::IpAddr::from(count.to_be_bytes()).into()), 1000, "", now) {
            count += 1;
        }
        let register = Register::new(bans, Arc::clone(&store));
        let refused = register.add(&ban("2001:db8::1", 60), now).unwrap_err();
        assert_eq!(refused.status(), http::StatusCode::CONFLICT);
        assert!(stored(&store).is_empty());
    }

    #[test]
    fn a_record_that_cannot_be_read_does_not_hide_the_others() {
        let store = Arc::new(Store::in_memory().unwrap());
        let now = Clock::set_at(0).0.now();
        register(&store).add(&ban("203.0.113.9", 60), now).unwrap();
        let mut batch = Batch::default();
        batch.put(Table::Bans, "203.0.113.1", Zeroizing::new(b"{}".to_vec()));
        batch.put(
            Table::Bans,
            "not a network",
            Zeroizing::new(br#"{"until_ms":1,"why":""}"#.to_vec()),
        );
        store.write(batch).unwrap();
        let networks: Vec<String> =
            stored(&store).iter().map(|ban| ban.network.to_string()).collect();
        assert_eq!(networks, ["203.0.113.9/32"]);
    }
}
