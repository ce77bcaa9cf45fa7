//! Requests and answers over one connection: order, framing, deadlines, and how it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::sync::mpsc;

use crate::listen::body::Broken;
use crate::listen::drain::Drain;
use crate::listen::http1;
use crate::listen::http1::tests::{Caller, ms, soon};
use crate::listen::http1::wire::Socket;
use crate::listen::settings::tests::plain;
use crate::listen::testing::{Player, Script, service};

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let mut caller = Caller::new();
    caller
        .say("POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\noneGET /soon HTTP/1.1\r\n\r\nPOST /echo HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nthree\r\n0\r\n\r\n")
        .await;
    let told = caller.rest().await;
    let places: Vec<_> =
        ["\r\n\r\none", "\r\n\r\nsoon", "\r\n\r\nthree"].map(|part| told.find(part)).into();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{told}");
    assert_eq!(told.matches("HTTP/1.1 200 OK\r\n").count(), 3);
    assert_eq!(told.matches("connection: close").count(), 1);
    assert_eq!(caller.seen(), ["/echo", "/soon", "/echo"]);
}

#[tokio::test]
async fn http_1_0_lives_on_only_when_it_asks() {
    let mut caller = Caller::new();
    caller.say("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let told = caller.until("hello").await;
    assert!(told.contains("connection: keep-alive\r\n"), "{told}");
    caller.say("GET / HTTP/1.0\r\n\r\n").await;
    let told = caller.rest().await;
    assert!(told.contains("connection: close\r\n") && told.ends_with("hello"), "{told}");
}

#[tokio::test]
async fn a_malformed_head_gets_a_proper_answer_and_the_end() {
    let mut caller = Caller::new();
    caller.say("GET / HTTP/1.1\r\nA : b\r\n\r\nGET /never HTTP/1.1\r\n\r\n").await;
    let told = caller.rest().await;
    assert!(told.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{told}");
    assert!(told.contains("connection: close\r\n") && told.ends_with("header-malformed"));
    assert_eq!(caller.seen(), ["header-malformed"]);
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let mut caller = Caller::new();
    caller.say("HEAD / HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n").await;
    caller.say("GET /unchanged HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    let told = caller.rest().await;
    assert!(!told.contains("hello") && !told.contains("ignored"), "{told}");
    assert_eq!(told.matches("\r\n\r\n").count(), 3);
    assert!(told.contains("content-length: 77\r\n"), "{told}");
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_told_so() {
    let mut settings = plain();
    settings.bounds.header_timeout = ms(60);
    let mut caller = Caller::with(settings.clone());
    caller.say("GET / HT").await;
    assert!(caller.rest().await.ends_with("head-timeout"));

    let mut silent = Caller::with(settings.clone());
    assert_eq!(silent.rest().await, "", "who says nothing is told nothing");

    // Dripping bytes does not move the deadline.
    let mut dripping = Caller::with(settings);
    for _ in 0..20 {
        let _ = dripping.stream.write_all(b"A").await;
        tokio::time::sleep(ms(10)).await;
    }
    assert!(dripping.rest().await.ends_with("head-timeout"));
}

#[tokio::test]
async fn an_idle_connection_ends_in_silence() {
    let mut settings = plain();
    settings.bounds.idle_timeout = ms(60);
    let mut caller = Caller::with(settings);
    caller.say("GET / HTTP/1.1\r\n\r\n").await;
    caller.until("hello").await;
    assert_eq!(caller.rest().await, "");
    soon(&mut caller.server).await.unwrap();
}

#[tokio::test]
async fn requests_on_one_connection_have_a_ceiling() {
    let mut settings = plain();
    settings.bounds.requests_per_connection = 2;
    let mut caller = Caller::with(settings);
    caller.say(&"GET / HTTP/1.1\r\n\r\n".repeat(3)).await;
    let told = caller.rest().await;
    assert_eq!(told.matches("hello").count(), 2);
    assert_eq!(told.matches("connection: close").count(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_request_along() {
    let mut caller = Caller::new();
    caller.say("GET /wait HTTP/1.1\r\n\r\n").await;
    tokio::time::sleep(ms(20)).await;
    assert_eq!(caller.seen(), ["/wait"]);
    let Caller { stream, player, server, .. } = caller;
    drop(stream);
    soon(server).await.unwrap();
    assert_eq!(player.given_up.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_that_breaks_never_looks_whole() {
    let broken = |exact| Script {
        frames: [Ok(Bytes::from_static(b"part")), Err(Broken::Upstream)].into(),
        exact,
        ..Script::default()
    };
    for (exact, what) in [(None, "chunked"), (Some(10), "sized")] {
        let mut caller = Caller::new();
        *caller.player.script.lock().unwrap() = Some(broken(exact));
        caller.say("GET /script HTTP/1.1\r\n\r\n").await;
        let told = caller.rest().await;
        assert!(
            !told.contains("0\r\n\r\n") && !told.contains("content-length: 4"),
            "{what} {told}"
        );
    }
    let short = Script {
        frames: [Ok(Bytes::from_static(b"short"))].into(),
        exact: Some(10),
        ..Script::default()
    };
    let mut caller = Caller::new();
    *caller.player.script.lock().unwrap() = Some(short);
    caller.say("GET /script HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n").await;
    assert!(!caller.rest().await.contains("hello"), "the next answer would pass for the rest");
}

#[tokio::test]
async fn events_go_out_one_by_one() {
    let mut caller = Caller::new();
    let (events, more) = mpsc::channel(4);
    *caller.player.script.lock().unwrap() = Some(Script { more: Some(more), ..Script::default() });
    caller.say("GET /script HTTP/1.1\r\n\r\n").await;
    let head = caller.until("\r\n\r\n").await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        events.send(Bytes::from_static(event.as_bytes())).await.unwrap();
        assert_eq!(caller.until("\n\n\r\n").await, format!("9\r\n{event}\r\n"));
    }
    drop(events);
    assert_eq!(caller.until("0\r\n\r\n").await, "0\r\n\r\n");
}

#[tokio::test]
async fn a_caller_who_does_not_read_is_given_up() {
    let mut settings = plain();
    settings.bounds.write_timeout = ms(60);
    let mut caller = Caller::with(settings);
    caller.say("GET /large HTTP/1.1\r\n\r\n").await;
    soon(&mut caller.server).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_connections_after_the_request_in_flight() {
    let mut caller = Caller::new();
    caller.say("GET /soon HTTP/1.1\r\n\r\n").await;
    tokio::time::sleep(ms(5)).await;
    caller.drain.begin();
    let told = caller.rest().await;
    assert!(told.contains("connection: close") && told.ends_with("soon"), "{told}");

    // A connection that waits still answers what was on its way.
    let mut caller = Caller::new();
    caller.say("GET / HTTP/1.1\r\n\r\n").await;
    caller.until("hello").await;
    caller.drain.begin();
    tokio::time::sleep(ms(20)).await;
    caller.say("GET / HTTP/1.1\r\n\r\n").await;
    let told = caller.rest().await;
    assert!(told.contains("connection: close") && told.ends_with("hello"), "{told}");
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel_with_what_came_ahead() {
    let mut caller = Caller::new();
    let (mut upstream, far) = duplex(1024);
    *caller.player.upstream.lock().unwrap() = Some(far);
    caller
        .say("GET /tunnel HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nahead")
        .await;
    let head = caller.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("connection: Upgrade\r\n") && head.contains("upgrade: websocket\r\n"));
    let mut five = [0; 5];
    soon(upstream.read_exact(&mut five)).await.unwrap();
    assert_eq!(&five, b"ahead");
    upstream.write_all(b"back").await.unwrap();
    assert_eq!(caller.until("back").await, "back");
    // One side ends, the other may finish.
    caller.stream.shutdown().await.unwrap();
    assert_eq!(soon(upstream.read(&mut five)).await.unwrap(), 0);
    upstream.write_all(b"last words").await.unwrap();
    drop(upstream);
    assert_eq!(caller.rest().await, "last words");
    soon(&mut caller.server).await.unwrap();
    assert_eq!(*caller.player.passed.lock().unwrap(), Some((5, 14)));
}

#[tokio::test]
async fn an_idle_tunnel_ends_and_is_told_of() {
    let mut caller = Caller::new();
    let (_upstream, far) = duplex(1024);
    *caller.player.upstream.lock().unwrap() = Some(far);
    caller.say("GET /tunnel HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    caller.until("\r\n\r\n").await;
    assert_eq!(caller.rest().await, "");
    assert_eq!(*caller.player.passed.lock().unwrap(), Some((0, 0)));
}

#[tokio::test]
async fn without_a_tunnel_nothing_is_tunnelled() {
    let mut caller = Caller::new();
    caller.say("GET /tunnel HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let told = caller.until("\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 500 "), "{told}");
}

/// A stream that counts how often it is written to.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, space)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl Socket for Counted {
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

#[tokio::test]
async fn head_and_body_go_out_in_one_write() {
    let (mut near, far) = duplex(64 << 10);
    let writes = Arc::new(AtomicUsize::new(0));
    let service = service(plain(), &Player::default(), &Drain::default());
    tokio::spawn(http1::serve(Counted(far, Arc::clone(&writes)), service, 0));
    let body = "b".repeat(10_000);
    let request =
        format!("POST /echo HTTP/1.1\r\nConnection: close\r\nContent-Length: 10000\r\n\r\n{body}");
    near.write_all(request.as_bytes()).await.unwrap();
    let mut told = String::new();
    soon(near.read_to_string(&mut told)).await.unwrap();
    assert!(told.ends_with(&body));
    assert_eq!(writes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn any_bytes_end_a_connection_in_an_answer_or_in_silence() {
    let words: [&[u8]; 12] = [
        b"GET / HTTP/1.1\r\n",
        b"POST /echo HTTP/1.1\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"a: b\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"Expect: 100-continue\r\n",
        b"\0\xff",
    ];
    // A fixed sequence that visits many orders of the words (a linear congruential generator).
    let mut state = 1u32;
    for _ in 0..500 {
        let mut caller = Caller::new();
        for _ in 0..8 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let word = words[(state >> 16) as usize % words.len()];
            let _ = caller.stream.write_all(word).await;
        }
        caller.stream.shutdown().await.unwrap();
        let told = caller.rest().await;
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 "), "{told}");
        soon(&mut caller.server).await.expect("the connection must not panic");
    }
}
