//! Prints keys for people.

use serde_json::Value;

use crate::cli::exit::{print, table};

/// Columns of the list, and the members that they show.
const COLUMNS: [(&str, &str); 9] = [
    ("ID", "id"),
    ("KIND", "kind"),
    ("NAME", "name"),
    ("SUBJECT", "subject"),
    ("ROLES", "roles"),
    ("TIER", "tier"),
    ("EXPIRES", "expires"),
    ("LAST USED", "last_used"),
    ("STATE", "state"),
];

/// Lines about one key, and the members that they show.
const LINES: [(&str, &str); 19] = [
    ("id", "id"),
    ("kind", "kind"),
    ("name", "name"),
    ("owner", "subject"),
    ("roles", "roles"),
    ("scopes", "scopes"),
    ("tier", "tier"),
    ("networks", "networks"),
    ("environment", "environment"),
    ("created", "created"),
    ("not before", "not_before"),
    ("expires", "expires"),
    ("revoked", "revoked"),
    ("suspended", "suspended"),
    ("suspended for", "suspended_why"),
    ("replaces", "rotated_from"),
    ("replaced by", "rotated_to"),
    ("note", "note"),
    ("unused 30 days", "unused_scopes"),
];

/// A table of keys.
pub(in crate::cli::keys) fn list(keys: &Value) {
    let mut rows = vec![COLUMNS.map(|(title, _)| title.to_owned())];
    rows.extend(keys.as_array().into_iter().flatten().map(|key| {
        COLUMNS.map(|(_, name)| match name {
            "state" => state(key),
            _ => text(key, name).unwrap_or_else(|| "-".to_owned()),
        })
    }));
    table(&rows);
}

/// Everything about one key; what it has not is left out.
pub(in crate::cli::keys) fn one(key: &Value) {
    let line = |title: &str, value: &str| print(&format!("{title:<16}{value}"));
    line("state", &state(key));
    for (title, name) in LINES {
        if let Some(value) = text(key, name) {
            line(title, &value);
        }
    }
    let Some(usage) = key.get("usage") else { return };
    let number = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or_default();
    if number("total") == 0 {
        line("used", "never");
        return;
    }
    line("used", &format!("{} times, {} today", number("total"), number("today")));
    for (title, at, address) in
        [("first used", "first_used", "first_address"), ("last used", "last_used", "last_address")]
    {
        let [at, address] = [at, address].map(|name| text(usage, name).unwrap_or_default());
        line(title, &format!("{at} from {address}"));
    }
    let members = |name: &str| usage.get(name).and_then(Value::as_array).into_iter().flatten();
    for day in members("days") {
        let uses = day.get("uses").and_then(Value::as_u64).unwrap_or_default();
        line("day", &format!("{} {uses}", text(day, "day").unwrap_or_default()));
    }
    for seen in members("addresses") {
        let [address, first, last] =
            ["address", "first", "last"].map(|name| text(seen, name).unwrap_or_default());
        line("address", &format!("{address} {first} to {last}"));
    }
}

/// The state, with what goes with it.
fn state(key: &Value) -> String {
    let mut told = text(key, "state").unwrap_or_default();
    if let Some(uses) = key.get("uses_today").and_then(Value::as_u64) {
        told.push_str(&format!(" (old key used {uses} times today)"));
    }
    for (name, words) in [("overdue", ", overdue"), ("canary", ", canary")] {
        if key.get(name) == Some(&Value::Bool(true)) {
            told.push_str(words);
        }
    }
    told
}

fn text(value: &Value, name: &str) -> Option<String> {
    match value.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Array(items) if !items.is_empty() => {
            Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
        }
        _ => None,
    }
}
