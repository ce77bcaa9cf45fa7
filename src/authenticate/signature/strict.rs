//! Reads `Signature-Input` where it is written strictly (RFC 9651, 4.1), as nearly every signer writes
//! it.
//!
//! What is strict needs not be written anew for the signature base, and is read in one pass without
//! the turns that a general reader of structured fields takes. Whatever is not read here goes to
//! that reader, which also says what is wrong; the two agree on all that is read here.

use std::borrow::Cow;

use crate::authenticate::scan;
use crate::authenticate::signature::component::Component;
use crate::authenticate::signature::coverage::{Coverage, Demanded};
use crate::authenticate::signature::fields::LABELS_MAX;
use crate::authenticate::signature::input::{COMPONENTS_MAX, Input, Inputs};
use crate::authenticate::signature::parameter::Parameters;
use crate::authenticate::signature::value::Value;

/// The most digits of a time: as many as an Integer may have (RFC 9651, 3.3.1).
const DIGITS_MAX: usize = 15;

/// Reads the members, if each is strictly written and holds nothing that is not accepted. Otherwise
/// what was read is to be thrown away.
///
/// Each is read into its place: it is a few hundred bytes, and to hand it on would copy them.
pub(super) fn inputs<'a>(
    text: &'a [u8],
    demanded: &'a [Demanded],
    into: &mut Inputs<'a>,
) -> Option<()> {
    // Without a backslash no string has an escape, so each ends at the next quote.
    if scan::any(text, |byte| !matches!(byte, b' '..=b'~') | (byte == b'\\')) {
        return None;
    }
    let mut rest = str::from_utf8(text).ok()?;
    loop {
        let (label, value) = split_at(rest, b'=')?;
        if !is_key(label) || into.len() >= LABELS_MAX || into.iter().any(|i| i.label == label) {
            return None;
        }
        let coverage = Coverage::Listed(Vec::new());
        let parameters = Parameters::default();
        let input = Input { label, coverage, parameters, strict: None, fault: None };
        let after = member(value, demanded, into.push(input)?)?;
        if after.is_empty() {
            return Some(());
        }
        rest = after.strip_prefix(", ")?;
    }
}

/// Reads the value of one member, and says what follows it.
fn member<'a>(value: &'a str, demanded: &'a [Demanded], input: &mut Input<'a>) -> Option<&'a str> {
    let as_asked = |demanded: &'a Demanded| {
        Some((Coverage::Demanded(demanded), value.strip_prefix(demanded.written())?))
    };
    let (coverage, mut rest) = match demanded.iter().find_map(as_asked) {
        Some(found) => found,
        None => list(value)?,
    };
    input.coverage = coverage;
    while let Some(after) = rest.strip_prefix(';') {
        rest = parameter(after, &mut input.parameters)?;
    }
    input.strict = value.get(..value.len() - rest.len());
    Some(rest)
}

/// Reads one signature parameter, and says what follows it.
///
/// Keys are few and short, so that to try each is quicker than to look for where one ends. Each call
/// names a key that the compiler knows, and compares a word.
fn parameter<'a>(text: &'a str, into: &mut Parameters<'a>) -> Option<&'a str> {
    if let Some(after) = text.strip_prefix("created=") {
        time(after, "created", into)
    } else if let Some(after) = text.strip_prefix("keyid=") {
        quoted(after, "keyid", into)
    } else if let Some(after) = text.strip_prefix("nonce=") {
        quoted(after, "nonce", into)
    } else if let Some(after) = text.strip_prefix("alg=") {
        quoted(after, "alg", into)
    } else if let Some(after) = text.strip_prefix("expires=") {
        time(after, "expires", into)
    } else {
        quoted(text.strip_prefix("tag=")?, "tag", into)
    }
}

#[inline(always)]
fn time<'a>(text: &'a str, key: &str, into: &mut Parameters<'a>) -> Option<&'a str> {
    let (seconds, after) = whole_number(text)?;
    into.time(key, seconds).ok()?;
    Some(after)
}

#[inline(always)]
fn quoted<'a>(text: &'a str, key: &str, into: &mut Parameters<'a>) -> Option<&'a str> {
    let (text, after) = string(text)?;
    into.text(key, Cow::Borrowed(text)).ok()?;
    Some(after)
}

/// An inner list of components, and what follows it.
fn list(text: &str) -> Option<(Coverage<'_>, &str)> {
    let mut components = Vec::with_capacity(8);
    let mut rest = text.strip_prefix('(')?;
    loop {
        if let Some(after) = rest.strip_prefix(')') {
            return Some((Coverage::Listed(components), after));
        }
        if !components.is_empty() {
            rest = rest.strip_prefix(' ')?;
        }
        let (component, after) = component(rest)?;
        if components.len() >= COMPONENTS_MAX || components.contains(&component) {
            return None;
        }
        components.push(component);
        rest = after;
    }
}

/// A component identifier with at most one parameter.
fn component(text: &str) -> Option<(Component<'_>, &str)> {
    let (name, rest) = string(text)?;
    let (parameter, rest) = match rest.strip_prefix(';') {
        None => (None, rest),
        Some(flagged) => {
            let end = flagged.bytes().position(|byte| !byte.is_ascii_lowercase())?;
            let (key, after) = flagged.split_at_checked(end)?;
            match after.strip_prefix('=') {
                None => (Some((key, None)), after),
                Some(after) => {
                    let (value, after) = string(after)?;
                    (Some((key, Some(Cow::Borrowed(value)))), after)
                }
            }
        }
    };
    Some((Component::new(Cow::Borrowed(name), parameter).ok()?, rest))
}

/// A string, without its quotes.
fn string(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    let end = memchr::memchr(b'"', text.as_bytes())?;
    let (string, rest) = text.split_at_checked(end)?;
    Some((string, rest.strip_prefix('"')?))
}

/// What stands before the first of these bytes, and what behind it. The parts are so short that
/// setting up a quicker search would cost more than it saves.
fn split_at(text: &str, end: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == end)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// An Integer that is not negative and has no zero in front.
fn whole_number(text: &str) -> Option<(u64, &str)> {
    let (mut number, mut digits) = (0, 0);
    for byte in text.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        // So few digits do not go beyond the number.
        if digits == DIGITS_MAX || (digits == 1 && number == 0) {
            return None;
        }
        number = number * 10 + u64::from(digit);
        digits += 1;
    }
    let rest = text.get(digits..)?;
    // What goes on with a point is a Decimal.
    (digits > 0 && !rest.starts_with('.')).then_some((number, rest))
}

/// The bytes of the only signature, if it stands under this label and is strictly written.
pub(super) fn signature(text: &[u8], label: &str) -> Option<Value> {
    let labelled = text.strip_prefix(label.as_bytes())?.strip_prefix(b"=:")?;
    Value::decode(labelled.strip_suffix(b":")?)
}

/// Whether the text can be a key of a Dictionary (RFC 9651, 3.1.2).
fn is_key(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'*')
        && bytes.all(|byte| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'_' | b'-' | b'.' | b'*')
        })
}
