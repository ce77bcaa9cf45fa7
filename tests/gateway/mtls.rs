//! Client certificates as callers, attackers and operators meet them: made by openssl, shown by curl,
//! openssl and rustls, over real sockets, HTTP/1.1 and HTTP/2.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, StreamOwned,
};

use crate::harness::{Gate, POLICY, Plan, Reply, Service, Tls, connect};
use crate::operations::eventually;
use crate::refusals::record;
use crate::revocation::{AT_ONCE, endless_service, told_cut, until_cut};

/// Authorities, certificates and lists; made once.
pub fn pki() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/pki.sh");
        let output = Command::new("bash").arg(script).arg(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        dir
    });
    made.path()
}

fn file(name: &str) -> PathBuf {
    pki().join(name)
}

/// The usual policy, with routes that ask for certificates.
fn policy() -> String {
    format!(
        r#"{POLICY}
[certificates.services]
identities = [
  {{ name = "spiffe://example.org/ns/prod/*", roles = ["member"], scopes = ["things:read"], tier = "pro" }},
  {{ name = "api.partner.example", subject = "partner-1", scopes = ["things:read"] }},
  {{ name = "*.many.example" }},
]

[routes.shown]
summary  = "By certificate"
match    = "GET /v1/shown"
upstream = "service"
auth     = {{ any = ["certificate.services"] }}
allow    = [{{ scopes = ["things:read"] }}]

[routes.either]
summary  = "By certificate or key"
match    = "GET /v1/either"
upstream = "service"
auth     = {{ any = ["api-key", "certificate.services"] }}
allow    = [{{ anyone = true }}]

[routes.both]
summary  = "By certificate and key"
match    = "GET /v1/both"
upstream = "service"
auth     = {{ all = ["api-key", "certificate.services"] }}
allow    = [{{ anyone = true }}]
"#
    )
}

/// A gate whose own table asks for certificates of `one`, whose host `strict.example.com` demands
/// them, and whose host `other.example.com` demands those of `two`.
fn hosts() -> String {
    let at = pki().display();
    format!(
        "client_ca = \"{at}/one.pem\"\nclient_crl = [\"{at}/lists.crl\"]\nclient_cert = \"optional\"\n\
         [[listener.tls.hosts]]\nnames = [\"strict.example.com\"]\ncert = \"{at}/site.pem\"\nkey = \"{at}/site.key\"\nclient_cert = \"required\"\n\
         [[listener.tls.hosts]]\nnames = [\"other.example.com\", \"*.wild.example.com\"]\ncert = \"{at}/site.pem\"\nkey = \"{at}/site.key\"\nclient_ca = \"{at}/two.pem\"\n"
    )
}

fn gate() -> (Gate, Service) {
    let service = Service::ok();
    let gate = Plan::new(service.address, &policy()).tls(&hosts()).real_time().start();
    (gate, service)
}

/// What curl got: the status, or nothing when there was no answer, and the request's id.
fn curl(
    gate: &Gate,
    version: &str,
    host: &str,
    shown: Option<&str>,
    path: &str,
    more: &[&str],
) -> (Option<u16>, String) {
    let port = gate.tls().port();
    let url = format!("https://{host}:{port}{path}");
    // Both authorities of servers in one file.
    let trusted = tempfile::NamedTempFile::new().unwrap();
    let both = [fs::read(gate.ca()).unwrap(), fs::read(file("server.pem")).unwrap()].concat();
    fs::write(trusted.path(), both).unwrap();
    let mut command = Command::new("curl");
    command
        .args(["-sS", "--max-time", "20", version, "-o", "/dev/null", "--cacert"])
        .arg(trusted.path());
    command.args(["--resolve", &format!("{host}:{port}:127.0.0.1")]);
    command.args(["-w", "%{http_code} %header{x-request-id}"]);
    if let Some(shown) = shown {
        command.arg("--cert").arg(file(&format!("{shown}.pem")));
        command.arg("--key").arg(file(&format!("{shown}.key")));
    }
    let output = command.args(more).arg(url).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let (code, id) = printed.split_once(' ').unwrap_or((&printed, ""));
    let code: u16 = code.parse().unwrap_or(0);
    assert_eq!(
        code == 0,
        !output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ((code != 0).then_some(code), id.to_owned())
}

const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];

/// A status and the private reason of the record, over HTTP/1.1 and over HTTP/2; `-` is no answer.
fn told(gate: &Gate, host: &str, shown: Option<&str>, path: &str, more: &[&str]) -> String {
    let answers = VERSIONS.map(|version| {
        let (status, id) = curl(gate, version, host, shown, path, more);
        match status {
            None => "-".to_owned(),
            Some(200) => "200".to_owned(),
            Some(status) => format!("{status} {}", record(gate, &id)["reason"].as_str().unwrap()),
        }
    });
    assert_eq!(answers[0], answers[1], "the two versions of HTTP");
    let [answer, _] = answers;
    answer
}

fn turned(gate: &Gate, reason: &str) -> f64 {
    gate.metric(&format!(
        "portcullis_client_certificates_refused_total{{listener=\"public\",reason=\"{reason}\"}}"
    ))
}

#[test]
fn the_matrix_of_certificates() {
    let (gate, service) = gate();
    let (strict, own) = ("strict.example.com", "localhost");
    // Host, certificate, answer, and the reason under which two handshakes are counted.
    let rows: &[(&str, Option<&str>, &str, &str)] = &[
        (strict, None, "-", "missing"),
        (strict, Some("good"), "200", ""),
        (strict, Some("partner"), "200", ""),
        (strict, Some("nul"), "-", "unfit"),
        (strict, Some("unknown"), "-", "unknown-issuer"),
        (strict, Some("selfsigned"), "-", "unfit"),
        (strict, Some("expired"), "-", "expired"),
        (strict, Some("early"), "-", "unfit"),
        (strict, Some("purpose"), "-", "unfit"),
        (strict, Some("revoked"), "-", "revoked"),
        (strict, Some("constrained"), "-", "unfit"),
        // The certificate of another host's authority, in both directions.
        (strict, Some("theirs"), "-", "unknown-issuer"),
        ("other.example.com", Some("good"), "-", "unknown-issuer"),
        ("other.example.com", Some("theirs"), "200", ""),
        ("a.wild.example.com", Some("theirs"), "200", ""),
        ("a.wild.example.com", None, "-", "missing"),
        (strict, Some("unlisted"), "401 credential-unknown", ""),
        (strict, Some("permitted"), "401 credential-unknown", ""),
        (strict, Some("twofold"), "401 credential-malformed", ""),
        (strict, Some("double"), "401 credential-malformed", ""),
        // Where none is demanded, a bad one still is no anonymity.
        (own, None, "401 credential-missing", ""),
        (own, Some("good"), "200", ""),
        (own, Some("expired"), "-", "expired"),
        (own, Some("revoked"), "-", "revoked"),
        (own, Some("unknown"), "-", "unknown-issuer"),
    ];
    for (host, shown, wanted, reason) in rows {
        let before = if reason.is_empty() { 0.0 } else { turned(&gate, reason) };
        let seen = service.requests().len();
        assert_eq!(told(&gate, host, *shown, "/v1/shown", &[]), *wanted, "{host} {shown:?}");
        if !reason.is_empty() {
            assert!(
                eventually(|| turned(&gate, reason) >= before + 2.0),
                "{host} {shown:?} {reason}"
            );
        }
        let passed = if *wanted == "200" { 2 } else { 0 };
        assert_eq!(service.requests().len(), seen + passed, "{host} {shown:?}");
    }
    let log = gate.log("partner-1");
    assert!(log.contains("\"spiffe://example.org/ns/prod/api\"") && log.contains("x509-"), "{log}");
}

#[test]
fn rustsec_2026_0049_0098_0099_and_0104_certificates_that_prove_nothing_are_refused() {
    let (gate, service) = gate();
    for (shown, flaw) in [
        ("expired", "its time is over"),
        ("early", "its time is still to come"),
        ("purpose", "it is for servers (extended key usage)"),
        ("revoked", "RUSTSEC-2026-0049: its authority's list names it"),
        ("constrained", "RUSTSEC-2026-0098, -0099: its authority may not vouch for such names"),
    ] {
        for name in ["localhost", "strict.example.com"] {
            assert_eq!(over(&gate, Some(shown), name, name), None, "{shown} at {name}: {flaw}");
        }
    }
    assert_eq!(service.requests(), Vec::<String>::new());
    assert_eq!(over(&gate, Some("good"), "strict.example.com", "strict.example.com"), Some(200));
    // Within its authority's names, a certificate is believed, and only not listed.
    assert_eq!(over(&gate, Some("permitted"), "localhost", "localhost"), Some(401));
    // RUSTSEC-2026-0104: a list that is none is told when it is read, and does not panic.
    let (changed, dir) = changing();
    let path = dir.path().join("lists.crl");
    let whole = fs::read(&path).unwrap();
    for cut in [whole.len() / 2, whole.len() - 40] {
        let before = reloads(&changed, "refused");
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(eventually(|| reloads(&changed, "refused") > before), "cut at {cut}");
        assert_eq!(told(&changed, "localhost", Some("good"), "/v1/shown", &[]), "200");
    }
}

#[test]
fn two_kinds_of_credential_must_be_of_one_caller() {
    let (gate, _service) = gate();
    let key = |subject: &str| {
        let facts = format!(r#""name":"k","subject":"{subject}","scopes":["things:read"]"#);
        format!("Authorization: Bearer {}", gate.key(&facts))
    };
    let (same, other) = (key("spiffe://example.org/ns/prod/api"), key("user_1"));
    let ask = |path: &str, shown: Option<&str>, key: Option<&String>| {
        let more: Vec<&str> = key.map_or(vec![], |key| vec!["-H", key]);
        told(&gate, "localhost", shown, path, &more)
    };
    let mismatch = "401 credential-owner-mismatch";
    for (path, shown, key, wanted) in [
        ("/v1/both", Some("good"), Some(&same), "200"),
        ("/v1/both", Some("good"), Some(&other), mismatch),
        ("/v1/both", Some("good"), None, "401 credential-missing"),
        ("/v1/both", None, Some(&same), "401 credential-missing"),
        ("/v1/either", Some("good"), Some(&same), "200"),
        ("/v1/either", Some("good"), Some(&other), mismatch),
        ("/v1/either", Some("good"), None, "200"),
        ("/v1/either", None, Some(&other), "200"),
        ("/v1/either", Some("unlisted"), Some(&other), "401 credential-unknown"),
    ] {
        assert_eq!(ask(path, shown, key), wanted, "{path} {shown:?} {key:?}");
    }
}

/// A client of ours, with or without a certificate, which trusts `server` and the development CA.
pub fn client(gate: &Gate, shown: Option<&str>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for ca in [gate.ca(), file("server.pem")] {
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let chain = CertificateDer::pem_file_iter(file(&format!("{shown}.pem"))).unwrap();
            let key = PrivateKeyDer::from_pem_file(file(&format!("{shown}.key"))).unwrap();
            builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
    }
}

fn connection(config: ClientConfig, name: &str) -> ClientConnection {
    ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap()
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Sends a request over a connection; nothing when there is no answer.
fn ask(stream: &mut StreamOwned<ClientConnection, TcpStream>, request: &str) -> Option<Reply> {
    stream.write_all(request.as_bytes()).ok()?;
    stream.flush().ok()?;
    Reply::read(stream, false)
}

/// Asks a host over a connection that was made for a name.
fn over(gate: &Gate, shown: Option<&str>, name: &str, host: &str) -> Option<u16> {
    let connection = connection(client(gate, shown), name);
    let mut stream = StreamOwned::new(connection, connect(gate.tls()));
    ask(&mut stream, &get(host, "/v1/shown")).map(|reply| reply.status)
}

#[test]
fn rule_sni_and_host_must_agree() {
    let (gate, service) = gate();
    for (name, shown, host) in [
        ("localhost", None, "strict.example.com"),
        ("localhost", Some("good"), "strict.example.com"),
        ("localhost", Some("good"), "other.example.com"),
        ("strict.example.com", Some("good"), "other.example.com"),
        ("other.example.com", Some("theirs"), "strict.example.com"),
        ("other.example.com", Some("theirs"), "localhost"),
    ] {
        assert_eq!(over(&gate, shown, name, host), Some(421), "{name} {host}");
    }
    assert_eq!(service.requests().len(), 0);
    assert_eq!(over(&gate, Some("good"), "strict.example.com", "strict.example.com"), Some(200));
}

#[test]
fn rule_sni_and_host_must_agree_for_trusted_proxies_too_where_hosts_differ() {
    let service = Service::ok();
    let trusting = "trust_forwarded_from = [\"127.0.0.0/8\"]\n";
    let plan = Plan::new(service.address, &policy()).tls(&hosts()).listener(trusting);
    let gate = plan.real_time().start();
    assert_eq!(over(&gate, Some("good"), "localhost", "other.example.com"), Some(421));
    assert_eq!(over(&gate, Some("good"), "localhost", "localhost"), Some(200));
}

#[test]
fn cve_2026_32305_no_server_name_gets_no_lesser_policy() {
    let (gate, service) = gate();
    for shown in [None, Some("good"), Some("theirs")] {
        let mut config = client(&gate, shown);
        config.enable_sni = false;
        let connection = connection(config, "localhost");
        let mut stream = StreamOwned::new(connection, connect(gate.tls()));
        assert!(ask(&mut stream, &get("localhost", "/v1/shown")).is_none(), "{shown:?}");
    }
    assert_eq!(turned(&gate, "no-server-name"), 3.0);
    assert_eq!(service.requests().len(), 0);
}

/// Sends the ClientHello one byte a record, and then asks.
fn in_pieces(gate: &Gate, shown: Option<&str>, name: &str) -> Option<u16> {
    let mut connection = connection(client(gate, shown), name);
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    let mut socket = connect(gate.tls());
    assert_eq!(hello[0], 22, "a handshake record");
    let length = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
    assert_eq!(length + 5, hello.len(), "the whole hello in one record");
    for byte in &hello[5..] {
        socket.write_all(&[22, 3, 1, 0, 1, *byte]).unwrap();
    }
    let mut stream = StreamOwned::new(connection, socket);
    ask(&mut stream, &get(name, "/v1/shown")).map(|reply| reply.status)
}

#[test]
fn cve_2026_32305_a_client_hello_in_pieces_keeps_its_policy() {
    let (gate, _service) = gate();
    assert_eq!(in_pieces(&gate, None, "strict.example.com"), None);
    assert_eq!(turned(&gate, "missing"), 1.0);
    assert_eq!(in_pieces(&gate, Some("theirs"), "strict.example.com"), None);
    assert_eq!(turned(&gate, "unknown-issuer"), 1.0);
    assert_eq!(in_pieces(&gate, Some("good"), "strict.example.com"), Some(200));
    assert_eq!(in_pieces(&gate, None, "localhost"), Some(401));
}

/// Keeps one session and offers it to every server, as an attacker would.
#[derive(Debug, Default)]
struct Carrier(Mutex<Option<Tls13ClientSessionValue>>);

impl ClientSessionStore for Carrier {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        *self.0.lock().unwrap() = Some(value);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap().take()
    }
}

/// Asks with whatever session the carrier has, and whether it was resumed.
fn carried(
    gate: &Gate,
    carrier: &Arc<Carrier>,
    config: &ClientConfig,
    name: &str,
) -> (Option<u16>, bool) {
    let mut config = config.clone();
    config.resumption = Resumption::store(Arc::<Carrier>::clone(carrier));
    let mut stream = StreamOwned::new(connection(config, name), connect(gate.tls()));
    let status = ask(&mut stream, &get(name, "/v1/shown")).map(|reply| reply.status);
    (status, stream.conn.handshake_kind() == Some(HandshakeKind::Resumed))
}

#[test]
fn cve_2025_23419_a_session_of_one_host_is_none_of_another() {
    let (gate, _service) = gate();
    // A client offers a session only with the key that made it, so all asks share one.
    let config = client(&gate, Some("good"));
    for (from, to) in [
        ("localhost", "strict.example.com"),
        ("localhost", "other.example.com"),
        ("strict.example.com", "other.example.com"),
        ("strict.example.com", "localhost"),
    ] {
        let carrier = Arc::<Carrier>::default();
        assert_eq!(carried(&gate, &carrier, &config, from), (Some(200), false));
        assert_eq!(carried(&gate, &carrier, &config, from), (Some(200), true), "{from}");
        let (status, resumed) = carried(&gate, &carrier, &config, to);
        assert!(!resumed, "{from} {to}");
        let wanted = (to != "other.example.com").then_some(200);
        assert_eq!(status, wanted, "{from} {to}: judged by its own certificate");
    }
}

/// `openssl s_client` for a host, with a certificate or without, keeping or offering a session.
fn s_client(gate: &Gate, name: &str, shown: Option<&str>, session: (&str, &Path)) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-no_ign_eof", "-connect", &gate.tls().to_string()]);
    command.args(["-servername", name, "-state", session.0]).arg(session.1);
    if let Some(shown) = shown {
        command.arg("-cert").arg(file(&format!("{shown}.pem")));
        command.arg("-key").arg(file(&format!("{shown}.key")));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let request = get(name, "/v1/shown").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let _ = input.write_all(request.as_bytes());
    let mut told = String::new();
    let _ = child.stdout.take().unwrap().read_to_string(&mut told);
    drop(input);
    child.wait().unwrap();
    told
}

#[test]
fn cve_2025_23419_openssl_cannot_carry_a_session_to_another_host() {
    let (gate, _service) = gate();
    let kept = tempfile::NamedTempFile::new().unwrap();
    let resumed = || gate.metric("portcullis_tls_resumed_handshakes_total{listener=\"public\"}");
    let first = s_client(&gate, "localhost", Some("good"), ("-sess_out", kept.path()));
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    assert!(fs::metadata(kept.path()).unwrap().len() > 0, "a session was kept");

    // The session proves the caller again at its own host, without the certificate being shown.
    let again = s_client(&gate, "localhost", None, ("-sess_in", kept.path()));
    assert!(again.starts_with("HTTP/1.1 200 "), "{again}");
    assert_eq!(resumed(), 1.0);

    for host in ["strict.example.com", "other.example.com"] {
        let told = s_client(&gate, host, None, ("-sess_in", kept.path()));
        assert_eq!(told, "", "{host}");
    }
    assert_eq!((resumed(), turned(&gate, "missing")), (1.0, 2.0));
}

/// A gate whose lists and authorities are copies that a test may change.
fn changing() -> (Gate, tempfile::TempDir) {
    changing_before(Service::ok().address, &policy())
}

fn changing_before(service: SocketAddr, policy: &str) -> (Gate, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(file("one.pem"), dir.path().join("ca.pem")).unwrap();
    fs::copy(file("lists.crl"), dir.path().join("lists.crl")).unwrap();
    let at = dir.path().display();
    let tls = format!(
        "client_ca = \"{at}/ca.pem\"\nclient_crl = [\"{at}/lists.crl\"]\nclient_cert = \"optional\"\n"
    );
    let gate = Plan::new(service, policy).tls(&tls).real_time().start();
    (gate, dir)
}

fn reloads(gate: &Gate, result: &str) -> f64 {
    gate.metric(&format!(
        "portcullis_certificate_reloads_total{{listener=\"public\",result=\"{result}\"}}"
    ))
}

#[test]
fn a_revocation_holds_from_the_next_request_on_even_on_open_connections_and_old_sessions() {
    let (gate, dir) = changing();
    let carrier = Arc::<Carrier>::default();
    let config = client(&gate, Some("later"));
    assert_eq!(carried(&gate, &carrier, &config, "localhost"), (Some(200), false));
    let mut open = StreamOwned::new(
        connection(client(&gate, Some("later")), "localhost"),
        connect(gate.tls()),
    );
    let mut other =
        StreamOwned::new(connection(client(&gate, Some("good")), "localhost"), connect(gate.tls()));
    for stream in [&mut open, &mut other] {
        assert_eq!(ask(stream, &get("localhost", "/v1/shown")).unwrap().status, 200);
    }

    fs::copy(file("next.crl"), dir.path().join("lists.crl")).unwrap();
    assert!(eventually(|| reloads(&gate, "applied") == 1.0));
    let refused = ask(&mut open, &get("localhost", "/v1/shown")).unwrap();
    assert_eq!(refused.status, 401);
    let record = record(&gate, refused.header("x-request-id").unwrap());
    assert_eq!(record["reason"], "credential-revoked");
    assert_eq!(ask(&mut other, &get("localhost", "/v1/shown")).unwrap().status, 200);
    assert_eq!(carried(&gate, &carrier, &config, "localhost"), (None, false));
    assert_eq!(turned(&gate, "revoked"), 1.0);
}

/// Routes of the endless service for those who show a certificate.
const LONG: &str = r#"
[routes.events]
summary  = "Events by certificate"
match    = "GET /v1/things/events"
upstream = "service"
auth     = { any = ["certificate.services"] }
allow    = [{ scopes = ["things:read"] }]

[routes.download]
summary  = "A download by certificate"
match    = "GET /v1/things/download"
upstream = "service"
auth     = { any = ["certificate.services"] }
allow    = [{ scopes = ["things:read"] }]
"#;

/// What a certificate began: a stream of events and a download.
fn began(gate: &Gate, shown: &str) -> [Tls; 2] {
    ["/v1/things/events", "/v1/things/download"].map(|path| {
        let mut stream = StreamOwned::new(
            connection(client(gate, Some(shown)), "localhost"),
            connect(gate.tls()),
        );
        stream.write_all(get("localhost", path).as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        stream
    })
}

#[test]
fn what_a_certificate_began_ends_when_it_is_revoked_and_nothing_else_does() {
    let (gate, dir) = changing_before(endless_service(), &(policy() + LONG));
    let (streams, mut kept) = (began(&gate, "later"), began(&gate, "good"));
    fs::copy(file("next.crl"), dir.path().join("lists.crl")).unwrap();
    assert!(eventually(|| reloads(&gate, "applied") == 1.0));
    for ended in streams.map(|mut stream| std::thread::spawn(move || until_cut(&mut stream))) {
        assert!(ended.join().unwrap() < AT_ONCE);
    }
    told_cut(&gate, "credential-revoked", "/v1/things/events");
    told_cut(&gate, "credential-revoked", "/v1/things/download");
    // The download of the certificate that holds goes on; the events only say nothing.
    kept[1].read_exact(&mut vec![0; 4 << 20]).unwrap();
}

#[test]
fn what_a_certificate_began_ends_when_its_time_does() {
    let tls = format!("client_ca = \"{}/one.pem\"\nclient_cert = \"optional\"\n", pki().display());
    let gate = Plan::new(endless_service(), &(policy() + LONG)).tls(&tls).start();
    let streams = began(&gate, "ages");
    gate.hand.advance(std::time::Duration::from_secs(25 * 365 * 86_400));
    for ended in streams.map(|mut stream| std::thread::spawn(move || until_cut(&mut stream))) {
        assert!(ended.join().unwrap() < AT_ONCE);
    }
    told_cut(&gate, "credential-expired", "/v1/things/events");
}

#[test]
fn cve_2026_27586_a_reload_of_files_that_are_no_good_changes_nothing() {
    let (gate, dir) = changing();
    let mut refused = 0.0;
    for (name, text) in [
        ("ca.pem", None),
        ("ca.pem", Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
        ("lists.crl", None),
        ("lists.crl", Some("")),
    ] {
        let path = dir.path().join(name);
        let good = fs::read(&path).unwrap();
        match text {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        refused += 1.0;
        assert!(eventually(|| reloads(&gate, "refused") == refused), "{name} {text:?}");
        for (shown, wanted) in [("good", "200"), ("revoked", "-"), ("unknown", "-")] {
            assert_eq!(told(&gate, "localhost", Some(shown), "/v1/shown", &[]), wanted);
        }
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn an_ended_revocation_list_lets_no_certificate_in() {
    let at = pki().display();
    let tls = format!(
        "client_ca = \"{at}/one.pem\"\nclient_crl = [\"{at}/ended.crl\"]\nclient_cert = \"optional\"\n"
    );
    let gate = Plan::new(Service::ok().address, &policy()).tls(&tls).real_time().start();
    assert_eq!(told(&gate, "localhost", Some("good"), "/v1/shown", &[]), "-");
    assert_eq!(turned(&gate, "revoked"), 2.0);
    assert_eq!(told(&gate, "localhost", None, "/v1/open", &[]), "200");
}

#[test]
fn what_callers_say_of_certificates_never_reaches_the_service() {
    let (gate, service) = gate();
    let mut sent: Vec<&str> = Vec::new();
    for header in [
        "Client-Cert: :AAAA:",
        "Client-Cert-Chain: :AAAA:",
        "X-Forwarded-Client-Cert: By=spiffe://a",
        "X-SSL-Client-Verify: SUCCESS",
        "X-SSL-Client-S-DN: CN=admin",
        "X-Client-Cert: AAAA",
        "X-Remote-User: admin",
        "X-Auth-Request-User: admin",
        "X-Consumer-Username: admin",
        "Connection: Client-Cert, X-Kept",
        "X-Other: kept",
    ] {
        sent.extend(["-H", header]);
    }
    // `Connection` is an error in HTTP/2, which has no such header.
    let (status, _) =
        curl(&gate, "--http1.1", "strict.example.com", Some("good"), "/v1/shown", &sent);
    assert_eq!(status, Some(200));
    let seen = service.requests().pop().unwrap().to_lowercase();
    for name in ["client-cert", "x-ssl", "x-remote", "x-auth-request", "x-consumer", "admin"] {
        assert!(!seen.contains(name), "{name} in {seen}");
    }
    assert!(seen.contains("x-other: kept"), "{seen}");
}

/// What a PEM file holds, in the words of RFC 9440, as openssl reads it.
fn items(name: &str) -> Vec<String> {
    let text = fs::read_to_string(file(&format!("{name}.pem"))).unwrap();
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let inner = |block: &str| {
        let body = block.split("-----END").next().unwrap();
        format!(":{}:", body.split_whitespace().collect::<String>())
    };
    blocks.map(inner).collect()
}

/// The values of these headers in what the service has just seen.
fn seen(service: &Service) -> [Option<String>; 2] {
    let request = service.requests().pop().unwrap();
    ["client-cert", "client-cert-chain"].map(|name| {
        let mut values = request.lines().filter_map(|line| line.split_once(": "));
        let value = values.by_ref().find(|(known, _)| known.eq_ignore_ascii_case(name));
        assert!(values.all(|(known, _)| !known.eq_ignore_ascii_case(name)), "twice: {request}");
        value.map(|(_, value)| value.to_owned())
    })
}

#[test]
fn rfc_9440_a_service_is_told_the_certificate_that_the_caller_proved_and_no_other() {
    let lie = ["-H", "Client-Cert: :AAAA:", "-H", "Client-Cert-Chain: :AAAA:, :AAAA:"];
    for (lines, tells, tells_chain) in [
        ("", false, false),
        ("client_cert = \"certificate\"\n", true, false),
        ("client_cert = \"chain\"\n", true, true),
    ] {
        let service = Service::ok();
        let plan = Plan::new(service.address, &policy()).tls(&hosts()).upstream(lines);
        let gate = plan.real_time().start();
        // One that came alone, one that its issuer's came with, and none.
        for shown in [Some("good"), Some("permitted"), None] {
            let all = shown.map(items).unwrap_or_default();
            let own = all.first().filter(|_| tells).cloned();
            let others = all.get(1..).unwrap_or_default().join(", ");
            let chain = Some(others).filter(|others| tells_chain && !others.is_empty());
            for version in VERSIONS {
                let (status, _) = curl(&gate, version, "localhost", shown, "/v1/open", &lie);
                assert_eq!(status, Some(200));
                assert_eq!(seen(&service), [own.clone(), chain.clone()], "{shown:?} {lines}");
            }
        }
        assert_eq!(items("permitted").len(), 2);
    }
}

#[test]
fn rfc_9440_a_certificate_that_no_longer_holds_is_told_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(file("lists.crl"), dir.path().join("lists.crl")).unwrap();
    let tls = format!(
        "client_ca = \"{}/one.pem\"\nclient_crl = [\"{}/lists.crl\"]\nclient_cert = \"optional\"\n",
        pki().display(),
        dir.path().display()
    );
    let service = Service::ok();
    let plan = Plan::new(service.address, &policy()).tls(&tls);
    let gate = plan.upstream("client_cert = \"chain\"\n").real_time().start();
    let connection = connection(client(&gate, Some("later")), "localhost");
    let mut open = StreamOwned::new(connection, connect(gate.tls()));
    assert_eq!(ask(&mut open, &get("localhost", "/v1/open")).unwrap().status, 200);
    assert_eq!(seen(&service)[0].as_ref(), items("later").first());
    fs::copy(file("next.crl"), dir.path().join("lists.crl")).unwrap();
    assert!(eventually(|| reloads(&gate, "applied") == 1.0));
    assert_eq!(ask(&mut open, &get("localhost", "/v1/open")).unwrap().status, 200);
    assert_eq!(seen(&service), [None, None]);
}

#[test]
fn the_example_is_sound_and_passes_its_own_tests() {
    let dir = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/client-certificates");
    fs::create_dir_all(dir.path().join("policies")).unwrap();
    fs::create_dir(dir.path().join("tls")).unwrap();
    for name in ["gateway.toml", "policies/policy.toml"] {
        fs::copy(example.join(name), dir.path().join(name)).unwrap();
    }
    for (from, to) in [
        ("site.pem", "server.pem"),
        ("site.key", "server.key"),
        ("one.pem", "services-ca.pem"),
        ("lists.crl", "services.crl"),
        ("two.pem", "partners-ca.pem"),
    ] {
        fs::copy(file(from), dir.path().join("tls").join(to)).unwrap();
    }
    for arguments in [&["check"][..], &["test"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(arguments)
            .current_dir(dir.path())
            .env_remove("PORTCULLIS_CONFIG")
            .output()
            .unwrap();
        let told = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
    }
}

#[test]
fn a_new_authority_is_believed_at_every_host_that_shares_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    fs::copy(file("one.pem"), &path).unwrap();
    let at = pki().display();
    let tls = format!(
        "client_ca = \"{}\"\n[[listener.tls.hosts]]\nnames = [\"strict.example.com\"]\ncert = \"{at}/site.pem\"\nkey = \"{at}/site.key\"\n",
        path.display()
    );
    let gate = Plan::new(Service::ok().address, &policy()).tls(&tls).real_time().start();
    let hosts = ["localhost", "strict.example.com"];
    for host in hosts {
        assert_eq!(told(&gate, host, Some("theirs"), "/v1/shown", &[]), "-", "{host}");
    }
    let both = [fs::read(file("one.pem")).unwrap(), fs::read(file("two.pem")).unwrap()].concat();
    fs::write(&path, both).unwrap();
    assert!(eventually(|| reloads(&gate, "applied") == 2.0), "one for each host");
    for host in hosts {
        assert_eq!(told(&gate, host, Some("theirs"), "/v1/shown", &[]), "200", "{host}");
    }
}
