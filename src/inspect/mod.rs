//! Runs the route's filters over head and body; makes a `Cleared` request.

pub mod field;
pub mod detect;

use crate::head::Head;
use crate::limit::Admission;
use crate::listen::body::Body;

/// A request that passed every filter. Made by [`Filters::inspect`] alone; `forward` accepts nothing else.
#[derive(Debug)]
pub struct Cleared {
    pub(in crate::inspect) head: Head,
    pub(in crate::inspect) body: Body,
    pub(in crate::inspect) admission: Admission,
}

impl Cleared {
    /// The head that was inspected.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The proof before this one.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Head, body and admission, for the stage that sends them.
    pub fn into_parts(self) -> (Head, Body, Admission) {
        (self.head, self.body, self.admission)
    }
}
