//! Where a secret is kept: `env:NAME`, `file:PATH` or `credential:NAME`, never in the file itself.

use std::borrow::Cow;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::read::INLINE_SECRET;
use crate::secret::Secret;

/// Secrets are never longer, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The mode that Kubernetes gives the files of a secret when the pod names an `fsGroup`.
const GROUP_MODE: u32 = 0o440;

/// Where systemd says that it has put credentials (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

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

/// The environment's value under a name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process.
pub fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).and_then(|value| value.into_string().ok())
}

impl Reference {
    /// Reads the secret. One line break at its end is not part of it. `file:` begins from `base`.
    ///
    /// # Errors
    /// Why there is none; never what was found.
    pub fn read(&self, base: &Path) -> Result<Secret, ReferenceFault> {
        self.read_in(base, &environment)
    }

    /// As [`Reference::read`], in this environment.
    ///
    /// # Errors
    /// As there.
    pub fn read_in(
        &self,
        base: &Path,
        environment: Environment<'_>,
    ) -> Result<Secret, ReferenceFault> {
        let bytes = match self {
            Self::Env(name) => Zeroizing::new(
                environment(name)
                    .ok_or_else(|| {
                        let says = format!("the environment has no variable `{name}`");
                        ReferenceFault::Absent(says)
                    })?
                    .into_bytes(),
            ),
            Self::File(_) | Self::Credential(_) => {
                private_file(&self.path(base, environment)?.unwrap_or_default())?
            }
        };
        let secret = match bytes.as_slice() {
            [secret @ .., b'\r', b'\n'] | [secret @ .., b'\n'] => secret,
            secret => secret,
        };
        if secret.is_empty() {
            return Err(ReferenceFault::Absent(format!("{self} is empty")));
        }
        Ok(Secret::new(secret.to_vec()))
    }

    /// The file that holds the secret; nothing where a variable does.
    ///
    /// # Errors
    /// When it is a credential, and systemd did not start this process with credentials.
    pub fn path(
        &self,
        base: &Path,
        environment: Environment<'_>,
    ) -> Result<Option<PathBuf>, ReferenceFault> {
        match self {
            Self::Env(_) => Ok(None),
            Self::File(path) => Ok(Some(base.join(path))),
            Self::Credential(name) => {
                let none = || ReferenceFault::NoCredentials(name.clone());
                let directory = environment(CREDENTIALS).ok_or_else(none)?;
                Ok(Some(Path::new(&directory).join(name)))
            }
        }
    }

    /// Reports, at the place of the reference, a secret that is not there or that others may read.
    /// Credentials of systemd are there only when it has started the process.
    pub fn check(&self, base: &Path, span: &Range<usize>, reading: &mut Reading<'_>) {
        match self.read(base) {
            Ok(_) | Err(ReferenceFault::NoCredentials(_)) => {}
            Err(fault) => {
                let usual = "put the secret there, or leave the key out for one that is made here";
                fault.report(span, usual, reading);
            }
        }
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
            Some(("credential", name))
                if !name.is_empty() && name != "." && name != ".." && !name.contains('/') =>
            {
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

/// Why there is no secret where a reference points. None of them repeats what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferenceFault {
    /// There is nothing, or nothing that can be read.
    Absent(String),
    /// Others may read the file.
    Open {
        /// The file.
        path: PathBuf,
        /// The permission bits of its mode.
        mode: u32,
    },
    /// A credential of this name was wanted, and systemd gave this process none.
    NoCredentials(String),
    /// What is there cannot be what it is wanted for.
    Unfit(String),
}

impl ReferenceFault {
    /// The kind of mistake that an operator has made.
    pub fn code(&self) -> Code {
        match self {
            Self::Open { .. } => Code::OpenSecret,
            Self::Absent(_) | Self::NoCredentials(_) => Code::Unreadable,
            Self::Unfit(_) => Code::WrongValue,
        }
    }

    /// What would mend it, where that does not depend on what the secret is for.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Open { .. } => Some("run `chmod 600` on it"),
            Self::NoCredentials(_) => Some("name it in the unit with LoadCredential="),
            Self::Absent(_) | Self::Unfit(_) => None,
        }
    }

    /// Reports it at the place of the reference, with this help where it has none of its own.
    pub fn report(&self, span: &Range<usize>, usual: &str, reading: &mut Reading<'_>) {
        reading.wrong(self.code(), span, self.to_string(), self.help().unwrap_or(usual));
    }

    /// The fault and its help in one sentence, for those who have no place in a file to show.
    pub fn sentence(&self) -> String {
        match self.help() {
            Some(help) => format!("{self}; {help}"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for ReferenceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(says) | Self::Unfit(says) => f.write_str(says),
            Self::Open { path, mode } => {
                write!(f, "{} has mode {mode:04o}, so others may read it", path.display())
            }
            Self::NoCredentials(name) => {
                write!(f, "`credential:{name}` is kept by systemd, and {CREDENTIALS} is not set")
            }
        }
    }
}

impl std::error::Error for ReferenceFault {}

impl From<ReferenceFault> for String {
    fn from(fault: ReferenceFault) -> Self {
        fault.sentence()
    }
}

/// What a file holds that nobody else may read.
fn private_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, ReferenceFault> {
    let unreadable = |error: std::io::Error| {
        ReferenceFault::Absent(format!("{} cannot be read: {error}", path.display()))
    };
    let file = File::open(path).map_err(unreadable)?;
    // The open file is asked, not the path, which may lead to another file by now.
    let metadata = file.metadata().map_err(unreadable)?;
    if !is_private(&metadata, own_groups) {
        return Err(ReferenceFault::Open { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    let too_long =
        || ReferenceFault::Absent(format!("{} is too long to be a secret", path.display()));
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(metadata.len().min(SECRET_BYTES_MAX)).unwrap_or_default() + 1,
    ));
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX { Err(too_long()) } else { Ok(bytes) }
}

/// Whether only the process itself, and root, can read the file: its mode is for the owner alone,
/// or it is root's and shown, unchangeable, to a group that the process is in. The latter is how
/// Kubernetes mounts secrets for a pod with `fsGroup`, which cannot chmod them.
fn is_private(metadata: &Metadata, own_groups: impl FnOnce() -> Vec<u32>) -> bool {
    let mode = metadata.mode() & 0o777;
    mode & 0o077 == 0
        || (mode == GROUP_MODE && metadata.uid() == 0 && own_groups().contains(&metadata.gid()))
}

/// The groups that this process is in (proc(5), `/proc/pid/status`); none where nobody says so.
fn own_groups() -> Vec<u32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status
        .lines()
        .filter_map(|line| line.strip_prefix("Gid:").or_else(|| line.strip_prefix("Groups:")));
    lines.flat_map(str::split_whitespace).filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_in_the_file_itself_is_refused_without_repeating_it() {
        for text in ["hunter2", "env:", "file:", "credential:", "credential:../x", "credential:.."]
        {
            let error = text.parse::<Reference>().unwrap_err();
            assert!(!error.contains("hunter2"));
            assert!(error.contains("env:NAME"));
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pepper");
        std::fs::write(&path, "0123456789\n").unwrap();
        let reference = Reference::File("pepper".into());
        for mode in [0o644, 0o604, 0o640, 0o460, 0o620] {
            set_mode(&path, mode);
            let fault = reference.read(directory.path()).unwrap_err();
            assert_eq!(fault, ReferenceFault::Open { path: path.clone(), mode });
            assert!(fault.sentence().contains("chmod 600"));
        }
        set_mode(&path, 0o600);
        assert_eq!(reference.read(directory.path()).unwrap().expose(), b"0123456789");
    }

    #[test]
    fn a_file_that_root_shows_to_the_group_of_the_process_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pepper");
        std::fs::write(&path, "0123456789\n").unwrap();
        set_mode(&path, 0o440);
        let metadata = path.metadata().unwrap();
        let by_root = metadata.uid() == 0;
        assert_eq!(is_private(&metadata, || vec![metadata.gid()]), by_root);
        assert!(!is_private(&metadata, || vec![metadata.gid() + 1]));
        assert_eq!(Reference::File(path.clone()).read(Path::new("")).is_ok(), by_root);
        set_mode(&path, 0o444);
        assert!(!is_private(&path.metadata().unwrap(), || vec![metadata.gid()]));
    }

    #[test]
    fn the_process_knows_its_own_group() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(own_groups().contains(&file.path().metadata().unwrap().gid()));
    }

    #[test]
    fn each_kind_of_reference_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "from the file\r\n").unwrap();
        set_mode(&path, 0o400);
        let credentials = directory.path().to_str().unwrap().to_owned();
        let environment = |name: &str| match name {
            "SECRET" => Some("from the environment".to_owned()),
            "EMPTY" => Some("\n".to_owned()),
            CREDENTIALS => Some(credentials.clone()),
            _ => None,
        };
        let read = |text: &str| {
            let reference: Reference = text.parse().unwrap();
            let read = reference.read_in(directory.path(), &environment);
            read.map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap())
        };
        assert_eq!(read("env:SECRET").unwrap(), "from the environment");
        assert_eq!(read("file:secret").unwrap(), "from the file");
        assert_eq!(read("credential:secret").unwrap(), "from the file");
        assert!(read("env:EMPTY").unwrap_err().to_string().contains("env:EMPTY is empty"));
        assert!(read("env:OTHER").unwrap_err().to_string().contains("`OTHER`"));
        assert!(read("file:other").unwrap_err().to_string().contains("other cannot be read"));
        std::fs::write(directory.path().join("long"), vec![b'x'; 65_537]).unwrap();
        set_mode(&directory.path().join("long"), 0o600);
        assert!(read("file:long").unwrap_err().to_string().contains("too long"));
        let none = Reference::Credential("x".to_owned()).read_in(directory.path(), &|_| None);
        assert_eq!(none.unwrap_err(), ReferenceFault::NoCredentials("x".to_owned()));
    }
}
