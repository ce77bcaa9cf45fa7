//! Takes field lines apart, and refuses what is none.

use http::HeaderName;
use memchr::memchr;

use crate::fields::name::read_name;

/// The longest name of a field, in bytes.
const NAME_BYTES_MAX: usize = 256;

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
