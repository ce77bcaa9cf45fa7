//! Takes the body of a message out of the bytes of its connection, strictly as it was framed.

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use memchr::memchr;

use crate::listen::Length;
use crate::listen::http1::head::field;
use crate::refusal::Reason;

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
    /// Among the trailers, of which there were so many bytes.
    Trailers(usize),
    /// Nowhere: where the body ends can no longer be known.
    Broken(Reason),
}

/// What the bytes at hand amount to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Content; never empty.
    Data(Bytes),
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
    /// by trailers and an empty line. Chunk extensions are refused: nobody uses them, and parsers
    /// disagree about where they end. Trailers are checked and dropped.
    pub(crate) fn step(&mut self, input: &mut BytesMut) -> Step {
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
                Self::Size => match line(input, SIZE_DIGITS_MAX + 2).map(|l| l.map(|l| size(&l))) {
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
                Self::Trailers(seen) => match line(input, TRAILER_BYTES_MAX - seen) {
                    Ok(None) => return Step::More,
                    Ok(Some(trailer)) if trailer.is_empty() => *self = Self::Ended,
                    Ok(Some(trailer)) if is_field(&trailer) => {
                        let seen = seen + trailer.len() + 2;
                        *self = Self::Trailers(seen.min(TRAILER_BYTES_MAX));
                    }
                    Ok(Some(_)) | Err(()) => *self = Self::Broken(Reason::ChunkMalformed),
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
    let window = input.get(..bytes_max).unwrap_or(input);
    let Some(at) = memchr(b'\n', window) else {
        return if window.len() == bytes_max { Err(()) } else { Ok(None) };
    };
    let mut line = input.split_to(at + 1);
    if !line.ends_with(b"\r\n") {
        return Err(());
    }
    line.truncate(at - 1);
    Ok(Some(line))
}

fn size(line: &[u8]) -> Option<u64> {
    if line.is_empty() || !line.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(line).ok()?, 16).ok()
}

/// Whether a line of trailers is a header; what it says is dropped.
fn is_field(line: &[u8]) -> bool {
    field(line).is_ok_and(|(_, value)| HeaderValue::from_bytes(value).is_ok())
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
        assert_eq!((content.as_slice(), last, left), (&b"Wiki0123456789"[..], Step::End, 5));
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
            text in "([0-9a-fA-F]{0,3}(\r\n|\n|;|\r)?[ -~]{0,5}(\r\n)?){0,6}(0\r\n\r\n)?",
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
