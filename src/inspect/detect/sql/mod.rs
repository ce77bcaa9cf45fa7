//! SQL injection: reads a field as the rest of somebody's statement and asks whether it would change it.

mod words;
mod token;
mod reading;
mod query;
mod statement;

use std::cell::RefCell;

use crate::inspect::detect::finding::{CERTAIN, Finding, LIKELY, WEAK};
use crate::inspect::detect::marks::Marks;
use crate::inspect::detect::sql::reading::Reading;
use crate::inspect::detect::sql::token::{Kind, Token, tokenise};
use crate::inspect::detect::sql::words::{Role, role};
use crate::inspect::detect::text::{at, is_word, part, skip};
use crate::inspect::detect::{Detector, View};

/// Finds SQL. A field is read in four ways: as it stands, and as what follows the first single
/// quote, double quote or backtick, because the application may have put it between those.
pub(in crate::inspect::detect) struct Sql;

thread_local! {
    static TOKENS: RefCell<Vec<Token>> = const { RefCell::new(Vec::new()) };
}

/// Tokens whose room is kept between fields.
const TOKENS_KEPT_MAX: usize = 4096;

impl Detector for Sql {
    fn wants(&self, marks: Marks) -> bool {
        marks.any(Marks::QUOTE | Marks::TICK | Marks::EQUALS | Marks::PAREN | Marks::SQL_WORD)
            || marks.all(Marks::SPACE | Marks::DIGIT) && marks.any(Marks::LESS | Marks::MORE)
            || marks.all(Marks::SEMI | Marks::DASH)
    }

    fn weigh(&self, view: &View<'_>) -> Finding {
        TOKENS.with(|tokens| {
            let Ok(mut tokens) = tokens.try_borrow_mut() else { return Finding::default() };
            let finding = weigh(view.text, &mut tokens);
            if tokens.capacity() > TOKENS_KEPT_MAX {
                *tokens = Vec::new();
            }
            finding
        })
    }
}

fn weigh(text: &[u8], tokens: &mut Vec<Token>) -> Finding {
    let mut finding = judge(text, 0, false, tokens);
    for quote in [b'\'', b'"', b'`'] {
        if let Some(end) = break_out(text, quote) {
            finding.join(judge(text, end, true, tokens));
        }
    }
    finding
}

/// Where a text between quotes of this kind would end: after the first that is no apostrophe.
///
/// An apostrophe stands between letters, and what follows it is not a word of SQL: `O'Brien` is a
/// name, `x'or 1=1` is not.
fn break_out(text: &[u8], quote: u8) -> Option<usize> {
    let mut from = 0;
    loop {
        let index = from + memchr::memchr(quote, part(text, from, text.len()))?;
        let before = index.checked_sub(1).map_or(0, |before| at(text, before));
        let end = skip(part(text, 0, index + 24), index + 1, is_word);
        let follower = role(part(text, index + 1, end));
        let apostrophe = quote == b'\''
            && before.is_ascii_alphabetic()
            && end > index + 1
            && !at(text, index + 1).is_ascii_digit()
            && matches!(follower, Role::Name | Role::Function);
        if !apostrophe {
            return Some(index + 1);
        }
        from = end;
    }
}

fn judge(text: &[u8], from: usize, broken: bool, tokens: &mut Vec<Token>) -> Finding {
    tokenise(text, from, tokens);
    let before = tokens.len();
    let last = before.saturating_sub(1);
    let mut index = 0;
    tokens.retain(|token| {
        let closed = token.kind == Kind::BlockComment && token.of(text).ends_with(b"*/");
        let inner = token.kind == Kind::LineComment && index < last;
        index += 1;
        !(closed || inner || token.kind == Kind::Version)
    });
    let reading = Reading { text, tokens, broken, commented: tokens.len() < before, begins: from };
    let mut finding = Finding::default();
    anchored(&reading, &mut finding);
    for index in 0..reading.tokens.len() {
        anywhere(&reading, index, &mut finding);
    }
    finding
}

/// What follows directly upon the quote, or upon the one value that the application expected.
fn anchored(reading: &Reading<'_>, finding: &mut Finding) {
    let Some(anchor) = reading.anchor() else { return };
    let place = reading.place(anchor);
    match reading.kind(anchor) {
        Kind::LineComment | Kind::BlockComment
            if reading.broken && reading.comment_is_short(anchor) =>
        {
            finding.note(LIKELY, "a quote, then a comment", place);
        }
        Kind::Semicolon if reading.broken => {
            let next = anchor + 1;
            if reading.is_comment(next) && reading.comment_is_short(next) {
                finding.note(LIKELY, "a quote, then an end and a comment", place);
            }
        }
        Kind::Logic | Kind::Word(Role::Condition) => condition(reading, anchor, finding),
        Kind::Compare | Kind::Word(Role::Compare | Role::Not) if reading.broken => {
            comparison(reading, anchor, finding);
        }
        Kind::Word(Role::Sort) => sort(reading, anchor, finding),
        Kind::Word(Role::Tail) if reading.broken => tail(reading, anchor, finding),
        Kind::Arithmetic | Kind::Word(Role::Arithmetic) => arithmetic(reading, anchor, finding),
        Kind::Comma | Kind::Other if reading.broken && reading.calls_danger(anchor + 1) => {
            finding.note(CERTAIN, "a quote, then a call", place);
        }
        Kind::Word(Role::Select | Role::Statement) if reading.broken => {
            let strength = reading.statement(anchor);
            finding.note(strength, "a quote, then a statement", place);
        }
        _ => {}
    }
}

/// `OR 1=1`, `AND (SELECT …)`, `HAVING x`, `|| sleep(1)` right after the value.
fn condition(reading: &Reading<'_>, anchor: usize, finding: &mut Finding) {
    let place = reading.place(anchor);
    let left = reading.operand(anchor + 1);
    let next = left.next;
    if left.is_subselect || left.is_danger {
        finding.note(CERTAIN, "a condition on a call or subselect", place);
    } else if let Some(right) = reading.compared(next) {
        let right = reading.operand(right);
        if right.is_nothing {
            return;
        }
        let strength = match (left.is_literal, right.is_literal) {
            (true, true) => CERTAIN,
            _ if left.is_nothing => WEAK,
            _ if reading.broken || left.is_call || right.is_subselect => LIKELY,
            _ if reading.same(anchor + 1, next) => LIKELY,
            _ => WEAK - 1,
        };
        finding.note(strength, "a condition that the caller decides", place);
    } else if left.is_call && (reading.broken || left.is_function) {
        finding.note(LIKELY, "a condition on a call", place);
    } else if left.is_literal && reading.broken {
        let ends = reading.ends(next) || reading.is_comment(next) || left.is_open;
        let concatenated = reading.kind(anchor) == Kind::Logic;
        if ends && (!left.is_open || concatenated || left.is_empty) {
            finding.note(LIKELY, "a condition that is a constant", place);
        }
    } else if left.is_literal && reading.is_comment(next) && reading.comment_is_short(next) {
        finding.note(LIKELY, "a constant condition and a comment", place);
    } else if reading.broken && !left.is_nothing && reading.is_comment(next) {
        finding.note(LIKELY, "a condition and a comment", place);
    }
}

/// `' = '`, `' LIKE '%`, `' IN (…)`, `' IS NOT NULL` right after the quote.
fn comparison(reading: &Reading<'_>, anchor: usize, finding: &mut Finding) {
    let Some(right) = reading.compared(anchor) else { return };
    let operand = reading.operand(right);
    if operand.is_subselect || operand.is_danger {
        finding.note(CERTAIN, "a quote, then a comparison with a call", reading.place(anchor));
    } else if operand.is_literal || operand.is_call && operand.is_function {
        let ends = reading.ends(operand.next)
            || reading.is_comment(operand.next)
            || reading.is_condition(operand.next);
        let strength = if ends { LIKELY } else { WEAK };
        finding.note(strength, "a quote, then a comparison", reading.place(anchor));
    }
}

/// `ORDER BY 10`, `GROUP BY 1,2`, `GROUP BY x HAVING …`.
fn sort(reading: &Reading<'_>, anchor: usize, finding: &mut Finding) {
    if reading.kind(anchor + 1) != Kind::Word(Role::By) {
        return;
    }
    let left = reading.operand(anchor + 2);
    let place = reading.place(anchor);
    let listed = reading.kind(left.next) == Kind::Comma;
    let ends = reading.ends(left.next) || reading.is_comment(left.next) || listed;
    if left.is_subselect || left.is_call || left.is_danger {
        finding.note(LIKELY, "sorting by a call", place);
    } else if left.is_literal && !left.is_open && ends {
        finding.note(LIKELY, "sorting by a column number", place);
    } else if reading.broken && !left.is_nothing && (ends || reading.is_condition(left.next)) {
        finding.note(LIKELY, "a quote, then sorting", place);
    } else if reading.is_condition(left.next) && !left.is_nothing {
        finding.note(WEAK + 1, "grouping with a condition", place);
    }
}

/// `LIMIT 1,1`, `INTO OUTFILE '…'`, `PROCEDURE ANALYSE(…)` right after the quote.
fn tail(reading: &Reading<'_>, anchor: usize, finding: &mut Finding) {
    let left = reading.operand(anchor + 1);
    let ends = reading.is_comment(left.next)
        || reading.kind(left.next) == Kind::Comma
        || reading.kind(left.next) == Kind::Word(Role::Union);
    if left.is_literal && ends || left.is_call {
        finding.note(LIKELY, "a quote, then a clause", reading.place(anchor));
    }
}

/// `1-sleep(5)`, `1 div (select …)`, `'+(select …)+'`, `'-0-'`.
fn arithmetic(reading: &Reading<'_>, anchor: usize, finding: &mut Finding) {
    let right = reading.operand(anchor + 1);
    let place = reading.place(anchor);
    if right.is_subselect || right.is_danger {
        finding.note(CERTAIN, "arithmetic with a call or subselect", place);
    } else if right.is_call && right.is_function && reading.broken {
        finding.note(LIKELY, "a quote, then arithmetic with a call", place);
    } else if reading.broken && right.is_literal && !right.is_open {
        let closes = reading.is_comment(right.next);
        finding.note(if closes { LIKELY } else { WEAK - 1 }, "a quote, then arithmetic", place);
    }
}

/// Structures that give themselves away wherever they stand.
fn anywhere(reading: &Reading<'_>, index: usize, finding: &mut Finding) {
    let place = reading.place(index);
    match reading.kind(index) {
        Kind::Word(Role::Union) => {
            finding.note(reading.union(index), "union select", place);
        }
        Kind::Logic | Kind::Word(Role::Condition) => {
            finding.note(reading.tautology(index), "a comparison that always holds", place);
        }
        Kind::Semicolon => {
            let strength = reading.stacked(index);
            finding.note(strength, "a second statement", place);
        }
        Kind::Word(Role::Select) if reading.opens_at(index) => {
            finding.note(reading.statement(index), "a statement", place);
        }
        Kind::Word(Role::Statement) => {
            let alone = index == 0 && !reading.broken;
            if reading.text_is(index, b"waitfor") {
                finding.note(reading.statement(index), "waiting", place);
            } else if alone {
                finding.note(reading.statement_alone(index), "a statement", place);
            }
        }
        Kind::Word(Role::Tail) if reading.text_is(index, b"into") => {
            let file =
                reading.text_is(index + 1, b"outfile") || reading.text_is(index + 1, b"dumpfile");
            if file {
                finding.note(LIKELY, "writing a file", place);
            }
        }
        Kind::Word(Role::Tail)
            if reading.text_is(index, b"procedure")
                && reading.text_is(index + 1, b"analyse")
                && reading.kind(index + 2) == Kind::OpenParen =>
        {
            finding.note(CERTAIN, "procedure analyse", place);
        }
        Kind::Word(Role::Danger) => {
            finding.note(reading.danger(index), "a dangerous function", place);
        }
        Kind::Word(Role::Function | Role::Link) => {
            finding.note(reading.built(index), "a value built to be compared", place);
        }
        Kind::Variable if reading.text_starts(index, b"@@") => {
            let asked = index > 0
                && matches!(
                    reading.kind(index - 1),
                    Kind::Word(Role::Select)
                        | Kind::Comma
                        | Kind::OpenParen
                        | Kind::Compare
                        | Kind::Arithmetic
                );
            let known = reading.text_starts(index, b"@@version")
                || reading.text_starts(index, b"@@datadir");
            finding.note(if asked || known { LIKELY } else { WEAK }, "a server variable", place);
        }
        _ => {}
    }
}
