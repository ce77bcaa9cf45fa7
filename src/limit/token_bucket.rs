//! The arithmetic of a token bucket over one word; where the word lives is for others to know.

use std::time::Duration;

use crate::clock::Now;
use crate::refusal::extra::Spent;
use crate::units::Rate;

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;
/// The longest time that a bucket may take to fill: what keeps all sums below far from overflowing.
const WINDOW_NS_MAX: u64 = 366 * 86_400 * NS_PER_S;

/// How large a bucket is and how fast it fills.
///
/// The state of a bucket is one word: the steady time, in nanoseconds, at which it will be full
/// again. Spending moves that time ahead by one interval a token, and the bucket is empty when it
/// would move more than `burst` intervals ahead of now (this is GCRA, the generic cell rate
/// algorithm of ITU-T I.371, and 0 is a full bucket). So no bucket ever needs to be filled, a full
/// one is known without knowing its shape, and in any window of length `t` no more than
/// `burst + t / interval` tokens can be spent. An interval that is no whole number of nanoseconds
/// is rounded up, in favour of the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    burst: u64,
    interval_ns: u64,
}

impl TokenBucket {
    /// A bucket of `burst` tokens that fills at `refill`. One of no tokens is empty for ever.
    ///
    /// Nothing when it could not work: the rate is zero although the bucket is not, is beyond one
    /// token a nanosecond, or fills the bucket in more than a year.
    pub fn new(burst: u64, refill: Rate) -> Option<Self> {
        let per_ns = u64::try_from(refill.per.as_nanos()).ok()?;
        if burst == 0 {
            return Some(Self { burst, interval_ns: per_ns.max(1) });
        }
        if refill.count == 0 || refill.count > per_ns {
            return None;
        }
        let interval_ns = per_ns.div_ceil(refill.count);
        let window_ns = burst.checked_mul(interval_ns)?;
        (window_ns <= WINDOW_NS_MAX).then_some(Self { burst, interval_ns })
    }

    /// The shape as a number, for keys of buckets: one that changes begins with fresh buckets.
    pub fn shape(&self) -> u64 {
        self.burst.rotate_left(40) ^ self.interval_ns
    }

    /// How many tokens a full bucket holds.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// How long it takes for one token to come back.
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_ns)
    }

    /// The word after spending `cost` tokens; nothing when fewer are left.
    pub fn take(&self, word: u64, cost: u64, now: Now) -> Option<u64> {
        if cost > self.burst {
            return None;
        }
        let after = word.max(now.steady_ns).saturating_add(self.span_ns(cost));
        (after.saturating_sub(now.steady_ns) <= self.span_ns(self.burst)).then_some(after)
    }

    /// The word after `cost` tokens that were spent are given back.
    pub fn give_back(&self, word: u64, cost: u64) -> u64 {
        word.saturating_sub(self.span_ns(cost))
    }

    /// How the bucket stands, for a caller whose requests cost `cost` tokens.
    pub fn spent(&self, word: u64, cost: u64, now: Now) -> Spent {
        let window_ns = self.span_ns(self.burst);
        let behind_ns = word.saturating_sub(now.steady_ns).min(window_ns);
        let left_ns = window_ns - behind_ns;
        let needed_ns = self.span_ns(cost);
        let retry_after = if cost > self.burst {
            // Nothing fits, ever; a caller who does come back should not come back soon.
            self.interval_ns.div_ceil(NS_PER_S).max(1)
        } else {
            needed_ns.saturating_sub(left_ns).div_ceil(NS_PER_S)
        };
        let whole_at_ns = u128::from(now.unix_ms) * u128::from(NS_PER_MS) + u128::from(behind_ns);
        Spent {
            limit: self.burst,
            remaining: left_ns / self.interval_ns,
            reset_at: u64::try_from(whole_at_ns.div_ceil(u128::from(NS_PER_S))).unwrap_or(u64::MAX),
            reset_in: behind_ns.div_ceil(NS_PER_S),
            retry_after,
            window: window_ns.max(self.interval_ns).div_ceil(NS_PER_S),
        }
    }

    /// The time that `tokens` take to come back. At most a year's worth is asked for.
    fn span_ns(&self, tokens: u64) -> u64 {
        self.interval_ns.saturating_mul(tokens)
    }
}

/// Whether a bucket with this word is full, whatever its shape.
pub fn is_full(word: u64, now: Now) -> bool {
    word <= now.steady_ns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    fn at(steady_ns: u64) -> Now {
        Now { steady_ns, unix_ms: 1_764_000_000_000 + steady_ns / NS_PER_MS }
    }

    #[test]
    fn the_numbers_are_right_at_their_edges() {
        let bucket = TokenBucket::new(30, rate("30/min")).unwrap();
        let full = bucket.spent(0, 1, at(0));
        let whole = Spent {
            limit: 30,
            remaining: 30,
            reset_at: 1_764_000_000,
            reset_in: 0,
            retry_after: 0,
            window: 60,
        };
        assert_eq!(full, whole);
        let mut word = 0;
        for left in (0..30).rev() {
            word = bucket.take(word, 1, at(0)).unwrap();
            assert_eq!(bucket.spent(word, 1, at(0)).remaining, left);
        }
        assert_eq!(bucket.take(word, 1, at(0)), None);
        let empty = bucket.spent(word, 1, at(0));
        let wanted =
            Spent { remaining: 0, reset_at: 1_764_000_060, reset_in: 60, retry_after: 2, ..whole };
        assert_eq!(empty, wanted);
        // One nanosecond before the token is back it is not there, and then it is.
        let back = 2 * NS_PER_S;
        assert_eq!(bucket.take(word, 1, at(back - 1)), None);
        assert_eq!(bucket.spent(word, 1, at(back - 1)).retry_after, 1);
        assert_eq!(bucket.spent(word, 1, at(back)).retry_after, 0);
        assert!(bucket.take(word, 1, at(back)).is_some());
        assert!(!is_full(word, at(60 * NS_PER_S - 1)));
        assert!(is_full(word, at(60 * NS_PER_S)));
    }

    #[test]
    fn what_cannot_work_is_no_bucket() {
        assert_eq!(TokenBucket::new(10, rate("0/s")), None);
        assert_eq!(TokenBucket::new(10, rate("2000000000/s")), None);
        assert_eq!(TokenBucket::new(1000, rate("1/d")), None);
        assert_eq!(TokenBucket::new(u64::MAX, rate("1000/s")), None);
        let closed = TokenBucket::new(0, rate("0/min")).unwrap();
        assert_eq!(closed.take(0, 1, at(5)), None);
        assert!(closed.spent(0, 1, at(5)).retry_after >= 1);
        assert_eq!(closed.spent(0, 1, at(5)).remaining, 0);
    }

    #[test]
    fn giving_back_undoes_taking() {
        let bucket = TokenBucket::new(5, rate("7/min")).unwrap();
        let one = bucket.take(0, 1, at(1000)).unwrap();
        let four = bucket.take(one, 3, at(2000)).unwrap();
        assert_eq!(bucket.give_back(four, 3), one);
        assert!(is_full(bucket.give_back(one, 1), at(1000)));
    }

    /// A bucket as a child would keep it: count tokens in fractions, fill them by the clock.
    struct Naive {
        level: u128,
        last_ns: u64,
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_naive_bucket_and_keeps_its_promise(
            burst in 1u64..50,
            count in 1u64..200,
            per in prop::sample::select(vec![1u64, 60, 3600]),
            steps in prop::collection::vec((0u64..30_000_000_000, 1u64..4, any::<bool>()), 1..200),
        ) {
            let refill = Rate { count, per: Duration::from_secs(per) };
            let bucket = TokenBucket::new(burst, refill).unwrap();
            let interval = u128::from(bucket.interval_ns);
            let whole = u128::from(burst) * interval;
            let mut naive = Naive { level: whole, last_ns: 0 };
            let (mut word, mut now_ns) = (0, 0);
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for (wait, cost, pause) in steps {
                if pause {
                    now_ns += wait;
                }
                let now = at(now_ns);
                naive.level = whole.min(naive.level + u128::from(now_ns - naive.last_ns));
                naive.last_ns = now_ns;
                let told = bucket.spent(word, cost, now);
                prop_assert_eq!(told, bucket.spent(word, cost, now), "looking changes nothing");
                prop_assert_eq!(u128::from(told.remaining), naive.level / interval);
                prop_assert_eq!(told.retry_after == 0 && cost <= burst,
                    u128::from(cost) * interval <= naive.level);
                let fits = u128::from(cost) * interval <= naive.level;
                match bucket.take(word, cost, now) {
                    Some(after) => {
                        prop_assert!(fits);
                        naive.level -= u128::from(cost) * interval;
                        word = after;
                        admitted.push((now_ns, cost));
                    }
                    None => prop_assert!(!fits),
                }
            }
            for (first, (from, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for (to, cost) in &admitted[first..] {
                    sum += cost;
                    prop_assert!(u128::from(sum) * interval <= whole + u128::from(to - from));
                }
            }
        }
    }
}
