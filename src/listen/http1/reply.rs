//! Writes the head of an HTTP/1 response. How the message is framed is decided here alone.

use std::cell::RefCell;

use http::header::{CONTENT_LENGTH, DATE, UPGRADE};
use http::{HeaderName, Method, StatusCode, Version};

use crate::clock::Now;
use crate::fields::Fields;
use crate::fields::value::Value;
use crate::listen::http1::head::plain_number;

/// What a response must know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    pub(super) version: Version,
    /// The caller lets the connection live on.
    pub(super) persistent: bool,
}

impl Asked {
    pub(super) fn new(method: &Method, version: Version, persistent: bool) -> Self {
        Self { is_head: method == Method::HEAD, version, persistent }
    }

    /// What is assumed of bytes that were no request.
    pub(super) const NOTHING: Self =
        Self { is_head: false, version: Version::HTTP_11, persistent: false };
}

/// How the caller finds the end of the response (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body, whatever a header says.
    Bodiless,
    /// After so many bytes.
    Sized(u64),
    /// After the last chunk.
    Chunked,
    /// Where the connection ends. HTTP/1.0 knows nothing better.
    UntilClose,
}

impl Framing {
    /// The framing of a response whose body says that it has exactly so many bytes, or does not know.
    pub(super) fn choose(asked: Asked, status: StatusCode, exact: Option<u64>) -> Self {
        let bodiless = asked.is_head
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        match exact {
            _ if bodiless => Self::Bodiless,
            Some(bytes) => Self::Sized(bytes),
            None if asked.version == Version::HTTP_11 => Self::Chunked,
            None => Self::UntilClose,
        }
    }
}

/// Appends the head of a response to `out`. `persistent` says whether the connection lives on.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    (status, headers): (StatusCode, &Fields),
    framing: Framing,
    (asked, persistent): (Asked, bool),
    now: Now,
) {
    let upgrades = status == StatusCode::SWITCHING_PROTOCOLS;
    line(out, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason(status)]);
    let mut is_dated = false;
    for (name, value) in headers.iter() {
        if !is_ours(name) || (upgrades && name == UPGRADE) {
            is_dated |= name == DATE;
            line(out, &[name.as_str().as_bytes(), b": ", value.as_bytes()]);
        }
    }
    match framing {
        Framing::Sized(bytes) => {
            line(out, &[b"content-length: ", itoa::Buffer::new().format(bytes).as_bytes()]);
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Bodiless if asked.is_head || status == StatusCode::NOT_MODIFIED => {
            if let Some(length) = declared(headers) {
                line(out, &[b"content-length: ", length.as_bytes()]);
            }
        }
        Framing::Bodiless | Framing::UntilClose => {}
    }
    if !is_dated {
        with_date(now, |date| line(out, &[b"date: ", date]));
    }
    if upgrades {
        out.extend_from_slice(b"connection: Upgrade\r\n");
    } else if !persistent {
        out.extend_from_slice(b"connection: close\r\n");
    } else if asked.version == Version::HTTP_10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// The length that a response without body declares for the one that a GET would bring.
pub(in crate::listen) fn declared(headers: &Fields) -> Option<Value<'_>> {
    let mut lengths = headers.get_all(CONTENT_LENGTH);
    let length = lengths.next().filter(|length| plain_number(length.as_bytes()).is_some())?;
    lengths.next().is_none().then_some(length)
}

/// Whether a header is about the connection or the framing, which are ours to decide.
pub(in crate::listen) fn is_ours(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "transfer-encoding"
            | "upgrade"
            | "te"
            | "trailer"
            | "keep-alive"
            | "proxy-connection"
    )
}

/// Hands `use_date` the value of `Date`, written anew once a second in each worker.
pub(in crate::listen) fn with_date<T>(now: Now, use_date: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static DATE: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    DATE.with_borrow_mut(|(second, date)| {
        if *second != now.unix_s() {
            *second = now.unix_s();
            *date = date_of(now.unix_s());
        }
        use_date(date.as_bytes())
    })
}

/// RFC 9110, section 5.6.7. A year beyond 9999 is not to be had.
fn date_of(unix_s: u64) -> String {
    let stamp = i64::try_from(unix_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&stamp.unwrap_or_default())
        .unwrap_or_default()
}

fn reason(status: StatusCode) -> &'static [u8] {
    status.canonical_reason().unwrap_or_default().as_bytes()
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::clock::Clock;
    use crate::listen::Response;

    fn written(response: Response<()>, exact: Option<u64>, asked: Asked) -> String {
        let (clock, _) = Clock::set_at(784_111_777_000);
        let Response { status, headers, body: () } = response;
        let framing = Framing::choose(asked, status, exact);
        let mut out = Vec::new();
        write_head(&mut out, (status, &headers), framing, (asked, asked.persistent), clock.now());
        String::from_utf8(out).unwrap()
    }

    fn get(version: Version) -> Asked {
        Asked::new(&Method::GET, version, true)
    }

    fn with(headers: &[(&'static str, &'static str)]) -> Response<()> {
        let mut response = Response::new(());
        for (name, value) in headers.iter() {
            response.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        response
    }

    #[test]
    fn framing_is_ours_and_not_the_handlers() {
        let lies = with(&[
            ("content-length", "7"),
            ("transfer-encoding", "gzip"),
            ("connection", "keep-alive, x"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "h2c"),
            ("x-kept", "yes"),
        ]);
        let told = written(lies, Some(5), get(Version::HTTP_11));
        assert_eq!(
            told,
            "HTTP/1.1 200 OK\r\nx-kept: yes\r\ncontent-length: 5\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        );
    }

    #[test]
    fn a_body_of_unknown_length_is_chunked_where_that_is_known() {
        let told = written(with(&[]), None, get(Version::HTTP_11));
        assert!(told.contains("transfer-encoding: chunked\r\n"), "{told}");
        let told = written(with(&[]), None, get(Version::HTTP_10));
        assert!(!told.contains("chunked") && !told.contains("content-length"), "{told}");
        assert!(told.contains("connection: keep-alive\r\n"));
    }

    #[test]
    fn bodiless_answers_declare_only_what_a_get_would_bring() {
        let head = Asked::new(&Method::HEAD, Version::HTTP_11, true);
        let told = written(with(&[("content-length", "7")]), Some(0), head);
        assert!(told.contains("content-length: 7\r\n"), "{told}");
        let told = written(with(&[("content-length", "7, 7")]), Some(0), head);
        assert!(!told.contains("content-length"), "{told}");
        let mut none = with(&[("content-length", "7")]);
        none.status = StatusCode::NO_CONTENT;
        assert!(!written(none, Some(0), get(Version::HTTP_11)).contains("content-length"));
    }
}
