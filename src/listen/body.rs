//! The body of a request: nothing, whole in memory, or still on its way.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::refusal::Reason;

/// A body broke off before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The caller's bytes are no valid body, came too slowly, are too many, or no longer its to send.
    Caller(Reason),
    /// The upstream ended its answer early or sent what is no valid answer.
    Upstream,
    /// The connection was lost, or the other side lost interest.
    Connection,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller(reason) => write!(f, "the request's body broke off: {}", reason.name()),
            Self::Upstream => f.write_str("the upstream's answer broke off"),
            Self::Connection => f.write_str("the connection was lost"),
        }
    }
}

impl std::error::Error for Broken {}

/// The body of a request.
#[derive(Default)]
pub enum Body {
    /// There is none.
    #[default]
    Empty,
    /// It lies whole in memory; taken once.
    Whole(Bytes),
    /// It is still on its way from the caller.
    Streaming(Pin<Box<dyn Incoming>>),
}

/// A body on its way in, whatever protocol carries it.
pub trait Incoming: http_body::Body<Data = Bytes, Error = Broken> + Send {}

impl<T: http_body::Body<Data = Bytes, Error = Broken> + Send> Incoming for T {}

/// The body of an answer, which may have to end before it is whole.
pub trait AnswerBody: http_body::Body<Data = Bytes, Error = Broken> {
    /// Ready when nothing more of it may be sent. It is asked while the caller is slow to take what
    /// it was sent; while the body is polled for more, it says so itself.
    fn poll_cut(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl AnswerBody for Body {}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Streaming(_) => f.write_str("Streaming"),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Streaming(incoming) => incoming.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streaming(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streaming(incoming) => incoming.size_hint(),
        }
    }
}
