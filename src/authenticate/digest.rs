//! `Content-Digest`: what a body must hash to (RFC 9530).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use ring::digest::{Algorithm, SHA256, digest};

use crate::refusal::Reason;

/// What a body must hash to, by every supported algorithm that was sent.
#[derive(Debug)]
pub struct Expected(Vec<(&'static Algorithm, Vec<u8>)>);

impl Expected {
    /// The digests of `Content-Digest`; nothing when it was not sent.
    ///
    /// # Errors
    /// `digest-unsupported` when no algorithm is supported, or when the header is malformed.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Reason> {
        let mut expected = Vec::new();
        for value in headers.get_all("content-digest") {
            for member in value.to_str().map_err(|_| Reason::DigestUnsupported)?.split(',') {
                let digest = member.trim().strip_prefix("sha-256=:");
                let Some(digest) = digest.and_then(|digest| digest.strip_suffix(':')) else {
                    continue;
                };
                let digest = STANDARD.decode(digest).map_err(|_| Reason::DigestUnsupported)?;
                expected.push((&SHA256, digest));
            }
        }
        match (expected.is_empty(), headers.contains_key("content-digest")) {
            (true, true) => Err(Reason::DigestUnsupported),
            (true, false) => Ok(None),
            (false, _) => Ok(Some(Self(expected))),
        }
    }

    /// Compares a body with every digest.
    ///
    /// # Errors
    /// `digest-mismatch`.
    pub fn verify(&self, body: &[u8]) -> Result<(), Reason> {
        let same = |(algorithm, expected): &(&'static Algorithm, Vec<u8>)| {
            digest(algorithm, body).as_ref() == expected.as_slice()
        };
        if self.0.iter().all(same) { Ok(()) } else { Err(Reason::DigestMismatch) }
    }
}
