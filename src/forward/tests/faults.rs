//! What goes wrong: on the way there, on the way back, and on the caller's side.

use super::*;

fn broken_off(result: Result<Bytes, Broken>) -> Broken {
    result.expect_err("the answer seemed whole")
}

#[tokio::test]
async fn a_request_is_sent_again_when_the_pooled_connection_had_closed() {
    // Each connection answers once, and closes when the second request arrives.
    let (address, accepted) = upstream(|mut stream, _| async move {
        read_request(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        read_request(&mut stream).await;
    })
    .await;
    let rig = Rig::new(&[address], "");
    for (method, count) in [(Method::GET, 1), (Method::GET, 2), (Method::DELETE, 3)] {
        let head = head(method, "/", Length::None);
        assert_eq!(soon(rig.fetch(cleared(head, Body::Empty))).await.0, 200);
        assert_eq!(accepted.load(Ordering::SeqCst), count);
    }
    assert_eq!(soon(rig.fetch(with_body(Method::PUT, b"{}"))).await.0, 200);
    assert_eq!(accepted.load(Ordering::SeqCst), 4);
    assert_eq!(rig.upstream.retries().stale.load(Ordering::SeqCst), 3);
    // What might have been done already is not done again.
    assert_eq!(soon(rig.refused(with_body(Method::POST, b"{}"))).await, Reason::UpstreamBroken);
    assert_eq!(accepted.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_connection_that_is_known_to_have_closed_costs_nobody_anything() {
    let (closed, mut told) = mpsc::unbounded_channel();
    let (address, accepted) = upstream(move |mut stream, _| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    })
    .await;
    let rig = Rig::new(&[address], "retry.times = 0");
    for count in 1..=4 {
        assert_eq!(soon(rig.fetch(with_body(Method::POST, b"{}"))).await.0, 200);
        assert_eq!(accepted.load(Ordering::SeqCst), count);
        soon(told.recv()).await.unwrap();
        // The runtime hears of it when it next looks at its sockets.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Whoever looks after the pool closes what has ended, although nobody asks for it.
    let pool = Arc::clone(&rig.pool);
    let tending = tokio::spawn(async move { pool.tend().await });
    until(|| rig.upstream.targets()[0].connections() == 0).await;
    tending.abort();
}

#[tokio::test]
async fn a_first_connection_that_closes_is_not_asked_again() {
    let (address, accepted) = upstream(|mut stream, _| async move {
        read_request(&mut stream).await;
    })
    .await;
    let rig = Rig::new(&[address], "");
    assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamBroken);
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    assert_eq!(rig.upstream.targets()[0].results.error.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_target_where_nobody_listens_is_passed_over() {
    let (well, _) = answering(OK).await;
    let rig = Rig::new(&[nobody().await, well], "health.down_after = 2");
    for _ in 0..6 {
        // Nothing was sent to the first, so even a POST may go to the second.
        assert_eq!(soon(rig.fetch(with_body(Method::POST, b"{}"))).await.0, 200);
    }
    let [ill, well] = rig.upstream.targets() else { panic!() };
    assert!(!ill.is_healthy() && well.is_healthy());
    assert_eq!(ill.results.refused.load(Ordering::SeqCst), 2);
    assert_eq!(well.results.ok.load(Ordering::SeqCst), 6);
    assert_eq!(rig.upstream.retries().connect.load(Ordering::SeqCst), 2);
    let alone = Rig::new(&[nobody().await], "health.down_after = 2");
    assert_eq!(soon(alone.refused(get("/"))).await, Reason::UpstreamUnreachable);
    let refusal = alone.send(get("/")).await.err().unwrap();
    assert_eq!(refusal.reason, Reason::UpstreamUnhealthy);
    assert_eq!(refusal.extra, crate::refusal::extra::Extra::RetryAfter(5));
}

#[tokio::test]
async fn silence_ends_at_its_deadline() {
    let (address, _) = upstream(|mut stream, _| async move {
        read_request(&mut stream).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    for rest in ["timeout.first_byte = \"80ms\"", "timeout.total = \"80ms\""] {
        let rig = Rig::new(&[address], rest);
        let begun = tokio::time::Instant::now();
        assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamTimeout);
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(rig.upstream.targets()[0].results.timeout.load(Ordering::SeqCst), 1);
        assert_eq!(rig.upstream.targets()[0].in_flight(), 0);
    }
    let rig = Rig::new(&[address], "");
    let options = SendOptions { total: Some(Duration::from_millis(80)), ..options() };
    let refusal = soon(send(&rig.pool, &rig.upstream, get("/"), &options)).await.err().unwrap();
    assert_eq!(refusal.reason, Reason::UpstreamTimeout);
}

#[tokio::test]
async fn answers_that_two_readers_could_read_differently_are_refused() {
    for answer in [
        b"nonsense\r\n\r\n".as_slice(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (address, _) = answering(answer).await;
        let rig = Rig::new(&[address], "");
        let reason = soon(rig.refused(get("/"))).await;
        assert_eq!(reason, Reason::UpstreamBroken, "{}", String::from_utf8_lossy(answer));
        assert_eq!(rig.upstream.targets()[0].idle(), 0);
        let results = &rig.upstream.targets()[0].results;
        assert_eq!(results.error.load(Ordering::SeqCst), 1);
        assert_eq!(results.ok.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let (address, _) = upstream(|mut stream, _| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        let line = format!("X-{}: y\r\n", "x".repeat(1000));
        while stream.write_all(line.as_bytes()).await.is_ok() {}
    })
    .await;
    let rig = Rig::new(&[address], "");
    assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamBroken);
}

#[tokio::test]
async fn an_answer_cut_short_breaks_its_body() {
    for answer in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n",
    ] {
        let (address, _) = answering_once(answer).await;
        let rig = Rig::new(&[address], "");
        let answer = soon(rig.send(get("/"))).await.unwrap();
        assert_eq!(broken_off(soon(whole(answer.body)).await), Broken::Upstream);
        assert_eq!(rig.upstream.targets()[0].results.error.load(Ordering::SeqCst), 1);
        assert_eq!(rig.upstream.targets()[0].idle(), 0);
    }
}

#[tokio::test]
async fn an_answer_that_falls_silent_breaks_its_body() {
    let (address, _) = upstream(|mut stream, _| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n").await.unwrap();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(70)).await;
            stream.write_all(b"x").await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    let rig = Rig::new(&[address], "timeout.idle = \"150ms\"");
    let answer = soon(rig.send(get("/"))).await.unwrap();
    let mut body = answer.body;
    for _ in 0..3 {
        assert!(soon(body.frame()).await.unwrap().is_ok(), "slow is not silent");
    }
    assert_eq!(soon(body.frame()).await.unwrap().unwrap_err(), Broken::Upstream);
    assert!(soon(body.frame()).await.is_none());
    assert_eq!(rig.upstream.targets()[0].in_flight(), 0);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_callers_fault() {
    let (address, mut heads) = listening().await;
    let rig = Rig::new(&[address], "");
    for (broken, reason) in [
        (Broken::Caller(Reason::BodyTooLarge), Reason::BodyTooLarge),
        (Broken::Caller(Reason::ChunkMalformed), Reason::ChunkMalformed),
        (Broken::Connection, Reason::ClientLeft),
    ] {
        for length in [Length::Exactly(100), Length::Unknown] {
            let (feed, cleared) = fed(length);
            feed.send(Ok(Bytes::from_static(b"abc"))).await.unwrap();
            feed.send(Err(broken)).await.unwrap();
            assert_eq!(soon(rig.refused(cleared)).await, reason);
            assert_eq!(rig.upstream.targets()[0].idle(), 0);
        }
    }
    // More or less than the head declared never becomes a request.
    for (bytes, reason) in [("ab", Reason::BodyIncomplete), ("abcd", Reason::FramingAmbiguous)] {
        let (feed, cleared) = fed(Length::Exactly(3));
        feed.send(Ok(Bytes::from_static(bytes.as_bytes()))).await.unwrap();
        drop(feed);
        assert_eq!(soon(rig.refused(cleared)).await, reason);
    }
    assert!(heads.try_recv().is_err(), "a broken request was taken for a whole one");
}

#[tokio::test]
async fn waiting_for_the_caller_is_not_the_upstreams_fault() {
    let (address, _) = answering(OK).await;
    let rig = Rig::new(&[address], "timeout = { first_byte = \"60ms\", total = \"500ms\" }");
    let (feed, cleared) = fed(Length::Exactly(3));
    let slow = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            feed.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
        }
    };
    let ((status, _), ()) = soon(async { tokio::join!(rig.fetch(cleared), slow) }).await;
    assert_eq!(status, 200);
    let (_feed, cleared) = fed(Length::Exactly(3));
    assert_eq!(soon(rig.refused(cleared)).await, Reason::BodyTimeout);
    assert_eq!(rig.upstream.targets()[0].results.timeout.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_connection_along() {
    let (closed, mut told) = mpsc::unbounded_channel();
    let (address, _) = upstream(move |mut stream, _| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await;
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
            closed.send(()).unwrap();
        }
    })
    .await;
    let rig = Rig::new(&[address], "");
    let left = tokio::time::timeout(Duration::from_millis(80), rig.send(get("/"))).await;
    assert!(left.is_err());
    soon(told.recv()).await.unwrap();
    assert_eq!(rig.upstream.targets()[0].in_flight(), 0);
}

#[tokio::test]
async fn a_name_is_looked_up_and_all_its_addresses_are_tried() {
    // `localhost` may be ::1 first, where nobody listens.
    let (address, _) = answering(OK).await;
    let rig = Rig::written(&format!("targets = [\"http://localhost:{}\"]", address.port()));
    assert_eq!(soon(rig.fetch(get("/"))).await.0, 200);
    let rig = Rig::written("targets = [\"http://nothing.invalid:80\"]");
    assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamUnreachable);
}

#[tokio::test]
async fn a_name_that_leads_to_the_admin_listener_leads_nowhere() {
    let (address, accepted) = answering(OK).await;
    let text = format!("targets = [\"http://localhost:{}\"]", address.port());
    let mut upstream = compiled(&text, Path::new("/")).0.unwrap();
    upstream.settings.forbidden = [address].into();
    let rig = Rig::of(upstream);
    assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamUnreachable);
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn no_total_is_too_long_to_be_reckoned_with() {
    let (address, _) = answering(OK).await;
    let rig = Rig::new(&[address], "");
    let options = SendOptions { total: Some(Duration::MAX), ..options() };
    assert!(soon(send(&rig.pool, &rig.upstream, get("/"), &options)).await.is_ok());
}

#[tokio::test]
async fn an_upstream_of_another_configuration_is_not_mistaken_for_one_of_ours() {
    let (address, accepted) = answering(OK).await;
    let (one, two) = (Rig::new(&[address], ""), Rig::new(&[address, nobody().await], ""));
    let options = options();
    for _ in 0..2 {
        let refusal = send(&one.pool, &two.upstream, get("/"), &options).await.err().unwrap();
        assert_eq!(refusal.reason, Reason::GatewayFault);
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
}
