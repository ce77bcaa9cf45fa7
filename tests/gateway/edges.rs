//! Edges that honest clients and services meet, each as near to its standard as safety lets it be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Gate, POLICY, Plan, Reply, Service, connect};

const HOSTS: &str = r#"
[routes.bound]
summary  = "For one host"
match    = "GET /v1/where"
hosts    = ["api.example", "task_service.internal"]
upstream = "service"
auth     = "none"

[routes.anywhere]
summary  = "For all hosts"
match    = "GET /v1/anywhere"
upstream = "service"
auth     = "none"
"#;

/// A stream that is read byte by byte, so that nothing of a second answer goes with the first.
struct Slowly(TcpStream);

impl Read for Slowly {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let one = into.len().min(1);
        self.0.read(&mut into[..one])
    }
}

/// Sends bytes without TLS and reads so many answers.
fn answers(gate: &Gate, bytes: &str, count: usize) -> Vec<Reply> {
    let mut stream = Slowly(connect(gate.plain()));
    stream.0.write_all(bytes.as_bytes()).unwrap();
    (0..count).map_while(|_| Reply::read(&mut stream, false)).collect()
}

fn answer(gate: &Gate, bytes: &str) -> Reply {
    answers(gate, bytes, 1).remove(0)
}

#[test]
fn an_offer_of_h2c_is_passed_over_and_never_reaches_a_service() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let offers = [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nConnection: HTTP2-Settings\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        "Connection: HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    ];
    for offer in offers {
        let reply =
            answer(&gate, &format!("GET /v1/open HTTP/1.1\r\nHost: localhost\r\n{offer}\r\n"));
        assert_eq!(reply.status, 200, "{offer}: {reply:?}");
        assert_eq!(reply.header("upgrade"), None);
        let seen = service.requests().pop().unwrap().to_ascii_lowercase();
        for hidden in ["h2c", "http2-settings", "upgrade"] {
            assert!(!seen.contains(hidden), "{offer}: {seen}");
        }
    }
    // What follows is HTTP/1, whatever the caller had hoped for.
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let before = service.requests().len();
    let all = answers(
        &gate,
        &format!("GET /v1/open HTTP/1.1\r\nHost: localhost\r\n{}\r\n{preface}", offers[0]),
        3,
    );
    let statuses: Vec<u16> = all.iter().map(|reply| reply.status).collect();
    assert_eq!((statuses, service.requests().len()), (vec![200, 505], before + 1));
    let url = format!("http://{}/v1/open", gate.plain());
    let arguments =
        ["--http2", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", &url];
    let output = Command::new("curl").args(arguments).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200");
}

#[test]
fn each_request_of_a_connection_is_told_of_by_its_own_host() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let hosts = [
        ("localhost", "localhost", "localhost"),
        ("other.example:81", "other.example:81", "\"other.example:81\""),
        ("LOCALHOST:80", "localhost", "localhost"),
        ("[::1]:80", "[::1]", "\"[::1]\""),
        ("localhost", "localhost", "localhost"),
    ];
    let bytes: String = hosts
        .iter()
        .map(|(written, ..)| format!("GET /v1/open HTTP/1.1\r\nHost: {written}\r\n\r\n"))
        .collect();
    let replies = answers(&gate, &bytes, hosts.len());
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    let seen = service.requests();
    assert_eq!(seen.len(), hosts.len());
    for (seen, (_, host, quoted)) in seen.iter().zip(hosts) {
        let seen = seen.to_ascii_lowercase();
        for line in [
            format!("host: {host}"),
            format!("forwarded: for=127.0.0.1;proto=http;host={quoted}"),
            format!("x-forwarded-host: {host}"),
            "x-forwarded-for: 127.0.0.1".to_owned(),
            "x-forwarded-proto: http".to_owned(),
        ] {
            assert_eq!(seen.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line}: {seen}");
        }
    }
}

#[test]
fn one_empty_line_before_a_request_is_passed_over_and_never_two() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let get = "GET /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let statuses = |bytes: &str, count| {
        answers(&gate, bytes, count).iter().map(|reply| reply.status).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&format!("\r\n{get}\r\n{get}\r\n{get}"), 3), [200, 200, 200]);
    assert_eq!(statuses(&format!("{get}\r\n\r\n{get}"), 3), [200, 400]);
    for wrong in ["\r\n\r\n", "\n", "\r", "\r\r\n", " \r\n", "\n\r\n"] {
        let before = service.requests().len();
        assert_eq!(statuses(&format!("{wrong}{get}"), 2), [400], "{wrong:?}");
        assert_eq!(service.requests().len(), before, "{wrong:?}");
    }
    // Byte by byte it is the same.
    let mut stream = connect(gate.plain());
    for piece in ["\r", "\n", "GET /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        stream.write_all(piece.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(Reply::read(&mut stream, false).unwrap().status, 200);
}

#[test]
fn a_request_of_http_1_0_without_a_host_gets_routes_for_all_hosts_alone() {
    let service = Service::ok();
    let gate = Plan::new(service.address, POLICY).file("hosts.toml", HOSTS).start();
    let reply = answer(&gate, "GET /v1/anywhere HTTP/1.0\r\n\r\n");
    assert_eq!(reply.status, 200, "{reply:?}");
    let seen = service.requests().pop().unwrap().to_ascii_lowercase();
    assert!(seen.contains(&format!("host: {}", service.address)), "{seen}");
    assert!(!seen.contains("x-forwarded-host") && !seen.contains("host=;"), "{seen}");
    assert_eq!(answer(&gate, "GET /v1/where HTTP/1.0\r\n\r\n").status, 401, "nobody knows it here");
    assert_eq!(answer(&gate, "GET /v1/where HTTP/1.0\r\nHost: api.example\r\n\r\n").status, 200);
    let stated = answer(&gate, "GET http://api.example/v1/where HTTP/1.0\r\n\r\n");
    assert_eq!(stated.status, 200, "the target names it: {stated:?}");
    for wrong in ["HTTP/1.0\r\nHost:\r\n", "HTTP/1.0\r\nHost: a\r\nHost: a\r\n", "HTTP/1.1\r\n"] {
        let reply = answer(&gate, &format!("GET /v1/anywhere {wrong}\r\n"));
        assert_eq!(reply.status, 400, "{wrong:?}");
    }
}

#[test]
fn underscores_in_hosts_are_served_and_route_as_other_names_do() {
    let service = Service::ok();
    let gate = Plan::new(service.address, POLICY).file("hosts.toml", HOSTS).start();
    let ask =
        |host: &str| answer(&gate, &format!("GET /v1/where HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(ask("Task_Service.internal:8080").status, 200);
    let seen = service.requests().pop().unwrap().to_ascii_lowercase();
    assert!(seen.contains("host: task_service.internal:8080\r\n"), "{seen}");
    assert_eq!(ask("task-service.internal").status, 401);
    assert_eq!(ask("_.internal").status, 401);
}

#[test]
fn chunk_extensions_and_padding_of_a_service_are_passed_over_and_not_passed_on() {
    let service = Service::answering(|_| {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=\"y;\"\r\nok\r\n3  \r\n!!!\r\n0;end\r\n\r\n".to_owned()
    });
    let gate = Gate::new(service.address, POLICY);
    let reply = answer(&gate, "GET /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok!!!"));
}
