//! Finds routes that can be walked around: a wider one beside them lets through what they guard.
//!
//! Paths are matched to the letter, and many services are not so strict: they take `/api/Admin`,
//! `/api/admin/` and `/api/admin.json` for `/api/admin`. None of these is the guarded route, so all of
//! them fall to the catch-all beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::authenticate::Authenticate;
use crate::mistake::code::Code;
use crate::mistake::source::{Place, Source};
use crate::mistake::{Mistake, Mistakes};
use crate::policy::route::Route;
use crate::policy::rule::RouteRule;
use crate::policy::sections::Named;
use crate::route::pattern::Segment;

/// Advises on each guarded route beside which a catch-all asks for less. `written` are the rules that
/// `routes` were made of.
pub(in crate::policy) fn report(
    written: &[Named<RouteRule>],
    routes: &[Route],
    mistakes: &mut Mistakes,
) {
    let places: BTreeMap<&str, Place> = written
        .iter()
        .map(|Named { name, rule, source }| {
            (name.value.as_str(), Source::place(source, rule.pattern.span.clone()))
        })
        .collect();
    let wide: Vec<&Route> = routes.iter().filter(|route| is_catch_all(route)).collect();
    for guarded in routes {
        let around = wide.iter().find(|wide| {
            takes_variants(wide, guarded)
                && share_a_host(wide, guarded)
                && share_a_method(wide, guarded)
                && share_a_service(wide, guarded)
                && !asks_as_much(wide, guarded)
        });
        if let (Some(around), Some(place)) = (around, places.get(&*guarded.name)) {
            let says = format!(
                "`routes.{}` can be walked around: other spellings of its path fall to `routes.{}`, which asks for less",
                guarded.name, around.name
            );
            let help = "ask for as much at the catch-all, or list the paths of the service one by one; most services take /admin/, /Admin or /admin.json for /admin";
            let mut mistake = Mistake::new(Code::WalkedAround, says).at(place.clone()).help(help);
            if let Some(place) = places.get(&*around.name) {
                mistake = mistake.also(place.clone(), "takes what this one does not");
            }
            mistakes.push(mistake);
        }
    }
}

/// Whether a route takes whatever stands below a path, as it came.
fn is_catch_all(route: &Route) -> bool {
    route.rewrite.is_none()
        && route.destination.upstream().is_some()
        && matches!(route.pattern.segments().last(), Some(Segment::Rest(_)))
}

/// Whether other spellings of a guarded path are taken by a catch-all: it begins alike, and a
/// literal stands where the rest begins.
fn takes_variants(wide: &Route, guarded: &Route) -> bool {
    let mut theirs = guarded.pattern.segments().iter();
    for segment in wide.pattern.segments() {
        let fits = match (segment, theirs.next()) {
            (Segment::Rest(_), next) => {
                let mut left = next.into_iter().chain(theirs);
                return left.any(|segment| matches!(segment, Segment::Literal(_)));
            }
            (Segment::Literal(own), Some(Segment::Literal(other))) => own == other,
            (Segment::Parameter(_, own), Some(Segment::Literal(other))) => own.accepts(other),
            (Segment::Literal(own), Some(Segment::Parameter(_, other))) => other.accepts(own),
            (Segment::Parameter(_, own), Some(Segment::Parameter(_, other))) => {
                own.overlaps(*other)
            }
            (_, Some(Segment::Rest(_)) | None) => false,
        };
        if !fits {
            return false;
        }
    }
    false
}

fn share_a_host(wide: &Route, guarded: &Route) -> bool {
    wide.hosts.is_empty()
        || guarded.hosts.is_empty()
        || wide.hosts.iter().any(|host| guarded.hosts.contains(host))
}

/// Whether two routes have a method in common.
pub(in crate::policy) fn share_a_method(route: &Route, other: &Route) -> bool {
    match (route.pattern.method(), other.pattern.method()) {
        (Some(own), Some(others)) => own == others,
        (None, _) | (_, None) => true,
    }
}

/// Whether the same service stands behind two routes.
pub(in crate::policy) fn share_a_service(route: &Route, other: &Route) -> bool {
    let services = (route.destination.upstream(), other.destination.upstream());
    matches!(services, (Some(own), Some(others)) if Arc::ptr_eq(own, others))
}

/// Whether whoever gets through the catch-all would get through the guarded route, too.
fn asks_as_much(wide: &Route, guarded: &Route) -> bool {
    proves_as_much(&wide.authenticate, &guarded.authenticate) && wide.doors.cover(&guarded.doors)
}

fn proves_as_much(wide: &Authenticate, guarded: &Authenticate) -> bool {
    let asked: Vec<&str> = guarded.schemes().collect();
    let mut shown = wide.schemes();
    let (wants_all, shows_all) =
        (guarded.proofs() == asked.len(), wide.proofs() == wide.schemes().count());
    match (guarded.is_open(), wide.is_open()) {
        (true, _) => true,
        (false, true) => false,
        // With one scheme, all of them and any of them are the same.
        (false, false) if wants_all && asked.len() > 1 => {
            shows_all && asked.iter().all(|scheme| wide.schemes().any(|shown| shown == *scheme))
        }
        (false, false) if shows_all => shown.any(|scheme| asked.contains(&scheme)),
        (false, false) => shown.all(|scheme| asked.contains(&scheme)),
    }
}
