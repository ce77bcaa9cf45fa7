//! The body of an answer on its way from the upstream, and the tunnel after an upgrade.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::forward::connection::Speech;
use crate::forward::dial::Wire;
use crate::forward::headers::keep_trailers;
use crate::forward::http1::answer::Framing;
use crate::forward::http1::{Cut, Link};
use crate::forward::outbound::Progress;
use crate::forward::pool::{Lease, Outcome};
use crate::listen::body::Broken;
use crate::listen::http1::wire::Alarm;

/// Where the body of an answer comes from.
pub(in crate::forward) enum Source {
    /// The connection of the lease itself.
    Http1 {
        framing: Framing,
        /// Whether the connection can be used again after the body.
        persistent: bool,
    },
    /// A stream of a shared connection, and what is told of the request's body.
    Http2(Incoming, Option<Arc<Progress>>),
}

/// The body of an answer. It holds the lease on its connection, and gives the connection back only
/// when the answer ended as it should and the request was sent whole.
pub(in crate::forward) struct Inbound {
    source: Source,
    lease: Option<Lease>,
    idle_timeout: Duration,
    /// Made at the first wait: most bodies never wait.
    alarm: Option<Alarm>,
    /// Whether `alarm` runs for the present wait.
    waits: bool,
}

impl Inbound {
    pub(in crate::forward) fn new(source: Source, lease: Lease, idle_timeout: Duration) -> Self {
        Self { source, lease: Some(lease), idle_timeout, alarm: None, waits: false }
    }

    fn finish(&mut self) {
        let Some(mut lease) = self.lease.take() else { return };
        if let Source::Http1 { persistent: true, .. } = self.source
            && http1(&mut lease).is_some_and(|link| link.is_drained())
        {
            lease.give_back(Instant::now());
        }
    }

    fn break_off(&mut self, outcome: Outcome) -> Broken {
        if let Some(mut lease) = self.lease.take() {
            lease.ended(outcome);
        }
        match &self.source {
            Source::Http2(_, Some(progress)) => progress.broken().unwrap_or(Broken::Upstream),
            Source::Http2(_, None) | Source::Http1 { .. } => Broken::Upstream,
        }
    }

    /// The next content or trailers, nothing at the end.
    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.source {
            Source::Http1 { framing, .. } => {
                let Some(link) = self.lease.as_mut().and_then(http1) else {
                    return Poll::Ready(Some(Err(Cut)));
                };
                link.poll_data(framing, context).map(|data| data.map(|data| data.map(Frame::data)))
            }
            Source::Http2(incoming, _) => loop {
                match ready!(Pin::new(&mut *incoming).poll_frame(context)) {
                    None => return Poll::Ready(None),
                    Some(Err(_)) => return Poll::Ready(Some(Err(Cut))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                        Err(frame) => {
                            let kept = frame.into_trailers().ok().and_then(keep_trailers);
                            if let Some(trailers) = kept {
                                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                            }
                        }
                    },
                }
            },
        }
    }

    /// Whether nothing more will come.
    fn has_ended(&self) -> bool {
        match &self.source {
            Source::Http1 { framing, .. } => framing.left() == Some(0),
            Source::Http2(incoming, _) => incoming.is_end_stream(),
        }
    }

    /// Whether the upstream has been silent for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let alarm = self.alarm.get_or_insert_with(|| Alarm::after(self.idle_timeout));
        if !std::mem::replace(&mut self.waits, true) {
            alarm.set_at(Instant::now() + self.idle_timeout);
        }
        alarm.poll(context)
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
        match self.poll_source(context) {
            Poll::Pending => {
                ready!(self.poll_silence(context));
                Poll::Ready(Some(Err(self.break_off(Outcome::Timeout))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.waits = false;
                if self.has_ended() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(Cut))) => Poll::Ready(Some(Err(self.break_off(Outcome::Error)))),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Http1 { framing, .. } => {
                framing.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Source::Http2(incoming, _) => incoming.size_hint(),
        }
    }
}

/// The HTTP/1 connection of a lease.
pub(in crate::forward) fn http1(lease: &mut Lease) -> Option<&mut Link<Wire>> {
    match lease.connected() {
        Some((Speech::Http1 { link, .. }, _)) => Some(link),
        Some((Speech::Http2(_), _)) | None => None,
    }
}

/// The stream to an upstream after an upgrade, which keeps its seat.
pub(in crate::forward) struct Upgrade(Lease);

impl Upgrade {
    pub(in crate::forward) fn new(lease: Lease) -> Self {
        Self(lease)
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Link<Wire>>> {
        http1(&mut self.0).map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Upgrade {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(self.stream()?, context, buffer)
    }
}

impl AsyncWrite for Upgrade {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}
