//! Credentials that were used as they must not be, for those who act upon it behind the request.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::authenticate::key_format::KeyId;

/// Alarms that wait at a time; further ones are only counted.
const WAITING_MAX: usize = 1024;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A credential that nobody must use was used.
    Canary,
    /// A credential stood in a URL, and so in logs and histories.
    Url,
    /// A credential travelled without TLS.
    Plaintext,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 3] = [Self::Canary, Self::Url, Self::Plaintext];

    /// The name, as metrics and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Url => "url",
            Self::Plaintext => "plaintext",
        }
    }

    /// What a suspension for it says.
    pub fn says(self) -> &'static str {
        match self {
            Self::Canary => "it is a canary and was used",
            Self::Url => "it stood in a URL",
            Self::Plaintext => "it was sent without TLS",
        }
    }
}

/// One credential that was used as it must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alarm {
    /// Which one. It was shown whole, so this is no stranger's guess.
    pub id: KeyId,
    /// What happened.
    pub cause: Cause,
    /// By whom; nothing when only a proxy is known.
    pub client: Option<IpAddr>,
}

/// Alarms that nobody has acted upon yet, and how many there were.
#[derive(Debug, Default)]
pub struct Alarms {
    // Only those who hold a credential that must not be used where it was used get here, so this
    // lock is on nobody else's way.
    waiting: Mutex<VecDeque<Alarm>>,
    raised: [AtomicU64; Cause::ALL.len()],
    dropped: AtomicU64,
    bell: Notify,
}

impl Alarms {
    /// Raises one. It never waits for whoever acts upon it.
    pub(in crate::authenticate) fn raise(&self, alarm: Alarm) {
        if let Some(count) = self.raised.get(alarm.cause as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.push_back(alarm);
        drop(waiting);
        self.bell.notify_one();
    }

    /// Until one is raised.
    pub async fn rings(&self) {
        self.bell.notified().await;
    }

    /// Those that wait, the first one first.
    pub fn take(&self) -> Vec<Alarm> {
        self.waiting().drain(..).collect()
    }

    /// How many there were of this cause.
    pub fn raised(&self, cause: Cause) -> u64 {
        self.raised.get(cause as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many nobody could act upon, because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Alarm>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alarm_too_many_is_counted_and_none_is_lost_before() {
        let alarms = Alarms::default();
        let id = KeyId::parse("7Fq2kT9x").unwrap();
        for _ in 0..=WAITING_MAX {
            alarms.raise(Alarm { id, cause: Cause::Url, client: None });
        }
        assert_eq!((alarms.raised(Cause::Url), alarms.dropped()), (WAITING_MAX as u64 + 1, 1));
        assert_eq!(alarms.take().len(), WAITING_MAX);
        assert!(alarms.take().is_empty());
    }
}
