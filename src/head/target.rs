//! Cuts a request target into authority, path and query, in the forms that a gateway accepts.

use http::{Method, Version};
use memchr::memchr;

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
    if memchr(b'#', target.as_bytes()).is_some() {
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
    match memchr(b'?', target.as_bytes()).and_then(|at| target.split_at_checked(at)) {
        Some((path, query)) => (path, query.strip_prefix('?')),
        None => (target, None),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::head::tests::get;
    use crate::listen::Peer;
    use crate::refusal::Reason;

    #[test]
    fn a_redirect_keeps_the_whole_target() {
        for (target, location) in [
            ("/a?b=c", "https://example.com:8443/a?b=c"),
            ("/a?next=https://b.test/x", "https://example.com:8443/a?next=https://b.test/x"),
            ("http://example.com/a?b=c", "https://example.com:8443/a?b=c"),
            ("http://example.com?b", "https://example.com:8443/?b"),
            ("/", "https://example.com:8443/"),
        ] {
            let mut head = get(target).read().unwrap();
            head.peer = Arc::new(Peer { redirect_port: Some(8443), ..Peer::clone(&head.peer) });
            assert_eq!(head.redirect().unwrap(), location, "{target}");
        }
    }

    #[test]
    fn a_key_in_the_path_is_refused_like_one_in_the_query() {
        let key = format!("/a/%70cl_dev_{}/b", "a".repeat(48));
        let refusal = get(&key).read().unwrap_err();
        assert_eq!(refusal.reason, Reason::CredentialInQuery);
        assert!(get("/a/pcl_dev_list/b").read().is_ok());
    }
}
