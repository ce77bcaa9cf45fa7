//! The policy directory: its files, their texts, and the hash that names them all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use crate::mistake::code::Code;
use crate::mistake::source::Source;
use crate::mistake::{Mistake, Mistakes};

/// No policy file is longer, in bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// No policy has more files.
const FILES_MAX: usize = 10_000;

/// A policy directory, read at one moment.
#[derive(Clone, Debug)]
pub struct Files {
    /// The directory.
    pub dir: PathBuf,
    /// All `*.toml` files in it, by name.
    pub sources: Vec<Arc<Source>>,
    /// SHA-256 over names and texts, schemas included, in hex: what `portcullis_policy_info` shows.
    pub hash: String,
}

impl Files {
    /// Reads a directory. Its `*.toml` files are the policy; JSON files beneath it (schemas of
    /// bodies) count for the hash.
    pub fn read(dir: &Path, mistakes: &mut Mistakes) -> Self {
        let mut paths = Vec::new();
        if !dir.is_dir() {
            let says = format!("there is no policy directory `{}`", shown_path(dir));
            let help = "gateway.toml names it under [policy] dir, relative to itself";
            mistakes.push(Mistake::new(Code::Unreadable, says).help(help));
            return Self { dir: dir.to_owned(), sources: Vec::new(), hash: String::new() };
        }
        walk(dir, 0, &mut paths, mistakes);
        paths.sort();
        let mut hash = Context::new(&SHA256);
        let mut sources = Vec::new();
        for path in &paths {
            let Some(text) = read_text(path, mistakes) else { continue };
            let shown = path.strip_prefix(dir).unwrap_or(path);
            hash.update(shown.as_os_str().as_encoded_bytes());
            hash.update(&[0]);
            hash.update(&(text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
            if is_policy(dir, path) {
                sources.push(Source::new(shown_path(path), text));
            }
        }
        if sources.is_empty() && !paths.iter().any(|path| is_policy(dir, path)) {
            let says = format!("the policy directory `{}` has no policy file", shown_path(dir));
            mistakes.push(Mistake::new(Code::Unreadable, says).help(
                "add a file that ends in .toml, or name another directory under [policy] dir",
            ));
        }
        let hash = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { dir: dir.to_owned(), sources, hash }
    }
}

/// Whether a file is itself part of the policy, and not only something that it refers to.
fn is_policy(dir: &Path, path: &Path) -> bool {
    path.parent() == Some(dir) && path.extension().is_some_and(|extension| extension == "toml")
}

/// A path as messages show it: without the current directory in front of it.
pub fn shown_path(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here)
        .or_else(|_| path.strip_prefix("."))
        .unwrap_or(path)
        .display()
        .to_string()
}

fn walk(dir: &Path, depth: usize, paths: &mut Vec<PathBuf>, mistakes: &mut Mistakes) {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            mistakes.push(unreadable(dir, &error));
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if hidden {
            continue;
        }
        if paths.len() >= FILES_MAX {
            // Which files would be left out is for the file system to say, so none may be.
            let says = format!("{} has more than {FILES_MAX} files", shown_path(dir));
            return mistakes.push(Mistake::new(Code::Unreadable, says));
        }
        // Follows symbolic links: Kubernetes mounts configuration through them.
        match std::fs::metadata(&path) {
            Ok(facts) if facts.is_dir() && depth < 2 => {
                // Generated schemas for editors are not policy.
                if entry.file_name() != "schema" {
                    walk(&path, depth + 1, paths, mistakes);
                }
            }
            Ok(facts) if facts.is_file() => {
                let extension = path.extension().unwrap_or_default();
                if extension == "json" || (extension == "toml" && depth == 0) {
                    paths.push(path);
                }
            }
            Ok(_) => {}
            Err(error) => mistakes.push(unreadable(&path, &error)),
        }
    }
}

fn read_text(path: &Path, mistakes: &mut Mistakes) -> Option<String> {
    let text = std::fs::metadata(path).and_then(|facts| {
        if facts.len() > FILE_BYTES_MAX {
            return Err(std::io::Error::other("it is longer than 8 MiB"));
        }
        std::fs::read_to_string(path)
    });
    text.inspect_err(|error| mistakes.push(unreadable(path, error))).ok()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Mistake {
    Mistake::new(Code::Unreadable, format!("{} cannot be read: {error}", shown_path(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_left_out_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..=FILES_MAX {
            std::fs::write(dir.path().join(format!("{number}.toml")), "").unwrap();
        }
        let mut mistakes = Mistakes::default();
        Files::read(dir.path(), &mut mistakes);
        assert!(mistakes.any_error());
        std::fs::remove_file(dir.path().join("0.toml")).unwrap();
        let mut mistakes = Mistakes::default();
        assert_eq!(Files::read(dir.path(), &mut mistakes).sources.len(), FILES_MAX);
        assert!(!mistakes.any_error());
    }
}
