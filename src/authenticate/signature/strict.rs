//! Reads `Signature-Input` where it is written strictly (RFC 9651, 4.1), as nearly every signer writes
//! it.
//!
//! What is strict needs not be written anew for the signature base, and is read in one pass without
//! the turns that a general reader of structured fields takes. Whatever is not read here goes to
//! that reader, which also says what is wrong; the two agree on all that is read here.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::authenticate::signature::component::Component;
use crate::authenticate::signature::coverage::{Coverage, Demanded};
use crate::authenticate::signature::fields::LABELS_MAX;
use crate::authenticate::signature::input::{COMPONENTS_MAX, Input, Parameter};

/// The most digits of a time: as many as an Integer may have (RFC 9651, 3.3.1).
const DIGITS_MAX: usize = 15;

/// The members, if each is strictly written and holds nothing that is not accepted.
pub(super) fn inputs<'a>(text: &'a str, demanded: &'a [Demanded]) -> Option<Vec<Input<'a>>> {
    // Without a backslash no string has an escape, so each ends at the next quote. All bytes are
    // looked at in any case, because then many are looked at together.
    let odd = |byte: u8| u8::from(!matches!(byte, b' '..=b'~')) | u8::from(byte == b'\\');
    if text.bytes().fold(0, |any, byte| any | odd(byte)) != 0 {
        return None;
    }
    let mut inputs: Vec<Input<'_>> = Vec::with_capacity(1);
    let mut rest = text;
    loop {
        let (input, after) = member(rest, demanded)?;
        if inputs.len() >= LABELS_MAX || inputs.iter().any(|other| other.label == input.label) {
            return None;
        }
        inputs.push(input);
        if after.is_empty() {
            return Some(inputs);
        }
        rest = after.strip_prefix(", ")?;
    }
}

/// One member, and what follows it.
fn member<'a>(text: &'a str, demanded: &'a [Demanded]) -> Option<(Input<'a>, &'a str)> {
    let (label, value) = split_at(text, b'=')?;
    if !is_key(label) {
        return None;
    }
    let as_asked = |demanded: &'a Demanded| {
        Some((Coverage::Demanded(demanded), value.strip_prefix(demanded.written())?))
    };
    let (coverage, mut rest) = match demanded.iter().find_map(as_asked) {
        Some(found) => found,
        None => list(value)?,
    };
    let mut parameters: Vec<Parameter<'_>> = Vec::with_capacity(Parameter::KINDS);
    while let Some(after) = rest.strip_prefix(';') {
        let (parameter, after) = parameter(after)?;
        if parameters.iter().any(|other| other.is_like(&parameter)) {
            return None;
        }
        parameters.push(parameter);
        rest = after;
    }
    let strict = value.get(..value.len() - rest.len())?;
    Some((Input { label, coverage, parameters, strict: Some(strict), fault: None }, rest))
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

/// A signature parameter.
fn parameter(text: &str) -> Option<(Parameter<'_>, &str)> {
    let (key, rest) = split_at(text, b'=')?;
    if let Some((value, rest)) = string(rest) {
        return Some((Parameter::text(key, Cow::Borrowed(value)).ok()?, rest));
    }
    let (seconds, rest) = whole_number(rest)?;
    Some((Parameter::time(key, seconds).ok()?, rest))
}

/// A string, without its quotes.
fn string(text: &str) -> Option<(&str, &str)> {
    split_at(text.strip_prefix('"')?, b'"')
}

/// What stands before the first of these bytes, and what behind it. The parts are so short that
/// setting up a quicker search would cost more than it saves.
fn split_at(text: &str, end: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == end)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// An Integer that is not negative and has no zero in front.
fn whole_number(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    let is_strict = digits.len() <= DIGITS_MAX && (digits == "0" || !digits.starts_with('0'));
    // What goes on with a point is a Decimal.
    if !is_strict || rest.starts_with('.') {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

/// The bytes of the only signature, if it stands under this label and is strictly written.
pub(super) fn signature(text: &str, label: &str) -> Option<Vec<u8>> {
    let encoded = text.strip_prefix(label)?.strip_prefix("=:")?.strip_suffix(':')?;
    STANDARD.decode(encoded).ok()
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
