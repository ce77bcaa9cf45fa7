//! Decides whether this principal may use this route, door by door, and makes a `Permit`.

mod zone;
mod circumstance;
pub mod door;
pub mod rule;
mod observe;
mod owner;
pub mod verdict;
pub mod step_up;
pub mod vocabulary;

#[cfg(test)]
pub(crate) mod tests;

use std::ops::Range;

use crate::authenticate::Principal;
use crate::authorize::door::Door;
use crate::authorize::rule::DoorRule;
use crate::authorize::verdict::DoorVerdict;
use crate::authorize::vocabulary::Vocabulary;
use crate::clock::Now;
use crate::head::Head;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::refusal::{Reason, Refusal};
use crate::route::Parameters;

/// The proof that a principal may use a route. Made by [`Doors::allow`] alone.
#[derive(Debug)]
pub struct Permit {
    principal: Principal,
    door: Option<Origin>,
    observed: Vec<Refusal>,
}

impl Permit {
    /// Who was let in.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The door that opened; nothing on a route that has no doors because its `auth` is `none`.
    pub fn door(&self) -> Option<&Origin> {
        self.door.as_ref()
    }

    /// What doors that are only watched would have refused.
    pub fn observed(&self) -> &[Refusal] {
        &self.observed
    }
}

/// What the doors of a route are compiled with, beside the doors themselves.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The names that the policy defines.
    pub vocabulary: &'a Vocabulary,
    /// The names of the parameters in the route's pattern, for `owner = "path.NAME"`.
    pub parameters: &'a [&'a str],
    /// The route; its doors become `ROUTE.allow[0]` and so on.
    pub route: &'a Origin,
    /// When it is, to judge dates.
    pub now: Now,
}

/// The doors of one route. Those that deny are asked first, and one that fits refuses, whatever the
/// others say; of the others one that opens is enough. Inside a door everything must hold.
#[derive(Debug)]
pub struct Doors {
    kind: Kind,
    deny: Box<[Door]>,
}

#[derive(Debug)]
enum Kind {
    /// The route asks nobody who they are.
    Open,
    /// At least one door.
    Guarded(Box<[Door]>),
}

impl Doors {
    /// The doors of a route with `auth = "none"`: there are none, and everybody passes.
    pub fn open() -> Self {
        Self { kind: Kind::Open, deny: [].into() }
    }

    /// Compiles the `allow` of a route, and reports every door that names what nothing defines,
    /// asks for nothing, or can never open.
    pub fn compile(
        allow: &At<Vec<At<DoorRule>>>,
        frame: Frame<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        if allow.is_empty() {
            no_door(&allow.span, reading);
            return None;
        }
        let doors: Vec<Option<Door>> = allow
            .iter()
            .enumerate()
            .map(|(number, rule)| Door::compile(&format!("allow[{number}]"), rule, frame, reading))
            .collect();
        let doors: Option<Box<[Door]>> = doors.into_iter().collect();
        doors.map(|doors| Self { kind: Kind::Guarded(doors), deny: [].into() })
    }

    /// Adds the `deny` of a route to its doors.
    pub fn denying(
        doors: Option<Self>,
        deny: Option<&At<Vec<At<DoorRule>>>>,
        frame: Frame<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let written = deny.map(|deny| deny.value.as_slice()).unwrap_or_default();
        let mut compiled = Vec::with_capacity(written.len());
        for (number, rule) in written.iter().enumerate() {
            if let Some(owner) = &rule.value.owner {
                let says = "a door that denies cannot be sure of an owner";
                let help = "an owner in doubt would pass; ask for the owner in `allow` instead";
                reading.wrong(Code::WrongValue, &owner.span, says, help);
                compiled.push(None);
            }
            compiled.push(Door::compile(&format!("deny[{number}]"), rule, frame, reading));
        }
        let deny: Option<Box<[Door]>> = compiled.into_iter().collect();
        Some(Self { deny: deny?, ..doors? })
    }

    /// Lets a principal in through the first door that opens, unless one denies.
    ///
    /// A door that is only watched refuses nobody: where no other opens, it lets in, and the permit
    /// tells what it would have refused.
    ///
    /// # Errors
    /// When one denies: that one. When none opens: what was missing at the door that came furthest,
    /// the first one of several.
    pub fn allow(
        &self,
        principal: Principal,
        head: &Head,
        parameters: &Parameters,
        now: Now,
    ) -> Result<Permit, Refusal> {
        let mut observed = Vec::new();
        for door in &self.deny {
            if door.first_missing(&principal, head, parameters, now).is_none() {
                let refusal = door.denial();
                if !door.is_observed(now) {
                    return Err(refusal);
                }
                observed.push(refusal);
            }
        }
        let doors = match &self.kind {
            Kind::Open => return Ok(Permit { principal, door: None, observed }),
            Kind::Guarded(doors) => doors,
        };
        let (mut furthest, mut watched) = (None, None);
        for door in doors {
            match door.first_missing(&principal, head, parameters, now) {
                None => {
                    door.note_use(&principal);
                    return Ok(Permit { principal, door: Some(door.origin().clone()), observed });
                }
                Some(missing) => {
                    if furthest.is_none_or(|(_, best)| missing.passed > best) {
                        furthest = Some(((door, missing.condition), missing.passed));
                    }
                    if watched.is_none() && door.is_observed(now) {
                        watched = Some((door, missing.condition));
                    }
                }
            }
        }
        if let Some((door, condition)) = watched {
            observed.push(door.refusal(condition, &principal, now));
            return Ok(Permit { principal, door: Some(door.origin().clone()), observed });
        }
        match furthest {
            Some(((door, condition), _)) => Err(door.refusal(condition, &principal, now)),
            // Compiling makes no list without doors; were there one, nobody would pass it.
            None => Err(Refusal::new(Reason::ScopeMissing)),
        }
    }

    /// Whether everybody may come in who got as far as this, a door that is only watched included.
    pub fn let_anyone_in(&self) -> bool {
        match &self.kind {
            Kind::Open => true,
            Kind::Guarded(doors) => {
                doors.iter().any(|door| door.is_for_anyone() || door.observed_until_s().is_some())
            }
        }
    }

    /// Whether whoever comes in by these doors would come in by the others, as far as can be told from
    /// what both ask for.
    pub fn cover(&self, others: &Self) -> bool {
        let denied = |door: &Door| self.deny.iter().any(|own| own.describe() == door.describe());
        let (doors, theirs) = match (&self.kind, &others.kind) {
            (_, Kind::Open) => return true,
            (Kind::Open, Kind::Guarded(_)) => return others.let_anyone_in(),
            (Kind::Guarded(doors), Kind::Guarded(theirs)) => (doors, theirs),
        };
        others.deny.iter().all(denied)
            && (others.let_anyone_in()
                || doors.iter().all(|own| theirs.iter().any(|other| own.asks_more_than(other))))
    }

    /// The doors that are only watched, each with the end of that in Unix seconds.
    pub fn watching(&self) -> impl Iterator<Item = (Box<str>, u64)> {
        self.all().filter_map(|door| Some((door.origin().rule().into(), door.observed_until_s()?)))
    }

    /// Who may come in, in words: `scopes tasks:read and roles member or anyone authenticated`.
    pub fn describe(&self) -> String {
        let words =
            |doors: &[Door]| doors.iter().map(Door::describe).collect::<Vec<_>>().join(" or ");
        let allowed = match &self.kind {
            Kind::Open => "everybody".to_owned(),
            Kind::Guarded(doors) => words(doors),
        };
        if self.deny.is_empty() {
            allowed
        } else {
            format!("{allowed}, never {}", words(&self.deny))
        }
    }

    /// What every door says to this principal, condition by condition, for `explain`: those that
    /// deny first, as they are asked.
    pub fn explain(
        &self,
        principal: &Principal,
        head: &Head,
        parameters: &Parameters,
        now: Now,
    ) -> Vec<DoorVerdict> {
        let denies = self.deny.len();
        let verdict = |(number, door): (usize, &Door)| {
            let verdict = door.explain(principal, head, parameters, now);
            DoorVerdict { denies: number < denies, ..verdict }
        };
        self.all().enumerate().map(verdict).collect()
    }

    /// Every door, those that deny first.
    fn all(&self) -> impl Iterator<Item = &Door> {
        let guards: &[Door] = match &self.kind {
            Kind::Open => &[],
            Kind::Guarded(doors) => doors,
        };
        self.deny.iter().chain(guards)
    }
}

fn no_door(span: &Range<usize>, reading: &mut Reading<'_>) {
    reading.wrong(
        Code::NoDoor,
        span,
        "nobody may use this route",
        "write at least one door, for example `allow = [{ scopes = [\"tasks:read\"] }]`, or \
         `allow = [{ anyone = true }]` for every caller who is authenticated",
    );
}

#[cfg(test)]
impl Permit {
    /// A permit for tests of later stages.
    pub(crate) fn for_tests(principal: Principal) -> Self {
        Self { principal, door: None, observed: Vec::new() }
    }
}
