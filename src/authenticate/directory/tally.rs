//! How credentials were used, in the store: notes are moved there behind the requests, and added up.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::authenticate::Grant;
use crate::authenticate::directory::Directory;
use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::key_format::KeyId;
use crate::authenticate::usage::{Notes, shown};
use crate::clock::Now;
use crate::store::{Batch, Table};

/// Days whose uses are told apart.
const DAYS_MAX: usize = 35;
/// Addresses that are kept: the first one ever, and the latest.
const ADDRESSES_MAX: usize = 16;
/// Credentials that go to disk in one transaction.
const CHUNK: usize = 1000;
const DAY_S: u64 = 86_400;
/// A scope that opened no door for so many days is told.
pub const UNUSED_DAYS: u64 = 30;

/// How one credential was used. Days are those of UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// How often, in all.
    pub total: u64,
    /// Unix seconds of the first use.
    pub first_s: u64,
    /// Unix seconds of the last use.
    pub last_s: u64,
    /// The day, as the number of days since 1970-01-01, and how often on it; the latest 35 days
    /// on which it was used, the first one first.
    pub days: Vec<(u64, u64)>,
    /// Whence: the first address ever, then those seen latest; at most 16.
    pub addresses: Vec<Seen>,
    /// The scopes that opened doors, each with the Unix seconds at which it was last noted.
    pub scopes: Vec<(String, u64)>,
}

/// An address that a credential was used from. Of IPv6 it is the first 64 bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// `203.0.113.9` or `2001:db8:1:2::/64`.
    pub address: String,
    /// Unix seconds, about: within the minute.
    pub first_s: u64,
    /// Unix seconds, about: within the minute.
    pub last_s: u64,
}

/// The same as it is stored: `last use (8) | JSON`, so that lists need not read the JSON.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Tally {
    total: u64,
    first_s: u64,
    last_s: u64,
    days: Vec<(u64, u64)>,
    addresses: Vec<(u64, u64, u64)>,
    scopes: Vec<(String, u64)>,
}

impl Directory {
    /// Moves what was noted since the last time to the store. Not for requests: it walks through
    /// all credentials and waits for the disk. Gives how many were used.
    ///
    /// # Errors
    /// When the store fails. What was not stored is noted still and goes there the next time.
    pub fn keep_usage(&self) -> Result<usize, DirectoryFault> {
        let _turn = self.tally_turn();
        let (mut kept, mut fault) = (0, None);
        let mut waiting: Vec<(Arc<Grant>, Notes)> = Vec::new();
        let mut keep = |waiting: &mut Vec<(Arc<Grant>, Notes)>| {
            match self.add_up(waiting) {
                Ok(()) => kept += waiting.len(),
                Err(failed) => {
                    waiting.iter().for_each(|(grant, notes)| grant.usage.give_back(notes));
                    fault = Some(failed);
                }
            }
            waiting.clear();
            fault.is_none()
        };
        let mut well = true;
        self.each_grant(|grant| {
            if let (true, Some(notes)) = (well, grant.usage.take()) {
                waiting.push((Arc::clone(grant), notes));
                if waiting.len() >= CHUNK {
                    well = keep(&mut waiting);
                }
            }
        });
        if !waiting.is_empty() {
            keep(&mut waiting);
        }
        match fault {
            Some(fault) => Err(fault),
            None => Ok(kept),
        }
    }

    /// How the credential with this id was used, up to now.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub fn used(&self, id: KeyId) -> Result<Used, DirectoryFault> {
        let record = self.turn().record(id)?;
        let _turn = self.tally_turn();
        let mut tally = self.tally(id.as_str())?;
        if let Some(grant) = self.grant(&record.described, &record.proof) {
            let notes = grant.usage.notes();
            if notes.uses > 0 {
                tally.add(&notes, &grant);
            }
        }
        Ok(tally.shown())
    }

    /// Unix seconds of every stored last use.
    pub(in crate::authenticate) fn last_uses(&self) -> Result<HashMap<KeyId, u64>, DirectoryFault> {
        let mut all = HashMap::new();
        self.store.scan(Table::Usage, |id, bytes| {
            all.extend(KeyId::parse(id).zip(last_use(bytes)));
            Ok::<(), DirectoryFault>(())
        })?;
        Ok(all)
    }

    /// Unix seconds of the stored last use of one credential.
    pub(in crate::authenticate) fn last_use(
        &self,
        id: KeyId,
    ) -> Result<Option<u64>, DirectoryFault> {
        let bytes = self.store.get(Table::Usage, id.as_str())?;
        Ok(bytes.and_then(|bytes| last_use(&bytes)))
    }

    fn add_up(&self, noted: &[(Arc<Grant>, Notes)]) -> Result<(), DirectoryFault> {
        let mut batch = Batch::default();
        for (grant, notes) in noted {
            let id = &*grant.credential;
            let mut tally = self.tally(id)?;
            tally.add(notes, grant);
            batch.put(Table::Usage, id, Zeroizing::new(tally.to_bytes(id)?));
        }
        Ok(self.store.write(batch)?)
    }

    fn tally(&self, id: &str) -> Result<Tally, DirectoryFault> {
        let Some(bytes) = self.store.get(Table::Usage, id)? else { return Ok(Tally::default()) };
        let json = bytes.get(size_of::<u64>()..).unwrap_or_default();
        serde_json::from_slice(json).map_err(|error| unreadable(id, &error))
    }

    fn tally_turn(&self) -> MutexGuard<'_, ()> {
        self.tallying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    /// How often it was used on the day of `now`.
    pub fn today(&self, now: Now) -> u64 {
        let today = now.unix_s() / DAY_S;
        self.days.iter().find(|(day, _)| *day == today).map_or(0, |(_, count)| *count)
    }

    /// Which of these scopes opened no door for thirty days; nothing is said of a credential that
    /// is younger than that.
    pub fn unused<'s>(&self, scopes: &'s [String], created_ms: u64, now: Now) -> Vec<&'s str> {
        let since_s = now.unix_s().saturating_sub(UNUSED_DAYS * DAY_S);
        if created_ms / 1000 > since_s {
            return Vec::new();
        }
        let in_use =
            |scope: &String| self.scopes.iter().any(|(used, at)| used == scope && *at >= since_s);
        scopes.iter().filter(|scope| !in_use(scope)).map(String::as_str).collect()
    }
}

impl Tally {
    /// Adds what was noted. Uses count for the day of the last one among them, which is at most a
    /// minute after the first.
    fn add(&mut self, notes: &Notes, grant: &Grant) {
        let at_s = u64::from(notes.last_s);
        if self.first_s == 0 {
            self.first_s = at_s;
        }
        self.last_s = self.last_s.max(at_s);
        let uses = u64::from(notes.uses);
        self.total = self.total.saturating_add(uses);
        let today = at_s / DAY_S;
        match self.days.iter_mut().find(|(day, _)| *day == today) {
            Some((_, count)) => *count = count.saturating_add(uses),
            None => self.days.push((today, uses)),
        }
        self.days.sort_unstable();
        self.days.drain(..self.days.len().saturating_sub(DAYS_MAX));
        // The last one stands first among the notes, and shall stand last here.
        for address in notes.addresses.into_iter().rev().filter(|address| *address != 0) {
            self.see(address, at_s);
        }
        let used = grant.scopes.iter().enumerate();
        let used = used.filter(|(place, _)| *place < 64 && notes.scopes >> place & 1 == 1);
        for (_, scope) in used {
            let scope = scope.text();
            match self.scopes.iter_mut().find(|(known, _)| known == scope) {
                Some((_, last_s)) => *last_s = (*last_s).max(at_s),
                None => self.scopes.push((scope.to_owned(), at_s)),
            }
        }
    }

    fn see(&mut self, address: u64, at_s: u64) {
        if let Some((_, _, last_s)) = self.addresses.iter_mut().find(|(seen, ..)| *seen == address)
        {
            *last_s = (*last_s).max(at_s);
            return;
        }
        if self.addresses.len() >= ADDRESSES_MAX {
            let later = self.addresses.iter().enumerate().skip(1);
            if let Some((oldest, _)) = later.min_by_key(|(_, (_, _, last_s))| *last_s) {
                self.addresses.remove(oldest);
            }
        }
        self.addresses.push((address, at_s, at_s));
    }

    fn shown(self) -> Used {
        let Self { total, first_s, last_s, days, addresses, scopes } = self;
        let seen = |(address, first_s, last_s)| Seen { address: shown(address), first_s, last_s };
        let addresses = addresses.into_iter().map(seen).collect();
        Used { total, first_s, last_s, days, addresses, scopes }
    }

    fn to_bytes(&self, id: &str) -> Result<Vec<u8>, DirectoryFault> {
        let mut bytes = self.last_s.to_le_bytes().to_vec();
        serde_json::to_writer(&mut bytes, self).map_err(|error| unreadable(id, &error))?;
        Ok(bytes)
    }
}

fn last_use(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().copied().map(u64::from_le_bytes)
}

fn unreadable(id: &str, error: &serde_json::Error) -> DirectoryFault {
    DirectoryFault::Unreadable { id: id.to_owned(), says: error.to_string() }
}
