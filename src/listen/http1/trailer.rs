//! What stands behind a chunked body.

use bytes::BytesMut;
use http::HeaderMap;

use crate::fields::Fields;
use crate::listen::Length;
use crate::listen::http1::decode::{Decoder, Step, field};
use crate::refusal::Reason;

/// The trailers of a request, in number.
const TRAILERS_MAX: usize = 100;

/// The content of a chunked body that lies in `bytes`, and its trailers.
///
/// # Errors
/// What is wrong with it, and [`Reason::BodyIncomplete`] when it has no end.
pub(crate) fn kept_chunks(bytes: &[u8]) -> Result<(Vec<u8>, Fields), Reason> {
    let (mut decoder, mut input) = (Decoder::of(Length::Unknown), BytesMut::from(bytes));
    let (mut content, mut fields) = (Vec::new(), Fields::new());
    loop {
        match decoder.step(&mut input) {
            Step::Data(data) => content.extend_from_slice(&data),
            Step::Trailers(lines) => {
                fields = trailers(&lines).ok_or(Reason::ChunkMalformed)?.into();
            }
            Step::End => return Ok((content, fields)),
            Step::More => return Err(Reason::BodyIncomplete),
            Step::Malformed(reason) => return Err(reason),
        }
    }
}

/// The trailers that lines hold which a [`Decoder`] has checked; nothing when they are too many.
pub(super) fn trailers(lines: &[u8]) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let (name, value) = field(line.strip_suffix(b"\r\n")?)?;
        if trailers.len() == TRAILERS_MAX {
            return None;
        }
        trailers.append(name, value);
    }
    Some(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_keep_their_order_within_a_name_and_have_a_ceiling() {
        let body = b"2\r\nab\r\n0\r\nX-A: 1\r\nx-b:\r\nx-a:  2 \r\n\r\nnext";
        let (content, fields) = kept_chunks(body).unwrap();
        assert_eq!(content, b"ab");
        assert_eq!(fields.get_all("x-a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((fields.len(), fields.get("x-b").unwrap().len()), (3, 0));
        assert_eq!(kept_chunks(b"2\r\nab\r\n0\r\nX-A: 1\r\n"), Err(Reason::BodyIncomplete));
        assert_eq!(kept_chunks(b"2\nab\n0\n\n"), Err(Reason::ChunkMalformed));
        let many = |count: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(kept_chunks(many(TRAILERS_MAX).as_bytes()).unwrap().1.len(), TRAILERS_MAX);
        let refused = kept_chunks(many(TRAILERS_MAX + 1).as_bytes());
        assert_eq!(refused, Err(Reason::ChunkMalformed));
    }
}
