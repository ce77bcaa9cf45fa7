//! The header fields of a message: a short list in the order in which they came.
//!
//! Messages have few fields and are asked for many that are not there. Going through a list of a
//! dozen names, nearly all of which are one byte to compare, costs less than one hash; and a list
//! keeps the order of the wire, which a map does not. Values that came over the wire stay where
//! they came, in the one block that all of them share. How long a list may grow is for whoever reads
//! a message to bound: all lookups walk through it.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use memchr::memchr;

/// The longest name of a field, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// The header fields of a message, in the order in which they came. A name may stand more than once.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// What the values of a read head lie in.
    block: Bytes,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    name: HeaderName,
    place: Place,
}

/// Where a value is.
#[derive(Clone, Debug)]
enum Place {
    /// In the block.
    Block(Range<u32>),
    /// Here, and short.
    Short(Short),
    /// Elsewhere.
    Own(HeaderValue),
}

/// The longest value that lies in its line, in bytes.
const SHORT_BYTES_MAX: usize = 36;

/// A short value, which needs no memory of its own: visible ASCII and blanks.
#[derive(Clone, Copy, Debug)]
pub struct Short {
    bytes: [u8; SHORT_BYTES_MAX],
    length: u8,
    passing: bool,
}

impl Short {
    /// The value that these parts make; nothing when it is too long for its line, or no text.
    pub fn of(parts: &[&[u8]]) -> Option<Self> {
        let mut short = Self { bytes: [0; SHORT_BYTES_MAX], length: 0, passing: false };
        let mut at = 0;
        for part in parts {
            short.bytes.get_mut(at..at + part.len())?.copy_from_slice(part);
            at += part.len();
        }
        short.length = u8::try_from(at).ok()?;
        short.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~')).then_some(short)
    }

    /// Marks a value that will never be sent again, so that HTTP/2 does not drive lasting ones out
    /// of its table for it (RFC 7541, section 6.2.3).
    #[must_use]
    pub fn passing(self) -> Self {
        Self { passing: true, ..self }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// The value of a field: bytes that a header may hold (RFC 9110, section 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(&'a [u8]);

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

impl std::fmt::Display for NotText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the value is no text")
    }
}

impl std::error::Error for NotText {}

/// What a field can be asked for by: its name as a value, or as text in lower case.
pub trait Named {
    /// Whether this is that name.
    fn is(&self, name: &HeaderName) -> bool;
}

impl Named for HeaderName {
    #[inline]
    fn is(&self, name: &HeaderName) -> bool {
        self == name
    }
}

impl Named for &HeaderName {
    #[inline]
    fn is(&self, name: &HeaderName) -> bool {
        *self == name
    }
}

impl Named for &str {
    #[inline]
    fn is(&self, name: &HeaderName) -> bool {
        name.as_str() == *self
    }
}

/// What a field can be named by when it is written: a name, or a constant text in lower case.
pub trait Naming {
    /// The name.
    fn name(self) -> HeaderName;
}

impl Naming for HeaderName {
    #[inline]
    fn name(self) -> HeaderName {
        self
    }
}

impl Naming for &HeaderName {
    #[inline]
    fn name(self) -> HeaderName {
        self.clone()
    }
}

impl Naming for &'static str {
    fn name(self) -> HeaderName {
        HeaderName::from_static(self)
    }
}

impl Fields {
    /// No fields.
    pub const fn new() -> Self {
        Self { block: Bytes::new(), lines: Vec::new() }
    }

    /// No fields, with room for so many.
    pub fn with_capacity(count: usize) -> Self {
        Self { block: Bytes::new(), lines: Vec::with_capacity(count) }
    }

    /// Reads the field lines that stand in `block` from byte `start` up to the empty line that ends
    /// them, showing each to `see`; `count` is how many there may be, for room.
    ///
    /// A name is a token directly followed by its colon (RFC 9112, section 5.1), so that a blank
    /// before the colon and a folded line are refused. Values are shown without the blanks around
    /// them, and hold no control but tabs.
    ///
    /// # Errors
    /// `malformed` where a line is none; what `see` says otherwise.
    pub fn read<E: Copy>(
        block: &Bytes,
        start: usize,
        count: usize,
        malformed: E,
        mut see: impl FnMut(&HeaderName, &[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut lines = Vec::with_capacity(count);
        let mut at = start;
        let mut rest = block.get(start..).unwrap_or_default();
        let place = |at: usize| u32::try_from(at).map_err(|_| malformed);
        while let Some((line, following)) = split_line(rest) {
            if line.is_empty() {
                break;
            }
            let (name, value) = split_field(line).ok_or(malformed)?;
            see(&name, value)?;
            // The value ends where its line does, but for blanks.
            let value_start = at + place_within(line, value);
            let place = Place::Block(place(value_start)?..place(value_start + value.len())?);
            lines.push(Line { name, place });
            at += line.len() + 2;
            rest = following;
        }
        // Each line has the two controls of its end, and no other but tabs.
        let written = block.get(start..at).unwrap_or_default();
        if controls(written) != 2 * lines.len() {
            return Err(malformed);
        }
        Ok(Self { block: block.clone(), lines })
    }

    /// How many fields there are; a name that stands twice counts twice.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    #[inline]
    fn value<'a>(&'a self, line: &'a Line) -> Value<'a> {
        match &line.place {
            Place::Block(Range { start, end }) => {
                Value(self.block.get(*start as usize..*end as usize).unwrap_or_default())
            }
            Place::Short(short) => Value(short.as_bytes()),
            Place::Own(value) => Value(value.as_bytes()),
        }
    }

    /// The first value of the field with this name.
    #[inline]
    pub fn get(&self, wanted: impl Named) -> Option<Value<'_>> {
        self.lines.iter().find(|line| wanted.is(&line.name)).map(|line| self.value(line))
    }

    /// All values of the field with this name, in their order.
    #[inline]
    pub fn get_all<N: Named>(&self, wanted: N) -> All<'_, N> {
        All { fields: self, rest: self.lines.iter(), wanted }
    }

    /// Whether a field with this name is there.
    #[inline]
    pub fn contains_key(&self, wanted: impl Named) -> bool {
        self.lines.iter().any(|line| wanted.is(&line.name))
    }

    /// The names, each as often as it stands.
    pub fn keys(&self) -> impl Iterator<Item = &HeaderName> {
        self.lines.iter().map(|line| &line.name)
    }

    /// The values.
    pub fn values(&self) -> impl Iterator<Item = Value<'_>> {
        self.lines.iter().map(|line| self.value(line))
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, Value<'_>)> {
        self.lines.iter().map(|line| (&line.name, self.value(line)))
    }

    /// Adds a field behind all others, beside those of its name.
    #[inline]
    pub fn append(&mut self, name: impl Naming, value: HeaderValue) {
        self.lines.push(Line { name: name.name(), place: Place::Own(value) });
    }

    /// Sets a field: the first of its name has this value then, and no other is left.
    pub fn insert(&mut self, name: impl Naming, value: HeaderValue) {
        self.set(name.name(), Place::Own(value));
    }

    /// As [`insert`](Self::insert), with a value that needs no memory of its own.
    pub fn insert_short(&mut self, name: impl Naming, value: Short) {
        self.set(name.name(), Place::Short(value));
    }

    fn set(&mut self, name: HeaderName, place: Place) {
        let mut lines = self.lines.iter_mut();
        let Some(first) = lines.find(|line| line.name == name) else {
            return self.lines.push(Line { name, place });
        };
        first.place = place;
        if lines.any(|line| line.name == name) {
            let mut seen = false;
            self.lines.retain(|line| line.name != name || !std::mem::replace(&mut seen, true));
        }
    }

    /// Takes out all fields of this name. Tells whether there was one.
    pub fn remove(&mut self, unwanted: impl Named) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| !unwanted.is(&line.name));
        self.lines.len() < before
    }

    /// Keeps only the fields that are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&HeaderName) -> bool) {
        self.lines.retain(|line| wanted(&line.name));
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

/// Splits a line that ends in CRLF from what follows.
pub fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) = bytes.split_at_checked(memchr(b'\n', bytes)? + 1)?;
    Some((line.strip_suffix(b"\r\n")?, rest))
}

/// Reads `name: value` (RFC 9112, section 5) without its CRLF. The value comes without the blanks
/// around it; what bytes it has is not looked at.
pub fn split_field(line: &[u8]) -> Option<(HeaderName, &[u8])> {
    // Names are short: going through them costs less than a search made for long texts.
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    Some((read_name(name)?, trimmed(value.strip_prefix(b":")?)))
}

/// The value without the blanks around it.
pub fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// At which byte of a line a part of it begins.
fn place_within(line: &[u8], part: &[u8]) -> usize {
    // An empty value may lie at any byte, and is empty there.
    (part.as_ptr() as usize).saturating_sub(line.as_ptr() as usize).min(line.len())
}

/// How many controls there are, tabs not counted. In single bytes and without a branch, sixteen and
/// more are looked at in one step.
fn controls(bytes: &[u8]) -> usize {
    let control = |byte: &u8| u8::from(((*byte < b' ') & (*byte != b'\t')) | (*byte == 0x7f));
    bytes.chunks(128).map(|part| usize::from(part.iter().map(control).sum::<u8>())).sum()
}

/// The name that these bytes spell, in any case (RFC 9110, section 5.1); nothing when they are no
/// token.
pub fn read_name(bytes: &[u8]) -> Option<HeaderName> {
    usual(bytes).or_else(|| HeaderName::from_bytes(bytes).ok())
}

/// Names that most messages have, in the two spellings that are in use. Few comparisons of whole
/// words tell them, where the general way looks at each byte.
fn usual(bytes: &[u8]) -> Option<HeaderName> {
    Some(match bytes.len() {
        4 => match bytes {
            b"Host" | b"host" => header::HOST,
            b"Date" | b"date" => header::DATE,
            b"ETag" | b"etag" => header::ETAG,
            b"Vary" | b"vary" => header::VARY,
            _ => return None,
        },
        6 => match bytes {
            b"Accept" | b"accept" => header::ACCEPT,
            b"Cookie" | b"cookie" => header::COOKIE,
            b"Server" | b"server" => header::SERVER,
            b"Origin" | b"origin" => header::ORIGIN,
            _ => return None,
        },
        10 => match bytes {
            b"User-Agent" | b"user-agent" => header::USER_AGENT,
            b"Connection" | b"connection" => header::CONNECTION,
            _ => return None,
        },
        12 => match bytes {
            b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
            _ => return None,
        },
        13 => match bytes {
            b"Authorization" | b"authorization" => header::AUTHORIZATION,
            b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
            _ => return None,
        },
        14 => match bytes {
            b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
            _ => return None,
        },
        15 => match bytes {
            b"Accept-Encoding" | b"accept-encoding" => header::ACCEPT_ENCODING,
            b"Accept-Language" | b"accept-language" => header::ACCEPT_LANGUAGE,
            _ => return None,
        },
        17 => match bytes {
            b"Transfer-Encoding" | b"transfer-encoding" => header::TRANSFER_ENCODING,
            _ => return None,
        },
        _ => return None,
    })
}

/// The values of one field, in their order.
#[derive(Clone, Debug)]
pub struct All<'a, N> {
    fields: &'a Fields,
    rest: std::slice::Iter<'a, Line>,
    wanted: N,
}

impl<'a, N: Named> Iterator for All<'a, N> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        let line = self.rest.find(|line| self.wanted.is(&line.name))?;
        Some(self.fields.value(line))
    }
}

impl<N: Named> DoubleEndedIterator for All<'_, N> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let line = self.rest.rfind(|line| self.wanted.is(&line.name))?;
        Some(self.fields.value(line))
    }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Self::with_capacity(map.len());
        let mut last = None;
        for (name, value) in map {
            // A map names only the first of several.
            last = name.or(last);
            if let Some(name) = &last {
                fields.append(name.clone(), value);
            }
        }
        fields
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        let Fields { block, lines } = fields;
        let mut map = Self::with_capacity(lines.len());
        for Line { name, place } in lines {
            let value = match place {
                Place::Own(value) => Some(value),
                Place::Short(short) => {
                    let value = HeaderValue::from_bytes(short.as_bytes()).ok();
                    value.map(|mut value| {
                        value.set_sensitive(short.passing);
                        value
                    })
                }
                Place::Block(Range { start, end }) => {
                    let value = block.slice(start as usize..end as usize);
                    // It was looked at when it was read.
                    HeaderValue::from_maybe_shared(value).ok()
                }
            };
            if let Some(value) = value {
                map.append(name, value);
            }
        }
        map
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        let own = |(name, value)| Line { name, place: Place::Own(value) };
        Self { block: Bytes::new(), lines: fields.into_iter().map(own).collect() }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, COOKIE, HOST};

    use super::*;

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    fn some() -> Fields {
        Fields::from_iter([(COOKIE, value("a")), (HOST, value("h")), (COOKIE, value("b"))])
    }

    #[test]
    fn fields_keep_the_order_of_the_wire() {
        let fields = some();
        let names: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["cookie", "host", "cookie"]);
        assert_eq!(fields.get_all(COOKIE).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(fields.get("host").unwrap(), "h");
        assert!(!fields.contains_key(ACCEPT));
    }

    #[test]
    fn what_is_set_stands_once_and_what_is_taken_out_is_gone() {
        let mut fields = some();
        fields.insert(COOKIE, value("c"));
        assert_eq!(fields.iter().map(|(_, value)| value).collect::<Vec<_>>(), ["c", "h"]);
        fields.insert(ACCEPT, value("*/*"));
        fields.append(COOKIE, value("d"));
        assert!(fields.remove(COOKIE));
        assert_eq!(fields.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["host", "accept"]);
        assert!(!fields.remove("cookie"));
    }

    #[test]
    fn usual_names_are_what_the_general_way_reads() {
        for name in [
            "Host",
            "Date",
            "ETag",
            "Vary",
            "Accept",
            "Cookie",
            "Server",
            "Origin",
            "User-Agent",
            "Connection",
            "Content-Type",
            "Authorization",
            "Cache-Control",
            "Content-Length",
            "Accept-Encoding",
            "Accept-Language",
            "Transfer-Encoding",
        ] {
            for spelt in [name.to_owned(), name.to_lowercase()] {
                let usual = usual(spelt.as_bytes());
                assert_eq!(usual, HeaderName::from_bytes(spelt.as_bytes()).ok(), "{spelt}");
            }
            let upper = name.to_uppercase();
            assert_eq!(read_name(upper.as_bytes()), name.to_lowercase().parse().ok());
        }
        assert_eq!(read_name(b"Hos t"), None);
        assert_eq!(read_name(b""), None);
    }

    #[test]
    fn short_values_are_those_that_fit_and_are_text() {
        let mut fields = Fields::new();
        fields.insert_short(HOST, Short::of(&[b"a", b"", b"b c"]).unwrap().passing());
        assert_eq!(fields.get(HOST).unwrap(), "ab c");
        assert!(HeaderMap::from(fields).get(HOST).unwrap().is_sensitive());
        assert!(Short::of(&[&[b'x'; 36]]).is_some());
        assert!(Short::of(&[&[b'x'; 36], b"x"]).is_none());
        assert!(Short::of(&[b"a\r\nb: c"]).is_none());
    }

    #[test]
    fn lines_are_read_as_they_stand() {
        let read = |text: &'static str| {
            let block = Bytes::from_static(text.as_bytes());
            Fields::read(&block, 2, 4, "malformed", |_, _| Ok(()))
        };
        let fields = read("GET a:b\r\nEmpty:\r\nx-c: \t 1 2\t\r\n\r\nhidden: 1\r\n");
        assert_eq!(fields.err(), Some("malformed"), "a name holds no blank");
        let fields = read("..a:b\r\nEmpty:\r\nx-c: \t 1\t2\t\r\n\r\nhidden: 1\r\n").unwrap();
        let shown: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        assert_eq!(shown, [("a", &b"b"[..]), ("empty", b""), ("x-c", b"1\t2")]);
        for bad in [
            "..a: b\rc\r\n\r\n",
            "..a: \0\r\n\r\n",
            "..a: \x7f\r\n\r\n",
            "..a : b\r\n\r\n",
            ".. a: b\r\n\r\n",
            "..a\r\n\r\n",
            "..: b\r\n\r\n",
        ] {
            assert_eq!(read(bad).err(), Some("malformed"), "{bad:?}");
        }
    }

    #[test]
    fn maps_and_fields_hold_the_same() {
        let map = HeaderMap::from(some());
        assert_eq!(map.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a", "b"]);
        let back = Fields::from(map);
        assert_eq!(back.len(), 3);
        assert_eq!(back.get_all("cookie").collect::<Vec<_>>(), ["a", "b"]);
    }
}
