//! `[[listener]]` of `gateway.toml`: where to listen, with which certificate, within which bounds.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::clock::Now;
use crate::listen::bounds::{Bounds, BoundsRule};
use crate::listen::certificate::Certificates;
use crate::listen::tls::{HostTls, Tls};
use crate::listen::tls_rule::{self, TlsRule};
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::units::Network;

/// A listener, as `gateway.toml` has it under `[[listener]]`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerRule {
    /// The listener's name in logs and metrics. `"public"` unless written.
    #[serde(default)]
    pub name: Option<At<String>>,
    /// IP addresses with ports, for example `["127.0.0.1:8443"]`. Port 0 lets the kernel choose.
    pub bind: At<Vec<At<String>>>,
    /// The versions of HTTP that are spoken. `["h1", "h2"]` unless written; without TLS only `h1` is.
    #[serde(default)]
    pub http: Option<At<Vec<Protocol>>>,
    /// TLS. Without this table the listener speaks plaintext HTTP/1.
    #[serde(default)]
    pub tls: Option<At<TlsRule>>,
    /// Plaintext listeners only: the port of `https` to which every request is redirected.
    #[serde(default)]
    pub redirect_to_https: Option<At<u16>>,
    /// The networks of proxies in front of us, whose `Forwarded` headers are believed and whose
    /// connections are not counted by address. None unless written.
    #[serde(default)]
    pub trust_forwarded_from: Vec<Network>,
    /// Ceilings and deadlines of connections.
    #[serde(default)]
    pub bounds: BoundsRule,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 and 1.0.
    H1,
    /// HTTP/2, over TLS only.
    H2,
}

/// What a listener's rule is compiled with, beside the rule.
#[derive(Debug)]
pub struct Material<'a> {
    /// The folder that paths are relative to.
    pub base_dir: &'a Path,
    /// Certificate and key for a listener with TLS that names none.
    pub fallback: Option<(PathBuf, PathBuf)>,
    /// When it is, to judge expiry dates.
    pub now: Now,
}

/// A listener, ready to be bound.
#[derive(Clone)]
pub struct Settings {
    pub(super) name: Arc<str>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) speaks_h1: bool,
    pub(super) tls: Option<Tls>,
    pub(super) redirect_port: Option<u16>,
    pub(super) trusted: Arc<[Network]>,
    pub(super) bounds: Bounds,
}

impl Settings {
    /// The listener's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The addresses as written; port 0 is still 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The certificate in use where no host has its own; nothing on a plaintext listener.
    pub fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.tls.as_ref().map(|tls| tls.own().certificates())
    }

    /// All hosts with their certificates, the listener's own table first; none on a plaintext
    /// listener.
    pub fn tls_hosts(&self) -> &[Arc<HostTls>] {
        self.tls.as_ref().map_or(&[], Tls::hosts)
    }

    /// The port of `https` that a plaintext listener redirects to.
    pub fn redirect_port(&self) -> Option<u16> {
        self.redirect_port
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Compiles a listener's rule, reporting all that is wrong with it.
pub fn compile(
    rule: &ListenerRule,
    material: &Material<'_>,
    reading: &mut Reading<'_>,
) -> Option<Settings> {
    let ListenerRule { name, bind, http, tls, redirect_to_https, trust_forwarded_from, bounds } =
        rule;
    let addresses = addresses(bind, reading);
    let protocols = protocols(http.as_ref(), tls.is_some(), reading);
    let bounds = crate::listen::bounds::compile(bounds, reading);
    let compiled_tls = tls.as_ref().map(|rule| {
        tls_rule::compile(rule, protocols.as_deref().unwrap_or_default(), material, reading)
    });
    if let Some(port) = redirect_to_https.as_ref().filter(|_| tls.is_some()) {
        let says = "a listener with TLS does not redirect to https";
        let help = "move `redirect_to_https` to the listener without `[listener.tls]`";
        reading.wrong(Code::WrongValue, &port.span, says, help);
        return None;
    }
    let tls = match compiled_tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    Some(Settings {
        name: name.as_ref().map_or("public", |name| name.value.as_str()).into(),
        addresses: addresses?,
        speaks_h1: protocols?.contains(&Protocol::H1),
        tls,
        redirect_port: redirect_to_https.as_ref().map(|port| port.value),
        trusted: trust_forwarded_from.as_slice().into(),
        bounds: bounds?,
    })
}

fn addresses(bind: &At<Vec<At<String>>>, reading: &mut Reading<'_>) -> Option<Vec<SocketAddr>> {
    const HELP: &str = "write an IP address with its port, for example \"127.0.0.1:8443\", \"0.0.0.0:443\" or \"[::]:443\"";
    let mut good = Vec::with_capacity(bind.len());
    for written in &bind.value {
        match written.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 && good.contains(&address) => {
                let says = format!("`{}` is bound twice", written.value);
                reading.wrong(Code::BadAddress, &written.span, says, "remove one of the two");
            }
            Ok(address) => good.push(address),
            Err(_) => {
                let says = format!("`{}` is not an address to listen on", written.value);
                reading.wrong(Code::BadAddress, &written.span, says, HELP);
            }
        }
    }
    if bind.is_empty() {
        reading.wrong(Code::BadAddress, &bind.span, "a listener needs an address", HELP);
    }
    (!bind.is_empty() && good.len() == bind.len()).then_some(good)
}

fn protocols(
    http: Option<&At<Vec<Protocol>>>,
    over_tls: bool,
    reading: &mut Reading<'_>,
) -> Option<Vec<Protocol>> {
    let Some(http) = http else { return Some(vec![Protocol::H1, Protocol::H2]) };
    let (says, help) = if http.is_empty() {
        ("a listener must speak a version of HTTP", "write http = [\"h1\", \"h2\"]")
    } else if !over_tls && !http.contains(&Protocol::H1) {
        ("HTTP/2 is spoken over TLS only", "add `[listener.tls]`, or \"h1\"")
    } else {
        return Some(http.value.clone());
    };
    reading.wrong(Code::WrongValue, &http.span, says, help);
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::listen::certificate::tests::write_pair;
    use crate::mistake::source::Source;
    use crate::mistake::{Mistakes, read};

    /// Compiles a listener's text as `gateway.toml` would have it, at 2026-11-23.
    pub(in crate::listen) fn compiled(text: &str, base_dir: &Path) -> (Option<Settings>, String) {
        let source = Source::new("gateway.toml", text);
        let mut mistakes = Mistakes::default();
        let (clock, _) = Clock::set_at(1_795_392_000_000);
        let mut settings = None;
        for section in read::top(&source, &mut mistakes) {
            for node in read::elements(section, &source, &mut mistakes) {
                let rule: Option<ListenerRule> =
                    read::rule("a listener", node, &source, &mut mistakes);
                let Some(rule) = rule else { continue };
                let material = Material { base_dir, fallback: None, now: clock.now() };
                let mut reading = Reading { source: &source, mistakes: &mut mistakes };
                settings = compile(&rule, &material, &mut reading);
            }
        }
        let told = mistakes.iter().map(|mistake| {
            let place = mistake.place.as_ref().map_or(0, crate::mistake::source::Place::line);
            format!("{}:{place} {}\n", mistake.code.number(), mistake.says)
        });
        (settings, told.collect())
    }

    /// A plaintext listener on a loopback port of the kernel's choice.
    pub(in crate::listen) fn plain() -> Settings {
        compiled("[[listener]]\nbind = [\"127.0.0.1:0\"]\n", Path::new("")).0.unwrap()
    }

    /// A TLS listener on a loopback port, with a new certificate in `folder`.
    pub(in crate::listen) fn over_tls(folder: &Path) -> Settings {
        write_pair(folder, 2031);
        let text = "[[listener]]\nbind = [\"127.0.0.1:0\"]\ntls = { cert = \"cert.pem\", key = \"file:key.pem\" }\n";
        let (settings, told) = compiled(text, folder);
        assert_eq!(told, "");
        settings.unwrap()
    }

    #[test]
    fn defaults_are_those_that_the_help_tells() {
        let settings = plain();
        assert_eq!(&**settings.name(), "public");
        assert!(settings.certificates().is_none());
        let bounds = &settings.bounds;
        assert_eq!((bounds.connections, bounds.connections_per_address), (20_000, 200));
        assert_eq!((bounds.header_bytes, bounds.headers, bounds.target_bytes), (16384, 100, 8192));
        assert_eq!(bounds.idle_timeout.as_secs(), 60);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let (settings, told) = compiled(
            "[[listener]]\nbind = [\"localhost:80\"]\nhttp = []\nredirect_to_https = 443\n[listener.tls]\ncert = \"a\"\nkey = \"b\"\n[listener.bounds]\nheaders = 0\nidle_timeout = \"2h\"\n",
            Path::new(""),
        );
        assert!(settings.is_none());
        assert_eq!(told.lines().count(), 6, "{told}");
        let parts =
            ["P0301:2", "P0103:3", "P0103:4", "P0302:6", "P0103:9 0 is out", "P0103:10 2h is out"];
        for part in parts {
            assert!(told.contains(part), "{part} in {told}");
        }
        let plain_h2 = "[[listener]]\nbind = [\"127.0.0.1:80\"]\nhttp = [\"h2\"]\n";
        assert!(compiled(plain_h2, Path::new("")).1.starts_with("P0103:3 HTTP/2"));
    }

    #[test]
    fn a_certificate_is_judged_where_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[[listener]]\nbind = [\"127.0.0.1:0\"]\n[listener.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\nmin_version = \"1.2\"\n";
        let (settings, told) = compiled(text, folder.path());
        assert!(settings.is_none() && told.contains("P0302:4"), "{told}");

        write_pair(folder.path(), 2020);
        let (settings, told) = compiled(text, folder.path());
        assert!(settings.is_none() && told.contains("has expired"), "{told}");

        write_pair(folder.path(), 2031);
        let (settings, told) = compiled(text, folder.path());
        assert!(settings.is_some() && told.starts_with("W0401:6"), "{told}");

        let without = text.replace("key = \"key.pem\"\n", "");
        assert!(compiled(&without, folder.path()).1.contains("P0302:3"));
    }
}
