//! What ends when a credential does: the next request, and everything that is still open.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};

use crate::harness::{Gate, POLICY, Reply, Service, Tls, connect};
use crate::http2::connect as connect_http2;
use crate::operations::{Process, directory, eventually, get, portcullis};
use crate::refusals::record;

/// What has begun must end within this time.
pub const AT_ONCE: Duration = Duration::from_secs(1);

/// The lines that ask for a WebSocket.
pub const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const FACTS: &str = r#""name":"long","subject":"user_1","roles":["member"],"scopes":["things:read","things:write"],"expires_in_s":3600"#;

const ROUTES: &str = r#"
[routes.socket]
summary  = "A WebSocket for those who have a key"
match    = "GET /v1/socket"
upstream = "service"
allow    = [{ scopes = ["things:read"] }]
"#;

/// A service whose answers do not end by themselves.
pub fn endless_service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let path = head.split(' ').nth(1)?.to_owned();
        match path.as_str() {
            "/v1/socket" => {
                stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").ok()?;
                let mut chunk = [0; 4096];
                loop {
                    let count = lines.read(&mut chunk).ok()?;
                    if count == 0 {
                        return None;
                    }
                    stream.write_all(&chunk[..count]).ok()?;
                }
            }
            // One event, and then none for ever.
            "/v1/things/events" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nd\r\ndata: hello\n\n\r\n").ok()?;
                let _ = lines.read(&mut [0; 1]);
                return None;
            }
            // As fast as it is taken.
            "/v1/things/download" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000000000\r\n\r\n").ok()?;
                let part = vec![b'x'; 64 << 10];
                loop {
                    stream.write_all(&part).ok()?;
                }
            }
            // Whatever else comes is read to its end before it is answered.
            _ if head.to_lowercase().contains("transfer-encoding") => {
                let mut line = String::new();
                while line != "0\r\n" {
                    line.clear();
                    if lines.read_line(&mut line).ok()? == 0 {
                        return None;
                    }
                }
            }
            _ => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}").ok()?,
        }
    }
}

fn gate() -> Gate {
    Gate::new(endless_service(), &format!("{POLICY}{ROUTES}"))
}

/// A key with its id.
fn key(gate: &Gate) -> (String, String) {
    let made = gate.keys(&format!("{{\"do\":\"create\",\"template\":{{{FACTS}}}}}"));
    (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

/// The ways in which a key can end.
const ENDS: [&str; 3] = ["revoke", "rotate", "expire"];

fn end(gate: &Gate, id: &str, how: &str) {
    match how {
        "revoke" => {
            let told = gate.keys(&format!("{{\"do\":\"revoke\",\"id\":\"{id}\"}}"));
            assert_eq!(told["revoked"], id);
        }
        "rotate" => {
            gate.keys(&format!("{{\"do\":\"rotate\",\"id\":\"{id}\",\"overlap_s\":60}}"));
            gate.hand.advance(Duration::from_secs(61));
        }
        _ => gate.hand.advance(Duration::from_secs(3601)),
    }
}

pub fn asked(path: &str, key: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{more}\r\n")
}

pub fn begun(gate: &Gate, request: &str, status: u16) -> (Tls, String) {
    let mut stream = gate.connect();
    stream.write_all(request.as_bytes()).unwrap();
    // The head alone: the bodies have no end.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    let id = head.to_lowercase();
    let id = id.split("x-request-id: ").nth(1).unwrap_or_default();
    let id = id.split("\r\n").next().unwrap_or_default().to_owned();
    (stream, id.to_uppercase())
}

/// Reads until the other side ends the connection, which must not look like an answer's end. Gives
/// how long that took.
pub fn until_cut(stream: &mut Tls) -> Duration {
    let began = Instant::now();
    let mut bytes = vec![0; 256 << 10];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return began.elapsed(),
            Ok(count) => assert_ne!(&bytes[..count], b"0\r\n\r\n", "a clean end"),
        }
        assert!(began.elapsed() < 10 * AT_ONCE, "it goes on");
    }
}

fn told(gate: &Gate, how: &str, path: &str) {
    let reason = if how == "revoke" { "credential-revoked" } else { "credential-expired" };
    told_cut(gate, reason, path);
}

/// The record tells of an exchange on this path that was cut for this reason.
pub fn told_cut(gate: &Gate, reason: &str, path: &str) {
    let cut = format!("\"cut\":\"{reason}\"");
    // Of several that were cut, each has its record when it is written.
    let mut found = None;
    eventually(|| {
        let log = gate.log(&cut);
        let line = log.lines().find(|line| line.contains(&cut) && line.contains(path));
        found = line.map(str::to_owned);
        found.is_some()
    });
    let line = found.unwrap_or_else(|| panic!("no {path} in {}", gate.log(&cut)));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["end"], &line["decision"]), (&"revoked-meanwhile".into(), &"allow".into()));
}

#[test]
fn a_web_socket_ends_with_its_credential() {
    for how in ENDS {
        let gate = gate();
        let (id, secret) = key(&gate);
        let (_, other) = key(&gate);
        let (mut socket, _) = begun(&gate, &asked("/v1/socket", &secret, UPGRADE), 101);
        let mut kept =
            (how != "expire").then(|| begun(&gate, &asked("/v1/socket", &other, UPGRADE), 101).0);
        for stream in [&mut socket].into_iter().chain(&mut kept) {
            stream.write_all(b"frame").unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
        }
        end(&gate, &id, how);
        assert_eq!(gate.get("/v1/things", &secret).status, 401, "{how}");
        assert!(until_cut(&mut socket) < AT_ONCE, "{how}");
        told(&gate, how, "/v1/socket");
        // Nobody else's ends.
        if let Some(stream) = &mut kept {
            thread::sleep(AT_ONCE);
            stream.write_all(b"still").unwrap();
            stream.read_exact(&mut [0; 5]).unwrap();
        }
    }
}

#[test]
fn streams_of_events_and_downloads_end_with_their_credential() {
    for how in ENDS {
        let gate = gate();
        let (id, secret) = key(&gate);
        let (mut events, _) = begun(&gate, &asked("/v1/things/events", &secret, ""), 200);
        let (mut download, _) = begun(&gate, &asked("/v1/things/download", &secret, ""), 200);
        end(&gate, &id, how);
        // Both at once, so that each has its second.
        let reader = thread::spawn(move || until_cut(&mut download));
        assert!(until_cut(&mut events) < AT_ONCE, "{how}");
        assert!(reader.join().unwrap() < AT_ONCE, "{how}");
        told(&gate, how, "/v1/things/events");
        told(&gate, how, "/v1/things/download");
    }
}

#[test]
fn a_download_that_its_caller_does_not_read_ends_too() {
    let gate = gate();
    let (id, secret) = key(&gate);
    let (_unread, _) = begun(&gate, &asked("/v1/things/download", &secret, ""), 200);
    // Long enough for every buffer on the way to fill.
    thread::sleep(AT_ONCE);
    let began = Instant::now();
    end(&gate, &id, "revoke");
    told(&gate, "revoke", "/v1/things/download");
    assert!(began.elapsed() < AT_ONCE);
}

#[test]
fn an_upload_ends_with_its_credential() {
    let gate = gate();
    let (id, secret) = key(&gate);
    let mut stream = gate.connect();
    let head = format!(
        "PUT /v1/files/long HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(100));
    end(&gate, &id, "revoke");
    let began = Instant::now();
    let reply = Reply::read(&mut stream, false).unwrap();
    assert!(began.elapsed() < AT_ONCE);
    assert_eq!(reply.status, 401);
    assert_eq!(
        record(&gate, reply.header("x-request-id").unwrap())["reason"],
        "credential-revoked"
    );
}

#[test]
fn a_stream_of_http_2_ends_alone() {
    let gate = gate();
    let (id, secret) = key(&gate);
    let (_, other) = key(&gate);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut sender = connect_http2(gate.tls(), &gate.ca()).await;
        let ask = |path: &str, key: &str| {
            http::Request::get(format!("https://localhost{path}"))
                .header("authorization", format!("Bearer {key}"))
                .body(Full::new(Bytes::new()))
                .unwrap()
        };
        let events = sender.send_request(ask("/v1/things/events", &secret)).await.unwrap();
        assert_eq!(events.status(), 200);
        let mut events = events.into_body();
        let first = events.frame().await.unwrap().unwrap();
        assert_eq!(first.data_ref().map(|data| &**data), Some(b"data: hello\n\n".as_slice()));
        end(&gate, &id, "revoke");
        let next = tokio::time::timeout(AT_ONCE, events.frame()).await;
        assert!(next.expect("it goes on").is_none_or(|frame| frame.is_err()), "more came");
        // The connection serves others as before.
        let reply = sender.send_request(ask("/v1/things", &other)).await.unwrap();
        assert_eq!(reply.status(), 200);
        let refused = sender.send_request(ask("/v1/things", &secret)).await.unwrap();
        assert_eq!(refused.status(), 401);
    });
    told(&gate, "revoke", "/v1/things/events");
}

// ── kills ────────────────────────────────────────────────────────────────────────────────────

/// What a gateway has acknowledged: texts of keys that must hold, and of keys that must not.
#[derive(Default)]
struct Acknowledged {
    holding: Vec<String>,
    revoked: Vec<String>,
}

/// Makes, rotates and revokes keys, one after the other, until the gateway is gone.
fn change_until_it_is_gone(admin: SocketAddr, token: &str, count: &AtomicUsize) -> Acknowledged {
    let mut stream = connect(admin);
    let mut call = |body: &str| {
        let request = format!(
            "POST /v1/keys HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let reply = Reply::read(&mut stream, false)?;
        assert_eq!(reply.status, 200, "{reply:?}");
        count.fetch_add(1, Ordering::SeqCst);
        Some(reply.json())
    };
    let text = |made: &serde_json::Value, key: &str| made[key].as_str().unwrap().to_owned();
    let mut told = Acknowledged::default();
    loop {
        let create = format!("{{\"do\":\"create\",\"template\":{{{FACTS}}}}}");
        let Some(made) = call(&create) else { return told };
        let (id, secret) = (text(&made, "id"), text(&made, "secret"));
        told.holding.push(secret.clone());
        let rotate = format!("{{\"do\":\"rotate\",\"id\":\"{id}\",\"overlap_s\":3000}}");
        let Some(successor) = call(&rotate) else { return told };
        told.holding.push(text(&successor, "secret"));
        // From here on nobody knows which way it went, until it is acknowledged.
        told.holding.retain(|known| *known != secret);
        if call(&format!("{{\"do\":\"revoke\",\"id\":\"{id}\"}}")).is_none() {
            return told;
        }
        told.revoked.push(secret);
    }
}

#[test]
fn kills_amid_rotations_and_revocations_lose_no_key_and_leave_nothing_half_done() {
    let dir = directory(Service::ok().address, POLICY, "");
    let mut told = Acknowledged::default();
    for round in 0..4_u64 {
        let process = Process::start(dir.path());
        let admin = process.address("metrics");
        let token = std::fs::read_to_string(dir.path().join(".portcullis/admin.token")).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let changes = thread::spawn(move || change_until_it_is_gone(admin, token.trim(), &counted));
        assert!(eventually(|| count.load(Ordering::SeqCst) >= 7 + round as usize));
        thread::sleep(Duration::from_millis(5 * round));
        process.signal("KILL");
        let Acknowledged { holding, revoked } = changes.join().unwrap();
        told.holding.extend(holding);
        told.revoked.extend(revoked);
    }
    let process = Process::start(dir.path());
    let mut stream = connect(process.address("http"));
    for (keys, status) in [(&told.holding, 200), (&told.revoked, 401)] {
        assert!(keys.len() >= 4, "{} with {status}", keys.len());
        for key in keys {
            stream.write_all(get("/v1/things", key).as_bytes()).unwrap();
            let reply = Reply::read(&mut stream, false).unwrap();
            assert_eq!(reply.status, status, "one of {} keys", keys.len());
        }
    }
    // A rotation is whole or was never begun: whoever has a successor names one that is there.
    let admin = process.address("metrics").to_string();
    let (code, list, talk) =
        portcullis(dir.path(), &["keys", "list", "--format", "json", "--admin", &admin]);
    assert_eq!(code, Some(0), "{talk}");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let list = list.as_array().unwrap();
    let ids: HashSet<&str> = list.iter().map(|key| key["id"].as_str().unwrap()).collect();
    let successors: Vec<&str> = list.iter().filter_map(|key| key["rotated_to"].as_str()).collect();
    assert!(successors.len() >= 4, "{list:?}");
    assert!(successors.iter().all(|id| ids.contains(id)), "{list:?}");
}
