//! Takes the body of a message out of the bytes of its connection, strictly as it was framed.

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use memchr::memchr;

use crate::fields::line::split_field;
use crate::listen::Length;
use crate::listen::http1::head::is_token;
use crate::refusal::Reason;

/// The line of a chunk's size, with its extensions.
const SIZE_LINE_BYTES_MAX: usize = 512;
/// The trailers of one body, whole.
const TRAILER_BYTES_MAX: usize = 8 << 10;
const SIZE_DIGITS_MAX: usize = 16;

/// Where in a message's body the next byte of the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// At its end: the next byte belongs to the next message.
    Ended,
    /// Before so many bytes of content; more than none.
    Sized(u64),
    /// Before the size of a chunk.
    Size,
    /// Before so many bytes of a chunk; more than none.
    Chunk(u64),
    /// Before the CRLF after a chunk.
    ChunkEnd,
    /// Before the trailers, of which so many bytes were found to be whole lines.
    Trailers(usize),
    /// Nowhere: where the body ends can no longer be known.
    Broken(Reason),
}

/// What the bytes at hand amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Content; never empty.
    Data(Bytes),
    /// The lines of the trailers, checked and with their ends; never none.
    Trailers(Bytes),
    /// More bytes are needed.
    More,
    /// The body has ended.
    End,
    /// The body is no valid one.
    Malformed(Reason),
}

impl Decoder {
    /// The beginning of a body of this length.
    pub(crate) fn of(length: Length) -> Self {
        match length {
            Length::None | Length::Exactly(0) => Self::Ended,
            Length::Exactly(bytes) => Self::Sized(bytes),
            Length::Unknown => Self::Size,
        }
    }

    /// Takes what it can from the front of `input`.
    ///
    /// A chunk (RFC 9112, section 7.1) is `size CRLF data CRLF`; the last has size 0 and is followed
    /// by trailers and an empty line. Chunk extensions are refused: no client uses them, and parsers
    /// disagree about where they end (CVE-2025-55315). Trailers wait in `input` until all are there.
    pub(crate) fn step(&mut self, input: &mut BytesMut) -> Step {
        self.go_on(input, SIZE_DIGITS_MAX + 2, size)
    }

    /// As [`step`](Self::step), for the answer of a service: well-formed chunk extensions, of which
    /// some servers make use, and blanks after a size, with which some pad it, are passed over
    /// (RFC 9112, section 7.1.1).
    pub(crate) fn step_of_answer(&mut self, input: &mut BytesMut) -> Step {
        self.go_on(input, SIZE_LINE_BYTES_MAX, extended_size)
    }

    fn go_on(
        &mut self,
        input: &mut BytesMut,
        size_bytes_max: usize,
        size: fn(&[u8]) -> Option<u64>,
    ) -> Step {
        loop {
            match *self {
                Self::Ended => return Step::End,
                Self::Broken(reason) => return Step::Malformed(reason),
                Self::Sized(left) => {
                    let Some((data, left)) = take(input, left) else { return Step::More };
                    *self = if left == 0 { Self::Ended } else { Self::Sized(left) };
                    return Step::Data(data);
                }
                Self::Chunk(left) => {
                    let Some((data, left)) = take(input, left) else { return Step::More };
                    *self = if left == 0 { Self::ChunkEnd } else { Self::Chunk(left) };
                    return Step::Data(data);
                }
                Self::Size => match line(input, size_bytes_max).map(|l| l.map(|l| size(&l))) {
                    Ok(None) => return Step::More,
                    Ok(Some(Some(0))) => *self = Self::Trailers(0),
                    Ok(Some(Some(bytes))) => *self = Self::Chunk(bytes),
                    Ok(Some(None)) | Err(()) => *self = Self::Broken(Reason::ChunkMalformed),
                },
                Self::ChunkEnd => match line(input, 2) {
                    Ok(None) => return Step::More,
                    Ok(Some(between)) if between.is_empty() => *self = Self::Size,
                    Ok(Some(_)) | Err(()) => *self = Self::Broken(Reason::ChunkMalformed),
                },
                Self::Trailers(seen) => match line_end(input, seen, TRAILER_BYTES_MAX) {
                    Ok(None) => return Step::More,
                    Ok(Some(end)) => match input.get(seen..end - 2) {
                        Some([]) => {
                            *self = Self::Ended;
                            let lines = input.split_to(end).freeze().split_to(seen);
                            if !lines.is_empty() {
                                return Step::Trailers(lines);
                            }
                        }
                        Some(line) if field(line).is_some() => *self = Self::Trailers(end),
                        Some(_) | None => *self = Self::Broken(Reason::ChunkMalformed),
                    },
                    Err(()) => *self = Self::Broken(Reason::ChunkMalformed),
                },
            }
        }
    }
}

fn take(input: &mut BytesMut, left: u64) -> Option<(Bytes, u64)> {
    if input.is_empty() {
        return None;
    }
    let at_most = usize::try_from(left).unwrap_or(usize::MAX);
    let data = input.split_to(input.len().min(at_most)).freeze();
    let left = left.saturating_sub(data.len() as u64);
    Some((data, left))
}

/// Takes one line and its CRLF, of at most `bytes_max` bytes with both; nothing while it is not
/// whole. An error when it is longer, or ends in a bare LF.
fn line(input: &mut BytesMut, bytes_max: usize) -> Result<Option<BytesMut>, ()> {
    let Some(end) = line_end(input, 0, bytes_max)? else { return Ok(None) };
    let mut line = input.split_to(end);
    line.truncate(end - 2);
    Ok(Some(line))
}

/// Where the line from byte `start` on ends, behind its CRLF; that lies at most at `end_max`.
fn line_end(input: &[u8], start: usize, end_max: usize) -> Result<Option<usize>, ()> {
    let window = input.get(..end_max).unwrap_or(input);
    let rest = window.get(start..).unwrap_or_default();
    let Some(at) = memchr(b'\n', rest) else {
        return if window.len() == end_max { Err(()) } else { Ok(None) };
    };
    let is_whole = rest.get(..=at).is_some_and(|line| line.ends_with(b"\r\n"));
    if is_whole { Ok(Some(start + at + 1)) } else { Err(()) }
}

fn size(line: &[u8]) -> Option<u64> {
    if line.is_empty() || !line.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(line).ok()?, 16).ok()
}

/// A size with blanks and extensions behind it: `*( BWS ";" BWS name [ BWS "=" BWS value ] )`. A CR
/// or LF is no part of any, even between quotes.
fn extended_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, mut rest) = line.split_at_checked(digits.min(SIZE_DIGITS_MAX))?;
    loop {
        rest = rest.trim_ascii_start();
        let Some(after) = rest.strip_prefix(b";") else { break };
        let (name, after) = token(after.trim_ascii_start())?;
        rest = after.trim_ascii_start();
        if name.is_empty() {
            return None;
        }
        if let Some(value) = rest.strip_prefix(b"=") {
            rest = extension_value(value.trim_ascii_start())?;
        }
    }
    let is_clean = !line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0x0b | 0x0c));
    if rest.is_empty() && is_clean { size(digits) } else { None }
}

/// What follows the value of an extension: a token, or a quoted text.
fn extension_value(bytes: &[u8]) -> Option<&[u8]> {
    let Some(mut quoted) = bytes.strip_prefix(b"\"") else {
        return token(bytes).filter(|(value, _)| !value.is_empty()).map(|(_, rest)| rest);
    };
    loop {
        quoted = match quoted {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
            [b'\t' | b' '..=b'[' | b']'..=b'~' | 0x80.., rest @ ..] => rest,
            _ => return None,
        };
    }
}

/// Splits the token at the beginning from the rest.
fn token(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().take_while(|&&byte| is_token(byte)).count();
    bytes.split_at_checked(end)
}

/// A line of trailers, if it is a field.
pub(super) fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = split_field(line)?;
    Some((name, HeaderValue::from_bytes(value).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes bytes that come in these pieces: the content, and what ended it.
    fn decoded(length: Length, pieces: &[&[u8]]) -> (Vec<u8>, Step, usize) {
        let mut decoder = Decoder::of(length);
        let (mut input, mut content) = (BytesMut::new(), Vec::new());
        let mut last = Step::More;
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                last = decoder.step(&mut input);
                match &last {
                    Step::Data(data) => content.extend_from_slice(data),
                    Step::Trailers(lines) => content.extend_from_slice(lines),
                    Step::More | Step::End | Step::Malformed(_) => break,
                }
            }
        }
        (content, last, input.len())
    }

    fn chunked(text: &str) -> (Vec<u8>, Step, usize) {
        decoded(Length::Unknown, &[text.as_bytes()])
    }

    #[test]
    fn good_chunks_are_joined_and_the_next_request_is_left_alone() {
        let (content, last, left) =
            chunked("4\r\nWiki\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET /");
        let all = &b"Wiki0123456789X-Sum: 1\r\n"[..];
        assert_eq!((content.as_slice(), last, left), (all, Step::End, 5));
        let sized = decoded(Length::Exactly(3), &[b"ab", b"cGET"]);
        assert_eq!((sized.0.as_slice(), sized.1, sized.2), (&b"abc"[..], Step::End, 3));
    }

    #[test]
    fn every_doubtful_chunk_is_refused() {
        for text in [
            "\r\n",
            "g\r\n",
            "4;a=b\r\nWiki\r\n",
            " 4\r\nWiki\r\n",
            "4 \r\nWiki\r\n",
            "+4\r\nWiki\r\n",
            "0x4\r\nWiki\r\n",
            "4\nWiki\r\n",
            "4\r\nWiki\n",
            "4\r\nWikiX\r\n",
            "4\r\nWiki\rX",
            "00000000000000004\r\n",
            "-1\r\n",
            "4\r\nWiki\r\n0\r\nbad name: 1\r\n\r\n",
            "0\r\nx\r\n\r\n",
            "0\r\n\n",
            "0\r\n fold: 1\r\n",
            "4\r\r\nWiki\r\n",
        ] {
            assert_eq!(chunked(text).1, Step::Malformed(Reason::ChunkMalformed), "{text:?}");
        }
    }

    /// Decodes the answer of a service.
    fn answered(text: &str) -> (Vec<u8>, Step) {
        let (mut decoder, mut input) = (Decoder::of(Length::Unknown), BytesMut::from(text));
        let mut content = Vec::new();
        loop {
            match decoder.step_of_answer(&mut input) {
                Step::Data(data) => content.extend_from_slice(&data),
                last => return (content, last),
            }
        }
    }

    #[test]
    fn extensions_and_padding_of_answers_are_passed_over() {
        for size in [
            "4",
            "4 ",
            "4  \t ",
            "4;a",
            "4;a=b",
            "4 ; a = b",
            "4;a=\"b;\\\" c\";d",
            "4;a;b;c=d",
            "0004;signature=ab~c",
        ] {
            let text = format!("{size}\r\nWiki\r\n0;end=yes\r\n\r\n");
            assert_eq!(answered(&text), (b"Wiki".to_vec(), Step::End), "{size}");
            if size != "4" {
                let refused = Step::Malformed(Reason::ChunkMalformed);
                assert_eq!(chunked(&text).1, refused, "callers: {size}");
            }
        }
    }

    #[test]
    fn cve_2025_55315_an_extension_never_hides_the_end_of_its_line() {
        for size in [
            "4;a\nb",
            "4;\n",
            "4;a=\"\nb\"",
            "4;a=\"\rb\"",
            "4;a\rb",
            "4;a=b\r",
            "4\r",
            "4;",
            "4;=b",
            "4;a=",
            "4;a=\"b",
            "4;a=\"b\"c",
            "4;a b",
            " 4",
            "4 4",
            ";a",
            "4;a=\"\u{1}\"",
            "4;\u{b}a",
            "x;a",
            "00000000000000004;a",
        ] {
            let text = format!("{size}\r\nWiki\r\n0\r\n\r\n");
            assert_eq!(answered(&text).1, Step::Malformed(Reason::ChunkMalformed), "{size:?}");
        }
        let long = format!("4;{}\r\n", "a".repeat(SIZE_LINE_BYTES_MAX));
        assert_eq!(answered(&long).1, Step::Malformed(Reason::ChunkMalformed));
    }

    #[test]
    fn trailers_have_a_ceiling() {
        let many = format!("0\r\n{}", "a: b\r\n".repeat(TRAILER_BYTES_MAX / 6 + 1));
        assert_eq!(chunked(&many).1, Step::Malformed(Reason::ChunkMalformed));
        let long = format!("0\r\na: {}", "b".repeat(TRAILER_BYTES_MAX));
        assert_eq!(chunked(&long).1, Step::Malformed(Reason::ChunkMalformed));
        assert_eq!(chunked("ffffffffffffffff\r\nab").1, Step::More);
    }

    proptest! {
        #[test]
        fn pieces_decode_as_the_whole_does(
            text in "([0-9a-fA-F]{0,3}(\r\n|\n|;|\r)?[ -~]{0,5}(\r\n)?){0,6}(0\r\n(a: b\r\n|c:\r?\n){0,3}\r\n)?",
            at in 0usize..64,
        ) {
            let bytes = text.as_bytes();
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            let whole = decoded(Length::Unknown, &[bytes]);
            let pieces = decoded(Length::Unknown, &[first, second]);
            prop_assert_eq!(whole, pieces);
        }
    }
}
