//! Sends a cleared request to a healthy upstream within its deadlines and brings the answer.

pub mod address;
pub mod identity;
mod tls;
pub mod upstream;
pub mod reference;
pub mod settings;
mod dial;
mod outbound;
mod connection;
pub mod pool;
mod headers;
mod inbound;
mod attempt;
pub mod sender;
pub mod health;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use tokio::time::Instant;

use crate::authorize::Permit;
use crate::clock::Now;
use crate::forward::attempt::{Lost, exchange, refusal_of};
use crate::forward::headers::Unwritable;
use crate::forward::identity::{Facts, IDENTITY};
use crate::forward::outbound::Outbound;
use crate::forward::pool::Pool;
use crate::forward::upstream::{HostSent, Protocol, Target, Upstream};
use crate::head::Head;
use crate::inspect::Cleared;
use crate::listen::Stream;
use crate::listen::body::Body;
use crate::refusal::{Reason, Refusal};

/// The longest that anybody waits for the head of an answer.
const TOTAL_MAX: Duration = Duration::from_secs(3600);

/// What came back from the upstream.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, without hop-by-hop ones. After a 101, too: who sends it on writes its own
    /// `Connection` and `Upgrade`.
    pub headers: HeaderMap,
    /// The body, still on its way. Dropping it early gives the connection up.
    pub body: AnswerBody,
    /// After a 101 that matches what was asked: the stream that the upstream speaks from now on.
    pub upgraded: Option<Box<dyn Stream>>,
    /// From the first byte sent to the head of the answer; for metrics.
    pub first_byte: Duration,
    /// The target that answered, for metrics and the record; an index into the upstream's targets.
    pub target: usize,
}

/// The body of an answer: made by us, or still on its way from the upstream.
pub enum AnswerBody {
    /// Whole in memory; taken once. Empty when there is none.
    Whole(Bytes),
    /// On its way. Its error is `Broken::Upstream`, or how the request's body broke off when that was
    /// why; its idle deadline is held inside.
    Streaming(Body),
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
/// 502, 503 or 504 as [`Reason`]'s rows of `forward` have them; the caller's own fault when its
/// body broke off on the way.
pub async fn send(
    pool: &Pool,
    upstream: &Arc<Upstream>,
    cleared: Cleared,
    options: &SendOptions<'_>,
) -> Result<Answer, Refusal> {
    // The body's room is given back when the answer begins; by then the body was sent or given up.
    let (head, body, admission, _held) = cleared.into_parts();
    let mut departure = Departure::new(head, body, admission.permit(), upstream, options)?;
    drop(admission);
    let total = options.total.unwrap_or(upstream.settings.timeout.total).min(TOTAL_MAX);
    departure.travel(pool, upstream, Instant::now() + total).await
}

/// A request that is ready to leave, but for the target's own words.
struct Departure {
    request: Option<Request<Outbound>>,
    path: PathAndQuery,
    /// The host that the caller named, where the upstream is told it.
    host: Option<HeaderValue>,
    upgrade: bool,
}

impl Departure {
    fn new(
        mut head: Head,
        body: Body,
        permit: &Permit,
        upstream: &Upstream,
        options: &SendOptions<'_>,
    ) -> Result<Self, Refusal> {
        let settings = &upstream.settings;
        if head.upgrade.is_some() && settings.http == Protocol::Http2 {
            return Err(Refusal::new(Reason::UpgradeUnsupported)
                .because("the upstream speaks HTTP/2, which knows no such upgrade"));
        }
        let body = Outbound::new(body, head.length);
        let host =
            headers::outgoing(&mut head, body.length(), settings.http, options.keep_credentials)
                .map_err(|Unwritable| unwritable())?;
        if let (true, Some((_, signer))) = (options.identity, &settings.identity) {
            let grant = permit.principal().grant();
            let facts = Facts {
                subject: grant.map(|grant| &*grant.subject),
                roles: grant.map(|grant| &grant.roles),
                tier: grant.and_then(|grant| grant.tier),
                method: head.method.as_str(),
                path: options.path.unwrap_or(&head.path),
                request_id: head.id.as_str(),
            };
            let identity = signer.sign(&facts, options.now).ok_or_else(unwritable)?;
            head.headers.insert(IDENTITY, identity);
        }
        let host = match settings.host {
            HostSent::Callers => Some(host),
            HostSent::Targets => None,
        };
        let path = path_and_query(&mut head, options.path)?;
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.headers_mut() = head.headers;
        Ok(Self { request: Some(request), path, host, upgrade: head.upgrade.is_some() })
    }

    async fn travel(
        &mut self,
        pool: &Pool,
        upstream: &Arc<Upstream>,
        deadline: Instant,
    ) -> Result<Answer, Refusal> {
        let mut tries_left = upstream.settings.retries_max;
        let (mut avoid, mut fresh) = (None, false);
        loop {
            let mut lease = pool.seat(upstream, avoid, deadline).await?;
            let reused = match lease.connect(fresh, deadline).await {
                Ok(reused) => reused,
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
            let mut request = self.request.take().ok_or_else(unwritable)?;
            self.address(&mut request, lease.target(), upstream.settings.http)?;
            let again = (reused && tries_left > 0).then(|| copy(&request)).flatten();
            match exchange(lease, request, self.upgrade, upstream, deadline).await {
                Ok(answer) => return Ok(answer),
                // Nothing was sent: the connection had closed while it lay idle. A fresh one is
                // asked for next, so this happens once.
                Err(Lost::Unsent(request, _)) if reused && !fresh => self.request = Some(*request),
                Err(Lost::Unsent(request, _)) if tries_left > 0 => {
                    tries_left -= 1;
                    self.request = Some(*request);
                    count(&upstream.retries.connect);
                }
                Err(Lost::Stale(_)) if again.is_some() => {
                    tries_left -= 1;
                    self.request = again;
                    count(&upstream.retries.stale);
                }
                Err(Lost::Unsent(_, refusal) | Lost::Stale(refusal) | Lost::Final(refusal)) => {
                    return Err(refusal);
                }
            }
            fresh = true;
        }
    }

    /// Writes what depends on the target: `Host`, or the authority of HTTP/2.
    fn address(
        &self,
        request: &mut Request<Outbound>,
        target: &Target,
        http: Protocol,
    ) -> Result<(), Refusal> {
        let address = target.address();
        if http == Protocol::Http1 {
            let host = self.host.as_ref().unwrap_or_else(|| address.host_value());
            request.headers_mut().insert(HOST, host.clone());
            *request.uri_mut() = Uri::from(self.path.clone());
            return Ok(());
        }
        // HTTP/2 says the host once, as `:authority` (RFC 9113, section 8.3.1).
        let authority = match &self.host {
            Some(host) => host.as_bytes().try_into().map_err(|_| unwritable())?,
            None => address.authority().clone(),
        };
        *request.uri_mut() = address.uri(authority, self.path.clone()).ok_or_else(unwritable)?;
        *request.version_mut() = Version::HTTP_2;
        Ok(())
    }
}

/// The request again, where sending it twice does no harm.
fn copy(request: &Request<Outbound>) -> Option<Request<Outbound>> {
    let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
    if !idempotent.contains(request.method()) {
        return None;
    }
    let mut copy = Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// The path that is forwarded, and the query as the caller sent it.
fn path_and_query(head: &mut Head, rewritten: Option<&str>) -> Result<PathAndQuery, Refusal> {
    let path = match rewritten {
        Some(path) => path.into(),
        None => std::mem::take(&mut head.path),
    };
    let mut text = String::from(path);
    if let Some(query) = &head.query {
        text.reserve_exact(1 + query.len());
        text.push('?');
        text.push_str(query);
    }
    let length = text.len();
    let parsed = PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(|_| unwritable())?;
    // What is forwarded is what was matched, byte for byte.
    if parsed.as_str().len() != length || !parsed.as_str().starts_with('/') {
        return Err(unwritable());
    }
    Ok(parsed)
}

fn count(counter: &std::sync::atomic::AtomicU64) {
    counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

fn unwritable() -> Refusal {
    Refusal::new(Reason::GatewayFault).because("the request cannot be written to the upstream")
}

#[cfg(test)]
mod tests;
