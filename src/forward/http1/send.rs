//! Writes an HTTP/1 request: head and body gathered into one write where both are at hand.

use std::io::{IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Method;
use http::header::HOST;
use http_body::Body as _;
use tokio::io::AsyncWrite;

use crate::forward::headers::{Outgoing, told_length};
use crate::forward::outbound::Outbound;
use crate::listen::body::Broken;

/// So many parts go out before it is looked whether the answer has already come.
const PARTS_AT_ONCE_MAX: u32 = 16;

/// Room for nearly every head, so that writing it does not move it.
const HEAD_BYTES_USUAL: usize = 1 << 10;

/// What one TLS record holds.
const RECORD_BYTES_MAX: usize = 16 << 10;

/// A request, but for its body.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct Request<'a> {
    pub(in crate::forward) method: &'a Method,
    pub(in crate::forward) path: &'a str,
    pub(in crate::forward) query: Option<&'a str>,
    pub(in crate::forward) host: &'a str,
    pub(in crate::forward) headers: Outgoing<'a>,
}

impl Request<'_> {
    /// Appends the head to `out`, in front of a body of this length, or of an unknown one; false
    /// when a value holds what would end its line.
    pub(super) fn write(&self, out: &mut Vec<u8>, length: Option<u64>) -> bool {
        out.reserve(HEAD_BYTES_USUAL);
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.path.as_bytes());
        if let Some(query) = self.query {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let start = out.len();
        // The host, and how the body is framed.
        let mut lines = 2;
        line(out, HOST.as_str(), self.host.as_bytes());
        for (name, value) in self.headers.passing() {
            line(out, name.as_str(), value.as_bytes());
            lines += 1;
        }
        if let Some(told) = self.headers.told {
            told.each(|name, value| {
                line(out, name, value);
                lines += 1;
            });
        }
        match (length, told_length(self.method, length)) {
            (None, _) => line(out, "transfer-encoding", b"chunked"),
            (_, Some(length)) => {
                line(out, "content-length", itoa::Buffer::new().format(length).as_bytes());
            }
            (Some(_), None) => lines -= 1,
        }
        // Each line has the end that was written here, and nothing else that could end one.
        let written = out.get(start..).unwrap_or_default();
        let is_whole = ends(written) == 2 * lines;
        // These were written once for many requests, of nothing that could end a line.
        if let Some(told) = self.headers.told {
            out.extend_from_slice(told.parties.lines().as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        is_whole
    }
}

/// How many bytes of `written` could end a line or what holds it. There are too many line ends for
/// a search from one to the next; counted in single bytes and without a branch, sixteen and more are
/// looked at in one step.
fn ends(written: &[u8]) -> usize {
    let ends = |byte: &u8| u8::from((*byte == b'\r') | (*byte == b'\n') | (*byte == 0));
    written.chunks(128).map(|part| usize::from(part.iter().map(ends).sum::<u8>())).sum()
}

#[inline]
fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A request on its way out.
pub(super) struct Sending {
    /// What goes ahead of `data`: the head, the sizes of chunks.
    out: Vec<u8>,
    written: usize,
    data: Bytes,
    /// What goes after `data`.
    tail: &'static [u8],
    chunked: bool,
    state: State,
    /// Whether the next bytes are the caller's to send: the upstream has all that came so far.
    pub(super) awaits_caller: bool,
    /// How many parts the connection took so far.
    pub(super) parts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More of the body is still to be had.
    Loading,
    /// The rest is at hand.
    Loaded,
    /// All was written.
    Sent,
    /// The connection takes nothing any more. It may still bring an answer.
    Failed,
}

impl Sending {
    /// A request whose head stands in `out`. A body that lies in memory is left in `body`.
    pub(super) fn new(out: Vec<u8>, body: &Outbound) -> Self {
        let whole = body.whole();
        Self {
            out,
            written: 0,
            state: if whole.is_some() { State::Loaded } else { State::Loading },
            chunked: body.length().is_none(),
            data: whole.unwrap_or_default(),
            tail: &[],
            awaits_caller: false,
            parts: 0,
        }
    }

    /// Whether nothing is left to do, for good or ill.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Sent | State::Failed)
    }

    /// Whether the upstream has all of the request.
    pub(super) fn is_sent(&self) -> bool {
        self.state == State::Sent
    }

    /// Whether the target cannot have seen any of it. What fits into one TLS record is seen whole
    /// or not at all, even when a part of it went out before the connection failed.
    pub(super) fn is_unseen(&self) -> bool {
        let waiting = self.out.len() + self.data.len() + self.tail.len();
        self.parts == 0 && waiting <= RECORD_BYTES_MAX
    }

    /// Gives back the buffer that the head stood in.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.out
    }

    /// Writes what can be written. Ready when it is over.
    ///
    /// # Errors
    /// The body broke off.
    pub(super) fn poll(
        &mut self,
        wire: &mut (impl AsyncWrite + Unpin),
        body: &mut Outbound,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..PARTS_AT_ONCE_MAX {
            // The first part is looked for before the head is written: the two go together.
            if self.state == State::Loading && self.data.is_empty() && self.tail.is_empty() {
                self.awaits_caller = false;
                if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
                    let data = frame.transpose()?.and_then(|frame| frame.into_data().ok());
                    self.load(data, body.length());
                }
            }
            if self.is_written() {
                if ready!(Pin::new(&mut *wire).poll_flush(context)).is_err() {
                    self.state = State::Failed;
                } else if self.state == State::Loading {
                    self.awaits_caller = true;
                    return Poll::Pending;
                } else {
                    self.state = State::Sent;
                }
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_write(wire, context)) {
                Ok(bytes @ 1..) => self.advance(bytes),
                Ok(0) | Err(_) => {
                    self.state = State::Failed;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes the next part of the body, of which `left` bytes follow; nothing at its end.
    fn load(&mut self, data: Option<Bytes>, left: Option<u64>) {
        let is_end = data.is_none();
        if let Some(data) = data {
            if self.chunked {
                // Writing to memory cannot fail.
                let _ = write!(self.out, "{:x}\r\n", data.len());
                self.tail = b"\r\n";
            }
            self.data = data;
        } else if self.chunked {
            self.tail = b"0\r\n\r\n";
        }
        if is_end || left == Some(0) {
            self.state = State::Loaded;
        }
    }

    fn is_written(&self) -> bool {
        self.written == self.out.len() && self.data.is_empty() && self.tail.is_empty()
    }

    fn poll_write(
        &self,
        wire: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let out = self.out.get(self.written..).unwrap_or_default();
        if self.data.is_empty() && self.tail.is_empty() {
            return Pin::new(wire).poll_write(context, out);
        }
        let parts = [IoSlice::new(out), IoSlice::new(&self.data), IoSlice::new(self.tail)];
        Pin::new(wire).poll_write_vectored(context, &parts)
    }

    fn advance(&mut self, bytes: usize) {
        self.parts = self.parts.saturating_add(1);
        let of_out = bytes.min(self.out.len() - self.written);
        self.written += of_out;
        let of_data = (bytes - of_out).min(self.data.len());
        self.data.advance(of_data);
        self.tail = self.tail.get(bytes - of_out - of_data..).unwrap_or_default();
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
    }
}
