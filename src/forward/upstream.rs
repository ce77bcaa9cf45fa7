//! The services behind the gateway: their targets, how those fare, and which one is asked next.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::sync::Notify;

use crate::forward::address::Address;
use crate::forward::credential::Credential;
use crate::forward::identity::token::Tokens;
use crate::forward::identity::{Signer, Teller};
use crate::forward::tls::Tls;

/// All upstreams of a configuration, shared by all workers.
#[derive(Debug, Default)]
pub struct Upstreams {
    by_name: BTreeMap<Box<str>, Arc<Upstream>>,
}

impl Upstreams {
    /// These upstreams. Of two with one name the later holds; TOML does not let that happen.
    pub fn new(upstreams: impl IntoIterator<Item = Upstream>) -> Self {
        let mut by_name: BTreeMap<Box<str>, Upstream> =
            upstreams.into_iter().map(|upstream| (upstream.name.clone(), upstream)).collect();
        let mut slots = 0;
        for upstream in by_name.values_mut() {
            upstream.first_slot = slots;
            slots += upstream.targets.len();
        }
        let by_name = by_name.into_iter().map(|(name, upstream)| (name, Arc::new(upstream)));
        Self { by_name: by_name.collect() }
    }

    /// The upstream with this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.by_name.get(name)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.by_name.values()
    }
}

/// One service behind the gateway. Made by [`compile`](crate::forward::settings::compile) alone.
#[derive(Debug)]
pub struct Upstream {
    pub(in crate::forward) name: Box<str>,
    pub(in crate::forward) targets: Box<[Arc<Target>]>,
    pub(in crate::forward) settings: Settings,
    pub(in crate::forward) first_slot: usize,
    pub(in crate::forward) turn: AtomicUsize,
    pub(in crate::forward) retries: Retries,
}

impl Upstream {
    /// The text of a target's address, by the target's number.
    pub fn target_name(&self, target: usize) -> &Arc<str> {
        static UNKNOWN: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from("-"));
        self.targets.get(target).map_or(&UNKNOWN, |target| target.name())
    }

    /// The name, as `gateway.toml` has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The targets, in the order of `gateway.toml`.
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// What holds for all targets.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How often a request was sent again.
    pub fn retries(&self) -> &Retries {
        &self.retries
    }

    /// What signs identities for this upstream, where a MAC does.
    pub fn identity_signer(&self) -> Option<&Signer> {
        match &self.settings.identity {
            Some(Teller::Mac(signer)) => Some(signer),
            Some(Teller::Token(_)) | None => None,
        }
    }

    /// The tokens that tell this upstream who calls, where tokens do.
    pub fn tokens(&self) -> Option<&Tokens> {
        match &self.settings.identity {
            Some(Teller::Token(tokens)) => Some(tokens),
            Some(Teller::Mac(_)) | None => None,
        }
    }

    /// What proves us to the targets.
    pub fn credential(&self) -> Option<&Credential> {
        self.settings.credential.as_ref()
    }

    /// The healthy target that is asked next, other than `avoid` where there is another.
    ///
    /// The search begins one further each time, so that among equals everybody has a turn.
    pub(in crate::forward) fn choose(&self, avoid: Option<usize>) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.targets.len();
        let mut best: Option<(usize, usize)> = None;
        let mut avoided = None;
        for step in 0..count {
            let at = turn.wrapping_add(step) % count;
            let Some(target) = self.targets.get(at).filter(|target| target.is_healthy()) else {
                continue;
            };
            if avoid == Some(at) {
                avoided = avoid;
                continue;
            }
            let load = match self.settings.balance {
                Balance::LeastRequests => target.in_flight(),
                Balance::RoundRobin => 0,
            };
            if best.is_none_or(|(least, _)| load < least) {
                best = Some((load, at));
            }
            if load == 0 {
                break;
            }
        }
        best.map(|(_, at)| at).or(avoided)
    }
}

/// How often a request was sent again, and why.
#[derive(Debug, Default)]
pub struct Retries {
    /// No connection could be opened to the first target.
    pub connect: AtomicU64,
    /// A connection from the pool turned out to be closed.
    pub stale: AtomicU64,
}

/// What holds for all targets of an upstream.
#[derive(Debug)]
pub struct Settings {
    pub(in crate::forward) balance: Balance,
    pub(in crate::forward) http: Protocol,
    pub(in crate::forward) host: HostSent,
    pub(in crate::forward) pool: PoolBounds,
    pub(in crate::forward) timeout: Timeouts,
    pub(in crate::forward) retries_max: u32,
    pub(in crate::forward) health: Health,
    pub(in crate::forward) tls: Option<Tls>,
    pub(in crate::forward) identity: Option<Teller>,
    pub(in crate::forward) client_cert: ClientCertSent,
    pub(in crate::forward) credential: Option<Credential>,
    pub(in crate::forward) forbidden: Box<[SocketAddr]>,
}

impl Settings {
    /// From sending the request to the head of the answer, unless the route says otherwise.
    pub fn total_timeout(&self) -> Duration {
        self.timeout.total
    }

    /// The longest pause between two bytes of an answer, and in a tunnel.
    pub fn idle_timeout(&self) -> Duration {
        self.timeout.idle
    }

    /// Whether identities are signed for this upstream.
    pub fn signs_identity(&self) -> bool {
        self.identity.is_some()
    }
}

/// Who is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Balance {
    LeastRequests,
    RoundRobin,
}

/// What is spoken to targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Protocol {
    Http1,
    Http2,
}

/// What the targets are told of the client certificate that a caller proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::forward) enum ClientCertSent {
    /// Nothing.
    Nothing,
    /// The certificate.
    Own,
    /// The certificate, and the others that were shown with it.
    Chain,
}

/// Which host a target is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum HostSent {
    Callers,
    Targets,
}

/// The bounds of a pool, per target and worker.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct PoolBounds {
    pub(in crate::forward) idle_max: usize,
    pub(in crate::forward) idle_timeout: Duration,
    pub(in crate::forward) requests_max: usize,
    pub(in crate::forward) waiting_max: usize,
    pub(in crate::forward) lifetime: Duration,
}

/// How long each part of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub(in crate::forward) struct Timeouts {
    pub(in crate::forward) connect: Duration,
    pub(in crate::forward) first_byte: Duration,
    pub(in crate::forward) total: Duration,
    pub(in crate::forward) idle: Duration,
}

/// How targets are watched.
#[derive(Clone, Debug)]
pub(in crate::forward) struct Health {
    pub(in crate::forward) path: Option<PathAndQuery>,
    pub(in crate::forward) every: Duration,
    pub(in crate::forward) timeout: Duration,
    pub(in crate::forward) up_after: u32,
    pub(in crate::forward) down_after: u32,
}

/// One address behind an upstream, and how it fares. Targets begin healthy.
#[derive(Debug)]
pub struct Target {
    pub(in crate::forward) address: Address,
    name: Arc<str>,
    healthy: AtomicBool,
    /// Counts how often the target went down, or was to be proved anew. Connections of an earlier count are not used again.
    generation: AtomicU32,
    connect_failures: AtomicU32,
    pub(in crate::forward) in_flight: AtomicUsize,
    pub(in crate::forward) connections: AtomicUsize,
    pub(in crate::forward) idle: AtomicUsize,
    pub(in crate::forward) waiting: AtomicUsize,
    /// How attempts ended.
    pub results: Results,
    /// Told when the target goes down, so that its watch need not wait for the next turn.
    pub(in crate::forward) went_down: Notify,
}

/// How attempts at a target ended.
#[derive(Debug, Default)]
pub struct Results {
    /// An answer came, whatever its status.
    pub ok: AtomicU64,
    /// No answer came, or it was broken or broke off.
    pub error: AtomicU64,
    /// Nothing came in time.
    pub timeout: AtomicU64,
    /// No connection could be opened.
    pub refused: AtomicU64,
}

impl Target {
    pub(in crate::forward) fn new(address: Address) -> Self {
        Self {
            name: address.to_string().into(),
            address,
            healthy: AtomicBool::new(true),
            generation: AtomicU32::new(0),
            connect_failures: AtomicU32::new(0),
            in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            results: Results::default(),
            went_down: Notify::new(),
        }
    }

    /// Its address as text, for records.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it is in rotation.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// Requests that are with it, from the choice to the end of the answer's body.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Open connections, of all workers.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Open connections that wait for a request, of all workers.
    pub fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// Requests that wait for a connection, of all workers.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(in crate::forward) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// Gives up its connections, each once its request has ended; it stays in rotation.
    pub(in crate::forward) fn retire_connections(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes it into rotation.
    pub(in crate::forward) fn bring_up(&self) {
        self.connect_failures.store(0, Ordering::Relaxed);
        self.healthy.store(true, Ordering::Release);
    }

    /// Takes it out of rotation; its connections are given up.
    pub(in crate::forward) fn take_down(&self) {
        if self.healthy.swap(false, Ordering::AcqRel) {
            self.generation.fetch_add(1, Ordering::AcqRel);
            self.went_down.notify_one();
        }
    }

    /// A connection was opened.
    pub(in crate::forward) fn connected(&self) {
        // Reading is cheaper for all workers than writing what is already there.
        if self.connect_failures.load(Ordering::Relaxed) != 0 {
            self.connect_failures.store(0, Ordering::Relaxed);
        }
    }

    /// No connection could be opened; the `down_after`th such failure in a row takes it down.
    pub(in crate::forward) fn connect_failed(&self, down_after: u32) {
        let failures = self.connect_failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= down_after {
            self.take_down();
        }
    }
}

/// Counts an open connection for as long as it lives.
pub(in crate::forward) struct Open(Arc<Target>);

impl Open {
    pub(in crate::forward) fn new(target: &Arc<Target>) -> Self {
        target.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(target))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
