//! HTTP/2 towards callers: the same answers as over HTTP/1, and frames that no honest client sends.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::harness::{Gate, POLICY, Plan, Reply, Service, Tls};
use crate::refusals::{reason_of, record, wait_until};

/// One request over a connection of its own, and its answer.
pub fn ask(gate: &Gate, request: http::request::Builder, body: &[u8]) -> Reply {
    exchange(gate, request.body(Full::new(Bytes::copy_from_slice(body))).unwrap())
}

/// The same with any kind of body.
pub fn exchange<B>(gate: &Gate, request: http::Request<B>) -> Reply
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut sender = connect(gate.tls(), &gate.ca()).await;
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers.iter().map(header).collect(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    })
}

pub async fn connect<B>(address: SocketAddr, ca: &std::path::Path) -> http2::SendRequest<B>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls =
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub fn request(method: &str, target: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(format!("https://localhost{target}"))
}

fn with_key(gate: &Gate, method: &str, target: &str) -> http::request::Builder {
    request(method, target).header("authorization", format!("Bearer {}", gate.first_key()))
}

#[test]
fn requests_pass_as_they_do_over_http_1() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let reply = ask(
        &gate,
        with_key(&gate, "GET", "/v1/things?a=1").header("cookie", "a=1").header("cookie", "b=2"),
        b"",
    );
    assert_eq!((reply.status, reply.body.as_str()), (200, "{\"ok\":true}"));
    let seen = service.requests().pop().unwrap();
    assert!(seen.starts_with("GET /v1/things?a=1 HTTP/1.1\r\n"), "{seen}");
    let lower = seen.to_lowercase();
    assert!(
        lower.contains("\r\nhost: localhost\r\n") && lower.contains("\r\ncookie: a=1; b=2\r\n"),
        "{seen}"
    );
    assert!(
        lower.contains("\r\nx-forwarded-proto: https\r\n") && !lower.contains("authorization"),
        "{seen}"
    );
    assert!(
        reply.header("x-ratelimit-limit").is_some() && reply.header("server").is_none(),
        "{reply:?}"
    );
    let record = record(&gate, reply.header("x-request-id").unwrap());
    assert_eq!(
        (record["decision"].as_str(), record["route"].as_str()),
        (Some("allow"), Some("list"))
    );
    let head = ask(&gate, with_key(&gate, "HEAD", "/v1/things"), b"");
    assert_eq!(
        (head.status, head.body.as_str(), head.header("content-length")),
        (200, "", Some("11"))
    );
}

#[test]
fn refusals_have_their_one_shape() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    for (asked, body, status, reason) in [
        (request("GET", "/v1/things"), b"".as_slice(), 401, "credential-missing"),
        (with_key(&gate, "GET", "/v1/nothing"), b"", 404, "route-unknown"),
        (with_key(&gate, "DELETE", "/v1/things"), b"", 405, "method-not-allowed"),
        (with_key(&gate, "GET", "/v1/a%2fb"), b"", 400, "path-ambiguous"),
        (with_key(&gate, "GET", "/v1/things?api_key=1"), b"", 400, "credential-in-query"),
        (
            with_key(&gate, "GET", "/v1/things").header("x_forwarded_user", "admin"),
            b"",
            400,
            "header-name-refused",
        ),
        (
            with_key(&gate, "POST", "/v1/things").header("content-type", "application/json"),
            b"{",
            400,
            "json-malformed",
        ),
        (
            with_key(&gate, "POST", "/v1/things").header("content-type", "text/plain"),
            b"{}",
            415,
            "content-type-refused",
        ),
        (
            with_key(&gate, "GET", "/v1/open").header("host", "example.com"),
            b"",
            400,
            "host-malformed",
        ),
        (
            http::Request::builder().method("GET").uri("https://example.com/v1/open"),
            b"",
            421,
            "host-mismatch",
        ),
        (with_key(&gate, "TRACE", "/v1/open"), b"", 405, "method-unsupported"),
    ] {
        let reply = ask(&gate, asked, body);
        assert_eq!(reply.status, status, "{reason}: {reply:?}");
        assert_eq!(reason_of(&gate, &reply), reason);
        match status {
            401 => assert_eq!(
                reply.body,
                r#"{"error":{"code":"unauthorized","message":"Invalid or missing API key"}}"#
            ),
            _ => assert_eq!(reply.reason(), reason),
        }
    }
    assert_eq!(service.requests(), Vec::<String>::new());
}

#[test]
fn large_bodies_pass_whole_or_are_refused() {
    let service = Service::answering(|request| {
        let body = "b".repeat(2_000_000);
        let length = request.split("\r\n\r\n").nth(1).unwrap_or_default().len();
        format!(
            "HTTP/1.1 200 OK\r\nX-Test: {length}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    let gate = Gate::new(service.address, POLICY);
    let reply = ask(&gate, with_key(&gate, "PUT", "/v1/files/a"), &vec![b'a'; 4_000_000]);
    assert_eq!(
        (reply.status, reply.header("x-test"), reply.body.len()),
        (200, Some("4000000"), 2_000_000)
    );
    let seen = service.requests().len();
    let large = format!("\"{}\"", "a".repeat(70_000));
    let reply = ask(
        &gate,
        with_key(&gate, "POST", "/v1/things").header("content-type", "application/json"),
        large.as_bytes(),
    );
    assert_eq!((reply.status, reply.reason().as_str()), (413, "body-too-large"));
    assert_eq!(service.requests().len(), seen);
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as HPACK literals that are neither indexed nor compressed (RFC 7541, section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fn text(text: &str, into: &mut Vec<u8>) {
        match u8::try_from(text.len()) {
            Ok(short @ ..127) => into.push(short),
            _ => {
                into.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    into.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                into.push(rest as u8);
            }
        }
        into.extend(text.bytes());
    }
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(name, &mut block);
        text(value, &mut block);
    }
    block
}

fn asking<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let mut fields = vec![
        (":method", method),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
    ];
    fields.extend(more);
    block(&fields)
}

/// A connection whose frames are written by hand.
struct Raw {
    tls: Tls,
    unread: Vec<u8>,
}

/// A frame that came: kind, flags, stream, payload.
type Came = (u8, u8, u32, Vec<u8>);

impl Raw {
    fn new(gate: &Gate) -> Self {
        let mut raw = Self { tls: gate.connect_as("localhost", &[b"h2"]), unread: Vec::new() };
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.send(&frame(SETTINGS, 0, 0, &[]));
        raw
    }

    /// Whether the bytes were taken.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.tls.write_all(bytes).and_then(|()| self.tls.flush()).is_ok()
    }

    /// The next frame; nothing once the connection has ended or is silent.
    fn next(&mut self) -> Option<Came> {
        loop {
            if let [a, b, c, kind, flags, d, e, f, g, rest @ ..] = &self.unread[..] {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if rest.len() >= length {
                    let came = (
                        *kind,
                        *flags,
                        u32::from_be_bytes([*d & 127, *e, *f, *g]),
                        rest[..length].to_vec(),
                    );
                    self.unread.drain(..9 + length);
                    return Some(came);
                }
            }
            let mut chunk = [0; 16 * 1024];
            match self.tls.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.unread.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// What became of a stream.
    fn outcome(&mut self, stream: u32) -> Outcome {
        let mut body = Vec::new();
        loop {
            match self.next() {
                None => return Outcome::Closed,
                Some((GOAWAY, _, _, payload)) if payload[4..8] != [0; 4] => {
                    return Outcome::GoneAway(u32::from_be_bytes(
                        payload[4..8].try_into().unwrap(),
                    ));
                }
                Some((RST_STREAM, _, of, payload)) if of == stream => {
                    return Outcome::Reset(u32::from_be_bytes(payload.try_into().unwrap()));
                }
                Some((HEADERS, flags, of, _)) if of == stream && flags & END_STREAM != 0 => {
                    return Outcome::Answered(String::new());
                }
                Some((DATA, flags, of, payload)) if of == stream => {
                    body.extend(payload);
                    if flags & END_STREAM != 0 {
                        return Outcome::Answered(String::from_utf8(body).unwrap());
                    }
                }
                Some(_) => {}
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// With this body.
    Answered(String),
    /// The stream was reset, with this code.
    Reset(u32),
    /// The connection was given up, with this code.
    GoneAway(u32),
    Closed,
}

impl Outcome {
    fn is_refusal(&self, reason: &str) -> bool {
        matches!(self, Self::Answered(body) if body.contains(&format!("\"reason\":\"{reason}\"")))
    }
}

/// Sends frames until the gateway ends the connection; how many it took, and how it ended.
fn flood(gate: &Gate, count: usize, mut frames: impl FnMut(usize) -> Vec<u8>) -> (usize, Outcome) {
    let mut raw = Raw::new(gate);
    let mut taken = 0;
    while taken < count {
        let batch: Vec<u8> = (taken..count.min(taken + 50)).flat_map(&mut frames).collect();
        if !raw.send(&batch) {
            break;
        }
        taken += 50;
    }
    raw.tls.sock.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let outcome = raw.outcome(u32::MAX);
    (taken, outcome)
}

/// Whether somebody else is served, and soon.
fn others_are_served(gate: &Gate) {
    let begun = Instant::now();
    assert_eq!(gate.send("GET /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// Floods end with the connection: told so, or cut.
fn ends(outcome: &Outcome) -> bool {
    const ENHANCE_YOUR_CALM: u32 = 11;
    matches!(outcome, Outcome::GoneAway(ENHANCE_YOUR_CALM) | Outcome::Closed)
}

fn stream(number: usize) -> u32 {
    u32::try_from(number * 2 + 1).unwrap()
}

#[test]
fn streams_that_are_opened_and_reset_end_the_connection() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let ask = asking("GET", "/v1/open", &[]);
    let (taken, outcome) = flood(&gate, 10_000, |number| {
        [
            frame(HEADERS, END_HEADERS | END_STREAM, stream(number), &ask),
            frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes()),
        ]
        .concat()
    });
    assert!(ends(&outcome), "CVE-2023-44487: {outcome:?} after {taken}");
    assert!(
        service.requests().len() < 2_000,
        "{} requests reached the service",
        service.requests().len()
    );
    wait_until("nothing is left in flight", || {
        gate.metric("portcullis_requests_in_flight{listener=\"public\"}") == 0.0
    });
    others_are_served(&gate);
}

#[test]
fn streams_that_we_are_made_to_reset_end_the_connection() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let ask = asking("POST", "/v1/things", &[]);
    // An increment of 0 is an error of the stream, which we have to reset.
    let (taken, outcome) = flood(&gate, 10_000, |number| {
        [
            frame(HEADERS, END_HEADERS, stream(number), &ask),
            frame(WINDOW_UPDATE, 0, stream(number), &0_u32.to_be_bytes()),
        ]
        .concat()
    });
    assert!(
        matches!(outcome, Outcome::GoneAway(_) | Outcome::Closed),
        "CVE-2025-8671: {outcome:?} after {taken}"
    );
    others_are_served(&gate);
}

#[test]
fn frames_that_carry_nothing_end_the_connection() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let open = frame(HEADERS, END_HEADERS, 1, &asking("PUT", "/v1/files/a", &[]));
    for (name, one) in [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("SETTINGS with a value", frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0])),
        ("an ACK that nobody waits for", frame(PING, ACK, 0, &[0; 8])),
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 16])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("a kind that nobody knows", frame(0xbe, 0, 0, b"?")),
    ] {
        let (taken, outcome) = flood(&gate, 20_000, |_| one.clone());
        assert!(
            matches!(outcome, Outcome::GoneAway(_) | Outcome::Closed),
            "{name}: {outcome:?} after {taken}"
        );
    }
    let (taken, outcome) = flood(&gate, 20_000, |number| match number {
        0 => open.clone(),
        _ => frame(DATA, 0, 1, b""),
    });
    assert!(ends(&outcome), "RUSTSEC-2026-0258: empty DATA: {outcome:?} after {taken}");
    others_are_served(&gate);
}

#[test]
fn a_head_without_end_ends_the_connection() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let more = block(&[("x-a", &"a".repeat(1000))]);
    let (taken, outcome) = flood(&gate, 100_000, |number| match number {
        0 => frame(HEADERS, 0, 1, &asking("GET", "/v1/open", &[])),
        _ => frame(CONTINUATION, 0, 1, &more),
    });
    assert!(
        matches!(outcome, Outcome::GoneAway(_) | Outcome::Closed),
        "CVE-2024-27316: {outcome:?}"
    );
    assert!(taken < 50_000, "{taken} frames were taken");
    let (_, outcome) = flood(&gate, 100_000, |number| match number {
        0 => frame(HEADERS, 0, 1, &asking("GET", "/v1/open", &[])),
        _ => frame(CONTINUATION, 0, 1, b""),
    });
    assert!(
        matches!(outcome, Outcome::GoneAway(_) | Outcome::Closed),
        "empty CONTINUATION: {outcome:?}"
    );
    others_are_served(&gate);
}

#[test]
fn crumbs_of_cookies_count_as_headers() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    for (name, count, crumb) in [
        ("many small ones", 3000, "a"),
        ("many", 150, "a=b"),
        (
            "few large ones",
            20,
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ),
    ] {
        let crumb = crumb.repeat(if count == 20 { 10 } else { 1 });
        let fields: Vec<(&str, &str)> = (0..count).map(|_| ("cookie", crumb.as_str())).collect();
        let block = asking("GET", "/v1/open", &fields);
        let mut raw = Raw::new(&gate);
        let mut parts = block.chunks(16_000).peekable();
        let first = parts.next().unwrap();
        let flags = if parts.peek().is_none() { END_HEADERS } else { 0 };
        raw.send(&frame(HEADERS, flags | END_STREAM, 1, first));
        while let Some(part) = parts.next() {
            raw.send(&frame(
                CONTINUATION,
                if parts.peek().is_none() { END_HEADERS } else { 0 },
                1,
                part,
            ));
        }
        let outcome = raw.outcome(1);
        // h2 answers 431 of its own when the list is too large; then there is no body.
        let refused = outcome.is_refusal("head-too-large")
            || !matches!(&outcome, Outcome::Answered(body) if !body.is_empty());
        assert!(refused, "CVE-2026-47774: {name}: {outcome:?}");
    }
    assert_eq!(service.requests(), Vec::<String>::new());
}

#[test]
fn a_length_that_lies_is_never_forwarded() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let key = format!("Bearer {}", gate.first_key());
    for (name, path, length, sent) in [
        ("more than said", "/v1/files/a", "3", b"abcd".as_slice()),
        ("less than said", "/v1/files/a", "5", b"abcd"),
        ("nothing", "/v1/files/a", "5", b""),
        ("less, and read whole", "/v1/things", "5", b"1234"),
        ("more, and read whole", "/v1/things", "3", b"1234"),
        ("no number", "/v1/files/a", "+4", b"abcd"),
        ("a list", "/v1/files/a", "4, 4", b"abcd"),
    ] {
        let method = if path == "/v1/things" { "POST" } else { "PUT" };
        let fields = [
            ("authorization", key.as_str()),
            ("content-type", "application/json"),
            ("content-length", length),
        ];
        let mut raw = Raw::new(&gate);
        raw.send(&frame(HEADERS, END_HEADERS, 1, &asking(method, path, &fields)));
        raw.send(&frame(DATA, END_STREAM, 1, sent));
        let outcome = raw.outcome(1);
        let passed = matches!(&outcome, Outcome::Answered(body) if !body.contains("\"error\""));
        assert!(!passed, "CVE-2026-33555: {name}: {outcome:?}");
    }
    // And at once, with the head.
    let mut raw = Raw::new(&gate);
    raw.send(&frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &asking("PUT", "/v1/files/a", &[("authorization", &key), ("content-length", "5")]),
    ));
    let outcome = raw.outcome(1);
    assert!(
        outcome.is_refusal("length-malformed") || matches!(outcome, Outcome::Reset(_)),
        "{outcome:?}"
    );
    assert_eq!(service.requests(), Vec::<String>::new());
}

#[test]
fn headers_of_a_connection_and_broken_fields_reach_no_service() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x-a"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("te", "gzip"),
        ("x-a", "1\r\nX-Forwarded-User: admin"),
        ("x-a", "1\nX-Forwarded-User: admin"),
        ("x-a", "1\rX-Forwarded-User: admin"),
        ("x-a", "1\0"),
        ("x-a\r\nx-b", "1"),
        ("x-a: 1\r\nx-b", "1"),
        ("x a", "1"),
        ("x-a:", "1"),
        ("X-A", "1"),
        ("", "1"),
        (":path", "/v1/things"),
        (":unknown", "1"),
    ] {
        let mut raw = Raw::new(&gate);
        raw.send(&frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &asking("GET", "/v1/open", &[(name, value)]),
        ));
        let outcome = raw.outcome(1);
        let passed = matches!(&outcome, Outcome::Answered(body) if !body.contains("\"error\""));
        assert!(!passed, "CVE-2026-42926: {name:?}: {value:?}: {outcome:?}");
        assert_eq!(service.requests(), Vec::<String>::new(), "{name:?}: {value:?}");
    }
}

#[test]
fn pseudo_headers_are_read_in_one_way_only() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let fields = |method, scheme, authority, path| {
        vec![(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]
    };
    for (name, fields) in [
        ("no path", vec![(":method", "GET"), (":scheme", "https"), (":authority", "localhost")]),
        (
            "no method",
            vec![(":scheme", "https"), (":authority", "localhost"), (":path", "/v1/open")],
        ),
        ("an empty path", fields("GET", "https", "localhost", "")),
        ("a path that is none", fields("GET", "https", "localhost", "v1/open")),
        ("CR LF in the path", fields("GET", "https", "localhost", "/v1/open HTTP/1.1\r\nX: y")),
        ("a blank in the path", fields("GET", "https", "localhost", "/v1/open HTTP/1.1")),
        ("CR LF in the method", fields("GET / HTTP/1.1\r\nX: y", "https", "localhost", "/v1/open")),
        ("user info", fields("GET", "https", "user@localhost", "/v1/open")),
        ("CR LF in the authority", fields("GET", "https", "localhost\r\nX: y", "/v1/open")),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "localhost:1")]),
        ("CONNECT with a protocol", {
            let mut fields = fields("CONNECT", "https", "localhost", "/v1/live");
            fields.insert(1, (":protocol", "websocket"));
            fields
        }),
    ] {
        let mut raw = Raw::new(&gate);
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields)));
        let outcome = raw.outcome(1);
        let passed = matches!(&outcome, Outcome::Answered(body) if !body.contains("\"error\""));
        assert!(!passed, "{name}: {outcome:?}");
    }
    assert_eq!(service.requests(), Vec::<String>::new());
}

#[test]
fn a_fragment_is_seen_by_nobody() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let mut raw = Raw::new(&gate);
    // h2 cuts it off before anybody can refuse it; so it must not come back.
    raw.send(&frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &asking("GET", "/v1/open#/../things", &[]),
    ));
    assert_eq!(raw.outcome(1), Outcome::Answered("{\"ok\":true}".to_owned()));
    assert!(service.requests().pop().unwrap().starts_with("GET /v1/open HTTP/1.1\r\n"));
}

#[test]
fn trailers_bring_no_header_over_http_2_either() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let key = format!("Bearer {}", gate.first_key());
    let mut raw = Raw::new(&gate);
    raw.send(&frame(
        HEADERS,
        END_HEADERS,
        1,
        &asking("PUT", "/v1/files/a", &[("authorization", &key)]),
    ));
    raw.send(&frame(DATA, 0, 1, b"body"));
    raw.send(&frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &block(&[("x-forwarded-user", "admin"), ("x-portcullis-identity", "admin")]),
    ));
    assert_eq!(raw.outcome(1), Outcome::Answered("{\"ok\":true}".to_owned()));
    let seen = service.requests().pop().unwrap();
    assert!(seen.contains("body") && !seen.contains("admin"), "{seen}");
}

#[test]
fn no_more_streams_are_at_work_than_were_promised() {
    let service = Service::answering(|_| {
        std::thread::sleep(Duration::from_millis(500));
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
    });
    let gate =
        Plan::new(service.address, POLICY).listener("[listener.bounds]\nh2_streams = 4\n").start();
    let ask = asking("GET", "/v1/open", &[]);
    let mut raw = Raw::new(&gate);
    for number in 0..20 {
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream(number), &ask));
    }
    wait_until("the service was asked", || service.connections.load(Ordering::SeqCst) > 0);
    std::thread::sleep(Duration::from_millis(200));
    // One more connection may be a check of health.
    assert!(
        service.connections.load(Ordering::SeqCst) <= 5,
        "{}",
        service.connections.load(Ordering::SeqCst)
    );
    assert!(service.requests().len() <= 4, "{}", service.requests().len());
}

#[test]
fn a_preface_that_does_not_come_is_not_waited_for() {
    let gate = Plan::new(Service::ok().address, POLICY)
        .listener("[listener.bounds]\nheader_timeout = \"200ms\"\n")
        .start();
    for begin in [
        b"".as_slice(),
        b"PRI * HT",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut tls = gate.connect_as("localhost", &[b"h2"]);
        // Also without a byte of ours the handshake must be made.
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).unwrap();
        }
        tls.write_all(begin).unwrap();
        let begun = Instant::now();
        let mut read = Vec::new();
        let _ = tls.read_to_end(&mut read);
        assert!(begun.elapsed() < Duration::from_secs(2), "{begin:?}: {:?}", begun.elapsed());
        assert!(!read.windows(5).any(|window| window == b"HTTP/"), "{begin:?}");
    }
    others_are_served(&gate);
}
