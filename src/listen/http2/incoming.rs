//! The body of an HTTP/2 request on its way in, within the deadline between two reads.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::listen::body::Broken;
use crate::listen::http1::wire::Alarm;
use crate::refusal::Reason;

/// hyper's body, with our words for how it can break. h2 has counted the content against
/// `content-length` when it ends.
pub(super) struct Incoming {
    incoming: hyper::body::Incoming,
    timeout: Duration,
    alarm: Option<Alarm>,
    is_waiting: bool,
    has_ended: bool,
}

impl Incoming {
    pub(super) fn new(incoming: hyper::body::Incoming, timeout: Duration) -> Self {
        Self { incoming, timeout, alarm: None, is_waiting: false, has_ended: false }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        while !self.has_ended {
            let frame = match Pin::new(&mut self.incoming).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return self.poll_deadline(context),
            };
            self.is_waiting = false;
            match frame {
                None => self.has_ended = true,
                Some(Err(fault)) => {
                    self.has_ended = true;
                    return Poll::Ready(Some(Err(broken(&fault))));
                }
                // Trailers are dropped, as those of HTTP/1 are.
                Some(Ok(frame)) if frame.is_data() => return Poll::Ready(Some(Ok(frame))),
                Some(Ok(_trailers)) => {}
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
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

/// A reset stream and a lost connection are the caller leaving; anything else is a malformed body.
fn broken(fault: &hyper::Error) -> Broken {
    let mut source = std::error::Error::source(fault);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<std::io::Error>() {
            let _ = cause;
            return Broken::Connection;
        }
        source = cause.source();
    }
    Broken::Caller(Reason::BodyIncomplete)
}
