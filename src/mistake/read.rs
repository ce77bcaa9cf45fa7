//! From TOML text to rules, reporting every mistake and not only the first.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::mistake::code::Code;
use crate::mistake::source::{Place, Source};
use crate::mistake::{Mistake, Mistakes, keys};

/// How the error begins with which a deserialiser refuses a secret that stands in the file itself.
pub const INLINE_SECRET: &str = "a secret never stands in this file";

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
    let mut lines = BTreeSet::new();
    for error in errors {
        let mistake = syntax(source, &error);
        // What follows on the same line is the parser finding its way back.
        if lines.insert(mistake.place.as_ref().map(Place::line)) {
            mistakes.push(mistake);
        }
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
/// Unknown and missing keys are found by the rule's JSON Schema, at any depth, so that all of them
/// are reported. Values of the wrong kind are reported one after the other: the offending key is set
/// aside and the rest is read again.
pub fn rule<T: DeserializeOwned + JsonSchema + 'static>(
    what: &str,
    node: Node<'_>,
    source: &Arc<Source>,
    mistakes: &mut Mistakes,
) -> Option<T> {
    let schema = schema_of::<T>();
    let mut node = node;
    let absent_told = keys::check(what, &schema, &mut node, source, mistakes);
    let whole = node.span();
    let mut set_aside = false;
    loop {
        let error = match T::deserialize(toml::de::ValueDeserializer::from(node.clone())) {
            Ok(rule) if !set_aside => return Some(rule),
            Ok(_) => return None,
            Err(error) => error,
        };
        let missing = error.message().starts_with("missing field");
        if !(missing && (set_aside || absent_told)) {
            mistakes.push(wrong(what, source, &error, &whole));
        }
        let removed = !missing && remove_at(&mut node, error.span());
        if !removed {
            return None;
        }
        set_aside = true;
    }
}

/// The JSON Schema of a rule, as a value. It is made once for each kind of rule: a policy with
/// thousands of routes asks for it as often.
pub fn schema_of<T: JsonSchema + 'static>() -> Arc<Json> {
    static MADE: LazyLock<Mutex<HashMap<TypeId, Arc<Json>>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let schema = made
        .entry(TypeId::of::<T>())
        .or_insert_with(|| Arc::new(schemars::schema_for!(T).to_value()));
    Arc::clone(schema)
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
    let place = source.place(error.span().unwrap_or(0..0));
    match error.message().trim() {
        "duplicate key" => Mistake::new(Code::Syntax, "this key stands in its table already")
            .at(place)
            .help("remove one of the two"),
        message if message.contains("basic string") || message.contains("literal string") => {
            Mistake::new(Code::Syntax, "this text does not end on its line")
                .at(place)
                .help("close it with the quotation mark that it begins with")
        }
        message => Mistake::new(Code::Syntax, one_line(message)).at(place),
    }
}

fn wrong(
    what: &str,
    source: &Arc<Source>,
    error: &toml::de::Error,
    whole: &Range<usize>,
) -> Mistake {
    let message = one_line(error.message());
    let place = source.place(error.span().unwrap_or_else(|| whole.clone()));
    if let Some(field) = message.strip_prefix("missing field ") {
        return Mistake::new(Code::MissingKey, format!("{field} is missing in {what}"))
            .at(place)
            .help(format!("add a line `{} = …`", field.trim_matches('`')));
    }
    let code = match message.starts_with(INLINE_SECRET) {
        true => Code::InlineSecret,
        false => Code::WrongValue,
    };
    let (says, help) = in_our_words(&message);
    let mistake = Mistake::new(code, says).at(place);
    match help {
        Some(help) => mistake.help(help),
        None => mistake,
    }
}

/// What serde says, as an operator reads it: what is so, and what would be right.
fn in_our_words(message: &str) -> (String, Option<String>) {
    if let Some((says, help)) = message.split_once("; ") {
        return (says.to_owned(), Some(help.to_owned()));
    }
    let Some((found, expected)) = message.split_once(", expected ") else {
        return (message.to_owned(), None);
    };
    if let Some(word) = found.strip_prefix("unknown variant ") {
        return (format!("{word} is not known here"), Some(format!("write {expected}")));
    }
    let found = found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
    let found = found.strip_prefix("string ").unwrap_or(match found {
        "map" => "a table",
        "sequence" => "an array",
        other => other,
    });
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "i64" | "usize" => "a whole number",
        "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "a table",
        other => other,
    };
    (format!("{found} is not {expected}"), None)
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
        assert!(text.contains("p.toml:5:10 unknown key `mx` in `body` of a rule"), "{text}");
        assert!(text.contains("p.toml:2:8"), "{text}");
        assert!(text.contains("p.toml:4:9"), "{text}");
        assert!(text.contains("p.toml:6:17"), "{text}");
    }

    #[test]
    fn all_keys_that_are_missing_come_at_once_and_none_that_is_only_misspelt() {
        let (rule, mistakes) = read("[a]\ncount = 1\n");
        assert!(rule.is_none());
        assert_eq!(mistakes, ["P0104 p.toml:1:1 `name` is missing in a rule"]);
        let (_, mistakes) = read("[a]\nnmae = \"x\"\n");
        assert_eq!(mistakes, ["P0102 p.toml:2:1 unknown key `nmae` in a rule"]);
    }

    #[test]
    fn what_serde_says_is_told_in_words_of_operators() {
        let says = |message| in_our_words(message).0;
        assert_eq!(
            says("invalid type: string \"yes\", expected a boolean"),
            "\"yes\" is not a boolean"
        );
        assert_eq!(says("invalid type: map, expected a sequence"), "a table is not an array");
        assert_eq!(says("invalid type: integer `5`, expected a text"), "integer `5` is not a text");
        let (says, help) = in_our_words("unknown variant `h3`, expected `h1` or `h2`");
        assert_eq!(
            (says.as_str(), help.as_deref()),
            ("`h3` is not known here", Some("write `h1` or `h2`"))
        );
    }

    #[test]
    fn all_faults_of_syntax_come_at_once() {
        let (_, mistakes) = read("a = \nb = 1\nc = [\n");
        assert!(mistakes.len() >= 2, "{mistakes:?}");
    }
}
