//! Starts a whole gateway on free ports, with policy text, a clock that is set by hand, real TLS and
//! real sockets, and speaks bytes to it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis::cli::start::{Started, start};
use portcullis::clock::{Clock, Hand};
use portcullis::config::{Config, FirstRun};
use portcullis::mistake::Mistakes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Nothing in these tests takes longer; what does is broken.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// When the gateways' clocks begin: 2026-11-23T12:00:00Z.
pub const NOON_MS: u64 = 1_795_435_200_000;

/// Response headers that may ever leave. Every answer in every test is held against this list.
const HEADERS_ALLOWED: [&str; 38] = [
    "portcullis-key-expires",
    "accept-signature",
    "dpop-nonce",
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "last-modified",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "sec-websocket-accept",
    "strict-transport-security",
    "transfer-encoding",
    "upgrade",
    "vary",
    "want-content-digest",
    "www-authenticate",
    "x-content-type-options",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
    "x-test",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
    "access-control-expose-headers",
    "trailer",
    "x-total-count",
    "access-control-allow-credentials",
];

/// A running gateway, stopped when dropped.
pub struct Gate {
    started: Option<Started>,
    /// Its directory, with gateway.toml, policies/ and state.
    pub dir: tempfile::TempDir,
    /// Lets its time pass.
    pub hand: Hand,
    client: Arc<ClientConfig>,
}

/// How a gateway is put together.
pub struct Plan {
    upstream: SocketAddr,
    policies: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    listener: String,
    tls: String,
    upstream_extra: String,
    extra: String,
    real_time: bool,
}

impl Plan {
    /// A gateway in front of `upstream` with this policy.
    pub fn new(upstream: SocketAddr, policy: &str) -> Self {
        Self {
            upstream,
            policies: BTreeMap::from([("policy.toml".to_owned(), policy.to_owned())]),
            secrets: BTreeMap::new(),
            listener: String::new(),
            tls: String::new(),
            upstream_extra: String::new(),
            extra: String::new(),
            real_time: false,
        }
    }

    /// Adds a file to the policy directory.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.policies.insert(name.to_owned(), text.to_owned());
        self
    }

    /// Adds a file that nobody else may read beside gateway.toml.
    pub fn secret(mut self, name: &str, text: &str) -> Self {
        self.secrets.insert(name.to_owned(), text.to_owned());
        self
    }

    /// Adds lines to every `[[listener]]`: keys of its own first, then tables, such as
    /// `[listener.bounds]`.
    pub fn listener(mut self, lines: &str) -> Self {
        self.listener.push_str(lines);
        self
    }

    /// Adds lines to `[listener.tls]` of the TLS listener: keys, and then tables below it.
    pub fn tls(mut self, lines: &str) -> Self {
        self.tls.push_str(lines);
        self
    }

    /// Adds lines to `[upstreams.service]`.
    pub fn upstream(mut self, lines: &str) -> Self {
        self.upstream_extra.push_str(lines);
        self
    }

    /// Adds sections to gateway.toml.
    pub fn extra(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self
    }

    /// Takes time from the system: for clients that are not ours and look at their own clocks.
    pub fn real_time(mut self) -> Self {
        self.real_time = true;
        self
    }

    /// Starts it.
    pub fn start(self) -> Gate {
        let dir = tempfile::tempdir().unwrap();
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        for (name, text) in &self.policies {
            let path = policies.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        for (name, text) in &self.secrets {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        // A key that stood behind `[listener.tls]` would be one of that table.
        let lines = format!("\n{}", self.listener);
        let (keys, tables) = lines.split_at(lines.find("\n[").unwrap_or(lines.len()));
        let config = format!(
            "version = 1\n[policy]\ndir = \"policies\"\nwatch = false\n[[listener]]\nbind = [\"127.0.0.1:0\"]\n{keys}\n[listener.tls]\n{}\n{tables}\n\
             [[listener]]\nname = \"plain\"\nbind = [\"127.0.0.1:0\"]\n{}\n\
             [upstreams.service]\ntargets = [\"http://{}\"]\n{}\n[admin]\nbind = \"127.0.0.1:0\"\n\
             [log]\naccess = {{ to = \"file:access.log\" }}\n[shutdown]\ndrain = \"5s\"\n[process]\nworkers = 2\n{}\n",
            self.tls, self.listener, self.upstream, self.upstream_extra, self.extra
        );
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, config).unwrap();
        Gate::start(dir, &path, self.real_time)
    }
}

impl Gate {
    /// A gateway in front of `upstream` with this policy.
    pub fn new(upstream: SocketAddr, policy: &str) -> Self {
        Plan::new(upstream, policy).start()
    }

    fn start(dir: tempfile::TempDir, config: &Path, real_time: bool) -> Self {
        let (set, hand) = Clock::set_at(NOON_MS);
        let clock = if real_time { Clock::system() } else { set };
        let mut mistakes = Mistakes::default();
        let read = Config::read(config, FirstRun::Make, clock.now(), &mut mistakes);
        let shown = |mistakes: &Mistakes| {
            mistakes.iter().map(|mistake| mistake.render(false)).collect::<Vec<_>>().join("\n")
        };
        let read = read.unwrap_or_else(|| panic!("{}", shown(&mistakes)));
        let started = start(read, &clock, &mut mistakes)
            .unwrap_or_else(|exit| panic!("{exit:?}\n{}", shown(&mistakes)));
        let mut roots = RootCertStore::empty();
        let ca = dir.path().join(".portcullis/dev-ca.pem");
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { started: Some(started), dir, hand, client: Arc::new(client) }
    }

    /// The address of the TLS listener.
    pub fn tls(&self) -> SocketAddr {
        self.listener("public")
    }

    /// The address of the plaintext listener.
    pub fn plain(&self) -> SocketAddr {
        self.listener("plain")
    }

    /// The address of the listener with this name.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let facts = self.started.as_ref().unwrap().facts();
        facts.listeners.iter().find(|(known, ..)| &**known == name).unwrap().1
    }

    /// The address of the admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.started.as_ref().unwrap().facts().admin.unwrap()
    }

    /// The started gateway.
    pub fn started(&self) -> &Started {
        self.started.as_ref().unwrap()
    }

    /// The certificate of its CA.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join(".portcullis/dev-ca.pem")
    }

    /// The key that the first run made; it holds every role and scope of the policy.
    pub fn first_key(&self) -> String {
        String::from_utf8(self.started().facts().first_key.as_ref().unwrap().expose().to_vec())
            .unwrap()
    }

    /// Makes a key through the admin listener; `facts` are members of the request's template.
    pub fn key(&self, facts: &str) -> String {
        let made =
            self.keys(&format!("{{\"do\":\"create\",\"signing\":false,\"template\":{{{facts}}}}}"));
        made["secret"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    }

    /// Makes a signing secret through the admin listener: its id, and its base64.
    pub fn signing_key(&self, facts: &str) -> (String, String) {
        let made =
            self.keys(&format!("{{\"do\":\"create\",\"signing\":true,\"template\":{{{facts}}}}}"));
        (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
    }

    /// Calls `/v1/keys` of the admin listener.
    pub fn keys(&self, body: &str) -> serde_json::Value {
        let reply = self.ask_admin("POST", "/v1/keys", body);
        serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"))
    }

    /// Calls the admin listener with its token.
    pub fn ask_admin(&self, method: &str, path: &str, body: &str) -> Reply {
        let token =
            std::fs::read_to_string(self.dir.path().join(".portcullis/admin.token")).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.admin(),
            token.trim(),
            body.len()
        );
        let mut stream = connect(self.admin());
        stream.write_all(request.as_bytes()).unwrap();
        Reply::read(&mut stream, method == "HEAD").unwrap()
    }

    /// What `/metrics` says.
    pub fn metrics(&self) -> String {
        self.ask_admin("GET", "/metrics", "").body
    }

    /// The value of one series of `/metrics`, which is named with its labels as they are printed.
    pub fn metric(&self, series: &str) -> f64 {
        let metrics = self.metrics();
        let line = metrics
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next())
            .and_then(|value| value.parse().ok())
            .unwrap_or(0.0)
    }

    /// The access log so far. Records are written behind the answers, so they are waited for.
    pub fn log(&self, holding: &str) -> String {
        let path = self.dir.path().join("access.log");
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let mut text = std::fs::read_to_string(&path).unwrap_or_default();
            // A record that is being written does not count yet.
            text.truncate(text.rfind('\n').map_or(0, |at| at + 1));
            if text.contains(holding) || std::time::Instant::now() > deadline {
                return text;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A TLS connection with this protocol offered.
    pub fn connect(&self) -> Tls {
        self.connect_as("localhost", &[b"http/1.1"])
    }

    /// A TLS connection for a server name, offering protocols.
    pub fn connect_as(&self, name: &str, protocols: &[&[u8]]) -> Tls {
        let mut config = (*self.client).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(connection, connect(self.tls()))
    }

    /// Sends bytes over a new TLS connection and reads one answer.
    pub fn send(&self, request: &str) -> Reply {
        self.send_bytes(request.as_bytes())
    }

    /// Sends bytes over a new TLS connection and reads one answer.
    pub fn send_bytes(&self, request: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        Reply::read(&mut stream, request.starts_with(b"HEAD "))
            .unwrap_or_else(|| panic!("no answer"))
    }

    /// A request with a key, and the answer.
    pub fn get(&self, target: &str, key: &str) -> Reply {
        self.send(&format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
        ))
    }

    /// A request with a JSON body and a key, and the answer.
    pub fn put(&self, method: &str, target: &str, key: &str, body: &str) -> Reply {
        self.send(&format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Replaces the policy's text and asks for a reload.
    pub fn reload(&self, policy: &str) -> portcullis::policy::reload::Outcome {
        std::fs::write(self.dir.path().join("policies/policy.toml"), policy).unwrap();
        self.started().reload()
    }

    /// Drains and stops; whether every request in flight could end.
    pub fn stop(mut self) -> bool {
        self.started.take().unwrap().stop()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(started) = self.started.take() {
            started.stop();
        }
    }
}

/// A TLS connection.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A TCP connection that never waits longer than these tests are patient.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// One answer, read whole.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: String,
}

impl Reply {
    /// Reads one answer; nothing when the connection ends before it.
    pub fn read(stream: &mut impl Read, head_only: bool) -> Option<Self> {
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(at) = find(&bytes, b"\r\n\r\n") {
                break at + 4;
            }
            if !more(stream, &mut bytes) {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let mut lines = head.lines();
        let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Self { status, headers, body: String::new() };
        reply.check_headers();
        if status == 100 {
            let mut rest = std::io::Cursor::new(bytes[head_end..].to_vec()).chain(stream);
            let mut rest: &mut dyn Read = &mut rest;
            return Self::read(&mut rest, head_only);
        }
        let mut rest = bytes[head_end..].to_vec();
        let bodiless = head_only || status == 204 || status == 304 || status == 101;
        if !bodiless {
            reply.body = reply.read_body(stream, &mut rest)?;
        }
        Some(reply)
    }

    fn read_body(&self, stream: &mut impl Read, rest: &mut Vec<u8>) -> Option<String> {
        if let Some(length) =
            self.header("content-length").and_then(|value| value.parse::<usize>().ok())
        {
            while rest.len() < length {
                if !more(stream, rest) {
                    return None;
                }
            }
            return Some(String::from_utf8_lossy(&rest[..length]).into_owned());
        }
        if self.header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            loop {
                let at = loop {
                    if let Some(at) = find(rest, b"\r\n") {
                        break at;
                    }
                    if !more(stream, rest) {
                        return None;
                    }
                };
                let size =
                    usize::from_str_radix(std::str::from_utf8(&rest[..at]).ok()?, 16).ok()?;
                while rest.len() < at + 2 + size + 2 {
                    if !more(stream, rest) {
                        return None;
                    }
                }
                body.extend_from_slice(&rest[at + 2..at + 2 + size]);
                rest.drain(..at + 2 + size + 2);
                if size == 0 {
                    return Some(String::from_utf8_lossy(&body).into_owned());
                }
            }
        }
        while more(stream, rest) {}
        Some(String::from_utf8_lossy(rest).into_owned())
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The reason that a refusal tells in its details.
    pub fn reason(&self) -> String {
        self.json()["error"]["details"]["reason"].as_str().unwrap_or("-").to_owned()
    }

    fn check_headers(&self) {
        for (name, value) in &self.headers {
            assert!(
                HEADERS_ALLOWED.contains(&name.as_str()),
                "an answer carries `{name}: {value}`, which is not on the list"
            );
        }
    }
}

fn more(stream: &mut impl Read, into: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(0) | Err(_) => false,
        Ok(count) => {
            into.extend_from_slice(&chunk[..count]);
            true
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// A service behind the gate that is as simple as can be: it keeps the requests it got, and answers
/// each with what the test wants.
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    /// The heads of the requests it got, each with its body.
    pub seen: Arc<Mutex<Vec<String>>>,
    /// Connections it accepted.
    pub connections: Arc<AtomicUsize>,
}

impl Service {
    /// A service that says 200 with a small JSON body to everything.
    pub fn ok() -> Self {
        Self::answering(|_| {
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: secret/1.0\r\nContent-Length: 11\r\n\r\n{\"ok\":true}".to_owned()
        })
    }

    /// A service with an answer of its own for each request. An empty answer closes the connection.
    pub fn answering(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) =
            (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let answer = Arc::new(answer);
        let (seen_by, counted) = (Arc::clone(&seen), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let (seen, answer) = (Arc::clone(&seen_by), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { address, seen, connections }
    }

    /// The requests it got.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<String>>,
    answer: &(dyn Fn(&str) -> String + Send + Sync),
) {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = find(&bytes, b"\r\n\r\n") {
                break at + 4;
            }
            if !more(&mut stream, &mut bytes) {
                return;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let lower = head.to_ascii_lowercase();
        let length = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|value| value.trim().parse().ok());
        let mut request = head.clone();
        let used = if lower.contains("transfer-encoding: chunked") {
            let mut from = end;
            loop {
                if let Some(at) = find(&bytes[from..], b"0\r\n\r\n") {
                    break from + at + 5;
                }
                from = bytes.len().saturating_sub(4).max(end);
                if !more(&mut stream, &mut bytes) {
                    return;
                }
            }
        } else {
            let total = end + length.unwrap_or(0);
            while bytes.len() < total {
                if !more(&mut stream, &mut bytes) {
                    return;
                }
            }
            total
        };
        request.push_str(&String::from_utf8_lossy(&bytes[end..used]));
        bytes.drain(..used);
        seen.lock().unwrap().push(request.clone());
        let answer = answer(&request);
        if answer.is_empty() || stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A policy with one route for each method of `/v1/things`, and everything that tests want to meet.
pub const POLICY: &str = include_str!("policy.toml");
