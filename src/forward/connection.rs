//! One connection to a target: takes a request, brings the head of its answer, and can be used again.
//!
//! This is the seam to hyper. Whatever replaces it has to keep three promises: a request that comes
//! back unsent was not seen by the target, an answer's head is whole, and dropping the connection
//! closes it at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::forward::dial::{DialFault, Wire, dial};
use crate::forward::outbound::Outbound;
use crate::forward::upstream::{Protocol, Settings, Target};

/// The largest head of an answer, in bytes. It also bounds what is read of a body at once.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// What a target may send on one HTTP/2 stream, and on a connection, before we have passed it on.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// How often a busy HTTP/2 connection is asked whether it is alive, and how long it may think.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// An open connection to a target.
pub(in crate::forward) struct Connection {
    sender: Sender,
    /// Ends the connection with its last owner.
    _driver: Arc<Driver>,
    born: Instant,
    generation: u32,
}

enum Sender {
    Http1(http1::SendRequest<Outbound>),
    Http2(http2::SendRequest<Outbound>),
}

/// A request that got no answer.
pub(in crate::forward) struct Unanswered {
    /// The request itself, when the target cannot have seen any of it.
    pub(in crate::forward) unsent: Option<Box<Request<Outbound>>>,
    /// What happened.
    pub(in crate::forward) error: hyper::Error,
}

impl Connection {
    /// Opens a connection before `deadline`, however long looking up, TCP and TLS take each.
    ///
    /// # Errors
    /// As [`DialFault`] has them.
    pub(in crate::forward) async fn open(
        target: &Arc<Target>,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<Self, DialFault> {
        // Read first: a target that goes down while we connect makes this connection an old one.
        let generation = target.generation();
        let opening = async {
            let wire = dial(&target.address, settings).await?;
            shake_hands(wire, settings.http, Open::new(target)).await
        };
        let (sender, driver) =
            timeout_at(deadline, opening).await.map_err(|_| DialFault::Timeout)??;
        Ok(Self { sender, _driver: Arc::new(driver), born: Instant::now(), generation })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// When the connection ended first, or what came is no answer.
    pub(in crate::forward) async fn send(
        &mut self,
        request: Request<Outbound>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let answer = match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        };
        answer.map_err(|mut fault| Unanswered {
            unsent: fault.take_message().map(Box::new),
            error: fault.into_error(),
        })
    }

    /// Waits until the connection takes a request; false when it never will again.
    pub(in crate::forward) async fn is_ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Whether the connection may still be used for `target` at this time.
    pub(in crate::forward) fn is_usable(
        &self,
        target: &Target,
        lifetime: Duration,
        now: Instant,
    ) -> bool {
        let closed = match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        };
        !closed
            && self.generation == target.generation()
            && now.saturating_duration_since(self.born) < lifetime
    }

    /// A second hold on the same connection, where requests can share one.
    pub(in crate::forward) fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        Some(Self {
            sender: Sender::Http2(sender.clone()),
            _driver: Arc::clone(&self._driver),
            born: self.born,
            generation: self.generation,
        })
    }
}

async fn shake_hands(
    wire: Wire,
    protocol: Protocol,
    open: Open,
) -> Result<(Sender, Driver), DialFault> {
    let io = TokioIo::new(wire);
    let refused = |error: hyper::Error| DialFault::Refused(std::io::Error::other(error));
    match protocol {
        Protocol::Http1 => {
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(HEAD_BYTES_MAX as usize)
                .handshake(io)
                .await
                .map_err(refused)?;
            let driver = Driver::start(open, connection.with_upgrades());
            Ok((Sender::Http1(sender), driver))
        }
        Protocol::Http2 => {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(HEAD_BYTES_MAX)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_TIMEOUT)
                .handshake(io)
                .await
                .map_err(refused)?;
            Ok((Sender::Http2(sender), Driver::start(open, connection)))
        }
    }
}

/// The task that moves a connection's bytes. The connection closes when this is dropped.
struct Driver(AbortHandle);

impl Driver {
    fn start(
        open: Open,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Self {
        let task = tokio::spawn(async move {
            // How a connection ends is told to the request on it; an idle one has nobody to tell.
            let _ended = connection.await;
            drop(open);
        });
        Self(task.abort_handle())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts an open connection for as long as it lives.
struct Open(Arc<Target>);

impl Open {
    fn new(target: &Arc<Target>) -> Self {
        target.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(target))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
