//! The fast way past ordinary fields: one look at the bytes says which detectors could find anything.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

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
}

/// Words that make a field worth a closer look though it may hold no telling byte.
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
            "@@",
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
            "$_",
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
            "..",
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
            "c$",
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
    (
        Marks::TEMPLATE_WORD,
        &["__", "java", "classloader", "jndi", "@(", "freemarker", "getclass", "$_"],
    ),
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

static FINDER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(WORDS.iter().flat_map(|(_, words)| words.iter()))
        .ok()
});

/// The bit of each word, in the order in which the finder knows them.
static WORD_BITS: LazyLock<Box<[u64]>> = LazyLock::new(|| {
    WORDS.iter().flat_map(|(bit, words)| words.iter().map(move |_| *bit)).collect()
});

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
        if bytes & !(Self::DIGIT | Self::DASH) == 0 && !text.contains(&b'_') {
            return Self(bytes);
        }
        Self(bytes | words(text))
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

fn words(text: &[u8]) -> u64 {
    // Without a finder every word counts as found: slower, never blind.
    let Some(finder) = FINDER.as_ref() else { return u64::MAX };
    finder.find_overlapping_iter(text).fold(0, |bits, found| {
        bits | WORD_BITS.get(found.pattern().as_usize()).copied().unwrap_or(u64::MAX)
    })
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
