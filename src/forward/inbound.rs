//! The body of an answer on its way from the upstream, and the tunnel after an upgrade.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::forward::headers::keep_trailers;
use crate::forward::outbound::Progress;
use crate::forward::pool::{Lease, Outcome};
use crate::forward::upstream::Protocol;
use crate::listen::body::Broken;

/// The body of an answer. It holds the lease on its connection, and gives the connection back only
/// when the answer ended as it should and the request was sent whole.
pub(in crate::forward) struct Inbound {
    incoming: Incoming,
    lease: Option<Lease>,
    progress: Option<Arc<Progress>>,
    /// Whether the connection outlives this answer.
    persistent: bool,
    http: Protocol,
    idle_timeout: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    /// Whether `pause` runs for the present wait.
    waits: bool,
}

impl Inbound {
    pub(in crate::forward) fn new(
        incoming: Incoming,
        lease: Lease,
        progress: Option<Arc<Progress>>,
        persistent: bool,
        settings: (Protocol, Duration),
    ) -> Self {
        let (http, idle_timeout) = settings;
        Self {
            incoming,
            lease: Some(lease),
            progress,
            persistent,
            http,
            idle_timeout,
            pause: None,
            waits: false,
        }
    }

    /// Ends what has ended already.
    pub(in crate::forward) fn finish(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        // An upstream may answer before it has read all. What it has not read would be taken for
        // the next request's answer by no one, but its connection may never become free.
        let sent = self.progress.as_ref().is_none_or(|progress| progress.has_ended());
        if self.persistent && sent {
            lease.give_back();
        }
    }

    fn break_off(&mut self, outcome: Outcome) -> Broken {
        if let Some(mut lease) = self.lease.take() {
            lease.ended(outcome);
        }
        self.progress.as_ref().and_then(|progress| progress.broken()).unwrap_or(Broken::Upstream)
    }

    /// Whether the upstream has been silent for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let idle_timeout = self.idle_timeout;
        let pause = self.pause.get_or_insert_with(|| {
            self.waits = true;
            Box::pin(tokio::time::sleep(idle_timeout))
        });
        if !self.waits {
            pause.as_mut().reset(Instant::now() + idle_timeout);
            self.waits = true;
        }
        pause.as_mut().poll(context)
    }
}

impl http_body::Body for Inbound {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.lease.is_none() {
            return Poll::Ready(None);
        }
        loop {
            match Pin::new(&mut self.incoming).poll_frame(context) {
                Poll::Pending => {
                    if self.poll_silence(context).is_pending() {
                        return Poll::Pending;
                    }
                    return Poll::Ready(Some(Err(self.break_off(Outcome::Timeout))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    self.waits = false;
                    let frame = match frame.into_data() {
                        Ok(data) => Some(Frame::data(data)),
                        Err(frame) => frame
                            .into_trailers()
                            .ok()
                            .and_then(|trailers| keep_trailers(trailers, self.http))
                            .map(Frame::trailers),
                    };
                    if self.incoming.is_end_stream() {
                        self.finish();
                    }
                    if let Some(frame) = frame {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    return Poll::Ready(Some(Err(self.break_off(Outcome::Error))));
                }
                Poll::Ready(None) => {
                    self.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none() || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The stream to an upstream after an upgrade, which keeps its seat.
pub(in crate::forward) struct Upgrade {
    stream: TokioIo<Upgraded>,
    _lease: Lease,
}

impl Upgrade {
    pub(in crate::forward) fn new(stream: Upgraded, lease: Lease) -> Self {
        Self { stream: TokioIo::new(stream), _lease: lease }
    }
}

impl AsyncRead for Upgrade {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Upgrade {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
