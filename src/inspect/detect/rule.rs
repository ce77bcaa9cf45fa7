//! The written form of an attack filter, and how it becomes a `Filter`.

use std::fmt::Write;
use std::ops::Range;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::clock::Now;
use crate::inspect::detect::finding::{CERTAIN, LIKELY, WEAK};
use crate::inspect::detect::{Filter, KINDS, Kind};
use crate::inspect::field::{Place, PlaceKind};
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::mistake::{Reading, suggest};
use crate::refusal::Reason;
use crate::units::Day;

/// A filter that looks for attacks in the fields of a request, as written under `[filters.NAME]`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterRule {
    /// The parts that are looked into: `path`, `query`, `headers`, `body`. Default: all.
    #[serde(default)]
    pub look_in: Option<At<Vec<At<String>>>>,
    /// What is looked for: `sql`, `nosql`, `command`, `path-traversal`, `template`, `script`.
    /// Default: all.
    #[serde(default)]
    pub detect: Option<At<Vec<At<String>>>>,
    /// `enforce` refuses, `observe` only records. Default: `enforce`.
    #[serde(default)]
    pub mode: Option<At<String>>,
    /// With `observe`: why the filter does not enforce yet.
    #[serde(default)]
    pub why: Option<At<String>>,
    /// With `observe`: the day from which on that must be decided anew, for example `2026-12-15`.
    #[serde(default)]
    pub until: Option<At<Day>>,
    /// How many layers of encoding are taken off before looking again, 0 to 3. Default: 2.
    #[serde(default)]
    pub decode: Option<At<u8>>,
    /// `low` objects to certain attacks only, `high` also to weak signs. Default: `normal`.
    #[serde(default)]
    pub sensitivity: Option<At<String>>,
    /// Fields in which some kinds of attack are not looked for. Default: none.
    #[serde(default)]
    pub except: Vec<ExceptionRule>,
}

/// A field in which some kinds of attack are not looked for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExceptionRule {
    /// The field: `body.description`, `query.q`, `header.user-agent`, `path`; a `*` at the end
    /// stands for anything.
    pub field: At<String>,
    /// The kinds that are not looked for. Default: all.
    #[serde(default)]
    pub detect: Option<At<Vec<At<String>>>>,
    /// Why this is safe. Required.
    #[serde(default)]
    pub why: Option<At<String>>,
    /// The day from which on the exception no longer holds, for example `2026-12-15`. Default:
    /// none.
    #[serde(default)]
    pub until: Option<At<Day>>,
}

impl FilterRule {
    /// When the filter stops being allowed to only watch, in Unix seconds; nothing for one that
    /// enforces.
    pub fn observes_until_s(&self) -> Option<u64> {
        let observes = self.mode.as_ref().is_some_and(|mode| mode.value == "observe");
        self.until.as_ref().filter(|_| observes)?.value.begins_unix_s()
    }
}

const PLACES: [(&str, PlaceKind); 4] = [
    ("path", PlaceKind::Path),
    ("query", PlaceKind::Query),
    ("headers", PlaceKind::Header),
    ("body", PlaceKind::Body),
];
const SENSITIVITIES: [(&str, u8); 3] = [("low", CERTAIN), ("normal", LIKELY), ("high", WEAK)];
const DECODE_MAX: u8 = 3;

/// Makes the filter, or reports everything that is wrong with its rule.
///
/// `now` decides whether the days that bound exceptions and observation have passed.
pub fn compile(
    rule: &FilterRule,
    origin: &Origin,
    reading: &mut Reading<'_>,
    now: Now,
) -> Option<Filter> {
    let FilterRule { look_in, detect, mode, why, until, decode, sensitivity, except } = rule;
    let places = match look_in {
        None => Some(PLACES.iter().map(|(_, place)| *place).collect()),
        Some(written) => chosen(written, &PLACES, "look_in", reading),
    };
    let reasons = match detect {
        None => Some(KINDS.iter().map(|kind| kind.reason).collect::<Vec<_>>()),
        Some(written) => chosen(written, &kinds(), "detect", reading),
    };
    let observe = observes(mode.as_ref(), (why.as_ref(), until.as_ref()), reading, now);
    let threshold = match sensitivity {
        None => Some(LIKELY),
        Some(written) => one_of(written, &SENSITIVITIES, reading),
    };
    let layers = match decode {
        None => Some(2),
        Some(layers) if layers.value <= DECODE_MAX => Some(layers.value),
        Some(layers) => {
            let says = format!("`decode = {}` is out of range", layers.value);
            reading.wrong(Code::WrongValue, &layers.span, says, "write 0, 1, 2 or 3");
            None
        }
    };
    let exceptions: Vec<Option<Exception>> =
        except.iter().map(|rule| exception(rule, reading, now)).collect();
    let exceptions: Option<Vec<Exception>> = exceptions.into_iter().collect();
    let reasons = reasons?;
    Some(Filter {
        origin: origin.clone(),
        places: places?.into(),
        detectors: KINDS
            .into_iter()
            .filter(|kind| reasons.contains(&kind.reason))
            .map(|kind| {
                let detector = (kind.make)();
                (kind, detector)
            })
            .collect(),
        exceptions: exceptions?.into(),
        decode: layers?,
        threshold: threshold?,
        observe: observe?,
    })
}

/// The kinds by the names that policies may write; `xss` is what many call `script`.
fn kinds() -> Vec<(&'static str, Reason)> {
    let named = KINDS.iter().map(|Kind { name, reason, .. }| (*name, *reason));
    named.chain([("xss", Reason::Script)]).collect()
}

fn one_of<T: Copy>(
    written: &At<String>,
    known: &[(&'static str, T)],
    reading: &mut Reading<'_>,
) -> Option<T> {
    let found = known.iter().find(|(name, _)| *name == written.value).map(|(_, value)| *value);
    if found.is_none() {
        let says = format!("`{}` is not known here", written.value);
        let help = suggest(&written.value, known.iter().map(|(name, _)| *name));
        reading.wrong(Code::WrongValue, &written.span, says, help);
    }
    found
}

fn chosen<T: Copy>(
    written: &At<Vec<At<String>>>,
    known: &[(&'static str, T)],
    key: &str,
    reading: &mut Reading<'_>,
) -> Option<Vec<T>> {
    let found: Vec<Option<T>> = written.iter().map(|name| one_of(name, known, reading)).collect();
    if written.is_empty() {
        let says = format!("`{key} = []` leaves the filter nothing to do");
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let help = format!("leave the key out for everything, or choose from {}", names.join(", "));
        reading.wrong(Code::WrongValue, &written.span, says, help);
        return None;
    }
    found.into_iter().collect()
}

/// Whether the filter only watches. Watching needs a reason and an end.
fn observes(
    mode: Option<&At<String>>,
    (why, until): (Option<&At<String>>, Option<&At<Day>>),
    reading: &mut Reading<'_>,
    now: Now,
) -> Option<bool> {
    let observe = match mode {
        None => false,
        Some(mode) => one_of(mode, &[("enforce", false), ("observe", true)], reading)?,
    };
    let (Some(mode), true) = (mode, observe) else {
        if let Some(until) = until {
            let help = "only `mode = \"observe\"` ends; remove the key";
            reading.wrong(Code::WrongValue, &until.span, "`until` bounds nothing here", help);
            return None;
        }
        return Some(false);
    };
    let reasoned = why.is_some_and(|why| !why.trim().is_empty());
    if !reasoned || until.is_none() {
        let help = "add `why = \"…\"` and `until = 2026-12-15`";
        let says = "an observation without a reason and an end";
        reading.wrong(Code::BadException, &mode.span, says, help);
        return None;
    }
    if !still_holds(until, reading, now) {
        return None;
    }
    let says = "this filter only watches and refuses nothing";
    reading.wrong(
        Code::ObserveOnly,
        &mode.span,
        says,
        "write `mode = \"enforce\"` when it is trusted",
    );
    Some(true)
}

fn still_holds(until: Option<&At<Day>>, reading: &mut Reading<'_>, now: Now) -> bool {
    let Some(until) = until.filter(|until| until.has_come(now)) else { return true };
    let says = format!("{} has come, and what it bounded no longer holds", until.value);
    reading.wrong(Code::Expired, &until.span, says, "decide anew: remove it, or set another day");
    false
}

/// A field in which some kinds are not looked for.
pub(in crate::inspect::detect) struct Exception {
    field: Box<str>,
    /// Whether anything may follow `field`.
    open: bool,
    /// The kinds; none means all, and any number of encodings too.
    reasons: Option<Box<[Reason]>>,
}

fn exception(rule: &ExceptionRule, reading: &mut Reading<'_>, now: Now) -> Option<Exception> {
    let ExceptionRule { field, detect, why, until } = rule;
    let reasons = match detect {
        None => Some(None),
        Some(written) => {
            chosen(written, &kinds(), "detect", reading).map(|reasons| Some(reasons.into()))
        }
    };
    let reasoned = why.as_ref().is_some_and(|why| !why.trim().is_empty());
    if !reasoned {
        let says = format!("the exception for `{}` has no reason", field.value);
        reading.wrong(Code::BadException, &field.span, says, "add `why = \"…\"`");
    }
    let holds = still_holds(until.as_ref(), reading, now);
    let named = field_name(&field.value, &field.span, reading);
    let (field, open) = named.filter(|_| reasoned && holds)?;
    Some(Exception { field: field.into(), open, reasons: reasons? })
}

/// Splits `body.tags*` into the name and whether anything may follow it.
fn field_name<'a>(
    written: &'a str,
    span: &Range<usize>,
    reading: &mut Reading<'_>,
) -> Option<(&'a str, bool)> {
    let (name, open) = match written.strip_suffix('*') {
        Some(name) => (name, true),
        None => (written, false),
    };
    let placed = ["query.", "header.", "body."].iter().any(|part| name.starts_with(part));
    if (placed || name == "path" || name == "body") && !name.contains('*') {
        return Some((name, open));
    }
    let says = format!("`{written}` names no field");
    let help = "write `path`, `query.NAME`, `header.NAME` or `body.NAME`, with at most one `*`, at the end";
    reading.wrong(Code::WrongValue, span, says, help);
    None
}

impl Exception {
    /// Whether an objection for this reason at this place is excepted.
    pub(in crate::inspect::detect) fn covers(&self, place: &Place<'_>, reason: Reason) -> bool {
        if self.reasons.as_ref().is_some_and(|reasons| !reasons.contains(&reason)) {
            return false;
        }
        let mut rest = Rest { left: &self.field, open: self.open };
        write!(rest, "{}", place.name).is_ok() && rest.left.is_empty()
    }
}

/// Compares a name with what is expected while it is being written, without keeping it.
struct Rest<'a> {
    left: &'a str,
    open: bool,
}

impl Write for Rest<'_> {
    fn write_str(&mut self, written: &str) -> std::fmt::Result {
        if let Some(left) = self.left.strip_prefix(written) {
            self.left = left;
            return Ok(());
        }
        let begins = self.open && written.starts_with(self.left);
        self.left = "";
        if begins { Ok(()) } else { Err(std::fmt::Error) }
    }
}
