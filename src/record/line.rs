//! One record as one line: JSON or text, in which nothing that a caller sends can begin a second.

use std::cell::Cell;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use crate::mistake::source::Origin;
use crate::record::account::{Account, Passed};
use crate::refusal::{Refusal, Stage};
use crate::text::AddressText;

/// The name of a member with all that stands around it: `,"name":`.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// Writes a record as one JSON object with a newline at its end.
pub(in crate::record) fn json(account: &Account, line: &mut Vec<u8>) {
    let mut object = Object::begin(line);
    facts(account, &mut object);
    object.end();
    line.push(b'\n');
}

/// Writes a record as one JSON object with each stage that it passed, for `explain --trace`.
pub(in crate::record) fn trace(account: &Account) -> String {
    let mut line = Vec::with_capacity(2048);
    let mut object = Object::begin(&mut line);
    facts(account, &mut object);
    let stages = Stage::ALL.iter().zip(&account.stages);
    object.list(key!("stages"), stages, |(stage, passed), line| {
        let refused = account.refusal.as_ref().is_some_and(|no| no.reason.stage() == *stage);
        let verdict = match passed {
            _ if refused => "refuse",
            Passed::No => "none",
            Passed::Yes | Passed::By(_) => "pass",
        };
        let mut object = Object::begin(line);
        object.plain(key!("stage"), stage.name());
        object.plain(key!("verdict"), verdict);
        if let Passed::By(rule) = passed {
            object.shown(key!("rule"), rule);
        }
        object.end();
    });
    object.end();
    // All that was written is text.
    String::from_utf8(line).unwrap_or_default()
}

/// Writes a record as `key=value` pairs, for people.
pub(in crate::record) fn text(account: &Account, line: &mut Vec<u8>) {
    line.extend_from_slice(&time(account));
    let refusal = account.refusal.as_ref();
    let answer = account.answer.as_ref().map_or(0, |answer| answer.status.as_u16());
    match &account.asked {
        Some(asked) => {
            let _ = write!(line, " {} {} ", asked.parties.client, asked.method);
            quoted(asked.path(), line);
            let _ = write!(line, " {answer}");
        }
        None => {
            let _ = write!(line, " {} - - {answer}", account.peer.address.ip());
        }
    }
    if let Some(id) = &account.id {
        let _ = write!(line, " id={id}");
    }
    let _ = write!(line, " route={} us={}", account.meters.name(), microseconds(account.took));
    if let Some(grant) = &account.grant {
        line.extend_from_slice(b" subject=");
        quoted(&grant.subject, line);
    }
    if let Some(refusal) = refusal {
        let _ = write!(line, " {}:{}", refusal.reason.stage(), refusal.reason.name());
        if let Some(rule) = &refusal.rule {
            line.extend_from_slice(b" rule=");
            quoted(&rule.to_string(), line);
        }
    }
    line.push(b'\n');
}

/// A moment as `2026-11-23T12:00:00.000Z`.
type Moment = [u8; 24];

thread_local! {
    /// The second that this thread wrote last, as a moment: calendars are slow, and a busy thread
    /// writes many records within one second.
    static SECOND: Cell<(u64, Moment)> = const { Cell::new((u64::MAX, *b"1970-01-01T00:00:00.000Z")) };
}

fn time(account: &Account) -> Moment {
    let unix_ms = account.started.unix_ms;
    let (mut second, mut text) = SECOND.get();
    if second != unix_ms / 1000 {
        second = unix_ms / 1000;
        let seconds = i64::try_from(second).unwrap_or_default();
        let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
        for (to, from) in text.iter_mut().zip(moment.to_string().bytes().take(19)) {
            *to = from;
        }
        SECOND.set((second, text));
    }
    let digit = |of: u64| b'0' + u8::try_from(unix_ms / of % 10).unwrap_or_default();
    let [.., hundreds, tens, ones, _] = &mut text;
    (*hundreds, *tens, *ones) = (digit(100), digit(10), digit(1));
    text
}

fn microseconds(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn facts(account: &Account, object: &mut Object<'_>) {
    object.ascii(key!("time"), &time(account));
    if let Some(id) = &account.id {
        object.ascii(key!("id"), id.as_bytes());
    }
    match &account.asked {
        Some(asked) => object.ascii(key!("client"), asked.parties.address.as_bytes()),
        None => object.ascii(key!("client"), AddressText::of(account.client()).as_bytes()),
    }
    object.text(key!("listener"), &account.peer.listener);
    if let Some(tls) = &account.peer.tls {
        object.plain(key!("tls"), tls.version);
    }
    if let Some(asked) = &account.asked {
        object.plain(key!("method"), asked.method.as_str());
        object.text(key!("path"), asked.path());
        object.list(key!("query"), asked.query_names(), quoted);
    }
    object.text(key!("route"), account.meters.name());
    if let Some(grant) = &account.grant {
        object.text(key!("subject"), &grant.subject);
        object.text(key!("credential"), &grant.credential);
    }
    object.plain(key!("scheme"), account.scheme);
    verdict(account, object);
    object.number(key!("bytes_in"), account.received());
    object.number(key!("bytes_out"), account.bytes_out);
    object.number(key!("duration_us"), microseconds(account.took));
    if let Some((target, first_byte)) = &account.upstream {
        object.text(key!("upstream"), target);
        object.number(key!("upstream_us"), microseconds(*first_byte));
    }
    if !account.observed.is_empty() {
        object.list(key!("observed"), account.observed.iter(), |refusal, line| {
            let mut object = Object::begin(line);
            told(refusal, &mut object);
            object.end();
        });
    }
    if let Some(asked) = &account.asked {
        object.ascii(key!("trace"), asked.trace.as_ref().map_or(&[][..], |id| id));
        object.text(key!("user_agent"), asked.user_agent());
    }
    // A hash, in our own words.
    object.plain(key!("policy"), &account.policy);
}

fn verdict(account: &Account, object: &mut Object<'_>) {
    match &account.refusal {
        Some(refusal) => {
            object.plain(key!("decision"), "refuse");
            told(refusal, object);
        }
        None => object.plain(key!("decision"), "allow"),
    }
    if let Some(answer) = &account.answer {
        object.number(key!("status"), answer.status.as_u16().into());
        object.plain(key!("origin"), answer.by.name());
    }
    object.plain(key!("end"), account.end.name());
    if let Some(reason) = account.cut {
        object.plain(key!("cut"), reason.name());
    }
}

fn told(refusal: &Refusal, object: &mut Object<'_>) {
    object.plain(key!("stage"), refusal.reason.stage().name());
    object.plain(key!("reason"), refusal.reason.name());
    if let Some(rule) = &refusal.rule {
        object.shown::<Origin>(key!("rule"), rule);
    }
    if !refusal.private.is_empty() {
        object.text(key!("detail"), &refusal.private);
    }
}

/// A JSON object that is being written.
struct Object<'a> {
    line: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Object<'a> {
    fn begin(line: &'a mut Vec<u8>) -> Self {
        let start = line.len();
        Self { line, start }
    }

    /// Ends an object that has a member: the comma before the first is where the brace belongs.
    fn end(self) {
        if let Some(first) = self.line.get_mut(self.start) {
            *first = b'{';
        }
        self.line.push(b'}');
    }

    /// Keys are ours and need no escape. They are copied word by word where their length is known,
    /// which is why whoever writes a member stands in line.
    #[inline(always)]
    fn key(&mut self, key: &'static str) {
        self.line.extend_from_slice(key.as_bytes());
    }

    /// Text that is ours: it holds nothing that would have to be escaped.
    #[inline(always)]
    fn plain(&mut self, key: &'static str, text: &str) {
        self.ascii(key, text.as_bytes());
    }

    /// The same, as the bytes that it was made of.
    #[inline(always)]
    fn ascii(&mut self, key: &'static str, text: &[u8]) {
        self.key(key);
        quoted_plain(text, self.line);
    }

    #[inline(always)]
    fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        quoted(text, self.line);
    }

    fn shown<T: Display + ?Sized>(&mut self, key: &'static str, shown: &T) {
        self.key(key);
        self.line.push(b'"');
        let _ = write!(Escaped(self.line), "{shown}");
        self.line.push(b'"');
    }

    #[inline(always)]
    fn number(&mut self, key: &'static str, number: u64) {
        self.key(key);
        self.line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn list<T>(
        &mut self,
        key: &'static str,
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(T, &mut Vec<u8>),
    ) {
        self.key(key);
        self.line.push(b'[');
        for (number, item) in items.enumerate() {
            if number > 0 {
                self.line.push(b',');
            }
            write(item, self.line);
        }
        self.line.push(b']');
    }
}

/// Escapes what is written through it.
struct Escaped<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        escape(text, self.0);
        Ok(())
    }
}

/// What needs no escape, in quotes.
fn quoted_plain(text: &[u8], line: &mut Vec<u8>) {
    line.reserve(text.len() + 2);
    line.push(b'"');
    line.extend_from_slice(text);
    line.push(b'"');
}

fn quoted(text: &str, line: &mut Vec<u8>) {
    line.push(b'"');
    escape(text, line);
    line.push(b'"');
}

/// Whether all bytes stand in a JSON string as they are: visible ASCII and blanks, but quote and
/// backslash. Eight are looked at in one step; the last eight may have been seen before.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let last = bytes.last_chunk::<8>().filter(|_| !rest.is_empty());
    let odd = words.iter().chain(last).fold(0, |odd, word| odd | odd_bytes(*word));
    let is_short = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    odd == 0 && (last.is_some() || rest.iter().all(is_short))
}

/// A number that is zero when none of the bytes is a control, a quote, a backslash, or beyond ASCII.
fn odd_bytes(word: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x80 * ONES;
    let word = u64::from_ne_bytes(word);
    // The top bit of a byte is set where the byte is zero; where a lower one is, it may also be.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let is = |byte: u8| zeros(word ^ (u64::from(byte) * ONES));
    let below_blank = word.wrapping_sub(u64::from(b' ') * ONES) & !word;
    (word | below_blank | is(b'"') | is(b'\\') | is(0x7f)) & TOPS
}

/// Writes text for the inside of a JSON string. Beyond what JSON asks for, everything is escaped
/// that could move, colour, hide or reorder what a person sees in a terminal or an editor.
fn escape(text: &str, line: &mut Vec<u8>) {
    // Nearly every text is plain ASCII, and words are quicker to look at than characters.
    if is_plain(text.as_bytes()) {
        return line.extend_from_slice(text.as_bytes());
    }
    let mut rest = text;
    while let Some(at) = rest.find(must_be_escaped) {
        let (plain, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        line.extend_from_slice(plain.as_bytes());
        let mut chars = from.chars();
        if let Some(odd) = chars.next() {
            match odd {
                '"' => line.extend_from_slice(b"\\\""),
                '\\' => line.extend_from_slice(b"\\\\"),
                odd => {
                    for unit in odd.encode_utf16(&mut [0; 2]) {
                        let _ = write!(line, "\\u{unit:04x}");
                    }
                }
            }
        }
        rest = chars.as_str();
    }
    line.extend_from_slice(rest.as_bytes());
}

/// Quotes, backslashes, controls (C0, DEL, C1), line and paragraph separators, and the characters
/// of Unicode's class Cf: bidirectional controls, zero-width characters and tags.
fn must_be_escaped(c: char) -> bool {
    match c {
        ' '..='~' => matches!(c, '"' | '\\'),
        '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_an_escape_is_seen_at_every_place() {
        for length in [1, 7, 8, 9, 16, 23] {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'x'; length];
                    text[place] = byte;
                    let plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
                    assert_eq!(is_plain(&text), plain, "{byte:#x} at {place} of {length}");
                }
            }
        }
        assert!(is_plain(b""));
    }
}
