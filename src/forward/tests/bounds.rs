//! Ceilings, balance and health.

use super::*;
use crate::forward::health;

/// An upstream that answers only when the test opens its gate.
async fn gated() -> (SocketAddr, Arc<AtomicUsize>, tokio::sync::watch::Sender<bool>) {
    let (open, gate) = tokio::sync::watch::channel(false);
    let (address, accepted) = upstream(move |mut stream, _| {
        let mut gate = gate.clone();
        async move {
            while read_request(&mut stream).await.is_some() {
                gate.wait_for(|open| *open).await.unwrap();
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    (address, accepted, open)
}

#[tokio::test]
async fn connections_and_waiting_requests_have_ceilings() {
    let (address, accepted, open) = gated().await;
    let rig = Arc::new(Rig::new(&[address], "pool = { max = 2, wait = 3 }"));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let rig = Arc::clone(&rig);
        requests.spawn(async move { rig.fetch(get("/")).await.0 });
    }
    let target = &rig.upstream.targets()[0];
    until(|| target.in_flight() == 2 && target.waiting() == 3).await;
    assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamBusy);
    assert_eq!(target.waiting(), 3);
    open.send(true).unwrap();
    assert_eq!(soon(requests.join_all()).await, [200; 5]);
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
    assert_eq!((target.in_flight(), target.waiting(), target.idle()), (0, 0, 2));
}

#[tokio::test]
async fn waiting_ends_at_the_deadline() {
    let (address, _, _open) = gated().await;
    let rig = Arc::new(Rig::new(&[address], "pool.max = 1"));
    let first = Arc::clone(&rig);
    let first = tokio::spawn(async move { first.fetch(get("/")).await });
    let target = &rig.upstream.targets()[0];
    until(|| target.in_flight() == 1).await;
    let options = SendOptions { total: Some(Duration::from_millis(60)), ..options() };
    let refusal = soon(send(&rig.pool, &rig.upstream, get("/"), &options)).await.err().unwrap();
    assert_eq!(refusal.reason, Reason::UpstreamBusy);
    assert_eq!(target.waiting(), 0);
    first.abort();
}

#[tokio::test]
async fn idle_connections_have_a_ceiling_and_an_end() {
    let (address, _, open) = gated().await;
    let rig = Arc::new(Rig::new(&[address], "pool = { idle = 2, idle_timeout = \"100ms\" }"));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let rig = Arc::clone(&rig);
        requests.spawn(async move { rig.fetch(get("/")).await.0 });
    }
    let target = &rig.upstream.targets()[0];
    until(|| target.in_flight() == 4 && target.connections() == 4).await;
    open.send(true).unwrap();
    soon(requests.join_all()).await;
    until(|| target.connections() == 2).await;
    assert_eq!(target.idle(), 2);
    let pool = Arc::clone(&rig.pool);
    let tending = tokio::spawn(async move { pool.tend().await });
    until(|| target.connections() == 0).await;
    assert_eq!(target.idle(), 0);
    tending.abort();
}

#[tokio::test]
async fn a_connection_that_lay_too_long_or_grew_too_old_is_not_used() {
    for rest in ["pool.idle_timeout = \"50ms\"", "pool.lifetime = \"50ms\""] {
        let (address, accepted) = answering(OK).await;
        let rig = Rig::new(&[address], rest);
        rig.fetch(get("/")).await;
        tokio::time::sleep(Duration::from_millis(80)).await;
        rig.fetch(get("/")).await;
        assert_eq!(accepted.load(Ordering::SeqCst), 2, "{rest}");
        assert_eq!(rig.upstream.targets()[0].idle(), 1);
    }
}

#[tokio::test]
async fn requests_go_where_the_fewest_are() {
    let (slow, stuck, _closed) = gated().await;
    let (quick, served) = answering(OK).await;
    let rig = Arc::new(Rig::new(&[slow, quick], ""));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let rig = Arc::clone(&rig);
        requests.spawn(async move { drop(rig.fetch(get("/")).await) });
    }
    until(|| rig.upstream.targets()[0].in_flight() == 1).await;
    for _ in 0..10 {
        soon(rig.fetch(get("/"))).await;
    }
    assert_eq!(stuck.load(Ordering::SeqCst), 1);
    assert_eq!(rig.upstream.targets()[1].results.ok.load(Ordering::SeqCst), 11);
    assert_eq!(served.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn equals_take_turns() {
    for balance in ["least-requests", "round-robin"] {
        let targets = [answering(OK).await.0, answering(OK).await.0, answering(OK).await.0];
        let rig = Rig::new(&targets, &format!("balance = \"{balance}\""));
        for _ in 0..9 {
            soon(rig.fetch(get("/"))).await;
        }
        for target in rig.upstream.targets() {
            assert_eq!(target.results.ok.load(Ordering::SeqCst), 3, "{balance}");
        }
    }
}

#[tokio::test]
async fn checks_take_a_target_down_and_bring_it_back() {
    let (ill, state) = tokio::sync::watch::channel(false);
    let (address, _) = upstream(move |mut stream, number| {
        let state = state.clone();
        async move {
            while let Some(head) = read_request(&mut stream).await {
                let ill = *state.borrow() && head.starts_with("get /healthz ");
                let status = if ill { "503 Ill" } else { "200 OK" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 8\r\n\r\n{number:08}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let rig = Rig::new(
        &[address],
        "health = { path = \"/healthz\", every = \"100ms\", timeout = \"1s\", up_after = 2, down_after = 2 }",
    );
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let upstreams = Arc::clone(&rig.upstreams);
    let watch = tokio::spawn(health::watch(upstreams, async { drop(stopped.await) }));
    let (_, before) = soon(rig.fetch(get("/"))).await;
    assert_eq!(soon(rig.fetch(get("/"))).await.1, before);
    let target = &rig.upstream.targets()[0];
    assert_eq!(target.idle(), 1);
    ill.send(true).unwrap();
    until(|| !target.is_healthy()).await;
    assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamUnhealthy);
    ill.send(false).unwrap();
    until(|| target.is_healthy()).await;
    // Connections from before it was ill are not trusted.
    let (status, after) = soon(rig.fetch(get("/"))).await;
    assert_eq!(status, 200);
    assert_ne!(after, before);
    assert_eq!(target.idle(), 1);
    stop.send(()).unwrap();
    soon(watch).await.unwrap();
}

#[tokio::test]
async fn a_target_that_takes_no_connections_comes_back_by_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let rig = Rig::new(
        &[address],
        "health = { every = \"100ms\", down_after = 1, up_after = 1 }\nretry.times = 0",
    );
    assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamUnreachable);
    assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamUnhealthy);
    let upstreams = Arc::clone(&rig.upstreams);
    let watch = tokio::spawn(health::watch(upstreams, std::future::pending()));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(!rig.upstream.targets()[0].is_healthy());
    let _listener = TcpListener::bind(address).await.unwrap();
    until(|| rig.upstream.targets()[0].is_healthy()).await;
    watch.abort();
}

#[tokio::test]
async fn nothing_leaks_whenever_callers_leave() {
    let (address, _) = upstream(|mut stream, number| async move {
        while read_request(&mut stream).await.is_some() {
            tokio::time::sleep(Duration::from_millis(number as u64 % 7)).await;
            if stream.write_all(OK).await.is_err() {
                return;
            }
        }
    })
    .await;
    let rig = Arc::new(Rig::new(&[address], "pool = { max = 4, wait = 1000 }"));
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..400_u64 {
        let rig = Arc::clone(&rig);
        requests.spawn(async move {
            // Some leave at once and some stay to the end, however slow the machine is.
            let patience = match number % 23 {
                22 => Duration::from_secs(60),
                milliseconds => Duration::from_millis(milliseconds),
            };
            tokio::time::timeout(patience, rig.fetch(get("/"))).await.is_ok()
        });
    }
    let served = soon(requests.join_all()).await;
    assert!(served.contains(&true) && served.contains(&false));
    let target = &rig.upstream.targets()[0];
    assert_eq!((target.in_flight(), target.waiting()), (0, 0));
    assert!(target.idle() <= 4);
    until(|| target.connections() == target.idle()).await;
    // All four seats are free again.
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let rig = Arc::clone(&rig);
        requests.spawn(async move { rig.fetch(get("/")).await.0 });
    }
    assert_eq!(soon(requests.join_all()).await, [200; 8]);
}
