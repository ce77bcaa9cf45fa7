//! What operators do to a running gateway, and what happens to it: reloads, drains, dead services,
//! full memory, renewed certificates, revoked keys, restarts and kills.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portcullis::policy::reload::Outcome;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{Gate, PATIENCE, POLICY, Plan, Reply, Service, Tls, connect};

const READER: &str = r#""name":"reader","subject":"user_1","scopes":["things:read"]"#;
const WRITER: &str = r#""name":"writer","subject":"user_1","roles":["member"],"scopes":["things:read","things:write"]"#;

// ── the real program ─────────────────────────────────────────────────────────────────────────

/// The real program, serving from a directory. Killed when dropped.
pub struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `portcullis run` in a directory, and waits until it is ready.
    pub fn start(dir: &Path) -> Self {
        let process = Self::spawn(dir, &[]);
        assert!(process.wait_for("ready in"), "it does not get ready:\n{}", process.said());
        process
    }

    /// Starts it with these variables, and waits for nothing.
    pub fn spawn(dir: &Path, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["run", "--color", "never"])
            .current_dir(dir)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let (stderr, keep) = (child.stderr.take().unwrap(), Arc::clone(&said));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                keep.lock().unwrap().push(line);
            }
        });
        Self { child, said }
    }

    /// What it has said on standard error so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    /// Whether it says this before patience ends, or the process does.
    pub fn wait_for(&self, text: &str) -> bool {
        eventually(|| self.said().contains(text))
    }

    /// The address of a listener that it logged, such as `https`, or `metrics` for the admin listener.
    pub fn address(&self, scheme: &str) -> SocketAddr {
        let said = self.said();
        let start = match scheme {
            "metrics" => "metrics http://".to_owned(),
            scheme => format!("gateway {scheme}://"),
        };
        let rest = said.split(&start).nth(1).unwrap_or_else(|| panic!("no {start} in\n{said}"));
        let address: String =
            rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
        address.parse().unwrap()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end, which must come in time.
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end:\n{}", self.said());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory with a configuration for the real program, on free ports, in front of `upstream`.
pub fn directory(upstream: SocketAddr, policy: &str, extra: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    std::fs::write(dir.path().join("policies/policy.toml"), policy).unwrap();
    let config = format!(
        "version = 1\n[[listener]]\nbind = [\"127.0.0.1:0\"]\n[listener.tls]\n\
         [[listener]]\nname = \"plain\"\nbind = [\"127.0.0.1:0\"]\n\
         [upstreams.service]\ntargets = [\"http://{upstream}\"]\n[admin]\nbind = \"127.0.0.1:0\"\n\
         [log]\naccess = {{ to = \"none\" }}\n[shutdown]\ndrain = \"5s\"\n{extra}\n"
    );
    std::fs::write(dir.path().join("gateway.toml"), config).unwrap();
    dir
}

/// Runs the real program with these arguments in a directory: exit code, output, talk.
pub fn portcullis(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Whether something becomes so before patience ends.
pub fn eventually(mut so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if so() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

pub fn get(target: &str, key: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n")
}

pub fn ask(address: SocketAddr, request: &str) -> Option<Reply> {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).ok()?;
    Reply::read(&mut stream, false)
}

fn scraped(admin: SocketAddr, series: &str) -> f64 {
    let reply =
        ask(admin, &format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"))
            .unwrap();
    let line = reply
        .body
        .lines()
        .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().unwrap())
}

fn trusting(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn over_tls(config: &Arc<ClientConfig>, stream: TcpStream) -> Tls {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

// ── reloads ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_valid_change_holds_from_the_next_request_on_and_budgets_survive_it() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let key = gate.key(READER);
    let mut open = gate.connect();
    let mut ask = |target: &str| {
        open.write_all(get(target, &key).as_bytes()).unwrap();
        Reply::read(&mut open, false).unwrap()
    };
    assert_eq!(ask("/v1/limited").status, 200);
    assert_eq!(ask("/v1/limited").status, 200);
    assert_eq!(ask("/v1/added").status, 404);
    let added = format!(
        "{POLICY}\n[routes.added]\nsummary = \"New\"\nmatch = \"GET /v1/added\"\nupstream = \"service\"\nallow = [{{ anyone = true }}]\n"
    );
    assert!(matches!(gate.reload(&added), Outcome::Applied(_)));
    assert_eq!(ask("/v1/added").status, 200, "the same connection sees the new policy");
    assert_eq!(ask("/v1/limited").header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(ask("/v1/limited").status, 429, "a reload gives nobody a fresh budget");
    assert_eq!(gate.metric("portcullis_policy_reloads_total{result=\"applied\"}"), 1.0);
    assert!(matches!(gate.started().reload(), Outcome::Unchanged(_)));
    assert!(matches!(gate.reload(POLICY), Outcome::Applied(_)));
    assert_eq!(ask("/v1/added").status, 404);
}

#[test]
fn a_broken_change_keeps_the_old_policy_and_everybody_is_told() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let key = gate.key(READER);
    let successful = "portcullis_policy_last_reload_successful";
    assert_eq!(gate.metric(successful), 1.0);
    let hash = |gate: &Gate| {
        gate.metrics()
            .lines()
            .find(|line| line.starts_with("portcullis_policy_info"))
            .unwrap()
            .to_owned()
    };
    let before = hash(&gate);

    let path = gate.dir.path().join("policies/policy.toml");
    std::fs::write(
        &path,
        POLICY.replace("scopes = [\"things:read\"]", "scopes = [\"things:raed\"]"),
    )
    .unwrap();
    let told = gate.ask_admin("POST", "/v1/reload", "").json();
    assert_eq!(told["result"], "refused");
    let says = told["says"].as_str().unwrap();
    assert!(
        says.contains("scope `things:raed` is not defined")
            && says.contains("did you mean `things:read`?"),
        "{says}"
    );
    assert!(says.contains("policy.toml:"), "{says}");
    assert_eq!(gate.metric(successful), 0.0);
    assert_eq!(gate.metric("portcullis_policy_reloads_total{result=\"refused\"}"), 1.0);
    assert_eq!(hash(&gate), before);
    assert_eq!(gate.get("/v1/things", &key).status, 200);

    std::fs::write(&path, POLICY).unwrap();
    assert_eq!(gate.ask_admin("POST", "/v1/reload", "").json()["result"], "unchanged");
    assert_eq!(gate.metric(successful), 1.0);
}

#[test]
fn a_failing_test_of_the_policy_refuses_the_reload() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let key = gate.key(READER);
    let test = "\n[[test]]\nname = \"nobody lists things\"\nrequest = \"GET /v1/things\"\nas = { sub = \"user_1\", scopes = [\"things:read\"] }\nexpect = { decision = \"refuse\", status = 403 }\n";
    let Outcome::Refused(says) = gate.reload(&format!("{POLICY}{test}")) else {
        panic!("it was taken")
    };
    assert!(says.contains("nobody lists things"), "{says}");
    assert_eq!(gate.metric("portcullis_policy_last_reload_successful"), 0.0);
    assert_eq!(gate.get("/v1/things", &key).status, 200);
    let passing = test.replace("\"refuse\", status = 403", "\"allow\"");
    assert!(matches!(gate.reload(&format!("{POLICY}{passing}")), Outcome::Applied(_)));
}

#[test]
fn a_file_that_is_still_being_written_is_not_looked_at() {
    let service = Service::ok();
    let dir = directory(service.address, POLICY, "[policy]\nwatch = true\n");
    let process = Process::start(dir.path());
    let admin = process.address("metrics");
    let path = dir.path().join("policies/policy.toml");
    let added = format!(
        "{POLICY}\n[routes.added]\nsummary = \"New\"\nmatch = \"GET /v1/added\"\nupstream = \"service\"\nauth = \"none\"\n"
    );
    // An editor that saves slowly: every state between the first and the last is broken.
    let broken = "\n[routes.added]\nsummary = \"New";
    for length in 0..12 {
        let text = format!("{POLICY}{broken}{}", "x".repeat(length));
        std::fs::write(&path, text).unwrap();
        thread::sleep(Duration::from_millis(250));
    }
    std::fs::write(&path, added).unwrap();
    assert!(
        eventually(|| scraped(admin, "portcullis_policy_reloads_total{result=\"applied\"}") == 1.0),
        "{}",
        process.said()
    );
    assert_eq!(
        scraped(admin, "portcullis_policy_reloads_total{result=\"refused\"}"),
        0.0,
        "{}",
        process.said()
    );
    assert_eq!(
        ask(process.address("http"), "GET /v1/added HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap()
            .status,
        200
    );
    // A file that stays broken is refused once, and the policy in force stays.
    std::fs::write(&path, format!("{POLICY}{broken}")).unwrap();
    assert!(eventually(|| scraped(admin, "portcullis_policy_last_reload_successful") == 0.0));
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(scraped(admin, "portcullis_policy_reloads_total{result=\"refused\"}"), 1.0);
    assert_eq!(
        ask(process.address("http"), "GET /v1/added HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap()
            .status,
        200
    );
}

/// A service that echoes what comes over a WebSocket, byte for byte, and says 200 to everything else.
fn echo_service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || echo(stream));
        }
    });
    address
}

fn echo(stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut upgrade = false;
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            upgrade |= line.to_ascii_lowercase().starts_with("upgrade: websocket");
            if line == "\r\n" {
                break;
            }
        }
        let answer: &[u8] = if upgrade {
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}"
        };
        if stream.write_all(answer).is_err() {
            return;
        }
        if upgrade {
            let mut chunk = [0; 4096];
            while let Ok(count) = lines.read(&mut chunk) {
                if count == 0 || stream.write_all(&chunk[..count]).is_err() {
                    return;
                }
            }
            return;
        }
    }
}

fn web_socket(gate: &Gate) -> Tls {
    let mut socket = gate.connect();
    socket
        .write_all(
            b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let reply = Reply::read(&mut socket, false).unwrap();
    assert_eq!(reply.status, 101);
    assert_eq!(reply.header("upgrade"), Some("websocket"), "clients demand it");
    assert_eq!(reply.header("connection"), Some("Upgrade"));
    socket
}

fn echoes(socket: &mut Tls, text: &[u8]) {
    socket.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    socket.read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

#[test]
fn fifty_reloads_under_load_fail_no_request_and_cut_no_web_socket() {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 10_000 / CLIENTS;
    const RELOADS: usize = 50;
    let gate = Gate::new(echo_service(), POLICY);
    let key = gate.key(READER);
    let mut socket = web_socket(&gate);
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut stream = gate.connect();
                let request = get("/v1/things?limit=5", &key);
                for number in 0..REQUESTS {
                    stream.write_all(request.as_bytes()).unwrap();
                    let reply = Reply::read(&mut stream, false);
                    let reply = reply.unwrap_or_else(|| panic!("request {number} got no answer"));
                    assert_eq!(reply.status, 200, "request {number}: {reply:?}");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for number in 0..RELOADS {
            // Spread over the whole time of the load.
            while answered.load(Ordering::SeqCst) < number * CLIENTS * REQUESTS / RELOADS {
                thread::yield_now();
            }
            let changed = POLICY.replace("List things", &format!("List things, reading {number}"));
            assert!(matches!(gate.reload(&changed), Outcome::Applied(_)), "reload {number}");
            echoes(&mut socket, format!("frame {number}").as_bytes());
        }
    });
    assert_eq!(answered.load(Ordering::SeqCst), CLIENTS * REQUESTS);
    echoes(&mut socket, b"the last frame");
    assert_eq!(gate.metric("portcullis_policy_reloads_total{result=\"applied\"}"), RELOADS as f64);
}

// ── the end ──────────────────────────────────────────────────────────────────────────────────

/// Sends request after request until the gateway says that it ends, or cannot be reached any more.
/// Gives back how many were answered; panics for one that was not.
fn send_until_the_end(
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    request: &str,
    until: &AtomicBool,
) -> usize {
    let mut answered = 0;
    // Once the listener is gone, connecting fails and nothing was promised to anybody.
    while let Ok(stream) = TcpStream::connect_timeout(&address, PATIENCE) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let done = match tls {
            Some(config) => send_until_told(&mut over_tls(config, stream), request, &mut answered),
            None => send_until_told(&mut { stream }, request, &mut answered),
        };
        if let Err(fault) = done {
            panic!("after {answered} answers: {fault}");
        }
        assert!(!until.load(Ordering::SeqCst), "it accepts connections after it has stopped");
    }
    answered
}

/// One connection's requests, until an answer says that it closes.
fn send_until_told(
    stream: &mut (impl Read + Write),
    request: &str,
    answered: &mut usize,
) -> Result<(), String> {
    loop {
        stream
            .write_all(request.as_bytes())
            .map_err(|error| format!("a request could not be sent: {error}"))?;
        let reply = Reply::read(stream, false)
            .ok_or("the connection closed without an answer, and none had said so")?;
        if reply.status != 200 {
            return Err(format!("refused: {reply:?}"));
        }
        *answered += 1;
        if reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return Ok(());
        }
    }
}

#[test]
fn a_drain_under_load_fails_no_request() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let key = gate.key(READER);
    let tls = trusting(&gate.ca());
    let (over_tls, plain) = (gate.tls(), gate.plain());
    let stopped = AtomicBool::new(false);
    let request = get("/v1/things", &key);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let (tls, stopped, request) = (&tls, &stopped, request.as_str());
                scope.spawn(move || match number % 2 {
                    0 => send_until_the_end(over_tls, Some(tls), request, stopped),
                    _ => send_until_the_end(plain, None, request, stopped),
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        assert!(gate.stop(), "the drain was cut");
        stopped.store(true, Ordering::SeqCst);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
}

#[test]
fn a_request_in_flight_is_answered_before_the_process_ends() {
    let service = Service::answering(|_| {
        thread::sleep(Duration::from_millis(700));
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
    });
    let dir = directory(service.address, POLICY, "");
    let mut process = Process::start(dir.path());
    let plain = process.address("http");
    let mut idle = connect(plain);
    let waiting =
        thread::spawn(move || ask(plain, "GET /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert!(eventually(|| service.requests().len() == 1));
    process.signal("TERM");
    let reply = waiting.join().unwrap().unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(process.ended().code(), Some(0), "{}", process.said());
    assert_eq!(idle.read(&mut [0; 16]).unwrap_or(0), 0);
    assert!(TcpStream::connect(plain).is_err());
}

#[test]
fn a_drain_that_takes_too_long_is_cut_and_says_so() {
    let service = Service::answering(|_| {
        thread::sleep(Duration::from_secs(30));
        String::new()
    });
    let dir = directory(service.address, POLICY, "");
    let config = dir.path().join("gateway.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("drain = \"5s\"", "drain = \"300ms\"")
            .replace("[admin]", "timeout = { first_byte = \"60s\", total = \"60s\" }\n[admin]"),
    )
    .unwrap();
    let mut process = Process::start(dir.path());
    let plain = process.address("http");
    let waiting =
        thread::spawn(move || ask(plain, "GET /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert!(eventually(|| service.requests().len() == 1));
    process.signal("TERM");
    assert_eq!(process.ended().code(), Some(2));
    assert!(process.wait_for("had not ended"), "{}", process.said());
    assert!(waiting.join().unwrap().is_none_or(|reply| reply.status >= 500));
}

// ── services that fail ───────────────────────────────────────────────────────────────────────

const QUICK: &str = "timeout = { connect = \"300ms\", first_byte = \"400ms\", total = \"1s\" }\nhealth = { every = \"1h\", down_after = 100 }\n";

/// The one shape of errors, with this status, reason and code.
fn is_error(reply: &Reply, status: u16, reason: &str, code: &str) {
    assert_eq!((reply.status, reply.reason().as_str()), (status, reason), "{reply:?}");
    let error = &reply.json()["error"];
    assert_eq!(error["code"], code);
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.header("x-request-id").is_some(), "{reply:?}");
}

fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_dead_service_is_a_502() {
    let gate = Plan::new(nobody(), POLICY).upstream(QUICK).start();
    let begun = Instant::now();
    is_error(&gate.get("/v1/open", "-"), 502, "upstream-unreachable", "bad_gateway");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_service_that_hangs_up_or_talks_nonsense_is_a_502() {
    let answers = [
        "",
        "HTTP/9.9 nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "\0\0\0\0\r\n\r\n",
    ];
    for answer in answers {
        let service = Service::answering(move |_| answer.to_owned());
        let gate = Plan::new(service.address, POLICY).upstream(QUICK).start();
        is_error(&gate.get("/v1/open", "-"), 502, "upstream-broken", "bad_gateway");
    }
}

#[test]
fn a_stalled_service_is_a_504_in_time_and_others_do_not_feel_it() {
    let stalled = Service::answering(|_| {
        thread::sleep(Duration::from_secs(20));
        String::new()
    });
    let policy = format!(
        "{POLICY}\n[routes.stalled]\nsummary = \"Stalls\"\nmatch = \"GET /v1/stalled\"\nupstream = \"stalled\"\nauth = \"none\"\n"
    );
    let gate = Plan::new(Service::ok().address, &policy)
        .extra(&format!("[upstreams.stalled]\ntargets = [\"http://{}\"]\n{QUICK}", stalled.address))
        .start();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    let begun = Instant::now();
                    let reply = gate.get("/v1/stalled", "-");
                    (reply, begun.elapsed())
                })
            })
            .collect();
        let mut others = gate.connect();
        for _ in 0..20 {
            let begun = Instant::now();
            others.write_all(get("/v1/open", "-").as_bytes()).unwrap();
            assert_eq!(Reply::read(&mut others, false).unwrap().status, 200);
            assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
            thread::sleep(Duration::from_millis(10));
        }
        for client in waiting {
            let (reply, took) = client.join().unwrap();
            is_error(&reply, 504, "upstream-timeout", "gateway_timeout");
            assert!(
                (Duration::from_millis(300)..Duration::from_secs(3)).contains(&took),
                "{took:?}"
            );
        }
    });
}

#[test]
fn a_busy_service_is_a_503_for_those_who_find_no_place() {
    let service = Service::answering(|_| {
        thread::sleep(Duration::from_millis(800));
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
    });
    let gate = Plan::new(service.address, POLICY)
        .upstream("pool = { max = 1, wait = 0 }\nhealth = { every = \"1h\" }\n")
        .start();
    let replies: Vec<Reply> = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| gate.get("/v1/open", "-"))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let (served, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    // The ceiling holds for each of the two workers.
    assert!((1..=2).contains(&served.len()), "{replies:?}");
    for reply in refused {
        is_error(reply, 503, "upstream-busy", "service_unavailable");
    }
}

#[test]
fn an_answer_that_breaks_off_is_never_taken_for_a_whole_one() {
    let service = Service::answering(|_| {
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nhalf".to_owned()
    });
    let gate =
        Plan::new(service.address, POLICY).upstream("timeout = { idle = \"300ms\" }\n").start();
    let mut stream = gate.connect();
    stream.write_all(get("/v1/open", "-").as_bytes()).unwrap();
    assert!(Reply::read(&mut stream, false).is_none(), "half an answer was framed as a whole one");
    assert_eq!(service.requests().len(), 1);
}

#[test]
fn a_sick_service_is_taken_out_and_comes_back() {
    let well = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&well);
    let service = Service::answering(move |_| {
        let status =
            if state.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok")
    });
    let gate = Plan::new(service.address, POLICY)
        .upstream("health = { path = \"/health\", every = \"100ms\", timeout = \"200ms\", up_after = 2, down_after = 2 }\n")
        .start();
    let series = format!(
        "portcullis_upstream_target_healthy{{target=\"http://{}\",upstream=\"service\"}}",
        service.address
    );
    assert!(eventually(|| gate.metric(&series) == 1.0), "{}", gate.metrics());
    assert_eq!(gate.get("/v1/open", "-").status, 200);
    well.store(false, Ordering::SeqCst);
    assert!(eventually(|| gate.metric(&series) == 0.0));
    is_error(&gate.get("/v1/open", "-"), 503, "upstream-unhealthy", "service_unavailable");
    well.store(true, Ordering::SeqCst);
    assert!(eventually(|| gate.metric(&series) == 1.0));
    assert_eq!(gate.get("/v1/open", "-").status, 200);
}

// ── memory ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn bodies_on_every_connection_stay_within_the_memory_that_is_given() {
    const CONNECTIONS: usize = 16;
    const BODY: usize = 60 * 1024;
    let gate = Plan::new(Service::ok().address, POLICY)
        .listener("[listener.bounds]\nconnections = 16\n")
        .extra("buffered_bytes_max = \"192KiB\"\n")
        .start();
    let key = gate.key(WRITER);
    let body = format!("{{\"text\":\"{}\"}}", "a".repeat(BODY - 11));
    assert_eq!(body.len(), BODY);
    let head = format!(
        "POST /v1/things HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {BODY}\r\n\r\n"
    );
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(gate.plain())).collect();
    for stream in &mut streams {
        stream.write_all(head.as_bytes()).unwrap();
        // A connection that is refused may be closed before all of this is written.
        let _ = stream.write_all(&body.as_bytes()[..BODY - 1]);
    }
    let ceiling = 192.0 * 1024.0;
    assert!(
        eventually(|| gate.metric("portcullis_buffered_bytes") >= BODY as f64),
        "{}",
        gate.metrics()
    );
    let mut late = TcpStream::connect(gate.plain()).unwrap();
    late.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = late.write_all(get("/v1/open", "-").as_bytes());
    assert!(Reply::read(&mut late, false).is_none(), "the ceiling of connections does not hold");
    for _ in 0..10 {
        let held = gate.metric("portcullis_buffered_bytes");
        assert!(held <= ceiling, "{held}");
        thread::sleep(Duration::from_millis(20));
    }
    let mut statuses = Vec::new();
    for stream in &mut streams {
        let _ = stream.write_all(&body.as_bytes()[BODY - 1..]);
        let reply = Reply::read(stream, false).expect("every request gets an answer");
        match reply.status {
            200 => {}
            503 => is_error(&reply, 503, "buffer-full", "service_unavailable"),
            _ => panic!("{reply:?}"),
        }
        statuses.push(reply.status);
    }
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    assert!(gate.metric("portcullis_buffer_refused_total") > 0.0);
    assert!(eventually(|| gate.metric("portcullis_buffered_bytes") == 0.0), "{}", gate.metrics());
    drop(streams);
    assert!(eventually(|| gate.put("POST", "/v1/things", &key, &body).status == 200));
}

// ── certificates, keys and bans ──────────────────────────────────────────────────────────────

#[test]
fn a_renewed_certificate_is_taken_without_a_restart_and_a_broken_one_is_not() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let state = gate.dir.path().join(".portcullis");
    let mut before = gate.connect();
    before.write_all(get("/v1/open", "-").as_bytes()).unwrap();
    assert_eq!(Reply::read(&mut before, false).unwrap().status, 200);

    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let renewed = parameters.self_signed(&key).unwrap();
    std::fs::write(state.join("dev-cert.pem"), renewed.pem()).unwrap();
    std::fs::write(state.join("dev-key.pem"), key.serialize_pem()).unwrap();
    let (new, old) = (trusting(&state.join("dev-cert.pem")), trusting(&gate.ca()));
    let accepts = |config: &Arc<ClientConfig>| {
        let mut stream = over_tls(config, connect(gate.tls()));
        stream.write_all(get("/v1/open", "-").as_bytes()).is_ok()
            && Reply::read(&mut stream, false).is_some()
    };
    assert!(eventually(|| accepts(&new)), "the new certificate is never shown");
    assert!(!accepts(&old));
    assert_eq!(
        gate.metric("portcullis_certificate_reloads_total{listener=\"public\",result=\"applied\"}"),
        1.0
    );
    before.write_all(get("/v1/open", "-").as_bytes()).unwrap();
    assert_eq!(Reply::read(&mut before, false).unwrap().status, 200, "open connections stay open");

    std::fs::write(state.join("dev-cert.pem"), "-----BEGIN CERTIFICATE-----\nbroken\n").unwrap();
    let refused = "portcullis_certificate_reloads_total{listener=\"public\",result=\"refused\"}";
    assert!(eventually(|| gate.metric(refused) >= 1.0));
    assert!(accepts(&new), "the certificate in use was given up for a broken one");
}

#[test]
fn a_revoked_key_is_refused_from_the_next_request_on() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let made = gate.keys(&format!("{{\"do\":\"create\",\"template\":{{{READER}}}}}"));
    let (id, key) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let mut open = gate.connect();
    let mut ask = || {
        open.write_all(get("/v1/things", key).as_bytes()).unwrap();
        Reply::read(&mut open, false).unwrap()
    };
    assert_eq!(ask().status, 200);
    let revoked = gate.keys(&format!("{{\"do\":\"revoke\",\"id\":\"{id}\"}}"));
    assert!(revoked.get("revoked").is_some(), "{revoked}");
    let reply = ask();
    assert_eq!(reply.status, 401);
    assert_eq!(
        reply.body,
        r#"{"error":{"code":"unauthorized","message":"Invalid or missing API key"}}"#
    );
    let listed = gate.keys("{\"do\":\"list\"}");
    let state = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["id"] == id)
        .map(|key| key["state"].clone());
    assert_eq!(state, Some("revoked".into()));
}

#[test]
fn a_rotated_key_and_its_successor_both_hold_until_the_overlap_is_over() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let made = gate.keys(&format!("{{\"do\":\"create\",\"template\":{{{READER}}}}}"));
    let (id, old) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let made = gate.keys(&format!("{{\"do\":\"rotate\",\"id\":\"{id}\",\"overlap_s\":60}}"));
    let new = made["secret"].as_str().unwrap_or_else(|| panic!("{made}"));
    assert_eq!(gate.get("/v1/things", old).status, 200);
    assert_eq!(gate.get("/v1/things", new).status, 200);
    gate.hand.advance(Duration::from_secs(61));
    assert_eq!(gate.get("/v1/things", old).status, 401);
    assert_eq!(gate.get("/v1/things", new).status, 200);
}

#[test]
fn a_ban_holds_until_it_is_lifted_or_over_and_never_for_operators() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let ban = |seconds: u32| {
        let body =
            format!("{{\"network\":\"127.0.0.1\",\"seconds\":{seconds},\"why\":\"a test\"}}");
        let reply = gate.ask_admin("POST", "/v1/bans", &body);
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    assert_eq!(gate.get("/v1/open", "-").status, 200);
    ban(3600);
    is_error(&gate.get("/v1/open", "-"), 403, "address-banned", "forbidden");
    let listed = gate.ask_admin("GET", "/v1/bans", "").json();
    assert_eq!(listed[0]["network"], "127.0.0.1/32");
    assert_eq!(listed[0]["why"], "a test");
    let lifted = gate.ask_admin("POST", "/v1/bans/remove", "{\"network\":\"127.0.0.1\"}").json();
    assert_eq!(lifted["removed"], true);
    assert_eq!(gate.get("/v1/open", "-").status, 200);
    ban(60);
    assert_eq!(gate.get("/v1/open", "-").status, 403);
    gate.hand.advance(Duration::from_secs(61));
    assert_eq!(gate.get("/v1/open", "-").status, 200);
}

// ── restarts and kills ───────────────────────────────────────────────────────────────────────

#[test]
fn keys_and_bans_outlive_a_restart_and_nothing_is_made_anew() {
    let dir = directory(Service::ok().address, POLICY, "");
    let mut process = Process::start(dir.path());
    let first = std::fs::read_to_string(dir.path().join(".portcullis/first-key")).unwrap();
    let admin = process.address("metrics").to_string();
    let create =
        ["keys", "create", "--admin", &admin, "--name", "reader", "--scope", "things:read"];
    let (code, key, talk) = portcullis(dir.path(), &create);
    assert_eq!(code, Some(0), "{talk}");
    let (code, _, talk) = portcullis(
        dir.path(),
        &["bans", "add", "--admin", &admin, "203.0.113.9", "--for", "1h", "--why", "a test"],
    );
    assert_eq!(code, Some(0), "{talk}");
    process.signal("TERM");
    assert_eq!(process.ended().code(), Some(0));
    let secrets = |dir: &Path| {
        ["pepper", "master.key", "admin.token", "dev-ca.pem", "dev-key.pem"]
            .map(|name| std::fs::read(dir.join(".portcullis").join(name)).unwrap())
    };
    let before = secrets(dir.path());

    // While nothing runs, the command works on the store itself.
    let (code, offline, talk) =
        portcullis(dir.path(), &["keys", "create", "--name", "offline", "--scope", "things:read"]);
    assert_eq!(code, Some(0), "{talk}");

    let process = Process::start(dir.path());
    assert_eq!(secrets(dir.path()), before);
    assert!(!process.said().contains("first run"), "{}", process.said());
    for key in [&first, &key, &offline] {
        assert_eq!(
            ask(process.address("http"), &get("/v1/things", key.trim())).unwrap().status,
            200
        );
    }
    let admin = process.address("metrics").to_string();
    let (_, bans, _) = portcullis(dir.path(), &["bans", "list", "--admin", &admin]);
    assert!(bans.contains("203.0.113.9"), "{bans}");
}

#[test]
fn a_kill_in_the_middle_of_making_keys_loses_none_that_was_handed_out() {
    let dir = directory(Service::ok().address, POLICY, "");
    let mut handed_out: Vec<String> = Vec::new();
    for round in 0..3_u64 {
        let process = Process::start(dir.path());
        let admin = process.address("metrics");
        let token = std::fs::read_to_string(dir.path().join(".portcullis/admin.token")).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let maker = thread::spawn(move || {
            let body = format!("{{\"do\":\"create\",\"template\":{{{READER}}}}}");
            let request = format!(
                "POST /v1/keys HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                token.trim(),
                body.len()
            );
            let (mut stream, mut made) = (connect(admin), Vec::new());
            while stream.write_all(request.as_bytes()).is_ok() {
                let Some(reply) = Reply::read(&mut stream, false) else { break };
                made.push(reply.json()["secret"].as_str().unwrap().to_owned());
                counted.fetch_add(1, Ordering::SeqCst);
            }
            made
        });
        assert!(eventually(|| count.load(Ordering::SeqCst) >= 5));
        thread::sleep(Duration::from_millis(7 * round));
        process.signal("KILL");
        let made = maker.join().unwrap();
        handed_out.extend(made);
    }
    let process = Process::start(dir.path());
    let mut stream = connect(process.address("http"));
    for key in &handed_out {
        stream.write_all(get("/v1/things", key).as_bytes()).unwrap();
        let reply = Reply::read(&mut stream, false).unwrap();
        assert_eq!(reply.status, 200, "one of {} keys is lost", handed_out.len());
    }
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_left_running() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let service = Service::ok();
    for (find, replace) in [
        (
            "name = \"plain\"\nbind = [\"127.0.0.1:0\"]",
            format!("name = \"plain\"\nbind = [\"{address}\"]"),
        ),
        ("[admin]\nbind = \"127.0.0.1:0\"", format!("[admin]\nbind = \"{address}\"")),
    ] {
        let dir = directory(service.address, POLICY, "");
        let config = dir.path().join("gateway.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains(find));
        std::fs::write(&config, text.replace(find, &replace)).unwrap();
        let (code, _, talk) = portcullis(dir.path(), &["run"]);
        assert_eq!(code, Some(2), "{talk}");
        assert!(talk.contains(&address), "{talk}");
        std::fs::write(&config, text).unwrap();
        let process = Process::start(dir.path());
        assert_eq!(
            ask(process.address("http"), "GET /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .unwrap()
                .status,
            200
        );
    }
}

#[test]
fn two_gateways_do_not_share_a_state_directory() {
    let dir = directory(Service::ok().address, POLICY, "");
    let _running = Process::start(dir.path());
    let (code, _, talk) = portcullis(dir.path(), &["run"]);
    assert_eq!(code, Some(2), "{talk}");
    assert!(talk.contains(".portcullis"), "{talk}");
}

#[test]
fn sighup_loads_the_policy_again_and_systemd_is_told_of_everything() {
    let dir = directory(Service::ok().address, POLICY, "[policy]\nwatch = false\n");
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut bytes = [0; 512];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    let mut process = Process::spawn(dir.path(), &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert!(told().contains("READY=1"), "{}", process.said());
    assert!(process.wait_for("ready in"));
    let plain = process.address("http");
    let open = "GET /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(ask(plain, open).unwrap().status, 200);
    let closed = POLICY.replace("GET /v1/open", "GET /v1/closed");
    std::fs::write(dir.path().join("policies/policy.toml"), closed).unwrap();
    process.signal("HUP");
    assert!(told().contains("RELOADING=1"));
    assert!(told().contains("READY=1"));
    assert_eq!(ask(plain, open).unwrap().status, 401);
    process.signal("TERM");
    assert!(told().contains("STOPPING=1"));
    assert_eq!(process.ended().code(), Some(0));
}
