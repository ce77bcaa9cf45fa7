//! Advice on what a policy defines and no route uses: often a protection that somebody believes in.

use std::collections::BTreeSet;

use crate::inspect::detect::rule::FilterRule;
use crate::limit::rule::LimitRule;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Mistakes, Reading};
use crate::policy::rule::{DefaultsRule, RouteRule};
use crate::policy::sections::{Named, Single};

/// Reports limits and filters that neither a route nor the defaults name.
pub(in crate::policy) fn report(
    limits: &[Named<LimitRule>],
    filters: &[Named<FilterRule>],
    (routes, defaults): (&[Named<RouteRule>], Option<&Single<DefaultsRule>>),
    mistakes: &mut Mistakes,
) {
    let defaults = defaults.map(|defaults| &defaults.rule.value);
    let budgets = routes.iter().map(|route| &route.rule.limits);
    let budgets = budgets.chain(defaults.map(|defaults| &defaults.limits)).flatten();
    let budgets: BTreeSet<&str> =
        budgets.flat_map(|names| names.iter()).map(|name| name.value.as_str()).collect();
    let examined = routes.iter().map(|route| &route.rule.filter);
    let examined = examined.chain(defaults.map(|defaults| &defaults.filter)).flatten();
    let examined: BTreeSet<&str> = examined.map(|name| name.value.as_str()).collect();
    let limits = limits.iter().map(|limit| ("limit", &limit.name, &limit.source, &budgets));
    let filters = filters.iter().map(|filter| ("filter", &filter.name, &filter.source, &examined));
    for (kind, At { value, span }, source, used) in limits.chain(filters) {
        if !used.contains(value.as_str()) {
            let says = format!("{kind} `{value}` is used by no route");
            let help = "name it in a route or in [defaults], or remove it";
            Reading { source, mistakes }.wrong(Code::UnusedName, span, says, help);
        }
    }
}
