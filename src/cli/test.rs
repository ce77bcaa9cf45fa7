//! `test`: runs the policy's own tests through the gateway itself, and says what they leave out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::check::rehearsal;
use crate::cli::exit::{Exit, print};
use crate::cli::{Ended, Globals};
use crate::clock::Clock;
use crate::policy::case::Case;
use crate::rehearse::Rehearsal;
use crate::rehearse::outcome::{Outcome, asked};

/// Options of `test`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  portcullis test\n  portcullis test candidate/policies --run \"a reader\" --format junit"
)]
pub struct Options {
    /// The policy directory; default: the one that the configuration names.
    path: Option<PathBuf>,
    /// Run only tests whose name holds this text.
    #[arg(long, value_name = "TEXT")]
    run: Option<String>,
    /// How to print.
    #[arg(long, default_value = "text")]
    format: TestFormat,
}

/// How the outcome of tests is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum TestFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document, for programs.
    Json,
    /// JUnit's XML, for continuous integration.
    Junit,
}

/// Everything that a run of tests came to.
struct Report<'p> {
    outcomes: Vec<(&'p Case, Outcome)>,
    routes: usize,
    uncovered: Vec<&'p str>,
    millis: u128,
}

/// Runs the tests and prints what came of them.
pub fn run(globals: &Globals, options: &Options) -> Ended {
    let clock = Clock::system();
    let rehearsal = rehearsal(globals, options.path.as_deref())?;
    let report = Report::of(&rehearsal, options.run.as_deref(), &clock);
    if let (Some(text), true) = (&options.run, report.outcomes.is_empty()) {
        return Err(Exit::CouldNot(format!("no test has `{text}` in its name")));
    }
    match options.format {
        TestFormat::Text => report.text(),
        TestFormat::Json => print(&report.json().to_string()),
        TestFormat::Junit => print(&report.junit()),
    }
    Ok(if report.failed() == 0 { Exit::Fine } else { Exit::Found })
}

impl<'p> Report<'p> {
    fn of(rehearsal: &'p Rehearsal, only: Option<&str>, clock: &Clock) -> Self {
        let started = clock.now();
        let policy = rehearsal.policy();
        let chosen =
            policy.cases().iter().filter(|case| only.is_none_or(|only| case.name.contains(only)));
        let outcomes: Vec<_> = chosen.map(|case| (case, rehearsal.run(case))).collect();
        let is_covered = |route: &str| {
            outcomes.iter().any(|(_, outcome)| outcome.route.as_deref() == Some(route))
        };
        let names = policy.routes().iter().map(|route| &*route.name);
        let uncovered = names.filter(|name| !is_covered(name)).collect();
        let millis = clock.now().since(started).as_millis();
        Self { outcomes, routes: policy.routes().len(), uncovered, millis }
    }

    fn failed(&self) -> usize {
        self.outcomes.iter().filter(|(_, outcome)| !outcome.passed).count()
    }

    fn text(&self) {
        let mut files: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (case, outcome) in &self.outcomes {
            let (passed, failed) = files.entry(case.origin.path()).or_default();
            *(if outcome.passed { passed } else { failed }) += 1;
        }
        let width = files.keys().map(|file| file.len()).max().unwrap_or_default();
        for (file, (passed, failed)) in &files {
            let failed = if *failed > 0 { format!(", {failed} FAILED") } else { String::new() };
            print(&format!("{file:<width$}   {passed} passed{failed}"));
        }
        for (case, outcome) in self.outcomes.iter().filter(|(_, outcome)| !outcome.passed) {
            print("");
            print(&outcome.report(case));
        }
        print("");
        let (all, failed) = (self.outcomes.len(), self.failed());
        let covered = self.routes - self.uncovered.len();
        print(&format!(
            "{all} tests, {} passed, {failed} failed in {} ms.   coverage: {covered} of {} routes",
            all - failed,
            self.millis,
            self.routes
        ));
        if !self.uncovered.is_empty() {
            print(&format!("not covered: {}", self.uncovered.join("  ")));
        }
    }

    fn json(&self) -> Value {
        let test = |(case, outcome): &(&Case, Outcome)| {
            json!({
                "name": case.name, "file": case.origin.path(), "line": case.origin.line(),
                "request": asked(case), "passed": outcome.passed, "route": outcome.route,
                "expected": outcome.expected, "got": outcome.got, "explanation": outcome.explanation,
            })
        };
        let failed = self.failed();
        json!({
            "schema": "portcullis.test/1",
            "passed": self.outcomes.len() - failed, "failed": failed,
            "routes": self.routes, "not_covered": self.uncovered,
            "tests": self.outcomes.iter().map(test).collect::<Vec<_>>(),
        })
    }

    fn junit(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let (all, failed) = (self.outcomes.len(), self.failed());
        // A String takes everything that is written to it.
        let _ =
            writeln!(xml, "<testsuites name=\"portcullis\" tests=\"{all}\" failures=\"{failed}\">");
        let mut files: BTreeMap<&str, Vec<&(&Case, Outcome)>> = BTreeMap::new();
        for entry in &self.outcomes {
            files.entry(entry.0.origin.path()).or_default().push(entry);
        }
        for (file, tests) in files {
            let failed = tests.iter().filter(|(_, outcome)| !outcome.passed).count();
            let (file, count) = (escaped(file), tests.len());
            let _ = writeln!(
                xml,
                "  <testsuite name=\"{file}\" tests=\"{count}\" failures=\"{failed}\">"
            );
            for (case, outcome) in tests {
                let (name, line) = (escaped(&case.name), case.origin.line());
                let _ = write!(
                    xml,
                    "    <testcase name=\"{name}\" classname=\"{file}\" file=\"{file}\" line=\"{line}\""
                );
                if outcome.passed {
                    xml.push_str("/>\n");
                    continue;
                }
                let message =
                    escaped(&format!("expected {}, got {}", outcome.expected, outcome.got));
                let report = escaped(&outcome.report(case));
                let _ = writeln!(
                    xml,
                    ">\n      <failure message=\"{message}\">{report}</failure>\n    </testcase>"
                );
            }
            xml.push_str("  </testsuite>\n");
        }
        xml.push_str("</testsuites>");
        xml
    }
}

/// Text for XML. Characters that XML 1.0 cannot hold at all become U+FFFD.
fn escaped(text: &str) -> String {
    let mut xml = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\n' | '\t' => xml.push(character),
            control if control.is_control() => xml.push('\u{fffd}'),
            other => xml.push(other),
        }
    }
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_is_escaped() {
        assert_eq!(escaped("a<b> & \"c\"\u{1}\n"), "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}\n");
    }
}
