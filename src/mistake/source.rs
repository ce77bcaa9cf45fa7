//! A file that an operator wrote, and places in it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

/// A file that an operator wrote: its path as it is shown, and its text.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The path, as messages show it.
    pub path: String,
    /// The whole text.
    pub text: String,
    /// Where each line after the first begins. Every rule asks for its line, so counting from the
    /// top each time would cost the square of the file's length.
    later_lines: Box<[usize]>,
}

impl Source {
    /// A file with this path and text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        let later_lines = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Arc::new(Self { path: path.into(), text, later_lines })
    }

    /// The line, counted from 1, and the column, counted from 1 in characters, of a byte offset.
    pub fn line_and_column(&self, offset: usize) -> (u32, u32) {
        let offset = offset.min(self.text.len());
        // A place inside a character is nowhere; it is told as the beginning.
        let offset = if self.text.is_char_boundary(offset) { offset } else { 0 };
        let later = self.later_lines.partition_point(|start| *start <= offset);
        let begins = later.checked_sub(1).and_then(|last| self.later_lines.get(last));
        let before = self.text.get(begins.copied().unwrap_or_default()..offset);
        let line = later + 1;
        let column = before.unwrap_or_default().chars().count() + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// The whole lines that a byte range touches, and the number of the first, counted from 1.
    pub fn lines(&self, span: &Range<usize>) -> (Range<usize>, u32) {
        let (start, end) = (span.start.min(self.text.len()), span.end.min(self.text.len()));
        let before = self.later_lines.partition_point(|begin| *begin <= start);
        let first = before.checked_sub(1).and_then(|last| self.later_lines.get(last));
        let after = self.later_lines.partition_point(|begin| *begin <= end);
        let last = self.later_lines.get(after).map_or(self.text.len(), |begin| begin - 1);
        let number = u32::try_from(before + 1).unwrap_or(u32::MAX);
        (first.copied().unwrap_or_default()..last.max(end), number)
    }

    /// The place of a byte range in this file.
    pub fn place(self: &Arc<Self>, span: Range<usize>) -> Place {
        Place { source: Arc::clone(self), span }
    }
}

/// A stretch of an operator's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// The bytes meant.
    pub span: Range<usize>,
}

impl Place {
    /// Whether another place is in the same file.
    pub fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source) || self.source == other.source
    }

    /// The line, counted from 1.
    pub fn line(&self) -> u32 {
        self.source.line_and_column(self.span.start).0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.source.line_and_column(self.span.start);
        write!(f, "{}:{line}:{column}", self.source.path)
    }
}

/// A rule's address in the policy (`limits.write`) with the file and line where it stands.
///
/// Every compiled rule carries one, and it reaches the record: "refused by `limits.write`,
/// policies/policy.toml:39".
#[derive(Clone, PartialEq, Eq)]
pub struct Origin(Arc<OriginParts>);

#[derive(PartialEq, Eq)]
struct OriginParts {
    rule: String,
    path: String,
    line: u32,
}

impl Origin {
    /// The rule with this address, standing at `place`.
    pub fn new(rule: impl Into<String>, place: &Place) -> Self {
        Self(Arc::new(OriginParts {
            rule: rule.into(),
            path: place.source.path.clone(),
            line: place.line(),
        }))
    }

    /// The rule's address, for example `limits.write`.
    pub fn rule(&self) -> &str {
        &self.0.rule
    }

    /// The file it stands in.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The line it stands on, counted from 1.
    pub fn line(&self) -> u32 {
        self.0.line
    }

    /// A part of the same rule, for example `allow[0]`, at a place of its own.
    pub fn part(&self, part: &str, place: &Place) -> Self {
        Self::new(format!("{}.{part}", self.0.rule), place)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}:{}", self.0.rule, self.0.path, self.0.line)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

/// A value and the bytes of the file that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// What was written.
    pub value: T,
    /// Where: byte offsets in the file that is being read.
    pub span: Range<usize>,
}

impl<T> std::ops::Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(from)?;
        Ok(Self { span: spanned.span(), value: spanned.into_inner() })
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for At<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    // By default this would be the bare name, and two types of one name would be taken for one.
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}
