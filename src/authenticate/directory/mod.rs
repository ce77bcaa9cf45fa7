//! All credentials: in memory for requests, sealed in the store for the next start.
//!
//! A change is on disk before it answers, and holds from the next request on. Requests read
//! memory only and take no lock. API keys are kept as HMAC-SHA-256 under a pepper that lives
//! outside the store: a key has 154 random bits, so a slow hash would protect nothing and would
//! let strangers make us work.

pub mod change;
pub mod fault;
pub mod record;

pub mod life;
pub mod own;
pub mod state;
pub mod tally;

mod facts;
pub(in crate::authenticate) mod entry;
mod load;
mod owners;
mod shelf;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::hmac;

use crate::authenticate::alarm::Alarms;
use crate::authenticate::directory::entry::{Entry, Shared, SigningEntry};
use crate::authenticate::directory::facts::Facts;
use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::load::Fresh;
use crate::authenticate::directory::owners::Owners;
use crate::authenticate::directory::record::{Described, Kind, PROOF_BYTES, Record};
use crate::authenticate::directory::shelf::Shelf;
use crate::authenticate::directory::state::{Counts, State};
use crate::authenticate::key_format::{KeyFormat, KeyId, is_word};
use crate::authenticate::standing::{Keeper, Ticket};
use crate::authenticate::{Grant, SigningKey, SigningKeys};
use crate::clock::Now;
use crate::name::Name;
use crate::refusal::Reason;
use crate::secret::{Secret, equal};
use crate::store::{Store, Table};

const PEPPER_BYTES_MIN: usize = 32;

/// The first number of a ticket: an API key, which is found by its hash, or a signing key.
const API_KEY: u64 = 0;
const SIGNING: u64 = 1;

/// What unknown keys are compared with, so that they cost what known ones do.
const NOBODY: [u8; PROOF_BYTES] = [0; PROOF_BYTES];

/// All credentials of one gateway.
pub struct Directory {
    format: KeyFormat,
    environment: Name,
    pepper: hmac::Key,
    /// API keys of both kinds, by the beginnings of their hashes: whatever a text is, one search
    /// finds it, and how long that takes tells nothing of ids.
    keys: Shelf<Entry>,
    signing: Shelf<SigningEntry>,
    writer: Mutex<Writer>,
    store: Arc<Store>,
    /// Whoever moves notes of usage to the store, or adds up both, takes turns.
    tallying: Mutex<()>,
    alarms: Alarms,
    max_ages: HashMap<String, Duration>,
    owner_hashes: foldhash::fast::RandomState,
}

/// What only those who change credentials need; they take turns.
struct Writer {
    store: Arc<Store>,
    shared: Shared,
    owners: Owners,
    count: usize,
}

impl Directory {
    /// The directory that this store keeps.
    ///
    /// `environment` is the word in the keys that are made here and the only one accepted;
    /// `pepper` has at least 32 random bytes and must stay the same for as long as keys shall hold.
    ///
    /// # Errors
    /// When pepper or environment are not acceptable, or a record cannot be read.
    pub fn open(
        store: Arc<Store>,
        pepper: &Secret,
        environment: &str,
    ) -> Result<Self, DirectoryFault> {
        if pepper.expose().len() < PEPPER_BYTES_MIN {
            return Err(DirectoryFault::WeakPepper { bytes: pepper.expose().len() });
        }
        if !is_word(environment) {
            return Err(DirectoryFault::BadEnvironment(environment.to_owned()));
        }
        let writer = Writer {
            store: Arc::clone(&store),
            shared: Shared::default(),
            owners: Owners::default(),
            count: 0,
        };
        let directory = Self {
            format: KeyFormat::default(),
            environment: Name::new(environment),
            pepper: hmac::Key::new(hmac::HMAC_SHA256, pepper.expose()),
            keys: Shelf::new(),
            signing: Shelf::new(),
            writer: Mutex::new(writer),
            store: Arc::clone(&store),
            tallying: Mutex::default(),
            alarms: Alarms::default(),
            max_ages: HashMap::new(),
            owner_hashes: foldhash::fast::RandomState::default(),
        };
        directory.load()?;
        Ok(directory)
    }

    /// A directory that is forgotten with the process, for policy tests and `explain`.
    ///
    /// # Errors
    /// As [`Directory::open`].
    pub fn in_memory(pepper: &Secret, environment: &str) -> Result<Self, DirectoryFault> {
        Self::open(Arc::new(Store::in_memory()?), pepper, environment)
    }

    /// The same, with the longest life of new credentials in each of these environments.
    #[must_use]
    pub fn limited(mut self, max_ages: HashMap<String, Duration>) -> Self {
        self.max_ages = max_ages;
        self
    }

    /// How long a credential of this environment may live; nothing where nothing was said.
    pub fn max_age(&self, environment: &str) -> Option<Duration> {
        self.max_ages.get(environment).copied()
    }

    /// Credentials that were used as they must not be.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Whether it holds no credential at all.
    pub fn is_empty(&self) -> bool {
        self.turn().count == 0
    }

    /// The environment whose keys are accepted here.
    pub fn environment(&self) -> &'static str {
        self.environment.text()
    }

    /// The form of the keys that are made here.
    pub fn format(&self) -> &KeyFormat {
        &self.format
    }

    /// Every credential, without its secret, in the order of ids, API keys first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn list(&self) -> Result<Vec<Described>, DirectoryFault> {
        let last_uses = self.last_uses()?;
        let writer = self.turn();
        let mut all = Vec::with_capacity(writer.count);
        for table in [Table::Keys, Table::Signing] {
            writer.store.scan(table, |id, bytes| {
                let Record { proof, mut described } = Record::from_bytes(id, bytes)?;
                let stored_s = last_uses.get(&described.id).copied();
                let noted_s = self.grant(&described, &proof).map(|grant| last_s(&grant));
                described.last_used_s = stored_s.max(noted_s).filter(|at| *at > 0);
                all.push(described);
                Ok::<(), DirectoryFault>(())
            })?;
        }
        Ok(all)
    }

    /// The credential with this id, without its secret.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub fn describe(&self, id: KeyId) -> Result<Described, DirectoryFault> {
        let Record { proof, mut described } = self.turn().record(id)?;
        let noted_s = self.grant(&described, &proof).map(|grant| last_s(&grant));
        described.last_used_s = self.last_use(id)?.max(noted_s).filter(|at| *at > 0);
        Ok(described)
    }

    /// The id of the API key with this text, whether it holds or not; for those who search logs
    /// and repositories for keys that leaked.
    pub fn id_of(&self, text: &str) -> Option<KeyId> {
        self.find_api_key(text).and_then(|(entry, _)| KeyId::parse(&entry.grant.credential))
    }

    /// How many credentials stand where in their lives. It walks through all of them, so it is
    /// for metrics and not for requests.
    pub fn counts_by_state(&self, now: Now) -> Counts {
        let mut counts = Counts::default();
        let oldest_s = |environment: Option<Name>| {
            let max_age = self.max_age(environment?.text())?;
            Some(now.unix_s().saturating_sub(max_age.as_secs()))
        };
        let mut count = |grant: &Grant, environment, (state, expires_ms): (State, Option<u64>)| {
            if !self.max_ages.is_empty() && state.is_live() {
                let oldest_s = oldest_s(environment);
                let overdue = oldest_s.is_some_and(|oldest_s| u64::from(grant.made_s) < oldest_s);
                counts.overdue += usize::from(overdue);
            }
            *match state {
                State::Active => &mut counts.active,
                State::Rotating => &mut counts.rotating,
                State::Expiring => &mut counts.expiring,
                State::Suspended => &mut counts.suspended,
                State::Expired => &mut counts.expired,
                State::Revoked => &mut counts.revoked,
            } += 1;
            if let (true, Some(end)) = (state.is_live(), expires_ms) {
                counts.next_expiry_ms =
                    Some(counts.next_expiry_ms.map_or(end, |first| first.min(end)));
            }
        };
        self.keys.each(|entry| count(&entry.grant, entry.environment(), entry.state(now)));
        let signing = |entry: &SigningEntry| (Some(entry.environment), entry.state(now));
        self.signing.each(|entry| {
            let (environment, state) = signing(entry);
            count(&entry.key.grant, environment, state);
        });
        counts
    }

    /// Whether a text is a key of ours, or looks like one, as far as schemes have to tell it from a
    /// token that somebody else made.
    pub fn is_key(&self, text: &str) -> bool {
        self.format().resembles(text) || self.find_api_key(text).is_some()
    }

    /// Finds the API key with this text. Whatever the text is, this costs one HMAC, one search and
    /// one comparison whose time does not depend on what is compared.
    pub(in crate::authenticate) fn find_api_key(
        &self,
        text: impl AsRef<[u8]>,
    ) -> Option<(Entry, Ticket)> {
        let mac = hash(&self.pepper, text.as_ref());
        // How long a search takes tells something of the hash that is searched for, but nothing
        // of the key: only those who have the pepper can choose a hash.
        let number = number_of(&mac);
        let candidate = self.keys.find(number);
        let expected = candidate.as_ref().map_or(&NOBODY, Entry::mac);
        let same = equal(expected, &mac);
        Some((candidate.filter(|_| same)?, Ticket(API_KEY, number)))
    }

    /// The environment whose keys are accepted here, as a name.
    pub(in crate::authenticate) fn environment_name(&self) -> Name {
        self.environment
    }

    /// The signing key with this number, if it was made to hold here.
    fn signing_key(&self, number: u64) -> Option<Arc<SigningKey>> {
        let entry = self.signing.find(number)?;
        (entry.environment == self.environment).then_some(entry.key)
    }

    /// Puts records where requests see them.
    fn publish(&self, writer: &mut Writer, records: &[Record]) {
        let mut fresh = Fresh::default();
        records.iter().for_each(|record| self.ready(record, &mut writer.shared, &mut fresh));
        self.set(writer, fresh);
    }

    /// Makes a record ready for requests.
    fn ready(&self, record: &Record, shared: &mut Shared, fresh: &mut Fresh) {
        let described = &record.described;
        match described.kind {
            Kind::ApiKey | Kind::Imported => {
                // What was read of a record is lists that are lists.
                let _ = self.ready_key(&Facts::of(described), &record.proof, shared, fresh);
            }
            Kind::Signing | Kind::Verifying => {
                let number = described.id.number();
                let before = self.signing.find(number);
                let entry = SigningEntry::new(record, shared, before.as_ref());
                fresh.signing.extend(entry.map(|entry| (number, entry)));
                fresh.owned.push((self.mark(&described.subject, true), number));
            }
        }
    }

    /// Makes an API key ready for requests. Nothing when a list among its facts is none.
    fn ready_key(
        &self,
        facts: &Facts<'_>,
        mac: &[u8; PROOF_BYTES],
        shared: &mut Shared,
        fresh: &mut Fresh,
    ) -> Option<()> {
        let number = number_of(mac);
        let entry = Entry::new(facts, mac, shared, self.keys.find(number).as_ref())?;
        fresh.keys.push((number, entry));
        fresh.owned.push((self.mark(facts.subject, false), number));
        Some(())
    }

    fn set(&self, writer: &mut Writer, fresh: Fresh) {
        self.keys.set(fresh.keys);
        self.signing.set(fresh.signing);
        writer.owners.add(fresh.owned);
    }

    /// What a stored credential gives, as requests meet it.
    fn grant(&self, described: &Described, proof: &[u8; PROOF_BYTES]) -> Option<Arc<Grant>> {
        match described.kind {
            Kind::ApiKey | Kind::Imported => {
                self.keys.find(number_of(proof)).map(|entry| entry.grant)
            }
            Kind::Signing | Kind::Verifying => {
                self.signing.find(described.id.number()).map(|entry| Arc::clone(&entry.key.grant))
            }
        }
    }

    /// Shows what every credential gives, in no order that means anything.
    fn each_grant(&self, mut visit: impl FnMut(&Arc<Grant>)) {
        self.keys.each(|entry| visit(&entry.grant));
        self.signing.each(|entry| visit(&entry.key.grant));
    }

    /// Waits for a turn to change credentials. Whoever panicked in theirs left nothing half done:
    /// what requests see is set after the store has it.
    fn turn(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SigningKeys for Directory {
    fn find(&self, id: &str) -> Option<(Arc<SigningKey>, Ticket)> {
        let number = KeyId::parse(id)?.number();
        Some((self.signing_key(number)?, Ticket(SIGNING, number)))
    }
}

impl Keeper for Directory {
    fn still_holds(&self, ticket: Ticket, client: IpAddr, now: Now) -> Result<(), Reason> {
        let Ticket(kind, number) = ticket;
        if kind == SIGNING {
            let key = self.signing_key(number).ok_or(Reason::CredentialRevoked)?;
            return key.bounds.check(client, now);
        }
        let entry = self.keys.find(number).ok_or(Reason::CredentialRevoked)?;
        entry.check(self.environment, client, now)
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({})", self.environment)
    }
}

impl Writer {
    fn record(&self, id: KeyId) -> Result<Record, DirectoryFault> {
        for table in [Table::Keys, Table::Signing] {
            if let Some(bytes) = self.store.get(table, id.as_str())? {
                return Record::from_bytes(id.as_str(), &bytes);
            }
        }
        Err(DirectoryFault::Unknown(id))
    }
}

/// Unix seconds of the last use that is noted; 0 for none.
fn last_s(grant: &Grant) -> u64 {
    u64::from(grant.usage.notes().last_s)
}

/// HMAC-SHA-256 of the text under the pepper.
fn hash(pepper: &hmac::Key, text: &[u8]) -> [u8; PROOF_BYTES] {
    let tag = hmac::sign(pepper, text);
    tag.as_ref().try_into().unwrap_or(NOBODY)
}

/// Where an API key stands: the first 64 bits of its hash.
fn number_of(mac: &[u8; PROOF_BYTES]) -> u64 {
    mac.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests;
