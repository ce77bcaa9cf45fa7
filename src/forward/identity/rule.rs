//! `identity` of `[upstreams.NAME]`: the reference of a secret, or a table.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::forward::identity::token::{Bind, LIFETIME_MAX, Tokens};
use crate::forward::identity::{Signer, Teller, Version};
use crate::forward::reference::{Surroundings, mac_secret};
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::units::Span;

const LIFETIME_MIN: Duration = Duration::from_secs(5);

/// How an upstream is told who calls.
#[derive(Debug, Clone)]
pub enum IdentityRule {
    /// With the MAC of this secret.
    Secret(String),
    /// As the table says.
    Table(TableRule),
}

/// How an upstream is told who calls: with the MAC of a secret, or with a token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableRule {
    /// The secret that the service shares: `"env:NAME"`, `"file:PATH"`, `"credential:NAME"` (at
    /// least 32 bytes) or `"generated"`, which only the bundled service can know. A file is read
    /// again when it changes.
    pub secret: Option<At<String>>,
    /// The form of the header that is made with `secret`: 2, or 1 for verifiers that know nothing
    /// else; 1 does not cover the query. Default 2.
    pub version: Option<At<u32>>,
    /// A short-lived JWT instead, signed with keys that the gateway makes and publishes.
    pub jwt: Option<At<JwtRule>>,
}

/// A short-lived JWT that tells who calls.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtRule {
    /// For whom it is (`aud`). Default: the name of the upstream.
    pub audience: Option<At<String>>,
    /// How long it holds, `"5s"` to `"60s"`. Default `"60s"`.
    pub lifetime: Option<At<Span>>,
    /// What it holds for: every request of its `"caller"`, and then it is signed anew only when half
    /// of its lifetime is over, or one `"request"`, and then each is signed. Default `"caller"`.
    pub bind: Option<Bind>,
}

/// Makes what `rule` describes for the upstream `name`; reports all that is wrong with it.
pub(in crate::forward) fn compile(
    rule: &At<IdentityRule>,
    name: &str,
    surroundings: &Surroundings<'_>,
    reading: &mut Reading<'_>,
) -> Option<Teller> {
    let mac = |reference: &At<String>, version, reading: &mut Reading<'_>| {
        let key = mac_secret(reference, surroundings, reading)?;
        Some(Teller::Mac(Signer::following(Arc::new(key), version)))
    };
    let table = match &rule.value {
        IdentityRule::Secret(text) => {
            let reference = At { value: text.clone(), span: rule.span.clone() };
            return mac(&reference, Version::Second, reading);
        }
        IdentityRule::Table(table) => table,
    };
    match table {
        TableRule { secret: Some(reference), version, jwt: None } => {
            let made = match version.as_ref().map(|version| version.value) {
                None | Some(2) => Some(Version::Second),
                Some(1) => Some(Version::First),
                Some(_) => None,
            };
            if let (None, Some(written)) = (made, version) {
                let says = "there is no such version of the identity header";
                reading.wrong(Code::WrongValue, &written.span, says, "write 1 or 2");
            }
            mac(reference, made?, reading)
        }
        TableRule { secret: None, version: None, jwt: Some(jwt) } => {
            token(&jwt.value, name, surroundings, reading)
        }
        TableRule { .. } => {
            let says = "`identity` names neither one secret nor one kind of token";
            let help =
                "write \"file:PATH\", { secret = \"file:PATH\", version = 1 } or { jwt = {} }";
            reading.wrong(Code::WrongValue, &rule.span, says, help);
            None
        }
    }
}

fn token(
    rule: &JwtRule,
    name: &str,
    surroundings: &Surroundings<'_>,
    reading: &mut Reading<'_>,
) -> Option<Teller> {
    let JwtRule { audience, lifetime, bind } = rule;
    let span = lifetime.as_ref().map_or(LIFETIME_MAX, |lifetime| lifetime.value.0);
    let mut sound = true;
    if let Some(written) = lifetime
        && !(LIFETIME_MIN..=LIFETIME_MAX).contains(&span)
    {
        let says = "`lifetime` is out of its range";
        let help = "write \"5s\" to \"60s\": whoever copies a token has it for so long";
        reading.wrong(Code::WrongValue, &written.span, says, help);
        sound = false;
    }
    if let Some(written) = audience
        && !(1..=256).contains(&written.len())
    {
        let says = "`audience` has from 1 to 256 bytes";
        reading.wrong(Code::WrongValue, &written.span, says, "write what the service expects");
        sound = false;
    }
    let audience = audience.as_ref().map_or(name, |audience| audience.as_str());
    let issuer = Arc::clone(surroundings.issuer);
    sound.then(|| Teller::Token(Tokens::new(issuer, audience, span, bind.unwrap_or_default())))
}

impl<'de> Deserialize<'de> for IdentityRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // By hand, because serde's untagged enums lose the places of what they hold.
        from.deserialize_any(SecretOrTable)
    }
}

struct SecretOrTable;

impl<'de> Visitor<'de> for SecretOrTable {
    type Value = IdentityRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`\"file:PATH\"`, `{ secret = \"file:PATH\" }` or `{ jwt = {} }`")
    }

    fn visit_str<E: serde::de::Error>(self, secret: &str) -> Result<IdentityRule, E> {
        Ok(IdentityRule::Secret(secret.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IdentityRule, A::Error> {
        TableRule::deserialize(MapAccessDeserializer::new(map)).map(IdentityRule::Table)
    }
}

impl JsonSchema for IdentityRule {
    fn schema_name() -> Cow<'static, str> {
        "IdentityRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<TableRule>();
        json_schema!({
            "description": "How the service is told who calls: a secret for the signed header (\"env:NAME\", \"file:PATH\" or \"generated\"), or a table. Default: not at all.",
            "anyOf": [{ "type": "string" }, table],
        })
    }
}
