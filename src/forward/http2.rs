//! HTTP/2 towards targets, which hyper speaks: many requests over one connection.
//!
//! Whatever replaces hyper here has to keep three promises: a request that comes back unsent was
//! not seen by the target, an answer's head is whole, and dropping the last hold on a connection
//! closes it at once.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::AbortHandle;
use tokio::time::timeout_at;

use crate::forward::dial::{DialFault, Wire};
use crate::forward::outbound::{Outbound, Progress};
use crate::forward::patience::{Fault, Patience};
use crate::forward::upstream::Open;

/// The largest head of an answer, in bytes.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// What a target may send on one stream, and on a connection, before we have passed it on.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// How often a busy connection is asked whether it is alive, and how long it may think.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A hold on a connection.
#[derive(Clone)]
pub(in crate::forward) struct Link {
    sender: http2::SendRequest<Outbound>,
    /// Ends the connection with its last owner.
    _driver: Arc<Driver>,
}

impl Link {
    pub(in crate::forward) async fn new(wire: Wire, open: Open) -> Result<Self, DialFault> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES_MAX)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| DialFault::Refused(std::io::Error::other(error)))?;
        let task = tokio::spawn(async move {
            // How a connection ends is told to the requests on it.
            let _ended = connection.await;
            drop(open);
        });
        Ok(Self { sender, _driver: Arc::new(Driver(task.abort_handle())) })
    }

    /// Whether a request can be sent over it.
    pub(in crate::forward) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// As [`Fault`] has them, with the request itself when the target cannot have seen any of it.
    pub(in crate::forward) async fn ask(
        &mut self,
        request: Request<Outbound>,
        mut patience: Patience,
    ) -> Result<Response<Incoming>, (Fault, Option<Box<Request<Outbound>>>)> {
        let progress = request.body().progress();
        let progress = progress.as_deref();
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        loop {
            let waited = timeout_at(patience.limit(), answer.as_mut()).await;
            // A body that breaks off ends the exchange, however the connection puts it.
            let broken = |fault| progress.and_then(Progress::broken).map_or(fault, Fault::Body);
            match waited {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(mut unanswered)) => {
                    let unsent = unanswered.take_message().map(Box::new);
                    let fault = fault_of(&unanswered.into_error(), unsent.is_some());
                    return Err((broken(fault), unsent));
                }
                Err(_) => {
                    let awaits_caller = progress.is_some_and(Progress::awaits_caller);
                    let parts = progress.map_or(0, Progress::frames);
                    if let Err(silence) = patience.extend(awaits_caller, parts) {
                        return Err((broken(silence), None));
                    }
                }
            }
        }
    }
}

fn fault_of(error: &hyper::Error, unsent: bool) -> Fault {
    let io = error.source().is_some_and(|source| source.is::<std::io::Error>());
    let ended = error.is_incomplete_message() || error.is_canceled() || error.is_closed() || io;
    match (unsent, ended && !error.is_parse()) {
        (true, _) => Fault::Unsent(error.to_string()),
        (false, true) => Fault::Stale(error.to_string()),
        (false, false) => Fault::NoAnswer(error.to_string()),
    }
}

/// The task that moves a connection's bytes. The connection closes when this is dropped.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
