//! JavaScript without markup: addresses that run, handlers that break out of an attribute, calls.

use crate::inspect::detect::finding::{CERTAIN, Finding, LIKELY, WEAK};
use crate::inspect::detect::script::tag::is_handler;
use crate::inspect::detect::text::{
    at, find, holds_any, is_space, is_word, part, skip, skip_space, stands, words_before,
};

/// Whether an address runs code instead of leading somewhere: `javascript:…`, `data:text/html,…`.
pub(in crate::inspect::detect) fn is_running_address(value: &[u8]) -> bool {
    const SCHEMES: [&[u8]; 4] = [b"javascript:", b"vbscript:", b"livescript:", b"mocha:"];
    let mut index = 0;
    // Browsers pass over white space and controls within the scheme.
    let mut scheme = [0_u8; 11];
    for slot in &mut scheme {
        index = skip(part(value, 0, index + 32), index, |byte| byte <= b' ' || byte == 0xa0);
        *slot = at(value, index);
        index += 1;
    }
    SCHEMES.iter().any(|known| scheme.starts_with(known))
        || [
            "data:text/html",
            "data:text/xml",
            "data:application/x",
            "data:image/svg+xml",
            "data:text/javascript",
            "data:application/javascript",
            "data:,",
            "data:;base64",
        ]
        .iter()
        .any(|known| stands(value, skip_space(value, 0), known.as_bytes()))
}

/// `javascript:alert(1)` as a field, in the brackets of a link, or after a quote.
pub(in crate::inspect::detect) fn addresses(text: &[u8], finding: &mut Finding) {
    let begin = skip(text, 0, |byte| byte <= b' ' || matches!(byte, b'"' | b'\'' | b'('));
    let head = part(text, begin, begin + 128);
    if is_running_address(head) && !stands(head, 0, b"data:,") {
        let colon = find(head, 0, b":").unwrap_or(0);
        let spaced = at(head, colon + 1) == b' '
            && words_before(part(head, colon + 1, head.len()), 64, 2) >= 1;
        let svg = stands(head, 0, b"data:image/svg+xml");
        finding.note(if spaced || svg { WEAK + 1 } else { CERTAIN }, "an address that runs", begin);
    }
    for (scheme, least) in [
        ("javascript:", LIKELY),
        ("vbscript:", LIKELY),
        ("data:text/html", LIKELY),
        ("data:text/javascript", LIKELY),
        ("data:application/javascript", LIKELY),
        ("data:image/svg+xml", WEAK),
    ] {
        let mut from = 0;
        while let Some(place) = find(text, from, scheme.as_bytes()) {
            from = place + scheme.len();
            let before = place.checked_sub(1).map_or(0, |before| at(text, before));
            let opened = matches!(
                before,
                b'(' | b'"' | b'\'' | b'=' | b'<' | b'[' | b'`' | b'/' | b':' | b'>' | b',' | b';'
            );
            let after = at(text, from);
            let code = is_code(part(text, from, from + 96))
                || scheme.starts_with("data:") && matches!(after, b',' | b';');
            finding.note(
                if opened && after != b' ' || code { least } else { WEAK - 1 },
                "an address that runs",
                place,
            );
        }
    }
}

/// Whether something is called, assigned or commented right away.
fn is_code(text: &[u8]) -> bool {
    let from = skip(text, 0, |byte| {
        matches!(
            byte,
            b'/' | b'*' | b'"' | b'\'' | b'`' | b';' | b'-' | b'+' | b'(' | b'%' | b'!' | b'~'
        )
    });
    let end = skip(text, from, |byte| {
        is_word(byte) || matches!(byte, b'.' | b'$' | b'[' | b']' | b'"' | b'\'')
    });
    end > from && matches!(at(text, end), b'(' | b'`' | b'=' | b'%')
        || stands(text, 0, b"//") && end > from
}

/// `" onmouseover=alert(1)`: a handler that would stand in somebody's tag.
pub(in crate::inspect::detect) fn handlers(text: &[u8], finding: &mut Finding) {
    let mut from = 0;
    while let Some(equals) = find(text, from, b"=") {
        from = equals + 1;
        let end = text.get(..equals).unwrap_or_default().trim_ascii_end().len();
        let begin = begin_of_word(text, end);
        if !is_handler(part(text, begin, end)) {
            continue;
        }
        let before = begin.checked_sub(1).map_or(b' ', |before| at(text, before));
        if !(is_space(before)
            || matches!(before, b'"' | b'\'' | b'/' | b'`' | b';' | b'+' | b'<' | b','))
        {
            continue;
        }
        let value =
            skip(text, equals + 1, |byte| is_space(byte) || matches!(byte, b'"' | b'\'' | b'`'));
        let shown = part(text, value, value + 96);
        // `onClick={save}` is how React is written, and talked about.
        let component = at(text, value) == b'{';
        let runs = !component
            && (is_code(shown)
                || is_running_address(shown)
                || holds_any(
                    shown,
                    &[
                        "alert",
                        "eval",
                        "prompt",
                        "confirm",
                        "document",
                        "window",
                        "location",
                        "fetch",
                        "javascript",
                        "import(",
                    ],
                ));
        let quoted = matches!(before, b'"' | b'\'' | b'/');
        if runs {
            finding.note(if quoted { CERTAIN } else { LIKELY }, "a handler of events", begin);
        } else if quoted && !component {
            finding.note(WEAK, "a handler of events", begin);
        }
    }
}

/// Where the word that ends at `end` begins; looks back no further than a handler is long.
fn begin_of_word(text: &[u8], end: usize) -> usize {
    let head = part(text, end.saturating_sub(40), end);
    let length = head.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    end - length
}

/// Functions that attacks call to show that they can, or to do harm.
const CALLS: [&str; 22] = [
    "alert",
    "confirm",
    "prompt",
    "eval",
    "settimeout",
    "setinterval",
    "fetch",
    "document.write",
    "document.writeln",
    "string.fromcharcode",
    "atob",
    "importscripts",
    "execscript",
    "print",
    "open",
    "import",
    "$.getscript",
    "document.location.replace",
    "location.assign",
    "console.log",
    "function",
    "location.replace",
];

/// `';alert(1)//`, `"-alert(1)-"`, `alert(document.cookie)`, `constructor.constructor('…')()`.
pub(in crate::inspect::detect) fn calls(text: &[u8], finding: &mut Finding) {
    for (fragment, score) in [
        ("document.cookie", WEAK),
        (".innerhtml=", WEAK + 1),
        ("constructor.constructor(", CERTAIN),
        ("constructor(\"alert", CERTAIN),
        ("constructor('alert", CERTAIN),
        ("[\"constructor\"]", LIKELY),
        ("['constructor']", LIKELY),
        ("string.fromcharcode(", WEAK + 1),
        ("eval(atob(", CERTAIN),
        ("eval(string", CERTAIN),
        ("eval(name)", LIKELY),
        ("eval(location", CERTAIN),
        ("top[\"al\"", CERTAIN),
        ("document.location=", WEAK + 1),
        ("window.location=", WEAK + 1),
        ("location=name", LIKELY),
        ("location='javascript", CERTAIN),
        (":expression(", LIKELY),
        ("-moz-binding:", LIKELY),
        ("@import'", LIKELY),
        ("@import url(", WEAK + 1),
        ("onerror=alert", LIKELY),
        ("throw onerror", LIKELY),
        ("onerror=eval", LIKELY),
        ("document['cookie']", LIKELY),
        ("document[\"cookie\"]", LIKELY),
        ("window[\"", WEAK),
        ("self['", WEAK),
    ] {
        if let Some(place) = find(text, 0, fragment.as_bytes()) {
            finding.note(score, "code that acts on the page", place);
        }
    }
    for call in CALLS {
        let mut from = 0;
        while let Some(place) = find(text, from, call.as_bytes()) {
            from = place + call.len();
            called(text, place, from, call, finding);
        }
    }
}

fn called(text: &[u8], place: usize, end: usize, call: &str, finding: &mut Finding) {
    let open = skip(text, end, |byte| matches!(byte, b' ' | b')' | b'\n' | b'\t' | b'?' | b'.'));
    let sign = at(text, open);
    if !matches!(sign, b'(' | b'`' | b'&') || place > 0 && is_word(at(text, place - 1)) {
        return;
    }
    let harmless = matches!(
        call,
        "console.log"
            | "print"
            | "open"
            | "import"
            | "function"
            | "settimeout"
            | "setinterval"
            | "fetch"
    );
    let argument = part(text, open + 1, open + 64);
    let shows = holds_any(
        part(argument, 0, 40),
        &["document.", "window.", "location", "cookie", "origin", "localstorage"],
    ) || argument
        .first()
        .is_some_and(|first| first.is_ascii_digit() || matches!(first, b'/' | b'`'))
        || matches!(sign, b'`')
        || holds_any(part(argument, 0, 12), &["xss", "'x", "\"x", "'1", "\"1"]);
    let before = text.get(..place).unwrap_or_default().trim_ascii_end();
    let last = before.last().copied().unwrap_or(0);
    let quoted = before.iter().rev().take(12).any(|byte| matches!(byte, b'\'' | b'"' | b'`'));
    let joined = matches!(
        last,
        b';' | b'-'
            | b'+'
            | b'*'
            | b'/'
            | b'^'
            | b'|'
            | b'&'
            | b','
            | b'('
            | b'}'
            | b'{'
            | b'['
            | b'='
            | b'!'
            | b'~'
            | b'<'
            | b'>'
            | b'?'
            | b':'
    );
    let tail =
        at(text, skip(part(text, 0, open + 200), open, |byte| !matches!(byte, b')' | b'`')) + 1);
    let closed = matches!(
        tail,
        b'/' | b'-'
            | b'+'
            | b';'
            | b'\''
            | b'"'
            | b'}'
            | b'*'
            | b','
            | 0
            | b'`'
            | b'^'
            | b'|'
            | b'&'
            | b')'
            | b'<'
    );
    let score = match (joined && quoted, harmless) {
        (true, false) if closed => LIKELY,
        (true, true) if closed && shows && matches!(last, b';' | b'-' | b'+' | b'}') => LIKELY,
        _ if harmless => WEAK - 1,
        _ if shows && (last == 0 || joined) => LIKELY,
        _ if last == 0 && closed && matches!(call, "alert" | "confirm" | "prompt" | "eval") => {
            LIKELY
        }
        _ if shows => WEAK + 1,
        _ => WEAK - 1,
    };
    finding.note(score, "a call of a script", place);
}

/// JSFuck and its kin: code of brackets, signs and nothing else.
pub(in crate::inspect::detect) fn symbols(text: &[u8], finding: &mut Finding) {
    let mut run = 0_usize;
    let mut pairs = 0_usize;
    let mut opened = false;
    for (index, byte) in text.iter().enumerate() {
        if !matches!(
            byte,
            b'[' | b']'
                | b'('
                | b')'
                | b'!'
                | b'+'
                | b'{'
                | b'}'
                | b'$'
                | b'_'
                | b'='
                | b'~'
                | b'"'
                | b';'
                | b':'
                | b','
                | b'.'
        ) {
            run = 0;
            pairs = 0;
            opened = false;
            continue;
        }
        run += 1;
        opened |= *byte == b'(';
        pairs += usize::from(matches!(
            part(text, index, index + 2),
            b"[]" | b"![" | b"+[" | b"(!" | b"!!" | b"+(" | b"$_" | b"_$" | b"__"
        ));
        if run >= 20 && pairs >= 6 && pairs * 4 >= run && opened {
            finding.note(LIKELY, "code of signs alone", index + 1 - run);
            return;
        }
    }
}
