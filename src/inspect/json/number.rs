//! Numbers: their grammar, their length, and whether every reader can hold them.

use crate::inspect::json::Stop;
use crate::inspect::json::rule::Numbers;
use crate::refusal::Reason;

/// How many characters a number may have.
const CHARS_MAX: usize = 64;

/// How many digits always fit into 64 bits.
const DIGITS_SAFE: usize = 18;

/// Reads the number that `rest` begins with, and says how long it is.
pub(in crate::inspect::json) fn length(rest: &str, numbers: Numbers) -> Result<usize, Stop> {
    let bytes = rest.as_bytes();
    let digits_from = |at: usize| {
        bytes.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let whole = match bytes.get(sign) {
        Some(b'0') => 1,
        Some(b'1'..=b'9') => digits_from(sign),
        _ => return Err(Stop::Flaw(Reason::JsonMalformed, "a number without a digit")),
    };
    let mut at = sign + whole;
    let mut integer = true;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits_from(at + 1);
        if fraction == 0 {
            return Err(Stop::Flaw(Reason::JsonMalformed, "a fraction without a digit"));
        }
        at += 1 + fraction;
        integer = false;
    }
    let mut exponent = false;
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let digits = digits_from(at);
        if digits == 0 {
            return Err(Stop::Flaw(Reason::JsonMalformed, "an exponent without a digit"));
        }
        at += digits;
        integer = false;
        exponent = true;
    }
    if at > CHARS_MAX {
        return Err(Stop::Flaw(Reason::JsonNumber, "a number of more than 64 characters"));
    }
    let held = match numbers {
        Numbers::Any => true,
        // Without an exponent, 64 characters cannot leave the range of a double.
        Numbers::Safe if integer && whole > DIGITS_SAFE => fits_64_bits(rest.get(..at)),
        Numbers::Safe if exponent => fits_double(rest.get(..at)),
        Numbers::Safe => true,
    };
    if held {
        Ok(at)
    } else {
        Err(Stop::Flaw(Reason::JsonNumber, "a number that not every reader can hold"))
    }
}

fn fits_64_bits(number: Option<&str>) -> bool {
    number.is_some_and(|number| number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok())
}

/// Whether the number is finite as a double, and is nothing only if it was written as nothing.
fn fits_double(number: Option<&str>) -> bool {
    let Some(number) = number else { return false };
    let Ok(value) = number.parse::<f64>() else { return false };
    let significand = number.split(['e', 'E']).next().unwrap_or_default();
    value.is_finite() && (value != 0.0 || !significand.bytes().any(|b| matches!(b, b'1'..=b'9')))
}
