//! Tests of HTTP/2: hyper's client for what is right, frames by hand for what is not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::listen::body::Broken;
use crate::listen::drain::Drain;
use crate::listen::http2;
use crate::listen::settings::Settings;
use crate::listen::settings::tests::plain;
use crate::listen::testing::{Player, Script, service};

async fn soon<F: Future>(work: F) -> F::Output {
    timeout(Duration::from_secs(5), work).await.expect("it should not take this long")
}

async fn client<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
) -> (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

/// One GET over a new connection: the body, and the status.
pub(in crate::listen) async fn get<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    uri: &str,
) -> (String, StatusCode) {
    let (mut sender, _connection) = client(stream).await;
    let request = Request::get(uri).body(Full::default()).unwrap();
    let response = soon(sender.send_request(request)).await.unwrap();
    let status = response.status();
    let body = soon(response.into_body().collect()).await.unwrap().to_bytes();
    (String::from_utf8_lossy(&body).into_owned(), status)
}

struct Near {
    stream: DuplexStream,
    player: Player,
    drain: Drain,
    shared: std::sync::Arc<crate::listen::Shared>,
    server: JoinHandle<()>,
}

fn connect(settings: Settings) -> Near {
    let (stream, far) = duplex(256 << 10);
    let (player, drain) = (Player::default(), Drain::default());
    let service = service(settings, &player, &drain);
    let shared = service.shared.clone();
    let serving = drain.clone();
    let server = tokio::spawn(async move {
        serving.wake_and_cut(http2::serve(far, service)).await;
    });
    Near { stream, player, drain, shared, server }
}

#[tokio::test]
async fn a_body_goes_in_and_out() {
    let (mut sender, _connection) = client(connect(plain()).stream).await;
    let body = Bytes::from(vec![b'x'; 300_000]);
    let request = Request::post("https://a/echo").body(Full::new(body.clone())).unwrap();
    let response = soon(sender.send_request(request)).await.unwrap();
    assert_eq!(response.headers()["content-length"], "300000");
    assert_eq!(response.headers()["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(soon(response.into_body().collect()).await.unwrap().to_bytes(), body);
}

#[tokio::test]
async fn an_answer_ahead_of_the_body_does_not_reset_the_stream() {
    let mut near = connect(plain());
    // `:method POST`, `:scheme https`, `:path /ignore` and `:authority a`.
    let head = [&[0x83, 0x87, 0x04, 7][..], b"/ignore", &[0x41, 1, b'a']].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([frame(4, 0, 0, &[]), frame(1, 4, 1, &head)].concat());
    near.stream.write_all(&bytes).await.unwrap();
    let mut kinds = Vec::new();
    // First until the answer has ended, then until a PING behind it is acknowledged; the caller
    // ends its body in between, as one does that has not looked for an answer before.
    for (end, then) in [(0, frame(6, 0, 0, &[7; 8])), (6, frame(0, 1, 1, b"late"))] {
        loop {
            let mut head = [0; 9];
            soon(near.stream.read_exact(&mut head)).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            soon(near.stream.read_exact(&mut vec![0; length as usize])).await.unwrap();
            kinds.push(head[3]);
            if head[3] == end && head[4] & 1 == 1 {
                break;
            }
        }
        near.stream.write_all(&then).await.unwrap();
    }
    assert!(kinds.contains(&1) && !kinds.contains(&3), "{kinds:?}");
}

#[tokio::test]
async fn too_many_headers_are_refused_as_by_http_1() {
    let near = connect(plain());
    let seen = near.player.seen.clone();
    let (mut sender, _connection) = client(near.stream).await;
    let mut request = Request::get("https://a/");
    for _ in 0..150 {
        request = request.header("x", "1");
    }
    let response = soon(sender.send_request(request.body(Full::default()).unwrap())).await.unwrap();
    assert_eq!(response.status(), 431);
    assert_eq!(*seen.lock().unwrap(), ["head-too-large"]);
}

#[tokio::test]
async fn a_body_shorter_than_promised_resets_the_stream() {
    let near = connect(plain());
    *near.player.script.lock().unwrap() = Some(Script {
        frames: [Ok(Bytes::from_static(b"short")), Err(Broken::Upstream)].into(),
        exact: Some(10),
        ..Script::default()
    });
    let (mut sender, _connection) = client(near.stream).await;
    let request = Request::get("https://a/script").body(Full::default()).unwrap();
    let collected = match soon(sender.send_request(request)).await {
        Ok(response) => soon(response.into_body().collect()).await.map(drop),
        Err(fault) => Err(fault),
    };
    assert!(collected.is_err());
}

#[tokio::test]
async fn a_drain_says_goaway_and_lets_requests_end() {
    let Near { stream, drain, mut server, .. } = connect(plain());
    let (mut sender, connection) = client(stream).await;
    let request = Request::get("https://a/soon").body(Full::default()).unwrap();
    let answer = sender.send_request(request);
    let answer = tokio::spawn(answer);
    tokio::time::sleep(Duration::from_millis(10)).await;
    drain.begin();
    let response = soon(answer).await.unwrap().unwrap();
    assert_eq!(soon(response.into_body().collect()).await.unwrap().to_bytes(), "soon");
    soon(connection).await.unwrap().unwrap();
    soon(&mut server).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let mut settings = plain();
    settings.bounds.idle_timeout = Duration::from_millis(60);
    let Near { stream, mut server, .. } = connect(settings);
    let (mut sender, connection) = client(stream).await;
    let request = Request::get("https://a/").body(Full::default()).unwrap();
    soon(sender.send_request(request)).await.unwrap().into_body().collect().await.unwrap();
    soon(connection).await.unwrap().unwrap();
    soon(&mut server).await.unwrap();
}

#[tokio::test]
async fn a_preface_that_does_not_come_ends_the_connection() {
    let mut settings = plain();
    settings.bounds.header_timeout = Duration::from_millis(60);
    let Near { mut stream, mut server, .. } = connect(settings);
    stream.write_all(b"PRI * HT").await.unwrap();
    soon(&mut server).await.unwrap();
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Whether a GOAWAY with ENHANCE_YOUR_CALM stands among these bytes.
fn says_calm(bytes: &[u8]) -> bool {
    // The debug data that h2 adds may follow.
    let is_one =
        |window: &[u8]| window[3..9] == [7, 0, 0, 0, 0, 0] && window[13..] == [0, 0, 0, 11];
    bytes.windows(17).any(is_one)
}

/// Sends a preface and this frame again and again; gives what came back until the end.
async fn flood(near: &mut Near, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for turn in 0..3000 {
        bytes.extend(frames(turn));
    }
    let (mut read, mut write) = tokio::io::split(&mut near.stream);
    let mut told = Vec::new();
    let writing = async {
        let _ = write.write_all(&bytes).await;
        std::future::pending::<()>().await;
    };
    soon(async {
        tokio::select! {
            _ = read.read_to_end(&mut told) => {}
            () = writing => {}
        }
    })
    .await;
    told
}

#[tokio::test]
async fn floods_of_frames_that_carry_nothing_end_the_connection() {
    for (what, kind, payload) in [("settings", 4, &[][..]), ("priority", 2, &[0, 0, 0, 3, 16])] {
        let mut near = connect(plain());
        let stream = if kind == 2 { 1 } else { 0 };
        let told = flood(&mut near, |_| frame(kind, 0, stream, payload)).await;
        soon(&mut near.server).await.unwrap();
        assert_eq!(near.shared.counters.flood_closes.load(Ordering::SeqCst), 1, "{what}");
        assert!(says_calm(&told), "{what}");
    }
    let mut near = connect(plain());
    let told = flood(&mut near, |_| frame(6, 0, 0, &[0; 8])).await;
    soon(&mut near.server).await.unwrap();
    assert_eq!(near.shared.counters.flood_closes.load(Ordering::SeqCst), 1);
    assert!(!told.is_empty());
}

#[tokio::test]
async fn streams_opened_and_reset_end_the_connection() {
    // `:method GET`, `:scheme https`, `:path /` from HPACK's static table, and `:authority a`.
    let head = [0x82, 0x87, 0x84, 0x41, 0x01, b'a'];
    let mut near = connect(plain());
    let told = flood(&mut near, |turn| {
        let stream = turn * 2 + 1;
        [frame(1, 5, stream, &head), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    })
    .await;
    soon(&mut near.server).await.unwrap();
    assert!(says_calm(&told));
    assert!(near.player.seen.lock().unwrap().len() < 1100);
}
