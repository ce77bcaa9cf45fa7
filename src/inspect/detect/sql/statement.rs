//! Statements: what a second command after an end would do.

use crate::inspect::detect::finding::{CERTAIN, LIKELY, WEAK};
use crate::inspect::detect::sql::reading::Reading;
use crate::inspect::detect::sql::token::Kind;
use crate::inspect::detect::sql::words::Role;

impl Reading<'_> {
    /// `; DROP TABLE x`: a statement after an end.
    pub(in crate::inspect::detect) fn stacked(&self, index: usize) -> u8 {
        let strength = self.statement(index + 1);
        let value = usize::from(self.kind(0) == Kind::Arithmetic) + 1;
        if strength == 0 || self.broken || index <= value {
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
        let index = index + usize::from(self.text_is(index, b"begin"));
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
                        || matches!(self.kind(name + 1), Kind::Comma | Kind::Dot)
                        || self.text_is(name + 1, b"cascade"))
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
            _ => self.administers(index),
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

    /// Statements that run code, move files, or manage the server.
    fn administers(&self, index: usize) -> bool {
        let second = self.kind(index + 1);
        match self.bytes(index) {
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
            _ => false,
        }
    }
}
