//! Puts the gateway together and starts its threads: the one door for the program and for tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::admin::secrets::MasterKey;
use crate::admin::{Admin, Parts, bans, sessions};
use crate::authenticate::nonce::Nonces;
use crate::authenticate::outside::{Outside, Secrets};
use crate::cli::exit::Exit;
use crate::cli::facts::{Facts, facts};
use crate::cli::first_run;
use crate::cli::keyring::{Keyring, first_key};
use crate::cli::threads::{CUT_TIME, control, workers};
use crate::clock::{Clock, Now};
use crate::config::Config;
use crate::gateway::Shared;
use crate::head::bans::Bans;
use crate::limit::buckets::Buckets;
use crate::listen;
use crate::listen::bind::{Sockets, bind};
use crate::listen::drain::Drain;
use crate::listen::room::Room;
use crate::listen::settings::Settings;
use crate::mistake::Mistakes;
use crate::policy::compile::{self, Ground};
use crate::policy::files::Files;
use crate::policy::reload::{Outcome, Reloader};
use crate::record::Record;
use crate::record::log::Log;
use crate::record::metrics::{Build, Metrics};
use crate::rehearse;
use crate::secret::reference::Reference;
use crate::store::Store;
use crate::units::Size;

/// A gateway that serves.
pub struct Started {
    facts: Facts,
    record: Arc<Record>,
    drain: Drain,
    drain_time: Duration,
    admin: Arc<Admin>,
    stop_control: tokio::sync::watch::Sender<bool>,
    memory: Memory,
    workers: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
}

/// What a clean stop keeps of the requests that were served, for the next start.
struct Memory {
    nonces: Arc<Nonces>,
    store: Arc<Store>,
    clock: Clock,
}

impl Memory {
    /// Keeps the nonces, so that the next start knows which signatures were used.
    fn save(&self) {
        match self.nonces.save(&self.store, self.clock.now()) {
            Ok(nonces) => tracing::info!(nonces, "the nonces of signatures are kept"),
            Err(fault) => tracing::warn!(%fault, "the nonces of signatures are not kept"),
        }
    }
}

impl Started {
    /// What was started.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How long a drain may take.
    pub fn drain_time(&self) -> Duration {
        self.drain_time
    }

    /// Opens the access log anew, after its file was moved away.
    pub fn reopen_log(&self) {
        self.record.log().reopen();
    }

    /// Asks for the policy to be loaded again, and logs what became of it.
    ///
    /// The access log's file is opened anew as well, for those who moved it away.
    pub fn reload(&self) -> Outcome {
        self.admin.reopen_log();
        self.admin.reload()
    }

    /// Drains and stops. True when every request in flight could end.
    pub fn stop(mut self) -> bool {
        self.drain.begin();
        let drained = wait(&self.drain, self.drain_time);
        self.drain.cut();
        wait(&self.drain, CUT_TIME);
        let _ = self.stop_control.send(true);
        for worker in self.workers.drain(..).chain(self.control.take()) {
            let _ = worker.join();
        }
        // Nobody can claim a nonce any more.
        self.memory.save();
        self.admin.settle();
        drained
    }
}

/// Puts everything together and starts it.
///
/// # Errors
/// With `mistakes` filled and an empty sentence, what is wrong stands in the operator's files;
/// otherwise the sentence says what could not be done. Nothing is left running.
pub fn start(config: Config, clock: &Clock, mistakes: &mut Mistakes) -> Result<Started, Exit> {
    let (now, could_not) = (clock.now(), Exit::CouldNot);
    let made = first_run::prepare(&config).map_err(could_not)?;
    let keyring = Keyring::read(&config).map_err(could_not)?;
    let (directory, store) = keyring.open(&config).map_err(could_not)?;
    if config.upstreams.iter().any(|upstream| upstream.tokens().is_some()) {
        config.issuer.open(&store, now).map_err(|fault| could_not(fault.to_string()))?;
    }
    let record = record(&config, clock).map_err(could_not)?;
    let nonces = Nonces::restored(config.ceilings.nonces, &store, now);
    let nonces = Arc::new(nonces.map_err(|fault| could_not(fault.to_string()))?);
    let ground = Ground {
        upstreams: Arc::clone(&config.upstreams),
        directory: Arc::clone(&directory),
        nonces: Arc::clone(&nonces),
        outside: Outside::new(secrets(&config)),
        buckets: Arc::new(Buckets::new(config.ceilings.buckets)),
        record: Arc::clone(&record),
        clock: clock.clone(),
    };
    let (buckets, outside) = (Arc::clone(&ground.buckets), ground.outside.clone());
    sessions::restore(&store, &outside.sessions).map_err(could_not)?;
    let files = Files::read(&config.policy_dir, mistakes);
    let policy = compile::compile(&files, &ground, mistakes).filter(|_| !mistakes.any_error());
    let Some(policy) = policy else { return Err(Exit::CouldNot(String::new())) };
    let size = (policy.routes().len(), policy.cases().len());
    let prove = rehearse::proof(Arc::clone(&config.upstreams), clock.clone());
    // Without a test there is nothing to prove, and compiling once more takes time.
    if config.run_tests && !policy.cases().is_empty() {
        prove(&files).map_err(could_not)?;
    }

    let mut bound = Bound::all(&config).map_err(could_not)?;
    // Nobody can be let in without a key, so the very first start makes one.
    let first_key = match directory.is_empty() {
        true => Some(first_key(&config, &directory, &policy, now).map_err(could_not)?),
        false => None,
    };

    let policy = Arc::new(ArcSwap::from_pointee(policy));
    let shared = Arc::new(Shared {
        clock: clock.clone(),
        policy: Arc::clone(&policy),
        record: Arc::clone(&record),
        bans: restored_bans(&store, now),
        room: Room::new(Size(config.ceilings.buffered_bytes)),
    });
    let proof = config.run_tests.then_some(prove);
    let reloader = Reloader::new(config.policy_dir.clone(), ground, policy, proof);
    let drain = Drain::default();
    let listeners = listeners(&config, clock);
    let working = workers(&config, &mut bound, &listeners, &shared, &drain);
    let (workers, load) = working.map_err(could_not)?;
    let facts = facts(&config, &bound, made.0, first_key, size);
    let memory = Memory { nonces, store: Arc::clone(&store), clock: clock.clone() };
    let admin = Arc::new(Admin::new(Parts {
        shared,
        directory,
        store,
        master: MasterKey::of(&config),
        sessions: Arc::clone(&outside.sessions),
        buckets,
        reloader,
        watch: config.watch,
        upstreams: Arc::clone(&config.upstreams),
        issuer: Arc::clone(&config.issuer),
        listeners,
        token: keyring.admin,
        drain: drain.clone(),
        expire_after: config.expire_after,
    }));
    let (stop_control, stopped) = tokio::sync::watch::channel(false);
    let control = control((&config, outside), &admin, (bound, load), stopped, clock);
    let (drain_time, control) = (config.drain, Some(control.map_err(could_not)?));
    Ok(Started { facts, record, drain, drain_time, admin, stop_control, memory, workers, control })
}

/// What the workers of each listener share.
fn listeners(config: &Config, clock: &Clock) -> Vec<Arc<listen::Shared>> {
    let listener = |settings: &Settings| listen::Shared::new(settings.clone(), clock);
    config.listeners.iter().map(listener).collect()
}

/// Secrets that policies point at, from the directory of `gateway.toml` on.
fn secrets(config: &Config) -> Secrets {
    let base = config.base.clone();
    Arc::new(move |reference| {
        let secret = reference.parse::<Reference>()?.read(&base);
        secret.map_err(|fault| fault.to_string())
    })
}

/// Every address of the process, taken.
pub(in crate::cli) struct Bound {
    /// Those of the listeners.
    pub(in crate::cli) listeners: Vec<Sockets>,
    /// That of the admin listener.
    pub(in crate::cli) admin: Option<std::net::TcpListener>,
    /// That of the bundled task service.
    pub(in crate::cli) tasks: Option<std::net::TcpListener>,
}

impl Bound {
    fn all(config: &Config) -> Result<Self, String> {
        let listeners =
            config.listeners.iter().map(|of| bind(of, config.workers)).collect::<Result<_, _>>();
        let tasks = config.task_service.as_ref().map(|(address, _)| *address);
        Ok(Self {
            listeners: listeners.map_err(|fault| fault.to_string())?,
            admin: config.admin.map(bind_loopback).transpose()?,
            tasks: tasks.map(bind_loopback).transpose()?,
        })
    }
}

fn record(config: &Config, clock: &Clock) -> Result<Arc<Record>, String> {
    let build = Build {
        version: env!("CARGO_PKG_VERSION"),
        revision: option_env!("PORTCULLIS_REVISION").unwrap_or("unknown"),
        rustc: env!("CARGO_PKG_RUST_VERSION"),
    };
    let metrics = Metrics::new(build).map_err(|error| error.to_string())?;
    let log = Log::start(config.log.clone())
        .map_err(|error| format!("the access log cannot be opened: {error}"))?;
    Ok(Record::new(metrics, log, clock.clone()))
}

/// Waits until every connection has ended, for so long at most. True when it did.
fn wait(drain: &Drain, most: Duration) -> bool {
    const STEP: Duration = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while drain.open() > 0 && waited < most {
        std::thread::sleep(STEP);
        waited += STEP;
    }
    drain.open() == 0
}

fn bind_loopback(address: SocketAddr) -> Result<std::net::TcpListener, String> {
    let wrong = |error: std::io::Error| format!("{address} cannot be bound: {error}");
    let listener = std::net::TcpListener::bind(address).map_err(wrong)?;
    listener.set_nonblocking(true).map_err(wrong)?;
    Ok(listener)
}

fn restored_bans(store: &Store, now: Now) -> Arc<Bans> {
    let in_force = Bans::default();
    for ban in bans::stored(store) {
        in_force.add(ban.network, ban.until_ms, &ban.why, now);
    }
    Arc::new(in_force)
}
