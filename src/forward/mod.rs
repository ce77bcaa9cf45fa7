//! Sends a cleared request to a healthy upstream within its deadlines and brings the answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::listen::Stream;
use crate::listen::body::Body;

/// What came back from the upstream.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, without hop-by-hop ones.
    pub headers: HeaderMap,
    /// The body, still on its way. Dropping it early gives the connection up.
    pub body: AnswerBody,
    /// After a 101 that matches what was asked: the stream that the upstream speaks from now on.
    pub upgraded: Option<Box<dyn Stream>>,
    /// From the first byte sent to the head of the answer; for metrics.
    pub first_byte: Duration,
    /// The target that answered, for metrics and the record; an index into the upstream's targets.
    pub target: usize,
}

/// The body of an answer: made by us, or still on its way from the upstream.
pub enum AnswerBody {
    /// Whole in memory; taken once. Empty when there is none.
    Whole(Bytes),
    /// On its way. Its error is `Broken::Upstream`; its idle deadline is held inside.
    Streaming(Body),
}
