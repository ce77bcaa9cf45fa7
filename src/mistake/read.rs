//! From TOML text to rules, reporting every mistake and not only the first.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::mistake::code::Code;
use crate::mistake::source::Source;
use crate::mistake::{Mistake, Mistakes, suggest};

/// A TOML value with its place, as the parser gives it.
pub type Node<'a> = Spanned<DeValue<'a>>;

/// One named table of a file: `[routes.tasks-list]` is `tasks-list` in the section `routes`.
pub struct Entry<'a> {
    /// The name, and the bytes where it stands.
    pub name: String,
    /// Where the name stands.
    pub span: Range<usize>,
    /// What is written under it.
    pub node: Node<'a>,
}

/// The top level of a file: its keys, in their order, each with its value.
pub fn top<'a>(source: &'a Arc<Source>, mistakes: &mut Mistakes) -> Vec<Entry<'a>> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        mistakes.push(syntax(source, &error));
    }
    entries(table.into_inner())
}

/// The members of a section, for example the routes of `[routes]`.
pub fn members<'a>(
    section: Entry<'a>,
    source: &Arc<Source>,
    mistakes: &mut Mistakes,
) -> Vec<Entry<'a>> {
    match section.node.into_inner() {
        DeValue::Table(table) => entries(table),
        _ => {
            mistakes.push(
                Mistake::new(Code::WrongValue, format!("`{}` must be a table", section.name))
                    .at(source.place(section.span))
                    .help(format!("write [{}.NAME] for each of them", section.name)),
            );
            Vec::new()
        }
    }
}

/// The elements of an array of tables such as `[[test]]`.
pub fn elements<'a>(
    section: Entry<'a>,
    source: &Arc<Source>,
    mistakes: &mut Mistakes,
) -> Vec<Node<'a>> {
    match section.node.into_inner() {
        DeValue::Array(array) => array.into_iter().collect(),
        _ => {
            mistakes.push(
                Mistake::new(
                    Code::WrongValue,
                    format!("`{}` must be an array of tables", section.name),
                )
                .at(source.place(section.span))
                .help(format!("write [[{}]] for each of them", section.name)),
            );
            Vec::new()
        }
    }
}

/// Reads one rule from its own value.
///
/// Unknown keys are found by the rule's JSON Schema, at any depth, so that all of them are
/// reported. Values of the wrong kind are reported one after the other: the offending key is set
/// aside and the rest is read again.
pub fn rule<T: DeserializeOwned + JsonSchema>(
    what: &str,
    node: Node<'_>,
    source: &Arc<Source>,
    mistakes: &mut Mistakes,
) -> Option<T> {
    let schema = schema_of::<T>();
    let mut node = node;
    Keys { what, root: &schema, source, mistakes }.check(&schema, &mut node);
    let whole = node.span();
    let mut set_aside = false;
    loop {
        let error = match T::deserialize(toml::de::ValueDeserializer::from(node.clone())) {
            Ok(rule) if !set_aside => return Some(rule),
            Ok(_) => return None,
            Err(error) => error,
        };
        let missing = error.message().starts_with("missing field");
        if !(missing && set_aside) {
            mistakes.push(wrong(what, source, &error, &whole));
        }
        let removed = !missing && remove_at(&mut node, error.span());
        if !removed {
            return None;
        }
        set_aside = true;
    }
}

/// The JSON Schema of a rule, as a value.
pub fn schema_of<T: JsonSchema>() -> Json {
    schemars::schema_for!(T).to_value()
}

fn entries(table: DeTable<'_>) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = table
        .into_iter()
        .map(|(key, node)| Entry { span: key.span(), name: key.into_inner().into_owned(), node })
        .collect();
    entries.sort_by_key(|entry| entry.span.start);
    entries
}

fn syntax(source: &Arc<Source>, error: &toml::de::Error) -> Mistake {
    let mistake = Mistake::new(Code::Syntax, one_line(error.message()));
    match error.span() {
        Some(span) => mistake.at(source.place(span)),
        None => mistake.at(source.place(0..0)),
    }
}

fn wrong(
    what: &str,
    source: &Arc<Source>,
    error: &toml::de::Error,
    whole: &Range<usize>,
) -> Mistake {
    let message = one_line(error.message());
    let span = error.span().unwrap_or_else(|| whole.clone());
    if let Some(field) = message.strip_prefix("missing field ") {
        return Mistake::new(Code::MissingKey, format!("{field} is missing in {what}"))
            .at(source.place(span))
            .help(format!("add a line `{} = …`", field.trim_matches('`')));
    }
    Mistake::new(Code::WrongValue, message).at(source.place(span))
}

fn one_line(message: &str) -> String {
    message.trim().replace('\n', ", ")
}

/// Takes the key whose value holds `span` out of the table, as deep as tables go.
fn remove_at(node: &mut Node<'_>, span: Option<Range<usize>>) -> bool {
    let Some(span) = span else { return false };
    let DeValue::Table(table) = node.get_mut() else { return false };
    let holds = |range: Range<usize>| range.start <= span.start && span.end <= range.end;
    let Some(key) = table
        .iter()
        .find(|(key, value)| holds(value.span()) || key.span() == span)
        .map(|(key, _)| key.clone())
    else {
        return false;
    };
    table.remove(&key).is_some()
}

/// Finds keys that the schema does not know, reports them and takes them out.
struct Keys<'s> {
    what: &'s str,
    root: &'s Json,
    source: &'s Arc<Source>,
    mistakes: &'s mut Mistakes,
}

impl<'s> Keys<'s> {
    fn check(&mut self, schema: &'s Json, node: &mut Node<'_>) {
        match node.get_mut() {
            DeValue::Table(table) => {
                if let Some(schema) = self.alternative(schema, "object") {
                    self.table(schema, table);
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

    fn table(&mut self, schema: &'s Json, table: &mut DeTable<'_>) {
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
            match (known.get(key.get_ref().as_ref()), others) {
                (Some(schema), _) => self.check(schema, node),
                (None, Some(Json::Bool(false))) => unknown.push(key.clone()),
                (None, Some(schema)) => self.check(schema, node),
                (None, None) => {}
            }
        }
        for key in unknown {
            let written: &str = key.get_ref();
            self.mistakes.push(
                Mistake::new(Code::UnknownKey, format!("unknown key `{written}` in {}", self.what))
                    .at(self.source.place(key.span()))
                    .label(format!("not a key of {}", self.what))
                    .help(suggest(written, known.keys().copied())),
            );
            table.remove(&key);
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

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::mistake::source::At;
    use crate::units::Size;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(default)]
        max: Option<Size>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        name: At<String>,
        #[serde(default)]
        count: Option<u32>,
        #[serde(default)]
        body: Option<Inner>,
        #[serde(default)]
        list: Vec<Inner>,
    }

    fn read(text: &str) -> (Option<Rule>, Vec<String>) {
        let source = Source::new("p.toml", text);
        let mut mistakes = Mistakes::default();
        let mut made = None;
        for entry in top(&source, &mut mistakes) {
            made = rule("a rule", entry.node, &source, &mut mistakes);
        }
        let shown = mistakes.iter().map(|mistake| {
            let place = mistake.place.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{} {place} {}", mistake.code.number(), mistake.says)
        });
        (made, shown.collect())
    }

    #[test]
    fn a_good_rule_is_read_with_its_places() {
        let (rule, mistakes) =
            read("[a]\nname = \"x\"\nbody.max = \"1KiB\"\nlist = [{ max = \"2KiB\" }]\n");
        let rule = rule.unwrap();
        assert!(mistakes.is_empty(), "{mistakes:?}");
        assert_eq!(rule.name.span, 11..14);
        assert_eq!(rule.body.unwrap().max, Some(Size(1024)));
        assert_eq!(rule.list[0].max, Some(Size(2048)));
        assert_eq!(rule.count, None);
    }

    #[test]
    fn all_mistakes_of_a_rule_come_at_once() {
        let (rule, mistakes) = read(
            "[a]\nname = 3\ncuont = 1\ncount = \"many\"\nbody = { mx = \"1KiB\" }\nlist = [{ max = 5 }]\n",
        );
        assert!(rule.is_none());
        let text = mistakes.join("\n");
        assert_eq!(mistakes.len(), 5, "{text}");
        assert!(text.contains("p.toml:3:1 unknown key `cuont` in a rule"), "{text}");
        assert!(text.contains("p.toml:5:10 unknown key `mx` in a rule"), "{text}");
        assert!(text.contains("p.toml:2:8"), "{text}");
        assert!(text.contains("p.toml:4:9"), "{text}");
        assert!(text.contains("p.toml:6:17"), "{text}");
    }

    #[test]
    fn all_faults_of_syntax_come_at_once() {
        let (_, mistakes) = read("a = \nb = 1\nc = [\n");
        assert!(mistakes.len() >= 2, "{mistakes:?}");
    }
}
