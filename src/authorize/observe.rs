//! A door that is only watched until a day: what it would refuse passes, and is recorded.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::clock::Now;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::units::Day;

/// How long a door is only watched, as written: `observe = { until = 2027-01-31 }`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObserveRule {
    /// The day from which on the door enforces, in UTC. Required.
    #[serde(default)]
    pub until: Option<At<Day>>,
    /// Why it does not enforce yet.
    #[serde(default)]
    pub why: Option<String>,
}

/// The end of a time in which a door is only watched.
#[derive(Debug, Clone, Copy)]
pub(in crate::authorize) struct Observe {
    until_unix_s: u64,
}

impl Observe {
    /// Compiles the key of a door; the outer nothing says that it was wrong. A day that has come is
    /// advice only: a policy that was loaded yesterday must load today, and then enforces.
    pub(in crate::authorize) fn compile(
        written: Option<&At<ObserveRule>>,
        now: Now,
        reading: &mut Reading<'_>,
    ) -> Option<Option<Self>> {
        let Some(written) = written else { return Some(None) };
        let Some(until) = &written.value.until else {
            let help = "add `until = 2027-01-31`, the day from which on the door enforces";
            reading.wrong(Code::BadException, &written.span, "an observation without an end", help);
            return None;
        };
        if until.has_come(now) {
            let says = format!("{} has come, and this door enforces", until.value);
            reading.wrong(Code::ObserveEnded, &until.span, says, "remove `observe`");
            return Some(None);
        }
        let says = format!("this door is only watched until {}, and refuses nobody", until.value);
        let help = "remove `observe` when the door is trusted";
        reading.wrong(Code::ObserveOnly, &written.span, says, help);
        Some(until.begins_unix_s().map(|until_unix_s| Self { until_unix_s }))
    }

    /// Whether the time has not ended.
    pub(in crate::authorize) fn holds(self, now: Now) -> bool {
        now.unix_s() < self.until_unix_s
    }

    /// When it ends.
    pub(in crate::authorize) fn until_unix_s(self) -> u64 {
        self.until_unix_s
    }
}
