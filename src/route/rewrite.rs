//! Gives the service another path than the caller used, made of the route's own parameters.

use std::sync::Arc;

use crate::head::path::canonical;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Reading, suggest};
use crate::refusal::{Reason, Refusal};
use crate::route::Parameters;
use crate::route::pattern::{Kind, Pattern, Segment, read_parameter, read_path};

/// A route's `rewrite`, compiled: a path whose parameters are those of the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite(Box<[Segment]>);

impl Rewrite {
    /// Reads `rewrite`: a path such as `/v2/tasks/{id}` or `/internal/{rest...}`. Reports as
    /// [`Code::BadRewrite`] what is not a path, and parameters that `pattern` does not have.
    pub fn compile(
        written: &At<String>,
        pattern: &Pattern,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let mut wrong = Vec::new();
        let segments = read_path(written, &mut wrong, |braces| read_own_parameter(braces, pattern));
        if wrong.is_empty() {
            return Some(Self(segments.into()));
        }
        for (says, help) in wrong {
            reading.wrong(Code::BadRewrite, &written.span, says, help);
        }
        None
    }

    /// Whether a request that `own`, the pattern of this rewrite's route, matches can come out at a
    /// path that `other` matches.
    pub fn may_reach(&self, own: &Pattern, other: &Pattern) -> bool {
        // A rewrite names parameters only; what they may be stands in the pattern.
        let kind = |name: &Arc<str>| {
            let found = own.parameters().find(|(known, _)| *known == name);
            found.and_then(|(_, kind)| kind).unwrap_or(Kind::Any)
        };
        let mut theirs = other.segments().iter();
        for segment in &self.0 {
            let fits = match (segment, theirs.next()) {
                (_, None) => return false,
                (Segment::Rest(_), Some(_)) | (_, Some(Segment::Rest(_))) => return true,
                (Segment::Literal(text), Some(Segment::Literal(other))) => text == other,
                (Segment::Literal(text), Some(Segment::Parameter(_, other))) => other.accepts(text),
                (Segment::Parameter(name, _), Some(Segment::Literal(other))) => {
                    kind(name).accepts(other)
                }
                (Segment::Parameter(name, _), Some(Segment::Parameter(_, other))) => {
                    kind(name).overlaps(*other)
                }
            };
            if !fits {
                return false;
            }
        }
        theirs.next().is_none()
    }

    /// The path for the service. It may be another route's: `policy::weaker` refuses policies in which
    /// that one asks for more proof.
    ///
    /// # Errors
    /// [`Reason::PathAmbiguous`] when the result is not canonical, or is longer than a path may be.
    /// Parameters of the route's own pattern can only make it too long.
    pub fn apply(&self, parameters: &Parameters) -> Result<Box<str>, Refusal> {
        let refused = |why: &'static str| Refusal::new(Reason::PathAmbiguous).because(why);
        let mut path = String::with_capacity(64);
        for segment in &self.0 {
            path.push('/');
            match segment {
                Segment::Literal(text) => path.push_str(text),
                Segment::Parameter(name, _) | Segment::Rest(name) => path.push_str(
                    parameters.get(name).ok_or_else(|| refused("a rewrite lacks a parameter"))?,
                ),
            }
        }
        match canonical(&path) {
            Ok(same) if *same == *path => Ok(same),
            Ok(_) => Err(refused("a rewrite made a path that is not canonical")),
            Err(why) => Err(refused(why)),
        }
    }
}

fn read_own_parameter(braces: &str, pattern: &Pattern) -> Result<Segment, (String, String)> {
    let segment = read_parameter(braces)?;
    let (name, is_rest): (&Arc<str>, bool) = match &segment {
        Segment::Parameter(name, Kind::Any) => (name, false),
        Segment::Rest(name) => (name, true),
        Segment::Parameter(name, _) => {
            return Err((
                format!("`{{{braces}}}` gives a type in a rewrite"),
                format!("types stand in `match`; write {{{name}}} here"),
            ));
        }
        Segment::Literal(_) => return Ok(segment),
    };
    match pattern.parameters().find(|(known, _)| *known == name) {
        None => Err((
            format!("`{name}` is not a parameter of \"{pattern}\""),
            suggest(name, pattern.parameters().map(|(name, _)| &**name).collect::<Vec<_>>()),
        )),
        Some((_, kind)) if kind.is_none() != is_rest => Err((
            format!("`{{{braces}}}` and `match` disagree on whether `{name}` is the rest"),
            if is_rest { format!("write {{{name}}}") } else { format!("write {{{name}...}}") },
        )),
        Some(_) => Ok(segment),
    }
}
