//! Bytes that never print and are compared in constant time.

pub mod reference;
pub mod watched;

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

/// Secret bytes: wiped when dropped, and printed as `[secret]` wherever somebody tries.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes into custody.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// `length` fresh random bytes from the system.
    ///
    /// # Errors
    /// When the system has no randomness to give, which it says once at start and never later.
    pub fn random(length: usize) -> Result<Self, NoRandomness> {
        let mut bytes = vec![0; length];
        fill_random(&mut bytes)?;
        Ok(Self::new(bytes))
    }

    /// The bytes themselves, for the one call that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// As [`equal`].
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        equal(&self.0, &other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system gave no random bytes")
    }
}

impl std::error::Error for NoRandomness {}

/// Fills `bytes` with randomness from the system.
///
/// # Errors
/// As [`Secret::random`].
pub fn fill_random(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    SystemRandom::new().fill(bytes).map_err(|_| NoRandomness)
}

/// Whether two byte strings are equal, in a time that depends on their lengths only.
pub fn equal(left: &[u8], right: &[u8]) -> bool {
    // By words: by bytes, hiding each step from the compiler takes as long as hashing what is compared.
    let (left_words, left_rest) = left.as_chunks::<8>();
    let (right_words, right_rest) = right.as_chunks::<8>();
    let same_length = Choice::from(u8::from(left.len() == right.len()));
    let words = left_words.iter().zip(right_words);
    let same_words = words.fold(same_length, |same, (left, right)| {
        same & u64::from_ne_bytes(*left).ct_eq(&u64::from_ne_bytes(*right))
    });
    (same_words & left_rest.ct_eq(right_rest)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_equal_only_when_every_byte_and_the_length_are() {
        let whole: Vec<u8> = (0..40).collect();
        for length in 0..=40 {
            let (text, copy) = (&whole[..length], whole[..length].to_vec());
            assert!(equal(text, &copy));
            for other in (0..=40).filter(|other| *other != length) {
                assert!(!equal(text, &whole[..other]), "{length} {other}");
            }
            for at in 0..length {
                let mut changed = text.to_vec();
                changed[at] ^= 0x80;
                assert!(!equal(text, &changed), "{length} {at}");
            }
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert!(equal(secret.expose(), b"hunter2"));
        assert!(!equal(secret.expose(), b"hunter3"));
    }
}
