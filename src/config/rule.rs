//! `gateway.toml` as it is written: how the process runs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::forward::identity::issuer::IssuerRule;
use crate::forward::settings::UpstreamRule;
use crate::listen::settings::ListenerRule;
use crate::mistake::source::At;
use crate::record::log::LogRule;
use crate::secret::reference::Reference;
use crate::units::{Size, Span};

/// `gateway.toml`: where the gateway listens, whom it talks to, where it keeps things. What is
/// allowed stands in the policy directory.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename = "gateway")]
pub struct GatewayFile {
    /// The version of this format: 1.
    pub version: u32,
    /// Where the policy stands.
    #[serde(default)]
    pub policy: PolicyRule,
    /// Where the gateway accepts connections.
    pub listener: Vec<ListenerRule>,
    /// The services behind the gateway, by name.
    pub upstreams: BTreeMap<String, UpstreamRule>,
    /// How tokens are signed that tell services who calls.
    #[serde(default)]
    pub identity: IssuerRule,
    /// Where keys, bans and secrets are kept.
    #[serde(default)]
    pub state: StateRule,
    /// How API keys are made.
    #[serde(default)]
    pub keys: KeysRule,
    /// The listener for operators: metrics, health, administration.
    pub admin: Option<AdminRule>,
    /// What is logged, and where to.
    #[serde(default)]
    pub log: LogRule,
    /// How the process stops.
    #[serde(default)]
    pub shutdown: ShutdownRule,
    /// How many threads serve requests, and what they may hold in memory.
    #[serde(default)]
    pub process: ProcessRule,
    /// The bundled task service, to try things with.
    pub task_service: Option<TaskServiceRule>,
}

/// Where the policy stands.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyRule {
    /// The directory whose `*.toml` files are the policy, relative to this file. Default: "policies".
    pub dir: String,
    /// Whether changed files are noticed and swapped in by themselves. Default: true.
    pub watch: bool,
    /// Whether the policy's own tests must pass before a change takes effect. Default: true.
    pub run_tests: bool,
}

impl Default for PolicyRule {
    fn default() -> Self {
        Self { dir: "policies".to_owned(), watch: true, run_tests: true }
    }
}

/// Where keys, bans and secrets are kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StateRule {
    /// The state directory, relative to this file. Default: ".portcullis".
    pub dir: String,
    /// The key that secrets are encrypted under. Default: the file `master.key` in the state
    /// directory, made on first run.
    pub master_key: Option<At<Reference>>,
    /// The pepper of key hashes. Default: the file `pepper` in the state directory, made on first run.
    pub pepper: Option<At<Reference>>,
}

impl Default for StateRule {
    fn default() -> Self {
        Self { dir: ".portcullis".to_owned(), master_key: None, pepper: None }
    }
}

/// How API keys are made.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeysRule {
    /// The environment that keys are bound to; a key of another one is refused. Lower-case letters
    /// and digits. Default: "dev".
    pub environment: At<String>,
    /// How long a new key lives when nothing else is said. Default: 90d.
    pub expire_after: Span,
    /// How long a key may live, by its environment: `{ dev = "90d", prod = "365d" }`. A new key
    /// that would live longer is refused; one that is older already still works, and is listed as
    /// overdue. Default: as long as anybody says.
    pub max_age: BTreeMap<String, At<Span>>,
}

impl Default for KeysRule {
    fn default() -> Self {
        Self {
            environment: At { value: "dev".to_owned(), span: 0..0 },
            expire_after: Span(std::time::Duration::from_secs(90 * 86_400)),
            max_age: BTreeMap::new(),
        }
    }
}

/// The listener for operators.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminRule {
    /// Address and port, for example "127.0.0.1:9901". `/healthz`, `/readyz` and `/metrics` need no
    /// token on loopback; everything else does.
    pub bind: At<String>,
    /// The token of the administration. Default: the file `admin.token` in the state directory,
    /// made on first run.
    #[serde(default)]
    pub token: Option<At<Reference>>,
}

/// How the process stops.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownRule {
    /// How long requests in flight may take to end after SIGTERM. Default: 20s.
    pub drain: Span,
}

impl Default for ShutdownRule {
    fn default() -> Self {
        Self { drain: Span(std::time::Duration::from_secs(20)) }
    }
}

/// How many threads serve requests, and what they may hold in memory.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessRule {
    /// Threads that serve requests, 1 to 256. Default: one for each processor.
    pub workers: Option<At<u16>>,
    /// One ceiling on all bytes of bodies that are held in memory at a time; above it 503.
    /// Default: 256MiB.
    pub buffered_bytes_max: Size,
    /// Token buckets held at a time. Default: 1,000,000.
    pub buckets_max: u32,
    /// Nonces of signatures held at a time; above it signed requests are refused. Default: 1,000,000.
    pub nonces_max: u32,
}

impl Default for ProcessRule {
    fn default() -> Self {
        Self {
            workers: None,
            buffered_bytes_max: Size(256 << 20),
            buckets_max: 1_000_000,
            nonces_max: 1_000_000,
        }
    }
}

/// The bundled task service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskServiceRule {
    /// Address and port on loopback, for example "127.0.0.1:9000".
    pub bind: At<String>,
    /// The upstream whose signed identity the service believes. Default: "task-service".
    #[serde(default = "task_upstream")]
    pub upstream: At<String>,
}

fn task_upstream() -> At<String> {
    At { value: "task-service".to_owned(), span: 0..0 }
}
