//! Advice on what a route leaves out.

use crate::inspect::field::PlaceKind;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::policy::route::Route;
use crate::policy::rule::RouteRule;

/// Advice on what a route leaves out.
pub(in crate::policy) fn advise(rule: &RouteRule, route: &Route, reading: &mut Reading<'_>) {
    let span = &rule.pattern.span;
    let name = &route.name;
    let changes = route.changes_things();
    if changes && route.budgets.is_empty() {
        let says = format!("`routes.{name}` changes things and has no budget of its own");
        reading.wrong(Code::NoLimit, span, says, "add limits = [\"…\"]");
    }
    // What calls about keys may say is settled.
    let is_forwarded = route.destination.upstream().is_some();
    if is_forwarded && changes && route.filters.body_max() > 0 {
        if route.filters.body().accepts_json() && !route.filters.body().has_schema() {
            let says = format!("`routes.{name}` accepts JSON of any shape");
            reading.wrong(
                Code::NoSchema,
                span,
                says,
                "add schema = \"bodies/….json\" to its `body`",
            );
        }
        if !route.filters.looks_in(PlaceKind::Body) {
            let says = format!("bodies of `routes.{name}` are not inspected for attacks");
            reading.wrong(Code::NoFilter, span, says, "name a filter whose `look_in` has \"body\"");
        }
    }
}
