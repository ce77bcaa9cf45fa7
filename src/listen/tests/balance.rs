//! Tests of two workers of one listener, each with its own runtime, over real sockets.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{House, soon};
use crate::listen::balance::{Balance, Post};
use crate::listen::settings::Settings;
use crate::listen::settings::tests::{over_tls, plain};
use crate::listen::testing::Player;
use crate::listen::{Stream, serve};

/// Another worker of a listener, with a runtime and a thread of its own, whom the kernel gives nothing.
fn second_worker(house: &House, post: Post) -> (Player, std::thread::JoinHandle<()>) {
    let player = Player::default();
    let (shared, drain, served) = (Arc::clone(&house.shared), house.drain.clone(), player.clone());
    let thread = std::thread::spawn(move || {
        let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            serve(elsewhere, shared, served, drain.clone(), post).await.unwrap();
            drain.finished().await;
        });
    });
    (player, thread)
}

/// Asks once for `path` and leaves the connection open.
async fn ask_on(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut told = Vec::new();
    while !told.ends_with(b"hello") {
        told.push(soon(stream.read_u8()).await.unwrap());
    }
}

async fn connect(house: &House, tls: Option<&Path>) -> Box<dyn Stream> {
    match tls {
        Some(folder) => {
            let stream = house.connect_tls(folder, b"http/1.1").await;
            Box::new(stream)
        }
        None => Box::new(house.connect().await) as Box<dyn Stream>,
    }
}

async fn an_overloaded_worker_is_relieved(settings: Settings, tls: Option<&Path>) {
    let balance = Balance::new(2);
    let mut posts = balance.posts().into_iter();
    let house = House::open_at(settings, posts.next().unwrap());
    let (relief, thread) = second_worker(&house, posts.next().unwrap());
    let connect = async || connect(&house, tls).await;
    let (mut first, mut second) = (connect().await, connect().await);
    ask_on(&mut first, "/1").await;
    ask_on(&mut second, "/2").await;
    for _ in 0..30 {
        balance.judge(&[1000, 0]);
    }
    // One of two may go, after the request at which it is seen.
    for number in 3..6 {
        ask_on(&mut first, &format!("/{number}")).await;
    }
    ask_on(&mut second, "/6").await;
    assert_eq!(*house.player.seen.lock().unwrap(), ["/1", "/2", "/3", "/6"]);
    assert_eq!(*relief.seen.lock().unwrap(), ["/4", "/5"]);
    // What is accepted now goes there at once.
    let mut third = connect().await;
    ask_on(&mut third, "/7").await;
    balance.judge(&[1000, 0]);
    let mut fourth = connect().await;
    ask_on(&mut fourth, "/8").await;
    assert_eq!(*house.player.seen.lock().unwrap(), ["/1", "/2", "/3", "/6", "/7"]);
    assert_eq!(*relief.seen.lock().unwrap(), ["/4", "/5", "/8"]);
    assert_eq!(house.counted(|counters| &counters.handed_over), 2);
    drop((first, second, third, fourth));
    house.drain.begin();
    soon(house.drain.finished()).await;
    thread.join().unwrap();
    assert_eq!(house.counted(|counters| &counters.open), 0);
}

#[tokio::test]
async fn an_overloaded_worker_hands_connections_over_between_requests() {
    an_overloaded_worker_is_relieved(plain(), None).await;
}

#[tokio::test]
async fn a_connection_keeps_its_tls_when_it_is_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    an_overloaded_worker_is_relieved(over_tls(folder.path()), Some(folder.path())).await;
}
