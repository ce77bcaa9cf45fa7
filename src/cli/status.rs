//! `status`, `reload` and `health`: what the running gateway says of itself.

use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::authenticate::directory::state::State;
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
    let text = |pointer: &str| match status.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(value) => value.to_string(),
    };
    print(&format!("portcullis {}   up {}", text("/version"), text("/uptime")));
    print(&format!(
        "policy       {} sha256:{}   {} routes",
        text("/policy/name"),
        short(&text("/policy/hash")),
        text("/policy/routes")
    ));
    print(&format!("             in force since {}", text("/policy/in_force_since")));
    print(&format!(
        "last reload  {} {}",
        text("/policy/last_reload/at"),
        text("/policy/last_reload/result")
    ));
    for upstream in members(&status, "/upstreams") {
        for target in members(upstream, "/targets") {
            let up = target.get("healthy") == Some(&Value::Bool(true));
            let word = if up { "up" } else { "DOWN" };
            let (name, address) = (text_of(upstream, "name"), text_of(target, "address"));
            print(&format!("upstream     {name} {address} {word}"));
        }
    }
    for certificate in members(&status, "/certificates") {
        let (listener, until) =
            (text_of(certificate, "listener"), text_of(certificate, "not_after"));
        print(&format!("certificate  {listener} until {until}"));
    }
    let keys = State::ALL.map(State::name);
    let keys = keys.map(|state| format!("{} {state}", text(&format!("/keys/{state}"))));
    print(&format!("keys         {}   next expiry {}", keys.join(", "), text("/keys/next_expiry")));
    print(&format!("bans         {}", text("/bans")));
    Ok(Exit::Fine)
}

/// Asks for a reload and prints what happened.
pub fn reload(globals: &Globals) -> Ended {
    let outcome = Admin::find(globals)?.call(Method::POST, "/v1/reload", None)?;
    let result = text_of(&outcome, "result");
    match result.as_str() {
        "refused" => {
            say(text_of(&outcome, "says").trim_end());
            say("the policy in force stays as it was");
            Ok(Exit::Found)
        }
        _ => {
            print(&format!("{result}: policy sha256:{}", short(&text_of(&outcome, "hash"))));
            Ok(Exit::Fine)
        }
    }
}

/// Whether the running gateway is ready.
pub fn health(globals: &Globals) -> Ended {
    let (status, body) = Admin::find(globals)?.raw(Method::GET, "/readyz", None)?;
    if status == StatusCode::OK {
        return Ok(Exit::Fine);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let missing = body.pointer("/error/details/missing").and_then(Value::as_array);
    let missing: Vec<&str> = missing.into_iter().flatten().filter_map(Value::as_str).collect();
    let why = if missing.is_empty() { status.to_string() } else { missing.join("; ") };
    Err(Exit::Unreachable(format!("the gateway is not ready: {why}")))
}

fn members<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text_of(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or("-").to_owned()
}

fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}
