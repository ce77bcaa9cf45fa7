//! One door of a route: what it asks for, and whether a principal has it.

use std::borrow::Cow;

use crate::authenticate::Principal;
use crate::authorize::Frame;
use crate::authorize::circumstance::{Circumstance, Written};
use crate::authorize::observe::Observe;
use crate::authorize::owner::Owner;
use crate::authorize::rule::DoorRule;
use crate::authorize::step_up::{ClaimAsked, StepUp};
use crate::authorize::verdict::{ConditionVerdict, DoorVerdict};
use crate::clock::Now;
use crate::head::Head;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::name::{Name, Names};
use crate::refusal::{Reason, Refusal};
use crate::route::Parameters;
use crate::units::Network;

/// One compiled door.
#[derive(Debug)]
pub struct Door {
    origin: Origin,
    conditions: Box<[Condition]>,
    observe: Option<Observe>,
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
    /// The request comes at such a time, or on such a connection.
    Circumstance(Circumstance),
    /// The token has this claim.
    Claim(ClaimAsked),
    /// The person was authenticated so. It stands last: who lacks nothing else is asked for it.
    StepUp(StepUp),
}

/// The first condition of a door that did not hold, and how many before it did.
#[derive(Clone, Copy, Debug)]
pub(in crate::authorize) struct Missing {
    pub(in crate::authorize) condition: usize,
    pub(in crate::authorize) passed: usize,
}

impl Door {
    pub(in crate::authorize) fn compile(
        part: &str,
        rule: &At<DoorRule>,
        frame: Frame<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let DoorRule { anyone, scopes, roles, tiers, owner, from, .. } = &rule.value;
        let DoorRule { certificates, days, hours, zone, observe, .. } = &rule.value;
        let DoorRule { claims, acr, amr, max_age, .. } = &rule.value;
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
            owner.as_ref().map(|owner| {
                Owner::compile(owner, frame.parameters, reading).map(Condition::Owner)
            }),
        ];
        let claims = claims.as_ref().map(|claims| ClaimAsked::compile(claims, reading));
        let claims = claims.into_iter().flatten().map(|claim| claim.map(Condition::Claim));
        let claims: Vec<Option<Condition>> = claims.collect();
        let step_up = StepUp::compile((acr.as_ref(), amr.as_ref()), max_age.as_ref(), reading);
        let step_up = step_up.map(|step_up| step_up.map(Condition::StepUp));
        let identity = asked.iter().any(Option::is_some) || !claims.is_empty() || step_up.is_some();
        let written = Written { certificates, days, hours, zone };
        let circumstances = Circumstance::compile(&written, reading);
        let means_more = identity || !circumstances.is_empty();
        let circumstances = circumstances.into_iter().map(|made| made.map(Condition::Circumstance));
        let from = from.as_ref().map(|networks| {
            not_empty("from", networks, reading)?;
            Some(Condition::From(networks.value.as_slice().into()))
        });
        let means_something = match anyone {
            Some(anyone) => anyone_stands_alone(anyone, identity, reading),
            None if means_more || from.is_some() => true,
            None => {
                let help = "name what it asks for, or write `{ anyone = true }`";
                reading.wrong(Code::NoDoor, &rule.span, "this door asks for nothing", help);
                false
            }
        };
        let conditions = asked.into_iter().flatten().chain(from).chain(circumstances);
        let conditions: Option<Box<[Condition]>> =
            conditions.chain(claims).chain(step_up).collect();
        let conditions = conditions.filter(|_| means_something)?;
        let place = reading.source.place(rule.span.clone());
        let observe = Observe::compile(observe.as_ref(), frame.now, reading)?;
        Some(Self { origin: frame.route.part(part, &place), conditions, observe })
    }

    /// Whether it asks for nothing.
    pub(in crate::authorize) fn is_for_anyone(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether it is only watched at this time.
    pub(in crate::authorize) fn is_observed(&self, now: Now) -> bool {
        self.observe.is_some_and(|observe| observe.holds(now))
    }

    /// When it stops being only watched, in Unix seconds, if it is watched at all.
    pub(in crate::authorize) fn observed_until_s(&self) -> Option<u64> {
        self.observe.map(|observe| observe.until_unix_s())
    }

    /// Whether it asks for all that the other one does; not, where that cannot be told, and never
    /// while it is only watched.
    pub(in crate::authorize) fn asks_more_than(&self, other: &Self) -> bool {
        let implied = |wanted: &Condition| self.conditions.iter().any(|own| own.implies(wanted));
        self.observe.is_none() && other.conditions.iter().all(implied)
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
        now: Now,
    ) -> Option<Missing> {
        self.conditions
            .iter()
            .position(|condition| !condition.holds(principal, head, parameters, now))
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

    pub(in crate::authorize) fn refusal(
        &self,
        condition: usize,
        principal: &Principal,
        now: Now,
    ) -> Refusal {
        let Some(condition) = self.conditions.get(condition) else {
            return Refusal::new(Reason::ScopeMissing).by(&self.origin);
        };
        let private = format!(
            "asks for {} {}; {}",
            condition.key(),
            condition.asks(),
            condition.lack(principal, now)
        );
        condition.refusal().by(&self.origin).because(private)
    }

    /// The refusal of a door that denies.
    pub(in crate::authorize) fn denial(&self) -> Refusal {
        let private = format!("denies {}", self.describe());
        Refusal::new(Reason::DoorDenied).by(&self.origin).because(private)
    }

    pub(in crate::authorize) fn explain(
        &self,
        principal: &Principal,
        head: &Head,
        parameters: &Parameters,
        now: Now,
    ) -> DoorVerdict {
        let conditions: Vec<ConditionVerdict> = self
            .conditions
            .iter()
            .map(|condition| {
                let holds = condition.holds(principal, head, parameters, now);
                let because =
                    if holds { Cow::Borrowed("") } else { condition.lack(principal, now) };
                ConditionVerdict {
                    key: condition.key(),
                    asks: condition.asks(),
                    holds,
                    because: because.into_owned(),
                }
            })
            .collect();
        let opens = conditions.iter().all(|condition| condition.holds);
        let (door, observed) = (self.origin.clone(), self.is_observed(now));
        DoorVerdict { door, opens, denies: false, observed, conditions }
    }
}

impl Condition {
    fn holds(&self, by: &Principal, head: &Head, parameters: &Parameters, now: Now) -> bool {
        let grant = by.grant();
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
            Self::From(networks) => {
                networks.iter().any(|network| network.contains(head.parties.client))
            }
            Self::Circumstance(circumstance) => circumstance.holds(head, now),
            Self::Claim(claim) => claim.holds(by),
            Self::StepUp(step_up) => step_up.holds(by, now),
        }
    }

    /// Whether the other one holds wherever this does.
    fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scopes(own), Self::Scopes(asked)) => own.contains_all(asked),
            (Self::Roles { holders: own, .. }, Self::Roles { holders, .. }) => {
                holders.contains_all(own)
            }
            (Self::Tiers(own), Self::Tiers(asked)) => asked.contains_all(own),
            _ => self.key() == other.key() && self.asks() == other.asks(),
        }
    }

    fn key(&self) -> &'static str {
        match self {
            Self::Scopes(_) => "scopes",
            Self::Roles { .. } => "roles",
            Self::Tiers(_) => "tiers",
            Self::Owner(_) => "owner",
            Self::From(_) => "from",
            Self::Circumstance(circumstance) => circumstance.key(),
            Self::Claim(_) => "claim",
            Self::StepUp(_) => "authentication",
        }
    }

    fn refusal(&self) -> Refusal {
        match self {
            Self::Scopes(_) => Reason::ScopeMissing.into(),
            Self::Roles { .. } => Reason::RoleMissing.into(),
            Self::Tiers(_) => Reason::TierMissing.into(),
            Self::Owner(_) => Reason::NotOwner.into(),
            Self::From(_) => Reason::NetworkRefused.into(),
            Self::Circumstance(circumstance) => circumstance.reason().into(),
            Self::Claim(_) => Reason::ClaimMissing.into(),
            Self::StepUp(step_up) => step_up.refusal(),
        }
    }

    fn asks(&self) -> String {
        match self {
            Self::Scopes(names) | Self::Tiers(names) | Self::Roles { asked: names, .. } => {
                words(names)
            }
            Self::Owner(owner) => owner.to_string(),
            Self::Circumstance(circumstance) => circumstance.asks(),
            Self::Claim(claim) => claim.asks(),
            Self::StepUp(step_up) => step_up.asks(),
            Self::From(networks) => {
                networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// What the principal has instead, in words.
    fn lack(&self, by: &Principal, now: Now) -> Cow<'static, str> {
        match self {
            Self::From(_) => return "the caller's address lies in none of them".into(),
            Self::Circumstance(circumstance) => return circumstance.lack(now),
            _ => {}
        }
        let Some(grant) = by.grant() else { return "the caller is anonymous".into() };
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
            Self::Claim(_) => "the token has no such claim".into(),
            Self::StepUp(step_up) => step_up.lack(by, now),
            Self::From(_) | Self::Circumstance(_) => Cow::Borrowed(""),
        }
    }
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
