//! Mutual TLS towards upstreams: our own certificate, and files that change while we run.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;

use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let (pem, der) = (certificate.pem(), certificate.der().clone());
    Authority { issuer: Issuer::new(params, key), pem, der }
}

/// A certificate for `name`, and its key.
fn issued(authority: &Authority, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, &authority.issuer).unwrap(), key)
}

/// An upstream that lets in those alone whose certificate is of `clients`.
async fn demanding(server: &Authority, clients: &Authority) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(clients.der.clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (certificate, key) = issued(server, "tasks.internal");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (address, _) = upstream(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut head = [0; 4096];
            while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    address
}

fn private(path: PathBuf, text: &str) {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// A folder as Kubernetes mounts it: files that lead through `..data` to the version in force.
fn mounted(versions: &[(&str, &Authority)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (version, authority) in versions {
        let folder = dir.path().join(version);
        fs::create_dir(&folder).unwrap();
        let (certificate, key) = issued(authority, "gateway.internal");
        fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
        private(folder.join("tls.key"), &key.serialize_pem());
    }
    symlink(versions[0].0, dir.path().join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), dir.path().join(name)).unwrap();
    }
    dir
}

fn swap(dir: &tempfile::TempDir, version: &str) {
    symlink(version, dir.path().join("..new")).unwrap();
    fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
}

fn rig(address: SocketAddr, dir: &tempfile::TempDir, own: &str) -> Rig {
    let text = format!(
        "targets = [\"https://{address}\"]\n\
         tls = {{ ca = \"file:ca.pem\", server_name = \"tasks.internal\"{own} }}"
    );
    let (upstream, mistakes) = compiled(&text, dir.path());
    Rig::of(upstream.unwrap_or_else(|| panic!("{mistakes:?}")))
}

fn reloads(rig: &Rig) -> Vec<(&'static str, bool)> {
    let mut told = Vec::new();
    rig.upstream.reload_if_changed(|what, done| told.push((what, done.is_ok())));
    told
}

const OWN: &str = ", cert = \"file:tls.crt\", key = \"file:tls.key\"";

#[tokio::test]
async fn a_service_that_asks_who_we_are_is_shown_our_certificate() {
    let (server, clients) = (authority(), authority());
    let address = demanding(&server, &clients).await;
    let dir = mounted(&[("..1", &clients)]);
    fs::write(dir.path().join("ca.pem"), &server.pem).unwrap();
    let known = rig(address, &dir, OWN);
    assert_eq!(soon(known.fetch(get("/"))).await.0, 200);
    assert!(known.upstream.certificate_not_after_s().is_some());
    let stranger = rig(address, &dir, "");
    assert!(soon(stranger.send(get("/"))).await.is_err());
}

#[tokio::test]
async fn certificates_that_change_are_used_at_once_and_bad_ones_never() {
    let (server, clients, strangers) = (authority(), authority(), authority());
    let address = demanding(&server, &clients).await;
    let dir = mounted(&[("..1", &strangers), ("..2", &clients), ("..3", &strangers)]);
    fs::write(dir.path().join("ca.pem"), &server.pem).unwrap();
    let rig = rig(address, &dir, OWN);
    assert!(soon(rig.send(get("/"))).await.is_err());
    assert_eq!(reloads(&rig), []);

    swap(&dir, "..2");
    assert_eq!(reloads(&rig), [("tls", true)]);
    assert_eq!(soon(rig.fetch(get("/"))).await.0, 200);

    // A key of another certificate is refused once, and what works goes on working.
    let other = issued(&clients, "gateway.internal").1;
    let whole = fs::read_to_string(dir.path().join("tls.key")).unwrap();
    private(dir.path().join("..2/tls.key"), &other.serialize_pem());
    assert_eq!(reloads(&rig), [("tls", false)]);
    assert_eq!(reloads(&rig), []);
    assert_eq!(soon(rig.fetch(get("/"))).await.0, 200);
    private(dir.path().join("..2/tls.key"), &whole);
    assert_eq!(reloads(&rig), []);

    // The connection that the old certificate had opened is not used any further.
    swap(&dir, "..3");
    assert_eq!(reloads(&rig), [("tls", true)]);
    assert!(soon(rig.send(get("/"))).await.is_err());
}

#[tokio::test]
async fn an_authority_that_changes_is_the_only_one_from_then_on() {
    let (server, clients) = (authority(), authority());
    let address = demanding(&server, &clients).await;
    let dir = mounted(&[("..1", &clients)]);
    fs::write(dir.path().join("ca.pem"), &server.pem).unwrap();
    let rig = rig(address, &dir, OWN);
    assert_eq!(soon(rig.fetch(get("/"))).await.0, 200);
    fs::write(dir.path().join("ca.pem"), &clients.pem).unwrap();
    assert_eq!(reloads(&rig), [("tls", true)]);
    assert_eq!(soon(rig.refused(get("/"))).await, Reason::UpstreamUnreachable);
}

#[test]
fn a_certificate_and_its_key_are_named_together_and_the_key_is_ours_alone() {
    use std::os::unix::fs::PermissionsExt;
    let clients = authority();
    let dir = mounted(&[("..1", &clients)]);
    let said = |tls: &str| {
        let text = format!("targets = [\"https://a.internal\"]\ntls = {{ {tls} }}");
        let (upstream, mistakes) = compiled(&text, dir.path());
        assert!(upstream.is_none());
        mistakes.join("\n")
    };
    assert!(said("cert = \"file:tls.crt\"").contains("P0302"));
    assert!(said("key = \"file:tls.key\"").contains("P0302"));
    assert!(said("cert = \"file:nowhere\", key = \"file:tls.key\"").contains("P0302"));
    assert!(said("cert = \"file:tls.crt\", key = \"file:tls.crt\"").contains("P03"));
    let key = dir.path().join("tls.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(said("cert = \"file:tls.crt\", key = \"file:tls.key\"").contains("P0304"));
    private(key.clone(), "-----BEGIN hunter2-----");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let told = said("cert = \"file:tls.crt\", key = \"file:tls.key\"");
    assert!(told.contains("P0103") && !told.contains("hunter2"), "{told}");
}
