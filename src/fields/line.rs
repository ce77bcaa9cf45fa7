//! Takes field lines apart, and refuses what is none.

use http::HeaderName;
use memchr::memchr;

use crate::fields::name::read_name;

/// The longest name of a field, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// So many lines are noted: few messages have more.
const NOTED_MAX: usize = 24;

/// Where field lines end, noted while the end of their head was searched, so that nobody searches
/// twice. What is beyond the room for notes is searched again.
#[derive(Debug, Default)]
pub struct LineEnds {
    ends: [u16; NOTED_MAX],
    noted: usize,
    lines: usize,
}

impl LineEnds {
    /// Notes that the next line ends with the LF at this byte.
    pub fn note(&mut self, end: usize) {
        if let (true, Some(place), Ok(end)) =
            (self.noted == self.lines, self.ends.get_mut(self.noted), u16::try_from(end))
        {
            *place = end;
            self.noted += 1;
        }
        self.lines += 1;
    }

    /// How many lines there are.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// The line with this number, which begins at byte `at`, without its CRLF, and where the next
    /// one begins.
    #[inline]
    pub(in crate::fields) fn line<'b>(
        &self,
        number: usize,
        at: usize,
        block: &'b [u8],
    ) -> Option<(&'b [u8], usize)> {
        let noted = self.ends.get(number).filter(|_| number < self.noted);
        let end = match noted {
            Some(end) => usize::from(*end),
            None => at + memchr(b'\n', block.get(at..)?)?,
        };
        Some((block.get(at..=end)?.strip_suffix(b"\r\n")?, end + 1))
    }
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
pub(in crate::fields) fn place_within(line: &[u8], part: &[u8]) -> usize {
    // An empty value may lie at any byte, and is empty there.
    (part.as_ptr() as usize).saturating_sub(line.as_ptr() as usize).min(line.len())
}

/// How many controls there are, tabs not counted. In single bytes and without a branch, sixteen and
/// more are looked at in one step.
pub(in crate::fields) fn controls(bytes: &[u8]) -> usize {
    let control = |byte: &u8| u8::from(((*byte < b' ') & (*byte != b'\t')) | (*byte == 0x7f));
    bytes.chunks(128).map(|part| usize::from(part.iter().map(control).sum::<u8>())).sum()
}
