//! What upstreams are compiled with beside their rules: secrets and files that `gateway.toml` only points at.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::hmac;

use crate::forward::identity::issuer::Issuer;
use crate::forward::identity::mac_key;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::secret::Secret;
use crate::secret::reference::{Environment, Reference, ReferenceFault};
use crate::secret::watched::Watched;

/// How long a secret that signs may be, in bytes: at least as the MAC's own output.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=4096;

/// What compiling an upstream has to know beside its own rule.
pub struct Surroundings<'a> {
    /// The directory of `gateway.toml`, which relative paths begin from.
    pub base_dir: &'a Path,
    /// The gateway's own admin listeners, which no upstream may be.
    pub forbidden: &'a [SocketAddr],
    /// The environment's value under a name.
    pub environment: Environment<'a>,
    /// Whether somebody only looks. Systemd's credentials are there when it starts the gateway, so
    /// they are then taken as there.
    pub only_looking: bool,
    /// Who signs tokens that tell who calls.
    pub issuer: &'a Arc<Issuer>,
}

/// The key of the secret that `reference` points at, or of a fresh one where it is `"generated"`.
pub(in crate::forward) fn mac_secret(
    reference: &At<String>,
    surroundings: &Surroundings<'_>,
    reading: &mut Reading<'_>,
) -> Option<Watched<hmac::Key>> {
    const HELP: &str = "write \"env:NAME\", \"file:PATH\", \"credential:NAME\" or \"generated\"; `openssl rand -base64 48` makes a good secret";
    let fresh = || {
        Secret::random(*SECRET_BYTES.start())
            .map(|secret| Watched::fixed(mac_key(&secret)))
            .map_err(|fault| ReferenceFault::Absent(fault.to_string()))
    };
    let found = if reference.value == "generated" {
        fresh()
    } else {
        let Ok(followed) = reference.parse::<Reference>() else {
            // The text itself is not repeated: it may be the secret.
            let says = "a secret never stands in this file, and `identity` points at none";
            reading.wrong(Code::InlineSecret, &reference.span, says, HELP);
            return None;
        };
        let (base, environment) = (surroundings.base_dir, surroundings.environment);
        match Watched::read_all([followed], base, environment, |[secret]| fit_to_sign(secret)) {
            Err(ReferenceFault::NoCredentials(_)) if surroundings.only_looking => fresh(),
            found => found,
        }
    };
    found.map_err(|fault| fault.report(&reference.span, HELP, reading)).ok()
}

/// The path that a `file:` reference names.
///
/// # Errors
/// When it is no such reference.
pub(in crate::forward) fn file(reference: &str, base_dir: &Path) -> Result<PathBuf, String> {
    match reference.parse() {
        Ok(Reference::File(path)) => Ok(base_dir.join(path)),
        Ok(Reference::Env(_) | Reference::Credential(_)) | Err(_) => {
            Err(format!("`{reference}` names no file; write \"file:PATH\""))
        }
    }
}

fn fit_to_sign(secret: &Secret) -> Result<hmac::Key, String> {
    let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
    match SECRET_BYTES.contains(&secret.expose().len()) {
        true => Ok(mac_key(secret)),
        false => Err(format!("a secret has from {least} to {most} bytes")),
    }
}
