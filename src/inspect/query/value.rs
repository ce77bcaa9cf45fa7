//! The values that a query parameter may have.

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::inspect::pattern;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;

/// The values that a query parameter may have.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParamRule {
    /// What kind of value it is. Default `text`.
    #[serde(default, rename = "type")]
    pub kind: Option<ValueKind>,
    /// The least number; for `int`.
    #[serde(default)]
    pub min: Option<At<i64>>,
    /// The greatest number; for `int`.
    #[serde(default)]
    pub max: Option<At<i64>>,
    /// The only values that there are.
    #[serde(default)]
    pub one_of: Option<At<Vec<String>>>,
    /// How many characters a value may have. Default 256.
    #[serde(default)]
    pub max_length: Option<At<u32>>,
    /// A regular expression that the whole value must match; for `text`.
    #[serde(default)]
    pub pattern: Option<At<String>>,
    /// Whether the value is a list with commas, each of whose items must fit. Default false.
    #[serde(default)]
    pub list: bool,
    /// Whether the parameter must be there. Default false.
    #[serde(default)]
    pub required: bool,
}

/// What kind of value a parameter has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ValueKind {
    /// Any text.
    #[default]
    Text,
    /// A whole number of 64 bits in plain decimal digits.
    Int,
    /// `true` or `false`.
    Bool,
    /// A UUID in its usual form.
    Uuid,
    /// A date, or a date with time and offset: `2026-12-01`, `2026-12-01T09:00:00Z`.
    Date,
}

/// The values that a query parameter may have.
#[derive(Debug)]
pub struct Param {
    kind: ValueKind,
    min: i64,
    max: i64,
    one_of: Option<Box<[Box<str>]>>,
    chars_max: usize,
    pattern: Option<Regex>,
    list: bool,
    required: bool,
}

/// How many characters a value has at most, when nothing else is written.
const CHARS_USUAL: u32 = 256;

impl Param {
    /// The values that a rule describes.
    pub fn compile(name: &str, rule: &At<ParamRule>, reading: &mut Reading<'_>) -> Option<Self> {
        let ParamRule { kind, min, max, one_of, max_length, pattern, list, required } = &rule.value;
        let kind = kind.unwrap_or_default();
        let mut sound = true;
        let bounds = min.as_ref().or(max.as_ref());
        if let Some(bound) = bounds.filter(|_| kind != ValueKind::Int) {
            reading.wrong(
                Code::WrongValue,
                &bound.span,
                format!("`{name}` is bounded, but is no number"),
                "add `type = \"int\"`, or use `max_length` for texts",
            );
            sound = false;
        }
        if let (Some(min), Some(max)) = (min, max)
            && min.value > max.value
        {
            reading.wrong(
                Code::ClosedDoor,
                &min.span,
                format!("no value of `{name}` is at least {} and at most {}", min.value, max.value),
                "swap the two",
            );
            sound = false;
        }
        if let Some(written) = pattern.as_ref().filter(|_| kind != ValueKind::Text) {
            reading.wrong(
                Code::WrongValue,
                &written.span,
                format!("`{name}` has a pattern, but is no text"),
                "keep `type` or `pattern`",
            );
            sound = false;
        }
        if let Some(values) = one_of.as_ref().filter(|values| values.is_empty()) {
            reading.wrong(
                Code::ClosedDoor,
                &values.span,
                format!("no value of `{name}` is accepted"),
                "write the values, or leave `one_of` out",
            );
            sound = false;
        }
        let compiled = pattern.as_ref().map(|written| pattern::compile(written, reading));
        if !sound || matches!(compiled, Some(None)) {
            return None;
        }
        Some(Self {
            kind,
            min: min.as_ref().map_or(i64::MIN, |min| min.value),
            max: max.as_ref().map_or(i64::MAX, |max| max.value),
            one_of: one_of
                .as_ref()
                .map(|values| values.iter().map(|value| value.as_str().into()).collect()),
            chars_max: max_length.as_ref().map_or(CHARS_USUAL, |length| length.value) as usize,
            pattern: compiled.flatten(),
            list: *list,
            required: *required,
        })
    }

    /// Whether the parameter must be there.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// What is wrong with a value, as the end of a sentence; nothing if it is accepted.
    pub fn objection(&self, value: &str) -> Option<&'static str> {
        if value.chars().nth(self.chars_max).is_some() {
            return Some("is too long");
        }
        if self.list {
            return value.split(',').find_map(|item| self.of_one(item));
        }
        self.of_one(value)
    }

    fn of_one(&self, value: &str) -> Option<&'static str> {
        let fits = match self.kind {
            ValueKind::Text => true,
            ValueKind::Int => match integer(value) {
                Some(number) if number < self.min => return Some("is too small"),
                Some(number) if number > self.max => return Some("is too great"),
                number => number.is_some(),
            },
            ValueKind::Bool => matches!(value, "true" | "false"),
            ValueKind::Uuid => is_uuid(value),
            ValueKind::Date => {
                value.parse::<jiff::Timestamp>().is_ok()
                    || (value.len() == 10 && value.parse::<jiff::civil::Date>().is_ok())
            }
        };
        if !fits {
            return Some("is not of its type");
        }
        if self.one_of.as_ref().is_some_and(|known| !known.iter().any(|known| **known == *value)) {
            return Some("is not one of the accepted values");
        }
        if self.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(value)) {
            return Some("does not match its pattern");
        }
        None
    }
}

/// A number in plain decimal digits. A sign other than `-` is none, nor are leading zeros, which
/// some readers take for octal.
fn integer(value: &str) -> Option<i64> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    value.parse().ok()
}

fn is_uuid(value: &str) -> bool {
    value.len() == 36
        && value.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
