//! Clients that are not ours: curl, Python, Node, h2load, and a service that is not ours either.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{Gate, POLICY, Plan, Service};
use crate::operations::{Process, eventually, portcullis};
use crate::tour::Shipped;

const INSTALL: &str = "run tests/run, which installs what the tests need";

/// A tool under `target/tools`, where `tests/run` puts it.
pub fn tool(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(path);
    assert!(path.exists(), "{} is not there: {INSTALL}", path.display());
    path
}

/// Runs a program with variables; what it prints. It must end well.
pub fn run(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Command::new(program).args(arguments).envs(variables.iter().copied()).output();
    let output =
        output.unwrap_or_else(|error| panic!("{} ({error}): {INSTALL}", program.display()));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}:\n{printed}\n{}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

fn curl(arguments: &[&str]) -> String {
    run(Path::new("curl"), &[&["-sS", "--max-time", "20"], arguments].concat(), &[])
}

fn gate() -> (Gate, String) {
    let gate = Plan::new(Service::ok().address, POLICY).real_time().start();
    let key = gate.key(r#""name":"client","subject":"user_1","roles":["member"],"scopes":["things:read","things:write"]"#);
    (gate, key)
}

#[test]
fn curl_speaks_both_versions_and_proves_the_certificate() {
    let (gate, key) = gate();
    let ca = gate.ca();
    let ca = ca.to_str().unwrap();
    let url = format!("https://localhost:{}/v1/things", gate.tls().port());
    let bearer = format!("Authorization: Bearer {key}");
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let printed = curl(&[
            flag,
            "--cacert",
            ca,
            "-H",
            &bearer,
            "-w",
            " %{http_version} %{http_code}",
            &url,
        ]);
        assert_eq!(printed, format!("{{\"ok\":true}} {version} 200"));
        let posted = curl(&[
            flag,
            "--cacert",
            ca,
            "-H",
            &bearer,
            "-H",
            "Content-Type: application/json",
            "-d",
            "{\"name\":\"x\"}",
            "-w",
            " %{http_code}",
            &url,
        ]);
        assert_eq!(posted, "{\"ok\":true} 200");
        let refused = curl(&[flag, "--cacert", ca, "-w", " %{http_code}", &url]);
        assert_eq!(
            refused,
            "{\"error\":{\"code\":\"unauthorized\",\"message\":\"Invalid or missing API key\"}} 401"
        );
    }
    let distrusted = Command::new("curl").args(["-sS", &url]).output().unwrap();
    assert!(!distrusted.status.success(), "nobody trusts the development CA unasked");
    let keyed = curl(&[
        "--cacert",
        ca,
        "-H",
        &format!("X-API-Key: {key}"),
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &url,
    ]);
    assert_eq!(keyed, "200");
}

#[test]
fn curl_follows_a_large_upload_and_a_large_answer() {
    let large = "x".repeat(3 << 20);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{large}",
        large.len()
    );
    let service = Service::answering(move |request| match request.starts_with("PUT") {
        true => format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
            request.len().to_string().len(),
            request.len()
        ),
        false => answer.clone(),
    });
    let gate = Plan::new(service.address, POLICY).real_time().start();
    let key =
        gate.key(r#""name":"client","subject":"user_1","scopes":["things:read","things:write"]"#);
    let (ca, bearer) = (gate.ca(), format!("Authorization: Bearer {key}"));
    let base = format!("https://localhost:{}/v1", gate.tls().port());
    let file = gate.dir.path().join("large");
    std::fs::write(&file, vec![b'y'; 8 << 20]).unwrap();
    for flag in ["--http1.1", "--http2"] {
        let got = curl(&[
            flag,
            "--cacert",
            ca.to_str().unwrap(),
            "-H",
            &bearer,
            &format!("{base}/things"),
        ]);
        assert_eq!(got.len(), 3 << 20);
        let sent = curl(&[
            flag,
            "--cacert",
            ca.to_str().unwrap(),
            "-H",
            &bearer,
            "-H",
            "Content-Type: application/octet-stream",
            "-T",
            file.to_str().unwrap(),
            &format!("{base}/files/large"),
        ]);
        assert!(sent.parse::<usize>().unwrap() > 8 << 20, "{sent}");
    }
}

/// The three clients that the documentation of the task API shows, against what is shipped.
#[test]
fn the_documented_clients_work_with_base_url_key_and_ca_changed() {
    let shipped = Shipped::new();
    let _process = Process::start(shipped.dir.path());
    let base = format!("https://localhost:{}/v1", shipped.ports[0]);
    let (key, ca) = (shipped.key(), shipped.dir.path().join(".portcullis/dev-ca.pem"));
    let ca = ca.to_str().unwrap();
    let printed = curl(&[
        "--cacert",
        ca,
        "-H",
        &format!("Authorization: Bearer {key}"),
        &format!("{base}/tasks"),
    ]);
    let page: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert!(page["data"].is_array() && page["pagination"]["total"].is_u64(), "{page}");

    const PYTHON: &str = r#"
import os, requests
API_KEY, BASE = os.environ["API_KEY"], os.environ["BASE"]
response = requests.get(BASE + "/tasks", headers={"Authorization": f"Bearer {API_KEY}"})
assert response.status_code == 200, response.text
assert len(response.json()["data"]) > 0
created = requests.post(BASE + "/tasks", headers={"Authorization": f"Bearer {API_KEY}"}, json={"title": "From Python"})
assert created.status_code == 201, created.text
response = requests.get(BASE + "/tasks", headers={"Authorization": "Bearer wrong"})
if response.status_code == 401:
    print(response.json()["error"]["message"])
"#;
    let variables =
        [("API_KEY", key.as_str()), ("BASE", base.as_str()), ("REQUESTS_CA_BUNDLE", ca)];
    let printed = run(&tool("venv/bin/python"), &["-c", PYTHON], &variables);
    assert_eq!(printed.trim(), "Invalid or missing API key");

    const NODE: &str = r#"
const axios = require('axios');
const { API_KEY, BASE } = process.env;
(async () => {
  const response = await axios.get(BASE + '/tasks', { headers: { Authorization: `Bearer ${API_KEY}` } });
  if (!Array.isArray(response.data.data)) throw new Error('no page');
  const created = await axios.post(BASE + '/tasks', { title: 'From Node' }, { headers: { Authorization: `Bearer ${API_KEY}` } });
  if (created.status !== 201) throw new Error('not created');
  try {
    await axios.get(BASE + '/tasks', { headers: { Authorization: 'Bearer wrong' } });
  } catch (error) {
    console.log(error.response.data.error.message);
  }
})();
"#;
    let modules = tool("node/node_modules/axios").parent().unwrap().to_owned();
    let variables = [
        ("API_KEY", key.as_str()),
        ("BASE", base.as_str()),
        ("NODE_EXTRA_CA_CERTS", ca),
        ("NODE_PATH", modules.to_str().unwrap()),
    ];
    let printed = run(Path::new("node"), &["-e", NODE], &variables);
    assert_eq!(printed.trim(), "Invalid or missing API key");
}

/// Signs with a library that knows nothing of us (RFC 9421), and prints the statuses it gets.
const SIGNING: &str = r#"
import base64, datetime, hashlib, os, requests, secrets
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms

class Keys(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id): return base64.b64decode(os.environ["SECRET"])
    def resolve_public_key(self, key_id): return self.resolve_private_key(key_id)

signer = HTTPMessageSigner(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Keys())
BASE, KEY_ID = os.environ["BASE"], os.environ["KEY_ID"]
session = requests.Session()
session.verify = os.environ["CA"]

def signed(method, path, body=None, tamper=lambda request: None):
    headers, covered = {}, ["@method", "@authority", "@path", "@query"]
    if body is not None:
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        headers = {"Content-Type": "application/json", "Content-Digest": f"sha-256=:{digest}:"}
        covered += ["content-digest", "content-type"]
    request = requests.Request(method, BASE + path, data=body, headers=headers).prepare()
    signer.sign(request, key_id=KEY_ID, covered_component_ids=covered, nonce=secrets.token_hex(16),
                created=datetime.datetime.now(datetime.timezone.utc), label="sig1")
    tamper(request)
    first = session.send(request)
    return first.status_code, session.send(request).status_code

def other_path(request): request.url = request.url.replace("page=1", "page=2")
def other_method(request): request.method = "HEAD"
def other_body(request): request.body = b'{"name":"y"}'
def other_digest(request): other_body(request); request.headers["Content-Digest"] = "sha-256=:" + base64.b64encode(hashlib.sha256(request.body).digest()).decode() + ":"
def other_signature(request): request.headers["Signature"] = "sig1=:" + base64.b64encode(b"0" * 32).decode() + ":"

print(*signed("GET", "/v1/signed?page=1"))
print(*signed("POST", "/v1/signed?page=1", b'{"name":"x"}'))
for tamper in (other_path, other_method, other_signature):
    print(tamper.__name__, *signed("GET", "/v1/signed?page=1", tamper=tamper))
for tamper in (other_body, other_digest):
    print(tamper.__name__, *signed("POST", "/v1/signed?page=1", b'{"name":"x"}', tamper))
"#;

#[test]
fn signatures_of_another_implementation_are_accepted_once_and_tampered_ones_never() {
    let gate = Plan::new(Service::ok().address, POLICY).real_time().start();
    let (id, secret) = gate.signing_key(
        r#""name":"signer","subject":"user_1","roles":["member"],"scopes":["things:read"]"#,
    );
    let (ca, base) = (gate.ca(), format!("https://localhost:{}", gate.tls().port()));
    // After a start without nonce history, signatures of the same second are refused.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let variables = [
        ("SECRET", secret.as_str()),
        ("KEY_ID", &id),
        ("BASE", &base),
        ("CA", ca.to_str().unwrap()),
    ];
    let printed = run(&tool("venv/bin/python"), &["-c", SIGNING], &variables);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        lines,
        [
            "200 401",
            "200 401",
            "other_path 401 401",
            "other_method 401 401",
            "other_signature 401 401",
            "other_body 400 401",
            "other_digest 401 401",
        ],
        "{}",
        gate.log("")
    );
}

#[test]
fn what_portcullis_sign_prints_is_accepted_from_curl() {
    let (gate, _) = gate();
    let (id, secret) = gate.signing_key(
        r#""name":"signer","subject":"user_1","roles":["member"],"scopes":["things:read"]"#,
    );
    std::fs::write(gate.dir.path().join("secret"), format!("{secret}\n")).unwrap();
    std::fs::set_permissions(
        gate.dir.path().join("secret"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let url = format!("https://localhost:{}/v1/signed", gate.tls().port());
    let arguments = ["sign", "GET", &url, "--key-id", &id, "--secret", "file:secret", "--curl"];
    let (code, line, talk) = portcullis(gate.dir.path(), &arguments);
    assert_eq!(code, Some(0), "{talk}");
    let line = line.trim().replacen(
        "curl ",
        &format!("curl -sS --cacert {} -w ' %{{http_code}}' ", gate.ca().display()),
        1,
    );
    let printed = run(Path::new("bash"), &["-c", &line], &[]);
    assert_eq!(printed, "{\"ok\":true} 200", "{line}");
}

#[test]
fn h2load_gets_nothing_but_success_over_many_streams() {
    let (gate, key) = gate();
    let url = format!("https://localhost:{}/v1/things?limit=5", gate.tls().port());
    let printed = run(
        Path::new("h2load"),
        &["-n", "2000", "-c", "4", "-m", "25", "-H", &format!("authorization: Bearer {key}"), &url],
        &[],
    );
    assert!(printed.contains("Application protocol: h2"), "{printed}");
    assert!(printed.contains("status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{printed}");
    assert!(printed.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{printed}");
}

/// A program that serves, killed when dropped.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn json_server(dir: &Path) -> (Served, SocketAddr) {
    let database = dir.join("db.json");
    std::fs::write(
        &database,
        r#"{"posts":[{"id":1,"title":"json-server","views":100}],"comments":[]}"#,
    )
    .unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = Command::new("node")
        .arg(tool("node/node_modules/json-server/lib/cli/bin.js"))
        .args(["--quiet", "--host", "127.0.0.1", "--port", &address.port().to_string()])
        .arg(&database)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("node ({error}): {INSTALL}"));
    let served = Served(child);
    assert!(eventually(|| TcpStream::connect(address).is_ok()), "json-server does not start");
    (served, address)
}

/// What is shipped, with the two edits that the README tells, in front of json-server.
fn before_json_server() -> (Shipped, Served) {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let routes = readme
        .split("```toml\n")
        .find(|block| block.starts_with("[routes.everything]"))
        .expect("the README shows a catch-all");
    let routes = routes.split("```").next().unwrap();
    let shipped = Shipped::new();
    let (served, address) = json_server(shipped.dir.path());
    shipped.edit("gateway.toml", |config| {
        let own = format!("targets  = [\"http://127.0.0.1:{}\"]", shipped.ports[2]);
        let bundled = format!("[task_service]\nbind = \"127.0.0.1:{}\"", shipped.ports[2]);
        assert!(config.contains(&own) && config.contains(&bundled), "{config}");
        let config = config
            .replace(&own, &format!("targets = [\"http://{address}\"]"))
            .replace(&bundled, "");
        config.lines().filter(|line| !line.starts_with("identity")).collect::<Vec<_>>().join("\n")
    });
    for file in ["tasks.toml", "users.toml"] {
        std::fs::remove_file(shipped.dir.path().join("policies").join(file)).unwrap();
    }
    shipped.edit("policies/posts.toml", |_| routes.to_owned());
    (shipped, served)
}

/// A service that has never heard of us.
#[test]
fn a_service_that_is_not_ours_stands_behind_the_gate_by_changing_upstream_and_policy() {
    let (shipped, _served) = before_json_server();
    let _process = Process::start(shipped.dir.path());
    let (key, ca) = (shipped.key(), shipped.dir.path().join(".portcullis/dev-ca.pem"));
    let ask = |method: &str, path: &str, body: &str| {
        let url = format!("https://localhost:{}{path}", shipped.ports[0]);
        let bearer = format!("Authorization: Bearer {key}");
        let mut arguments = vec![
            "--cacert",
            ca.to_str().unwrap(),
            "-H",
            &bearer,
            "-X",
            method,
            "-w",
            "\n%{http_code}",
        ];
        if !body.is_empty() {
            arguments.extend(["-H", "Content-Type: application/json", "-d", body]);
        }
        arguments.push(&url);
        let printed = curl(&arguments);
        let (body, status) = printed.rsplit_once('\n').unwrap();
        (status.to_owned(), serde_json::from_str::<serde_json::Value>(body).unwrap_or_default())
    };
    assert_eq!(
        ask("GET", "/posts/1", ""),
        ("200".to_owned(), serde_json::json!({"id":1,"title":"json-server","views":100}))
    );
    let (status, made) = ask("POST", "/posts", r#"{"title":"Through the gate"}"#);
    assert_eq!((status.as_str(), &made["id"]), ("201", &serde_json::json!(2)));
    assert_eq!(ask("PUT", "/posts/2", r#"{"title":"Replaced"}"#).0, "200");
    assert_eq!(
        ask("PATCH", "/posts/2", r#"{"views":7}"#).1,
        serde_json::json!({"id":2,"title":"Replaced","views":7})
    );
    let (status, page) = ask("GET", "/posts?_page=1&_limit=1&_sort=id&_order=desc", "");
    assert_eq!((status.as_str(), &page[0]["id"]), ("200", &serde_json::json!(2)));
    assert_eq!(ask("DELETE", "/posts/2", "").0, "200");
    assert_eq!(ask("GET", "/posts/2", "").0, "404", "the service's own 404");
    assert_eq!(ask("GET", "/posts/2%27%20OR%201=1--", "").0, "400", "and the gate's filters");
    let stranger = curl(&[
        "--cacert",
        ca.to_str().unwrap(),
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &format!("https://localhost:{}/posts", shipped.ports[0]),
    ]);
    assert_eq!(stranger, "401");
    let headers = curl(&[
        "--cacert",
        ca.to_str().unwrap(),
        "-H",
        &format!("Authorization: Bearer {key}"),
        "-I",
        &format!("https://localhost:{}/posts", shipped.ports[0]),
    ]);
    assert!(headers.starts_with("HTTP/2 200"), "{headers}");
    assert!(!headers.to_ascii_lowercase().contains("x-powered-by"), "{headers}");
}
