//! Where a secret is kept: `env:NAME`, `file:PATH` or `credential:NAME`, never in the file itself.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::read::INLINE_SECRET;
use crate::secret::Secret;

/// Secrets are never longer, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A reference to a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// An environment variable.
    Env(String),
    /// A file, relative to the directory of `gateway.toml`.
    File(PathBuf),
    /// A systemd credential (`LoadCredential=`).
    Credential(String),
}

impl Reference {
    /// Reads the secret. One line break at its end is not part of it.
    ///
    /// # Errors
    /// A sentence that names the reference and what is wrong with it, never the secret.
    pub fn read(&self, base: &Path) -> Result<Secret, String> {
        let bytes = match self {
            Self::Env(name) => std::env::var_os(name)
                .ok_or_else(|| format!("the environment has no variable `{name}`"))?
                .into_encoded_bytes(),
            Self::File(path) => {
                let path = base.join(path);
                refuse_open_file(&path)?;
                read_bounded(&path)?
            }
            Self::Credential(name) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    format!("`credential:{name}` needs systemd's LoadCredential=, and CREDENTIALS_DIRECTORY is not set")
                })?;
                read_bounded(&Path::new(&directory).join(name))?
            }
        };
        let bytes = match bytes.as_slice() {
            [secret @ .., b'\r', b'\n'] | [secret @ .., b'\n'] => secret.to_vec(),
            _ => bytes,
        };
        if bytes.is_empty() {
            return Err(format!("{self} is empty"));
        }
        Ok(Secret::new(bytes))
    }
}

impl Reference {
    /// Reports, at the place of the reference, a secret that is not there or that others may read.
    /// Credentials of systemd are there only when it has started the process.
    pub fn check(&self, base: &Path, span: &Range<usize>, reading: &mut Reading<'_>) {
        let by_systemd = std::env::var_os("CREDENTIALS_DIRECTORY").is_some();
        if matches!(self, Self::Credential(_)) && !by_systemd {
            return;
        }
        let open = match self {
            Self::File(path) if base.join(path).exists() => {
                refuse_open_file(&base.join(path)).err()
            }
            Self::File(_) | Self::Env(_) | Self::Credential(_) => None,
        };
        let missing = || self.read(base).err().map(|says| (Code::Unreadable, says));
        let wrong = open.map(|says| (Code::OpenSecret, says)).or_else(missing);
        let Some((code, says)) = wrong else { return };
        let usual = "put the secret there, or leave the key out for one that is made here";
        let (says, help) = says.split_once("; ").unwrap_or((&says, usual));
        reading.wrong(code, span, says, help);
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

impl std::str::FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("credential", name)) if !name.is_empty() && !name.contains('/') => {
                Ok(Self::Credential(name.to_owned()))
            }
            // The text itself may be the secret, so it is not repeated.
            _ => Err(format!(
                "{INLINE_SECRET}; write \"env:NAME\", \"file:PATH\" or \"credential:NAME\""
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(env|file|credential):.+$",
            "examples": ["file:/etc/portcullis/pepper"],
            "description": "Where a secret is kept: an environment variable, a file with mode 0600, or a systemd credential."
        })
    }
}

/// Whether others may read a file that should be the owner's alone.
///
/// # Errors
/// A sentence that names the file and its mode.
pub fn refuse_open_file(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "{} has mode {:04o}, so others may read it; run `chmod 600` on it",
            path.display(),
            mode & 0o7777
        ));
    }
    Ok(())
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let length = std::fs::metadata(path).map_err(wrong)?.len();
    if length > SECRET_BYTES_MAX {
        return Err(format!("{} is too long to be a secret", path.display()));
    }
    std::fs::read(path).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_in_the_file_itself_is_refused_without_repeating_it() {
        let error = "hunter2".parse::<Reference>().unwrap_err();
        assert!(!error.contains("hunter2"));
        assert!(error.contains("env:NAME"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pepper");
        std::fs::write(&path, "0123456789\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let reference = Reference::File("pepper".into());
        assert!(reference.read(directory.path()).unwrap_err().contains("0644"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(reference.read(directory.path()).unwrap().expose(), b"0123456789");
    }
}
