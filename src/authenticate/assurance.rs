//! What a token says of how and when its holder was authenticated, for doors that ask.

use std::collections::HashMap;
use std::sync::Arc;

use crate::authenticate::jwt::json::{Json, Object};
use crate::name::Name;

/// How many values of one claim are kept.
const VALUES_MAX: usize = 64;

/// What a token says beside who calls. An API key says nothing of the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assurance {
    /// The level of authentication (`acr`).
    pub acr: Option<Box<str>>,
    /// The methods of authentication (`amr`, RFC 8176).
    pub amr: Box<[Box<str>]>,
    /// When the person was authenticated (`auth_time`), in Unix seconds.
    pub auth_time_s: Option<u64>,
    /// The claims that doors of the policy ask for.
    pub claims: Box<[(Name, Box<[Value]>)]>,
}

/// One value of a claim. Only what can be compared exactly is a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Box<str>),
    /// A whole number.
    Number(i64),
    /// True or false.
    Bool(bool),
}

/// The claims that doors ask for, by their names in tokens.
pub type Wanted = Arc<HashMap<Box<str>, Name>>;

impl Assurance {
    /// What the claims say, as far as doors ask.
    pub fn of(claims: &Object, auth_time_s: Option<u64>, wanted: &Wanted) -> Self {
        let amr = claims.get("amr").map(Json::each).unwrap_or_default();
        let values =
            |json: &Json| json.each().iter().take(VALUES_MAX).filter_map(Value::of).collect();
        Self {
            acr: claims.text("acr").map(Into::into),
            amr: amr.iter().take(VALUES_MAX).filter_map(Json::text).map(Into::into).collect(),
            auth_time_s,
            claims: claims
                .members()
                .filter_map(|(name, json)| Some((*wanted.get(name)?, values(json))))
                .collect(),
        }
    }

    /// Whether a claim has one of these values, or, where it is a list, holds one of them.
    pub fn claims_any(&self, name: Name, values: &[Value]) -> bool {
        let held = self.claims.iter().find(|(known, _)| *known == name);
        held.is_some_and(|(_, held)| held.iter().any(|value| values.contains(value)))
    }
}

impl Value {
    fn of(json: &Json) -> Option<Self> {
        match json {
            Json::Text(text) => Some(Self::Text(text.clone())),
            Json::Number(number) => number.as_i64().map(Self::Number),
            Json::Bool(value) => Some(Self::Bool(*value)),
            Json::Null | Json::List(_) | Json::Object(_) => None,
        }
    }
}
