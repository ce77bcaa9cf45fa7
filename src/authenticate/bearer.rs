//! Tells what kind of credential `Authorization` carries, so that each scheme takes its own.

use http::header::AUTHORIZATION;

use crate::authenticate::key_format::are_characters_or;
use crate::fields::Fields;
use crate::fields::value::Value;
use crate::refusal::{Reason, Refusal};

/// The kinds of credential that `Authorization` may carry on one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// API keys.
    pub keys: bool,
    /// Tokens that tell themselves what they are: three parts with two dots between them.
    pub tokens: bool,
    /// Tokens that only their issuer can read.
    pub opaque: bool,
}

/// How a token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// `Bearer`: whoever holds it may use it (RFC 6750).
    Bearer,
    /// `DPoP`: whoever holds its key may use it (RFC 9449).
    Dpop,
}

impl Carried {
    /// Whether a value of `Authorization` belongs to another scheme of the route than to API keys.
    /// `is_key` says what a text has of a key of ours.
    pub fn is_token(self, value: Value<'_>, is_key: impl Fn(&str) -> bool) -> bool {
        if !self.tokens && !self.opaque {
            return false;
        }
        let Some((presented, text)) = split(value) else { return false };
        if presented == Presented::Dpop {
            return true;
        }
        let is_jwt = self.tokens && has_three_parts(text);
        (is_jwt || self.opaque) && !is_key(text)
    }
}

/// Whether the text has two dots, as signed tokens do.
pub fn has_three_parts(text: &str) -> bool {
    memchr::memchr_iter(b'.', text.as_bytes()).count() == 2
}

/// The one value of `Authorization`, taken apart; nothing when there is no such header.
///
/// # Errors
/// When it stands more than once, or is neither `Bearer` nor `DPoP`, one space and a token.
pub fn presented(headers: &Fields) -> Result<Option<(Presented, &str)>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Reason::CredentialRepeated.into());
    }
    split(value).map(Some).ok_or_else(|| {
        Refusal::new(Reason::CredentialMalformed)
            .because("Authorization is not `Bearer` or `DPoP`, one space and a token")
    })
}

fn split(value: Value<'_>) -> Option<(Presented, &str)> {
    let bytes = value.as_bytes();
    let after = |scheme: &str| {
        let (own, token) = bytes.split_at_checked(scheme.len())?;
        own.eq_ignore_ascii_case(scheme.as_bytes()).then_some(token)
    };
    let (presented, token) = match after("Bearer ") {
        Some(token) => (Presented::Bearer, token),
        None => (Presented::Dpop, after("DPoP ")?),
    };
    // b64token of RFC 6750, section 2.1; whoever reads the token says where `=` may stand.
    if token.is_empty() || !are_characters_or(b'=', token) {
        return None;
    }
    // Such characters are ASCII, so this does not fail.
    Some((presented, str::from_utf8(token).ok()?))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_has_the_characters_of_one_and_no_others() {
        for byte in 0..=u8::MAX {
            let Ok(value) =
                HeaderValue::from_bytes(&[b"Bearer ab".as_slice(), &[byte], b"c"].concat())
            else {
                continue;
            };
            let is_part = byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
            assert_eq!(split(Value::from(&value)).is_some(), is_part, "{byte}");
        }
        for value in
            ["Bearer", "Bearer ", "DPoP ", "Bearerab", "DPoPs ab", "Basic ab", " Bearer ab"]
        {
            assert!(split(Value::from(&HeaderValue::from_static(value))).is_none(), "{value}");
        }
    }

    #[test]
    fn each_kind_goes_to_its_own_scheme() {
        let all = Carried { keys: true, tokens: true, opaque: true };
        let is_key = |text: &str| text.starts_with("pcl_");
        for (value, carried, expected) in [
            ("Bearer a.b.c", all, true),
            ("bearer a.b.c", all, true),
            ("Bearer pcl_.b.c", all, false),
            ("Bearer abc", all, true),
            ("Bearer abc", Carried { opaque: false, ..all }, false),
            ("Bearer a.b.c.d.e", Carried { opaque: false, ..all }, false),
            ("Bearer a.b.c", Carried { keys: true, ..Carried::default() }, false),
            ("DPoP a.b.c", all, true),
            ("DPoP a.b.c", Carried { keys: true, ..Carried::default() }, false),
            ("Basic dTpw", all, false),
            ("Bearer  a.b.c", all, false),
        ] {
            let value = HeaderValue::from_str(value).unwrap();
            assert_eq!(
                carried.is_token(Value::from(&value), is_key),
                expected,
                "{value:?} {carried:?}"
            );
        }
    }
}
