//! Starts the threads of a gateway: workers that serve, and one beside them.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime, RuntimeMetrics};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{Admin, housekeeping};
use crate::authenticate::jwt::refresh;
use crate::authenticate::outside::Outside;
use crate::cli::start::Bound;
use crate::clock::Clock;
use crate::config::Config;
use crate::forward::credential::oauth;
use crate::forward::health;
use crate::forward::sender::Sender;
use crate::gateway::{Gateway, Shared};
use crate::listen;
use crate::listen::balance::{Balance, Post};
use crate::listen::drain::Drain;
use crate::listen::plain;
use crate::listen::turn;
use crate::tasks::Service;

/// Connections may take a moment to be cut after the drain's time is over.
pub(in crate::cli) const CUT_TIME: Duration = Duration::from_secs(2);

/// The sockets of one worker, each with its listener and the worker's post at it.
type Serving = Vec<(std::net::TcpListener, Arc<listen::Shared>, Post)>;

/// What spreads the load over the workers, and where it reads the load of each.
pub(in crate::cli) struct Load {
    balance: Arc<Balance>,
    runtimes: Vec<RuntimeMetrics>,
}

/// One thread for each worker, with a runtime, sockets and upstream connections of its own. This is
/// the one place that knows how many threads there are; no stage does.
pub(in crate::cli) fn workers(
    config: &Config,
    bound: &mut Bound,
    listeners: &[Arc<listen::Shared>],
    shared: &Arc<Shared>,
    drain: &Drain,
) -> Result<(Vec<JoinHandle<()>>, Load), String> {
    let count = config.workers;
    let balance = Balance::new(count);
    let mut all: Vec<Serving> = (0..count).map(|_| Serving::new()).collect();
    for (sockets, listener) in bound.listeners.iter_mut().zip(listeners) {
        for sockets in sockets.take() {
            let of_workers = all.iter_mut().zip(sockets).zip(balance.posts());
            for ((serving, socket), post) in of_workers {
                serving.push((socket, Arc::clone(listener), post));
            }
        }
    }
    let (mut threads, mut runtimes) = (Vec::new(), Vec::new());
    for (number, serving) in all.into_iter().enumerate() {
        let sender = Arc::new(Sender::to(&config.upstreams));
        let (shared, drain, runtime) = (Arc::clone(shared), drain.clone(), runtime()?);
        runtimes.push(runtime.metrics());
        let thread = std::thread::Builder::new().name(format!("worker-{number}"));
        let thread = thread.spawn(move || runtime.block_on(work(serving, shared, sender, drain)));
        threads.push(thread.map_err(|error| format!("no thread: {error}"))?);
    }
    Ok((threads, Load { balance, runtimes }))
}

/// What one worker does, until the drain is over.
async fn work(serving: Serving, shared: Arc<Shared>, sender: Arc<Sender>, drain: Drain) {
    let tending = Arc::clone(&sender);
    let tending = tokio::spawn(async move { tending.tend().await });
    let mut accepting = JoinSet::new();
    for (socket, listener, post) in serving {
        let meters = shared.record.metrics().listener(listener.settings.name());
        let gateway = Gateway::new(Arc::clone(&shared), Arc::clone(&sender), meters);
        accepting.spawn(listen::serve(socket, listener, gateway, drain.clone(), post));
    }
    while let Some(ended) = accepting.join_next().await {
        if let Ok(Err(error)) = ended {
            tracing::error!("a listener ended: {error}");
        }
    }
    // Connections go on in tasks of their own; this thread must outlive them.
    tokio::select! {
        () = drain.finished() => {}
        () = drain.was_cut() => tokio::time::sleep(CUT_TIME).await,
    }
    tending.abort();
}

/// The thread beside the workers: admin listener, bundled service, health checks, housekeeping.
pub(in crate::cli) fn control(
    (config, outside): (&Config, Outside),
    admin: &Arc<Admin>,
    (bound, load): (Bound, Load),
    stopped: watch::Receiver<bool>,
    clock: &Clock,
) -> Result<JoinHandle<()>, String> {
    let service = config.task_service.as_ref().and_then(|(_, name)| {
        let upstream = config.upstreams.find(name)?;
        Some(Service::new(upstream.identity_signer()?.verifier(), clock.clone()))
    });
    if bound.tasks.is_some() && service.is_none() {
        let says =
            "the task service believes signed identities only; give its upstream an `identity`";
        return Err(says.to_owned());
    }
    let (upstreams, admin, runtime, clock) =
        (Arc::clone(&config.upstreams), Arc::clone(admin), runtime()?, clock.clone());
    let thread = std::thread::Builder::new().name("control".to_owned());
    let thread = thread.spawn(move || {
        runtime.block_on(async {
            let stop = || {
                let mut stopped = stopped.clone();
                async move { drop(stopped.wait_for(|stopped| *stopped).await) }
            };
            let listener = |socket: std::net::TcpListener| TcpListener::from_std(socket).ok();
            let mut serving = JoinSet::new();
            if let Some(socket) = bound.admin.and_then(listener) {
                serving.spawn(plain::serve(socket, Arc::clone(&admin), stop()));
            }
            if let (Some(socket), Some(service)) = (bound.tasks.and_then(listener), service) {
                serving.spawn(plain::serve(socket, service, stop()));
            }
            if load.runtimes.len() > 1 {
                serving.spawn(load.balance.keep(load.runtimes, stop()));
            }
            serving.spawn(health::watch(Arc::clone(&upstreams), stop()));
            serving.spawn(oauth::watch(upstreams, clock.clone(), stop()));
            serving.spawn(refresh::keep(outside.key_sets, clock, stop()));
            serving.spawn(outside.errands.run(stop()));
            serving.spawn(housekeeping::keep(admin, stop()));
            while serving.join_next().await.is_some() {}
        });
    });
    thread.map_err(|error| format!("no thread: {error}"))
}

fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread()
        .enable_all()
        .on_thread_park(turn::rest)
        .build()
        .map_err(|error| format!("no runtime: {error}"))
}
