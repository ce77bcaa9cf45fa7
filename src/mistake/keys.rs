//! Compares the keys of a table with those that its rule knows: finds all that are unknown or missing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

use crate::mistake::code::Code;
use crate::mistake::read::Node;
use crate::mistake::source::Source;
use crate::mistake::{Mistake, Mistakes, meant, suggest};

/// Reports keys that `schema` does not know, at any depth, and takes them out; reports those that
/// it demands and that are not there. Whether any is missing.
pub(in crate::mistake) fn check(
    what: &str,
    schema: &Json,
    node: &mut Node<'_>,
    source: &Arc<Source>,
    mistakes: &mut Mistakes,
) -> bool {
    let mut keys = Keys { what, root: schema, source, mistakes, path: Vec::new(), absent: false };
    keys.check(schema, node);
    keys.absent
}

struct Keys<'s> {
    what: &'s str,
    root: &'s Json,
    source: &'s Arc<Source>,
    mistakes: &'s mut Mistakes,
    /// The keys that lead to the table that is looked at.
    path: Vec<String>,
    absent: bool,
}

impl<'s> Keys<'s> {
    fn check(&mut self, schema: &'s Json, node: &mut Node<'_>) {
        let span = node.span();
        match node.get_mut() {
            DeValue::Table(table) => {
                if let Some(schema) = self.alternative(schema, "object") {
                    self.table(schema, table, span);
                }
            }
            DeValue::Array(array) => {
                if let Some(items) =
                    self.alternative(schema, "array").and_then(|schema| schema.get("items"))
                {
                    for item in array.iter_mut() {
                        self.check(items, item);
                    }
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    fn table(&mut self, schema: &'s Json, table: &mut DeTable<'_>, span: Range<usize>) {
        let known: BTreeMap<&str, &Json> = schema
            .get("properties")
            .and_then(Json::as_object)
            .map(|properties| {
                properties.iter().map(|(key, schema)| (key.as_str(), schema)).collect()
            })
            .unwrap_or_default();
        let others = schema.get("additionalProperties");
        let mut unknown = Vec::new();
        for (key, node) in table.iter_mut() {
            let schema = match (known.get(key.get_ref().as_ref()), others) {
                (Some(schema), _) => schema,
                (None, Some(Json::Bool(false))) => {
                    unknown.push(key.clone());
                    continue;
                }
                (None, Some(schema)) => schema,
                (None, None) => continue,
            };
            self.path.push(key.get_ref().to_string());
            self.check(schema, node);
            self.path.pop();
        }
        let mut misspelt = Vec::new();
        for key in unknown {
            let written: &str = key.get_ref();
            misspelt.extend(meant(written, known.keys().copied()));
            let here = self.here();
            self.mistakes.push(
                Mistake::new(Code::UnknownKey, format!("unknown key `{written}` in {here}"))
                    .at(self.source.place(key.span()))
                    .label(format!("not a key of {here}"))
                    .help(suggest(written, known.keys().copied())),
            );
            table.remove(&key);
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten();
        for key in required.filter_map(Json::as_str).filter(|key| !table.contains_key(*key)) {
            self.absent = true;
            // Whoever mends the misspelt key has written this one.
            if misspelt.contains(&key) {
                continue;
            }
            self.mistakes.push(
                Mistake::new(Code::MissingKey, format!("`{key}` is missing in {}", self.here()))
                    .at(self.source.place(span.clone()))
                    .help(format!("add `{key} = …`")),
            );
        }
    }

    /// What the table that is looked at is called: "a route", or "`body` of a route".
    fn here(&self) -> String {
        match self.path.as_slice() {
            [] => self.what.to_owned(),
            path => format!("`{}` of {}", path.join("."), self.what),
        }
    }

    /// The one form of `schema` that a value of this JSON type can have, through references and
    /// alternatives.
    fn alternative(&self, schema: &'s Json, json_type: &str) -> Option<&'s Json> {
        if let Some(path) = schema.get("$ref").and_then(Json::as_str) {
            let target = self.root.pointer(path.trim_start_matches('#'))?;
            return self.alternative(target, json_type);
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            if let Some(forms) = schema.get(key).and_then(Json::as_array) {
                let mut fitting = forms.iter().filter_map(|form| self.alternative(form, json_type));
                let first = fitting.next();
                return if fitting.next().is_some() { None } else { first };
            }
        }
        let fits = match schema.get("type") {
            Some(Json::String(name)) => name == json_type,
            Some(Json::Array(names)) => names.iter().any(|name| name == json_type),
            _ => false,
        };
        fits.then_some(schema)
    }
}
