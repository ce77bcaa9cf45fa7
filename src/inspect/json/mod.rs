//! Checks that bytes are one strict JSON text within limits, and shows its names and texts to the filters.
//!
//! Stricter than RFC 8259 where readers differ, because the service behind is another reader: no
//! member twice, no lone surrogate, no NUL, no number that a double cannot hold. One pass, no
//! recursion; what is allocated is scratch that the thread keeps.

pub mod rule;
pub mod pointer;
mod names;
mod number;
mod reader;
mod text;
mod tree;
#[cfg(test)]
mod tests;

use std::cell::Cell;

use serde_json::Value;

use crate::inspect::json::names::Names;
use crate::inspect::json::pointer::{Frame, Pointer};
use crate::inspect::json::reader::Reader;
use crate::inspect::json::rule::Limits;
use crate::inspect::json::tree::{Builder, Tree};
use crate::refusal::{Reason, Refusal};

/// What a text is: the name of a member, or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The name of a member.
    Name,
    /// A string value.
    Value,
}

/// What wants to see the names and the string values of a JSON text.
pub trait Fields {
    /// Whether texts are wanted at all. If not, none is decoded.
    const READS: bool;

    /// Is shown one text, unescaped, and where it stands.
    ///
    /// # Errors
    /// Whatever this returns ends the check, and is its result.
    fn text(&mut self, at: &Pointer<'_>, part: Part, text: &str) -> Result<(), Refusal>;
}

/// Wants to see nothing.
impl Fields for () {
    const READS: bool = false;

    fn text(&mut self, _: &Pointer<'_>, _: Part, _: &str) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Why the check stops.
enum Stop {
    /// The bytes are not what they must be.
    Flaw(Reason, &'static str),
    /// The filters refused.
    Refused(Box<Refusal>),
}

/// What one check needs beside the text, and the next can use again.
#[derive(Default)]
struct Scratch {
    frames: Vec<Frame>,
    names: Names,
    decoded: String,
}

/// Above this many bytes, decoded text is not kept for the next check.
const DECODED_KEPT_MAX: usize = 64 * 1024;

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Checks that `bytes` are one JSON text within `limits`, and shows its texts to `fields`.
///
/// # Errors
/// The refusal, whose private detail names the byte and the member; or whatever `fields` refused.
pub fn check<F: Fields>(bytes: &[u8], limits: &Limits, fields: &mut F) -> Result<(), Refusal> {
    walk(bytes, limits, fields, &mut ())
}

/// The same, and gives the value that the text means.
///
/// # Errors
/// As [`check`], and `json-malformed` for a number that no double comes near.
pub fn read<F: Fields>(bytes: &[u8], limits: &Limits, fields: &mut F) -> Result<Value, Refusal> {
    let mut tree = Tree::default();
    walk(bytes, limits, fields, &mut tree)?;
    Ok(tree.whole)
}

fn walk<F: Fields, B: Builder>(
    bytes: &[u8],
    limits: &Limits,
    fields: &mut F,
    builder: &mut B,
) -> Result<(), Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Refusal::new(Reason::JsonText).because(format!("not UTF-8 at byte {at}"))
    })?;
    if u32::try_from(text.len()).is_err() {
        return Err(Refusal::new(Reason::JsonSize).because("longer than 4 GiB"));
    }
    let mut scratch = SCRATCH.take();
    scratch.frames.clear();
    scratch.names.begin();
    let mut reader = Reader::new(text, limits, &mut scratch, (fields, builder));
    let result = reader.document().map_err(|stop| match stop {
        Stop::Refused(refusal) => *refusal,
        Stop::Flaw(reason, says) => Refusal::new(reason).because(format!(
            "{says}, at byte {} in {}",
            reader.at(),
            reader.pointer().clipped()
        )),
    });
    scratch.names.end();
    scratch.decoded.clear();
    scratch.decoded.shrink_to(DECODED_KEPT_MAX);
    SCRATCH.set(scratch);
    result
}
