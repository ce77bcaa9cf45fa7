//! New credentials: created and imported. Each is on disk before it answers.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::record::{Kind, NewKey, PROOF_BYTES, Record};
use crate::authenticate::directory::{Directory, Writer, hash, number_of};
use crate::authenticate::key_format::{KeyId, TOKEN_BYTES_MAX, is_token};
use crate::authenticate::signature::public_key::PublicKey;
use crate::clock::Now;
use crate::secret::{Secret, fill_random};
use crate::store::{Batch, StoreFault, Table};
use crate::units::Span;

/// How many credentials there may be, of all kinds together.
pub const CREDENTIALS_MAX: usize = 2_000_000;
/// The shortest key that an import accepts, in characters.
pub const IMPORTED_CHARS_MIN: usize = 16;

/// How many imported keys go to disk in one transaction.
const IMPORT_CHUNK: usize = 10_000;

/// A credential that has just been made. Its secret is shown once and kept nowhere.
#[derive(Debug)]
pub struct Created {
    /// The public id.
    pub id: KeyId,
    /// The full text of an API key, or the base64 of a signing secret's 32 bytes.
    pub secret: Secret,
}

impl Directory {
    /// Makes an API key.
    ///
    /// # Errors
    /// When the wish is not acceptable, the directory is full, or the store fails.
    pub fn create(&self, new: NewKey, now: Now) -> Result<Created, DirectoryFault> {
        self.create_of_kind(Kind::ApiKey, new, now)
    }

    /// Makes a secret that signs requests.
    ///
    /// # Errors
    /// As [`Directory::create`].
    pub fn create_signing(&self, new: NewKey, now: Now) -> Result<Created, DirectoryFault> {
        self.create_of_kind(Kind::Signing, new, now)
    }

    /// Takes the public key of somebody who signs requests and keeps the private one. There is no
    /// secret, so nothing of it has to be handed over but its id.
    ///
    /// # Errors
    /// As [`Directory::create`].
    pub fn create_verifying(
        &self,
        new: NewKey,
        key: PublicKey,
        now: Now,
    ) -> Result<KeyId, DirectoryFault> {
        new.check(now)?;
        let mut writer = self.turn();
        writer.room_for(1)?;
        let id = writer.free_id()?;
        let no_secret = Zeroizing::new([0; PROOF_BYTES]);
        let mut record = self.record(id, Kind::Verifying, new, now, no_secret);
        record.described.public_key = Some(key);
        self.commit(&mut writer, &[record])?;
        writer.count += 1;
        Ok(id)
    }

    /// Takes over keys that clients already hold: one text a line, each with what `template`
    /// gives. Empty lines and keys that are known already are passed over, so an import that was
    /// cut short can be run again. Only keyed hashes are kept. Returns how many are new.
    ///
    /// # Errors
    /// When a line is no key (then nothing is taken over), or as [`Directory::create`].
    pub fn import<'a>(
        &self,
        lines: impl IntoIterator<Item = &'a str>,
        template: &NewKey,
        now: Now,
    ) -> Result<usize, DirectoryFault> {
        template.check(now)?;
        self.check_age(template, now)?;
        let mut writer = self.turn();
        let mut fresh: HashMap<u64, [u8; PROOF_BYTES]> = HashMap::new();
        for (index, text) in lines.into_iter().enumerate() {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let bad = |says: &str| {
                Err(DirectoryFault::BadLine { line: index + 1, says: says.to_owned() })
            };
            if !(IMPORTED_CHARS_MIN..=TOKEN_BYTES_MAX).contains(&text.len()) {
                return bad("is not a key: it must have 16 to 512 characters");
            }
            if !is_token(text.as_bytes()) {
                return bad("is not a key: only letters, digits, `-._~+/` and `=` at the end");
            }
            if self.find_api_key(text).is_some() {
                continue;
            }
            let mac = hash(&self.pepper, text.as_bytes());
            let taken = self.keys.find(number_of(&mac)).is_some();
            // Two hashes that begin alike would shadow each other: once in ten million imports of
            // a million keys.
            if taken || fresh.insert(number_of(&mac), mac).is_some_and(|other| other != mac) {
                return bad("cannot be kept beside another key; its holder needs a new one");
            }
            writer.room_for(fresh.len())?;
        }
        let count = fresh.len();
        let mut ids = BTreeSet::new();
        while ids.len() < count {
            ids.insert(writer.free_id()?);
        }
        // In the order of ids, so that each commit touches few pages of the store.
        let mut fresh = ids.into_iter().zip(fresh.into_values()).peekable();
        while fresh.peek().is_some() {
            let chunk = fresh.by_ref().take(IMPORT_CHUNK);
            let record = |(id, mac): (_, [u8; PROOF_BYTES])| {
                self.record(id, Kind::Imported, template.clone(), now, mac.into())
            };
            let records: Vec<Record> = chunk.map(record).collect();
            self.commit(&mut writer, &records)?;
            writer.count += records.len();
        }
        Ok(count)
    }

    fn create_of_kind(&self, kind: Kind, new: NewKey, now: Now) -> Result<Created, DirectoryFault> {
        new.check(now)?;
        self.check_age(&new, now)?;
        if new.canary && kind == Kind::Signing {
            let says = "must be an API key; a signing secret is never sent, so nobody finds it";
            return Err(DirectoryFault::Invalid { field: "canary", says: says.to_owned() });
        }
        let mut writer = self.turn();
        writer.room_for(1)?;
        let (record, created) = self.make(&writer, kind, new, now)?;
        self.commit(&mut writer, &[record])?;
        writer.count += 1;
        Ok(created)
    }

    /// Whether a new credential ends before it is older than its environment allows.
    pub(in crate::authenticate::directory) fn check_age(
        &self,
        new: &NewKey,
        now: Now,
    ) -> Result<(), DirectoryFault> {
        let environment = new.environment.as_deref().unwrap_or_else(|| self.environment());
        let Some(max_age) = self.max_age(environment) else { return Ok(()) };
        let latest_ms = now.unix_ms.saturating_add(millis(max_age));
        if new.expires_ms.is_some_and(|expires| expires <= latest_ms) {
            return Ok(());
        }
        Err(DirectoryFault::TooOld { environment: environment.to_owned(), max_age: Span(max_age) })
    }

    /// A new credential of a kind that we make ourselves, not yet kept.
    pub(in crate::authenticate::directory) fn make(
        &self,
        writer: &Writer,
        kind: Kind,
        new: NewKey,
        now: Now,
    ) -> Result<(Record, Created), DirectoryFault> {
        if kind == Kind::Signing {
            let id = writer.free_id()?;
            let mut bytes = Zeroizing::new([0; PROOF_BYTES]);
            fill_random(bytes.as_mut_slice())?;
            let secret = Secret::new(BASE64.encode(bytes.as_slice()).into_bytes());
            return Ok((self.record(id, kind, new, now, bytes), Created { id, secret }));
        }
        loop {
            let environment = new.environment.as_deref().unwrap_or_else(|| self.environment());
            let (id, secret) = self.format.generate(environment)?;
            let mac = hash(&self.pepper, secret.expose());
            if writer.is_free(id)? && self.keys.find(number_of(&mac)).is_none() {
                return Ok((self.record(id, kind, new, now, mac.into()), Created { id, secret }));
            }
        }
    }

    fn record(
        &self,
        id: KeyId,
        kind: Kind,
        new: NewKey,
        now: Now,
        proof: Zeroizing<[u8; PROOF_BYTES]>,
    ) -> Record {
        Record::new(id, kind, new, self.environment.text(), now, proof)
    }

    /// Puts records on disk, all or none, and then where requests see them.
    ///
    /// Every change to a credential goes through here, and nothing else does.
    pub(in crate::authenticate::directory) fn commit(
        &self,
        writer: &mut Writer,
        records: &[Record],
    ) -> Result<(), DirectoryFault> {
        let mut batch = Batch::default();
        for record in records {
            let table = record.described.kind.table();
            batch.put(table, record.described.id, record.to_bytes()?);
        }
        writer.store.write(batch)?;
        self.publish(writer, records);
        Ok(())
    }
}

impl Writer {
    fn is_free(&self, id: KeyId) -> Result<bool, StoreFault> {
        Ok(self.store.get(Table::Keys, id.as_str())?.is_none()
            && self.store.get(Table::Signing, id.as_str())?.is_none())
    }

    fn free_id(&self) -> Result<KeyId, DirectoryFault> {
        loop {
            let id = KeyId::random()?;
            if self.is_free(id)? {
                return Ok(id);
            }
        }
    }

    pub(in crate::authenticate::directory) fn room_for(
        &self,
        more: usize,
    ) -> Result<(), DirectoryFault> {
        if self.count.saturating_add(more) > CREDENTIALS_MAX {
            return Err(DirectoryFault::Full { max: CREDENTIALS_MAX });
        }
        Ok(())
    }
}

/// A length of time in whole milliseconds.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
