//! Envelope encryption: values under the store's data key, the data key under the master key.
//!
//! A sealed value is `version (1) | nonce (12) | ciphertext | tag (16)`. Its additional data names
//! the table and the record, so that no value can be moved to another place. Nonces are random;
//! AES-256-GCM with one key bears 2^32 of them (NIST SP 800-38D, 8.3), which no key store writes.
//!
//! While the data key is rotated there are two: what is written is sealed with the new one, and
//! what was sealed with the old one still opens, until all of it has been sealed anew.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use crate::secret::{NoRandomness, Secret, fill_random};
use crate::store::{StoreFault, Table};

/// The least number of bytes that a master key may have.
pub const MASTER_BYTES_MIN: usize = 32;

/// The version of the form above.
const FORM: u8 = 1;
const DATA_KEY_BYTES: usize = 32;
/// The places of the data keys in the header.
const CURRENT: &[u8] = b"header/data_key";
const PREVIOUS: &[u8] = b"header/previous_data_key";
const WRAPPING_LABEL: &[u8] = b"portcullis store data key wrapping v1";

/// Seals and opens the values of one store.
pub(in crate::store) struct Seal {
    current: DataKey,
    /// What a rotation of the data key has still to replace.
    previous: Option<DataKey>,
}

/// The data keys of a store, each wrapped by the master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Wrapped {
    pub(in crate::store) current: Vec<u8>,
    pub(in crate::store) previous: Option<Vec<u8>>,
}

/// A data key, ready for use, with its bytes: another master key may have to wrap it.
struct DataKey {
    key: LessSafeKey,
    bytes: Secret,
}

impl DataKey {
    fn new(bytes: Secret) -> Result<Self, StoreFault> {
        Ok(Self { key: prepared(bytes.expose())?, bytes })
    }

    fn wrap(&self, by: &LessSafeKey, place: &[u8]) -> Result<Vec<u8>, NoRandomness> {
        encrypt(by, place, self.bytes.expose())
    }

    fn unwrap(by: &LessSafeKey, place: &[u8], wrapped: &[u8]) -> Result<Self, StoreFault> {
        let bytes = decrypt(by, place, wrapped).ok_or(StoreFault::WrongMaster)?;
        Self::new(Secret::new(bytes.to_vec()))
    }
}

impl Seal {
    /// A seal with a new data key.
    pub(in crate::store) fn fresh() -> Result<Self, StoreFault> {
        Ok(Self { current: DataKey::new(Secret::random(DATA_KEY_BYTES)?)?, previous: None })
    }

    /// The seal whose data keys were wrapped by this master key.
    pub(in crate::store) fn unwrap(master: &Secret, wrapped: &Wrapped) -> Result<Self, StoreFault> {
        let by = wrapping(master)?;
        let previous = wrapped.previous.as_deref();
        Ok(Self {
            current: DataKey::unwrap(&by, CURRENT, &wrapped.current)?,
            previous: previous.map(|key| DataKey::unwrap(&by, PREVIOUS, key)).transpose()?,
        })
    }

    /// Its data keys, wrapped by this master key.
    pub(in crate::store) fn wrap(&self, master: &Secret) -> Result<Wrapped, StoreFault> {
        let by = wrapping(master)?;
        let previous = self.previous.as_ref();
        Ok(Wrapped {
            current: self.current.wrap(&by, CURRENT)?,
            previous: previous.map(|key| key.wrap(&by, PREVIOUS)).transpose()?,
        })
    }

    /// A seal with a new data key, which opens what this one has sealed.
    pub(in crate::store) fn renewed(&self) -> Result<Self, StoreFault> {
        let fresh = Self::fresh()?;
        Ok(Self { previous: Some(DataKey::new(self.current.bytes.clone())?), ..fresh })
    }

    /// The same without what a rotation has replaced.
    pub(in crate::store) fn settled(&self) -> Result<Self, StoreFault> {
        Ok(Self { current: DataKey::new(self.current.bytes.clone())?, previous: None })
    }

    /// Whether a rotation of the data key has begun and not ended.
    pub(in crate::store) fn is_being_renewed(&self) -> bool {
        self.previous.is_some()
    }

    /// The value sealed anew, where it is still sealed with the previous data key.
    pub(in crate::store) fn reseal(
        &self,
        table: Table,
        id: &str,
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreFault> {
        if decrypt(&self.current.key, &place(table, id), sealed).is_some() {
            return Ok(None);
        }
        let plain = self.open(table, id, sealed)?;
        Ok(Some(self.seal(table, id, &plain)?))
    }

    /// Seals the value of this record.
    pub(in crate::store) fn seal(
        &self,
        table: Table,
        id: &str,
        plain: &[u8],
    ) -> Result<Vec<u8>, NoRandomness> {
        encrypt(&self.current.key, &place(table, id), plain)
    }

    /// Opens the value of this record.
    pub(in crate::store) fn open(
        &self,
        table: Table,
        id: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StoreFault> {
        let mut room = Room::default();
        self.open_in(table, id, sealed, &mut room)?;
        Ok(room.text)
    }

    /// Opens the value of this record in a room where others were opened before.
    pub(in crate::store) fn open_in<'r>(
        &self,
        table: Table,
        id: &str,
        sealed: &[u8],
        room: &'r mut Room,
    ) -> Result<&'r [u8], StoreFault> {
        let place = place(table, id);
        let keys = std::iter::once(&self.current).chain(&self.previous);
        let mut opened = keys.filter_map(|data| decrypt_in(&data.key, &place, sealed, room));
        match opened.next() {
            Some(()) => Ok(&room.text),
            None => Err(StoreFault::Damaged { table: table.name(), id: id.to_owned() }),
        }
    }
}

/// Memory that values are opened in, one after the other: a million at start. It is wiped when it is
/// dropped, and before it grows.
#[derive(Default)]
pub(in crate::store) struct Room {
    text: Zeroizing<Vec<u8>>,
    additional: Vec<u8>,
}

impl Room {
    /// Fills it with what is to be decrypted.
    fn fill(&mut self, form: u8, place: &[u8], text: &[u8]) {
        self.additional.clear();
        self.additional.push(form);
        self.additional.extend_from_slice(place);
        if self.text.capacity() < text.len() {
            // A vector that grows by itself leaves plain bytes behind where it was.
            self.text = Zeroizing::new(Vec::with_capacity(text.len()));
        }
        self.text.clear();
        self.text.extend_from_slice(text);
    }
}

/// Where a value belongs. Table names hold no slash, so two places never read the same.
fn place(table: Table, id: &str) -> Vec<u8> {
    [table.name().as_bytes(), b"/", id.as_bytes()].concat()
}

/// The key that wraps data keys, derived from the master key (HKDF, RFC 5869).
fn wrapping(master: &Secret) -> Result<LessSafeKey, StoreFault> {
    Salt::new(HKDF_SHA256, b"")
        .extract(master.expose())
        .expand(&[WRAPPING_LABEL], &AES_256_GCM)
        .map(|okm| LessSafeKey::new(UnboundKey::from(okm)))
        .map_err(|ring::error::Unspecified| StoreFault::WrongMaster)
}

/// A data key made ready. Only 32 bytes are one.
fn prepared(data_key: &[u8]) -> Result<LessSafeKey, StoreFault> {
    UnboundKey::new(&AES_256_GCM, data_key).map(LessSafeKey::new).map_err(
        |ring::error::Unspecified| StoreFault::Damaged {
            table: "header",
            id: "data_key".to_owned(),
        },
    )
}

fn encrypt(key: &LessSafeKey, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, NoRandomness> {
    let mut nonce = [0; NONCE_LEN];
    fill_random(&mut nonce)?;
    let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
    sealed.push(FORM);
    sealed.extend_from_slice(&nonce);
    // Encrypted apart in a buffer that is wiped, so that no plain byte stays behind in a
    // reallocated vector.
    let mut text = Zeroizing::new(plain.to_vec());
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(additional(FORM, place)),
            &mut text,
        )
        .map_err(|ring::error::Unspecified| NoRandomness)?;
    sealed.extend_from_slice(&text);
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// The plain bytes; nothing when the key, the place or a single bit is another.
fn decrypt(key: &LessSafeKey, place: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut room = Room::default();
    decrypt_in(key, place, sealed, &mut room).map(|()| room.text)
}

/// The same, in a room where others were decrypted before.
fn decrypt_in(key: &LessSafeKey, place: &[u8], sealed: &[u8], room: &mut Room) -> Option<()> {
    let (&form, rest) = sealed.split_first()?;
    if form != FORM {
        return None;
    }
    let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
    room.fill(form, place, text);
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let plain = key.open_in_place(nonce, Aad::from(&room.additional), &mut room.text).ok()?;
    let plain_bytes = plain.len();
    room.text.truncate(plain_bytes);
    Some(())
}

fn additional(form: u8, place: &[u8]) -> Vec<u8> {
    [&[form], place].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal::fresh().unwrap()
    }

    #[test]
    fn a_value_opens_only_in_its_own_place() {
        let seal = seal();
        let sealed = seal.seal(Table::Keys, "a", b"plain").unwrap();
        assert_eq!(seal.open(Table::Keys, "a", &sealed).unwrap().as_slice(), b"plain");
        assert!(seal.open(Table::Keys, "b", &sealed).is_err());
        assert!(seal.open(Table::Signing, "a", &sealed).is_err());
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let seal = seal();
        let sealed = seal.seal(Table::Keys, "a", b"plain").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(seal.open(Table::Keys, "a", &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(seal.open(Table::Keys, "a", &sealed[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn the_same_value_never_seals_to_the_same_bytes() {
        let seal = seal();
        assert_ne!(
            seal.seal(Table::Keys, "a", b"plain").unwrap(),
            seal.seal(Table::Keys, "a", b"plain").unwrap()
        );
    }

    #[test]
    fn only_its_own_master_key_unwraps_a_data_key() {
        let master = Secret::new(vec![7; 32]);
        let seal = Seal::fresh().unwrap();
        let wrapped = seal.wrap(&master).unwrap();
        let sealed = seal.seal(Table::Meta, "a", b"plain").unwrap();
        let again = Seal::unwrap(&master, &wrapped).unwrap();
        assert_eq!(again.open(Table::Meta, "a", &sealed).unwrap().as_slice(), b"plain");
        let other = Secret::new(vec![8; 32]);
        assert!(matches!(Seal::unwrap(&other, &wrapped), Err(StoreFault::WrongMaster)));
    }

    #[test]
    fn a_renewed_seal_opens_what_came_before_until_it_is_settled() {
        let master = Secret::new(vec![7; 32]);
        let old = seal();
        let sealed = old.seal(Table::Keys, "a", b"plain").unwrap();
        let renewed = old.renewed().unwrap();
        let renewed = Seal::unwrap(&master, &renewed.wrap(&master).unwrap()).unwrap();
        assert!(renewed.is_being_renewed());
        assert_eq!(renewed.open(Table::Keys, "a", &sealed).unwrap().as_slice(), b"plain");
        let again = renewed.reseal(Table::Keys, "a", &sealed).unwrap().unwrap();
        assert_eq!(renewed.reseal(Table::Keys, "a", &again).unwrap(), None);
        assert!(old.open(Table::Keys, "a", &again).is_err());
        let settled = renewed.settled().unwrap();
        assert!(settled.open(Table::Keys, "a", &sealed).is_err());
        assert_eq!(settled.open(Table::Keys, "a", &again).unwrap().as_slice(), b"plain");
    }
}
