//! Turns a request's first part into a `Head`, or refuses it as ambiguous.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Version};

use crate::listen::{Length, Peer};

/// The first part of a request: unambiguous, canonical, and without anything that the caller has no
/// business to say.
#[derive(Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The canonical path. This one string is matched, inspected and forwarded.
    pub path: Box<str>,
    /// The query without its `?`, as sent; nothing when there was no `?`.
    pub query: Option<Box<str>>,
    /// The host in lower case, without port and without a trailing dot; IPv6 in brackets.
    pub host: Box<str>,
    /// The port that the caller named, if it named one.
    pub port: Option<u16>,
    /// `https` or `http`: what the connection is.
    pub scheme: &'static str,
    /// The request target byte for byte as sent, for signatures.
    pub target: Box<str>,
    /// HTTP/1.0, 1.1 or 2.
    pub version: Version,
    /// The headers, without hop-by-hop ones and without the managed ones, which only we may write.
    pub headers: HeaderMap,
    /// How long the body says it is.
    pub length: Length,
    /// The protocol that the caller wants to upgrade to; only `websocket` gets this far.
    pub upgrade: Option<HeaderValue>,
    /// The address of the caller, found from right to left through trusted proxies.
    pub client: IpAddr,
    /// The connection's other end.
    pub peer: Arc<Peer>,
    /// The name of this request everywhere: answer, log, upstream.
    pub id: RequestId,
    /// The trace that this request belongs to (W3C Trace Context).
    pub trace: Trace,
}

/// The name of one request: 26 characters, sortable by time (ULID).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub(crate) [u8; 26]);

/// The trace that a request belongs to: the caller's when it sent a valid one, otherwise a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The value of `traceparent` for the upstream: same trace, our own parent id.
    pub parent: HeaderValue,
    /// The caller's `tracestate`, passed on only with a valid `traceparent`.
    pub state: Option<HeaderValue>,
}

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
