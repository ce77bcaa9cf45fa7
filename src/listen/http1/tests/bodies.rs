//! Bodies of requests: asked for or not, whole or broken, wanted or discarded.

use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::listen::http1::decode::Decoder;
use crate::listen::http1::tests::{Caller, lossy, ms, soon};
use crate::listen::http1::wire::Shared as Wire;
use crate::listen::settings::tests::plain;

#[tokio::test]
async fn a_body_is_asked_for_only_when_it_is_wanted() {
    let mut caller = Caller::new();
    caller.say("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    assert_eq!(caller.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    caller.say("body").await;
    assert!(caller.until("\r\n\r\nbody").await.starts_with("HTTP/1.1 200 OK\r\n"));

    caller.say("POST /ignore HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    let told = caller.rest().await;
    assert!(told.starts_with("HTTP/1.1 401 "), "{told}");
    assert!(told.contains("connection: close"), "nobody knows whether the body will come");
}

#[tokio::test]
async fn who_sends_the_body_unasked_is_not_asked() {
    let mut caller = Caller::new();
    caller.say("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbo").await;
    tokio::time::sleep(ms(10)).await;
    caller.say("dy").await;
    assert!(caller.until("\r\n\r\nbody").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_large_body_streams_both_ways() {
    let mut caller = Caller::new();
    let body = vec![b'z'; 3 << 20];
    let (mut read, mut write) = tokio::io::split(caller.stream);
    let (sent, told) = (
        body.clone(),
        tokio::spawn(async move {
            let mut all = Vec::new();
            read.read_to_end(&mut all).await.unwrap();
            all
        }),
    );
    write
        .write_all(
            b"POST /echo HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await
        .unwrap();
    for piece in sent.chunks(100_000) {
        write.write_all(format!("{:X}\r\n", piece.len()).as_bytes()).await.unwrap();
        write.write_all(piece).await.unwrap();
        write.write_all(b"\r\n").await.unwrap();
    }
    write.write_all(b"0\r\nX-Sum: 1\r\n\r\n").await.unwrap();
    let told = soon(told).await.unwrap();
    assert!(told.ends_with(&body), "{} bytes", told.len());
    soon(&mut caller.server).await.unwrap();
}

#[tokio::test]
async fn an_unread_body_is_never_read_as_a_request() {
    let mut caller = Caller::new();
    let smuggled = "GET /smuggled HTTP/1.1\r\n\r\n";
    caller
        .say(&format!("POST /ignore HTTP/1.1\r\nContent-Length: {}\r\n\r\n", smuggled.len()))
        .await;
    caller.until("who are you").await;
    caller.say(smuggled).await;
    caller.say("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert!(caller.rest().await.ends_with("hello"));
    assert_eq!(caller.seen(), ["/ignore", "/"]);
}

#[tokio::test]
async fn an_answer_arrives_although_the_body_is_too_large_to_discard() {
    let mut caller = Caller::new();
    caller.say("POST /ignore HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n").await;
    let (mut read, mut write) = tokio::io::split(caller.stream);
    let writing = tokio::spawn(async move {
        // It ends with an error when the connection does.
        let _ = write.write_all(&vec![b'x'; 10_000_000]).await;
    });
    let mut told = Vec::new();
    soon(read.read_to_end(&mut told)).await.unwrap();
    assert!(lossy(&told).ends_with("who are you"));
    soon(writing).await.unwrap();
    soon(&mut caller.server).await.unwrap();
    assert_eq!(*caller.player.seen.lock().unwrap(), ["/ignore"]);
}

#[tokio::test]
async fn an_endless_chunked_body_is_not_discarded_for_ever() {
    let mut caller = Caller::new();
    caller.say("POST /ignore HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await;
    assert!(caller.rest().await.ends_with("who are you"));
}

#[tokio::test]
async fn a_body_that_stops_coming_times_out() {
    let mut settings = plain();
    settings.bounds.body_timeout = ms(60);
    let mut caller = Caller::with(settings);
    caller.say("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc").await;
    let told = caller.rest().await;
    assert!(told.starts_with("HTTP/1.1 408 ") && told.ends_with("body-timeout"), "{told}");
    assert!(told.contains("connection: close"));
}

#[tokio::test]
async fn a_body_that_ends_early_or_wrongly_is_told_so() {
    let mut caller = Caller::new();
    caller.say("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc").await;
    caller.stream.shutdown().await.unwrap();
    assert!(caller.rest().await.ends_with("body-incomplete"));

    let mut caller = Caller::new();
    caller
        .say("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        .await;
    let told = caller.rest().await;
    assert!(told.ends_with("chunk-malformed") && told.contains("connection: close"), "{told}");
    assert_eq!(caller.seen(), ["/echo"]);
}

/// The pieces in which a body of `sent` bytes is handed on, of which `ready` have arrived.
async fn pieces(sent: u64, ready: usize) -> Vec<usize> {
    let (mut near, far) = duplex(256 << 10);
    near.write_all(&vec![b'z'; ready]).await.unwrap();
    drop(near);
    let wire = Wire::new(far);
    wire.lock().begin(Decoder::Sized(sent), false);
    let mut pieces = Vec::new();
    while let Some(Ok(frame)) = soon(poll_fn(|context| wire.lock().poll_frame(context))).await {
        pieces.push(frame.data_ref().unwrap().len());
    }
    pieces
}

#[tokio::test]
async fn what_has_arrived_of_a_body_is_handed_on_in_few_pieces() {
    assert_eq!(pieces(100, 100).await, [100]);
    assert_eq!(pieces(64 << 10, 64 << 10).await, [64 << 10]);
    // More than is held at once, and no byte of what follows.
    let pieces_of_many = pieces(200_000, 200_050).await;
    assert_eq!(pieces_of_many.iter().sum::<usize>(), 200_000);
    assert!(pieces_of_many.len() <= 4, "{pieces_of_many:?}");
}

#[tokio::test]
async fn what_has_arrived_of_a_body_that_breaks_off_is_handed_on() {
    assert_eq!(pieces(64 << 10, 20_000).await, [20_000]);
}
