//! Reads `Signature-Input` and `Signature`: strictly where they are written so, and otherwise as
//! RFC 9651 lets them be written.

use crate::authenticate::signature::coverage::Demanded;
use crate::authenticate::signature::fields::Malformed;
use crate::authenticate::signature::input::Input;
use crate::authenticate::signature::{lenient, strict};

/// Reads the text of `Signature-Input`. A signature that covers just one of `demanded`, as it is
/// written, is not read component by component.
///
/// # Errors
/// When it is no Dictionary, has too many members, or one label twice: of two members with one
/// label RFC 9651 would keep the last, and another reader may not.
pub fn inputs<'a>(text: &'a str, demanded: &'a [Demanded]) -> Result<Vec<Input<'a>>, Malformed> {
    strict::inputs(text, demanded).map_or_else(|| lenient::inputs(text), Ok)
}

/// Reads the text of `Signature` and finds the one with this label.
///
/// # Errors
/// When it is no Dictionary, has too many members or one label twice, or when the label is missing
/// or its value is no byte sequence.
pub fn signature(text: &str, label: &str) -> Result<Vec<u8>, Malformed> {
    strict::signature(text, label).map_or_else(|| lenient::signature(text, label), Ok)
}
