//! Bytes that no honest client sends: each is refused, or arrives as exactly what was judged.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::harness::{Gate, POLICY, Plan, Reply, Service, connect};
use crate::refusals::{get, over, reason_of, record};

/// Opens everything to everybody but `/admin`, so that nothing but the reading of the path protects it.
const OPEN: &str = r#"
version = 1
name    = "open"

[roles]
admin = { summary = "Everything" }

[address]
burst  = 100000
refill = "100000/s"

[defaults]
auth = "none"

[routes.admin]
summary  = "For administrators"
match    = "* /admin"
upstream = "service"
auth     = { any = ["api-key"] }
allow    = [{ roles = ["admin"] }]

[routes.below]
summary  = "For administrators"
match    = "* /admin/{rest...}"
upstream = "service"
auth     = { any = ["api-key"] }
allow    = [{ roles = ["admin"] }]

[routes.rest]
summary  = "For everybody"
match    = "* /{rest...}"
upstream = "service"
body     = { max = "1MiB" }

[routes.json]
summary  = "JSON, strictly"
match    = "POST /json"
upstream = "service"
body     = { max = "1MiB", types = ["application/json"] }

[routes.named]
summary  = "For one host"
match    = "GET /named"
hosts    = ["example.com"]
upstream = "service"
"#;

fn open() -> (Gate, Service) {
    let service = Service::ok();
    (Gate::new(service.address, OPEN), service)
}

/// Sends bytes over plain TCP and reads all that comes until the gateway closes, or is silent for
/// a second.
fn everything(gate: &Gate, bytes: &[u8]) -> String {
    let mut stream = connect(gate.plain());
    // A gateway that has closed already need not take the rest.
    let _ = stream.write_all(bytes);
    rest_of(&mut stream)
}

fn rest_of(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read);
    String::from_utf8_lossy(&read).into_owned()
}

/// The statuses of all answers in a text.
fn statuses(text: &str) -> Vec<u16> {
    text.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
}

/// What must never be understood as a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Messages whose end two servers could see at two places: by what made it known, their bytes after
/// `POST / HTTP/1.1` and `Host`, and the reason.
const SMUGGLING: &[(&str, &str, &str)] = &[
    (
        "CL.TE",
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "framing-ambiguous",
    ),
    ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n", "framing-ambiguous"),
    (
        "TE.CL with Content-Length 0",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
        "framing-ambiguous",
    ),
    (
        "CVE-2026-2835: TE of two codings",
        "Transfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n",
        "transfer-coding-unsupported",
    ),
    (
        "CVE-2026-2835: chunked is not last",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-coding-unsupported",
    ),
    (
        "CVE-2026-2835: two TE lines",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "transfer-coding-unsupported",
    ),
    (
        "TE twice",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-coding-unsupported",
    ),
    (
        "TE with a parameter",
        "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        "transfer-coding-unsupported",
    ),
    ("TE empty", "Transfer-Encoding:\r\n\r\n0\r\n\r\n", "transfer-coding-unsupported"),
    (
        "TE in quotes",
        "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        "transfer-coding-unsupported",
    ),
    (
        "TE with a vertical tab",
        "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "header-malformed",
    ),
    (
        "RUSTSEC-2021-0020: TE before a blank",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "header-malformed",
    ),
    (
        "TE in a folded line",
        "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "header-malformed",
    ),
    (
        "TE behind a bare LF",
        "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "header-malformed",
    ),
    (
        "TE behind a bare CR",
        "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "header-malformed",
    ),
    (
        "TE behind a NUL",
        "X: y\0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "header-malformed",
    ),
    (
        "CVE-2021-40346: a name of 300 characters",
        "Content-Length0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:\r\nContent-Length: 23\r\n\r\n",
        "header-malformed",
    ),
    ("CVE-2023-25725: an empty name", ": x\r\nContent-Length: 4\r\n\r\nabcd", "header-malformed"),
    ("a line without a colon", "Content-Length\r\n\r\n", "header-malformed"),
    ("CVE-2023-40225: an empty Content-Length", "Content-Length:\r\n\r\n", "length-malformed"),
    ("RUSTSEC-2021-0078: Content-Length +5", "Content-Length: +5\r\n\r\nabcde", "length-malformed"),
    ("Content-Length -1", "Content-Length: -1\r\n\r\n", "length-malformed"),
    ("Content-Length 0x5", "Content-Length: 0x5\r\n\r\nabcde", "length-malformed"),
    ("Content-Length 5 5", "Content-Length: 5 5\r\n\r\nabcde", "length-malformed"),
    ("Content-Length 5, 5", "Content-Length: 5, 5\r\n\r\nabcde", "length-malformed"),
    ("Content-Length 5,6", "Content-Length: 5,6\r\n\r\nabcdef", "length-malformed"),
    (
        "Content-Length twice, alike",
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
        "length-malformed",
    ),
    (
        "Content-Length twice, unlike",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        "length-malformed",
    ),
    (
        "Content-Length beyond 64 bits",
        "Content-Length: 18446744073709551617\r\n\r\na",
        "length-malformed",
    ),
    (
        "Content-Length 2^64 - 1",
        "Content-Length: 18446744073709551615\r\n\r\na",
        "length-malformed",
    ),
    (
        "a chunk size with a sign",
        "Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
        "chunk-malformed",
    ),
    (
        "a chunk size in 0x",
        "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        "chunk-malformed",
    ),
    (
        "a chunk size with a blank",
        "Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
        "chunk-malformed",
    ),
    (
        "RUSTSEC-2021-0079: a chunk size that wraps",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\na\r\n0\r\n\r\n",
        "chunk-malformed",
    ),
    (
        "a chunk that is longer than said",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "chunk-malformed",
    ),
    (
        "a chunk size behind a bare LF",
        "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        "chunk-malformed",
    ),
    (
        "a chunk extension, however well-formed",
        "Transfer-Encoding: chunked\r\n\r\n1;a=b\r\na\r\n0\r\n\r\n",
        "chunk-malformed",
    ),
    (
        "CVE-2025-22871: a bare LF in a chunk extension",
        "Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n",
        "chunk-malformed",
    ),
];

#[test]
fn no_message_has_two_ends() {
    let (gate, service) = open();
    for (name, rest, reason) in SMUGGLING {
        let before = service.requests().len();
        let request = format!(
            "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{rest}{SMUGGLED}"
        );
        let answers = everything(&gate, request.as_bytes());
        assert_eq!(statuses(&answers), [400], "{name}: {answers}");
        assert!(answers.to_lowercase().contains("\r\nconnection: close\r\n"), "{name}: {answers}");
        let reply = Reply::read(&mut answers.as_bytes(), false).unwrap();
        assert_eq!(reply.reason(), *reason, "{name}");
        assert_eq!(
            service.requests().len(),
            before,
            "{name} reached the service: {:?}",
            service.requests().last()
        );
    }
}

#[test]
fn request_lines_are_read_in_one_way_only() {
    let (gate, service) = open();
    for (name, line, reason) in [
        (
            "CVE-2023-27491: a control character in the method",
            "GE\x01T / HTTP/1.1",
            "request-line-malformed",
        ),
        (
            "CVE-2023-27491: a control character in the target",
            "GET /\x01 HTTP/1.1",
            "request-line-malformed",
        ),
        ("a tab in place of a blank", "GET\t/ HTTP/1.1", "request-line-malformed"),
        ("two blanks", "GET  / HTTP/1.1", "request-line-malformed"),
        ("a blank at the end", "GET / HTTP/1.1 ", "request-line-malformed"),
        ("a blank in the target", "GET / / HTTP/1.1", "request-line-malformed"),
        ("no version", "GET /", "request-line-malformed"),
        ("HTTP/0.9 with a version", "GET / HTTP/0.9", "version-unsupported"),
        ("HTTP/2.0 in a line", "GET / HTTP/2.0", "version-unsupported"),
        ("HTTP/1.10", "GET / HTTP/1.10", "request-line-malformed"),
        ("http in small letters", "GET / http/1.1", "request-line-malformed"),
        ("a byte beyond ASCII", "GET /\u{e9} HTTP/1.1", "request-line-malformed"),
        ("no method", " / HTTP/1.1", "request-line-malformed"),
        ("a method that is no token", "G(T / HTTP/1.1", "request-line-malformed"),
        ("CVE-2021-32779: a fragment", "GET /a#/admin HTTP/1.1", "request-line-malformed"),
    ] {
        let answers =
            everything(&gate, format!("{line}\r\nHost: localhost\r\n\r\n{SMUGGLED}").as_bytes());
        assert_eq!(statuses(&answers).len(), 1, "{name}: {answers}");
        assert_eq!(Reply::read(&mut answers.as_bytes(), false).unwrap().reason(), reason, "{name}");
    }
    assert_eq!(service.requests(), Vec::<String>::new());
}

#[test]
fn http_1_0_is_answered_once_and_never_chunked() {
    let (gate, service) = open();
    let answers = everything(&gate, b"GET /a HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert_eq!(statuses(&answers), [200], "{answers}");
    assert!(!answers.to_lowercase().contains("transfer-encoding"), "{answers}");
    let two = format!("GET /a HTTP/1.0\r\nHost: localhost\r\n\r\n{SMUGGLED}");
    assert_eq!(statuses(&everything(&gate, two.as_bytes())), [200]);
    let before = service.requests().len();
    for (rest, reason) in [
        (
            "Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "transfer-coding-unsupported",
        ),
        (
            "Host: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            "framing-ambiguous",
        ),
        ("Host:\r\n\r\n", "host-malformed"),
    ] {
        let answers = everything(&gate, format!("POST /a HTTP/1.0\r\n{rest}").as_bytes());
        assert_eq!(Reply::read(&mut answers.as_bytes(), false).unwrap().reason(), reason);
    }
    assert_eq!(service.requests().len(), before);
}

/// What becomes of a path.
enum Fate {
    /// It is refused as ambiguous.
    Refused,
    /// It means `/admin`, which is closed to strangers.
    Closed,
    /// The service sees exactly this.
    Seen(&'static str),
}

#[test]
fn the_service_sees_exactly_the_path_that_was_judged() {
    use Fate::{Closed, Refused, Seen};
    let (gate, service) = open();
    for (name, path, fate) in [
        ("plain", "/admin", Closed),
        ("below", "/admin/users", Closed),
        ("another's", "/a/b", Seen("/a/b")),
        ("CVE-2019-9901: a dot segment", "/a/../admin", Refused),
        ("CVE-2019-9901: an encoded slash", "/a/..%2fadmin", Refused),
        ("an encoded slash in capitals", "/a%2Fb", Refused),
        ("encoded dots", "/%2e%2e/admin", Refused),
        ("CVE-2026-26205: two slashes", "//admin", Refused),
        ("CVE-2025-29914: two slashes within", "/a//admin", Refused),
        ("a path parameter", "/admin;x", Refused),
        ("a path parameter with dots", "/..;/admin", Refused),
        ("a dot at the end", "/admin/.", Refused),
        ("dots at the end", "/a/..", Refused),
        ("another case is another path", "/ADMIN", Seen("/ADMIN")),
        ("a backslash", "/a\\admin", Refused),
        ("CVE-2021-29492: encoded backslashes", "/a%5c..%5cadmin", Refused),
        ("double encoding", "/%252e%252e/admin", Refused),
        ("double encoding of a letter", "/%2561dmin", Refused),
        ("overlong UTF-8", "/%c0%ae%c0%ae/admin", Refused),
        ("an overlong slash", "/a%c0%afadmin", Refused),
        ("invalid UTF-8", "/%ff", Refused),
        ("NUL", "/admin%00", Refused),
        ("an encoded line feed", "/a%0d%0aX:y", Refused),
        ("an encoded letter", "/%61dmin", Closed),
        ("an encoded letter below", "/%61%64min/x", Closed),
        (
            "CVE-2024-1019: an encoded question mark stays in the path",
            "/admin%3fa",
            Seen("/admin%3Fa"),
        ),
        ("an encoded fragment", "/a%23b", Seen("/a%23b")),
        ("a broken triplet", "/a%2", Refused),
        ("a triplet that is none", "/a%zz", Refused),
        ("CVE-2025-54576: the query is no path", "/admin?/open", Closed),
        ("CVE-2025-54576: nor the path a query", "/open?/admin", Seen("/open?/admin")),
        ("an absolute target for the same host", "http://localhost/admin", Closed),
        ("an absolute target", "http://localhost/a", Seen("/a")),
        ("unreserved characters", "/%7Euser%2Dname", Seen("/~user-name")),
        ("other characters", "/caf%c3%a9", Seen("/caf%C3%A9")),
        ("a slash at the end", "/a/", Seen("/a/")),
    ] {
        let before = service.requests().len();
        let reply = over(gate.plain(), &get(path, "")).unwrap();
        let seen: Vec<String> = service.requests().split_off(before);
        match fate {
            Refused => assert_eq!(
                (reply.status, reply.reason().as_str(), seen.len()),
                (400, "path-ambiguous", 0),
                "{name}: {reply:?}"
            ),
            Closed => {
                assert_eq!((reply.status, seen.len()), (401, 0), "{name}: {reply:?} {seen:?}")
            }
            Seen(target) => {
                assert_eq!((reply.status, seen.len()), (200, 1), "{name}: {reply:?}");
                assert_eq!(
                    seen[0].lines().next(),
                    Some(format!("GET {target} HTTP/1.1").as_str()),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn no_header_says_what_is_asked_for() {
    let (gate, service) = open();
    for line in [
        "X-Original-URL: /a",
        "X-Rewrite-URL: /a",
        "X-Forwarded-Uri: /a",
        "X-Forwarded-Host: example.com",
        "X-HTTP-Method-Override: OPTIONS",
        "User-Agent: kube-probe/1.0",
        "User-Agent: GoogleHC/1.0",
        "X-Forwarded-For: 127.0.0.1",
        "X-Envoy-Internal: true",
    ] {
        let reply = over(gate.plain(), &get("/admin", &format!("{line}\r\n"))).unwrap();
        assert_eq!(reply.status, 401, "{line}");
    }
    assert_eq!(service.requests(), Vec::<String>::new());
}

#[test]
fn a_host_has_one_spelling_and_is_said_once() {
    let (gate, _service) = open();
    for host in ["example.com", "EXAMPLE.com", "example.com.", "example.com:80"] {
        let request = format!("GET /named HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let reply = over(gate.plain(), request.as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{host}");
        assert_eq!(
            record(&gate, reply.header("x-request-id").unwrap())["route"],
            "named",
            "{host}"
        );
    }
    for (lines, reason) in [
        ("Host: example.com\r\nHost: example.com\r\n", "host-missing"),
        ("Host: example.com\r\nHost: localhost\r\n", "host-missing"),
        ("Host: example.com, localhost\r\n", "host-malformed"),
        ("Host: user@example.com\r\n", "host-malformed"),
        ("Host: example.com/x\r\n", "host-malformed"),
        ("Host: example.com:80:80\r\n", "host-malformed"),
        ("Host: ex%61mple.com\r\n", "host-malformed"),
        ("Host: 0x7f.1\r\n", "host-malformed"),
        ("Host:\r\n", "host-malformed"),
    ] {
        let request = format!("GET /named HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(over(gate.plain(), request.as_bytes()).unwrap().reason(), reason, "{lines}");
    }
    let disagreeing = b"GET http://example.com/named HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(over(gate.plain(), disagreeing).unwrap().reason(), "host-malformed");
}

/// The last request that the service saw, as names in lower case and values.
fn last_seen(service: &Service) -> Vec<(String, String)> {
    let request = service.requests().pop().unwrap();
    let lines = request.split("\r\n\r\n").next().unwrap().lines().skip(1);
    lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect()
}

fn values<'a>(seen: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    seen.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn what_only_the_gateway_may_say_is_said_by_the_gateway() {
    let (gate, service) = open();
    let spoofed = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Port: 1\r\n\
        X-Forwarded-Prefix: /evil\r\nX-Forwarded-User: evil\r\nX-Forwarded-Email: evil\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
        True-Client-IP: 6.6.6.6\r\nCF-Connecting-IP: 6.6.6.6\r\nX-Request-ID: evil\r\nX-Portcullis-Identity: evil\r\nX-Original-URL: /evil\r\n\
        Traceparent: evil\r\nTracestate: evil=1\r\nKeep-Alive: evil\r\nProxy-Connection: evil\r\nProxy-Authorization: Basic evil\r\nTE: evil\r\n\
        Authorization: Bearer evil\r\nX-API-Key: evil\r\nX-HTTP-Method-Override: evil\r\nHTTP2-Settings: evil\r\n";
    // Everywhere, and above all where no scheme looks at identities at all (CVE-2026-44087).
    let reply = over(gate.plain(), &get("/a", spoofed)).unwrap();
    let seen = last_seen(&service);
    assert!(
        !seen.iter().any(|(_, value)| value.contains("evil") || value.contains("6.6.6.6")),
        "{seen:?}"
    );
    assert_eq!(values(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(values(&seen, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&seen, "x-forwarded-host"), ["localhost"]);
    assert_eq!(values(&seen, "x-request-id"), [reply.header("x-request-id").unwrap()]);
    assert_eq!(
        values(&seen, "x-forwarded-port").len() + values(&seen, "x-forwarded-prefix").len(),
        0
    );
}

#[test]
fn connection_takes_nothing_away_that_counts() {
    let (gate, service) = open();
    let listed = "Connection: X-Forwarded-For, x-forwarded-HOST, X-Request-Id, Forwarded, Traceparent, X-Portcullis-Identity, Content-Type, Content-Length, Host, X-Private\r\n\
        X-Private: mine\r\nX-Other: kept\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n";
    let request = format!("POST /a HTTP/1.1\r\nHost: localhost\r\n{listed}\r\nbody");
    assert_eq!(over(gate.plain(), request.as_bytes()).unwrap().status, 200);
    let seen = last_seen(&service);
    for name in
        ["x-forwarded-for", "x-forwarded-host", "x-request-id", "forwarded", "traceparent", "host"]
    {
        assert_eq!(values(&seen, name).len(), 1, "CVE-2024-45410: {name} in {seen:?}");
    }
    assert_eq!(values(&seen, "content-type"), ["text/plain"]);
    assert_eq!(values(&seen, "content-length"), ["4"]);
    assert_eq!((values(&seen, "x-private").len(), values(&seen, "x-other")), (0, vec!["kept"]));
    assert!(service.requests().pop().unwrap().ends_with("\r\n\r\nbody"));
}

#[test]
fn aliases_of_headers_are_refused() {
    let (gate, service) = open();
    for name in [
        "X_Forwarded_User",
        "X_FORWARDED_FOR",
        "x-forwarded_user",
        "X.Forwarded.User",
        "CONTENT_LENGTH",
    ] {
        let reply = over(gate.plain(), &get("/a", &format!("{name}: 1\r\n"))).unwrap();
        assert_eq!(
            (reply.status, reply.reason().as_str()),
            (400, "header-name-refused"),
            "CVE-2026-39858: {name}"
        );
    }
    assert_eq!(service.requests(), Vec::<String>::new());
}

#[test]
fn a_second_value_is_never_overlooked() {
    let (gate, service) = open();
    for (lines, status) in [
        ("Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", 400),
        ("X-API-Key: a\r\nX-API-Key: b\r\n", 400),
        ("Authorization: Bearer a\r\nX-API-Key: a\r\n", 400),
    ] {
        assert_eq!(
            over(gate.plain(), &get("/admin", lines)).unwrap().status,
            status,
            "CVE-2021-32777: {lines}"
        );
    }
    for name in [
        "Content-Type",
        "Content-Encoding",
        "Origin",
        "User-Agent",
        "Referer",
        "Range",
        "Date",
        "Upgrade",
    ] {
        let reply = over(gate.plain(), &get("/a", &format!("{name}: a\r\n{name}: a\r\n"))).unwrap();
        assert_eq!(reply.reason(), "header-repeated", "{name}");
    }
    assert_eq!(service.requests(), Vec::<String>::new());
    over(gate.plain(), &get("/a", "Cookie: a=1\r\nCookie: b=2\r\nX-A: 1\r\nX-A: 2\r\n")).unwrap();
    let seen = last_seen(&service);
    assert_eq!((values(&seen, "cookie"), values(&seen, "x-a")), (vec!["a=1; b=2"], vec!["1", "2"]));
}

#[test]
fn trailers_bring_no_header() {
    let (gate, service) = open();
    let request = "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: X-Forwarded-User\r\n\r\n\
        4\r\nbody\r\n0\r\nX-Forwarded-User: admin\r\nX-Portcullis-Identity: admin\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(over(gate.plain(), request.as_bytes()).unwrap().status, 200);
    let seen = service.requests().pop().unwrap();
    assert!(seen.contains("body"), "{seen}");
    assert!(
        !seen.contains("admin") && !seen.to_lowercase().contains("trailer"),
        "CVE-2026-88004: {seen}"
    );
}

#[test]
fn the_caller_is_found_from_the_right_and_only_behind_proxies_that_are_trusted() {
    let service = Service::ok();
    let gate = Plan::new(service.address, OPEN)
        .listener("trust_forwarded_from = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n")
        .start();
    for (lines, client) in [
        ("X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n", "203.0.113.9"),
        ("X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.2.3\r\n", "203.0.113.9"),
        ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9"),
        ("X-Forwarded-For: ::ffff:203.0.113.9\r\n", "203.0.113.9"),
        ("X-Forwarded-For: 203.0.113.9, garbage\r\n", "127.0.0.1"),
        ("X-Forwarded-For: 203.0.113.9, unknown\r\n", "127.0.0.1"),
        ("X-Forwarded-For: 203.0.113.9,\r\n", "127.0.0.1"),
        ("", "127.0.0.1"),
    ] {
        let reply = over(gate.plain(), &get("/a", lines)).unwrap();
        let record = record(&gate, reply.header("x-request-id").unwrap());
        assert_eq!(record["client"], client, "{lines}");
        assert_eq!(values(&last_seen(&service), "x-forwarded-for"), [client], "{lines}");
    }
    let (strict, service) = open();
    over(strict.plain(), &get("/a", "X-Forwarded-For: 203.0.113.9\r\n")).unwrap();
    assert_eq!(values(&last_seen(&service), "x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn no_header_writes_a_second_record() {
    let (gate, _service) = open();
    for agent in [
        "a\",\"decision\":\"allow\",\"x\":\"",
        "a\\\",\\u000a{\"id\":\"forged\"}",
        "\u{1b}[2Jforged",
        "\u{202e}forged\u{2028}{\"id\":\"forged\"}",
        "\u{85}forged",
    ] {
        // A control character never gets as far as the record.
        let reply = over(gate.plain(), &get("/a", &format!("User-Agent: {agent}\r\n"))).unwrap();
        if agent.contains('\u{1b}') {
            assert_eq!(reply.reason(), "header-malformed");
            continue;
        }
        let record = record(&gate, reply.header("x-request-id").unwrap());
        assert_eq!(
            (record["decision"].as_str(), record["status"].as_u64()),
            (Some("allow"), Some(200)),
            "CVE-2024-45808: {agent:?}"
        );
    }
    let log = gate.log("forged");
    assert!(log.chars().all(|character| character == '\n' || !character.is_control()), "{log:?}");
    assert!(!log.contains(['\u{202e}', '\u{2028}', '\u{1b}', '\u{85}']), "{log:?}");
    for line in log.lines() {
        let record: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert_ne!(record["id"], "forged");
    }
}

#[test]
fn a_body_that_nobody_read_is_never_a_request() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let key = gate.first_key();
    let key = format!("Authorization: Bearer {key}\r\n");
    let real = "GET /v1/open?real HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let small = "GET /v1/open?smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let large = small.repeat(20);
    for (name, lines, body, expected) in [
        ("CVE-2025-4366: 401, and the rest is read away", "", &small, vec![401, 200]),
        ("401, and the rest is too much", "", &large, vec![401]),
        ("415, and the rest is read away", key.as_str(), &small, vec![415, 200]),
        ("413, which says it at once", key.as_str(), &large, vec![413]),
    ] {
        let before = service.requests().len();
        let length = body.len();
        let request = format!(
            "POST /v1/things HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {length}\r\n\r\n{body}{real}"
        );
        let answers = everything(&gate, request.as_bytes());
        assert_eq!(statuses(&answers), expected, "{name}: {answers}");
        let seen = service.requests().split_off(before);
        assert_eq!(seen.len(), expected.len() - 1, "{name}");
        assert!(!seen.concat().contains("smuggled"), "{name}");
    }
    // The same for chunks, whose end nobody knows before.
    let chunk = format!("{:x}\r\n{small}\r\n0\r\n\r\n", small.len());
    let request = format!(
        "POST /v1/things HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{real}"
    );
    assert_eq!(statuses(&everything(&gate, request.as_bytes())), [401, 200]);
    assert!(!service.requests().concat().contains("smuggled"));
}

#[test]
fn what_follows_a_wish_to_upgrade_is_http_until_the_service_agrees() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let upgrade = "GET /v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    // The service says 200: what follows is judged as the request that it is (CVE-2026-2833).
    let answers = everything(
        &gate,
        format!("{upgrade}GET /v1/things HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes(),
    );
    assert_eq!(statuses(&answers), [200, 401], "{answers}");
    assert_eq!(service.requests().len(), 1);
    for token in ["websocket, h2c", "h2c, websocket", "tls/1.0", "anything"] {
        let reply = over(
            gate.plain(),
            &get("/v1/live", &format!("Connection: upgrade\r\nUpgrade: {token}\r\n")),
        )
        .unwrap();
        assert_eq!(reply.reason(), "upgrade-unsupported", "{token}");
    }
    let other = Service::answering(|_| {
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n".to_owned()
    });
    let gate = Gate::new(other.address, POLICY);
    let reply = over(gate.plain(), upgrade.as_bytes()).unwrap();
    assert_eq!(
        (reply.status, reply.reason().as_str()),
        (502, "upstream-broken"),
        "a 101 to something else"
    );
    let reply = over(gate.plain(), &get("/v1/open", "")).unwrap();
    assert_eq!(
        (reply.status, reply.reason().as_str()),
        (502, "upstream-broken"),
        "a 101 that nobody asked for"
    );
}

#[test]
fn slow_heads_end_in_time_and_stop_nobody_else() {
    let service = Service::ok();
    let gate = Plan::new(service.address, OPEN)
        .listener("[listener.bounds]\nheader_timeout = \"300ms\"\nidle_timeout = \"300ms\"\n")
        .start();
    let mut slow: Vec<TcpStream> = (0..50).map(|_| connect(gate.plain())).collect();
    let begun = Instant::now();
    for byte in b"GET /a HTTP/1.1\r\nHos" {
        for stream in &mut slow {
            let _ = stream.write_all(&[*byte]);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(over(gate.plain(), &get("/a", "")).unwrap().status, 200);
    for stream in &mut slow {
        let reply = Reply::read(stream, false).unwrap();
        assert_eq!((reply.status, reply.reason().as_str()), (408, "head-timeout"));
    }
    // Whoever says nothing, before or after a request, is closed without a word.
    let mut silent = connect(gate.plain());
    assert_eq!(rest_of(&mut silent), "");
    let mut idle = connect(gate.plain());
    idle.write_all(&get("/a", "")).unwrap();
    assert_eq!(statuses(&rest_of(&mut idle)), [200]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn heads_have_ceilings() {
    let (gate, service) = open();
    let many = "X: y\r\n".repeat(101);
    for (request, status, reason) in [
        (get(&format!("/{}", "a".repeat(8192)), ""), 414, "target-too-long"),
        (vec![b'a'; 100_000], 400, "request-line-malformed"),
        ([b"GET /".to_vec(), vec![b'a'; 1_000_000]].concat(), 414, "target-too-long"),
        (get("/a", &format!("X: {}\r\n", "a".repeat(16_384))), 431, "head-too-large"),
        (get("/a", &format!("X: {}", "a".repeat(1_000_000))), 431, "head-too-large"),
        (get("/a", &many), 431, "head-too-large"),
        (get("/a", &format!("Cookie: {}\r\n", "a=b; ".repeat(4000))), 431, "head-too-large"),
        (get(&format!("/a?{}", "a&".repeat(300)), ""), 400, "query-malformed"),
    ] {
        let answers = everything(&gate, &request);
        assert_eq!(statuses(&answers), [status], "{reason}");
        assert_eq!(Reply::read(&mut answers.as_bytes(), false).unwrap().reason(), reason);
    }
    assert_eq!(service.requests(), Vec::<String>::new());
    let fits = get(&format!("/{}", "a".repeat(8000)), "");
    assert_eq!(over(gate.plain(), &fits).unwrap().status, 200);
}

/// Sends chunks until nobody takes them any more, or 64 MiB are gone; the bytes that were taken, and
/// the answer.
fn endless(gate: &Gate, head: &str) -> (usize, Option<Reply>) {
    let mut stream = connect(gate.plain());
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"4000\r\n".as_slice(), &[b'a'; 0x4000], b"\r\n"].concat();
    let mut taken = 0;
    while taken < 64 << 20 && stream.write_all(&chunk).is_ok() {
        taken += chunk.len();
    }
    (taken, Reply::read(&mut stream, false))
}

#[test]
fn an_endless_body_ends_at_its_ceiling() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let head = format!(
        "POST /v1/things HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        gate.first_key()
    );
    let (taken, _) = endless(&gate, &head);
    assert!(taken < 16 << 20, "{taken} bytes were taken of a body that may have 64 KiB");
    let log = gate.log("body-too-large");
    assert!(log.contains("\"status\":413") && service.requests().is_empty(), "{log}");
    // As much as may be, and a byte; the answer arrives, because nothing is left unread.
    let mut request = head.into_bytes();
    request.extend(format!("{:x}\r\n{}\r\n0\r\n\r\n", 65_537, " ".repeat(65_537)).bytes());
    let reply = over(gate.plain(), &request).unwrap();
    assert_eq!((reply.status, reply.reason().as_str()), (413, "body-too-large"));
}

#[test]
fn a_streamed_body_that_is_too_large_reaches_the_service_as_a_broken_one() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let head = format!(
        "PUT /v1/files/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        gate.first_key()
    );
    let (taken, reply) = endless(&gate, &head);
    assert!(taken < 48 << 20, "{taken}");
    let log = gate.log("body-too-large");
    assert!(log.contains("\"status\":413"), "{reply:?} {log}");
    assert_eq!(
        service.requests(),
        Vec::<String>::new(),
        "the service saw the end of a body that has none"
    );
}

#[test]
fn json_that_is_nested_without_end_takes_no_stack() {
    let (gate, service) = open();
    for open in ["[", "{\"a\":"] {
        let body = open.repeat(100_000);
        let request = format!(
            "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let reply = over(gate.plain(), request.as_bytes()).unwrap();
        assert_eq!((reply.status, reply.reason().as_str()), (400, "json-depth"), "CVE-2026-48042");
    }
    assert_eq!(service.requests(), Vec::<String>::new());
}

#[test]
fn content_types_that_are_none_end_nothing_but_the_request() {
    let (gate, _service) = open();
    for kind in [
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-7",
        "application/json;;;;",
        "multipart/form-data; boundary=\"",
        "multipart/form-data",
        ";",
        "/",
        "application/",
        "application/json, text/plain",
        "\u{e9}",
    ] {
        let request = format!(
            "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        let reply = over(gate.plain(), request.as_bytes()).unwrap();
        assert_eq!(
            (reply.status, reply.reason().as_str()),
            (415, "content-type-refused"),
            "CVE-2023-40586: {kind}"
        );
    }
    assert_eq!(over(gate.plain(), &get("/a", "")).unwrap().status, 200);
}

fn client_hello(gate: &Gate) -> (ClientConnection, Vec<u8>) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(gate.ca()).unwrap()).unwrap();
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let mut connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap())
            .unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    (connection, hello)
}

#[test]
fn tls_where_none_is_spoken_ends_at_once() {
    let (gate, service) = open();
    let (_, hello) = client_hello(&gate);
    let begun = Instant::now();
    let mut stream = connect(gate.plain());
    stream.write_all(&hello).unwrap();
    let reply = Reply::read(&mut stream, false).unwrap();
    assert_eq!((reply.status, reply.reason().as_str()), (400, "request-line-malformed"));
    let reply = over(gate.tls(), &get("/a", "")).unwrap();
    assert_eq!((reply.status, reply.reason().as_str()), (400, "plaintext-refused"));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // Neither TLS nor HTTP: closed without a word.
    let mut stream = connect(gate.tls());
    stream.write_all(&[0x80, 0x2e, 1, 0, 2, 0, 21, 0]).unwrap();
    assert_eq!(statuses(&rest_of(&mut stream)), Vec::<u16>::new());
    assert_eq!(service.requests(), Vec::<String>::new());
}

#[test]
fn a_client_hello_in_records_of_one_byte_keeps_its_server_name() {
    let (gate, _service) = open();
    for (host, status) in [("localhost", 200), ("example.com", 421)] {
        let (mut connection, hello) = client_hello(&gate);
        let content = &hello[5..];
        let mut stream = connect(gate.tls());
        for byte in content {
            stream.write_all(&[22, 3, 1, 0, 1, *byte]).unwrap();
        }
        let mut tls = rustls::Stream::new(&mut connection, &mut stream);
        tls.write_all(format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        let reply = Reply::read(&mut tls, false).unwrap();
        assert_eq!(reply.status, status, "CVE-2026-32305: the name in the handshake is localhost");
    }
}

#[test]
fn refusals_have_a_name_in_the_record_even_before_there_is_a_head() {
    let (gate, _service) = open();
    for (request, reason) in [
        (b"GET / HTTP/1.1\r\nA B: c\r\n\r\n".to_vec(), "header-malformed"),
        (get("/a/../b", ""), "path-ambiguous"),
        (get("/a?api_key=x", ""), "credential-in-query"),
    ] {
        let reply = over(gate.plain(), &request).unwrap();
        assert_eq!(reason_of(&gate, &reply), reason);
    }
}
