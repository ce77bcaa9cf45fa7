//! What the filters are shown: one field of a request at a time, with its place, and what they may object.

use std::fmt::Display;

use crate::mistake::source::Origin;
use crate::refusal::Reason;

/// The part of a request in which a field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaceKind {
    /// The path: a segment of it, decoded.
    Path,
    /// The query: a name or a value, decoded.
    Query,
    /// The headers: a value.
    Header,
    /// The body: a member's name, a text, a form's pair, decoded.
    Body,
}

impl PlaceKind {
    /// The name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Body => "body",
        }
    }
}

/// Where a field stands.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The part of the request.
    pub kind: PlaceKind,
    /// The name of the field, written only when somebody asks: `query.status`, `body.tags[3]`.
    pub name: &'a dyn Display,
}

/// What a filter has against a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// Why.
    pub reason: Reason,
    /// The rule that objects.
    pub origin: Origin,
    /// What only the record may know; short and cleaned.
    pub detail: Box<str>,
    /// Whether the rule only watches: the request passes, and the record says what was seen.
    pub observe: bool,
}

/// What looks at fields: the filters of a route, as one.
pub trait Examine: Send + Sync {
    /// Whether any filter looks into this part of a request. What none looks into is not decoded.
    fn looks_in(&self, kind: PlaceKind) -> bool;

    /// Looks at one field. The text is decoded once, as the service will decode it.
    fn examine(&self, place: &Place<'_>, text: &str) -> Option<Objection>;
}
