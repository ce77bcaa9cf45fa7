//! What happens to credentials while they live: rotated, suspended, resumed, revoked, one or all of an owner.

use std::collections::HashSet;
use std::time::Duration;

use crate::authenticate::directory::change::{Created, millis};
use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::record::{Described, Kind, Record};
use crate::authenticate::directory::state::State;
use crate::authenticate::directory::{Directory, Writer};
use crate::authenticate::key_format::KeyId;
use crate::clock::Now;

/// Characters of the reason for a suspension.
const WHY_CHARS_MAX: usize = 200;

/// Which credentials a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this id.
    Key(KeyId),
    /// All of this subject, of every kind.
    Owner(String),
}

/// A credential that was replaced.
#[derive(Debug)]
pub struct Rotated {
    /// The old one.
    pub id: KeyId,
    /// Its successor, whose secret is shown once.
    pub successor: Created,
}

impl Directory {
    /// Makes a successor that gives the same for as long again. The old credential holds beside
    /// it for `overlap`, or until its own end if that comes first. The successor of an imported
    /// key is one of ours.
    ///
    /// # Errors
    /// When there is no such credential, it no longer holds, is suspended or has a successor, or
    /// the store fails.
    pub fn rotate(
        &self,
        id: KeyId,
        overlap: Duration,
        now: Now,
    ) -> Result<Created, DirectoryFault> {
        let mut writer = self.turn();
        let mut old = writer.replaceable(id, now)?;
        writer.room_for(1)?;
        let (fresh, created) = self.succeed(&writer, &mut old, overlap, now)?;
        self.commit(&mut writer, &[fresh, old])?;
        writer.count += 1;
        Ok(created)
    }

    /// Rotates every credential of an owner that holds and has no successor, all or none.
    ///
    /// # Errors
    /// As [`Directory::rotate`], and when there is none.
    pub fn rotate_owner(
        &self,
        owner: &str,
        overlap: Duration,
        now: Now,
    ) -> Result<Vec<Rotated>, DirectoryFault> {
        let mut writer = self.turn();
        let (mut records, mut rotated, mut taken) = (Vec::new(), Vec::new(), HashSet::new());
        for id in self.ids_of_owner(&writer, owner) {
            let mut old = writer.record(id)?;
            let holds = old.described.state(now).is_live();
            if !holds || old.described.rotated_to.is_some() {
                continue;
            }
            writer.room_for(rotated.len() + 1)?;
            let (fresh, successor) = loop {
                let (fresh, successor) = self.succeed(&writer, &mut old, overlap, now)?;
                if taken.insert(successor.id) {
                    break (fresh, successor);
                }
            };
            records.extend([fresh, old]);
            rotated.push(Rotated { id, successor });
        }
        if rotated.is_empty() {
            return Err(DirectoryFault::Nobody(owner.to_owned()));
        }
        self.commit(&mut writer, &records)?;
        writer.count += rotated.len();
        Ok(rotated)
    }

    /// Takes a credential back. It is refused from the next request on; to revoke it again
    /// changes nothing.
    ///
    /// # Errors
    /// When there is no such credential, or the store fails.
    pub fn revoke(&self, id: KeyId, now: Now) -> Result<(), DirectoryFault> {
        self.revoke_all(&Which::Key(id), now).map(drop)
    }

    /// Takes credentials back, all or none; gives the ids of those that were not revoked before.
    ///
    /// # Errors
    /// When there is no such credential, or the store fails.
    pub fn revoke_all(&self, which: &Which, now: Now) -> Result<Vec<KeyId>, DirectoryFault> {
        self.alter(which, |described| {
            let first = described.revoked_ms.is_none();
            described.revoked_ms.get_or_insert(now.unix_ms);
            first
        })
    }

    /// Lets credentials hold no longer until they are resumed. What is over, or suspended, stays
    /// as it is. Gives the ids of those that were suspended by this.
    ///
    /// # Errors
    /// When there is no such credential, or the store fails.
    pub fn suspend(
        &self,
        which: &Which,
        why: &str,
        now: Now,
    ) -> Result<Vec<KeyId>, DirectoryFault> {
        let why: String = why.chars().filter(|c| !c.is_control()).take(WHY_CHARS_MAX).collect();
        self.alter(which, |described| {
            let holds = described.state(now).is_live();
            if holds {
                described.suspended_ms = Some(now.unix_ms);
                described.suspended_why = Some(why.clone()).filter(|why| !why.is_empty());
            }
            holds
        })
    }

    /// Lets suspended credentials hold again, within the bounds that they had. Gives the ids of
    /// those that were suspended.
    ///
    /// # Errors
    /// When there is no such credential, or the store fails.
    pub fn resume(&self, which: &Which) -> Result<Vec<KeyId>, DirectoryFault> {
        self.alter(which, |described| {
            described.suspended_why = None;
            described.suspended_ms.take().is_some()
        })
    }

    /// Changes credentials, all or none; `change` says whether there was anything to change.
    fn alter(
        &self,
        which: &Which,
        mut change: impl FnMut(&mut Described) -> bool,
    ) -> Result<Vec<KeyId>, DirectoryFault> {
        let mut writer = self.turn();
        let ids = match which {
            Which::Key(id) => vec![*id],
            Which::Owner(owner) => self.ids_of_owner(&writer, owner),
        };
        if let (Which::Owner(owner), []) = (which, ids.as_slice()) {
            return Err(DirectoryFault::Nobody(owner.clone()));
        }
        let mut changed = Vec::new();
        for id in ids {
            let mut record = writer.record(id)?;
            if change(&mut record.described) {
                changed.push(record);
            }
        }
        if !changed.is_empty() {
            self.commit(&mut writer, &changed)?;
        }
        Ok(changed.iter().map(|record| record.described.id).collect())
    }

    fn ids_of_owner(&self, writer: &Writer, owner: &str) -> Vec<KeyId> {
        let mut ids = Vec::new();
        self.each_of(writer, owner, |held| ids.extend(KeyId::parse(&held.grant().credential)));
        ids.sort_unstable();
        ids
    }

    /// A successor, not yet kept, and what it makes of the old one.
    pub(in crate::authenticate::directory) fn succeed(
        &self,
        writer: &Writer,
        old: &mut Record,
        overlap: Duration,
        now: Now,
    ) -> Result<(Record, Created), DirectoryFault> {
        let described = &mut old.described;
        let kind = match described.kind {
            Kind::ApiKey | Kind::Imported => Kind::ApiKey,
            Kind::Signing => Kind::Signing,
            Kind::Verifying => {
                return Err(DirectoryFault::Invalid {
                    field: "id",
                    says: "names a public key, whose successor only its holder can make: create a key with the new one, then revoke this".to_owned(),
                });
            }
        };
        let mut again = described.again(now);
        if let Some(max_age) = self.max_age(&described.environment) {
            let latest_ms = now.unix_ms.saturating_add(millis(max_age));
            again.expires_ms = Some(again.expires_ms.map_or(latest_ms, |end| end.min(latest_ms)));
        }
        let (mut fresh, created) = self.make(writer, kind, again, now)?;
        fresh.described.rotated_from = Some(described.id);
        let until_ms = now.unix_ms.saturating_add(millis(overlap));
        let until_ms = described.expires_ms.map_or(until_ms, |end| end.min(until_ms));
        described.expires_ms = Some(until_ms);
        described.rotating_until_ms = Some(until_ms);
        described.rotated_to = Some(created.id);
        Ok((fresh, created))
    }
}

impl Writer {
    /// A credential that can be given a successor.
    pub(in crate::authenticate::directory) fn replaceable(
        &self,
        id: KeyId,
        now: Now,
    ) -> Result<Record, DirectoryFault> {
        let old = self.record(id)?;
        if let Some(successor) = old.described.rotated_to {
            return Err(DirectoryFault::AlreadyRotated { id, successor });
        }
        match old.described.state(now) {
            State::Revoked | State::Expired => Err(DirectoryFault::Over(id)),
            State::Suspended => Err(DirectoryFault::Suspended(id)),
            State::Active | State::Rotating | State::Expiring => Ok(old),
        }
    }
}
