//! Follows `env:NAME` and `file:PATH` to secrets and files that `gateway.toml` only points at.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::read::INLINE_SECRET;
use crate::mistake::source::At;
use crate::secret::Secret;

/// The shortest secret that may sign, in bytes: that of the MAC's own output.
const SECRET_BYTES_MIN: usize = 32;

/// The longest secret that is read, in bytes.
const SECRET_BYTES_MAX: usize = 4096;

/// What compiling an upstream has to know beside its own rule.
pub struct Surroundings<'a> {
    /// The directory of `gateway.toml`, which relative paths begin from.
    pub base_dir: &'a Path,
    /// The gateway's own admin listeners, which no upstream may be.
    pub forbidden: &'a [SocketAddr],
    /// The environment's value under a name.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// The secret that `reference` points at, without the line break that editors put at its end.
pub(in crate::forward) fn secret(
    reference: &At<String>,
    surroundings: &Surroundings<'_>,
    reading: &mut Reading<'_>,
) -> Option<Secret> {
    const HELP: &str = "write \"env:NAME\", \"file:PATH\" or \"generated\"; `openssl rand -base64 48` makes a good secret";
    let found = if reference.value == "generated" {
        Secret::random(SECRET_BYTES_MIN).map_err(|fault| (Code::Unreadable, fault.to_string()))
    } else if let Some(name) = reference.strip_prefix("env:") {
        (surroundings.environment)(name)
            .map(|text| Secret::new(text.into_bytes()))
            .ok_or_else(|| (Code::Unreadable, format!("the environment has no `{name}`")))
    } else if reference.starts_with("file:") {
        file(reference, surroundings.base_dir)
            .map_err(|says| (Code::Unreadable, says))
            .and_then(|path| private_file(&path))
    } else {
        // The text itself is not repeated: it may be the secret.
        Err((Code::InlineSecret, format!("{INLINE_SECRET}, and `identity` points at none")))
    };
    // Random bytes may end like a line; only what somebody wrote has a line break at its end.
    let made = reference.value == "generated";
    match found.and_then(|secret| if made { Ok(secret) } else { trimmed(secret) }) {
        Ok(secret) => Some(secret),
        Err((code, says)) => {
            let help = if code == Code::OpenSecret { "run `chmod 600` on it" } else { HELP };
            reading.wrong(code, &reference.span, says, help);
            None
        }
    }
}

/// The path that a `file:` reference names.
///
/// # Errors
/// When it is no such reference.
pub(in crate::forward) fn file(reference: &str, base_dir: &Path) -> Result<PathBuf, String> {
    match reference.strip_prefix("file:") {
        Some(path) if !path.is_empty() => Ok(base_dir.join(path)),
        _ => Err(format!("`{reference}` names no file; write \"file:PATH\"")),
    }
}

fn private_file(path: &Path) -> Result<Secret, (Code, String)> {
    use std::os::unix::fs::PermissionsExt;

    let unreadable = |error: std::io::Error| {
        (Code::Unreadable, format!("`{}` cannot be read: {error}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // The open file is asked, not the path, which may be another file by now.
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        let says = format!("`{}` can be read by others (mode {:o})", path.display(), mode & 0o777);
        return Err((Code::OpenSecret, says));
    }
    let mut bytes = Vec::with_capacity(SECRET_BYTES_MAX + 2);
    file.take(SECRET_BYTES_MAX as u64 + 2).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Secret::new(bytes))
}

fn trimmed(secret: Secret) -> Result<Secret, (Code, String)> {
    let bytes = secret.expose();
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
        let says = format!("a secret has from {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes");
        return Err((Code::WrongValue, says));
    }
    if bytes.len() == secret.expose().len() {
        return Ok(secret);
    }
    Ok(Secret::new(bytes.to_vec()))
}
