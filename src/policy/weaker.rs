//! Finds where a route is weaker than the policy around it: than its defaults, or than another
//! route whose paths it reaches by a rewrite.

use std::collections::BTreeMap;

use crate::mistake::code::Code;
use crate::mistake::{Mistake, Mistakes, Reading};
use crate::policy::Unmatched;
use crate::policy::beside::{share_a_method, share_a_service};
use crate::policy::route::Route;
use crate::policy::rule::{DefaultsRule, RouteRule};
use crate::policy::sections::Named;

/// Reports all of it. `written` are the rules that `routes` were made of.
pub(in crate::policy) fn report(
    written: &[Named<RouteRule>],
    routes: &[Route],
    (defaults, unmatched): (&DefaultsRule, Option<&Unmatched>),
    mistakes: &mut Mistakes,
) {
    let made: BTreeMap<&str, &Route> = routes.iter().map(|route| (&*route.name, route)).collect();
    // What a route rewrites is not at its own path.
    let direct: Vec<&Route> = routes.iter().filter(|route| route.rewrite.is_none()).collect();
    for Named { name, rule, source } in written {
        let Some(route) = made.get(name.value.as_str()) else { continue };
        let mut reading = Reading { source, mistakes };
        than_defaults(rule, route, defaults, &mut reading);
        if let Some(unmatched) = unmatched.filter(|_| defaults.auth.is_some()) {
            than_default_auth(rule, route, unmatched, &mut reading);
        }
        than_reached(rule, route, &direct, &mut reading);
    }
}

/// Routes that change things are not looked at where other advice says the same with more words.
fn than_defaults(
    rule: &RouteRule,
    route: &Route,
    defaults: &DefaultsRule,
    reading: &mut Reading<'_>,
) {
    let name = &route.name;
    let is_filtered = defaults.filter.as_ref().is_some_and(|filter| filter.value != "none");
    let takes_bodies = route.changes_things() && route.filters.body_max() > 0;
    if let Some(filter) = rule.filter.as_ref().filter(|filter| filter.value == "none")
        && is_filtered
        && !takes_bodies
    {
        let says = format!("`routes.{name}` switches the default filter off");
        let help = "leave `filter` out; an `except` in the filter allows one field on purpose";
        reading.wrong(Code::WeakerThanDefault, &filter.span, says, help);
    }
    let is_limited = defaults.limits.as_ref().is_some_and(|limits| !limits.is_empty());
    if let Some(limits) = rule.limits.as_ref().filter(|limits| limits.is_empty())
        && is_limited
        && !route.changes_things()
    {
        let says = format!("`routes.{name}` switches the default budgets off");
        let help = "leave `limits` out, or name a wider one";
        reading.wrong(Code::WeakerThanDefault, &limits.span, says, help);
    }
}

/// Reading without a credential is common and said aloud; changing things without one is neither.
fn than_default_auth(
    rule: &RouteRule,
    route: &Route,
    unmatched: &Unmatched,
    reading: &mut Reading<'_>,
) {
    let (own, usual) = (&route.authenticate, &unmatched.authenticate);
    let is_open_for_reading = own.is_open() && !route.changes_things();
    if let Some(auth) = &rule.auth
        && own.proofs() < usual.proofs()
        && !is_open_for_reading
    {
        let says = match own.is_open() {
            true => format!("`routes.{}` lets strangers change things", route.name),
            false => format!("`routes.{}` asks for less proof than the default", route.name),
        };
        let help = format!("leave `auth` out, which asks for {}", usual.describe());
        reading.wrong(Code::WeakerThanDefault, &auth.span, says, help);
    }
}

/// A service sees rewritten paths only, so whatever a rewrite reaches is as open as its own route.
fn than_reached(rule: &RouteRule, route: &Route, direct: &[&Route], reading: &mut Reading<'_>) {
    let (Some(written), Some(rewrite)) = (&rule.rewrite, &route.rewrite) else { return };
    let reached = direct.iter().find(|other| {
        is_weaker(route, other)
            && share_a_service(route, other)
            && share_a_method(route, other)
            && rewrite.may_reach(&route.pattern, &other.pattern)
    });
    if let Some(other) = reached {
        let says =
            format!("the rewrite reaches `routes.{}`, which asks for more than this", other.name);
        let help = format!(
            "ask for as much here ({}; {}), or rewrite to another path",
            other.authenticate.describe(),
            other.doors.describe()
        );
        let place = reading.source.place(written.span.clone());
        let mistake = Mistake::new(Code::BadRewrite, says).at(place).help(help);
        reading.mistakes.push(mistake);
    }
}

fn is_weaker(route: &Route, other: &Route) -> bool {
    route.authenticate.proofs() < other.authenticate.proofs()
        || (route.doors.let_anyone_in() && !other.doors.let_anyone_in())
}
