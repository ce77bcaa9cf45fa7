//! How the process runs, as `gateway.toml` says it.

mod at_rest;
pub mod development;
mod names;
pub mod rule;
mod sections;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::config::sections::Sections;
use crate::forward::identity::issuer::Issuer;
use crate::forward::upstream::Upstreams;
use crate::listen::settings::Settings;
use crate::mistake::code::Code;
use crate::mistake::source::Source;
use crate::mistake::{Mistake, Mistakes, Reading};
use crate::policy::files::shown_path;
use crate::record::log::LogPlan;
use crate::secret::reference::Reference;

/// How the process runs. Made once, at start.
pub struct Config {
    /// The directory of `gateway.toml`, which its paths are relative to.
    pub base: PathBuf,
    /// The policy directory.
    pub policy_dir: PathBuf,
    /// Whether changed policy files are noticed by themselves.
    pub watch: bool,
    /// Whether the policy's tests must pass before a change takes effect.
    pub run_tests: bool,
    /// The listeners.
    pub listeners: Vec<Settings>,
    /// The upstreams.
    pub upstreams: Arc<Upstreams>,
    /// Who signs tokens that tell services who calls.
    pub issuer: Arc<Issuer>,
    /// The state directory.
    pub state_dir: PathBuf,
    /// Where the master key is, when not in the state directory.
    pub master_key: Option<Reference>,
    /// Where the pepper is, when not in the state directory.
    pub pepper: Option<Reference>,
    /// The environment that keys are bound to.
    pub environment: String,
    /// How long a new key lives when nothing else is said.
    pub expire_after: Duration,
    /// How long keys may live, by their environment.
    pub max_ages: HashMap<String, Duration>,
    /// The admin listener's address.
    pub admin: Option<SocketAddr>,
    /// Where the admin token is, when not in the state directory.
    pub admin_token: Option<Reference>,
    /// What is logged, and where to.
    pub log: LogPlan,
    /// How long requests in flight may take to end.
    pub drain: Duration,
    /// Threads that serve requests.
    pub workers: usize,
    /// Ceilings on memory.
    pub ceilings: Ceilings,
    /// The bundled task service: its address, and the upstream whose identity it believes.
    pub task_service: Option<(SocketAddr, String)>,
    /// Whether reading it made a development certificate.
    pub made_certificate: bool,
}

/// What becomes of things that a first run makes, while `gateway.toml` is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstRun {
    /// They are made in the state directory: a gateway is about to start.
    Make,
    /// They are taken as made: somebody only looks.
    Assume,
}

/// Ceilings on what the process holds in memory.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// Bytes of bodies held at a time.
    pub buffered_bytes: u64,
    /// Token buckets held at a time.
    pub buckets: usize,
    /// Nonces held at a time.
    pub nonces: usize,
}

/// Files of the state directory, made on first run.
pub mod state_files {
    /// The certificate of the development CA.
    pub const DEV_CA: &str = "dev-ca.pem";
    /// The development certificate.
    pub const DEV_CERT: &str = "dev-cert.pem";
    /// Its private key.
    pub const DEV_KEY: &str = "dev-key.pem";
    /// The token of the administration.
    pub const ADMIN_TOKEN: &str = "admin.token";
    /// The pepper of key hashes.
    pub const PEPPER: &str = "pepper";
    /// The key that secrets are encrypted under.
    pub const MASTER_KEY: &str = "master.key";
    /// The first API key, when nobody sat at a terminal to see it.
    pub const FIRST_KEY: &str = "first-key";
}

impl Config {
    /// Reads `gateway.toml`. Reports everything that is wrong in it; nothing is made if any of it
    /// must be mended.
    pub fn read(
        path: &Path,
        first_run: FirstRun,
        now: Now,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                mistakes.push(
                    Mistake::new(
                        Code::Unreadable,
                        format!("{} cannot be read: {error}", shown_path(path)),
                    )
                    .help("run in the directory of gateway.toml, or name it with --config FILE"),
                );
                return None;
            }
        };
        let source = Source::new(shown_path(path), text);
        let before = mistakes.count().0;
        let sections = Sections::read(&source, mistakes);
        if mistakes.any_syntax_in(&source) {
            return None;
        }
        let base = base_of(path);
        let reading = &mut Reading { source: &source, mistakes };
        let config = sections.compile(&base, first_run, now, reading);
        (mistakes.count().0 == before).then_some(config).flatten()
    }

    /// The policy directory that `gateway.toml` names, whatever else is wrong with that file.
    pub fn policy_dir(path: &Path) -> Option<PathBuf> {
        let source = Source::new(shown_path(path), std::fs::read_to_string(path).ok()?);
        let sections = Sections::read(&source, &mut Mistakes::default());
        Some(base_of(path).join(sections.policy_dir()))
    }
}

/// The directory that the paths of `gateway.toml` are relative to.
fn base_of(path: &Path) -> PathBuf {
    path.parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Makes a directory that only its owner may enter, if it is not there.
///
/// # Errors
/// A sentence with the path.
pub fn private_dir(dir: &Path) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| format!("the directory {} cannot be made: {error}", dir.display()))
}
