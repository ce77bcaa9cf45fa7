//! Finds telling words in a text, in one pass that most texts leave with nothing to look at twice.
//!
//! Every four bytes are hashed into a small bitmap of how words begin. The bytes do not wait for each
//! other as they would in an automaton, so that several are looked at in one step; what the bitmap
//! lets through is compared letter by letter.

use std::sync::LazyLock;

use memchr::memmem;

use crate::inspect::detect::marks::Marks;

/// Words of three bytes and more that make a field worth a closer look though it may hold no telling
/// byte.
const WORDS: [(u64, &[&str]); 6] = [
    (
        Marks::SQL_WORD,
        &[
            "union",
            "select",
            "insert",
            "update",
            "delete",
            "drop",
            "exec",
            "declare",
            "waitfor",
            "having",
            "order by",
            "group by",
            "sleep",
            "benchmark",
            "procedure",
            "outfile",
            "truncate",
            "shutdown",
            "rlike",
            "load_file",
            "utl_",
            "dbms_",
            "sysdate",
            "like",
            "between",
            "regexp",
            "null",
        ],
    ),
    (Marks::NOSQL_WORD, &["this.", "db.", "__proto__", "prototype", "return"]),
    (
        Marks::COMMAND_WORD,
        &[
            "cmd",
            "powershell",
            "/bin",
            "/dev/tcp",
            "certutil",
            "bitsadmin",
            "system",
            "passthru",
            "shell_exec",
            "popen",
            "subprocess",
            "child_process",
            "eval",
            "nc -",
            "mkfifo",
            "phpinfo",
            "assert",
            "socket",
            "base64_decode",
            "regsvr32",
            "mshta",
            "/dev/udp",
            "0>&1",
            "iex(",
            ".download",
            "invoke-",
            "-windowstyle",
            "sock",
            "comspec",
            "globals",
            "spawn",
            "call_user",
            "create_function",
            "file_put",
            "rundll32",
            "exec",
            "wmic",
            "runtime",
        ],
    ),
    (
        Marks::FILE_WORD,
        &[
            "/etc",
            "etc/",
            "etc\\",
            "proc/",
            "/proc",
            "/var/",
            "var/",
            "/root",
            "root/",
            "windows",
            "winnt",
            "system32",
            "inetpub",
            "c:\\b",
            "127.0.0.1",
            "globalroot",
            "file:",
            "data:/",
            "phar:",
            "expect:",
            "zip:",
            "bzip2:",
            "zlib",
            "glob:",
            "gopher:",
            "dict:",
            "netdoc:",
            "jar:",
            "tftp:",
            "ldap:",
            "ssh2.",
            "ogg:",
            "rar:",
            "metadata",
            "2852039166",
            "0xa9fe",
            "fd00:ec2",
            "credentials",
            ".kube",
            ".docker",
            "httpd.conf",
            "my.cnf",
            "context.xml",
            "repair",
            "web.config",
            ".env",
            ".git",
            ".svn",
            ".ht",
            "id_rsa",
            "wp-config",
            "boot.ini",
            "win.ini",
            "php.ini",
            "passwd",
            ".aws",
            ".ssh",
            "web-inf",
            ".ds_store",
            "169.254.",
            ".npmrc",
            ".bash",
            "docker-compose",
            ".hg",
            ".idea",
            "database.yml",
            "php:",
            "system.ini",
            ".pgpass",
            "shadow",
        ],
    ),
    (Marks::TEMPLATE_WORD, &["java", "classloader", "jndi", "freemarker", "getclass"]),
    (
        Marks::SCRIPT_WORD,
        &[
            "script:",
            "script\t:",
            "data:",
            "alert",
            "confirm(",
            "prompt(",
            "document",
            "window",
            "fromcharcode",
            "constructor",
            "expression",
            "eval",
            "location",
            "innerhtml",
            "behavior",
            "@import",
            "import(",
            "onerror",
            "onload",
            "fetch(",
            "top[",
            "self[",
            "atob",
        ],
    ),
];

/// Words of two bytes, with the byte that the text must hold for them to be looked for.
const PAIRS: [(u64, u64, &[u8]); 6] = [
    (Marks::AT, Marks::SQL_WORD, b"@@"),
    (Marks::DOT, Marks::FILE_WORD, b".."),
    (Marks::DOLLAR, Marks::FILE_WORD, b"c$"),
    (Marks::UNDERSCORE, Marks::TEMPLATE_WORD, b"__"),
    (Marks::AT, Marks::TEMPLATE_WORD, b"@("),
    (Marks::DOLLAR, Marks::TEMPLATE_WORD | Marks::COMMAND_WORD, b"$_"),
];

/// Bits of the bitmap, in words of 64.
const BITMAP_WORDS: usize = 1024;
const BUCKETS: usize = 256;

static FINDER: LazyLock<Finder> = LazyLock::new(Finder::new);

/// What words begin with, and the words themselves.
struct Finder {
    /// One bit for each hash of four bytes that some word begins with.
    bitmap: Box<[u64; BITMAP_WORDS]>,
    /// Words of four bytes and more, by the last bits of that hash.
    long: Box<[Vec<Word>; BUCKETS]>,
    /// Words of three bytes, with whatever follows them.
    short: Vec<Word>,
}

#[derive(Clone, Copy)]
struct Word {
    bit: u64,
    text: &'static [u8],
}

impl Finder {
    fn new() -> Self {
        let mut finder = Self {
            bitmap: Box::new([0; BITMAP_WORDS]),
            long: Box::new([const { Vec::new() }; BUCKETS]),
            short: Vec::new(),
        };
        let words =
            WORDS.iter().flat_map(|(bit, words)| words.iter().map(move |word| (*bit, *word)));
        for (bit, text) in words {
            let word = Word { bit, text: text.as_bytes() };
            match *word.text {
                [a, b, c, d, ..] => {
                    let hash = hash([a, b, c, d]);
                    finder.set(hash);
                    if let Some(bucket) = finder.long.get_mut(bucket(hash)) {
                        bucket.push(word);
                    }
                }
                [a, b, c] => {
                    (0..=u8::MAX).for_each(|next| finder.set(hash([a, b, c, next])));
                    finder.short.push(word);
                }
                // Two bytes are a pair; the test of every word would miss one that stood here.
                _ => {}
            }
        }
        finder
    }

    fn set(&mut self, hash: u32) {
        let (word, bit) = place(hash);
        if let Some(word) = self.bitmap.get_mut(word) {
            *word |= bit;
        }
    }

    fn may_begin(&self, hash: u32) -> bool {
        let (word, bit) = place(hash);
        self.bitmap.get(word).is_none_or(|word| word & bit != 0)
    }

    /// The bits of all words that stand at the beginning of `text`.
    #[cold]
    fn compared(&self, hash: u32, text: &[u8]) -> u64 {
        let long = self.long.get(bucket(hash)).map_or(&[][..], |bucket| bucket.as_slice());
        let stands = |word: &&Word| {
            text.get(..word.text.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(word.text))
        };
        long.iter().chain(&self.short).filter(stands).fold(0, |bits, word| bits | word.bit)
    }
}

/// The bits of all words that the text holds, in letters of either case. `bytes` are the kinds of
/// byte that it holds.
pub(in crate::inspect::detect) fn found_in(text: &[u8], bytes: Marks) -> u64 {
    let mut bits = 0;
    for (byte, word, pair) in PAIRS {
        if bytes.any(byte) && holds_pair(text, pair) {
            bits |= word;
        }
    }
    let finder = &*FINDER;
    let mut look = |four: [u8; 4], at: usize| {
        let hash = hash(four);
        if finder.may_begin(hash) {
            bits |= finder.compared(hash, text.get(at..).unwrap_or_default());
        }
    };
    for (at, four) in text.windows(4).enumerate() {
        if let Ok(four) = four.try_into() {
            look(four, at);
        }
    }
    // A word of three bytes at the very end is followed by nothing, for which a blank stands.
    if let Some(&[a, b, c]) = text.last_chunk() {
        look([a, b, c, b' '], text.len() - 3);
    }
    bits
}

fn holds_pair(text: &[u8], pair: &[u8]) -> bool {
    match pair {
        [b'c', _] => text.windows(2).any(|two| two.eq_ignore_ascii_case(pair)),
        _ => memmem::find(text, pair).is_some(),
    }
}

/// Letters lose their case, and some other bytes their difference.
fn hash(four: [u8; 4]) -> u32 {
    (u32::from_le_bytes(four) | 0x2020_2020).wrapping_mul(0x9e37_79b1) >> 16
}

/// The word of the bitmap, and the bit in it.
fn place(hash: u32) -> (usize, u64) {
    (hash as usize >> 6 & (BITMAP_WORDS - 1), 1 << (hash & 63))
}

fn bucket(hash: u32) -> usize {
    hash as usize & (BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slowly(text: &[u8]) -> u64 {
        let text = text.to_ascii_lowercase();
        let words =
            WORDS.iter().flat_map(|(bit, words)| words.iter().map(move |word| (*bit, *word)));
        let long = words.filter(|(_, word)| memmem::find(&text, word.as_bytes()).is_some());
        let pairs = PAIRS.iter().filter(|(_, _, pair)| memmem::find(&text, pair).is_some());
        long.fold(0, |bits, (bit, _)| bits | bit) | pairs.fold(0, |bits, (_, bit, _)| bits | bit)
    }

    fn quickly(text: &[u8]) -> u64 {
        found_in(text, Marks::of_bytes(text))
    }

    #[test]
    fn every_word_is_found_wherever_it_stands() {
        let words = WORDS.iter().flat_map(|(_, words)| words.iter().copied());
        let pairs = PAIRS.iter().map(|(_, _, pair)| std::str::from_utf8(pair).unwrap());
        for word in words.chain(pairs) {
            assert!(word.len() >= 2, "{word}");
            for text in [
                word.to_owned(),
                format!("a{word}"),
                format!("{word}b"),
                format!("Some words before {} and after", word.to_ascii_uppercase()),
            ] {
                assert_eq!(quickly(text.as_bytes()), slowly(text.as_bytes()), "{text}");
                assert_ne!(quickly(text.as_bytes()), 0, "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_else_is_found(text in "[a-zA-Z0-9 ._/$@:(-]{0,80}", word in 0_usize..200, at in 0_usize..80) {
            let words: Vec<&str> = WORDS.iter().flat_map(|(_, words)| words.iter().copied()).collect();
            let mut text = text;
            text.insert_str(at.min(text.len()), words[word % words.len()]);
            prop_assert_eq!(quickly(text.as_bytes()), slowly(text.as_bytes()));
        }
    }
}
