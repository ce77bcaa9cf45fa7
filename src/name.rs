//! Names that operators give (roles, scopes, tiers), as small numbers, so that requests compare no strings.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// The name of a role, scope, tier or owner. Two are equal when their texts are.
///
/// A name is kept for as long as the process runs. Only operators make names, in policy and in
/// key records, so their number is theirs to bound; a caller's bytes never become one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(u32);

#[derive(Default)]
struct Interner {
    numbers: HashMap<&'static str, u32>,
    texts: Vec<&'static str>,
}

fn interner() -> &'static RwLock<Interner> {
    static INTERNER: OnceLock<RwLock<Interner>> = OnceLock::new();
    INTERNER.get_or_init(RwLock::default)
}

impl Name {
    /// The name with this text.
    pub fn new(text: &str) -> Self {
        if let Some(&number) =
            interner().read().unwrap_or_else(PoisonError::into_inner).numbers.get(text)
        {
            return Self(number);
        }
        let mut interner = interner().write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = interner.numbers.get(text) {
            return Self(number);
        }
        let number = u32::try_from(interner.texts.len()).unwrap_or(u32::MAX);
        let kept: &'static str = Box::leak(text.into());
        interner.texts.push(kept);
        interner.numbers.insert(kept, number);
        Self(number)
    }

    /// The text of this name.
    pub fn text(self) -> &'static str {
        let interner = interner().read().unwrap_or_else(PoisonError::into_inner);
        interner.texts.get(self.0 as usize).copied().unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

/// A set of names: sorted, small, compared without looking at a string, and shared when cloned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Arc<[Name]>);

impl Names {
    /// Whether the set holds `name`.
    pub fn contains(&self, name: Name) -> bool {
        self.0.contains(&name)
    }

    /// Whether every name of `others` is in this set.
    pub fn contains_all(&self, others: &Self) -> bool {
        others.0.iter().all(|name| self.contains(*name))
    }

    /// Whether at least one name of `others` is in this set.
    pub fn contains_any(&self, others: &Self) -> bool {
        others.0.iter().any(|name| self.contains(*name))
    }

    /// The places of `others` in this set, one bit each; names beyond the first 64 have none.
    pub fn places(&self, others: &Self) -> u64 {
        let place = |name: &Name| self.0.iter().take(64).position(|held| held == name);
        others.0.iter().filter_map(place).fold(0, |places, place| places | 1 << place)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = Name> {
        self.0.iter().copied()
    }
}

impl FromIterator<Name> for Names {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Self {
        let mut names: Vec<Name> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into())
    }
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        texts.into_iter().map(Name::new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_equal_when_their_texts_are() {
        assert_eq!(Name::new("tasks:read"), Name::new("tasks:read"));
        assert_ne!(Name::new("tasks:read"), Name::new("tasks:write"));
        assert_eq!(Name::new("tasks:read").text(), "tasks:read");
    }

    #[test]
    fn sets_answer_all_and_any() {
        let held: Names = ["a", "b"].into_iter().collect();
        let asked: Names = ["b", "c"].into_iter().collect();
        assert!(held.contains_any(&asked));
        assert!(!held.contains_all(&asked));
        assert!(held.contains_all(&Names::default()));
    }
}
