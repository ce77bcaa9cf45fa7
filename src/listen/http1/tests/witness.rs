//! Whatever hyper refuses, we refuse: the same bytes go to hyper's server and to ours.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::listen::http1::decode::{Decoder, Step};
use crate::listen::http1::tests::heads::{BAD_HEADERS, BAD_LINES, whole, with_headers, with_line};
use crate::listen::http1::tests::soon;

/// Whether hyper hands these bytes to its service as a request, whole with its body.
async fn hyper_accepts(bytes: &[u8]) -> bool {
    let (mut near, far) = duplex(256 << 10);
    let accepted = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let accepted = Arc::clone(&accepted);
        move |request: http::Request<hyper::body::Incoming>| {
            let accepted = Arc::clone(&accepted);
            async move {
                if request.into_body().collect().await.is_ok() {
                    accepted.store(true, Ordering::SeqCst);
                }
                Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
            }
        }
    });
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    let _ = Builder::new().half_close(true).serve_connection(TokioIo::new(far), service).await;
    let mut answer = Vec::new();
    let _ = near.read_to_end(&mut answer).await;
    accepted.load(Ordering::SeqCst)
}

/// Whether we take these bytes as a request, whole with its body.
fn we_accept(bytes: &[u8]) -> bool {
    let Ok(Some(parsed)) = whole(bytes) else { return false };
    let at = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let mut input = BytesMut::from(&bytes[at..]);
    let mut decoder = Decoder::of(parsed.raw.length);
    loop {
        match decoder.step(&mut input) {
            Step::Data(_) | Step::Trailers(_) => {}
            Step::End => return true,
            Step::More | Step::Malformed(_) => return false,
        }
    }
}

/// Requests around every place where one byte can make a difference.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus: Vec<Vec<u8>> = BAD_LINES.iter().map(|(line, _)| with_line(line)).collect();
    // Five bytes, and the end of a chunked body: whole, whichever way it is read.
    let body = b"0\r\n\r\n";
    corpus
        .extend(BAD_HEADERS.iter().map(|(headers, _)| [&with_headers(headers)[..], body].concat()));
    for byte in 0..=u8::MAX {
        let around = |before: &[u8], after: &[u8]| [before, &[byte], after].concat();
        corpus.extend([
            around(b"G", b"T / HTTP/1.1\r\nHost: a\r\n\r\n"),
            around(b"GET /a", b"b HTTP/1.1\r\nHost: a\r\n\r\n"),
            around(b"GET /?a", b"b HTTP/1.1\r\nHost: a\r\n\r\n"),
            around(b"GET ", b" HTTP/1.1\r\nHost: a\r\n\r\n"),
            around(b"GET http://a", b"b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            around(b"GET / HTTP/1.", b"\r\nHost: a\r\n\r\n"),
            around(b"GET / HTTP/1.1\r\nA", b"B: c\r\n\r\n"),
            around(b"GET / HTTP/1.1\r\nA: b", b"c\r\n\r\n"),
            around(b"GET / HTTP/1.1\r\nA: b\r", b"\r\n\r\n"),
            around(b"POST / HTTP/1.1\r\nContent-Length: 1", b"\r\n\r\n0123456789"),
            around(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked", b"\r\n\r\n0\r\n\r\n"),
            around(
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1",
                b"\r\na\r\n0\r\n\r\n",
            ),
            around(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na", b"\n0\r\n\r\n"),
            around(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA", b"b: c\r\n\r\n"),
        ]);
    }
    corpus
}

#[tokio::test]
async fn we_refuse_whatever_hyper_refuses() {
    let (mut both, mut ours_alone) = (0, 0);
    for bytes in corpus() {
        let (hyper, ours) = (soon(hyper_accepts(&bytes)).await, we_accept(&bytes));
        assert!(hyper || !ours, "hyper refuses {:?}", String::from_utf8_lossy(&bytes));
        both += u32::from(hyper && ours);
        ours_alone += u32::from(hyper && !ours);
    }
    // The comparison says something only if it has seen both.
    assert!(both > 500 && ours_alone > 20, "{both} accepted by both, {ours_alone} by hyper alone");
}
