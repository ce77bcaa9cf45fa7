//! Percent-decoding for what is inspected: strict, once, and without copying what needs none.

use std::borrow::Cow;

/// What a percent-encoded text means; nothing when an escape is broken or the result is not UTF-8.
pub(in crate::inspect) fn percent(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    decoded(text, false).map(Cow::Owned)
}

/// The same for queries and forms, where `+` is a space.
pub(in crate::inspect) fn form(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    decoded(text, true).map(Cow::Owned)
}

/// The pairs of a query or of a form, decoded. A pair that cannot be decoded is nothing.
pub(in crate::inspect) fn pairs(
    text: &str,
) -> impl Iterator<Item = Option<(Cow<'_, str>, Cow<'_, str>)>> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((form(name)?, form(value)?))
    })
}

fn decoded(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return String::from_utf8(bytes).ok(),
            [b'%', high, low, after @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                rest = after;
            }
            [b'%', ..] => return None,
            [b'+', after @ ..] if plus => {
                bytes.push(b' ');
                rest = after;
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_once() {
        assert_eq!(percent("a%2Fb+c").as_deref(), Some("a/b+c"));
        assert_eq!(form("a%2fb+c").as_deref(), Some("a/b c"));
        assert_eq!(form("%2527").as_deref(), Some("%27"));
        assert!(matches!(form("plain"), Some(Cow::Borrowed("plain"))));
        for broken in ["%", "%2", "%zz", "a%ff", "%c0%af", "%-1"] {
            assert_eq!(form(broken), None, "{broken}");
        }
    }

    #[test]
    fn pairs_are_split_before_they_are_decoded() {
        let read: Vec<_> = pairs("a=1%262&&b&c=%3D=x").flatten().collect();
        let read: Vec<_> = read.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(read, [("a", "1&2"), ("b", ""), ("c", "==x")]);
    }
}
