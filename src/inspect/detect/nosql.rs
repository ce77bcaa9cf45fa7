//! NoSQL injection: operators where only values belong, JavaScript for a document store, directory filters.

use crate::inspect::detect::finding::{CERTAIN, Finding, LIKELY, WEAK};
use crate::inspect::detect::marks::Marks;
use crate::inspect::detect::text::{
    at, find, holds, holds_any, is_word, part, skip, skip_space, stands,
};
use crate::inspect::detect::{Detector, View};

/// Finds operators such as `$ne` and code for `$where`.
pub(in crate::inspect::detect) struct Nosql;

impl Detector for Nosql {
    fn wants(&self, marks: Marks) -> bool {
        marks.any(Marks::DOLLAR | Marks::NOSQL_WORD)
            || marks.any(Marks::QUOTE) && marks.any(Marks::SEMI | Marks::PIPE | Marks::AMP)
            || marks.any(Marks::SEMI) && marks.any(Marks::PAREN)
            || marks.all(Marks::PAREN | Marks::EQUALS)
    }

    fn weigh(&self, view: &View<'_>) -> Finding {
        let mut finding = Finding::default();
        operators(view.text, &mut finding);
        code(view.text, &mut finding);
        statements(view.text, &mut finding);
        database(view.text, &mut finding);
        prototype(view.text, &mut finding);
        directory(view.text, &mut finding);
        finding
    }
}

/// Operators of document stores, without their dollar sign.
fn is_operator(word: &[u8]) -> bool {
    matches!(
        word,
        b"eq"
            | b"ne"
            | b"gt"
            | b"gte"
            | b"lt"
            | b"lte"
            | b"in"
            | b"nin"
            | b"not"
            | b"nor"
            | b"or"
            | b"and"
            | b"exists"
            | b"type"
            | b"expr"
            | b"jsonschema"
            | b"mod"
            | b"regex"
            | b"options"
            | b"text"
            | b"where"
            | b"geowithin"
            | b"geointersects"
            | b"near"
            | b"nearsphere"
            | b"all"
            | b"elemmatch"
            | b"size"
            | b"comment"
            | b"rand"
            | b"natural"
            | b"set"
            | b"unset"
            | b"inc"
            | b"push"
            | b"pull"
            | b"rename"
            | b"lookup"
            | b"function"
            | b"accumulator"
            | b"group"
            | b"match"
            | b"project"
            | b"out"
            | b"merge"
            | b"unionwith"
            | b"search"
            | b"addtoset"
            | b"currentdate"
            | b"func"
            | b"within"
            | b"slice"
            | b"query"
            | b"orderby"
            | b"explain"
    )
}

/// `$ne` as a whole name, `user[$ne]`, `{"$gt": …}`, `, $or: […]`.
fn operators(text: &[u8], finding: &mut Finding) {
    let mut from = 0;
    while let Some(dollar) = find(text, from, b"$") {
        let end = skip(text, dollar + 1, |byte| byte.is_ascii_alphabetic());
        from = end;
        if !is_operator(part(text, dollar + 1, end)) {
            continue;
        }
        let before = dollar.checked_sub(1).map_or(0, |before| at(text, before));
        let after = at(text, end);
        let whole = dollar == 0 && end == text.len();
        if whole || before == b'[' && after == b']' || before == b'.' && end == text.len() {
            finding.note(CERTAIN, "an operator as a name", dollar);
            continue;
        }
        let quoted = matches!(after, b'"' | b'\'' | b'`');
        let colon = skip_space(text, end + usize::from(quoted));
        let separated =
            matches!(before, 0 | b'{' | b',' | b'"' | b'\'' | b'`' | b' ' | b'\n' | b'\t' | b'(');
        let assigned = at(text, colon) == b':';
        if quoted && before == after && assigned {
            finding.note(CERTAIN, "an operator as a member", dollar);
        } else if assigned && separated {
            let braced = holds_any(part(text, 0, dollar), &["{", ",", ";"]) || dollar == 0;
            finding.note(if braced { LIKELY } else { WEAK }, "an operator as a member", dollar);
        } else if dollar == 0 && (after == b'[' || after == b'=') {
            finding.note(LIKELY, "an operator as a name", dollar);
        }
    }
}

/// JavaScript that a `$where` would run.
fn code(text: &[u8], finding: &mut Finding) {
    for quote in [b"'", b"\""] {
        let Some(open) = find(text, 0, quote) else { continue };
        let mut next =
            skip(text, open + 1, |byte| matches!(byte, b' ' | b')' | b'}' | b']' | b'"' | b'\''));
        let sign = part(text, next, next + 2);
        let joined = matches!(sign, b"||" | b"&&");
        if !joined && !sign.starts_with(b";") {
            continue;
        }
        next = skip(text, next + if joined { 2 } else { 1 }, |byte| {
            matches!(byte, b' ' | b'(' | b'!' | b'\n')
        });
        let rest = part(text, next, next + 256);
        let statement = [
            "return", "var ", "let ", "while", "this.", "do{", "do {", "sleep(", "function", "it=",
            "throw ", "db.",
        ]
        .iter()
        .any(|word| rest.starts_with(word.as_bytes()));
        let compares = joined && holds(rest, b"==");
        let property = holds(rest, b"this.") || holds(rest, b".match(/");
        if statement || compares || property {
            finding.note(LIKELY, "a quote, then code", open);
        }
        let constant = ["true", "1"].iter().any(|word| {
            let end = skip_space(rest, word.len());
            rest.starts_with(word.as_bytes())
                && matches!(part(rest, end, end + 2), b"||" | b"&&" | b"//")
        });
        if joined && constant {
            finding.note(LIKELY, "a quote, then a constant", open);
        }
        if joined
            && (rest.is_empty()
                || matches!(rest, b"1" | b"true")
                || rest.starts_with(b"1//")
                || rest.starts_with(b"true//"))
        {
            finding.note(WEAK, "a quote, then a condition", open);
        }
    }
}

/// Code that needs no quote: conditions, waiting, and answers.
fn statements(text: &[u8], finding: &mut Finding) {
    if holds(text, b"this.")
        && (holds_any(text, &["this.password", "this.passwd", "this.username", "this.constructor"])
            && holds_any(text, &["==", ".match(", "return", "||", "&&", "[0]", ".test("])
            || holds(text, b"return")
                && holds_any(text, &["function", "true"])
                && holds(text, b"=="))
    {
        finding.note(LIKELY, "a condition in code", find(text, 0, b"this.").unwrap_or(0));
    }
    let waits = holds(text, b"new date") && holds_any(text, &["while(", "while (", "do{", "do {"]);
    let sleeps = find(text, 0, b";sleep(").or_else(|| find(text, 0, b"; sleep("));
    if let Some(place) = sleeps.filter(|_| !waits) {
        let digits = skip(text, place + 7, |byte| byte == b'(' || byte == b' ');
        if at(text, digits).is_ascii_digit() || at(text, place + 7).is_ascii_digit() {
            finding.note(LIKELY, "code that waits", place);
        }
    }
    if waits {
        finding.note(LIKELY, "code that waits", 0);
    }
    if let Some(place) = find(text, 0, b"return true").or_else(|| find(text, 0, b"return(true")) {
        let ended = at(text, skip_space(text, place + 11)) == b';' || at(text, place + 11) == b')';
        let begun =
            skip_space(text, 0) == place || holds_any(part(text, 0, place), &[";", "'", "}"]);
        let short = part(text, 0, place).trim_ascii();
        let alone = short.len() <= 8 && short.ends_with(b";") && at(text, place + 11) != b' ';
        if alone {
            finding.note(LIKELY, "code that answers true", place);
        }
        if ended
            && begun
            && holds_any(part(text, place, text.len()), &["var ", "//", "}", "'", "<!--"])
        {
            finding.note(LIKELY, "code that answers true", place);
        }
    }
}

/// `db.users.drop()`, `db.getCollectionNames()`.
fn database(text: &[u8], finding: &mut Finding) {
    let mut from = 0;
    while let Some(place) = find(text, from, b"db.") {
        from = place + 3;
        if place > 0 && is_word(at(text, place - 1)) {
            continue;
        }
        let name = skip(text, place + 3, is_word);
        let chained = at(text, name) == b'.';
        let method = if chained { skip(text, name + 1, is_word) } else { name };
        let called = part(text, if chained { name + 1 } else { place + 3 }, method);
        let known = matches!(
            called,
            b"find"
                | b"findone"
                | b"insert"
                | b"insertone"
                | b"insertmany"
                | b"update"
                | b"updateone"
                | b"updatemany"
                | b"remove"
                | b"drop"
                | b"deleteone"
                | b"deletemany"
                | b"aggregate"
                | b"count"
                | b"dropdatabase"
                | b"getcollectionnames"
                | b"getcollection"
                | b"version"
                | b"stats"
                | b"hostinfo"
                | b"adduser"
                | b"createuser"
                | b"eval"
                | b"shutdownserver"
                | b"runcommand"
                | b"mapreduce"
                | b"renamecollection"
                | b"save"
        );
        if known && at(text, method) == b'(' {
            let begins = place == 0
                || holds_any(
                    part(text, place.saturating_sub(3), place),
                    &[";", "(", "{", "!", "'", "=", "|", "&"],
                );
            finding.note(if begins { LIKELY } else { WEAK + 1 }, "a call on the database", place);
        }
    }
}

/// `__proto__`, `constructor[prototype]`: members that change every object of a JavaScript service.
fn prototype(text: &[u8], finding: &mut Finding) {
    if let Some(place) = find(text, 0, b"__proto__") {
        let end = place + 9;
        let whole = place == 0 && end == text.len();
        let member = matches!(at(text, end), b'[' | b'.' | b']' | b'"' | b'\'')
            && (place == 0 || matches!(at(text, place - 1), b'[' | b'.' | b'"' | b'\''));
        let last = end == text.len() && place > 0 && matches!(at(text, place - 1), b'.' | b'[');
        finding.note(if whole || member || last { LIKELY } else { WEAK - 1 }, "a prototype", place);
    }
    for word in [
        &b"constructor.prototype."[..],
        b"constructor[prototype]",
        b"\"constructor\":{\"prototype\"",
    ] {
        if let Some(place) = find(text, 0, word) {
            let single =
                skip(text, 0, |byte| byte > b' ') == text.len() || stands(text, place, b"\"");
            finding.note(if single { LIKELY } else { WEAK }, "a prototype", place);
        }
    }
}

/// `*)(uid=*))(|(uid=*`: breaks out of the filter of a directory (LDAP).
fn directory(text: &[u8], finding: &mut Finding) {
    let mut from = 0;
    while let Some(place) = find(text, from, b")(") {
        from = place + 2;
        let next = skip(text, from, |byte| matches!(byte, b'|' | b'&' | b'!' | b'('));
        let end = skip(text, next, |byte| is_word(byte) || byte == b'-');
        let starred = place > 0 && at(text, place - 1) == b'*' || at(text, end + 1) == b'*';
        let operator = next > from && end > next;
        let closed = stands(text, end, b"=") && end > next;
        if closed && (starred || operator)
            || operator && starred
            || closed && place <= 24 && !holds(part(text, 0, place), b"(")
        {
            finding.note(LIKELY, "the end of a directory filter", place);
        }
    }
}
