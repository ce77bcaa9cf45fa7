//! What comes back: framing, streaming, upgrades.

use super::*;
use http_body_util::BodyExt;

#[tokio::test]
async fn a_connection_is_used_again_after_each_kind_of_whole_answer() {
    for (answer, method, expected) in [
        (OK, Method::GET, (200, "ok")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".as_slice(),
            Method::GET,
            (200, "ok"),
        ),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", Method::GET, (204, "")),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Method::GET, (304, "")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Method::HEAD, (200, "")),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            Method::GET,
            (200, ""),
        ),
    ] {
        let (address, accepted) = answering(answer).await;
        let rig = Rig::new(&[address], "");
        for _ in 0..3 {
            let head = head(method.clone(), "/", Length::None);
            let (status, body) = soon(rig.fetch(cleared(head, Body::Empty))).await;
            assert_eq!((status, &*body), (expected.0, expected.1.as_bytes()));
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 1, "{}", String::from_utf8_lossy(answer));
        assert_eq!(rig.upstream.targets()[0].in_flight(), 0);
        assert_eq!(rig.upstream.targets()[0].idle(), 1);
    }
}

#[tokio::test]
async fn a_connection_that_ends_with_its_answer_is_not_used_again() {
    for answer in [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".as_slice(),
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let (address, accepted) = answering_once(answer).await;
        let rig = Rig::new(&[address], "");
        for count in 1..=2 {
            let (_, body) = soon(rig.fetch(with_body(Method::POST, b"x"))).await;
            assert_eq!(&*body, b"ok");
            assert_eq!(accepted.load(Ordering::SeqCst), count);
        }
        assert_eq!(rig.upstream.targets()[0].idle(), 0);
    }
}

#[tokio::test]
async fn headers_of_an_answer_lose_what_belongs_to_its_connection() {
    let (address, _) = answering(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
          Proxy-Authenticate: Basic\r\nX-Portcullis-Identity: me\r\nETag: \"a\"\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let answer = Rig::new(&[address], "").send(get("/")).await.unwrap();
    let mut names: Vec<&str> = answer.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "etag"]);
    // The length that HEAD tells is that of another answer; the one that 204 tells is nobody's.
    let (address, _) = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").await;
    let asked = cleared(head(Method::HEAD, "/", Length::None), Body::Empty);
    let answer = Rig::new(&[address], "").send(asked).await.unwrap();
    assert_eq!(answer.headers.get("content-length").unwrap(), "9");
    let (address, _) = answering(b"HTTP/1.1 204 None\r\nContent-Length: 9\r\n\r\n").await;
    let answer = Rig::new(&[address], "").send(get("/")).await.unwrap();
    assert!(answer.headers.is_empty());
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_reaches_nobody() {
    let (address, accepted) = answering(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    )
    .await;
    let rig = Rig::new(&[address], "");
    for count in 1..=5 {
        let (_, body) = soon(rig.fetch(with_body(Method::POST, b"{}"))).await;
        assert_eq!(body, "ok");
        assert_eq!(accepted.load(Ordering::SeqCst), count);
    }
}

#[tokio::test]
async fn an_early_answer_survives_that_the_upstream_then_closes() {
    let (address, _) = upstream(|mut stream, _| async move {
        let mut head = vec![0; 512];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        let answer = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let rig = Rig::new(&[address], "");
    for _ in 0..5 {
        let (feed, cleared) = fed(Length::Exactly(1_000_000));
        let feeding = async {
            while feed.send(Ok(Bytes::from_static(&[b'x'; 1000]))).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (answer, ()) = soon(async { tokio::join!(rig.fetch(cleared), feeding) }).await;
        assert_eq!(answer, (413, Bytes::from_static(b"no")));
    }
}

#[tokio::test]
async fn every_event_of_a_stream_passes_at_once() {
    let (go, gate) = tokio::sync::watch::channel(0);
    let (address, _) = upstream(move |mut stream, _| {
        let mut gate = gate.clone();
        async move {
            read_request(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head).await.unwrap();
            for number in 1..=3 {
                gate.wait_for(|gate| *gate >= number).await.unwrap();
                stream.write_all(format!("9\r\ndata: {number}\n\n\r\n").as_bytes()).await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let rig = Rig::new(&[address], "");
    let answer = soon(rig.send(get("/events"))).await.unwrap();
    let mut body = answer.body;
    for number in 1..=3 {
        // The next event is not even written before this one has arrived.
        go.send(number).unwrap();
        let frame = soon(body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), format!("data: {number}\n\n"));
    }
    assert!(soon(body.frame()).await.is_none());
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_was_read_is_passed_on() {
    let (address, accepted) = upstream(|mut stream, _| async move {
        let mut head = vec![0; 512];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        let answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
        stream.write_all(answer).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    let rig = Rig::new(&[address], "");
    for count in 1..=2 {
        let (feed, cleared) = fed(Length::Exactly(1_000_000));
        feed.send(Ok(Bytes::from_static(b"abc"))).await.unwrap();
        assert_eq!(soon(rig.fetch(cleared)).await, (413, Bytes::from_static(b"no")));
        // Its connection is in the middle of a request and carries no other.
        assert_eq!(accepted.load(Ordering::SeqCst), count);
        // What is left of the body is not read on behalf of nobody.
        soon(feed.closed()).await;
    }
}

fn websocket() -> Cleared {
    let mut head = head(Method::GET, "/ws", Length::None);
    head.upgrade = Some(HeaderValue::from_static("websocket"));
    head.headers.insert("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
    head.headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    cleared(head, Body::Empty)
}

#[tokio::test]
async fn an_upgrade_that_the_upstream_agrees_to_becomes_a_stream() {
    let (address, _) = upstream(|mut stream, _| async move {
        let head = read_request(&mut stream).await.unwrap();
        assert_eq!(header(&head, "connection"), Some("upgrade"));
        assert_eq!(header(&head, "upgrade"), Some("websocket"));
        assert_eq!(header(&head, "sec-websocket-version"), Some("13"));
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
                       Sec-WebSocket-Accept: x\r\n\r\nfirst";
        stream.write_all(answer).await.unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    })
    .await;
    let rig = Rig::new(&[address], "");
    let answer = soon(rig.send(websocket())).await.unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.headers.len(), 1, "{:?}", answer.headers);
    let mut stream = answer.upgraded.unwrap();
    let mut first = [0; 5];
    soon(stream.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"first");
    stream.write_all(b"ping").await.unwrap();
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"ping");
    assert_eq!(rig.upstream.targets()[0].in_flight(), 1);
    drop(stream);
    assert_eq!(rig.upstream.targets()[0].in_flight(), 0);
    assert_eq!(rig.upstream.targets()[0].idle(), 0);
}

#[tokio::test]
async fn no_other_answer_becomes_a_stream() {
    let switching: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (address, _) = answering(switching).await;
    assert_eq!(soon(Rig::new(&[address], "").refused(get("/"))).await, Reason::UpstreamBroken);
    for other in [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
            .as_slice(),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let (address, _) = answering(other).await;
        let rig = Rig::new(&[address], "");
        assert_eq!(soon(rig.refused(websocket())).await, Reason::UpstreamBroken);
    }
    let (address, _) = answering(OK).await;
    let answer = soon(Rig::new(&[address], "").send(websocket())).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.upgraded.is_none());
}
