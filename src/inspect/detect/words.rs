//! Finds telling words in a text, in one pass that most texts leave with nothing to look at twice.
//!
//! At every second byte the next three are hashed into a small bitmap of what words begin with and
//! of what they go on with after one letter: wherever a word stands, one of the two is met. The bytes
//! do not wait for each other as they would in an automaton, so that several are looked at in one
//! step; what the bitmap lets through is compared letter by letter.

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

/// Words of 64 bits of the bitmap.
const BITMAP_WORDS: usize = 1024;
const BUCKETS: usize = 256;

static FINDER: LazyLock<Finder> = LazyLock::new(Finder::new);

/// Which three bytes words hold at their beginning and after their first letter, and the words.
struct Finder {
    /// One bit for each hash of such three bytes.
    bitmap: Box<[u64; BITMAP_WORDS]>,
    /// What to compare, by bits of that hash.
    buckets: Box<[Vec<Candidate>; BUCKETS]>,
}

/// A word that may stand where three bytes were met.
#[derive(Clone, Copy)]
struct Candidate {
    key: u32,
    /// How many letters of the word stand before the three bytes: none or one.
    before: usize,
    bit: u64,
    text: &'static [u8],
}

impl Finder {
    fn new() -> Self {
        let mut finder = Self {
            bitmap: Box::new([0; BITMAP_WORDS]),
            buckets: Box::new([const { Vec::new() }; BUCKETS]),
        };
        let words =
            WORDS.iter().flat_map(|(bit, words)| words.iter().map(move |word| (*bit, *word)));
        for (bit, text) in words {
            let text = text.as_bytes();
            let mut add = |key, before| finder.add(Candidate { key, before, bit, text });
            match *text {
                [a, b, c, d, ..] => {
                    add(key([a, b, c, 0]), 0);
                    add(key([b, c, d, 0]), 1);
                }
                [a, b, c] => {
                    add(key([a, b, c, 0]), 0);
                    // Whatever follows it.
                    (0..=u8::MAX).for_each(|next| add(key([b, c, next, 0]), 1));
                }
                // Two bytes are a pair; the test of every word would miss one that stood here.
                _ => {}
            }
        }
        finder
    }

    fn add(&mut self, candidate: Candidate) {
        let hash = hash(candidate.key);
        let (word, bit) = place(hash);
        if let Some(word) = self.bitmap.get_mut(word) {
            *word |= bit;
        }
        if let Some(bucket) = self.buckets.get_mut(bucket(hash)) {
            let same = |other: &Candidate| {
                (other.key, other.bit, other.text) == (candidate.key, candidate.bit, candidate.text)
            };
            // Some bytes have the same key, and need not be compared twice.
            if !bucket.iter().any(same) {
                bucket.push(candidate);
            }
        }
    }

    fn may_stand(&self, hash: u32) -> bool {
        let (word, bit) = place(hash);
        self.bitmap.get(word).is_none_or(|word| word & bit != 0)
    }

    /// The bits of all words that stand around the three bytes of `key`, which were met at `at`.
    #[cold]
    fn compared(&self, key: u32, text: &[u8], at: usize) -> u64 {
        let bucket =
            self.buckets.get(bucket(hash(key))).map_or(&[][..], |bucket| bucket.as_slice());
        let stands = |candidate: &&Candidate| {
            let Some(from) = at.checked_sub(candidate.before) else { return false };
            candidate.key == key
                && text
                    .get(from..from + candidate.text.len())
                    .is_some_and(|found| found.eq_ignore_ascii_case(candidate.text))
        };
        bucket.iter().filter(stands).fold(0, |bits, candidate| bits | candidate.bit)
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
    let mut look = |four: [u8; 4], rest: &[u8]| {
        let key = key(four);
        if finder.may_stand(hash(key)) {
            bits |= finder.compared(key, text, text.len() - rest.len());
        }
    };
    let mut rest = text;
    while let Some(four) = rest.first_chunk() {
        look(*four, rest);
        rest = rest.get(2..).unwrap_or_default();
    }
    // Two or three bytes are left, or text that is shorter: blanks stand for what does not follow.
    if let [a, b, last @ ..] = rest {
        look([*a, *b, last.first().copied().unwrap_or(b' '), b' '], rest);
    }
    bits
}

fn holds_pair(text: &[u8], pair: &[u8]) -> bool {
    match pair {
        [b'c', _] => text.windows(2).any(|two| two.eq_ignore_ascii_case(pair)),
        _ => memmem::find(text, pair).is_some(),
    }
}

/// The first three of four bytes. Letters lose their case, and some other bytes their difference.
fn key(four: [u8; 4]) -> u32 {
    (u32::from_le_bytes(four) | 0x2020_2020) << 8
}

fn hash(key: u32) -> u32 {
    key.wrapping_mul(0x9e37_79b1)
}

/// The word of the bitmap, and the bit in it.
fn place(hash: u32) -> (usize, u64) {
    ((hash >> 22) as usize & (BITMAP_WORDS - 1), 1 << (hash >> 16 & 63))
}

fn bucket(hash: u32) -> usize {
    (hash >> 16) as usize & (BUCKETS - 1)
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
                format!("ab{word}"),
                format!("abc{word}de"),
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
