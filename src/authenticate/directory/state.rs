//! Where a credential stands in its life.

use serde::Serialize;

use crate::clock::Now;

/// A credential that expires within this many milliseconds (14 days) counts as expiring.
pub const EXPIRING_MS: u64 = 14 * 86_400_000;

/// Where a credential stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It holds, or will once its time begins.
    Active,
    /// It holds, and has a successor that will replace it.
    Rotating,
    /// It holds for less than 14 days more.
    Expiring,
    /// It does not hold until it is resumed.
    Suspended,
    /// It no longer holds.
    Expired,
    /// It was taken back.
    Revoked,
}

/// What was done to a credential that its state depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::authenticate) struct Marks {
    /// It was taken back.
    pub(in crate::authenticate) revoked: bool,
    /// It does not hold for the time being.
    pub(in crate::authenticate) suspended: bool,
    /// It has a successor.
    pub(in crate::authenticate) rotating: bool,
}

impl State {
    /// All states, in the order of a life.
    pub const ALL: [Self; 6] = [
        Self::Active,
        Self::Rotating,
        Self::Expiring,
        Self::Suspended,
        Self::Expired,
        Self::Revoked,
    ];

    /// Whether a credential in this state opens anything.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Active | Self::Rotating | Self::Expiring)
    }

    /// The name, as lists and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rotating => "rotating",
            Self::Expiring => "expiring",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Where a credential with these facts stands.
    pub(in crate::authenticate) fn of(
        Marks { revoked, suspended, rotating }: Marks,
        expires_ms: Option<u64>,
        now: Now,
    ) -> Self {
        let left_ms = expires_ms.map(|expires| expires.saturating_sub(now.unix_ms));
        match left_ms {
            _ if revoked => Self::Revoked,
            Some(0) => Self::Expired,
            _ if suspended => Self::Suspended,
            _ if rotating => Self::Rotating,
            Some(left_ms) if left_ms < EXPIRING_MS => Self::Expiring,
            Some(_) | None => Self::Active,
        }
    }
}

/// How many credentials stand where in their lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that hold.
    pub active: usize,
    /// Those that hold beside their successors.
    pub rotating: usize,
    /// Those that hold for less than 14 days more.
    pub expiring: usize,
    /// Those that do not hold until they are resumed.
    pub suspended: usize,
    /// Those that no longer hold.
    pub expired: usize,
    /// Those that were taken back.
    pub revoked: usize,
    /// Those that hold and are older than their environment allows.
    pub overdue: usize,
    /// Unix milliseconds of the first end among those that hold.
    pub next_expiry_ms: Option<u64>,
}

impl Counts {
    /// How many stand there.
    pub fn of(&self, state: State) -> usize {
        match state {
            State::Active => self.active,
            State::Rotating => self.rotating,
            State::Expiring => self.expiring,
            State::Suspended => self.suspended,
            State::Expired => self.expired,
            State::Revoked => self.revoked,
        }
    }
}
