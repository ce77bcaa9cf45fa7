//! Strings: where plain text ends, which escapes are good, and what they stand for.

use crate::inspect::json::Stop;
use crate::refusal::Reason;

/// A string as it stands between its quotes.
#[derive(Clone, Copy)]
pub(in crate::inspect::json) struct Literal {
    pub(in crate::inspect::json) start: usize,
    pub(in crate::inspect::json) end: usize,
    /// Whether it has escapes, so that it means something other than what is written.
    pub(in crate::inspect::json) escaped: bool,
}

/// Reads from behind the opening quote. The bytes are known to be UTF-8. Gives the position of the
/// flaw with it.
pub(in crate::inspect::json) fn literal(
    bytes: &[u8],
    start: usize,
) -> Result<Literal, (usize, Stop)> {
    let mut at = start;
    let mut escaped = false;
    loop {
        at = plain_end(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok(Literal { start, end: at, escaped }),
            Some(b'\\') => {
                escaped = true;
                at += escape(bytes.get(at + 1..).unwrap_or_default()).map_err(|stop| (at, stop))?;
            }
            Some(_) => return Err((at, Stop::Flaw(Reason::JsonText, "a raw control character"))),
            None => {
                return Err((at, Stop::Flaw(Reason::JsonMalformed, "a string without its end")));
            }
        }
    }
}

/// The first position from `at` on that holds a quote, a backslash or a control character.
///
/// Eight bytes at a time: a byte is what we look for if subtracting from it borrows. A borrow can
/// only mislead about later bytes, so the first one found is right.
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_le_bytes([0x01; 8]);
    const TOPS: u64 = u64::from_le_bytes([0x80; 8]);
    const fn each(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let (words, tail) = bytes.get(at..).unwrap_or_default().as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let quote = (word ^ each(b'"')).wrapping_sub(ONES) & !(word ^ each(b'"'));
        let backslash = (word ^ each(b'\\')).wrapping_sub(ONES) & !(word ^ each(b'\\'));
        let control = word.wrapping_sub(each(0x20)) & !word;
        let found = (quote | backslash | control) & TOPS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let ends = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    at + tail.iter().position(ends).unwrap_or(tail.len())
}

/// Checks one escape, given what follows its backslash, and says how long it is with it.
fn escape(after: &[u8]) -> Result<usize, Stop> {
    match after {
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Ok(2),
        [b'u', rest @ ..] => match hex(rest) {
            None => Err(Stop::Flaw(Reason::JsonMalformed, "a \\u without four hex digits")),
            Some(0) => Err(Stop::Flaw(Reason::JsonText, "an escaped NUL")),
            Some(0xD800..=0xDBFF) => match rest.get(4..) {
                Some([b'\\', b'u', low @ ..]) if matches!(hex(low), Some(0xDC00..=0xDFFF)) => {
                    Ok(12)
                }
                _ => Err(Stop::Flaw(Reason::JsonText, "half of a surrogate pair")),
            },
            Some(0xDC00..=0xDFFF) => Err(Stop::Flaw(Reason::JsonText, "half of a surrogate pair")),
            Some(_) => Ok(6),
        },
        _ => Err(Stop::Flaw(Reason::JsonMalformed, "an escape that JSON does not have")),
    }
}

/// The value of the first four bytes, if they are hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u32> {
    digits
        .first_chunk::<4>()?
        .iter()
        .try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

/// Appends what a string means whose escapes have been checked.
pub(in crate::inspect::json) fn unescape(written: &str, into: &mut String) {
    let mut rest = written;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        into.push_str(plain);
        let (character, length) = meaning(escaped.as_bytes());
        into.push(character);
        rest = escaped.get(length..).unwrap_or_default();
    }
    into.push_str(rest);
}

/// The character that a checked escape stands for, and its length without the backslash.
fn meaning(after: &[u8]) -> (char, usize) {
    let plain = match after.first() {
        Some(b'u') => {
            let digits = after.get(1..).unwrap_or_default();
            let high = hex(digits).unwrap_or_default();
            return match digits.get(6..).and_then(hex) {
                Some(low) if (0xD800..0xDC00).contains(&high) => {
                    (wide(0x1_0000 + ((high & 0x3FF) << 10) + (low & 0x3FF)), 11)
                }
                _ => (wide(high), 5),
            };
        }
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(byte) => char::from(*byte),
        None => char::REPLACEMENT_CHARACTER,
    };
    (plain, 1)
}

fn wide(code: u32) -> char {
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}
