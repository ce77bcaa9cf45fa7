//! Where credentials are kept: by the gateway that runs, or in its store while none does.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::admin::keys::perform;
use crate::authenticate::directory::Directory;
use crate::authenticate::management::call::Call;
use crate::cli::admin::Admin;
use crate::cli::check::stopped;
use crate::cli::exit::Exit;
use crate::cli::keyring::open_directory;
use crate::cli::{Globals, first_run};
use crate::clock::Clock;
use crate::config::{Config, FirstRun};
use crate::mistake::Mistakes;

/// Whoever keeps the credentials. The embedded store has one owner: the gateway while it runs,
/// otherwise the command.
pub(in crate::cli::keys) enum Keeper {
    /// A gateway that runs.
    Gateway(Admin),
    /// The store, and how long new credentials live by default.
    Store(Arc<Directory>, Duration),
}

impl Keeper {
    /// The gateway that runs, or the store when none does. A gateway that was named with `--admin`
    /// is asked and nobody else.
    pub(in crate::cli::keys) fn reach(globals: &Globals) -> Result<Self, Exit> {
        let mut mistakes = Mistakes::default();
        let now = Clock::system().now();
        let config = Config::read(&globals.config, FirstRun::Assume, now, &mut mistakes);
        if globals.admin.is_some() {
            return Ok(Self::Gateway(Admin::of(globals, config.as_ref())?));
        }
        let Some(config) = config else { return Err(stopped(&mut mistakes, globals)) };
        if config.admin.is_some_and(|address| Admin::at(address).is_there()) {
            return Ok(Self::Gateway(Admin::of(globals, Some(&config))?));
        }
        first_run::prepare(&config).map_err(Exit::CouldNot)?;
        let (directory, _) = open_directory(&config).map_err(Exit::CouldNot)?;
        Ok(Self::Store(directory, config.expire_after))
    }

    /// Has it done, whoever does it.
    pub(in crate::cli::keys) fn call(&self, call: &Call) -> Result<Value, Exit> {
        match self {
            Self::Gateway(admin) => {
                let body = serde_json::to_value(call)
                    .map_err(|error| Exit::CouldNot(error.to_string()))?;
                admin.call(Method::POST, "/v1/keys", Some(&body))
            }
            Self::Store(directory, expire_after) => {
                let now = Clock::system().now();
                perform(directory, call, *expire_after, now).map_err(Exit::CouldNot)
            }
        }
    }
}
