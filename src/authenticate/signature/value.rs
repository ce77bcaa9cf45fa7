//! The bytes of one signature: those of short ones stand in place, without an allocation.

use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How many groups of three bytes stand in place: 64 bytes, as signatures by curves have, and a bit.
const GROUPS: usize = 22;
/// A character that stands for no six bits.
const NONE: u32 = 1 << 31;

/// The bytes of a signature.
#[derive(Clone, Debug)]
pub struct Value {
    short: [[u8; 3]; GROUPS],
    length: usize,
    /// The bytes of a long one, such as RSA makes; empty otherwise.
    long: Vec<u8>,
}

impl Value {
    /// The bytes that this is the strict base64 of (RFC 4648, section 4): padded, and with no bit set
    /// that no byte has.
    pub(super) fn decode(encoded: &[u8]) -> Option<Self> {
        if let Some(value) = encoded.try_into().ok().and_then(Self::of_mac) {
            return Some(value);
        }
        let (whole, last) = encoded.split_last_chunk::<4>()?;
        let (whole, rest) = whole.as_chunks::<4>();
        if whole.len() >= GROUPS || !rest.is_empty() {
            return STANDARD.decode(encoded).ok().map(Self::from);
        }
        let mut value = Self { short: [[0; 3]; GROUPS], length: 0, long: Vec::new() };
        let (mut places, mut odd) = (value.short.iter_mut(), 0);
        // What no base64 has is found at the end, so that the way there has no branch.
        for (group, place) in whole.iter().zip(&mut places) {
            *place = bytes(*group, &mut odd);
        }
        let (last, bytes_of_last, spare) = match *last {
            [a, b, b'=', b'='] => ([a, b, b'A', b'A'], 1, 0xFFFF),
            [a, b, c, b'='] => ([a, b, c, b'A'], 2, 0xFF),
            whole => (whole, 3, 0),
        };
        let place = places.next()?;
        *place = bytes(last, &mut odd);
        let [high, middle, low] = place.map(u32::from);
        let has_spare = (high << 16 | middle << 8 | low) & spare != 0;
        value.length = whole.len() * 3 + bytes_of_last;
        (odd & NONE == 0 && !has_spare).then_some(value)
    }
}

impl Value {
    /// The same of 32 bytes, as HMAC with SHA-256 makes: how many steps it takes is known when the
    /// program is built, and each is a few instructions.
    fn of_mac(encoded: &[u8; 44]) -> Option<Self> {
        let (groups, _) = encoded.as_chunks::<4>();
        let groups: [[u8; 4]; 11] = groups.try_into().ok()?;
        let mut odd = 0;
        let [.., [a, b, c, padding]] = groups;
        let mut short = [[0; 3]; GROUPS];
        for (group, place) in groups.iter().take(10).zip(&mut short) {
            *place = bytes(*group, &mut odd);
        }
        let last = bytes([a, b, c, b'A'], &mut odd);
        let [high, middle, spare] = last;
        if let Some(place) = short.get_mut(10) {
            *place = [high, middle, 0];
        }
        let is_whole = odd & NONE == 0 && padding == b'=' && spare == 0;
        is_whole.then_some(Self { short, length: 32, long: Vec::new() })
    }
}

impl From<Vec<u8>> for Value {
    fn from(long: Vec<u8>) -> Self {
        Self { short: [[0; 3]; GROUPS], length: 0, long }
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.long.is_empty() {
            self.short.as_flattened().get(..self.length).unwrap_or_default()
        } else {
            &self.long
        }
    }
}

/// The three bytes that four characters stand for. `odd` gets [`NONE`] when one of them stands for
/// nothing.
#[inline(always)]
fn bytes(group: [u8; 4], odd: &mut u32) -> [u8; 3] {
    let [a, b, c, d] = group.map(|byte| SIXES.get(usize::from(byte)).copied().unwrap_or(NONE));
    *odd |= a | b | c | d;
    let [_, high, middle, low] = (a << 18 | b << 12 | c << 6 | d).to_be_bytes();
    [high, middle, low]
}

/// What each character stands for, in as many bits as three bytes are put together in.
static SIXES: [u32; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut sixes = [NONE; 256];
    let mut number = 0;
    #[expect(clippy::indexing_slicing, reason = "it is computed when the program is built")]
    while number < alphabet.len() {
        sixes[alphabet[number] as usize] = number as u32;
        number += 1;
    }
    sixes
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_reads_what_the_general_reader_reads(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            at in any::<prop::sample::Index>(),
            other in "[A-Za-z0-9+/=_ -]",
        ) {
            let text = STANDARD.encode(&bytes);
            let read = |text: &str| Value::decode(text.as_bytes()).map(|value| value.to_vec());
            let expected = |text: &str| STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty());
            prop_assert_eq!(read(&text), expected(&text));
            if !text.is_empty() {
                let mut changed = text.clone();
                let at = at.index(text.len());
                changed.replace_range(at..=at, &other);
                prop_assert_eq!(read(&changed), expected(&changed), "{}", changed);
                let cut = &text[..at];
                prop_assert_eq!(read(cut), expected(cut), "{}", cut);
            }
        }
    }
}
