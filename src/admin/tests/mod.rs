//! Protects the administration as a whole: who is let in, and what each endpoint does.

mod alarms;
mod edges;

use std::net::SocketAddr;
use std::path::Path;

use arc_swap::ArcSwap;
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper::Response;
use serde_json::Value;

use super::*;
use crate::authenticate::nonce::Nonces;
use crate::clock::{Clock, Hand};
use crate::config::{Config, FirstRun};
use crate::head::bans::Bans;
use crate::listen::room::Room;
use crate::mistake::Mistakes;
use crate::policy::compile::{Ground, compile};
use crate::policy::files::Files;
use crate::record::Record;
use crate::record::log::{Log, LogPlan};
use crate::record::metrics::{Build, Metrics};
use crate::units::Size;

const TOKEN: &str = "kX9TqLm2VwYd8RzB1nHs6JcP0aGfE4uK";
const POLICY: &str = r#"version = 1
name = "test"
[address]
burst = 100
refill = "100/s"
[defaults]
auth = { any = ["api-key"] }
body = "none"
[routes.list]
summary = "List things"
match = "GET /v1/things"
upstream = "service"
auth = "none"
"#;
const GATEWAY: &str = r#"version = 1
[[listener]]
bind = ["127.0.0.1:0"]
tls = {}
[upstreams.service]
targets = ["http://127.0.0.1:9"]
health = { every = "100ms", down_after = 1 }
[admin]
bind = "127.0.0.1:0"
"#;

struct Bench {
    admin: Admin,
    drain: Drain,
    hand: Hand,
    dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "gateway.toml", GATEWAY);
    write(dir.path(), "policies/policy.toml", POLICY);
    let (clock, hand) = Clock::set_at(1_795_435_200_000);
    let mut mistakes = Mistakes::default();
    let path = dir.path().join("gateway.toml");
    let config = Config::read(&path, FirstRun::Make, clock.now(), &mut mistakes);
    let config = config.unwrap_or_else(|| panic!("{}", shown(&mistakes)));
    let store = Arc::new(Store::in_memory().unwrap());
    let pepper = Secret::random(32).unwrap();
    let directory = Arc::new(Directory::open(Arc::clone(&store), &pepper, "live").unwrap());
    let build = Build { version: "1.2.3", revision: "abc", rustc: "1.95" };
    let log = Log::start(LogPlan::none()).unwrap();
    let record = Record::new(Metrics::new(build).unwrap(), log, clock.clone());
    let buckets = Arc::new(Buckets::new(1000));
    let ground = Ground {
        upstreams: Arc::clone(&config.upstreams),
        directory: Arc::clone(&directory),
        nonces: Arc::new(Nonces::new(100, clock.now())),
        outside: crate::authenticate::outside::Outside::new(Arc::new(|_| Err(String::new()))),
        buckets: Arc::clone(&buckets),
        record: Arc::clone(&record),
        clock: clock.clone(),
    };
    let files = Files::read(&config.policy_dir, &mut mistakes);
    let policy = compile(&files, &ground, &mut mistakes);
    let policy = policy.unwrap_or_else(|| panic!("{}", shown(&mistakes)));
    let policy = Arc::new(ArcSwap::from_pointee(policy));
    let reloader = Reloader::new(config.policy_dir.clone(), ground, Arc::clone(&policy), None);
    let listeners = config.listeners.iter();
    let drain = Drain::default();
    let admin = Admin::new(Parts {
        shared: Arc::new(Shared {
            clock: clock.clone(),
            policy,
            record,
            bans: Arc::new(Bans::default()),
            room: Room::new(Size(1 << 20)),
        }),
        directory,
        store,
        master: MasterKey::of(&config),
        sessions: Arc::default(),
        buckets,
        reloader,
        watch: true,
        upstreams: Arc::clone(&config.upstreams),
        issuer: Arc::clone(&config.issuer),
        listeners: listeners.map(|one| listen::Shared::new(one.clone(), &clock)).collect(),
        token: Some(Secret::new(TOKEN.as_bytes().to_vec())),
        drain: drain.clone(),
        expire_after: Duration::from_secs(90 * 86_400),
    });
    Bench { admin, drain, hand, dir }
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn shown(mistakes: &Mistakes) -> String {
    mistakes.iter().map(|mistake| mistake.render(false)).collect()
}

/// A request from this machine, with these ends of the connection and this token.
struct Asked {
    method: Method,
    path: &'static str,
    body: String,
    ends: Option<(&'static str, &'static str)>,
    token: Option<&'static str>,
}

fn get(path: &'static str) -> Asked {
    let ends = Some(("127.0.0.1:50000", "127.0.0.1:9901"));
    Asked { method: Method::GET, path, body: String::new(), ends, token: Some(TOKEN) }
}

fn post(path: &'static str, body: &Value) -> Asked {
    Asked { method: Method::POST, body: body.to_string(), ..get(path) }
}

impl Bench {
    fn answer(&self, asked: Asked) -> (StatusCode, String) {
        let mut request =
            Request::builder().method(asked.method).uri(asked.path).header("host", "127.0.0.1");
        if let Some(token) = asked.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some((peer, bound)) = asked.ends {
            let end = |text: &str| text.parse::<SocketAddr>().unwrap();
            request = request.extension(Ends { peer: end(peer), bound: end(bound) });
        }
        let request = request.body(Full::new(Bytes::from(asked.body))).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let answer = self.admin.desk().answer(request).await;
            let (head, body) = answer.unwrap_or_else(Failure::answer).into_parts();
            let head: Response<()> = Response::from_parts(head, ());
            assert_eq!(head.headers()["cache-control"], "no-store");
            let body = body.collect().await.unwrap().to_bytes();
            (head.status(), String::from_utf8(body.to_vec()).unwrap())
        })
    }

    fn json(&self, asked: Asked) -> Value {
        let (status, body) = self.answer(asked);
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    fn series(&self, name: &str) -> Option<f64> {
        let (_, text) = self.answer(get("/metrics"));
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

#[test]
fn monitors_on_the_same_machine_need_no_token_and_everybody_else_does() {
    let bench = bench();
    for (path, ends, wanted) in [
        ("/healthz", Some(("127.0.0.1:5", "127.0.0.1:9901")), 200),
        ("/readyz", Some(("[::1]:5", "[::1]:9901")), 200),
        ("/metrics", Some(("127.0.0.1:5", "127.0.0.1:9901")), 200),
        ("/metrics", Some(("127.0.0.1:5", "0.0.0.0:9901")), 401),
        ("/metrics", Some(("192.0.2.1:5", "0.0.0.0:9901")), 401),
        ("/healthz", Some(("192.0.2.1:5", "127.0.0.1:9901")), 401),
        ("/healthz", None, 401),
        ("/v1/status", Some(("127.0.0.1:5", "127.0.0.1:9901")), 401),
        ("/v1/keys", Some(("127.0.0.1:5", "127.0.0.1:9901")), 401),
        ("/nothing", Some(("127.0.0.1:5", "127.0.0.1:9901")), 401),
    ] {
        for token in [None, Some("wrong")] {
            let (status, body) = bench.answer(Asked { ends, token, ..get(path) });
            assert_eq!(status.as_u16(), wanted, "{path} {ends:?} {body}");
        }
    }
    assert_eq!(bench.answer(get("/nothing")).0, StatusCode::NOT_FOUND);
    let far = Some(("192.0.2.1:5", "0.0.0.0:9901"));
    assert_eq!(bench.answer(Asked { ends: far, ..get("/metrics") }).0, StatusCode::OK);
}

#[test]
fn every_endpoint_but_the_open_ones_asks_for_the_token() {
    let bench = bench();
    for (method, path) in [
        (Method::GET, "/v1/status"),
        (Method::POST, "/v1/reload"),
        (Method::POST, "/v1/keys"),
        (Method::GET, "/v1/bans"),
        (Method::POST, "/v1/bans"),
        (Method::POST, "/v1/bans/remove"),
        (Method::GET, "/v1/decisions/last-refused"),
        (Method::GET, "/v1/decisions/abc"),
    ] {
        let (status, body) = bench.answer(Asked { method, token: None, ..get(path) });
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        let wanted =
            json!({ "error": { "code": "unauthorized", "message": "Invalid or missing API key" } });
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), wanted, "{path}");
    }
}

#[test]
fn a_gateway_that_stops_is_alive_but_not_ready() {
    let bench = bench();
    assert_eq!(bench.json(get("/readyz")), json!({ "status": "ready" }));
    bench.drain.begin();
    let (status, body) = bench.answer(get("/readyz"));
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["error"]["details"]["missing"], json!(["the gateway is stopping"]));
    assert_eq!(bench.json(get("/healthz")), json!({ "status": "alive" }));
}

#[test]
fn an_upstream_without_a_healthy_target_is_missed() {
    let bench = bench();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let upstreams = Arc::clone(&bench.admin.desk().parts.upstreams);
    runtime.block_on(async {
        let down = async {
            while bench.admin.desk().ready().is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let down = tokio::time::timeout(Duration::from_secs(30), down);
        crate::forward::health::watch(upstreams, async { down.await.unwrap() }).await;
    });
    let (status, body) = bench.answer(get("/readyz"));
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("upstream `service` has no healthy target"), "{body}");
    let healthy =
        "portcullis_upstream_target_healthy{target=\"http://127.0.0.1:9\",upstream=\"service\"}";
    assert_eq!(bench.series(healthy), Some(0.0));
}

#[test]
fn a_reload_is_told_to_the_caller_the_status_and_the_metrics() {
    let bench = bench();
    let reload = || bench.json(post("/v1/reload", &Value::Null));
    let status = || bench.json(get("/v1/status"));
    let before = status();
    let hash = before["policy"]["hash"].clone();
    assert_eq!(before["policy"]["last_reload"]["result"], "started");
    assert_eq!(before["policy"]["routes"], 1);
    assert_eq!(reload(), json!({ "result": "unchanged", "hash": hash }));

    bench.hand.advance(Duration::from_secs(60));
    write(bench.dir.path(), "policies/policy.toml", "version = 1\nnonsense = true\n");
    let refused = reload();
    assert_eq!((&refused["result"], &refused["hash"]), (&json!("refused"), &hash));
    assert!(refused["says"].as_str().unwrap().contains("nonsense"), "{refused}");
    assert_eq!(bench.series("portcullis_policy_last_reload_successful"), Some(0.0));

    bench.hand.advance(Duration::from_secs(60));
    let other = POLICY.replace("List things", "List all things");
    write(bench.dir.path(), "policies/policy.toml", &other);
    let applied = reload();
    assert_eq!(applied["result"], "applied");
    assert_ne!(applied["hash"], hash);
    assert_eq!(status()["policy"]["hash"], applied["hash"]);
    assert_eq!(status()["policy"]["in_force_since"], "2026-11-23T12:02:00Z");
    assert_eq!(status()["uptime"], "2m 0s");
    for (series, wanted) in [
        ("portcullis_policy_last_reload_successful".to_owned(), Some(1.0)),
        (
            "portcullis_policy_last_reload_success_timestamp_seconds".to_owned(),
            Some(1_795_435_320.0),
        ),
        ("portcullis_policy_reloads_total{result=\"applied\"}".to_owned(), Some(1.0)),
        ("portcullis_policy_reloads_total{result=\"refused\"}".to_owned(), Some(1.0)),
        ("portcullis_policy_reloads_total{result=\"unchanged\"}".to_owned(), Some(1.0)),
        (policy_info(&applied["hash"]), Some(1.0)),
        (policy_info(&hash), None),
    ] {
        assert_eq!(bench.series(&series), wanted, "{series}");
    }
}

fn policy_info(hash: &Value) -> String {
    format!("portcullis_policy_info{{hash={hash},name=\"test\"}}")
}

#[test]
fn changed_files_are_taken_by_housekeeping_and_gone_routes_forgotten_after_an_hour() {
    let bench = bench();
    let desk = bench.admin.desk();
    let has_series = |route: &str| {
        let wanted = format!("route=\"{route}\"");
        bench.answer(get("/metrics")).1.contains(&wanted)
    };
    assert!(has_series("list"));
    let other = POLICY.replace("[routes.list]", "[routes.renamed]");
    write(bench.dir.path(), "policies/policy.toml", &other);
    // Two looks must see the same, so that no half-written file is taken.
    desk.keep_house(1);
    desk.keep_house(2);
    assert_eq!(bench.json(get("/v1/status"))["policy"]["last_reload"]["result"], "applied");
    desk.keep_house(60);
    bench.hand.advance(Duration::from_secs(3599));
    desk.keep_house(120);
    assert!(has_series("list") && has_series("renamed"));
    bench.hand.advance(Duration::from_secs(1));
    desk.keep_house(180);
    assert!(!has_series("list") && has_series("renamed"));
}

#[test]
fn keys_are_made_and_counted_over_the_listener() {
    let bench = bench();
    let template = json!({ "name": "ci", "subject": "u-7" });
    let made = bench.json(post("/v1/keys", &json!({ "do": "create", "template": template })));
    assert!(made["secret"].as_str().unwrap().starts_with("pcl_live_"));
    assert_eq!(made["expires"], "2027-02-21T12:00:00Z");
    let (_, list) = bench.answer(post("/v1/keys", &json!({ "do": "list" })));
    assert!(!list.contains(made["secret"].as_str().unwrap()));
    assert_eq!(bench.json(get("/v1/status"))["keys"]["active"], 1);
    assert_eq!(bench.series("portcullis_keys{state=\"active\"}"), Some(1.0));
    let ends = bench.series("portcullis_key_next_expiry_timestamp_seconds");
    assert_eq!(ends, Some(1_795_435_200.0 + 90.0 * 86_400.0));

    bench.json(post("/v1/keys", &json!({ "do": "revoke", "id": made["id"] })));
    assert_eq!(bench.series("portcullis_keys{state=\"revoked\"}"), Some(1.0));
    assert_eq!(bench.series("portcullis_key_next_expiry_timestamp_seconds"), None);
}
