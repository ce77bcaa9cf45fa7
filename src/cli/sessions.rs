//! `sessions`: tokens and sessions that are revoked before their time.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::cli::admin::Admin;
use crate::cli::exit::{Exit, print};
use crate::cli::{Ended, Globals};

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the revocations in force
    List,
    /// Refuse a token, a session, or all tokens that a subject has, from the next request on
    #[command(
        after_help = "Examples:\n  portcullis sessions revoke --jti 8f14e45f\n  portcullis sessions revoke --sid 08a5019c\n  portcullis sessions revoke --subject user-1"
    )]
    Revoke(What),
}

/// What is revoked.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// One token, by its `jti`.
    #[arg(long)]
    jti: Option<String>,
    /// One session, by the `sid` of its tokens.
    #[arg(long)]
    sid: Option<String>,
    /// Every token of this subject that was issued until now.
    #[arg(long)]
    subject: Option<String>,
}

/// Lists or adds revocations of the running gateway.
pub fn run(globals: &Globals, command: Command) -> Ended {
    let admin = Admin::find(globals)?;
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    match command {
        Command::List => {
            let all = admin.call(Method::GET, "/v1/sessions", None)?;
            let all = all.as_array().cloned().unwrap_or_default();
            if all.is_empty() {
                print("nothing is revoked");
            }
            for revoked in all {
                print(&format!(
                    "{:<8} {:<40} issued until {}   kept until {}",
                    text(&revoked, "kind"),
                    text(&revoked, "name"),
                    text(&revoked, "issuedUntil"),
                    text(&revoked, "until"),
                ));
            }
        }
        Command::Revoke(What { jti, sid, subject }) => {
            let body = json!({ "jti": jti, "sid": sid, "subject": subject });
            let revoked = admin.call(Method::POST, "/v1/sessions", Some(&body))?;
            let (kind, name) = (text(&revoked, "kind"), text(&revoked, "name"));
            print(&format!("{kind} {name} is revoked until {}", text(&revoked, "until")));
        }
    }
    Ok(Exit::Fine)
}
