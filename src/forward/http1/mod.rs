//! HTTP/1 towards targets: one request after the other over one connection, strictly read.
//!
//! Everything happens in the future of whoever asks: there is no task and no channel beside it, and
//! dropping the connection closes it at once.

pub(in crate::forward) mod answer;
pub(in crate::forward) mod send;

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::forward::http1::answer::{AnswerHead, Framing, Scan};
use crate::forward::http1::send::{Request, Sending};
use crate::forward::outbound::Outbound;
use crate::forward::patience::{Fault, Patience};
use crate::listen::http1::decode::Step;
use crate::listen::http1::wire::Alarm;

/// One read of a head: nearly all heads fit, and most small bodies along with them.
const HEAD_READ_BYTES: usize = 8 << 10;
const BODY_READ_BYTES_MIN: usize = 16 << 10;
const BODY_READ_BYTES_MAX: usize = 64 << 10;
/// Interim answers (1xx) to one request.
const INTERIMS_MAX: u32 = 8;
/// The room for heads that a connection keeps.
const OUT_BYTES_KEPT: usize = 4 << 10;

/// A byte stream to a target, with what was read ahead.
pub(in crate::forward) struct Link<W> {
    wire: W,
    /// What was read and not yet understood.
    input: BytesMut,
    /// Room for the heads of requests.
    out: Vec<u8>,
    /// One timer for all requests: a deadline that only moves away costs nothing.
    alarm: Alarm,
    body_read_bytes: usize,
}

/// An answer whose body is still to be read.
pub(in crate::forward) struct Answered {
    pub(in crate::forward) head: AnswerHead,
    /// Whether the request was sent whole. If not, the rest never will be, and the connection
    /// cannot be used again.
    pub(in crate::forward) sent: bool,
}

/// Why a body ended before its end.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::forward) struct Cut;

impl<W: AsyncRead + AsyncWrite + Unpin> Link<W> {
    /// A connection that was just opened, whose first request is due within about `patience`.
    pub(in crate::forward) fn new(wire: W, patience: std::time::Duration) -> Self {
        Self {
            wire,
            input: BytesMut::new(),
            out: Vec::new(),
            alarm: Alarm::after(patience),
            body_read_bytes: BODY_READ_BYTES_MIN,
        }
    }

    /// Whether the connection is open and silent, as one without a request has to be: bytes that
    /// nobody asked for would be taken for the answer to the next request.
    pub(in crate::forward) fn is_quiet(&mut self) -> bool {
        let mut space = [MaybeUninit::<u8>::uninit()];
        let mut read = ReadBuf::uninit(&mut space);
        let mut context = Context::from_waker(Waker::noop());
        self.input.is_empty()
            && Pin::new(&mut self.wire).poll_read(&mut context, &mut read).is_pending()
    }

    /// Whether nothing was read beyond the last answer.
    pub(in crate::forward) fn is_drained(&self) -> bool {
        self.input.is_empty()
    }

    /// Lets go of room that an idle connection does not need.
    pub(in crate::forward) fn rest(&mut self) {
        self.input = BytesMut::new();
        self.body_read_bytes = BODY_READ_BYTES_MIN;
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = Vec::new();
        }
    }

    /// Sends a request and waits for the head of its answer, which may come before all is sent.
    ///
    /// A body that lies in memory is left in `body`, so that the request can be sent again.
    ///
    /// # Errors
    /// As [`Fault`] has them.
    pub(in crate::forward) async fn ask(
        &mut self,
        request: Request<'_>,
        body: &mut Outbound,
        mut patience: Patience,
    ) -> Result<Answered, Fault> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        if !request.write(&mut out, body.length()) {
            return Err(Fault::Unwritable);
        }
        let mut sending = Sending::new(out, body);
        let mut reading = Reading::new(request.method);
        self.alarm.set_at(patience.limit());
        let head = poll_fn(|context| {
            if !sending.is_over()
                && let Poll::Ready(Err(broken)) = sending.poll(&mut self.wire, body, context)
            {
                return Poll::Ready(Err(Fault::Body(broken)));
            }
            if let Poll::Ready(answered) = self.poll_head(&mut reading, context) {
                return Poll::Ready(answered.map_err(|fault| match fault {
                    // What is still here in whole can be sent elsewhere.
                    Fault::Stale(says) if sending.is_unseen() && body.is_untouched() => {
                        Fault::Unsent(says)
                    }
                    fault => fault,
                }));
            }
            loop {
                ready!(self.alarm.poll(context));
                match patience.extend(sending.awaits_caller, sending.parts) {
                    Ok(limit) => self.alarm.set_at(limit),
                    Err(silence) => return Poll::Ready(Err(silence)),
                }
            }
        })
        .await?;
        let sent = sending.is_sent();
        self.out = sending.into_buffer();
        Ok(Answered { head, sent })
    }

    /// The head of the answer, after interim ones.
    fn poll_head(
        &mut self,
        reading: &mut Reading,
        context: &mut Context<'_>,
    ) -> Poll<Result<AnswerHead, Fault>> {
        let broken = |says: &str| Poll::Ready(Err(Fault::NoAnswer(says.to_owned())));
        loop {
            match reading.scan.advance(&self.input) {
                Ok(None) => {}
                Ok(Some(end)) => {
                    let head = self.input.split_to(end).freeze();
                    match std::mem::take(&mut reading.scan).read(&head, reading.to_head) {
                        Ok(head) if !is_interim(head.status) => return Poll::Ready(Ok(head)),
                        Ok(_) => reading.interims += 1,
                        Err(says) => return broken(says),
                    }
                    if reading.interims > INTERIMS_MAX {
                        return broken("too many interim answers came");
                    }
                    continue;
                }
                Err(says) => return broken(says),
            }
            let ended = match ready!(self.poll_read(context)) {
                Ok(1..) => {
                    reading.begun = true;
                    continue;
                }
                Ok(0) => "the connection ended before the answer".to_owned(),
                Err(error) => error.to_string(),
            };
            return Poll::Ready(Err(match reading.begun {
                true => Fault::NoAnswer(ended),
                false => Fault::Stale(ended),
            }));
        }
    }

    /// Reads once, towards a head. 0 is the end of the stream.
    ///
    /// The bytes go over the stack, so that a connection that waits holds no buffer.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [const { MaybeUninit::<u8>::uninit() }; HEAD_READ_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.wire).poll_read(context, &mut read))?;
        self.input.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// All of a body that came along with the head of its answer; nothing when more is to come.
    pub(in crate::forward) fn whole_body(&mut self, framing: &Framing) -> Option<Bytes> {
        let bytes = usize::try_from(framing.left()?).ok()?;
        (self.input.len() >= bytes).then(|| self.input.split_to(bytes).freeze())
    }

    /// The next content of a body; nothing at its end.
    ///
    /// # Errors
    /// It ended early, or what came is no valid body.
    pub(in crate::forward) fn poll_data(
        &mut self,
        framing: &mut Framing,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            match framing {
                Framing::Marked(decoder) => match decoder.step_of_answer(&mut self.input) {
                    Step::Data(data) => return Poll::Ready(Some(Ok(data))),
                    Step::End => return Poll::Ready(None),
                    Step::Malformed(_) => return Poll::Ready(Some(Err(Cut))),
                    // Trailers are checked and dropped.
                    Step::Trailers(_) => continue,
                    Step::More => {}
                },
                Framing::UntilClose if !self.input.is_empty() => {
                    return Poll::Ready(Some(Ok(self.input.split().freeze())));
                }
                Framing::UntilClose => {}
            }
            match ready!(self.poll_more(framing.left(), context)) {
                Ok(1..) => {}
                Ok(0) if *framing == Framing::UntilClose => return Poll::Ready(None),
                // Over TLS an end without its alert is an error, and nobody's end.
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(Cut))),
            }
        }
    }

    /// Reads once, towards a body of which so many bytes are left.
    fn poll_more(
        &mut self,
        left: Option<u64>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let spare = self.input.capacity() - self.input.len();
        if spare < BODY_READ_BYTES_MIN / 4 {
            let left = left.and_then(|left| usize::try_from(left).ok());
            self.input.reserve(left.map_or(self.body_read_bytes, |left| {
                left.clamp(BODY_READ_BYTES_MIN / 4, BODY_READ_BYTES_MAX)
            }));
        }
        let spare = self.input.capacity() - self.input.len();
        let read = ready!(pin!(self.wire.read_buf(&mut self.input)).poll(context))?;
        if read == spare {
            self.body_read_bytes = (self.body_read_bytes * 2).min(BODY_READ_BYTES_MAX);
        }
        Poll::Ready(Ok(read))
    }
}

/// The head of an answer that is being read.
struct Reading {
    scan: Scan,
    to_head: bool,
    interims: u32,
    /// Whether any byte has come.
    begun: bool,
}

impl Reading {
    fn new(method: &Method) -> Self {
        Self { scan: Scan::default(), to_head: method == Method::HEAD, interims: 0, begun: false }
    }
}

/// Whether another answer follows. 101 is final: what follows is another protocol.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// After an upgrade: the stream itself, beginning with what was read ahead.
impl<W: AsyncRead + Unpin> AsyncRead for Link<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.input.is_empty() {
            return Pin::new(&mut self.wire).poll_read(context, buffer);
        }
        let bytes = self.input.len().min(buffer.remaining());
        buffer.put_slice(&self.input.split_to(bytes));
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Link<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
