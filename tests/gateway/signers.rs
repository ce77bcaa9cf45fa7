//! Signatures of implementations that know nothing of us (RFC 9421), by every algorithm, over real sockets.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::{Gate, POLICY, Plan, Service};
use crate::operations::{Process, portcullis};
use crate::refusals::{Signer, Signing};
use crate::tour::Shipped;

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
    let admin = gate.admin().to_string();
    let make = |algorithm: &str, file: &str| {
        let facts =
            ["--name", "bank", "--sub", "bank", "--algorithm", algorithm, "--admin", &admin];
        portcullis(
            dir,
            &[&["keys", "create", "--signing", "--public-key", file][..], &facts].concat(),
        )
    };
    let (code, printed, talk) = make("ed25519", "ed25519.pub");
    assert_eq!(code, Some(0), "{talk}");
    let id = printed.trim();
    let (_, listed, _) = portcullis(dir, &["keys", "list", "--format", "json", "--admin", &admin]);
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
    let (code, _, talk) = portcullis(dir, &["keys", "rotate", id, "--admin", &admin]);
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

/// Signs a GET of the tasks for curl: the line, which prints a status.
fn line(shipped: &Shipped, id: &str) -> String {
    let url = format!("https://localhost:{}/v1/tasks", shipped.ports[0]);
    let sign = ["sign", "GET", &url, "--key-id", id, "--secret", "file:secret", "--curl"];
    let (code, line, talk) = portcullis(shipped.dir.path(), &sign);
    assert_eq!(code, Some(0), "{talk}");
    let ca = shipped.dir.path().join(".portcullis/dev-ca.pem");
    let call = format!("curl -sS -o /dev/null -w '%{{http_code}}' --cacert {} ", ca.display());
    line.trim().replacen("curl ", &call, 1)
}

#[test]
fn used_signatures_stay_used_over_a_clean_stop_and_over_a_crash() {
    let shipped = Shipped::new();
    shipped.edit("policies/policy.toml", |policy| {
        policy.replace("{ any = [\"api-key\"] }", "{ any = [\"api-key\", \"signature.request\"] }")
    });
    let dir = shipped.dir.path();
    let status = |line: &str| run(Path::new("bash"), &["-c", line], &[]);
    let mut process = Process::start(dir);
    let facts = ["--name", "me", "--role", "member", "--scope", "tasks:read", "--out", "secret"];
    let (code, _, talk) = portcullis(dir, &[&["keys", "create", "--signing"][..], &facts].concat());
    assert_eq!(code, Some(0), "{talk}");
    let id = talk.lines().find_map(|line| line.strip_prefix("id ")).unwrap();
    let id = id.split_whitespace().next().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));

    let (used, unused, kept) = (line(&shipped, id), line(&shipped, id), line(&shipped, id));
    assert_eq!(status(&used), "200");
    process.signal("TERM");
    assert!(process.ended().success());
    let mut process = Process::start(dir);
    assert_eq!(status(&used), "401", "it was used before the stop");
    assert_eq!(status(&unused), "200", "the gate knows that it was not");

    process.signal("KILL");
    process.ended();
    let _process = Process::start(dir);
    for line in [&used, &unused, &kept] {
        assert_eq!(status(line), "401", "nobody knows what was used before a crash");
    }
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(status(&line(&shipped, id)), "200");
}

#[test]
fn a_401_says_exactly_what_to_sign() {
    let policy = POLICY.replace(
        "[signatures.request]\n",
        "[signatures.request]\nalgorithm = \"hmac-sha256\"\nexpires = \"required\"\ntag = \"task-api\"\nlabel = \"gate\"\n",
    );
    let ask = |policy: &str, body: &str| {
        let gate = Gate::new(Service::ok().address, policy);
        let reply = match body {
            "" => gate.send("GET /v1/signed HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            body => gate.put("POST", "/v1/signed", "no-key", body),
        };
        assert_eq!(reply.status, 401);
        ["accept-signature", "want-content-digest"]
            .map(|name| reply.header(name).unwrap_or("-").to_owned())
    };
    assert_eq!(ask(POLICY, ""), [r#"sig1=("@method" "@authority" "@path" "@query");created"#, "-"]);
    assert_eq!(
        ask(POLICY, "{}"),
        [
            r#"sig1=("@method" "@authority" "@path" "@query" "content-digest" "content-type");created"#,
            "sha-256=10"
        ]
    );
    assert_eq!(
        ask(&policy, ""),
        [
            r#"gate=("@method" "@authority" "@path" "@query");created;expires;alg="hmac-sha256";tag="task-api""#,
            "-"
        ]
    );
    assert_eq!(
        ask(&policy, "{}"),
        [
            r#"gate=("@method" "@authority" "@path" "@query" "content-digest" "content-type");created;expires;alg="hmac-sha256";tag="task-api""#,
            "sha-256=10"
        ]
    );
}

#[test]
fn a_digest_that_cannot_be_compared_is_answered_with_those_that_can() {
    let policy = format!(
        "{POLICY}\n[routes.digest]\nsummary = \"Needs a digest\"\nmatch = \"POST /v1/digest\"\nupstream = \"service\"\n\
         allow = [{{ anyone = true }}]\nbody = {{ max = \"1KiB\", types = [\"application/json\"], digest = \"required\" }}\n"
    );
    let gate = Gate::new(Service::ok().address, &policy);
    let key = gate.first_key();
    let body = r#"{"hello": "world"}"#;
    // RFC 9530, appendix D: the same body by every algorithm that is registered.
    const SHA_512: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
    const SHA_256: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    const OTHER: &str = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
    const WANTED: &str = "sha-256=10, sha-512=3";
    let both = format!("{SHA_512}, {SHA_256}");
    let one_wrong = format!("{SHA_512}, {OTHER}");
    for (digest, status, reason, wanted) in [
        (SHA_512, 200, "-", "-"),
        (SHA_256, 200, "-", "-"),
        (&both, 200, "-", "-"),
        (
            "md5=:Sd/dVLAcvNLSq16eXua5uQ==:, sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
            200,
            "-",
            "-",
        ),
        (&one_wrong, 400, "digest-mismatch", "-"),
        (OTHER, 400, "digest-mismatch", "-"),
        ("md5=:Sd/dVLAcvNLSq16eXua5uQ==:", 400, "digest-unsupported", WANTED),
        ("sha=:07CavjDP4u3/TungoUHJO/Wzr4c=:", 400, "digest-unsupported", WANTED),
        ("unixsum=:GQU=:", 400, "digest-unsupported", WANTED),
        ("unixcksum=:7zsHAA==:", 400, "digest-unsupported", WANTED),
        ("adler=:OZkGFw==:", 400, "digest-unsupported", WANTED),
        ("crc32c=:Q3lHIA==:", 400, "digest-unsupported", WANTED),
        ("", 400, "digest-missing", WANTED),
    ] {
        let digest =
            if digest.is_empty() { String::new() } else { format!("Content-Digest: {digest}\r\n") };
        let reply = gate.send(&format!(
            "POST /v1/digest HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
             {digest}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let told = if reply.status == 200 { "-".to_owned() } else { reply.reason() };
        assert_eq!((reply.status, told.as_str()), (status, reason), "{digest}");
        assert_eq!(reply.header("want-content-digest").unwrap_or("-"), wanted, "{digest}");
    }
}

#[test]
fn several_signatures_pass_only_by_a_rule_that_chooses() {
    let tagged =
        POLICY.replace("[signatures.request]\n", "[signatures.request]\nlabel = \"sig\"\n");
    for (policy, status) in [(POLICY, 401), (tagged.as_str(), 200)] {
        let gate = Gate::new(Service::ok().address, policy);
        let (id, secret) = gate.signing_key(r#""name":"a","subject":"user_1""#);
        gate.hand.advance(std::time::Duration::from_secs(1));
        let signing = Signing {
            created: crate::harness::NOON_MS / 1000 + 1,
            ..Signing::of("GET", "/v1/signed")
        };
        let lines = Signer { id, secret }.sign(&signing);
        let first = "Signature-Input: other=(\"@method\");created=1;keyid=\"x\"\r\nSignature: other=:AAAA:\r\n";
        let reply =
            gate.send(&format!("GET /v1/signed HTTP/1.1\r\nHost: localhost\r\n{first}{lines}\r\n"));
        assert_eq!(reply.status, status, "{}", gate.log("signed"));
    }
}
