//! The headers that tell callers of their budget: `X-RateLimit-*`, `RateLimit` and `RateLimit-Policy`.

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::fields::Fields;
use crate::fields::value::Short;
use crate::refusal::extra::Spent;
use crate::respond::headers::passing;

/// Which limit headers are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LimitHeaders {
    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset` and the IETF fields.
    #[default]
    Both,
    /// `X-RateLimit-*` only; `X-RateLimit-Reset` is Unix time in seconds.
    XRatelimit,
    /// `RateLimit` and `RateLimit-Policy` only (IETF draft 11); times are seconds from now.
    Ietf,
    /// None at all.
    None,
}

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Writes the headers of one budget. `name` is the limit's name in the policy.
pub fn write(headers: &mut Fields, style: LimitHeaders, name: &str, spent: &Spent) {
    let (legacy, ietf) = match style {
        LimitHeaders::Both => (true, true),
        LimitHeaders::XRatelimit => (true, false),
        LimitHeaders::Ietf => (false, true),
        LimitHeaders::None => (false, false),
    };
    if legacy {
        let number = |number: u64| Short::of(&[itoa::Buffer::new().format(number).as_bytes()]);
        number(spent.limit).into_iter().for_each(|value| headers.insert_short(LIMIT, value));
        for (name, value) in [(REMAINING, spent.remaining), (RESET, spent.reset_at)] {
            number(value)
                .into_iter()
                .for_each(|value| headers.insert_short(&name, value.passing()));
        }
    }
    if ietf {
        // An empty budget says when one more request fits, the same as `Retry-After`.
        let seconds = if spent.retry_after > 0 { spent.retry_after } else { spent.reset_in };
        item(headers, RATELIMIT, name, [(";r=", spent.remaining), (";t=", seconds)], true);
        item(headers, POLICY, name, [(";q=", spent.limit), (";w=", spent.window)], false);
    }
}

/// Sets `"name";first=1;second=2`: an item of a list with two parameters (RFC 9651, section 3.1).
fn item(
    headers: &mut Fields,
    header: HeaderName,
    name: &str,
    [first, second]: [(&str, u64); 2],
    is_passing: bool,
) {
    let (mut a, mut b) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (a, b) = (a.format(first.1).as_bytes(), b.format(second.1).as_bytes());
    let parts = [b"\"", name.as_bytes(), b"\"", first.0.as_bytes(), a, second.0.as_bytes(), b];
    match Short::of(&parts) {
        Some(short) if is_passing => headers.insert_short(header, short.passing()),
        Some(short) => headers.insert_short(header, short),
        None => {
            if let Ok(value) = HeaderValue::from_bytes(&parts.concat()) {
                headers.insert(header, if is_passing { passing(value) } else { value });
            }
        }
    }
}

/// The limit's own name in a rule's address: `write` of `limits.write.tiers.free`.
pub fn short(rule: &str) -> &str {
    rule.strip_prefix("limits.").unwrap_or(rule).split('.').next().unwrap_or(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_tell_the_same_budget() {
        let spent = Spent {
            limit: 120,
            remaining: 119,
            reset_at: 1_764_000_001,
            reset_in: 1,
            retry_after: 0,
            window: 60,
        };
        let mut headers = Fields::new();
        write(&mut headers, LimitHeaders::Both, "read", &spent);
        assert_eq!(headers.get("x-ratelimit-limit").unwrap(), "120");
        assert_eq!(headers.get("x-ratelimit-remaining").unwrap(), "119");
        assert_eq!(headers.get("x-ratelimit-reset").unwrap(), "1764000001");
        assert_eq!(headers.get("ratelimit").unwrap(), "\"read\";r=119;t=1");
        assert_eq!(headers.get("ratelimit-policy").unwrap(), "\"read\";q=120;w=60");
        let mut none = Fields::new();
        write(&mut none, LimitHeaders::None, "read", &spent);
        assert!(none.is_empty());
    }

    #[test]
    fn a_rule_is_shortened_to_its_limit() {
        assert_eq!(short("limits.write.tiers.free"), "write");
        assert_eq!(short("address"), "address");
    }
}
