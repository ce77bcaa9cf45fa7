//! Spends from every budget that applies, or from none; makes an `Admission` or says when to return.

use crate::authorize::Permit;
use crate::mistake::source::Origin;
use crate::refusal::Spent;

/// The proof that all budgets were paid. Made by [`Budgets::spend`] alone.
#[derive(Debug)]
pub struct Admission {
    permit: Permit,
    tightest: Option<(Origin, Spent)>,
}

impl Admission {
    /// The proof before this one.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The budget with the least left, for limit headers; nothing when no budget applies.
    pub fn tightest(&self) -> Option<&(Origin, Spent)> {
        self.tightest.as_ref()
    }
}

#[cfg(test)]
impl Admission {
    /// An admission for tests of later stages.
    pub(crate) fn for_tests(permit: Permit) -> Self {
        Self { permit, tightest: None }
    }
}
