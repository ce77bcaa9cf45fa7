//! What operators do with the keys that secrets are sealed with, by the admin API or the command.

use std::fs::{File, rename};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::config::development::write_new;
use crate::config::{Config, state_files};
use crate::secret::reference::Reference;
use crate::secret::{Secret, equal};
use crate::store::{FILE_NAME, Store, StoreFault};

/// Bytes of a master key that is made here.
const MASTER_BYTES: usize = 32;

/// A new master key, until it has taken over.
const NEXT_MASTER_KEY: &str = "master.key.next";

/// Gives the store new keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rekey {
    /// Where the new master key is kept: `file:PATH`, relative to `gateway.toml`, or
    /// `credential:NAME`. Without it one is made in the state directory.
    #[serde(default)]
    pub new: Option<String>,
    /// Whether the data key is rotated too, and every value sealed anew.
    #[serde(default)]
    pub data: bool,
}

/// Where the master key of one gateway is kept, and the store that it unlocks.
pub struct MasterKey {
    base: PathBuf,
    state_dir: PathBuf,
    /// Nothing where it is the file in the state directory, which is ours to replace.
    named: Mutex<Option<Reference>>,
    /// Those who replace it take turns.
    rekeying: Mutex<()>,
}

impl MasterKey {
    /// That of the gateway that runs so.
    pub fn of(config: &Config) -> Self {
        Self::new(&config.base, &config.state_dir, config.master_key.clone())
    }

    /// One that is named, or the file in the state directory. `base` is the directory of
    /// `gateway.toml`.
    pub fn new(base: &Path, state_dir: &Path, named: Option<Reference>) -> Self {
        Self {
            base: base.to_owned(),
            state_dir: state_dir.to_owned(),
            named: Mutex::new(named),
            rekeying: Mutex::new(()),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// A sentence that names the file or reference and what is wrong with it.
    pub fn read(&self) -> Result<Secret, String> {
        match self.named() {
            Some(reference) => Ok(reference.read(&self.base)?),
            None => Ok(read_file(&self.file(state_files::MASTER_KEY))?),
        }
    }

    /// Opens the store with it, and brings to its end what a kill has left half done: a new master
    /// key that has not taken its place yet, a rotation of the data key.
    ///
    /// # Errors
    /// A sentence that names the store and where its master key was looked for. Nothing is changed
    /// then.
    pub fn open_store(&self) -> Result<Store, String> {
        let mut master = self.read()?;
        let mut opened = Store::open(&self.state_dir, &master);
        let next = self.file(NEXT_MASTER_KEY);
        if matches!(opened, Err(StoreFault::WrongMaster)) && self.named().is_none() && next.exists()
        {
            master = read_file(&next)?;
            opened = Store::open(&self.state_dir, &master);
            if opened.is_ok() {
                self.put_next_in_place()?;
            }
        }
        let store = opened.map_err(|fault| self.told(&fault))?;
        if store.is_being_renewed() {
            let count = store.renew(&master).map_err(|fault| fault.to_string())?;
            tracing::info!(count, "a rotation of the data key that had broken off is done");
        }
        Ok(store)
    }

    /// Does it, and tells what came of it as JSON: `{master_key, made, resealed}`.
    ///
    /// # Errors
    /// A sentence for the operator. The store is unlocked by the key that unlocked it before, or,
    /// where the sentence says so, by the new one.
    pub fn rekey(&self, store: &Store, rekey: &Rekey) -> Result<Value, String> {
        let _turn = self.rekeying.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.read()?;
        store.prove(&current).map_err(|fault| self.told(&fault))?;
        let (reference, master) = match &rekey.new {
            Some(text) => {
                let reference: Reference = text.parse()?;
                let master = reference.read(&self.base)?;
                if equal(master.expose(), current.expose()) {
                    return Err(format!("{reference} holds the master key that is in force"));
                }
                store.rewrap(&master).map_err(|fault| format!("{reference}: {fault}"))?;
                *self.named.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(reference.clone());
                (reference, master)
            }
            None => (Reference::File(self.file(state_files::MASTER_KEY)), self.replace(store)?),
        };
        let resealed = match rekey.data {
            true => Some(store.renew(&master).map_err(|fault| {
                format!(
                    "{reference} is the master key now, but the data key is not rotated: {fault}"
                )
            })?),
            false => None,
        };
        tracing::info!(%reference, resealed, "the store has a new master key");
        Ok(json!({
            "master_key": reference.to_string(),
            "made": rekey.new.is_none(),
            "resealed": resealed,
        }))
    }

    /// Makes a new master key in the state directory and puts it in the place of the old one. At
    /// every moment one of the two files there unlocks the store.
    fn replace(&self, store: &Store) -> Result<Secret, String> {
        if let Some(named) = self.named() {
            return Err(format!(
                "the master key is {named}, which gateway.toml names; put the new one beside it and say where: --new file:PATH"
            ));
        }
        let next = self.file(NEXT_MASTER_KEY);
        // The key in force has just been proved, so what an earlier attempt left unlocks nothing.
        if next.exists() {
            std::fs::remove_file(&next).map_err(|error| unwritten(&next, &error))?;
        }
        let fresh = Secret::random(MASTER_BYTES).map_err(|fault| fault.to_string())?;
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(fresh.expose()));
        write_new(&next, Zeroizing::new(format!("{}\n", *text)).as_bytes(), 0o600)?;
        self.sync_state_dir()?;
        let master = Secret::new(text.as_bytes().to_vec());
        store.rewrap(&master).map_err(|fault| fault.to_string())?;
        self.put_next_in_place()?;
        Ok(master)
    }

    fn put_next_in_place(&self) -> Result<(), String> {
        let (next, place) = (self.file(NEXT_MASTER_KEY), self.file(state_files::MASTER_KEY));
        rename(&next, &place).map_err(|error| unwritten(&place, &error))?;
        self.sync_state_dir()
    }

    /// A name that is not on disk would be lost with the power.
    fn sync_state_dir(&self) -> Result<(), String> {
        let synced = File::open(&self.state_dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| unwritten(&self.state_dir, &error))
    }

    fn told(&self, fault: &StoreFault) -> String {
        let master =
            self.named().unwrap_or_else(|| Reference::File(self.file(state_files::MASTER_KEY)));
        match fault {
            StoreFault::WrongMaster => format!(
                "{} was sealed with another master key than {master} holds; nothing was changed, give the key it was made with",
                self.file(FILE_NAME).display()
            ),
            StoreFault::WeakMaster { .. } => format!("{master}: {fault}"),
            fault => fault.to_string(),
        }
    }

    fn named(&self) -> Option<Reference> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.state_dir.join(name)
    }
}

fn read_file(path: &Path) -> Result<Secret, String> {
    Ok(Reference::File(path.to_owned()).read(Path::new("."))?)
}

fn unwritten(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be written: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, Table};

    /// A state directory as a first run leaves it, with one value in its store.
    fn begun() -> (tempfile::TempDir, MasterKey) {
        let dir = tempfile::tempdir().unwrap();
        write_new(&dir.path().join(state_files::MASTER_KEY), &[b'm'; 43], 0o600).unwrap();
        let master = MasterKey::new(Path::new(""), dir.path(), None);
        let store = master.open_store().unwrap();
        let mut batch = Batch::default();
        batch.put(Table::Keys, "a", Zeroizing::new(b"1".to_vec()));
        store.write(batch).unwrap();
        (dir, master)
    }

    fn is_there(master: &MasterKey) -> bool {
        let store = master.open_store().unwrap();
        store.get(Table::Keys, "a").unwrap().is_some_and(|value| value.as_slice() == b"1")
    }

    #[test]
    fn a_master_key_of_ours_is_replaced_in_its_place() {
        let (dir, master) = begun();
        let before = std::fs::read(dir.path().join(state_files::MASTER_KEY)).unwrap();
        let store = master.open_store().unwrap();
        let told = master.rekey(&store, &Rekey { new: None, data: true }).unwrap();
        assert_eq!((&told["made"], &told["resealed"]), (&true.into(), &1.into()));
        drop(store);
        let after = std::fs::read(dir.path().join(state_files::MASTER_KEY)).unwrap();
        assert_ne!(before, after);
        assert!(!dir.path().join(NEXT_MASTER_KEY).exists());
        assert!(is_there(&master));
    }

    #[test]
    fn a_kill_between_any_two_steps_leaves_a_key_that_opens_the_store() {
        // After the new file, before the store knows of it: what is there goes on.
        let (dir, master) = begun();
        let next = dir.path().join(NEXT_MASTER_KEY);
        write_new(&next, &[b'n'; 43], 0o600).unwrap();
        assert!(is_there(&master));
        // After the store was sealed with the new one, before it took its place.
        let store = master.open_store().unwrap();
        store.rewrap(&Secret::new(vec![b'n'; 43])).unwrap();
        drop(store);
        assert!(is_there(&master));
        assert!(!next.exists());
        assert_eq!(
            std::fs::read(dir.path().join(state_files::MASTER_KEY)).unwrap(),
            vec![b'n'; 43]
        );
        assert!(is_there(&master));
        // A file that unlocks nothing is no help, and no harm.
        std::fs::remove_file(dir.path().join(state_files::MASTER_KEY)).unwrap();
        write_new(&dir.path().join(state_files::MASTER_KEY), &[b'x'; 43], 0o600).unwrap();
        write_new(&next, &[b'y'; 43], 0o600).unwrap();
        let says = master.open_store().unwrap_err();
        assert!(says.contains("store.redb") && says.contains("master.key"), "{says}");
        assert!(next.exists());
    }

    #[test]
    fn a_master_key_that_is_named_is_replaced_by_one_that_is_named() {
        let (dir, _) = begun();
        let named = Reference::File(dir.path().join(state_files::MASTER_KEY));
        let master = MasterKey::new(dir.path(), dir.path(), Some(named));
        let store = master.open_store().unwrap();
        let rekey =
            |new: &str| master.rekey(&store, &Rekey { new: Some(new.to_owned()), data: false });
        let says = master.rekey(&store, &Rekey { new: None, data: false }).unwrap_err();
        assert!(says.contains("--new file:PATH"), "{says}");
        write_new(&dir.path().join("weak.key"), b"too short", 0o600).unwrap();
        write_new(&dir.path().join("open.key"), &[b'o'; 43], 0o644).unwrap();
        for (new, says) in [
            ("hunter2hunter2", "never stands"),
            ("file:nowhere.key", "nowhere.key cannot be read"),
            ("file:weak.key", "9 bytes"),
            ("file:open.key", "chmod 600"),
            ("file:master.key", "in force"),
        ] {
            let told = rekey(new).unwrap_err();
            assert!(told.contains(says) && !told.contains("hunter2"), "{told}");
        }
        write_new(&dir.path().join("new.key"), &[b'n'; 43], 0o600).unwrap();
        assert_eq!(rekey("file:new.key").unwrap()["master_key"], "file:new.key");
        // The same gateway can go on to the next one.
        write_new(&dir.path().join("third.key"), &[b't'; 43], 0o600).unwrap();
        rekey("file:third.key").unwrap();
        drop(store);
        let at =
            |file: &str| MasterKey::new(dir.path(), dir.path(), Some(Reference::File(file.into())));
        let says = at("new.key").open_store().unwrap_err();
        assert!(says.contains("file:new.key") && says.contains("nothing was changed"), "{says}");
        assert!(is_there(&at("third.key")));
    }
}
