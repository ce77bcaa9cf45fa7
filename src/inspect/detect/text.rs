//! Reading bytes without panics, the few ways that all detectors share.

/// The byte at `index`, or 0 beyond the end.
#[inline]
pub(in crate::inspect::detect) fn at(text: &[u8], index: usize) -> u8 {
    #[cfg(test)]
    steps::count(1);
    text.get(index).copied().unwrap_or(0)
}

/// The bytes from `from` to before `to`, cut to what is there.
pub(in crate::inspect::detect) fn part(text: &[u8], from: usize, to: usize) -> &[u8] {
    text.get(from.min(text.len())..to.min(text.len())).unwrap_or_default()
}

/// Whether `word` stands at `index`.
pub(in crate::inspect::detect) fn stands(text: &[u8], index: usize, word: &[u8]) -> bool {
    #[cfg(test)]
    steps::count(word.len());
    text.get(index..).is_some_and(|rest| rest.starts_with(word))
}

/// The first place at or after `from` where `word` stands.
pub(in crate::inspect::detect) fn find(text: &[u8], from: usize, word: &[u8]) -> Option<usize> {
    let rest = text.get(from..)?;
    let found = memchr::memmem::find(rest, word);
    #[cfg(test)]
    steps::count(found.unwrap_or(rest.len()) + word.len());
    found.map(|found| found + from)
}

/// Whether `word` stands anywhere.
pub(in crate::inspect::detect) fn holds(text: &[u8], word: &[u8]) -> bool {
    find(text, 0, word).is_some()
}

/// Whether one of `words` stands anywhere.
pub(in crate::inspect::detect) fn holds_any(text: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| holds(text, word.as_bytes()))
}

/// The first place at or after `from` whose byte does not satisfy `wanted`.
pub(in crate::inspect::detect) fn skip(
    text: &[u8],
    from: usize,
    wanted: impl Fn(u8) -> bool,
) -> usize {
    let mut index = from;
    while index < text.len() && wanted(at(text, index)) {
        index += 1;
    }
    index
}

/// The first place at or after `from` that is not white space.
pub(in crate::inspect::detect) fn skip_space(text: &[u8], from: usize) -> usize {
    skip(text, from, is_space)
}

/// Whether `byte` is one of `bytes`.
pub(in crate::inspect::detect) fn among(byte: u8, bytes: &[u8]) -> bool {
    bytes.contains(&byte)
}

/// White space, as SQL, HTML and shells see it; NUL counts, because many parsers pass over it.
pub(in crate::inspect::detect) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d | 0 | 0xa0)
}

/// A byte of a name: letter, digit, underscore, or part of a character beyond ASCII.
pub(in crate::inspect::detect) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Bytes before a structure in which words are counted.
const LOOK_BACK_BYTES: usize = 256;

/// How many words of at least two letters stand before `end`; counts no further than `most`.
///
/// Free text in front of a structure is the best sign that somebody writes *about* it.
pub(in crate::inspect::detect) fn words_before(text: &[u8], end: usize, most: usize) -> usize {
    let mut words = 0;
    let mut index = end.saturating_sub(LOOK_BACK_BYTES);
    while index < end && words < most {
        let stop = skip(text, index, |byte| byte.is_ascii_alphabetic() || byte >= 0x80);
        let begins = index == 0 || matches!(at(text, index - 1), b' ' | b'\n' | b'(' | b'"');
        let ends =
            matches!(at(text, stop), b' ' | b',' | b'.' | b':' | b'\n' | b')' | b'\'' | b'"');
        if stop >= index + 2 && begins && ends {
            words += 1;
        }
        index = stop + 1;
    }
    words
}

/// Whether the text is one run without white space, as file names, links and identifiers are.
pub(in crate::inspect::detect) fn is_single(text: &[u8]) -> bool {
    !text.trim_ascii().iter().any(u8::is_ascii_whitespace)
}

#[cfg(test)]
pub(in crate::inspect::detect) mod steps {
    //! Counts byte reads, so that a test can hold every detector to linear work.

    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    pub(in crate::inspect::detect) fn count(more: usize) {
        STEPS.with(|steps| steps.set(steps.get().saturating_add(more)));
    }

    pub(in crate::inspect::detect) fn take() -> usize {
        STEPS.with(Cell::take)
    }
}
