//! `fmt`: brings policy files into one layout, and keeps every comment.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::exit::{Exit, print, say};
use crate::cli::{Ended, Globals};
use crate::clock::Clock;
use crate::config::{Config, FirstRun};
use crate::mistake::Mistakes;

/// Options of `fmt`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  portcullis fmt\n  portcullis fmt --check policies/tasks.toml")]
pub struct Options {
    /// Files or directories; default: the policy directory and gateway.toml.
    paths: Vec<PathBuf>,
    /// Change nothing; exit 1 when a file is not in its layout.
    #[arg(long)]
    check: bool,
}

/// Formats files in place, or says which are not in their layout.
pub fn run(globals: &Globals, options: &Options) -> Ended {
    let mut changed = 0;
    let files = files(globals, options)?;
    for path in &files {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Exit::CouldNot(format!("{} cannot be read: {error}", path.display()))
        })?;
        if text.parse::<toml_edit::DocumentMut>().is_err() {
            return Err(Exit::CouldNot(format!(
                "{} is not TOML; `portcullis check` says where",
                path.display()
            )));
        }
        let laid_out = layout(&text);
        if laid_out == text {
            continue;
        }
        changed += 1;
        if options.check {
            print(&format!("{} is not in its layout", path.display()));
            continue;
        }
        replace(path, &laid_out)?;
        print(&format!("{} changed", path.display()));
    }
    say(&format!(
        "{} files, {changed} {}",
        files.len(),
        if options.check { "to change" } else { "changed" }
    ));
    Ok(if options.check && changed > 0 { Exit::Found } else { Exit::Fine })
}

fn files(globals: &Globals, options: &Options) -> Result<Vec<PathBuf>, Exit> {
    let given = if options.paths.is_empty() {
        let config = Config::read(
            &globals.config,
            FirstRun::Assume,
            Clock::system().now(),
            &mut Mistakes::default(),
        );
        let policies = config.map_or_else(|| PathBuf::from("policies"), |config| config.policy_dir);
        vec![globals.config.clone(), policies]
    } else {
        options.paths.clone()
    };
    let mut files = Vec::new();
    for path in given {
        if !path.is_dir() {
            files.push(path);
            continue;
        }
        let entries = std::fs::read_dir(&path).map_err(|error| {
            Exit::CouldNot(format!("{} cannot be read: {error}", path.display()))
        })?;
        files.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "toml")),
        );
    }
    files.sort();
    Ok(files)
}

/// Writes beside the file and renames, so that a reader never sees half of it.
fn replace(path: &Path, text: &str) -> Result<(), Exit> {
    let wrong = |error: std::io::Error| {
        Exit::CouldNot(format!("{} cannot be written: {error}", path.display()))
    };
    let beside = path.with_extension("toml.new");
    std::fs::write(&beside, text).map_err(wrong)?;
    let permissions = std::fs::metadata(path).map_err(wrong)?.permissions();
    std::fs::set_permissions(&beside, permissions).map_err(wrong)?;
    std::fs::rename(&beside, path).map_err(wrong)
}

/// One layout: the equals signs of neighbouring keys stand below each other, tables are parted by
/// one empty line, nothing trails, and the file ends with one line break. Only white space ever
/// changes, and only outside of values that span lines.
fn layout(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut block: Vec<(String, String)> = Vec::new();
    let mut inside = Inside::default();
    for line in text.lines() {
        if inside.open() {
            flush(&mut block, &mut out);
            inside.read(line);
            out.push(if inside.text() { line.to_owned() } else { line.trim_end().to_owned() });
            continue;
        }
        let line = line.trim_end();
        let indent = line.len() - line.trim_start().len();
        inside.read(line);
        match split_key(line) {
            Some((key, value)) if !inside.open() => {
                let same_block = block
                    .last()
                    .is_none_or(|(last, _)| last.len() - last.trim_start().len() == indent);
                if !same_block {
                    flush(&mut block, &mut out);
                }
                block.push((key.to_owned(), value.to_owned()));
            }
            _ => {
                flush(&mut block, &mut out);
                let blank = line.is_empty();
                if !(blank && out.last().is_none_or(String::is_empty)) {
                    out.push(line.to_owned());
                }
            }
        }
    }
    flush(&mut block, &mut out);
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    out.push(String::new());
    out.join("\n")
}

fn flush(block: &mut Vec<(String, String)>, out: &mut Vec<String>) {
    let width = block.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    for (key, value) in block.drain(..) {
        out.push(format!("{key:<width$} = {value}"));
    }
}

/// Splits `key   = value` at the first equals sign outside of quotes. The key keeps its indent.
fn split_key(line: &str) -> Option<(&str, &str)> {
    let start = line.trim_start();
    if start.is_empty() || start.starts_with(['#', '[']) {
        return None;
    }
    let mut quote = None;
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if character == open => quote = None,
            (None, '=') => {
                let (key, value) = line.split_at_checked(at)?;
                return Some((key.trim_end(), value.get(1..)?.trim_start()));
            }
            _ => {}
        }
    }
    None
}

/// Whether a line begins inside of a value that spans lines: brackets, or text in three quotes.
#[derive(Default)]
struct Inside {
    depth: usize,
    quotes: Option<&'static str>,
}

impl Inside {
    fn open(&self) -> bool {
        self.depth > 0 || self.quotes.is_some()
    }

    fn text(&self) -> bool {
        self.quotes.is_some()
    }

    fn read(&mut self, line: &str) {
        let table = self.depth == 0 && self.quotes.is_none() && line.trim_start().starts_with('[');
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            if let Some(quotes) = self.quotes {
                match rest.split_once(quotes) {
                    Some((_, after)) => {
                        self.quotes = None;
                        rest = after;
                        continue;
                    }
                    None => return,
                }
            }
            let three = ["\"\"\"", "'''"].into_iter().find(|three| rest.starts_with(three));
            if let Some(three) = three {
                self.quotes = Some(three);
                rest = rest.get(3..).unwrap_or_default();
                continue;
            }
            match first {
                '#' => return,
                '"' | '\'' => {
                    rest = after_string(rest, first);
                    continue;
                }
                '[' | '{' if !table => self.depth += 1,
                ']' | '}' if !table => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
}

/// What follows a one-line string that begins here.
fn after_string(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if character == '\\' && quote == '"' {
            escaped = true;
        } else if character == quote {
            return text.get(at + 1..).unwrap_or_default();
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSY: &str = "version=1\nname    = \"a = b\"\n\n\n[routes.x]   \nmatch = \"GET /\"\nallow = [\n  { scopes = [\"a\"] },   \n]\n# a comment\nbody   = '''\n  kept   =  as is  \n'''\n\n";

    #[test]
    fn the_layout_is_one_and_keeps_values_and_comments() {
        let once = layout(MESSY);
        assert_eq!(
            once,
            "version = 1\nname    = \"a = b\"\n\n[routes.x]\nmatch = \"GET /\"\nallow = [\n  { scopes = [\"a\"] },\n]\n# a comment\nbody   = '''\n  kept   =  as is  \n'''\n"
        );
        assert_eq!(layout(&once), once, "formatting twice changes nothing");
    }

    #[test]
    fn the_meaning_never_changes() {
        let before: toml::Table = MESSY.parse().unwrap();
        let after: toml::Table = layout(MESSY).parse().unwrap();
        assert_eq!(before, after);
    }
}
