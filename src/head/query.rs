//! Checks a query without changing it, reads its parameters, and finds credentials that stand in it.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem;
use percent_encoding::percent_decode;

use crate::head::path::{decodes_to_utf8, triplet};
use crate::refusal::{Reason, Refusal};

/// The longest query that is read, in bytes.
pub const QUERY_BYTES_MAX: usize = 8 * 1024;
/// The most parameters that a query may have.
pub const QUERY_PARAMETERS_MAX: usize = 256;

/// Names of parameters that hold a credential, with `_` written as `-`, in lower case. Plain `key`
/// and `token` are not among them: cursors and sort keys are called so.
const CREDENTIAL_NAMES: [&str; 5] =
    ["api-key", "apikey", "x-api-key", "access-token", "authorization"];
/// How the gateway's own keys begin, and how long their secret part is.
const KEY_PREFIX: &str = "pcl_";
/// Prepared once: making a search costs more than searching a path.
static KEY_FINDER: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new(KEY_PREFIX));
const KEY_SECRET_BYTES: usize = 40;

/// Checks a query. It is forwarded as sent, so all that is asked is that everybody reads it alike:
/// visible ASCII, whole percent triplets, UTF-8, no NUL. `[` and `]` may stand plain, as may
/// whatever else the URL standard leaves plain in a query.
///
/// # Errors
/// [`Reason::QueryMalformed`], or [`Reason::TargetTooLong`] beyond [`QUERY_BYTES_MAX`], or
/// [`Reason::CredentialInQuery`] when a parameter is named like a credential or looks like one of
/// our keys: URLs end up in logs and histories.
pub(in crate::head) fn check(query: &str) -> Result<(), Refusal> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(Refusal::new(Reason::TargetTooLong).because("the query is longer than 8 KiB"));
    }
    let malformed = |why: &'static str| Err(Refusal::new(Reason::QueryMalformed).because(why));
    let mut encoded = false;
    let mut parameters = 1_usize;
    for byte in query.bytes() {
        match byte {
            b'%' => encoded = true,
            b'&' => parameters += 1,
            b'"' | b'<' | b'>' | b'#' => return malformed("the query has a plain \", <, > or #"),
            b'!'..=b'~' => {}
            _ => return malformed("the query has a space, a control or a byte beyond ASCII"),
        }
    }
    if parameters > QUERY_PARAMETERS_MAX {
        return malformed("the query has more than 256 parameters");
    }
    if encoded {
        check_triplets(query)?;
    }
    let exposed = |why: &'static str, text: &str| {
        Err(Refusal::new(Reason::CredentialInQuery).because(why).exposing(text))
    };
    if let Some((_, value)) = pairs(query).find(|(name, _)| names_credential(name)) {
        return exposed("a parameter's name says so", &value);
    }
    if memmem::find(query.as_bytes(), b"pcl").is_some() {
        let mut texts = pairs(query).flat_map(|(name, value)| [name, value]);
        if let Some(text) = texts.find(|text| holds_key(text)) {
            return exposed("a parameter is a key", &text);
        }
    }
    Ok(())
}

/// The parameters of a query in their order, decoded as forms are (`+` is a space). A parameter
/// without `=` has an empty value. Nothing is allocated for what is not encoded.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn check_triplets(query: &str) -> Result<(), Refusal> {
    let malformed = |why: &'static str| Err(Refusal::new(Reason::QueryMalformed).because(why));
    let mut beyond_ascii = false;
    let mut rest = query;
    while let Some((_, after)) = rest.split_once('%') {
        match triplet(after) {
            None => return malformed("the query has a malformed percent triplet"),
            Some((0, _)) => return malformed("the query has an encoded NUL"),
            Some((byte, after)) => {
                beyond_ascii |= !byte.is_ascii();
                rest = after;
            }
        }
    }
    if beyond_ascii && !decodes_to_utf8(query) {
        return malformed("the query is not UTF-8");
    }
    Ok(())
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let spaced: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    let bytes: Vec<u8> = percent_decode(&spaced).collect();
    // A checked query decodes to UTF-8, so nothing is lost here.
    Cow::Owned(String::from_utf8(bytes).unwrap_or_default())
}

fn names_credential(name: &str) -> bool {
    let folded = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    CREDENTIAL_NAMES
        .iter()
        .any(|known| known.len() == name.len() && name.bytes().map(folded).eq(known.bytes()))
}

/// Whether the text holds `pcl_`, an environment, `_`, and a secret's worth of letters and digits.
pub(in crate::head) fn holds_key(text: &str) -> bool {
    KEY_FINDER.find_iter(text.as_bytes()).any(|at| {
        let Some((environment, secret)) =
            text.get(at + KEY_PREFIX.len()..).and_then(|rest| rest.split_once('_'))
        else {
            return false;
        };
        !environment.is_empty()
            && environment.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && secret.bytes().take_while(u8::is_ascii_alphanumeric).count() >= KEY_SECRET_BYTES
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(query: &str) -> Option<Reason> {
        check(query).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn what_everybody_reads_alike_passes() {
        for query in [
            "",
            "a",
            "a=1&b=2",
            "dueDate[lt]=2026-01-01",
            "q=a+b%20c",
            "a=%0A",
            "q={x|y}^`\\",
            "key=1",
            "token=abc",
            "sort_key=a",
            "q=caf%C3%A9",
            "a=1&a=2",
            "&&",
            "a=b=c",
            "x=a?b/c",
            "next=pcl_live_short",
            "a=50%25",
        ] {
            assert_eq!(reason(query), None, "{query}");
        }
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for query in [
            "a=\u{7f}",
            "a=\n",
            "a=\0",
            "a=é",
            "a b",
            "a=%",
            "a=%4",
            "a=%zz",
            "a=%+1",
            "a=%00",
            "a=%c0%af",
            "a=%ff",
            "a=%c3&b=%a9",
            "a=\"",
            "a=<",
            "a=>",
            "a=#",
        ] {
            assert_eq!(reason(query), Some(Reason::QueryMalformed), "{query:?}");
        }
        let fits = vec!["a"; QUERY_PARAMETERS_MAX].join("&");
        assert_eq!(reason(&fits), None);
        assert_eq!(reason(&format!("{fits}&a")), Some(Reason::QueryMalformed));
        assert_eq!(reason(&"a".repeat(QUERY_BYTES_MAX)), None);
        assert_eq!(reason(&"a".repeat(QUERY_BYTES_MAX + 1)), Some(Reason::TargetTooLong));
    }

    #[test]
    fn credentials_in_a_query_are_found() {
        let secret = "0123456789abcdefghijABCDEFGHIJ0123456789";
        for query in [
            "api_key=x".to_owned(),
            "a=1&API-Key=x".to_owned(),
            "apikey".to_owned(),
            "X_Api_Key=".to_owned(),
            "access_token=x".to_owned(),
            "Authorization=Bearer+x".to_owned(),
            "%61pi_key=x".to_owned(),
            format!("q=pcl_live_{secret}"),
            format!("q=see%20pcl_live_{secret}"),
            format!("q=pcl%5Flive%5f{secret}"),
            format!("pcl_t1_{secret}"),
            format!("q=pcl_pcl_x_{secret}"),
        ] {
            assert_eq!(reason(&query), Some(Reason::CredentialInQuery), "{query}");
        }
        assert_eq!(reason(&format!("q=pcl_live_{}", &secret[1..])), None);
        assert_eq!(reason(&format!("q=pcl_LIVE_{secret}")), None);
    }

    #[test]
    fn parameters_are_decoded_and_borrowed_where_they_can_be() {
        let read: Vec<_> = pairs("a=1&b+c=d%26e&&f&due[lt]=x=y").collect();
        assert_eq!(
            read,
            [("a", "1"), ("b c", "d&e"), ("f", ""), ("due[lt]", "x=y")]
                .map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)))
        );
        assert!(
            pairs("a=1")
                .all(|(name, value)| matches!((name, value), (Cow::Borrowed(_), Cow::Borrowed(_))))
        );
    }
}
