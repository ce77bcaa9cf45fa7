//! Reads a body whole, within its ceiling and the room for all bodies.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;

use crate::listen::Length;
use crate::listen::body::{Body, Broken};
use crate::listen::room::Held;
use crate::refusal::{Reason, Refusal};

/// The first piece of memory for a body that comes in more than one frame.
const FIRST_BYTES: usize = 4096;

/// Reads a body whole. What it takes of the room grows with the bytes that have arrived, never with
/// what the caller declared. A body that came in one frame is not copied. Trailers are shown to
/// `trailers`, and no longer belong to what was read.
///
/// # Errors
/// `body-too-large` as soon as a byte is too many, `buffer-full`, and what broke the body off.
pub async fn whole(
    mut body: Body,
    length: Length,
    bytes_max: u64,
    held: &mut Held,
    mut trailers: impl FnMut(HeaderMap),
) -> Result<Bytes, Refusal> {
    let mut gathered = Gathered::Nothing;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        match frame.map_err(broken)?.into_data() {
            Ok(data) => gathered.add(data, bytes_max, held)?,
            Err(frame) => frame.into_trailers().into_iter().for_each(&mut trailers),
        }
    }
    let bytes = gathered.into_bytes();
    match length {
        Length::Exactly(declared) if declared != bytes.len() as u64 => {
            Err(Refusal::new(Reason::BodyIncomplete)
                .because(format!("{} bytes of {declared}", bytes.len())))
        }
        Length::None | Length::Exactly(_) | Length::Unknown => Ok(bytes),
    }
}

/// What has arrived of a body.
enum Gathered {
    Nothing,
    /// All of it in one frame so far.
    One(Bytes),
    /// Put together from several.
    Several(Vec<u8>),
}

impl Gathered {
    fn add(&mut self, data: Bytes, bytes_max: u64, held: &mut Held) -> Result<(), Refusal> {
        if data.is_empty() {
            return Ok(());
        }
        let present = match self {
            Self::Nothing => 0,
            Self::One(first) => first.len(),
            Self::Several(buffer) => buffer.len(),
        };
        let needed = present.saturating_add(data.len());
        if needed as u64 > bytes_max {
            return Err(too_large(bytes_max));
        }
        *self = match std::mem::replace(self, Self::Nothing) {
            Self::Nothing => {
                held.resize(needed as u64)?;
                Self::One(data)
            }
            Self::One(first) => {
                let mut buffer = Vec::new();
                make_room(&mut buffer, needed, bytes_max, held)?;
                buffer.extend_from_slice(&first);
                buffer.extend_from_slice(&data);
                Self::Several(buffer)
            }
            Self::Several(mut buffer) => {
                make_room(&mut buffer, needed, bytes_max, held)?;
                buffer.extend_from_slice(&data);
                Self::Several(buffer)
            }
        };
        Ok(())
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Several(buffer) => Bytes::from(buffer),
        }
    }
}

/// Lets a buffer grow to at least `needed`: at least to its double, so that copying stays cheap, and
/// at most to the ceiling. The room is asked before the memory is.
fn make_room(
    buffer: &mut Vec<u8>,
    needed: usize,
    bytes_max: u64,
    held: &mut Held,
) -> Result<(), Refusal> {
    if needed <= buffer.capacity() {
        return Ok(());
    }
    let most = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let grown = buffer.capacity().saturating_mul(2).max(FIRST_BYTES).min(most).max(needed);
    held.resize(grown as u64)?;
    buffer.try_reserve_exact(grown - buffer.len()).map_err(|_| {
        Refusal::new(Reason::BufferFull).because("the system has no memory for the body")
    })
}

/// The refusal for a body of more than `bytes_max`.
pub fn too_large(bytes_max: u64) -> Refusal {
    Refusal::new(Reason::BodyTooLarge).because(format!("more than {bytes_max} bytes"))
}

/// The refusal for a body that broke off.
fn broken(broken: Broken) -> Refusal {
    match broken {
        Broken::Caller(reason) => Refusal::new(reason),
        Broken::Connection => Refusal::new(Reason::ClientLeft).because("amid the body"),
        Broken::Upstream => Refusal::new(Reason::GatewayFault).because(broken.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::room::Room;
    use crate::units::Size;

    #[test]
    fn all_memory_of_a_buffer_is_held_and_it_grows_by_doubling() {
        let room = Room::new(Size(100_000));
        let mut held = room.hold();
        let mut gathered = Gathered::Nothing;
        let mut sizes = Vec::new();
        for _ in 0..50_000 {
            gathered.add(Bytes::from_static(b"x"), 50_000, &mut held).unwrap();
            if let Gathered::Several(buffer) = &gathered {
                assert_eq!(held.bytes(), buffer.capacity() as u64);
                sizes.push(buffer.capacity());
            }
        }
        sizes.dedup();
        assert_eq!(sizes, [4096, 8192, 16_384, 32_768, 50_000]);
        let more = gathered.add(Bytes::from_static(b"x"), 50_000, &mut held).unwrap_err();
        assert_eq!(more.reason, Reason::BodyTooLarge);
    }

    #[test]
    fn a_body_of_one_frame_is_not_copied() {
        let room = Room::new(Size(100));
        let mut held = room.hold();
        let frame = Bytes::from(vec![b'x'; 50]);
        let mut gathered = Gathered::Nothing;
        gathered.add(Bytes::new(), 100, &mut held).unwrap();
        gathered.add(frame.clone(), 100, &mut held).unwrap();
        assert_eq!(gathered.into_bytes().as_ptr(), frame.as_ptr());
        assert_eq!(held.bytes(), 50);
    }
}
