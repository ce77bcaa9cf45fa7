//! Envelope encryption: values under the store's data key, the data key under the master key.
//!
//! A sealed value is `version (1) | nonce (12) | ciphertext | tag (16)`. Its additional data names
//! the table and the record, so that no value can be moved to another place. Nonces are random;
//! AES-256-GCM with one key bears 2^32 of them (NIST SP 800-38D, 8.3), which no key store writes.

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
const WRAPPING_LABEL: &[u8] = b"portcullis store data key wrapping v1";

/// Seals and opens the values of one store.
pub(in crate::store) struct Seal {
    key: LessSafeKey,
}

impl Seal {
    /// A seal with a new data key, and that key wrapped by the master key.
    pub(in crate::store) fn fresh(master: &Secret) -> Result<(Self, Vec<u8>), StoreFault> {
        let data_key = Secret::random(DATA_KEY_BYTES)?;
        let wrapped = encrypt(&wrapping(master)?, b"header/data_key", data_key.expose())?;
        Ok((Self { key: prepared(data_key.expose())? }, wrapped))
    }

    /// The seal whose data key was wrapped by this master key.
    pub(in crate::store) fn unwrap(master: &Secret, wrapped: &[u8]) -> Result<Self, StoreFault> {
        let data_key = decrypt(&wrapping(master)?, b"header/data_key", wrapped)
            .ok_or(StoreFault::WrongMaster)?;
        Ok(Self { key: prepared(&data_key)? })
    }

    /// Seals the value of this record.
    pub(in crate::store) fn seal(
        &self,
        table: Table,
        id: &str,
        plain: &[u8],
    ) -> Result<Vec<u8>, NoRandomness> {
        encrypt(&self.key, &place(table, id), plain)
    }

    /// Opens the value of this record.
    pub(in crate::store) fn open(
        &self,
        table: Table,
        id: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StoreFault> {
        decrypt(&self.key, &place(table, id), sealed)
            .ok_or_else(|| StoreFault::Damaged { table: table.name(), id: id.to_owned() })
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
    let (&form, rest) = sealed.split_first()?;
    if form != FORM {
        return None;
    }
    let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
    let mut text = Zeroizing::new(text.to_vec());
    let plain_bytes = key
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(additional(form, place)),
            &mut text,
        )
        .ok()?
        .len();
    text.truncate(plain_bytes);
    Some(text)
}

fn additional(form: u8, place: &[u8]) -> Vec<u8> {
    [&[form], place].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal::fresh(&Secret::new(vec![7; 32])).unwrap().0
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
        let (seal, wrapped) = Seal::fresh(&master).unwrap();
        let sealed = seal.seal(Table::Meta, "a", b"plain").unwrap();
        let again = Seal::unwrap(&master, &wrapped).unwrap();
        assert_eq!(again.open(Table::Meta, "a", &sealed).unwrap().as_slice(), b"plain");
        let other = Secret::new(vec![8; 32]);
        assert!(matches!(Seal::unwrap(&other, &wrapped), Err(StoreFault::WrongMaster)));
    }
}
