//! Reads the head of an HTTP/1 request, and refuses whatever could be read in two ways.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderName, Method, Uri, Version};
use memchr::memchr;

use crate::fields::Fields;
use crate::fields::line::{LineEnds, trimmed};
use crate::listen::bounds::{self, Bounds, BoundsRule};
use crate::listen::{Length, RawHead};
use crate::mistake::source::Source;
use crate::mistake::{Mistakes, Reading};
use crate::refusal::Reason;

const METHOD_BYTES_MAX: usize = 32;
/// ` HTTP/1.1` and CRLF, beside method, space and target.
const LINE_BYTES_MORE: usize = METHOD_BYTES_MAX + 1 + 9 + 2;

/// How far a head has been searched for its end. Feeding the same bytes in other pieces gives the
/// same verdict, because each verdict follows from the bytes up to one place alone.
#[derive(Debug, Default)]
pub(super) struct Scan {
    line_start: usize,
    searched: usize,
    fields: LineEnds,
    request_line: Option<RequestLine>,
    passed_empty_line: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RequestLine {
    method: Range<usize>,
    target: Range<usize>,
    version: Version,
    end: usize,
}

/// A head, and what its connection must know of it.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) raw: Box<RawHead>,
    /// Whether the caller lets the connection live on (RFC 9112, section 9.3).
    pub(super) persistent: bool,
    /// Whether the caller waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
}

impl Scan {
    /// Passes over one empty line before a request, which some clients send after a body (RFC 9112,
    /// section 2.2); a second one is refused as the request line that it is not. Tells whether
    /// there is anything left to be searched.
    pub(super) fn pass_empty_line(&mut self, input: &mut BytesMut) -> bool {
        if !self.passed_empty_line && self.searched == 0 {
            match &**input {
                [b'\r'] => return false,
                [b'\r', b'\n', ..] => {
                    input.advance(2);
                    self.passed_empty_line = true;
                }
                _ => {}
            }
        }
        !input.is_empty()
    }

    /// Searches on. Gives the length of the head once its end is there; nothing while it is not.
    ///
    /// # Errors
    /// What is wrong, as soon as no further byte could mend it.
    pub(super) fn advance(
        &mut self,
        bytes: &[u8],
        bounds: &Bounds,
    ) -> Result<Option<usize>, Reason> {
        // TLS on a plaintext listener ends here, at its first byte, and not at the deadline.
        if bytes.first().is_some_and(|&byte| !is_token(byte)) {
            return Err(Reason::RequestLineMalformed);
        }
        loop {
            let within = match self.request_line {
                None => bounds.target_bytes + LINE_BYTES_MORE,
                Some(_) => bounds.header_bytes,
            };
            let window = bytes.get(..within).unwrap_or(bytes);
            let Some(at) = memchr(b'\n', window.get(self.searched..).unwrap_or_default()) else {
                self.searched = window.len();
                return match (window.len() == within, &self.request_line) {
                    (false, _) => Ok(None),
                    (true, Some(_)) => Err(Reason::HeadTooLarge),
                    (true, None) => Err(overlong(window)),
                };
            };
            let end = self.searched + at;
            let line = window.get(self.line_start..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r");
            match (&self.request_line, line) {
                (None, Some(line)) => self.request_line = Some(request_line(line, bounds)?),
                (None, None) => return Err(Reason::RequestLineMalformed),
                (Some(_), None) => return Err(Reason::HeaderMalformed),
                (Some(_), Some([])) => return Ok(Some(end + 1)),
                (Some(_), Some(_)) => self.fields.note(end),
            }
            if self.fields.lines() > bounds.headers {
                return Err(Reason::HeadTooLarge);
            }
            self.line_start = end + 1;
            self.searched = end + 1;
        }
    }

    /// Reads the head whose end was found, `head` being exactly its bytes. Header values share
    /// those bytes.
    ///
    /// # Errors
    /// What is wrong with a header or with the framing (RFC 9112, section 6.3).
    pub(super) fn read(self, head: &Bytes) -> Result<Parsed, Reason> {
        let line = self.request_line.ok_or(Reason::RequestLineMalformed)?;
        let part = |range: Range<usize>| head.get(range).unwrap_or_default();
        let method =
            Method::from_bytes(part(line.method)).map_err(|_| Reason::RequestLineMalformed)?;
        let target =
            std::str::from_utf8(part(line.target)).map_err(|_| Reason::RequestLineMalformed)?;
        let mut framing = Framing::default();
        let see = |name: &HeaderName, value: &[u8]| framing.take(name, value);
        let headers =
            Fields::read(head, (line.end, &self.fields), 0, Reason::HeaderMalformed, see)?;
        let length = framing.length(line.version)?;
        let is_1_1 = line.version == Version::HTTP_11;
        let raw = RawHead {
            method,
            target: target.into(),
            version: line.version,
            authority: None,
            headers,
            length,
        };
        Ok(Parsed {
            raw: Box::new(raw),
            persistent: !framing.close && (is_1_1 || framing.keep_alive),
            expects_continue: framing.expects_continue && is_1_1 && length != Length::None,
        })
    }
}

/// Reads the first part of a request that somebody kept, as it would be read from a connection with
/// the usual bounds; and tells at which byte its body begins.
///
/// # Errors
/// What is wrong with it; [`Reason::HeadTimeout`] when its end is missing.
pub(crate) fn kept(bytes: &Bytes) -> Result<(RawHead, usize), Reason> {
    let (source, mut mistakes) = (Source::new("request", ""), Mistakes::default());
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let bounds = bounds::compile(&BoundsRule::default(), &mut reading);
    let mut scan = Scan::default();
    let end = scan.advance(bytes, &bounds.ok_or(Reason::GatewayFault)?)?;
    let end = end.ok_or(Reason::HeadTimeout)?;
    let parsed = scan.read(&bytes.slice(..end))?;
    Ok((*parsed.raw, end))
}

/// What the headers say about where the message ends and what becomes of the connection.
#[derive(Default)]
struct Framing {
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Framing {
    fn take(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Reason> {
        if name == CONTENT_LENGTH {
            let length = plain_number(value).ok_or(Reason::LengthMalformed)?;
            if self.content_length.replace(length).is_some() {
                return Err(Reason::LengthMalformed);
            }
        } else if name == TRANSFER_ENCODING {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Reason::TransferCodingUnsupported);
            }
            self.chunked = true;
        } else if name == CONNECTION {
            for word in value.split(|&byte| byte == b',').map(trimmed) {
                self.close |= word.eq_ignore_ascii_case(b"close");
                self.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name == EXPECT {
            self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
        }
        Ok(())
    }

    fn length(&self, version: Version) -> Result<Length, Reason> {
        match (self.content_length, self.chunked) {
            (Some(_), true) => Err(Reason::FramingAmbiguous),
            (None, true) if version != Version::HTTP_11 => Err(Reason::TransferCodingUnsupported),
            (None, true) => Ok(Length::Unknown),
            (None | Some(0), false) => Ok(Length::None),
            (Some(bytes), false) => Ok(Length::Exactly(bytes)),
        }
    }
}

/// One or more digits and nothing else, up to 2^63: `+5`, `0x5`, `5,5` and nothing at all have
/// each been a way to smuggle.
pub(crate) fn plain_number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(value).ok()?.parse::<u64>().ok()?;
    (number <= 1 << 63).then_some(number)
}

/// Whether every byte may stand in a target: visible ASCII without `#`, which servers drop, and
/// without what no URI may hold and parsers disagree about.
pub(in crate::listen) fn is_target(target: &[u8]) -> bool {
    let may_stand = |byte: &u8| {
        matches!(byte, 0x21..=0x7e) && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'`')
    };
    !target.is_empty() && target.iter().all(may_stand)
}

/// Reads `method SP target SP version` (RFC 9112, section 3), without its CRLF.
fn request_line(line: &[u8], bounds: &Bounds) -> Result<RequestLine, Reason> {
    const MALFORMED: Reason = Reason::RequestLineMalformed;
    let method_end = memchr(b' ', line).ok_or(MALFORMED)?;
    let (method, rest) = line.split_at_checked(method_end).ok_or(MALFORMED)?;
    let rest = rest.strip_prefix(b" ").ok_or(MALFORMED)?;
    let (target, version) =
        rest.split_at_checked(memchr(b' ', rest).ok_or(MALFORMED)?).ok_or(MALFORMED)?;
    if !is_method(method) || !is_target(target) {
        return Err(MALFORMED);
    }
    if target.len() > bounds.target_bytes {
        return Err(Reason::TargetTooLong);
    }
    let version = match version {
        b" HTTP/1.1" => Version::HTTP_11,
        b" HTTP/1.0" => Version::HTTP_10,
        [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Reason::VersionUnsupported);
        }
        _ => return Err(MALFORMED),
    };
    // The absolute form, the authority form and `*` are rare enough for the careful reading.
    if !target.starts_with(b"/") && Uri::try_from(target).is_err() {
        return Err(MALFORMED);
    }
    let target_start = method_end + 1;
    Ok(RequestLine {
        method: 0..method_end,
        target: target_start..target_start + target.len(),
        version,
        end: line.len() + 2,
    })
}

/// Why a request line that is longer than any allowed one is refused.
fn overlong(line: &[u8]) -> Reason {
    match memchr(b' ', line).and_then(|end| line.split_at_checked(end)) {
        Some((method, _)) if is_method(method) => Reason::TargetTooLong,
        _ => Reason::RequestLineMalformed,
    }
}

fn is_method(method: &[u8]) -> bool {
    (1..=METHOD_BYTES_MAX).contains(&method.len()) && method.iter().all(|&byte| is_token(byte))
}

/// RFC 9110, section 5.6.2.
pub(in crate::listen) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
