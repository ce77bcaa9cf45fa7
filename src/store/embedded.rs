//! The embedded database: one file, one owner, every write durable before it answers.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, TableHandle,
};

use crate::store::seal::Wrapped;
use crate::store::{StoreFault, Table};

/// Pages that the database keeps in memory. Requests never read the store, so a little is enough.
const CACHE_BYTES: usize = 16 << 20;

const KEYS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("keys");
const SIGNING: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("signing");
const BANS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("bans");
const REVOCATIONS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("revocations");
const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const USAGE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("usage");

/// What must be known before anything else can be read; it alone is not sealed.
const HEADER: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("header");
const SCHEMA_VERSION: &str = "schema_version";
const DATA_KEY: &str = "data_key";
const PREVIOUS_DATA_KEY: &str = "previous_data_key";

/// What the file says about itself.
pub(in crate::store) struct Header {
    /// The layout of the tables and their values.
    pub(in crate::store) schema_version: u32,
    /// The data keys, wrapped by the master key.
    pub(in crate::store) data_keys: Wrapped,
}

/// An open database, or one that lives in memory only.
pub(in crate::store) struct Embedded {
    database: Database,
}

impl Embedded {
    /// Opens or makes the file.
    pub(in crate::store) fn open(path: &Path) -> Result<Self, StoreFault> {
        claim(path)?;
        // A file that was altered from outside must be an error here and not a panic later, so
        // every page is checked. The directory reads all of it at start anyway.
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create(path)
            .map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StoreFault::InUse(path.to_owned()),
                other => disk(other),
            })?;
        Ok(Self { database })
    }

    /// A database that is forgotten with the process.
    pub(in crate::store) fn in_memory() -> Result<Self, StoreFault> {
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(InMemoryBackend::new())
            .map_err(disk)?;
        Ok(Self { database })
    }

    /// What the file says about itself; nothing when it has just been made.
    pub(in crate::store) fn header(&self) -> Result<Option<Header>, StoreFault> {
        let reading = self.database.begin_read().map_err(disk)?;
        let begun = reading
            .list_tables()
            .map_err(disk)?
            .any(|table| table.name() == TableHandle::name(&HEADER));
        if !begun {
            return Ok(None);
        }
        let header = reading.open_table(HEADER).map_err(disk)?;
        let damaged = |id: &str| StoreFault::Damaged { table: "header", id: id.to_owned() };
        let schema_version = header
            .get(SCHEMA_VERSION)
            .map_err(disk)?
            .and_then(|value| value.value().try_into().ok().map(u32::from_be_bytes))
            .ok_or_else(|| damaged(SCHEMA_VERSION))?;
        let key = |id| {
            let found = header.get(id).map_err(disk)?;
            Ok::<_, StoreFault>(found.map(|value| value.value().to_vec()))
        };
        let current = key(DATA_KEY)?.ok_or_else(|| damaged(DATA_KEY))?;
        let data_keys = Wrapped { current, previous: key(PREVIOUS_DATA_KEY)? };
        Ok(Some(Header { schema_version, data_keys }))
    }

    /// Writes the header and makes the tables, all at once.
    pub(in crate::store) fn begin(&self, begun: &Header) -> Result<(), StoreFault> {
        let writing = self.database.begin_write().map_err(disk)?;
        {
            let mut header = writing.open_table(HEADER).map_err(disk)?;
            let version = begun.schema_version.to_be_bytes();
            header.insert(SCHEMA_VERSION, version.as_slice()).map_err(disk)?;
            put_keys(&mut header, &begun.data_keys)?;
            for table in Table::ALL {
                writing.open_table(definition(table)).map_err(disk)?;
            }
        }
        writing.commit().map_err(disk)
    }

    /// Writes the data keys of the header, all at once.
    pub(in crate::store) fn set_keys(&self, keys: &Wrapped) -> Result<(), StoreFault> {
        let writing = self.database.begin_write().map_err(disk)?;
        put_keys(&mut writing.open_table(HEADER).map_err(disk)?, keys)?;
        writing.commit().map_err(disk)
    }

    /// Shows up to `count` records of a table that stand behind `after`, and writes what `change`
    /// makes of them, in one transaction. Gives the id of the last that was shown; nothing at the
    /// end of the table.
    pub(in crate::store) fn rewrite(
        &self,
        table: Table,
        after: Option<&str>,
        count: usize,
        mut change: impl FnMut(&str, &[u8]) -> Result<Option<Vec<u8>>, StoreFault>,
    ) -> Result<Option<String>, StoreFault> {
        let writing = self.database.begin_write().map_err(disk)?;
        let mut last = None;
        {
            let mut records = writing.open_table(definition(table)).map_err(disk)?;
            let mut changed = Vec::new();
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            for record in records.range::<&str>((from, Bound::Unbounded)).map_err(disk)?.take(count)
            {
                let (id, value) = record.map_err(disk)?;
                if let Some(value) = change(id.value(), value.value())? {
                    changed.push((id.value().to_owned(), value));
                }
                last = Some(id.value().to_owned());
            }
            for (id, value) in changed {
                records.insert(id.as_str(), value.as_slice()).map_err(disk)?;
            }
        }
        writing.commit().map_err(disk)?;
        Ok(last)
    }

    /// Makes the tables that a file of an earlier version lacks.
    pub(in crate::store) fn complete(&self) -> Result<(), StoreFault> {
        let reading = self.database.begin_read().map_err(disk)?;
        let known: Vec<String> =
            reading.list_tables().map_err(disk)?.map(|table| table.name().to_owned()).collect();
        let lacks = |table: &Table| !known.iter().any(|name| name == table.name());
        let lacking: Vec<Table> = Table::ALL.into_iter().filter(lacks).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let writing = self.database.begin_write().map_err(disk)?;
        for table in lacking {
            writing.open_table(definition(table)).map_err(disk)?;
        }
        writing.commit().map_err(disk)
    }

    /// The sealed value of a record.
    pub(in crate::store) fn get(
        &self,
        table: Table,
        id: &str,
    ) -> Result<Option<Vec<u8>>, StoreFault> {
        let reading = self.database.begin_read().map_err(disk)?;
        let records = reading.open_table(definition(table)).map_err(disk)?;
        let value = ReadableTable::get(&records, id).map_err(disk)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// Shows every record of a table whose id is within these bounds to `visit`, in the order of
    /// ids, until it fails.
    pub(in crate::store) fn scan<E: From<StoreFault>>(
        &self,
        table: Table,
        ids: (Bound<&str>, Bound<&str>),
        mut visit: impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let reading = self.database.begin_read().map_err(disk)?;
        let records = reading.open_table(definition(table)).map_err(disk)?;
        for record in records.range::<&str>(ids).map_err(disk)? {
            let (id, value) = record.map_err(disk)?;
            visit(id.value(), value.value())?;
        }
        Ok(())
    }

    /// How many records a table has.
    pub(in crate::store) fn count(&self, table: Table) -> Result<u64, StoreFault> {
        let reading = self.database.begin_read().map_err(disk)?;
        reading.open_table(definition(table)).map_err(disk)?.len().map_err(disk)
    }

    /// Makes all changes in one transaction that is on disk when this returns.
    pub(in crate::store) fn write(
        &self,
        changes: &[(Table, String, Option<Vec<u8>>)],
    ) -> Result<(), StoreFault> {
        let writing = self.database.begin_write().map_err(disk)?;
        for table in Table::ALL {
            let mut of_table = changes.iter().filter(|(of, _, _)| *of == table).peekable();
            if of_table.peek().is_none() {
                continue;
            }
            let mut records = writing.open_table(definition(table)).map_err(disk)?;
            for (_, id, value) in of_table {
                match value {
                    Some(sealed) => records.insert(id.as_str(), sealed.as_slice()),
                    None => records.remove(id.as_str()),
                }
                .map_err(disk)?;
            }
        }
        writing.commit().map_err(disk)
    }
}

/// Sets the data keys in the header's table.
fn put_keys(
    header: &mut redb::Table<'_, &'static str, &'static [u8]>,
    keys: &Wrapped,
) -> Result<(), StoreFault> {
    header.insert(DATA_KEY, keys.current.as_slice()).map_err(disk)?;
    match &keys.previous {
        Some(previous) => header.insert(PREVIOUS_DATA_KEY, previous.as_slice()),
        None => header.remove(PREVIOUS_DATA_KEY),
    }
    .map_err(disk)?;
    Ok(())
}

/// Makes the file with mode 0600, or finds one that has no wider mode.
fn claim(path: &Path) -> Result<(), StoreFault> {
    let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(file) => {
            file.sync_all().map_err(disk)?;
            // The name in the directory must be on disk too, or a power cut loses the whole file.
            match path.parent() {
                Some(dir) => File::open(dir).and_then(|dir| dir.sync_all()).map_err(disk),
                None => Ok(()),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = path.metadata().map_err(disk)?.permissions().mode();
            if mode & 0o077 == 0 { Ok(()) } else { Err(StoreFault::Exposed(path.to_owned())) }
        }
        Err(error) => Err(disk(error)),
    }
}

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    match table {
        Table::Keys => KEYS,
        Table::Signing => SIGNING,
        Table::Bans => BANS,
        Table::Revocations => REVOCATIONS,
        Table::Meta => META,
        Table::Usage => USAGE,
    }
}

fn disk(error: impl Into<redb::Error>) -> StoreFault {
    StoreFault::Disk(error.into())
}
