//! The whole life of a key as its holder, its operator and its thief meet it: over real sockets, by
//! the admin API and by the command, with a gateway that runs and without.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Gate, POLICY, Plan, Reply, Service};
use crate::operations::{Process, directory, eventually, portcullis};

const READER: &str = r#""name":"reader","subject":"user_1","scopes":["things:read"]"#;
const DAY: Duration = Duration::from_secs(86_400);

/// A key of the reader: its id, and its text.
fn reader(gate: &Gate) -> (String, String) {
    let made = gate.keys(&format!("{{\"do\":\"create\",\"template\":{{{READER}}}}}"));
    (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

/// Runs the command against a gate that runs in this process.
fn command(gate: &Gate, arguments: &[&str]) -> (Option<i32>, String, String) {
    let admin = gate.admin().to_string();
    let mut all = vec!["keys"];
    all.extend_from_slice(arguments);
    all.extend_from_slice(&["--admin", &admin, "--token-file", ".portcullis/admin.token"]);
    portcullis(gate.dir.path(), &all)
}

/// Whether the last refusal was for this reason. Records are closed behind the answers.
fn was_refused_for(gate: &Gate, reason: &str) -> bool {
    eventually(|| {
        let told = gate.ask_admin("GET", "/v1/decisions/last-refused", "");
        told.status == 200 && told.json()["reason"] == reason
    })
}

fn show(gate: &Gate, id: &str) -> Value {
    gate.keys(&json!({ "do": "show", "id": id }).to_string())
}

fn plan(keys: &str) -> Plan {
    Plan::new(Service::ok().address, POLICY).file("keys.toml", keys)
}

#[test]
fn a_suspended_key_is_refused_from_the_next_request_on_until_it_is_resumed() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let (id, key) = reader(&gate);
    assert_eq!(gate.get("/v1/things", &key).status, 200);
    let (code, said, talk) = command(&gate, &["suspend", &id, "--why", "seen in a ticket"]);
    assert_eq!((code, said.trim()), (Some(0), &*format!("{id} is suspended")), "{talk}");
    let refused = gate.get("/v1/things", &key);
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.body,
        r#"{"error":{"code":"unauthorized","message":"Invalid or missing API key"}}"#
    );
    assert!(was_refused_for(&gate, "credential-suspended"));
    assert_eq!(gate.metric("portcullis_keys{state=\"suspended\"}"), 1.0);
    let (code, said, _) = command(&gate, &["show", &id]);
    assert_eq!(code, Some(0));
    assert!(said.contains("suspended for   seen in a ticket"), "{said}");
    let (code, _, talk) = command(&gate, &["resume", "--owner", "user_1"]);
    assert_eq!(code, Some(0), "{talk}");
    assert_eq!(gate.get("/v1/things", &key).status, 200);
    let (code, _, talk) = command(&gate, &["suspend", "--owner", "nobody"]);
    assert_eq!(code, Some(2));
    assert!(talk.contains("`nobody` owns no key"), "{talk}");
}

#[test]
fn whoever_left_has_no_key_any_more_and_whoever_stays_keeps_theirs() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let leaver = r#""name":"a","subject":"leaver","scopes":["things:read"]"#;
    let keys = [gate.key(leaver), gate.key(leaver)];
    let other = gate.key(r#""name":"other","subject":"user_2","scopes":["things:read"]"#);
    let (code, rotated, talk) = command(&gate, &["rotate", "--owner", "leaver"]);
    assert_eq!(code, Some(0), "{talk}");
    let fresh: Vec<&str> = rotated.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(fresh.len(), 2, "{rotated}");
    let status = |key: &str| gate.get("/v1/things", key).status;
    for key in keys.iter().map(String::as_str).chain(fresh.iter().copied()) {
        assert_eq!(status(key), 200);
    }
    let (code, said, talk) = command(&gate, &["revoke", "--yes", "--owner", "leaver"]);
    assert_eq!((code, said.lines().count()), (Some(0), 4), "{talk}");
    for key in keys.iter().map(String::as_str).chain(fresh) {
        assert_eq!(status(key), 401);
    }
    assert_eq!(status(&other), 200);
}

#[test]
fn use_of_a_key_that_has_a_successor_is_counted_listed_and_told_to_its_holder() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let (id, old) = reader(&gate);
    assert_eq!(gate.get("/v1/things", &old).header("portcullis-key-expires"), None);
    let (code, new, talk) = command(&gate, &["rotate", &id, "--overlap", "24h"]);
    assert_eq!(code, Some(0), "{talk}");
    for _ in 0..2 {
        let reply = gate.get("/v1/things", &old);
        assert_eq!(reply.status, 200);
        let told = reply.header("portcullis-key-expires");
        assert_eq!(told, Some("Tue, 24 Nov 2026 12:00:00 GMT"));
    }
    let refused = gate.get("/v1/nothing", &old);
    assert_eq!(refused.status, 404);
    assert_eq!(gate.get("/v1/things", new.trim()).header("portcullis-key-expires"), None);
    assert_eq!(gate.metric("portcullis_retiring_key_requests_total"), 2.0);
    let (code, listed, _) = command(&gate, &["list", "--rotating"]);
    assert_eq!((code, listed.lines().count()), (Some(0), 2), "{listed}");
    assert!(listed.contains(&format!("{id}  ")), "{listed}");
    assert!(listed.contains("rotating (old key used 4 times today)"), "{listed}");
    gate.hand.advance(DAY);
    assert_eq!(gate.get("/v1/things", &old).status, 401);
    assert_eq!(command(&gate, &["list", "--rotating"]).1.lines().count(), 1);
}

#[test]
fn everything_that_bounds_a_key_is_set_when_it_is_made_and_shown_later() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let create = |more: &[&str]| {
        let mut arguments = vec!["create", "--name", "ci", "--owner", "user_1"];
        arguments.extend_from_slice(&["--scope", "things:read"]);
        arguments.extend_from_slice(more);
        let (code, key, talk) = command(&gate, &arguments);
        assert_eq!(code, Some(0), "{talk}");
        let id = talk.split("id ").nth(1).unwrap()[..8].to_owned();
        (id, key.trim().to_owned())
    };
    let (id, key) = create(&[
        "--not-before",
        "2026-11-24",
        "--expires",
        "2d",
        "--from",
        "127.0.0.0/8",
        "--note",
        "for the build",
    ]);
    let told = show(&gate, &id);
    for (name, value) in [
        ("subject", json!("user_1")),
        ("not_before", json!("2026-11-24T00:00:00Z")),
        ("expires", json!("2026-11-25T12:00:00Z")),
        ("networks", json!(["127.0.0.0/8"])),
        ("environment", json!("dev")),
        ("note", json!("for the build")),
        ("state", json!("expiring")),
    ] {
        assert_eq!(told[name], value, "{name}");
    }
    assert_eq!(gate.get("/v1/things", &key).status, 401, "not yet");
    assert!(was_refused_for(&gate, "credential-expired"));
    gate.hand.advance(DAY);
    assert_eq!(gate.get("/v1/things", &key).status, 200);
    gate.hand.advance(DAY);
    assert_eq!(gate.get("/v1/things", &key).status, 401, "no longer");

    let (id, key) = create(&["--environment", "prod"]);
    assert!(key.starts_with("pcl_prod_"), "{key}");
    assert_eq!(show(&gate, &id)["environment"], "prod");
    assert_eq!(gate.get("/v1/things", &key).status, 401);
    assert!(was_refused_for(&gate, "credential-environment"));
    let counted = gate.metrics().lines().any(|line| {
        line.starts_with("portcullis_decisions_total{")
            && line.contains("credential-environment")
            && line.ends_with(" 1")
    });
    assert!(counted, "a key of another environment is not counted");
    let (code, _, talk) = command(&gate, &["create", "--name", "a", "--not-before", "soon"]);
    assert_eq!(code, Some(2));
    assert!(talk.contains("`not_before` must be a date"), "{talk}");
}

#[test]
fn a_key_may_not_live_longer_than_its_environment_allows() {
    let limited = "[keys]\nenvironment = \"dev\"\nmax_age = { dev = \"30d\", prod = \"365d\" }\n";
    let gate = plan("").extra(limited).start();
    let (code, _, talk) =
        command(&gate, &["create", "--name", "a", "--expires", "31d", "--scope", "things:read"]);
    assert_eq!(code, Some(2));
    assert!(talk.contains("keys of `dev` may live for 30d at most"), "{talk}");
    let (code, _, talk) = command(&gate, &["create", "--name", "a", "--scope", "things:read"]);
    assert_eq!(code, Some(0), "what nobody chose is not refused: {talk}");
    assert!(talk.contains("expires 2026-12-23T12:00:00Z"), "{talk}");
    let prod = ["create", "--name", "a", "--environment", "prod", "--expires", "365d"];
    assert_eq!(command(&gate, &prod).0, Some(0));
}

#[test]
fn how_a_key_was_used_is_told_and_outlives_the_process() {
    let dir = directory(Service::ok().address, POLICY, "");
    let mut process = Process::start(dir.path());
    let admin = process.address("metrics").to_string();
    let keys = |arguments: &[&str]| {
        let (code, said, talk) = portcullis(dir.path(), arguments);
        assert_eq!(code, Some(0), "{talk}");
        (said, talk)
    };
    let create = ["keys", "create", "--admin", &admin, "--name", "reader"];
    let (key, talk) =
        keys(&[&create[..], &["--scope", "things:read", "--scope", "things:write"]].concat());
    let id = talk.split("id ").nth(1).unwrap()[..8].to_owned();
    let used = |arguments: &[&str]| {
        let (said, _) = keys(&[&["keys", "show", "--format", "json", &id], arguments].concat());
        serde_json::from_str::<Value>(&said).unwrap()
    };
    assert_eq!(used(&["--admin", &admin])["usage"]["total"], 0);
    let request = format!(
        "GET /v1/things HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        key.trim()
    );
    for _ in 0..3 {
        let mut stream = crate::harness::connect(process.address("http"));
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        assert_eq!(Reply::read(&mut stream, false).unwrap().status, 200);
    }
    let told = used(&["--admin", &admin]);
    assert_eq!((&told["usage"]["total"], &told["usage"]["today"]), (&json!(3), &json!(3)));
    process.signal("TERM");
    assert_eq!(process.ended().code(), Some(0));
    // While nothing runs, the command reads the store itself.
    let told = used(&[]);
    assert_eq!(told["usage"]["total"], 3);
    assert_eq!(told["usage"]["first_address"], "127.0.0.1");
    assert_eq!(told["usage"]["last_address"], "127.0.0.1");
    assert!(told["last_used"].is_string(), "{told}");
    assert_eq!(told["unused_scopes"], json!([]), "a young key has no unused scopes");
}

#[test]
fn scopes_that_open_nothing_for_a_month_are_named() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let made = gate.keys(
        r#"{"do":"create","template":{"name":"a","subject":"a","roles":["member"],"scopes":["things:read","things:write"],"expires_in_s":31536000}}"#,
    );
    let (id, key) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    gate.hand.advance(31 * DAY);
    assert_eq!(gate.get("/v1/things", key).status, 200);
    assert_eq!(show(&gate, id)["unused_scopes"], json!(["things:write"]));
    assert_eq!(gate.put("POST", "/v1/things", key, "{}").status, 200);
    assert_eq!(show(&gate, id)["unused_scopes"], json!([]));
}

#[test]
fn an_exposed_key_is_refused_and_suspended_where_the_policy_says_so() {
    let gate = plan("[keys]\nexposed = \"suspend\"\n").start();
    let (id, key) = reader(&gate);
    gate.keys(
        r#"{"do":"import","template":{"name":"old","subject":"old","scopes":["things:read"]},"keys":["legacy-key-0123456789"]}"#,
    );
    let exposed = |target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let reply = gate.send(&request);
        assert_eq!((reply.status, &*reply.reason()), (400, "credential-in-query"), "{target}");
    };
    // Even where nobody is asked who they are.
    exposed(&format!("/v1/open?next=see%20{key}"));
    assert!(eventually(|| show(&gate, &id)["state"] == "suspended"));
    assert_eq!(show(&gate, &id)["suspended_why"], "it stood in a URL");
    assert_eq!(gate.get("/v1/things", &key).status, 401);
    assert!(gate.log("stood in the URL").contains(&format!("key {id} stood in the URL")));
    exposed("/v1/open?api_key=legacy-key-0123456789");
    assert!(eventually(|| gate.get("/v1/things", "legacy-key-0123456789").status == 401));
    assert_eq!(gate.metric("portcullis_key_alarms_total{cause=\"url\"}"), 2.0);
    exposed("/v1/open?api_key=somebody-elses-key-0123");
    exposed(&format!("/v1/open?q={}", &key.replace("pcl_dev", "pcl_live")));
    assert_eq!(gate.metric("portcullis_key_alarms_total{cause=\"url\"}"), 2.0);
}

#[test]
fn an_exposed_key_holds_on_where_the_policy_does_not_say_so() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let (id, key) = reader(&gate);
    assert_eq!(gate.get(&format!("/v1/things?k={key}"), &key).status, 400);
    assert_eq!(gate.metric("portcullis_key_alarms_total{cause=\"url\"}"), 1.0);
    assert_eq!(gate.get("/v1/things", &key).status, 200);
    assert_eq!(show(&gate, &id)["state"], "active");
}

#[test]
fn whoever_uses_a_canary_is_banned_for_as_long_as_the_policy_says() {
    let gate = plan("[keys]\ncanary_ban = \"10m\"\n").start();
    let (_, good) = reader(&gate);
    let (code, canary, talk) =
        command(&gate, &["create", "--name", "trap", "--canary", "--scope", "things:read"]);
    assert_eq!(code, Some(0), "{talk}");
    assert_eq!(gate.get("/v1/things", &good).status, 200);
    let refused = gate.get("/v1/things", canary.trim());
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.body,
        r#"{"error":{"code":"unauthorized","message":"Invalid or missing API key"}}"#
    );
    assert!(was_refused_for(&gate, "credential-canary"));
    assert!(eventually(|| gate.get("/v1/things", &good).status == 403), "it is not banned");
    assert_eq!(gate.metric("portcullis_key_alarms_total{cause=\"canary\"}"), 1.0);
    assert_eq!(gate.metric("portcullis_bans{source=\"canary\"}"), 1.0);
    assert_eq!(gate.metric("portcullis_bans{source=\"manual\"}"), 0.0);
    let bans = gate.ask_admin("GET", "/v1/bans", "").json();
    assert_eq!(bans[0]["network"], "127.0.0.1/32");
    assert_eq!(bans[0]["until"], "2026-11-23T12:10:00Z");
    gate.hand.advance(Duration::from_secs(600));
    assert_eq!(gate.get("/v1/things", &good).status, 200, "the ban is over");
    let (code, _, talk) = command(&gate, &["create", "--name", "trap", "--canary", "--signing"]);
    assert_eq!(code, Some(2));
    assert!(talk.contains("`canary` must be an API key"), "{talk}");
}

/// Runs `keys scan -` with this on its standard input.
fn scan_input(gate: &Gate, input: &[u8]) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["keys", "scan", "-", "--admin", &gate.admin().to_string()])
        .args(["--token-file", ".portcullis/admin.token"])
        .current_dir(gate.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_scan_finds_leaked_keys_tells_which_of_them_work_and_never_shows_one() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let [live, suspended, revoked] = [reader(&gate), reader(&gate), reader(&gate)];
    gate.keys(&json!({ "do": "suspend", "id": suspended.0 }).to_string());
    gate.keys(&json!({ "do": "revoke", "id": revoked.0 }).to_string());
    let other = Gate::new(Service::ok().address, POLICY);
    let unknown = reader(&other).1;
    let other_end = if live.1.ends_with('x') { "y" } else { "x" };
    let mistyped = format!("{}{other_end}", &live.1[..live.1.len() - 1]);
    let leaks = tempfile::tempdir().unwrap();
    write(leaks.path(), "src/deep/client.py", format!("a\nKEY = \"{}\"\n", live.1).as_bytes());
    write(leaks.path(), "fix.diff", format!("-{}\n+{mistyped}\n", suspended.1).as_bytes());
    let binary = [&[0, 255, b'\n', b'p', b'c'][..], revoked.1.as_bytes(), &[0, 200]].concat();
    write(leaks.path(), "core.bin", &binary);
    write(leaks.path(), "app.log", format!("GET /?k={unknown}&a=1\n").as_bytes());
    std::os::unix::fs::symlink("/", leaks.path().join("loop")).unwrap();

    let folder = leaks.path().to_str().unwrap();
    let (code, said, talk) = command(&gate, &["scan", folder]);
    assert_eq!(code, Some(1), "{said}{talk}");
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    let [log, core, diff, client] = lines[..] else { panic!("{said}") };
    for (line, at, id, state) in [
        (log, "app.log:1:", &unknown[8..16], "unknown"),
        (core, "core.bin:2:", &*revoked.0, "revoked"),
        (diff, "fix.diff:1:", &suspended.0, "suspended"),
        (client, "client.py:2:", &live.0, "LIVE (active)"),
    ] {
        assert!(line.contains(at) && line.contains(id) && line.contains(state), "{line}");
    }
    assert!(talk.contains("4 files: 4 keys found, 1 of them live"), "{talk}");
    for key in [&live.1, &suspended.1, &revoked.1, &unknown] {
        assert!(!said.contains(&key[16..]) && !talk.contains(&key[16..]), "{said}");
    }

    let (code, said, _) = command(&gate, &["scan", "--suspend", "--format", "json", folder]);
    assert_eq!(code, Some(1));
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&told["schema"], &told["live"]), (&json!("portcullis.scan/1"), &json!(1)));
    assert_eq!(told["findings"].as_array().unwrap().len(), 4);
    assert_eq!(gate.get("/v1/things", &live.1).status, 401);
    let why = show(&gate, &live.0)["suspended_why"].clone();
    assert!(why.as_str().unwrap().ends_with("client.py:2"), "{why}");
    assert_eq!(command(&gate, &["scan", folder]).0, Some(0), "nothing that was found works now");

    let (code, said) = scan_input(&gate, format!("\n\n{}\n", revoked.1).as_bytes());
    assert_eq!(code, Some(0));
    assert!(said.starts_with("stdin:3: "), "{said}");
    let (code, _, talk) = command(&gate, &["scan", "no/such/file"]);
    assert_eq!(code, Some(2), "what was not looked at is not clean: {talk}");
}

#[test]
fn a_key_that_leaked_into_a_long_log_is_found_without_a_gateway() {
    let dir = directory(Service::ok().address, POLICY, "");
    let (code, key, talk) =
        portcullis(dir.path(), &["keys", "create", "--name", "a", "--scope", "things:read"]);
    assert_eq!(code, Some(0), "{talk}");
    let mut log = "2026-11-23T12:00:00Z GET /v1/things 200 pcl_ pcl_dev_ nothing\n".repeat(200_000);
    log.push_str(&format!("authorization: {key}"));
    write(dir.path(), "access.log", log.as_bytes());
    let (code, said, _) = portcullis(dir.path(), &["keys", "scan", "access.log"]);
    assert_eq!(code, Some(1));
    assert!(said.starts_with("access.log:200001: pcl_dev_"), "{said}");
    assert!(said.contains("LIVE (active)"), "{said}");
}
