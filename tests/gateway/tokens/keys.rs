//! The keys of issuers: fetched over real TLS behind requests, rotated, stalled, guarded.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use super::issuer::{Issuer, Signer};
use super::{Bed, POLICY, bearer, claims};
use crate::harness::{Gate, Plan, Service};
use crate::operations;
use crate::refusals::reason_of;

/// What the server of keys does.
#[derive(Clone)]
enum Says {
    Keys(String),
    Stalls,
    Moves,
}

/// A server of keys, over TLS.
struct Server {
    port: u16,
    ca: String,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn new(says: Says) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(parameters, key).unwrap();
        let own = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&own, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::try_from(own.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::<AtomicUsize>::default());
        let server = Self { port, ca: authority.pem(), says, asked };
        let (says, asked) = (Arc::clone(&server.says), Arc::clone(&server.asked));
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let (says, asked) = (Arc::clone(&says), Arc::clone(&asked));
                std::thread::spawn(move || {
                    serve(StreamOwned::new(connection, stream), &says, &asked)
                });
            }
        });
        server
    }

    /// A gate whose issuer's keys are here, with more lines of its rule.
    fn gate(&self, issuer: &Issuer, lines: &str) -> Gate {
        let own = format!(
            "keys = \"https://localhost:{}/keys\"\nroots = \"file:ca.pem\"\n{lines}",
            self.port
        );
        let policy =
            POLICY.replace("keys        = \"file:keys.json\"", &own).replace("ISSUER", "9");
        Plan::new(Service::ok().address, &policy)
            .file("ca.pem", &self.ca)
            .file("keys.json", &issuer.key_set().to_string())
            .secret("shared.secret", super::SECRET)
            .start()
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

fn serve(mut stream: impl Read + Write, says: &Mutex<Says>, asked: &AtomicUsize) {
    let mut bytes = [0; 4096];
    let Ok(1..) = stream.read(&mut bytes) else { return };
    asked.fetch_add(1, Ordering::SeqCst);
    let says = says.lock().unwrap().clone();
    let answer = match says {
        Says::Keys(keys) => {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{keys}",
                keys.len()
            )
        }
        Says::Stalls => {
            std::thread::sleep(Duration::from_secs(20));
            return;
        }
        Says::Moves => {
            "HTTP/1.1 302 Found\r\nLocation: https://localhost/\r\nContent-Length: 0\r\n\r\n"
                .to_owned()
        }
    };
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
}

/// Waits until it is so.
fn eventually(what: &str, so: impl FnMut() -> bool) {
    assert!(operations::eventually(so), "{what}");
}

const REACHABLE: &str = "reachable = [\"127.0.0.0/8\", \"::1/128\"]";

fn ask(gate: &Gate, token: &str) -> u16 {
    gate.get("/v1/token", token).status
}

fn fetches(gate: &Gate, result: &str) -> f64 {
    gate.metric(&format!(
        "portcullis_token_keys_fetches_total{{result=\"{result}\",scheme=\"jwt.main\"}}"
    ))
}

#[test]
fn keys_are_fetched_over_tls_and_new_ones_when_a_token_names_one() {
    let mut issuer = Issuer::new();
    let server = Server::new(Says::Keys(issuer.key_set().to_string()));
    let gate = server.gate(&issuer, REACHABLE);
    let token = issuer.mint(&issuer.es, json!({}), claims());
    eventually("the first keys", || ask(&gate, &token) == 200);
    assert_eq!(gate.metric("portcullis_token_keys{scheme=\"jwt.main\"}"), 2.0);
    // The issuer withdraws a key and signs with a new one.
    issuer.es = Signer::ecdsa("es-2");
    server.says(Says::Keys(issuer.key_set().to_string()));
    let rotated = issuer.mint(&issuer.es, json!({}), claims());
    let before = server.asked.load(Ordering::SeqCst);
    assert_eq!(ask(&gate, &rotated), 401);
    // A flood of unknown names is one fetch, and not at once.
    for number in 0..50 {
        assert_eq!(
            ask(&gate, &issuer.mint(&issuer.es, json!({"kid": number.to_string()}), claims())),
            401
        );
    }
    assert!(server.asked.load(Ordering::SeqCst) <= before + 1);
    eventually("the new key", || ask(&gate, &rotated) == 200);
    assert!(server.asked.load(Ordering::SeqCst) <= before + 2);
    // The cache does not outlive the key that was withdrawn.
    assert_eq!(ask(&gate, &token), 401);
}

#[test]
fn an_issuer_that_stalls_moves_or_is_broken_costs_no_request_anything() {
    let issuer = Issuer::new();
    let token = issuer.mint(&issuer.es, json!({}), claims());
    for says in [
        Says::Stalls,
        Says::Moves,
        Says::Keys("{\"keys\":[]}".into()),
        Says::Keys("x".repeat(300_000)),
    ] {
        let stalls = matches!(says, Says::Stalls);
        let server = Server::new(says);
        let gate = server.gate(&issuer, REACHABLE);
        eventually("a fetch", || server.asked.load(Ordering::SeqCst) > 0);
        let begun = Instant::now();
        let reply = gate.get("/v1/token", &token);
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(
            (reply.status, reason_of(&gate, &reply)),
            (503, "token-keys-missing".to_owned())
        );
        assert_eq!(reply.header("retry-after"), Some("5"));
        if !stalls {
            eventually("its failure", || fetches(&gate, "failed") > 0.0);
        }
        // Keys need no token, and nothing else suffers.
        assert_eq!(gate.get("/v1/key", &gate.key(r#""name":"k","subject":"a""#)).status, 200);
        server.says(Says::Keys(issuer.key_set().to_string()));
        eventually("its recovery", || ask(&gate, &token) == 200);
    }
}

#[test]
fn keys_that_cannot_be_fetched_again_are_used_until_they_are_too_old() {
    let issuer = Issuer::new();
    let server = Server::new(Says::Keys(issuer.key_set().to_string()));
    let gate = server.gate(
        &issuer,
        &format!("{REACHABLE}\nrefresh = \"1h\"\nstale = \"2h\"\nmax_lifetime = \"24h\""),
    );
    let long = super::merged(claims(), json!({"exp": super::NOW_S + 20_000}));
    let token = issuer.mint(&issuer.es, json!({}), long);
    eventually("the first keys", || ask(&gate, &token) == 200);
    gate.hand.advance(Duration::from_secs(7200));
    assert_eq!(ask(&gate, &token), 200);
    gate.hand.advance(Duration::from_secs(1));
    assert_eq!(ask(&gate, &token), 503);
}

#[test]
fn an_address_inside_is_not_reached_unless_the_policy_says_so() {
    let issuer = Issuer::new();
    let server = Server::new(Says::Keys(issuer.key_set().to_string()));
    let gate = server.gate(&issuer, "reachable = [\"10.0.0.0/8\"]");
    let token = issuer.mint(&issuer.es, json!({}), claims());
    eventually("a failure", || fetches(&gate, "failed") > 0.0);
    assert_eq!(ask(&gate, &token), 503);
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
}

#[test]
fn an_issuer_whose_certificate_nobody_vouches_for_is_not_believed() {
    let issuer = Issuer::new();
    let server = Server::new(Says::Keys(issuer.key_set().to_string()));
    let other = Server::new(Says::Stalls);
    let impostor = Server {
        ca: other.ca.clone(),
        port: server.port,
        says: Arc::clone(&server.says),
        asked: Arc::clone(&server.asked),
    };
    let gate = impostor.gate(&issuer, REACHABLE);
    eventually("a failure", || fetches(&gate, "failed") > 0.0);
    assert_eq!(ask(&gate, &issuer.mint(&issuer.es, json!({}), claims())), 503);
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
}

#[test]
fn a_file_with_keys_is_read_again_when_it_changes_and_kept_when_it_breaks() {
    let bed = Bed::new();
    let (old, new) = (bed.token(), Issuer::new());
    let path = bed.gate.dir.path().join("policies/keys.json");
    assert_eq!(ask(&bed.gate, &old), 200);
    std::fs::write(&path, "{").unwrap();
    eventually("a failure", || fetches(&bed.gate, "failed") > 0.0);
    assert_eq!(ask(&bed.gate, &old), 200);
    std::fs::write(&path, new.key_set().to_string()).unwrap();
    let token = new.mint(&new.es, json!({}), claims());
    eventually("the new keys", || ask(&bed.gate, &token) == 200);
    assert_eq!(bed.get("/v1/token", &[bearer(&old)]).status, 401);
}
