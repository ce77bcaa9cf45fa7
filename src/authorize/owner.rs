//! Which value of a request must be the caller's own subject.

use std::fmt;

use percent_encoding::percent_decode_str;

use crate::head::Head;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Reading, suggest};
use crate::route::Parameters;

/// A value of the request that names an owner.
#[derive(Debug)]
pub(in crate::authorize) enum Owner {
    /// A parameter of the path.
    Path(Box<str>),
    /// A parameter of the query.
    Query(Box<str>),
}

impl Owner {
    pub(in crate::authorize) fn compile(
        written: &At<String>,
        parameters: &[&str],
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        match written.split_once('.') {
            Some(("path", name)) if parameters.contains(&name) => Some(Self::Path(name.into())),
            Some(("path", name)) => {
                let says = format!("the route's pattern has no parameter `{name}`");
                let help = suggest(name, parameters.iter().copied());
                reading.wrong(Code::Undefined, &written.span, says, help);
                None
            }
            Some(("query", name)) if !name.is_empty() => Some(Self::Query(name.into())),
            _ => {
                let says = format!("`{}` does not name a value of the request", written.value);
                let help = "write \"path.NAME\" or \"query.NAME\"";
                reading.wrong(Code::WrongValue, &written.span, says, help);
                None
            }
        }
    }

    pub(in crate::authorize) fn is(
        &self,
        subject: &str,
        head: &Head,
        parameters: &Parameters,
    ) -> bool {
        let value = match self {
            Self::Path(name) => parameters.get(name),
            Self::Query(name) => head.query.as_deref().and_then(|query| only_value(query, name)),
        };
        // A credential without a subject owns nothing, not even the empty value.
        !subject.is_empty()
            && value.is_some_and(|value| percent_decode_str(value).eq(subject.bytes()))
    }
}

/// The value of the only parameter with this name, still encoded.
///
/// Nothing when services could read the query in more than one way: the name stands twice, in any
/// case, or the query has a `;`, which some take for `&`, or the value a `+`, which some take for a
/// space. The owner must be beyond doubt.
fn only_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    if query.contains(';') {
        return None;
    }
    let mut values = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let same = percent_decode_str(key)
            .map(|byte| byte.to_ascii_lowercase())
            .eq(name.bytes().map(|byte| byte.to_ascii_lowercase()));
        same.then_some((key, value))
    });
    let (key, value) = values.next()?;
    let exact = percent_decode_str(key).eq(name.bytes());
    (values.next().is_none() && exact && !value.contains('+')).then_some(value)
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(name) => write!(f, "path.{name}"),
            Self::Query(name) => write!(f, "query.{name}"),
        }
    }
}
