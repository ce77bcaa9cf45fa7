//! Reads a tag of HTML and its attributes as forgivingly as browsers do.

use crate::inspect::detect::text::{at, find, is_space, part, skip};

/// Bytes of one tag that are read; longer attributes are cut, and reading goes on behind.
const TAG_BYTES_MAX: usize = 2048;

/// A tag.
pub(in crate::inspect::detect) struct Tag<'t> {
    /// The name, for example `img`.
    pub(in crate::inspect::detect) name: &'t [u8],
    /// Whether it is an end tag.
    pub(in crate::inspect::detect) closes: bool,
    /// What stands between the name and `>`.
    pub(in crate::inspect::detect) attributes: &'t [u8],
    /// Whether there is no `>`.
    pub(in crate::inspect::detect) open_ended: bool,
    /// Whether a slash stands in the place of a space: `<svg/onload=…>`.
    pub(in crate::inspect::detect) slashed: bool,
    /// Where the tag ends.
    pub(in crate::inspect::detect) end: usize,
}

/// An attribute with its value.
pub(in crate::inspect::detect) struct Attribute<'t> {
    pub(in crate::inspect::detect) name: &'t [u8],
    pub(in crate::inspect::detect) value: &'t [u8],
    /// Whether there is a `=`.
    pub(in crate::inspect::detect) valued: bool,
}

impl Attribute<'_> {
    /// Whether this is a handler of events: `onclick`, `onmouseover`.
    pub(in crate::inspect::detect) fn is_handler(&self) -> bool {
        is_handler(self.name)
    }
}

/// Whether a name is that of a handler of events. Browsers know hundreds, and add more.
pub(in crate::inspect::detect) fn is_handler(name: &[u8]) -> bool {
    name.len() >= 5
        && name.starts_with(b"on")
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | 0))
        && !matches!(
            name,
            b"online"
                | b"ongoing"
                | b"onset"
                | b"onward"
                | b"onwards"
                | b"onboarding"
                | b"onetime"
                | b"onsite"
                | b"onhold"
                | b"oneof"
                | b"ontime"
        )
}

/// The tag that begins with the `<` at `place`.
pub(in crate::inspect::detect) fn tag(text: &[u8], place: usize) -> Option<Tag<'_>> {
    // Some parsers pass over NUL and white space where browsers do not; filters of output too.
    let mut from =
        skip(part(text, 0, place + 8), place + 1, |byte| matches!(byte, 0 | 0x0b | 0x0c));
    let closes = at(text, from) == b'/';
    from += usize::from(closes);
    if !at(text, from).is_ascii_alphabetic() {
        return None;
    }
    let name_end = skip(part(text, 0, from + 64), from, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'_')
    });
    let next = at(text, name_end);
    let delimited = is_space(next)
        || matches!(next, b'/' | b'>' | b'<' | b'"' | b'\'' | b'%' | b'+')
        || name_end >= text.len();
    if !delimited {
        return None;
    }
    let limit = text.len().min(name_end + TAG_BYTES_MAX);
    let (stop, found) = tag_end(text, name_end, limit);
    Some(Tag {
        name: part(text, from, name_end),
        closes,
        attributes: part(text, name_end, stop).trim_ascii(),
        open_ended: !found,
        slashed: next == b'/' && at(text, name_end + 1) != b'>',
        end: stop,
    })
}

/// The `>` that ends a tag: not one between quotes that follow a `=`.
fn tag_end(text: &[u8], from: usize, limit: usize) -> (usize, bool) {
    let text = part(text, 0, limit);
    let mut index = from;
    let mut after_equals = false;
    while index < text.len() {
        let byte = at(text, index);
        match byte {
            b'>' => return (index, true),
            b'<' if index > from => return (index, false),
            b'"' | b'\'' | b'`' if after_equals => {
                let close = find(text, index + 1, &[byte]);
                index = close.unwrap_or(index);
                after_equals = false;
            }
            b'=' => after_equals = true,
            _ if is_space(byte) => {}
            _ => after_equals = false,
        }
        index += 1;
    }
    (text.len(), false)
}

/// The attributes of a tag, in their order.
pub(in crate::inspect::detect) fn attributes<'t>(
    tag: &Tag<'t>,
) -> impl Iterator<Item = Attribute<'t>> + use<'t> {
    let inside = tag.attributes;
    let mut index = 0;
    std::iter::from_fn(move || {
        let separates = |byte| {
            is_space(byte) || matches!(byte, b'/' | b'"' | b'\'' | b'`' | b',' | b';' | b'+' | b'%')
        };
        index = skip(inside, index, separates);
        if index >= inside.len() {
            return None;
        }
        let begin = index;
        index = skip(inside, index, |byte| {
            !is_space(byte) && !matches!(byte, b'=' | b'/' | b'"' | b'\'' | b'+')
        });
        let name = part(inside, begin, index);
        let equals = skip(inside, index, |byte| is_space(byte) || byte == b'+');
        if at(inside, equals) != b'=' {
            index = index.max(begin + 1);
            return Some(Attribute { name, value: b"", valued: false });
        }
        let from = skip(inside, equals + 1, is_space);
        let quote = at(inside, from);
        let (value, end) = if matches!(quote, b'"' | b'\'' | b'`') {
            let close = find(inside, from + 1, &[quote]).unwrap_or(inside.len());
            (part(inside, from + 1, close), close + 1)
        } else {
            let end = skip(inside, from, |byte| !is_space(byte));
            (part(inside, from, end), end)
        };
        index = end.max(begin + 1);
        Some(Attribute { name, value, valued: true })
    })
}
