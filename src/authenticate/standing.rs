//! Whether what proved a caller still holds, asked again while a long exchange goes on.
//!
//! A request is proved once, at its head. Most end within milliseconds; a WebSocket, a stream of
//! events, a long download or upload may go on for hours. So each [`Evidence`](crate::authenticate::Evidence)
//! brings a [`Standing`], and whoever carries such an exchange asks it twice a second. Requests that
//! are short never ask.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Now;
use crate::refusal::Reason;

/// Who can say later whether a credential still holds. Reads memory only: it is asked on the
/// threads that serve requests.
///
/// A keeper of many credentials, such as the directory, is shared by all requests and tells them
/// apart by the ticket. One that knows a single session, such as that of a token, may be made for
/// each request (or each cached token) and pass over the ticket: it holds the token's end, `jti`,
/// `sid` and subject, and looks them up among what was revoked.
pub trait Keeper: Send + Sync {
    /// Whether the credential of this ticket holds now, for a caller at this address.
    ///
    /// # Errors
    /// The private reason why it no longer does: revoked, suspended, expired, or its overlap with a
    /// successor has ended. A credential that is no longer known does not hold.
    fn still_holds(&self, ticket: Ticket, client: IpAddr, now: Now) -> Result<(), Reason>;
}

/// Two numbers that only the keeper understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket(pub u64, pub u64);

/// How to find out later whether one credential still holds.
#[derive(Clone)]
pub struct Standing {
    keeper: Arc<dyn Keeper>,
    ticket: Ticket,
}

impl Standing {
    /// What this keeper says of this ticket.
    pub fn new(keeper: Arc<dyn Keeper>, ticket: Ticket) -> Self {
        Self { keeper, ticket }
    }

    /// Whether the credential holds now, for a caller at this address.
    ///
    /// # Errors
    /// As [`Keeper::still_holds`].
    pub fn check(&self, client: IpAddr, now: Now) -> Result<(), Reason> {
        self.keeper.still_holds(self.ticket, client, now)
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Standing({}, {})", self.ticket.0, self.ticket.1)
    }
}

/// The standings of all credentials that proved one caller; none for an anonymous one.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    // Nearly all callers show one credential, which needs no allocation.
    first: Option<Standing>,
    others: Vec<Standing>,
}

impl Standings {
    /// Adds that of one more credential.
    pub fn push(&mut self, standing: Standing) {
        match &self.first {
            None => self.first = Some(standing),
            Some(_) => self.others.push(standing),
        }
    }

    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether all of them hold now.
    ///
    /// # Errors
    /// The reason of the first that does not.
    pub fn check(&self, client: IpAddr, now: Now) -> Result<(), Reason> {
        self.first.iter().chain(&self.others).try_for_each(|standing| standing.check(client, now))
    }
}
