//! Addresses that are refused whatever they ask, until their ban ends.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::clock::Now;
use crate::refusal::{Reason, Refusal};
use crate::units::Network;

/// Bans held at most; a further one is refused until others end.
const BANS_MAX: usize = 10_000;
/// Characters of a ban's reason.
const WHY_CHARS_MAX: usize = 200;

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Whom it refuses.
    pub network: Network,
    /// Unix milliseconds at which it ends.
    pub until_ms: u64,
    /// Why, in the operator's words.
    pub why: Box<str>,
}

/// The bans in force.
#[derive(Debug, Default)]
pub struct Bans {
    bans: RwLock<Vec<Ban>>,
    // Spares every request the lock while nobody is banned, which is nearly always.
    any: AtomicBool,
}

impl Bans {
    /// Refuses a caller whose address is banned.
    ///
    /// # Errors
    /// `address-banned`.
    pub fn check(&self, client: IpAddr, now: Now) -> Result<(), Refusal> {
        if !self.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let bans = self.bans.read().unwrap_or_else(PoisonError::into_inner);
        let banned =
            bans.iter().any(|ban| now.unix_ms < ban.until_ms && ban.network.contains(client));
        if banned { Err(Reason::AddressBanned.into()) } else { Ok(()) }
    }

    /// Adds a ban, replacing one of the same network. False when there are too many.
    pub fn add(&self, network: Network, until_ms: u64, why: &str, now: Now) -> bool {
        let mut bans = self.bans.write().unwrap_or_else(PoisonError::into_inner);
        bans.retain(|ban| now.unix_ms < ban.until_ms && ban.network != network);
        if bans.len() >= BANS_MAX {
            return false;
        }
        let why = why
            .chars()
            .filter(|character| !character.is_control())
            .take(WHY_CHARS_MAX)
            .collect::<String>();
        bans.push(Ban { network, until_ms, why: why.into() });
        self.any.store(true, Ordering::Release);
        true
    }

    /// Lifts a ban. False when there was none.
    pub fn remove(&self, network: Network) -> bool {
        let mut bans = self.bans.write().unwrap_or_else(PoisonError::into_inner);
        let before = bans.len();
        bans.retain(|ban| ban.network != network);
        self.any.store(!bans.is_empty(), Ordering::Release);
        bans.len() < before
    }

    /// Forgets the bans that have ended, and says whose they were.
    pub fn expire(&self, now: Now) -> Vec<Network> {
        let mut bans = self.bans.write().unwrap_or_else(PoisonError::into_inner);
        let ended = bans.extract_if(.., |ban| ban.until_ms <= now.unix_ms);
        let ended = ended.map(|ban| ban.network).collect();
        self.any.store(!bans.is_empty(), Ordering::Release);
        ended
    }

    /// The bans in force.
    pub fn list(&self, now: Now) -> Vec<Ban> {
        let bans = self.bans.read().unwrap_or_else(PoisonError::into_inner);
        bans.iter().filter(|ban| now.unix_ms < ban.until_ms).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_ban_holds_for_its_network_until_it_ends() {
        let (clock, hand) = Clock::set_at(1_764_000_000_000);
        let bans = Bans::default();
        let now = clock.now();
        assert!(bans.add(
            "203.0.113.0/24".parse().unwrap(),
            now.unix_ms + 60_000,
            "guessing\nkeys",
            now
        ));
        assert_eq!(
            bans.check("203.0.113.9".parse().unwrap(), now).unwrap_err().reason,
            Reason::AddressBanned
        );
        assert!(bans.check("203.0.114.9".parse().unwrap(), now).is_ok());
        assert_eq!(&*bans.list(now)[0].why, "guessingkeys");
        hand.advance(Duration::from_secs(60));
        assert!(bans.check("203.0.113.9".parse().unwrap(), clock.now()).is_ok());
        assert!(bans.list(clock.now()).is_empty());
    }

    #[test]
    fn a_ban_can_be_lifted() {
        let now = Clock::set_at(0).0.now();
        let bans = Bans::default();
        let network: Network = "2001:db8::/32".parse().unwrap();
        bans.add(network, 1000, "", now);
        assert!(bans.remove(network));
        assert!(!bans.remove(network));
        assert!(bans.check("2001:db8::1".parse().unwrap(), now).is_ok());
    }
}
