//! Services behind the gate: what they learn of callers, in three languages, and what proves the
//! gate to them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::authenticate::Grant;
use portcullis::clock::{Clock, Now};
use portcullis::forward::identity::{Facts, Signer, Version};
use portcullis::secret::Secret;
use ring::hmac;
use serde_json::Value;

use crate::clients::tool;
use crate::harness::{Gate, POLICY, Plan, Service, connect};
use crate::operations::eventually;

const SECRET: &str = "an identity secret of at least 32 bytes";

/// Routes whose upstreams hand to the test what an upstream is told.
const SPIED: &str = "[routes.spied]\nsummary = \"Shows what a service is told\"\nmatch = \"GET /v1/spied\"\nupstream = \"spy\"\nallow = [{ anyone = true }]\n\
    [routes.other]\nsummary = \"The same for another service\"\nmatch = \"GET /v1/other\"\nupstream = \"other\"\nallow = [{ anyone = true }]\n";

/// The languages that the example service is written in.
const LANGUAGES: [&str; 3] = ["python", "javascript", "go"];

/// An example service that runs.
struct Example(Child);

impl Example {
    fn start(language: &str, address: SocketAddr, variables: &[(&str, &str)]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/verify-identity");
        let mut command = match language {
            "python" => {
                let mut command = Command::new(tool("venv/bin/python"));
                command.arg(folder.join("service.py"));
                command
            }
            "javascript" => {
                let mut command = Command::new("node");
                command.arg(folder.join("service.mjs"));
                command
            }
            _ => Command::new(built(&folder.join("service.go"))),
        };
        let child = command
            .arg(address.port().to_string())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let example = Self(child.unwrap_or_else(|error| panic!("{language}: {error}")));
        assert!(eventually(|| TcpStream::connect(address).is_ok()), "{language} does not listen");
        example
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program that Go makes of a file, once for all tests.
fn built(source: &Path) -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/verify-identity");
        let made = Command::new("go").args(["build", "-o"]).arg(&program).arg(source).output();
        let made = made.unwrap_or_else(|error| panic!("go: {error}"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        program
    })
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The status of what a service answers to somebody who comes around the gate.
fn around(address: SocketAddr, line: &str, identity: Option<&str>) -> u16 {
    let identity =
        identity.map(|value| format!("X-Portcullis-Identity: {value}\r\n")).unwrap_or_default();
    let mut stream = connect(address);
    let request =
        format!("{line} HTTP/1.1\r\nHost: {address}\r\n{identity}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The identity that a service was told last.
fn told(spy: &Service) -> String {
    let seen = spy.requests().pop().unwrap();
    let line = seen.lines().find_map(|line| line.strip_prefix("x-portcullis-identity: "));
    line.unwrap_or_else(|| panic!("{seen}")).to_owned()
}

fn key(gate: &Gate) -> String {
    gate.key(r#""name":"client","subject":"user_1","roles":["member"],"scopes":["things:read"]"#)
}

/// What every example must do, whatever the form of the identity.
fn believes_the_gate_alone(language: &str, gate: &Gate, example: SocketAddr, spy: &Service) {
    let key = key(gate);
    let reply = gate.get("/v1/things?q=a%20b&limit=5", &key);
    assert_eq!(reply.status, 200, "{language}: {reply:?}");
    assert_eq!(reply.json()["sub"], "user_1", "{language}");
    assert_eq!(reply.json()["roles"][0], "member", "{language}");
    assert_eq!(gate.get("/v1/things", &key).status, 200, "{language}");
    let anonymous = gate.send("GET /v1/open HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((anonymous.status, &anonymous.json()["sub"]), (200, &Value::Null), "{language}");

    // What a caller claims does not get through the gate, and nobody gets in around it.
    assert_eq!(gate.get("/v1/spied?a=1", &key).status, 200);
    let identity = told(spy);
    let claiming = gate.send(&format!(
        "GET /v1/open HTTP/1.1\r\nHost: localhost\r\nX-Portcullis-Identity: {identity}\r\nConnection: x-portcullis-identity\r\n\r\n"
    ));
    assert_eq!((claiming.status, &claiming.json()["sub"]), (200, &Value::Null), "{language}");
    assert_eq!(around(example, "GET /v1/things", None), 401, "{language}");

    // A copied identity opens its own request and no other.
    assert_eq!(around(example, "GET /v1/spied?a=1", Some(&identity)), 200, "{language}");
    for line in ["GET /v1/things?a=1", "GET /v1/spied?a=2", "GET /v1/spied", "POST /v1/spied?a=1"] {
        assert_eq!(around(example, line, Some(&identity)), 401, "{language}: {line}");
    }
    // A changed one opens nothing.
    let (front, mac) = identity.rsplit_once('.').unwrap();
    let (version, text) = front.split_once('.').unwrap();
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    let raised = URL_SAFE_NO_PAD.encode(claims.replace("member", "admin"));
    for forged in [
        format!("{version}.{raised}.{mac}"),
        format!("{version}.{text}."),
        format!("{version}.{text}"),
        String::new(),
        "x".repeat(100),
    ] {
        let status = around(example, "GET /v1/spied?a=1", Some(&forged));
        assert_eq!(status, 401, "{language}: {forged}");
    }
}

#[test]
fn services_in_three_languages_believe_the_signed_header_alone() {
    for language in LANGUAGES {
        let (example, spy) = (free(), Service::ok());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.secret");
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        writeln!(file.unwrap(), "{SECRET}").unwrap();
        let path = path.to_str().unwrap();
        let identity = format!("identity = \"file:{path}\"\n");
        let upstream = |name: &str| {
            format!("[upstreams.{name}]\ntargets = [\"http://{}\"]\n{identity}", spy.address)
        };
        let gate = Plan::new(example, POLICY)
            .file("spied.toml", SPIED)
            .upstream(&identity)
            .extra(&format!("{}{}", upstream("spy"), upstream("other")))
            .real_time()
            .start();
        let _running = Example::start(language, example, &[("IDENTITY_SECRET_FILE", path)]);
        believes_the_gate_alone(language, &gate, example, &spy);

        // Signed with the right secret, but two minutes ago or ahead.
        let signer = Signer::new(&Secret::new(SECRET.as_bytes().to_vec()), Version::Second);
        let now = Clock::system().now();
        let grant = Grant { subject: "user_1".into(), ..Grant::default() };
        let facts = Facts {
            grant: Some(&grant),
            method: "GET",
            path: "/v1/spied",
            query: "",
            request_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        };
        for (unix_ms, status) in
            [(now.unix_ms, 200), (now.unix_ms - 120_000, 401), (now.unix_ms + 120_000, 401)]
        {
            let value = signer.sign(&facts, Now { unix_ms, ..now }).unwrap();
            let value = value.to_str().unwrap();
            assert_eq!(around(example, "GET /v1/spied", Some(value)), status, "{language}");
        }
    }
}

/// A gate that tells services with tokens, and the example that verifies them.
fn with_tokens(
    (language, algorithm): (&str, &str),
    spy: &Service,
    real_time: bool,
) -> (Gate, SocketAddr, Example) {
    let example = free();
    let identity = "identity = { jwt = { audience = \"things\", bind = \"request\" } }\n";
    let upstream = |name: &str, identity: &str| {
        format!("[upstreams.{name}]\ntargets = [\"http://{}\"]\n{identity}", spy.address)
    };
    let extra = format!(
        "[identity]\nalgorithm = \"{algorithm}\"\nissuer = \"https://gate.example\"\n{}{}",
        upstream("spy", identity),
        upstream("other", &identity.replace("things", "others"))
    );
    let plan =
        Plan::new(example, POLICY).file("spied.toml", SPIED).upstream(identity).extra(&extra);
    let gate = if real_time { plan.real_time().start() } else { plan.start() };
    let url = format!("http://{}/.well-known/jwks.json", gate.admin());
    let variables = [
        ("JWKS_URL", &*url),
        ("AUDIENCE", "things"),
        ("ISSUER", "https://gate.example"),
        ("IDENTITY_BIND", "request"),
    ];
    let running = Example::start(language, example, &variables);
    (gate, example, running)
}

fn believes_tokens(language: &str, algorithm: &str) {
    let spy = Service::ok();
    let (gate, example, _running) = with_tokens((language, algorithm), &spy, true);
    believes_the_gate_alone(language, &gate, example, &spy);
    let key = key(&gate);
    assert_eq!(gate.get("/v1/spied?a=1", &key).status, 200);
    let identity = told(&spy);
    let mut parts = identity.split('.');
    let (header, text) = (parts.next().unwrap(), parts.next().unwrap());
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(header["alg"], algorithm);

    // Another algorithm does not make a signature unneeded, or one that anybody can make.
    let published: Value =
        serde_json::from_str(&gate.ask_admin("GET", "/.well-known/jwks.json", "").body).unwrap();
    let public = URL_SAFE_NO_PAD.decode(published["keys"][0]["x"].as_str().unwrap()).unwrap();
    for alg in ["none", "HS256"] {
        let mut header = header.clone();
        header["alg"] = alg.into();
        let signed = format!("{}.{text}", URL_SAFE_NO_PAD.encode(header.to_string()));
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), signed.as_bytes());
        let mac = if alg == "none" { String::new() } else { URL_SAFE_NO_PAD.encode(mac) };
        let status = around(example, "GET /v1/spied?a=1", Some(&format!("{signed}.{mac}")));
        assert_eq!(status, 401, "{language}: {alg}");
    }
    // A token for another service is none here.
    assert_eq!(gate.get("/v1/other", &key).status, 200);
    assert_eq!(around(example, "GET /v1/other", Some(&told(&spy))), 401, "{language}");

    // A gate whose clock stands still at a noon that has passed makes tokens that have ended.
    let (stale, _, _running) = with_tokens((language, algorithm), &spy, false);
    let key = stale.key(r#""name":"client","subject":"user_1","scopes":["things:read"]"#);
    assert_eq!(stale.get("/v1/things", &key).status, 401, "{language}");
}

#[test]
fn a_service_in_python_believes_tokens_of_the_gate_alone() {
    believes_tokens("python", "EdDSA");
    believes_tokens("python", "ES256");
}

#[test]
fn a_service_in_javascript_believes_tokens_of_the_gate_alone() {
    believes_tokens("javascript", "EdDSA");
    believes_tokens("javascript", "ES256");
}

#[test]
fn a_service_in_go_believes_tokens_of_the_gate_alone() {
    believes_tokens("go", "EdDSA");
    believes_tokens("go", "ES256");
}

#[test]
fn public_keys_need_no_token_and_hold_nothing_private() {
    let plan = Plan::new(Service::ok().address, POLICY).upstream("identity = { jwt = {} }\n");
    let gate = plan.start();
    let mut stream = connect(gate.admin());
    let request = format!(
        "GET /.well-known/jwks.json HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        gate.admin()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let reply = crate::harness::Reply::read(&mut stream, false).unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/jwk-set+json"));
    let keys = reply.json()["keys"].as_array().unwrap().clone();
    let members: Vec<&String> = keys[0].as_object().unwrap().keys().collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(gate.metric("portcullis_identity_keys"), 1.0);

    // One caller's requests share a token, and another caller has another.
    let (one, two) = (key(&gate), key(&gate));
    for _ in 0..5 {
        gate.get("/v1/things", &one);
    }
    let signed = "portcullis_identity_tokens_signed_total{upstream=\"service\"}";
    assert_eq!(gate.metric(signed), 1.0);
    gate.get("/v1/things", &two);
    assert_eq!(gate.metric(signed), 1.0, "the same subject, roles and scopes");
    let three = gate.key(r#""name":"other","subject":"user_2","scopes":["things:read"]"#);
    gate.get("/v1/things", &three);
    assert_eq!(gate.metric(signed), 2.0);
}

#[test]
fn a_gate_behind_a_gate_knows_it_by_its_signature() {
    let behind = Gate::new(Service::ok().address, POLICY);
    let (id, secret) = behind.signing_key(r#""name":"gate","subject":"gate_1","roles":["member"]"#);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signing");
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    writeln!(file.unwrap(), "{secret}").unwrap();
    let policy = "version = 1\nname = \"front\"\n\
        [routes.read]\nsummary = \"Read\"\nmatch = \"GET /v1/signed\"\nupstream = \"service\"\nauth = \"none\"\n\
        [routes.write]\nsummary = \"Write\"\nmatch = \"POST /v1/signed\"\nupstream = \"service\"\nauth = \"none\"\nfilter = \"none\"\n\
        body = { max = \"64KiB\", types = [\"application/json\"] }\n";
    let signing = |keyid: &str| {
        format!(
            "host = \"target\"\ncredential.signature = {{ keyid = \"{keyid}\", secret = \"file:{}\", encoding = \"base64\" }}\n",
            path.display()
        )
    };
    let front = Plan::new(behind.plain(), policy).upstream(&signing(&id)).start();
    let open = |line: &str| front.send(&format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    for _ in 0..3 {
        let reply = open("GET /v1/signed?a=b%20c");
        assert_eq!(reply.status, 200, "{reply:?}\n{}", behind.log("signed"));
    }
    let body = "{\"name\":\"x\"}";
    let posted = front.send(&format!(
        "POST /v1/signed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(posted.status, 200, "{posted:?}\n{}", behind.log("signed"));
    // The same secret under another name proves nothing.
    let stranger = Plan::new(behind.plain(), policy).upstream(&signing("somebody")).start();
    let refused = stranger.send("GET /v1/signed HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(refused.status, 401);
}
