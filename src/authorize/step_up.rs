//! What doors ask of a token beside rights: a stronger or fresher authentication (RFC 9470), and claims.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use http::HeaderValue;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use crate::authenticate::Principal;
use crate::authenticate::assurance::{Assurance, Value};
use crate::clock::Now;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::name::Name;
use crate::refusal::extra::Extra;
use crate::refusal::{Reason, Refusal};
use crate::units::Span;

/// The longest that an authentication may lie back, in seconds.
const AGE_S_MAX: u64 = 365 * 86_400;

/// A list of words that may be written.
type Words<'a> = Option<&'a At<Vec<At<String>>>>;

/// How a person has to be authenticated. A bare API key never is.
#[derive(Debug)]
pub(in crate::authorize) struct StepUp {
    /// One of these levels, the best first.
    acr: Box<[Box<str>]>,
    /// All of these methods.
    amr: Box<[Box<str>]>,
    /// No longer ago than this, in seconds.
    max_age_s: Option<u64>,
    /// The challenge that asks for it (RFC 9470, section 3).
    challenge: HeaderValue,
}

impl StepUp {
    /// Compiles `acr`, `amr` and `max_age` of a door; nothing when none is written.
    pub(in crate::authorize) fn compile(
        (acr, amr): (Words<'_>, Words<'_>),
        max_age: Option<&At<Span>>,
        reading: &mut Reading<'_>,
    ) -> Option<Option<Self>> {
        if acr.is_none() && amr.is_none() && max_age.is_none() {
            return None;
        }
        let (acr, amr) = (words("acr", acr, reading), words("amr", amr, reading));
        let max_age_s = match max_age {
            None => Some(None),
            Some(written) => seconds(written, reading).map(Some),
        };
        Some(Self::of(acr, amr, max_age_s))
    }

    fn of(
        acr: Option<Box<[Box<str>]>>,
        amr: Option<Box<[Box<str>]>>,
        max_age_s: Option<Option<u64>>,
    ) -> Option<Self> {
        let (acr, amr, max_age_s) = (acr?, amr?, max_age_s?);
        let mut challenge = String::from(
            "Bearer error=\"insufficient_user_authentication\", error_description=\"A different authentication level is required\"",
        );
        if !acr.is_empty() {
            challenge.push_str(&format!(", acr_values=\"{}\"", acr.join(" ")));
        }
        if let Some(seconds) = max_age_s {
            challenge.push_str(&format!(", max_age=\"{seconds}\""));
        }
        let challenge = HeaderValue::try_from(challenge).ok()?;
        Some(Self { acr, amr, max_age_s, challenge })
    }

    /// Whether the principal was authenticated so. What a token does not say does not hold.
    pub(in crate::authorize) fn holds(&self, principal: &Principal, now: Now) -> bool {
        principal.assurance().is_some_and(|said| {
            let has_level = self.acr.is_empty()
                || said.acr.as_ref().is_some_and(|level| self.acr.contains(level));
            let has_methods = self.amr.iter().all(|method| said.amr.contains(method));
            has_level && has_methods && self.is_fresh(said, now)
        })
    }

    fn is_fresh(&self, said: &Assurance, now: Now) -> bool {
        let Some(max_age_s) = self.max_age_s else { return true };
        said.auth_time_s.is_some_and(|time_s| now.unix_s() <= time_s.saturating_add(max_age_s))
    }

    /// Asks for it: 401, so that the client sends the person to the issuer again.
    pub(in crate::authorize) fn refusal(&self) -> Refusal {
        Refusal::new(Reason::StepUpRequired).with(Extra::Challenge(self.challenge.clone()))
    }

    pub(in crate::authorize) fn asks(&self) -> String {
        let mut parts = Vec::new();
        if !self.acr.is_empty() {
            parts.push(format!("acr {}", self.acr.join(" or ")));
        }
        if !self.amr.is_empty() {
            parts.push(format!("amr {}", self.amr.join(" and ")));
        }
        parts.extend(self.max_age_s.map(|seconds| format!("within {seconds} s")));
        parts.join(", ")
    }

    /// What the principal has instead, in words.
    pub(in crate::authorize) fn lack(&self, principal: &Principal, now: Now) -> Cow<'static, str> {
        let Some(said) = principal.assurance() else {
            return "the credential says nothing of how its holder was authenticated".into();
        };
        let level = said.acr.as_deref().unwrap_or("none").escape_debug();
        let age = said.auth_time_s.map_or_else(
            || "at an unknown time".to_owned(),
            |time_s| format!("{} s ago", now.unix_s().saturating_sub(time_s)),
        );
        format!("the token has acr {level}, amr {:?}, authenticated {age}", said.amr).into()
    }
}

/// A claim that a token must have, with one of these values.
#[derive(Debug)]
pub(in crate::authorize) struct ClaimAsked {
    name: Name,
    values: Box<[Value]>,
}

/// A value of a claim, as policy writes it: a text, a whole number, or true or false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimValue(Value);

impl ClaimAsked {
    /// Compiles `claims` of a door, each of which becomes a condition.
    pub(in crate::authorize) fn compile(
        written: &BTreeMap<String, At<Vec<ClaimValue>>>,
        reading: &mut Reading<'_>,
    ) -> Vec<Option<Self>> {
        let mut compile = |(name, values): (&String, &At<Vec<ClaimValue>>)| {
            if values.is_empty() {
                let says = format!("`claims.{name}` is empty, so this door never opens");
                let help = "name at least one value, or leave the claim out";
                reading.wrong(Code::ClosedDoor, &values.span, says, help);
                return None;
            }
            let values = values.iter().map(|value| value.0.clone()).collect();
            Some(Self { name: Name::new(name), values })
        };
        written.iter().map(&mut compile).collect()
    }

    pub(in crate::authorize) fn holds(&self, principal: &Principal) -> bool {
        principal.assurance().is_some_and(|said| said.claims_any(self.name, &self.values))
    }

    pub(in crate::authorize) fn asks(&self) -> String {
        let shown = self.values.iter().map(|value| match value {
            Value::Text(text) => text.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
        });
        format!("{} {}", self.name, shown.collect::<Vec<_>>().join(" or "))
    }
}

fn words(key: &str, written: Words<'_>, reading: &mut Reading<'_>) -> Option<Box<[Box<str>]>> {
    let Some(written) = written else { return Some([].into()) };
    if written.is_empty() {
        let says = format!("`{key}` is empty, so this door never opens");
        let help = format!("name at least one, or leave `{key}` out");
        reading.wrong(Code::ClosedDoor, &written.span, says, help);
        return None;
    }
    // They stand between quotation marks, with spaces between them (RFC 9470, section 3).
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
    };
    let wrong = written.iter().find(|word| !is_word(word));
    if let Some(word) = wrong {
        let says = format!("`{}` cannot be a value of `{key}`", word.value);
        let help = "write visible ASCII without spaces, quotation marks and backslashes";
        reading.wrong(Code::WrongValue, &word.span, says, help);
        return None;
    }
    Some(written.iter().map(|word| word.as_str().into()).collect())
}

fn seconds(written: &At<Span>, reading: &mut Reading<'_>) -> Option<u64> {
    let length = written.value.0;
    if (1..=AGE_S_MAX).contains(&length.as_secs()) && length.subsec_nanos() == 0 {
        return Some(length.as_secs());
    }
    let says = format!("`{}` is out of range", written.value);
    reading.wrong(Code::WrongValue, &written.span, says, "write whole seconds from 1s to 365d");
    None
}

impl<'de> Deserialize<'de> for ClaimValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl Visitor<'_> for AnyValue {
    type Value = ClaimValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a whole number, or true or false")
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<ClaimValue, E> {
        Ok(ClaimValue(Value::Text(value.into())))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<ClaimValue, E> {
        Ok(ClaimValue(Value::Number(value)))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<ClaimValue, E> {
        i64::try_from(value)
            .map(|value| ClaimValue(Value::Number(value)))
            .map_err(|_| E::custom("a number out of range"))
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<ClaimValue, E> {
        Ok(ClaimValue(Value::Bool(value)))
    }
}

impl JsonSchema for ClaimValue {
    fn schema_name() -> Cow<'static, str> {
        "ClaimValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A value of a claim, compared exactly.",
            "type": ["string", "integer", "boolean"],
        })
    }
}
