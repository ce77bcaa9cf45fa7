//! `routes`: one line for each route, with who may use it, how much, and what may be sent.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::check::rehearsal;
use crate::cli::exit::{Exit, print, table};
use crate::cli::{Ended, Globals};
use crate::policy::route::Route;

/// Options of `routes`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  portcullis routes\n  portcullis routes candidate/policies --format markdown"
)]
pub struct Options {
    /// The policy directory; default: the one that the configuration names.
    path: Option<PathBuf>,
    /// How to print.
    #[arg(long, default_value = "text")]
    format: RoutesFormat,
}

/// How routes are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum RoutesFormat {
    /// For people.
    #[default]
    Text,
    /// A Markdown table, for pull requests and pages.
    Markdown,
    /// One JSON document, for programs.
    Json,
}

const COLUMNS: [&str; 8] =
    ["ROUTE", "METHOD", "PATH", "AUTH", "WHO", "HOW MUCH", "WHAT", "UPSTREAM"];

/// Lists the routes of a policy.
pub fn run(globals: &Globals, options: &Options) -> Ended {
    let rehearsal = rehearsal(globals, options.path.as_deref())?;
    let rows: Vec<[String; 8]> = rehearsal.policy().routes().iter().map(row).collect();
    match options.format {
        RoutesFormat::Text => {
            let mut titled = vec![COLUMNS.map(str::to_owned)];
            titled.extend(rows);
            table(&titled);
        }
        RoutesFormat::Markdown => {
            print(&format!("| {} |", COLUMNS.map(str::to_lowercase).join(" | ")));
            print(&format!("|{}", " --- |".repeat(COLUMNS.len())));
            for row in &rows {
                print(&format!(
                    "| {} |",
                    row.each_ref().map(|cell| cell.replace('|', "\\|")).join(" | ")
                ));
            }
        }
        RoutesFormat::Json => {
            let routes: Vec<_> = rehearsal.policy().routes().iter().zip(&rows).map(|(route, row)| {
                let [name, method, path, auth, who, how_much, what, upstream] = row;
                json!({
                    "name": name, "summary": route.summary, "method": method, "path": path, "hosts": route.hosts,
                    "auth": auth, "who": who, "how_much": how_much, "what": what, "upstream": upstream,
                    "file": route.origin.path(), "line": route.origin.line(),
                })
            }).collect();
            print(&json!({ "schema": "portcullis.routes/1", "routes": routes }).to_string());
        }
    }
    Ok(Exit::Fine)
}

fn row(route: &Route) -> [String; 8] {
    let pattern = route.pattern.text();
    let (method, path) = pattern.split_once(' ').unwrap_or(("*", pattern));
    let path = if route.hosts.is_empty() {
        path.to_owned()
    } else {
        format!("{}{path}", route.hosts.join(","))
    };
    [
        route.name.to_string(),
        method.to_owned(),
        path,
        route.authenticate.describe(),
        route.doors.describe(),
        route.budgets.describe(),
        route.filters.describe(),
        route.destination.name().to_owned(),
    ]
}
