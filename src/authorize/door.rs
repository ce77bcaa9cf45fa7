//! One door of a route: what it asks for, and whether a principal has it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::authenticate::{Grant, Principal};
use crate::authorize::Frame;
use crate::authorize::verdict::{ConditionVerdict, DoorVerdict};
use crate::head::Head;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::mistake::{Reading, suggest};
use crate::name::{Name, Names};
use crate::refusal::{Reason, Refusal};
use crate::route::Parameters;
use crate::units::Network;

/// One way into a route. Everything in it must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoorRule {
    /// `true` opens the door to every caller who is authenticated; only `from` may stand beside it.
    #[serde(default)]
    pub anyone: Option<At<bool>>,
    /// Scopes, all of which the credential must hold.
    #[serde(default)]
    pub scopes: Option<At<Vec<At<String>>>>,
    /// Roles, one of which the credential must hold, directly or through a role that includes it.
    #[serde(default)]
    pub roles: Option<At<Vec<At<String>>>>,
    /// Tiers, one of which the credential must be in.
    #[serde(default)]
    pub tiers: Option<At<Vec<At<String>>>>,
    /// `"path.NAME"` or `"query.NAME"`: this value of the request must be the credential's owner.
    #[serde(default)]
    pub owner: Option<At<String>>,
    /// Networks, in one of which the caller's address must lie.
    #[serde(default)]
    pub from: Option<At<Vec<Network>>>,
}

/// One compiled door.
#[derive(Debug)]
pub struct Door {
    origin: Origin,
    conditions: Box<[Condition]>,
}

/// One thing that a door asks for.
#[derive(Debug)]
enum Condition {
    /// All of these.
    Scopes(Names),
    /// One of `asked`; `holders` are all roles that are, or include, one of them.
    Roles { asked: Names, holders: Names },
    /// One of these.
    Tiers(Names),
    /// The principal's subject equals this value of the request.
    Owner(Owner),
    /// The caller's address lies in one of these.
    From(Box<[Network]>),
}

#[derive(Debug)]
enum Owner {
    Path(Box<str>),
    Query(Box<str>),
}

/// The first condition of a door that did not hold, and how many before it did.
#[derive(Clone, Copy, Debug)]
pub(in crate::authorize) struct Missing {
    pub(in crate::authorize) condition: usize,
    pub(in crate::authorize) passed: usize,
}

impl Door {
    pub(in crate::authorize) fn compile(
        number: usize,
        rule: &At<DoorRule>,
        frame: Frame<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let DoorRule { anyone, scopes, roles, tiers, owner, from } = &rule.value;
        let vocabulary = frame.vocabulary;
        let asked = [
            scopes.as_ref().map(|names| {
                let names = list("scopes", names, reading, |name, r| vocabulary.scope(name, r))?;
                Some(Condition::Scopes(names))
            }),
            roles.as_ref().map(|names| {
                let asked = list("roles", names, reading, |name, r| vocabulary.role(name, r))?;
                let holders: Vec<Names> = asked.iter().map(|n| vocabulary.holders(n)).collect();
                let holders = holders.iter().flat_map(Names::iter).collect();
                Some(Condition::Roles { asked, holders })
            }),
            tiers.as_ref().map(|names| {
                let names = list("tiers", names, reading, |name, r| vocabulary.tier(name, r))?;
                Some(Condition::Tiers(names))
            }),
            owner.as_ref().map(|owner| Owner::compile(owner, frame.parameters, reading)),
        ];
        let identity = asked.iter().any(Option::is_some);
        let from = from.as_ref().map(|networks| {
            not_empty("from", networks, reading)?;
            Some(Condition::From(networks.value.as_slice().into()))
        });
        let means_something = match anyone {
            Some(anyone) => anyone_stands_alone(anyone, identity, reading),
            None if identity || from.is_some() => true,
            None => {
                let help = "name what it asks for, or write `{ anyone = true }`";
                reading.wrong(Code::NoDoor, &rule.span, "this door asks for nothing", help);
                false
            }
        };
        let conditions: Option<Box<[Condition]>> =
            asked.into_iter().flatten().chain(from).collect();
        let conditions = conditions.filter(|_| means_something)?;
        let place = reading.source.place(rule.span.clone());
        Some(Self { origin: frame.route.part(&format!("allow[{number}]"), &place), conditions })
    }

    /// Whether it asks for nothing.
    pub(in crate::authorize) fn is_for_anyone(&self) -> bool {
        self.conditions.is_empty()
    }

    /// The door's address in the policy.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What it asks for, in words.
    pub(in crate::authorize) fn describe(&self) -> String {
        if self.conditions.is_empty() {
            return "anyone authenticated".to_owned();
        }
        let conditions = self.conditions.iter();
        let words = conditions.map(|condition| format!("{} {}", condition.key(), condition.asks()));
        words.collect::<Vec<_>>().join(" and ")
    }

    pub(in crate::authorize) fn first_missing(
        &self,
        principal: &Principal,
        head: &Head,
        parameters: &Parameters,
    ) -> Option<Missing> {
        self.conditions
            .iter()
            .position(|condition| !condition.holds(principal.grant(), head, parameters))
            .map(|number| Missing { condition: number, passed: number })
    }

    /// Notes with the credential which of its scopes opened this door.
    pub(in crate::authorize) fn note_use(&self, principal: &Principal) {
        let Some(grant) = principal.grant() else { return };
        for condition in &self.conditions {
            if let Condition::Scopes(asked) = condition {
                grant.usage.note_scopes(grant.scopes.places(asked));
            }
        }
    }

    pub(in crate::authorize) fn refusal(&self, condition: usize, principal: &Principal) -> Refusal {
        let Some(condition) = self.conditions.get(condition) else {
            return Refusal::new(Reason::ScopeMissing).by(&self.origin);
        };
        let private = format!(
            "asks for {} {}; {}",
            condition.key(),
            condition.asks(),
            condition.lack(principal.grant())
        );
        Refusal::new(condition.reason()).by(&self.origin).because(private)
    }

    pub(in crate::authorize) fn explain(
        &self,
        principal: &Principal,
        head: &Head,
        parameters: &Parameters,
    ) -> DoorVerdict {
        let conditions: Vec<ConditionVerdict> = self
            .conditions
            .iter()
            .map(|condition| {
                let holds = condition.holds(principal.grant(), head, parameters);
                let because =
                    if holds { Cow::Borrowed("") } else { condition.lack(principal.grant()) };
                ConditionVerdict {
                    key: condition.key(),
                    asks: condition.asks(),
                    holds,
                    because: because.into_owned(),
                }
            })
            .collect();
        let opens = conditions.iter().all(|condition| condition.holds);
        DoorVerdict { door: self.origin.clone(), opens, conditions }
    }
}

impl Condition {
    fn holds(&self, grant: Option<&Grant>, head: &Head, parameters: &Parameters) -> bool {
        match self {
            Self::Scopes(asked) => grant.is_some_and(|grant| grant.scopes.contains_all(asked)),
            Self::Roles { holders, .. } => {
                grant.is_some_and(|grant| grant.roles.contains_any(holders))
            }
            Self::Tiers(asked) => {
                grant.and_then(|grant| grant.tier).is_some_and(|tier| asked.contains(tier))
            }
            Self::Owner(owner) => {
                grant.is_some_and(|grant| owner.is(&grant.subject, head, parameters))
            }
            Self::From(networks) => networks.iter().any(|network| network.contains(head.client)),
        }
    }

    fn key(&self) -> &'static str {
        match self {
            Self::Scopes(_) => "scopes",
            Self::Roles { .. } => "roles",
            Self::Tiers(_) => "tiers",
            Self::Owner(_) => "owner",
            Self::From(_) => "from",
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Scopes(_) => Reason::ScopeMissing,
            Self::Roles { .. } => Reason::RoleMissing,
            Self::Tiers(_) => Reason::TierMissing,
            Self::Owner(_) => Reason::NotOwner,
            Self::From(_) => Reason::NetworkRefused,
        }
    }

    fn asks(&self) -> String {
        match self {
            Self::Scopes(names) | Self::Tiers(names) | Self::Roles { asked: names, .. } => {
                words(names)
            }
            Self::Owner(Owner::Path(name)) => format!("path.{name}"),
            Self::Owner(Owner::Query(name)) => format!("query.{name}"),
            Self::From(networks) => {
                networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// What the principal has instead, in words.
    fn lack(&self, grant: Option<&Grant>) -> Cow<'static, str> {
        if let Self::From(_) = self {
            return "the caller's address lies in none of them".into();
        }
        let Some(grant) = grant else { return "the caller is anonymous".into() };
        match self {
            Self::Scopes(_) => format!("the key has {}", words(&grant.scopes)).into(),
            Self::Roles { asked, .. } => {
                let held = words(&grant.roles);
                format!("the key has {held}, which includes none of {}", words(asked)).into()
            }
            Self::Tiers(_) => match grant.tier {
                Some(tier) => format!("the key is in {tier}").into(),
                None => "the key is in no tier".into(),
            },
            Self::Owner(_) => "the value is not the key's subject".into(),
            Self::From(_) => Cow::Borrowed(""),
        }
    }
}

impl Owner {
    fn compile(
        written: &At<String>,
        parameters: &[&str],
        reading: &mut Reading<'_>,
    ) -> Option<Condition> {
        match written.split_once('.') {
            Some(("path", name)) if parameters.contains(&name) => {
                Some(Condition::Owner(Self::Path(name.into())))
            }
            Some(("path", name)) => {
                let says = format!("the route's pattern has no parameter `{name}`");
                let help = suggest(name, parameters.iter().copied());
                reading.wrong(Code::Undefined, &written.span, says, help);
                None
            }
            Some(("query", name)) if !name.is_empty() => {
                Some(Condition::Owner(Self::Query(name.into())))
            }
            _ => {
                let says = format!("`{}` does not name a value of the request", written.value);
                let help = "write \"path.NAME\" or \"query.NAME\"";
                reading.wrong(Code::WrongValue, &written.span, says, help);
                None
            }
        }
    }

    fn is(&self, subject: &str, head: &Head, parameters: &Parameters) -> bool {
        let value = match self {
            Self::Path(name) => parameters.get(name),
            Self::Query(name) => head.query.as_deref().and_then(|query| only_value(query, name)),
        };
        // A credential without a subject owns nothing, not even the empty value.
        !subject.is_empty()
            && value.is_some_and(|value| percent_decode_str(value).eq(subject.bytes()))
    }
}

/// The value of the only parameter with this name, still encoded.
///
/// Nothing when services could read the query in more than one way: the name stands twice, in any
/// case, or the query has a `;`, which some take for `&`, or the value a `+`, which some take for a
/// space. The owner must be beyond doubt.
fn only_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    if query.contains(';') {
        return None;
    }
    let mut values = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let same = percent_decode_str(key)
            .map(|byte| byte.to_ascii_lowercase())
            .eq(name.bytes().map(|byte| byte.to_ascii_lowercase()));
        same.then_some((key, value))
    });
    let (key, value) = values.next()?;
    let exact = percent_decode_str(key).eq(name.bytes());
    (values.next().is_none() && exact && !value.contains('+')).then_some(value)
}

/// Reads a list of names, each of which must be defined.
fn list(
    key: &str,
    names: &At<Vec<At<String>>>,
    reading: &mut Reading<'_>,
    defined: impl Fn(&At<String>, &mut Reading<'_>) -> Option<Name>,
) -> Option<Names> {
    not_empty(key, names, reading)?;
    let names: Vec<Option<Name>> = names.iter().map(|name| defined(name, reading)).collect();
    names.into_iter().collect()
}

fn not_empty<T>(key: &str, list: &At<Vec<T>>, reading: &mut Reading<'_>) -> Option<()> {
    if list.is_empty() {
        let says = format!("`{key}` is empty, so this door never opens");
        let help = format!("name at least one, or leave `{key}` out");
        reading.wrong(Code::ClosedDoor, &list.span, says, help);
        return None;
    }
    Some(())
}

fn anyone_stands_alone(anyone: &At<bool>, identity: bool, reading: &mut Reading<'_>) -> bool {
    if !anyone.value {
        let help = "leave `anyone` out; a door is closed to all that its conditions do not name";
        reading.wrong(Code::ClosedDoor, &anyone.span, "`anyone = false` means nothing", help);
        return false;
    }
    if identity {
        let says =
            "`anyone` opens this door to all, and the conditions beside it would mean nothing";
        let help = "remove `anyone`, or the conditions; only `from` may stand beside it";
        reading.wrong(Code::WrongValue, &anyone.span, says, help);
        return false;
    }
    true
}

fn words(names: &Names) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut words: Vec<&str> = names.iter().map(Name::text).collect();
    words.sort_unstable();
    words.join(", ")
}
