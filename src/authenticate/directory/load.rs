//! Reads all credentials at start, on several threads once there are many.

use std::sync::Arc;
use std::thread::available_parallelism;

use crate::authenticate::directory::Directory;
use crate::authenticate::directory::entry::{Entry, Shared, SigningEntry};
use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::record::Record;
use crate::authenticate::key_format::KeyId;
use crate::store::Table;

/// Threads that read credentials at start; with more of them, memory is what they wait for.
const LOADERS_MAX: usize = 8;

/// What requests shall see, made ready.
#[derive(Default)]
pub(super) struct Fresh {
    pub(super) keys: Vec<(u64, Arc<Entry>)>,
    pub(super) imported: Vec<(u64, Arc<Entry>)>,
    pub(super) signing: Vec<(u64, SigningEntry)>,
}

impl Fresh {
    fn extend(&mut self, more: Self) {
        self.keys.extend(more.keys);
        self.imported.extend(more.imported);
        self.signing.extend(more.signing);
    }
}

/// What one thread read of the store.
#[derive(Default)]
struct Loaded {
    shared: Shared,
    fresh: Fresh,
    count: usize,
}

impl Directory {
    /// Shows requests what the store keeps.
    pub(super) fn load(&self) -> Result<(), DirectoryFault> {
        let mut writer = self.turn();
        let mut fresh = Fresh::default();
        let threads = available_parallelism().map_or(1, usize::from).min(LOADERS_MAX);
        for table in [Table::Signing, Table::Keys] {
            let begins = KeyId::begins(threads);
            let loaded =
                self.store.scan_in_parts(table, &begins, |part: &mut Loaded, id, bytes| {
                    let record = Record::from_bytes(id, bytes)?;
                    self.ready(&record, &mut part.shared, &mut part.fresh);
                    part.count += 1;
                    Ok::<(), DirectoryFault>(())
                })?;
            for part in loaded {
                writer.count += part.count;
                // What one part has in common serves whatever is made from here on.
                writer.shared = part.shared;
                fresh.extend(part.fresh);
            }
        }
        drop(writer);
        // At once: to set a few at a time would copy what is there again and again.
        self.set(fresh);
        Ok(())
    }
}
