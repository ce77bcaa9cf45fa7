//! `secrets`: gives the store new keys, in the running gateway or, while none runs, on its file.

use clap::Subcommand;
use http::Method;
use serde_json::Value;

use crate::admin::secrets::{MasterKey, Rekey};
use crate::cli::admin::Admin;
use crate::cli::check::stopped;
use crate::cli::exit::{Exit, print, say};
use crate::cli::{Ended, Globals};
use crate::clock::Clock;
use crate::config::{Config, FirstRun};
use crate::mistake::Mistakes;
use crate::secret::reference::Reference;

/// What to do with the keys that secrets are sealed with.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put a new master key in the place of the one in force, while the gateway serves
    #[command(
        after_help = "Examples:\n  portcullis secrets rekey                            (a master key that was made on first run)\n  portcullis secrets rekey --new file:/etc/portcullis/master-2.key\n  portcullis secrets rekey --data                     (a new data key too; every secret is sealed anew)"
    )]
    Rekey {
        /// Where the new master key is: file:PATH, relative to gateway.toml, or credential:NAME.
        /// Default: one is made in the state directory.
        #[arg(long, value_name = "REFERENCE")]
        new: Option<Reference>,
        /// Rotate the data key too, and seal every secret anew.
        #[arg(long)]
        data: bool,
    },
}

/// Does it.
pub fn run(globals: &Globals, command: Command) -> Ended {
    let Command::Rekey { new, data } = command;
    let named = new.as_ref().map(ToString::to_string);
    let rekey = Rekey { new: named.clone(), data };
    let answer = call(globals, &rekey)?;
    let master = answer.get("master_key").and_then(Value::as_str).unwrap_or_default();
    print(&format!("{master} is the master key now"));
    if let Some(count) = answer.get("resealed").and_then(Value::as_u64) {
        print(&format!("{count} secrets are sealed anew with a new data key"));
    }
    match named {
        Some(named) => say(&format!(
            "write master_key = \"{named}\" under [state] before the next start; copies of the store made before need the old key"
        )),
        None => {
            say("copies of the store made before need the copy of the master key made with them")
        }
    }
    Ok(Exit::Fine)
}

/// Asks the running gateway, or does it on the store when none runs.
fn call(globals: &Globals, rekey: &Rekey) -> Result<Value, Exit> {
    let mut mistakes = Mistakes::default();
    let now = Clock::system().now();
    let config = Config::read(&globals.config, FirstRun::Assume, now, &mut mistakes);
    let ask = |admin: Admin| {
        let body =
            serde_json::to_value(rekey).map_err(|error| Exit::CouldNot(error.to_string()))?;
        admin.call(Method::POST, "/v1/secrets/rekey", Some(&body))
    };
    if globals.admin.is_some() {
        return ask(Admin::of(globals, config.as_ref())?);
    }
    let Some(config) = config else { return Err(stopped(&mut mistakes, globals)) };
    if config.admin.is_some_and(|address| Admin::at(address).is_there()) {
        return ask(Admin::of(globals, Some(&config))?);
    }
    let master = MasterKey::of(&config);
    let store = master.open_store().map_err(Exit::CouldNot)?;
    master.rekey(&store, rekey).map_err(Exit::CouldNot)
}
