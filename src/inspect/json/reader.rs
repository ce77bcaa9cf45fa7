//! The grammar of RFC 8259 as a loop over what is expected next.

use serde_json::Value;

use crate::inspect::json::pointer::{Frame, Pointer, Span};
use crate::inspect::json::rule::Limits;
use crate::inspect::json::text::{Literal, literal, unescape};
use crate::inspect::json::tree::{self, Builder};
use crate::inspect::json::{Fields, Part, Scratch, Stop, number};
use crate::refusal::{Reason, Refusal};

/// What may come next.
#[derive(Clone, Copy)]
enum Expect {
    Value,
    /// An element, or the end of an array that has none.
    FirstElement,
    /// A member, or the end of an object that has none.
    FirstMember,
    Member,
    /// A comma, or the end of what is open.
    CommaOrEnd,
    /// Nothing more.
    End,
}

/// Reads one JSON text from its beginning to its end.
pub(in crate::inspect::json) struct Reader<'t, F, B> {
    text: &'t str,
    at: usize,
    limits: &'t Limits,
    scratch: &'t mut Scratch,
    fields: &'t mut F,
    builder: &'t mut B,
    members: u32,
    elements: u32,
}

impl<'t, F: Fields, B: Builder> Reader<'t, F, B> {
    pub(in crate::inspect::json) fn new(
        text: &'t str,
        limits: &'t Limits,
        scratch: &'t mut Scratch,
        (fields, builder): (&'t mut F, &'t mut B),
    ) -> Self {
        Self { text, at: 0, limits, scratch, fields, builder, members: 0, elements: 0 }
    }

    /// The byte that was looked at last.
    pub(in crate::inspect::json) fn at(&self) -> usize {
        self.at
    }

    /// The place that was looked at last.
    pub(in crate::inspect::json) fn pointer(&self) -> Pointer<'_> {
        Pointer {
            text: self.text,
            decoded: self.scratch.names.decoded(),
            frames: &self.scratch.frames,
        }
    }

    /// Reads the whole text.
    pub(in crate::inspect::json) fn document(&mut self) -> Result<(), Stop> {
        let mut expect = Expect::Value;
        loop {
            let next = self.next_byte();
            expect = match (expect, next) {
                (Expect::FirstMember, Some(b'}')) | (Expect::FirstElement, Some(b']')) => {
                    self.close()
                }
                (Expect::FirstMember | Expect::Member, Some(b'"')) => self.member()?,
                (Expect::FirstElement, Some(byte)) => {
                    self.element()?;
                    self.value(byte)?
                }
                (Expect::Value, Some(byte)) => self.value(byte)?,
                (Expect::CommaOrEnd, Some(byte)) => self.comma_or_end(byte)?,
                (Expect::End, None) => return Ok(()),
                (Expect::End, Some(_)) => return Err(malformed("something behind the end")),
                (Expect::FirstMember | Expect::Member, Some(_)) => {
                    return Err(malformed("no name where one must stand"));
                }
                (_, None) => return Err(malformed("the text ends early")),
            };
        }
    }

    /// Skips white space and looks at the byte behind it.
    fn next_byte(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Reads a value up to where its own values begin.
    fn value(&mut self, first: u8) -> Result<Expect, Stop> {
        match first {
            b'"' => {
                let literal = self.literal()?;
                self.show_value(literal)?;
            }
            b'{' => {
                let number = self.scratch.names.object();
                self.open(Frame::Object(number, None))?;
                self.builder.open(tree::object());
                return Ok(Expect::FirstMember);
            }
            b'[' => {
                self.open(Frame::Array(0))?;
                self.builder.open(Value::Array(Vec::new()));
                return Ok(Expect::FirstElement);
            }
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.word("true", Value::Bool(true))?,
            b'f' => self.word("false", Value::Bool(false))?,
            b'n' => self.word("null", Value::Null)?,
            _ => return Err(malformed("no value where one must stand")),
        }
        Ok(self.after_value())
    }

    fn number(&mut self) -> Result<(), Stop> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = number::length(rest, self.limits.numbers)?;
        if B::BUILDS {
            self.builder.put(tree::number(rest.get(..length).unwrap_or_default())?);
        }
        self.at += length;
        Ok(())
    }

    fn word(&mut self, word: &str, means: Value) -> Result<(), Stop> {
        if self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()))
        {
            self.at += word.len();
            self.builder.put(means);
            return Ok(());
        }
        Err(malformed("a word that JSON does not have"))
    }

    fn open(&mut self, frame: Frame) -> Result<(), Stop> {
        if self.scratch.frames.len() >= self.limits.depth_max {
            return Err(Stop::Flaw(Reason::JsonDepth, "nested too deeply"));
        }
        self.at += 1;
        self.scratch.frames.push(frame);
        Ok(())
    }

    fn close(&mut self) -> Expect {
        self.at += 1;
        self.scratch.frames.pop();
        self.builder.close();
        self.after_value()
    }

    fn after_value(&self) -> Expect {
        if self.scratch.frames.is_empty() { Expect::End } else { Expect::CommaOrEnd }
    }

    fn comma_or_end(&mut self, byte: u8) -> Result<Expect, Stop> {
        match (self.scratch.frames.last(), byte) {
            (Some(Frame::Object(..)), b'}') | (Some(Frame::Array(_)), b']') => Ok(self.close()),
            (Some(Frame::Object(..)), b',') => {
                self.at += 1;
                Ok(Expect::Member)
            }
            (Some(Frame::Array(_)), b',') => {
                self.at += 1;
                self.element()?;
                Ok(Expect::Value)
            }
            _ => Err(malformed("no comma and no end where one must stand")),
        }
    }

    /// Counts an element that begins.
    fn element(&mut self) -> Result<(), Stop> {
        if let Some(Frame::Array(begun)) = self.scratch.frames.last_mut() {
            *begun = begun.saturating_add(1);
        }
        self.elements = self.elements.saturating_add(1);
        if self.elements > self.limits.elements_max {
            return Err(Stop::Flaw(Reason::JsonSize, "too many elements"));
        }
        Ok(())
    }

    /// Reads a member's name and the colon behind it.
    fn member(&mut self) -> Result<Expect, Stop> {
        let begins = self.at;
        let literal = self.literal()?;
        let name = self.name(literal);
        let Some(Frame::Object(number, reading)) = self.scratch.frames.last_mut() else {
            return Err(malformed("a name outside an object"));
        };
        *reading = Some(name);
        let number = *number;
        self.members = self.members.saturating_add(1);
        if self.members > self.limits.members_max {
            return Err(Stop::Flaw(Reason::JsonSize, "too many members"));
        }
        if !self.scratch.names.add(self.text, number, name) {
            self.at = begins;
            return Err(Stop::Flaw(Reason::JsonDuplicate, "a member that stood before"));
        }
        let Scratch { frames, names, .. } = &*self.scratch;
        let text = name.of(self.text, names.decoded());
        self.builder.name(text);
        if F::READS {
            let pointer = Pointer { text: self.text, decoded: names.decoded(), frames };
            self.fields.text(&pointer, Part::Name, text).map_err(refused)?;
        }
        match self.next_byte() {
            Some(b':') => {
                self.at += 1;
                Ok(Expect::Value)
            }
            _ => Err(malformed("no colon where one must stand")),
        }
    }

    /// Reads a string from its opening quote to behind its closing one.
    fn literal(&mut self) -> Result<Literal, Stop> {
        let read = literal(self.text.as_bytes(), self.at + 1).map_err(|(at, stop)| {
            self.at = at;
            stop
        })?;
        if read.end - read.start > self.limits.string_bytes_max {
            return Err(Stop::Flaw(Reason::JsonSize, "too long a text"));
        }
        self.at = read.end + 1;
        Ok(read)
    }

    fn name(&mut self, literal: Literal) -> Span {
        if literal.escaped {
            let written = self.text.get(literal.start..literal.end).unwrap_or_default();
            return self.scratch.names.keep(|decoded| unescape(written, decoded));
        }
        // The text is known to be shorter than 4 GiB.
        let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { start: position(literal.start), end: position(literal.end), decoded: false }
    }

    fn show_value(&mut self, literal: Literal) -> Result<(), Stop> {
        if !F::READS && !B::BUILDS {
            return Ok(());
        }
        let written = self.text.get(literal.start..literal.end).unwrap_or_default();
        let Scratch { frames, names, decoded } = &mut *self.scratch;
        let pointer = Pointer { text: self.text, decoded: names.decoded(), frames };
        let text = if literal.escaped {
            decoded.clear();
            unescape(written, decoded);
            decoded.as_str()
        } else {
            written
        };
        if B::BUILDS {
            self.builder.put(Value::String(text.to_owned()));
        }
        self.fields.text(&pointer, Part::Value, text).map_err(refused)
    }
}

fn malformed(says: &'static str) -> Stop {
    Stop::Flaw(Reason::JsonMalformed, says)
}

fn refused(refusal: Refusal) -> Stop {
    Stop::Refused(Box::new(refusal))
}
