//! The one place that asks what time it is, and a clock that tests set by hand.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of the time, taken once per request and handed to every stage.
///
/// It carries both times a gateway needs: a steady one that never goes back, for budgets and
/// durations, and the calendar's, for expiry dates and signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Nanoseconds since the clock was made. Never goes back.
    pub steady_ns: u64,
    /// Milliseconds since 1970-01-01 UTC, by the calendar.
    pub unix_ms: u64,
}

impl Now {
    /// Whole seconds since 1970-01-01 UTC.
    pub fn unix_s(self) -> u64 {
        self.unix_ms / 1000
    }

    /// The time that passed since `earlier`; nothing when `earlier` lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.steady_ns.saturating_sub(earlier.steady_ns))
    }
}

/// Where a process takes its time from.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { started: Instant },
    Set(Hand),
}

impl Clock {
    /// The system's own clock.
    #[expect(clippy::disallowed_methods, reason = "this module is where time is taken")]
    pub fn system() -> Self {
        Self(Source::System { started: Instant::now() })
    }

    /// A clock that stands still at `unix_ms` until its hand is moved.
    pub fn set_at(unix_ms: u64) -> (Self, Hand) {
        let hand = Hand { start_ms: unix_ms, passed_ns: Arc::default() };
        (Self(Source::Set(hand.clone())), hand)
    }

    /// What time it is.
    #[expect(clippy::disallowed_methods, reason = "this module is where time is taken")]
    pub fn now(&self) -> Now {
        match &self.0 {
            Source::System { started } => since(*started, Instant::now()),
            Source::Set(hand) => hand.now(),
        }
    }

    /// What time it was at a moment that somebody took for a deadline, and that has just passed.
    pub fn at(&self, moment: Instant) -> Now {
        match &self.0 {
            Source::System { started } => since(*started, moment),
            Source::Set(hand) => hand.now(),
        }
    }
}

fn since(started: Instant, moment: Instant) -> Now {
    let passed = moment.saturating_duration_since(started);
    let steady_ns = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
    Now { steady_ns, unix_ms: calendar(steady_ns) }
}

/// How long the calendar may be reckoned from the steady clock before it is asked again. So late,
/// at most, a thread learns that somebody has set it.
const CALENDAR_KEPT_NS: u64 = 100_000_000;

thread_local! {
    /// The reading of both clocks that this thread took last: reading one is enough in between.
    static CALENDAR: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// Milliseconds since 1970-01-01 UTC at this time of the steady clock.
#[expect(clippy::disallowed_methods, reason = "this module is where time is taken")]
fn calendar(steady_ns: u64) -> u64 {
    if let Some((read_ns, unix_ns)) = CALENDAR.get()
        && let Some(passed_ns) = steady_ns.checked_sub(read_ns)
        && passed_ns < CALENDAR_KEPT_NS
    {
        return (unix_ns + passed_ns) / 1_000_000;
    }
    let unix_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX / 2));
    CALENDAR.set(Some((steady_ns, unix_ns)));
    unix_ns / 1_000_000
}

/// Moves a clock that was made by [`Clock::set_at`].
#[derive(Clone, Debug)]
pub struct Hand {
    start_ms: u64,
    passed_ns: Arc<AtomicU64>,
}

impl Hand {
    fn now(&self) -> Now {
        let passed_ns = self.passed_ns.load(Ordering::Acquire);
        Now { steady_ns: passed_ns, unix_ms: self.start_ms + passed_ns / 1_000_000 }
    }

    /// Lets `span` pass at once.
    pub fn advance(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.passed_ns.fetch_add(nanos, Ordering::AcqRel);
    }
}

/// A time as RFC 3339 has it, in UTC and whole seconds.
pub fn rfc3339(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).ok();
    seconds
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| "9999-12-31T23:59:59Z".to_owned(), |moment| moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_clock_stands_still_until_its_hand_moves() {
        let (clock, hand) = Clock::set_at(1_764_000_000_000);
        let before = clock.now();
        assert_eq!(before, clock.now());
        hand.advance(Duration::from_millis(1500));
        let after = clock.now();
        assert_eq!(after.unix_ms, 1_764_000_001_500);
        assert_eq!(after.since(before), Duration::from_millis(1500));
        assert_eq!(before.since(after), Duration::ZERO);
    }

    #[test]
    fn times_are_rfc_3339_in_whole_seconds_and_never_fail() {
        assert_eq!(rfc3339(1_764_000_000_999), "2025-11-24T16:00:00Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
