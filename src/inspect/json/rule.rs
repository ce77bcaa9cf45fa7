//! How large and how deep a JSON text may be, as policy writes it.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::units::Size;

/// How large and how deep JSON may be.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonRule {
    /// How deep objects and arrays may nest, 1 to 100. Default 32.
    #[serde(default)]
    pub depth: Option<At<u32>>,
    /// How many members all objects may have together, 1 to 100000. Default 1000.
    #[serde(default)]
    pub members: Option<At<u32>>,
    /// How many elements all arrays may have together, 1 to 1000000. Default 10000.
    #[serde(default)]
    pub elements: Option<At<u32>>,
    /// How long one name or text may be, as written between its quotes. Default: as long as the body may be.
    #[serde(default)]
    pub string_max: Option<Size>,
    /// Which numbers are accepted. Default `safe`.
    #[serde(default)]
    pub numbers: Option<Numbers>,
}

/// Which numbers are accepted. None is longer than 64 characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Numbers {
    /// Those that every reader holds: integers from -2^63 to 2^64-1, others within the range of a double.
    #[default]
    Safe,
    /// Any that JSON can write.
    Any,
}

/// How large and how deep a JSON text may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep objects and arrays nest.
    pub depth_max: usize,
    /// How many members all objects have together.
    pub members_max: u32,
    /// How many elements all arrays have together.
    pub elements_max: u32,
    /// How many bytes one name or text has, as written.
    pub string_bytes_max: usize,
    /// Which numbers are accepted.
    pub numbers: Numbers,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 32,
            members_max: 1000,
            elements_max: 10_000,
            string_bytes_max: usize::MAX,
            numbers: Numbers::Safe,
        }
    }
}

impl Limits {
    /// The limits that a rule asks for.
    pub fn compile(rule: &JsonRule, reading: &mut Reading<'_>) -> Option<Self> {
        let JsonRule { depth, members, elements, string_max, numbers } = rule;
        let usual = Self::default();
        let depth = bounded(depth.as_ref(), 32, 100, "depth", reading);
        let members = bounded(members.as_ref(), usual.members_max, 100_000, "members", reading);
        let elements =
            bounded(elements.as_ref(), usual.elements_max, 1_000_000, "elements", reading);
        Some(Self {
            depth_max: depth? as usize,
            members_max: members?,
            elements_max: elements?,
            string_bytes_max: string_max.map_or(usual.string_bytes_max, |size| {
                usize::try_from(size.0).unwrap_or(usize::MAX)
            }),
            numbers: numbers.unwrap_or_default(),
        })
    }
}

/// The number that was written, if it lies between 1 and `most`.
fn bounded(
    written: Option<&At<u32>>,
    usual: u32,
    most: u32,
    key: &str,
    reading: &mut Reading<'_>,
) -> Option<u32> {
    let Some(written) = written else { return Some(usual) };
    if (1..=most).contains(&written.value) {
        return Some(written.value);
    }
    reading.wrong(
        Code::WrongValue,
        &written.span,
        format!("`json.{key}` is {}", written.value),
        format!("write a number from 1 to {most}"),
    );
    None
}
