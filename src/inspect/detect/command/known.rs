//! Command lines, paths and calls that give themselves away without a separator.

use crate::inspect::detect::command::COMMAND_BYTES_MAX;
use crate::inspect::detect::command::programs::{Program, program};
use crate::inspect::detect::command::words::words;
use crate::inspect::detect::finding::{CERTAIN, Finding, LIKELY, WEAK};
use crate::inspect::detect::text::{
    among, at, find, holds, holds_any, is_space, is_word, part, skip, skip_space, stands,
};

/// Command lines that are attacks wherever they stand.
pub(in crate::inspect::detect) fn known(text: &[u8], finding: &mut Finding) {
    const FRAGMENTS: [(&str, u8); 42] = [
        ("/dev/tcp/", LIKELY),
        ("/dev/udp/", LIKELY),
        ("bash -i >&", CERTAIN),
        ("0>&1", LIKELY),
        ("nc -e ", LIKELY),
        ("nc -c ", LIKELY),
        ("ncat -e", LIKELY),
        ("-e /bin/", LIKELY),
        ("-e cmd.exe", LIKELY),
        ("/bin/sh -i", CERTAIN),
        ("/bin/bash -i", CERTAIN),
        ("/bin/sh -c", LIKELY),
        ("/bin/bash -c", LIKELY),
        ("mkfifo /tmp", LIKELY),
        ("import socket", WEAK + 1),
        ("socket.socket(", WEAK + 1),
        ("use socket;", LIKELY),
        ("fsockopen(", LIKELY),
        ("powershell -e", LIKELY),
        ("powershell.exe -e", LIKELY),
        ("powershell -nop", LIKELY),
        ("powershell.exe -nop", LIKELY),
        ("powershell -w hidden", LIKELY),
        ("-windowstyle hidden", LIKELY),
        (".downloadstring(", LIKELY),
        (".downloadfile(", LIKELY),
        ("invoke-expression", WEAK + 1),
        ("iex(", WEAK + 1),
        ("cmd.exe /c", LIKELY),
        ("cmd /c ", LIKELY),
        ("cmd.exe+/c", LIKELY),
        ("cmd /k", LIKELY),
        ("certutil -urlcache", LIKELY),
        ("certutil.exe -urlcache", LIKELY),
        ("bitsadmin /transfer", LIKELY),
        ("regsvr32 /s", LIKELY),
        ("mshta http", LIKELY),
        ("mshta javascript", CERTAIN),
        ("rundll32 javascript", CERTAIN),
        ("wmic process call", LIKELY),
        ("%comspec%", LIKELY),
        ("powershell -c", LIKELY),
    ];
    for (fragment, score) in FRAGMENTS {
        if let Some(place) = find(text, 0, fragment.as_bytes()) {
            finding.note(score, "a command line", place);
        }
    }
    if holds(text, b"import socket") && holds_any(text, &["subprocess", "connect(", "dup2", "pty"])
    {
        finding.note(CERTAIN, "a shell that calls back", 0);
    }
    if let Some(place) = find(text, 0, b"()") {
        let brace = skip_space(text, place + 2);
        let body = skip_space(text, brace + 1);
        let empty = matches!(part(text, body, body + 2), b":;" | b"_;" | b"x;")
            || matches!(
                part(text, body, body + 3),
                b":; " | b"_ ;" | b"_[$" | b"_ [" | b": ;" | b"foo"
            );
        let begins = place == skip_space(text, 0)
            && holds_any(part(text, brace, brace + 64), &["};", "} >"]);
        if at(text, brace) == b'{' && (empty || begins) {
            finding.note(CERTAIN, "a function in a variable (Shellshock)", place);
        }
    }
}

/// A field that is nothing but a command line with arguments that nobody writes by chance.
pub(in crate::inspect::detect) fn naked(text: &[u8], finding: &mut Finding) {
    let line = words(part(text, 0, COMMAND_BYTES_MAX));
    let kind = program(line.name());
    if kind == Program::Unknown && !line.is_program_path() {
        return;
    }
    let secret = holds_any(
        line.arguments(),
        &["/etc/passwd", "/etc/shadow", "/proc/self", "win.ini", "boot.ini", "169.254.169.254"],
    );
    let short = line.count() <= 6;
    let spliced = line.is_spliced() && kind != Program::Unknown;
    let score = match kind {
        _ if spliced && (line.has_path() || line.count() == 1) => LIKELY,
        Program::Unknown if line.is_program_path() && short => {
            LIKELY - u8::from(line.count() > 1 && !secret)
        }
        Program::Unknown => 0,
        _ if secret && short => LIKELY,
        _ => WEAK - 1,
    };
    finding.note(score, "a command", 0);
}

/// `/???/??t /???/p??s??`: names that only a shell completes.
pub(in crate::inspect::detect) fn globs(text: &[u8], finding: &mut Finding) {
    let mut from = 0;
    while let Some(place) = find(text, from, b"/") {
        from = place + 1;
        let before = place.checked_sub(1).map_or(b' ', |before| at(text, before));
        if !(is_space(before)
            || matches!(before, b';' | b'|' | b'&' | b'`' | b'(' | b'}' | b'<' | b'$' | b'='))
        {
            continue;
        }
        let end = skip(part(text, 0, place + 128), place, |byte| {
            byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'/' | b'?'
                        | b'*'
                        | b'['
                        | b']'
                        | b'.'
                        | b'-'
                        | b'_'
                        | b'@'
                        | b'$'
                        | b'{'
                        | b'}'
                        | b'\''
                        | b'"'
                        | b'\\'
                )
        });
        let path = part(text, place, end);
        from = end.max(from);
        let segments = path.iter().filter(|byte| **byte == b'/').count();
        let marks = path.iter().filter(|byte| **byte == b'?').count();
        let first =
            part(path, 1, path.len()).split(|byte| *byte == b'/').next().unwrap_or_default();
        let in_first = first.contains(&b'?')
            || first.len() <= 5
                && first.contains(&b'*')
                && first.iter().any(u8::is_ascii_alphabetic)
                && !first.starts_with(b"*");
        if segments >= 2
            && (marks >= 2 || marks == 1 && first != b"?" || in_first)
            && first.len() <= 8
            && !first.is_empty()
        {
            let strong = marks >= 2 || in_first || matches!(first, b"bin" | b"usr" | b"etc");
            finding.note(
                if strong { LIKELY } else { WEAK },
                "a path that a shell completes",
                place,
            );
        }
    }
}

/// Functions of common languages that run programs or code.
const CALLS: [&str; 22] = [
    "system(",
    "passthru(",
    "shell_exec(",
    "exec(",
    "popen(",
    "proc_open(",
    "pcntl_exec(",
    "os.system(",
    "os.popen(",
    "subprocess.",
    "child_process",
    "phpinfo(",
    "eval(",
    "assert(",
    "base64_decode(",
    "call_user_func(",
    "create_function(",
    "execsync(",
    "spawnsync(",
    "file_put_contents(",
    "runtime.exec(",
    "spawn(",
];

/// What is evaluated to run programs, in distinction from what is merely evaluated.
const EVALUATED: [&str; 10] = [
    "$_",
    "base64",
    "system",
    "exec",
    "phpinfo",
    "require",
    "gzinflate",
    "chr(",
    "str_rot13",
    "__import__",
];

/// `system('id')`, `os.system(…)`, `require('child_process').exec(…)`: functions that run programs.
pub(in crate::inspect::detect) fn functions(text: &[u8], finding: &mut Finding) {
    for call in CALLS {
        let Some(place) = find(text, 0, call.as_bytes()) else { continue };
        if place > 0 && is_word(at(text, place - 1)) {
            continue;
        }
        let open = place + call.len();
        let argument = skip_space(text, open);
        let quoted = matches!(at(text, argument), b'\'' | b'"' | b'$' | b'`' | b'\\');
        let alone = place <= 3 || among(at(text, place - 1), b";{('\"}.@=?|`!&");
        let empty = call == "phpinfo(" && at(text, argument) == b')';
        let module = call == "child_process"
            && holds_any(part(text, open, open + 64), &["exec", "spawn"])
            || call == "subprocess."
                && holds_any(
                    part(text, open, open + 16),
                    &["popen(", "call(", "run(", "check_output("],
                );
        let inner = part(text, argument, argument + 64);
        let evals = matches!(call, "eval(" | "assert(" | "spawn(") && !holds_any(inner, &EVALUATED);
        let score = match (quoted || empty || module, alone) {
            _ if evals => WEAK - 1,
            (true, true) => LIKELY,
            (true, false) => WEAK,
            (false, true)
                if holds_any(
                    inner,
                    &["base64", "chr(", "whoami", "system", "exec", "$_", "argv"],
                ) =>
            {
                LIKELY
            }
            _ => WEAK - 1,
        };
        finding.note(score, "a function that runs programs", place);
    }
    variables(text, finding);
}

/// `$_GET[…]` where it is called or evaluated.
fn variables(text: &[u8], finding: &mut Finding) {
    for variable in ["$_get[", "$_post[", "$_request[", "$_server[", "$_cookie[", "$globals["] {
        if let Some(place) = find(text, 0, variable.as_bytes()) {
            let called = stands(text, place.saturating_sub(1), b"(")
                || holds_any(text, &["eval(", "system(", "<?", "exec(", "${"]);
            finding.note(if called { LIKELY } else { WEAK }, "a variable of PHP", place);
        }
    }
}
