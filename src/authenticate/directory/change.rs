//! Changes to the credentials: create, rotate, revoke, import. Each is on disk before it answers.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::record::{Kind, NewKey, PROOF_BYTES, Record, State};
use crate::authenticate::directory::{Directory, Writer, hash, number_of};
use crate::authenticate::key_format::{KeyId, TOKEN_BYTES_MAX, is_token};
use crate::authenticate::signature::public_key::PublicKey;
use crate::clock::Now;
use crate::secret::{Secret, fill_random};
use crate::store::{Batch, StoreFault, Table};

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

    /// Makes a successor that gives the same for as long again. The old credential holds beside
    /// it for `overlap`, or until its own end if that comes first. The successor of an imported
    /// key is one of ours.
    ///
    /// # Errors
    /// When there is no such credential, it no longer holds or has a successor, or the store fails.
    pub fn rotate(
        &self,
        id: KeyId,
        overlap: Duration,
        now: Now,
    ) -> Result<Created, DirectoryFault> {
        let mut writer = self.turn();
        let mut old = writer.record(id)?;
        if let Some(successor) = old.described.rotated_to {
            return Err(DirectoryFault::AlreadyRotated { id, successor });
        }
        if matches!(old.described.state(now), State::Revoked | State::Expired) {
            return Err(DirectoryFault::Over(id));
        }
        writer.room_for(1)?;
        let kind = match old.described.kind {
            Kind::ApiKey | Kind::Imported => Kind::ApiKey,
            Kind::Signing => Kind::Signing,
            Kind::Verifying => {
                return Err(DirectoryFault::Invalid {
                    field: "id",
                    says: "names a public key, whose successor only its holder can make: create a key with the new one, then revoke this".to_owned(),
                });
            }
        };
        let (fresh, created) = self.make(&writer, kind, old.described.again(now), now)?;
        let overlap_ms = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
        let until_ms = now.unix_ms.saturating_add(overlap_ms);
        let until_ms = old.described.expires_ms.map_or(until_ms, |end| end.min(until_ms));
        old.described.expires_ms = Some(until_ms);
        old.described.rotating_until_ms = Some(until_ms);
        old.described.rotated_to = Some(created.id);
        self.commit(&mut writer, &[fresh, old])?;
        writer.count += 1;
        Ok(created)
    }

    /// Takes a credential back. It is refused from the next request on; to revoke it again
    /// changes nothing.
    ///
    /// # Errors
    /// When there is no such credential, or the store fails.
    pub fn revoke(&self, id: KeyId, now: Now) -> Result<(), DirectoryFault> {
        let mut writer = self.turn();
        let mut record = writer.record(id)?;
        if record.described.revoked_ms.is_some() {
            return Ok(());
        }
        record.described.revoked_ms = Some(now.unix_ms);
        self.commit(&mut writer, &[record])
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
            let mac = self.mac(text);
            let taken = self.imported.find(number_of(&mac)).is_some();
            // Two hashes that begin alike would shadow each other: once in ten million imports of
            // a million keys.
            if taken || fresh.insert(number_of(&mac), mac).is_some_and(|other| other != mac) {
                return bad("cannot be kept beside another key; its holder needs a new one");
            }
            writer.room_for(fresh.len())?;
        }
        let count = fresh.len();
        let mut ids = HashSet::new();
        let mut fresh = fresh.into_values().peekable();
        while fresh.peek().is_some() {
            let mut records = Vec::with_capacity(IMPORT_CHUNK);
            for mac in fresh.by_ref().take(IMPORT_CHUNK) {
                let mut id = writer.free_id()?;
                while !ids.insert(id) {
                    id = writer.free_id()?;
                }
                records.push(self.record(id, Kind::Imported, template.clone(), now, mac.into()));
            }
            self.commit(&mut writer, &records)?;
            writer.count += records.len();
        }
        Ok(count)
    }

    fn create_of_kind(&self, kind: Kind, new: NewKey, now: Now) -> Result<Created, DirectoryFault> {
        new.check(now)?;
        let mut writer = self.turn();
        writer.room_for(1)?;
        let (record, created) = self.make(&writer, kind, new, now)?;
        self.commit(&mut writer, &[record])?;
        writer.count += 1;
        Ok(created)
    }

    /// A new credential of a kind that we make ourselves, not yet kept.
    fn make(
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
            let (id, secret) = self.format.generate(self.environment.text())?;
            if writer.is_free(id)? {
                let mac = hash(&self.pepper, secret.expose());
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
    fn commit(&self, writer: &mut Writer, records: &[Record]) -> Result<(), DirectoryFault> {
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

    fn room_for(&self, more: usize) -> Result<(), DirectoryFault> {
        if self.count.saturating_add(more) > CREDENTIALS_MAX {
            return Err(DirectoryFault::Full { max: CREDENTIALS_MAX });
        }
        Ok(())
    }
}
