//! Sends a response: head and body gathered into one write where they fit, never a false end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http_body::Frame;

use crate::listen::body::{AnswerBody, Broken};
use crate::listen::http1::line::{Gone, Line};
use crate::listen::http1::reply::Framing;
use crate::listen::http1::wire::Socket;

/// What one TLS record holds, less the end of a chunked body: more would be two records, and the
/// second a short one.
const GATHERED_BYTES_MAX: usize = (16 << 10) - 16;
/// Content of at least this size is written from where it lies; copying it would cost more than
/// the additional write.
const DIRECT_BYTES_MIN: usize = 8 << 10;

/// Room for nearly every head, so that writing it does not move it.
const ROOM_BYTES_USUAL: usize = 2 << 10;

thread_local! {
    /// Room to gather answers in, one after the other: most are written before anything waits.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Empty room to gather an answer in.
pub(super) fn room() -> Vec<u8> {
    let mut room = ROOM.take();
    room.reserve(ROOM_BYTES_USUAL);
    room
}

/// Keeps the room of an answer that has gone for the next one. Two answers at a time need two, and
/// one of them is kept.
fn give_back(mut room: Vec<u8>) {
    room.clear();
    if room.capacity() <= 2 * GATHERED_BYTES_MAX {
        ROOM.set(room);
    }
}

/// A response on its way out.
pub(super) struct Sending<'a, S: Socket, B> {
    pub(super) line: &'a mut Line<S>,
    /// What is gathered and not yet written; the head, to begin with.
    pub(super) out: Vec<u8>,
    pub(super) body: B,
    pub(super) framing: Framing,
}

impl<S: Socket, B: AnswerBody + Unpin> Sending<'_, S, B> {
    /// Sends all of it.
    ///
    /// # Errors
    /// The caller is gone, or the body broke off: then the connection must not end cleanly, for the
    /// caller would take what it has for the whole (RFC 9112, section 8).
    pub(super) async fn send_all(mut self) -> Result<(), Gone> {
        let mut left = match self.framing {
            Framing::Bodiless => Some(0),
            Framing::Sized(bytes) => Some(bytes),
            Framing::Chunked | Framing::UntilClose => None,
        };
        while left != Some(0) {
            match self.next().await? {
                None if left.is_some() => return Err(Gone),
                None => break,
                Some(data) if data.is_empty() => {}
                Some(data) => {
                    if let Some(left) = &mut left {
                        *left = left.checked_sub(data.len() as u64).ok_or(Gone)?;
                    }
                    self.content(&data).await?;
                }
            }
        }
        if self.framing == Framing::Chunked {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.write_out().await?;
        self.flush().await?;
        give_back(self.out);
        Ok(())
    }

    /// The next content; nothing at the end of the body. What is ready is gathered; before a wait,
    /// all that was gathered goes out, so that a slow stream of events loses no time here.
    async fn next(&mut self) -> Result<Option<Bytes>, Gone> {
        loop {
            let body = &mut self.body;
            let at_once = poll_fn(|context| {
                Poll::Ready(match Pin::new(&mut *body).poll_frame(context) {
                    Poll::Ready(frame) => Some(frame),
                    Poll::Pending => None,
                })
            });
            let frame: Option<Result<Frame<Bytes>, Broken>> = match at_once.await {
                Some(frame) => frame,
                None => {
                    self.write_out().await?;
                    self.flush().await?;
                    let body = &mut self.body;
                    let later = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
                    self.line.while_present(later).await.ok_or(Gone)?
                }
            };
            // Trailers are dropped: what they may say has been decided with the head.
            match frame.transpose().map_err(|_| Gone)?.map(Frame::into_data) {
                None => return Ok(None),
                Some(Ok(data)) => return Ok(Some(data)),
                Some(Err(_trailers)) => {}
            }
        }
    }

    async fn content(&mut self, data: &Bytes) -> Result<(), Gone> {
        let is_chunked = self.framing == Framing::Chunked;
        if is_chunked {
            // Writing to memory cannot fail.
            let _ = write!(self.out, "{:x}\r\n", data.len());
        }
        if self.out.len() + data.len() <= GATHERED_BYTES_MAX {
            self.out.extend_from_slice(data);
        } else {
            self.write_out().await?;
            if data.len() < DIRECT_BYTES_MIN {
                self.out.extend_from_slice(data);
            } else {
                unless_cut(&mut self.body, self.line.write(data)).await?;
            }
        }
        if is_chunked {
            self.out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    async fn write_out(&mut self) -> Result<(), Gone> {
        unless_cut(&mut self.body, self.line.write(&self.out)).await?;
        self.out.clear();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        unless_cut(&mut self.body, self.line.flush()).await
    }
}

/// Waits for the caller to take what it is sent, unless nothing more of the body may be sent.
async fn unless_cut<B: AnswerBody>(
    body: &mut B,
    work: impl Future<Output = Result<(), Gone>>,
) -> Result<(), Gone> {
    let mut work = pin!(work);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => body.poll_cut(context).map(|()| Err(Gone)),
    })
    .await
}
