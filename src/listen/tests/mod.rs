//! Tests of whole listeners: real sockets, TLS, ceilings, and the drain under load.

mod balance;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clock::Clock;
use crate::listen::balance::Post;
use crate::listen::bind::bind;
use crate::listen::certificate::tests::write_pair;
use crate::listen::drain::Drain;
use crate::listen::settings::Settings;
use crate::listen::settings::tests::{over_tls, plain};
use crate::listen::testing::Player;
use crate::listen::tls::provider;
use crate::listen::{Shared, serve};

/// A running listener.
struct House {
    address: SocketAddr,
    shared: Arc<Shared>,
    drain: Drain,
    player: Player,
}

impl House {
    fn open(settings: Settings) -> Self {
        Self::open_at(settings, Post::alone())
    }

    fn open_at(settings: Settings, post: Post) -> Self {
        let mut sockets = bind(&settings, 1).unwrap();
        let shared = Shared::new(settings, &Clock::system());
        let (drain, player) = (Drain::default(), Player::default());
        let socket = sockets.take().remove(0).remove(0);
        tokio::spawn(serve(socket, Arc::clone(&shared), player.clone(), drain.clone(), post));
        Self { address: sockets.local_addrs()[0], shared, drain, player }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_tls(&self, folder: &Path, alpn: &[u8]) -> TlsStream<TcpStream> {
        let connector = TlsConnector::from(Arc::new(client(folder, alpn)));
        let name = ServerName::try_from("localhost").unwrap();
        soon(connector.connect(name, self.connect().await)).await.unwrap()
    }

    fn counted(&self, counter: impl Fn(&crate::listen::counters::Counters) -> &AtomicU64) -> u64 {
        counter(&self.shared.counters).load(Ordering::SeqCst)
    }
}

fn client(folder: &Path, alpn: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

async fn soon<F: Future>(work: F) -> F::Output {
    timeout(Duration::from_secs(10), work).await.expect("it should not take this long")
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut told = Vec::new();
    let _ = soon(stream.read_to_end(&mut told)).await;
    String::from_utf8_lossy(&told).into_owned()
}

const CLOSING: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn http_1_is_served_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(over_tls(folder.path()));
    let mut stream = house.connect_tls(folder.path(), b"http/1.1").await;
    let told = ask(&mut stream, CLOSING).await;
    assert!(told.ends_with("hello"), "{told}");
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(house.counted(|counters| &counters.handshakes_tls13), 1);
    assert_eq!(house.counted(|counters| &counters.handshakes_tls12), 0);
}

#[tokio::test]
async fn http_2_is_served_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(over_tls(folder.path()));
    let stream = house.connect_tls(folder.path(), b"h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (told, _) = crate::listen::http2::tests::get(stream, "https://localhost/").await;
    assert_eq!(told, "hello");
}

#[tokio::test]
async fn tls_1_2_is_refused_unless_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(over_tls(folder.path()));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connected =
        soon(TlsConnector::from(Arc::new(config)).connect(name, house.connect().await)).await;
    assert!(connected.is_err());
    sleep(Duration::from_millis(20)).await;
    assert_eq!(house.counted(|counters| &counters.handshake_failed), 1);
}

#[tokio::test]
async fn a_session_is_resumed_and_a_new_certificate_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let settings = over_tls(folder.path());
    let certificates = Arc::clone(settings.certificates().unwrap());
    let house = House::open(settings);
    let connector = TlsConnector::from(Arc::new(client(folder.path(), b"http/1.1")));
    for _ in 0..2 {
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = soon(connector.connect(name, house.connect().await)).await.unwrap();
        assert!(ask(&mut stream, CLOSING).await.ends_with("hello"));
    }
    assert_eq!(house.counted(|counters| &counters.handshakes_resumed), 1);

    write_pair(folder.path(), 2033);
    assert_eq!(certificates.reload_if_changed(), Ok(true));
    let mut stream = house.connect_tls(folder.path(), b"http/1.1").await;
    assert!(
        ask(&mut stream, CLOSING).await.ends_with("hello"),
        "the client trusts the new one only"
    );
}

#[tokio::test]
async fn plaintext_on_tls_is_told_so_and_tls_on_plaintext_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(over_tls(folder.path()));
    let told = ask(&mut house.connect().await, CLOSING).await;
    assert!(told.starts_with("HTTP/1.1 400 ") && told.ends_with("plaintext-refused"), "{told}");
    assert_eq!(house.counted(|counters| &counters.handshake_failed), 1);

    let house = House::open(plain());
    let mut stream = house.connect().await;
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
    let mut told = Vec::new();
    let _ = soon(stream.read_to_end(&mut told)).await;
    assert!(told.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&told));
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = over_tls(folder.path());
    settings.bounds.handshake_timeout = Duration::from_millis(60);
    let house = House::open(settings);
    let mut stream = house.connect().await;
    stream.write_all(b"\x16\x03").await.unwrap();
    assert_eq!(soon(stream.read(&mut [0; 8])).await.unwrap_or(0), 0);
    assert_eq!(house.counted(|counters| &counters.handshake_timeout), 1);
    assert_eq!(house.counted(|counters| &counters.handshaking), 0);
}

#[tokio::test]
async fn connections_have_a_ceiling_and_give_it_back() {
    let mut settings = plain();
    settings.bounds.connections_per_address = 2;
    let house = House::open(settings);
    let mut held = [house.connect().await, house.connect().await];
    for stream in &mut held {
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(soon(stream.read(&mut [0; 512])).await.unwrap() > 0);
    }
    assert_eq!(house.counted(|counters| &counters.open), 2);
    assert_eq!(ask(&mut house.connect().await, CLOSING).await, "");
    assert_eq!(house.counted(|counters| &counters.refused_address_ceiling), 1);
    drop(held);
    sleep(Duration::from_millis(50)).await;
    assert!(ask(&mut house.connect().await, CLOSING).await.ends_with("hello"));

    let mut settings = plain();
    settings.bounds.connections = 1;
    let house = House::open(settings);
    let _held = house.connect().await;
    sleep(Duration::from_millis(20)).await;
    assert_eq!(ask(&mut house.connect().await, CLOSING).await, "");
    assert_eq!(house.counted(|counters| &counters.refused_ceiling), 1);
}

#[tokio::test]
async fn a_trusted_proxy_is_not_counted_by_its_address() {
    let text = "[[listener]]\nbind = [\"127.0.0.1:0\"]\ntrust_forwarded_from = [\"127.0.0.0/8\"]\nbounds = { connections_per_address = 1 }\n";
    let (settings, told) = crate::listen::settings::tests::compiled(text, Path::new(""));
    assert_eq!(told, "");
    let house = House::open(settings.unwrap());
    let _held = house.connect().await;
    sleep(Duration::from_millis(20)).await;
    assert!(ask(&mut house.connect().await, CLOSING).await.ends_with("hello"));
}

#[tokio::test]
async fn an_early_answer_survives_a_body_that_nobody_reads() {
    let house = House::open(plain());
    let mut stream = house.connect().await;
    let mut request = b"POST /ignore HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n".to_vec();
    request.resize(request.len() + 200_000, b'x');
    stream.write_all(&request).await.unwrap();
    let mut told = Vec::new();
    let _ = soon(stream.read_to_end(&mut told)).await;
    assert!(told.ends_with(b"who are you"), "{}", String::from_utf8_lossy(&told));
}

#[tokio::test]
async fn a_broken_body_resets_where_only_the_end_would_tell() {
    let house = House::open(plain());
    *house.player.script.lock().unwrap() = Some(crate::listen::testing::Script {
        frames: [
            Ok(bytes::Bytes::from_static(b"part")),
            Err(crate::listen::body::Broken::Upstream),
        ]
        .into(),
        ..Default::default()
    });
    let mut stream = house.connect().await;
    stream.write_all(b"GET /script HTTP/1.0\r\n\r\n").await.unwrap();
    let mut told = Vec::new();
    let ended = soon(stream.read_to_end(&mut told)).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

/// One caller after another over kept connections, until one is told to go. Gives the number of
/// answers; an answer that does not come whole fails the test.
async fn call_until_closed(address: SocketAddr, stop: Arc<AtomicBool>) -> u64 {
    let mut answered = 0;
    while !stop.load(Ordering::SeqCst) {
        let Ok(mut stream) = TcpStream::connect(address).await else { break };
        loop {
            stream.write_all(b"GET /soon HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut told = Vec::new();
            while !told.ends_with(b"\r\n\r\nsoon") {
                let read = soon(stream.read_buf(&mut told)).await.unwrap();
                assert!(read > 0, "a request failed after {:?}", String::from_utf8_lossy(&told));
            }
            answered += 1;
            if String::from_utf8_lossy(&told).contains("connection: close") {
                break;
            }
        }
    }
    answered
}

#[tokio::test]
async fn no_request_fails_while_draining_under_load() {
    let house = House::open(plain());
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..40)
        .map(|_| tokio::spawn(call_until_closed(house.address, Arc::clone(&stop))))
        .collect();
    sleep(Duration::from_millis(150)).await;
    stop.store(true, Ordering::SeqCst);
    house.drain.begin();
    let mut answered = 0;
    for caller in callers {
        answered += soon(caller).await.unwrap();
    }
    assert!(answered >= 80, "{answered}");
    soon(house.drain.finished()).await;
    assert_eq!(house.counted(|counters| &counters.open), 0);
    assert_eq!(house.counted(|counters| &counters.in_flight), 0);
    assert!(TcpStream::connect(house.address).await.is_err(), "the socket is closed");
}

#[tokio::test]
async fn a_cut_ends_what_is_left() {
    let house = House::open(plain());
    let mut stream = house.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(30)).await;
    house.drain.cut();
    soon(house.drain.finished()).await;
    assert_eq!(soon(stream.read(&mut [0; 8])).await.unwrap_or(0), 0);
    assert_eq!(house.player.given_up.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_stands_in_the_queue_at_the_drain_is_answered() {
    let house = House::open(plain());
    // Nobody has accepted yet: this test has not let go of its thread.
    let mut waiting: Vec<std::net::TcpStream> =
        (0..20).map(|_| std::net::TcpStream::connect(house.address).unwrap()).collect();
    house.drain.begin();
    for stream in &mut waiting {
        std::io::Write::write_all(stream, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    }
    for stream in waiting {
        stream.set_nonblocking(true).unwrap();
        let told = ask(&mut TcpStream::from_std(stream).unwrap(), "").await;
        assert!(told.contains("connection: close") && told.ends_with("hello"), "{told}");
    }
}

#[tokio::test]
async fn a_connection_that_waits_is_small() {
    let socket = TcpStream::connect(House::open(plain()).address).await.unwrap();
    let service = crate::listen::testing::service(plain(), &Player::default(), &Drain::default());
    let connection = crate::listen::http1::serve(socket, service, 0);
    let bytes = size_of_val(&connection);
    assert!(bytes <= 2048, "{bytes} bytes");
}
