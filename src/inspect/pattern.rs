//! Regular expressions that operators write: linear in time, bounded in size, and always for the whole text.

use regex::{Regex, RegexBuilder};

use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;

/// How large a compiled expression may be.
const BYTES_MAX: usize = 1 << 20;

/// Compiles an expression that a whole text must match. Anchors are added, because an expression
/// that matches anywhere in a text accepts whatever stands around it.
pub(in crate::inspect) fn compile(
    written: &At<String>,
    reading: &mut Reading<'_>,
) -> Option<Regex> {
    let anchored = format!(r"\A(?:{})\z", written.value);
    // Compiled alone first, so that `)(` cannot close the group that anchors it.
    let compiled = [&written.value, &anchored].map(|expression| {
        RegexBuilder::new(expression).size_limit(BYTES_MAX).dfa_size_limit(BYTES_MAX).build()
    });
    match compiled {
        [Ok(_), Ok(whole)] => Some(whole),
        [Err(error), _] | [_, Err(error)] => {
            let says = error.to_string();
            let says = says.lines().last().unwrap_or_default().trim_start_matches("error: ");
            reading.wrong(
                Code::BadExpression,
                &written.span,
                format!("the expression does not compile: {says}"),
                "see https://docs.rs/regex/#syntax; there are no look-arounds and no back-references",
            );
            None
        }
    }
}
