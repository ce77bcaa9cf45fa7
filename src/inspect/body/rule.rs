//! What a route's body may be, as policy writes it.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::inspect::json::rule::JsonRule;
use crate::inspect::schema::ExtraFields;
use crate::mistake::source::At;
use crate::units::Size;

/// What a route's body may be: `"none"`, or a table.
#[derive(Debug, Clone)]
pub enum BodyChoice {
    /// No body is accepted.
    None,
    /// A body is accepted within this rule.
    Rule(Box<BodyRule>),
}

/// What a route's body may be.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyRule {
    /// How large a body may be. Default 1MiB.
    #[serde(default)]
    pub max: Option<At<Size>>,
    /// The content types that are accepted: `["application/json"]`; one `*` may stand in each. Default:
    /// `["application/json"]` where `schema` or `json` is written, otherwise any; but where a filter
    /// looks into bodies, only those that it can read.
    #[serde(default)]
    pub types: Option<At<Vec<String>>>,
    /// A JSON Schema that the body must match: a file, its path counted from the policy directory.
    #[serde(default)]
    pub schema: Option<At<String>>,
    /// What happens to members that the schema does not describe. Default `allow`: the schema decides.
    #[serde(default)]
    pub extra_fields: Option<At<ExtraFields>>,
    /// Whether there must be a body. Default: true where `schema` is written, otherwise false.
    #[serde(default)]
    pub required: Option<bool>,
    /// Limits of JSON bodies. They hold wherever `types` names JSON, and nothing is written here.
    #[serde(default)]
    pub json: Option<At<JsonRule>>,
    /// Whether `Content-Digest` must be there. Where it is, and the body is read, it must be right.
    /// Default `optional`.
    #[serde(default)]
    pub digest: Option<At<DigestChoice>>,
    /// Whether bodies pass without being looked into; only `max`, `types` and `encodings` then hold.
    /// Default false.
    #[serde(default)]
    pub stream: bool,
    /// Content codings that pass, with `stream = true` only: `["gzip"]`. Default none, because what is
    /// compressed cannot be inspected.
    #[serde(default)]
    pub encodings: Option<At<Vec<String>>>,
    /// Whether GET and HEAD may have a body too. Default false.
    #[serde(default)]
    pub on_get: bool,
}

/// Whether `Content-Digest` must be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DigestChoice {
    /// It may be left out.
    #[default]
    Optional,
    /// Every body must have it.
    Required,
}

impl<'de> Deserialize<'de> for BodyChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = BodyChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", or a table such as { max = \"16KiB\" }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<BodyChoice, E> {
                match text {
                    "none" => Ok(BodyChoice::None),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BodyChoice, A::Error> {
                BodyRule::deserialize(MapAccessDeserializer::new(map))
                    .map(|rule| BodyChoice::Rule(Box::new(rule)))
            }
        }
        from.deserialize_any(Written)
    }
}

impl JsonSchema for BodyChoice {
    fn schema_name() -> Cow<'static, str> {
        "BodyChoice".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rule = generator.subschema_for::<BodyRule>();
        json_schema!({
            "description": "What a route's body may be: \"none\", or a table.",
            "anyOf": [{ "type": "string", "const": "none" }, rule],
        })
    }
}
