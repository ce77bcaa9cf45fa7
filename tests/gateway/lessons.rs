//! What went wrong elsewhere in authentication and TLS, each named after where: this gateway must not repeat it.
//!
//! Lessons with a table of their own stand elsewhere: of tokens in `tokens`, of client certificates in
//! `mtls`, of framing and paths in `hostile`. That well-formed bad credentials cost alike (CVE-2026-41263 and
//! its kind) is counted by `benches/failures.rs`.

use std::io::Write;
use std::net::TcpListener;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::harness::{Gate, Plan, Reply, Service};
use crate::tokens::{self, bearer};

const POLICY: &str = include_str!("policy.toml");

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

fn reader(gate: &Gate) -> String {
    gate.key(r#""name":"k","subject":"alice","scopes":["things:read"]"#)
}

#[test]
fn cve_2026_49872_garbage_never_authenticates() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let key = reader(&gate);
    assert_eq!(gate.get("/v1/things", &key).status, 200);
    let seen = service.requests().len();
    let garbage = (
        "(Authorization: (Bearer|bearer|DPoP|Basic|Signature|) ?|X-API-Key: )",
        prop_oneof!["[!-~]{0,60}", "(pcl_dev_)?[0-9A-Za-z_]{30,60}", "[A-Za-z0-9_.-]{1,60}={0,2}"],
        any::<prop::sample::Index>(),
        "[0-9A-Za-z_=~]?",
        any::<bool>(),
    );
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() };
    let mut runner = TestRunner::new(config);
    runner
        .run(&garbage, |(carrier, random, at, other, is_near)| {
            // Half of them are the good key with one character changed or left out.
            let mut shown = if is_near { key.clone() } else { random };
            if is_near {
                let at = at.index(shown.len());
                prop_assume!(shown.get(at..=at) != Some(other.as_str()));
                shown.replace_range(at..=at, &other);
            }
            let reply = gate.send(&get("/v1/things", &format!("{carrier}{shown}\r\n")));
            prop_assert!([400, 401].contains(&reply.status), "{carrier}{shown}: {reply:?}");
            Ok(())
        })
        .unwrap();
    assert_eq!(service.requests().len(), seen, "nothing of it reached the service");
}

#[test]
fn cve_2022_29266_no_answer_and_no_record_holds_a_secret() {
    let bed = tokens::Bed::new();
    let token = bed.token();
    let shared = tokens::issuer::Signer::shared(b"another secret, as long as it has to be");
    let forged = bed.issuer.mint(&shared, json!({"typ": "at+jwt"}), tokens::claims());
    let cut = token.get(..token.len() - 9).unwrap().to_owned();
    let mut told = String::new();
    for path in ["/v1/things", "/v1/shared", "/v1/opaque", "/v1/none", "/v1/things?access_token=1"]
    {
        for shown in [&token, &forged, &cut, &bed.key, &"opaque".to_owned(), &String::new()] {
            told.push_str(&format!("{:?}\n", bed.get(path, &[bearer(shown)])));
        }
    }
    let last = bed.get("/v1/things", &[]);
    told.push_str(&bed.gate.log(last.header("x-request-id").unwrap()));
    assert!(told.contains("\"reason\""), "records are among what is told");
    let state = |name: &str| std::fs::read(bed.gate.dir.path().join(".portcullis").join(name));
    let admin = String::from_utf8(state("admin.token").unwrap()).unwrap();
    for secret in [tokens::SECRET, admin.trim(), &bed.key, &token, &forged] {
        assert!(secret.len() > 20 && !told.contains(secret), "{told}");
    }
}

#[test]
fn cve_2020_13945_every_gateway_makes_a_token_of_its_own() {
    let service = Service::ok();
    let gates = [Gate::new(service.address, POLICY), Gate::new(service.address, POLICY)];
    let token = |gate: &Gate| {
        let path = gate.dir.path().join(".portcullis/admin.token");
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    };
    let [first, second] = gates.each_ref().map(token);
    assert!(first.len() >= 32 && first != second, "{first} {second}");
    assert_ne!(gates[0].first_key(), gates[1].first_key());
    let ask = |token: &str| {
        let mut stream = crate::harness::connect(gates[0].admin());
        let lines = format!("Authorization: Bearer {token}\r\nConnection: close\r\n");
        stream.write_all(get("/v1/bans", &lines).as_bytes()).unwrap();
        Reply::read(&mut stream, false).unwrap().status
    };
    assert_eq!(ask(&first), 200);
    // That of APISIX, that of Tyk, and what else is tried first.
    for known in [
        &*second,
        "",
        "edd1c9f034335f136f87ad84b625c8f1",
        "352d20ee67be67f6340b4c0605b044b7",
        "admin",
    ] {
        assert_eq!(ask(known), 401, "{known}");
    }
}

#[test]
fn tyk_1681_a_key_that_can_be_guessed_is_not_taken_over() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let import = |key: &str| {
        gate.keys(&format!(
            r#"{{"do":"import","keys":["{key}"],"template":{{"name":"k","subject":"alice"}}}}"#
        ))
    };
    for short in ["1", "123456789012345"] {
        assert!(import(short)["error"].is_object(), "{short}");
        assert_eq!(gate.get("/v1/things", short).status, 401);
    }
    // What the gateway makes has 154 random bits.
    let random = reader(&gate).rsplit('_').next().unwrap().len() - 8 - 6;
    assert!(random as f64 * 62_f64.log2() > 128.0, "{random} characters");
}

#[test]
fn apisix_12189_a_misspelt_section_opens_nothing() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let route = "summary = \"x\"\nmatch = \"GET /v1/misspelt\"\nupstream = \"service\"\n";
    for broken in [
        format!("[routs.x]\n{route}allow = [{{ anyone = true }}]\n"),
        format!("[routes.x]\n{route}allow = [{{ anyone = true }}]\nauthh = \"none\"\n"),
        format!(
            "[routes.x]\n{route}allow = [{{ anyone = true }}]\nauth = {{ anny = [\"api-key\"] }}\n"
        ),
        format!(
            "[routes.x]\n{route}allow = [{{ anyone = true }}]\nauth = {{ any = [\"api-kee\"] }}\n"
        ),
        format!("[routes.x]\n{route}allow = [{{ scope = [\"things:read\"] }}]\n"),
    ] {
        let outcome = gate.reload(&format!("{POLICY}\n{broken}"));
        let refused = matches!(outcome, portcullis::policy::reload::Outcome::Refused(_));
        assert!(refused, "{broken}");
        assert_eq!(gate.send(&get("/v1/misspelt", "")).status, 401, "the old policy holds");
        assert_eq!(gate.send(&get("/v1/things", "")).status, 401);
    }
}

#[test]
fn rfc_6750_2_a_credential_comes_by_one_way() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let key = reader(&gate);
    let bearer = format!("Authorization: Bearer {key}\r\n");
    let plain = format!("X-API-Key: {key}\r\n");
    for (lines, status) in [
        (bearer.clone(), 200),
        (plain.clone(), 200),
        // Though both are good, and the same.
        (format!("{bearer}{plain}"), 400),
        (format!("{bearer}{bearer}"), 400),
        (format!("{plain}{plain}"), 400),
    ] {
        assert_eq!(gate.send(&get("/v1/things", &lines)).status, status, "{lines}");
    }
    for name in ["access_token", "api_key", "x-api-key", "other"] {
        let target = format!("/v1/things?{name}={key}");
        for lines in [&bearer, &String::new()] {
            assert_eq!(gate.send(&get(&target, lines)).status, 400, "{target} {lines}");
        }
    }
}

#[test]
fn cve_2026_1642_plain_bytes_before_the_handshake_are_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Whoever sits between the gateway and its upstream writes first, in plain text.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let policy = POLICY.replace("upstream = \"service\"", "upstream = \"other\"");
    let gate = Plan::new(Service::ok().address, &policy)
        .extra(&format!("[upstreams.other]\ntargets = [\"https://{address}\"]\n"))
        .start();
    let reply = gate.get("/v1/things", &reader(&gate));
    assert!([502, 503].contains(&reply.status), "{reply:?}");
    assert!(!reply.body.contains("forged"), "{reply:?}");
}

#[test]
fn rustsec_2024_0421_a_host_is_what_its_bytes_say() {
    let policy = POLICY.replace(
        "match    = \"GET /v1/things\"\n",
        "match    = \"GET /v1/things\"\nhosts    = [\"xn--bcher-kva.example\"]\n",
    );
    let gate = Gate::new(Service::ok().address, &policy);
    let key = reader(&gate);
    let status = |host: &str| {
        let lines = format!("X-API-Key: {key}\r\n");
        gate.send(&format!("GET /v1/things HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")).status
    };
    // The connection was opened for another name, so even the right one is told to come again (421).
    let known = status("xn--bcher-kva.example");
    assert!([200, 421].contains(&known), "{known}");
    // No other spelling of the same name is made to be it.
    for host in ["bücher.example", "b%C3%BCcher.example", "xn--bcher-kva.example\u{3002}"] {
        assert_eq!(status(host), 400, "{host}");
    }
}

#[test]
fn oas_validator_there_is_no_way_to_leave_a_certificate_unchecked() {
    use portcullis::cli::schema::{Of, text};
    for of in [Of::Policy, Of::Gateway] {
        let schema: serde_json::Value = serde_json::from_str(&text(of)).unwrap();
        let mut keys = Vec::new();
        names(&schema, &mut keys);
        assert!(
            keys.iter().any(|key| key == "tls") || matches!(of, Of::Policy),
            "the walk finds keys"
        );
        for word in
            ["insecure", "skip_verify", "no_verify", "ssl_verify", "verify_peer", "accept_invalid"]
        {
            assert!(!keys.iter().any(|key| key.contains(word)), "{word}");
        }
    }
}

/// All names of properties in a schema.
fn names(schema: &serde_json::Value, into: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        into.extend(properties.keys().cloned());
    }
    match schema {
        serde_json::Value::Object(members) => members.values().for_each(|value| names(value, into)),
        serde_json::Value::Array(values) => values.iter().for_each(|value| names(value, into)),
        _ => {}
    }
}
