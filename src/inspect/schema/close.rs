//! Closes every object of a schema that does not say itself what becomes of other members.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

/// Keywords whose schemas describe the same value as the schema that they stand in. An object that
/// is put together from several must be closed once, as a whole: closed alone, each part would
/// refuse the members of the others.
const LISTS_IN_PLACE: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const SINGLE_IN_PLACE: [&str; 2] = ["then", "else"];
const MAPS_IN_PLACE: [&str; 1] = ["dependentSchemas"];

/// Keywords whose schemas describe other values: members and elements. (`not`, `if`, `contains` and
/// `propertyNames` are left alone: they decide, and closing them would change what they decide.)
const SINGLE_BELOW: [&str; 4] =
    ["items", "additionalItems", "additionalProperties", "unevaluatedProperties"];
const LISTS_BELOW: [&str; 2] = ["items", "prefixItems"];
const MAPS_BELOW: [&str; 2] = ["properties", "patternProperties"];

/// Keywords that hold definitions, which closing treats by how they are used.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// Adds `additionalProperties: false` (to an object put together from parts: `unevaluatedProperties:
/// false`, which draft 07 does not have) to every object that says nothing itself.
pub(in crate::inspect::schema) fn close(
    schema: &mut Json,
    unevaluated: bool,
) -> Result<(), String> {
    let mut parts = BTreeSet::new();
    loop {
        let before = parts.len();
        let mut found = BTreeSet::new();
        collect_parts(schema, false, "#", &parts, &mut found);
        parts.append(&mut found);
        if parts.len() == before {
            break;
        }
    }
    if let Some(odd) = parts.iter().find(|part| !is_definition(part)) {
        return Err(format!(
            "with extra_fields = \"refuse\", what is put together from `{odd}` cannot be closed; \
             move that to `$defs`"
        ));
    }
    Closing { parts, unevaluated }.walk(schema, false, "#")
}

fn is_definition(pointer: &str) -> bool {
    DEFINITIONS.iter().any(|keyword| {
        pointer
            .strip_prefix("#/")
            .and_then(|rest| rest.strip_prefix(keyword))
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|name| !name.contains('/'))
    })
}

/// Whether a schema is put together from parts, beside a reference.
fn has_parts(schema: &Map<String, Json>) -> bool {
    LISTS_IN_PLACE
        .iter()
        .chain(&SINGLE_IN_PLACE)
        .chain(&MAPS_IN_PLACE)
        .any(|keyword| schema.contains_key(*keyword))
}

fn has_properties(schema: &Map<String, Json>) -> bool {
    MAPS_BELOW.iter().any(|keyword| schema.contains_key(*keyword))
}

/// Collects what is referred to as a part of something else. What stands in `known` is itself a part.
fn collect_parts(
    schema: &Json,
    in_place: bool,
    path: &str,
    known: &BTreeSet<String>,
    found: &mut BTreeSet<String>,
) {
    let Json::Object(members) = schema else { return };
    let in_place = in_place || known.contains(path);
    if let Some(Json::String(target)) = members.get("$ref")
        && (in_place || has_parts(members) || has_properties(members))
    {
        found.insert(target.clone());
    }
    for (keyword, value) in members {
        for (child, child_in_place, child_path) in children(keyword, value, path) {
            collect_parts(child, child_in_place, &child_path, known, found);
        }
    }
}

/// The schemas under a keyword, whether they describe the same value, and their paths.
fn children<'s>(keyword: &str, value: &'s Json, path: &str) -> Vec<(&'s Json, bool, String)> {
    let Some((in_place, many)) = role(keyword, value) else { return Vec::new() };
    let at = format!("{path}/{keyword}");
    match (value, many) {
        (Json::Array(list), true) => {
            list.iter().map(|child| (child, in_place, at.clone())).collect()
        }
        (Json::Object(map), true) => {
            map.iter().map(|(name, child)| (child, in_place, format!("{at}/{name}"))).collect()
        }
        (child, _) => vec![(child, in_place, at)],
    }
}

/// Whether the schemas under a keyword describe the same value, and whether there are many.
fn role(keyword: &str, value: &Json) -> Option<(bool, bool)> {
    let in_place = LISTS_IN_PLACE.contains(&keyword) || MAPS_IN_PLACE.contains(&keyword);
    if in_place {
        return Some((true, true));
    }
    if SINGLE_IN_PLACE.contains(&keyword) {
        return Some((true, false));
    }
    let many = MAPS_BELOW.contains(&keyword)
        || DEFINITIONS.contains(&keyword)
        || (LISTS_BELOW.contains(&keyword) && value.is_array());
    (many || SINGLE_BELOW.contains(&keyword)).then_some((false, many))
}

struct Closing {
    parts: BTreeSet<String>,
    unevaluated: bool,
}

impl Closing {
    fn walk(&self, schema: &mut Json, in_place: bool, path: &str) -> Result<(), String> {
        let Json::Object(members) = schema else { return Ok(()) };
        for (keyword, value) in members.iter_mut() {
            let Some((in_place, many)) = role(keyword, value) else { continue };
            let at = format!("{path}/{keyword}");
            match value {
                Json::Array(list) if many => {
                    list.iter_mut().try_for_each(|child| self.walk(child, in_place, &at))?;
                }
                Json::Object(map) if many => map.iter_mut().try_for_each(|(name, child)| {
                    self.walk(child, in_place, &format!("{at}/{name}"))
                })?,
                child => self.walk(child, in_place, &at)?,
            }
        }
        let said = ["additionalProperties", "unevaluatedProperties"]
            .iter()
            .any(|keyword| members.contains_key(*keyword));
        if said || in_place || self.parts.contains(path) {
            return Ok(());
        }
        let refers_to_part = members
            .get("$ref")
            .and_then(Json::as_str)
            .is_some_and(|target| self.parts.contains(target));
        if has_parts(members) || refers_to_part {
            if !self.unevaluated {
                return Err(format!(
                    "with extra_fields = \"refuse\", `{path}` must say `additionalProperties` itself, \
                     because draft 07 cannot close what is put together from parts"
                ));
            }
            members.insert("unevaluatedProperties".to_owned(), Json::Bool(false));
        } else if has_properties(members) {
            members.insert("additionalProperties".to_owned(), Json::Bool(false));
        }
        Ok(())
    }
}
