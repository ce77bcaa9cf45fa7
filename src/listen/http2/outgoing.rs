//! Turns what the handler answers into a response of HTTP/2, whose length is never a lie.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::clock::Now;
use crate::fields::value::Value;
use crate::listen::body::Broken;
use crate::listen::http1::reply::{declared, is_ours, with_date};
use crate::listen::http2::Flight;

/// The body of an answer; the request is in flight until it ends.
pub(super) struct Answering<B> {
    /// Nothing where no body may follow, such as after HEAD.
    body: Option<B>,
    /// Bytes that were promised and have not come.
    left: Option<u64>,
    _flight: Flight,
}

/// Makes the response: headers of a connection go, `Content-Length` is ours, `Date` is added.
pub(super) fn response<B: Body>(
    response: crate::listen::Response<B>,
    is_head: bool,
    now: Now,
    flight: Flight,
) -> Response<Answering<B>> {
    let crate::listen::Response { mut status, mut headers, body } = response;
    if status.is_informational() {
        // There are no upgrades here, and hyper sends one final answer.
        status = StatusCode::INTERNAL_SERVER_ERROR;
    }
    let keeps_declared = is_head || status == StatusCode::NOT_MODIFIED;
    let is_bodiless = keeps_declared || status == StatusCode::NO_CONTENT;
    let length =
        keeps_declared.then(|| declared(&headers).and_then(Value::to_header_value)).flatten();
    headers.retain(|name| !is_ours(name));
    let left = if is_bodiless { Some(0) } else { body.size_hint().exact() };
    match length {
        Some(length) => {
            headers.append(CONTENT_LENGTH, length);
        }
        None => {
            if let Some(bytes) = left.filter(|_| !is_bodiless) {
                headers.append(CONTENT_LENGTH, HeaderValue::from(bytes));
            }
        }
    }
    if !headers.contains_key(DATE)
        && let Ok(date) = with_date(now, HeaderValue::from_bytes)
    {
        headers.append(DATE, date);
    }
    let body = (!is_bodiless).then_some(body);
    let mut response = Response::new(Answering { body, left, _flight: flight });
    *response.status_mut() = status;
    *response.headers_mut() = headers.into();
    response
}

impl<B: Body<Data = Bytes, Error = Broken> + Unpin> Body for Answering<B> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        let Some(left) = self.left else { return Poll::Ready(frame) };
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            Some(Err(_)) => 0,
            None if left > 0 => return Poll::Ready(Some(Err(Broken::Upstream))),
            None => 0,
        };
        let Some(left) = left.checked_sub(bytes) else {
            return Poll::Ready(Some(Err(Broken::Upstream)));
        };
        self.left = Some(left);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.body, self.left) {
            // hyper would write a length of its own beside the one that HEAD declares.
            (None, _) => SizeHint::default(),
            (Some(_), Some(left)) => SizeHint::with_exact(left),
            (Some(body), None) => body.size_hint(),
        }
    }
}
