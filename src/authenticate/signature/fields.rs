//! Takes the texts of `Signature-Input` and `Signature` from a head, within fixed bounds.

use std::borrow::Cow;
use std::fmt;

use http::HeaderName;

use crate::fields::Fields;
use crate::fields::name::Named;

/// The most bytes that either header may have, all its lines together.
pub const FIELD_BYTES_MAX: usize = 4096;
/// The most signatures that one request may carry.
pub const LABELS_MAX: usize = 4;

/// The header that says what signatures cover.
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// The header that holds them.
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");

/// What is wrong where a structured field holds bytes that none holds.
pub(super) const BEYOND_ASCII: Malformed = Malformed("a field holds bytes beyond ASCII");

/// The texts of the two headers of a signed request, as the bytes that came: who reads them looks at
/// every byte, and once is enough.
#[derive(Debug)]
pub struct Texts<'h> {
    /// `Signature-Input`.
    pub inputs: Cow<'h, [u8]>,
    /// `Signature`.
    pub signatures: Cow<'h, [u8]>,
}

impl<'h> Texts<'h> {
    /// The two headers; nothing when both are absent. One without the other is a broken signature,
    /// not an unsigned request.
    ///
    /// # Errors
    /// Also when one is longer than [`FIELD_BYTES_MAX`].
    pub fn of(headers: &'h Fields) -> Result<Option<Self>, Malformed> {
        let (mut inputs, mut signatures) = (None, None);
        for (name, line) in headers.iter() {
            // In one walk: most fields are told from both by what kind of name they have.
            if *name == SIGNATURE {
                join(&mut signatures, line.as_bytes())?;
            } else if *name == SIGNATURE_INPUT {
                join(&mut inputs, line.as_bytes())?;
            }
        }
        match (inputs, signatures) {
            (None, None) => Ok(None),
            (Some(inputs), Some(signatures)) => Ok(Some(Self { inputs, signatures })),
            (Some(_), None) => Err(Malformed("Signature-Input without Signature")),
            (None, Some(_)) => Err(Malformed("Signature without Signature-Input")),
        }
    }
}

/// What is wrong with a signature's form, in a few words for the record. Holds nothing of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// All lines of a header as one text, joined as RFC 9110, 5.3 has it; nothing when it is absent.
///
/// # Errors
/// When it is longer than [`FIELD_BYTES_MAX`] or holds bytes that no structured field holds.
pub fn field_text<'h>(
    headers: &'h Fields,
    name: impl Named,
) -> Result<Option<Cow<'h, str>>, Malformed> {
    let text = match field_bytes(headers, name)? {
        None => return Ok(None),
        Some(Cow::Borrowed(bytes)) => ascii(bytes).map(Cow::Borrowed),
        Some(Cow::Owned(bytes)) => ascii(&bytes).map(|text| Cow::Owned(text.to_owned())),
    };
    text.map(Some).ok_or(BEYOND_ASCII)
}

/// The same as the bytes that came, of which nothing is known yet.
fn field_bytes<'h>(
    headers: &'h Fields,
    name: impl Named,
) -> Result<Option<Cow<'h, [u8]>>, Malformed> {
    let mut whole = None;
    for line in headers.get_all(name) {
        join(&mut whole, line.as_bytes())?;
    }
    Ok(whole)
}

/// Adds one more line to a field.
fn join<'h>(whole: &mut Option<Cow<'h, [u8]>>, line: &'h [u8]) -> Result<(), Malformed> {
    const TOO_LONG: Malformed = Malformed("a field is too long");
    let bytes = match whole.take() {
        None => Cow::Borrowed(line),
        Some(before) if before.len().saturating_add(line.len()) > FIELD_BYTES_MAX => {
            return Err(TOO_LONG);
        }
        Some(before) => Cow::Owned([&*before, b", ", line].concat()),
    };
    if bytes.len() > FIELD_BYTES_MAX {
        return Err(TOO_LONG);
    }
    *whole = Some(bytes);
    Ok(())
}

/// The text of bytes, if they are ASCII. What stands in a header is never a control character.
pub(super) fn ascii(bytes: &[u8]) -> Option<&str> {
    bytes.is_ascii().then(|| str::from_utf8(bytes).ok())?
}
