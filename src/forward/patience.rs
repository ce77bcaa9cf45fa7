//! How long an attempt waits for its answer, and why an attempt may bring none.

use std::time::Duration;

use tokio::time::Instant;

use crate::listen::body::Broken;

/// Why no answer came.
#[derive(Debug)]
pub(in crate::forward) enum Fault {
    /// The request's body broke off.
    Body(Broken),
    /// It was the upstream's turn for too long.
    UpstreamSilent,
    /// It was the caller's turn when the time was over.
    CallerSilent,
    /// The connection ended, and the target cannot have seen any of the request.
    Unsent(String),
    /// The connection ended before any byte of an answer.
    Stale(String),
    /// What came is no answer, or not a whole one.
    NoAnswer(String),
    /// The request cannot be written.
    Unwritable,
}

/// The time for the head of an answer.
///
/// The time for its first byte begins anew with every part of the request that the upstream takes,
/// and does not run while the next part is the caller's to send; the whole is bounded.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct Patience {
    limit: Instant,
    first_byte: Duration,
    deadline: Instant,
    parts_seen: u32,
}

impl Patience {
    /// Begins at `sent`.
    pub(in crate::forward) fn new(sent: Instant, first_byte: Duration, deadline: Instant) -> Self {
        Self { limit: deadline.min(sent + first_byte), first_byte, deadline, parts_seen: 0 }
    }

    /// When it is to be asked whether the wait has been too long.
    pub(in crate::forward) fn limit(&self) -> Instant {
        self.limit
    }

    /// The limit has come, and the upstream has taken so many parts of the request: gives the next
    /// limit.
    ///
    /// # Errors
    /// Whose silence has been too long.
    pub(in crate::forward) fn extend(
        &mut self,
        awaits_caller: bool,
        parts: u32,
    ) -> Result<Instant, Fault> {
        if self.limit >= self.deadline {
            return Err(if awaits_caller { Fault::CallerSilent } else { Fault::UpstreamSilent });
        }
        if !awaits_caller && parts == self.parts_seen {
            return Err(Fault::UpstreamSilent);
        }
        self.parts_seen = parts;
        self.limit = self.deadline.min(self.limit + self.first_byte);
        Ok(self.limit)
    }
}
