//! Turns a request of HTTP/2 into the same form that HTTP/1 gives, under the same ceilings.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Request, Version};
use http_body::Body as _;

use crate::fields::Fields;
use crate::listen::body::Body;
use crate::listen::bounds::Bounds;
use crate::listen::http1::head::{is_target, plain_number};
use crate::listen::http2::incoming::Incoming;
use crate::listen::{Length, RawHead};
use crate::refusal::Reason;

/// Reads the head of a request; its body stays on its way.
///
/// # Errors
/// What is wrong with it. Most of this h2 has refused before; it stands here so that the way sees
/// the same kind of request whatever protocol brought it.
pub(super) fn read(
    request: Request<hyper::body::Incoming>,
    bounds: &Bounds,
) -> Result<(RawHead, Body), Reason> {
    let (parts, incoming) = request.into_parts();
    let has_ended = incoming.is_end_stream();
    let incoming = Incoming::new(incoming, bounds.body_timeout);
    let target = parts.uri.path_and_query().map_or("*", |path| path.as_str());
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    if target.len() > bounds.target_bytes {
        return Err(Reason::TargetTooLong);
    }
    if !is_target(target.as_bytes()) {
        return Err(Reason::RequestLineMalformed);
    }
    let other_bytes = target.len() + authority.map_or(0, str::len);
    let mut headers = Fields::from(parts.headers);
    check(&headers, other_bytes, bounds)?;
    join_cookies(&mut headers)?;
    let length = length(&headers, has_ended)?;
    let body = match length {
        Length::None => Body::Empty,
        Length::Exactly(_) | Length::Unknown => Body::Streaming(Box::pin(incoming)),
    };
    let head = RawHead {
        target: target.into(),
        authority: authority.map(Into::into),
        method: parts.method,
        version: Version::HTTP_2,
        headers,
        length,
    };
    Ok((head, body))
}

/// The ceilings of HTTP/1 hold here too, and nothing may mean more to an HTTP/1 upstream than it
/// does here (RFC 9113, section 8.2).
fn check(headers: &Fields, other_bytes: usize, bounds: &Bounds) -> Result<(), Reason> {
    let mut bytes = other_bytes;
    for (name, value) in headers.iter() {
        // Name, colon, blank, value, CRLF.
        bytes = bytes.saturating_add(name.as_str().len() + value.len() + 4);
        let is_connections = [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(name)
            || ["keep-alive", "proxy-connection", "http2-settings"].contains(&name.as_str());
        // HTTP/2 lets a name hold a quotation mark, which is no token.
        let is_no_token = name.as_str().contains('"');
        if is_connections || is_no_token || (name == TE && value != "trailers") {
            return Err(Reason::HeaderMalformed);
        }
    }
    if bytes > bounds.header_bytes || headers.len() > bounds.headers {
        return Err(Reason::HeadTooLarge);
    }
    Ok(())
}

/// HTTP/2 may split cookies into many fields, and they belong together (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut Fields) -> Result<(), Reason> {
    let mut crumbs = headers.get_all(COOKIE);
    let (Some(first), Some(_)) = (crumbs.next(), crumbs.next()) else { return Ok(()) };
    let mut joined = first.as_bytes().to_vec();
    drop(crumbs);
    for crumb in headers.get_all(COOKIE).skip(1) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    let joined = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined))
        .map_err(|_| Reason::HeaderMalformed)?;
    headers.insert(COOKIE, joined);
    Ok(())
}

fn length(headers: &Fields, has_ended: bool) -> Result<Length, Reason> {
    let mut lengths = headers.get_all(CONTENT_LENGTH);
    let declared = lengths.next();
    if lengths.next().is_some() {
        return Err(Reason::LengthMalformed);
    }
    let declared = match declared {
        Some(value) => Some(plain_number(value.as_bytes()).ok_or(Reason::LengthMalformed)?),
        None => None,
    };
    match (declared, has_ended) {
        (Some(1..), true) => Err(Reason::LengthMalformed),
        (_, true) | (Some(0), false) => Ok(Length::None),
        (Some(bytes), false) => Ok(Length::Exactly(bytes)),
        (None, false) => Ok(Length::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::listen::settings::tests::plain;

    fn map(fields: &[(&'static str, &'static str)]) -> Fields {
        let mut headers = Fields::new();
        for (name, value) in fields {
            let name = HeaderName::from_static(name);
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn cookies_become_one() {
        let mut headers =
            map(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut headers).unwrap();
        let all: Vec<_> = headers.get_all(COOKIE).collect();
        assert_eq!(all, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn headers_of_a_connection_are_refused() {
        let bounds = plain().bounds;
        for field in [
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "gzip"),
        ] {
            assert_eq!(
                check(&map(&[field]), 0, &bounds),
                Err(Reason::HeaderMalformed),
                "{field:?}"
            );
        }
        assert_eq!(check(&map(&[("te", "trailers")]), 0, &bounds), Ok(()));
        let quoted = HeaderName::from_lowercase(b"a\"b").unwrap();
        let headers: Fields = [(quoted, HeaderValue::from_static("1"))].into_iter().collect();
        assert_eq!(check(&headers, 0, &bounds), Err(Reason::HeaderMalformed));
    }

    #[test]
    fn ceilings_are_those_of_http_1() {
        let bounds = plain().bounds;
        let mut many = Fields::new();
        for _ in 0..=bounds.headers {
            many.append("x", HeaderValue::from_static("1"));
        }
        assert_eq!(check(&many, 0, &bounds), Err(Reason::HeadTooLarge));
        assert_eq!(
            check(&map(&[("x", "1")]), bounds.header_bytes, &bounds),
            Err(Reason::HeadTooLarge)
        );
    }

    #[test]
    fn a_length_is_one_plain_number_and_no_lie() {
        assert_eq!(length(&map(&[("content-length", "5")]), false), Ok(Length::Exactly(5)));
        assert_eq!(length(&map(&[("content-length", "0")]), false), Ok(Length::None));
        assert_eq!(length(&map(&[]), false), Ok(Length::Unknown));
        assert_eq!(length(&map(&[]), true), Ok(Length::None));
        for bad in ["", "+5", "5, 5", "0x5"] {
            let fields = map(&[("content-length", bad)]);
            assert_eq!(length(&fields, false), Err(Reason::LengthMalformed), "{bad:?}");
        }
        let twice = map(&[("content-length", "5"), ("content-length", "5")]);
        assert_eq!(length(&twice, false), Err(Reason::LengthMalformed));
        assert_eq!(length(&map(&[("content-length", "5")]), true), Err(Reason::LengthMalformed));
    }
}
