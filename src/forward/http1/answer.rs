//! Reads the head of an HTTP/1 answer, and refuses whatever could be read in two ways.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, StatusCode, Version};
use memchr::memchr;

use crate::fields::Fields;
use crate::fields::line::{LineEnds, trimmed};
use crate::listen::Length;
use crate::listen::http1::decode::Decoder;
use crate::listen::http1::head::plain_number;

/// The head of an answer, in bytes and in header lines.
pub(super) const HEAD_BYTES_MAX: usize = 32 << 10;
const HEADERS_MAX: usize = 128;
/// Room for what the gateway adds to an answer, so that it does not have to grow.
const HEADERS_ADDED: usize = 8;
/// Everything that answers begins so. What does not is told at its first bytes.
const PREFIX: &[u8] = b"HTTP/1.";

/// What is wrong with an answer.
pub(super) type Malformed = &'static str;

/// How far a head has been searched for its end. Feeding the same bytes in other pieces gives the
/// same verdict, because each verdict follows from the bytes up to one place alone.
#[derive(Debug, Default)]
pub(super) struct Scan {
    line_start: usize,
    searched: usize,
    /// Where the status line ends; 0 while that is not known.
    status_end: usize,
    fields: LineEnds,
}

impl Scan {
    /// Searches on. Gives the length of the head once its end is there; nothing while it is not.
    ///
    /// # Errors
    /// What is wrong, as soon as no further byte could mend it.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        if bytes.iter().zip(PREFIX).any(|(byte, expected)| byte != expected) {
            return Err("what came is no HTTP/1 answer");
        }
        let window = bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes);
        loop {
            let unseen = window.get(self.searched..).unwrap_or_default();
            let Some(at) = memchr(b'\n', unseen) else {
                self.searched = window.len();
                if window.len() == HEAD_BYTES_MAX {
                    return Err("the head of the answer is too large");
                }
                return Ok(None);
            };
            let end = self.searched + at;
            match window.get(self.line_start..end).unwrap_or_default() {
                b"\r" if self.status_end > 0 => return Ok(Some(end + 1)),
                [.., b'\r'] if self.status_end == 0 => self.status_end = end + 1,
                [.., b'\r'] => self.fields.note(end),
                _ => return Err("a line of the answer's head does not end in CRLF"),
            }
            if self.fields.lines() > HEADERS_MAX {
                return Err("the answer has too many headers");
            }
            (self.line_start, self.searched) = (end + 1, end + 1);
        }
    }

    /// Reads the head whose end was found, `head` being exactly its bytes. Header values share
    /// them. `to_head` tells that the answer is one to HEAD, which has no body.
    ///
    /// # Errors
    /// What is wrong with a line or with the framing.
    pub(super) fn read(self, head: &Bytes, to_head: bool) -> Result<AnswerHead, Malformed> {
        let line = head.get(..self.status_end).and_then(|line| line.strip_suffix(b"\r\n"));
        let line = line.ok_or("the answer has no status line")?;
        let (status, version) = status_line(line).ok_or("the answer's status line is malformed")?;
        let mut says = Says::default();
        let see = |name: &HeaderName, value: &[u8]| says.take(name, value);
        let lines = (self.status_end, &self.fields);
        let malformed = "a header of the answer is malformed";
        let headers = Fields::read(head, lines, HEADERS_ADDED, malformed, see)?;
        let framing = says.framing(status, version, to_head)?;
        let kept = !says.close && (version == Version::HTTP_11 || says.keep_alive);
        Ok(AnswerHead {
            status,
            headers,
            framing,
            persistent: kept && framing != Framing::UntilClose,
            websocket: says.upgrade && says.websocket,
        })
    }
}

/// How the end of an answer's body is found (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Framing {
    /// By counting, or by its last chunk.
    Marked(Decoder),
    /// Where the connection ends.
    UntilClose,
}

impl Framing {
    /// Bytes that are left; unknown where only the end will tell.
    pub(in crate::forward) fn left(&self) -> Option<u64> {
        match self {
            Self::Marked(Decoder::Ended) => Some(0),
            Self::Marked(Decoder::Sized(bytes)) => Some(*bytes),
            Self::Marked(_) | Self::UntilClose => None,
        }
    }
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::forward) struct AnswerHead {
    pub(in crate::forward) status: StatusCode,
    pub(in crate::forward) headers: Fields,
    pub(in crate::forward) framing: Framing,
    /// Whether the connection may carry another request (RFC 9112, section 9.3).
    pub(in crate::forward) persistent: bool,
    /// Whether `Connection` and `Upgrade` agree on WebSocket.
    pub(in crate::forward) websocket: bool,
}

/// Reads `HTTP/1.1 200 OK`, whose reason may be missing, with or without its blank.
fn status_line(line: &[u8]) -> Option<(StatusCode, Version)> {
    let (version, rest) = match line.strip_prefix(PREFIX)? {
        [b'1', b' ', rest @ ..] => (Version::HTTP_11, rest),
        [b'0', b' ', rest @ ..] => (Version::HTTP_10, rest),
        _ => return None,
    };
    let (code, reason) = rest.split_at_checked(3)?;
    let may_stand = |byte: &u8| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..=0xff);
    if !(reason.is_empty() || reason.starts_with(b" ")) || !reason.iter().all(may_stand) {
        return None;
    }
    Some((StatusCode::from_bytes(code).ok()?, version))
}

/// What the headers say about where the answer ends and what becomes of the connection.
#[derive(Default)]
struct Says {
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    websocket: bool,
}

impl Says {
    fn take(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Malformed> {
        if name == CONTENT_LENGTH {
            let length =
                plain_number(value).ok_or("the answer's length is not one plain number")?;
            if self.content_length.replace(length).is_some() {
                return Err("the answer's length is not one plain number");
            }
        } else if name == TRANSFER_ENCODING {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("the answer has a transfer coding other than chunked");
            }
            self.chunked = true;
        } else if name == CONNECTION {
            for word in words(value) {
                self.close |= word.eq_ignore_ascii_case(b"close");
                self.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
                self.upgrade |= word.eq_ignore_ascii_case(b"upgrade");
            }
        } else if name == UPGRADE {
            self.websocket |= words(value).any(|word| word.eq_ignore_ascii_case(b"websocket"));
        }
        Ok(())
    }

    fn framing(
        &self,
        status: StatusCode,
        version: Version,
        to_head: bool,
    ) -> Result<Framing, Malformed> {
        if self.chunked && self.content_length.is_some() {
            return Err("the answer has both a length and a transfer coding");
        }
        if self.chunked && version != Version::HTTP_11 {
            return Err("the answer has a transfer coding in HTTP/1.0");
        }
        let bodiless = to_head
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        let length = match (self.content_length, self.chunked) {
            _ if bodiless => Length::None,
            (_, true) => Length::Unknown,
            (Some(bytes), false) => Length::Exactly(bytes),
            (None, false) => return Ok(Framing::UntilClose),
        };
        Ok(Framing::Marked(Decoder::of(length)))
    }
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trimmed)
}
