//! `run`: the gateway itself, from its start to its drained end.

use std::io::IsTerminal;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::check::{look, stopped};
use crate::cli::exit::{Exit, say};
use crate::cli::start::{self, Started};
use crate::cli::{Ended, Globals};
use crate::clock::Clock;
use crate::config::{Config, FirstRun, state_files};
use crate::mistake::Mistakes;

/// Options of `run`.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Examples:\n  portcullis run\n  portcullis run --config /etc/portcullis/gateway.toml\n\nSignals: SIGTERM and SIGINT drain and stop, SIGHUP loads the policy again and opens the access log anew."
)]
pub struct Options {}

/// Serves until SIGTERM or SIGINT, then drains.
pub fn run(globals: &Globals, _: &Options) -> Ended {
    let clock = Clock::system();
    let begun = clock.now();
    log_to_stderr();
    let mut mistakes = Mistakes::default();
    // Everything is looked at before anything is made: what has mistakes leaves no trace.
    look(globals, None, begun, &mut mistakes);
    let config = (!mistakes.any_error())
        .then(|| Config::read(&globals.config, FirstRun::Make, begun, &mut Mistakes::default()));
    let Some(config) = config.flatten() else { return Err(stopped(&mut mistakes, globals)) };
    let started = match start::start(config, &clock, &mut mistakes) {
        Ok(started) => started,
        Err(Exit::CouldNot(says)) if mistakes.any_error() && says.is_empty() => {
            return Err(stopped(&mut mistakes, globals));
        }
        Err(exit) => return Err(exit),
    };
    banner(&started, globals, clock.now().since(begun));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit::CouldNot(format!("no runtime: {error}")))?;
    runtime
        .block_on(signals(&started))
        .map_err(|error| Exit::CouldNot(format!("no signals: {error}")))?;
    tracing::info!(
        "draining: requests in flight may take {} s to end",
        started.drain_time().as_secs()
    );
    notify("STOPPING=1");
    if started.stop() {
        Ok(Exit::Fine)
    } else {
        Err(Exit::CouldNot("some requests had not ended when the drain's time was over".to_owned()))
    }
}

/// Until SIGTERM or SIGINT. SIGHUP meanwhile opens the access log anew and asks for a reload.
async fn signals(started: &Started) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    notify("READY=1");
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {
                notify("RELOADING=1");
                started.reopen_log();
                started.reload();
                notify("READY=1");
            }
        }
    }
}

/// Operators' messages: one line each on standard error, JSON when it is not a terminal.
fn log_to_stderr() {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter =
        EnvFilter::try_from_env("PORTCULLIS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second start in one process, as tests do, keeps the first's.
    let _ = if terminal {
        lines.without_time().try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
}

/// Tells systemd how the process stands (`Type=notify`); nobody when it was not started by it.
fn notify(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = sent {
        tracing::warn!("systemd could not be told {state}: {error}");
    }
}

/// What a person who started it wants to know. Not for a log: there it is one line for each fact.
fn banner(started: &Started, globals: &Globals, took: std::time::Duration) {
    let facts = started.facts();
    let terminal = std::io::stderr().is_terminal();
    let mut lines = Vec::new();
    if !facts.made.is_empty() {
        lines.push(format!(
            "first run     made in {}/: {}",
            facts.state_dir,
            facts.made.join(", ")
        ));
    }
    if let Some(key) = &facts.first_key {
        if terminal {
            let text = String::from_utf8_lossy(key.expose()).into_owned();
            lines.push(format!("API key       {text}   shown once; role admin, tier pro, 30 days"));
        } else {
            lines.push(format!(
                "first key     written to {}/{} (0600)",
                facts.state_dir,
                state_files::FIRST_KEY
            ));
        }
    }
    for (name, address, tls) in &facts.listeners {
        let scheme = if *tls { "https" } else { "http" };
        lines.push(format!(
            "gateway       {scheme}://{address}      {name}: {} routes, everything else is refused",
            facts.routes
        ));
    }
    if let Some(admin) = facts.admin {
        lines.push(format!("metrics       http://{admin}/metrics"));
    }
    for (name, targets) in &facts.upstreams {
        lines.push(format!("upstream      {name} → {targets}"));
    }
    if !terminal {
        for line in lines {
            tracing::info!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        tracing::info!("ready in {} ms", took.as_millis());
        return;
    }
    say(&format!(
        "\nportcullis {}   {}   {} ({} tests passed)\n",
        env!("CARGO_PKG_VERSION"),
        globals.config.display(),
        facts.policy_dir,
        facts.tests
    ));
    for line in lines {
        say(&format!("  {line}"));
    }
    if let Some(try_it) = facts.try_it() {
        say(&format!("\nTry it (in a second terminal):\n\n{try_it}"));
    }
    say(&format!("\nReady in {} ms. Ctrl-C drains and stops.", took.as_millis()));
}
