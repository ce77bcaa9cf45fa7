//! Which credentials are whose: found by their owner, without a look at everybody else's.

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;

use crate::authenticate::Grant;
use crate::authenticate::directory::entry::{Entry, SigningEntry};
use crate::authenticate::directory::state::State;
use crate::authenticate::directory::{Directory, Writer};
use crate::clock::Now;

/// The owner of a credential as it is searched for, and where the credential stands on its shelf.
pub(super) type Owned = (Mark, u64);

/// The hash of an owner, and in its last bit whether the credential signs. Owners with the same hash
/// are told apart by their names, which the credentials themselves have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark(u64);

/// All credentials by their owners, in 16 bytes each and what a tree takes beside them. Only whoever
/// has the turn to change credentials looks here.
#[derive(Default)]
pub(super) struct Owners(BTreeSet<Owned>);

impl Owners {
    /// Adds credentials; those that are there already stay once.
    pub(super) fn add(&mut self, owned: Vec<Owned>) {
        if self.0.is_empty() {
            // All at once, as at start: in order, which is many times quicker.
            self.0 = owned.into_iter().collect();
        } else {
            self.0.extend(owned);
        }
    }
}

impl Directory {
    /// What credentials of this owner are found by: API keys, or those that sign.
    pub(super) fn mark(&self, owner: &str, signs: bool) -> Mark {
        Mark(self.owner_hashes.hash_one(owner) & !1 | u64::from(signs))
    }

    /// Shows every credential of an owner. The writer is the caller's turn, so nothing is added
    /// meanwhile.
    pub(super) fn each_of(&self, writer: &Writer, owner: &str, mut visit: impl FnMut(Held<'_>)) {
        let numbers = |signs| {
            let mark = self.mark(owner, signs);
            writer.owners.0.range((mark, 0)..=(mark, u64::MAX)).map(|(_, number)| *number)
        };
        let mut seen = |held: Held<'_>| {
            if &*held.grant().subject == owner {
                visit(held);
            }
        };
        numbers(false)
            .filter_map(|number| self.keys.find(number))
            .for_each(|entry| seen(Held::Key(&entry)));
        numbers(true)
            .filter_map(|number| self.signing.find(number))
            .for_each(|entry| seen(Held::Signing(&entry)));
    }
}

/// A credential of either sort.
#[derive(Clone, Copy)]
pub(super) enum Held<'a> {
    Key(&'a Entry),
    Signing(&'a SigningEntry),
}

impl Held<'_> {
    /// What it gives.
    pub(super) fn grant(&self) -> &Grant {
        match self {
            Self::Key(entry) => &entry.grant,
            Self::Signing(entry) => &entry.key.grant,
        }
    }

    /// Where it stands in its life.
    pub(super) fn state(&self, now: Now) -> State {
        match self {
            Self::Key(entry) => entry.state(now).0,
            Self::Signing(entry) => entry.state(now).0,
        }
    }

    /// Whether nobody must ever use it.
    pub(super) fn is_canary(&self) -> bool {
        matches!(self, Self::Key(entry) if entry.is_canary())
    }
}
