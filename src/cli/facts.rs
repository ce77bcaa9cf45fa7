//! What was started, for those who want to see it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::cli::start::Bound;
use crate::config::{Config, state_files};
use crate::forward::upstream::Upstream;
use crate::secret::Secret;

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

pub(in crate::cli) fn facts(
    config: &Config,
    bound: &Bound,
    made: Vec<&'static str>,
    first_key: Option<Secret>,
    (routes, tests): (usize, usize),
) -> Facts {
    let listeners =
        config.listeners.iter().zip(&bound.listeners).flat_map(|(settings, sockets)| {
            let (name, tls) = (settings.name(), settings.certificates().is_some());
            sockets.local_addrs().iter().map(move |address| (Arc::clone(name), *address, tls))
        });
    Facts {
        made,
        first_key,
        state_dir: crate::policy::files::shown_path(&config.state_dir),
        policy_dir: crate::policy::files::shown_path(&config.policy_dir),
        listeners: listeners.collect(),
        admin: bound.admin.as_ref().and_then(|socket| socket.local_addr().ok()),
        upstreams: config
            .upstreams
            .iter()
            .map(|upstream| (upstream.name().to_owned(), targets(upstream)))
            .collect(),
        routes,
        tests,
    }
}

fn targets(upstream: &Upstream) -> String {
    upstream.targets().iter().map(|target| &**target.name()).collect::<Vec<_>>().join(", ")
}
