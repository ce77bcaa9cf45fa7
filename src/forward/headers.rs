//! What headers are removed, kept and written on the way to an upstream and back.
//!
//! The order matters: what the other side may not say is removed first, ours is written last, so that
//! no `Connection: X-Forwarded-For` removes what we wrote (RFC 9110, section 7.6.1).

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::authenticate::is_credential;
use crate::fields::Fields;
use crate::fields::value::Value;
use crate::forward::identity::IDENTITY;
use crate::head::headers::is_hop_by_hop;
use crate::head::{RequestId, Trace};
use crate::listen::http1::head::plain_number;
use crate::parties::Parties;

/// Trailers of HTTP/2 that may pass: the outcome of a gRPC call. Those of HTTP/1 are never kept.
const TRAILERS: [HeaderName; 2] =
    [HeaderName::from_static("grpc-status"), HeaderName::from_static("grpc-message")];

/// The headers of a request to an upstream, but for the host: what passes of the caller's, and what
/// the gateway says itself. They are put into words only when they are written, so that the caller's
/// are neither copied nor moved.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct Outgoing<'a> {
    /// The caller's, without those that `head` took out, and what the gateway has put among them.
    pub(in crate::forward) passing: &'a Fields,
    /// Whether credentials are among those that pass.
    pub(in crate::forward) keep_credentials: bool,
    /// What the gateway says; nothing for a request of its own.
    pub(in crate::forward) told: Option<&'a Told>,
}

/// What the gateway tells an upstream of one request.
#[derive(Debug)]
pub(in crate::forward) struct Told {
    /// Who asks whom, which has lines of its own.
    pub(in crate::forward) parties: Arc<Parties>,
    pub(in crate::forward) id: RequestId,
    pub(in crate::forward) trace: Trace,
    pub(in crate::forward) upgrade: Option<HeaderValue>,
    /// Whether trailers are asked for: gRPC over HTTP/2 cannot do without.
    pub(in crate::forward) trailers: bool,
}

impl Outgoing<'_> {
    /// The headers of a request that nobody asked for, such as one for a target's health.
    pub(in crate::forward) fn of_our_own(passing: &Fields) -> Outgoing<'_> {
        Outgoing { passing, keep_credentials: true, told: None }
    }

    /// Whether a header of the caller passes.
    ///
    /// How the message is framed and whom it is for is said by who writes it, once.
    pub(in crate::forward) fn passes(&self, name: &HeaderName) -> bool {
        let ours = *name == HOST || *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING;
        !ours && (self.keep_credentials || !is_credential(name))
    }

    /// Shows those of the caller that pass.
    pub(in crate::forward) fn passing(&self) -> impl Iterator<Item = (&HeaderName, Value<'_>)> {
        self.passing.iter().filter(|(name, _)| self.passes(name))
    }
}

impl Told {
    /// Shows each header that the gateway says of this one request.
    pub(in crate::forward) fn each(&self, mut write: impl FnMut(&'static str, &[u8])) {
        write("x-request-id", self.id.as_bytes());
        write("traceparent", &self.trace.parent);
        if let Some(state) = &self.trace.state {
            write("tracestate", state.as_bytes());
        }
        if let Some(protocol) = &self.upgrade {
            write("connection", b"upgrade");
            write("upgrade", protocol.as_bytes());
        }
        if self.trailers {
            write("te", b"trailers");
        }
    }
}

/// The length that has to be said of a body: none where there is none and none is expected
/// (RFC 9110, section 8.6).
pub(in crate::forward) fn told_length(method: &Method, length: Option<u64>) -> Option<u64> {
    let expected = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    length.filter(|&length| length > 0 || expected)
}

/// Whether a request is a call of gRPC.
pub(in crate::forward) fn is_grpc(headers: &Fields) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc"))
}

/// Checks what an HTTP/2 answer says of its length.
///
/// # Errors
/// It is not one plain number.
pub(in crate::forward) fn check_length(headers: &Fields) -> Result<(), &'static str> {
    let mut lengths = headers.get_all(CONTENT_LENGTH);
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(length), None) if plain_number(length.as_bytes()).is_some() => Ok(()),
        (Some(_), _) => Err("the answer's length is not one plain number"),
    }
}

/// Removes from an answer's headers what belongs to its connection, whether `Connection` names it or
/// not, and what it may not say.
pub(in crate::forward) fn incoming(headers: &mut Fields, status: StatusCode) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    // These have no body whose length could be told (RFC 9110, section 8.6).
    let bare = status.is_informational() || status == StatusCode::NO_CONTENT;
    headers.retain(|name| {
        !(is_hop_by_hop(name)
            || name == IDENTITY
            || named.contains(name)
            || (bare && name == CONTENT_LENGTH))
    });
}

/// The trailers that may pass; nothing when none does.
pub(in crate::forward) fn keep_trailers(mut trailers: HeaderMap) -> Option<HeaderMap> {
    let mut kept = HeaderMap::new();
    for name in TRAILERS {
        if let Some(value) = trailers.remove(&name) {
            kept.insert(name, value);
        }
    }
    (!kept.is_empty()).then_some(kept)
}
