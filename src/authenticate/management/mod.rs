//! What can be done with credentials, by operators and by those who own them, and what is told of it.

pub mod call;
pub mod show;

use std::time::Duration;

use serde_json::{Value, json};

use crate::authenticate::directory::Directory;
use crate::authenticate::directory::change::millis;
use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::life::Which;
use crate::authenticate::directory::record::NewKey;
use crate::authenticate::management::call::{Call, Template, key_id, which};
use crate::clock::{Now, rfc3339};
use crate::units::Network;

/// Does it for an operator, and tells what came of it as JSON: `{id, secret, expires}` of a new credential,
/// `{rotated: […]}` of all of an owner, an array sorted by id of those that are listed, everything
/// of one that is shown, the id that is now `{revoked}` or the ids of an owner's that this revoked,
/// the ids that `{suspended}` or `{resumed}` changed, the count of `{imported}`, and an array of what texts are. A secret is told once, when it is made.
/// Credentials without a term of their own hold for `expire_after`.
///
/// # Errors
/// What kept it from being done. Nothing has changed then, but an import that the disk broke off
/// has taken over what came before and can be run again.
pub fn perform(
    directory: &Directory,
    call: &Call,
    expire_after: Duration,
    now: Now,
) -> Result<Value, DirectoryFault> {
    match call {
        Call::Create { signing: false, public_key: Some(_), .. } => Err(DirectoryFault::Invalid {
            field: "public_key",
            says: "is for a credential that signs; say `signing` too".to_owned(),
        }),
        Call::Create { template, public_key: Some(key), .. } => {
            let new = new_key(directory, template, expire_after, now)?;
            let id = directory.create_verifying(new, key.clone(), now)?;
            tracing::info!(%id, algorithm = key.algorithm().name(), "a public key was taken");
            let expires = directory.describe(id)?.expires_ms.map(rfc3339);
            Ok(json!({ "id": id, "algorithm": key.algorithm(), "expires": expires }))
        }
        Call::Create { template, signing, public_key: None } => {
            let new = new_key(directory, template, expire_after, now)?;
            let created = if *signing {
                directory.create_signing(new, now)?
            } else {
                directory.create(new, now)?
            };
            tracing::info!(id = %created.id, signing, "a key was made");
            show::handed_over(directory, &created)
        }
        Call::List(filter) => show::list(directory, filter, now),
        Call::Show { id } => show::show(directory, key_id(id)?, now),
        Call::Rotate { id, owner, overlap_s } => {
            let overlap = Duration::from_secs(*overlap_s);
            rotate(directory, &which(id.as_ref(), owner.as_ref())?, overlap, now)
        }
        Call::Suspend { id, owner, why } => {
            let ids = directory.suspend(&which(id.as_ref(), owner.as_ref())?, why, now)?;
            ids.iter().for_each(|id| tracing::info!(%id, why, "a key was suspended"));
            Ok(json!({ "suspended": ids }))
        }
        Call::Resume { id, owner } => {
            let ids = directory.resume(&which(id.as_ref(), owner.as_ref())?)?;
            ids.iter().for_each(|id| tracing::info!(%id, "a key was resumed"));
            Ok(json!({ "resumed": ids }))
        }
        Call::Revoke { id, owner } => {
            let ids = directory.revoke_all(&which(id.as_ref(), owner.as_ref())?, now)?;
            ids.iter().for_each(|id| tracing::info!(%id, "a key was revoked"));
            Ok(json!({ "revoked": id.as_ref().map_or_else(|| json!(ids), |id| json!(id)) }))
        }
        Call::Import { template, keys } => {
            let template = new_key(directory, template, expire_after, now)?;
            let imported = directory.import(keys.iter().map(String::as_str), &template, now)?;
            tracing::info!(imported, "keys were imported");
            Ok(json!({ "imported": imported }))
        }
        Call::Identify { keys } => {
            keys.iter().map(|text| show::identified(directory, text, now)).collect()
        }
    }
}

fn rotate(
    directory: &Directory,
    which: &Which,
    overlap: Duration,
    now: Now,
) -> Result<Value, DirectoryFault> {
    match which {
        Which::Key(id) => {
            let created = directory.rotate(*id, overlap, now)?;
            tracing::info!(%id, successor = %created.id, "a key was rotated");
            show::handed_over(directory, &created)
        }
        Which::Owner(owner) => {
            let rotated = directory.rotate_owner(owner, overlap, now)?;
            let told = rotated.iter().map(|rotated| {
                tracing::info!(id = %rotated.id, successor = %rotated.successor.id, "a key was rotated");
                show::handed_over(directory, &rotated.successor)
            });
            Ok(json!({ "rotated": told.collect::<Result<Vec<_>, _>>()? }))
        }
    }
}

/// What a template asks for.
pub(in crate::authenticate) fn new_key(
    directory: &Directory,
    template: &Template,
    expire_after: Duration,
    now: Now,
) -> Result<NewKey, DirectoryFault> {
    let invalid = |field, says: String| DirectoryFault::Invalid { field, says };
    let networks = template.networks.iter().map(|network| network.parse::<Network>());
    let networks = networks.collect::<Result<_, _>>();
    let networks = networks.map_err(|says| invalid("networks", format!("is wrong: {says}")))?;
    let begins = template.not_before.as_deref().map(|text| {
        let says = || format!("must be a date such as 2026-12-01, or a time such as 2026-12-01T08:00:00Z, and `{text}` is neither");
        moment(text).ok_or_else(|| invalid("not_before", says()))
    });
    let environment = template.environment.as_deref().unwrap_or_else(|| directory.environment());
    // What nobody chose must not be refused.
    let usual = directory.max_age(environment).map_or(expire_after, |max| max.min(expire_after));
    let holds = template.expires_in_s.map_or(usual, Duration::from_secs);
    Ok(NewKey {
        name: template.name.clone(),
        subject: template.subject.clone(),
        roles: template.roles.clone(),
        scopes: template.scopes.clone(),
        tier: template.tier.clone(),
        networks,
        not_before_ms: begins.transpose()?,
        expires_ms: Some(now.unix_ms.saturating_add(millis(holds))),
        note: Some(template.note.clone()).filter(|note| !note.is_empty()),
        environment: template.environment.clone(),
        canary: template.canary,
        made_by: None,
    })
}

/// Unix milliseconds of a time in RFC 3339, or of the first instant of a day in UTC.
fn moment(text: &str) -> Option<u64> {
    let time = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let day = text.parse::<jiff::civil::Date>().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()
    })?;
    u64::try_from(time.as_millisecond()).ok()
}
