//! How much work one field may cause, counted in bytes that are looked at.

use std::cell::Cell;

/// What every field may cause, however short.
const UNITS_MIN: usize = 1 << 20;
/// What a field may cause for each of its bytes. Ordinary text causes one or two.
const UNITS_PER_BYTE: usize = 8;

/// The work that a field may still cause, over all its windows and layers together.
///
/// Detectors whose work is not linear by their make spend from it where they look at bytes again.
/// Once it is spent the field is refused: nobody writes such a text but to keep us busy, or to
/// hide something behind what is not looked at.
#[derive(Debug)]
pub(in crate::inspect::detect) struct Work(Cell<usize>);

impl Work {
    /// What a field of so many bytes may cause.
    pub(in crate::inspect::detect) fn of(bytes: usize) -> Self {
        Self(Cell::new(bytes.saturating_mul(UNITS_PER_BYTE).saturating_add(UNITS_MIN)))
    }

    /// Spends some of it. False when there is not enough left.
    pub(in crate::inspect::detect) fn spend(&self, units: usize) -> bool {
        let left = self.0.get().checked_sub(units);
        self.0.set(left.unwrap_or_default());
        left.is_some()
    }
}
