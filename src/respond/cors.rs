//! What browsers are told of other origins (the Fetch standard's CORS protocol).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, VARY,
};
use http::{HeaderName, HeaderValue, Method};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::fields::Fields;
use crate::fields::value::Value;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::units::Span;

/// Pages of which other origins may call a route, as written: `cors = { origins = ["https://app.example.com"] }`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsRule {
    /// Origins, each as scheme, host and, unless it is the usual one, port. `"*"` is every origin.
    pub origins: At<Vec<At<String>>>,
    /// Request headers that pages may set. Default: "authorization", "content-type".
    pub headers: Option<Vec<At<String>>>,
    /// Response headers that pages may read beside the plain ones. Default: "x-request-id",
    /// "retry-after", "ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining",
    /// "x-ratelimit-reset", "www-authenticate", "dpop-nonce".
    pub expose: Option<Vec<At<String>>>,
    /// Whether pages may send cookies along. Never together with `"*"`. Default: false.
    #[serde(default)]
    pub credentials: bool,
    /// How long browsers may remember the answer to a preflight. Default: 10m.
    pub max_age: Option<Span>,
}

/// Pages of which other origins may call a route.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Nothing stands for every origin.
    origins: Option<Box<[Box<str>]>>,
    headers: Box<[HeaderName]>,
    headers_text: HeaderValue,
    expose: HeaderValue,
    credentials: bool,
    max_age: HeaderValue,
}

const HEADERS_USUAL: [&str; 2] = ["authorization", "content-type"];
const EXPOSE_USUAL: [&str; 9] = [
    "x-request-id",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "www-authenticate",
    "dpop-nonce",
];
const MAX_AGE_USUAL_S: u64 = 600;

impl Cors {
    /// Compiles what was written. Reports origins and headers that are none.
    pub fn compile(rule: &CorsRule, reading: &mut Reading<'_>) -> Option<Self> {
        let CorsRule { origins, headers, expose, credentials, max_age } = rule;
        let every = origins.iter().any(|origin| origin.value == "*");
        let mut sound = true;
        for origin in origins.iter().filter(|origin| origin.value != "*" && !is_origin(origin)) {
            let says = format!("`{}` is not an origin", origin.value);
            let help = "write scheme and host, and a port unless it is the usual one: \"https://app.example.com\"";
            reading.wrong(Code::WrongValue, &origin.span, says, help);
            sound = false;
        }
        if every && *credentials {
            let help = "name the origins that may send cookies along";
            let says = "every origin may send cookies along";
            reading.wrong(Code::WrongValue, &origins.span, says, help);
            sound = false;
        }
        let headers = names(headers.as_deref(), &HEADERS_USUAL, reading);
        let expose = names(expose.as_deref(), &EXPOSE_USUAL, reading);
        let (headers, expose) = (headers?, expose?);
        let max_age_s = max_age.map_or(MAX_AGE_USUAL_S, |span| span.0.as_secs());
        sound.then_some(Self {
            origins: (!every)
                .then(|| origins.iter().map(|origin| origin.value.as_str().into()).collect()),
            headers_text: joined(&headers)?,
            expose: joined(&expose)?,
            headers: headers.into(),
            credentials: *credentials,
            max_age: max_age_s.into(),
        })
    }

    /// Whether pages of this origin may call. The `null` origin of sandboxed pages never may.
    fn allows(&self, origin: Value<'_>) -> bool {
        match &self.origins {
            None => origin != *"null",
            Some(origins) => origins.iter().any(|known| origin == **known),
        }
    }

    /// The headers that answer a preflight; nothing when what it asks for is not allowed.
    pub fn preflight(&self, asked: &Fields, methods: &Method) -> Option<Fields> {
        let origin = asked.get(http::header::ORIGIN).filter(|origin| self.allows(*origin))?;
        let wanted = asked.get_all(ACCESS_CONTROL_REQUEST_HEADERS);
        for list in wanted {
            for name in
                list.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty())
            {
                let name: HeaderName = name.parse().ok()?;
                self.headers.contains(&name).then_some(())?;
            }
        }
        let mut headers = Fields::new();
        self.write(origin.to_header_value().as_ref(), &mut headers);
        headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_str(methods.as_str()).ok()?);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.headers_text.clone());
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        Some(headers)
    }

    /// Writes what a page may read into the headers of an answer, in place of what the upstream
    /// says of it. Other origins are told nothing.
    pub fn write(&self, origin: Option<&HeaderValue>, headers: &mut Fields) {
        let theirs = [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ];
        for name in theirs {
            headers.remove(name);
        }
        headers.append(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin.filter(|origin| self.allows((*origin).into())) else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// The method that a preflight asks for; nothing for what is no preflight.
pub fn asked_method(method: &Method, headers: &Fields) -> Option<Method> {
    if method != Method::OPTIONS || !headers.contains_key(http::header::ORIGIN) {
        return None;
    }
    let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(asked.as_bytes()).ok()
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let sound = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "-.:[]".contains(character)
    };
    matches!(scheme, "https" | "http") && !rest.is_empty() && rest.chars().all(sound)
}

fn names(
    written: Option<&[At<String>]>,
    usual: &[&'static str],
    reading: &mut Reading<'_>,
) -> Option<Vec<HeaderName>> {
    let Some(written) = written else {
        return Some(usual.iter().map(|name| HeaderName::from_static(name)).collect());
    };
    let mut found = Vec::new();
    for name in written {
        match name.parse() {
            Ok(name) => found.push(name),
            Err(_) => {
                let says = format!("`{}` is not the name of a header", name.value);
                let help = "write letters, digits and hyphens, for example \"x-client-version\"";
                reading.wrong(Code::WrongValue, &name.span, says, help);
            }
        }
    }
    (found.len() == written.len()).then_some(found)
}

fn joined(names: &[HeaderName]) -> Option<HeaderValue> {
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    HeaderValue::try_from(names.join(", ")).ok()
}
