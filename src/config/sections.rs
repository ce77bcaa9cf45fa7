//! The sections of `gateway.toml`, read one by one so that every mistake is found.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::clock::Now;
use crate::config::rule::{
    AdminRule, GatewayFile, KeysRule, PolicyRule, ProcessRule, ShutdownRule, StateRule,
    TaskServiceRule,
};
use crate::config::{
    Ceilings, Config, FirstRun, at_rest, development, names, private_dir, state_files,
};
use crate::forward::identity::issuer::{Issuer, IssuerRule};
use crate::forward::reference::Surroundings;
use crate::forward::settings::{self as upstream, UpstreamRule};
use crate::forward::upstream::Upstreams;
use crate::listen::settings::{self as listener, ListenerRule};
use crate::mistake::code::Code;
use crate::mistake::read::{self, Entry};
use crate::mistake::source::{At, Source};
use crate::mistake::{Mistake, Mistakes, Reading, suggest};
use crate::record::log::{LogPlan, LogRule};
use crate::secret::reference::{Reference, environment};

/// The sections of `gateway.toml`, each read on its own so that all mistakes are found.
#[derive(Default)]
pub(in crate::config) struct Sections {
    version: Option<At<u32>>,
    policy: PolicyRule,
    listeners: Vec<ListenerRule>,
    listener_span: Option<Range<usize>>,
    /// How many `[[listener]]` there are, also those that have mistakes.
    listeners_written: usize,
    upstreams: Vec<(String, Range<usize>, UpstreamRule)>,
    identity: IssuerRule,
    state: StateRule,
    keys: KeysRule,
    admin: Option<AdminRule>,
    log: LogRule,
    shutdown: ShutdownRule,
    process: ProcessRule,
    task_service: Option<TaskServiceRule>,
}

impl Sections {
    pub(in crate::config) fn read(source: &Arc<Source>, mistakes: &mut Mistakes) -> Self {
        let mut sections = Self::default();
        let entries = read::top(source, mistakes);
        if !mistakes.any_syntax_in(source) {
            for entry in entries {
                sections.section(entry, source, mistakes);
            }
        }
        sections
    }

    pub(in crate::config) fn policy_dir(&self) -> &str {
        &self.policy.dir
    }

    fn section(&mut self, entry: Entry<'_>, source: &Arc<Source>, mistakes: &mut Mistakes) {
        /// Reads one section, or keeps its default beside the mistakes that were reported.
        fn or_default<T: DeserializeOwned + JsonSchema + Default + 'static>(
            entry: Entry<'_>,
            source: &Arc<Source>,
            mistakes: &mut Mistakes,
        ) -> T {
            read::rule(&format!("[{}]", entry.name), entry.node, source, mistakes)
                .unwrap_or_default()
        }
        match entry.name.as_str() {
            "version" => self.version = read::rule("`version`", entry.node, source, mistakes),
            "policy" => self.policy = or_default(entry, source, mistakes),
            "listener" => {
                self.listener_span = Some(entry.span.clone());
                for node in read::elements(entry, source, mistakes) {
                    self.listeners_written += 1;
                    self.listeners.extend(read::rule("[[listener]]", node, source, mistakes));
                }
            }
            "upstreams" => {
                for member in read::members(entry, source, mistakes) {
                    let rule = read::rule("an upstream", member.node, source, mistakes);
                    self.upstreams.extend(rule.map(|rule| (member.name, member.span, rule)));
                }
            }
            "identity" => self.identity = or_default(entry, source, mistakes),
            "state" => self.state = or_default(entry, source, mistakes),
            "keys" => self.keys = or_default(entry, source, mistakes),
            "admin" => self.admin = read::rule("[admin]", entry.node, source, mistakes),
            "log" => self.log = or_default(entry, source, mistakes),
            "shutdown" => self.shutdown = or_default(entry, source, mistakes),
            "process" => self.process = or_default(entry, source, mistakes),
            "task_service" => {
                self.task_service = read::rule("[task_service]", entry.node, source, mistakes);
            }
            unknown => {
                let schema = read::schema_of::<GatewayFile>();
                let known = schema.get("properties").and_then(serde_json::Value::as_object);
                let known = known.into_iter().flatten().map(|(key, _)| key.as_str());
                mistakes.push(
                    Mistake::new(
                        Code::UnknownKey,
                        format!("unknown section `{unknown}` in gateway.toml"),
                    )
                    .at(source.place(entry.span))
                    .help(suggest(unknown, known.clone().collect::<Vec<_>>())),
                );
            }
        }
    }

    pub(in crate::config) fn compile(
        self,
        base: &Path,
        first_run: FirstRun,
        now: Now,
        reading: &mut Reading<'_>,
    ) -> Option<Config> {
        self.basics(reading);
        names::check(&self.listeners, &self.upstreams, reading);
        names::environment(&self.keys.environment, reading);
        let max_ages = names::max_ages(&self.keys, reading);
        self.secrets(base, reading);
        at_rest::advise(&self.listeners, &self.state, base, reading);
        let state_dir = base.join(&self.state.dir);
        let admin = self.admin.as_ref().and_then(|rule| admin_address(rule, reading));
        let task_service = self.task_service.as_ref().and_then(|rule| {
            let address = loopback("the task service", &rule.bind, reading)?;
            Some((address, rule.upstream.value.clone()))
        });
        let certificate = self.certificate(first_run, &state_dir, now, reading);
        let fallback = certificate.as_ref().map(Certificate::paths);
        let material = listener::Material { base_dir: base, fallback, now };
        let listeners = self
            .listeners
            .iter()
            .filter_map(|rule| listener::compile(rule, &material, reading))
            .collect();
        let issuer = Issuer::compile(&self.identity, reading);
        let forbidden: Vec<SocketAddr> = admin.into_iter().collect();
        let surroundings = Surroundings {
            base_dir: base,
            forbidden: &forbidden,
            environment: &environment,
            only_looking: first_run == FirstRun::Assume,
            issuer: &issuer,
        };
        let upstreams = Upstreams::new(self.upstreams.iter().filter_map(|(name, span, rule)| {
            upstream::compile(rule, name, span, &surroundings, reading)
        }));
        self.task_upstream(reading);
        let (log, workers) = (LogPlan::compile(&self.log, base, reading), self.workers(reading));
        Some(Config {
            base: base.to_owned(),
            policy_dir: base.join(&self.policy.dir),
            watch: self.policy.watch,
            run_tests: self.policy.run_tests,
            listeners,
            upstreams: Arc::new(upstreams),
            issuer,
            state_dir,
            master_key: self.state.master_key.as_ref().map(|at| at.value.clone()),
            pepper: self.state.pepper.as_ref().map(|at| at.value.clone()),
            environment: self.keys.environment.value.clone(),
            expire_after: self.keys.expire_after.0,
            max_ages,
            admin,
            admin_token: self.admin_token().map(|at| at.value.clone()),
            log: log?,
            drain: self.shutdown.drain.0,
            workers,
            ceilings: Ceilings {
                buffered_bytes: self.process.buffered_bytes_max.0,
                buckets: self.process.buckets_max as usize,
                nonces: self.process.nonces_max as usize,
            },
            task_service,
            made_certificate: certificate.as_ref().is_some_and(|certificate| certificate.made),
        })
    }

    fn admin_token(&self) -> Option<&At<Reference>> {
        self.admin.as_ref().and_then(|rule| rule.token.as_ref())
    }

    /// Whether the secrets are where the operator says.
    fn secrets(&self, base: &Path, reading: &mut Reading<'_>) {
        let state = [&self.state.master_key, &self.state.pepper].into_iter().flatten();
        for reference in state.chain(self.admin_token()) {
            reference.check(base, &reference.span, reading);
        }
    }

    /// The development certificate, when a listener wants TLS and names none. It is for loopback
    /// only: on any other address somebody would come to rely on it.
    fn certificate(
        &self,
        first_run: FirstRun,
        state_dir: &Path,
        now: Now,
        reading: &mut Reading<'_>,
    ) -> Option<Certificate> {
        let nameless = |rule: &&ListenerRule| {
            rule.tls.as_ref().is_some_and(|tls| tls.cert.is_none() && tls.key.is_none())
        };
        let wanting = self.listeners.iter().find(nameless)?;
        let reachable = self.listeners.iter().flat_map(|rule| rule.bind.iter()).find(|address| {
            address.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback())
        });
        if let Some(address) = reachable {
            let span = wanting.tls.as_ref().map_or(0..0, |tls| tls.span.clone());
            let mistake = Mistake::new(
                Code::ExposedDevelopment,
                "a listener has no certificate, and development ones are for loopback only",
            );
            reading.mistakes.push(
                mistake
                    .at(reading.source.place(span))
                    .also(reading.source.place(address.span.clone()), "other machines reach this")
                    .help("name cert and key under [listener.tls], or bind to 127.0.0.1"),
            );
            return None;
        }
        let there = Certificate { dir: state_dir.to_owned(), made: false, passing: false };
        if there.paths().1.exists() {
            return Some(there);
        }
        let certificate = match first_run {
            FirstRun::Make => Certificate { dir: state_dir.to_owned(), made: true, passing: false },
            FirstRun::Assume => {
                let dir = std::env::temp_dir().join(format!("portcullis-{}", std::process::id()));
                Certificate { dir, made: false, passing: true }
            }
        };
        let made = private_dir(&certificate.dir)
            .and_then(|()| development::certificate(&certificate.dir, now));
        if let Err(says) = made {
            let span = wanting.tls.as_ref().map_or(0..0, |tls| tls.span.clone());
            reading.wrong(
                Code::BadCertificate,
                &span,
                says,
                "name cert and key under [listener.tls]",
            );
            return None;
        }
        Some(certificate)
    }

    fn workers(&self, reading: &mut Reading<'_>) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        match &self.process.workers {
            Some(At { value: 1..=256, span: _ }) => {
                usize::from(self.process.workers.as_ref().map_or(1, |workers| workers.value))
            }
            Some(At { span, .. }) => {
                reading.wrong(
                    Code::WrongValue,
                    span,
                    "`workers` must lie between 1 and 256",
                    "leave it out for one per processor",
                );
                1
            }
            None => processors(),
        }
    }

    fn task_upstream(&self, reading: &mut Reading<'_>) {
        let Some(rule) = &self.task_service else { return };
        if !self.upstreams.iter().any(|(name, ..)| *name == rule.upstream.value) {
            let help = suggest(
                &rule.upstream,
                self.upstreams.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(),
            );
            reading.wrong(
                Code::Undefined,
                &rule.upstream.span,
                format!(
                    "the task service believes upstream `{}`, which is not defined",
                    rule.upstream.value
                ),
                help,
            );
        }
    }

    /// What every gateway.toml has.
    fn basics(&self, reading: &mut Reading<'_>) {
        if self.version.as_ref().is_none_or(|version| version.value != 1) {
            let span = self.version.as_ref().map_or(0..0, |version| version.span.clone());
            let help = "write `version = 1` at the top";
            reading.wrong(Code::WrongValue, &span, "`version` must be 1", help);
        }
        if self.listeners_written == 0 {
            let span = self.listener_span.clone().unwrap_or(0..0);
            let help = "add one with bind = [\"127.0.0.1:8443\"]";
            reading.wrong(Code::NoListener, &span, "there is no [[listener]]", help);
        }
    }
}

fn admin_address(rule: &AdminRule, reading: &mut Reading<'_>) -> Option<SocketAddr> {
    let address = address("the admin listener", &rule.bind, reading)?;
    if !address.ip().is_loopback() {
        reading.wrong(
            Code::OpenAdmin,
            &rule.bind.span,
            format!("the admin listener on {address} can be reached from other machines"),
            "bind it to 127.0.0.1 and let the monitoring reach it through a tunnel or a sidecar",
        );
    }
    Some(address)
}

fn loopback(what: &str, text: &At<String>, reading: &mut Reading<'_>) -> Option<SocketAddr> {
    let address = address(what, text, reading)?;
    if address.ip().is_loopback() {
        return Some(address);
    }
    reading.wrong(
        Code::ExposedDevelopment,
        &text.span,
        format!("{what} would listen on {address}, where other machines reach it"),
        "it is there to try things with; bind it to 127.0.0.1",
    );
    None
}

fn address(what: &str, text: &At<String>, reading: &mut Reading<'_>) -> Option<SocketAddr> {
    let parsed = text.parse();
    if parsed.is_err() {
        reading.wrong(
            Code::BadAddress,
            &text.span,
            format!("`{}` is not an address that {what} can listen on", text.value),
            "write an IP address and a port, for example \"127.0.0.1:9901\"",
        );
    }
    parsed.ok()
}

/// The certificate of listeners that name none.
struct Certificate {
    dir: PathBuf,
    made: bool,
    passing: bool,
}

impl Certificate {
    fn paths(&self) -> (PathBuf, PathBuf) {
        (self.dir.join(state_files::DEV_CERT), self.dir.join(state_files::DEV_KEY))
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        if self.passing {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
