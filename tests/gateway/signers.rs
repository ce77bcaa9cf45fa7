//! Signatures of implementations that know nothing of us (RFC 9421), by every algorithm, over real sockets.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::{Gate, POLICY, Plan, Service};
use crate::operations::portcullis;

const INSTALL: &str = "run tests/run, which installs what the tests need";

/// The algorithms of public keys, each with what makes a private key for it.
const PUBLIC: [(&str, &[&str]); 4] = [
    ("ed25519", &["-algorithm", "ed25519"]),
    ("ecdsa-p256-sha256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("rsa-pss-sha512", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("rsa-v1_5-sha256", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"]),
];

fn run(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Command::new(program).args(arguments).envs(variables.iter().copied()).output();
    let output =
        output.unwrap_or_else(|error| panic!("{} ({error}): {INSTALL}", program.display()));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// Makes a pair of keys with OpenSSL, and gives the public one.
fn pair(dir: &Path, name: &str, how: &[&str]) -> String {
    let (private, public) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.pub")));
    let (private, public) = (private.to_str().unwrap(), public.to_str().unwrap());
    run(Path::new("openssl"), &[&["genpkey", "-out", private], how].concat(), &[]);
    run(Path::new("openssl"), &["pkey", "-in", private, "-pubout", "-out", public], &[]);
    std::fs::read_to_string(public).unwrap()
}

/// A gateway that knows a key for every algorithm, and the lines `ALGORITHM ID` that say so. The
/// private halves stand beside its state, the secret of hmac-sha256 as base64.
fn gate() -> (Gate, String) {
    let gate = Plan::new(Service::ok().address, POLICY).real_time().start();
    let facts = r#""name":"signer","subject":"user_1","roles":["member"],"scopes":["things:read"]"#;
    let (id, secret) = gate.signing_key(facts);
    std::fs::write(gate.dir.path().join("hmac-sha256.pem"), secret).unwrap();
    let mut keys = format!("hmac-sha256 {id}");
    for (algorithm, how) in PUBLIC {
        let key = pair(gate.dir.path(), algorithm, how);
        let template = json!({ "name": "partner", "subject": "partner_1" });
        let public_key = json!({ "algorithm": algorithm, "key": key });
        let call = json!({ "do": "create", "signing": true, "public_key": public_key, "template": template });
        let made = gate.keys(&call.to_string());
        assert!(made.get("secret").is_none(), "{made}");
        keys.push_str(&format!("\n{algorithm} {}", made["id"].as_str().unwrap()));
    }
    // After a start without nonce history, signatures of the same second are refused.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    (gate, keys)
}

fn speak(gate: &Gate, keys: &str, program: &Path, arguments: &[&str]) -> String {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/node/node_modules");
    let ca = gate.ca().display().to_string();
    let variables = [
        ("BASE", format!("https://localhost:{}", gate.tls().port())),
        ("DIR", gate.dir.path().display().to_string()),
        ("KEYS", keys.to_owned()),
        ("CA", ca.clone()),
        ("NODE_EXTRA_CA_CERTS", ca),
        ("NODE_PATH", modules.display().to_string()),
    ];
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    run(program, arguments, &variables)
}

/// Each algorithm: a GET and a POST, each sent twice, and each once more with something changed.
const PYTHON: &str = r#"
import base64, os, requests
from requests_http_signature import HTTPSignatureAuth, algorithms

ALGORITHMS = {"hmac-sha256": algorithms.HMAC_SHA256, "ed25519": algorithms.ED25519, "ecdsa-p256-sha256": algorithms.ECDSA_P256_SHA256,
              "rsa-pss-sha512": algorithms.RSA_PSS_SHA512, "rsa-v1_5-sha256": algorithms.RSA_V1_5_SHA256}
session = requests.Session()
session.verify = os.environ["CA"]

def signed(algorithm, key_id, method, body, change=lambda request: None):
    key = open(os.path.join(os.environ["DIR"], algorithm + ".pem"), "rb").read()
    if algorithm == "hmac-sha256": key = base64.b64decode(key)
    covered = ["@method", "@authority", "@path", "@query"] + (["content-type"] if body else [])
    auth = HTTPSignatureAuth(signature_algorithm=ALGORITHMS[algorithm], key=key, key_id=key_id, covered_component_ids=covered,
                             use_nonce=True, label="sig1")
    headers = {"Content-Type": "application/json"} if body else {}
    request = requests.Request(method, os.environ["BASE"] + "/v1/signed?page=1", data=body, headers=headers, auth=auth).prepare()
    change(request)
    return session.send(request).status_code, session.send(request).status_code

def other(request): request.url = request.url.replace("page=1", "page=2")

for line in os.environ["KEYS"].splitlines():
    algorithm, key_id = line.split()
    print(algorithm, *signed(algorithm, key_id, "GET", None), *signed(algorithm, key_id, "POST", b'{"name":"x"}'),
          *signed(algorithm, key_id, "GET", None, other))
"#;

#[test]
fn requests_http_signature_is_accepted_once_by_every_algorithm() {
    let (gate, keys) = gate();
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/python");
    let printed = speak(&gate, &keys, &python, &["-c", PYTHON]);
    let lines: Vec<&str> = printed.lines().collect();
    let expected: Vec<String> = ["hmac-sha256"]
        .into_iter()
        .chain(PUBLIC.map(|(algorithm, _)| algorithm))
        .map(|algorithm| format!("{algorithm} 200 401 200 401 401 401"))
        .collect();
    assert_eq!(lines, expected, "{}", gate.log(""));
    let log = gate.log("signature-wrong");
    assert!(log.contains("signature-replayed") && log.contains("signature-wrong"), "{log}");
}

/// The same with the npm package. Its RSA-PSS takes another length of salt than RFC 9421 demands
/// (section 3.3.1: 64 bytes), so that is refused, as it must be.
const NODE: &str = r#"
const { readFileSync } = require('node:fs');
const { createHash, randomBytes } = require('node:crypto');
const { request } = require('node:https');
const { httpbis: { signMessage }, createSigner } = require('http-message-signatures');
const { BASE, DIR, KEYS } = process.env;

const send = ({ method, url, headers, body }) => new Promise((resolve, reject) => {
  const sent = request(url, { method, headers }, (response) => response.resume().on('end', () => resolve(response.statusCode)));
  sent.on('error', reject).end(body);
});
async function signed(algorithm, id, method, body, change = () => {}) {
  let key = readFileSync(`${DIR}/${algorithm}.pem`);
  if (algorithm === 'hmac-sha256') key = Buffer.from(key.toString(), 'base64');
  const headers = {};
  const fields = ['@method', '@authority', '@path', '@query'];
  if (body) {
    headers['Content-Type'] = 'application/json';
    headers['Content-Digest'] = `sha-256=:${createHash('sha256').update(body).digest('base64')}:`;
    fields.push('content-type', 'content-digest');
  }
  const message = await signMessage({
    key: createSigner(key, algorithm, id), name: 'sig1', fields, params: ['created', 'keyid', 'alg', 'nonce'],
    paramValues: { nonce: randomBytes(16).toString('hex') },
  }, { method, url: `${BASE}/v1/signed?page=1`, headers });
  message.body = body;
  if (body) message.headers['Content-Length'] = Buffer.byteLength(body);
  change(message);
  return [await send(message), await send(message)];
}
(async () => {
  for (const line of KEYS.split('\n')) {
    const [algorithm, id] = line.split(' ');
    console.log(algorithm, ...await signed(algorithm, id, 'GET'), ...await signed(algorithm, id, 'POST', '{"name":"x"}'),
      ...await signed(algorithm, id, 'GET', undefined, (message) => { message.method = 'HEAD'; }));
  }
})();
"#;

#[test]
fn the_npm_package_is_accepted_once_by_every_algorithm_that_it_does_right() {
    let (gate, keys) = gate();
    let printed = speak(&gate, &keys, Path::new("node"), &["-e", NODE]);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        lines,
        [
            "hmac-sha256 200 401 200 401 401 401",
            "ed25519 200 401 200 401 401 401",
            "ecdsa-p256-sha256 200 401 200 401 401 401",
            "rsa-pss-sha512 401 401 401 401 401 401",
            "rsa-v1_5-sha256 200 401 200 401 401 401",
        ],
        "{}",
        gate.log("")
    );
}

#[test]
fn a_public_key_is_taken_by_the_command_listed_and_has_no_secret() {
    let (gate, _) = gate();
    let dir = gate.dir.path();
    let make = |algorithm: &str, file: &str| {
        let facts = ["--name", "bank", "--sub", "bank", "--algorithm", algorithm];
        portcullis(
            dir,
            &[&["keys", "create", "--signing", "--public-key", file][..], &facts].concat(),
        )
    };
    let (code, printed, talk) = make("ed25519", "ed25519.pub");
    assert_eq!(code, Some(0), "{talk}");
    let id = printed.trim();
    let (_, listed, _) = portcullis(dir, &["keys", "list", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let key = listed.as_array().unwrap().iter().find(|key| key["id"] == id).unwrap();
    assert_eq!(
        (&key["kind"], &key["public_key"]["algorithm"]),
        (&json!("verifying"), &json!("ed25519"))
    );

    pair(dir, "short", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    for (algorithm, file, says) in [
        ("ed25519", "ecdsa-p256-sha256.pub", "for this algorithm"),
        ("ed25519", "ed25519.pem", "private key"),
        ("rsa-pss-sha512", "short.pub", "2048 bits"),
        ("ed25519", "gateway.toml", "no base64"),
        ("ed25519", "nothing.pub", "cannot be read"),
        ("ed25518", "ed25519.pub", "ed25519"),
    ] {
        let (code, _, talk) = make(algorithm, file);
        assert_eq!(code, Some(2), "{file}: {talk}");
        assert!(talk.contains(says), "{file}: {talk}");
    }
    let (code, _, talk) = portcullis(dir, &["keys", "rotate", id]);
    assert_ne!(code, Some(0));
    assert!(talk.contains("only its holder"), "{talk}");
}

#[test]
fn both_bases_are_shown_and_where_they_part() {
    let (gate, keys) = gate();
    let dir = gate.dir.path();
    let id = keys.lines().next().unwrap().split_once(' ').unwrap().1.to_owned();
    let secret = dir.join("secret");
    std::fs::copy(dir.join("hmac-sha256.pem"), &secret).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let url = "https://api.example.com/v1/signed?page=1";
    let body = "{\"name\":\"x\"}";
    let sign = ["sign", "POST", url, "--key-id", &id, "--secret", "file:secret", "--body", body];
    let (code, headers, talk) = portcullis(dir, &[&sign[..], &["--explain"]].concat());
    assert_eq!(code, Some(0), "{talk}");
    let (base, headers) = headers.split_once("\n\n").unwrap();
    let base: Vec<&str> = base.lines().skip(1).map(|line| &line[2..]).collect();
    let head = format!(
        "POST /v1/signed?page=1 HTTP/1.1\nHost: api.example.com\nContent-Length: {}\n{headers}\n{body}",
        body.len()
    );
    std::fs::write(dir.join("request.http"), &head).unwrap();
    std::fs::write(dir.join("same"), base.join("\n")).unwrap();
    std::fs::write(dir.join("ended"), base.join("\n") + "\n").unwrap();
    let other = base.join("\n").replace("/v1/signed", "/v1/signed/");
    std::fs::write(dir.join("other"), &other).unwrap();

    let verify = |more: &[&str]| {
        portcullis(dir, &[&["sign", "--verify", "request.http", "--explain"], more].concat())
    };
    let (code, shown, talk) = verify(&["--theirs", "same", "--secret", "file:secret"]);
    assert_eq!(code, Some(0), "{shown}{talk}");
    assert!(shown.contains("bases      are the same, byte for byte"), "{shown}");
    assert!(shown.contains("signature  verifies with the key that was given"), "{shown}");
    assert!(shown.contains("  000000  22 40 6d 65 74 68 6f 64 22 3a"), "{shown}");

    let (code, shown, _) = verify(&["--theirs", "other"]);
    assert_eq!(code, Some(1), "{shown}");
    // `"@method": POST` and `"@authority": api.example.com` come before the path.
    let at = other.find("/v1/signed/").unwrap() + "/v1/signed".len();
    assert!(shown.contains(&format!("differ first at byte {at}, line 3, column 20")), "{shown}");
    assert!(shown.contains("^ 0a '\\n' here, 2f '/' there"), "{shown}");
    let (code, shown, _) = verify(&["--theirs", "ended"]);
    assert_eq!(code, Some(1));
    assert!(shown.contains("the end here, 0a '\\n' there"), "{shown}");
    assert!(shown.contains("no line feed at its end"), "{shown}");

    // A request that was changed on its way, and a body that was.
    std::fs::write(dir.join("request.http"), head.replace("page=1", "page=2")).unwrap();
    let (code, shown, _) = verify(&["--secret", "file:secret"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("does NOT verify"), "{shown}");
    std::fs::write(dir.join("request.http"), head.replace("\"x\"", "\"y\"")).unwrap();
    let (code, shown, _) = verify(&["--secret", "file:secret"]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("verifies with") && shown.contains("digest-mismatch"), "{shown}");
    std::fs::write(dir.join("request.http"), "GET / HTTP/1.1\nHost: a\nHost: b\n\n").unwrap();
    let (code, _, talk) = verify(&[]);
    assert_eq!(code, Some(2));
    assert!(talk.contains("before it looks at signatures"), "{talk}");
}
