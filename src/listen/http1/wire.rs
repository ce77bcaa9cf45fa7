//! The socket of one HTTP/1 connection with what was read ahead, shared with the request's body.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::listen::Stream;
use crate::listen::body::Broken;
use crate::listen::http1::decode::{Decoder, Step};
use crate::listen::http1::trailer::trailers;
use crate::listen::tls::Secured;
use crate::refusal::Reason;

/// One read of a head: nearly all heads fit.
const HEAD_READ_BYTES: usize = 8 << 10;
const BODY_READ_BYTES_MIN: usize = 8 << 10;
const BODY_READ_BYTES_MAX: usize = 64 << 10;
/// A timer may go off so much before its time and be asked again. Waking a connection for nothing
/// took some 40 us, so one that would go off earlier still is set anew.
const EARLY_MAX: Duration = Duration::from_secs(60);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A stream that can be given up in a way that the other end cannot take for a clean end.
pub(in crate::listen) trait Socket: Stream + 'static {
    /// Ready when there is something to read that has not come yet, or the stream has ended; may be
    /// ready for nothing.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Makes the coming drop reset the connection.
    fn abort(&mut self) {}
}

impl Socket for TcpStream {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        // A fault is seen by whoever reads then.
        self.poll_read_ready(context).map(drop)
    }

    fn abort(&mut self) {
        // Without lingering, closing resets. Where that fails, the caller still sees bytes missing.
        let _ = socket2::SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }
}

impl Socket for Secured {
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        let (beneath, _) = self.whole().get_ref();
        if beneath.holds() { Poll::Ready(()) } else { beneath.socket().poll_readable(context) }
    }

    fn abort(&mut self) {
        self.whole_mut().get_mut().0.socket_mut().abort();
    }
}

#[cfg(test)]
impl Socket for tokio::io::DuplexStream {
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// The parts of a connection that the connection's task shares with the body of its request, which
/// may be read in another task. The lock is never held while anything is awaited.
pub(super) struct Wire<S: Socket> {
    /// Nothing once the connection has ended, even if somebody still holds a body of it.
    socket: Option<S>,
    /// What was read and not yet understood.
    pub(super) input: BytesMut,
    /// Where in the body of the current request we are.
    pub(super) decoder: Decoder,
    /// Counts requests, so that a body that outlived its request cannot read from the next.
    pub(super) serial: u64,
    /// What is left to write of `100 Continue` before the body can be read.
    interim: &'static [u8],
    /// Whoever waits for the body.
    reader: Option<Waker>,
    body_read_bytes: usize,
    /// An answer has begun and not ended: a clean end now would pass for the answer's end.
    pub(super) is_midway: bool,
}

/// A [`Wire`], shared.
pub(super) struct Shared<S: Socket>(Arc<Mutex<Wire<S>>>);

impl<S: Socket> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Socket> Shared<S> {
    pub(super) fn new(socket: S) -> Self {
        Self(Arc::new(Mutex::new(Wire {
            socket: Some(socket),
            input: BytesMut::new(),
            decoder: Decoder::Ended,
            serial: 0,
            interim: &[],
            reader: None,
            body_read_bytes: BODY_READ_BYTES_MIN,
            is_midway: false,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Wire<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Socket> Wire<S> {
    /// Begins a request whose body is decoded so. Bodies of earlier requests are dead from here on.
    pub(super) fn begin(&mut self, decoder: Decoder, expects_continue: bool) {
        self.retire();
        self.decoder = decoder;
        self.interim = if expects_continue { CONTINUE } else { &[] };
        // Who has sent this much along with the head will send more of it.
        let has_much = self.input.len() >= BODY_READ_BYTES_MIN / 2;
        self.body_read_bytes = if has_much { BODY_READ_BYTES_MAX } else { BODY_READ_BYTES_MIN };
    }

    /// Takes the body away from whoever reads it.
    pub(super) fn retire(&mut self) {
        self.serial = self.serial.wrapping_add(1);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether the caller still waits to be told to send the body.
    pub(super) fn awaits_continue(&self) -> bool {
        self.interim.len() == CONTINUE.len()
    }

    /// What must be written ahead of the answer: the rest of an interim response that was begun.
    pub(super) fn rest_of_interim(&mut self) -> &'static [u8] {
        let rest = std::mem::take(&mut self.interim);
        if rest.len() == CONTINUE.len() { &[] } else { rest }
    }

    /// Reads once, towards a head. 0 is the end of the stream.
    ///
    /// The bytes go over the stack, so that a connection that waits holds no buffer.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Ok(0)) };
        let mut space = [const { MaybeUninit::<u8>::uninit() }; HEAD_READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(socket).poll_read(context, &mut read))?;
        self.input.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Whether the caller has left. What it sent ahead is kept, up to `bytes_max`; beyond that
    /// nothing is read and nothing is noticed.
    pub(super) fn poll_left(&mut self, context: &mut Context<'_>, bytes_max: usize) -> bool {
        if self.decoder != Decoder::Ended {
            return false;
        }
        while self.input.len() < bytes_max {
            // Nearly always nothing has come, and asking for that alone is less than reading.
            if let Some(socket) = &self.socket
                && socket.poll_readable(context).is_pending()
            {
                return false;
            }
            match self.poll_read(context) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Pending => return false,
            }
        }
        false
    }

    /// The next content of the body, or its trailers.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            // How a body ends that breaks off here is seen when its last content is gone.
            while self.gathers() && matches!(self.poll_more(context), Poll::Ready(Ok(1..))) {}
            match self.decoder.step(&mut self.input) {
                Step::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Step::Trailers(lines) => match trailers(&lines) {
                    Some(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                    None => self.decoder = Decoder::Broken(Reason::ChunkMalformed),
                },
                Step::End => return Poll::Ready(None),
                Step::Malformed(reason) => {
                    return Poll::Ready(Some(Err(Broken::Caller(reason))));
                }
                Step::More => {}
            }
            let read = match self.poll_more(context) {
                Poll::Ready(read) => read,
                Poll::Pending => {
                    self.reader = Some(context.waker().clone());
                    return Poll::Pending;
                }
            };
            if !matches!(read, Ok(1..)) {
                self.decoder = Decoder::Broken(Reason::BodyIncomplete);
            }
        }
    }

    /// Whether more of a body's content may lie ready than was read. All of that is handed on at
    /// once, because each piece costs a write.
    fn gathers(&self) -> bool {
        let held = self.input.len() as u64;
        let most = BODY_READ_BYTES_MAX as u64;
        matches!(self.decoder, Decoder::Sized(left) if (1..left.min(most)).contains(&held))
    }

    /// Reads once, towards a body, after telling the caller to send it if it waits for that.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Ok(0)) };
        while !self.interim.is_empty() {
            let written = ready!(Pin::new(&mut *socket).poll_write(context, self.interim))?;
            self.interim = self.interim.get(written.max(1)..).unwrap_or_default();
            if self.interim.is_empty() {
                // Should this not end now, the answer's own flush will carry it.
                let _ = Pin::new(&mut *socket).poll_flush(context)?;
            }
        }
        let spare = self.input.capacity() - self.input.len();
        if spare < BODY_READ_BYTES_MIN / 2 {
            self.input.reserve(self.body_read_bytes);
        }
        let spare = self.input.capacity() - self.input.len();
        let read = ready!(pin!(socket.read_buf(&mut self.input)).poll(context))?;
        if read == spare {
            // Who has sent this much will send more of it.
            self.body_read_bytes = BODY_READ_BYTES_MAX;
        }
        Poll::Ready(Ok(read))
    }

    /// Writes some of `bytes`; never 0 bytes of more.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(gone()) };
        match ready!(Pin::new(socket).poll_write(context, bytes)) {
            Ok(0) => Poll::Ready(gone()),
            written => Poll::Ready(written),
        }
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(gone()) };
        Pin::new(socket).poll_flush(context)
    }

    /// Ends our side of the stream.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(gone()) };
        Pin::new(socket).poll_shutdown(context)
    }

    /// Hands the socket over, with what was read ahead; the connection is no longer HTTP.
    pub(super) fn take(&mut self) -> Option<(S, BytesMut)> {
        self.retire();
        self.socket.take().map(|socket| (socket, std::mem::take(&mut self.input)))
    }

    /// Closes the socket, whoever else still holds the wire.
    pub(super) fn end(&mut self) {
        self.retire();
        if let Some(mut socket) = self.socket.take()
            && self.is_midway
        {
            socket.abort();
        }
    }
}

fn gone<T>() -> io::Result<T> {
    Err(io::ErrorKind::BrokenPipe.into())
}

/// One timer for all deadlines of a connection.
///
/// A deadline that moves away, as an idle one does at each request, costs nothing: the timer is
/// only asked to go off earlier, or much later, or again when it went off before its time.
pub(crate) struct Alarm {
    due: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    /// Goes off after `span`.
    pub(crate) fn after(span: Duration) -> Self {
        let due = Instant::now() + span;
        Self { due, sleep: Box::pin(tokio::time::sleep_until(due)) }
    }

    /// Goes off after `span` from now, and not at the time set before.
    pub(crate) fn set(&mut self, span: Duration) {
        self.set_at(Instant::now() + span);
    }

    /// Goes off at `due`, and not at the time set before.
    pub(crate) fn set_at(&mut self, due: Instant) {
        self.due = due;
        let deadline = self.sleep.deadline();
        if due < deadline || due - deadline > EARLY_MAX {
            self.sleep.as_mut().reset(self.due);
        }
    }

    /// Goes off after `span` from now, unless it would have done so earlier.
    pub(in crate::listen) fn set_earlier(&mut self, span: Duration) {
        if Instant::now() + span < self.due {
            self.set(span);
        }
    }

    /// Ready when the deadline has passed.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(context));
            if self.sleep.deadline() >= self.due {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_became_idle_is_not_woken_for_nothing() {
        let mut alarm = Alarm::after(Duration::from_secs(5));
        alarm.set(Duration::from_secs(300));
        assert_eq!(alarm.sleep.deadline(), alarm.due);
        // At each request the deadline moves a little, and the timer stays as it is.
        let before = alarm.sleep.deadline();
        alarm.set(Duration::from_secs(310));
        assert_eq!(alarm.sleep.deadline(), before);
        alarm.set(Duration::from_secs(1));
        assert_eq!(alarm.sleep.deadline(), alarm.due);
    }
}
