//! `bans`: addresses that are refused whatever they ask.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use crate::cli::admin::Admin;
use crate::cli::exit::{Exit, print};
use crate::cli::{Ended, Globals};
use crate::units::{Network, Span};

/// What to do with bans.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the bans in force
    List,
    /// Refuse an address or network for a while
    #[command(
        after_help = "Examples:\n  portcullis bans add 203.0.113.9 --for 1h --why \"credential stuffing\"\n  portcullis bans add 2001:db8:1::/48 --for 1d"
    )]
    Add {
        /// An address or a network.
        network: Network,
        /// For how long.
        #[arg(long = "for", default_value = "1h")]
        span: Span,
        /// Why, for the list.
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Lift a ban
    #[command(
        after_help = "Examples:\n  portcullis bans remove 203.0.113.9\n  portcullis bans remove 2001:db8:1::/48"
    )]
    Remove {
        /// The address or network as the list shows it.
        network: Network,
    },
}

/// Lists, adds or lifts bans of the running gateway.
pub fn run(globals: &Globals, command: Command) -> Ended {
    let admin = Admin::find(globals)?;
    match command {
        Command::List => {
            let bans = admin.call(Method::GET, "/v1/bans", None)?;
            let bans = bans.as_array().cloned().unwrap_or_default();
            if bans.is_empty() {
                print("no bans");
            }
            for ban in bans {
                let text =
                    |key: &str| ban.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
                print(&format!(
                    "{:<24} until {}   {}",
                    text("network"),
                    text("until"),
                    text("why")
                ));
            }
            Ok(Exit::Fine)
        }
        Command::Add { network, span, why } => {
            let body =
                json!({ "network": network.to_string(), "seconds": span.0.as_secs(), "why": why });
            admin.call(Method::POST, "/v1/bans", Some(&body))?;
            print(&format!("{network} is refused for {span}"));
            Ok(Exit::Fine)
        }
        Command::Remove { network } => {
            let body = json!({ "network": network.to_string() });
            let answer = admin.call(Method::POST, "/v1/bans/remove", Some(&body))?;
            if answer.get("removed").and_then(Value::as_bool) == Some(true) {
                print(&format!("{network} is no longer banned"));
                return Ok(Exit::Fine);
            }
            print(&format!("{network} was not banned"));
            Ok(Exit::Found)
        }
    }
}
