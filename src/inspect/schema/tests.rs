//! Schemas: what they complain of, what they are closed against, and which are mistakes.

use super::*;
use crate::inspect::json::{self, rule::Limits};
use crate::mistake::Mistakes;
use crate::mistake::source::Source;

fn compile(text: &str, extra: ExtraFields) -> Result<Schema, String> {
    let source = Source::new("p.toml", "schema = \"bodies/x.json\"\n");
    let mut mistakes = Mistakes::default();
    let mut reading = Reading { source: &source, mistakes: &mut mistakes };
    let file = At { value: "bodies/x.json".to_owned(), span: 9..24 };
    let files = |_: &str| Ok(text.to_owned());
    Schema::compile(&file, extra, &files, &mut reading)
        .ok_or_else(|| mistakes.iter().map(|m| m.says.clone()).collect::<Vec<_>>().join("; "))
}

fn refusal(schema: &Schema, body: &str) -> Option<Refusal> {
    json::read(body.as_bytes(), &Limits::default(), &mut ())
        .and_then(|value| schema.check(&value))
        .err()
}

fn fields(schema: &Schema, body: &str) -> Vec<(String, String)> {
    match refusal(schema, body).map(|refusal| refusal.extra) {
        Some(Extra::Fields(fields)) => {
            fields.iter().map(|(field, says)| (field.to_string(), says.to_string())).collect()
        }
        other => panic!("{other:?}"),
    }
}

const TASK: &str = r##"{
    "type": "object",
    "required": ["title"],
    "properties": {
        "title": { "type": "string", "minLength": 1, "maxLength": 20 },
        "status": { "enum": ["TODO", "DONE"] },
        "tags": { "type": "array", "items": { "type": "string" }, "maxItems": 3 },
        "dueDate": { "type": "string", "format": "date" },
        "points": { "type": "integer", "minimum": 1, "maximum": 100 },
        "owner": { "$ref": "#/$defs/person" }
    },
    "$defs": { "person": { "type": "object", "properties": { "name": { "type": "string" } } } }
}"##;

#[test]
fn complaints_name_each_field_as_the_contract_does() {
    let schema = compile(TASK, ExtraFields::Allow).unwrap();
    assert_eq!(refusal(&schema, r#"{"title": "x", "other": 1}"#), None);
    assert_eq!(fields(&schema, "{}"), [("title".to_owned(), "Title is required".to_owned())]);
    let mut told = fields(
        &schema,
        r#"{"title": "", "status": "NO", "tags": ["a", 5], "dueDate": "x", "points": 0, "owner": {"name": 1}}"#,
    );
    told.sort();
    let told: Vec<_> = told.iter().map(|(field, says)| (field.as_str(), says.as_str())).collect();
    assert_eq!(
        told,
        [
            ("dueDate", "DueDate must be a valid date"),
            ("owner.name", "This must be a text"),
            ("points", "Points must be at least 1"),
            ("status", "Status must be one of TODO, DONE"),
            ("tags[1]", "This must be a text"),
            ("title", "Title must not be empty"),
        ]
    );
    assert_eq!(fields(&schema, "[]"), [("body".to_owned(), "Body must be an object".to_owned())]);
}

#[test]
fn unknown_members_are_refused_at_every_depth() {
    let schema = compile(TASK, ExtraFields::Refuse).unwrap();
    assert_eq!(refusal(&schema, r#"{"title": "x", "owner": {"name": "y"}}"#), None);
    let refused = refusal(&schema, r#"{"title": "x", "is_admin": true}"#).unwrap();
    assert_eq!(refused.reason, Reason::FieldUnknown);
    assert_eq!(
        refused.extra,
        Extra::Fields([("is_admin".into(), "Is_admin is not accepted".into())].into())
    );
    let deep = fields(&schema, r#"{"title": "x", "owner": {"name": "y", "role": "admin"}}"#);
    assert_eq!(deep[0].0, "owner.role");
}

#[test]
fn an_object_put_together_from_parts_is_closed_once() {
    let text = r##"{
        "allOf": [{ "$ref": "#/$defs/base" }, { "properties": { "b": {} } }],
        "$defs": {
            "base": { "properties": { "a": { "properties": { "deep": {} } } }, "$ref": "#/$defs/more" },
            "more": { "properties": { "c": {} } }
        }
    }"##;
    let schema = compile(text, ExtraFields::Refuse).unwrap();
    assert_eq!(refusal(&schema, r#"{"a": {"deep": 1}, "b": 1, "c": 1}"#), None);
    for body in [r#"{"a": {}, "d": 1}"#, r#"{"a": {"other": 1}}"#] {
        assert_eq!(refusal(&schema, body).unwrap().reason, Reason::FieldUnknown, "{body}");
    }
    let old = text.replacen('{', "{\"$schema\": \"http://json-schema.org/draft-07/schema#\",", 1);
    assert!(compile(&old, ExtraFields::Refuse).unwrap_err().contains("draft 07"));
    assert!(compile(&old, ExtraFields::Allow).is_ok());
}

#[test]
fn what_a_schema_says_itself_stands() {
    let text = r#"{ "properties": {
        "open": { "properties": { "a": {} }, "additionalProperties": true },
        "typed": { "properties": { "a": {} }, "additionalProperties": { "properties": { "z": {} } } } } }"#;
    let schema = compile(text, ExtraFields::Refuse).unwrap();
    assert_eq!(refusal(&schema, r#"{"open": {"b": 1}, "typed": {"b": {"z": 1}}}"#), None);
    assert!(refusal(&schema, r#"{"typed": {"b": {"y": 1}}}"#).is_some());
}

#[test]
fn no_complaint_echoes_a_value() {
    let schema = compile(TASK, ExtraFields::Refuse).unwrap();
    let secret = "hunter2-hunter2-hunter2-hunter2";
    for body in [
        r#"{"title": "SECRET"}"#,
        r#"{"title": "x", "status": "SECRET"}"#,
        r#"{"title": "x", "dueDate": "SECRET"}"#,
        r#"{"title": "x", "tags": "SECRET"}"#,
        r#"{"title": "x", "tags": ["SECRET", "SECRET", "b", "c"]}"#,
        r#"{"title": "x", "points": "SECRET"}"#,
        r#"{"title": "x", "owner": "SECRET"}"#,
        r#"{"title": "x", "owner": {"name": ["SECRET"]}}"#,
        r#"{"title": "x", "other": "SECRET"}"#,
        r#""SECRET""#,
    ] {
        let refused = refusal(&schema, &body.replace("SECRET", secret)).unwrap();
        assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
    }
}

#[test]
fn at_most_ten_fields_are_named_and_long_names_are_cut() {
    let schema = compile(TASK, ExtraFields::Refuse).unwrap();
    let members: Vec<String> = (0..50).map(|n| format!("\"{}{n}\": 1", "x".repeat(500))).collect();
    let told = fields(&schema, &format!("{{{}}}", members.join(",")));
    assert!(told.len() <= 10);
    assert!(told.iter().all(|(field, _)| field.len() < 140), "{told:?}");
}

#[test]
fn schemas_that_reach_outside_or_do_not_compile_are_mistakes() {
    for text in [
        "",
        "[]",
        "true",
        r#"{"type": "strin"}"#,
        r#"{"$ref": "https://example.com/a.json"}"#,
        r#"{"properties": {"a": {"$ref": "other.json"}}}"#,
        r#"{"properties": {"a": {"$ref": "file:///etc/passwd"}}}"#,
        r##"{"$ref": "#/$defs/missing"}"##,
        r#"{"$schema": "https://example.com/schema"}"#,
        r#"{"pattern": "(?=a)"}"#,
        r#"{"pattern": "("}"#,
    ] {
        assert!(compile(text, ExtraFields::Allow).is_err(), "{text}");
    }
    let source = Source::new("p.toml", "schema = \"x\"\n");
    for path in ["/etc/passwd", "../x.json", "a/../../x.json", "a\\b"] {
        let mut mistakes = Mistakes::default();
        let mut reading = Reading { source: &source, mistakes: &mut mistakes };
        let file = At { value: path.to_owned(), span: 9..12 };
        let files = |_: &str| -> io::Result<String> { panic!("nothing outside is read") };
        assert!(Schema::compile(&file, ExtraFields::Allow, &files, &mut reading).is_none());
        assert!(mistakes.any_error());
    }
}
