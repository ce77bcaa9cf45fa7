//! TLS towards callers: 1.3 by default, ring alone, one ticket, no early data, and demands by host.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::{Acceptor, ResolvesServerCert};
use rustls::time_provider::TimeProvider;
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use crate::clock::Clock;
use crate::listen::ahead::Ahead;
use crate::listen::certificate::Certificates;
use crate::listen::clients::{Clients, Turned};
use crate::listen::counters::count;
use crate::listen::pieces::Pieces;
use crate::listen::{ClientCertificate, TlsFacts};

/// A caller's connection over TLS.
pub(in crate::listen) type Secured = Pieces<TlsStream<Ahead>>;

/// The TLS side of a listener.
#[derive(Clone)]
pub struct Tls(Arc<Parts>);

struct Parts {
    /// What holds for every name that no host has, and for callers who name none.
    own: Arc<HostTls>,
    /// Hosts with something of their own, by name in lower case.
    exact: HashMap<Box<str>, Arc<HostTls>>,
    /// Hosts with something of their own, by what follows `*.`; the star is one label.
    wild: HashMap<Box<str>, Arc<HostTls>>,
    /// All of them once, `own` first.
    all: Vec<Arc<HostTls>>,
    /// Whether a caller who names no host is served.
    serves_nameless: bool,
    /// Whether hosts differ in what they demand of callers.
    name_binds: bool,
    time: Arc<Time>,
}

/// TLS as one host speaks it: its certificate, its demands, and tickets that no other host takes.
#[derive(Debug)]
pub struct HostTls {
    name: Box<str>,
    certificates: Arc<Certificates>,
    clients: Option<Arc<Clients>>,
    manner: Manner,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// The generation of `clients` that `config` verifies by.
    generation: u64,
}

/// How all hosts of a listener speak.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) oldest: Oldest,
    /// ALPN, in the order of preference.
    pub(super) protocols: Vec<Vec<u8>>,
    pub(super) time: Arc<Time>,
}

/// The lowest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oldest {
    Tls12,
    Tls13,
}

/// The listener's clock, once it has one.
#[derive(Debug, Default)]
pub(super) struct Time(OnceLock<Clock>);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let now = self.0.get_or_init(Clock::system).now();
        Some(UnixTime::since_unix_epoch(Duration::from_millis(now.unix_ms)))
    }
}

/// ring, as the only provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl HostTls {
    /// Serves these certificates, and demands these of callers.
    ///
    /// # Errors
    /// The provider cannot make keys for session tickets.
    pub(super) fn new(
        name: &str,
        certificates: Arc<Certificates>,
        clients: Option<Arc<Clients>>,
        manner: Manner,
    ) -> Result<Self, rustls::Error> {
        let current = current(&certificates, clients.as_deref(), &manner)?;
        let current = ArcSwap::from_pointee(current);
        Ok(Self { name: name.into(), certificates, clients, manner, current })
    }

    /// The first of the host's names; empty for the listener's own table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The certificate that the host shows.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Who judges the certificates of callers, where any are asked for.
    pub fn clients(&self) -> Option<&Arc<Clients>> {
        self.clients.as_ref()
    }

    /// Reads the host's files again if they have changed. True when handshakes use something new
    /// from now on. Whatever is new about client certificates ends the tickets that were given out,
    /// so that nobody who was verified by the old files resumes.
    ///
    /// # Errors
    /// What is wrong with files that have changed; all else goes on as it was.
    pub fn reload_if_changed(&self) -> Result<bool, String> {
        let shown = self.certificates.reload_if_changed();
        let Some(clients) = &self.clients else { return shown };
        clients.reload_if_changed()?;
        // Hosts that demand the same share what judges, and another one may have read it first.
        if clients.trusted().generation != self.current.load().generation {
            let fresh = current(&self.certificates, Some(clients), &self.manner)
                .map_err(|fault| format!("TLS cannot go on: {fault}"))?;
            self.current.store(Arc::new(fresh));
            return shown.map(|_| true);
        }
        shown
    }
}

fn current(
    certificates: &Arc<Certificates>,
    clients: Option<&Clients>,
    manner: &Manner,
) -> Result<Current, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = match manner.oldest {
        Oldest::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        Oldest::Tls13 => &[&rustls::version::TLS13],
    };
    let time = Arc::<Time>::clone(&manner.time);
    let builder =
        ServerConfig::builder_with_details(provider(), time).with_protocol_versions(versions)?;
    let trusted = clients.map(Clients::trusted);
    let generation = trusted.as_ref().map_or(0, |trusted| trusted.generation);
    let builder = match trusted {
        None => builder.with_no_client_auth(),
        Some(trusted) => builder.with_client_cert_verifier(Arc::clone(&trusted.verifier)),
    };
    let resolver: Arc<dyn ResolvesServerCert> = Arc::<Certificates>::clone(certificates);
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols.clone_from(&manner.protocols);
    // A ticket holds the client's certificate. Its key, like the store of sessions that comes with
    // a configuration, is this host's and this generation's alone, so that a session of one host is
    // no session of another (CVE-2025-23419).
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    // Early data can be replayed by anyone who saw it (RFC 8446, section 8).
    config.max_early_data_size = 0;
    Ok(Current { config: Arc::new(config), generation })
}

impl Tls {
    /// TLS of one listener: its own table, and hosts by the names that they answer to.
    pub(super) fn new(own: HostTls, hosts: Vec<(Vec<Box<str>>, HostTls)>, time: Arc<Time>) -> Self {
        let own = Arc::new(own);
        let (mut exact, mut wild) = (HashMap::new(), HashMap::new());
        let mut all = vec![Arc::clone(&own)];
        for (names, host) in hosts {
            let host = Arc::new(host);
            all.push(Arc::clone(&host));
            for name in names {
                match name.strip_prefix("*.") {
                    Some(under) => drop(wild.insert(under.into(), Arc::clone(&host))),
                    None => drop(exact.insert(name, Arc::clone(&host))),
                }
            }
        }
        let demand = |host: &HostTls| host.clients.as_ref().map(|c| c.demand().clone());
        let usual = demand(&own);
        let differ = |host: &Arc<HostTls>| demand(host) != usual;
        Self(Arc::new(Parts {
            serves_nameless: !all.iter().any(|host| differ(host) && host.clients.is_some()),
            name_binds: all.iter().any(differ),
            own,
            exact,
            wild,
            all,
            time,
        }))
    }

    /// Every host, the listener's own table first.
    pub fn hosts(&self) -> &[Arc<HostTls>] {
        &self.0.all
    }

    /// The listener's own table.
    pub fn own(&self) -> &Arc<HostTls> {
        &self.0.own
    }

    /// Takes the time from this clock from now on.
    pub(super) fn keep_time_by(&self, clock: &Clock) {
        // Whoever has asked for the time before was served by the system's clock.
        let _ = self.0.time.0.set(clock.clone());
    }

    /// Completes a handshake. The whole ClientHello is read before anything is chosen, however
    /// many records it comes in (CVE-2026-32305); a listener without hosts has nothing to choose.
    ///
    /// # Errors
    /// The handshake failed. `turned` counts those that failed for want of a client certificate.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        turned: &Turned,
    ) -> io::Result<(Secured, TlsFacts)> {
        let blame = |fault: io::Error| {
            let inner = fault.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            inner.and_then(|inner| turned.by(inner)).into_iter().for_each(count);
            fault
        };
        let (parts, stream) = (&self.0, Ahead::new(stream));
        let (stream, host, generation) = if parts.all.len() == 1 {
            let current = parts.own.current.load_full();
            let acceptor = TlsAcceptor::from(Arc::clone(&current.config));
            (acceptor.accept(stream).await.map_err(blame)?, &parts.own, current.generation)
        } else {
            let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let Some(host) = self.host(hello.client_hello().server_name()) else {
                count(&turned.nameless);
                return Err(io::Error::other("no server name"));
            };
            let current = host.current.load_full();
            let config = Arc::clone(&current.config);
            (hello.into_stream(config).await.map_err(blame)?, host, current.generation)
        };
        let facts = self.facts(&stream, (host, generation), turned)?;
        Ok((Pieces::new(stream), facts))
    }

    /// The host that a caller names; nothing for a caller who names none where that could evade
    /// what a host demands.
    fn host(&self, name: Option<&str>) -> Option<&Arc<HostTls>> {
        let parts = &self.0;
        let Some(name) = name else { return parts.serves_nameless.then_some(&parts.own) };
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let wild = || parts.wild.get(name.split_once('.')?.1);
        Some(parts.exact.get(name).or_else(wild).unwrap_or(&parts.own))
    }

    /// What a completed handshake told.
    ///
    /// # Errors
    /// A session was resumed whose certificate would not be let in any more.
    fn facts(
        &self,
        stream: &TlsStream<Ahead>,
        (host, generation): (&Arc<HostTls>, u64),
        turned: &Turned,
    ) -> io::Result<TlsFacts> {
        let (_, session) = stream.get_ref();
        let mut certificate = None;
        if let Some(clients) = &host.clients {
            let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
            if let Some((own, chain)) = session.peer_certificates().and_then(|c| c.split_first()) {
                let refuse = |counter: &AtomicU64| {
                    count(counter);
                    io::Error::other("the client certificate is refused")
                };
                let mut read =
                    ClientCertificate::read(own, chain).map_err(|_| refuse(&turned.unfit))?;
                read.clients = Some(Arc::clone(clients));
                // A resumed session carries a certificate that nobody has looked at this time.
                read.judged_by = AtomicU64::new(if resumed { 0 } else { generation });
                let now = self.0.time.0.get_or_init(Clock::system).now();
                if read.still_holds(now).is_err() {
                    return Err(refuse(&turned.revoked));
                }
                certificate = Some(Arc::new(read));
            } else if clients.demand().required {
                count(&turned.missing);
                return Err(io::Error::other("no client certificate"));
            }
        }
        Ok(TlsFacts {
            server_name: session.server_name().map(|name| name.to_ascii_lowercase().into()),
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            certificate,
            name_binds: self.0.name_binds,
        })
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.all.iter().map(|host| host.certificates.path())).finish()
    }
}
