//! One attempt at one target: sends the request, waits for the answer within its deadlines, and
//! judges what comes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::forward::connection::{Connection, Unanswered};
use crate::forward::dial::DialFault;
use crate::forward::headers::{self, Carriage};
use crate::forward::inbound::{Inbound, Upgrade};
use crate::forward::outbound::{Outbound, Progress};
use crate::forward::pool::{Lease, Outcome};
use crate::forward::upstream::{Target, Upstream};
use crate::forward::{Answer, AnswerBody};
use crate::listen::body::{Body, Broken};
use crate::refusal::{Reason, Refusal};

/// An attempt that brought no answer.
pub(in crate::forward) enum Lost {
    /// The target saw nothing of it; here it is again.
    Unsent(Box<Request<Outbound>>, Refusal),
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
    request: Request<Outbound>,
    upgrade: bool,
    upstream: &Upstream,
    deadline: Instant,
) -> Result<Answer, Lost> {
    let progress = request.body().progress();
    let sent = Instant::now();
    let first_byte = upstream.settings.timeout.first_byte;
    let Some(connection) = lease.connection() else {
        return Err(Lost::Final(Reason::GatewayFault.into()));
    };
    let patience = (sent, first_byte, deadline);
    let waited = wait(connection, request, progress.as_deref(), patience).await;
    let response = match waited {
        Ok(response) => response,
        Err(fault) => {
            let (outcome, lost) = judge(fault, progress.as_deref(), lease.target());
            lease.ended(outcome);
            return Err(lost);
        }
    };
    let first_byte = sent.elapsed();
    let target = lease.index();
    let answered = accept(response, lease, progress, upgrade, upstream).await;
    let (status, headers, body, upgraded) = answered.map_err(Lost::Final)?;
    Ok(Answer { status, headers, body, upgraded, first_byte, target })
}

/// Why no answer came.
enum Fault {
    Unanswered(Unanswered),
    /// It was the upstream's turn for too long.
    UpstreamSilent,
    /// It was the caller's turn when the time was over.
    CallerSilent,
}

/// Waits for the head of the answer.
///
/// The time for the first byte begins anew with every part of the body that the upstream takes,
/// and does not run while the next part is the caller's to send; the whole is bounded by `deadline`.
async fn wait(
    connection: &mut Connection,
    request: Request<Outbound>,
    progress: Option<&Progress>,
    (sent, first_byte, deadline): (Instant, Duration, Instant),
) -> Result<Response<Incoming>, Fault> {
    let mut answer = std::pin::pin!(connection.send(request));
    let mut frames = 0;
    let mut limit = deadline.min(sent + first_byte);
    loop {
        if let Ok(result) = timeout_at(limit, answer.as_mut()).await {
            return result.map_err(Fault::Unanswered);
        }
        let awaits_caller = progress.is_some_and(Progress::awaits_caller);
        if limit >= deadline {
            return Err(if awaits_caller { Fault::CallerSilent } else { Fault::UpstreamSilent });
        }
        let frames_now = progress.map_or(0, Progress::frames);
        if !awaits_caller && frames_now == frames {
            return Err(Fault::UpstreamSilent);
        }
        frames = frames_now;
        limit = deadline.min(limit + first_byte);
    }
}

fn judge(fault: Fault, progress: Option<&Progress>, target: &Target) -> (Outcome, Lost) {
    // A body that breaks off ends the exchange, however the connection puts it.
    match progress.and_then(Progress::broken) {
        Some(Broken::Caller(reason)) => return (Outcome::Open, Lost::Final(reason.into())),
        Some(Broken::Connection | Broken::Upstream) => {
            return (Outcome::Open, Lost::Final(Reason::ClientLeft.into()));
        }
        None => {}
    }
    let Unanswered { unsent, error } = match fault {
        Fault::Unanswered(unanswered) => unanswered,
        Fault::UpstreamSilent => {
            let private = format!("{} sent no answer in time", target.address());
            let refusal = Refusal::new(Reason::UpstreamTimeout).because(private);
            return (Outcome::Timeout, Lost::Final(refusal));
        }
        Fault::CallerSilent => {
            return (Outcome::Open, Lost::Final(Reason::BodyTimeout.into()));
        }
    };
    let refusal =
        Refusal::new(Reason::UpstreamBroken).because(format!("{}: {error}", target.address()));
    let lost = match unsent {
        Some(request) => Lost::Unsent(request, refusal),
        None if is_stale(&error) => Lost::Stale(refusal),
        None => Lost::Final(refusal),
    };
    (Outcome::Error, lost)
}

/// Whether the connection ended, in contrast to an answer that is none.
fn is_stale(error: &hyper::Error) -> bool {
    let io = || {
        std::error::Error::source(error)
            .is_some_and(|source| source.downcast_ref::<std::io::Error>().is_some())
    };
    !error.is_parse()
        && (error.is_incomplete_message() || error.is_canceled() || error.is_closed() || io())
}

type Accepted = (StatusCode, http::HeaderMap, AnswerBody, Option<Box<dyn crate::listen::Stream>>);

/// Takes an answer apart, once its framing is beyond doubt.
async fn accept(
    mut response: Response<Incoming>,
    mut lease: Lease,
    progress: Option<Arc<Progress>>,
    upgrade: bool,
    upstream: &Upstream,
) -> Result<Accepted, Refusal> {
    let settings = &upstream.settings;
    let read = headers::carriage(response.headers(), response.version());
    let Carriage { persistent, websocket } = match read {
        Ok(carriage) => carriage,
        Err(private) => {
            lease.ended(Outcome::Error);
            return Err(Refusal::new(Reason::UpstreamBroken).because(private));
        }
    };
    lease.ended(Outcome::Ok);
    let status = response.status();
    headers::incoming(response.headers_mut(), status);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // Nothing becomes a tunnel unless it was asked for and the upstream agrees by name.
        if !(upgrade && websocket) {
            lease.ended(Outcome::Error);
            return Err(Refusal::new(Reason::UpstreamBroken)
                .because("the upstream switched to a protocol that was not asked for"));
        }
        let headers = std::mem::take(response.headers_mut());
        return match hyper::upgrade::on(response).await {
            Ok(stream) => {
                let tunnel = Box::new(Upgrade::new(stream, lease));
                Ok((status, headers, AnswerBody::Whole(Bytes::new()), Some(tunnel)))
            }
            Err(error) => {
                lease.ended(Outcome::Error);
                Err(Refusal::new(Reason::UpstreamBroken).because(error.to_string()))
            }
        };
    }
    let (parts, incoming) = response.into_parts();
    let ended = incoming.is_end_stream();
    let terms = (settings.http, settings.timeout.idle);
    let mut inbound = Inbound::new(incoming, lease, progress, persistent, terms);
    let body = if ended {
        inbound.finish();
        AnswerBody::Whole(Bytes::new())
    } else {
        AnswerBody::Streaming(Body::Streaming(Box::pin(inbound)))
    };
    Ok((status, parts.headers, body, None))
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
