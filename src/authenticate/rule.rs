//! `auth` as policy writes it: `{ any = […] }`, `{ all = […] }` or `"none"`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::mistake::source::At;

/// Who may call a route, as it is written.
#[derive(Clone, Debug)]
pub enum AuthRule {
    /// A word. Only `"none"` means something: nothing is asked, on purpose.
    Word(String),
    /// The schemes that prove a caller.
    Schemes(SchemesRule),
}

/// The schemes that prove a caller. Exactly one of the two is written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemesRule {
    /// One of these is enough. Whichever are shown must be good, and of one owner.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub any: Option<Vec<At<String>>>,
    /// All of these are needed, of one owner; the first says what the caller may do.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub all: Option<Vec<At<String>>>,
}

impl<'de> Deserialize<'de> for AuthRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // By hand, because serde's untagged enums lose the places of what they hold.
        from.deserialize_any(WordOrSchemes)
    }
}

struct WordOrSchemes;

impl<'de> Visitor<'de> for WordOrSchemes {
    type Value = AuthRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{ any = [\"api-key\"] }`, `{ all = [\"api-key\", …] }` or `\"none\"`")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<AuthRule, E> {
        Ok(AuthRule::Word(word.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AuthRule, A::Error> {
        SchemesRule::deserialize(MapAccessDeserializer::new(map)).map(AuthRule::Schemes)
    }
}

impl JsonSchema for AuthRule {
    fn schema_name() -> Cow<'static, str> {
        "AuthRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let schemes = generator.subschema_for::<SchemesRule>();
        json_schema!({
            "description": "Who may call: `{ any = [\"api-key\"] }`, `{ all = [\"api-key\", \"signature.NAME\"] }`, or \"none\" to open the route on purpose.",
            "anyOf": [{ "type": "string", "enum": ["none"] }, schemes],
        })
    }
}
