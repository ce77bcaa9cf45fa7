//! What the README promises: its commands are run as they stand there, its TOML is checked.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::operations::{Process, portcullis};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The repository's `gateway.toml` and `policies/` in a directory of their own, on free ports.
pub struct Shipped {
    pub dir: tempfile::TempDir,
    /// The ports of the gate, its admin listener and the bundled service.
    pub ports: [u16; 3],
}

/// The ports that the shipped `gateway.toml` names, in the same order.
const PORTS: [u16; 3] = [8443, 9901, 9000];

impl Shipped {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&root().join("policies"), &dir.path().join("policies"));
        let held = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = held.map(|listener| listener.local_addr().unwrap().port());
        let shipped = Self { dir, ports };
        let config = std::fs::read_to_string(root().join("gateway.toml")).unwrap();
        std::fs::write(shipped.dir.path().join("gateway.toml"), shipped.moved(&config)).unwrap();
        shipped
    }

    /// A text with the shipped ports replaced by those of this copy.
    fn moved(&self, text: &str) -> String {
        PORTS.iter().zip(self.ports).fold(text.to_owned(), |text, (from, to)| {
            text.replace(&format!(":{from}"), &format!(":{to}"))
        })
    }

    /// The reverse.
    fn moved_back(&self, text: &str) -> String {
        PORTS.iter().zip(self.ports).fold(text.to_owned(), |text, (from, to)| {
            text.replace(&format!(":{to}"), &format!(":{from}"))
        })
    }

    /// The key that the first start wrote down.
    pub fn key(&self) -> String {
        let path = self.dir.path().join(".portcullis/first-key");
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// Edits a file of the copy.
    pub fn edit(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.dir.path().join(file);
        std::fs::write(&path, change(std::fs::read_to_string(&path).unwrap_or_default())).unwrap();
    }

    /// Runs a line as a shell would, with `portcullis` on its path and the key in `KEY`.
    fn shell(&self, script: &str) -> Output {
        let bin = self.dir.path().join("bin");
        let program = bin.join("portcullis");
        if !program.exists() {
            std::fs::create_dir_all(&bin).unwrap();
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_portcullis"), &program).unwrap();
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        Command::new("bash")
            .args(["-c", &self.moved(script)])
            .current_dir(self.dir.path())
            .env("PATH", path)
            .env("KEY", self.key())
            .output()
            .unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A fenced block of a document: its language, the line it begins on, its text.
struct Block {
    language: String,
    place: String,
    text: String,
}

/// The fenced blocks of the README and of `docs/`.
fn blocks() -> Vec<Block> {
    let mut files = vec![root().join("README.md")];
    files.extend(
        std::fs::read_dir(root().join("docs"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    let mut blocks = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("not checked"), "everything in {} is checked", file.display());
        let mut open: Option<Block> = None;
        for (number, line) in text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), open.take()) {
                (Some(_), Some(block)) => blocks.push(block),
                (Some(language), None) => {
                    let place = format!("{}:{}", file.file_name().unwrap().display(), number + 1);
                    open =
                        Some(Block { language: language.to_owned(), place, text: String::new() });
                }
                (None, Some(mut block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
    }
    blocks
}

/// What differs from run to run, made the same: ids, dates, hashes, keys, seconds until something.
fn without_chance(text: &str) -> String {
    let patterns = [
        (r"\b[0-9A-HJKMNP-TV-Z]{26}\b", "ID"),
        (r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z", "TIME"),
        (r"sha256:[0-9a-f]{8}", "sha256:HASH"),
        (r"pcl_[a-z0-9]+_[0-9A-Za-z]+", "KEY"),
        (r"\bretry-after: \d+", "retry-after: N"),
        (r";t=\d+", ";t=N"),
    ];
    patterns.iter().fold(text.to_owned(), |text, (pattern, same)| {
        regex::Regex::new(pattern).unwrap().replace_all(&text, *same).into_owned()
    })
}

/// The first line that is shown and not printed, in order. `…` at its end stands for anything.
/// Headers have no order.
fn first_missing<'e>(expected: &'e str, printed: &str) -> Option<&'e str> {
    if let (true, Some((shown, rest))) =
        (expected.starts_with("HTTP/"), expected.split_once("\n\n"))
    {
        // The answer that is shown is the last one.
        let status = shown.lines().next().unwrap_or_default();
        let answers = printed.match_indices(status).map(|(at, _)| &printed[at..]);
        let Some((head, body)) = answers.last().and_then(|answer| answer.split_once("\n\n")) else {
            return Some(status);
        };
        let head: Vec<&str> = head.lines().map(str::trim_end).collect();
        return shown
            .lines()
            .find(|line| !head.contains(&line.trim_end()))
            .or_else(|| first_missing(rest, body));
    }
    let mut printed = printed.lines().map(str::trim_end);
    expected.lines().map(str::trim_end).filter(|line| !line.is_empty()).find(|shown| {
        match shown.strip_suffix('…') {
            Some(start) => !printed.any(|line| line.starts_with(start.trim_end())),
            None => !printed.any(|line| line == *shown),
        }
    })
}

#[test]
fn the_tour_goes_as_the_readme_shows_it() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let at = |heading: &str| {
        readme
            .lines()
            .position(|line| line == heading)
            .unwrap_or_else(|| panic!("the README has no `{heading}`"))
            + 1
    };
    let tour = at("## A first tour")..at("## In front of your own service");
    let shipped = Shipped::new();
    let _process = Process::start(shipped.dir.path());
    let line = |block: &Block| {
        block.place.strip_prefix("README.md:").and_then(|line| line.parse::<usize>().ok())
    };
    let mut seen = 0;
    // Variables that one block sets are there in the next, as in the reader's shell.
    let mut earlier = String::new();
    for block in blocks().iter().filter(|block| {
        block.language == "console" && line(block).is_some_and(|line| tour.contains(&line))
    }) {
        let (commands, shown): (Vec<&str>, Vec<&str>) =
            block.text.lines().partition(|line| line.starts_with("$ "));
        let commands: Vec<&str> =
            commands.iter().map(|line| line.trim_start_matches("$ ")).collect();
        let (last, before) = commands.split_last().unwrap();
        let before: String =
            before.iter().map(|line| format!("{{ {line}; }} >/dev/null 2>&1\n")).collect();
        let shown = without_chance(&shown.join("\n"));
        // A slow machine gives budgets time to refill: whoever asks again finds them empty.
        let again = if shown.starts_with("HTTP/2 429") { 20 } else { 1 };
        let last = format!("for attempt in $(seq {again}); do {last}; echo; done");
        let output = shipped.shell(&format!("{earlier}{before}{last}"));
        let printed = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let printed = without_chance(&shipped.moved_back(&printed.replace('\r', "")));
        if let Some(line) = first_missing(&shown, &printed) {
            panic!("{}: this line is shown:\n{line}\nbut this is printed:\n{printed}", block.place);
        }
        earlier.extend(
            commands.iter().filter(|line| line.contains("=$(")).map(|line| format!("{line}\n")),
        );
        seen += 1;
    }
    assert!(seen >= 5, "the tour has {seen} blocks");
}

#[test]
fn the_mistake_in_the_readme_is_told_as_it_shows() {
    let block = blocks()
        .into_iter()
        .find(|block| block.text.starts_with("$ portcullis check\n"))
        .expect("the README shows a mistake");
    let shipped = Shipped::new();
    shipped.edit("policies/tasks.toml", |text| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.insert(6, "limts    = [\"read\"]");
        lines.join("\n")
    });
    let (code, _, talk) = portcullis(shipped.dir.path(), &["check", "--color", "never"]);
    assert_eq!(code, Some(1));
    let shown = block.text.lines().skip(1).collect::<Vec<_>>().join("\n");
    assert_eq!(first_missing(&shown, &talk), None, "{}: printed is\n{talk}", block.place);
}

#[test]
fn every_toml_of_the_documents_passes_check_and_its_tests() {
    const OF_THE_PROCESS: [&str; 8] = [
        "[upstreams.",
        "[[listener]]",
        "[policy]",
        "[state]",
        "[admin]",
        "[log]",
        "[task_service]",
        "[process]",
    ];
    let mut seen = 0;
    for block in blocks().iter().filter(|block| block.language == "toml") {
        let shipped = Shipped::new();
        if OF_THE_PROCESS.iter().any(|section| block.text.contains(section)) {
            let has = |section: &str| block.text.contains(section);
            let mut config = "version = 1\n".to_owned();
            if !has("[[listener]]") {
                config.push_str("[[listener]]\nbind = [\"127.0.0.1:0\"]\n");
            }
            if !has("[upstreams.task-service]") {
                config
                    .push_str("[upstreams.task-service]\ntargets = [\"http://127.0.0.1:9000\"]\n");
            }
            shipped
                .edit("gateway.toml", |_| config + block.text.trim_start_matches("version = 1\n"));
        } else {
            shipped.edit("policies/of-the-document.toml", |_| block.text.clone());
        }
        let (code, _, talk) = portcullis(shipped.dir.path(), &["check", "--color", "never"]);
        assert_eq!(code, Some(0), "{}:\n{}\n{talk}", block.place, block.text);
        let (code, output, talk) = portcullis(shipped.dir.path(), &["test"]);
        assert_eq!(code, Some(0), "{}:\n{output}\n{talk}", block.place);
        seen += 1;
    }
    assert!(seen >= 3, "the documents have {seen} pieces of TOML");
}

#[test]
fn what_is_shipped_passes_check_without_a_word_and_its_own_tests() {
    let shipped = Shipped::new();
    let (code, output, talk) = portcullis(shipped.dir.path(), &["check", "--deny-warnings"]);
    assert_eq!((code, talk.as_str()), (Some(0), ""), "{output}");
    let (code, output, talk) = portcullis(shipped.dir.path(), &["test"]);
    assert_eq!(code, Some(0), "{output}\n{talk}");
    let (code, output, talk) = portcullis(shipped.dir.path(), &["fmt", "--check"]);
    assert_eq!(code, Some(0), "{output}\n{talk}");
    assert!(!shipped.dir.path().join(".portcullis").exists(), "looking makes nothing");
}

#[test]
fn the_first_start_makes_secrets_that_only_their_owner_reads() {
    use std::os::unix::fs::PermissionsExt;
    let shipped = Shipped::new();
    let process = Process::start(shipped.dir.path());
    let state = shipped.dir.path().join(".portcullis");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for entry in std::fs::read_dir(&state).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let public = ["dev-ca.pem", "dev-cert.pem"].contains(&name.as_str());
        assert!(
            public || mode(&entry.path()) == 0o600,
            "{name} has mode {:o}",
            mode(&entry.path())
        );
    }
    let said = process.said();
    assert!(!said.contains(&shipped.key()), "a key is in the log:\n{said}");
    assert!(said.contains("first-key"), "{said}");
}
