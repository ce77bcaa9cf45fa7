//! What is told of credentials: never a secret, but the one time that it is made.

use serde_json::{Value, json};

use crate::authenticate::directory::Directory;
use crate::authenticate::directory::change::{Created, millis};
use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::record::Described;
use crate::authenticate::directory::state::State;
use crate::authenticate::directory::tally::Used;
use crate::authenticate::key_format::KeyId;
use crate::authenticate::management::call::Filter;
use crate::clock::{Now, rfc3339};

const DAY_MS: u64 = 86_400_000;

/// What is told of a new credential: the one time that its secret is.
pub(in crate::authenticate) fn handed_over(
    directory: &Directory,
    made: &Created,
) -> Result<Value, DirectoryFault> {
    let described = directory.describe(made.id)?;
    let mut told = json!({
        "id": made.id,
        "secret": String::from_utf8_lossy(made.secret.expose()),
        "expires": described.expires_ms.map(rfc3339),
    });
    if let (Some(replaces), Some(told)) = (described.rotated_from, told.as_object_mut()) {
        told.insert("replaces".to_owned(), json!(replaces));
    }
    Ok(told)
}

/// All credentials that fit, in the order of their ids.
pub(in crate::authenticate) fn list(
    directory: &Directory,
    filter: &Filter,
    now: Now,
) -> Result<Value, DirectoryFault> {
    list_of(directory, directory.list()?, filter, now)
}

/// Those of these credentials that fit, in the order of their ids.
pub(in crate::authenticate) fn list_of(
    directory: &Directory,
    mut keys: Vec<Described>,
    filter: &Filter,
    now: Now,
) -> Result<Value, DirectoryFault> {
    keys.retain(|key| fits(directory, key, filter, now));
    keys.sort_unstable_by_key(|key| key.id);
    keys.iter().map(|key| row(directory, key, now)).collect()
}

/// Everything about one credential, and how it was used.
pub(in crate::authenticate) fn show(
    directory: &Directory,
    id: KeyId,
    now: Now,
) -> Result<Value, DirectoryFault> {
    let key = directory.describe(id)?;
    let used = directory.used(id)?;
    let mut told = row(directory, &key, now)?;
    if let Some(told) = told.as_object_mut() {
        told.insert(
            "unused_scopes".to_owned(),
            json!(used.unused(&key.scopes, key.created_ms, now)),
        );
        told.insert("usage".to_owned(), usage(&used, now));
    }
    Ok(told)
}

/// What a text that was found somewhere is. The text itself is not repeated.
pub(in crate::authenticate) fn identified(
    directory: &Directory,
    text: &str,
    now: Now,
) -> Result<Value, DirectoryFault> {
    let Some(id) = directory.id_of(text) else { return Ok(json!({ "state": "unknown" })) };
    let key = directory.describe(id)?;
    let state = key.state(now);
    Ok(json!({ "id": id, "state": state, "live": state.is_live(), "subject": key.subject }))
}

fn fits(directory: &Directory, key: &Described, filter: &Filter, now: Now) -> bool {
    let Filter { owner, rotating, overdue, expiring_in_s, unused_for_s } = filter;
    let state = key.state(now);
    let within = |end_ms: u64, seconds: u64| {
        end_ms.saturating_sub(now.unix_ms) <= seconds.saturating_mul(1000)
    };
    let unused = |seconds: u64| {
        let last_s = key.last_used_s.unwrap_or(key.created_ms / 1000);
        now.unix_s().saturating_sub(last_s) >= seconds
    };
    owner.as_ref().is_none_or(|owner| *owner == key.subject)
        && (!rotating || state == State::Rotating)
        && (!overdue || is_overdue(directory, key, now))
        && expiring_in_s.is_none_or(|seconds| {
            state.is_live() && key.expires_ms.is_some_and(|end_ms| within(end_ms, seconds))
        })
        && unused_for_s.is_none_or(|seconds| state.is_live() && unused(seconds))
}

/// Whether a credential that holds is older than new ones of its environment may become.
fn is_overdue(directory: &Directory, key: &Described, now: Now) -> bool {
    directory.max_age(&key.environment).is_some_and(|max_age| {
        key.state(now).is_live() && now.unix_ms > key.created_ms.saturating_add(millis(max_age))
    })
}

fn row(directory: &Directory, key: &Described, now: Now) -> Result<Value, DirectoryFault> {
    let state = key.state(now);
    let uses_today = match state {
        State::Rotating => Some(directory.used(key.id)?.today(now)),
        _ => None,
    };
    Ok(json!({
        "id": key.id,
        "kind": key.kind,
        "name": key.name,
        "subject": key.subject,
        "roles": key.roles,
        "scopes": key.scopes,
        "tier": key.tier,
        "networks": key.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "environment": key.environment,
        "state": state,
        "overdue": is_overdue(directory, key, now),
        "canary": key.canary,
        "made_by": key.made_by,
        "created": rfc3339(key.created_ms),
        "not_before": key.not_before_ms.map(rfc3339),
        "expires": key.expires_ms.map(rfc3339),
        "revoked": key.revoked_ms.map(rfc3339),
        "suspended": key.suspended_ms.map(rfc3339),
        "suspended_why": key.suspended_why,
        "rotated_from": key.rotated_from,
        "rotated_to": key.rotated_to,
        "uses_today": uses_today,
        "last_used": key.last_used_s.map(|seconds| rfc3339(seconds.saturating_mul(1000))),
        "note": key.note,
        "public_key": key.public_key,
    }))
}

fn usage(used: &Used, now: Now) -> Value {
    let at = |seconds: u64| (seconds > 0).then(|| rfc3339(seconds.saturating_mul(1000)));
    let date = |day: u64| rfc3339(day.saturating_mul(DAY_MS)).get(..10).map(str::to_owned);
    let days = used.days.iter().map(|(day, count)| json!({ "day": date(*day), "uses": count }));
    let addresses = used.addresses.iter().map(|seen| {
        json!({ "address": seen.address, "first": at(seen.first_s), "last": at(seen.last_s) })
    });
    let latest = used.addresses.iter().max_by_key(|seen| seen.last_s);
    json!({
        "total": used.total,
        "today": used.today(now),
        "first_used": at(used.first_s),
        "last_used": at(used.last_s),
        "first_address": used.addresses.first().map(|seen| &seen.address),
        "last_address": latest.map(|seen| &seen.address),
        "days": days.collect::<Vec<_>>(),
        "addresses": addresses.collect::<Vec<_>>(),
    })
}
