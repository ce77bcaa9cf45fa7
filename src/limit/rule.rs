//! A limit as written in `[limits.NAME]`, and compiled.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::authorize::vocabulary::Vocabulary;
use crate::limit::buckets::name_hash;
use crate::limit::token_bucket::TokenBucket;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::mistake::{Mistake, Reading, suggest};
use crate::name::Name;
use crate::refusal::Mode;
use crate::units::{Rate, Span};

/// A limit: `[limits.write]`. Routes name it in their `limits`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitRule {
    /// What owns a budget: `"principal"`, `"key"`, `"address"` or `"route"`, or a list for one
    /// budget per combination. There is no default, because the wrong one looks right in a test.
    pub per: At<PerRule>,
    /// How many tokens one request costs. 1 by default.
    #[serde(default)]
    pub cost: Option<At<u64>>,
    /// `"enforce"` (the default) refuses over budget; `"observe"` only tells the record.
    #[serde(default)]
    pub mode: Option<At<Mode>>,
    /// The budget of everybody. Either this or `tiers`.
    #[serde(default)]
    pub all: Option<At<BudgetRule>>,
    /// The budget of each tier. Whoever is in none of them gets the strictest.
    #[serde(default)]
    pub tiers: Option<At<BTreeMap<String, At<BudgetRule>>>>,
}

/// A budget: `{ burst = 20, refill = "20/min" }`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetRule {
    /// How many tokens a full bucket holds. 0 lets nothing through.
    pub burst: u64,
    /// How fast it fills.
    pub refill: Rate,
}

/// One thing that can own a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// Who calls, whichever of their credentials they show. An anonymous caller's address.
    Principal,
    /// One credential. An anonymous caller's address.
    Key,
    /// The caller's address: IPv4 by itself, IPv6 by its /64, because a single caller has that many.
    Address,
    /// The route.
    Route,
}

impl Per {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Principal, Self::Key, Self::Address, Self::Route];

    /// The name, as policy writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Key => "key",
            Self::Address => "address",
            Self::Route => "route",
        }
    }
}

/// `per` as written: one name, or a list of them.
#[derive(Debug, Clone)]
pub struct PerRule(pub Vec<Per>);

/// A compiled limit.
#[derive(Debug)]
pub struct Limit {
    name: Box<str>,
    name_hash: u64,
    origin: Origin,
    per: Box<[Per]>,
    cost: u64,
    mode: Mode,
    strictest: TokenBucket,
    tiers: Box<[(Name, TokenBucket)]>,
}

impl Limit {
    /// Compiles a limit. Reports budgets that cannot work and tiers that nothing defines.
    pub fn compile(
        name: &At<String>,
        rule: &LimitRule,
        vocabulary: &Vocabulary,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let LimitRule { per, cost, mode, all, tiers } = rule;
        let per = owners(per, reading);
        let cost = cost.clone().unwrap_or_else(|| At { value: 1, span: name.span.clone() });
        let mode =
            mode.clone().unwrap_or_else(|| At { value: Mode::Enforce, span: name.span.clone() });
        if mode.value == Mode::Observe {
            let says = format!("limit `{}` only watches", name.value);
            let help = "write `mode = \"enforce\"` when the record shows what you expect";
            reading.wrong(Code::ObserveOnly, &mode.span, says, help);
        }
        if cost.value == 0 {
            let help = "leave `cost` out for 1, or leave the limit out of the route";
            reading.wrong(Code::BadLimit, &cost.span, "a cost of 0 limits nothing", help);
        }
        let budgets = match (all, tiers) {
            (Some(all), None) => budget(all, cost.value, reading).map(|all| (all, Vec::new())),
            (None, Some(tiers)) => tiered(tiers, cost.value, vocabulary, reading),
            (both_or_none, _) => {
                let span = both_or_none.as_ref().map_or(&name.span, |all| &all.span);
                let says = format!("limit `{}` needs `all` or `tiers`, and not both", name.value);
                let help = "write `all = { burst = 20, refill = \"20/min\" }`, or a table \
                            [limits.NAME.tiers] with a budget for each tier";
                reading.wrong(Code::BadLimit, span, says, help);
                None
            }
        };
        let (per, (strictest, tiers)) = (per?, budgets?);
        if cost.value == 0 {
            return None;
        }
        Some(Self {
            origin: reading.origin(format!("limits.{}", name.value), &name.span),
            name: name.as_str().into(),
            name_hash: name_hash(name.as_str()),
            per,
            cost: cost.value,
            mode: mode.value,
            strictest,
            tiers: tiers.into(),
        })
    }

    /// The name, as routes use it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name as a number, for the keys of buckets.
    pub fn name_hash(&self) -> u64 {
        self.name_hash
    }

    /// The limit's address in the policy.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What owns a budget; several for one budget per combination.
    pub fn per(&self) -> &[Per] {
        &self.per
    }

    /// How many tokens one request costs; at least 1.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Whether the limit refuses or only watches.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Who has how much, in words: `write (per principal: free 30 in 1m, pro 600 in 1m)`.
    pub fn describe(&self) -> String {
        let per: Vec<&str> = self.per.iter().map(|per| per.name()).collect();
        let budget = |bucket: &TokenBucket| {
            let window =
                bucket.interval().saturating_mul(u32::try_from(bucket.burst()).unwrap_or(u32::MAX));
            format!("{} in {}", bucket.burst(), Span(window))
        };
        let budgets = if self.tiers.is_empty() {
            budget(&self.strictest)
        } else {
            let tiers =
                self.tiers.iter().map(|(tier, bucket)| format!("{tier} {}", budget(bucket)));
            tiers.collect::<Vec<_>>().join(", ")
        };
        let watches = if self.mode == Mode::Observe { ", observed" } else { "" };
        format!("{} (per {}: {budgets}{watches})", self.name, per.join(" and "))
    }

    /// The bucket of a caller in this tier; the strictest for every other caller.
    pub fn bucket(&self, tier: Option<Name>) -> &TokenBucket {
        tier.and_then(|tier| self.tiers.iter().find(|(name, _)| *name == tier))
            .map_or(&self.strictest, |(_, bucket)| bucket)
    }
}

fn owners(per: &At<PerRule>, reading: &mut Reading<'_>) -> Option<Box<[Per]>> {
    let mut owners = per.value.0.clone();
    owners.sort_unstable();
    owners.dedup();
    if owners.len() != per.value.0.len() || owners.is_empty() {
        let help = "name each owner once, for example `per = [\"principal\", \"route\"]`";
        reading.wrong(Code::BadLimit, &per.span, "`per` must name different owners", help);
        return None;
    }
    if owners.contains(&Per::Key) && owners.contains(&Per::Principal) {
        let help = "write `per = \"key\"`; every key has one principal only";
        let says = "`key` already tells principals apart";
        reading.wrong(Code::BadLimit, &per.span, says, help);
        return None;
    }
    Some(owners.into())
}

/// One budget, with everything checked that can be wrong about it.
pub(in crate::limit) fn budget(
    rule: &At<BudgetRule>,
    cost: u64,
    reading: &mut Reading<'_>,
) -> Option<TokenBucket> {
    if rule.burst == 0 {
        let help = "remove the route, or give somebody a budget in [limits.NAME.tiers]";
        reading.wrong(Code::BadLimit, &rule.span, "a burst of 0 refuses everybody", help);
        return None;
    }
    bucket(rule, cost, reading)
}

fn bucket(rule: &At<BudgetRule>, cost: u64, reading: &mut Reading<'_>) -> Option<TokenBucket> {
    if rule.burst > 0 && cost > rule.burst {
        let says = format!("a request costs {cost}, more than the burst of {}", rule.burst);
        let help = "make the burst at least as large as the cost, or 0 to refuse on purpose";
        reading.wrong(Code::BadLimit, &rule.span, says, help);
        return None;
    }
    let made = TokenBucket::new(rule.burst, rule.refill);
    if made.is_none() {
        let says = format!("a burst of {} cannot fill at {}", rule.burst, rule.refill);
        let help = "the rate must be at least 1, at most one a nanosecond, and fill the burst \
                    within a year";
        reading.wrong(Code::BadLimit, &rule.span, says, help);
    }
    made
}

type Tiered = (TokenBucket, Vec<(Name, TokenBucket)>);

fn tiered(
    tiers: &At<BTreeMap<String, At<BudgetRule>>>,
    cost: u64,
    vocabulary: &Vocabulary,
    reading: &mut Reading<'_>,
) -> Option<Tiered> {
    let mut sound = true;
    let mut made = Vec::new();
    for (tier, rule) in tiers.iter() {
        if !vocabulary.tiers().any(|(known, _)| known == tier) {
            let known = vocabulary.tiers().map(|(known, _)| known);
            let mistake = Mistake::new(Code::Undefined, format!("tier `{tier}` is not defined"))
                .at(reading.source.place(rule.span.clone()))
                .label(format!("the budget of `{tier}`"))
                .help(suggest(tier, known));
            reading.mistakes.push(mistake);
            sound = false;
        }
        match bucket(rule, cost, reading) {
            Some(bucket) => made.push((Name::new(tier), bucket)),
            None => sound = false,
        }
    }
    if sound && made.iter().all(|(_, bucket)| bucket.burst() == 0) {
        let help = "give at least one tier a burst";
        reading.wrong(Code::BadLimit, &tiers.span, "no tier has a budget at all", help);
        return None;
    }
    // Strictest is who gets least over time, then who gets least at once.
    let strictness = |bucket: &TokenBucket| {
        (bucket.burst() > 0, std::cmp::Reverse(bucket.interval()), bucket.burst())
    };
    let strictest = made.iter().map(|(_, bucket)| *bucket).min_by_key(strictness)?;
    sound.then_some((strictest, made))
}

impl<'de> Deserialize<'de> for PerRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(PerVisitor)
    }
}

struct PerVisitor;

impl<'de> Visitor<'de> for PerVisitor {
    type Value = PerRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"principal\", \"key\", \"address\" or \"route\", or a list of them")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PerRule, E> {
        let found = Per::ALL.into_iter().find(|per| per.name() == text);
        let help = || suggest(text, Per::ALL.map(Per::name));
        found
            .map(|per| PerRule(vec![per]))
            .ok_or_else(|| E::custom(format!("`{text}` owns no budget; {}", help())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PerRule, A::Error> {
        let mut owners = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            owners.extend(Self.visit_str(&text).map(|PerRule(owner)| owner)?);
        }
        Ok(PerRule(owners))
    }
}

impl JsonSchema for PerRule {
    fn schema_name() -> Cow<'static, str> {
        "Per".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = Per::ALL.map(Per::name);
        json_schema!({ "anyOf": [
            { "type": "string", "enum": names },
            { "type": "array", "items": { "type": "string", "enum": names }, "minItems": 1, "uniqueItems": true },
        ] })
    }
}
