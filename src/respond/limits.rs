//! The headers that tell callers of their budget: `X-RateLimit-*`, `RateLimit` and `RateLimit-Policy`.

use bytes::BytesMut;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::fields::Fields;
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
        headers.insert(LIMIT, HeaderValue::from(spent.limit));
        headers.insert(REMAINING, passing(HeaderValue::from(spent.remaining)));
        headers.insert(RESET, passing(HeaderValue::from(spent.reset_at)));
    }
    if ietf {
        // An empty budget says when one more request fits, the same as `Retry-After`.
        let seconds = if spent.retry_after > 0 { spent.retry_after } else { spent.reset_in };
        if let Some(value) = item(name, (";r=", spent.remaining), (";t=", seconds)) {
            headers.insert(RATELIMIT, passing(value));
        }
        if let Some(value) = item(name, (";q=", spent.limit), (";w=", spent.window)) {
            headers.insert(POLICY, value);
        }
    }
}

/// `"name";first=1;second=2`: an item of a list with two parameters (RFC 9651, section 3.1).
fn item(name: &str, first: (&str, u64), second: (&str, u64)) -> Option<HeaderValue> {
    let mut text = BytesMut::with_capacity(name.len() + 48);
    for part in ["\"", name, "\""] {
        text.extend_from_slice(part.as_bytes());
    }
    for (key, number) in [first, second] {
        text.extend_from_slice(key.as_bytes());
        text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }
    HeaderValue::from_maybe_shared(text.freeze()).ok()
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
        assert_eq!(headers["x-ratelimit-limit"], "120");
        assert_eq!(headers["x-ratelimit-remaining"], "119");
        assert_eq!(headers["x-ratelimit-reset"], "1764000001");
        assert_eq!(headers["ratelimit"], "\"read\";r=119;t=1");
        assert_eq!(headers["ratelimit-policy"], "\"read\";q=120;w=60");
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
