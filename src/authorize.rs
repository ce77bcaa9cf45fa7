//! Decides whether this principal may use this route, door by door, and makes a `Permit`.

use crate::authenticate::Principal;
use crate::mistake::source::Origin;

/// The proof that a principal may use a route. Made by [`Doors::allow`] alone.
#[derive(Debug)]
pub struct Permit {
    principal: Principal,
    door: Option<Origin>,
}

impl Permit {
    /// Who was let in.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The door that opened.
    pub fn door(&self) -> Option<&Origin> {
        self.door.as_ref()
    }
}

#[cfg(test)]
impl Permit {
    /// A permit for tests of later stages.
    pub(crate) fn for_tests(principal: Principal) -> Self {
        Self { principal, door: None }
    }
}
