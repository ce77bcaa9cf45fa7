//! The value that a JSON text means, put together while it is read, for whoever compares it with a
//! schema: the text is not read a second time for it.

use serde_json::{Map, Number, Value};

use crate::inspect::json::Stop;
use crate::refusal::Reason;

/// What is told of a text's structure while it is read.
pub(in crate::inspect::json) trait Builder {
    /// Whether anything is wanted of it. If not, no text is decoded for it.
    const BUILDS: bool;

    /// An object or an array begins; `value` is the empty one.
    fn open(&mut self, value: Value);
    /// The one that was opened last ends.
    fn close(&mut self);
    /// A member begins.
    fn name(&mut self, name: &str);
    /// A value that holds no others.
    fn put(&mut self, value: Value);
}

/// Builds nothing.
impl Builder for () {
    const BUILDS: bool = false;

    fn open(&mut self, _: Value) {}
    fn close(&mut self) {}
    fn name(&mut self, _: &str) {}
    fn put(&mut self, _: Value) {}
}

/// A value that is being put together. How deep it becomes is the reader's to bound.
#[derive(Default)]
pub(in crate::inspect::json) struct Tree {
    /// What is open, each with the name of the member that is being read.
    open: Vec<(Value, String)>,
    pub(in crate::inspect::json) whole: Value,
}

impl Builder for Tree {
    const BUILDS: bool = true;

    fn open(&mut self, value: Value) {
        self.open.push((value, String::new()));
    }

    fn close(&mut self) {
        if let Some((value, _)) = self.open.pop() {
            self.put(value);
        }
    }

    fn name(&mut self, name: &str) {
        if let Some((_, reading)) = self.open.last_mut() {
            *reading = name.to_owned();
        }
    }

    fn put(&mut self, value: Value) {
        match self.open.last_mut() {
            Some((Value::Array(elements), _)) => elements.push(value),
            Some((Value::Object(members), name)) => {
                members.insert(std::mem::take(name), value);
            }
            Some(_) | None => self.whole = value,
        }
    }
}

/// An object without members.
pub(in crate::inspect::json) fn object() -> Value {
    Value::Object(Map::new())
}

/// The number that is written so, whose grammar has been checked.
pub(in crate::inspect::json) fn number(written: &str) -> Result<Value, Stop> {
    let number: Result<Number, _> = serde_json::from_str(written);
    number.map(Value::Number).map_err(|_| {
        Stop::Flaw(Reason::JsonMalformed, "a number beyond what can be compared with a schema")
    })
}
