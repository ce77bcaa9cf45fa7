//! Takes one layer of encoding off a text, as a careless service behind might.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::inspect::detect::marks::Marks;
use crate::inspect::detect::text::{at, find, is_space, part, skip, stands};

/// What taking one layer off did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::inspect::detect) struct Peeled {
    /// Whether anything changed at all.
    pub(in crate::inspect::detect) changed: bool,
    /// Whether there was percent-encoding.
    pub(in crate::inspect::detect) percent: bool,
}

/// Whether a text with these marks could have a layer to take off.
pub(in crate::inspect::detect) fn is_layered(marks: Marks, text: &[u8]) -> bool {
    let telling = Marks::PERCENT | Marks::AMP | Marks::BACKSLASH | Marks::SPECIAL | Marks::CONTROL;
    marks.any(telling) || has_plus_for_space(marks) || looks_like_base64(text)
}

/// Whether every space may be written as `+`, as forms do.
fn has_plus_for_space(marks: Marks) -> bool {
    marks.any(Marks::PLUS) && !marks.any(Marks::SPACE | Marks::LINE)
}

/// Takes one layer off `text` into `out`: percent, HTML entities, escapes of JavaScript, JSON and
/// SQL, base64 of the whole, and characters that fold into ASCII.
pub(in crate::inspect::detect) fn peel(
    text: &[u8],
    decoded: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Peeled {
    decoded.clear();
    out.clear();
    if looks_like_base64(text) && unbase64(text.trim_ascii(), out) {
        return Peeled { changed: true, percent: false };
    }
    let plus = has_plus_for_space(Marks::of_bytes(text));
    let mut peeled = Peeled::default();
    let mut index = 0;
    while let Some(&byte) = text.get(index) {
        let (used, code) = match byte {
            b'%' => percent(text, index),
            b'&' => entity(text, index),
            b'\\' => escape(text, index),
            // NUL splits words for those who look, and vanishes for many who parse.
            0 => (1, None),
            b'+' if plus => (1, Some(Code::Byte(b' '))),
            _ => (0, None),
        };
        if used == 0 {
            decoded.push(byte);
            index += 1;
            continue;
        }
        peeled.changed = true;
        peeled.percent |= byte == b'%';
        match code {
            Some(Code::Byte(byte)) => decoded.push(byte),
            Some(Code::Character(character)) => {
                let mut buffer = [0; 4];
                decoded.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
            }
            None => {}
        }
        index += used;
    }
    peeled.changed |= fold(decoded, out);
    peeled
}

/// Copies `text` without `/* … */`, for those who think that removing comments makes a text safe.
/// Says whether there was one.
pub(in crate::inspect::detect) fn without_comments(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut from = 0;
    while let Some(begin) = find(text, from, b"/*") {
        let Some(end) = find(text, begin + 2, b"*/") else { break };
        out.extend_from_slice(part(text, from, begin));
        from = end + 2;
    }
    out.extend_from_slice(part(text, from, text.len()));
    from > 0
}

enum Code {
    Byte(u8),
    Character(char),
}

fn hex(text: &[u8], from: usize, digits: usize) -> Option<u32> {
    let mut value = 0;
    for index in from..from + digits {
        value = value * 16 + char::from(at(text, index)).to_digit(16)?;
    }
    Some(value)
}

fn byte_code(value: u32) -> Option<Code> {
    u8::try_from(value).ok().map(Code::Byte)
}

fn character_code(value: u32) -> Option<Code> {
    char::from_u32(value).map(Code::Character)
}

fn percent(text: &[u8], index: usize) -> (usize, Option<Code>) {
    if let Some(value) = hex(text, index + 1, 2) {
        return (3, byte_code(value));
    }
    if matches!(at(text, index + 1), b'u' | b'U')
        && let Some(value) = hex(text, index + 2, 4)
    {
        return (6, character_code(value));
    }
    (0, None)
}

fn escape(text: &[u8], index: usize) -> (usize, Option<Code>) {
    match at(text, index + 1) {
        b'x' | b'X' => hex(text, index + 2, 2).map_or((0, None), |value| (4, byte_code(value))),
        b'u' if at(text, index + 2) == b'{' => {
            let end = skip(text, index + 3, |byte| byte.is_ascii_hexdigit());
            let digits = end - (index + 3);
            match hex(text, index + 3, digits.min(6)) {
                Some(value) if (1..=6).contains(&digits) && at(text, end) == b'}' => {
                    (digits + 4, character_code(value))
                }
                _ => (0, None),
            }
        }
        b'u' | b'U' => {
            hex(text, index + 2, 4).map_or((0, None), |value| (6, character_code(value)))
        }
        b'0'..=b'3' => {
            let digits = part(text, index + 1, index + 4);
            if digits.len() == 3 && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
                let value =
                    digits.iter().fold(0, |value, digit| value * 8 + u32::from(*digit - b'0'));
                (4, byte_code(value))
            } else {
                (0, None)
            }
        }
        _ => (0, None),
    }
}

const ENTITIES: [(&[u8], u8); 27] = [
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"amp", b'&'),
    (b"colon", b':'),
    (b"lpar", b'('),
    (b"rpar", b')'),
    (b"sol", b'/'),
    (b"bsol", b'\\'),
    (b"tab", b'\t'),
    (b"newline", b'\n'),
    (b"nbsp", b' '),
    (b"lbrace", b'{'),
    (b"rbrace", b'}'),
    (b"lcub", b'{'),
    (b"rcub", b'}'),
    (b"lsqb", b'['),
    (b"rsqb", b']'),
    (b"dollar", b'$'),
    (b"period", b'.'),
    (b"semi", b';'),
    (b"equals", b'='),
    (b"num", b'#'),
    (b"percnt", b'%'),
    (b"grave", b'`'),
    (b"vert", b'|'),
];

fn entity(text: &[u8], index: usize) -> (usize, Option<Code>) {
    if at(text, index + 1) == b'#' {
        let sixteen = matches!(at(text, index + 2), b'x' | b'X');
        let from = index + if sixteen { 3 } else { 2 };
        // Browsers accept any number of leading zeros; more than thirty serve nobody.
        let zeros = skip(part(text, 0, from + 30), from, |byte| byte == b'0');
        let digit =
            |byte: u8| if sixteen { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
        let end = skip(part(text, 0, zeros + 7), zeros, digit);
        if end == from {
            return (0, None);
        }
        let radix = if sixteen { 16 } else { 10 };
        let value = part(text, zeros, end).iter().try_fold(0_u32, |value, byte| {
            Some(value * radix + char::from(*byte).to_digit(radix)?)
        });
        let used = end + usize::from(at(text, end) == b';') - index;
        return (used, value.and_then(character_code));
    }
    let name = part(text, index + 1, index + 8);
    for (known, byte) in ENTITIES {
        let ends = at(text, index + 1 + known.len()) == b';';
        if ends && name.get(..known.len()).is_some_and(|name| name.eq_ignore_ascii_case(known)) {
            return (known.len() + 2, Some(Code::Byte(byte)));
        }
    }
    (0, None)
}

/// Folds full-width forms, typographic quotes, look-alikes of slash and dot, and overlong UTF-8
/// into ASCII, and drops what has no width. Says whether anything changed.
fn fold(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut changed = false;
    let mut index = 0;
    while let Some(&byte) = text.get(index) {
        let (used, folded): (usize, Option<&[u8]>) = match byte {
            0xc0 | 0xc1 | 0xc2 | 0xca | 0xcb | 0xe0 | 0xe2 | 0xef | 0xf0 => {
                if let Some((used, folded)) = overlong(text, index) {
                    out.push(folded);
                    (used, Some(b""))
                } else {
                    fold_character(text, index)
                }
            }
            _ => (0, None),
        };
        match folded {
            Some(folded) => {
                out.extend_from_slice(folded);
                changed = true;
                index += used;
            }
            None => {
                out.push(byte);
                index += 1;
            }
        }
    }
    changed
}

/// A character of ASCII written with more bytes than it needs, or, at 0xC0, with a broken second.
fn overlong(text: &[u8], index: usize) -> Option<(usize, u8)> {
    let low = |offset: usize| at(text, index + offset) & 0x3f;
    match (at(text, index), at(text, index + 1), at(text, index + 2)) {
        (first @ (0xc0 | 0xc1), second, _) if second != 0 => {
            Some((2, ((first & 1) << 6) | (second & 0x3f)))
        }
        (0xe0, second @ (0x80 | 0x81), third) if third != 0 => {
            Some((3, ((second & 1) << 6) | low(2)))
        }
        (0xf0, 0x80, third @ (0x80 | 0x81)) => Some((4, ((third & 1) << 6) | low(3))),
        // Full-width forms U+FF01 to U+FF5E are ASCII moved by 0xFEE0.
        (0xef, 0xbc, third @ 0x81..=0xbf) => Some((3, third - 0x60)),
        (0xef, 0xbd, third @ 0x80..=0x9e) => Some((3, third - 0x20)),
        _ => None,
    }
}

fn fold_character(text: &[u8], index: usize) -> (usize, Option<&'static [u8]>) {
    const FOLDS: [(&str, &str); 31] = [
        ("\u{2018}", "'"),
        ("\u{2019}", "'"),
        ("\u{201a}", "'"),
        ("\u{201b}", "'"),
        ("\u{2032}", "'"),
        ("\u{02b9}", "'"),
        ("\u{02bc}", "'"),
        ("\u{02c8}", "'"),
        ("\u{201c}", "\""),
        ("\u{201d}", "\""),
        ("\u{201e}", "\""),
        ("\u{201f}", "\""),
        ("\u{2033}", "\""),
        ("\u{200b}", ""),
        ("\u{200c}", ""),
        ("\u{200d}", ""),
        ("\u{200e}", ""),
        ("\u{200f}", ""),
        ("\u{2060}", ""),
        ("\u{feff}", ""),
        ("\u{00ad}", ""),
        ("\u{00a0}", " "),
        ("\u{2028}", "\n"),
        ("\u{2029}", "\n"),
        ("\u{2215}", "/"),
        ("\u{2044}", "/"),
        ("\u{2216}", "\\"),
        ("\u{2024}", "."),
        ("\u{2025}", ".."),
        ("\u{fe64}", "<"),
        ("\u{fe65}", ">"),
    ];
    FOLDS
        .iter()
        .find(|(from, _)| stands(text, index, from.as_bytes()))
        .map_or((0, None), |(from, to)| (from.len(), Some(to.as_bytes())))
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

fn engine(text: &[u8]) -> &'static GeneralPurpose {
    if text.iter().any(|byte| matches!(byte, b'-' | b'_')) { &URL_SAFE } else { &STANDARD }
}

/// Whether the whole text is base64 whose first twelve bytes are printable. Random identifiers
/// are not, with a certainty of all but one in a hundred thousand.
fn looks_like_base64(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let Some(first) = text.get(..16) else { return false };
    let of_alphabet =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
    if !first.iter().all(of_alphabet) {
        return false;
    }
    let mut start = [0; 12];
    let padded = |byte: &u8| of_alphabet(byte) || *byte == b'=';
    engine(first).decode_slice(first, &mut start).is_ok()
        && start.iter().all(|byte| is_printable(*byte))
        && text.iter().all(padded)
}

fn unbase64(text: &[u8], out: &mut Vec<u8>) -> bool {
    let decoded = engine(text).decode_vec(text, out).is_ok();
    if decoded && out.iter().all(|byte| is_printable(*byte) || *byte >= 0x80) {
        return true;
    }
    out.clear();
    false
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') || is_space(byte) && byte != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peeled(text: &[u8]) -> (Peeled, String) {
        let (mut decoded, mut out) = (Vec::new(), Vec::new());
        let peeled = peel(text, &mut decoded, &mut out);
        (peeled, String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn one_layer_of_every_encoding_comes_off() {
        for (written, meant) in [
            ("%27%20or", "' or"),
            ("%u0027", "'"),
            ("&lt;b&gt; &#x27;&#39 &#0000060;", "<b> '' <"),
            ("\\x3cscript\\u003e\\u{2f}\\057", "<script>//"),
            ("\u{ff1c}script\u{ff1e}", "<script>"),
            ("don\u{2019}t\u{200b}", "don't"),
            ("%c0%ae%c0%af%e0%80%ae", "./."),
            ("JyBvciAxPTEgLS0gYWFh", "' or 1=1 -- aaa"),
            ("a\0b", "ab"),
        ] {
            let (peeled, out) = peeled(written.as_bytes());
            assert!(peeled.changed, "{written}");
            assert_eq!(out, meant, "{written}");
        }
    }

    #[test]
    fn what_is_not_encoded_stays() {
        for plain in
            ["100% sure", "R&D and Q&A", "C:\\new\\ubuntu", "01HZXK4V5T9Q2M3N4P5R6S7T8V", "naïve"]
        {
            let (peeled, out) = peeled(plain.as_bytes());
            assert!(!peeled.changed, "{plain} became {out}");
            assert_eq!(out, plain);
        }
    }

    #[test]
    fn comments_are_taken_out() {
        let mut out = Vec::new();
        assert!(without_comments(b"un/**/ion sel/* x */ect /* open", &mut out));
        assert_eq!(out, b"union select /* open");
        assert!(!without_comments(b"a */ b", &mut out));
    }
}
