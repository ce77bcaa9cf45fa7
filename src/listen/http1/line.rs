//! What the task of an HTTP/1 connection does with its socket, each within a deadline.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::listen::drain::Drain;
use crate::listen::http1::decode::Decoder;
use crate::listen::http1::give_back;
use crate::listen::http1::head::{Parsed, Scan};
use crate::listen::http1::wire::{Alarm, Shared as Wire, Socket};
use crate::listen::{Service, Shared};
use crate::refusal::Reason;

/// How long a connection without a request stays open once a drain has begun: a request that is on
/// its way must not meet a closed door.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// How much of a body that nobody wants is read, and for how long, so that the answer arrives.
pub(in crate::listen) const DISCARD_BYTES_MAX: usize = 256 << 10;
pub(in crate::listen) const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);

/// The socket of a connection, with its one timer. The socket closes when this is dropped.
pub(super) struct Line<S: Socket> {
    pub(super) wire: Wire<S>,
    alarm: Alarm,
    shared: Arc<Shared>,
    drain: Drain,
}

/// What came over the line.
pub(super) enum Arrived {
    /// A request.
    Request(Parsed),
    /// What is none.
    Malformed(Reason),
    /// Nothing, and nothing will.
    Nothing,
}

/// The caller has left, or does not read.
pub(super) struct Gone;

impl<S: Socket> Line<S> {
    pub(super) fn new<H>(socket: S, service: &Service<H>) -> Self {
        Self {
            wire: Wire::new(socket),
            alarm: Alarm::after(service.shared.settings.bounds.header_timeout),
            shared: Arc::clone(&service.shared),
            drain: service.drain.clone(),
        }
    }

    /// Waits for the next head. The first one is due from connecting on; a later one may be
    /// awaited for the idle time, and is due from its first byte on.
    pub(super) async fn arrive(&mut self, is_first: bool) -> Arrived {
        let Self { wire, alarm, shared, drain } = self;
        let bounds = &shared.settings.bounds;
        let mut scan = Scan::default();
        let mut head_is_due = is_first;
        let mut in_grace = false;
        alarm.set(if is_first { bounds.header_timeout } else { bounds.idle_timeout });
        poll_fn(|context| {
            let mut wire = wire.lock();
            give_back(&mut wire.input);
            loop {
                let end = match scan.pass_empty_line(&mut wire.input) {
                    false => Ok(None),
                    true => scan.advance(&wire.input, bounds),
                };
                match end {
                    Ok(None) => {}
                    Ok(Some(end)) => {
                        let head = wire.input.split_to(end).freeze();
                        give_back(&mut wire.input);
                        return Poll::Ready(match std::mem::take(&mut scan).read(&head) {
                            Ok(parsed) => Arrived::Request(parsed),
                            Err(reason) => Arrived::Malformed(reason),
                        });
                    }
                    Err(reason) => return Poll::Ready(Arrived::Malformed(reason)),
                }
                match wire.poll_read(context) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Arrived::Nothing),
                    Poll::Pending => break,
                }
            }
            let is_idle = wire.input.is_empty();
            if !is_idle && !std::mem::replace(&mut head_is_due, true) {
                alarm.set(bounds.header_timeout);
            }
            if is_idle && drain.is_draining() && !std::mem::replace(&mut in_grace, true) {
                alarm.set_earlier(DRAIN_GRACE);
            }
            alarm.poll(context).map(|()| match is_idle {
                true => Arrived::Nothing,
                false => Arrived::Malformed(Reason::HeadTimeout),
            })
        })
        .await
    }

    /// Waits for `work`, and gives it up when the caller leaves.
    pub(super) async fn while_present<F: Future + Unpin>(
        &mut self,
        mut work: F,
    ) -> Option<F::Output> {
        let ahead_bytes_max = self.shared.settings.bounds.header_bytes;
        poll_fn(|context| {
            if let Poll::Ready(done) = Pin::new(&mut work).poll(context) {
                return Poll::Ready(Some(done));
            }
            match self.wire.lock().poll_left(context, ahead_bytes_max) {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Writes all of `bytes`. The caller must take some of them within each write timeout.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let timeout = self.shared.settings.bounds.write_timeout;
        let (wire, alarm) = (&self.wire, &mut self.alarm);
        let mut rest = bytes;
        let mut is_stalled = false;
        poll_fn(|context| {
            while !rest.is_empty() {
                match wire.lock().poll_write(context, rest) {
                    Poll::Ready(Ok(written)) => {
                        rest = rest.get(written..).unwrap_or_default();
                        is_stalled = false;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Gone)),
                    Poll::Pending => {
                        if !std::mem::replace(&mut is_stalled, true) {
                            alarm.set(timeout);
                        }
                        return alarm.poll(context).map(|()| Err(Gone));
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Hands to the kernel what TLS still holds.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        let timeout = self.shared.settings.bounds.write_timeout;
        let mut is_stalled = false;
        poll_fn(|context| {
            if let Poll::Ready(flushed) = self.wire.lock().poll_flush(context) {
                return Poll::Ready(flushed.map_err(|_| Gone));
            }
            if !std::mem::replace(&mut is_stalled, true) {
                self.alarm.set(timeout);
            }
            self.alarm.poll(context).map(|()| Err(Gone))
        })
        .await
    }

    /// Reads the rest of a body that nobody wants. False when that is too much or too slow, so that
    /// the connection cannot be used again.
    pub(super) async fn discard_body(&mut self) -> bool {
        let (wire, alarm) = (&self.wire, &mut self.alarm);
        wire.lock().retire();
        alarm.set(DISCARD_TIME_MAX);
        let mut left = DISCARD_BYTES_MAX as u64;
        poll_fn(|context| {
            let mut wire = wire.lock();
            loop {
                if matches!(wire.decoder, Decoder::Sized(bytes) if bytes > left) {
                    return Poll::Ready(false);
                }
                match wire.poll_frame(context) {
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                    Poll::Ready(Some(Ok(frame))) => {
                        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                        let Some(less) = left.checked_sub(bytes) else {
                            return Poll::Ready(false);
                        };
                        left = less;
                    }
                    Poll::Pending => return alarm.poll(context).map(|()| false),
                }
            }
        })
        .await
    }

    /// Ends the connection cleanly. A caller that is still sending would get a reset, which may
    /// overtake the answer; `lingering` reads on for a while so that it does not.
    pub(super) async fn close(&mut self, lingering: bool) {
        let (wire, alarm) = (&self.wire, &mut self.alarm);
        alarm.set(DISCARD_TIME_MAX);
        let mut left = if lingering { DISCARD_BYTES_MAX } else { 0 };
        let mut is_shut = false;
        poll_fn(|context| {
            let mut wire = wire.lock();
            if !is_shut {
                match wire.poll_shutdown(context) {
                    Poll::Ready(Ok(())) => is_shut = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return alarm.poll(context),
                }
            }
            while left > 0 {
                wire.input.clear();
                match wire.poll_read(context) {
                    Poll::Ready(Ok(read @ 1..)) => left = left.saturating_sub(read),
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return alarm.poll(context),
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Hands the socket over, with what was read ahead.
    pub(super) fn take(&mut self) -> Option<(S, BytesMut)> {
        self.wire.lock().take()
    }
}

impl<S: Socket> Drop for Line<S> {
    fn drop(&mut self) {
        self.wire.lock().end();
    }
}
