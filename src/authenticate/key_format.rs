//! The text of an API key: recognisable, checked without a look-up, and random enough to need no slow hash.
//!
//! ```text
//! pcl_live_7Fq2kT9xLmVwYd8RzB1nHs6JcP0aGfE4uK0DQ3e0
//! └┬┘ └┬─┘ └──┬───┘└──────────┬─────────────┘└─┬──┘
//! prefix env  id, 8      secret, 26         CRC-32 of all before it, 6
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::authenticate::scan;
use crate::secret::{NoRandomness, Secret, fill_random};

/// How many characters an id has.
pub const ID_CHARS: usize = 8;
/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 512;
/// 26 characters of 62 kinds are 154 bits.
const RANDOM_CHARS: usize = 26;
const CHECK_CHARS: usize = 6;
/// All that follows the environment.
const SECRET_CHARS: usize = ID_CHARS + RANDOM_CHARS + CHECK_CHARS;
/// The longest environment and the longest prefix.
pub(in crate::authenticate) const WORD_CHARS_MAX: usize = 16;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The public id of a credential: eight characters of base 62. Ids of signing keys look the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; ID_CHARS]);

impl KeyId {
    /// The id with this text, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; ID_CHARS] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_alphanumeric).then_some(Self(bytes))
    }

    /// A new random id.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; ID_CHARS];
        random_characters(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Texts that part all ids into so many shares of about the same size, in the order of ids: with
    /// each of them but the first, which is left out, a share begins.
    pub fn begins(shares: usize) -> Vec<String> {
        let shares = shares.clamp(1, ALPHABET.len());
        let first = |share: usize| ALPHABET.get(ALPHABET.len() * share / shares);
        (1..shares).filter_map(first).map(|first| char::from(*first).to_string()).collect()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Only ASCII letters and digits ever get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The id as a number, for maps.
    pub fn number(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.as_str().to_owned()
    }
}

impl TryFrom<String> for KeyId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| {
            format!("`{text}` is not the id of a key; ids have eight letters and digits")
        })
    }
}

/// What a key's text tells without a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// The environment it was made for, such as `live`.
    pub env: &'a str,
    /// The id of the key.
    pub id: KeyId,
}

/// The form of key texts, fixed but for the prefix that names who issues them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFormat {
    prefix: Box<str>,
}

impl Default for KeyFormat {
    fn default() -> Self {
        Self { prefix: "pcl".into() }
    }
}

impl KeyFormat {
    /// Characters that follow the environment and its `_`.
    pub(in crate::authenticate) const SECRET_CHARS: usize = SECRET_CHARS;
    /// Characters at the end that nobody but the holder may see.
    pub(in crate::authenticate) const HIDDEN_CHARS: usize = RANDOM_CHARS + CHECK_CHARS;

    /// What keys begin with, before the first `_`.
    pub(in crate::authenticate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The form with this prefix: 1 to 16 lower-case letters and digits.
    pub fn new(prefix: &str) -> Option<Self> {
        is_word(prefix).then(|| Self { prefix: prefix.into() })
    }

    /// A new key for this environment: its id and its full text. `env` has 1 to 16 lower-case
    /// letters and digits ([`is_word`]); a key for anything else would not parse again.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate(&self, env: &str) -> Result<(KeyId, Secret), NoRandomness> {
        let id = KeyId::random()?;
        let mut random = Zeroizing::new([0; RANDOM_CHARS]);
        random_characters(random.as_mut_slice())?;
        let length = self.prefix.len() + env.len() + 2 + SECRET_CHARS;
        let mut text = Vec::with_capacity(length);
        for part in [self.prefix.as_bytes(), b"_", env.as_bytes(), b"_", &id.0, random.as_slice()] {
            text.extend_from_slice(part);
        }
        let check = check_characters(&text);
        text.extend_from_slice(&check);
        Ok((id, Secret::new(text)))
    }

    /// What this text tells, if it has the form and its checksum is right.
    pub fn parse<'a>(&self, text: &'a str) -> Option<Parsed<'a>> {
        let (env, rest) = self.after_prefix(text)?.split_once('_')?;
        if !is_word(env) || rest.len() != SECRET_CHARS {
            return None;
        }
        let (said, check) = text.split_at_checked(text.len().checked_sub(CHECK_CHARS)?)?;
        if check_characters(said.as_bytes()) != check.as_bytes()
            || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return None;
        }
        Some(Parsed { env, id: KeyId::parse(rest.get(..ID_CHARS)?)? })
    }

    /// Whether the text begins as ours do, so that one that does not parse was mistyped or cut.
    pub fn resembles(&self, text: &str) -> bool {
        self.after_prefix(text).is_some()
    }

    /// The first key in a longer text, such as a query or a log line.
    pub fn find<'a>(&self, text: &'a str) -> Option<Parsed<'a>> {
        memchr::memmem::find_iter(text.as_bytes(), self.prefix.as_bytes()).find_map(|start| {
            let rest = text.get(start..)?;
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            // No key is longer. Without an end, a text of nothing but prefixes would be read once
            // for each of them.
            let longest = self.prefix.len() + WORD_CHARS_MAX + 2 + SECRET_CHARS + 1;
            let length = rest.bytes().take(longest).take_while(is_part).count();
            self.parse(rest.get(..length)?)
        })
    }

    fn after_prefix<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.strip_prefix(&*self.prefix)?.strip_prefix('_')
    }
}

/// Whether the text can be an environment or a prefix: 1 to 16 lower-case letters and digits.
pub fn is_word(text: &str) -> bool {
    (1..=WORD_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Whether these bytes are a token: `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
/// (RFC 6750 section 2.1).
pub(in crate::authenticate) fn is_token(bytes: &[u8]) -> bool {
    let padding = bytes.iter().rev().take_while(|byte| **byte == b'=').count();
    let (characters, _) = bytes.split_at(bytes.len() - padding);
    !characters.is_empty() && are_characters_or(b'+', characters)
}

/// Whether all of these bytes may stand in a token before its padding, or are this one.
pub(in crate::authenticate) fn are_characters_or(also: u8, bytes: &[u8]) -> bool {
    let odd = |byte: u8| {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        // `-`, `.`, `/` and the digits stand together in ASCII.
        let digit = byte.wrapping_sub(b'-') <= b'9' - b'-';
        !(letter | digit | (byte == b'_') | (byte == b'~') | (byte == b'+') | (byte == also))
    };
    !scan::any(bytes, odd)
}

/// Fills the slice with random characters, all equally likely.
fn random_characters(characters: &mut [u8]) -> Result<(), NoRandomness> {
    // 248 is the greatest multiple of 62 below 256. Bytes from there on are thrown away: taken
    // modulo 62 they would make the first eight characters likelier than the others.
    let mut pool = Zeroizing::new([0_u8; 64]);
    let mut fresh: &[u8] = &[];
    for character in characters {
        *character = loop {
            match fresh.split_first() {
                Some((byte, rest)) => {
                    fresh = rest;
                    if *byte < 248 {
                        break digit(u32::from(*byte));
                    }
                }
                None => {
                    fill_random(pool.as_mut_slice())?;
                    fresh = pool.as_slice();
                }
            }
        };
    }
    Ok(())
}

/// The CRC-32 (IEEE) of `said` in base 62, most significant character first.
fn check_characters(said: &[u8]) -> [u8; CHECK_CHARS] {
    let mut rest = crc32fast::hash(said);
    let mut characters = [b'0'; CHECK_CHARS];
    for character in characters.iter_mut().rev() {
        *character = digit(rest);
        rest /= 62;
    }
    characters
}

fn digit(number: u32) -> u8 {
    ALPHABET.get(number as usize % ALPHABET.len()).copied().unwrap_or(b'0')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(secret: &Secret) -> String {
        String::from_utf8(secret.expose().to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn a_key_tells_its_environment_and_id(env in "[a-z0-9]{1,16}", prefix in "[a-z0-9]{1,16}") {
            let format = KeyFormat::new(&prefix).unwrap();
            let (id, secret) = format.generate(&env).unwrap();
            let text = text_of(&secret);
            prop_assert_eq!(text.len(), prefix.len() + env.len() + 2 + 40);
            prop_assert_eq!(format.parse(&text), Some(Parsed { env: &env, id }));
            let line = format!("GET /x?a={text}&b=1");
            prop_assert_eq!(format.find(&line), Some(Parsed { env: &env, id }));
        }

        #[test]
        fn one_mistyped_character_is_noticed(at in 0_usize..49, other in "[0-9A-Za-z_]") {
            let format = KeyFormat::default();
            let mut text = text_of(&format.generate("live").unwrap().1);
            prop_assume!(text[at..=at] != other);
            text.replace_range(at..=at, &other);
            prop_assert_eq!(format.parse(&text), None);
        }

        #[test]
        fn two_swapped_neighbours_are_noticed(at in 0_usize..48) {
            let format = KeyFormat::default();
            let mut bytes = format.generate("live").unwrap().1.expose().to_vec();
            prop_assume!(bytes[at] != bytes[at + 1]);
            bytes.swap(at, at + 1);
            prop_assert_eq!(format.parse(std::str::from_utf8(&bytes).unwrap()), None);
        }

        #[test]
        fn a_text_that_was_cut_is_noticed(length in 0_usize..49) {
            let format = KeyFormat::default();
            let text = text_of(&format.generate("live").unwrap().1);
            prop_assert_eq!(format.parse(&text[..length]), None);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            let format = KeyFormat::default();
            prop_assert_eq!(format.parse(&text), None);
            let line = format!("pcl_{text}");
            prop_assert_eq!(format.find(&line), None);
        }
    }

    #[test]
    fn a_run_that_is_longer_than_any_key_holds_none() {
        let format = KeyFormat::new("a234567890123456").unwrap();
        let text = text_of(&format.generate("b234567890123456").unwrap().1);
        assert!(format.find(&format!("key={text}&")).is_some(), "the longest one is found");
        assert_eq!(format.find(&format!("key={text}x")), None);
    }

    #[test]
    fn another_issuers_key_is_not_ours() {
        let text = text_of(&KeyFormat::new("acme").unwrap().generate("live").unwrap().1);
        assert_eq!(KeyFormat::default().parse(&text), None);
        assert!(!KeyFormat::default().resembles(&text));
        assert_eq!(KeyFormat::new("Acme_"), None);
    }

    #[test]
    fn every_character_is_equally_likely() {
        let mut characters = vec![0; 62 * 2000];
        random_characters(&mut characters).unwrap();
        for character in ALPHABET {
            let count = characters.iter().filter(|found| *found == character).count();
            // Taken modulo 62, the first eight would come about 2421 times; 6.5 sigma is 290.
            assert!((1710..2290).contains(&count), "{}: {count}", char::from(*character));
        }
    }
}
