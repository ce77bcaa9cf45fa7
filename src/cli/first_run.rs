//! Makes what a first run needs: a development certificate, secrets of this machine, one API key.

use crate::config::development::write_new;
use crate::config::{Config, private_dir, state_files};
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of each secret that is made here.
const SECRET_BYTES: usize = 32;

/// What was made, for the list that is shown.
#[derive(Debug, Default)]
pub struct Made(pub Vec<&'static str>);

/// Makes what is missing in the state directory. Nothing that exists is ever overwritten.
///
/// # Errors
/// A sentence that says what could not be made, and why.
pub fn prepare(config: &Config) -> Result<Made, String> {
    let dir = &config.state_dir;
    let mut made = Made::default();
    if config.made_certificate {
        made.0.push("development certificate");
    }
    private_dir(dir)?;
    for (file, named, what) in [
        (state_files::MASTER_KEY, config.master_key.is_some(), "master key"),
        (state_files::PEPPER, config.pepper.is_some(), "pepper"),
        (
            state_files::ADMIN_TOKEN,
            config.admin_token.is_some() || config.admin.is_none(),
            "admin token",
        ),
    ] {
        let path = dir.join(file);
        if named || path.exists() {
            continue;
        }
        if file != state_files::ADMIN_TOKEN && dir.join("store.redb").exists() {
            return Err(format!(
                "{} is gone, but the store that was made with it is there; bring the file back",
                path.display()
            ));
        }
        let secret = Secret::random(SECRET_BYTES).map_err(|error| error.to_string())?;
        write_new(
            &path,
            format!("{}\n", URL_SAFE_NO_PAD.encode(secret.expose())).as_bytes(),
            0o600,
        )?;
        made.0.push(what);
    }
    Ok(made)
}
