//! What an operator may write, and what headers a target sees.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::forward::identity::{Facts, Verifier};
use crate::secret::Secret;

#[test]
fn every_mistake_of_an_upstream_is_told_at_once() {
    let text = r#"
        targets = ["http://10.0.0.1:80", "http://u@a", "ftp://b", "http://127.0.0.1:9901"]
        pool = { max = 0, idle_timeout = "0s", idel = 3 }
        timeout = { connect = "20s" }
        retry = { times = 2 }
        health = { path = "healthz", up_after = 0 }
        identity = "hunter2"
        tls = { server_name = "a" }
    "#;
    let (upstream, mistakes) = compiled(text, Path::new("/"));
    assert!(upstream.is_none());
    let text = mistakes.join("\n");
    for expected in [
        "W0412 the target `http://10.0.0.1:80`",
        "P0301 the target `http://u@a`",
        "P0301 the target `ftp://b`",
        "P0301 the target `http://127.0.0.1:9901` is the gateway's own",
        "P0102 unknown key `idel`",
        "P0103 `pool.max`",
        "P0103 `pool.idle_timeout`",
        "P0103 `timeout.connect`",
        "P0103 `retry.times`",
        "P0103 `healthz` is not a path",
        "P0103 `health.up_after`",
        "P0303",
        "P0103 `tls` is given",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn defaults_are_those_that_the_editor_shows() {
    let (upstream, mistakes) = compiled("targets = [\"http://127.0.0.1:9000\"]", Path::new("/"));
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let settings = upstream.unwrap().settings;
    assert_eq!(settings.pool.idle_max, 64);
    assert_eq!(settings.pool.requests_max, 512);
    assert_eq!(settings.pool.waiting_max, 256);
    assert_eq!(settings.timeout.connect, Duration::from_secs(1));
    assert_eq!(settings.timeout.first_byte, Duration::from_secs(5));
    assert_eq!(settings.total_timeout(), Duration::from_secs(10));
    assert_eq!(settings.idle_timeout(), Duration::from_secs(60));
    assert_eq!(settings.retries_max, 1);
    assert!(!settings.signs_identity());
    let short = "targets = [\"http://127.0.0.1:9000\"]\ntimeout.total = \"500ms\"";
    let settings = compiled(short, Path::new("/")).0.unwrap().settings;
    assert_eq!(settings.timeout.first_byte, Duration::from_millis(500));
}

const HERE: (&str, &str, &str) = ("GET", "/", "");

/// The identity that an upstream is told of an anonymous caller.
fn signed_for(upstream: &Upstream) -> HeaderValue {
    let (method, path, query) = HERE;
    let facts = Facts { grant: None, method, path, query, request_id: "1" };
    upstream.identity_signer().unwrap().sign(&facts, NOW).unwrap()
}

#[test]
fn a_new_secret_signs_identities_from_its_arrival_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    let write = |text: &str| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    };
    write(SECRET);
    let text = "targets = [\"http://127.0.0.1:9000\"]\nidentity = \"file:secret\"";
    let upstream = compiled(text, dir.path()).0.unwrap();
    let rig = Rig::of(upstream);
    let follows = rig.upstream.identity_signer().unwrap().verifier();
    let reloads = || {
        let mut told = Vec::new();
        rig.upstream.reload_if_changed(|what, done| told.push((what, done.is_ok())));
        told
    };
    let is_by = |secret: &str| {
        let value = signed_for(&rig.upstream);
        assert!(follows.verify(value.as_bytes(), HERE, NOW).is_ok());
        Verifier::new(&Secret::new(secret.into())).verify(value.as_bytes(), HERE, NOW).is_ok()
    };
    assert!(reloads().is_empty() && is_by(SECRET));
    // One that is too short changes nothing, and is told once.
    write("short");
    assert_eq!((reloads(), reloads()), (vec![("identity", false)], vec![]));
    assert!(is_by(SECRET));
    let other = "another-secret-of-at-least-32-bytes";
    write(other);
    assert_eq!(reloads(), [("identity", true)]);
    assert!(is_by(other) && !is_by(SECRET));
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let text = "targets = [\"http://127.0.0.1:9000\"]\nidentity = \"file:secret\"";
    for (mode, code) in [(0o644, Some("P0304")), (0o640, Some("P0304")), (0o600, None)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (upstream, mistakes) = compiled(text, dir.path());
        assert_eq!(upstream.is_some(), code.is_none(), "{mistakes:?}");
        if let Some(code) = code {
            assert!(mistakes.join("\n").contains(code), "{mistakes:?}");
        } else {
            // The line break that editors leave is no part of the secret.
            let value = signed_for(&upstream.unwrap());
            assert!(
                Verifier::new(&Secret::new(SECRET.into()))
                    .verify(value.as_bytes(), HERE, NOW)
                    .is_ok()
            );
        }
    }
    for short in ["file:nowhere", "env:NOTHING"] {
        let text = format!("targets = [\"http://127.0.0.1:9000\"]\nidentity = \"{short}\"");
        assert!(compiled(&text, dir.path()).0.is_none());
    }
}

#[test]
fn a_generated_secret_is_whole_even_when_its_last_byte_is_a_line_break() {
    let dir = tempfile::tempdir().unwrap();
    let text = "targets = [\"http://127.0.0.1:9000\"]\nidentity = \"generated\"";
    // One in 256 secrets ends with such a byte.
    for _ in 0..2000 {
        let (upstream, mistakes) = compiled(text, dir.path());
        assert!(upstream.is_some(), "{mistakes:?}");
    }
}

#[tokio::test]
async fn a_target_sees_what_the_gateway_knows_and_no_credential() {
    let (address, mut heads) = listening().await;
    let rig = Rig::new(&[address], "");
    let mut head = head(Method::GET, "/v1/tasks", Length::None);
    head.query = Some("dueDate[lt]=2026".into());
    let client = head.parties.client;
    head.parties = Arc::new(Parties::new(client, "https", "api.example.com", Some(8443)));
    for (name, value) in [
        ("authorization", "Bearer pcl_live_x"),
        ("x-api-key", "pcl_live_y"),
        ("signature", "sig=:AA==:"),
        ("signature-input", "sig=()"),
        ("content-length", "5"),
        ("accept", "application/json"),
        ("cookie", "a=b"),
    ] {
        head.headers.insert(name, HeaderValue::from_static(value));
    }
    rig.fetch(cleared(head, Body::Empty)).await;
    let seen = heads.recv().await.unwrap();
    assert!(seen.starts_with("get /v1/tasks?duedate[lt]=2026 http/1.1\r\n"), "{seen}");
    for (name, value) in [
        ("host", "api.example.com:8443"),
        ("forwarded", "for=192.0.2.60;proto=https;host=\"api.example.com:8443\""),
        ("x-forwarded-for", "192.0.2.60"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.example.com:8443"),
        ("x-request-id", "01arz3ndektsv4rrffq69g5fav"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("accept", "application/json"),
        ("cookie", "a=b"),
    ] {
        assert_eq!(header(&seen, name), Some(value), "{seen}");
    }
    assert_eq!(seen.lines().count(), 11, "{seen}");
}

#[tokio::test]
async fn credentials_pass_and_hosts_change_only_when_it_was_asked() {
    let (address, mut heads) = listening().await;
    let rig = Rig::new(&[address], "host = \"target\"");
    let mut head = head(Method::GET, "/v1/tasks", Length::None);
    head.headers.insert("authorization", HeaderValue::from_static("Bearer k"));
    let options = SendOptions { keep_credentials: true, path: Some("/tasks"), ..options() };
    let cleared = cleared(head, Body::Empty);
    send(&rig.pool, &rig.upstream, cleared, &options).await.unwrap();
    let seen = heads.recv().await.unwrap();
    assert!(seen.starts_with("get /tasks http/1.1\r\n"), "{seen}");
    assert_eq!(header(&seen, "authorization"), Some("bearer k"));
    assert_eq!(header(&seen, "host"), Some(&*address.to_string()));
}

#[tokio::test]
async fn the_identity_is_signed_for_the_path_that_the_service_sees() {
    let (heads, mut receiver) = mpsc::unbounded_channel();
    let (address, _) = upstream(move |mut stream, _| {
        let heads = heads.clone();
        async move {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            heads.send(String::from_utf8_lossy(&head[..read]).into_owned()).unwrap();
            stream.write_all(OK).await.unwrap();
        }
    })
    .await;
    let rig = Rig::new(&[address], "identity = \"env:SECRET\"");
    let verifier = Verifier::new(&Secret::new(SECRET.as_bytes().to_vec()));
    let rewritten = SendOptions { path: Some("/tasks"), ..options() };
    send(&rig.pool, &rig.upstream, get("/v1/tasks"), &rewritten).await.unwrap();
    let seen = receiver.recv().await.unwrap();
    let value = header(&seen, "x-portcullis-identity").unwrap().to_owned();
    let identity = verifier.verify(value.as_bytes(), ("GET", "/tasks", ""), NOW).unwrap();
    assert_eq!(identity.subject.as_deref(), Some("user-1"));
    assert_eq!(&*identity.roles[0], "editor");
    assert_eq!(&*identity.request_id, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    let off = SendOptions { identity: false, ..options() };
    send(&rig.pool, &rig.upstream, get("/v1/tasks"), &off).await.unwrap();
    let seen = receiver.recv().await.unwrap();
    assert_eq!(header(&seen, "x-portcullis-identity"), None);
}

#[tokio::test]
async fn bodies_are_framed_as_they_are_and_not_as_the_caller_said() {
    let (address, mut heads) = listening().await;
    let rig = Rig::new(&[address], "");
    rig.fetch(with_body(Method::POST, b"{}")).await;
    assert_eq!(header(&heads.recv().await.unwrap(), "content-length"), Some("2"));
    rig.fetch(cleared(head(Method::POST, "/v1/tasks", Length::None), Body::Empty)).await;
    assert_eq!(header(&heads.recv().await.unwrap(), "content-length"), Some("0"));
    rig.fetch(cleared(head(Method::DELETE, "/v1/tasks/1", Length::None), Body::Empty)).await;
    assert_eq!(header(&heads.recv().await.unwrap(), "content-length"), None);
    for (length, name, value) in [
        (Length::Exactly(3), "content-length", "3"),
        (Length::Unknown, "transfer-encoding", "chunked"),
    ] {
        let (feed, cleared) = fed(length);
        feed.send(Ok(Bytes::from_static(b"abc"))).await.unwrap();
        drop(feed);
        rig.fetch(cleared).await;
        assert_eq!(header(&heads.recv().await.unwrap(), name), Some(value));
    }
    // All of that went over one connection: nothing was left over between the requests.
    assert_eq!(rig.upstream.targets()[0].connections(), 1);
}
