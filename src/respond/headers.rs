//! What a route hides from and adds to the upstream's headers.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::fields::Fields;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::respond::cors::Cors;
use crate::respond::limits::LimitHeaders;

/// `Accept-Signature` (RFC 9421, section 5.1).
pub const ACCEPT_SIGNATURE: HeaderName = HeaderName::from_static("accept-signature");
/// `Want-Content-Digest` (RFC 9530, section 4).
pub const WANT_CONTENT_DIGEST: HeaderName = HeaderName::from_static("want-content-digest");
/// When the caller's key ends, on answers to one that has a successor: a date as `Sunset` has it
/// (RFC 8594), which itself speaks of resources and not of credentials.
pub const KEY_EXPIRES: HeaderName = HeaderName::from_static("portcullis-key-expires");
/// One year, in seconds (RFC 6797).
pub const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");
/// Browsers must not guess a type.
pub const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A date as headers have it (RFC 9110, section 5.6.7).
pub fn date(unix_s: u64) -> Option<HeaderValue> {
    let stamp = jiff::Timestamp::from_second(i64::try_from(unix_s).ok()?).ok()?;
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    HeaderValue::try_from(printer.timestamp_to_rfc9110_string(&stamp).ok()?).ok()
}

/// Whether a header tells what the service is made of. Nobody outside needs those.
fn is_telltale(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "server"
            | "x-powered-by"
            | "x-aspnet-version"
            | "x-aspnetmvc-version"
            | "x-runtime"
            | "x-generator"
    )
}

/// What a route does to the headers of answers, as written: `response = { strip_headers = ["x-internal"] }`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponseRule {
    /// Headers of the upstream's answers that callers do not see, beside `server`, `x-powered-by`
    /// and their like, which they never see.
    #[serde(default)]
    pub strip_headers: Vec<At<String>>,
    /// Headers that every answer of the upstream gets, replacing the upstream's own.
    #[serde(default)]
    pub set_headers: BTreeMap<String, At<String>>,
}

/// What a route does to the headers of answers.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    strip: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    limit_headers: LimitHeaders,
    cors: Option<Cors>,
}

impl Rules {
    /// Compiles what was written.
    pub fn compile(
        rule: &ResponseRule,
        limit_headers: LimitHeaders,
        reading: &mut Reading<'_>,
    ) -> Self {
        let mut rules = Self { limit_headers, ..Self::default() };
        for name in &rule.strip_headers {
            match name.parse::<HeaderName>() {
                Ok(header) => rules.strip.push(header),
                Err(_) => wrong_name(name, &name.span, reading),
            }
        }
        for (name, value) in &rule.set_headers {
            match (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                (Ok(header), _) if is_framing(&header) => reading.wrong(
                    Code::WrongValue,
                    &value.span,
                    format!("`{name}` says where a message ends and cannot be set"),
                    "leave it out; the gateway writes it",
                ),
                (Ok(header), Ok(value)) => rules.set.push((header, value)),
                (Err(_), _) => wrong_name(name, &value.span, reading),
                (_, Err(_)) => reading.wrong(
                    Code::WrongValue,
                    &value.span,
                    format!("the value of `{name}` has characters that a header cannot hold"),
                    "write visible ASCII characters",
                ),
            }
        }
        rules
    }

    /// The same, for a route that pages of other origins may call.
    #[must_use]
    pub fn with_cors(self, cors: Option<Cors>) -> Self {
        Self { cors, ..self }
    }

    /// What browsers are told of other origins.
    pub fn cors(&self) -> Option<&Cors> {
        self.cors.as_ref()
    }

    /// Takes out what callers do not see.
    pub fn hide(&self, headers: &mut Fields) {
        headers.retain(|name| !(is_telltale(name) || self.strip.contains(name)));
    }

    /// Puts in what the route adds.
    pub fn add(&self, headers: &mut Fields) {
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// Which limit headers the route's answers carry.
    pub fn limit_headers(&self) -> LimitHeaders {
        self.limit_headers
    }
}

/// Marks a value that will never be sent again, so that HTTP/2 does not drive lasting ones out of
/// its table for it (RFC 7541, section 6.2.3).
pub fn passing(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

fn is_framing(name: &HeaderName) -> bool {
    use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
    [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE].contains(name)
}

fn wrong_name(name: &str, span: &std::ops::Range<usize>, reading: &mut Reading<'_>) {
    reading.wrong(
        Code::WrongValue,
        span,
        format!("`{name}` is not the name of a header"),
        "write letters, digits and hyphens, for example \"x-internal\"",
    );
}
