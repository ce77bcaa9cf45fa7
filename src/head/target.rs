//! Cuts a request target into authority, path and query, in the forms that a gateway accepts.

use http::{Method, Version};

use crate::head::host::{Authority, port_default};
use crate::refusal::{Reason, Refusal};

/// The parts of a request target; nothing in them is decoded yet.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::head) struct Target<'a> {
    /// What an absolute-form target names; nothing for the other forms.
    pub authority: Option<Authority>,
    /// The path, or `*`.
    pub path: &'a str,
    /// What follows the first `?`.
    pub query: Option<&'a str>,
}

/// Reads origin-form, on HTTP/1 also absolute-form, and `*` for OPTIONS (RFC 9112, section 3.2).
///
/// The target is cut before anything is decoded, and never by a URL parser: `//admin` is a path
/// with an empty segment, not a host.
///
/// # Errors
/// [`Reason::TargetMalformed`] for every other form, and for a `#` anywhere.
pub(in crate::head) fn split<'a>(
    target: &'a str,
    method: &Method,
    version: Version,
) -> Result<Target<'a>, Refusal> {
    let malformed = |why: &'static str| Refusal::new(Reason::TargetMalformed).because(why);
    if target.contains('#') {
        return Err(malformed("the target has a fragment"));
    }
    if target == "*" {
        return match *method {
            Method::OPTIONS => Ok(Target { authority: None, path: "*", query: None }),
            _ => Err(malformed("only OPTIONS may ask for *")),
        };
    }
    if target.starts_with('/') {
        let (path, query) = path_and_query(target);
        return Ok(Target { authority: None, path, query });
    }
    if version == Version::HTTP_2 {
        return Err(malformed("the path does not begin with a slash"));
    }
    let (scheme, rest) = target.split_once("://").ok_or_else(|| malformed("not a path"))?;
    let scheme = ["http", "https"]
        .into_iter()
        .find(|known| scheme.eq_ignore_ascii_case(known))
        .ok_or_else(|| malformed("the scheme is neither http nor https"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let authority = Authority::read(authority, port_default(scheme)).map_err(malformed)?;
    let (path, query) = path_and_query(rest);
    let path = if path.is_empty() { "/" } else { path };
    Ok(Target { authority: Some(authority), path, query })
}

fn path_and_query(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}
