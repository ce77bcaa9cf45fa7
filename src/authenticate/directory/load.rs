//! Reads all credentials at start, on several threads once there are many.

use std::thread::available_parallelism;

use crate::authenticate::directory::Directory;
use crate::authenticate::directory::entry::{Entry, Shared, SigningEntry};
use crate::authenticate::directory::facts::Facts;
use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::owners::Owned;
use crate::authenticate::directory::record::{PROOF_BYTES, Record};
use crate::authenticate::key_format::KeyId;
use crate::store::Table;

/// Threads that read credentials at start; with more of them, memory is what they wait for.
const LOADERS_MAX: usize = 8;

/// What requests shall see, made ready.
#[derive(Default)]
pub(super) struct Fresh {
    pub(super) keys: Vec<(u64, Entry)>,
    pub(super) signing: Vec<(u64, SigningEntry)>,
    pub(super) owned: Vec<Owned>,
}

impl Fresh {
    fn extend(&mut self, more: Self) {
        self.keys.extend(more.keys);
        self.signing.extend(more.signing);
        self.owned.extend(more.owned);
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
                    part.count += 1;
                    if self.load_usual(id, bytes, part).is_none() {
                        let record = Record::from_bytes(id, bytes)?;
                        self.ready(&record, &mut part.shared, &mut part.fresh);
                    }
                    Ok::<(), DirectoryFault>(())
                })?;
            for part in loaded {
                writer.count += part.count;
                // What one part has in common serves whatever is made from here on.
                writer.shared = part.shared;
                fresh.extend(part.fresh);
            }
        }
        // At once: to set a few at a time would copy what is there again and again.
        self.set(&mut writer, fresh);
        Ok(())
    }

    /// Makes a record ready that is written as API keys are, without making anything of what only
    /// lists show. Nothing when it is not, or names another id.
    fn load_usual(&self, id: &str, bytes: &[u8], part: &mut Loaded) -> Option<()> {
        let (mac, json) = bytes.split_first_chunk::<PROOF_BYTES>()?;
        let facts = Facts::read(json).filter(|facts| facts.id.as_str() == id)?;
        self.ready_key(&facts, mac, &mut part.shared, &mut part.fresh)
    }
}
