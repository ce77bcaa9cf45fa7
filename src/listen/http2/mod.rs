//! HTTP/2 towards callers: hyper speaks it, within bounds that are set on purpose.

mod guard;
mod incoming;
mod outgoing;
mod request;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::listen::counters::Held;
use crate::listen::http1::wire::{Alarm, Socket};
use crate::listen::http2::guard::Guarded;
use crate::listen::http2::outgoing::Answering;
use crate::listen::turn::begin;
use crate::listen::{Arrival, Handler, Service, Shared};

const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
const FRAME_BYTES_MAX: u32 = 16 << 10;
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Streams that the caller opened and reset before we looked at them (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// Streams that the caller made us reset (CVE-2025-8671).
const LOCAL_RESETS_MAX: usize = 100;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What the streams of one connection tell the task of the connection.
#[derive(Default)]
struct Streams {
    open: AtomicU32,
    served: AtomicU32,
    must_close: AtomicBool,
}

/// Serves a connection until it ends.
pub(super) async fn serve<S: Socket, H: Handler>(socket: S, service: Service<H>) {
    let shared = Arc::clone(&service.shared);
    let drain = service.drain.clone();
    let streams = Arc::new(Streams::default());
    let service = Arc::new(service);
    let on_request = service_fn({
        let streams = Arc::clone(&streams);
        move |request| respond(Arc::clone(&service), Arc::clone(&streams), request)
    });
    let io = TokioIo::new(Guarded::new(socket, Arc::clone(&shared)));
    let mut connection = pin!(builder(&shared).serve_connection(io, on_request));
    let bounds = &shared.settings.bounds;
    let mut alarm = Alarm::after(bounds.idle_timeout);
    let (mut is_closing, mut was_busy) = (false, false);
    let _ = poll_fn(|context| {
        let served = streams.served.load(Ordering::Acquire);
        let closes = drain.is_draining()
            || streams.must_close.load(Ordering::Acquire)
            || served >= bounds.requests_per_connection;
        if closes && !std::mem::replace(&mut is_closing, true) {
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(ended);
        }
        let is_busy = streams.open.load(Ordering::Acquire) > 0;
        if is_busy || std::mem::replace(&mut was_busy, is_busy) {
            was_busy = is_busy;
            alarm.set(bounds.idle_timeout);
        }
        match alarm.poll(context) {
            Poll::Pending => Poll::Pending,
            // Already told, and still not gone.
            Poll::Ready(()) if is_closing => Poll::Ready(Ok(())),
            Poll::Ready(()) => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
                alarm.set(PING_TIMEOUT);
                let _ = alarm.poll(context);
                connection.as_mut().poll(context)
            }
        }
    })
    .await;
}

fn builder(shared: &Shared) -> Builder<TokioExecutor> {
    let bounds = &shared.settings.bounds;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.h2_streams)
        // Each field counts 32 bytes more than it has (RFC 9113, section 6.5.2).
        .max_header_list_size(u32::try_from(bounds.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .auto_date_header(false);
    builder
}

/// One request and the head of its answer; the body follows in [`Answering`].
async fn respond<H: Handler>(
    service: Arc<Service<H>>,
    streams: Arc<Streams>,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Answering<H::Body>>, Infallible> {
    begin();
    let flight = Flight::new(&service.shared, streams);
    let bounds = &service.shared.settings.bounds;
    let is_head = request.method() == http::Method::HEAD;
    let arrival = match request::read(request, bounds) {
        Ok((head, body)) => Arrival::Request(Box::new(head), body),
        Err(reason) => Arrival::Malformed(reason),
    };
    // In a box, because hyper moves what serves a stream through several hands.
    let place = Box::new_uninit();
    let work = Box::write(place, service.handler.handle(&service.peer, arrival));
    let outgoing = Box::into_pin(work).await;
    if outgoing.close {
        flight.streams.must_close.store(true, Ordering::Release);
    }
    Ok(outgoing::response(outgoing.response, is_head, outgoing.at, flight))
}

/// A request that is being answered.
struct Flight {
    streams: Arc<Streams>,
    _held: Held,
}

impl Flight {
    fn new(shared: &Arc<Shared>, streams: Arc<Streams>) -> Self {
        streams.open.fetch_add(1, Ordering::AcqRel);
        streams.served.fetch_add(1, Ordering::AcqRel);
        Self { streams, _held: Held::new(shared, |counters| &counters.in_flight) }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.streams.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
pub(super) mod tests;
