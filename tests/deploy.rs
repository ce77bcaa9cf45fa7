//! The files of `deploy/`, held against the programs that read them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that is surprised may say so and end"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const INSTALL: &str = "run tests/run, which installs what the tests need";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs a checker, with a text on its standard input, and gives back all that it prints.
fn checked(program: &str, arguments: &[&str], input: &str) -> String {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{program} ({error}): {INSTALL}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{program} {arguments:?}:\n{printed}");
    printed
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("portcullis.service");
    let text = read("deploy/systemd/portcullis.service");
    assert!(text.contains("ExecStart=/usr/bin/portcullis run "), "{text}");
    // The checker wants the program to be there.
    std::fs::write(&unit, text.replace("/usr/bin/portcullis", env!("CARGO_BIN_EXE_portcullis")))
        .unwrap();
    let printed = checked("systemd-analyze", &["verify", "--man=no", unit.to_str().unwrap()], "");
    let about_it: Vec<&str> = printed.lines().filter(|line| line.contains("portcullis")).collect();
    assert!(about_it.is_empty(), "{printed}");
}

#[test]
fn the_unit_and_the_program_agree() {
    let unit = read("deploy/systemd/portcullis.service");
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("the unit has no {key}"))
    };
    assert_eq!(value("Type"), "notify");
    assert_eq!(value("ExecReload"), "/bin/kill -HUP $MAINPID");
    assert_eq!(value("RestartPreventExitStatus"), "2");
    assert_eq!(value("NoNewPrivileges"), "yes");
    let stop: u64 = value("TimeoutStopSec").trim_end_matches('s').parse().unwrap();
    let config = read("gateway.toml");
    let drain = config.lines().find_map(|line| line.strip_prefix("drain = \"")).unwrap();
    let drain: u64 = drain.split("s\"").next().unwrap().parse().unwrap();
    assert!(stop > drain, "systemd would kill what still drains: {stop} s and {drain} s");
}

#[test]
fn the_image_runs_without_rights_and_names_only_what_is_there() {
    let text = read("deploy/Dockerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let last =
        |word: &str| lines.iter().rev().find_map(|line| line.strip_prefix(&format!("{word} ")));
    let user = last("USER").expect("the image names a user");
    assert!(!user.starts_with("0") && !user.starts_with("root"), "{user}");
    assert!(last("ENTRYPOINT").unwrap().contains("/portcullis"));
    assert_eq!(last("STOPSIGNAL"), Some("SIGTERM"));
    assert!(last("FROM").unwrap().contains("nonroot"));
    for line in lines
        .iter()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
    {
        let mut names: Vec<&str> =
            line.split_whitespace().filter(|word| !word.starts_with("--")).collect();
        names.pop();
        for name in names {
            assert!(root().join(name).exists(), "the image copies {name}, which is not there");
        }
    }
    let rust = lines.iter().find_map(|line| line.split("library/rust:").nth(1)).unwrap();
    let manifest = read("Cargo.toml");
    let version = manifest.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(rust.starts_with(version), "the image builds with {rust}, the manifest says {version}");
    for bench in
        manifest.split("[[bench]]\nname = \"").skip(1).filter_map(|rest| rest.split('"').next())
    {
        let path = format!("benches/{bench}.rs");
        assert!(
            text.contains(&path),
            "cargo builds nothing without {path}, which the manifest names"
        );
    }
    // Options that the image is started with are options that there are.
    let health =
        Command::new(env!("CARGO_BIN_EXE_portcullis")).args(["health", "--help"]).output().unwrap();
    assert!(health.status.success());
}

#[test]
fn prometheus_reads_its_configuration() {
    let path = root().join("deploy/prometheus/prometheus.yml");
    let printed = checked("promtool", &["check", "config", path.to_str().unwrap()], "");
    assert!(printed.contains("SUCCESS"), "{printed}");
    assert!(printed.contains("rules found"), "{printed}");
}

#[test]
fn prometheus_finds_nothing_wrong_with_a_scrape() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    let policy = "version = 1\n[routes.all]\nsummary = \"All\"\nmatch = \"* /{rest...}\"\nupstream = \"service\"\nauth = \"none\"\nbody = \"none\"\n";
    std::fs::write(dir.path().join("policies/policy.toml"), policy).unwrap();
    let config = "version = 1\n[[listener]]\nbind = [\"127.0.0.1:0\"]\n[upstreams.service]\ntargets = [\"http://127.0.0.1:9\"]\n\
                  [admin]\nbind = \"127.0.0.1:0\"\n[log]\naccess = { to = \"none\" }\n";
    std::fs::write(dir.path().join("gateway.toml"), config).unwrap();
    let said = dir.path().join("said");
    let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let plain = address_in(&said, "gateway http://", &mut child);
    let admin = address_in(&said, "metrics http://", &mut child);
    for target in ["/", "/a?b=c", "/nothing", "/..%2f"] {
        ask(plain, target);
    }
    let scrape = ask(admin, "/metrics");
    let (head, body) = scrape.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_owned()
    };
    assert!(body.contains("portcullis_requests_total{"), "{body}");
    let printed = checked("promtool", &["check", "metrics"], &body);
    assert_eq!(printed.trim(), "", "{printed}");
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The address that the program logs behind these words.
fn address_in(said: &Path, after: &str, child: &mut Killed) -> SocketAddr {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = std::fs::read_to_string(said).unwrap();
        if text.contains("ready in") {
            let rest = text.split(after).nth(1).unwrap_or_else(|| panic!("{text}"));
            let address: String =
                rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
            return address.parse().unwrap();
        }
        let ended = child.0.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < deadline, "it does not get ready:\n{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ask(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn unchunked(body: &str) -> String {
    let (mut rest, mut whole) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    whole
}

#[test]
fn release_builds_are_guided_by_the_profile_and_others_are_left_alone() {
    let config = read(".cargo/config.toml");
    assert!(config.contains("rustc-wrapper = \"deploy/pgo/rustc\""), "{config}");
    let wrapper = root().join("deploy/pgo/rustc");
    // In place of the compiler stands a program that prints what it was called with.
    let called = |arguments: &[&str]| {
        checked(wrapper.to_str().unwrap(), &[&["echo"], arguments].concat(), "")
    };
    assert_eq!(called(&["-C", "opt-level=1", "a b"]), "-C opt-level=1 a b\n");
    assert_eq!(called(&["-vV"]), "-vV\n");
    let printed = called(&["-C", "opt-level=3", "--test"]);
    let profile = printed
        .split_whitespace()
        .find_map(|argument| argument.strip_prefix("-Cprofile-use="))
        .unwrap_or_else(|| panic!("{printed}"));
    assert!(printed.starts_with("-C opt-level=3 --test -C"), "{printed}");
    // What begins so is an indexed profile of LLVM.
    assert!(std::fs::read(profile).unwrap().starts_with(b"\xfflprofi\x81"), "{profile}");
}
