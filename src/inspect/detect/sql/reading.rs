//! One reading of a field as SQL: its tokens, where it could break out, and operands.

use crate::inspect::detect::sql::token::{Kind, Token};
use crate::inspect::detect::sql::words::Role;

/// Tokens that one operand may take; what is longer is no injection that works by being read.
pub(in crate::inspect::detect) const OPERAND_TOKENS_MAX: usize = 24;
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

    pub(in crate::inspect::detect) fn bytes(&self, index: usize) -> &[u8] {
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
        // `#id` is a colour, a number of an issue, or a selector of CSS.
        let glued =
            comment.first() == Some(&b'#') && comment.get(1).is_some_and(u8::is_ascii_alphanumeric);
        comment.len() <= COMMENT_BYTES_MAX && letters <= 6 && !glued
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
                Kind::CloseParen => {}
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
            if self.text_is(index, b"::") {
                index += 2;
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

    pub(in crate::inspect::detect) fn past_parentheses(&self, open: usize, limit: usize) -> usize {
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
}
