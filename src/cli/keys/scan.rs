//! `keys scan`: finds keys of ours where they should not be, and tells which of them work.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::authenticate::key_finder::{Finder, Found};
use crate::authenticate::key_format::KeyFormat;
use crate::authenticate::management::call::Call;
use crate::cli::exit::{Exit, print, say};
use crate::cli::keys::reach::Keeper;
use crate::cli::keys::text;
use crate::cli::{Ended, Format};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Findings that are looked up, and told, together.
const TOGETHER: usize = 1000;

/// Looks through the paths. Memory does not grow with what is read.
pub(in crate::cli::keys) fn run(
    keeper: &Keeper,
    paths: &[PathBuf],
    suspend: bool,
    format: Format,
) -> Ended {
    let mut scan = Scan { suspend, format, ..Scan::new(keeper) };
    if format == Format::Json {
        print("{\"schema\":\"portcullis.scan/1\",\"findings\":[");
    }
    for path in paths {
        scan.path(path)?;
    }
    scan.tell()?;
    scan.end()
}

/// A search that goes on.
struct Scan<'k> {
    keeper: &'k Keeper,
    suspend: bool,
    format: Format,
    waiting: Vec<Finding>,
    told: usize,
    live: usize,
    files: usize,
    unread: usize,
}

/// A key, and where it stands.
struct Finding {
    file: String,
    line: u64,
    key: Zeroizing<String>,
    /// What may be shown of it: everything before its secret.
    shown: String,
}

impl Finding {
    fn new(file: &str, found: Found<'_>) -> Self {
        Self {
            // A terminal would obey what a file's name says to it.
            file: file.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
            line: found.line,
            key: Zeroizing::new(found.key.to_owned()),
            shown: format!("{}…", found.public),
        }
    }
}

impl<'k> Scan<'k> {
    fn new(keeper: &'k Keeper) -> Self {
        Self {
            keeper,
            suspend: false,
            format: Format::Text,
            waiting: Vec::new(),
            told: 0,
            live: 0,
            files: 0,
            unread: 0,
        }
    }

    /// A file, all files below a folder, or standard input. Links below a folder are not followed,
    /// and what is neither file nor folder is passed over: a pipe would never end.
    fn path(&mut self, path: &Path) -> Result<(), Exit> {
        if path.as_os_str() == "-" {
            return self.stream("stdin", std::io::stdin().lock());
        }
        let mut folders = match std::fs::metadata(path) {
            Ok(facts) if facts.is_dir() => vec![path.to_owned()],
            Ok(_) => return self.file(path),
            Err(error) => {
                self.unread(path, &error);
                return Ok(());
            }
        };
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    self.unread(&folder, &error);
                    continue;
                }
            };
            for entry in entries {
                let kind = entry
                    .as_ref()
                    .map_err(ToString::to_string)
                    .and_then(|entry| entry.file_type().map_err(|error| error.to_string()));
                match (entry, kind) {
                    (Ok(entry), Ok(kind)) if kind.is_dir() => folders.push(entry.path()),
                    (Ok(entry), Ok(kind)) if kind.is_file() => self.file(&entry.path())?,
                    (Ok(_), Ok(_)) => {}
                    (_, kind) => self.unread(&folder, &kind.err().unwrap_or_default()),
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Exit> {
        match std::fs::File::open(path) {
            Ok(file) => self.stream(&path.display().to_string(), file),
            Err(error) => {
                self.unread(path, &error);
                Ok(())
            }
        }
    }

    fn stream(&mut self, name: &str, mut from: impl Read) -> Result<(), Exit> {
        self.files += 1;
        let format = KeyFormat::default();
        let mut finder = Finder::new(&format);
        let mut chunk = Zeroizing::new(vec![0; CHUNK_BYTES]);
        loop {
            let count = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.unread(Path::new(name), &error);
                    break;
                }
            };
            let piece = chunk.get(..count).unwrap_or_default();
            finder.read(piece, |found| self.waiting.push(Finding::new(name, found)));
            if self.waiting.len() >= TOGETHER {
                self.tell()?;
            }
        }
        finder.finish(|found| self.waiting.push(Finding::new(name, found)));
        Ok(())
    }

    /// Looks up what waits, and tells it.
    fn tell(&mut self) -> Result<(), Exit> {
        let waiting = std::mem::take(&mut self.waiting);
        for findings in waiting.chunks(TOGETHER) {
            let keys = findings.iter().map(|finding| finding.key.to_string()).collect();
            let told = self.keeper.call(&Call::Identify { keys })?;
            let told = told.as_array().map(Vec::as_slice).unwrap_or_default();
            if told.len() != findings.len() {
                let says = "the gateway did not tell of every key what it is";
                return Err(Exit::CouldNot(says.to_owned()));
            }
            for (finding, told) in findings.iter().zip(told) {
                self.one(finding, told)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, finding: &Finding, told: &Value) -> Result<(), Exit> {
        let live = told.get("live") == Some(&Value::Bool(true));
        let (id, state) = (text(told, "id"), text(told, "state"));
        let mut suspended = false;
        if live {
            self.live += 1;
            if self.suspend {
                let why = format!("found in {}:{}", finding.file, finding.line);
                let (id, owner) = (Some(id.to_owned()), None);
                self.keeper.call(&Call::Suspend { id, owner, why })?;
                suspended = true;
            }
        }
        let Finding { file, line, shown, .. } = finding;
        if self.format == Format::Json {
            let comma = if self.told > 0 { "," } else { "" };
            let told = json!({
                "file": file, "line": line, "key": shown, "id": told.get("id"),
                "owner": told.get("subject"), "state": state, "live": live, "suspended": suspended,
            });
            print(&format!("{comma}{told}"));
        } else {
            let says = match (live, suspended) {
                (true, true) => format!("LIVE ({state}), now suspended"),
                (true, false) => {
                    format!("LIVE ({state}) → `portcullis keys suspend {id}`")
                }
                (false, _) => state.to_owned(),
            };
            print(&format!("{file}:{line}: {shown}  checksum valid  {says}"));
        }
        self.told += 1;
        Ok(())
    }

    fn unread(&mut self, path: &Path, error: &dyn std::fmt::Display) {
        self.unread += 1;
        say(&format!("{} cannot be read: {error}", path.display()));
    }

    fn end(&self) -> Ended {
        let Self { told, live, files, unread, .. } = self;
        if self.format == Format::Json {
            print(&format!("],\"files\":{files},\"unread\":{unread},\"live\":{live}}}"));
        } else {
            say(&format!("{files} files: {told} keys found, {live} of them live"));
        }
        match (live, unread) {
            (0, 0) => Ok(Exit::Fine),
            (0, _) => Err(Exit::CouldNot(format!("{unread} files or folders were not looked at"))),
            (_, _) => Ok(Exit::Found),
        }
    }
}
