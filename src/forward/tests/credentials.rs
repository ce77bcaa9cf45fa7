//! Our own credentials at services behind: who sees them, who cannot change them, and how they renew.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::clock::{Clock, Hand};
use crate::forward::credential::Credential;
use crate::forward::credential::oauth::{self, OAuth};

/// A folder as Kubernetes mounts it, with a secret named `secret` in each version.
fn mounted(versions: &[(&str, &str)]) -> tempfile::TempDir {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    for (version, secret) in versions {
        fs::create_dir(dir.path().join(version)).unwrap();
        let path = dir.path().join(version).join("secret");
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.unwrap().write_all(secret.as_bytes()).unwrap();
    }
    symlink(versions[0].0, dir.path().join("..data")).unwrap();
    symlink("..data/secret", dir.path().join("secret")).unwrap();
    dir
}

fn swap(dir: &tempfile::TempDir, version: &str) {
    symlink(version, dir.path().join("..new")).unwrap();
    fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
}

fn rig(address: SocketAddr, dir: &tempfile::TempDir, credential: &str) -> Rig {
    let text = format!("targets = [\"http://{address}\"]\ncredential = {{ {credential} }}");
    let (upstream, mistakes) = compiled(&text, dir.path());
    Rig::of(upstream.unwrap_or_else(|| panic!("{mistakes:?}")))
}

fn reloads(rig: &Rig) -> Vec<(&'static str, bool)> {
    let mut told = Vec::new();
    rig.upstream.reload_if_changed(|what, done| told.push((what, done.is_ok())));
    told
}

/// A request whose caller tries to bring a credential of its own.
fn claiming(path: &str, query: Option<&str>, names: &[&'static str]) -> Cleared {
    let mut head = head(Method::GET, path, Length::None);
    head.query = query.map(Into::into);
    for name in names {
        head.headers.append(*name, HeaderValue::from_static("mine"));
        head.headers.append(*name, HeaderValue::from_static("mine too"));
    }
    cleared(head, Body::Empty)
}

async fn sent_keeping(rig: &Rig, cleared: Cleared) {
    let kept = SendOptions { keep_credentials: true, ..options() };
    send(&rig.pool, &rig.upstream, cleared, &kept).await.unwrap();
}

#[tokio::test]
async fn a_header_with_our_secret_takes_the_place_of_every_one_of_the_callers() {
    let (address, mut heads) = listening().await;
    let dir = mounted(&[("..1", "one\n"), ("..2", "two\n")]);
    let header =
        "header = { name = \"Authorization\", prefix = \"Bearer \", secret = \"file:secret\" }";
    let rig = rig(address, &dir, header);
    sent_keeping(&rig, claiming("/", None, &["authorization", "x-api-key"])).await;
    let seen = heads.recv().await.unwrap();
    assert_eq!(header_lines(&seen, "authorization"), ["bearer one"]);
    assert_eq!(header_lines(&seen, "x-api-key").len(), 2, "the route kept what is not ours");

    assert_eq!(reloads(&rig), []);
    swap(&dir, "..2");
    assert_eq!(reloads(&rig), [("credential", true)]);
    sent_keeping(&rig, get("/")).await;
    let seen = heads.recv().await.unwrap();
    assert_eq!(header_lines(&seen, "authorization"), ["bearer two"]);
    fs::remove_file(dir.path().join("..data")).unwrap();
    assert_eq!(reloads(&rig), [("credential", false)]);
    sent_keeping(&rig, get("/")).await;
    let seen = heads.recv().await.unwrap();
    assert_eq!(header_lines(&seen, "authorization"), ["bearer two"]);
    assert!(!format!("{:?}", rig.upstream).contains("two"));
}

fn header_lines<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines();
    lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[tokio::test]
async fn a_parameter_with_our_secret_stands_once_and_is_told_to_nobody_else() {
    let (address, mut heads) = listening().await;
    let (other_address, mut other_heads) = listening().await;
    let dir = mounted(&[("..1", "s3cret")]);
    let known = rig(address, &dir, "query = { name = \"api_key\", secret = \"file:secret\" }");
    let other = Rig::new(&[other_address], "");
    for rig in [&known, &other] {
        let caller = claiming("/v1/tasks", Some("limit=5&api_key=mine&API_KEY=x"), &[]);
        rig.fetch(caller).await;
    }
    let seen = heads.recv().await.unwrap();
    assert!(seen.starts_with("get /v1/tasks?limit=5&api_key=s3cret http/1.1\r\n"), "{seen}");
    assert!(!other_heads.recv().await.unwrap().contains("s3cret"));
}

#[tokio::test]
async fn a_signature_covers_what_one_target_is_sent_and_is_made_anew_for_each() {
    let dir = mounted(&[("..1", SECRET)]);
    let (address, mut heads) = listening().await;
    let text = format!(
        "targets = [\"http://{}\", \"http://{address}\"]\nhost = \"target\"\nbalance = \"round-robin\"\n\
         credential.signature = {{ keyid = \"gateway\", secret = \"file:secret\", tag = \"partner\" }}",
        nobody().await
    );
    let (upstream, mistakes) = compiled(&text, dir.path());
    let rig = Rig::of(upstream.unwrap_or_else(|| panic!("{mistakes:?}")));
    let mut nonces = std::collections::HashSet::new();
    for _ in 0..4 {
        let mut head = head(Method::POST, "/v1/tasks", Length::Exactly(2));
        head.query = Some("a=1".into());
        head.headers.insert("signature", HeaderValue::from_static("sig=:AA==:"));
        head.headers.insert("content-digest", HeaderValue::from_static("sha-256=:AA==:"));
        head.headers.insert("content-type", HeaderValue::from_static("application/json"));
        sent_keeping(&rig, cleared(head, Body::Whole(Bytes::from_static(b"{}")))).await;
        let seen = heads.recv().await.unwrap();
        let input = header(&seen, "signature-input").unwrap();
        assert_eq!(header_lines(&seen, "signature").len(), 1);
        assert!(input.starts_with(
            "sig=(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\" \"content-type\");created=1764000000;expires=1764000060;nonce=\""
        ), "{input}");
        assert!(input.contains("keyid=\"gateway\";alg=\"hmac-sha256\";tag=\"partner\""), "{input}");
        assert_eq!(header_lines(&seen, "content-digest").len(), 1);
        assert_ne!(header(&seen, "content-digest").unwrap(), "sha-256=:aa==:");
        assert_eq!(header(&seen, "host").unwrap(), address.to_string());
        nonces.insert(input.split("nonce=\"").nth(1).unwrap()[..24].to_owned());
    }
    assert_eq!(nonces.len(), 4);
}

/// A token endpoint that counts, and answers by what the test sets.
struct Issuing {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    well: Arc<AtomicBool>,
}

async fn issuing(lifetime_s: u64) -> Issuing {
    let (asked, well) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(true)));
    let (seen, good) = (Arc::clone(&asked), Arc::clone(&well));
    let (address, _) = upstream(move |mut stream, _| {
        let (seen, good) = (Arc::clone(&seen), Arc::clone(&good));
        async move {
            let mut request = vec![0; 8192];
            let read = stream.read(&mut request).await.unwrap();
            let number = {
                let mut seen = seen.lock().unwrap();
                seen.push(String::from_utf8_lossy(&request[..read]).into_owned());
                seen.len()
            };
            let (status, body) = match good.load(Ordering::SeqCst) {
                true => ("200 OK", format!(
                    "{{\"access_token\":\"token-{number}\",\"token_type\":\"Bearer\",\"expires_in\":{lifetime_s}}}"
                )),
                false => ("401 Unauthorized", "{\"error\":\"invalid_client\"}".to_owned()),
            };
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    Issuing { url: format!("http://{address}/oauth/token"), asked, well }
}

struct Watched {
    rig: Rig,
    hand: Hand,
    task: tokio::task::JoinHandle<()>,
}

impl Watched {
    fn over(address: SocketAddr, dir: &tempfile::TempDir, url: &str, rest: &str) -> Self {
        let rig = rig(
            address,
            dir,
            &format!(
                "oauth = {{ token_url = \"{url}\", client_id = \"file:id/secret\", client_secret = \"file:secret\"{rest} }}"
            ),
        );
        let (clock, hand) = Clock::set_at(NOW.unix_ms);
        let task =
            tokio::spawn(oauth::watch(Arc::clone(&rig.upstreams), clock, std::future::pending()));
        Self { rig, hand, task }
    }

    fn oauth(&self) -> &OAuth {
        self.rig.upstream.credential().and_then(Credential::oauth).unwrap()
    }

    async fn fetched(&self, times: u64) {
        until(|| self.oauth().fetched.load(Ordering::Relaxed) >= times).await;
    }

    /// Sends at the time that the hand shows.
    async fn send(&self) -> Result<Answer, Refusal> {
        let now = Now { steady_ns: self.passed_ns(), ..NOW };
        send(&self.rig.pool, &self.rig.upstream, get("/"), &SendOptions { now, ..options() }).await
    }

    fn passed_ns(&self) -> u64 {
        PASSED_NS.with(std::cell::Cell::get)
    }

    fn advance(&self, span: Duration) {
        self.hand.advance(span);
        PASSED_NS.with(|passed| passed.set(passed.get() + u64::try_from(span.as_nanos()).unwrap()));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

thread_local! {
    /// What the hand of this test's clock has passed.
    static PASSED_NS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The client's secret in `secret`, and its id in `id/secret`.
fn client() -> tempfile::TempDir {
    let dir = mounted(&[("..1", "s3cret/+"), ("..2", "an0ther"), ("id", "client:1")]);
    assert!(dir.path().join("id/secret").exists());
    dir
}

#[tokio::test]
async fn a_token_is_fetched_once_for_all_and_replaced_before_it_ends() {
    let issuer = issuing(600).await;
    let (address, mut heads) = listening().await;
    let dir = client();
    let watched = Watched::over(address, &dir, &issuer.url, ", scope = \"a b\", audience = \"x\"");
    watched.fetched(1).await;
    for _ in 0..20 {
        watched.send().await.unwrap();
        let seen = heads.recv().await.unwrap();
        assert_eq!(header_lines(&seen, "authorization"), ["bearer token-1"]);
    }
    let asked = issuer.asked.lock().unwrap().clone();
    let basic = STANDARD.encode("client%3A1:s3cret%2F%2B");
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("POST /oauth/token HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked[0].contains(&format!("authorization: Basic {basic}\r\n")), "{asked:?}");
    assert!(asked[0].ends_with("\r\n\r\ngrant_type=client_credentials&scope=a%20b&audience=x"));

    // A minute before its end the next one is fetched.
    watched.advance(Duration::from_secs(541));
    watched.fetched(2).await;
    watched.send().await.unwrap();
    let seen = heads.recv().await.unwrap();
    assert_eq!(header_lines(&seen, "authorization"), ["bearer token-2"]);
}

#[tokio::test]
async fn without_a_token_that_holds_nothing_leaves() {
    let issuer = issuing(600).await;
    issuer.well.store(false, Ordering::SeqCst);
    let (address, accepted) = answering(OK).await;
    let dir = client();
    let watched = Watched::over(address, &dir, &issuer.url, ", auth = \"post\"");
    until(|| watched.oauth().failed.load(Ordering::Relaxed) == 1).await;
    let refusal = watched.send().await.err().unwrap();
    assert_eq!(refusal.reason, Reason::UpstreamCredentialMissing);
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
    let fault = watched.oauth().take_fault().unwrap();
    assert_eq!(fault, "the token endpoint answered 401 (invalid_client)");
    assert_eq!(watched.oauth().take_fault(), None);
    let asked = issuer.asked.lock().unwrap()[0].clone();
    assert!(asked.ends_with("&client_id=client%3A1&client_secret=s3cret%2F%2B"), "{asked}");
    assert!(!asked.contains("authorization"));

    issuer.well.store(true, Ordering::SeqCst);
    watched.fetched(1).await;
    assert!(watched.send().await.is_ok());
    // A token that could not be replaced is not sent after its end.
    issuer.well.store(false, Ordering::SeqCst);
    watched.advance(Duration::from_secs(601));
    let reason = watched.send().await.err().unwrap().reason;
    assert_eq!(reason, Reason::UpstreamCredentialMissing);
}

#[tokio::test]
async fn a_token_that_the_service_refuses_is_replaced_and_so_is_one_of_an_old_secret() {
    let issuer = issuing(6000).await;
    let (address, _) = answering(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await;
    let dir = client();
    let watched = Watched::over(address, &dir, &issuer.url, "");
    watched.fetched(1).await;
    watched.send().await.unwrap();
    watched.advance(Duration::from_secs(11));
    watched.fetched(2).await;
    swap(&dir, "..2");
    assert_eq!(reloads(&watched.rig), [("credential", true)]);
    watched.advance(Duration::from_secs(11));
    watched.fetched(3).await;
    let asked = issuer.asked.lock().unwrap().last().unwrap().clone();
    assert!(asked.contains(&STANDARD.encode("client%3A1:an0ther")), "{asked}");
    // So is one of an old id.
    fs::write(dir.path().join("id/secret"), "client:2").unwrap();
    assert_eq!(reloads(&watched.rig), [("credential", true)]);
    watched.advance(Duration::from_secs(11));
    watched.fetched(4).await;
    let asked = issuer.asked.lock().unwrap().last().unwrap().clone();
    assert!(asked.contains(&STANDARD.encode("client%3A2:an0ther")), "{asked}");
}

#[test]
fn every_mistake_of_a_credential_is_told_without_the_secret() {
    let dir = mounted(&[("..1", "short\u{7f}"), ("open", "x")]);
    for (written, expected) in [
        ("credential = {}", "P0103 `credential` does not name exactly one kind"),
        (
            "credential.header = { name = \"Host\", secret = \"file:secret\" }",
            "P0103 `Host` is no header",
        ),
        ("credential.header = { name = \"X-Forwarded-For\", secret = \"file:secret\" }", "P0103"),
        (
            "credential.header = { name = \"X-Key\", secret = \"file:secret\" }",
            "P0103 what it holds",
        ),
        ("credential.header = { name = \"X-Key\", secret = \"hunter2\" }", "P0303"),
        ("credential.header = { name = \"X-Key\", secret = \"file:nowhere\" }", "P0001"),
        (
            "credential.signature = { keyid = \"a\", secret = \"file:secret\" }",
            "P0103 a secret that signs",
        ),
        ("credential.query = { name = \"\", secret = \"file:secret\" }", "P0103 this is no name"),
        (
            "credential.oauth = { token_url = \"http://10.0.0.1/token\", client_id = \"file:secret\", client_secret = \"file:secret\" }",
            "P0103 the client's secret and the token would go over the network in plaintext",
        ),
        (
            "credential.oauth = { token_url = \"http://127.0.0.1:9901/token\", client_id = \"file:secret\", client_secret = \"file:secret\" }",
            "P0301",
        ),
        (
            "identity = \"env:SECRET\"\ncredential.query = { name = \"key\", secret = \"file:open/secret\" }",
            "P0103 the identity would cover a query that holds a secret",
        ),
        ("identity = { jwt = { lifetime = \"2m\" } }", "P0103 `lifetime` is out of its range"),
        ("identity = { jwt = {}, secret = \"env:SECRET\" }", "P0103 `identity` names neither"),
        ("identity = { secret = \"env:SECRET\", version = 3 }", "P0103 there is no such version"),
    ] {
        let text = format!("targets = [\"http://127.0.0.1:9000\"]\n{written}");
        let (upstream, mistakes) = compiled(&text, dir.path());
        assert!(upstream.is_none(), "{written}");
        let told = mistakes.join("\n");
        assert!(told.contains(expected), "{written}:\n{told}");
        assert!(!told.contains("hunter2") && !told.contains("short"), "{told}");
    }
}
