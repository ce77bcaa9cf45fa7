//! Decides whether this principal may use this route, door by door, and makes a `Permit`.

pub mod door;
mod owner;
pub mod step_up;
pub mod vocabulary;

#[cfg(test)]
pub(crate) mod tests;

use std::ops::Range;

use crate::authenticate::Principal;
use crate::authorize::door::{Door, DoorRule, DoorVerdict};
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
}

/// The doors of one route. One that opens is enough; inside a door everything must hold.
#[derive(Debug)]
pub struct Doors(Kind);

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
        Self(Kind::Open)
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
            .map(|(number, rule)| Door::compile(number, rule, frame, reading))
            .collect();
        let doors: Option<Box<[Door]>> = doors.into_iter().collect();
        doors.map(|doors| Self(Kind::Guarded(doors)))
    }

    /// Lets a principal in through the first door that opens.
    ///
    /// # Errors
    /// When none opens: what was missing at the door that came furthest, the first one of several.
    pub fn allow(
        &self,
        principal: Principal,
        head: &Head,
        parameters: &Parameters,
        now: Now,
    ) -> Result<Permit, Refusal> {
        let doors = match &self.0 {
            Kind::Open => return Ok(Permit { principal, door: None }),
            Kind::Guarded(doors) => doors,
        };
        let mut furthest = None;
        for door in doors {
            match door.first_missing(&principal, head, parameters, now) {
                None => return Ok(Permit { principal, door: Some(door.origin().clone()) }),
                Some(missing) => {
                    if furthest.is_none_or(|(_, best)| missing.passed > best) {
                        furthest = Some(((door, missing.condition), missing.passed));
                    }
                }
            }
        }
        match furthest {
            Some(((door, condition), _)) => Err(door.refusal(condition, &principal, now)),
            // Compiling makes no list without doors; were there one, nobody would pass it.
            None => Err(Refusal::new(Reason::ScopeMissing)),
        }
    }

    /// Whether everybody may come in who got as far as this.
    pub fn let_anyone_in(&self) -> bool {
        match &self.0 {
            Kind::Open => true,
            Kind::Guarded(doors) => doors.iter().any(Door::is_for_anyone),
        }
    }

    /// Who may come in, in words: `scopes tasks:read and roles member or anyone authenticated`.
    pub fn describe(&self) -> String {
        match &self.0 {
            Kind::Open => "everybody".to_owned(),
            Kind::Guarded(doors) => {
                doors.iter().map(Door::describe).collect::<Vec<_>>().join(" or ")
            }
        }
    }

    /// What every door says to this principal, condition by condition, for `explain`.
    pub fn explain(
        &self,
        principal: &Principal,
        head: &Head,
        parameters: &Parameters,
        now: Now,
    ) -> Vec<DoorVerdict> {
        match &self.0 {
            Kind::Open => Vec::new(),
            Kind::Guarded(doors) => {
                doors.iter().map(|door| door.explain(principal, head, parameters, now)).collect()
            }
        }
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
        Self { principal, door: None }
    }
}
