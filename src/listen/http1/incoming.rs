//! The body of an HTTP/1 request on its way in: read when it is asked for, and not before.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::listen::Length;
use crate::listen::body::Broken;
use crate::listen::http1::decode::Decoder;
use crate::listen::http1::wire::{Alarm, Shared, Socket};
use crate::refusal::Reason;

/// A body that is read from its connection as its reader asks. Dropping it leaves the rest to the
/// connection.
pub(super) struct Incoming<S: Socket> {
    wire: Shared<S>,
    serial: u64,
    /// Bytes that are left; unknown for a chunked body.
    left: Option<u64>,
    has_ended: bool,
    timeout: Duration,
    /// Made at the first wait: most bodies never wait.
    alarm: Option<Alarm>,
    is_waiting: bool,
}

impl<S: Socket> Incoming<S> {
    /// The body of the wire's current request.
    pub(super) fn new(wire: &Shared<S>, length: Length, timeout: Duration) -> Self {
        let left = match length {
            Length::None => Some(0),
            Length::Exactly(bytes) => Some(bytes),
            Length::Unknown => None,
        };
        Self {
            serial: wire.lock().serial,
            wire: wire.clone(),
            left,
            has_ended: false,
            timeout,
            alarm: None,
            is_waiting: false,
        }
    }

    fn poll_wire(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut wire = self.wire.lock();
        if wire.serial != self.serial {
            return Poll::Ready(Some(Err(Broken::Connection)));
        }
        if let Poll::Ready(frame) = wire.poll_frame(context) {
            self.is_waiting = false;
            return Poll::Ready(frame);
        }
        let alarm = self.alarm.get_or_insert_with(|| Alarm::after(self.timeout));
        if !std::mem::replace(&mut self.is_waiting, true) {
            alarm.set(self.timeout);
        }
        if alarm.poll(context).is_pending() {
            return Poll::Pending;
        }
        wire.decoder = Decoder::Broken(Reason::BodyTimeout);
        Poll::Ready(Some(Err(Broken::Caller(Reason::BodyTimeout))))
    }
}

impl<S: Socket> Body for Incoming<S> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(self.poll_wire(context));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(bytes));
                self.has_ended = self.left == Some(0);
            }
            Some(Err(_)) | None => self.has_ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
