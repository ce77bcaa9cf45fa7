//! Protects what is done when a key was used as it must not be.

use super::*;
use crate::listen::Peer;
use crate::refusal::{Reason, Refusal};

/// A connection from this address.
fn from(address: &str) -> Peer {
    let address = SocketAddr::new(address.parse().unwrap(), 40_000);
    Peer {
        address,
        local: address,
        listener: "public".into(),
        tls: None,
        trusted: Arc::new([]),
        redirect_port: None,
        parties: Default::default(),
    }
}

#[test]
fn a_canary_bans_its_user_once_and_never_shortens_a_ban() {
    let bench = bench();
    let desk = bench.admin.desk();
    let template = json!({ "name": "trap", "subject": "nobody", "canary": true });
    let made = bench.json(post("/v1/keys", &json!({ "do": "create", "template": template })));
    let use_it = |times: usize| {
        for _ in 0..times {
            let refusal = Refusal::new(Reason::CredentialInQuery);
            let refusal = refusal.exposing(made["secret"].as_str().unwrap());
            let policy = desk.parts.shared.policy.load();
            policy.keys().found(refusal, &from("2001:db8:1:2::9"), desk.now());
        }
        desk.answer_alarms();
    };
    let bans = || bench.json(get("/v1/bans"));
    use_it(3);
    let why = format!("canary key {} was used", made["id"].as_str().unwrap());
    let ban = |until: &str, why: &str| json!([{ "network": "2001:db8:1:2::/64", "until": until, "why": why }]);
    assert_eq!(bans(), ban("2026-11-24T12:00:00Z", &why));
    assert_eq!(bench.series("portcullis_bans{source=\"canary\"}"), Some(1.0));
    assert_eq!(bench.series("portcullis_key_alarms_total{cause=\"canary\"}"), Some(3.0));

    let longer = json!({ "network": "2001:db8:1:2::/64", "seconds": 30 * 86_400, "why": "known" });
    bench.json(post("/v1/bans", &longer));
    use_it(1);
    assert_eq!(bans(), ban("2026-12-23T12:00:00Z", "known"));
}

#[test]
fn an_exposed_key_is_suspended_only_where_the_policy_says_so() {
    let bench = bench();
    let desk = bench.admin.desk();
    let template = json!({ "name": "ci", "subject": "u-7" });
    let made = bench.json(post("/v1/keys", &json!({ "do": "create", "template": template })));
    let state = || {
        let show = json!({ "do": "show", "id": made["id"] });
        bench.json(post("/v1/keys", &show))["state"].clone()
    };
    let expose = || {
        let refusal = Refusal::new(Reason::CredentialInQuery);
        let refusal = refusal.exposing(made["secret"].as_str().unwrap());
        let policy = desk.parts.shared.policy.load();
        policy.keys().found(refusal, &from("203.0.113.9"), desk.now());
        // As the process does when it stops: what was seen last must not be forgotten.
        bench.admin.settle();
    };
    expose();
    assert_eq!(state(), "active");
    let strict = format!("{POLICY}\n[keys]\nexposed = \"suspend\"\n");
    write(bench.dir.path(), "policies/policy.toml", &strict);
    assert_eq!(bench.json(post("/v1/reload", &json!({})))["result"], "applied");
    expose();
    assert_eq!(state(), "suspended");
}
