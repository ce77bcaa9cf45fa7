//! Sends a cleared request to a healthy upstream within its deadlines and brings the answer.

pub mod address;
pub mod identity;
mod tls;
pub mod upstream;
mod renewal;
pub mod reference;
pub mod credential;
pub mod settings;
mod dial;
mod outbound;
mod patience;
mod http1;
mod http2;
mod connection;
pub mod pool;
mod headers;
mod inbound;
mod departure;
mod attempt;
mod question;
pub mod probe;
pub mod destination;
pub mod sender;
pub mod health;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::clock::Now;
use crate::fields::Fields;
use crate::forward::attempt::{Lost, exchange, refusal_of};
use crate::forward::departure::Departure;
use crate::forward::pool::Pool;
use crate::forward::upstream::Upstream;
use crate::inspect::Cleared;
use crate::listen::Stream;
use crate::listen::body::Body;
use crate::listen::turn::turn;
use crate::refusal::Refusal;

/// The longest that anybody waits for the head of an answer.
const TOTAL_MAX: Duration = Duration::from_secs(3600);

/// What came back from the upstream.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, without hop-by-hop ones. After a 101, too: who sends it on writes its own
    /// `Connection` and `Upgrade`.
    pub headers: Fields,
    /// The body: whole, or still on its way, and then dropping it early gives the connection up. Its
    /// error is [`Broken::Upstream`](crate::listen::body::Broken), or how the request's body broke
    /// off when that was why; its idle deadline is held inside.
    pub body: Body,
    /// After a 101 that matches what was asked: the stream that the upstream speaks from now on.
    pub upgraded: Option<Box<dyn Stream>>,
    /// From the first byte sent to the head of the answer; for metrics.
    pub first_byte: Duration,
    /// When the head of the answer had come.
    pub at: std::time::Instant,
    /// The target that answered, for metrics and the record; an index into the upstream's targets.
    pub target: usize,
}

/// What a route says about forwarding.
#[derive(Clone, Copy, Debug)]
pub struct SendOptions<'a> {
    /// The path that replaces the head's, canonical and matched again; the query stays.
    pub path: Option<&'a str>,
    /// From now to the head of the answer, at most an hour, in place of the upstream's own.
    pub total: Option<Duration>,
    /// Whether the caller's credentials go along, for a service that checks them again.
    pub keep_credentials: bool,
    /// Whether the identity header is written, where the upstream has a secret for it.
    pub identity: bool,
    /// The time of the request.
    pub now: Now,
}

/// Sends a cleared request to one of the upstream's targets and waits for the head of the answer.
///
/// It is sent again, at most once, where that can do no harm: when no connection could be opened, or
/// when a connection from the pool had closed before any byte of an answer and the method is
/// idempotent and the body lies in memory. Dropping the future gives everything up.
///
/// # Errors
/// 502, 503 or 504 as [`crate::refusal::Reason`]'s rows of `forward` have them; the caller's own fault when its
/// body broke off on the way.
pub async fn send(
    pool: &Pool,
    upstream: &Arc<Upstream>,
    cleared: Cleared,
    options: &SendOptions<'_>,
) -> Result<Answer, Refusal> {
    // The body's room is given back when the answer begins; by then the body was sent or given up.
    let (head, body, admission, _held) = cleared.into_parts();
    let departure = Departure::new(head, body, admission.permit(), upstream, options)?;
    drop(admission);
    turn().await;
    let total = options.total.unwrap_or(upstream.settings.timeout.total).min(TOTAL_MAX);
    let now = Instant::now();
    travel(departure, pool, upstream, (now, now + total)).await
}

/// Sends the request to one target, and once more where that does no harm.
async fn travel(
    mut departure: Departure,
    pool: &Pool,
    upstream: &Arc<Upstream>,
    (begun, deadline): (Instant, Instant),
) -> Result<Answer, Refusal> {
    let mut tries_left = upstream.settings.retries_max;
    let (mut avoid, mut fresh) = (None, false);
    loop {
        let (mut lease, waited) = pool.seat(upstream, avoid, deadline).await?;
        // The clock is read again only where time has passed.
        let at_once = avoid.is_none() && !fresh && !waited;
        let now = if at_once { begun } else { Instant::now() };
        let (reused, now) = match lease.connect(fresh, now, deadline).await {
            Ok(connected) => connected,
            Err(fault) => {
                if tries_left == 0 || Instant::now() >= deadline {
                    return Err(refusal_of(&fault, lease.target()));
                }
                tries_left -= 1;
                avoid = Some(lease.index());
                count(&upstream.retries.connect);
                continue;
            }
        };
        match exchange(lease, &mut departure, upstream, (now, deadline)).await {
            Ok(answer) => {
                if answer.status == StatusCode::UNAUTHORIZED {
                    upstream.doubt_credential();
                }
                return Ok(answer);
            }
            // Nothing was sent: the connection had closed while it lay idle. A fresh one is asked
            // for next, so this happens once.
            Err(Lost::Unsent(_)) if reused && !fresh => {}
            Err(Lost::Unsent(_)) if tries_left > 0 => {
                tries_left -= 1;
                count(&upstream.retries.connect);
            }
            Err(Lost::Stale(_)) if reused && tries_left > 0 && departure.is_repeatable() => {
                tries_left -= 1;
                count(&upstream.retries.stale);
            }
            Err(Lost::Unsent(refusal) | Lost::Stale(refusal) | Lost::Final(refusal)) => {
                return Err(refusal);
            }
        }
        fresh = true;
    }
}

fn count(counter: &std::sync::atomic::AtomicU64) {
    counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
