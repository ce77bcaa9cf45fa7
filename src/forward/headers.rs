//! What headers are removed, kept and written on the way to an upstream and back.
//!
//! The order matters: what the other side may not say is removed first, ours is written last, so that
//! no `Connection: X-Forwarded-For` removes what we wrote (RFC 9110, section 7.6.1).

use std::fmt::Write;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use crate::forward::identity::IDENTITY;
use crate::forward::upstream::Protocol;
use crate::head::Head;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Headers that belong to one connection, whether `Connection` names them or not.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
];

/// Headers that prove the caller to us and are nobody else's business.
const CREDENTIALS: [HeaderName; 4] = [AUTHORIZATION, X_API_KEY, SIGNATURE, SIGNATURE_INPUT];

/// Names that callers use to pass for somebody or somewhere else. `head` removed them; here they
/// are written anew or not at all.
const MANAGED: [HeaderName; 8] = [
    IDENTITY,
    FORWARDED,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
    TRACEPARENT,
    TRACESTATE,
];

/// Trailers that may pass, and only over HTTP/2: the outcome of a gRPC call.
const TRAILERS: [HeaderName; 2] =
    [HeaderName::from_static("grpc-status"), HeaderName::from_static("grpc-message")];

/// Why headers could not be written: a value that is no header, which `head` does not let happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Unwritable;

/// Turns the caller's headers into those of the request to the upstream, except for `Host`, which
/// may depend on the target, and the identity.
pub(in crate::forward) fn outgoing(
    head: &mut Head,
    body_length: Option<u64>,
    http: Protocol,
    keep_credentials: bool,
) -> Result<(), Unwritable> {
    let mut headers = std::mem::take(&mut head.headers);
    remove_hop_by_hop(&mut headers);
    for name in MANAGED {
        headers.remove(name);
    }
    headers.remove(CONTENT_LENGTH);
    headers.remove(HOST);
    // We have answered this expectation ourselves, or need no answer to it.
    headers.remove(EXPECT);
    if !keep_credentials {
        for name in CREDENTIALS {
            headers.remove(name);
        }
    }
    let host = host(head)?;
    headers.insert(FORWARDED, forwarded(head, &host)?);
    headers.insert(X_FORWARDED_FOR, value(head.client.to_canonical().to_string())?);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(head.scheme));
    headers.insert(X_FORWARDED_HOST, host);
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
    Ok(())
}

/// The host that the caller named, as `Host` writes it.
pub(in crate::forward) fn host(head: &Head) -> Result<HeaderValue, Unwritable> {
    match head.port {
        Some(port) => value(format!("{}:{port}", head.host)),
        None => {
            let host = Bytes::copy_from_slice(head.host.as_bytes());
            HeaderValue::from_maybe_shared(host).map_err(|_| Unwritable)
        }
    }
}

/// What an answer's headers say of its connection. Read before they are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Carriage {
    /// Whether the connection may carry another request.
    pub(in crate::forward) persistent: bool,
    /// Whether `Connection` and `Upgrade` agree on WebSocket.
    pub(in crate::forward) websocket: bool,
}

/// Reads what an HTTP/1 answer says of its framing and connection.
///
/// # Errors
/// When two readers could see two different ends of it (RFC 9112, section 6.3): a length beside a
/// transfer coding, a coding other than exactly one `chunked`, or any coding in HTTP/1.0.
pub(in crate::forward) fn carriage(
    headers: &HeaderMap,
    version: Version,
) -> Result<Carriage, &'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
            return Err("the answer has a transfer coding other than chunked");
        }
        if headers.contains_key(CONTENT_LENGTH) {
            return Err("the answer has both a length and a transfer coding");
        }
        if version != Version::HTTP_11 {
            return Err("the answer has a transfer coding in HTTP/1.0");
        }
    }
    let said = |name: HeaderName, word: &str| {
        headers.get_all(name).iter().any(|value| {
            value
                .as_bytes()
                .split(|byte| *byte == b',')
                .any(|token| token.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        })
    };
    let persistent = match version {
        Version::HTTP_10 | Version::HTTP_09 => said(CONNECTION, "keep-alive"),
        _ => !said(CONNECTION, "close"),
    };
    let websocket = said(CONNECTION, "upgrade") && said(UPGRADE, "websocket");
    Ok(Carriage { persistent, websocket })
}

/// Removes from an answer's headers what belongs to its connection, and what it may not say.
pub(in crate::forward) fn incoming(headers: &mut HeaderMap, status: StatusCode) {
    remove_hop_by_hop(headers);
    headers.remove(IDENTITY);
    // These have no body whose length could be told (RFC 9110, section 8.6).
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
}

/// The trailers that may pass; nothing when none does.
pub(in crate::forward) fn keep_trailers(
    mut trailers: HeaderMap,
    http: Protocol,
) -> Option<HeaderMap> {
    if http != Protocol::Http2 {
        return None;
    }
    let mut kept = HeaderMap::new();
    for name in TRAILERS {
        if let Some(value) = trailers.remove(&name) {
            kept.insert(name, value);
        }
    }
    (!kept.is_empty()).then_some(kept)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
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
