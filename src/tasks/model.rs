//! Tasks and users: their fields, and what their fields may be.

use serde_json::{Map, Value, json};

/// Tags a task may have, and characters a tag may have.
const TAGS_MAX: usize = 10;
const TAG_CHARS_MAX: usize = 50;

/// Defines a set of words with an order, as the contract spells them.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the contract's own words")]
        pub enum $name { $($variant,)* }

        impl $name {
            /// The word as the contract spells it.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The value of this word.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// Where a task stands.
    Status { Todo "TODO" InProgress "IN_PROGRESS" Review "REVIEW" Done "DONE" Canceled "CANCELED" }
}
words! {
    /// How much a task presses.
    Priority { Low "LOW" Medium "MEDIUM" High "HIGH" Urgent "URGENT" }
}
words! {
    /// What a user may do; a later one may do more.
    Role { Member "member" Manager "manager" Admin "admin" }
}

impl Status {
    /// Whether a task may move from here to `next`.
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Todo, Self::InProgress | Self::Canceled)
                | (Self::InProgress, Self::Review | Self::Canceled)
                | (Self::Review, Self::Done | Self::InProgress | Self::Canceled)
                | (Self::Done, Self::Canceled)
        )
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the contract's own words; dates are Unix milliseconds, the offset hours"
)]
pub struct Task {
    pub id: String,
    pub title: String,
    pub description: Option<String>,
    pub status: Status,
    pub priority: Priority,
    pub created_by: String,
    pub assignee_id: Option<String>,
    pub due_date: Option<u64>,
    pub warning_offset: Option<f64>,
    pub tags: Vec<String>,
    pub created_at: u64,
    pub updated_at: u64,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract's own words; dates are Unix milliseconds")]
pub struct User {
    pub id: String,
    pub name: String,
    pub email: String,
    pub role: Role,
    pub created_at: u64,
    pub updated_at: u64,
}

impl Task {
    /// The task as the contract writes it.
    pub fn json(&self) -> Value {
        json!({
            "id": self.id, "title": self.title, "description": self.description,
            "status": self.status.text(), "priority": self.priority.text(),
            "createdBy": self.created_by, "assigneeId": self.assignee_id,
            "dueDate": self.due_date.map(date), "warningOffset": self.warning_offset, "tags": self.tags,
            "createdAt": date(self.created_at), "updatedAt": date(self.updated_at),
        })
    }
}

impl User {
    /// The user as the contract writes it.
    pub fn json(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "email": self.email, "role": self.role.text(),
            "createdAt": date(self.created_at), "updatedAt": date(self.updated_at),
        })
    }
}

/// RFC 3339 in UTC.
pub fn date(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(String::new, |timestamp| timestamp.to_string())
}

/// Unix milliseconds of an RFC 3339 date with its zone, or of a bare date at midnight UTC.
pub fn parse_date(text: &str) -> Option<u64> {
    let moment = text.parse::<jiff::Timestamp>().or_else(|_| format!("{text}T00:00:00Z").parse());
    moment.ok().and_then(|moment| u64::try_from(moment.as_millisecond()).ok())
}

/// The fields of a body, read one by one; what is wrong with each is collected.
pub struct Fields<'a> {
    body: &'a Map<String, Value>,
    /// What is wrong, by field.
    pub wrong: Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Reads from this body.
    pub fn new(body: &'a Map<String, Value>) -> Self {
        Self { body, wrong: Map::new() }
    }

    /// Says that a field is wrong.
    pub fn refuse(&mut self, field: &str, says: &str) {
        self.wrong.insert(field.to_owned(), says.into());
    }

    /// Whether the field is there, be it as `null`.
    pub fn has(&self, field: &str) -> bool {
        self.body.contains_key(field)
    }

    /// A text that is not blank. `null` counts as wrong.
    pub fn title(&mut self, field: &str, required: &str) -> Option<String> {
        match self.body.get(field)? {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            _ => {
                self.refuse(field, required);
                None
            }
        }
    }

    /// A text or `null`.
    pub fn text(&mut self, field: &str) -> Option<Option<String>> {
        match self.body.get(field)? {
            Value::Null => Some(None),
            Value::String(text) => Some(Some(text.clone())),
            _ => {
                self.refuse(field, "Must be text");
                None
            }
        }
    }

    /// One of a set of words.
    pub fn word<T>(&mut self, field: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
        let word = self.body.get(field)?.as_str().and_then(parse);
        if word.is_none() {
            self.refuse(field, "Is not one of the values that are known");
        }
        word
    }

    /// A date that lies ahead, or `null`.
    pub fn future(&mut self, field: &str, now_ms: u64) -> Option<Option<u64>> {
        match self.body.get(field)? {
            Value::Null => Some(None),
            value => match value.as_str().and_then(parse_date) {
                Some(date) if date > now_ms => Some(Some(date)),
                Some(_) => {
                    self.refuse(field, "Must be in the future");
                    None
                }
                None => {
                    self.refuse(field, "Must be an RFC 3339 date");
                    None
                }
            },
        }
    }

    /// A number of hours, or `null`.
    pub fn hours(&mut self, field: &str) -> Option<Option<f64>> {
        match self.body.get(field)? {
            Value::Null => Some(None),
            value => match value.as_f64().filter(|hours| *hours >= 0.0) {
                Some(hours) => Some(Some(hours)),
                None => {
                    self.refuse(field, "Must be a number of hours");
                    None
                }
            },
        }
    }

    /// At most 10 texts of at most 50 characters.
    pub fn tags(&mut self, field: &str) -> Option<Vec<String>> {
        let tags: Option<Vec<String>> = match self.body.get(field)? {
            Value::Array(tags) if tags.len() <= TAGS_MAX => {
                tags.iter().map(|tag| tag.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        let tags = tags.filter(|tags| tags.iter().all(|tag| tag.chars().count() <= TAG_CHARS_MAX));
        if tags.is_none() {
            self.refuse(field, "At most 10 tags of at most 50 characters");
        }
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_moves_only_as_the_contract_has_it() {
        use Status::{Canceled, Done, InProgress, Review, Todo};
        let moves = [
            (Todo, vec![InProgress, Canceled]),
            (InProgress, vec![Review, Canceled]),
            (Review, vec![Done, InProgress, Canceled]),
            (Done, vec![Canceled]),
            (Canceled, vec![]),
        ];
        for (from, allowed) in moves {
            for to in [Todo, InProgress, Review, Done, Canceled] {
                assert_eq!(from.may_become(to), allowed.contains(&to), "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn dates_are_rfc_3339() {
        assert_eq!(date(1_764_000_000_000), "2025-11-24T16:00:00Z");
        assert_eq!(parse_date("2025-11-24T16:00:00Z"), Some(1_764_000_000_000));
        assert_eq!(parse_date("2025-11-24T17:00:00+01:00"), Some(1_764_000_000_000));
        assert_eq!(parse_date("tomorrow"), None);
    }
}
