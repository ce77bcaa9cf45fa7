//! `status`, `reload` and `health`: what the running gateway says of itself.

use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::cli::admin::Admin;
use crate::cli::exit::{Exit, print, say};
use crate::cli::{Ended, Format, Globals};

/// Options of `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  portcullis status\n  portcullis status --format json --admin 127.0.0.1:9901 --token-file admin.token"
)]
pub struct Options {
    /// How to print.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// Prints versions, policy, upstreams and certificates.
pub fn run(globals: &Globals, options: &Options) -> Ended {
    let status = Admin::find(globals)?.call(Method::GET, "/v1/status", None)?;
    if options.format == Format::Json {
        print(&status.to_string());
        return Ok(Exit::Fine);
    }
    let text = |pointer: &str| plain(status.pointer(pointer));
    print(&format!("portcullis {}   up {}", text("/version"), text("/uptime")));
    let hash = text("/policy/hash");
    print(&format!(
        "policy       {} sha256:{}   {} routes",
        text("/policy/name"),
        short(&hash),
        text("/policy/routes")
    ));
    print(&format!(
        "last reload  {} at {}",
        text("/policy/last_reload/result"),
        text("/policy/last_reload/at")
    ));
    for upstream in members(&status, "/upstreams") {
        for target in members(upstream, "/targets") {
            let up = target.get("healthy") == Some(&Value::Bool(true));
            let word = if up { "up" } else { "DOWN" };
            let (name, address) = (plain(upstream.get("name")), plain(target.get("address")));
            print(&format!("upstream     {name} {address} {word}"));
        }
    }
    for certificate in members(&status, "/certificates") {
        let (listener, until) =
            (plain(certificate.get("listener")), plain(certificate.get("not_after")));
        print(&format!("certificate  {listener} until {until}"));
    }
    let counts = status.get("keys").and_then(Value::as_object).into_iter().flatten();
    let counts: Vec<String> =
        counts.map(|(state, count)| format!("{state} {}", plain(Some(count)))).collect();
    print(&format!("keys         {}", counts.join(", ")));
    Ok(Exit::Fine)
}

/// Asks for a reload and prints what happened.
pub fn reload(globals: &Globals) -> Ended {
    let outcome = Admin::find(globals)?.call(Method::POST, "/v1/reload", None)?;
    let result = plain(outcome.get("result"));
    match result.as_str() {
        "refused" => {
            say(plain(outcome.get("says")).trim_end());
            say("the policy in force stays as it was");
            Ok(Exit::Found)
        }
        _ => {
            print(&format!("{result}: policy sha256:{}", short(&plain(outcome.get("hash")))));
            Ok(Exit::Fine)
        }
    }
}

/// Whether the running gateway is ready.
pub fn health(globals: &Globals) -> Ended {
    let (status, _) = Admin::find(globals)?.raw(Method::GET, "/readyz", None)?;
    if status == StatusCode::OK {
        return Ok(Exit::Fine);
    }
    Err(Exit::Unreachable(format!("the gateway is not ready: {status}")))
}

fn members<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}
