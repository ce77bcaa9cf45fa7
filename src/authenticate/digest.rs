//! Compares a body with the `Content-Digest` that its head declared (RFC 9530).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, SHA512, digest};
use sfv::visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor};
use sfv::{BareItemFromInput, KeyRef, Parser};

use crate::authenticate::signature::fields::field_text;
use crate::fields::Fields;
use crate::refusal::Reason;

/// The digests that a body must have. At least one is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    sha256: Option<[u8; 32]>,
    sha512: Option<[u8; 64]>,
}

impl Expected {
    /// Reads `Content-Digest`; nothing when there is none. Only `sha-256` and `sha-512` count: the
    /// other registered algorithms are deprecated, and are passed over.
    ///
    /// # Errors
    /// [`Reason::DigestUnsupported`] when the field is no dictionary of byte sequences or holds no
    /// algorithm that counts, [`Reason::DigestMismatch`] when a digest has a length that no body
    /// can give it, or when one algorithm stands there twice with different digests.
    pub fn from_headers(headers: &Fields) -> Result<Option<Self>, Reason> {
        let text = match field_text(headers, "content-digest") {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(None),
            Err(_) => return Err(Reason::DigestUnsupported),
        };
        let mut found = Found { expected: Self { sha256: None, sha512: None }, contradicts: false };
        Parser::new(text.as_ref())
            .parse_dictionary_with_visitor(&mut found)
            .map_err(|_| Reason::DigestUnsupported)?;
        match found {
            Found { contradicts: true, .. } => Err(Reason::DigestMismatch),
            Found { expected: Self { sha256: None, sha512: None }, .. } => {
                Err(Reason::DigestUnsupported)
            }
            Found { expected, .. } => Ok(Some(expected)),
        }
    }

    /// Compares the whole body, as received, with every digest that was declared.
    ///
    /// # Errors
    /// [`Reason::DigestMismatch`] when one of them differs.
    pub fn verify(&self, body: &[u8]) -> Result<(), Reason> {
        let is_256 = self.sha256.is_none_or(|expected| digest(&SHA256, body).as_ref() == expected);
        let is_512 = self.sha512.is_none_or(|expected| digest(&SHA512, body).as_ref() == expected);
        if is_256 && is_512 { Ok(()) } else { Err(Reason::DigestMismatch) }
    }
}

/// The value of `Content-Digest` for this body, with `sha-256`.
pub fn sha256_value(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest(&SHA256, body)))
}

/// What a `Content-Digest` holds.
struct Found {
    expected: Expected,
    contradicts: bool,
}

/// A member whose value is no byte sequence.
#[derive(Debug)]
struct NoBytes;

impl fmt::Display for NoBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest is no byte sequence")
    }
}

impl std::error::Error for NoBytes {}

impl<'a> DictionaryVisitor<'a> for &mut Found {
    type Out = ();
    type Error = NoBytes;

    fn entry(&mut self, key: &'a KeyRef) -> Result<impl EntryVisitor<'a>, NoBytes> {
        Ok(Member { algorithm: key.as_str(), found: self })
    }

    fn finish(self) -> Result<(), NoBytes> {
        Ok(())
    }
}

/// One algorithm with its digest.
struct Member<'v, 'a> {
    algorithm: &'a str,
    found: &'v mut Found,
}

impl<'a> EntryVisitor<'a> for Member<'_, 'a> {
    type Error = NoBytes;

    fn item(self) -> Result<impl ItemVisitor<'a>, NoBytes> {
        Ok(move |value: BareItemFromInput<'a>| {
            let BareItemFromInput::ByteSequence(bytes) = value else { return Err(NoBytes) };
            let Expected { sha256, sha512 } = &mut self.found.expected;
            let fits = match self.algorithm {
                "sha-256" => put(sha256, &bytes),
                "sha-512" => put(sha512, &bytes),
                _ => true,
            };
            self.found.contradicts |= !fits;
            Ok(Ignored)
        })
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'a>, NoBytes> {
        Err::<Ignored, _>(NoBytes)
    }
}

/// Sets a digest, and says whether it has the right length and contradicts no earlier one. RFC 9651
/// would keep the last of two; a reader behind us may keep the first.
fn put<const N: usize>(place: &mut Option<[u8; N]>, bytes: &[u8]) -> bool {
    let Ok(bytes) = <[u8; N]>::try_from(bytes) else { return false };
    place.replace(bytes).is_none_or(|earlier| earlier == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9530, appendix D, without the line end that the RFC's JSON has.
    const BODY: &[u8] = br#"{"hello": "world"}"#;
    const SHA256_VALUE: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    const SHA512_VALUE: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

    fn read(lines: &[&str]) -> Result<Option<Expected>, Reason> {
        let mut headers = Fields::new();
        for line in lines {
            headers.append("content-digest", line.parse().unwrap());
        }
        Expected::from_headers(&headers)
    }

    fn compare(lines: &[&str], body: &[u8]) -> Result<(), Reason> {
        read(lines)?.ok_or(Reason::DigestMissing)?.verify(body)
    }

    #[test]
    fn the_vectors_of_the_standard_hold() {
        assert_eq!(sha256_value(BODY), SHA256_VALUE);
        assert_eq!(compare(&[SHA256_VALUE], BODY), Ok(()));
        assert_eq!(compare(&[SHA512_VALUE], BODY), Ok(()));
        assert_eq!(
            compare(&[SHA256_VALUE], b"{\"hello\": \"World\"}"),
            Err(Reason::DigestMismatch)
        );
        assert_eq!(sha256_value(b""), "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
    }

    #[test]
    fn of_several_digests_all_must_match() {
        let both = format!("{SHA256_VALUE}, {SHA512_VALUE}");
        assert_eq!(compare(&[&both], BODY), Ok(()));
        assert_eq!(compare(&[SHA256_VALUE, SHA512_VALUE], BODY), Ok(()));
        let other = sha256_value(b"other");
        assert_eq!(compare(&[&other, SHA512_VALUE], BODY), Err(Reason::DigestMismatch));
        assert_eq!(compare(&[&other, SHA512_VALUE], b"other"), Err(Reason::DigestMismatch));
        assert_eq!(compare(&[&other, SHA256_VALUE], BODY), Err(Reason::DigestMismatch));
        assert_eq!(compare(&[SHA256_VALUE, SHA256_VALUE], BODY), Ok(()));
    }

    #[test]
    fn deprecated_algorithms_prove_nothing() {
        assert_eq!(read(&[]), Ok(None));
        let md5 = "md5=:Sd/dVLAcvNLSq16eXua5uQ==:";
        assert_eq!(read(&[md5]), Err(Reason::DigestUnsupported));
        assert_eq!(compare(&[&format!("{md5}, {SHA256_VALUE}")], BODY), Ok(()));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for line in [
            "",
            "sha-256",
            "sha-256=abc",
            "sha-256=(:YQ==:)",
            "sha-256=:%%:",
            "SHA-256=:YQ==:",
            "=",
        ] {
            assert_eq!(read(&[line]), Err(Reason::DigestUnsupported), "{line}");
        }
        assert_eq!(read(&["sha-256=:YQ==:"]), Err(Reason::DigestMismatch));
        assert_eq!(read(&["sha-256=::"]), Err(Reason::DigestMismatch));
        let long = format!("{SHA256_VALUE};note=\"{}\"", "a".repeat(5000));
        assert_eq!(read(&[&long]), Err(Reason::DigestUnsupported));
    }
}
