//! The values of fields: as they came over the wire, and short ones of our own.

use std::fmt;

use http::HeaderValue;

/// The longest value that lies in its line, in bytes.
const SHORT_BYTES_MAX: usize = 36;

/// A short value, which needs no memory of its own: visible ASCII and blanks.
#[derive(Clone, Copy)]
pub struct Short {
    bytes: [u8; SHORT_BYTES_MAX],
    length: u8,
    passing: bool,
}

impl Short {
    /// The value that these parts make; nothing when it is too long for its line, or no text.
    pub fn of(parts: &[&[u8]]) -> Option<Self> {
        let mut short = Self { bytes: [0; SHORT_BYTES_MAX], length: 0, passing: false };
        let (mut is_text, mut left) = (true, short.bytes.iter_mut());
        // The parts are a few bytes each: they are not worth a call each.
        for part in parts {
            for byte in *part {
                *left.next()? = *byte;
                is_text &= matches!(byte, b' '..=b'~');
            }
        }
        short.length = u8::try_from(SHORT_BYTES_MAX - left.len()).ok()?;
        is_text.then_some(short)
    }

    /// Marks a value that will never be sent again, so that HTTP/2 does not drive lasting ones out
    /// of its table for it (RFC 7541, section 6.2.3).
    #[must_use]
    pub fn passing(self) -> Self {
        Self { passing: true, ..self }
    }

    pub(in crate::fields) fn to_header_value(self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(self.as_bytes()).ok()?;
        value.set_sensitive(self.passing);
        Some(value)
    }

    pub(in crate::fields) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// The value of a field: bytes that a header may hold (RFC 9110, section 5.5).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a>(pub(in crate::fields) &'a [u8]);

impl<'a> Value<'a> {
    /// The bytes.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The value as text.
    ///
    /// # Errors
    /// It holds other than visible ASCII, blanks and tabs.
    pub fn to_str(self) -> Result<&'a str, NotText> {
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
        let text = std::str::from_utf8(self.0).ok().filter(|_| self.0.iter().all(is_text));
        text.ok_or(NotText)
    }

    /// How many bytes it has.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The same as a value of its own.
    pub fn to_header_value(self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.0).ok()
    }
}

/// Its length alone: it may be a secret.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, text: &str) -> bool {
        self.0 == text.as_bytes()
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, text: &&str) -> bool {
        self.0 == text.as_bytes()
    }
}

impl<'a> From<&'a HeaderValue> for Value<'a> {
    fn from(value: &'a HeaderValue) -> Self {
        Self(value.as_bytes())
    }
}

/// A value is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotText;

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value is no text")
    }
}

impl std::error::Error for NotText {}
