//! What a route's `match` says: a method and a path with parameters, `GET /v1/tasks/{id:uuid}`.

use std::fmt;
use std::sync::Arc;

use http::Method;

use crate::head::METHODS;
use crate::head::path::canonical;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Reading, suggest};

/// The most segments that a pattern may have.
pub const SEGMENTS_MAX: usize = 64;
/// The most parameters that a pattern may have.
pub const PARAMETERS_MAX: usize = 16;

/// What a parameter accepts, from narrow to wide. Where several fit, the first one here is taken,
/// so that two routes never claim the same segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `{id:uuid}`: 8-4-4-4-12 hexadecimal digits in either case (RFC 9562).
    Uuid,
    /// `{id:int}`: a decimal number from 0 to 2⁶³−1 without leading zeros.
    Int,
    /// `{id:ulid}`: 26 characters of Crockford's base 32, in either case.
    Ulid,
    /// `{id:hex}`: hexadecimal digits in either case.
    Hex,
    /// `{id:slug}`: lower-case letters, digits and hyphens.
    Slug,
    /// `{id}`: any segment that is not empty.
    Any,
}

/// One step of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text, in canonical form. Empty only at the end, for a slash there.
    Literal(Box<str>),
    /// One segment, whose text becomes the value of a parameter.
    Parameter(Arc<str>, Kind),
    /// Everything that is left: one or more segments, or nothing after a slash at the end.
    /// `/api/{rest...}` matches `/api/a/b` and `/api/`, and not `/api`.
    Rest(Arc<str>),
}

/// A route's `match`, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    method: Option<Method>,
    segments: Box<[Segment]>,
}

impl Kind {
    /// All kinds, from narrow to wide.
    pub const ALL: [Self; 6] =
        [Self::Uuid, Self::Int, Self::Ulid, Self::Hex, Self::Slug, Self::Any];

    /// The name, as patterns write it after the colon; empty for any.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Int => "int",
            Self::Ulid => "ulid",
            Self::Hex => "hex",
            Self::Slug => "slug",
            Self::Any => "",
        }
    }

    /// Whether a segment of a canonical path is of this kind.
    pub fn accepts(self, segment: &str) -> bool {
        let bytes = segment.as_bytes();
        match self {
            Self::Uuid => {
                bytes.len() == 36
                    && bytes.iter().enumerate().all(|(at, byte)| match at {
                        8 | 13 | 18 | 23 => *byte == b'-',
                        _ => byte.is_ascii_hexdigit(),
                    })
            }
            Self::Int => {
                (segment == "0" || !segment.starts_with('0'))
                    && bytes.iter().all(u8::is_ascii_digit)
                    && segment.parse::<i64>().is_ok()
            }
            Self::Ulid => {
                bytes.len() == 26
                    && bytes.first().is_some_and(|first| matches!(first, b'0'..=b'7'))
                    && bytes.iter().all(|byte| {
                        byte.is_ascii_alphanumeric()
                            && !matches!(byte.to_ascii_uppercase(), b'I' | b'L' | b'O' | b'U')
                    })
            }
            Self::Hex => !bytes.is_empty() && bytes.iter().all(u8::is_ascii_hexdigit),
            Self::Slug => {
                let fits = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
                !bytes.is_empty() && bytes.iter().all(fits)
            }
            Self::Any => !bytes.is_empty(),
        }
    }

    /// Whether there are segments of both kinds.
    pub fn overlaps(self, other: Self) -> bool {
        let apart = |one, two| match (one, two) {
            // These differ in length, or in whether they have hyphens.
            (Self::Uuid, Self::Int | Self::Ulid | Self::Hex) | (Self::Int, Self::Ulid) => true,
            (Self::Uuid | Self::Int | Self::Ulid | Self::Hex | Self::Slug | Self::Any, _) => false,
        };
        !apart(self, other) && !apart(other, self)
    }

    /// A segment of this kind and of no narrower one, for witness requests.
    pub fn example(self) -> &'static str {
        match self {
            Self::Uuid => "0b5f3c1e-7a42-4d0c-9b1e-2f6a8c4d7e10",
            Self::Int => "42",
            Self::Ulid => "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            Self::Hex => "c0ffee",
            Self::Slug => "some-name",
            Self::Any => "Any~thing",
        }
    }
}

impl Pattern {
    /// Reads `match`: one method or `*`, a space, and a path. Reports all that is wrong with it as
    /// [`Code::BadPattern`].
    ///
    /// Parameters are whole segments. Literals must be written in canonical form, because only
    /// canonical paths are ever compared with them. A slash at the end is significant.
    pub fn compile(written: &At<String>, reading: &mut Reading<'_>) -> Option<Self> {
        match Self::read(written) {
            Ok(pattern) => Some(pattern),
            Err(wrong) => {
                for (says, help) in wrong {
                    reading.wrong(Code::BadPattern, &written.span, says, help);
                }
                None
            }
        }
    }

    /// The same without a place.
    ///
    /// # Errors
    /// All that is wrong: for each a sentence that says what is so, and one that helps.
    pub fn read(text: &str) -> Result<Self, Vec<(String, String)>> {
        let mut wrong = Vec::new();
        let Some((method, path)) = text.split_once(' ') else {
            wrong.push((
                format!("`{text}` has no method"),
                "write one method or *, a space and a path: \"GET /v1/tasks\"".to_owned(),
            ));
            return Err(wrong);
        };
        let method = read_method(method, &mut wrong);
        let segments = read_segments(path, &mut wrong);
        match method {
            Some(method) if wrong.is_empty() => {
                Ok(Self { text: text.into(), method, segments: segments.into() })
            }
            _ => Err(wrong),
        }
    }

    /// The pattern as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The one method; nothing for `*`, which is for every method.
    pub fn method(&self) -> Option<&Method> {
        self.method.as_ref()
    }

    /// The segments, from left to right.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The parameters from left to right, each with its kind; nothing for the rest.
    pub fn parameters(&self) -> impl Iterator<Item = (&Arc<str>, Option<Kind>)> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Parameter(name, kind) => Some((name, Some(*kind))),
            Segment::Rest(name) => Some((name, None)),
        })
    }

    /// A request line that this matches, without a host: `GET /v1/tasks/42`.
    pub fn example(&self) -> (Method, String) {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            path.push_str(match segment {
                Segment::Literal(text) => text,
                Segment::Parameter(_, kind) => kind.example(),
                Segment::Rest(_) => "any/thing",
            });
        }
        (self.method.clone().unwrap_or(Method::GET), path)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The parameter that a segment in braces names: `{name}`, `{name:kind}` or `{name...}`.
///
/// # Errors
/// A sentence that says what is so, and one that helps.
pub(in crate::route) fn read_parameter(braces: &str) -> Result<Segment, (String, String)> {
    let (name, kind) = match braces.split_once(':') {
        Some((name, kind)) => (name, Some(kind)),
        None => (braces, None),
    };
    let (name, is_rest) = match name.strip_suffix("...") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let mut bytes = name.bytes();
    let is_name = bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if !is_name {
        return Err((
            format!("`{{{braces}}}` does not name a parameter"),
            "names are letters, digits, _ and -, and begin with a letter: {id}".to_owned(),
        ));
    }
    let kinds = || Kind::ALL.into_iter().map(Kind::name).filter(|name| !name.is_empty());
    match kind {
        Some(_) if is_rest => Err((
            format!("`{{{braces}}}` gives the rest of a path a type"),
            format!("write {{{name}...}}"),
        )),
        None if is_rest => Ok(Segment::Rest(name.into())),
        None => Ok(Segment::Parameter(name.into(), Kind::Any)),
        Some(written) => {
            let known = Kind::ALL
                .into_iter()
                .find(|kind| !kind.name().is_empty() && kind.name() == written);
            match known {
                Some(kind) => Ok(Segment::Parameter(name.into(), kind)),
                None => Err((
                    format!("`{written}` is not a type of parameter"),
                    suggest(written, kinds().collect::<Vec<_>>()),
                )),
            }
        }
    }
}

/// Cuts a path of a pattern or a rewrite into segments, each read on its own, and reports what no
/// segment can see: a missing slash, an empty segment, and text that is not canonical.
pub(in crate::route) fn read_path(
    path: &str,
    wrong: &mut Vec<(String, String)>,
    parameter: impl Fn(&str) -> Result<Segment, (String, String)>,
) -> Vec<Segment> {
    let Some(path) = path.strip_prefix('/') else {
        wrong.push((
            format!("`{path}` does not begin with a slash"),
            format!("write /{}", path.trim_start_matches([' ', '/'])),
        ));
        return Vec::new();
    };
    let count = path.split('/').count();
    if count > SEGMENTS_MAX {
        wrong.push((
            format!("the path has {count} segments"),
            format!("at most {SEGMENTS_MAX} are possible; end it with {{rest...}}"),
        ));
        return Vec::new();
    }
    let mut segments = Vec::with_capacity(count);
    for (number, text) in path.split('/').enumerate() {
        let is_last = number + 1 == count;
        let braces = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let segment = match braces {
            Some(braces) if !braces.contains(['{', '}']) => parameter(braces),
            _ => read_literal(text, is_last),
        };
        match segment {
            Ok(Segment::Rest(name)) if !is_last => wrong.push((
                format!("`{{{name}...}}` is not at the end"),
                "only the last segment can take the rest of a path".to_owned(),
            )),
            Ok(segment) => segments.push(segment),
            Err(why) => wrong.push(why),
        }
    }
    segments
}

fn read_literal(text: &str, is_last: bool) -> Result<Segment, (String, String)> {
    if text.contains(['{', '}']) {
        return Err((
            format!("`{text}` mixes text and a parameter"),
            "a parameter is a whole segment, between slashes: /tasks/{id}".to_owned(),
        ));
    }
    if text.is_empty() && !is_last {
        return Err((
            "the path has an empty segment".to_owned(),
            "write one slash between segments".to_owned(),
        ));
    }
    match canonical(&format!("/{text}")) {
        Ok(path) if path.strip_prefix('/') == Some(text) => Ok(Segment::Literal(text.into())),
        Ok(path) => Err((
            format!("`{text}` is never seen in this form"),
            format!(
                "write `{}`, as paths are compared in canonical form",
                &path.trim_start_matches('/')
            ),
        )),
        Err(why) => Err((
            format!("`{text}` can never match: {why}"),
            "such requests are refused before routes are looked at".to_owned(),
        )),
    }
}

fn read_method(text: &str, wrong: &mut Vec<(String, String)>) -> Option<Option<Method>> {
    if text == "*" {
        return Some(None);
    }
    let known = METHODS.iter().find(|method| method.as_str() == text);
    if known.is_none() {
        let names: Vec<&str> = METHODS.iter().map(Method::as_str).chain(["*"]).collect();
        let upper = text.to_ascii_uppercase();
        let help = match names.contains(&upper.as_str()) {
            true => format!("methods are in upper case: {upper}"),
            false => suggest(text, names.iter().copied()),
        };
        wrong.push((format!("`{text}` is not a method that is served"), help));
    }
    known.map(|method| Some(method.clone()))
}

fn read_segments(path: &str, wrong: &mut Vec<(String, String)>) -> Vec<Segment> {
    let segments = read_path(path, wrong, read_parameter);
    let mut names: Vec<&Arc<str>> = Vec::new();
    for segment in &segments {
        let (Segment::Parameter(name, _) | Segment::Rest(name)) = segment else { continue };
        if names.contains(&name) {
            wrong.push((
                format!("the parameter `{name}` stands twice"),
                "give each parameter a name of its own".to_owned(),
            ));
        }
        names.push(name);
    }
    if names.len() > PARAMETERS_MAX {
        wrong.push((
            format!("the path has {} parameters", names.len()),
            format!("at most {PARAMETERS_MAX} are possible"),
        ));
    }
    segments
}
