//! Takes out of the headers what ends at this hop and what only the gateway may say.

use http::header::{self, CONNECTION, COOKIE, EXPECT, HeaderName, UPGRADE};
use http::{HeaderValue, Method, Version};

use crate::fields::Fields;
use crate::fields::value::Value;
use crate::listen::Length;
use crate::refusal::{Reason, Refusal};

/// More names than this in `Connection` are no honest request.
const CONNECTION_NAMES_MAX: usize = 32;

/// Headers that may stand once. `Authorization` and its kind are left to `authenticate`, which has
/// a reason of its own for two of them.
static SINGLE: [HeaderName; 19] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::RANGE,
    header::IF_RANGE,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::ORIGIN,
    header::EXPECT,
    header::UPGRADE,
    header::USER_AGENT,
    header::REFERER,
    header::DATE,
    header::FROM,
    header::MAX_FORWARDS,
    header::SEC_WEBSOCKET_KEY,
];

/// Whether a header speaks to the next hop only (RFC 9110, section 7.6.1).
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Whether only the gateway may write this header: who the caller is, what was asked for, and how
/// the request is named. What a caller sends under these names is dropped on every route.
pub fn is_managed(name: &HeaderName) -> bool {
    /// What the names of such headers begin with after `x-`, the gateway's own and those by which
    /// other gateways, and servers that end TLS, say who calls.
    const STARTS: [&str; 11] = [
        "forwarded-",
        "original-",
        "portcullis-",
        "ssl-",
        "tls-",
        "client-cert",
        "auth-request-",
        "authenticated-",
        "consumer-",
        "credential-",
        "remote-",
    ];
    let name = name.as_str();
    match name.strip_prefix("x-") {
        Some(rest) => {
            STARTS.iter().any(|start| rest.starts_with(start))
                || matches!(
                    rest,
                    "forwarded"
                        | "real-ip"
                        | "client-ip"
                        | "client-dn"
                        | "client-verify"
                        | "anonymous-consumer"
                        | "cluster-client-ip"
                        | "request-id"
                        | "rewrite-url"
                        | "http-method-override"
                        | "http-method"
                        | "method-override"
                )
        }
        // RFC 9440 names `Client-Cert` and `Client-Cert-Chain`.
        None if ["client-cert", "ssl-client-"].iter().any(|start| name.starts_with(start)) => true,
        None => matches!(
            name,
            "forwarded"
                | "true-client-ip"
                | "cf-connecting-ip"
                | "cf-connecting-ipv6"
                | "fastly-client-ip"
                | "remote-user"
                | "traceparent"
                | "tracestate"
        ),
    }
}

/// Refuses names that two servers read as different headers, and single headers that stand twice.
///
/// # Errors
/// [`Reason::HeaderNameRefused`] for `_` or `.` in a name: CGI and its heirs turn `-` into `_`, so
/// `X_Forwarded_For` would arrive as the header that was dropped. [`Reason::HeaderRepeated`].
pub(in crate::head) fn check(headers: &Fields) -> Result<(), Refusal> {
    for (number, name) in headers.keys().enumerate() {
        if name.as_str().bytes().any(|byte| matches!(byte, b'_' | b'.')) {
            return Err(Refusal::new(Reason::HeaderNameRefused).because("a name has a _ or a dot"));
        }
        let is_repeated = headers.keys().take(number).any(|earlier| earlier == name);
        if is_repeated && SINGLE.contains(name) {
            return Err(Refusal::new(Reason::HeaderRepeated).because(name.as_str().to_owned()));
        }
    }
    Ok(())
}

/// Takes `Expect` out; `listen` has answered or will answer it.
///
/// # Errors
/// [`Reason::ExpectationUnsupported`] for any other than `100-continue` (RFC 9110, section 10.1.1).
pub(in crate::head) fn expectation(headers: &mut Fields) -> Result<(), Refusal> {
    if let Some(value) = headers.get(EXPECT) {
        if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(Reason::ExpectationUnsupported.into());
        }
        headers.remove(EXPECT);
    }
    Ok(())
}

/// The protocol that the caller wants to upgrade to. Only `websocket`, by a GET without a body on
/// HTTP/1.1, gets this far; `Upgrade` that `Connection` does not name means nothing.
///
/// `h2c` on a connection without TLS is passed over, as a server may (RFC 9110, section 7.8): clients
/// that offer it go on in HTTP/1.1. It is taken out with `HTTP2-Settings` and never forwarded,
/// so that no service can agree to it and hide what follows from the gateway.
///
/// # Errors
/// [`Reason::UpgradeUnsupported`] for all others, and for `h2c` over TLS, where no honest client
/// offers it (RFC 9113, section 3.1).
pub(in crate::head) fn upgrade(
    headers: &Fields,
    method: &Method,
    version: Version,
    (length, tls): (Length, bool),
) -> Result<Option<HeaderValue>, Refusal> {
    let Some(wanted) = headers.get(UPGRADE) else { return Ok(None) };
    let named = connection_names(headers).any(|name| name.eq_ignore_ascii_case(b"upgrade"));
    if version != Version::HTTP_11 || !named {
        return Ok(None);
    }
    let is_websocket = wanted.as_bytes().eq_ignore_ascii_case(b"websocket");
    if is_websocket && *method == Method::GET && length == Length::None {
        return Ok(Some(HeaderValue::from_static("websocket")));
    }
    if !tls && wanted.as_bytes().eq_ignore_ascii_case(b"h2c") {
        return Ok(None);
    }
    Err(Reason::UpgradeUnsupported.into())
}

/// Removes hop-by-hop headers, then those that `Connection` names, then the managed ones, and
/// joins cookies that came in several lines (RFC 9113, section 8.2.3).
///
/// `Connection` cannot take away what the way relies on: names that are managed, that carry a
/// credential, or that say how the body is to be read stay, whatever it lists.
///
/// # Errors
/// [`Reason::HeaderMalformed`] when `Connection` names more than 32.
pub(in crate::head) fn strip(headers: &mut Fields) -> Result<(), Refusal> {
    let mut unwanted: Vec<HeaderName> = Vec::new();
    if headers.contains_key(CONNECTION) {
        let mut names = connection_names(headers);
        for name in names.by_ref().take(CONNECTION_NAMES_MAX) {
            let usual = [b"close".as_slice(), b"keep-alive", b"upgrade"];
            if usual.iter().any(|usual| name.eq_ignore_ascii_case(usual)) {
                continue;
            }
            if let Ok(name) = HeaderName::from_bytes(name)
                && !is_kept(&name)
            {
                unwanted.push(name);
            }
        }
        if names.next().is_some() {
            return Err(Refusal::new(Reason::HeaderMalformed).because("Connection names too many"));
        }
    }
    headers.retain(|name| {
        !(is_hop_by_hop(name) || is_managed(name) || unwanted.iter().any(|named| named == name))
    });
    join_cookies(headers)
}

/// Whether `Connection` is not believed when it calls this header hop-by-hop.
fn is_kept(name: &HeaderName) -> bool {
    let text = name.as_str();
    let starts = ["content-", "if-", "accept", "sec-", "signature", "access-control-", "x-api-"];
    starts.iter().any(|start| text.starts_with(start))
        || matches!(
            text,
            "host" | "authorization" | "cookie" | "origin" | "date" | "range" | "idempotency-key"
        )
        || is_managed(name)
}

fn connection_names(headers: &Fields) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(CONNECTION)
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
}

fn join_cookies(headers: &mut Fields) -> Result<(), Refusal> {
    if headers.get_all(COOKIE).nth(1).is_none() {
        return Ok(());
    }
    let lines: Vec<&[u8]> = headers.get_all(COOKIE).map(Value::as_bytes).collect();
    let mut joined = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
        .map_err(|_| Refusal::new(Reason::HeaderMalformed).because("cookies cannot be joined"))?;
    joined.set_sensitive(true);
    headers.insert(COOKIE, joined);
    Ok(())
}
