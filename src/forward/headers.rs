//! What headers are removed, kept and written on the way to an upstream and back.
//!
//! The order matters: what the other side may not say is removed first, ours is written last, so that
//! no `Connection: X-Forwarded-For` removes what we wrote (RFC 9110, section 7.6.1).

use std::fmt::Write;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST, TE, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::authenticate::is_credential;
use crate::forward::identity::IDENTITY;
use crate::forward::upstream::Protocol;
use crate::head::Head;
use crate::head::headers::{is_hop_by_hop, is_managed};
use crate::listen::http1::head::plain_number;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Why a header does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It belongs to one connection, whether `Connection` names it or not.
    HopByHop,
    /// It says what the gateway alone may say. `head` removed such names from requests already;
    /// here they are written anew or not at all.
    Managed,
    /// It proves the caller to us and is nobody else's business.
    Credential,
    /// It passes.
    Passing,
}

fn kind(name: &HeaderName) -> Kind {
    // We have answered `Expect` ourselves, or need no answer to it.
    const OURS: [HeaderName; 3] = [HOST, CONTENT_LENGTH, EXPECT];
    if is_hop_by_hop(name) {
        Kind::HopByHop
    } else if OURS.contains(name) || is_managed(name) {
        Kind::Managed
    } else if is_credential(name) {
        Kind::Credential
    } else {
        Kind::Passing
    }
}

/// Trailers of HTTP/2 that may pass: the outcome of a gRPC call. Those of HTTP/1 are never kept.
const TRAILERS: [HeaderName; 2] =
    [HeaderName::from_static("grpc-status"), HeaderName::from_static("grpc-message")];

/// Why headers could not be written: a value that is no header, which `head` does not let happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Unwritable;

/// Turns the caller's headers into those of the request to the upstream, except for `Host`, which
/// may depend on the target, and the identity. Gives the host that the caller named.
pub(in crate::forward) fn outgoing(
    head: &mut Head,
    body_length: Option<u64>,
    http: Protocol,
    keep_credentials: bool,
) -> Result<HeaderValue, Unwritable> {
    let mut headers = std::mem::take(&mut head.headers);
    remove(&mut headers, |kind| match kind {
        Kind::HopByHop | Kind::Managed => true,
        Kind::Credential => !keep_credentials,
        Kind::Passing => false,
    });
    let host = host(head)?;
    headers.insert(FORWARDED, forwarded(head, &host)?);
    headers.insert(X_FORWARDED_FOR, value(head.client.to_canonical().to_string())?);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(head.scheme));
    headers.insert(X_FORWARDED_HOST, host.clone());
    let id = Bytes::copy_from_slice(head.id.as_str().as_bytes());
    headers.insert(X_REQUEST_ID, HeaderValue::from_maybe_shared(id).map_err(|_| Unwritable)?);
    headers.insert(TRACEPARENT, head.trace.parent.clone());
    if let Some(state) = &head.trace.state {
        headers.insert(TRACESTATE, state.clone());
    }
    match body_length {
        Some(0) if ![Method::POST, Method::PUT, Method::PATCH].contains(&head.method) => {}
        Some(length) => drop(headers.insert(CONTENT_LENGTH, length.into())),
        None => {}
    }
    if let Some(protocol) = &head.upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    if http == Protocol::Http2 && is_grpc(&headers) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    head.headers = headers;
    Ok(host)
}

/// The host that the caller named, as `Host` writes it.
fn host(head: &Head) -> Result<HeaderValue, Unwritable> {
    match head.port {
        Some(port) => value(format!("{}:{port}", head.host)),
        None => {
            let host = Bytes::copy_from_slice(head.host.as_bytes());
            HeaderValue::from_maybe_shared(host).map_err(|_| Unwritable)
        }
    }
}

/// Checks what an HTTP/2 answer says of its length.
///
/// # Errors
/// It is not one plain number.
pub(in crate::forward) fn check_length(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(length), None) if plain_number(length.as_bytes()).is_some() => Ok(()),
        (Some(_), _) => Err("the answer's length is not one plain number"),
    }
}

/// Removes from an answer's headers what belongs to its connection, and what it may not say.
pub(in crate::forward) fn incoming(headers: &mut HeaderMap, status: StatusCode) {
    remove(headers, |kind| kind == Kind::HopByHop);
    headers.remove(IDENTITY);
    // These have no body whose length could be told (RFC 9110, section 8.6).
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
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

/// Removes what `Connection` names, and every kind that `unwanted` names.
fn remove(headers: &mut HeaderMap, unwanted: impl Fn(Kind) -> bool) {
    let named = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    let kinds = headers.keys().filter(|name| unwanted(kind(name))).cloned();
    let names: Vec<HeaderName> = named.chain(kinds).collect();
    for name in names {
        headers.remove(name);
    }
}

/// RFC 7239: `for=192.0.2.60;proto=https;host=api.example.com`.
fn forwarded(head: &Head, host: &HeaderValue) -> Result<HeaderValue, Unwritable> {
    let mut text = String::with_capacity(64 + host.len());
    let host = host.to_str().map_err(|_| Unwritable)?;
    match head.client.to_canonical() {
        IpAddr::V4(ip) => write!(text, "for={ip}"),
        IpAddr::V6(ip) => write!(text, "for=\"[{ip}]\""),
    }
    .map_err(|_| Unwritable)?;
    // A colon stands in no token (RFC 7239, section 4), so a host with a port is quoted.
    let quote = if host.contains(':') { "\"" } else { "" };
    write!(text, ";proto={};host={quote}{host}{quote}", head.scheme).map_err(|_| Unwritable)?;
    value(text)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc"))
}

fn value(text: String) -> Result<HeaderValue, Unwritable> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(|_| Unwritable)
}
