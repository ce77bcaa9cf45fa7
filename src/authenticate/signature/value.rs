//! The bytes of one signature: those of short ones stand in place, without an allocation.

use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How many groups of three bytes stand in place: 64 bytes, as signatures by curves have, and a bit.
const GROUPS: usize = 22;
/// How many characters those are, filled up to whole chunks of as many as are read together.
const CHARACTERS: usize = 96;
/// Marks what stands for no six bits.
const NONE: u8 = 0x80;

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
        let (digits, padding) = match encoded {
            [digits @ .., b'=', b'='] => (digits, 2),
            [digits @ .., b'='] => (digits, 1),
            digits => (digits, 0),
        };
        let (groups, rest) = encoded.as_chunks::<4>();
        if groups.is_empty() {
            return None;
        }
        if groups.len() > GROUPS || !rest.is_empty() {
            return STANDARD.decode(encoded).ok().map(Self::from);
        }
        // What fills up stands for zeros, so whoever set a bit that no byte has is found by the bytes
        // behind the last.
        let mut characters = [b'A'; CHARACTERS];
        characters.get_mut(..digits.len())?.copy_from_slice(digits);
        let sixes = sixes(characters, encoded.len())?;
        let mut short = [[0; 3]; GROUPS];
        for (place, [a, b, c, d]) in short.iter_mut().zip(sixes.as_chunks().0).take(groups.len()) {
            *place = [a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d];
        }
        let length = groups.len() * 3 - padding;
        let spare = short.as_flattened().get(length..length + padding)?;
        spare.iter().all(|byte| *byte == 0).then_some(Self { short, length, long: Vec::new() })
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

/// The six bits that each of the first `count` characters stands for, and of some behind them; nothing
/// when one of them stands for none. Reckoned without a table and without a branch for each, so that
/// the compiler does sixteen at once.
#[inline(always)]
fn sixes(mut characters: [u8; CHARACTERS], count: usize) -> Option<[u8; CHARACTERS]> {
    let mut odd = [0; 16];
    let (chunks, _) = characters.as_chunks_mut::<16>();
    for chunk in chunks.iter_mut().take(count.div_ceil(16)) {
        for (character, odd) in chunk.iter_mut().zip(&mut odd) {
            let byte = *character;
            let mut six = if byte == b'+' { 62 } else { NONE };
            six = if byte == b'/' { 63 } else { six };
            for (first, count, six_of_first) in [(b'A', 26, 0), (b'a', 26, 26), (b'0', 10, 52)] {
                let above = byte.wrapping_sub(first);
                six = if above < count { above + six_of_first } else { six };
            }
            *character = six;
            *odd |= six;
        }
    }
    (odd.iter().fold(0, |any, odd| any | odd) & NONE == 0).then_some(characters)
}

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
