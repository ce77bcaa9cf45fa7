//! Takes a request apart into the fields that the filters look at, each decoded once.

mod multipart;

use std::fmt::{self, Display, Write};

use http::header::{COOKIE, HeaderName};

use crate::fields::Fields as HeaderFields;
use crate::inspect::Observed;
use crate::inspect::content::{Kind, Media};
use crate::inspect::decode;
use crate::inspect::field::{Examine, Place, PlaceKind};
use crate::inspect::json::pointer::{Member, Pointer, clip};
use crate::inspect::json::{Fields, Part};
use crate::inspect::look::multipart::Parts;
use crate::refusal::{Reason, Refusal};
use crate::route::Parameters;

/// Bytes of a field's name that a record may show.
const NAME_BYTES_MAX: usize = 120;

/// Shows fields to the filters. What they only watch is noted, and what they object to ends the look.
pub(in crate::inspect) struct Look<'a> {
    pub(in crate::inspect) examine: &'a dyn Examine,
    pub(in crate::inspect) observed: &'a mut Observed,
}

impl Look<'_> {
    /// Shows the segments of a canonical path.
    pub(in crate::inspect) fn path(
        &mut self,
        path: &str,
        parameters: &Parameters,
    ) -> Result<(), Refusal> {
        if !self.examine.looks_in(PlaceKind::Path) {
            return Ok(());
        }
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            let text =
                decode::percent(segment).ok_or_else(|| Refusal::new(Reason::PathAmbiguous))?;
            self.field(PlaceKind::Path, &InPath { segment, parameters }, &text)?;
        }
        Ok(())
    }

    /// Shows the names and values of a query.
    pub(in crate::inspect) fn query(&mut self, query: Option<&str>) -> Result<(), Refusal> {
        let Some(query) = query.filter(|_| self.examine.looks_in(PlaceKind::Query)) else {
            return Ok(());
        };
        for pair in decode::pairs(query) {
            let (name, value) = pair.ok_or_else(|| Refusal::new(Reason::QueryMalformed))?;
            let place = Named { part: "query", name: &name };
            self.field(PlaceKind::Query, &place, &name)?;
            self.field(PlaceKind::Query, &place, &value)?;
        }
        Ok(())
    }

    /// Shows the values of all headers that hold no secret.
    pub(in crate::inspect) fn headers(&mut self, headers: &HeaderFields) -> Result<(), Refusal> {
        if !self.examine.looks_in(PlaceKind::Header) {
            return Ok(());
        }
        for (name, value) in headers.iter().filter(|(name, _)| !is_secret(name)) {
            let text = String::from_utf8_lossy(value.as_bytes());
            if name != COOKIE {
                let place = Named { part: "header", name: name.as_str() };
                self.field(PlaceKind::Header, &place, &text)?;
                continue;
            }
            for cookie in text.split(';') {
                let (name, value) = cookie.trim().split_once('=').unwrap_or(("", cookie));
                let place = Named { part: "header.cookie", name };
                self.field(PlaceKind::Header, &place, name)?;
                self.field(PlaceKind::Header, &place, value)?;
            }
        }
        Ok(())
    }

    /// Shows what a whole body holds, unless it is JSON, which [`Fields`] shows.
    ///
    /// # Errors
    /// `body-malformed` when it is not what its type says, because then nobody knows what the
    /// service will read.
    pub(in crate::inspect) fn body(&mut self, media: &Media, body: &[u8]) -> Result<(), Refusal> {
        match media.kind() {
            Kind::Json | Kind::Opaque => Ok(()),
            Kind::Text => self.field(PlaceKind::Body, &"body", utf8(body)?),
            Kind::Form => {
                for pair in decode::pairs(utf8(body)?) {
                    let (name, value) = pair.ok_or_else(|| malformed("a broken escape"))?;
                    self.member(&name, &name)?;
                    self.member(&name, &value)?;
                }
                Ok(())
            }
            Kind::Multipart => {
                let boundary = media.boundary.as_deref().unwrap_or_default();
                for part in Parts::new(body, boundary).ok_or_else(|| malformed("no boundary"))? {
                    let part = part.map_err(malformed)?;
                    self.member(&part.name, &part.name)?;
                    match part.file.as_deref() {
                        // A nameless file is a plain field to some services.
                        None | Some("") => self.member(&part.name, utf8(part.content)?)?,
                        Some(file) => self.member(&part.name, file)?,
                    }
                }
                Ok(())
            }
        }
    }

    fn member(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        self.field(PlaceKind::Body, &InBody(name), text)
    }

    /// Shows one field.
    fn field(&mut self, kind: PlaceKind, name: &dyn Display, text: &str) -> Result<(), Refusal> {
        let Some(mut objection) = self.examine.examine(&Place { kind, name }, text) else {
            return Ok(());
        };
        objection.detail = format!("{}: {}", clip(name, NAME_BYTES_MAX), objection.detail).into();
        if objection.observe {
            self.observed.note(objection);
            return Ok(());
        }
        Err(Refusal::new(objection.reason)
            .by(&objection.origin)
            .because(String::from(objection.detail)))
    }
}

impl Fields for Look<'_> {
    const READS: bool = true;

    fn text(&mut self, at: &Pointer<'_>, _: Part, text: &str) -> Result<(), Refusal> {
        self.field(PlaceKind::Body, at, text)
    }
}

/// Headers that hold secrets and proofs, which no record may show a piece of.
fn is_secret(name: &HeaderName) -> bool {
    matches!(name.as_str(), "authorization" | "x-api-key" | "signature" | "signature-input")
}

fn utf8(body: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(body).map_err(|_| malformed("not UTF-8"))
}

fn malformed(why: &'static str) -> Refusal {
    Refusal::new(Reason::BodyMalformed).because(why)
}

/// `path.taskId` for the value of a parameter, and `path` for other segments.
struct InPath<'a> {
    segment: &'a str,
    parameters: &'a Parameters,
}

impl Display for InPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parameters.0.iter().find(|(_, value)| **value == *self.segment) {
            Some((name, _)) => write!(f, "path.{name}"),
            None => f.write_str("path"),
        }
    }
}

/// `query.status`, `header.user-agent`. Nothing stands behind the name, so it needs no quotes.
struct Named<'a> {
    part: &'static str,
    name: &'a str,
}

impl Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.part)?;
        for character in self.name.chars() {
            match character {
                _ if character.is_control() => write!(f, "{}", character.escape_default())?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// `body.title`, as for JSON.
struct InBody<'a>(&'a str);

impl Display for InBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "body{}", Member(self.0))
    }
}
