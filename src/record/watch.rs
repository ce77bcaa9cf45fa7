//! Looks twice a second whether the caller of a long exchange still may.

use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::authenticate::standing::Standings;
use crate::clock::Clock;
use crate::listen::http1::wire::Alarm;
use crate::refusal::Reason;

/// How often it is looked. What is revoked ends within this time and the next turn of the thread.
const EVERY: Duration = Duration::from_millis(500);

/// A watch over one exchange. It costs nothing before it is first polled, and then one timer.
pub(in crate::record) struct Watch {
    standings: Standings,
    client: IpAddr,
    clock: Clock,
    alarm: Option<Alarm>,
}

impl Watch {
    /// A watch over a caller at this address, proved so.
    pub(in crate::record) fn new(standings: Standings, client: IpAddr, clock: &Clock) -> Self {
        Self { standings, client, clock: clock.clone(), alarm: None }
    }

    /// The same once more, for another part of the exchange.
    pub(in crate::record) fn again(&self) -> Self {
        Self::new(self.standings.clone(), self.client, &self.clock)
    }

    /// Ready, with the reason, when the caller no longer may.
    pub(in crate::record) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<Reason> {
        if self.standings.is_empty() {
            return Poll::Pending;
        }
        let alarm = self.alarm.get_or_insert_with(|| Alarm::after(EVERY));
        while alarm.poll(context).is_ready() {
            if let Err(reason) = self.standings.check(self.client, self.clock.now()) {
                return Poll::Ready(reason);
            }
            alarm.set(EVERY);
        }
        Poll::Pending
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch({:?})", self.standings)
    }
}
