//! Carries on the caller's trace, or begins one (W3C Trace Context).

use http::HeaderValue;
use http::header::HeaderName;

use crate::fields::Fields;
use crate::fields::value::Value;
use crate::head::Trace;
use crate::head::id::random;

/// The header that names the trace and the parent.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header in which tracing systems keep their own state.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// How long a `traceparent` of version 00 is.
pub const PARENT_BYTES: usize = 55;
const STATE_BYTES_MAX: usize = 512;
const STATE_MEMBERS_MAX: usize = 32;
/// The flags that version 00 defines: sampled, and random trace id.
const FLAGS_KNOWN: u8 = 0b11;
/// The flags of a trace that begins here: its id is random, and nothing is recorded by us.
const FLAGS_NEW: u8 = 0b10;

impl Trace {
    /// A trace that begins here.
    pub fn begin() -> Self {
        let id = [hex(random() | 1), hex(random())];
        Self { parent: parent(id.as_flattened(), FLAGS_NEW), state: None }
    }

    /// The caller's trace with a parent id of our own; a new one when the caller's is not valid.
    pub(in crate::head) fn carry_on(headers: &Fields) -> Self {
        let mut lines = headers.get_all(TRACEPARENT);
        let (Some(line), None) = (lines.next(), lines.next()) else { return Self::begin() };
        let Some((id, flags)) = read(line.as_bytes()) else { return Self::begin() };
        Self { parent: parent(id, flags & FLAGS_KNOWN), state: state(headers) }
    }
}

/// Trace id and flags of a valid `traceparent`. Versions to come may add fields after these.
fn read(line: &[u8]) -> Option<(&[u8; 32], u8)> {
    let (version, rest) = line.split_first_chunk::<2>()?;
    let (id, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<32>()?;
    let (parent, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<16>()?;
    let (flags, rest) = rest.strip_prefix(b"-")?.split_first_chunk::<2>()?;
    let lower_hex =
        |digits: &[u8]| digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |digits: &[u8]| digits.iter().all(|digit| *digit == b'0');
    let valid = [version.as_slice(), id, parent, flags].into_iter().all(lower_hex)
        && version != b"ff"
        && !zero(id)
        && !zero(parent)
        && (rest.is_empty() || (version != b"00" && rest.first() == Some(&b'-')));
    let flags = u8::from_str_radix(std::str::from_utf8(flags).ok()?, 16).ok()?;
    valid.then_some((id, flags))
}

/// Writes a `traceparent` of version 00 with a new parent id.
fn parent(id: &[u8], flags: u8) -> [u8; PARENT_BYTES] {
    let own = hex(random() | 1);
    let flags = [b'0', b'0' + (flags & FLAGS_KNOWN)];
    let mut text = [b'-'; PARENT_BYTES];
    for (at, part) in [(0, &b"00"[..]), (3, id), (36, &own), (53, &flags)] {
        if let Some(room) = text.get_mut(at..at + part.len()) {
            room.copy_from_slice(part);
        }
    }
    text
}

fn hex(number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    let (high, low) = text.split_at_mut(8);
    high.copy_from_slice(&eight_digits(number >> 32));
    low.copy_from_slice(&eight_digits(number & 0xffff_ffff));
    text
}

/// The digits of 32 bits, all eight at once: each half byte is moved into a byte of its own, and
/// those from ten on are moved from behind `9` to `a`.
fn eight_digits(number: u64) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let spread = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (spread + 6 * ONES) >> 4 & ONES;
    (spread + u64::from(b'0') * ONES + u64::from(b'a' - b'0' - 10) * letters).to_be_bytes()
}

/// The caller's `tracestate`, its lines joined; nothing when it is malformed or too large.
fn state(headers: &Fields) -> Option<HeaderValue> {
    let mut lines = headers.get_all(TRACESTATE);
    let first = lines.next()?;
    let joined = match lines.next() {
        None => first.to_header_value()?,
        Some(_) => {
            let lines: Vec<&[u8]> = headers.get_all(TRACESTATE).map(Value::as_bytes).collect();
            if lines.iter().map(|line| line.len() + 1).sum::<usize>() > STATE_BYTES_MAX + 1 {
                return None;
            }
            HeaderValue::from_bytes(&lines.join(&b","[..])).ok()?
        }
    };
    let text = joined.to_str().ok().filter(|text| text.len() <= STATE_BYTES_MAX)?;
    let members = || text.split(',').map(str::trim).filter(|member| !member.is_empty());
    let valid = members().count() <= STATE_MEMBERS_MAX
        && members().all(|member| member.split_once('=').is_some_and(|(key, _)| !key.is_empty()));
    (valid && members().next().is_some()).then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn trace(lines: &[(&'static str, &str)]) -> Trace {
        let mut headers = Fields::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Trace::carry_on(&headers)
    }

    fn carries_on(line: &str) -> bool {
        let parent = trace(&[("traceparent", line)]).parent;
        let text = std::str::from_utf8(&parent).unwrap();
        assert!(read(text.as_bytes()).is_some(), "{text}");
        assert_eq!(text.len(), 55);
        text.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    }

    #[test]
    fn a_valid_trace_goes_on_under_our_own_parent() {
        let made = trace(&[("traceparent", GOOD), ("tracestate", "a=1")]);
        let text = std::str::from_utf8(&made.parent).unwrap();
        assert!(text.starts_with(&GOOD[..36]), "{text}");
        assert_ne!(&text[36..52], &GOOD[36..52]);
        assert!(text.ends_with("-01"));
        assert_eq!(made.state.unwrap(), "a=1");
    }

    #[test]
    fn what_is_no_traceparent_begins_a_new_trace() {
        assert!(carries_on(GOOD));
        assert!(carries_on(&GOOD.replacen("00", "cc", 1)), "a version to come");
        assert!(carries_on(&format!("cc{}-more", &GOOD[2..])), "a field to come");
        for line in [
            "",
            "x",
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &format!("{GOOD}-more"),
            &format!("cc{}more", &GOOD[2..]),
            &GOOD.replace("00f067aa0ba902b7", "0000000000000000"),
            &GOOD[..54],
            &GOOD.replace("-01", "-0g"),
            &GOOD.replace("-01", "-+1"),
            &GOOD.replace('-', "_"),
        ] {
            assert!(!carries_on(line), "{line}");
        }
        let zero = GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        assert!(trace(&[("traceparent", &zero)]).parent[3..35] != [b'0'; 32]);
        let twice = trace(&[("traceparent", GOOD), ("traceparent", GOOD), ("tracestate", "a=1")]);
        assert!(!twice.parent.starts_with(&GOOD.as_bytes()[..36]));
        assert_eq!(twice.state, None);
    }

    #[test]
    fn numbers_are_written_as_the_library_writes_them() {
        for number in [0, 9, 10, 0x0123_4567_89ab_cdef, u64::MAX, 0xfedc_ba98_7654_3210] {
            assert_eq!(hex(number), *format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn unknown_flags_are_cleared() {
        let parent = trace(&[("traceparent", &GOOD.replace("-01", "-ff"))]).parent;
        assert!(parent.ends_with(b"-03"));
    }

    #[test]
    fn a_state_is_bounded_and_never_goes_alone() {
        let with = |states: &[&str]| {
            let mut lines = vec![("traceparent", GOOD)];
            lines.extend(states.iter().map(|state| ("tracestate", *state)));
            trace(&lines).state.map(|state| state.to_str().unwrap().to_owned())
        };
        assert_eq!(with(&["a=1", "b=2"]).as_deref(), Some("a=1,b=2"));
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[""]), None);
        assert_eq!(with(&["nonsense"]), None);
        assert!(with(&[&vec!["a=1"; 32].join(",")]).is_some());
        assert_eq!(with(&[&vec!["a=1"; 33].join(",")]), None);
        assert!(with(&[&format!("a={}", "x".repeat(510))]).is_some());
        assert_eq!(with(&[&format!("a={}", "x".repeat(511))]), None);
        assert_eq!(
            with(&[&format!("a={}", "x".repeat(255)), &format!("b={}", "x".repeat(255))]),
            None
        );
        assert_eq!(trace(&[("tracestate", "a=1")]).state, None);
    }
}
