//! Path traversal: ways up a directory tree, files that hold secrets, wrapper addresses, cut file names.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use crate::inspect::detect::finding::{CERTAIN, Finding, LIKELY, WEAK};
use crate::inspect::detect::marks::Marks;
use crate::inspect::detect::text::{at, find, is_single, is_word, part, skip, words_before};
use crate::inspect::detect::{Detector, View};
use crate::inspect::field::PlaceKind;

/// Finds file names that lead elsewhere.
pub(in crate::inspect::detect) struct Traversal;

impl Detector for Traversal {
    fn wants(&self, marks: Marks) -> bool {
        marks.any(Marks::FILE_WORD | Marks::CONTROL)
    }

    fn weigh(&self, view: &View<'_>) -> Finding {
        let mut finding = Finding::default();
        let prose = !is_single(view.text) && words_before(view.text, view.text.len(), 3) >= 3;
        // Many fields hold a slash and few hold one of these names, so all are looked for at once.
        let names = NAMES.as_ref().is_none_or(|names| names.is_match(view.text));
        let target = names && files(view, prose, &mut finding);
        climbs(view, prose, target, &mut finding);
        if names {
            addresses(view, prose, &mut finding);
        }
        nul(view, &mut finding);
        finding
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// Counts `../` in all its spellings.
fn climbs(view: &View<'_>, prose: bool, target: bool, finding: &mut Finding) {
    let text = view.text;
    let mut steps = 0_usize;
    let mut first = None;
    let mut odd = false;
    let mut from = 0;
    while let Some(place) = find(text, from, b"..") {
        let dots = skip(text, place, |byte| byte == b'.');
        // `..;/` is a step for servers that take parameters off segments, `..0x2f` for broken decoders.
        let mut after = skip(text, dots, |byte| byte == b';');
        let hexadecimal = matches!(part(text, after, after + 4), b"0x2f" | b"0x5c");
        after += if hexadecimal { 3 } else { 0 };
        from = after.max(place + 2);
        let begins = place == 0 || !is_word(at(text, place - 1)) && at(text, place - 1) != b'.';
        let last = dots == text.len() && place > 0 && is_separator(at(text, place - 1));
        if (dots > place + 4 && !is_separator(at(text, after)))
            || !(begins && (is_separator(at(text, after)) || hexadecimal || last))
        {
            continue;
        }
        let doubled = is_separator(at(text, after + 1));
        odd |= dots > place + 2 || after > dots || doubled || at(text, after) == b'\\';
        steps += 1;
        first.get_or_insert(place);
    }
    let Some(first) = first else { return };
    let quoted = first > 0 && matches!(at(text, first - 1), b'\'' | b'"');
    let score = match (view.kind, steps) {
        _ if target => CERTAIN,
        (PlaceKind::Path, _) => CERTAIN,
        (_, 5..) => LIKELY,
        // `import x from "../../lib/x"` is code that somebody quotes.
        (PlaceKind::Query, 2..) if is_single(text) || !quoted => LIKELY,
        (PlaceKind::Query, _)
            if !prose
                && (first == 0
                    || is_single(text)
                        && matches!(at(text, first - 1), b'/' | b'\\' | b'=' | b':')) =>
        {
            LIKELY
        }
        (_, 2..) if odd && !prose => LIKELY,
        (_, 1) if odd && is_single(text) && view.layers > 0 => LIKELY,
        (_, 3..) if is_single(text) => LIKELY,
        (_, 2) if is_single(text) && view.layers > 0 => LIKELY,
        (_, 1) if is_single(text) && view.layers > 0 => LIKELY,
        _ => WEAK - 1,
    };
    finding.note(score, "steps up a directory tree", first);
}

/// Files whose names alone tell the purpose.
const SECRETS: [&str; 34] = [
    "etc/passwd",
    "etc/shadow",
    "etc/group",
    "etc/master.passwd",
    "etc/sudoers",
    "proc/self/",
    "proc/version",
    "proc/cmdline",
    "proc/net/",
    "proc/1/",
    "root/.ssh",
    ".ssh/id_",
    ".ssh/authorized_keys",
    ".bash_history",
    ".aws/credentials",
    "windows/win.ini",
    "windows\\win.ini",
    "winnt/win.ini",
    "winnt\\win.ini",
    "system32/",
    "system32\\",
    "boot.ini",
    "web-inf/",
    "win.ini",
    "windows/system.ini",
    "windows\\system.ini",
    "etc\\passwd",
    "var/run/secrets",
    "sam\0",
    "repair/sam",
    "repair\\sam",
    ".kube/config",
    ".docker/config.json",
    "meta-inf/context.xml",
];

/// Files that people also talk about.
const SETTINGS: [&str; 38] = [
    "/etc/hosts",
    "/etc/issue",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/crontab",
    "/etc/fstab",
    "/etc/nginx/",
    "/etc/apache2/",
    "/etc/httpd/",
    "/etc/mysql/",
    "/etc/ssh/",
    "/etc/php",
    "/etc/motd",
    "/etc/my.cnf",
    "/etc/environment",
    "/etc/redis",
    "/var/log/",
    "/var/www/",
    "/var/lib/mysql",
    "/proc/",
    "/root/",
    "web.config",
    ".git/",
    ".svn/",
    ".hg/",
    ".htaccess",
    ".htpasswd",
    "wp-config.php",
    "php.ini",
    "my.cnf",
    "httpd.conf",
    "id_rsa",
    ".npmrc",
    ".ds_store",
    "docker-compose.yml",
    "config/database.yml",
    ".idea/",
    ".pgpass",
];

const ENVIRONMENT: &str = ".env";

/// Every name that [`files`] and [`addresses`] look for.
static NAMES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let names = [&SECRETS[..], &SETTINGS, &ROOTS, &WRAPPERS, &METADATA, &[ENVIRONMENT]];
    AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(names.concat()).ok()
});

/// Notes files that hold secrets; says whether one is named at all.
fn files(view: &View<'_>, prose: bool, finding: &mut Finding) -> bool {
    let text = view.text;
    let single = is_single(text);
    let mut named = false;
    for file in SECRETS {
        if let Some(place) = find(text, 0, file.as_bytes()) {
            named = true;
            let rooted = place > 0
                && (is_separator(at(text, place - 1)) || at(text, place - 1) == b':')
                || place == 0;
            let score = match (prose, rooted) {
                (false, true) => LIKELY,
                _ if matches!(view.kind, PlaceKind::Path) => LIKELY,
                _ => WEAK + 1,
            };
            finding.note(score, "a file that holds secrets", place);
        }
    }
    for file in SETTINGS {
        if let Some(place) = find(text, 0, file.as_bytes()) {
            named = true;
            let link = find(text, 0, b"://").is_some_and(|scheme| scheme < place)
                || at(text, place + file.len()) == b'@';
            let pathlike = matches!(view.kind, PlaceKind::Path | PlaceKind::Query)
                || at(text, 0) == b'/' && !file.ends_with('/');
            let begins = file.starts_with('/') && place == 0
                || !file.starts_with('/') && (place == 0 || is_separator(at(text, place - 1)));
            let score = if single && begins && pathlike && !link { LIKELY } else { WEAK - 1 };
            finding.note(score, "a file of settings", place);
        }
    }
    if let Some(place) = find(text, 0, ENVIRONMENT.as_bytes()) {
        let end = place + ENVIRONMENT.len();
        let whole = (place == 0 || is_separator(at(text, place - 1)))
            && (end == text.len() || at(text, end) == b'.');
        let pathlike =
            matches!(view.kind, PlaceKind::Path | PlaceKind::Query) || at(text, 0) == b'/';
        named |= whole;
        finding.note(
            if whole && single && pathlike { LIKELY } else { 0 },
            "a file of settings",
            place,
        );
    }
    windows(text, single, finding);
    named
}

const ROOTS: [&str; 9] = [
    "c:\\windows",
    "c:/windows",
    "c:\\winnt",
    "c:\\inetpub",
    "c:/inetpub",
    "c:\\boot",
    "\\\\localhost\\c$",
    "\\\\127.0.0.1\\",
    "\\\\.\\globalroot",
];

/// `C:\Windows\…`, `\\host\share`.
fn windows(text: &[u8], single: bool, finding: &mut Finding) {
    for root in ROOTS {
        if let Some(place) = find(text, 0, root.as_bytes()) {
            finding.note(
                if single && place == 0 { LIKELY } else { WEAK },
                "a system folder",
                place,
            );
        }
    }
}

/// Wrappers of PHP and Java, and schemes that only a server would follow.
const WRAPPERS: [&str; 20] = [
    "php://",
    "phar://",
    "expect://",
    "zip://",
    "compress.zlib://",
    "compress.bzip2://",
    "glob://",
    "ogg://",
    "rar://",
    "ssh2.",
    "data://",
    "gopher://",
    "dict://",
    "netdoc:",
    "jar:http",
    "jar:file",
    "tftp://",
    "ldap://",
    "file://",
    "zlib:",
];

/// Where clouds tell machines their credentials.
const METADATA: [&str; 5] =
    ["169.254.169.254", "metadata.google.internal", "[fd00:ec2::254]", "2852039166", "0xa9fea9fe"];

fn addresses(view: &View<'_>, prose: bool, finding: &mut Finding) {
    let text = view.text;
    for wrapper in WRAPPERS {
        let Some(place) = find(text, 0, wrapper.as_bytes()) else { continue };
        if place > 0 && is_word(at(text, place - 1)) {
            continue;
        }
        let rest = part(text, place + wrapper.len(), text.len());
        let php = wrapper == "php://"
            && ["filter", "input", "memory", "temp", "fd", "stdin", "output"]
                .iter()
                .any(|word| rest.starts_with(word.as_bytes()));
        let score = match wrapper {
            _ if rest.is_empty() => 0,
            "php://" => {
                if php {
                    CERTAIN
                } else {
                    WEAK
                }
            }
            "phar://" | "expect://" | "compress.zlib://" | "gopher://" | "dict://" | "netdoc:" => {
                if prose {
                    WEAK + 1
                } else {
                    CERTAIN
                }
            }
            "ssh2." => {
                if find(rest, 0, b"://").is_some_and(|at| at < 6) {
                    LIKELY
                } else {
                    0
                }
            }
            _ => {
                if prose {
                    WEAK
                } else {
                    LIKELY
                }
            }
        };
        finding.note(score, "an address that only a server follows", place);
    }
    for metadata in METADATA {
        if let Some(place) = find(text, 0, metadata.as_bytes()) {
            let address = place >= 2 && part(text, place - 2, place) == b"//"
                || at(text, place + metadata.len()) == b'/';
            finding.note(
                if address && !prose { LIKELY } else { WEAK },
                "the address of cloud credentials",
                place,
            );
        }
    }
}

/// A NUL cuts a file name for those who are written in C.
fn nul(view: &View<'_>, finding: &mut Finding) {
    let Some(place) = memchr::memchr(0, view.text) else { return };
    let score = if view.layers == 0 || is_single(view.text) { LIKELY } else { WEAK };
    finding.note(score, "a NUL", place);
}
