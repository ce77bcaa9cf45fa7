//! No secret leaves: not in an answer, not in a record, not in a metric, not on standard error.

use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{Gate, POLICY, Plan, Reply, Service};
use crate::refusals::{Usual, get, mistyped, nowhere, over, plan, provoke};

/// So many characters of a secret in a row are already too many.
const PIECE: usize = 12;

/// What the process would write to standard error, of all gateways in it.
#[derive(Clone, Default)]
struct Spoken(Arc<Mutex<Vec<u8>>>);

impl Write for Spoken {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Spoken {
    /// Listens from here on, to far more than the program tells.
    fn listen() -> Self {
        let spoken = Self::default();
        let writer = spoken.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("debug,portcullis=trace")
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        spoken
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Secrets, each with what it is.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, what: &str, secret: &str) {
        assert!(secret.len() >= PIECE, "{what} is short");
        self.0.push((what.to_owned(), secret.to_owned()));
    }

    /// An API key: as a whole, and its secret part alone. The id before it is public.
    fn add_key(&mut self, what: &str, key: &str) {
        self.add(what, key);
        let (_, random) = key.rsplit_once('_').unwrap();
        self.add(what, &random[8..]);
    }

    /// What lies in the state directory of a gate, in every form that it could be shown in.
    fn add_state(&mut self, gate: &Gate) {
        for file in ["admin.token", "pepper", "master.key", "first-key"] {
            let Ok(bytes) = std::fs::read(gate.dir.path().join(".portcullis").join(file)) else {
                assert_eq!(file, "first-key", "it was shown on a terminal, and is kept nowhere");
                continue;
            };
            if let Ok(text) = std::str::from_utf8(&bytes) {
                self.add(file, text.trim());
            }
            self.add(file, &STANDARD.encode(&bytes));
            self.add(file, &bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        }
        let pem = std::fs::read_to_string(gate.dir.path().join(".portcullis/dev-key.pem")).unwrap();
        // The first line of a private key is the same for all; the second is not.
        self.add("dev-key.pem", pem.lines().nth(2).unwrap());
        self.add_key("first key", &gate.first_key());
    }

    /// Fails when a text holds the beginning of a secret, or its end.
    fn are_not_in(&self, place: &str, text: &str) {
        for (what, secret) in &self.0 {
            for piece in [&secret[..PIECE], &secret[secret.len() - PIECE..]] {
                assert!(
                    !text.contains(piece),
                    "{place} holds a piece of: {what}\n{}",
                    around(text, piece)
                );
            }
        }
    }
}

fn around<'a>(text: &'a str, piece: &str) -> &'a str {
    text.lines().find(|line| line.contains(piece)).unwrap_or_default()
}

/// An answer as one text.
fn whole(reply: &Reply) -> String {
    let headers: String =
        reply.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{headers}\n{}", reply.body)
}

#[test]
fn no_refusal_and_no_record_of_it_holds_a_secret() {
    let spoken = Spoken::listen();
    let usual = Usual::new();
    let mut secrets = Secrets::default();
    secrets.add_state(&usual.gate);
    for (what, key) in [
        ("a good key", &usual.member),
        ("an expired key", &usual.expired),
        ("a revoked key", &usual.revoked),
        ("a suspended key", &usual.suspended),
        ("a key of another network", &usual.elsewhere),
        ("a key of another environment", &usual.foreign),
        ("a key without rights", &usual.poor),
        ("a mistyped key", &mistyped(&usual.member)),
    ] {
        secrets.add_key(what, key);
    }
    for signer in [&usual.alices, &usual.bobs, &usual.expired_signer, &usual.revoked_signer] {
        secrets.add("a signing secret", &signer.secret);
    }
    let mut answers = Vec::new();
    provoke(&usual, |row, gate, reply, _| {
        let mut own = Secrets::default();
        own.add_state(gate);
        let told = [reply.map(whole).unwrap_or_default(), gate.metrics(), gate.log(row.0)];
        for (place, text) in ["the answer", "the metrics", "the log"].into_iter().zip(&told) {
            let place = format!("{place} to {}", row.0);
            own.are_not_in(&place, text);
            secrets.are_not_in(&place, text);
        }
        own.are_not_in("standard error", &spoken.text());
        answers.push(row.0);
    });
    assert!(answers.len() > 80, "{} refusals", answers.len());

    callers_secrets_are_kept(&usual, &secrets);
    the_administration_is_silent(&usual.gate, &secrets);
    assert!(!spoken.text().contains("canary-"), "{}", around(&spoken.text(), "canary-"));
    secrets.are_not_in("standard error", &spoken.text());
    assert!(!spoken.text().is_empty(), "somebody must have listened");
}

/// What callers send in the wrong place is their secret too.
fn callers_secrets_are_kept(usual: &Usual, secrets: &Secrets) {
    let canaries = [
        "canary-query-7f3a9c",
        "canary-body-7f3a9c",
        "canary-agent-7f3a9c",
        "canary-cookie-7f3a9c",
        "canary-header-7f3a9c",
    ];
    let [query, body, agent, cookie, header] = canaries;
    let key = &usual.member;
    let lines = format!(
        "Authorization: Bearer {key}\r\nCookie: session={cookie}\r\nX-Private: {header}\r\n"
    );
    for target in [
        format!("/v1/things?password={query}"),
        format!("/v1/things?q=1%27+OR+%271%27=%271--{}{query}", "+".repeat(200)),
        format!("/v1/things?{query}"),
        format!("/v1/open?key={key}"),
        format!("/v1/things?api_key={query}"),
    ] {
        secrets.are_not_in("an answer", &whole(&usual.gate.send_bytes(&get(&target, &lines))));
    }
    for sent in [
        format!("{{\"password\":\"{body}\"}}"),
        format!("{{\"password\":\"{body} <script>alert(1)</script>\"}}"),
        format!("{{\"password\":\"{body}\"}} trailing"),
    ] {
        secrets.are_not_in("an answer", &whole(&usual.gate.put("POST", "/v1/things", key, &sent)));
    }
    let last =
        usual.gate.send_bytes(&get("/v1/open?the-last=1", &format!("User-Agent: {agent}\r\n")));
    assert_eq!(last.status, 200);
    let log = usual.gate.log("the-last");
    assert!(log.contains(agent), "what a caller calls itself is told");
    for canary in [query, body, cookie, header] {
        assert!(!log.contains(canary), "the log holds {canary}: {}", around(&log, canary));
    }
    secrets.are_not_in("the log", &log);
}

/// The administration tells of keys, never the keys.
fn the_administration_is_silent(gate: &Gate, secrets: &Secrets) {
    for (method, path, sent) in [
        ("POST", "/v1/keys", r#"{"do":"list"}"#),
        ("GET", "/v1/status", ""),
        ("GET", "/v1/decisions/last-refused", ""),
        ("GET", "/metrics", ""),
        ("POST", "/v1/reload", ""),
        ("POST", "/v1/keys", r#"{"do":"nonsense"}"#),
        ("GET", "/nothing", ""),
    ] {
        secrets.are_not_in(path, &whole(&gate.ask_admin(method, path, sent)));
    }
    let wrong = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer canary-token-7f3a9c\r\n\r\n";
    assert_eq!(over(gate.admin(), wrong).unwrap().status, 401);
}

#[test]
fn no_answer_tells_where_the_service_is_or_what_it_is_made_of() {
    let cases: Vec<(&str, std::net::SocketAddr, u16)> = vec![
        ("unreachable", nowhere(), 502),
        ("broken", Service::answering(|_| "HTTP/9.9 banana\r\n\r\n".to_owned()).address, 502),
        ("closed", Service::answering(|_| String::new()).address, 502),
        (
            "a head without end",
            Service::answering(|_| format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(1_000_000)))
                .address,
            502,
        ),
        (
            "two lengths",
            Service::answering(|_| {
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned()
            })
            .address,
            502,
        ),
        ("good", telling(), 200),
    ];
    for (name, address, status) in cases {
        let gate = Plan::new(address, POLICY).start();
        let reply = gate.send_bytes(&get("/v1/open", ""));
        assert_eq!(reply.status, status, "{name}: {reply:?}");
        let told = whole(&reply);
        for part in [
            address.to_string().as_str(),
            &address.port().to_string(),
            "banana",
            "secret/1.0",
            "PHP",
            "refused",
            "os error",
        ] {
            assert!(!told.contains(part), "{name}: the answer holds {part:?}:\n{told}");
        }
        assert!(gate.log("\"route\":\"open\"").contains("\"route\":\"open\""));
    }
}

/// A service that tells too much of itself.
fn telling() -> std::net::SocketAddr {
    let service = Service::answering(|_| {
        "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Powered-By: PHP/5.3\r\nX-AspNet-Version: secret/1.0\r\nX-Runtime: secret/1.0\r\nContent-Length: 2\r\n\r\n{}".to_owned()
    });
    service.address
}

#[test]
fn the_service_is_told_no_credential() {
    let service = Service::ok();
    let gate = plan(&service).start();
    let key = gate.first_key();
    assert_eq!(gate.get("/v1/things", &key).status, 200);
    let reply = gate.send_bytes(&get("/v1/things", &format!("X-API-Key: {key}\r\n")));
    assert_eq!(reply.status, 200);
    // Also where nobody asked for one.
    assert_eq!(gate.get("/v1/open", &key).status, 200);
    let mut secrets = Secrets::default();
    secrets.add_state(&gate);
    secrets.are_not_in("what the service saw", &service.requests().concat());
    assert_eq!(service.requests().len(), 3);
}
