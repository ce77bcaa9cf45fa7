//! Principals manage their own keys over the API, and never get more by it than they have.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Gate, POLICY, Plan, Reply, Service, connect};
use crate::http2;
use crate::operations::{Process, directory, eventually, portcullis};
use crate::refusals::{reason_of, record, wait_until};
use crate::tokens::Bed;

const PATH: &str = "/.well-known/portcullis/keys";
const SELF_SERVICE: &str = r#"
[routes.my-keys]
summary      = "One's own keys"
match        = "POST /.well-known/portcullis/keys"
self_service = { keys_max = 4, max_age = "30d" }
allow        = [{ anyone = true }]

[routes.heirs]
summary      = "One's own keys, also for keys that were made here"
match        = "POST /v1/heirs"
self_service = { keys_max = 4, max_age = "30d", made_keys = true }
allow        = [{ anyone = true }]
"#;
const ALICE: &str =
    r#""name":"first","subject":"alice","roles":["admin"],"scopes":["things:read","things:write"]"#;

fn gate() -> Gate {
    Plan::new(Service::ok().address, POLICY).file("self.toml", SELF_SERVICE).start()
}

/// Which version of HTTP is spoken.
#[derive(Clone, Copy)]
enum Over {
    Http1,
    Http2,
}

fn call_at(gate: &Gate, over: Over, path: &str, key: &str, call: &Value) -> Reply {
    match over {
        Over::Http1 => gate.put("POST", path, key, &call.to_string()),
        Over::Http2 => {
            let request = http2::request("POST", path)
                .header("authorization", format!("Bearer {key}"))
                .header("content-type", "application/json");
            http2::ask(gate, request, call.to_string().as_bytes())
        }
    }
}

fn call(gate: &Gate, key: &str, call: &Value) -> Reply {
    call_at(gate, Over::Http1, PATH, key, call)
}

/// A call that must succeed, and what it tells.
fn done(gate: &Gate, key: &str, wish: &Value) -> Value {
    let reply = call(gate, key, wish);
    assert_eq!(reply.status, 200, "{wish}: {reply:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    reply.json()
}

fn create(more: &Value) -> Value {
    let mut template = json!({ "name": "made", "scopes": ["things:read"] });
    template.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "do": "create", "template": template })
}

fn text(told: &Value, member: &str) -> String {
    told[member].as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
}

/// The id in the text of a key.
fn id_of(key: &str) -> &str {
    &key[8..16]
}

#[test]
fn owners_make_see_rotate_and_end_their_keys_over_both_versions_of_http() {
    for over in [Over::Http1, Over::Http2] {
        let gate = gate();
        let alice = gate.key(ALICE);
        let ask = |key: &str, wish: Value| {
            let reply = call_at(&gate, over, PATH, key, &wish);
            assert_eq!(reply.status, 200, "{wish}: {reply:?}");
            reply.json()
        };
        let made = ask(&alice, create(&json!({ "expires_in_s": 3600, "note": "for ci" })));
        let (id, secret) = (text(&made, "id"), text(&made, "secret"));
        assert_eq!(made["expires"], "2026-11-23T13:00:00Z");
        assert_eq!(gate.get("/v1/things", &secret).status, 200);
        assert_eq!(gate.put("POST", "/v1/things", &secret, "{}").status, 403, "no such scope");

        let listed = ask(&alice, json!({ "do": "list" }));
        let listed = listed.as_array().unwrap();
        let ids: HashSet<&str> = listed.iter().map(|key| key["id"].as_str().unwrap()).collect();
        assert_eq!(ids, HashSet::from([&*id, id_of(&alice)]));
        let shown = ask(&alice, json!({ "do": "show", "id": id }));
        assert_eq!(
            (&shown["made_by"], &shown["note"], &shown["usage"]["total"]),
            (&json!(id_of(&alice)), &json!("for ci"), &json!(2))
        );
        for told in [json!(listed), shown] {
            assert!(!told.to_string().contains(&secret[16..]), "the secret is shown once: {told}");
        }

        let rotated = ask(&alice, json!({ "do": "rotate", "id": id, "overlap_s": 60 }));
        assert_eq!(rotated["replaces"], *id);
        let successor = text(&rotated, "secret");
        assert_eq!(gate.get("/v1/things", &secret).status, 200, "the overlap");
        gate.hand.advance(Duration::from_secs(60));
        assert_eq!(gate.get("/v1/things", &secret).status, 401);
        assert_eq!(gate.get("/v1/things", &successor).status, 200);

        let revoked = ask(&alice, json!({ "do": "revoke", "id": rotated["id"] }));
        assert_eq!(revoked, json!({ "revoked": rotated["id"] }));
        assert_eq!(gate.get("/v1/things", &successor).status, 401);
        assert_eq!(gate.get("/v1/things", &alice).status, 200);
    }
}

#[test]
fn no_key_is_made_that_gives_more_than_the_one_that_is_shown() {
    let gate = gate();
    let alice = gate.key(
        r#""name":"a","subject":"alice","roles":["admin"],"scopes":["things:read"],"tier":"free","networks":["127.0.0.0/8"],"expires_in_s":86400"#,
    );
    for (case, wish) in [
        ("scope", create(&json!({ "scopes": ["things:read", "things:write"] }))),
        ("unknown scope", create(&json!({ "scopes": ["anything"] }))),
        ("role", create(&json!({ "roles": ["root"] }))),
        ("tier", create(&json!({ "tier": "pro" }))),
        ("wider network", create(&json!({ "networks": ["0.0.0.0/0"] }))),
        ("other network", create(&json!({ "networks": ["127.0.0.1/32", "10.0.0.0/8"] }))),
        ("later end", create(&json!({ "expires_in_s": 86_401 }))),
        ("environment", create(&json!({ "environment": "prod" }))),
        ("owner", create(&json!({ "subject": "bob" }))),
    ] {
        let reply = call(&gate, &alice, &wish);
        assert_eq!((reply.status, &*reply.reason()), (403, "key-beyond"), "{case}: {reply:?}");
        assert_eq!(reason_of(&gate, &reply), "key-beyond", "{case}");
    }
    assert_eq!(done(&gate, &alice, &json!({ "do": "list" })).as_array().unwrap().len(), 1);

    // What is not said is as with the key that is shown, but for scopes and roles.
    let made = done(&gate, &alice, &json!({ "do": "create", "template": { "name": "same" } }));
    let shown = done(&gate, &alice, &json!({ "do": "show", "id": made["id"] }));
    assert_eq!((&shown["scopes"], &shown["roles"]), (&json!([]), &json!([])));
    assert_eq!((&shown["tier"], &shown["networks"]), (&json!("free"), &json!(["127.0.0.0/8"])));
    assert_eq!(
        (&shown["expires"], &shown["subject"]),
        (&json!("2026-11-24T12:00:00Z"), &json!("alice"))
    );
    // Less is fine: a role that the own one includes, a part of the network.
    let less = json!({ "roles": ["member"], "networks": ["127.0.0.1/32"], "expires_in_s": 60 });
    done(&gate, &alice, &create(&less));
}

#[test]
fn a_rotation_hands_nothing_to_a_key_that_has_less() {
    let gate = gate();
    let rich = gate.key(ALICE);
    let poor =
        gate.key(r#""name":"p","subject":"alice","scopes":["things:read"],"expires_in_s":3600"#);
    let reply = call(&gate, &poor, &json!({ "do": "rotate", "id": id_of(&rich), "overlap_s": 0 }));
    assert_eq!((reply.status, &*reply.reason()), (403, "key-beyond"), "{reply:?}");
    assert_eq!(gate.get("/v1/things", &rich).status, 200);
    // Nor more time than is left.
    gate.hand.advance(Duration::from_secs(600));
    let rotated =
        done(&gate, &poor, &json!({ "do": "rotate", "id": id_of(&poor), "overlap_s": 60 }));
    assert_eq!(rotated["expires"], "2026-11-23T13:00:00Z");
}

#[test]
fn the_key_of_somebody_else_is_not_there() {
    let gate = gate();
    let alice = gate.key(ALICE);
    let bob = gate.key(r#""name":"b","subject":"bob","scopes":["things:read"]"#);
    let trap = gate.key(r#""name":"t","subject":"alice","canary":true"#);
    for id in [id_of(&bob), id_of(&trap), "AAAAAAAA"] {
        for wish in [
            json!({ "do": "show", "id": id }),
            json!({ "do": "rotate", "id": id, "overlap_s": 60 }),
            json!({ "do": "revoke", "id": id }),
        ] {
            let reply = call(&gate, &alice, &wish);
            assert_eq!((reply.status, &*reply.reason()), (404, "key-unknown"), "{wish}: {reply:?}");
            assert_eq!(
                reply.body,
                call(&gate, &alice, &json!({ "do": "show", "id": "BBBBBBBB" })).body
            );
        }
    }
    let listed = done(&gate, &alice, &json!({ "do": "list" }));
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert!(!listed.to_string().contains("canary"), "a thief must not learn which keys are traps");
    let others = call(&gate, &alice, &json!({ "do": "list", "owner": "bob" }));
    assert_eq!((others.status, &*others.reason()), (403, "key-caller-refused"));
    assert_eq!(gate.get("/v1/things", &bob).status, 200);
}

#[test]
fn what_only_operators_may_do_stays_with_them() {
    let gate = gate();
    let alice = gate.key(ALICE);
    for wish in [
        json!({ "do": "suspend", "id": id_of(&alice) }),
        json!({ "do": "resume", "owner": "alice" }),
        json!({ "do": "revoke", "owner": "alice" }),
        json!({ "do": "rotate", "owner": "alice", "overlap_s": 60 }),
        json!({ "do": "import", "template": { "name": "a" }, "keys": ["an-old-key-0123456789"] }),
        json!({ "do": "identify", "keys": [alice] }),
        create(&json!({ "canary": true })),
        json!({ "do": "create", "template": { "name": "a" }, "signing": true }),
    ] {
        let reply = call(&gate, &alice, &wish);
        assert_eq!(
            (reply.status, &*reply.reason()),
            (403, "key-caller-refused"),
            "{wish}: {reply:?}"
        );
    }
}

#[test]
fn keys_that_end_or_are_made_by_owners_make_no_keys() {
    let gate = gate();
    let alice = gate.key(ALICE);
    let made = text(&done(&gate, &alice, &create(&json!({}))), "secret");
    for wish in [
        create(&json!({})),
        json!({ "do": "list" }),
        json!({ "do": "revoke", "id": id_of(&alice) }),
    ] {
        let reply = call(&gate, &made, &wish);
        assert_eq!(
            (reply.status, &*reply.reason()),
            (403, "key-caller-refused"),
            "{wish}: {reply:?}"
        );
    }
    // Where the policy says so, they may.
    let heir = call_at(&gate, Over::Http1, "/v1/heirs", &made, &create(&json!({})));
    assert_eq!(heir.status, 200, "{heir:?}");
    let shown = done(&gate, &alice, &json!({ "do": "show", "id": heir.json()["id"] }));
    assert_eq!(shown["made_by"], id_of(&made));

    let successor =
        done(&gate, &alice, &json!({ "do": "rotate", "id": id_of(&alice), "overlap_s": 3600 }));
    for wish in [create(&json!({})), json!({ "do": "rotate", "id": id_of(&made), "overlap_s": 0 })]
    {
        let reply = call(&gate, &alice, &wish);
        assert_eq!(
            (reply.status, &*reply.reason()),
            (403, "key-caller-refused"),
            "{wish}: {reply:?}"
        );
    }
    let successor = text(&successor, "secret");
    done(&gate, &successor, &json!({ "do": "revoke", "id": id_of(&alice) }));
    gate.keys(&json!({ "do": "suspend", "id": id_of(&successor) }).to_string());
    assert_eq!(call(&gate, &successor, &create(&json!({}))).status, 401);
}

#[test]
fn nobody_has_more_keys_than_the_policy_says_nor_makes_and_ends_them_without_end() {
    let gate = gate();
    let alice = gate.key(ALICE);
    let made: Vec<Value> = (0..3).map(|_| done(&gate, &alice, &create(&json!({})))).collect();
    let full = |wish: &Value| {
        let reply = call(&gate, &alice, wish);
        assert_eq!((reply.status, &*reply.reason()), (409, "keys-too-many"), "{reply:?}");
    };
    full(&create(&json!({})));
    // Who has as many as they may can still rotate them.
    let mut id = text(&made[2], "id");
    for _ in 0..6 {
        id = text(
            &done(&gate, &alice, &json!({ "do": "rotate", "id": id, "overlap_s": 3600 })),
            "id",
        );
    }
    full(&json!({ "do": "rotate", "id": id, "overlap_s": 3600 }));
    gate.hand.advance(Duration::from_secs(3600));
    full(&create(&json!({})));
    let mut made = 10;
    done(&gate, &alice, &json!({ "do": "revoke", "id": id }));
    while made < 100 {
        let id = text(&done(&gate, &alice, &create(&json!({}))), "id");
        done(&gate, &alice, &json!({ "do": "revoke", "id": id }));
        made += 1;
    }
    full(&create(&json!({})));
    let counted = "portcullis_decisions_total{decision=\"refuse\",mode=\"enforce\",reason=\"keys-too-many\",route=\"my-keys\",stage=\"forward\"}";
    wait_until("all four are counted", || gate.metric(counted) >= 4.0);
}

#[test]
fn a_call_that_is_misspelt_twice_said_or_too_large_is_not_guessed_at() {
    let gate = gate();
    let alice = gate.key(ALICE);
    for (body, status) in [
        (r#"{"do":"create","template":{"name":"a","role":["admin"]}}"#.to_owned(), 422),
        (r#"{"do":"revoke","id":"AAAAAAAA","yes":true}"#.to_owned(), 422),
        (r#"{"do":"revoke","id":"nope"}"#.to_owned(), 422),
        (r#"{"do":"create","template":{"name":"a","expires_in_s":0}}"#.to_owned(), 422),
        (r#"{"do":"create","do":"list","template":{"name":"a"}}"#.to_owned(), 400),
        ("{".to_owned(), 400),
        (String::new(), 400),
        (format!(r#"{{"do":"create","template":{{"name":"{}"}}}}"#, "a".repeat(9000)), 413),
    ] {
        let reply = gate.put("POST", PATH, &alice, &body);
        assert_eq!(reply.status, status, "{body:.80}: {reply:?}");
    }
    assert_eq!(gate.get(PATH, &alice).status, 405);
    assert_eq!(done(&gate, &alice, &json!({ "do": "list" })).as_array().unwrap().len(), 1);
}

#[test]
fn it_is_not_there_unless_the_policy_opens_it() {
    let gate = Gate::new(Service::ok().address, POLICY);
    let alice = gate.key(ALICE);
    assert_eq!(call(&gate, &alice, &json!({ "do": "list" })).status, 404);
}

#[test]
fn what_owners_do_stands_in_the_record_and_never_a_secret() {
    let gate = gate();
    let alice = gate.key(ALICE);
    let reply = call(&gate, &alice, &create(&json!({})));
    let secret = text(&reply.json(), "secret");
    let record = record(&gate, reply.header("x-request-id").unwrap());
    assert_eq!(
        (&record["route"], &record["decision"]),
        (&json!("my-keys"), &json!("allow")),
        "{record}"
    );
    assert!(!record.to_string().contains(&secret[16..]));
    assert!(
        gate.metric("portcullis_requests_total{code=\"200\",origin=\"gateway\",route=\"my-keys\"}")
            >= 1.0
    );
}

#[test]
fn tokens_make_keys_only_where_the_policy_says_so_and_a_second_factor_can_be_asked_for() {
    let bed = Bed::new();
    let ask = |path: &str, token: &str| {
        let wish =
            json!({ "do": "create", "template": { "name": "a", "scopes": ["things:read"] } });
        bed.gate.put("POST", path, token, &wish.to_string())
    };
    let token = bed.token();
    let refused = ask("/v1/keys-of-keys", &token);
    assert_eq!((refused.status, &*refused.reason()), (403, "key-caller-refused"), "{refused:?}");
    let made = ask("/v1/keys-of-all", &token);
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(made.json()["expires"], "2026-11-24T12:00:00Z", "as the policy says, not the token");
    let key = text(&made.json(), "secret");
    assert_eq!(bed.gate.get("/v1/things", &key).status, 200);
    let stepped_up = ask("/v1/keys-stepped-up", &token);
    assert_eq!(stepped_up.status, 200, "{stepped_up:?}");
    // A bare key never opens a door that asks for a second factor.
    let challenged = ask("/v1/keys-stepped-up", &key);
    assert_eq!(challenged.status, 401);
    let challenge = challenged.header("www-authenticate").unwrap();
    assert!(challenge.contains("insufficient_user_authentication"), "{challenge}");
}

#[test]
fn a_kill_amid_self_service_loses_no_key_that_was_handed_over() {
    let policy = format!("{POLICY}{}", SELF_SERVICE.replace("keys_max = 4", "keys_max = 1000"));
    let dir = directory(Service::ok().address, &policy, "");
    let (code, owner, talk) = portcullis(
        dir.path(),
        &["keys", "create", "--name", "o", "--sub", "alice", "--scope", "things:read"],
    );
    assert_eq!(code, Some(0), "{talk}");
    let owner = owner.trim().to_owned();
    let request = |body: &str| {
        format!(
            "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {owner}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut handed_over: Vec<String> = Vec::new();
    for round in 0..3_u64 {
        let process = Process::start(dir.path());
        let address = process.address("http");
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let wish = request(&create(&json!({})).to_string());
        let maker = std::thread::spawn(move || {
            let (mut stream, mut made) = (connect(address), Vec::new());
            while stream.write_all(wish.as_bytes()).is_ok() {
                let Some(reply) = Reply::read(&mut stream, false) else { break };
                if reply.status != 200 {
                    break;
                }
                made.push(text(&reply.json(), "secret"));
                counted.fetch_add(1, Ordering::SeqCst);
            }
            made
        });
        assert!(eventually(|| count.load(Ordering::SeqCst) >= 5), "{}", process.said());
        std::thread::sleep(Duration::from_millis(7 * round));
        process.signal("KILL");
        handed_over.extend(maker.join().unwrap());
    }
    let process = Process::start(dir.path());
    let mut stream = connect(process.address("http"));
    for key in &handed_over {
        let get = format!(
            "GET /v1/things HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
        );
        stream.write_all(get.as_bytes()).unwrap();
        let reply = Reply::read(&mut stream, false).unwrap();
        assert_eq!(reply.status, 200, "one of {} keys is lost", handed_over.len());
    }
}
