//! Which query parameters a route accepts, and with which values.

pub mod value;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::inspect::decode;
use crate::inspect::query::value::{Param, ParamRule};
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::refusal::{Reason, Refusal};

/// Which query parameters are accepted.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryRule {
    /// Parameters that are accepted with any value: `["limit", "dueDate[lt]"]`.
    #[serde(default)]
    pub allow: Vec<At<String>>,
    /// Parameters that are accepted with the values described: `params.limit = { type = "int", min = 1 }`.
    #[serde(default)]
    pub params: BTreeMap<String, At<ParamRule>>,
    /// What happens to parameters that stand in neither list. Default `refuse`.
    #[serde(default)]
    pub extra: Option<Choice>,
    /// What happens to a parameter that stands twice, of which two readers would take two values.
    /// Default `refuse`.
    #[serde(default)]
    pub repeat: Option<Choice>,
}

/// What happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// The request is refused.
    #[default]
    Refuse,
    /// The request passes.
    Allow,
}

/// Which query parameters are accepted.
#[derive(Debug)]
pub struct QueryFilter {
    origin: Origin,
    /// By name.
    known: Box<[(Box<str>, Option<Param>)]>,
    extra: Choice,
    repeat: Choice,
}

/// How many parameters a route may describe; each has a bit that says whether it was seen.
const KNOWN_MAX: usize = 128;

impl QueryFilter {
    /// The filter that a rule describes; `rule` is the address it refuses under.
    pub fn compile(rule: &At<QueryRule>, address: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let QueryRule { allow, params, extra, repeat } = &rule.value;
        let mut known: BTreeMap<&str, Option<Param>> = BTreeMap::new();
        let mut sound = true;
        for name in allow {
            let twice = known.insert(&name.value, None).is_some();
            if twice || params.contains_key(&name.value) {
                reading.wrong(
                    Code::DefinedTwice,
                    &name.span,
                    format!("the parameter `{}` stands twice", name.value),
                    "keep one of the two",
                );
                sound = false;
            }
        }
        for (name, param) in params {
            match Param::compile(name, param, reading) {
                Some(param) => _ = known.insert(name, Some(param)),
                None => sound = false,
            }
        }
        if known.len() > KNOWN_MAX {
            reading.wrong(
                Code::WrongValue,
                &rule.span,
                format!("{} parameters are described", known.len()),
                format!("a route may describe at most {KNOWN_MAX}"),
            );
            sound = false;
        }
        sound.then(|| Self {
            origin: reading.origin(address, &rule.span),
            known: known.into_iter().map(|(name, param)| (name.into(), param)).collect(),
            extra: extra.unwrap_or_default(),
            repeat: repeat.unwrap_or_default(),
        })
    }

    /// Looks at a query, without its `?`.
    ///
    /// # Errors
    /// `query-refused`, or `query-malformed` for what cannot be decoded.
    pub fn check(&self, query: Option<&str>) -> Result<(), Refusal> {
        let mut seen: u128 = 0;
        let mut others: Vec<Cow<'_, str>> = Vec::new();
        for pair in decode::pairs(query.unwrap_or_default()) {
            let (name, value) = pair.ok_or_else(|| Refusal::new(Reason::QueryMalformed))?;
            let place = self.known.binary_search_by(|(known, _)| (**known).cmp(&name));
            let Some((index, (known, param))) =
                place.ok().and_then(|index| Some((index, self.known.get(index)?)))
            else {
                if self.extra == Choice::Refuse {
                    return Err(self.refuse("a parameter that is not accepted".into()));
                }
                if self.repeat == Choice::Refuse {
                    others.push(name);
                }
                continue;
            };
            let bit = 1 << index;
            if seen & bit != 0 && self.repeat == Choice::Refuse {
                return Err(self.refuse(format!("`{known}` stands twice")));
            }
            seen |= bit;
            if let Some(why) = param.as_ref().and_then(|param| param.objection(&value)) {
                return Err(self.refuse(format!("`{known}` {why}")));
            }
        }
        others.sort_unstable();
        if others.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            return Err(self.refuse("a parameter stands twice".into()));
        }
        for (index, (name, param)) in self.known.iter().enumerate() {
            if param.as_ref().is_some_and(Param::is_required) && seen & (1 << index) == 0 {
                return Err(self.refuse(format!("`{name}` is missing")));
            }
        }
        Ok(())
    }

    fn refuse(&self, why: String) -> Refusal {
        Refusal::new(Reason::QueryRefused).by(&self.origin).because(why)
    }
}

#[cfg(test)]
mod tests;
