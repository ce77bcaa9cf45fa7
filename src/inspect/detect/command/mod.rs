//! Command injection: shell syntax that would start another program.

mod programs;
mod words;
mod known;

use std::cell::Cell;

use crate::inspect::detect::command::known::{functions, globs, known, naked};
use crate::inspect::detect::command::programs::{Program, program};
use crate::inspect::detect::command::words::{Line, assigns, words};
use crate::inspect::detect::finding::{CERTAIN, Finding, LIKELY, WEAK};
use crate::inspect::detect::marks::Marks;
use crate::inspect::detect::text::{
    at, find, holds, holds_any, is_space, part, skip, words_before,
};
use crate::inspect::detect::work::Work;
use crate::inspect::detect::{Detector, View};

/// Finds what a shell would run: a separator or substitution, then a program, then arguments that
/// only a program wants. English after a semicolon is none of these.
pub(in crate::inspect::detect) struct Command;

/// Bytes of one command that are looked at.
const COMMAND_BYTES_MAX: usize = 256;

impl Detector for Command {
    fn wants(&self, marks: Marks) -> bool {
        marks
            .any(Marks::SEMI | Marks::PIPE | Marks::AMP | Marks::TICK | Marks::DOLLAR | Marks::LINE)
            || marks.any(Marks::COMMAND_WORD)
            || marks.all(Marks::SLASH | Marks::QUESTION)
            || marks.all(Marks::SLASH | Marks::STAR)
            || marks.all(Marks::LESS | Marks::PAREN)
            || marks.all(Marks::PAREN | Marks::BRACE)
    }

    fn weigh(&self, view: &View<'_>) -> Finding {
        let mut finding = Finding::default();
        let text = view.text;
        let marks = view.marks;
        if marks.any(Marks::SEMI | Marks::PIPE | Marks::AMP | Marks::LINE) {
            separated(text, view.work, &mut finding);
        }
        if marks.any(Marks::PAREN | Marks::TICK | Marks::DOLLAR) {
            substituted(text, view.work, &mut finding);
        }
        if marks.any(Marks::QUESTION | Marks::STAR) {
            globs(text, &mut finding);
        }
        naked(text, &mut finding);
        if marks.any(Marks::COMMAND_WORD | Marks::PAREN) {
            known(text, &mut finding);
        }
        if marks.any(Marks::COMMAND_WORD) {
            functions(text, &mut finding);
        }
        finding
    }
}

/// What stands before a separator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing, or one value such as the application expects: an injection's place.
    Value,
    /// Another command, as in a line that somebody quotes.
    Command,
    /// Words.
    Prose,
}

/// Tells what stands before places of one text. Of what is far behind only the beginning counts, and
/// that is read once.
#[derive(Default)]
struct Heads {
    far: Cell<Option<Before>>,
}

impl Heads {
    fn before(&self, text: &[u8], end: usize) -> Before {
        let head = part(text, 0, end).trim_ascii();
        if is_short(head) {
            return Before::Value;
        }
        let is_far = head.len() >= COMMAND_BYTES_MAX;
        if let Some(known) = self.far.get().filter(|_| is_far) {
            return known;
        }
        let line = words(part(head, 0, COMMAND_BYTES_MAX));
        let before = match program(line.name()) {
            Program::Hostile | Program::Tool | Program::Shell => Before::Command,
            _ => Before::Prose,
        };
        if is_far {
            self.far.set(Some(before));
        }
        before
    }
}

fn is_short(head: &[u8]) -> bool {
    head.len() <= 200 && !head.iter().any(u8::is_ascii_whitespace)
}

/// `; cat /etc/passwd`, `| id`, `&& wget …`, and lines.
fn separated(text: &[u8], work: &Work, finding: &mut Finding) {
    let heads = Heads::default();
    let mut index = 0;
    let mut lines = 0;
    while index < text.len() {
        let byte = at(text, index);
        if !matches!(byte, b';' | b'|' | b'&' | b'\n' | b'\r') {
            index += 1;
            continue;
        }
        let start = index;
        index = skip(text, index, |byte| {
            matches!(byte, b';' | b'|' | b'&' | b'\n' | b'\r' | b' ' | b'\t')
        });
        lines += usize::from(matches!(byte, b'\n' | b'\r'));
        let begin = skip(text, index, |byte| matches!(byte, b'(' | b'{' | b'!' | b'@' | b' '));
        let end = skip(part(text, 0, begin + COMMAND_BYTES_MAX), begin, |byte| {
            !matches!(byte, b';' | b'|' | b'&' | b'\n' | b'\r' | b'`' | b'#')
        });
        if !work.spend(end.saturating_sub(start)) {
            return finding.give_up(start);
        }
        let line = words(part(text, begin, end));
        let signs = part(text, start, index);
        let score = weigh_command((text, &heads), &line, (start, end), signs);
        let line_only = matches!(byte, b'\n' | b'\r') && !holds_any(signs, &[";", "|", "&"]);
        // Lines of commands are how people write steps; one command under one value is not.
        let steps = line_only
            && (lines > 1 && start > 0 || heads.before(text, start) != Before::Value || index < 2);
        finding.note(
            if steps && start > 1 { score.min(WEAK) } else { score },
            "a separator, then a command",
            start,
        );
    }
}

/// How much a command after a separator is an injection.
fn weigh_command(
    (text, heads): (&[u8], &Heads),
    line: &Line<'_>,
    (start, end): (usize, usize),
    signs: &[u8],
) -> u8 {
    let rest = line.arguments();
    if line.name().first() == Some(&b'$')
        && line.name().len() > 1
        && assigns(part(text, 0, start + 1), line.name())
    {
        return LIKELY;
    }
    let kind = program(line.name());
    let place = heads.before(text, start);
    let last = end >= text.len() || matches!(at(text, end), b'#' | b'\n' | b'\r' | b'`');
    let closed =
        last || matches!(at(text, end), b';') || at(text, end) == b'&' && end + 2 >= text.len();
    let braced = line.glued() == b',' && start + 1 < end && holds(part(text, start, end), b"{");
    if matches!(line.glued(), b',' | b'(' | b'=' | b':' | b'[' | b'!' | b'@') && !braced {
        return 0;
    }
    let told = line.has_path() || line.has_flag() || line.has_address() || line.is_spliced();
    let evidence = told || line.has_host() || line.is_net();
    let secret = holds_any(
        rest,
        &["/etc/", "/proc/", "win.ini", "boot.ini", "/dev/tcp", "system32", "/var/", "/root"],
    );
    let bare = rest.is_empty();
    match kind {
        Program::Shell if place == Before::Command && !line.runs_inline() => WEAK,
        Program::Shell if told || bare && closed && place == Before::Value => LIKELY,
        Program::Shell if line.count() <= 3 && place == Before::Value => LIKELY,
        _ if kind != Program::Unknown && line.is_spliced() => CERTAIN,
        _ if kind != Program::Unknown && secret => CERTAIN,
        Program::Hostile | Program::English | Program::Tool if line.has_variable_space() => CERTAIN,
        Program::Hostile if bare => {
            let barred = at(text, end) == b'|' || is_tabular(text, start);
            let tabular = signs.starts_with(b"|") && barred && !line.is_program_path();
            weigh_bare(line, place, closed, tabular)
        }
        Program::Hostile if evidence => match place {
            Before::Value => LIKELY,
            Before::Prose if line.has_flag() || line.has_address() || line.has_rooted_path() => {
                LIKELY
            }
            Before::Command if line.has_address() || line.reads_root() => LIKELY,
            _ => WEAK + 1,
        },
        Program::Hostile if place == Before::Value && line.count() <= 3 && closed => LIKELY,
        Program::English if evidence && place == Before::Value => LIKELY,
        Program::English if line.has_rooted_path() || line.has_address() => WEAK + 1,
        Program::English if bare && closed && place == Before::Value && line.is_unmistakable() => {
            LIKELY
        }
        Program::English if place == Before::Value && line.has_number_only() && closed => LIKELY,
        // Nobody begins a text with a separator and the name of a program.
        Program::English
            if start == 0
                && line.count() <= 3
                && matches!(signs.trim_ascii(), b";" | b"|" | b"||" | b"&&") =>
        {
            LIKELY
        }
        Program::Tool if line.has_rooted_path() && place == Before::Value => LIKELY,
        Program::Unknown if line.is_program_path() => LIKELY,
        Program::Unknown => 0,
        _ => WEAK - 1,
    }
}

/// How much a program without arguments is an injection. `name | id` is the head of a table.
fn weigh_bare(line: &Line<'_>, place: Before, closed: bool, tabular: bool) -> u8 {
    let telling = !tabular && (closed || line.is_unmistakable());
    match place {
        Before::Value if telling => LIKELY,
        Before::Prose if telling && line.is_unmistakable() => LIKELY,
        _ => WEAK,
    }
}

/// Whether a bar stands between words with spaces on both sides, as in a table.
fn is_tabular(text: &[u8], start: usize) -> bool {
    let head = part(text, 0, start);
    head.ends_with(b" ")
        && head.trim_ascii().iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b' ')
        && !head.trim_ascii().is_empty()
        && at(text, start + 1) == b' '
}

/// `$(curl …)`, `` `whoami` ``, `<(id)`, `${IFS}`.
fn substituted(text: &[u8], work: &Work, finding: &mut Finding) {
    let mut from = 0;
    while let Some(place) = find(text, from, b"(") {
        from = place + 1;
        if place == 0 || !matches!(at(text, place - 1), b'$' | b'<' | b'>') {
            continue;
        }
        let end = skip(part(text, 0, place + COMMAND_BYTES_MAX), from, |byte| byte != b')');
        if !work.spend(end - from) {
            return finding.give_up(place - 1);
        }
        let line = words(part(text, from, end));
        finding.note(
            weigh_substitution(text, &line, (place - 1, end + 1)),
            "a command substituted",
            place - 1,
        );
    }
    let mut from = 0;
    while let Some(place) = find(text, from, b"`") {
        let end = skip(part(text, 0, place + COMMAND_BYTES_MAX), place + 1, |byte| byte != b'`');
        from = end + 1;
        if end == place + 1 || at(text, end) != b'`' {
            continue;
        }
        // People quote commands between backticks, with spaces around; shells need none.
        let line = words(part(text, place + 1, end));
        let quoted = place > 0
            && is_space(at(text, place - 1))
            && part(text, 0, place).trim_ascii().len() > 3
            || matches!(at(text, end + 1), b' ' | b'.' | b',' | b')' | b':' | b'\n')
                && end + 2 < text.len()
            || place > 0 && at(text, place - 1) == b'`';
        let score = weigh_substitution(text, &line, (place, end + 1));
        finding.note(
            if quoted { score.min(WEAK) } else { score },
            "a command between backticks",
            place,
        );
    }
    for space in ["${ifs", "$ifs"] {
        if let Some(place) = find(text, 0, space.as_bytes()) {
            let glued = place > 0
                && !is_space(at(text, place - 1))
                && !matches!(at(text, place - 1), b'"' | b'`' | b'\'');
            finding.note(if glued { LIKELY } else { WEAK }, "a space of the shell", place);
        }
    }
}

fn weigh_substitution(text: &[u8], line: &Line<'_>, (start, end): (usize, usize)) -> u8 {
    // Asked last: a text may be full of substitutions that hold no program.
    let prose = || words_before(text, start, 3) >= 3;
    let whole = start == 0 && end >= text.len();
    let evidence = line.has_path() || line.has_flag() || line.has_address() || line.is_spliced();
    match program(line.name()) {
        Program::Shell | Program::Hostile if line.is_harmless() && !whole => WEAK,
        Program::Shell | Program::Hostile
            if line.has_address() || line.reads_root() || !prose() =>
        {
            LIKELY
        }
        Program::English | Program::Tool if (evidence || line.has_number_only()) && !prose() => {
            LIKELY
        }
        Program::English if whole && line.arguments().is_empty() => LIKELY,
        Program::Unknown if line.is_program_path() && !prose() => LIKELY,
        Program::Unknown => 0,
        _ => WEAK,
    }
}
