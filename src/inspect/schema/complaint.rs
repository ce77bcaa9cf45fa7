//! Says what is wrong with a field, from the kind of fault alone and never from the caller's value.

use std::fmt::{self, Display};

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::paths::LocationSegment;
use jsonschema::{JsonType, ValidationError};
use serde_json::Value as Json;

use crate::inspect::json::pointer::{Member, clip, is_plain};

/// What is wrong with one field.
pub(in crate::inspect::schema) struct Complaint {
    /// The field: `title`, `tags[3]`, `address.street`.
    pub(in crate::inspect::schema) field: Box<str>,
    /// A sentence without a full stop.
    pub(in crate::inspect::schema) says: Box<str>,
    /// Whether the schema does not know the field at all.
    pub(in crate::inspect::schema) unknown: bool,
}

/// How long the name of a field may get.
const FIELD_BYTES_MAX: usize = 120;

/// How long a list of accepted values may get before it is left out.
const VALUES_BYTES_MAX: usize = 200;

/// What one fault says, field by field.
pub(in crate::inspect::schema) fn complaints(error: &ValidationError<'_>) -> Vec<Complaint> {
    let at = error.instance_path().segments();
    match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str();
            vec![complaint(&Field { at, name }, "is required", false)]
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            unexpected
                .iter()
                .map(|name| {
                    let field = Field { at: at.clone(), name: Some(name) };
                    complaint(&field, "is not accepted", true)
                })
                .collect()
        }
        kind => vec![complaint(&Field { at, name: None }, &says(kind), false)],
    }
}

/// The end of a sentence about a fault. All that it tells stands in the schema.
fn says(kind: &Kind) -> String {
    match kind {
        Kind::Type { kind: TypeKind::Single(one) } => format!("must be {}", called(*one)),
        Kind::Type { kind: TypeKind::Multiple(several) } => {
            let names: Vec<_> = several.into_iter().map(called).collect();
            format!("must be {}", names.join(" or "))
        }
        Kind::Enum { options } => one_of(options),
        Kind::MinLength { limit: 1 } => "must not be empty".to_owned(),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} elements"),
        Kind::MaxItems { limit } => format!("must have at most {limit} elements"),
        Kind::AdditionalItems { limit } => format!("must have at most {limit} elements"),
        Kind::MinProperties { limit } => format!("must have at least {limit} members"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} members"),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::Format { format } => format!("must be a valid {format}"),
        Kind::UniqueItems => "must not have an element twice".to_owned(),
        Kind::Contains => "lacks an element that must be there".to_owned(),
        Kind::PropertyNames { .. } => "has a member whose name is not accepted".to_owned(),
        Kind::UnevaluatedItems { .. } => "has elements that are not accepted".to_owned(),
        Kind::FalseSchema => "is not accepted".to_owned(),
        Kind::Constant { .. }
        | Kind::Pattern { .. }
        | Kind::AnyOf { .. }
        | Kind::OneOfMultipleValid { .. }
        | Kind::OneOfNotValid { .. }
        | Kind::Not { .. }
        | Kind::ContentEncoding { .. }
        | Kind::ContentMediaType { .. }
        | Kind::FromUtf8 { .. }
        | Kind::Custom { .. }
        | Kind::BacktrackLimitExceeded { .. }
        | Kind::RegexEngineFailure { .. }
        | Kind::Referencing(_) => "does not have the form that is expected".to_owned(),
        Kind::Required { .. }
        | Kind::AdditionalProperties { .. }
        | Kind::UnevaluatedProperties { .. } => "is not accepted".to_owned(),
    }
}

fn one_of(options: &Json) -> String {
    let words = options.as_array().map(|options| {
        let word =
            |option: &Json| option.as_str().map_or_else(|| option.to_string(), str::to_owned);
        options.iter().map(word).collect::<Vec<_>>().join(", ")
    });
    match words {
        Some(words) if words.len() <= VALUES_BYTES_MAX => format!("must be one of {words}"),
        _ => "must be one of the accepted values".to_owned(),
    }
}

fn called(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Null => "null",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Number => "a number",
        JsonType::String => "a text",
        JsonType::Array => "an array",
        JsonType::Object => "an object",
    }
}

/// The place of a fault, and the member of it that is meant.
struct Field<'a, I> {
    at: I,
    name: Option<&'a str>,
}

impl<'s, I: Iterator<Item = LocationSegment<'s>> + Clone> Display for Field<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in self.at.clone() {
            match segment {
                LocationSegment::Property(name) => Member(&name).fmt(f)?,
                LocationSegment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        self.name.map_or(Ok(()), |name| Member(name).fmt(f))
    }
}

fn complaint(place: &dyn Display, says: &str, unknown: bool) -> Complaint {
    let place = clip(place, FIELD_BYTES_MAX);
    let field = match place.strip_prefix('.') {
        Some(field) => field.to_owned(),
        None => format!("body{place}"),
    };
    // "Title is required": the subject is the field's own name, where that is a plain word.
    let subject = if is_plain(&field) { capitalised(&field) } else { "This".to_owned() };
    Complaint { field: field.into(), says: format!("{subject} {says}").into(), unknown }
}

fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
