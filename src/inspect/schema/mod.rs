//! The form that a route's JSON bodies must have (JSON Schema), and complaints that name fields and never values.

mod close;
mod complaint;
#[cfg(test)]
mod tests;

use std::io;

use jsonschema::{PatternOptions, Validator};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::inspect::schema::complaint::complaints;
use crate::mistake::Reading;
use crate::mistake::code::Code;
use crate::mistake::source::At;
use crate::refusal::extra::Extra;
use crate::refusal::{Reason, Refusal};

/// How schema files are read: by their path below the policy directory.
pub type Files<'a> = dyn Fn(&str) -> io::Result<String> + 'a;

/// What happens to members that a schema does not describe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExtraFields {
    /// They are refused in every object of the schema that does not say otherwise itself.
    Refuse,
    /// The schema alone decides, which by itself accepts them.
    #[default]
    Allow,
}

/// The form that JSON bodies must have.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
}

/// How large a schema file may be.
const FILE_BYTES_MAX: usize = 1 << 20;

/// How large a compiled expression of a schema may be.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// How many fields a refusal names.
const FIELDS_MAX: usize = 10;

impl Schema {
    /// The schema in a file of the policy directory. It may refer to nothing outside itself.
    pub fn compile(
        file: &At<String>,
        extra: ExtraFields,
        files: &Files<'_>,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let mut wrong =
            |code, says: String, help: &str| reading.wrong(code, &file.span, says, help);
        let path = &file.value;
        if path.starts_with('/') || path.contains('\\') || path.split('/').any(|part| part == "..")
        {
            wrong(
                Code::BadSchema,
                format!("`{path}` does not lie in the policy directory"),
                "write a path below it, for example \"bodies/task-create.json\"",
            );
            return None;
        }
        let text = match files(path) {
            Ok(text) => text,
            Err(error) => {
                let help = "the path counts from the policy directory";
                wrong(Code::Unreadable, format!("`{path}` cannot be read: {error}"), help);
                return None;
            }
        };
        match compiled(&text, extra) {
            Ok(validator) => Some(Self { validator }),
            Err(why) => {
                wrong(
                    Code::BadSchema,
                    format!("`{path}` is not a schema that can be used: {why}"),
                    "drafts 2020-12, 2019-09 and 07 are known, without remote references",
                );
                None
            }
        }
    }

    /// Looks at the value of a body that has passed the strict check of its JSON.
    ///
    /// # Errors
    /// `field-unknown` or `schema-mismatch`, with the fields that are wrong, at most ten.
    pub fn check(&self, value: &Json) -> Result<(), Refusal> {
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let mut fields: Vec<(Box<str>, Box<str>)> = Vec::new();
        let mut unknown = false;
        for error in self.validator.iter_errors(value).take(FIELDS_MAX) {
            for complaint in complaints(&error) {
                unknown |= complaint.unknown;
                let named = fields.iter().any(|(field, _)| *field == complaint.field);
                if fields.len() < FIELDS_MAX && !named {
                    fields.push((complaint.field, complaint.says));
                }
            }
        }
        let reason = if unknown { Reason::FieldUnknown } else { Reason::SchemaMismatch };
        let names: Vec<&str> = fields.iter().map(|(field, _)| &**field).collect();
        let private = format!("fields: {}", names.join(", "));
        Err(Refusal::new(reason).because(private).with(Extra::Fields(fields.into())))
    }
}

/// Compiles a schema's text, or says why not.
fn compiled(text: &str, extra: ExtraFields) -> Result<Validator, String> {
    if text.len() > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    let mut schema: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !schema.is_object() {
        return Err("it is not an object".to_owned());
    }
    let draft = schema.get("$schema").and_then(Json::as_str).unwrap_or(DRAFT_USUAL).to_owned();
    let draft = draft.trim_end_matches('#').replace("http://", "https://");
    let Some((_, unevaluated)) = DRAFTS.iter().find(|(known, _)| *known == draft) else {
        return Err("its `$schema` is not known".to_owned());
    };
    if let Some(reference) = remote_reference(&schema) {
        return Err(format!("it refers to `{reference}`, outside itself"));
    }
    if extra == ExtraFields::Refuse {
        close::close(&mut schema, *unevaluated)?;
    }
    jsonschema::options()
        .with_pattern_options(
            PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX),
        )
        .should_validate_formats(true)
        .build(&schema)
        .map_err(|error| format!("{error}, at `{}`", error.instance_path()))
}

/// The draft that is meant when a schema names none.
const DRAFT_USUAL: &str = "https://json-schema.org/draft/2020-12/schema";

/// The drafts that are known, and whether they have `unevaluatedProperties`.
const DRAFTS: [(&str, bool); 3] = [
    (DRAFT_USUAL, true),
    ("https://json-schema.org/draft/2019-09/schema", true),
    ("https://json-schema.org/draft-07/schema", false),
];

/// A reference to something outside the schema itself.
fn remote_reference(schema: &Json) -> Option<&str> {
    match schema {
        Json::Object(members) => members.iter().find_map(|(name, value)| match value {
            Json::String(target)
                if matches!(name.as_str(), "$ref" | "$dynamicRef" | "$recursiveRef")
                    && !target.starts_with('#') =>
            {
                Some(target.as_str())
            }
            value => remote_reference(value),
        }),
        Json::Array(elements) => elements.iter().find_map(remote_reference),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
    }
}
