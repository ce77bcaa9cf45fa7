//! Signatures that cover trailers (RFC 9421, 2.1.4), over both versions of HTTP.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use serde_json::Value;

use crate::harness::{Gate, NOON_MS, POLICY, Plan, Reply, Service};
use crate::http2;
use crate::operations::portcullis;
use crate::refusals::{Signer, Signing, content_digest, reason_of, record};

const COVERS: &[&str] = &[
    "@method",
    "@authority",
    "@path",
    "@query",
    "content-digest",
    "content-type",
    "x-sum;tr",
    "x-sum;bs;tr",
];
const BODY: &str = r#"{"name":"x"}"#;
/// A second after the start: there is no history of nonces before it.
const NOW_S: u64 = NOON_MS / 1000 + 1;
const SUM: (&str, &str) = ("x-sum", "17");

/// The policy of the tests, with these lines in its signature rule.
fn policy(lines: &str) -> String {
    POLICY.replace("[signatures.request]\n", &format!("[signatures.request]\n{lines}\n"))
}

struct Bed {
    gate: Gate,
    service: Service,
    signer: Signer,
}

impl Bed {
    fn new(lines: &str) -> Self {
        let service = Service::ok();
        let gate = Gate::new(service.address, &policy(lines));
        let (id, secret) = gate.signing_key(r#""name":"signer","subject":"user_1""#);
        gate.hand.advance(Duration::from_secs(1));
        Self { gate, service, signer: Signer { id, secret } }
    }

    fn signing(body: &'static str) -> Signing<'static> {
        let (body, trailers) = (Some(body), &[SUM][..]);
        let created = NOW_S;
        Signing { body, covers: COVERS, trailers, created, ..Signing::of("POST", "/v1/signed") }
    }

    /// The header lines of a POST, signed over its trailers.
    fn lines(&self) -> String {
        self.signer.sign(&Self::signing(BODY))
    }

    /// Sends a POST and reads the answer, over HTTP/1.1 or HTTP/2.
    fn ask(&self, over: Over, lines: &str, body: Chunks) -> Reply {
        match over {
            Over::Http1 => {
                let mut stream = self.gate.connect();
                stream.write_all(chunked(lines, &body).as_bytes()).unwrap();
                Reply::read(&mut stream, false).unwrap()
            }
            Over::Http2 => {
                let mut request = http2::request("POST", "/v1/signed");
                for line in lines.lines().chain(["Content-Type: application/json"]) {
                    let (name, value) = line.split_once(": ").unwrap();
                    request = request.header(name, value);
                }
                http2::exchange(&self.gate, request.body(body).unwrap())
            }
        }
    }

    fn record(&self, reply: &Reply) -> Value {
        record(&self.gate, reply.header("x-request-id").unwrap())
    }
}

#[derive(Clone, Copy, Debug)]
enum Over {
    Http1,
    Http2,
}

/// A body in pieces, the last of which may be its trailers. One without an end stays away.
struct Chunks {
    frames: VecDeque<Frame<Bytes>>,
    ends: bool,
}

impl Chunks {
    fn of(body: &str, trailers: &[(&'static str, &'static str)]) -> Self {
        let pieces = body.as_bytes().chunks(5).map(|piece| Frame::data(piece.to_vec().into()));
        let fields = trailers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let trailers =
            (!trailers.is_empty()).then(|| Frame::trailers(HeaderMap::from_iter(fields)));
        Self { frames: pieces.chain(trailers).collect(), ends: true }
    }

    fn nothing_yet() -> Self {
        Self { frames: VecDeque::new(), ends: false }
    }
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.frames.pop_front() {
            None if !self.ends => Poll::Pending,
            frame => Poll::Ready(frame.map(Ok)),
        }
    }
}

/// A POST as HTTP/1.1 writes it, up to the end of what there is.
fn chunked(lines: &str, body: &Chunks) -> String {
    let mut written = format!(
        "POST /v1/signed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n{lines}\r\n"
    );
    let mut trailers = String::new();
    for frame in &body.frames {
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => {
                let text = str::from_utf8(data).unwrap();
                written.push_str(&format!("{:x}\r\n{text}\r\n", data.len()));
            }
            (None, fields) => {
                for (name, value) in fields.unwrap() {
                    trailers.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
                }
            }
        }
    }
    if body.ends {
        written.push_str(&format!("0\r\n{trailers}\r\n"));
    }
    written
}

#[test]
fn rfc_9421_2_1_4_a_signature_may_cover_trailers_where_the_policy_says_so() {
    let bed = Bed::new("trailers = \"1KiB\"");
    for over in [Over::Http1, Over::Http2] {
        let lines = bed.lines();
        let reply = bed.ask(over, &lines, Chunks::of(BODY, &[SUM]));
        assert_eq!(reply.status, 200, "{over:?}: {}", bed.gate.log("signed"));
        let seen = bed.service.requests().pop().unwrap();
        assert!(
            seen.ends_with(BODY) && seen.to_lowercase().contains("content-length: 12"),
            "{seen}"
        );
        assert!(!seen.to_lowercase().contains("x-sum"), "{seen}");
        let count = bed.service.requests().len();

        // It was accepted, so its nonce is spent.
        let replayed = bed.ask(over, &lines, Chunks::of(BODY, &[SUM]));
        for (reply, reason) in [
            (replayed, "signature-replayed"),
            (bed.ask(over, &bed.lines(), Chunks::of(BODY, &[])), "signature-malformed"),
            (bed.ask(over, &bed.lines(), Chunks::of("", &[])), "signature-malformed"),
            (
                bed.ask(over, &bed.lines(), Chunks::of(BODY, &[("x-other", "17")])),
                "signature-malformed",
            ),
            (bed.ask(over, &bed.lines(), Chunks::of(BODY, &[("x-sum", "18")])), "signature-wrong"),
            (bed.ask(over, &bed.lines(), Chunks::of(BODY, &[SUM, SUM])), "signature-wrong"),
        ] {
            assert_eq!(
                (reply.status, reason_of(&bed.gate, &reply).as_str()),
                (401, reason),
                "{over:?}"
            );
        }
        // A header of that name is no trailer.
        let reply = bed.ask(over, &format!("X-Sum: 17\r\n{}", bed.lines()), Chunks::of(BODY, &[]));
        assert_eq!(reason_of(&bed.gate, &reply), "signature-malformed", "{over:?}");
        // The later stages see the body as any other.
        let other = bed.ask(over, &bed.lines(), Chunks::of(r#"{"name":"y"}"#, &[SUM]));
        assert_eq!((other.status, reason_of(&bed.gate, &other).as_str()), (400, "digest-mismatch"));
        let twice = r#"{"name":1,"name":2}"#;
        let lines = bed.signer.sign(&Bed::signing(twice));
        let other = bed.ask(over, &lines, Chunks::of(twice, &[SUM]));
        assert_eq!((other.status, reason_of(&bed.gate, &other).as_str()), (400, "json-duplicate"));
        assert_eq!(bed.service.requests().len(), count, "{over:?}");
    }
    assert_eq!(bed.gate.metric("portcullis_buffered_bytes"), 0.0, "all room was given back");
}

#[test]
fn without_the_setting_a_signature_that_covers_trailers_is_refused() {
    let bed = Bed::new("");
    for over in [Over::Http1, Over::Http2] {
        for body in [Chunks::of(BODY, &[SUM]), Chunks::nothing_yet()] {
            let reply = bed.ask(over, &bed.lines(), body);
            let record = bed.record(&reply);
            assert_eq!(
                (reply.status, record["reason"].as_str()),
                (401, Some("signature-malformed"))
            );
            assert!(record.to_string().contains("`trailers`"), "{record}");
        }
    }
    assert_eq!(bed.service.requests(), Vec::<String>::new());
}

#[test]
fn no_more_of_a_body_is_held_for_trailers_than_the_rule_says() {
    let bed = Bed::new("trailers = \"1KiB\"");
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let (most, more): (&'static str, &'static str) = (text(1024).leak(), text(1025).leak());
    for over in [Over::Http1, Over::Http2] {
        let lines = bed.signer.sign(&Bed::signing(most));
        assert_eq!(bed.ask(over, &lines, Chunks::of(most, &[SUM])).status, 200, "{over:?}");
        // With an end or without one, and when its length is told at once.
        let lines = bed.signer.sign(&Bed::signing(more));
        let endless = Chunks { ends: false, ..Chunks::of(more, &[]) };
        for body in [Chunks::of(more, &[SUM]), endless] {
            let reply = bed.ask(over, &lines, body);
            let record = bed.record(&reply);
            assert_eq!((reply.status, record["reason"].as_str()), (413, Some("body-too-large")));
            assert!(record.to_string().contains("signatures.request"), "{record}");
        }
    }
    let told = format!(
        "POST /v1/signed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 1025\r\n{}\r\n",
        bed.lines()
    );
    let reply = bed.gate.send(&told);
    assert_eq!((reply.status, reason_of(&bed.gate, &reply).as_str()), (413, "body-too-large"));
}

#[test]
fn a_body_that_is_waited_for_comes_within_its_timeout_and_its_room() {
    let service = Service::ok();
    let plan = || Plan::new(service.address, &policy("trailers = \"1KiB\""));
    let slow = plan().listener("[listener.bounds]\nbody_timeout = \"200ms\"\n").start();
    let full = plan().extra("buffered_bytes_max = \"8B\"\n").start();
    for (gate, body, status, reason) in [
        (slow, Chunks::nothing_yet(), 408, "body-timeout"),
        (full, Chunks::of(BODY, &[SUM]), 503, "buffer-full"),
    ] {
        let (id, secret) = gate.signing_key(r#""name":"signer","subject":"user_1""#);
        gate.hand.advance(Duration::from_secs(1));
        let bed = Bed { gate, service: Service::ok(), signer: Signer { id, secret } };
        let reply = bed.ask(Over::Http1, &bed.lines(), body);
        assert_eq!((reply.status, reason_of(&bed.gate, &reply).as_str()), (status, reason));
    }
}

#[test]
fn a_stranger_is_refused_before_the_body_and_a_known_key_is_waited_for() {
    let bed = Bed::new("trailers = \"1KiB\"");
    let nobody = Signer { id: "AAAAAAAA".to_owned(), ..bed.signer.clone() };
    let old = Signing { created: NOW_S - 61, ..Bed::signing(BODY) };
    for (lines, reason) in [
        (nobody.sign(&Bed::signing(BODY)), "signature-key-unknown"),
        (bed.signer.sign(&old), "signature-expired"),
        (
            bed.signer.sign(&Signing { covers: &["x-sum;tr"], ..Bed::signing(BODY) }),
            "signature-coverage",
        ),
        (
            bed.lines().replacen("\"content-type\"", "\"content-type\" \"x-none\"", 1),
            "signature-malformed",
        ),
    ] {
        for over in [Over::Http1, Over::Http2] {
            // Only the head is sent, and the answer comes.
            let reply = bed.ask(over, &lines, Chunks::nothing_yet());
            assert_eq!(
                (reply.status, reason_of(&bed.gate, &reply).as_str()),
                (401, reason),
                "{over:?}"
            );
        }
    }
    let whole = chunked(&bed.lines(), &Chunks::of(BODY, &[SUM]));
    let at = whole.find("\r\n\r\n").unwrap() + 4;
    let (head, body) = whole.split_at(at);
    let mut stream = bed.gate.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.sock.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = stream.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(early.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
    stream.sock.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    // Byte by byte, so that no trailer comes in one piece.
    for byte in body.as_bytes() {
        stream.write_all(std::slice::from_ref(byte)).unwrap();
    }
    assert_eq!(Reply::read(&mut stream, false).unwrap().status, 200);
    // The connection goes on behind them.
    stream.write_all(b"GET /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream, false).unwrap().status, 200);
}

#[test]
fn rfc_9530_a_digest_that_follows_its_body_is_compared_with_it() {
    let bed = Bed::new("trailers = \"1KiB\"\nbody_components = [\"content-digest;tr\"]");
    let digest: &'static str = content_digest(BODY).leak();
    let trailers: &'static [(&str, &str)] = vec![("content-digest", digest)].leak();
    let covers = ["@method", "@authority", "@path", "@query", "content-digest;tr"];
    for over in [Over::Http1, Over::Http2] {
        let lines = || {
            let signing = Signing { body: None, covers: &covers, trailers, ..Bed::signing(BODY) };
            bed.signer.sign(&signing)
        };
        assert_eq!(bed.ask(over, &lines(), Chunks::of(BODY, trailers)).status, 200, "{over:?}");
        let reply = bed.ask(over, &lines(), Chunks::of(r#"{"name":"y"}"#, trailers));
        assert_eq!((reply.status, reason_of(&bed.gate, &reply).as_str()), (400, "digest-mismatch"));
        let reply = bed.ask(over, &lines(), Chunks::of(BODY, &[]));
        assert_eq!(
            (reply.status, reason_of(&bed.gate, &reply).as_str()),
            (401, "signature-malformed")
        );
    }
}

#[test]
fn a_kept_message_with_trailers_is_verified_and_one_can_be_signed() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| portcullis(dir.path(), arguments);
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let sign = [
        "sign",
        "POST",
        "https://localhost/v1/signed",
        "--body",
        BODY,
        "--key-id",
        "7Fq2kT9x",
        "--secret",
        "file:secret",
        "--component",
        "@method",
        "--component",
        "x-sum;tr",
    ];
    let (code, lines, talk) = run(&[&sign[..], &["--trailer", "X-Sum: 17"]].concat());
    assert_eq!(code, Some(0), "{talk}");
    assert!(lines.contains("sig1=(\"@method\" \"x-sum\";tr);created="), "{lines}");
    let (code, _, talk) = run(&sign);
    assert_eq!(code, Some(2));
    assert!(talk.contains("a covered trailer is missing") && talk.contains("--trailer"), "{talk}");
    let (code, _, talk) = run(&[&sign[..], &["--trailer", "X-Sum: 17", "--curl"]].concat());
    assert_eq!(code, Some(2));
    assert!(talk.contains("--curl"), "{talk}");

    let lines = lines.replace('\n', "\r\n").replace("Content-Type: application/json\r\n", "");
    let good = chunked(&lines, &Chunks::of(BODY, &[SUM]));
    let verify = |message: &str| {
        std::fs::write(dir.path().join("request.http"), message).unwrap();
        run(&["sign", "--verify", "request.http", "--secret", "file:secret", "--explain"])
    };
    let (code, shown, talk) = verify(&good);
    assert_eq!(code, Some(0), "{shown}{talk}");
    assert!(shown.contains("  \"x-sum\";tr: 17\n"), "{shown}");
    assert!(shown.contains("signature  verifies with the key that was given"), "{shown}");
    let (code, shown, _) = verify(&good.replace("x-sum: 17", "x-sum: 18"));
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("does NOT verify"), "{shown}");
    let (code, _, talk) = verify(&good.replace("x-sum: 17\r\n", ""));
    assert_eq!(code, Some(2));
    assert!(talk.contains("a covered field is missing") || talk.contains("trailer"), "{talk}");
    for broken in [good.trim_end().to_owned(), good.replace("0\r\nx-sum", "0\r\nx sum")] {
        let (code, _, talk) = verify(&broken);
        assert_eq!(code, Some(2));
        assert!(talk.contains("the file's body is not whole"), "{talk}");
    }
}
