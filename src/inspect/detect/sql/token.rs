//! Cuts a text into the tokens of SQL, as the union of the common dialects reads them.

use crate::inspect::detect::sql::words::{Role, role};
use crate::inspect::detect::text::{at, find, is_space, is_word, part, skip, stands};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::inspect::detect) enum Kind {
    /// A number, also in hexadecimal or with an exponent.
    Number,
    /// A quoted text with both quotes.
    Text,
    /// A quoted text that never ends: the application's own quote closes it.
    Open,
    /// A word.
    Word(Role),
    /// `@x`, `@@x`, `:x`.
    Variable,
    /// `=`, `<>`, `->`, `@>` and other comparisons that are signs.
    Compare,
    /// `+ - * / % ^ ~ & | !`.
    Arithmetic,
    /// `||` and `&&`.
    Logic,
    Comma,
    Dot,
    Semicolon,
    OpenParen,
    CloseParen,
    /// `--` or `#`, to the end of the line.
    LineComment,
    /// `/* … */`, or `/*` without an end.
    BlockComment,
    /// `/*!50000`, whose content MySQL executes.
    Version,
    Other,
}

/// A token and the bytes that it covers.
#[derive(Clone, Copy, Debug)]
pub(in crate::inspect::detect) struct Token {
    pub(in crate::inspect::detect) kind: Kind,
    pub(in crate::inspect::detect) start: u32,
    pub(in crate::inspect::detect) end: u32,
}

impl Token {
    /// The bytes of this token.
    pub(in crate::inspect::detect) fn of<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        part(text, self.start as usize, self.end as usize)
    }
}

/// Cuts `text` from `from` on into tokens.
pub(in crate::inspect::detect) fn tokenise(text: &[u8], from: usize, out: &mut Vec<Token>) {
    out.clear();
    let mut index = from;
    while index < text.len() {
        let byte = at(text, index);
        if is_space(byte) {
            index += 1;
            continue;
        }
        let (kind, end) = token(text, index, byte);
        let small = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        out.push(Token { kind, start: small(index), end: small(end) });
        index = end.max(index + 1);
    }
}

fn token(text: &[u8], index: usize, byte: u8) -> (Kind, usize) {
    match byte {
        b'\'' | b'"' | b'`' => quoted(text, index, byte),
        b'0'..=b'9' => number(text, index),
        b'.' if at(text, index + 1).is_ascii_digit() => number(text, index),
        b'@' if at(text, index + 1) == b'>' => (Kind::Compare, index + 2),
        b'@' => (Kind::Variable, skip(text, index + 1, |b| is_word(b) || matches!(b, b'@' | b'.'))),
        b'#' => (Kind::LineComment, line_end(text, index)),
        b'-' if at(text, index + 1) == b'-' => (Kind::LineComment, line_end(text, index)),
        b'-' if at(text, index + 1) == b'>' => {
            (Kind::Compare, skip(text, index + 1, |byte| byte == b'>'))
        }
        b'/' if at(text, index + 1) == b'*' => block(text, index),
        b'*' if at(text, index + 1) == b'/' => (Kind::BlockComment, index + 2),
        b'=' | b'<' | b'>' => (
            Kind::Compare,
            skip(part(text, 0, index + 3), index, |b| matches!(b, b'=' | b'<' | b'>' | b'@')),
        ),
        b'!' if at(text, index + 1) == b'=' => (Kind::Compare, index + 2),
        b'|' if at(text, index + 1) == b'|' => (Kind::Logic, index + 2),
        b'&' if at(text, index + 1) == b'&' => (Kind::Logic, index + 2),
        b':' if at(text, index + 1) == b':' => (Kind::Other, index + 2),
        b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'~' | b'&' | b'|' | b'!' => {
            (Kind::Arithmetic, index + 1)
        }
        b',' => (Kind::Comma, index + 1),
        b'.' => (Kind::Dot, index + 1),
        b';' => (Kind::Semicolon, index + 1),
        b'(' => (Kind::OpenParen, index + 1),
        b')' => (Kind::CloseParen, index + 1),
        _ if is_word(byte) => word(text, index),
        _ => (Kind::Other, index + 1),
    }
}

fn word(text: &[u8], index: usize) -> (Kind, usize) {
    let end = skip(text, index, |byte| is_word(byte) || byte == b'$');
    // n'…', x'…', b'…' and e'…' are texts with a prefix.
    if end == index + 1
        && matches!(at(text, index), b'n' | b'x' | b'b' | b'e')
        && at(text, end) == b'\''
    {
        return quoted(text, end, b'\'');
    }
    (Kind::Word(role(part(text, index, end))), end)
}

/// A text: a doubled quote and a quote after a backslash belong to it.
fn quoted(text: &[u8], index: usize, quote: u8) -> (Kind, usize) {
    let mut end = index + 1;
    while end < text.len() {
        let byte = at(text, end);
        let doubled = byte == quote && at(text, end + 1) == quote && end > index + 1;
        if byte == b'\\' || doubled {
            end += 2;
        } else if byte == quote {
            return (Kind::Text, end + 1);
        } else {
            end += 1;
        }
    }
    (Kind::Open, text.len())
}

fn number(text: &[u8], index: usize) -> (Kind, usize) {
    if at(text, index) == b'0' && matches!(at(text, index + 1), b'x' | b'b') {
        let end = skip(text, index + 2, |byte| byte.is_ascii_hexdigit());
        return (Kind::Number, end);
    }
    let mut end = skip(text, index, |byte| byte.is_ascii_digit() || byte == b'.');
    if at(text, end) == b'e' {
        let sign = usize::from(matches!(at(text, end + 1), b'+' | b'-'));
        let digits = skip(text, end + 1 + sign, |byte| byte.is_ascii_digit());
        if digits > end + 1 + sign {
            end = digits;
        }
    }
    // 1union and 1or are a number and a word for a database; 5pm and 3d are one word for people.
    let tail = skip(text, end, is_word);
    if tail > end && !role(part(text, end, tail)).glues_to_numbers() {
        return (Kind::Word(Role::Name), tail);
    }
    (Kind::Number, end)
}

fn line_end(text: &[u8], index: usize) -> usize {
    skip(text, index, |byte| byte != b'\n')
}

fn block(text: &[u8], index: usize) -> (Kind, usize) {
    if stands(text, index, b"/*!") {
        return (Kind::Version, skip(text, index + 3, |byte| byte.is_ascii_digit()));
    }
    match find(text, index + 2, b"*/") {
        Some(end) => (Kind::BlockComment, end + 2),
        None => (Kind::BlockComment, text.len()),
    }
}
