//! One attempt at one target: sends the request, waits for the answer within its deadlines, and
//! judges what comes.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::fields::Fields;
use crate::forward::Answer;
use crate::forward::connection::Speech;
use crate::forward::departure::Departure;
use crate::forward::dial::DialFault;
use crate::forward::headers;
use crate::forward::http1::Answered;
use crate::forward::http1::answer::AnswerHead;
use crate::forward::inbound::{Inbound, Source, Upgrade, http1};
use crate::forward::outbound::Progress;
use crate::forward::patience::{Fault, Patience};
use crate::forward::pool::{Lease, Outcome};
use crate::forward::upstream::{Target, Upstream};
use crate::listen::Stream;
use crate::listen::body::{Body, Broken};
use crate::refusal::{Reason, Refusal};

/// An attempt that brought no answer.
pub(in crate::forward) enum Lost {
    /// The target saw nothing of it, and all of it is still here.
    Unsent(Refusal),
    /// The connection ended before any answer.
    Stale(Refusal),
    /// Something that another attempt would not mend, or must not try to.
    Final(Refusal),
}

/// Sends the request over the lease's connection and brings the answer.
///
/// # Errors
/// As [`Lost`] has them; each carries the refusal for the case that nothing else is tried.
pub(in crate::forward) async fn exchange(
    mut lease: Lease,
    departure: &mut Departure,
    upstream: &Upstream,
    (sent, deadline): (Instant, Instant),
) -> Result<Answer, Lost> {
    let settings = &upstream.settings;
    let patience = Patience::new(sent, settings.timeout.first_byte, deadline);
    let Some((speech, target)) = lease.connected() else {
        return Err(Lost::Final(Reason::GatewayFault.into()));
    };
    departure.sign(upstream, target.address()).map_err(Lost::Final)?;
    let came = match speech {
        Speech::Http1 { link, .. } => {
            let (request, body) = departure.http1(target.address());
            link.ask(request, body, patience).await.map(Came::Http1)
        }
        Speech::Http2(link) => {
            let Some(request) = departure.http2(target.address()) else {
                return Err(Lost::Final(unwritable()));
            };
            let progress = request.body().progress();
            // In a box, so that requests over HTTP/1 do not carry its room.
            match Box::pin(link.ask(request, patience)).await {
                Ok(response) => Ok(Came::Http2(response, progress)),
                Err((fault, unsent)) => {
                    unsent.into_iter().for_each(|request| departure.body = request.into_body());
                    Err(fault)
                }
            }
        }
    };
    let came = came.map_err(|fault| {
        let (outcome, lost) = judge(fault, lease.target());
        lease.ended(outcome);
        lost
    })?;
    let now = Instant::now();
    let (first_byte, target) = (now.saturating_duration_since(sent), lease.index());
    let accepted = match came {
        Came::Http1(answered) => {
            accept_http1(answered, lease, departure.is_upgrade(), (settings.timeout.idle, now))
        }
        Came::Http2(response, progress) => {
            accept_http2(response, progress, lease, settings.timeout.idle)
        }
    };
    let Accepted { status, headers, body, upgraded } = accepted.map_err(Lost::Final)?;
    let at = now.into_std();
    Ok(Answer { status, headers, body, upgraded, first_byte, at, target })
}

/// What came in answer, whichever version of HTTP brought it.
enum Came {
    Http1(Answered),
    Http2(Response<Incoming>, Option<Arc<Progress>>),
}

/// An answer, once its framing is beyond doubt.
struct Accepted {
    status: StatusCode,
    headers: Fields,
    body: Body,
    upgraded: Option<Box<dyn Stream>>,
}

fn accept_http1(
    Answered { head, sent }: Answered,
    mut lease: Lease,
    upgrade: bool,
    (idle_timeout, now): (Duration, Instant),
) -> Result<Accepted, Refusal> {
    let AnswerHead { status, mut headers, framing, persistent, websocket } = head;
    headers::incoming(&mut headers, status);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // Nothing becomes a tunnel unless it was asked for and the upstream agrees by name.
        if !(upgrade && websocket) {
            lease.ended(Outcome::Error);
            return Err(Refusal::new(Reason::UpstreamBroken)
                .because("the upstream switched to a protocol that was not asked for"));
        }
        lease.ended(Outcome::Ok);
        let upgraded: Box<dyn Stream> = Box::new(Upgrade::new(lease));
        return Ok(Accepted { status, headers, body: Body::Empty, upgraded: Some(upgraded) });
    }
    lease.ended(Outcome::Ok);
    // What the upstream has not read of the request will be sent no more, and nobody could tell
    // where the next request begins.
    let persistent = persistent && sent;
    let body = match http1(&mut lease).and_then(|link| link.whole_body(&framing)) {
        Some(whole) => {
            if persistent && http1(&mut lease).is_some_and(|link| link.is_drained()) {
                lease.give_back(now);
            }
            Body::Whole(whole)
        }
        None => {
            let source = Source::Http1 { framing, persistent };
            Body::Streaming(Box::pin(Inbound::new(source, lease, idle_timeout)))
        }
    };
    Ok(Accepted { status, headers, body, upgraded: None })
}

fn accept_http2(
    response: Response<Incoming>,
    progress: Option<Arc<Progress>>,
    mut lease: Lease,
    idle_timeout: Duration,
) -> Result<Accepted, Refusal> {
    let (parts, incoming) = response.into_parts();
    let (status, mut headers) = (parts.status, Fields::from(parts.headers));
    if let Err(private) = headers::check_length(&headers) {
        lease.ended(Outcome::Error);
        return Err(Refusal::new(Reason::UpstreamBroken).because(private));
    }
    lease.ended(Outcome::Ok);
    headers::incoming(&mut headers, status);
    let body = if incoming.is_end_stream() {
        Body::Empty
    } else {
        let source = Source::Http2(incoming, progress);
        Body::Streaming(Box::pin(Inbound::new(source, lease, idle_timeout)))
    };
    Ok(Accepted { status, headers, body, upgraded: None })
}

fn judge(fault: Fault, target: &Target) -> (Outcome, Lost) {
    let address = target.address();
    let broken = |says| Refusal::new(Reason::UpstreamBroken).because(format!("{address}: {says}"));
    match fault {
        Fault::Body(Broken::Caller(reason)) => (Outcome::Open, Lost::Final(reason.into())),
        Fault::Body(Broken::Connection | Broken::Upstream) => {
            (Outcome::Open, Lost::Final(Reason::ClientLeft.into()))
        }
        Fault::CallerSilent => (Outcome::Open, Lost::Final(Reason::BodyTimeout.into())),
        Fault::UpstreamSilent => {
            let private = format!("{address} sent no answer in time");
            let refusal = Refusal::new(Reason::UpstreamTimeout).because(private);
            (Outcome::Timeout, Lost::Final(refusal))
        }
        Fault::Unsent(says) => (Outcome::Error, Lost::Unsent(broken(says))),
        Fault::Stale(says) => (Outcome::Error, Lost::Stale(broken(says))),
        Fault::NoAnswer(says) => (Outcome::Error, Lost::Final(broken(says))),
        Fault::Unwritable => (Outcome::Open, Lost::Final(unwritable())),
    }
}

/// What the caller is told when a request cannot be put into words of HTTP.
pub(in crate::forward) fn unwritable() -> Refusal {
    Refusal::new(Reason::GatewayFault).because("the request cannot be written to the upstream")
}

/// What the caller is told when no connection could be opened.
pub(in crate::forward) fn refusal_of(fault: &DialFault, target: &Target) -> Refusal {
    let address = target.address();
    let (reason, private) = match fault {
        DialFault::Timeout => {
            (Reason::UpstreamTimeout, format!("{address} took no connection in time"))
        }
        DialFault::Unknown(error) => {
            (Reason::UpstreamUnreachable, format!("{address} cannot be looked up: {error}"))
        }
        DialFault::Refused(error) => {
            (Reason::UpstreamUnreachable, format!("{address} takes no connection: {error}"))
        }
        DialFault::Forbidden => {
            (Reason::UpstreamUnreachable, format!("{address} leads to the admin listener"))
        }
        DialFault::Tls(error) => (Reason::UpstreamUnreachable, format!("{address}: TLS: {error}")),
        DialFault::Protocol => {
            (Reason::UpstreamUnreachable, format!("{address} does not speak HTTP/2"))
        }
    };
    Refusal::new(reason).because(private)
}
