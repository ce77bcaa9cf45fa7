//! Keeps what must outlive the process, sealed, in one file with one owner.

pub mod embedded;
pub mod rekey;
pub mod seal;

use std::fmt;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use zeroize::Zeroizing;

use crate::secret::{NoRandomness, Secret};
use crate::store::embedded::Embedded;
use crate::store::seal::{Room, Seal};

/// The name of the store's file in the state directory.
pub const FILE_NAME: &str = "store.redb";

/// The only layout of the store that this program reads and writes.
const SCHEMA_VERSION: u32 = 1;

/// From so many records on they are read on several threads.
const PARTED_MIN: u64 = 10_000;

/// The tables. Every value in them is sealed; the ids are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// API keys, generated and imported, as keyed hashes.
    Keys,
    /// Secrets that sign requests.
    Signing,
    /// Addresses and credentials that are shut out.
    Bans,
    /// Tokens and sessions that were revoked before their time.
    Revocations,
    /// Facts about the gateway itself.
    Meta,
    /// How credentials were used.
    Usage,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 6] =
        [Self::Keys, Self::Signing, Self::Bans, Self::Revocations, Self::Meta, Self::Usage];

    /// The name, as messages and the file show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Signing => "signing",
            Self::Bans => "bans",
            Self::Revocations => "revocations",
            Self::Meta => "meta",
            Self::Usage => "usage",
        }
    }
}

/// Changes that happen together or not at all.
#[derive(Default)]
pub struct Batch(Vec<Change>);

/// One change of a batch; nothing as the value deletes.
struct Change {
    table: Table,
    id: String,
    value: Option<Zeroizing<Vec<u8>>>,
}

impl Batch {
    /// Sets the value of a record, whether there was one before or not.
    pub fn put(&mut self, table: Table, id: impl Into<String>, value: Zeroizing<Vec<u8>>) {
        self.0.push(Change { table, id: id.into(), value: Some(value) });
    }

    /// Removes a record. Nothing happens when there is none.
    pub fn delete(&mut self, table: Table, id: impl Into<String>) {
        self.0.push(Change { table, id: id.into(), value: None });
    }
}

/// The embedded store. Its calls wait for the disk, so they belong on a thread that may block and
/// never on the way of a request.
pub struct Store {
    embedded: Embedded,
    /// Whoever reads or writes holds it to the end, so that no value is sealed with a data key that
    /// is being retired. Only a rotation waits for it to be free.
    seal: RwLock<Seal>,
    /// Those who change its keys take turns.
    rekeying: Mutex<()>,
}

impl Store {
    /// Opens the store in this directory, or makes a new one there with mode 0600.
    ///
    /// `master` wraps the store's own data key; it needs at least 32 bytes and stays outside.
    ///
    /// # Errors
    /// When another process has it open, when it was sealed with another master key, when others
    /// may read the file, when it is of an unknown version, or when the disk fails. Nothing is
    /// changed then.
    pub fn open(dir: &Path, master: &Secret) -> Result<Self, StoreFault> {
        Self::unlock(Embedded::open(&dir.join(FILE_NAME))?, master)
    }

    /// A store that is forgotten with the process, for policy tests and `explain`.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn in_memory() -> Result<Self, StoreFault> {
        Self::unlock(Embedded::in_memory()?, &Secret::random(seal::MASTER_BYTES_MIN)?)
    }

    /// The value of a record, if there is one.
    ///
    /// # Errors
    /// When the disk fails, or the record was changed by anything but this store.
    pub fn get(&self, table: Table, id: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreFault> {
        let seal = self.seal();
        match self.embedded.get(table, id)? {
            Some(sealed) => seal.open(table, id, &sealed).map(Some),
            None => Ok(None),
        }
    }

    /// Shows every record of a table to `visit`, in the order of ids, until it fails.
    ///
    /// # Errors
    /// As [`Store::get`], and whatever `visit` says.
    pub fn scan<E: From<StoreFault>>(
        &self,
        table: Table,
        mut visit: impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (seal, mut room) = (self.seal(), Room::default());
        self.embedded.scan(table, (Bound::Unbounded, Bound::Unbounded), |id, sealed| {
            visit(id, seal.open_in(table, id, sealed, &mut room)?)
        })
    }

    /// Shows every record of a table to `visit`, on as many threads as there are cores once there are
    /// many records. Each thread visits those from one of `begins`, sorted, up to the next, in the
    /// order of ids, with a part of the result of its own; the parts come in the order of `begins`.
    ///
    /// # Errors
    /// As [`Store::scan`].
    pub fn scan_in_parts<T: Default + Send, E: From<StoreFault> + Send>(
        &self,
        table: Table,
        begins: &[String],
        visit: impl Fn(&mut T, &str, &[u8]) -> Result<(), E> + Sync,
    ) -> Result<Vec<T>, E> {
        let seal = self.seal();
        let (seal, embedded) = (&*seal, &self.embedded);
        let part = |ids: (Bound<&str>, Bound<&str>)| {
            let (mut part, mut room) = (T::default(), Room::default());
            embedded.scan(table, ids, |id, sealed| {
                visit(&mut part, id, seal.open_in(table, id, sealed, &mut room)?)
            })?;
            Ok::<T, E>(part)
        };
        if embedded.count(table)? < PARTED_MIN {
            return Ok(vec![part((Bound::Unbounded, Bound::Unbounded))?]);
        }
        let part = &part;
        std::thread::scope(|scope| {
            let froms = std::iter::once(Bound::Unbounded)
                .chain(begins.iter().map(|begin| Bound::Included(begin.as_str())));
            let tos = begins
                .iter()
                .map(|begin| Bound::Excluded(begin.as_str()))
                .chain(std::iter::once(Bound::Unbounded));
            let threads: Vec<_> =
                froms.zip(tos).map(|ids| scope.spawn(move || part(ids))).collect();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(part) => part,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        })
    }

    /// Makes all changes of the batch in one transaction. When this returns, they are on disk and
    /// survive whatever happens to the process.
    ///
    /// # Errors
    /// When the disk fails or the system has no randomness; none of the changes was made then.
    pub fn write(&self, batch: Batch) -> Result<(), StoreFault> {
        let seal = self.seal();
        let mut sealed = Vec::with_capacity(batch.0.len());
        for Change { table, id, value } in batch.0 {
            let value = match value {
                Some(plain) => Some(seal.seal(table, &id, &plain)?),
                None => None,
            };
            sealed.push((table, id, value));
        }
        self.embedded.write(&sealed)
    }

    fn seal(&self) -> RwLockReadGuard<'_, Seal> {
        self.seal.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlock(embedded: Embedded, master: &Secret) -> Result<Self, StoreFault> {
        refuse_weak(master)?;
        let seal = match embedded.header()? {
            Some(header) if header.schema_version != SCHEMA_VERSION => {
                return Err(StoreFault::UnknownVersion { found: header.schema_version });
            }
            Some(header) => {
                let seal = Seal::unwrap(master, &header.data_keys)?;
                embedded.complete()?;
                seal
            }
            None => {
                let seal = Seal::fresh()?;
                let data_keys = seal.wrap(master)?;
                let header = embedded::Header { schema_version: SCHEMA_VERSION, data_keys };
                embedded.begin(&header)?;
                seal
            }
        };
        Ok(Self { embedded, seal: RwLock::new(seal), rekeying: Mutex::new(()) })
    }
}

/// Only a master key that nobody can guess may wrap anything.
fn refuse_weak(master: &Secret) -> Result<(), StoreFault> {
    let bytes = master.expose().len();
    if bytes < seal::MASTER_BYTES_MIN {
        return Err(StoreFault::WeakMaster { bytes });
    }
    Ok(())
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// What keeps the store from doing what it was asked.
#[derive(Debug)]
pub enum StoreFault {
    /// Another process, or another part of this one, has the file open.
    InUse(PathBuf),
    /// The file can be read by others than its owner.
    Exposed(PathBuf),
    /// The master key does not unwrap the store's data key.
    WrongMaster,
    /// The master key is too short to be one.
    WeakMaster {
        /// How many bytes it has.
        bytes: usize,
    },
    /// The file was written by a version of this program that we do not know.
    UnknownVersion {
        /// The version that the file names.
        found: u32,
    },
    /// A record, or the file's header, is not what this store wrote.
    Damaged {
        /// The table.
        table: &'static str,
        /// The record.
        id: String,
    },
    /// The file cannot be read or written.
    Disk(redb::Error),
    /// The system gave no random bytes.
    NoRandomness,
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "{} is already in use by a running gateway; stop it, or ask it through its admin listener",
                path.display()
            ),
            Self::Exposed(path) => write!(
                f,
                "{} can be read by others; give it to its owner alone with chmod 600",
                path.display()
            ),
            Self::WrongMaster => f.write_str(
                "the store was sealed with another master key; nothing was changed, give the key it was made with",
            ),
            Self::WeakMaster { bytes } => write!(
                f,
                "the master key has {bytes} bytes; it needs at least {}, all of them random",
                seal::MASTER_BYTES_MIN
            ),
            Self::UnknownVersion { found } => write!(
                f,
                "the store has layout {found} and this program knows layout {SCHEMA_VERSION}; use the version that wrote it"
            ),
            Self::Damaged { table, id } => write!(
                f,
                "record `{id}` of `{table}` in the store is damaged or was changed from outside; restore the store from a copy"
            ),
            Self::Disk(error) => write!(f, "the store cannot be read or written: {error}"),
            Self::NoRandomness => NoRandomness.fmt(f),
        }
    }
}

impl std::error::Error for StoreFault {}

impl From<NoRandomness> for StoreFault {
    fn from(NoRandomness: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

#[cfg(test)]
mod tests;
