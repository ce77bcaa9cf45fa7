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
    let text = |pointer: &str| match status.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    };
    print(&format!("portcullis {}   up {}", text("/version"), text("/uptime")));
    print(&format!(
        "policy       {} sha256:{}   {} routes",
        text("/policy/name"),
        short(&text("/policy/hash")),
        text("/policy/routes")
    ));
    print(&format!("last reload  {}", text("/policy/last_reload")));
    for upstream in status.pointer("/upstreams").and_then(Value::as_array).into_iter().flatten() {
        for target in upstream.pointer("/targets").and_then(Value::as_array).into_iter().flatten() {
            let word = if target["healthy"] == true { "up" } else { "DOWN" };
            print(&format!(
                "upstream     {} {} {word}",
                plain(&upstream["name"]),
                plain(&target["address"])
            ));
        }
    }
    for certificate in
        status.pointer("/certificates").and_then(Value::as_array).into_iter().flatten()
    {
        print(&format!(
            "certificate  {} until {}",
            plain(&certificate["listener"]),
            plain(&certificate["not_after"])
        ));
    }
    print(&format!("keys         {}", text("/keys")));
    Ok(Exit::Fine)
}

/// Asks for a reload and prints what happened.
pub fn reload(globals: &Globals) -> Ended {
    let outcome = Admin::find(globals)?.call(Method::POST, "/v1/reload", None)?;
    let result = plain(&outcome["result"]);
    match result.as_str() {
        "refused" => {
            say(plain(&outcome["says"]).trim_end());
            say("the policy in force stays as it was");
            Ok(Exit::Found)
        }
        _ => {
            print(&format!("{result}: policy sha256:{}", short(&plain(&outcome["hash"]))));
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

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}
