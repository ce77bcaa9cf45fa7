//! Finds keys of ours in whatever bytes pass by, by their prefix and their checksum.

use memchr::memmem;
use zeroize::Zeroizing;

use crate::authenticate::key_format::{KeyFormat, WORD_CHARS_MAX};

/// Looks through bytes that come piece by piece. It holds one piece and the beginning of a key.
pub struct Finder<'f> {
    format: &'f KeyFormat,
    beginning: Vec<u8>,
    held: Zeroizing<Vec<u8>>,
    /// The line, counted from 1, in which what is held begins.
    line: u64,
}

/// A key that was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// All of it. It is not to be shown.
    pub key: &'a str,
    /// All that is no secret: prefix, environment and id.
    pub public: &'a str,
    /// The line that it stands in, counted from 1.
    pub line: u64,
}

impl<'f> Finder<'f> {
    /// A search for keys of this form.
    pub fn new(format: &'f KeyFormat) -> Self {
        let beginning = format!("{}_", format.prefix()).into_bytes();
        Self { format, beginning, held: Zeroizing::default(), line: 1 }
    }

    /// Looks through the next piece, and shows every key that is whole by now.
    pub fn read(&mut self, piece: &[u8], found: impl FnMut(Found<'_>)) {
        self.held.extend_from_slice(piece);
        self.look(false, found);
    }

    /// Looks through what is left after the last piece.
    pub fn finish(&mut self, found: impl FnMut(Found<'_>)) {
        self.look(true, found);
    }

    fn look(&mut self, is_last: bool, mut found: impl FnMut(Found<'_>)) {
        let held: &[u8] = &self.held;
        let longest = self.beginning.len() + WORD_CHARS_MAX + 1 + KeyFormat::SECRET_CHARS;
        let finder = memmem::Finder::new(&self.beginning);
        let (mut at, mut counted) = (0, 0);
        let done = loop {
            let rest = held.get(at..).unwrap_or_default();
            let Some(next) = finder.find(rest) else {
                // A beginning may be cut in two.
                break held.len().saturating_sub(self.beginning.len() - 1).max(at);
            };
            let start = at + next;
            let rest = held.get(start..).unwrap_or_default();
            if rest.len() < longest && !is_last {
                break start;
            }
            at = start + 1;
            if let Some(key) = self.key(rest) {
                self.line += lines(held, counted, start);
                counted = start;
                let public = key.len().saturating_sub(KeyFormat::HIDDEN_CHARS);
                found(Found {
                    key,
                    public: key.get(..public).unwrap_or_default(),
                    line: self.line,
                });
                at = start + key.len();
            }
        };
        self.line += lines(held, counted, done);
        self.held.drain(..done);
    }

    /// The key that these bytes begin with. What follows it does not matter: with the right
    /// checksum it is no chance.
    fn key<'b>(&self, bytes: &'b [u8]) -> Option<&'b str> {
        let after = bytes.get(self.beginning.len()..)?;
        let environment = after.iter().take(WORD_CHARS_MAX + 1).position(|byte| *byte == b'_')?;
        let length = self.beginning.len() + environment + 1 + KeyFormat::SECRET_CHARS;
        let key = std::str::from_utf8(bytes.get(..length)?).ok()?;
        self.format.parse(key).map(|_| key)
    }
}

fn lines(held: &[u8], from: usize, to: usize) -> u64 {
    memchr::memchr_iter(b'\n', held.get(from..to).unwrap_or_default()).count() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> String {
        let (_, secret) = KeyFormat::default().generate("live").unwrap();
        String::from_utf8(secret.expose().to_vec()).unwrap()
    }

    fn all(pieces: &[&[u8]]) -> Vec<(String, u64)> {
        let format = KeyFormat::default();
        let mut finder = Finder::new(&format);
        let mut all = Vec::new();
        for piece in pieces {
            finder.read(piece, |found| all.push((found.key.to_owned(), found.line)));
            assert!(finder.held.len() < 128, "only a key's beginning is held");
        }
        finder.finish(|found| all.push((found.key.to_owned(), found.line)));
        all
    }

    proptest! {
        #[test]
        fn keys_are_found_wherever_the_bytes_are_cut(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            cut in 1_usize..80,
        ) {
            let (first, second) = (key(), key());
            let mut bytes = noise.clone();
            bytes.extend_from_slice(format!("\npcl_{first}\n\nx={second}").as_bytes());
            let lines = noise.iter().filter(|byte| **byte == b'\n').count() as u64;
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(all(&pieces), [(first, lines + 2), (second, lines + 4)]);
        }

        #[test]
        fn noise_holds_no_key(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(all(&[&noise]).is_empty());
        }
    }

    #[test]
    fn a_key_in_other_words_is_found_and_one_with_a_wrong_checksum_is_not() {
        let key = key();
        assert_eq!(all(&[format!("\"{key}\"").as_bytes()]), [(key.clone(), 1)]);
        assert_eq!(all(&[format!("a{key}b_c").as_bytes()]), [(key.clone(), 1)]);
        assert!(all(&[&key.as_bytes()[..key.len() - 1]]).is_empty());
        assert!(all(&[key.replace("live", "test").as_bytes()]).is_empty());
        let repeated = "pcl_".repeat(100_000);
        assert!(all(&[repeated.as_bytes()]).is_empty());
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        let (key, format) = (key(), KeyFormat::default());
        let mut finder = Finder::new(&format);
        let mut shown = String::new();
        finder.read(key.as_bytes(), |found| shown = found.public.to_owned());
        finder.finish(|found| shown = found.public.to_owned());
        assert_eq!(shown, key[..17]);
        assert_eq!(format.parse(&key).unwrap().id.as_str(), &shown[9..]);
    }
}
