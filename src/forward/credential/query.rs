//! A credential in the query: the parameter of the caller with its name goes, and ours is added.

use std::fmt;

use bytes::Bytes;
use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::forward::attempt::unwritable;
use crate::refusal::Refusal;
use crate::secret::Secret;

/// What is written as it is: the unreserved characters (RFC 3986, section 2.3).
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parameter, as it is sent.
pub(in crate::forward::credential) struct Pair {
    name: Box<str>,
    written: Zeroizing<String>,
}

impl Pair {
    /// The parameter with this name and secret.
    ///
    /// # Errors
    /// The secret is no text.
    pub(in crate::forward::credential) fn new(name: &str, secret: &Secret) -> Result<Self, String> {
        let value = std::str::from_utf8(secret.expose());
        let value = value.map_err(|_| "a secret for a query is text".to_owned())?;
        let mut written = Zeroizing::new(String::with_capacity(name.len() + 1 + 3 * value.len()));
        written.extend(utf8_percent_encode(name, KEPT));
        written.push('=');
        written.extend(utf8_percent_encode(value, KEPT));
        Ok(Self { name: name.into(), written })
    }

    /// The path with a query that holds this parameter once, at its end.
    pub(in crate::forward::credential) fn inject(
        &self,
        path: &PathAndQuery,
    ) -> Result<PathAndQuery, Refusal> {
        let query = path.query().unwrap_or_default();
        let mut text = String::with_capacity(path.as_str().len() + 2 + self.written.len());
        text.push_str(path.path());
        text.push('?');
        let kept = query.split('&').filter(|pair| !pair.is_empty() && !self.is_named(pair));
        for pair in kept {
            text.push_str(pair);
            text.push('&');
        }
        text.push_str(&self.written);
        PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(|_| unwritable())
    }

    /// Whether somebody could take a pair of the caller for this parameter.
    fn is_named(&self, pair: &str) -> bool {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name).replace('+', " ");
        let name = percent_decode_str(&name).decode_utf8_lossy();
        // A service that reads arrays or ignores case takes `KEY[]` for `key`.
        let name = name.trim();
        let name = name.split_once('[').map_or(name, |(name, _)| name);
        name.eq_ignore_ascii_case(&self.name)
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pair({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(path: &'static str) -> String {
        let pair = Pair::new("key", &Secret::new(b"a&b=c d".to_vec())).unwrap();
        pair.inject(&PathAndQuery::from_static(path)).unwrap().as_str().to_owned()
    }

    #[test]
    fn the_parameter_stands_once_whatever_the_caller_sends() {
        const OURS: &str = "key=a%26b%3Dc%20d";
        assert_eq!(injected("/a"), format!("/a?{OURS}"));
        assert_eq!(injected("/a?"), format!("/a?{OURS}"));
        assert_eq!(injected("/a?b=1&c[]=2"), format!("/a?b=1&c[]=2&{OURS}"));
        for mine in
            ["key=x", "key", "k%65y=x", "KEY=x", "key[]=x", "key[0]=x", "+key=x", "%20key=x"]
        {
            let path = format!("/a?{mine}&b=1&{mine}");
            let pair = Pair::new("key", &Secret::new(b"a&b=c d".to_vec())).unwrap();
            let sent = pair.inject(&path.parse().unwrap()).unwrap();
            assert_eq!(sent.as_str(), format!("/a?b=1&{OURS}"), "{mine}");
        }
        assert_eq!(injected("/a?keys=1"), format!("/a?keys=1&{OURS}"));
    }
}
