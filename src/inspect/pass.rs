//! Lets a body pass, counted.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::listen::body::{Body, Broken, Incoming};
use crate::listen::gather::too_large;
use crate::refusal::{Reason, Refusal};

/// A body that passes without being read whole, and breaks off when it gets too large.
pub(in crate::inspect) struct Limited {
    incoming: Pin<Box<dyn Incoming>>,
    left: u64,
    ended: bool,
}

/// Lets a body pass up to `bytes_max`.
pub(in crate::inspect) fn limited(body: Body, bytes_max: u64) -> Result<Body, Refusal> {
    match body {
        Body::Empty => Ok(Body::Empty),
        Body::Whole(bytes) if bytes.len() as u64 > bytes_max => Err(too_large(bytes_max)),
        Body::Whole(bytes) => Ok(Body::Whole(bytes)),
        Body::Streaming(incoming) => {
            Ok(Body::Streaming(Box::pin(Limited { incoming, left: bytes_max, ended: false })))
        }
    }
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        while !self.ended {
            let frame = match self.incoming.as_mut().poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => break,
                Poll::Ready(Some(frame)) => frame,
            };
            let Ok(data) = (match frame {
                Ok(frame) => frame.into_data(),
                Err(broken) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(broken)));
                }
            }) else {
                // Trailers. Nothing has inspected them, so they do not pass.
                continue;
            };
            if let Some(left) = self.left.checked_sub(data.len() as u64) {
                self.left = left;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            self.ended = true;
            return Poll::Ready(Some(Err(Broken::Caller(Reason::BodyTooLarge))));
        }
        self.ended = true;
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
