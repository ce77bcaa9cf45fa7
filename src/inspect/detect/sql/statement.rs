//! The grammar of injected SQL: operands, conditions, unions and statements over tokens.

use crate::inspect::detect::finding::{CERTAIN, LIKELY, WEAK};
use crate::inspect::detect::sql::token::{Kind, Token};
use crate::inspect::detect::sql::words::Role;

/// Tokens that one operand may take; what is longer is no injection that works by being read.
const OPERAND_TOKENS_MAX: usize = 24;
/// Bytes of text after a comment sign that still look like the end of an injection.
const COMMENT_BYTES_MAX: usize = 12;

/// One reading of a field: its tokens from some place on.
pub(in crate::inspect::detect) struct Reading<'t> {
    pub(in crate::inspect::detect) text: &'t [u8],
    pub(in crate::inspect::detect) tokens: &'t [Token],
    /// Whether the reading begins after a quote that the application may have opened.
    pub(in crate::inspect::detect) broken: bool,
    /// Whether comments were passed over.
    pub(in crate::inspect::detect) commented: bool,
    /// Where the reading begins.
    pub(in crate::inspect::detect) begins: usize,
}

/// What stands on one side of a comparison.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::inspect::detect) struct Operand {
    pub(in crate::inspect::detect) is_nothing: bool,
    pub(in crate::inspect::detect) is_literal: bool,
    /// A text that never ends.
    pub(in crate::inspect::detect) is_open: bool,
    /// An open text without content.
    pub(in crate::inspect::detect) is_empty: bool,
    pub(in crate::inspect::detect) is_call: bool,
    pub(in crate::inspect::detect) is_function: bool,
    pub(in crate::inspect::detect) is_danger: bool,
    pub(in crate::inspect::detect) is_subselect: bool,
    /// The token after it.
    pub(in crate::inspect::detect) next: usize,
}

impl Reading<'_> {
    /// The kind of a token; `Other` beyond the end.
    pub(in crate::inspect::detect) fn kind(&self, index: usize) -> Kind {
        self.tokens.get(index).map_or(Kind::Other, |token| token.kind)
    }

    fn bytes(&self, index: usize) -> &[u8] {
        self.tokens.get(index).map(|token| token.of(self.text)).unwrap_or_default()
    }

    pub(in crate::inspect::detect) fn text_is(&self, index: usize, word: &[u8]) -> bool {
        self.bytes(index) == word
    }

    pub(in crate::inspect::detect) fn text_starts(&self, index: usize, word: &[u8]) -> bool {
        self.bytes(index).starts_with(word)
    }

    /// Where a token stands in the text.
    pub(in crate::inspect::detect) fn place(&self, index: usize) -> usize {
        self.tokens.get(index).map_or(self.begins, |token| token.start as usize)
    }

    /// Whether nothing but closing parentheses and an end of statement follows.
    pub(in crate::inspect::detect) fn ends(&self, index: usize) -> bool {
        index >= self.tokens.len() || self.kind(index) == Kind::Semicolon
    }

    pub(in crate::inspect::detect) fn is_comment(&self, index: usize) -> bool {
        matches!(self.kind(index), Kind::LineComment | Kind::BlockComment)
    }

    pub(in crate::inspect::detect) fn is_condition(&self, index: usize) -> bool {
        matches!(self.kind(index), Kind::Logic | Kind::Word(Role::Condition))
    }

    /// Whether hardly anything follows the sign of a comment: people who write dashes go on.
    pub(in crate::inspect::detect) fn comment_is_short(&self, index: usize) -> bool {
        let comment = self.bytes(index).trim_ascii();
        let letters = comment.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
        comment.len() <= COMMENT_BYTES_MAX && letters <= 6
    }

    /// The token where the application's own statement would go on: after the quote, or after one
    /// value; and after parentheses that close.
    pub(in crate::inspect::detect) fn anchor(&self) -> Option<usize> {
        let mut index = 0;
        if !self.broken {
            while matches!(self.kind(index), Kind::Arithmetic | Kind::OpenParen) && index < 3 {
                index += 1;
            }
            match self.kind(index) {
                Kind::Number
                | Kind::Text
                | Kind::Variable
                | Kind::Word(Role::Name | Role::Literal | Role::Function | Role::Thing) => {
                    index += 1
                }
                // Nothing at all may stand in front of a condition: `or 1=1`.
                Kind::Logic | Kind::Word(Role::Condition) => {}
                _ => return None,
            }
        }
        while self.kind(index) == Kind::CloseParen && index < OPERAND_TOKENS_MAX {
            index += 1;
        }
        (index < self.tokens.len()).then_some(index)
    }

    /// Reads one side of a comparison.
    pub(in crate::inspect::detect) fn operand(&self, from: usize) -> Operand {
        let limit = from.saturating_add(OPERAND_TOKENS_MAX).min(self.tokens.len());
        let mut operand = Operand { is_nothing: true, next: from, ..Operand::default() };
        let mut index = from;
        while index < limit
            && (matches!(
                self.kind(index),
                Kind::Arithmetic | Kind::OpenParen | Kind::Word(Role::Not)
            ) || self.text_is(index, b"binary")
                || self.text_is(index, b"exists")
                || self.text_is(index, b"case"))
        {
            index += 1;
        }
        loop {
            if index >= limit {
                break;
            }
            index = self.term(index, limit, &mut operand);
            while index < limit && self.kind(index) == Kind::CloseParen {
                index += 1;
            }
            let chained =
                matches!(self.kind(index), Kind::Arithmetic | Kind::Word(Role::Arithmetic));
            if operand.is_nothing || !chained || index + 1 >= limit {
                break;
            }
            index += 1;
        }
        operand.next = index;
        operand
    }

    /// Reads one term of an operand, and says where the next begins.
    fn term(&self, index: usize, limit: usize, operand: &mut Operand) -> usize {
        let called = self.kind(index + 1) == Kind::OpenParen;
        let first = operand.is_nothing;
        match self.kind(index) {
            Kind::Number | Kind::Text | Kind::Word(Role::Literal) => {
                operand.is_literal = first || operand.is_literal;
            }
            Kind::Open => {
                operand.is_literal = first || operand.is_literal;
                operand.is_open = true;
                operand.is_empty = self.bytes(index).len() <= 1;
            }
            Kind::Word(Role::Select) => operand.is_subselect = true,
            Kind::Word(role) if called => {
                operand.is_call = true;
                operand.is_function |= role != Role::Name;
                operand.is_danger |= role == Role::Danger;
                operand.is_literal = false;
                operand.is_nothing = false;
                return self.past_parentheses(index + 1, limit);
            }
            Kind::Variable => operand.is_literal = false,
            Kind::Word(
                Role::Name | Role::Thing | Role::Function | Role::Catalog | Role::Danger,
            ) => {
                operand.is_literal = false;
                operand.is_nothing = false;
                let mut index = index + 1;
                while index + 1 < limit && self.kind(index) == Kind::Dot {
                    operand.is_danger |= self.kind(index + 1) == Kind::Word(Role::Danger);
                    index += 2;
                }
                if self.kind(index) == Kind::OpenParen {
                    operand.is_call = true;
                    return self.past_parentheses(index, limit);
                }
                return index;
            }
            _ => return index,
        }
        operand.is_nothing = false;
        index + 1
    }

    fn past_parentheses(&self, open: usize, limit: usize) -> usize {
        let mut depth = 0_usize;
        for index in open..limit {
            match self.kind(index) {
                Kind::OpenParen => depth += 1,
                Kind::CloseParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return index + 1;
            }
        }
        limit
    }

    /// The token after a comparison that begins at `index`.
    pub(in crate::inspect::detect) fn compared(&self, index: usize) -> Option<usize> {
        match self.kind(index) {
            Kind::Compare => Some(index + 1),
            Kind::Word(Role::Compare) => {
                Some(index + 1 + usize::from(self.kind(index + 1) == Kind::Word(Role::Not)))
            }
            Kind::Word(Role::Not) if self.kind(index + 1) == Kind::Word(Role::Compare) => {
                Some(index + 2)
            }
            _ => None,
        }
    }

    /// Whether the operands around the comparison at `compare` are the same word or number.
    pub(in crate::inspect::detect) fn same(&self, left: usize, compare: usize) -> bool {
        let trim = |index| {
            let bytes: &[u8] = self.bytes(index);
            bytes.trim_ascii_start().strip_prefix(b"'").unwrap_or(bytes)
        };
        let (left, right) = (trim(left), trim(compare + 1));
        let left = left.strip_suffix(b"'").unwrap_or(left);
        !left.is_empty() && left == right.strip_suffix(b"'").unwrap_or(right)
    }

    /// `OR 1=1` away from the anchor: both sides constant and the same, and the condition before it
    /// is not of that kind too, as it is when people write `1 = 1 and 2 = 2`.
    pub(in crate::inspect::detect) fn tautology(&self, index: usize) -> u8 {
        let left = self.operand(index + 1);
        let Some(right_from) = self.compared(left.next) else { return 0 };
        let right = self.operand(right_from);
        if !(left.is_literal && right.is_literal) {
            return 0;
        }
        let is_constant = |kind| matches!(kind, Kind::Number | Kind::Text);
        let written_alike = index >= 3
            && is_constant(self.kind(index - 1))
            && is_constant(self.kind(index - 3))
            && self.kind(index - 2) == Kind::Compare;
        let adjacent = left.next == index + 2 && self.same(index + 1, left.next);
        let ends =
            self.ends(right.next) || self.is_comment(right.next) || self.is_condition(right.next);
        let equal = self.text_is(left.next, b"=") || self.text_is(left.next, b"like");
        match (written_alike, adjacent && equal, ends) {
            (false, true, true) => LIKELY,
            (false, false, true) if self.broken && equal => LIKELY,
            _ => WEAK - 1,
        }
    }

    /// `UNION [ALL] SELECT` and what a database would make of it.
    pub(in crate::inspect::detect) fn union(&self, index: usize) -> u8 {
        let mut next = index + 1;
        let quantity = self.kind(next) == Kind::Word(Role::Quantity);
        next += usize::from(quantity);
        while self.kind(next) == Kind::OpenParen && next < index + 8 {
            next += 1;
        }
        if self.kind(next) != Kind::Word(Role::Select) {
            return 0;
        }
        let listed = self.list(next + 1);
        let anchored = self.broken && index <= 2
            || index > 0
                && matches!(self.kind(index - 1), Kind::Number | Kind::CloseParen | Kind::Text)
            || self.commented;
        if anchored || listed >= LIKELY {
            return CERTAIN;
        }
        match (quantity, listed) {
            (true, _) | (_, WEAK..) => LIKELY,
            _ if self.ends(next + 1) => LIKELY,
            _ => WEAK,
        }
    }

    /// Whether a word at `index` stands where a statement can begin.
    pub(in crate::inspect::detect) fn opens_at(&self, index: usize) -> bool {
        index == 0 && !self.broken || index > 0 && self.kind(index - 1) == Kind::OpenParen
    }

    /// How much what follows `SELECT` looks like a list that a database accepts.
    fn list(&self, from: usize) -> u8 {
        let mut index = from;
        while matches!(self.kind(index), Kind::Word(Role::Quantity) | Kind::OpenParen)
            && index < from + 4
        {
            index += 1;
        }
        let first = self.operand(index);
        if self.text_starts(index, b"*") && first.next <= index + 2 {
            let from = self.kind(index + 1) == Kind::Word(Role::From);
            return if from && self.is_table(index + 2) { LIKELY } else { WEAK };
        }
        let lone_words = first.is_literal && !first.is_open;
        let comma = self.kind(first.next) == Kind::Comma;
        let known_call = first.is_call && (first.is_function || comma);
        if first.is_danger || known_call || self.kind(index) == Kind::Variable || first.is_subselect
        {
            return LIKELY;
        }
        if self.text_is(index, b"case") || lone_words && (comma || self.closes(first.next)) {
            return LIKELY;
        }
        let limit = index.saturating_add(64).min(self.tokens.len());
        for position in index..limit {
            match self.kind(position) {
                Kind::Word(Role::From) if self.is_table(position + 1) && position > index => {
                    return self.from_clause(position, position > index + 1);
                }
                Kind::Word(Role::Catalog | Role::Danger) => return LIKELY,
                Kind::Semicolon | Kind::LineComment => return 0,
                _ => {}
            }
        }
        if first.is_call { WEAK + 1 } else { 0 }
    }

    /// Strength of `… FROM name` by what follows the name.
    fn from_clause(&self, from: usize, several: bool) -> u8 {
        let mut after = from + 2;
        while self.kind(after) == Kind::Dot {
            after += 2;
        }
        let catalog = (from + 1..after).any(|index| self.kind(index) == Kind::Word(Role::Catalog));
        let clause = matches!(self.kind(after), Kind::Word(Role::Sort | Role::Tail | Role::Union))
            || self.is_condition(after) && self.compared(self.operand(after + 1).next).is_some();
        match () {
            () if catalog || clause => LIKELY,
            () if self.closes(after) && (several || self.is_comment(after)) => LIKELY,
            () if self.closes(after) => WEAK + 1,
            () => 0,
        }
    }

    fn closes(&self, index: usize) -> bool {
        self.ends(index)
            || self.is_comment(index)
            || matches!(
                self.kind(index),
                Kind::CloseParen | Kind::Word(Role::From | Role::Union | Role::Tail)
            )
    }

    fn is_table(&self, index: usize) -> bool {
        matches!(
            self.kind(index),
            Kind::Word(Role::Name | Role::Catalog | Role::Thing | Role::Function | Role::Danger)
                | Kind::Text
                | Kind::OpenParen
                | Kind::Variable
        ) && !matches!(
            self.bytes(index),
            b"the"
                | b"a"
                | b"an"
                | b"my"
                | b"our"
                | b"your"
                | b"this"
                | b"each"
                | b"one"
                | b"these"
        )
    }

    /// `; DROP TABLE x`: a statement after an end.
    pub(in crate::inspect::detect) fn stacked(&self, index: usize) -> u8 {
        let strength = self.statement(index + 1);
        if strength == 0 || self.broken || index <= 2 {
            return strength;
        }
        let last = self.tokens.len().saturating_sub(1);
        if last > index && (self.is_comment(last) || self.kind(last) == Kind::Semicolon) {
            return strength;
        }
        strength.saturating_sub(1)
    }

    /// A statement that is the whole field, where titles such as "drop table reservation" stand too.
    pub(in crate::inspect::detect) fn statement_alone(&self, index: usize) -> u8 {
        let strength = self.statement(index);
        let last = self.tokens.len().saturating_sub(1);
        let telling = self.commented
            || self.tokens.iter().any(|token| {
                matches!(
                    token.kind,
                    Kind::Text
                        | Kind::Open
                        | Kind::Variable
                        | Kind::Semicolon
                        | Kind::Word(Role::Danger)
                )
            })
            || self.is_comment(last)
            || self.kind(last) == Kind::Number && strength >= LIKELY;
        if telling { strength } else { strength.saturating_sub(1) }
    }

    /// How much a statement that begins at `index` looks like one.
    pub(in crate::inspect::detect) fn statement(&self, index: usize) -> u8 {
        let word = self.bytes(index);
        let second = self.kind(index + 1);
        let named = |index| self.is_table(index);
        let strong = match word {
            b"select" => return self.list(index + 1),
            b"waitfor" => {
                matches!(self.bytes(index + 1), b"delay" | b"time")
                    && matches!(self.kind(index + 2), Kind::Text | Kind::Open | Kind::Variable)
            }
            b"insert" | b"replace" | b"merge" => {
                self.text_is(index + 1, b"into")
                    && named(index + 2)
                    && (index + 3..index + 16).any(|next| {
                        self.text_is(next, b"values") || self.kind(next) == Kind::Word(Role::Select)
                    })
            }
            b"update" => {
                named(index + 1)
                    && (index + 2..index + 5).any(|set| {
                        self.text_is(set, b"set") && self.text_is(self.operand(set + 1).next, b"=")
                    })
            }
            b"delete" => {
                self.text_is(index + 1, b"from")
                    && named(index + 2)
                    && (self.closes(index + 3) || self.is_condition(index + 3))
            }
            b"drop" | b"truncate" => {
                let name = index + 2 + if self.text_is(index + 2, b"if") { 2 } else { 0 };
                second == Kind::Word(Role::Thing)
                    && named(name)
                    && (self.closes(name + 1)
                        || matches!(
                            self.kind(name + 1),
                            Kind::Comma | Kind::Dot | Kind::Word(Role::Link)
                        ))
            }
            b"alter" | b"create" => {
                second == Kind::Word(Role::Thing)
                    && (index + 2..index + 8).any(|next| {
                        matches!(
                            self.bytes(next),
                            b"(" | b"add"
                                | b"identified"
                                | b"with"
                                | b"set"
                                | b"as"
                                | b"modify"
                                | b"returns"
                        )
                    })
            }
            b"exec" | b"execute" | b"call" => {
                (index + 1..index + 7).any(|next| self.kind(next) == Kind::Word(Role::Danger))
                    || matches!(second, Kind::OpenParen | Kind::Variable) && !self.ends(index + 2)
                    || self.text_is(index + 1, b"immediate")
                    || self.text_is(index + 1, b"master")
            }
            b"declare" | b"set" => second == Kind::Variable,
            b"copy" => (index + 1..index + 20).any(|next| {
                self.text_is(next, b"program")
                    || self.text_is(next, b"to") && self.kind(next + 1) == Kind::Text
            }),
            b"load" => self.text_is(index + 1, b"data") || self.text_is(index + 1, b"extension"),
            b"attach" => self.text_is(index + 1, b"database") && self.kind(index + 2) == Kind::Text,
            b"shutdown" => {
                self.ends(index + 1)
                    || self.is_comment(index + 1)
                    || self.text_is(index + 1, b"with")
            }
            b"grant" | b"revoke" => {
                (index + 2..index + 8)
                    .any(|next| self.text_is(next, b"to") || self.text_is(next, b"on"))
                    && self.closes(index + 6)
            }
            b"desc" | b"describe" | b"show" | b"handler" | b"use" | b"vacuum" | b"commit"
            | b"rollback" => self.closes(index + 2) || self.is_comment(index + 1),
            _ => return 0,
        };
        match (strong, word) {
            (false, _) => 0,
            (true, b"waitfor" | b"declare") => CERTAIN,
            (
                true,
                b"desc" | b"describe" | b"show" | b"use" | b"commit" | b"rollback" | b"vacuum"
                | b"handler" | b"grant" | b"revoke",
            ) => {
                if self.broken || self.is_comment(self.tokens.len() - 1) {
                    LIKELY
                } else {
                    WEAK
                }
            }
            (true, _) => LIKELY,
        }
    }

    /// A dangerous function: certain as part of an expression, weak when prose names it.
    pub(in crate::inspect::detect) fn danger(&self, index: usize) -> u8 {
        let mut next = index + 1;
        while self.kind(next) == Kind::Dot && next < index + 6 {
            next += 2;
        }
        let word = self.bytes(index);
        let called = self.kind(next) == Kind::OpenParen;
        let telling = word.len() > 9 || word.starts_with(b"xp_") || word.starts_with(b"utl_");
        if !called {
            let executed = index > 0
                && (self.kind(index - 1) == Kind::Dot
                    || self.kind(index - 1) == Kind::Word(Role::Statement));
            return if executed { LIKELY } else { WEAK - 1 };
        }
        let arguments = self.operand(next + 1);
        let embedded = index == 0
            || matches!(
                self.kind(index - 1),
                Kind::Logic
                    | Kind::Comma
                    | Kind::OpenParen
                    | Kind::Arithmetic
                    | Kind::Compare
                    | Kind::Semicolon
                    | Kind::Other
                    | Kind::Word(Role::Condition | Role::Select | Role::Compare | Role::Link)
            );
        match (embedded, arguments.is_nothing, telling) {
            (true, false, _) => LIKELY,
            (_, _, true) => WEAK + 1,
            _ => WEAK - 1,
        }
    }

    /// `concat(0x…)`, `char(97,98)`, `if(x=y, sleep(1), 0)`, `case when 1=1 then`.
    pub(in crate::inspect::detect) fn built(&self, index: usize) -> u8 {
        let called = self.kind(index + 1) == Kind::OpenParen;
        match self.bytes(index) {
            b"case" => {
                let condition = self.operand(index + 2);
                let telling = self.text_is(index + 1, b"when")
                    && condition.is_literal
                    && self.compared(condition.next).is_some();
                if telling { LIKELY } else { 0 }
            }
            b"char" | b"chr" | b"nchar" | b"unhex" if called => {
                let several = self.kind(index + 2) == Kind::Number
                    && (self.kind(index + 3) == Kind::Comma
                        || matches!(self.kind(index + 4), Kind::Arithmetic | Kind::Logic)
                        || self.text_starts(index + 2, b"0x"));
                if several { LIKELY } else { 0 }
            }
            b"concat" | b"group_concat" | b"concat_ws" if called => {
                let hexadecimal = (index + 2..index + 6).any(|next| self.text_starts(next, b"0x"));
                if hexadecimal { LIKELY } else { 0 }
            }
            b"if" | b"iif" if called => {
                let condition = self.operand(index + 2);
                let constant = condition.is_literal && self.compared(condition.next).is_some();
                let danger = condition.is_danger || condition.is_subselect;
                let asked = danger
                    || constant && self.kind(self.operand(condition.next + 1).next) == Kind::Comma;
                if asked { LIKELY } else { 0 }
            }
            _ => 0,
        }
    }

    /// Whether a dangerous function is called at `index`.
    pub(in crate::inspect::detect) fn calls_danger(&self, index: usize) -> bool {
        self.operand(index).is_danger
    }
}
