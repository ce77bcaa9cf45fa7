//! Puts the gateway together and starts its threads: the one door for the program and for tests.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::admin::{Admin, Parts, bans, housekeeping};
use crate::authenticate::directory::Directory;
use crate::authenticate::directory::record::NewKey;
use crate::authenticate::nonce::Nonces;
use crate::cli::exit::Exit;
use crate::cli::first_run;
use crate::clock::{Clock, Now};
use crate::config::development::write_new;
use crate::config::reference::Reference;
use crate::config::{Config, state_files};
use crate::forward::health;
use crate::forward::identity::Verifier;
use crate::forward::sender::Sender;
use crate::forward::upstream::Upstream;
use crate::gateway::{Gateway, Shared};
use crate::head::bans::Bans;
use crate::inspect::room::Room;
use crate::limit::buckets::Buckets;
use crate::listen;
use crate::listen::bind::{Sockets, bind};
use crate::listen::drain::Drain;
use crate::listen::plain;
use crate::mistake::Mistakes;
use crate::policy::Policy;
use crate::policy::compile::{self, Ground};
use crate::policy::files::Files;
use crate::policy::reload::{Outcome, Reloader};
use crate::record::Record;
use crate::record::log::Log;
use crate::record::metrics::{Build, Metrics};
use crate::rehearse;
use crate::secret::Secret;
use crate::store::Store;
use crate::tasks::Service;
use crate::tasks::seed::FIRST_USER;
use crate::units::Size;

/// The first key lives so long, in days.
const FIRST_KEY_DAYS: u64 = 30;
/// Connections may take a moment to be cut after the drain's time is over.
const CUT_TIME: Duration = Duration::from_secs(2);

/// A gateway that serves.
pub struct Started {
    facts: Facts,
    drain: Drain,
    drain_time: Duration,
    admin: Arc<Admin>,
    stop_control: tokio::sync::watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
}

/// What was started, for those who want to see it.
pub struct Facts {
    /// What the first run made.
    pub made: Vec<&'static str>,
    /// The first key, when one was made.
    pub first_key: Option<Secret>,
    /// The state directory, as it is shown.
    pub state_dir: String,
    /// The policy directory, as it is shown.
    pub policy_dir: String,
    /// Listeners: name, address, whether they speak TLS.
    pub listeners: Vec<(Arc<str>, SocketAddr, bool)>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
    /// Upstreams and their targets.
    pub upstreams: Vec<(String, String)>,
    /// Routes of the policy.
    pub routes: usize,
    /// Tests of the policy that passed.
    pub tests: usize,
}

impl Facts {
    /// The lines to try it with, when this was a first run.
    pub fn try_it(&self) -> Option<String> {
        let key = self.first_key.as_ref()?;
        let (_, address, _) = self.listeners.iter().find(|(_, _, tls)| *tls)?;
        let key = String::from_utf8_lossy(key.expose());
        Some(format!(
            "  export KEY={key}\n  curl --cacert {}/{} -H \"Authorization: Bearer $KEY\" https://localhost:{}/v1/tasks",
            self.state_dir,
            state_files::DEV_CA,
            address.port()
        ))
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

    /// Asks for the policy to be loaded again, and logs what became of it.
    pub fn reload(&self) -> Outcome {
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
        drained
    }
}

/// Puts everything together and starts it.
///
/// # Errors
/// With `mistakes` filled and an empty sentence, what is wrong stands in the operator's files;
/// otherwise the sentence says what could not be done. Nothing is left running.
pub fn start(config: Config, clock: &Clock, mistakes: &mut Mistakes) -> Result<Started, Exit> {
    let now = clock.now();
    let could_not = Exit::CouldNot;
    let made = first_run::prepare(&config).map_err(could_not)?;
    let keyring = Keyring::read(&config).map_err(could_not)?;
    let (directory, store) = keyring.open(&config).map_err(could_not)?;
    let record = record(&config, clock).map_err(could_not)?;
    let buckets = Arc::new(Buckets::new(config.ceilings.buckets));
    let ground = Ground {
        upstreams: Arc::clone(&config.upstreams),
        directory: Arc::clone(&directory),
        nonces: Arc::new(Nonces::new(config.ceilings.nonces, now)),
        buckets: Arc::clone(&buckets),
        record: Arc::clone(&record),
        clock: clock.clone(),
    };
    let files = Files::read(&config.policy_dir, mistakes);
    let policy = compile::compile(&files, &ground, mistakes).filter(|_| !mistakes.any_error());
    let Some(policy) = policy else { return Err(Exit::CouldNot(String::new())) };
    let tests = policy.cases().len();
    let routes = policy.routes().len();
    let prove = rehearse::proof(Arc::clone(&config.upstreams), clock.clone());
    if config.run_tests {
        prove(&files).map_err(could_not)?;
    }

    let sockets = config
        .listeners
        .iter()
        .map(|listener| bind(listener).map_err(|fault| could_not(fault.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    let admin_socket = config.admin.map(bind_loopback).transpose().map_err(could_not)?;
    let task_socket = config
        .task_service
        .as_ref()
        .map(|(address, _)| bind_loopback(*address))
        .transpose()
        .map_err(could_not)?;

    // Nobody can be let in without a key, so the very first start makes one.
    let first_key = match directory.is_empty() {
        true => Some(first_key(&config, &directory, &policy, now).map_err(could_not)?),
        false => None,
    };

    let policy = Arc::new(ArcSwap::from_pointee(policy));
    let in_force = Arc::new(Bans::default());
    restore_bans(&in_force, &store, now);
    let shared = Arc::new(Shared {
        clock: clock.clone(),
        policy: Arc::clone(&policy),
        record: Arc::clone(&record),
        bans: in_force,
        room: Room::new(Size(config.ceilings.buffered_bytes)),
    });
    let proof = config.run_tests.then_some(prove);
    let reloader = Reloader::new(config.policy_dir.clone(), ground, policy, proof);
    let drain = Drain::default();
    let listeners: Vec<Arc<listen::Shared>> = config
        .listeners
        .iter()
        .map(|settings| listen::Shared::new(settings.clone(), clock.clone()))
        .collect();

    let workers = workers(&config, &sockets, &listeners, &shared, &drain).map_err(could_not)?;
    let facts = facts(&config, &sockets, admin_socket.as_ref(), made.0, first_key, (routes, tests));
    let admin = Arc::new(Admin::new(Parts {
        shared,
        directory,
        store,
        buckets,
        reloader,
        watch: config.watch,
        upstreams: Arc::clone(&config.upstreams),
        listeners,
        token: keyring.admin,
        drain: drain.clone(),
        expire_after: config.expire_after,
    }));
    let (stop_control, stopped) = tokio::sync::watch::channel(false);
    let control = control(&config, Arc::clone(&admin), (admin_socket, task_socket), stopped, clock)
        .map_err(could_not)?;
    Ok(Started {
        facts,
        drain,
        drain_time: config.drain,
        admin,
        stop_control,
        workers,
        control: Some(control),
    })
}

/// The secrets that the process starts with.
struct Keyring {
    master: Secret,
    pepper: Secret,
    admin: Option<Secret>,
}

impl Keyring {
    /// Opens the store and what is kept in it.
    fn open(&self, config: &Config) -> Result<(Arc<Directory>, Arc<Store>), String> {
        let store =
            Store::open(&config.state_dir, &self.master).map_err(|fault| fault.to_string())?;
        let store = Arc::new(store);
        let directory = Directory::open(Arc::clone(&store), &self.pepper, &config.environment);
        Ok((Arc::new(directory.map_err(|fault| fault.to_string())?), store))
    }

    fn read(config: &Config) -> Result<Self, String> {
        let read = |reference: &Option<Reference>, file: &str| match reference {
            Some(reference) => reference.read(&config.base),
            None => Reference::File(config.state_dir.join(file)).read(Path::new(".")),
        };
        Ok(Self {
            master: read(&config.master_key, state_files::MASTER_KEY)?,
            pepper: read(&config.pepper, state_files::PEPPER)?,
            admin: config
                .admin
                .map(|_| read(&config.admin_token, state_files::ADMIN_TOKEN))
                .transpose()?,
        })
    }
}

/// The credentials of a gateway that does not run.
///
/// # Errors
/// A sentence that says why they cannot be opened.
pub fn open_directory(config: &Config) -> Result<(Arc<Directory>, Arc<Store>), String> {
    Keyring::read(config)?.open(config)
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

fn targets(upstream: &Upstream) -> String {
    upstream.targets().iter().map(|target| &**target.name()).collect::<Vec<_>>().join(", ")
}

fn bind_loopback(address: SocketAddr) -> Result<std::net::TcpListener, String> {
    let wrong = |error: std::io::Error| format!("{address} cannot be bound: {error}");
    let listener = std::net::TcpListener::bind(address).map_err(wrong)?;
    listener.set_nonblocking(true).map_err(wrong)?;
    Ok(listener)
}

fn restore_bans(in_force: &Bans, store: &Store, now: Now) {
    for ban in bans::stored(store) {
        in_force.add(ban.network, ban.until_ms, &ban.why, now);
    }
}

/// The first key holds every scope and role of the policy, so that everything can be tried.
fn first_key(
    config: &Config,
    directory: &Directory,
    policy: &Policy,
    now: Now,
) -> Result<Secret, String> {
    let vocabulary = policy.vocabulary();
    let new = NewKey {
        name: "first key".to_owned(),
        subject: FIRST_USER.to_owned(),
        roles: vocabulary.roles().map(|(name, _)| name.to_owned()).collect(),
        scopes: vocabulary.scopes().map(|(name, _)| name.to_owned()).collect(),
        tier: vocabulary.tiers().map(|(name, _)| name.to_owned()).find(|tier| tier == "pro"),
        expires_ms: Some(now.unix_ms + FIRST_KEY_DAYS * 86_400_000),
        ..NewKey::default()
    };
    let secret = directory.create(new, now).map_err(|fault| fault.to_string())?.secret;
    if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        let path = config.state_dir.join(state_files::FIRST_KEY);
        write_new(&path, &[secret.expose(), b"\n"].concat(), 0o600)?;
    }
    Ok(secret)
}

fn facts(
    config: &Config,
    sockets: &[Sockets],
    admin: Option<&std::net::TcpListener>,
    made: Vec<&'static str>,
    first_key: Option<Secret>,
    (routes, tests): (usize, usize),
) -> Facts {
    let listeners = config.listeners.iter().zip(sockets).flat_map(|(settings, sockets)| {
        let (name, tls) = (settings.name(), settings.certificates().is_some());
        sockets.local_addrs().into_iter().map(move |address| (Arc::clone(name), address, tls))
    });
    Facts {
        made,
        first_key,
        state_dir: crate::policy::files::shown_path(&config.state_dir),
        policy_dir: crate::policy::files::shown_path(&config.policy_dir),
        listeners: listeners.collect(),
        admin: admin.and_then(|socket| socket.local_addr().ok()),
        upstreams: config
            .upstreams
            .iter()
            .map(|upstream| (upstream.name().to_owned(), targets(upstream)))
            .collect(),
        routes,
        tests,
    }
}

/// One thread for each worker, with a runtime, sockets and upstream connections of its own. This is
/// the one place that knows how many threads there are; no stage does.
fn workers(
    config: &Config,
    sockets: &[Sockets],
    listeners: &[Arc<listen::Shared>],
    shared: &Arc<Shared>,
    drain: &Drain,
) -> Result<Vec<JoinHandle<()>>, String> {
    let mut threads = Vec::new();
    for number in 0..config.workers {
        let mut serving = Vec::new();
        for (sockets, listener) in sockets.iter().zip(listeners) {
            for socket in sockets.for_worker().map_err(|fault| fault.to_string())? {
                serving.push((socket, Arc::clone(listener)));
            }
        }
        let sender = Arc::new(Sender::to(&config.upstreams));
        let shared = Arc::clone(shared);
        let drain = drain.clone();
        let thread =
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let Ok(runtime) = runtime.inspect_err(|error| {
                    tracing::error!("worker {number} has no runtime: {error}")
                }) else {
                    return;
                };
                runtime.block_on(async {
                    let tending = Arc::clone(&sender);
                    let tending = tokio::spawn(async move { tending.tend().await });
                    let mut accepting = tokio::task::JoinSet::new();
                    for (socket, listener) in serving {
                        let meters = shared.record.metrics().listener(listener.settings.name());
                        let gateway =
                            Gateway::new(Arc::clone(&shared), Arc::clone(&sender), meters);
                        accepting.spawn(listen::serve(socket, listener, gateway, drain.clone()));
                    }
                    while let Some(ended) = accepting.join_next().await {
                        if let Ok(Err(error)) = ended {
                            tracing::error!("a listener of worker {number} ended: {error}");
                        }
                    }
                    // Connections go on in tasks of their own; this thread must outlive them.
                    tokio::select! {
                        () = drain.finished() => {}
                        () = drain.was_cut() => tokio::time::sleep(CUT_TIME).await,
                    }
                    tending.abort();
                });
            });
        threads.push(thread.map_err(|error| format!("no thread: {error}"))?);
    }
    Ok(threads)
}

/// The thread beside the workers: admin listener, bundled service, health checks, housekeeping.
fn control(
    config: &Config,
    admin: Arc<Admin>,
    (admin_socket, task_socket): (Option<std::net::TcpListener>, Option<std::net::TcpListener>),
    stopped: tokio::sync::watch::Receiver<bool>,
    clock: &Clock,
) -> Result<JoinHandle<()>, String> {
    let upstreams = Arc::clone(&config.upstreams);
    let service = config.task_service.as_ref().and_then(|(_, name)| {
        let upstream = config.upstreams.find(name)?;
        Some(Service::new(Verifier::new(upstream.identity_secret()?), clock.clone()))
    });
    if task_socket.is_some() && service.is_none() {
        return Err(
            "the task service believes a signed identity only, and its upstream has no `identity`"
                .to_owned(),
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        runtime.block_on(async {
            let stop = || {
                let mut stopped = stopped.clone();
                async move { drop(stopped.wait_for(|stopped| *stopped).await) }
            };
            let mut serving = tokio::task::JoinSet::new();
            if let Some(socket) =
                admin_socket.and_then(|socket| tokio::net::TcpListener::from_std(socket).ok())
            {
                serving.spawn(plain::serve(socket, Arc::clone(&admin), stop()));
            }
            if let (Some(socket), Some(service)) = (
                task_socket.and_then(|socket| tokio::net::TcpListener::from_std(socket).ok()),
                service,
            ) {
                serving.spawn(plain::serve(socket, service, stop()));
            }
            serving.spawn(health::watch(upstreams, stop()));
            serving.spawn(housekeeping::keep(admin, stop()));
            while serving.join_next().await.is_some() {}
        });
    });
    thread.map_err(|error| format!("no thread: {error}"))
}
