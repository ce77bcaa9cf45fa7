//! What doors say to a principal, for `explain`.

use crate::mistake::source::Origin;

/// What one door says to a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorVerdict {
    /// The door.
    pub door: Origin,
    /// Whether it opens.
    pub opens: bool,
    /// Whether it refuses instead of opening.
    pub denies: bool,
    /// Whether it is only watched at this time.
    pub observed: bool,
    /// Each of its conditions; none for a door that is open to anyone.
    pub conditions: Vec<ConditionVerdict>,
}

/// What one condition says to a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionVerdict {
    /// The key of the condition: `scopes`, `roles`, `tiers`, `owner`, `from`, `certificates`,
    /// `hours`, `claim` or `authentication`.
    pub key: &'static str,
    /// What it asks for, as the policy writes it.
    pub asks: String,
    /// Whether it holds.
    pub holds: bool,
    /// Why not; empty when it holds.
    pub because: String,
}
