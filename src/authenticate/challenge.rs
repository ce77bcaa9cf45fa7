//! What a 401 asks for: `WWW-Authenticate`, and what signatures need.

use http::HeaderValue;

/// The headers of a 401 (RFC 6750 section 3, RFC 9421 section 5, RFC 9530 section 4). Made when
/// policy compiles, so that refusing builds nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The value of `WWW-Authenticate`.
    pub www_authenticate: HeaderValue,
    /// A second value of `WWW-Authenticate`, where tokens may be bound to a key (RFC 9449, 7.1).
    pub dpop: Option<HeaderValue>,
    /// The values of `Accept-Signature`, one for each signature that the route would accept.
    pub accept_signature: Box<[HeaderValue]>,
    /// The value of `Want-Content-Digest`, where a wanted signature covers the body's digest.
    pub want_content_digest: Option<HeaderValue>,
}

impl Challenge {
    /// What a route asks for whose schemes include a bearer or not, and want these signatures.
    /// `error` is a word of RFC 6750 section 3.1, for those who showed a credential.
    pub(in crate::authenticate) fn new(
        realm: &str,
        bearer: bool,
        error: Option<&'static str>,
        accept_signature: &[HeaderValue],
    ) -> Self {
        // A 401 must carry a challenge even where nothing but a signature is accepted (RFC 9110
        // section 15.5.2).
        let scheme = match (bearer, accept_signature.is_empty()) {
            (true, _) => "Bearer",
            (false, false) => "Signature",
            (false, true) => "Certificate",
        };
        let realm: String = realm.chars().filter(|c| is_quotable(*c)).collect();
        let error = error.map(|error| format!(", error=\"{error}\"")).unwrap_or_default();
        let value = format!("{scheme} realm=\"{realm}\"{error}");
        let covers_digest = |value: &HeaderValue| {
            memchr::memmem::find(value.as_bytes(), b"\"content-digest\"").is_some()
        };
        Self {
            www_authenticate: HeaderValue::try_from(value)
                .unwrap_or_else(|_| HeaderValue::from_static("Bearer")),
            dpop: None,
            accept_signature: accept_signature.into(),
            want_content_digest: accept_signature
                .iter()
                .any(covers_digest)
                .then(|| HeaderValue::from_static("sha-256=10")),
        }
    }

    /// Adds that a token bound to a key would do, with a proof by one of these algorithms.
    pub(in crate::authenticate) fn or_dpop(
        mut self,
        error: Option<&str>,
        algorithms: &str,
    ) -> Self {
        let error = error.map(|error| format!("error=\"{error}\", ")).unwrap_or_default();
        self.dpop = HeaderValue::try_from(format!("DPoP {error}algs=\"{algorithms}\"")).ok();
        self
    }
}

/// Whether the character may stand between quotation marks in a header.
fn is_quotable(character: char) -> bool {
    matches!(character, ' '..='~') && !matches!(character, '"' | '\\')
}
