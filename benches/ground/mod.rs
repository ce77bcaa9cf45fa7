//! What both programs stand on: a policy over upstreams that nobody asks and a record that forgets, and
//! callgrind, which counts instructions.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use portcullis::clock::Clock;
use portcullis::forward::identity::issuer::{Issuer, IssuerRule};
use portcullis::forward::reference::Surroundings;
use portcullis::forward::settings;
use portcullis::forward::upstream::Upstreams;
use portcullis::listen::{Peer, TlsFacts};
use portcullis::mistake::source::Source;
use portcullis::mistake::{Mistakes, Reading};
use portcullis::policy::Policy;
use portcullis::policy::compile::{self, Ground};
use portcullis::policy::files::Files;
use portcullis::record::Record;
use portcullis::record::log::{Log, LogPlan, LogRule};
use portcullis::record::metrics::{Build, Metrics};

/// The word by which a program knows that callgrind counts it.
pub(crate) const COUNTED: &str = "--counted";

/// Runs this program once more under callgrind, which counts what happens within `function`. Gives what
/// it printed, and the instructions of each call of that function.
pub(crate) fn counted(function: &str) -> (String, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={function}"))
        .arg(format!("--dump-after={function}"))
        .arg(format!("--callgrind-out-file={}", dir.path().join("out").display()))
        .arg(std::env::current_exe().unwrap())
        .arg(COUNTED)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => unreachable!("valgrind does not run ({error}): tests/run installs it"),
    };
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let totals = (1..).map_while(|number| {
        let text = std::fs::read_to_string(dir.path().join(format!("out.{number}"))).ok()?;
        let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
        totals.and_then(|totals| totals.trim().parse::<u64>().ok())
    });
    let totals: Vec<u64> = totals.collect();
    assert!(totals.iter().all(|count| *count > 0), "nothing was counted: {totals:?}");
    (told, totals)
}

/// A policy, which must be one.
pub(crate) fn policy(files: &Files, ground: &Ground) -> Arc<Policy> {
    let mut mistakes = Mistakes::default();
    let policy = compile::compile(files, ground, &mut mistakes);
    let shown: Vec<String> = mistakes.iter().map(|mistake| mistake.render(false)).collect();
    assert!(!mistakes.any_error(), "{}", shown.join("\n"));
    Arc::new(policy.unwrap())
}

/// A record whose lines are made and written, as they are in service; the file forgets them.
pub(crate) fn record(clock: &Clock) -> Arc<Record> {
    let rule: LogRule = toml::from_str("access = { to = \"file:/dev/null\" }").unwrap();
    let mut mistakes = Mistakes::default();
    let source = Source::new("bench", "");
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let plan = LogPlan::compile(&rule, Path::new("."), &mut reading).unwrap();
    let build = Build { version: "0", revision: "0", rustc: "0" };
    Record::new(Metrics::new(build).unwrap(), Log::start(plan).unwrap(), clock.clone())
}

/// One upstream of this name.
pub(crate) fn upstreams(name: &str) -> Arc<Upstreams> {
    let rule = toml::from_str("targets = [\"http://127.0.0.1:9\"]").unwrap();
    let mut mistakes = Mistakes::default();
    let source = Source::new("bench", "");
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let surroundings = Surroundings {
        base_dir: Path::new("."),
        forbidden: &[],
        environment: &|_| None,
        only_looking: false,
        issuer: &Issuer::compile(&IssuerRule::default(), &mut reading),
    };
    let settings = settings::compile(&rule, name, &(0..0), &surroundings, &mut reading);
    Arc::new(Upstreams::new(settings))
}

/// A caller from elsewhere.
pub(crate) fn peer(tls: Option<TlsFacts>) -> Arc<Peer> {
    Arc::new(Peer {
        address: SocketAddr::from(([192, 0, 2, 7], 40_000)),
        local: SocketAddr::from(([192, 0, 2, 1], 8443)),
        listener: "public".into(),
        tls,
        trusted: Arc::new([]),
        redirect_port: None,
        parties: Default::default(),
    })
}
