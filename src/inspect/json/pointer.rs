//! Where in a JSON text something stands, written only when somebody asks.

use std::fmt::{self, Display, Write};

/// An object or array that is open, and how far it has been read.
#[derive(Clone, Copy)]
pub(in crate::inspect::json) enum Frame {
    /// An object, its number, and the member that is being read.
    Object(u32, Option<Span>),
    /// An array, and how many of its elements have begun.
    Array(u32),
}

/// A stretch of the text, or of the decoded names.
#[derive(Clone, Copy, Default)]
pub(in crate::inspect::json) struct Span {
    pub(in crate::inspect::json) start: u32,
    pub(in crate::inspect::json) end: u32,
    /// Whether it lies among the decoded names, because it was written with escapes.
    pub(in crate::inspect::json) decoded: bool,
}

impl Span {
    /// The characters meant.
    pub(in crate::inspect::json) fn of<'t>(self, text: &'t str, decoded: &'t str) -> &'t str {
        let source = if self.decoded { decoded } else { text };
        source.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// A place in a JSON text: `body.title`, `body.tags[3]`, `body["a.b"]`.
///
/// Names that could be taken for something else are quoted, so that no two places are written alike.
pub struct Pointer<'t> {
    pub(in crate::inspect::json) text: &'t str,
    pub(in crate::inspect::json) decoded: &'t str,
    pub(in crate::inspect::json) frames: &'t [Frame],
}

impl Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("body")?;
        for frame in self.frames {
            match frame {
                Frame::Object(_, None) => {}
                Frame::Object(_, Some(name)) => Member(name.of(self.text, self.decoded)).fmt(f)?,
                Frame::Array(begun) => write!(f, "[{}]", begun.saturating_sub(1))?,
            }
        }
        Ok(())
    }
}

impl Pointer<'_> {
    /// The place as text of at most some 120 bytes, for records.
    pub(in crate::inspect::json) fn clipped(&self) -> String {
        clip(self, 120)
    }
}

/// A member's name as part of a place: `.title`, or `["a.b"]` when it is not a plain word. Long
/// names are cut, which shows by a character that no plain word has.
pub struct Member<'t>(pub &'t str);

/// How many characters of a name are written.
const NAME_CHARS_MAX: usize = 64;

impl Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name) = *self;
        if is_plain(name) {
            f.write_char('.')?;
            return f.write_str(name);
        }
        f.write_str("[\"")?;
        for character in name.chars().take(NAME_CHARS_MAX) {
            character.escape_debug().fmt(f)?;
        }
        let cut = name.chars().nth(NAME_CHARS_MAX).is_some();
        f.write_str(if cut { "…\"]" } else { "\"]" })
    }
}

/// Whether a name is a short word of letters, digits, `_`, `-`, `$` and `@`.
pub fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-$@".contains(&byte);
    !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.bytes().all(plain)
}

/// Writes `shown`, and stops where it would get longer than `bytes_max`.
pub fn clip(shown: &dyn Display, bytes_max: usize) -> String {
    struct Clipped {
        written: String,
        bytes_max: usize,
    }
    impl Write for Clipped {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = self.bytes_max.saturating_sub(self.written.len());
            if text.len() <= room {
                self.written.push_str(text);
                return Ok(());
            }
            let cut = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            self.written.push_str(text.get(..cut).unwrap_or_default());
            self.written.push('…');
            Err(fmt::Error)
        }
    }
    let mut clipped = Clipped { written: String::new(), bytes_max };
    // The only error is the one that says that it was clipped.
    let _clipped = write!(clipped, "{shown}");
    clipped.written
}
