//! The clients of `examples/`, run as they stand there against what is shipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::operations::{Process, portcullis};
use crate::tour::Shipped;

const INSTALL: &str = "run tests/run, which installs what the tests need";

/// What is shipped, with signed requests let in as `examples/README.md` says, and running.
struct Bench {
    shipped: Shipped,
    _process: Process,
    variables: Vec<(&'static str, String)>,
}

impl Bench {
    fn new() -> Self {
        let shipped = Shipped::new();
        let readme = std::fs::read_to_string(examples().join("README.md")).unwrap();
        let auth = readme.lines().map(str::trim).find(|line| line.starts_with("auth = ")).unwrap();
        shipped.edit("policies/policy.toml", |policy| {
            let usual = "auth          = { any = [\"api-key\"] }";
            assert!(policy.contains(usual), "{policy}");
            policy.replace(usual, auth)
        });
        let process = Process::start(shipped.dir.path());
        let facts =
            ["--name", "me", "--role", "member", "--scope", "tasks:read", "--scope", "tasks:write"];
        let make = [&["keys", "create", "--signing"][..], &facts].concat();
        let (code, secret, talk) = portcullis(shipped.dir.path(), &make);
        assert_eq!(code, Some(0), "{talk}");
        let id = talk.lines().find_map(|line| line.strip_prefix("id ")).unwrap();
        let id = id.split_whitespace().next().unwrap().to_owned();
        let program = Path::new(env!("CARGO_BIN_EXE_portcullis")).parent().unwrap();
        let ca = shipped.dir.path().join(".portcullis/dev-ca.pem").display().to_string();
        let variables = vec![
            ("BASE_URL", format!("https://localhost:{}", shipped.ports[0])),
            ("CA_FILE", ca.clone()),
            ("API_KEY", shipped.key()),
            ("KEY_ID", id),
            ("SECRET", secret.trim().to_owned()),
            ("PATH", format!("{}:{}", program.display(), std::env::var("PATH").unwrap())),
            ("CURL_CA_BUNDLE", ca.clone()),
            ("REQUESTS_CA_BUNDLE", ca.clone()),
            ("NODE_EXTRA_CA_CERTS", ca),
            ("NODE_PATH", tools().join("node/node_modules").display().to_string()),
        ];
        // After a start without nonce history, signatures of the same second are refused.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        Self { shipped, _process: process, variables }
    }

    /// Runs an example with some variables changed: whether it ended well, and what it printed.
    fn run(&self, line: &[&str], changed: &[(&str, &str)]) -> (bool, String) {
        let output = Command::new(line[0])
            .args(&line[1..])
            .current_dir(examples())
            .envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())))
            .envs(changed.iter().copied())
            .output();
        let output = output.unwrap_or_else(|error| panic!("{} ({error}): {INSTALL}", line[0]));
        let printed = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")
}

/// How each example is run, whether it signs, and the title of the task that it makes.
const ALL: [(&[&str], bool, &str); 8] = [
    (&["bash", "curl/api-key.sh"], false, "From curl"),
    (&["bash", "curl/signed.sh"], true, "From a signed curl"),
    (&["python3", "python/api_key.py"], false, "From Python"),
    (&["python3", "python/signed.py"], true, "From a signed Python"),
    (&["node", "javascript/api-key.mjs"], false, "From JavaScript"),
    (&["node", "javascript/signed.mjs"], true, "From a signed JavaScript"),
    (&["go", "run", "go/apikey/main.go"], false, "From Go"),
    (&["go", "run", "go/signed/main.go"], true, "From a signed Go"),
];

#[test]
fn every_example_works_with_url_key_and_ca_from_the_environment() {
    let bench = Bench::new();
    for (line, signs, title) in ALL {
        let (good, printed) = bench.run(line, &[]);
        assert!(good && printed.contains("listed"), "{line:?}: {printed}");
        assert!(printed.contains(&format!("\"{title}\"")), "{line:?}: {printed}");
        let wrong = "A".repeat(43) + "=";
        let (good, printed) =
            bench.run(line, &[(if signs { "SECRET" } else { "API_KEY" }, &wrong)]);
        assert!(!good && !printed.contains("listed"), "{line:?}: {printed}");
    }
    let log = std::fs::read_to_string(bench.shipped.dir.path().join(".portcullis/first-key"));
    assert!(log.is_ok(), "the key that the examples used is the first one");
}

/// Examples that are no clients: other tests run them, as services and as policies.
const ELSEWHERE: [&str; 4] =
    ["client-certificates/", "self-service/", "tokens/", "verify-identity/"];

#[test]
fn examples_of_policies_pass_their_own_tests() {
    for name in ["self-service", "tokens"] {
        for arguments in [&["check"][..], &["test"]] {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
                .args(arguments)
                .current_dir(examples().join(name))
                .output()
                .unwrap();
            let told = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&told));
        }
    }
}

#[test]
fn every_file_of_the_examples_is_run() {
    let mut files = Vec::new();
    let mut dirs = vec![examples()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            match entry.path().is_dir() {
                true => dirs.push(entry.path()),
                false => {
                    files.push(entry.path().strip_prefix(examples()).unwrap().display().to_string())
                }
            }
        }
    }
    let run: Vec<&str> = ALL
        .iter()
        .map(|(line, ..)| *line.last().unwrap())
        .chain(DOCUMENTED.map(|(_, file)| file))
        .collect();
    for file in files.iter().filter(|file| !file.ends_with(".md")) {
        let elsewhere = ELSEWHERE.iter().any(|folder| file.starts_with(folder));
        assert!(elsewhere || run.contains(&file.as_str()), "{file} is run by no test");
    }
}

/// The snippets of the API's own documentation, each with what runs it.
const DOCUMENTED: [(&str, &str); 3] = [
    ("bash", "documented/curl.sh"),
    ("node", "documented/axios.js"),
    ("python", "documented/requests_tasks.py"),
];

#[test]
fn the_documented_snippets_work_with_url_key_and_ca_from_the_environment() {
    let bench = Bench::new();
    let python = tools().join("venv/bin/python").display().to_string();
    for (program, file) in DOCUMENTED {
        let program = if program == "python" { python.as_str() } else { program };
        let (good, printed) = bench.run(&[program, file], &[]);
        assert!(good, "{file}: {printed}");
        let page: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert!(page["data"].is_array() && page["pagination"]["total"].is_u64(), "{file}: {page}");
        let (_, printed) = bench.run(&[program, file], &[("API_KEY", "wrong")]);
        let refused: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(refused["error"]["message"], "Invalid or missing API key", "{file}");
    }
}
