//! Tests of the codec towards targets: what it writes, what it takes, and what it refuses.

mod compared;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use crate::fields::Fields;
use crate::forward::headers::Outgoing;
use crate::forward::http1::answer::{AnswerHead, HEAD_BYTES_MAX};
use crate::forward::http1::send::Request;
use crate::forward::http1::{Cut, Link};
use crate::forward::outbound::Outbound;
use crate::forward::patience::{Fault, Patience};
use crate::listen::Length;
use crate::listen::body::{Body, Broken};

/// What came of an answer: status, headers, content, whether it ended well, whether the connection
/// could be used again.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    content: Vec<u8>,
    well: bool,
    reusable: bool,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn patience() -> Patience {
    let now = Instant::now();
    Patience::new(now, Duration::from_secs(5), now + Duration::from_secs(5))
}

fn request<'a>(method: &'a Method, host: &'a str, headers: &'a Fields) -> Request<'a> {
    let headers = Outgoing::of_our_own(headers);
    Request { method, path: "/v1/tasks", query: Some("limit=5"), host, headers }
}

async fn ask(
    link: &mut Link<DuplexStream>,
    method: &Method,
    body: &mut Outbound,
) -> Result<(AnswerHead, bool), Fault> {
    let (host, headers) = ("a", Fields::new());
    let request = request(method, host, &headers);
    let answered = link.ask(request, body, patience()).await?;
    Ok((answered.head, answered.sent))
}

/// What a target's bytes are taken for when they come in these pieces, each by itself, and the
/// connection then ends.
async fn taken(method: Method, pieces: Vec<Vec<u8>>) -> Result<Taken, String> {
    let (near, mut far) = duplex(1 << 16);
    let mut link = Link::new(near, Duration::from_secs(5));
    let target = async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(far.read_u8().await.unwrap());
        }
        for piece in pieces {
            // Whoever refuses an answer early reads no more of it.
            let _ = far.write_all(&piece).await;
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
    };
    let caller = async move {
        let asked = ask(&mut link, &method, &mut Outbound::empty()).await;
        let (mut head, sent) = asked.map_err(|fault| format!("{fault:?}"))?;
        assert!(sent);
        let mut content = Vec::new();
        let well = loop {
            let data = std::future::poll_fn(|context| link.poll_data(&mut head.framing, context));
            match data.await {
                Some(Ok(data)) => content.extend_from_slice(&data),
                Some(Err(Cut)) => break false,
                None => break true,
            }
        };
        let headers = head.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        let reusable = well && head.persistent && link.is_drained();
        Ok(Taken { status: head.status.as_u16(), headers, content, well, reusable })
    };
    tokio::join!(caller, target).0
}

fn whole(text: impl AsRef<[u8]>) -> Result<Taken, String> {
    runtime().block_on(taken(Method::GET, vec![text.as_ref().to_vec()]))
}

#[test]
fn every_doubtful_head_is_refused() {
    for text in [
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 \r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1 2000\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "HTTP/1.1 099 No\r\n\r\n",
        "HTTP/1.1 +20 No\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1\t200 OK\r\n\r\n",
        "HTTP/1.1 200 O\x07K\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n",
        "http/1.1 200 OK\r\n\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n folded: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 304 Same\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let refused = whole(text).unwrap_err();
        assert!(refused.starts_with("NoAnswer"), "{text:?}: {refused}");
    }
}

#[test]
fn heads_and_interim_answers_have_ceilings() {
    let many = format!("HTTP/1.1 204 No\r\n{}\r\n", "a: b\r\n".repeat(128));
    assert_eq!(whole(many).unwrap().headers.len(), 128);
    let too_many = format!("HTTP/1.1 204 No\r\n{}\r\n", "a: b\r\n".repeat(129));
    assert!(whole(too_many).unwrap_err().contains("too many headers"));
    let long = format!("HTTP/1.1 204 No\r\na: {}\r\n\r\n", "b".repeat(HEAD_BYTES_MAX));
    assert!(whole(long).unwrap_err().contains("too large"));
    let interims = |count| {
        let text = "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n".repeat(count);
        whole(format!("{text}HTTP/1.1 204 No\r\n\r\n"))
    };
    assert_eq!(interims(8).unwrap().status, 204);
    assert!(interims(9).unwrap_err().contains("interim"));
}

#[test]
fn an_end_is_told_from_a_beginning() {
    assert!(whole("").unwrap_err().starts_with("Stale"));
    assert!(whole("HTTP/1.1 20").unwrap_err().starts_with("NoAnswer"));
    assert!(whole("HTTP/1.1 100 Continue\r\n\r\n").unwrap_err().starts_with("NoAnswer"));
}

#[test]
fn each_framing_ends_where_it_says() {
    for (text, content, well, reusable) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", true, true),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok", true, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1", "ok", true, false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "ok", false, false),
        (
            "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nok",
            "ok",
            true,
            false,
        ),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "ok", true, false),
        (
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
            "ok",
            true,
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nok", "ok", true, false),
        ("HTTP/1.1 204 OK\r\ncontent-length: 2\r\n\r\n", "", true, true),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
            "ok",
            true,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n!",
            "ok",
            true,
            false,
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", "ok", false, false),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
            "",
            false,
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n",
            "ok",
            true,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a\nok\r\n0\r\n\r\n",
            "",
            false,
            false,
        ),
    ] {
        let taken = whole(text).unwrap();
        let seen = (String::from_utf8(taken.content).unwrap(), taken.well, taken.reusable);
        assert_eq!(seen, (content.to_owned(), well, reusable), "{text:?}");
    }
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".to_vec();
    let to_head = runtime().block_on(taken(Method::HEAD, vec![text])).unwrap();
    assert!(to_head.reusable && to_head.content.is_empty());
}

/// Everything that a link writes.
async fn written(method: Method, headers: Fields, mut body: Outbound) -> Vec<u8> {
    let (near, mut far) = duplex(1 << 20);
    let mut link = Link::new(near, Duration::from_secs(5));
    let host = "api.example.com";
    let request = request(&method, host, &headers);
    let asked =
        tokio::time::timeout(Duration::from_millis(20), link.ask(request, &mut body, patience()));
    assert!(asked.await.is_err(), "nobody answers");
    let mut bytes = vec![0; 1 << 20];
    let read = far.read(&mut bytes).await.unwrap();
    bytes.truncate(read);
    bytes
}

#[tokio::test]
async fn a_request_is_written_as_it_is_framed() {
    let mut headers = Fields::new();
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("host", HeaderValue::from_static("evil"));
    headers.insert("transfer-encoding", HeaderValue::from_static("gzip"));
    let plain = written(Method::GET, headers.clone(), Outbound::empty()).await;
    let head = "GET /v1/tasks?limit=5 HTTP/1.1\r\nhost: api.example.com\r\naccept: */*\r\n\r\n";
    assert_eq!(String::from_utf8(plain).unwrap(), head);
    headers.insert("content-length", HeaderValue::from_static("7"));
    let whole = Outbound::new(Body::Whole(Bytes::from_static(b"content")), Length::Exactly(7));
    let whole = String::from_utf8(written(Method::POST, headers.clone(), whole).await).unwrap();
    assert!(whole.ends_with("content-length: 7\r\n\r\ncontent"), "{whole}");
    // A body of unknown length is chunked, whatever a header says.
    let unknown = Outbound::new(streaming(&["con", "tent"]), Length::Unknown);
    let chunked = String::from_utf8(written(Method::POST, headers, unknown).await).unwrap();
    let expected = "transfer-encoding: chunked\r\n\r\n3\r\ncon\r\n4\r\ntent\r\n0\r\n\r\n";
    assert!(chunked.ends_with(expected), "{chunked}");
    assert!(!chunked.contains("content-length"));
}

fn streaming(parts: &[&'static str]) -> Body {
    let parts = parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect();
    Body::Streaming(Box::pin(Parts { parts, endless: false }))
}

/// A body whose parts are all at hand.
struct Parts {
    parts: std::collections::VecDeque<Bytes>,
    endless: bool,
}

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Broken>>> {
        let part = match self.endless {
            true => self.parts.front().cloned(),
            false => self.parts.pop_front(),
        };
        Poll::Ready(part.map(|part| Ok(http_body::Frame::data(part))))
    }
}

#[tokio::test]
async fn an_answer_is_heard_while_the_body_pours_out() {
    let (near, far) = duplex(1 << 12);
    let mut link = Link::new(near, Duration::from_secs(5));
    let (mut from, mut to) = tokio::io::split(far);
    // The target reads on and on, so that nothing but looking shows the answer.
    let reading = tokio::spawn(async move {
        let mut sink = vec![0; 1 << 16];
        while from.read(&mut sink).await.is_ok_and(|read| read > 0) {}
    });
    to.write_all(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let parts = [Bytes::from_static(b"more")].into();
    let body = Body::Streaming(Box::pin(Parts { parts, endless: true }));
    let mut body = Outbound::new(body, Length::Unknown);
    let asking = ask(&mut link, &Method::POST, &mut body);
    let (head, sent) = tokio::time::timeout(Duration::from_secs(3), asking).await.unwrap().unwrap();
    assert_eq!((head.status.as_u16(), sent), (413, false));
    drop(link);
    reading.await.unwrap();
}

#[tokio::test]
async fn only_what_nobody_can_have_seen_counts_as_unsent() {
    let in_memory = |bytes: usize| {
        Outbound::new(Body::Whole(vec![b'x'; bytes].into()), Length::Exactly(bytes as u64))
    };
    let read = Outbound::new(streaming(&["part"]), Length::Unknown);
    for (mut body, unsent) in [
        (Outbound::empty(), true),
        (in_memory(1000), true),
        // A first record of several may have arrived.
        (in_memory(20_000), false),
        // Its first part is gone.
        (read, false),
    ] {
        let (near, far) = duplex(64);
        let mut link = Link::new(near, Duration::from_secs(5));
        drop(far);
        let fault = ask(&mut link, &Method::POST, &mut body).await.unwrap_err();
        assert_eq!(matches!(fault, Fault::Unsent(_)), unsent, "{fault:?}");
        assert_eq!(matches!(fault, Fault::Stale(_)), !unsent, "{fault:?}");
    }
}

#[tokio::test]
async fn only_a_quiet_connection_waits_for_another_request() {
    let (near, mut far) = duplex(64);
    let mut link = Link::new(near, Duration::from_secs(5));
    assert!(link.is_quiet());
    far.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
    assert!(!link.is_quiet(), "an answer that nobody asked for");
    let (near, far) = duplex(64);
    let mut link = Link::new(near, Duration::from_secs(5));
    drop(far);
    assert!(!link.is_quiet(), "an end");
}
