//! A verified token with what tells, for as long as something goes on by it, whether it still holds.

use std::net::IpAddr;
use std::sync::Arc;

use crate::authenticate::jwt::claims::{Limits, Verified};
use crate::authenticate::sessions::Sessions;
use crate::authenticate::standing::{Keeper, Ticket};
use crate::clock::Now;
use crate::refusal::{Reason, Refusal};

/// A token that was verified once and is looked at again with each request, and twice a second
/// while something long goes on by it. It is made when it is verified and shared from then on.
#[derive(Debug)]
pub struct Token {
    /// Everything of it that requests need.
    pub verified: Verified,
    limits: Limits,
    sessions: Arc<Sessions>,
}

impl Token {
    /// The token, held to these limits and among these revocations.
    pub fn new(verified: Verified, limits: Limits, sessions: &Arc<Sessions>) -> Self {
        Self { verified, limits, sessions: Arc::clone(sessions) }
    }

    /// Whether it holds now.
    ///
    /// # Errors
    /// [`Reason::TokenExpired`] and [`Reason::TokenFuture`] by its times, [`Reason::TokenRevoked`]
    /// when it, its session or its subject was revoked.
    pub fn check(&self, now: Now) -> Result<(), Refusal> {
        self.verified.times.check(&self.limits, now)?;
        self.sessions.check(&self.verified)
    }

    /// The first Unix second in which it no longer holds by its own `exp`.
    pub fn end_s(&self) -> u64 {
        self.verified.times.expires_s.saturating_add(self.limits.skew_s)
    }
}

impl Keeper for Token {
    fn still_holds(&self, _: Ticket, _: IpAddr, now: Now) -> Result<(), Reason> {
        self.check(now).map_err(|refusal| refusal.reason)
    }
}
