//! The laws of the house, held by tests.
#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file, at most.
const LINES_MAX: usize = 400;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files under `src`, each with its path below it.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(path);
            }
        }
    }
    let src = root().join("src");
    let mut paths = Vec::new();
    walk(&src, &mut paths);
    paths.sort();
    let named = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&src).unwrap().display().to_string(), text)
    };
    paths.into_iter().map(named).collect()
}

/// Whether a file is compiled for tests only: a `tests` module, or one that its hub marks so.
fn is_test(path: &str, sources: &[(String, String)]) -> bool {
    let name = path.trim_end_matches(".rs").rsplit('/').next().unwrap();
    let within = path.split('/').any(|part| part.trim_end_matches(".rs") == "tests");
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let marked =
        sources.iter().filter(|(hub, _)| hub == &format!("{dir}/mod.rs")).any(|(_, text)| {
            text.split("#[cfg(test)]\n").skip(1).any(|after| {
                after.lines().next().is_some_and(|line| line.ends_with(&format!("mod {name};")))
            })
        });
    within || marked
}

/// The top-level module that a file belongs to.
fn module_of(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The modules in the order of `lib.rs`.
fn order() -> Vec<String> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned))
        .collect()
}

/// Code without comments and without its test module.
fn code(text: &str) -> String {
    let tests = text.find("mod tests {").and_then(|at| text[..at].rfind("#[cfg(test)]"));
    let text = tests.map_or(text, |at| &text[..at]);
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn imports_look_only_back_along_the_order_of_lib() {
    let order = order();
    let rank = |module: &str| order.iter().position(|known| known == module);
    let mut wrong = Vec::new();
    let sources = sources();
    for (path, text) in &sources {
        if ["lib.rs", "main.rs"].contains(&path.as_str()) || is_test(path, &sources) {
            continue;
        }
        let own =
            rank(module_of(path)).unwrap_or_else(|| panic!("{path} is in no module of lib.rs"));
        for piece in code(text).split("crate::").skip(1) {
            let named: String =
                piece.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            match rank(&named) {
                Some(rank) if rank <= own => {}
                Some(_) => wrong.push(format!("{path} imports {named}, which comes after it")),
                None => wrong.push(format!("{path} imports {named}, which is no module of lib.rs")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_name_what_they_mean() {
    let mut wrong = Vec::new();
    let sources = sources();
    for (path, text) in sources.iter().filter(|(path, _)| !is_test(path, &sources)) {
        let code = code(text);
        for line in code.lines().map(str::trim) {
            if line.starts_with("pub use ") {
                wrong.push(format!("{path} has a second name for something: {line}"));
            }
            if line.starts_with("use ") && line.contains("::*") {
                wrong.push(format!("{path} imports everything: {line}"));
            }
            if line.contains("super::") && !line.contains("pub(super)") {
                wrong.push(format!("{path} looks up instead of back: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_open_with_a_sentence() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{path} has {lines} lines"));
        }
        let first = text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") || first.len() < 15 {
            wrong.push(format!("{path} does not open with a sentence that says what it is for"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_is_reached_from_lib() {
    let sources: BTreeMap<String, String> = sources().into_iter().collect();
    for path in sources.keys().filter(|path| !["lib.rs", "main.rs"].contains(&path.as_str())) {
        let (dir, file) = path.rsplit_once('/').unwrap_or(("", path));
        let (parent, name) = if file == "mod.rs" {
            let (above, name) = dir.rsplit_once('/').unwrap_or(("", dir));
            (above.to_owned(), name.to_owned())
        } else {
            (dir.to_owned(), file.trim_end_matches(".rs").to_owned())
        };
        let hub = match parent.as_str() {
            "" => "lib.rs".to_owned(),
            parent if sources.contains_key(&format!("{parent}/mod.rs")) => {
                format!("{parent}/mod.rs")
            }
            parent => format!("{parent}.rs"),
        };
        let declared = sources.get(&hub).is_some_and(|text| text.contains(&format!("mod {name};")));
        assert!(declared, "{path} is declared nowhere (looked in {hub})");
    }
}

#[test]
fn the_map_in_the_readme_is_what_the_modules_say() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let sources: BTreeMap<String, String> = sources().into_iter().collect();
    for module in order() {
        let text = sources
            .get(&format!("{module}.rs"))
            .or_else(|| sources.get(&format!("{module}/mod.rs")))
            .unwrap_or_else(|| panic!("{module} has no file"));
        let sentence = text.lines().next().unwrap().trim_start_matches("//! ");
        let row = format!("| `{module}` | {sentence} |");
        assert!(readme.contains(&row), "the README's map lacks this row:\n{row}");
    }
}

#[test]
fn unsafe_code_is_forbidden() {
    for file in ["lib.rs", "main.rs"] {
        let text = fs::read_to_string(root().join("src").join(file)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file}");
    }
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    for (path, text) in sources() {
        for word in ["TODO", "FIXME", "XXX", "unimplemented!", "todo!", "dbg!"] {
            let found = code(&text).lines().any(|line| line.contains(word) && !line.contains('"'));
            assert!(!found, "{path} has a {word}");
        }
    }
}

#[test]
fn every_reason_is_in_the_refusal_matrix() {
    let matrix = fs::read_to_string(root().join("tests/gateway/refusals.rs")).unwrap();
    let missing: Vec<&str> = portcullis::refusal::Reason::ALL
        .iter()
        .map(|reason| reason.name())
        .filter(|name| !matrix.contains(&format!("\"{name}\"")))
        .collect();
    assert!(missing.is_empty(), "the refusal matrix lacks {missing:?}");
}

#[test]
fn every_kind_of_mistake_has_a_test() {
    let mut told = String::new();
    let dir = root().join("tests/gateway/mistakes");
    for entry in fs::read_dir(dir).unwrap().flatten() {
        told.push_str(&fs::read_to_string(entry.path()).unwrap_or_default());
    }
    told.push_str(&fs::read_to_string(root().join("tests/gateway/mistakes.rs")).unwrap());
    let missing: BTreeSet<&str> = portcullis::mistake::code::Code::ALL
        .iter()
        .map(|code| code.number())
        .filter(|number| !told.contains(number))
        .collect();
    assert!(missing.is_empty(), "no broken example shows {missing:?}");
}

#[test]
fn the_committed_schemas_are_what_the_types_say() {
    use portcullis::cli::schema::{Of, text};
    for (of, file) in [(Of::Policy, "policy.v1.json"), (Of::Gateway, "gateway.v1.json")] {
        let committed = fs::read_to_string(root().join("policies/schema").join(file)).unwrap();
        assert_eq!(committed, text(of), "run `portcullis schema` again for {file}");
    }
}

#[test]
fn types_of_one_name_are_told_apart_in_the_schemas() {
    use portcullis::cli::schema::{Of, text};
    let schema: serde_json::Value = serde_json::from_str(&text(Of::Gateway)).unwrap();
    for (owner, known) in [("UpstreamRule", "server_name"), ("ListenerRule", "client_ca")] {
        let tls = &schema["definitions"][owner]["properties"]["tls"];
        let reference = tls["anyOf"][0]["$ref"].as_str().unwrap();
        let described = schema.pointer(reference.trim_start_matches('#')).unwrap();
        assert!(described["properties"].get(known).is_some(), "{owner} knows no tls.{known}");
    }
}

#[test]
fn metrics_that_the_shipped_files_name_exist() {
    let known: BTreeSet<&str> = portcullis::record::families::all().map(|row| row.name).collect();
    for dir in ["deploy/prometheus", "docs"] {
        let Ok(entries) = fs::read_dir(root().join(dir)) else { continue };
        for entry in entries.flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            for piece in text.split("portcullis_").skip(1) {
                let word: String =
                    piece.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let name = format!("portcullis_{word}");
                let base =
                    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let exists =
                    known.contains(name.as_str()) || base.is_some_and(|base| known.contains(base));
                assert!(
                    exists,
                    "{} names {name}, which is exported nowhere",
                    entry.path().display()
                );
            }
        }
    }
}
