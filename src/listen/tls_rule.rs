//! `[listener.tls]` of `gateway.toml`: certificates by host, and which certificates callers must show.

use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::clock::Now;
use crate::listen::certificate::Certificates;
use crate::listen::clients::{Clients, Demand};
use crate::listen::settings::{Material, Protocol};
use crate::listen::tls::{HostTls, Manner, Oldest, Time, Tls, provider};
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;

/// The end of a certificate is told this long before.
const EXPIRY_WARNING_S: u64 = 30 * 24 * 3600;

/// TLS of a listener, as written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsRule {
    /// The PEM file of the certificate and its chain, relative to `gateway.toml`.
    #[serde(default)]
    pub cert: Option<At<String>>,
    /// The PEM file of the certificate's private key, relative to `gateway.toml`.
    #[serde(default)]
    pub key: Option<At<String>>,
    /// The lowest version that is spoken: `"1.3"`, unless `"1.2"` is written.
    #[serde(default)]
    pub min_version: Option<At<TlsVersion>>,
    /// The PEM file of the authorities whose client certificates are believed.
    #[serde(default)]
    pub client_ca: Option<At<String>>,
    /// Files of revocation lists, PEM or DER. Where any is named, every certificate that a caller
    /// shows, intermediate ones too, must be covered by a list that has not ended.
    #[serde(default)]
    pub client_crl: Option<At<Vec<At<String>>>>,
    /// Whether callers must show a certificate: `"off"`, `"optional"` or `"required"`. With
    /// `client_ca` it is `"required"` unless written, otherwise `"off"`.
    #[serde(default)]
    pub client_cert: Option<At<ClientCertMode>>,
    /// Hosts with a certificate or demands of their own, chosen by the server name of the handshake.
    #[serde(default)]
    pub hosts: Option<At<Vec<At<HostRule>>>>,
}

/// A host of a listener, as written under `[[listener.tls.hosts]]`. What is left out is as the
/// listener's own table has it; `client_ca` brings its own `client_crl` with it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRule {
    /// Its names: `"api.example.com"`, or `"*.example.com"` for every name with one label more.
    pub names: At<Vec<At<String>>>,
    /// The PEM file of its certificate and chain.
    #[serde(default)]
    pub cert: Option<At<String>>,
    /// The PEM file of the certificate's private key.
    #[serde(default)]
    pub key: Option<At<String>>,
    /// The PEM file of the authorities whose client certificates are believed here.
    #[serde(default)]
    pub client_ca: Option<At<String>>,
    /// Files of revocation lists, PEM or DER.
    #[serde(default)]
    pub client_crl: Option<At<Vec<At<String>>>>,
    /// Whether callers must show a certificate here.
    #[serde(default)]
    pub client_cert: Option<At<ClientCertMode>>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Whether callers show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertMode {
    /// None is asked for.
    Off,
    /// One is asked for; who shows none is served too, who shows a bad one is not.
    Optional,
    /// Nobody is served without a good one.
    Required,
}

/// The certificate files of a host, and where they are named.
struct Shown {
    certificates: Arc<Certificates>,
    place: Range<usize>,
}

/// The client keys of a table.
struct Asked<'r> {
    authorities: Option<&'r At<String>>,
    revocations: Option<&'r At<Vec<At<String>>>>,
    mode: Option<&'r At<ClientCertMode>>,
}

/// Compiles TLS of a listener that speaks these protocols, reporting all that is wrong with it.
pub(in crate::listen) fn compile(
    rule: &At<TlsRule>,
    protocols: &[Protocol],
    material: &Material<'_>,
    reading: &mut Reading<'_>,
) -> Option<Tls> {
    let TlsRule { cert, key, min_version, client_ca, client_crl, client_cert, hosts } = &rule.value;
    let own_pair = pair((cert.as_ref(), key.as_ref()), &rule.span, material, reading);
    let oldest = oldest(min_version.as_ref(), reading);
    let time = Arc::<Time>::default();
    let manner = Manner { oldest, protocols: alpn(protocols), time: Arc::clone(&time) };
    let asked = Asked {
        authorities: client_ca.as_ref(),
        revocations: client_crl.as_ref(),
        mode: client_cert.as_ref(),
    };
    let mut made = Vec::new();
    let own_clients = clients(&asked, None, material, &mut made, reading);
    let written = hosts.as_ref().map(|hosts| hosts.value.as_slice()).unwrap_or_default();
    let mut names = HashSet::new();
    let mut compiled = Vec::with_capacity(written.len());
    for host in written {
        let names = host_names(&host.value.names, &mut names, reading);
        let (cert, key) = (host.value.cert.as_ref(), host.value.key.as_ref());
        let shown = match (cert, key) {
            (None, None) => own_pair.as_ref().map(|own| Arc::clone(&own.certificates)),
            pair_written => {
                pair(pair_written, &host.span, material, reading).map(|shown| shown.certificates)
            }
        };
        let own = Asked {
            authorities: host.value.client_ca.as_ref(),
            revocations: host.value.client_crl.as_ref(),
            mode: host.value.client_cert.as_ref(),
        };
        let clients = clients(&own, Some(&asked), material, &mut made, reading);
        compiled.push((names, shown, clients));
    }
    let own_pair = own_pair?;
    let bad = |fault: rustls::Error, reading: &mut Reading<'_>| {
        let (says, help) = (format!("TLS cannot start: {fault}"), "check the system's randomness");
        reading.wrong(Code::BadCertificate, &own_pair.place, says, help);
    };
    let certificates = Arc::clone(&own_pair.certificates);
    let own = HostTls::new("", certificates, own_clients?, manner.clone())
        .map_err(|fault| bad(fault, reading))
        .ok();
    let mut others = Vec::with_capacity(compiled.len());
    for (names, shown, clients) in compiled {
        let (names, shown, clients) = (names?, shown?, clients?);
        let name = names.first().cloned().unwrap_or_default();
        let host = HostTls::new(&name, shown, clients, manner.clone())
            .map_err(|fault| bad(fault, reading))
            .ok();
        others.push((names, host?));
    }
    Some(Tls::new(own?, others, time))
}

/// The certificate and key that a table names, or that a first run has made.
fn pair(
    (cert, key): (Option<&At<String>>, Option<&At<String>>),
    span: &Range<usize>,
    material: &Material<'_>,
    reading: &mut Reading<'_>,
) -> Option<Shown> {
    let (certificate, key, place) = match (cert, key, &material.fallback) {
        (Some(cert), Some(key), _) => {
            (path(cert, material), path(key, material), cert.span.clone())
        }
        (None, None, Some((cert, key))) => (cert.clone(), key.clone(), span.clone()),
        // Why there is none to fall back on was told by whoever could not make it.
        (None, None, None) => return None,
        _ => {
            reading.wrong(
                Code::BadCertificate,
                span,
                "TLS needs a certificate and its key",
                "write both `cert = \"PATH\"` and `key = \"PATH\"`",
            );
            return None;
        }
    };
    let certificates = match Certificates::read(certificate, key, provider()) {
        Ok(certificates) => Arc::new(certificates),
        Err(says) => {
            let help = "name a PEM certificate chain that is valid today, and its private key";
            reading.wrong(Code::BadCertificate, &place, says, help);
            return None;
        }
    };
    judge_expiry(&certificates, material.now, &place, reading)?;
    Some(Shown { certificates, place })
}

/// Who judges the certificates of a host's callers; `Some(None)` where none are asked for. Hosts
/// that ask for the same share what they ask.
fn clients(
    own: &Asked<'_>,
    usual: Option<&Asked<'_>>,
    material: &Material<'_>,
    made: &mut Vec<Arc<Clients>>,
    reading: &mut Reading<'_>,
) -> Option<Option<Arc<Clients>>> {
    let authorities = own.authorities.or_else(|| usual?.authorities);
    // Lists belong to the authorities that sign them.
    let revocations = match (own.revocations, own.authorities) {
        (None, None) => usual.and_then(|usual| usual.revocations),
        (own, _) => own,
    };
    let mode = own.mode.or_else(|| usual?.mode.filter(|_| own.authorities.is_none()));
    let required = match (mode.map(|mode| mode.value), authorities) {
        (Some(ClientCertMode::Off), _) | (None, None) => false,
        (Some(ClientCertMode::Optional), _) => false,
        (Some(ClientCertMode::Required), _) | (None, Some(_)) => true,
    };
    let asks = required || mode.is_some_and(|mode| mode.value == ClientCertMode::Optional);
    let span = || mode.map(|mode| mode.span.clone());
    let Some(authorities) = authorities else {
        let span = span().filter(|_| asks).or_else(|| revocations.map(|lists| lists.span.clone()));
        let Some(span) = span else { return Some(None) };
        let says = "client certificates are asked for, and no authority is believed";
        reading.wrong(Code::BadCertificate, &span, says, "add `client_ca = \"PATH\"`");
        return None;
    };
    let place = authorities.span.clone();
    if let Some(lists) = revocations.filter(|lists| lists.is_empty()) {
        let says = "`client_crl` is empty, so nothing is ever revoked";
        reading.wrong(Code::WrongValue, &lists.span, says, "name a list, or leave the key out");
        return None;
    }
    let demand = Demand {
        required,
        authorities: path(authorities, material),
        revocations: revocations
            .map(|lists| lists.iter().map(|list| path(list, material)).collect())
            .unwrap_or_default(),
    };
    if let Some(known) = made.iter().find(|known| *known.demand() == demand) {
        return Some(asks.then(|| Arc::clone(known)));
    }
    match Clients::read(demand) {
        Ok(clients) => {
            judge_clients(&clients, material.now, &place, reading);
            let clients = Arc::new(clients);
            made.push(Arc::clone(&clients));
            Some(asks.then_some(clients))
        }
        Err(says) => {
            let help = "name PEM certificates of authorities in `client_ca`, and revocation lists \
                        that they have signed in `client_crl`; without them nobody is let in";
            let list = revocations.and_then(|lists| {
                lists.iter().find(|list| says.starts_with(&*path(list, material).to_string_lossy()))
            });
            let span = list.map_or(&place, |list| &list.span);
            reading.wrong(Code::BadCertificate, span, says, help);
            None
        }
    }
}

/// The names of a host in lower case, each once in the listener.
fn host_names(
    written: &At<Vec<At<String>>>,
    taken: &mut HashSet<String>,
    reading: &mut Reading<'_>,
) -> Option<Vec<Box<str>>> {
    const HELP: &str = "write for example \"api.example.com\" or \"*.example.com\"";
    if written.is_empty() {
        reading.wrong(Code::WrongValue, &written.span, "a host without a name", HELP);
        return None;
    }
    let mut names = Vec::with_capacity(written.len());
    for name in &written.value {
        let lower = name.to_ascii_lowercase();
        let plain = lower.strip_prefix("*.").unwrap_or(&lower);
        let is_name = rustls::pki_types::DnsName::try_from(plain).is_ok() && !plain.ends_with('.');
        if !is_name {
            let says = format!("`{}` is no server name", name.value);
            reading.wrong(Code::WrongValue, &name.span, says, HELP);
        } else if !taken.insert(lower.clone()) {
            let says = format!("the host `{lower}` is there twice");
            reading.wrong(Code::DefinedTwice, &name.span, says, "remove one of the two");
        } else {
            names.push(lower.into());
        }
    }
    (names.len() == written.len()).then_some(names)
}

fn path(written: &At<String>, material: &Material<'_>) -> PathBuf {
    material.base_dir.join(written.strip_prefix("file:").unwrap_or(&written.value))
}

fn oldest(written: Option<&At<TlsVersion>>, reading: &mut Reading<'_>) -> Oldest {
    match written {
        Some(At { value: TlsVersion::Tls12, span }) => {
            reading.wrong(
                Code::OldTls,
                span,
                "TLS 1.2 is allowed on this listener",
                "remove `min_version` once no client needs it",
            );
            Oldest::Tls12
        }
        Some(At { value: TlsVersion::Tls13, .. }) | None => Oldest::Tls13,
    }
}

/// Our order counts, not the file's: HTTP/2 is cheaper for both sides.
fn alpn(protocols: &[Protocol]) -> Vec<Vec<u8>> {
    let name = |protocol: &Protocol| match protocol {
        Protocol::H2 => b"h2".to_vec(),
        Protocol::H1 => b"http/1.1".to_vec(),
    };
    let mut names: Vec<Vec<u8>> = protocols.iter().map(name).collect();
    names.sort();
    names.dedup();
    names
}

fn judge_expiry(
    certificates: &Certificates,
    now: Now,
    place: &Range<usize>,
    reading: &mut Reading<'_>,
) -> Option<()> {
    let left_s = certificates.not_after_unix_s().saturating_sub(now.unix_s());
    let path = certificates.path().display();
    if left_s == 0 {
        let says = format!("the certificate {path} has expired");
        reading.wrong(Code::BadCertificate, place, says, "renew it");
        return None;
    }
    if left_s < EXPIRY_WARNING_S {
        let says = format!("the certificate {path} expires in {} days", left_s / (24 * 3600));
        let help = "renew it; a running gateway takes the new files without a restart";
        reading.wrong(Code::ExpiringCertificate, place, says, help);
    }
    Some(())
}

/// Advice on what ends soon. A list that has ended stops no start: until a newer one is there,
/// every certificate that it covers is refused, and everybody else is served.
fn judge_clients(clients: &Clients, now: Now, place: &Range<usize>, reading: &mut Reading<'_>) {
    if clients.lists_end_unix_s().is_some_and(|end| end <= now.unix_s()) {
        let says = "a revocation list has ended, so no client certificate is believed";
        let help = "fetch the authority's newest list; a running gateway takes it by itself";
        reading.wrong(Code::ExpiringCertificate, place, says, help);
    }
    if clients.authorities_end_unix_s() < now.unix_s().saturating_add(EXPIRY_WARNING_S) {
        let says =
            "an authority for client certificates expires within thirty days, or has expired";
        let help = "add the authority's successor to the file, and remove the old one later";
        reading.wrong(Code::ExpiringCertificate, place, says, help);
    }
}
