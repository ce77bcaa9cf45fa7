//! The header fields of a message: a short list in the order in which they came.
//!
//! Messages have few fields and are asked for many that are not there. Going through a list of a
//! dozen names, nearly all of which are one byte to compare, costs less than one hash; and a list
//! keeps the order of the wire, which a map does not. Values that came over the wire stay where
//! they came, in the one block that all of them share. How long a list may grow is for whoever reads
//! a message to bound: all lookups walk through it.

pub mod line;
pub mod name;
pub mod value;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::fields::line::{LineEnds, controls, place_within, split_field};
use crate::fields::name::{Named, Naming};
use crate::fields::value::{Short, Value};

/// The header fields of a message, in the order in which they came. A name may stand more than once.
#[derive(Clone, Default)]
pub struct Fields {
    /// What the values of a read head lie in.
    block: Bytes,
    lines: Vec<Line>,
}

#[derive(Clone)]
struct Line {
    name: HeaderName,
    place: Place,
}

/// Where a value is.
#[derive(Clone)]
enum Place {
    /// In the block.
    Block(Range<u32>),
    /// Here, and short.
    Short(Short),
    /// Elsewhere.
    Own(HeaderValue),
}

impl Fields {
    /// No fields.
    pub const fn new() -> Self {
        Self { block: Bytes::new(), lines: Vec::new() }
    }

    /// No fields, with room for so many.
    pub fn with_capacity(count: usize) -> Self {
        Self { block: Bytes::new(), lines: Vec::with_capacity(count) }
    }

    /// Reads the field lines that stand in `block` from byte `start` up to the empty line that ends
    /// them, showing each to `see`. There will be room for `more` than there are.
    ///
    /// A name is a token directly followed by its colon (RFC 9112, section 5.1), so that a blank
    /// before the colon and a folded line are refused. Values are shown without the blanks around
    /// them, and hold no control but tabs.
    ///
    /// # Errors
    /// `malformed` where a line is none; what `see` says otherwise.
    pub fn read<E: Copy>(
        block: &Bytes,
        (start, ends): (usize, &LineEnds),
        more: usize,
        malformed: E,
        mut see: impl FnMut(&HeaderName, &[u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut lines = Vec::with_capacity(ends.lines() + more);
        let mut at = start;
        let place = |at: usize| u32::try_from(at).map_err(|_| malformed);
        while let Some((line, next)) = ends.line(lines.len(), at, block)
            && !line.is_empty()
        {
            let (name, value) = split_field(line).ok_or(malformed)?;
            // A value with a control in it means nothing, so nothing is said of what it means.
            see(&name, value).map_err(|says| if controls(value) > 0 { malformed } else { says })?;
            // The value ends where its line does, but for blanks.
            let value_start = at + place_within(line, value);
            let place = Place::Block(place(value_start)?..place(value_start + value.len())?);
            lines.push(Line { name, place });
            at = next;
        }
        // Each line has the two controls of its end, and no other but tabs.
        let written = block.get(start..at).unwrap_or_default();
        if controls(written) != 2 * lines.len() {
            return Err(malformed);
        }
        Ok(Self { block: block.clone(), lines })
    }

    /// How many fields there are; a name that stands twice counts twice.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    #[inline]
    fn value<'a>(&'a self, line: &'a Line) -> Value<'a> {
        match &line.place {
            Place::Block(Range { start, end }) => {
                Value(self.block.get(*start as usize..*end as usize).unwrap_or_default())
            }
            Place::Short(short) => Value(short.as_bytes()),
            Place::Own(value) => Value(value.as_bytes()),
        }
    }

    /// The first value of the field with this name.
    #[inline]
    pub fn get(&self, wanted: impl Named) -> Option<Value<'_>> {
        self.lines.iter().find(|line| wanted.is(&line.name)).map(|line| self.value(line))
    }

    /// All values of the field with this name, in their order.
    #[inline]
    pub fn get_all<N: Named>(&self, wanted: N) -> All<'_, N> {
        All { fields: self, rest: self.lines.iter(), wanted }
    }

    /// Whether a field with this name is there.
    #[inline]
    pub fn contains_key(&self, wanted: impl Named) -> bool {
        self.lines.iter().any(|line| wanted.is(&line.name))
    }

    /// The names, each as often as it stands.
    pub fn keys(&self) -> impl Iterator<Item = &HeaderName> {
        self.lines.iter().map(|line| &line.name)
    }

    /// The values.
    pub fn values(&self) -> impl Iterator<Item = Value<'_>> {
        self.lines.iter().map(|line| self.value(line))
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, Value<'_>)> {
        self.lines.iter().map(|line| (&line.name, self.value(line)))
    }

    /// Names and values as maps hold them: what lies in the block is shared, and what is marked
    /// stays marked.
    pub fn header_values(&self) -> impl Iterator<Item = (&HeaderName, HeaderValue)> {
        self.lines.iter().filter_map(|line| {
            let value = match &line.place {
                Place::Own(value) => Some(value.clone()),
                Place::Short(short) => short.to_header_value(),
                Place::Block(Range { start, end }) => {
                    let value = self.block.slice(*start as usize..*end as usize);
                    // It was looked at when it was read, so this does not fail.
                    HeaderValue::from_maybe_shared(value).ok()
                }
            };
            value.map(|value| (&line.name, value))
        })
    }

    /// Adds a field behind all others, beside those of its name.
    #[inline]
    pub fn append(&mut self, name: impl Naming, value: HeaderValue) {
        self.lines.push(Line { name: name.name(), place: Place::Own(value) });
    }

    /// Sets a field: the first of its name has this value then, and no other is left.
    pub fn insert(&mut self, name: impl Naming, value: HeaderValue) {
        self.set(name.name(), Place::Own(value));
    }

    /// As [`insert`](Self::insert), with a value that needs no memory of its own.
    pub fn insert_short(&mut self, name: impl Naming, value: Short) {
        self.set(name.name(), Place::Short(value));
    }

    fn set(&mut self, name: HeaderName, place: Place) {
        let mut lines = self.lines.iter_mut();
        let Some(first) = lines.find(|line| line.name == name) else {
            return self.lines.push(Line { name, place });
        };
        first.place = place;
        if lines.any(|line| line.name == name) {
            let mut seen = false;
            self.lines.retain(|line| line.name != name || !std::mem::replace(&mut seen, true));
        }
    }

    /// Takes out all fields of this name. Tells whether there was one.
    pub fn remove(&mut self, unwanted: impl Named) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| !unwanted.is(&line.name));
        self.lines.len() < before
    }

    /// Keeps only the fields that are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&HeaderName) -> bool) {
        self.lines.retain(|line| wanted(&line.name));
    }
}

/// Names alone: a value may be a secret.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

/// The values of one field, in their order.
#[derive(Clone)]
pub struct All<'a, N> {
    fields: &'a Fields,
    rest: std::slice::Iter<'a, Line>,
    wanted: N,
}

impl<'a, N: Named> Iterator for All<'a, N> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        let line = self.rest.find(|line| self.wanted.is(&line.name))?;
        Some(self.fields.value(line))
    }
}

impl<N: Named> DoubleEndedIterator for All<'_, N> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let line = self.rest.rfind(|line| self.wanted.is(&line.name))?;
        Some(self.fields.value(line))
    }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Self::with_capacity(map.len());
        let mut last = None;
        for (name, value) in map {
            // A map names only the first of several.
            last = name.or(last);
            if let Some(name) = &last {
                fields.append(name.clone(), value);
            }
        }
        fields
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        for (name, value) in fields.header_values() {
            map.append(name.clone(), value);
        }
        map
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        let own = |(name, value)| Line { name, place: Place::Own(value) };
        Self { block: Bytes::new(), lines: fields.into_iter().map(own).collect() }
    }
}
