//! Every malformed head that has ever been read in two ways, and the reason it is refused for.

use bytes::Bytes;
use http::Version;
use proptest::prelude::*;

use crate::listen::Length;
use crate::listen::bounds::Bounds;
use crate::listen::http1::head::{Parsed, Scan};
use crate::listen::settings::tests::plain;
use crate::refusal::Reason;

/// Reads a head that comes in these pieces.
fn read(pieces: &[&[u8]], bounds: &Bounds) -> Result<Option<Parsed>, Reason> {
    let mut scan = Scan::default();
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(piece);
        if let Some(end) = scan.advance(&bytes, bounds)? {
            bytes.truncate(end);
            return scan.read(&Bytes::from(bytes)).map(Some);
        }
    }
    Ok(None)
}

pub(super) fn whole(bytes: &[u8]) -> Result<Option<Parsed>, Reason> {
    read(&[bytes], &plain().bounds)
}

use Reason::{
    FramingAmbiguous, HeadTooLarge, HeaderMalformed, LengthMalformed, RequestLineMalformed,
    TargetTooLong, TransferCodingUnsupported, VersionUnsupported,
};

/// Request lines, without their CRLF.
pub(super) const BAD_LINES: &[(&str, Reason)] = &[
    ("", RequestLineMalformed),
    ("GET", RequestLineMalformed),
    ("GET /", RequestLineMalformed),
    ("GET  / HTTP/1.1", RequestLineMalformed),
    ("GET /  HTTP/1.1", RequestLineMalformed),
    ("GET / HTTP/1.1 ", RequestLineMalformed),
    (" GET / HTTP/1.1", RequestLineMalformed),
    ("GET\t/ HTTP/1.1", RequestLineMalformed),
    ("GET /\tHTTP/1.1", RequestLineMalformed),
    ("GET /a b HTTP/1.1", RequestLineMalformed),
    ("GET / http/1.1", RequestLineMalformed),
    ("GET / HTTP/1", RequestLineMalformed),
    ("GET / HTTP/1.10", RequestLineMalformed),
    ("GET / HTTP/01.1", RequestLineMalformed),
    ("GET / HTTPS/1.1", RequestLineMalformed),
    ("GET / HTTP/1.2", VersionUnsupported),
    ("GET / HTTP/0.9", VersionUnsupported),
    ("GET / HTTP/3.0", VersionUnsupported),
    ("PRI * HTTP/2.0", VersionUnsupported),
    ("G(T / HTTP/1.1", RequestLineMalformed),
    ("G\"T / HTTP/1.1", RequestLineMalformed),
    ("GÉT / HTTP/1.1", RequestLineMalformed),
    ("AMETHODTHATISLONGERTHAN32BYTESLONG / HTTP/1.1", RequestLineMalformed),
    ("GET /caf\u{e9} HTTP/1.1", RequestLineMalformed),
    ("GET /a#b HTTP/1.1", RequestLineMalformed),
    ("GET # HTTP/1.1", RequestLineMalformed),
    ("GET /a\0b HTTP/1.1", RequestLineMalformed),
    ("GET /a\u{7f} HTTP/1.1", RequestLineMalformed),
    ("GET /<a> HTTP/1.1", RequestLineMalformed),
    ("GET /?\"a\" HTTP/1.1", RequestLineMalformed),
    ("GET /a`b HTTP/1.1", RequestLineMalformed),
    ("GET /a\rb HTTP/1.1", RequestLineMalformed),
    ("GET / HTTP/1.1\r", RequestLineMalformed),
    ("GET http:// HTTP/1.1", RequestLineMalformed),
    ("GET a/b HTTP/1.1", RequestLineMalformed),
    ("GET ?a HTTP/1.1", RequestLineMalformed),
];

/// Header lines of a POST, each with its CRLF.
pub(super) const BAD_HEADERS: &[(&str, Reason)] = &[
    ("Host\r\n", HeaderMalformed),
    (": empty\r\n", HeaderMalformed),
    ("Host : a\r\n", HeaderMalformed),
    ("Host\t: a\r\n", HeaderMalformed),
    (" Host: a\r\n", HeaderMalformed),
    ("A: b\r\n c\r\n", HeaderMalformed),
    ("A: b\r\n\tc\r\n", HeaderMalformed),
    ("A B: c\r\n", HeaderMalformed),
    ("A(: c\r\n", HeaderMalformed),
    ("A\"B: c\r\n", HeaderMalformed),
    ("\u{e9}: c\r\n", HeaderMalformed),
    ("A\0: c\r\n", HeaderMalformed),
    ("A: b\0c\r\n", HeaderMalformed),
    ("A: b\u{1}c\r\n", HeaderMalformed),
    ("A: b\u{7f}c\r\n", HeaderMalformed),
    ("A: b\rc\r\n", HeaderMalformed),
    ("A: b\r\r\n", HeaderMalformed),
    ("A: b\n", HeaderMalformed),
    ("A: b\nC: d\r\n", HeaderMalformed),
    ("\n", HeaderMalformed),
    ("\r\r\n", HeaderMalformed),
    ("Content-Length:\r\n", LengthMalformed),
    ("Content-Length: \r\n", LengthMalformed),
    ("Content-Length: +5\r\n", LengthMalformed),
    ("Content-Length: -5\r\n", LengthMalformed),
    ("Content-Length: 0x5\r\n", LengthMalformed),
    ("Content-Length: 5, 5\r\n", LengthMalformed),
    ("Content-Length: 5,6\r\n", LengthMalformed),
    ("Content-Length: 5 5\r\n", LengthMalformed),
    ("Content-Length: 5.0\r\n", LengthMalformed),
    ("Content-Length: 5\r\nContent-Length: 5\r\n", LengthMalformed),
    ("Content-Length: 5\r\ncontent-length: 6\r\n", LengthMalformed),
    ("Content-Length: 9223372036854775809\r\n", LengthMalformed),
    ("Content-Length: 18446744073709551616\r\n", LengthMalformed),
    ("Content-Length: 99999999999999999999999999\r\n", LengthMalformed),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", FramingAmbiguous),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", FramingAmbiguous),
    ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", FramingAmbiguous),
    ("Transfer-Encoding: gzip, chunked\r\n", TransferCodingUnsupported),
    ("Transfer-Encoding: chunked, identity\r\n", TransferCodingUnsupported),
    ("Transfer-Encoding: chunked, chunked\r\n", TransferCodingUnsupported),
    ("Transfer-Encoding: x, chunked\r\n", TransferCodingUnsupported),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TransferCodingUnsupported),
    ("Transfer-Encoding: identity\r\n", TransferCodingUnsupported),
    ("Transfer-Encoding:\r\n", TransferCodingUnsupported),
    ("Transfer-Encoding: \u{b}chunked\r\n", HeaderMalformed),
    ("Transfer-Encoding: chunked;q=1\r\n", TransferCodingUnsupported),
    ("Transfer-Encoding: \"chunked\"\r\n", TransferCodingUnsupported),
    ("Transfer-Encoding : chunked\r\n", HeaderMalformed),
    ("Transfer-Encoding\r\n : chunked\r\n", HeaderMalformed),
];

pub(super) fn with_line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

pub(super) fn with_headers(headers: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{headers}\r\n").into_bytes()
}

#[test]
fn malformed_request_lines_are_refused_for_their_reason() {
    for (line, reason) in BAD_LINES {
        assert_eq!(whole(&with_line(line)).unwrap_err(), *reason, "{line:?}");
    }
}

#[test]
fn malformed_headers_are_refused_for_their_reason() {
    for (headers, reason) in BAD_HEADERS {
        assert_eq!(whole(&with_headers(headers)).unwrap_err(), *reason, "{headers:?}");
    }
}

#[test]
fn http_1_0_knows_no_transfer_coding() {
    let bytes = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(whole(bytes).unwrap_err(), TransferCodingUnsupported);
}

#[test]
fn other_protocols_are_refused_at_their_first_bytes() {
    assert_eq!(whole(b"\x16\x03\x01\x02\x00\x01").unwrap_err(), RequestLineMalformed);
    assert_eq!(whole(b"\r\nGET / HTTP/1.1\r\n").unwrap_err(), RequestLineMalformed);
    assert_eq!(whole(b"PRI * HTTP/2.0\r\n").unwrap_err(), VersionUnsupported);
    assert_eq!(whole(b"GET / HTTP/1.1\nHost: a\n").unwrap_err(), RequestLineMalformed);
}

#[test]
fn every_ceiling_has_its_reason() {
    let line = |target: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(target - 1));
    assert!(whole(line(8192).as_bytes()).unwrap().is_some());
    assert_eq!(whole(line(8193).as_bytes()).unwrap_err(), TargetTooLong);
    assert_eq!(whole(line(100_000).as_bytes()).unwrap_err(), TargetTooLong);
    assert_eq!(whole("A".repeat(9000).as_bytes()).unwrap_err(), RequestLineMalformed);

    let many = |count: usize| with_headers(&"a: b\r\n".repeat(count - 1));
    assert!(whole(&many(100)).unwrap().is_some());
    assert_eq!(whole(&many(101)).unwrap_err(), HeadTooLarge);
    assert_eq!(
        whole(&with_headers(&format!("a: {}\r\n", "b".repeat(16_384)))).unwrap_err(),
        HeadTooLarge
    );
    let name = |length: usize| with_headers(&format!("{}: b\r\n", "n".repeat(length)));
    assert!(whole(&name(256)).unwrap().is_some());
    assert_eq!(whole(&name(257)).unwrap_err(), HeaderMalformed);
}

#[test]
fn a_good_head_is_read_as_it_stands() {
    let parsed = whole(
        b"PATCH /v1/tasks?a=%20&dueDate[lt]=x HTTP/1.1\r\nHost: a.example\r\nX-Two: 1\r\nX-Two:\t2 \t\r\nX-Empty:\r\nX-Raw: \xe9\r\nContent-Length: 05\r\n\r\nrest",
    )
    .unwrap()
    .unwrap();
    let raw = parsed.raw;
    assert_eq!(raw.method, "PATCH");
    assert_eq!(&*raw.target, "/v1/tasks?a=%20&dueDate[lt]=x");
    assert_eq!((raw.version, raw.length), (Version::HTTP_11, Length::Exactly(5)));
    let twice: Vec<_> = raw.headers.get_all("x-two").collect();
    assert_eq!(twice, ["1", "2"]);
    assert_eq!(raw.headers.get("x-empty").unwrap(), "");
    assert_eq!(raw.headers.get("x-raw").unwrap().as_bytes(), b"\xe9");
    assert!(parsed.persistent && !parsed.expects_continue);
}

#[test]
fn a_connection_lives_on_as_its_version_and_headers_say() {
    for (head, persistent) in [
        ("GET / HTTP/1.1\r\n", true),
        ("GET / HTTP/1.1\r\nConnection: x, Close\r\n", false),
        ("GET / HTTP/1.0\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n", false),
    ] {
        let parsed = whole(format!("{head}\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!(parsed.persistent, persistent, "{head:?}");
    }
}

/// What two readings are compared by.
fn verdict(read: Result<Option<Parsed>, Reason>) -> Result<String, Reason> {
    read.map(|parsed| format!("{parsed:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pieces_are_read_as_the_whole_is(
        line in "([A-Z]{1,4} /[a-z?#\u{e9}]{0,4} HTTP/1\\.[012]|[ -~\r\n]{0,12})",
        headers in "([A-Za-z-]{0,4}: ?[a-z\u{0}\u{e9}]{0,3}\r?\n|Content-Length: [0-9]{0,2}\r\n|Transfer-Encoding: chunked\r\n){0,4}",
        at in 0usize..96,
    ) {
        let bytes = format!("{line}\r\n{headers}\r\nmore").into_bytes();
        let (first, second) = bytes.split_at(at.min(bytes.len()));
        let mut bounds = plain().bounds;
        (bounds.headers, bounds.header_bytes, bounds.target_bytes) = (3, 80, 4);
        prop_assert_eq!(
            verdict(read(&[&bytes], &bounds)),
            verdict(read(&[first, second], &bounds))
        );
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = whole(&bytes);
        let mut request = b"GET / HTTP/1.1\r\n".to_vec();
        request.extend_from_slice(&bytes);
        request.extend_from_slice(b"\r\n\r\n");
        let _ = whole(&request);
    }
}
