//! Opens what a gateway keeps: its secrets, its store, its credentials.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::admin::secrets::MasterKey;
use crate::authenticate::directory::Directory;
use crate::authenticate::directory::change::millis;
use crate::authenticate::directory::record::NewKey;
use crate::clock::Now;
use crate::config::development::write_made;
use crate::config::{Config, state_files};
use crate::policy::Policy;
use crate::secret::Secret;
use crate::secret::reference::Reference;
use crate::store::Store;
use crate::tasks::seed::FIRST_USER;

/// The fewest bytes of an admin token that somebody chose.
const ADMIN_TOKEN_BYTES_MIN: usize = 16;

/// The first key lives so long, in days.
const FIRST_KEY_DAYS: u64 = 30;

/// The secrets that the process starts with.
pub(in crate::cli) struct Keyring {
    master: MasterKey,
    pepper: Secret,
    pub(in crate::cli) admin: Option<Secret>,
}

impl Keyring {
    /// Opens the store and what is kept in it.
    pub(in crate::cli) fn open(
        &self,
        config: &Config,
    ) -> Result<(Arc<Directory>, Arc<Store>), String> {
        let store = Arc::new(self.master.open_store()?);
        let directory = Directory::open(Arc::clone(&store), &self.pepper, &config.environment);
        let directory = directory.map_err(|fault| fault.to_string())?;
        Ok((Arc::new(directory.limited(config.max_ages.clone())), store))
    }

    pub(in crate::cli) fn read(config: &Config) -> Result<Self, String> {
        let read = |reference: &Option<Reference>, file: &str| match reference {
            Some(reference) => reference.read(&config.base),
            None => Reference::File(config.state_dir.join(file)).read(Path::new(".")),
        };
        // What is missing is told before anything is opened.
        let master = MasterKey::of(config);
        master.read()?;
        let pepper = read(&config.pepper, state_files::PEPPER)?;
        let admin = config.admin.map(|_| read(&config.admin_token, state_files::ADMIN_TOKEN));
        let admin = admin.transpose()?;
        // Whoever guesses it makes keys for all doors.
        let bytes = admin.as_ref().map_or(ADMIN_TOKEN_BYTES_MIN, |token| token.expose().len());
        if bytes < ADMIN_TOKEN_BYTES_MIN {
            return Err(format!(
                "the admin token has {bytes} bytes; it needs at least {ADMIN_TOKEN_BYTES_MIN}, all of them random"
            ));
        }
        Ok(Self { master, pepper, admin })
    }
}

/// The credentials of a gateway that does not run.
///
/// # Errors
/// A sentence that says why they cannot be opened.
pub fn open_directory(config: &Config) -> Result<(Arc<Directory>, Arc<Store>), String> {
    Keyring::read(config)?.open(config)
}

/// The first key holds every scope and role of the policy, so that everything can be tried.
pub(in crate::cli) fn first_key(
    config: &Config,
    directory: &Directory,
    policy: &Policy,
    now: Now,
) -> Result<Secret, String> {
    let vocabulary = policy.vocabulary();
    let usual = Duration::from_secs(FIRST_KEY_DAYS * 86_400);
    let holds = directory.max_age(directory.environment()).map_or(usual, |max| max.min(usual));
    let new = NewKey {
        name: "first key".to_owned(),
        subject: FIRST_USER.to_owned(),
        roles: vocabulary.roles().map(|(name, _)| name.to_owned()).collect(),
        scopes: vocabulary.scopes().map(|(name, _)| name.to_owned()).collect(),
        tier: vocabulary.tiers().map(|(name, _)| name.to_owned()).find(|tier| tier == "pro"),
        expires_ms: Some(now.unix_ms.saturating_add(millis(holds))),
        ..NewKey::default()
    };
    let make = || Ok(directory.create(new, now).map_err(|fault| fault.to_string())?.secret);
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        return make();
    }
    let path = config.state_dir.join(state_files::FIRST_KEY);
    write_made(&path, make, |secret| Zeroizing::new([secret.expose(), b"\n"].concat()))
}
