//! The fast way past ordinary fields: one look at the bytes says which detectors could find anything.

use crate::inspect::detect::words;

/// What kinds of byte, and which telling words, a text holds: one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::inspect::detect) struct Marks(u64);

macro_rules! bits {
    ($($name:ident $bit:literal)*) => {
        impl Marks {
            $(pub(in crate::inspect::detect) const $name: u64 = 1 << $bit;)*
        }
    };
}

bits! {
    QUOTE 0 TICK 1 LESS 2 MORE 3 DOLLAR 4 BRACE 5 BRACKET 6 PERCENT 7 SEMI 8 PIPE 9 AMP 10 EQUALS 11
    PAREN 12 HASH 13 DASH 14 STAR 15 SLASH 16 BACKSLASH 17 DOT 18 COLON 19 LINE 20 CONTROL 21
    SPECIAL 22 SPACE 23 DIGIT 24
    SQL_WORD 25 NOSQL_WORD 26 COMMAND_WORD 27 FILE_WORD 28 TEMPLATE_WORD 29 SCRIPT_WORD 30 PLUS 31 QUESTION 32
    AT 33 UNDERSCORE 34
}

static CLASSES: [u64; 256] = classes();

#[expect(clippy::indexing_slicing, reason = "evaluated while compiling; the index is below 256")]
const fn classes() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = class(byte);
        byte += 1;
    }
    table
}

const fn class(byte: usize) -> u64 {
    match byte {
        0x22 | 0x27 => Marks::QUOTE,
        0x60 => Marks::TICK,
        0x3c => Marks::LESS,
        0x3e => Marks::MORE,
        0x24 => Marks::DOLLAR,
        0x7b => Marks::BRACE,
        0x5b => Marks::BRACKET,
        0x25 => Marks::PERCENT,
        0x3b => Marks::SEMI,
        0x7c => Marks::PIPE,
        0x26 => Marks::AMP,
        0x3d => Marks::EQUALS,
        0x28 => Marks::PAREN,
        0x23 => Marks::HASH,
        0x2d => Marks::DASH,
        0x2a => Marks::STAR,
        0x2f => Marks::SLASH,
        0x2b => Marks::PLUS,
        0x3f => Marks::QUESTION,
        0x40 => Marks::AT,
        0x5f => Marks::UNDERSCORE,
        0x5c => Marks::BACKSLASH,
        0x2e => Marks::DOT,
        0x3a => Marks::COLON,
        0x0a | 0x0d => Marks::LINE,
        0x20 | 0x09 => Marks::SPACE,
        0x00..=0x1f | 0x7f => Marks::CONTROL,
        0x30..=0x39 => Marks::DIGIT,
        // First bytes of the characters that `decode` folds into ASCII.
        0xc2 | 0xca | 0xcb | 0xe2 | 0xef | 0xc0 | 0xc1 => Marks::SPECIAL,
        _ => 0,
    }
}

impl Marks {
    /// Looks at every byte once, and again for words unless the text is one plain word.
    pub(in crate::inspect::detect) fn of(text: &[u8]) -> Self {
        let Self(bytes) = Self::of_bytes(text);
        if bytes & !(Self::DIGIT | Self::DASH) == 0 {
            return Self(bytes);
        }
        Self(bytes | words::found_in(text, Self(bytes)))
    }

    /// Looks at every byte once, and at no words.
    pub(in crate::inspect::detect) fn of_bytes(text: &[u8]) -> Self {
        Self(
            text.iter().fold(0, |marks, byte| {
                marks | CLASSES.get(usize::from(*byte)).copied().unwrap_or(0)
            }),
        )
    }

    /// Whether one of these bits is set.
    pub(in crate::inspect::detect) fn any(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    /// Whether all of these bits are set.
    pub(in crate::inspect::detect) fn all(self, bits: u64) -> bool {
        self.0 & bits == bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_word_has_no_telling_mark() {
        let marks = Marks::of(b"9f1c2d3e-2f4a-4b1e-9c3d-0a1b2c3d4e5f");
        assert!(!marks.any(!(Marks::DIGIT | Marks::DASH)));
        assert!(Marks::of(b"1 UNION SELECT 2").any(Marks::SQL_WORD));
        assert!(Marks::of("don\u{2019}t".as_bytes()).any(Marks::SPECIAL));
    }
}
