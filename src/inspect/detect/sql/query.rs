//! Conditions that always hold, unions, and the lists that a `select` takes.

use crate::inspect::detect::finding::{CERTAIN, LIKELY, WEAK};
use crate::inspect::detect::sql::reading::{OPERAND_TOKENS_MAX, Reading};
use crate::inspect::detect::sql::token::Kind;
use crate::inspect::detect::sql::words::Role;

impl Reading<'_> {
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
    pub(in crate::inspect::detect) fn list(&self, from: usize) -> u8 {
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
                    return self.after_from(position, position > index + 1);
                }
                Kind::Word(Role::Catalog | Role::Danger) => return LIKELY,
                Kind::Semicolon | Kind::LineComment => return 0,
                _ => {}
            }
        }
        if first.is_call { WEAK + 1 } else { 0 }
    }

    /// Strength of `… FROM name` by what follows the name.
    fn after_from(&self, from: usize, several: bool) -> u8 {
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

    pub(in crate::inspect::detect) fn closes(&self, index: usize) -> bool {
        self.ends(index)
            || self.is_comment(index)
            || matches!(
                self.kind(index),
                Kind::CloseParen | Kind::Word(Role::From | Role::Union | Role::Tail)
            )
    }

    pub(in crate::inspect::detect) fn is_table(&self, index: usize) -> bool {
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
        let after = self
            .past_parentheses(next, next.saturating_add(OPERAND_TOKENS_MAX).min(self.tokens.len()));
        let alone = index == 0
            && (self.closes(after)
                || self.is_condition(after)
                || matches!(self.kind(after), Kind::Arithmetic | Kind::Compare | Kind::Comma));
        let embedded = alone
            || index > 0
                && matches!(
                    self.kind(index - 1),
                    Kind::Logic
                        | Kind::Comma
                        | Kind::OpenParen
                        | Kind::Arithmetic
                        | Kind::Compare
                        | Kind::Semicolon
                        | Kind::Other
                        | Kind::Word(
                            Role::Condition | Role::Select | Role::Compare | Role::Link | Role::By
                        )
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
