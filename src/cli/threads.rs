//! Starts the threads of a gateway: workers that serve, and one beside them.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::admin::{Admin, housekeeping};
use crate::clock::Clock;
use crate::config::Config;
use crate::forward::health;
use crate::forward::identity::Verifier;
use crate::forward::sender::Sender;
use crate::gateway::{Gateway, Shared};
use crate::listen;
use crate::listen::bind::Sockets;
use crate::listen::drain::Drain;
use crate::listen::plain;
use crate::tasks::Service;

/// Connections may take a moment to be cut after the drain's time is over.
pub(in crate::cli) const CUT_TIME: Duration = Duration::from_secs(2);

/// One thread for each worker, with a runtime, sockets and upstream connections of its own. This is
/// the one place that knows how many threads there are; no stage does.
pub(in crate::cli) fn workers(
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
pub(in crate::cli) fn control(
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
