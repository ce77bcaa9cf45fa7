//! What a detector has to say: how sure it is, of what, and where.

/// Evidence that counts only for those who asked for high sensitivity.
pub(in crate::inspect::detect) const WEAK: u8 = 3;
/// Evidence that counts by default.
pub(in crate::inspect::detect) const LIKELY: u8 = 5;
/// Evidence that counts even for those who asked for low sensitivity.
pub(in crate::inspect::detect) const CERTAIN: u8 = 7;

/// The strongest piece of evidence found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::inspect::detect) struct Finding {
    /// From 0, nothing, to [`CERTAIN`].
    pub(in crate::inspect::detect) score: u8,
    /// The structure, in a few words.
    pub(in crate::inspect::detect) what: &'static str,
    /// Where it begins, in bytes of the view.
    pub(in crate::inspect::detect) place: usize,
    /// Whether the work that the field may cause was spent before all of it was looked at.
    pub(in crate::inspect::detect) unfinished: bool,
}

impl Finding {
    /// Adds a piece of evidence; the strongest stays, of equals the first.
    ///
    /// Strengths are not added up: ten weak signs are what long prose about code consists of.
    pub(in crate::inspect::detect) fn note(&mut self, score: u8, what: &'static str, place: usize) {
        if score > self.score {
            *self = Self { score, what, place, unfinished: self.unfinished };
        }
    }

    /// Tells that the rest, from a place on, was not looked at.
    pub(in crate::inspect::detect) fn give_up(&mut self, place: usize) {
        if !self.unfinished {
            let what = "more structures than one field may have";
            *self = Self { what, place, unfinished: true, ..*self };
        }
    }

    /// Adds what another look found.
    pub(in crate::inspect::detect) fn join(&mut self, other: Self) {
        self.note(other.score, other.what, other.place);
        self.unfinished |= other.unfinished;
    }
}
