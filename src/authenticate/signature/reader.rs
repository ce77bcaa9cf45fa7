//! Reads `Signature-Input` and `Signature`: strictly where they are written so, and otherwise as
//! RFC 9651 lets them be written.

use crate::authenticate::signature::coverage::Demanded;
use crate::authenticate::signature::fields::{BEYOND_ASCII, Malformed, ascii};
use crate::authenticate::signature::input::Inputs;
use crate::authenticate::signature::value::Value;
use crate::authenticate::signature::{lenient, strict};

/// Reads the text of `Signature-Input`. A signature that covers just one of `demanded`, as it is
/// written, is not read component by component.
///
/// # Errors
/// When it is no Dictionary, has too many members, or one label twice: of two members with one
/// label RFC 9651 would keep the last, and another reader may not.
pub fn inputs<'a>(
    text: &'a (impl AsRef<[u8]> + ?Sized),
    demanded: &'a [Demanded],
) -> Result<Inputs<'a>, Malformed> {
    let (text, mut inputs) = (text.as_ref(), Inputs::default());
    match strict::inputs(text, demanded, &mut inputs) {
        Some(()) => Ok(inputs),
        None => lenient::inputs(ascii(text).ok_or(BEYOND_ASCII)?),
    }
}

/// Reads the text of `Signature` and finds the one with this label.
///
/// # Errors
/// When it is no Dictionary, has too many members or one label twice, or when the label is missing
/// or its value is no byte sequence.
pub fn signature(text: &[u8], label: &str) -> Result<Value, Malformed> {
    match strict::signature(text, label) {
        Some(value) => Ok(value),
        None => {
            let text = ascii(text).ok_or(BEYOND_ASCII)?;
            lenient::signature(text, label).map(Value::from)
        }
    }
}
