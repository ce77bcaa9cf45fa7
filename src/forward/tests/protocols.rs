//! HTTP/2 and TLS towards upstreams.

use std::convert::Infallible;

use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use super::*;

type Served = UnsyncBoxBody<Bytes, Infallible>;

/// Tells what arrived: method, authority, whether there was a `Host`, and the body. `/grpc` ends in
/// trailers.
async fn echo(request: Request<Incoming>) -> Result<Response<Served>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    if parts.uri.path() == "/grpc" {
        assert_eq!(parts.headers.get("te").unwrap(), "trailers");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("x-user", HeaderValue::from_static("admin"));
        let body = Full::from(body).with_trailers(async { Some(Ok(trailers)) });
        return Ok(Response::new(body.boxed_unsync()));
    }
    let authority = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
    let host = parts.headers.contains_key("host");
    let text = format!("{} {authority} {host} {}", parts.method, String::from_utf8_lossy(&body));
    Ok(Response::new(Full::from(text).boxed_unsync()))
}

async fn serve_http2(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) {
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    drop(builder.serve_connection(TokioIo::new(io), service_fn(echo)).await);
}

#[tokio::test]
async fn http2_requests_share_one_connection_and_name_the_host_once() {
    let (address, accepted) = upstream(|stream, _| serve_http2(stream)).await;
    let rig = Arc::new(Rig::new(&[address], "http = \"2\""));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let rig = Arc::clone(&rig);
        requests.spawn(async move { rig.fetch(with_body(Method::POST, b"{}")).await });
    }
    for (status, body) in soon(requests.join_all()).await {
        assert_eq!((status, &*body), (200, b"POST api.example.com false {}".as_slice()));
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    let target = &rig.upstream.targets()[0];
    assert_eq!((target.connections(), target.in_flight()), (1, 0));
    assert_eq!(target.results.ok.load(Ordering::SeqCst), 20);
    let rig = Rig::new(&[address], "http = \"2\"\nhost = \"target\"");
    let (_, body) = soon(rig.fetch(get("/"))).await;
    assert_eq!(body, format!("GET {address} false "));
}

#[tokio::test]
async fn only_the_outcome_of_a_call_passes_as_a_trailer() {
    let (address, _) = upstream(|stream, _| serve_http2(stream)).await;
    let rig = Rig::new(&[address], "http = \"2\"");
    let mut head = head(Method::POST, "/grpc", Length::Exactly(2));
    head.headers.insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    let answer =
        soon(rig.send(cleared(head, Body::Whole(Bytes::from_static(b"{}"))))).await.unwrap();
    let body = answer.body;
    let collected = soon(body.collect()).await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    assert_eq!(rig.upstream.targets()[0].in_flight(), 0);
}

#[tokio::test]
async fn trailers_of_http1_do_not_pass() {
    let (address, _) = answering(
        b"HTTP/1.1 200 OK\r\nTrailer: x-user\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-User: admin\r\ngrpc-status: 0\r\n\r\n",
    )
    .await;
    let rig = Rig::new(&[address], "");
    for _ in 0..2 {
        let answer = soon(rig.send(get("/"))).await.unwrap();
        assert!(!answer.headers.contains_key("trailer"));
        let body = answer.body;
        assert!(soon(body.collect()).await.unwrap().trailers().is_none());
    }
}

#[tokio::test]
async fn http2_reconnects_after_its_connection_ended() {
    let (address, accepted) = upstream(|stream, number| async move {
        let serving = serve_http2(stream);
        let long = Duration::from_millis(if number == 0 { 100 } else { 5000 });
        drop(tokio::time::timeout(long, serving).await);
    })
    .await;
    let rig = Rig::new(&[address], "http = \"2\"");
    assert_eq!(soon(rig.fetch(get("/"))).await.0, 200);
    until(|| rig.upstream.targets()[0].connections() == 0).await;
    assert_eq!(soon(rig.fetch(get("/"))).await.0, 200);
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_http2_connection_that_nobody_uses_is_closed() {
    let (address, _) = upstream(|stream, _| serve_http2(stream)).await;
    let rig = Rig::new(&[address], "http = \"2\"\npool.idle_timeout = \"100ms\"");
    assert_eq!(soon(rig.fetch(get("/"))).await.0, 200);
    assert_eq!(rig.upstream.targets()[0].connections(), 1);
    let pool = Arc::clone(&rig.pool);
    let tending = tokio::spawn(async move { pool.tend().await });
    until(|| rig.upstream.targets()[0].connections() == 0).await;
    assert_eq!(soon(rig.fetch(get("/"))).await.0, 200);
    tending.abort();
}

#[tokio::test]
async fn http2_bodies_that_break_off_are_the_callers_fault() {
    let (address, _) = upstream(|stream, _| serve_http2(stream)).await;
    let rig = Rig::new(&[address], "http = \"2\"");
    let (feed, cleared) = fed(Length::Unknown);
    feed.send(Ok(Bytes::from_static(b"abc"))).await.unwrap();
    feed.send(Err(Broken::Caller(Reason::BodyTooLarge))).await.unwrap();
    assert_eq!(soon(rig.refused(cleared)).await, Reason::BodyTooLarge);
    // The other requests on the connection are none of its business.
    assert_eq!(soon(rig.fetch(get("/"))).await.0, 200);
    assert_eq!(rig.upstream.targets()[0].connections(), 1);
}

#[tokio::test]
async fn an_upgrade_is_not_asked_of_http2() {
    let (address, accepted) = upstream(|stream, _| serve_http2(stream)).await;
    let rig = Rig::new(&[address], "http = \"2\"");
    let mut head = head(Method::GET, "/ws", Length::None);
    head.upgrade = Some(HeaderValue::from_static("websocket"));
    let reason = rig.refused(cleared(head, Body::Empty)).await;
    assert_eq!(reason, Reason::UpgradeUnsupported);
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
}

/// A TLS upstream whose certificate holds `name`, and the PEM file of its authority.
async fn secured(
    name: &str,
    protocols: &'static [&'static [u8]],
) -> (SocketAddr, tempfile::TempDir) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), authority_certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (address, _) = upstream(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                return serve_http2(stream).await;
            }
            let mut head = [0; 4096];
            while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    (address, dir)
}

fn over_tls(address: SocketAddr, dir: &tempfile::TempDir, name: &str, http: &str) -> Rig {
    let ca = dir.path().join("ca.pem");
    Rig::written(&format!(
        "targets = [\"https://{address}\"]\nhttp = \"{http}\"\n\
         tls = {{ ca = \"file:{}\", server_name = \"{name}\" }}",
        ca.display()
    ))
}

#[tokio::test]
async fn a_target_is_proved_by_its_authority_and_its_name() {
    let (address, dir) = secured("tasks.internal", &[b"http/1.1"]).await;
    let rig = over_tls(address, &dir, "tasks.internal", "1.1");
    for _ in 0..2 {
        assert_eq!(soon(rig.fetch(get("/"))).await.0, 200);
    }
    assert_eq!(rig.upstream.targets()[0].connections(), 1);
    let other_name = over_tls(address, &dir, "users.internal", "1.1");
    assert_eq!(soon(other_name.refused(get("/"))).await, Reason::UpstreamUnreachable);
    let (_, other_dir) = secured("tasks.internal", &[b"http/1.1"]).await;
    let other_authority = over_tls(address, &other_dir, "tasks.internal", "1.1");
    assert_eq!(soon(other_authority.refused(get("/"))).await, Reason::UpstreamUnreachable);
    let public = Rig::written(&format!("targets = [\"https://{address}\"]"));
    assert_eq!(soon(public.refused(get("/"))).await, Reason::UpstreamUnreachable);
}

/// A path to a target, on which somebody writes this to the gateway before the target says anything.
async fn injected(target: SocketAddr, text: &'static str, goes_on: bool) -> SocketAddr {
    let (address, _) = upstream(move |mut stream, _| async move {
        use tokio::io::AsyncWriteExt as _;
        let _ = stream.write_all(text.as_bytes()).await;
        if goes_on {
            let mut behind = tokio::net::TcpStream::connect(target).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
        } else {
            // Whatever is said to it is read, so that what it wrote is not lost to a reset.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    })
    .await;
    address
}

#[tokio::test]
async fn cve_2026_1642_plain_bytes_before_the_handshake_are_no_answer() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ninjected";
    // The settings of a server, and an answer on the first stream.
    let frames = "\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\u{8}";
    let both: [(&str, &'static [&'static [u8]]); 2] = [("1.1", &[b"http/1.1"]), ("2", &[b"h2"])];
    for (http, protocols) in both {
        let (target, dir) = secured("tasks.internal", protocols).await;
        for text in [answer, frames] {
            for goes_on in [true, false] {
                let address = injected(target, text, goes_on).await;
                let ca = dir.path().join("ca.pem");
                let rig = Rig::written(&format!(
                    "targets = [\"https://{address}\"]\nhttp = \"{http}\"\ntimeout.connect = \"500ms\"\n\
                     tls = {{ ca = \"file:{}\", server_name = \"tasks.internal\" }}",
                    ca.display()
                ));
                let refused = soon(rig.refused(get("/"))).await;
                let lost = [Reason::UpstreamUnreachable, Reason::UpstreamTimeout];
                assert!(lost.contains(&refused), "{http} {goes_on}: {refused:?}");
                assert_eq!(rig.upstream.targets()[0].connections(), 0, "nothing is kept of it");
            }
        }
        // The same path without those bytes is a good one.
        let clean = injected(target, "", true).await;
        let rig = over_tls(clean, &dir, "tasks.internal", http);
        assert_eq!(soon(rig.fetch(get("/"))).await.0, 200);
    }
}

#[tokio::test]
async fn http2_over_tls_must_have_been_agreed_on() {
    let (address, dir) = secured("tasks.internal", &[b"h2", b"http/1.1"]).await;
    let rig = over_tls(address, &dir, "tasks.internal", "2");
    assert_eq!(soon(rig.fetch(get("/"))).await.1, "GET api.example.com false ");
    let (address, dir) = secured("tasks.internal", &[]).await;
    let rig = over_tls(address, &dir, "tasks.internal", "2");
    assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamUnreachable);
}

#[test]
fn a_file_without_an_authority_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.pem"), "").unwrap();
    for file in ["file:empty.pem", "file:nowhere.pem", "empty.pem"] {
        let text = format!("targets = [\"https://a.internal\"]\ntls = {{ ca = \"{file}\" }}");
        let (upstream, mistakes) = compiled(&text, dir.path());
        assert!(upstream.is_none());
        assert!(mistakes.join("\n").contains("P0302"), "{mistakes:?}");
    }
}

#[tokio::test]
async fn a_stalled_handshake_ends_at_its_deadline() {
    let (address, _) = upstream(|stream, _| async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(stream);
    })
    .await;
    let rig = Rig::written(&format!(
        "targets = [\"https://{address}\"]\ntimeout.connect = \"80ms\"\nretry.times = 0"
    ));
    assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamTimeout);
    assert_eq!(rig.upstream.targets()[0].connections(), 0);
}
