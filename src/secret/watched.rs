//! What is made of secrets, and made again when one of them changes.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use crate::secret::reference::{Environment, Reference, ReferenceFault, environment};
use crate::secret::{Secret, equal};

/// Makes the thing that secrets are wanted for, or says why they are unfit for it.
type Make<T> = dyn Fn(&[Secret]) -> Result<T, String> + Send + Sync;

/// A thing made of one secret or a few: a signer, a header, a token. Requests [`load`](Self::load) it without
/// a lock; housekeeping calls [`reload_if_changed`](Self::reload_if_changed) every few seconds.
///
/// The content decides, not the time of the file, and the path is followed anew each time. So a
/// file that is replaced by renaming, and a symlink that is swapped somewhere on the way to it (the
/// `..data` of Kubernetes), are noticed like a file that is written over.
pub struct Watched<T> {
    references: Vec<Reference>,
    base: PathBuf,
    make: Box<Make<T>>,
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
}

/// What was found when the references were last followed.
struct Seen {
    /// The last secrets that were read, fit or not; one for each reference.
    secrets: Vec<Secret>,
    /// The fault that was last told, so that it is told once.
    told: Option<ReferenceFault>,
}

impl<T> Watched<T> {
    /// Reads the secret and makes the thing. `file:` begins from `base`.
    ///
    /// # Errors
    /// When the secret cannot be read, or `make` says that it is unfit.
    pub fn read(
        reference: Reference,
        base: impl Into<PathBuf>,
        make: impl Fn(&Secret) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, ReferenceFault> {
        Self::read_all([reference], base, &environment, move |[secret]| make(secret))
    }

    /// Reads several secrets, with those of variables from this environment, and makes the thing of
    /// all of them, in the order of their references.
    ///
    /// # Errors
    /// When one cannot be read, or `make` says that they are unfit.
    pub fn read_all<const N: usize>(
        references: [Reference; N],
        base: impl Into<PathBuf>,
        environment: Environment<'_>,
        make: impl Fn(&[Secret; N]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, ReferenceFault> {
        let base = base.into();
        let make = move |secrets: &[Secret]| match secrets.try_into() {
            Ok(secrets) => make(secrets),
            Err(_) => Err("there are not as many secrets as references".to_owned()),
        };
        let secrets = references.iter().map(|reference| reference.read_in(&base, environment));
        let secrets = secrets.collect::<Result<Vec<_>, _>>()?;
        let made = make(&secrets).map_err(ReferenceFault::Unfit)?;
        Ok(Self {
            references: references.into(),
            base,
            make: Box::new(make),
            current: ArcSwap::from_pointee(made),
            seen: Mutex::new(Seen { secrets, told: None }),
        })
    }

    /// A thing whose secret is kept nowhere, and so never changes.
    pub fn fixed(made: T) -> Self {
        Self {
            references: Vec::new(),
            base: PathBuf::new(),
            make: Box::new(|_| Err("it never changes".to_owned())),
            current: ArcSwap::from_pointee(made),
            seen: Mutex::new(Seen { secrets: Vec::new(), told: None }),
        }
    }

    /// The thing in force, for the length of one use.
    pub fn load(&self) -> Guard<Arc<T>> {
        self.current.load()
    }

    /// Follows the references again. True when another thing is in force from now on. It waits for
    /// the disk, so it belongs on a thread that may block.
    ///
    /// # Errors
    /// A secret can no longer be read, or is unfit; what was made before stays in force. The same
    /// fault is told once.
    pub fn reload_if_changed(&self) -> Result<bool, ReferenceFault> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let again = self.references.iter().zip(&seen.secrets).map(|(reference, seen)| {
            // Nobody can change the environment of a process that runs.
            match reference {
                Reference::Env(_) => Ok(seen.clone()),
                Reference::File(_) | Reference::Credential(_) => reference.read(&self.base),
            }
        });
        let again: Result<Vec<Secret>, _> = again.collect();
        let made = again.and_then(|secrets| {
            let mut both = secrets.iter().zip(&seen.secrets);
            if both.all(|(fresh, seen)| equal(fresh.expose(), seen.expose())) {
                return Ok(None);
            }
            let made = (self.make)(&secrets).map_err(ReferenceFault::Unfit);
            seen.secrets = secrets;
            made.map(Some)
        });
        match made {
            Ok(made) => {
                // An unfit secret that still stands there stays told.
                if !matches!(seen.told, Some(ReferenceFault::Unfit(_))) || made.is_some() {
                    seen.told = None;
                }
                let changed = made.map(|made| self.current.store(Arc::new(made)));
                Ok(changed.is_some())
            }
            Err(fault) if seen.told.as_ref() == Some(&fault) => Ok(false),
            Err(fault) => {
                seen.told = Some(fault.clone());
                Err(fault)
            }
        }
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let references: Vec<String> = self.references.iter().map(Reference::to_string).collect();
        write!(f, "Watched({})", references.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{OpenOptionsExt, symlink};
    use std::path::Path;

    use super::*;

    fn write(path: &Path, text: &str) {
        use std::io::Write;
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        file.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn watched(base: &Path, path: &str) -> Watched<String> {
        let make = |secret: &Secret| {
            let text = String::from_utf8(secret.expose().to_vec()).unwrap();
            if text.len() < 3 { Err("it is too short".to_owned()) } else { Ok(text) }
        };
        Watched::read(Reference::File(path.into()), base, make).unwrap()
    }

    #[test]
    fn a_file_that_is_written_over_is_noticed_whatever_its_length_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write(&path, "one");
        let time = path.metadata().unwrap().modified().unwrap();
        let watched = watched(dir.path(), "secret");
        assert_eq!(watched.reload_if_changed(), Ok(false));
        write(&path, "two");
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_eq!(watched.reload_if_changed(), Ok(true));
        assert_eq!(**watched.load(), "two");
    }

    #[test]
    fn a_symlink_that_is_swapped_on_the_way_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for (folder, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(dir.path().join(folder)).unwrap();
            write(&dir.path().join(folder).join("secret"), text);
        }
        symlink("..1", dir.path().join("..data")).unwrap();
        symlink("..data/secret", dir.path().join("secret")).unwrap();
        let watched = watched(dir.path(), "secret");
        assert_eq!(**watched.load(), "one");
        symlink("..2", dir.path().join("..new")).unwrap();
        fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
        assert_eq!(watched.reload_if_changed(), Ok(true));
        assert_eq!(**watched.load(), "two");
    }

    #[test]
    fn a_secret_that_is_gone_open_or_unfit_changes_nothing_and_is_told_once() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write(&path, "one");
        let watched = watched(dir.path(), "secret");
        let told_once = |code| {
            assert_eq!(watched.reload_if_changed().unwrap_err().code(), code);
            assert_eq!(watched.reload_if_changed(), Ok(false));
            assert_eq!(watched.reload_if_changed(), Ok(false));
            assert_eq!(**watched.load(), "one");
        };
        use crate::mistake::code::Code;
        fs::remove_file(&path).unwrap();
        told_once(Code::Unreadable);
        write(&path, "x");
        told_once(Code::WrongValue);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        told_once(Code::OpenSecret);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        write(&path, "two");
        assert_eq!(watched.reload_if_changed(), Ok(true));
        assert_eq!(**watched.load(), "two");
    }
}
