//! The body of an HTTP/2 request on its way in, within the deadline between two reads.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::listen::body::Broken;
use crate::listen::http1::line::{DISCARD_BYTES_MAX, DISCARD_TIME_MAX};
use crate::listen::http1::wire::Alarm;
use crate::refusal::Reason;

/// hyper's body, with our words for how it can break. h2 has counted the content against
/// `content-length` when it ends.
///
/// When it is dropped before its end, the rest is read for a while and thrown away: h2 would reset
/// the stream at once otherwise, and callers that are still sending lose the answer to that.
pub(super) struct Incoming {
    /// Nothing only while it is dropped.
    incoming: Option<hyper::body::Incoming>,
    timeout: Duration,
    alarm: Option<Alarm>,
    is_waiting: bool,
    has_ended: bool,
}

impl Incoming {
    pub(super) fn new(incoming: hyper::body::Incoming, timeout: Duration) -> Self {
        Self { incoming: Some(incoming), timeout, alarm: None, is_waiting: false, has_ended: false }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(incoming).poll_frame(context) else {
            return self.poll_deadline(context);
        };
        self.is_waiting = false;
        self.has_ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame.map(|frame| frame.map_err(|fault| broken(&fault))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let unread = self.incoming.take().filter(|incoming| !incoming.is_end_stream());
        if let (Some(unread), false, Ok(runtime)) = (unread, self.has_ended, Handle::try_current())
        {
            runtime.spawn(timeout(DISCARD_TIME_MAX, discard(unread)));
        }
    }
}

/// Reads what nobody wants, up to a ceiling; dropping the rest then resets the stream.
async fn discard(mut unread: hyper::body::Incoming) {
    let mut left = DISCARD_BYTES_MAX;
    while let Some(Ok(frame)) = unread.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(less) => left = less,
            None => return,
        }
    }
}

impl Incoming {
    fn poll_deadline(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let alarm = self.alarm.get_or_insert_with(|| Alarm::after(self.timeout));
        if !std::mem::replace(&mut self.is_waiting, true) {
            alarm.set(self.timeout);
        }
        std::task::ready!(alarm.poll(context));
        self.has_ended = true;
        Poll::Ready(Some(Err(Broken::Caller(Reason::BodyTimeout))))
    }
}

/// A lost connection is the caller leaving; anything else is a body that did not end as it should.
fn broken(fault: &hyper::Error) -> Broken {
    let mut causes = std::iter::successors(fault.source(), |cause| (*cause).source());
    match causes.any(<dyn Error>::is::<std::io::Error>) {
        true => Broken::Connection,
        false => Broken::Caller(Reason::BodyIncomplete),
    }
}
