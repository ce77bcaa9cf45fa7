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
use crate::operations::{Process, directory, portcullis};
use crate::refusals::{Signer, Signing, reason_of};
use crate::tokens::{self, bearer};

const POLICY: &str = include_str!("policy.toml");

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

fn reader(gate: &Gate) -> String {
    gate.key(r#""name":"k","subject":"alice","scopes":["things:read"]"#)
}

#[test]
fn cve_2026_49230_and_cve_2026_49872_garbage_never_authenticates() {
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
fn cve_2020_13945_and_tyk_every_gateway_makes_a_token_of_its_own() {
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
fn cve_2020_13945_and_tyk_no_start_with_a_token_that_can_be_guessed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = directory(Service::ok().address, POLICY, "");
    let configure = |token: Option<&str>| {
        let config = dir.path().join("gateway.toml");
        let written = std::fs::read_to_string(&config).unwrap();
        let bare = written.replace("token = \"file:token\"\n", "");
        let named = "[admin]\ntoken = \"file:token\"\n";
        let with = if token.is_some() { bare.replace("[admin]\n", named) } else { bare };
        std::fs::write(&config, with).unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, token.unwrap_or_default()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    for (token, says) in [
        (Some(""), "is empty"),
        (Some("\n"), "is empty"),
        (Some("admin"), "5 bytes"),
        (Some("352d20ee67be67f"), "15 bytes"),
        (None, "ready in"),
        (Some("0123456789abcdef0123456789abcdef"), "ready in"),
    ] {
        configure(token);
        let mut process = Process::spawn(dir.path(), &[]);
        assert!(process.wait_for(says), "{token:?}: {}", process.said());
        if says == "ready in" {
            process.signal("TERM");
        }
        assert_eq!(process.ended().success(), says == "ready in", "{token:?}: {}", process.said());
    }
}

#[test]
fn cve_2022_24112_no_way_through_the_gateway_leads_to_its_admin_listener() {
    let service = Service::ok();
    let gate = Gate::new(service.address, POLICY);
    let key = gate.first_key();
    let path = gate.dir.path().join(".portcullis/admin.token");
    let token = std::fs::read_to_string(path).unwrap().trim().to_owned();
    let admin = gate.admin();
    // APISIX believed X-Real-IP, and its own batches came from 127.0.0.1.
    let local = "X-Real-IP: 127.0.0.1\r\nX-Forwarded-For: 127.0.0.1\r\n";
    let data = |line: &str, host: &str, bearer: &str| {
        let bearer = format!("Authorization: Bearer {bearer}\r\n");
        let asked = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{local}{bearer}\r\n");
        gate.send(&asked)
    };
    let direct = |lines: &str| {
        let mut stream = crate::harness::connect(admin);
        stream.write_all(get("/v1/bans", lines).as_bytes()).unwrap();
        Reply::read(&mut stream, false).unwrap()
    };
    let right = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(direct(&right).status, 200, "what must not be reached is there");
    assert_eq!(direct(local).status, 401, "nobody is let in for where he says he is");
    for line in [
        "GET /v1/bans".to_owned(),
        "GET /metrics".to_owned(),
        "POST /v1/keys".to_owned(),
        format!("GET http://{admin}/v1/bans"),
        format!("CONNECT {admin}"),
    ] {
        for host in ["localhost".to_owned(), admin.to_string()] {
            for bearer in [&token, &key] {
                let reply = data(&line, &host, bearer);
                let refused = [400, 401, 404, 405, 421, 501].contains(&reply.status);
                assert!(refused, "{line} {host}: {reply:?}");
            }
        }
    }
    assert_eq!(service.requests(), Vec::<String>::new());
}

#[test]
fn cve_2020_11710_the_admin_listener_is_nobodys_upstream_and_not_open_to_others() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let check = |admin: &str, target: &str| {
        let dir = directory(free, POLICY, "");
        let path = dir.path().join("gateway.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        let config = config
            .replace("[admin]\nbind = \"127.0.0.1:0\"", &format!("[admin]\nbind = \"{admin}\""));
        std::fs::write(&path, config.replace(&format!("http://{free}"), target)).unwrap();
        let (code, printed, talk) = portcullis(dir.path(), &["check"]);
        (code, printed + &talk)
    };
    let (loopback, port) = (format!("127.0.0.1:{}", free.port()), free.port());
    let good = check(&loopback, "http://127.0.0.1:9");
    assert_eq!(good.0, Some(0), "{}", good.1);
    let every = format!("0.0.0.0:{port}");
    for (admin, target) in [
        (&loopback, format!("http://127.0.0.1:{port}")),
        (&loopback, format!("http://localhost:{port}")),
        (&loopback, format!("http://[::ffff:127.0.0.1]:{port}")),
        (&every, format!("http://127.0.0.2:{port}")),
    ] {
        let (code, told) = check(admin, &target);
        assert!(code == Some(1) && told.contains("own admin listener"), "{admin} {target}: {told}");
    }
    // Unless it is written it stands on loopback, and what is open to others is told.
    let shipped = include_str!("../../gateway.toml");
    assert!(!shipped.contains("[admin]\nbind = \"0.0.0.0"), "{shipped}");
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

#[test]
fn hmac_auth_of_kong_apisix_and_tyk_covers_what_counts_and_passes_once() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let (id, secret) = gate.signing_key(r#""name":"a","subject":"user_1""#);
    gate.hand.advance(std::time::Duration::from_secs(1));
    let signer = Signer { id, secret };
    let created = crate::harness::NOON_MS / 1000 + 1;
    let signing = || Signing { created, ..Signing::of("GET", "/v1/signed") };
    let told = |lines: &str| {
        let reply = gate.send(&get("/v1/signed", lines));
        (reply.status, reason_of(&gate, &reply))
    };
    let good = signer.sign(&signing());
    assert_eq!(told(&good), (200, "-".to_owned()));
    let covers = ["@method", "@authority", "@query"];
    let second = signer.sign(&signing()).replace(" sig=", " other=");
    let whole = signer.sign(&signing());
    let (before, signature) = whole.split_once("=:").unwrap();
    // 16 bytes of 32.
    let half = format!("{before}=:{}w==:\r\n", &signature[..21]);
    for (name, lines, reason) in [
        ("sent again", good.clone(), "signature-replayed"),
        (
            "too old",
            signer.sign(&Signing { created: created - 61, ..signing() }),
            "signature-expired",
        ),
        (
            "the path uncovered",
            signer.sign(&Signing { covers: &covers, ..signing() }),
            "signature-coverage",
        ),
        ("no nonce", good.replace(";nonce=\"", ";tag=\""), "signature-coverage"),
        (
            "a weaker algorithm",
            signer.sign(&Signing { algorithm: "hmac-sha1", ..signing() }),
            "signature-algorithm",
        ),
        ("two, and nothing to choose by", signer.sign(&signing()) + &second, "signature-malformed"),
        ("the first half of it", half, "signature-wrong"),
    ] {
        let (status, told) = told(&lines);
        assert_eq!((status, told.as_str()), (401, reason), "{name}");
    }
}

/// The versions of a crate that are built in.
fn versions(name: &str) -> Vec<[u32; 3]> {
    let lock = include_str!("../../Cargo.lock");
    let numbers = |text: &str| {
        let plain = text.split(['-', '+']).next().unwrap();
        let mut parts = plain.split('.').map(|part| part.parse().unwrap());
        [(); 3].map(|()| parts.next().unwrap())
    };
    let head = format!("name = \"{name}\"\nversion = \"");
    lock.split(&head).skip(1).map(|rest| numbers(rest.split('"').next().unwrap())).collect()
}

#[test]
fn rustsec_2024_0336_and_later_flaws_of_rustls_are_mended_in_what_is_built() {
    for (name, mended, advisories) in [
        ("rustls", [0, 23, 18], "RUSTSEC-2024-0336 (0.23.5), RUSTSEC-2024-0399 (0.23.18)"),
        (
            "rustls-webpki",
            [0, 103, 13],
            "RUSTSEC-2026-0049 (0.103.10), -0098 and -0099 (0.103.12), -0104 (0.103.13)",
        ),
    ] {
        let built = versions(name);
        assert!(!built.is_empty(), "{name} is not in Cargo.lock");
        for version in built {
            assert!(version >= mended, "{name} {version:?} has {advisories}");
        }
    }
    assert!(versions("serde").iter().all(|version| *version > [1, 0, 0]), "versions are read");
}

#[test]
fn cve_2026_42530_there_is_no_http_3_that_would_have_to_be_fuzzed() {
    // Whoever adds it finds here that its header compression needs a fuzzer.
    for name in ["quinn", "quinn-proto", "h3", "quiche", "s2n-quic", "neqo-transport"] {
        assert_eq!(versions(name), Vec::<[u32; 3]>::new(), "{name}");
    }
    let gate = Gate::new(Service::ok().address, POLICY);
    let reply = gate.get("/v1/things", &gate.first_key());
    assert_eq!((reply.status, reply.header("alt-svc")), (200, None));
}
