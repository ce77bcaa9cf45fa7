//! Names that `gateway.toml` gives: they stand in metrics, logs and policies, and each only once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::config::rule::KeysRule;
use crate::forward::settings::UpstreamRule;
use crate::listen::settings::ListenerRule;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::mistake::{Mistake, Reading};
use crate::policy::sections::is_name;

/// What a listener is called when nothing else is said.
const LISTENER: &str = "public";

/// Reports names that cannot be one, listeners of one name, and addresses that two of them want.
pub(in crate::config) fn check(
    listeners: &[ListenerRule],
    upstreams: &[(String, Range<usize>, UpstreamRule)],
    reading: &mut Reading<'_>,
) {
    let named = listeners.iter().filter_map(|rule| rule.name.as_ref());
    let named = named.map(|name| (name.value.as_str(), &name.span));
    let upstreams = upstreams.iter().map(|(name, span, _)| (name.as_str(), span));
    for (name, span) in named.chain(upstreams).filter(|(name, _)| !is_name(name)) {
        let help = "names are lower-case letters, digits and hyphens, and begin with a letter";
        reading.wrong(Code::BadName, span, format!("`{name}` cannot be a name"), help);
    }
    for (number, rule) in listeners.iter().enumerate() {
        let mut earlier = listeners.iter().take(number);
        if let Some(first) = earlier.find(|earlier| name(earlier) == name(rule)) {
            let says = format!("two listeners are called `{}`", name(rule));
            let mistake = Mistake::new(Code::DefinedTwice, says)
                .at(reading.source.place(place(rule).clone()))
                .also(reading.source.place(place(first).clone()), "first here")
                .help("give each a `name` of its own; metrics and records tell them apart by it");
            reading.mistakes.push(mistake);
        }
    }
    let mut taken: Vec<&At<String>> = Vec::new();
    for rule in listeners {
        let fixed = |address: &&At<String>| {
            address.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0)
        };
        for address in rule.bind.iter().filter(fixed) {
            if let Some(first) = taken.iter().find(|first| first.value == address.value) {
                let says = format!("two listeners are bound to {}", address.value);
                let mistake = Mistake::new(Code::BadAddress, says)
                    .at(reading.source.place(address.span.clone()))
                    .also(reading.source.place(first.span.clone()), "first here")
                    .help("give one of them another port");
                reading.mistakes.push(mistake);
            }
        }
        // One listener that names an address twice is told so where it is compiled.
        taken.extend(rule.bind.iter().filter(fixed));
    }
}

/// Reports an environment that keys cannot carry.
pub(in crate::config) fn environment(name: &At<String>, reading: &mut Reading<'_>) {
    let fits = (1..=16).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !fits {
        reading.wrong(
            Code::BadName,
            &name.span,
            format!("`{}` is not the name of an environment", name.value),
            "write 1 to 16 lower-case letters and digits, for example \"live\"",
        );
    }
}

/// How long keys of each environment may live. Reports environments that keys cannot carry, lives
/// that are none, and a default that new keys of this gateway would not get.
pub(in crate::config) fn max_ages(
    rule: &KeysRule,
    reading: &mut Reading<'_>,
) -> HashMap<String, Duration> {
    let mut max_ages = HashMap::new();
    for (name, span) in &rule.max_age {
        environment(&At { value: name.clone(), span: span.span.clone() }, reading);
        if span.0.is_zero() {
            let help = "write how long keys may live, for example \"90d\"";
            reading.wrong(Code::WrongValue, &span.span, "keys cannot have an age of 0", help);
        }
        max_ages.insert(name.clone(), span.0);
    }
    let own = rule.max_age.get(&rule.environment.value);
    if let Some(max_age) =
        own.filter(|max_age| !max_age.0.is_zero() && max_age.0 < rule.expire_after.0)
    {
        reading.wrong(
            Code::LongLivedKeys,
            &max_age.span,
            format!(
                "keys of `{}` would live for {} (`expire_after`), but may live for {max_age}",
                rule.environment.value,
                rule.expire_after,
                max_age = max_age.value
            ),
            "new keys get the shorter of both; write it as `expire_after` too",
        );
    }
    max_ages
}

fn name(rule: &ListenerRule) -> &str {
    rule.name.as_ref().map_or(LISTENER, |name| name.value.as_str())
}

/// Where a listener is told from others: its name, or else its addresses.
fn place(rule: &ListenerRule) -> &Range<usize> {
    rule.name.as_ref().map_or(&rule.bind.span, |name| &name.span)
}
