//! Rotates the keys that values are sealed with, while the store is in use.
//!
//! The master key is replaced in one transaction, which only wraps the data key anew. Rotating the
//! data key itself begins with one that keeps the old data key beside the new, goes on with bounded
//! ones that seal what is there anew, and ends with one that forgets the old. Between any two of
//! them the process may die: whatever is sealed can be opened, and who comes next goes on.

use std::sync::PoisonError;

use crate::secret::Secret;
use crate::store::seal::Seal;
use crate::store::{Store, StoreFault, Table, refuse_weak};

/// How many values are sealed anew in one transaction. Others who write wait so long.
const RESEALED_MAX: usize = 2_000;

impl Store {
    /// Makes `master` the key that unlocks the store. On disk when this returns; from then on no
    /// other master key opens it.
    ///
    /// # Errors
    /// When the key is too short or the disk fails; the old one unlocks it then as before.
    pub fn rewrap(&self, master: &Secret) -> Result<(), StoreFault> {
        refuse_weak(master)?;
        let _turn = self.rekeying.lock().unwrap_or_else(PoisonError::into_inner);
        let seal = self.seal.write().unwrap_or_else(PoisonError::into_inner);
        self.embedded.set_keys(&seal.wrap(master)?)
    }

    /// Rotates the data key: makes a new one, unless a rotation that broke off has made it already,
    /// seals everything with it, and forgets the old one. Others read and write meanwhile. `master`
    /// is the key that unlocks the store. Gives how many values were sealed anew.
    ///
    /// # Errors
    /// When `master` does not unlock the store, a record is damaged, or the disk fails. What is left
    /// is done by the next call.
    pub fn renew(&self, master: &Secret) -> Result<usize, StoreFault> {
        let _turn = self.rekeying.lock().unwrap_or_else(PoisonError::into_inner);
        self.prove(master)?;
        if !self.is_being_renewed() {
            let mut seal = self.seal.write().unwrap_or_else(PoisonError::into_inner);
            let renewed = seal.renewed()?;
            self.embedded.set_keys(&renewed.wrap(master)?)?;
            *seal = renewed;
        }
        let mut count = 0;
        for table in Table::ALL {
            count += self.reseal(table)?;
        }
        let mut seal = self.seal.write().unwrap_or_else(PoisonError::into_inner);
        let settled = seal.settled()?;
        self.embedded.set_keys(&settled.wrap(master)?)?;
        *seal = settled;
        Ok(count)
    }

    /// Whether a rotation of the data key has begun and not ended.
    pub fn is_being_renewed(&self) -> bool {
        self.seal().is_being_renewed()
    }

    /// Whether this master key unlocks the store as it is now.
    ///
    /// # Errors
    /// [`StoreFault::WrongMaster`] when it does not.
    pub fn prove(&self, master: &Secret) -> Result<(), StoreFault> {
        let damaged = || StoreFault::Damaged { table: "header", id: "data_key".to_owned() };
        let header = self.embedded.header()?.ok_or_else(damaged)?;
        Seal::unwrap(master, &header.data_keys).map(|_| ())
    }

    /// Seals a table anew, one bounded transaction after the other.
    fn reseal(&self, table: Table) -> Result<usize, StoreFault> {
        let mut count = 0;
        let mut last: Option<String> = None;
        loop {
            let seal = self.seal();
            let reseal = |id: &str, sealed: &[u8]| {
                let fresh = seal.reseal(table, id, sealed)?;
                count += usize::from(fresh.is_some());
                Ok(fresh)
            };
            last = self.embedded.rewrite(table, last.as_deref(), RESEALED_MAX, reseal)?;
            if last.is_none() {
                return Ok(count);
            }
        }
    }
}
