//! Reads one command as a shell would: quotes gone, folder cut off, arguments told apart.

use crate::inspect::detect::command::programs::{is_harmless, is_unmistakable};
use crate::inspect::detect::text::{
    at, find, holds, holds_any, is_space, is_word, part, skip, skip_space, stands,
};

/// Bytes of a program's name; no program that matters here has a longer one.
const NAME_BYTES_MAX: usize = 24;

/// A command: its program and its arguments.
#[derive(Debug)]
pub(in crate::inspect::detect) struct Line<'t> {
    name: [u8; NAME_BYTES_MAX],
    length: usize,
    /// Whether quotes, backslashes or empty variables were taken out of the name.
    spliced: bool,
    /// Whether the program was called by its path.
    folder: &'t [u8],
    glued: u8,
    /// Everything after the program.
    arguments: &'t [u8],
}

/// Reads the command that `text` begins with.
pub(in crate::inspect::detect) fn words(text: &[u8]) -> Line<'_> {
    let mut index = skip_space(text, 0);
    loop {
        let end = skip(text, index, |byte| !matches!(byte, b' ' | b'\t'));
        let word = part(text, index, end);
        let assignment = find(word, 0, b"=").is_some_and(|equals| {
            equals > 0 && word.iter().take(equals).all(|byte| is_word(*byte))
        });
        let wrapper = matches!(
            word,
            b"sudo" | b"nohup" | b"exec" | b"command" | b"eval" | b"env" | b"builtin" | b"time"
        );
        let more = skip_space(text, end);
        if !(assignment || wrapper) || more >= text.len() || at(text, more) == b'-' {
            break;
        }
        index = more;
    }
    name(text, index)
}

fn name(text: &[u8], begin: usize) -> Line<'_> {
    let mut line = Line {
        name: [0; NAME_BYTES_MAX],
        length: 0,
        spliced: false,
        folder: b"",
        glued: 0,
        arguments: b"",
    };
    let mut index = begin;
    let mut folder_end = begin;
    let mut spliced_from = None;
    while index < text.len() {
        let byte = at(text, index);
        match byte {
            b'\'' | b'"' | b'\\' | b'^' => {
                spliced_from.get_or_insert(index);
                // `c:\windows\…` and `\\host` are folders of Windows.
                if byte == b'\\'
                    && (index > begin && matches!(at(text, index - 1), b':' | b'\\')
                        || line.length > 8)
                {
                    line.length = 0;
                    folder_end = index + 1;
                }
                index += 1;
            }
            b'$' if line.length > 0 => {
                let Some(end) = empty_variable(text, index) else { break };
                spliced_from.get_or_insert(index);
                index = end;
            }
            b'/' if line.length > 0
                && at(text, index + 1).is_ascii_alphabetic()
                && line.folder_like(text, begin)
                || byte == b'/' && index == folder_end =>
            {
                line.length = 0;
                folder_end = index + 1;
                index += 1;
            }
            b'$' if index == begin => {
                line.push(byte);
                index += 1;
            }
            _ if is_word(byte)
                || matches!(byte, b'.' | b'-' | b':' | b'~' | b'%' | b'?' | b'*') =>
            {
                line.push(byte);
                index += 1;
            }
            _ => break,
        }
    }
    line.spliced = spliced_from.is_some_and(|place| {
        place > folder_end.min(begin) && place + 1 < index || place == begin && index > begin + 2
    });
    line.folder = part(text, begin, folder_end);
    line.glued = Some(at(text, index)).filter(|byte| !is_space(*byte)).unwrap_or(0);
    line.arguments = part(text, index, text.len()).trim_ascii();
    for ending in [&b".exe"[..], b".com", b".bat"] {
        if line.name().ends_with(ending) {
            line.length -= ending.len();
        }
    }
    line
}

/// The end of `$@`, `$*`, `$1`, `${x}`, `$u`, `$()`: what expands to nothing within a word.
fn empty_variable(text: &[u8], dollar: usize) -> Option<usize> {
    match at(text, dollar + 1) {
        b'@' | b'*' | b'0'..=b'9' | b'!' | b'-' => Some(dollar + 2),
        b'(' if at(text, dollar + 2) == b')' => Some(dollar + 3),
        b'{' if !stands(text, dollar, b"${ifs") => {
            let end = skip(part(text, 0, dollar + 24), dollar, |byte| byte != b'}');
            (at(text, end) == b'}').then_some(end + 1)
        }
        _ => None,
    }
}

/// Whether `text` assigns the variable that `name` (`$x…`) begins with.
pub(in crate::inspect::detect) fn assigns(text: &[u8], name: &[u8]) -> bool {
    let end = skip(name, 1, is_word);
    let variable = part(name, 1, end);
    let mut from = 0;
    // A handful of places is enough: an injection assigns right before it calls.
    for _ in 0..8 {
        let Some(place) = find(part(text, 0, 512), from, variable) else { return false };
        let begins = place == 0 || !is_word(at(text, place - 1));
        if begins && !variable.is_empty() && at(text, place + variable.len()) == b'=' {
            return true;
        }
        from = place + variable.len().max(1);
    }
    false
}

impl Line<'_> {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.name.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
    }

    fn folder_like(&self, text: &[u8], begin: usize) -> bool {
        matches!(at(text, begin), b'/' | b'.' | b'~') || self.name().ends_with(b":")
    }

    /// The program, without folder.
    pub(in crate::inspect::detect) fn name(&self) -> &[u8] {
        part(&self.name, 0, self.length)
    }

    pub(in crate::inspect::detect) fn arguments(&self) -> &[u8] {
        self.arguments
    }

    /// How many words the command has.
    pub(in crate::inspect::detect) fn count(&self) -> usize {
        1 + self.arguments.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count()
    }

    /// Whether the name was hidden: `c''at`, `wh$@oami`, `c\at`.
    pub(in crate::inspect::detect) fn is_spliced(&self) -> bool {
        self.spliced
    }

    /// Whether the program was called as `/bin/…` or the like.
    pub(in crate::inspect::detect) fn is_program_path(&self) -> bool {
        ["/bin/", "/usr/bin/", "/sbin/", "/usr/local/bin/", "/usr/sbin/", "c:\\windows\\"]
            .iter()
            .any(|folder| self.folder.starts_with(folder.as_bytes()))
            && self.length > 0
    }

    fn arguments_where(&self, wanted: impl Fn(&[u8]) -> bool) -> bool {
        self.arguments.split(u8::is_ascii_whitespace).any(|word| !word.is_empty() && wanted(word))
    }

    /// An argument that is a path, a redirection, or a pattern of names.
    pub(in crate::inspect::detect) fn has_path(&self) -> bool {
        self.is_program_path()
            || self.arguments_where(|word| {
                matches!(
                    word,
                    [b'/' | b'~' | b'>' | b'<' | b'*', ..]
                        | [b'.', b'/' | b'.', ..]
                        | [_, b':', b'\\' | b'/', ..]
                ) || holds_any(word, &["../", "..\\", "/etc"])
            })
    }

    /// An argument that begins at the root: `/etc`, `c:\`.
    pub(in crate::inspect::detect) fn has_rooted_path(&self) -> bool {
        self.arguments_where(|word| {
            matches!(word, [b'/', b'a'..=b'z', ..] | [_, b':', b'\\', ..])
                && word.len() > 4
                && holds(part(word, 1, word.len()), b"/")
                || word == b"/"
        })
    }

    /// An argument that is an option: `-c`, `--all`, `/c`.
    pub(in crate::inspect::detect) fn has_flag(&self) -> bool {
        self.arguments_where(|word| {
            matches!(word, [b'-', b'a'..=b'z' | b'0'..=b'9', ..] | [b'-', b'-', b'a'..=b'z', ..])
                && word.len() <= 16
                || matches!(word, [b'/', b'a'..=b'z'])
        })
    }

    /// An argument that is an address on a network.
    pub(in crate::inspect::detect) fn has_address(&self) -> bool {
        self.arguments_where(|word| {
            let dots = word.iter().filter(|byte| **byte == b'.').count();
            let numeric =
                word.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b':' | b'/'));
            holds(word, b"://") || dots == 3 && numeric || word == b"localhost"
        })
    }

    /// An argument that names a machine: `evil.test/x`, `@10.0.0.1`.
    pub(in crate::inspect::detect) fn has_host(&self) -> bool {
        self.has_address()
            || self.arguments_where(|word| {
                let host =
                    word.split(|byte| matches!(byte, b'/' | b':')).next().unwrap_or_default();
                let host = host.strip_prefix(b"@").unwrap_or(host);
                let last = host.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
                let dotted = host.len() > last.len() + 1
                    && host.iter().all(|byte| is_word(*byte) || matches!(byte, b'.' | b'-'));
                dotted && last.len() >= 2 && last.iter().all(u8::is_ascii_alphanumeric)
            })
    }

    /// The byte that stands glued to the name; 0 when white space or nothing does.
    pub(in crate::inspect::detect) fn glued(&self) -> u8 {
        self.glued
    }

    /// Whether an interpreter is handed its program on the line, or from the network.
    pub(in crate::inspect::detect) fn runs_inline(&self) -> bool {
        self.has_address()
            || self.arguments_where(|word| {
                matches!(word, b"-c" | b"-e" | b"-r" | b"-i" | b"/c" | b"-enc" | b"-nop")
            })
    }

    /// Whether it manages accounts and shares of Windows.
    pub(in crate::inspect::detect) fn is_net(&self) -> bool {
        let first = self.arguments.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        matches!(self.name(), b"net" | b"net1")
            && matches!(
                first,
                b"user"
                    | b"users"
                    | b"localgroup"
                    | b"group"
                    | b"view"
                    | b"share"
                    | b"use"
                    | b"start"
                    | b"accounts"
                    | b"session"
            )
    }

    /// Whether all arguments are numbers: `sleep 5`.
    pub(in crate::inspect::detect) fn has_number_only(&self) -> bool {
        !self.arguments.is_empty()
            && self.arguments.iter().all(|byte| {
                byte.is_ascii_digit() || matches!(byte, b' ' | b'.' | b'\'' | b'"' | b')')
            })
    }

    /// Whether the space is written `${IFS}`, `<` or `{a,b}`, which only serves to hide it.
    pub(in crate::inspect::detect) fn has_variable_space(&self) -> bool {
        self.arguments.starts_with(b"${ifs")
            || self.arguments.starts_with(b"$ifs")
            || self.arguments.starts_with(b"</")
            || self.arguments.starts_with(b",/")
            || self.arguments.starts_with(b",-")
            || self.arguments.starts_with(b"+/")
            || self.arguments.starts_with(b"+-")
    }

    /// Whether a file of the system is named.
    pub(in crate::inspect::detect) fn reads_root(&self) -> bool {
        holds_any(self.arguments, &["/etc/", "/proc/", "/root/", "/dev/tcp", "win.ini"])
    }

    /// Whether the program only tells where it runs.
    pub(in crate::inspect::detect) fn is_harmless(&self) -> bool {
        is_harmless(self.name()) || self.name() == b"id" && matches!(self.arguments, b"-u" | b"-g")
    }

    /// Whether the name alone is hardly anything but a command.
    pub(in crate::inspect::detect) fn is_unmistakable(&self) -> bool {
        is_unmistakable(self.name())
    }
}
