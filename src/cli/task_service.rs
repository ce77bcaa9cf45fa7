//! `task-service`: serves the bundled task service alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::cli::exit::{Exit, say};
use crate::cli::{Ended, Globals};
use crate::clock::Clock;
use crate::forward::identity::Verifier;
use crate::listen::plain;
use crate::secret::reference::Reference;
use crate::tasks::Service;

/// Options of `task-service`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  portcullis task-service --identity file:identity.secret   (and identity = \"file:identity.secret\" for the upstream)\n  portcullis task-service --bind 127.0.0.1:9100 --identity env:IDENTITY"
)]
pub struct Options {
    /// Where to listen; loopback only.
    #[arg(long, default_value = "127.0.0.1:9000")]
    bind: SocketAddr,
    /// The secret that the gateway signs identities with: env:NAME, file:PATH or credential:NAME.
    #[arg(long)]
    identity: String,
    /// The directory that file: is relative to.
    #[arg(long, default_value = ".")]
    base: PathBuf,
}

/// Serves until it is interrupted.
pub fn run(_: &Globals, options: &Options) -> Ended {
    if !options.bind.ip().is_loopback() {
        return Err(Exit::CouldNot(
            "the task service is there to try things with; bind it to loopback".to_owned(),
        ));
    }
    let reference: Reference = options.identity.parse().map_err(Exit::CouldNot)?;
    let secret = reference.read(&options.base).map_err(|fault| Exit::CouldNot(fault.sentence()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit::CouldNot(format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(options.bind).await.map_err(|error| {
            Exit::CouldNot(format!("{} cannot be bound: {error}", options.bind))
        })?;
        say(&format!("task service on http://{}   Ctrl-C stops", options.bind));
        let service = Service::new(Verifier::new(&secret), Clock::system());
        plain::serve(listener, service, interrupted()).await;
        Ok(Exit::Fine)
    })
}

/// Until SIGINT or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
