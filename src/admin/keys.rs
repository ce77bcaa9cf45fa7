//! What operators do with credentials, by the admin API or, while no gateway runs, by the command.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::answer::{Failure, rfc3339};
use crate::authenticate::directory::Directory;
use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::record::{Described, NewKey};
use crate::authenticate::key_format::KeyId;
use crate::authenticate::signature::public_key::PublicKey;
use crate::clock::Now;
use crate::units::Network;

/// One thing to do with credentials. It may hold keys, so it does not print.
#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Call {
    /// Makes one.
    Create {
        /// What it gives.
        template: Template,
        /// Whether it signs requests instead of being sent with them.
        #[serde(default)]
        signing: bool,
        /// The public key of somebody who signs and keeps the private one; no secret is made then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        public_key: Option<PublicKey>,
    },
    /// Lists all.
    List,
    /// Makes a successor.
    Rotate {
        /// The id of the credential that is replaced.
        id: String,
        /// Seconds for which both hold.
        overlap_s: u64,
    },
    /// Ends one at once.
    Revoke {
        /// Its id.
        id: String,
    },
    /// Takes over keys that clients already hold.
    Import {
        /// What each of them gives.
        template: Template,
        /// Their texts.
        keys: Vec<String>,
    },
}

impl Call {
    /// Whether it brings so many keys that its body may be large.
    pub fn is_import(&self) -> bool {
        matches!(self, Self::Import { .. })
    }
}

/// What new credentials give.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// What people call it.
    pub name: String,
    /// Who owns it.
    pub subject: String,
    /// Roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Scopes.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Tier.
    #[serde(default)]
    pub tier: Option<String>,
    /// Seconds for which it holds; without it, as long as `gateway.toml` says.
    #[serde(default)]
    pub expires_in_s: Option<u64>,
    /// Networks it may be shown from; none means any.
    #[serde(default)]
    pub networks: Vec<String>,
    /// Anything worth knowing; empty for nothing.
    #[serde(default)]
    pub note: String,
}

/// Does it, and tells what came of it as JSON: `{id, secret, expires}` of a new credential, an array
/// sorted by id of all of them, `{revoked}` or `{imported}`. A secret is told once, when it is made.
/// Credentials without a term of their own hold for `expire_after`.
///
/// # Errors
/// A sentence for the operator. Nothing has changed then, but an import that the disk broke off
/// has taken over what came before and can be run again.
pub fn perform(
    directory: &Directory,
    call: &Call,
    expire_after: Duration,
    now: Now,
) -> Result<Value, String> {
    change(directory, call, expire_after, now).map_err(|fault| fault.to_string())
}

/// As [`perform`], with the failure as the admin API answers it.
///
/// # Errors
/// 404, 409 or 422 as the fault is the operator's, otherwise 500.
pub fn answer(
    directory: &Directory,
    call: &Call,
    expire_after: Duration,
    now: Now,
) -> Result<Value, Failure> {
    change(directory, call, expire_after, now).map_err(|fault| {
        let says = fault.to_string();
        match fault {
            DirectoryFault::Unknown(_) => Failure::not_found(says),
            DirectoryFault::Invalid { .. } | DirectoryFault::BadLine { .. } => {
                Failure::unacceptable(says)
            }
            DirectoryFault::Over(_)
            | DirectoryFault::AlreadyRotated { .. }
            | DirectoryFault::Full { .. } => Failure::conflict(says),
            DirectoryFault::WeakPepper { .. }
            | DirectoryFault::BadEnvironment(_)
            | DirectoryFault::Unreadable { .. }
            | DirectoryFault::Store(_) => {
                tracing::error!(%says, "the keys could not be changed");
                Failure::fault(says)
            }
        }
    })
}

fn change(
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
            let new = new_key(template, expire_after, now)?;
            let id = directory.create_verifying(new, key.clone(), now)?;
            tracing::info!(%id, algorithm = key.algorithm().name(), "a public key was taken");
            let expires = directory.describe(id)?.expires_ms.map(rfc3339);
            Ok(json!({ "id": id, "algorithm": key.algorithm(), "expires": expires }))
        }
        Call::Create { template, signing, public_key: None } => {
            let new = new_key(template, expire_after, now)?;
            let created = if *signing {
                directory.create_signing(new, now)?
            } else {
                directory.create(new, now)?
            };
            tracing::info!(id = %created.id, signing, "a key was made");
            handed_over(directory, created.id, created.secret.expose())
        }
        Call::List => {
            let mut keys = directory.list()?;
            keys.sort_unstable_by_key(|key| key.id);
            Ok(keys.iter().map(|key| shown(key, now)).collect())
        }
        Call::Rotate { id, overlap_s } => {
            let id = key_id(id)?;
            let created = directory.rotate(id, Duration::from_secs(*overlap_s), now)?;
            tracing::info!(%id, successor = %created.id, "a key was rotated");
            handed_over(directory, created.id, created.secret.expose())
        }
        Call::Revoke { id } => {
            let id = key_id(id)?;
            directory.revoke(id, now)?;
            tracing::info!(%id, "a key was revoked");
            Ok(json!({ "revoked": id }))
        }
        Call::Import { template, keys } => {
            let template = new_key(template, expire_after, now)?;
            let imported = directory.import(keys.iter().map(String::as_str), &template, now)?;
            tracing::info!(imported, "keys were imported");
            Ok(json!({ "imported": imported }))
        }
    }
}

fn new_key(
    template: &Template,
    expire_after: Duration,
    now: Now,
) -> Result<NewKey, DirectoryFault> {
    let networks = template.networks.iter().map(|network| network.parse::<Network>());
    let networks = networks.collect::<Result<_, _>>().map_err(|says| DirectoryFault::Invalid {
        field: "networks",
        says: format!("is wrong: {says}"),
    })?;
    let holds = template.expires_in_s.map_or(expire_after, Duration::from_secs);
    let holds_ms = u64::try_from(holds.as_millis()).unwrap_or(u64::MAX);
    Ok(NewKey {
        name: template.name.clone(),
        subject: template.subject.clone(),
        roles: template.roles.clone(),
        scopes: template.scopes.clone(),
        tier: template.tier.clone(),
        networks,
        not_before_ms: None,
        expires_ms: Some(now.unix_ms.saturating_add(holds_ms)),
        note: Some(template.note.clone()).filter(|note| !note.is_empty()),
    })
}

fn key_id(text: &str) -> Result<KeyId, DirectoryFault> {
    KeyId::parse(text).ok_or_else(|| DirectoryFault::Invalid {
        field: "id",
        says: "must be the id of a key, which has eight letters and digits".to_owned(),
    })
}

/// What is told of a new credential: the one time that its secret is.
fn handed_over(directory: &Directory, id: KeyId, secret: &[u8]) -> Result<Value, DirectoryFault> {
    let expires = directory.describe(id)?.expires_ms.map(rfc3339);
    Ok(json!({ "id": id, "secret": String::from_utf8_lossy(secret), "expires": expires }))
}

fn shown(key: &Described, now: Now) -> Value {
    json!({
        "id": key.id,
        "kind": key.kind,
        "name": key.name,
        "subject": key.subject,
        "roles": key.roles,
        "scopes": key.scopes,
        "tier": key.tier,
        "networks": key.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "environment": key.environment,
        "state": key.state(now),
        "created": rfc3339(key.created_ms),
        "not_before": key.not_before_ms.map(rfc3339),
        "expires": key.expires_ms.map(rfc3339),
        "revoked": key.revoked_ms.map(rfc3339),
        "rotated_to": key.rotated_to,
        "last_used": key.last_used_s.map(|seconds| rfc3339(seconds.saturating_mul(1000))),
        "note": key.note,
        "public_key": key.public_key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::secret::Secret;

    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    fn directory() -> Directory {
        Directory::in_memory(&Secret::random(32).unwrap(), "live").unwrap()
    }

    fn now() -> Now {
        Clock::set_at(1_764_000_000_000).0.now()
    }

    /// Calls as programs do, with JSON.
    fn call(directory: &Directory, json: Value, now: Now) -> Result<Value, String> {
        perform(directory, &serde_json::from_value(json).unwrap(), YEAR, now)
    }

    fn template() -> Value {
        json!({ "name": "ci", "subject": "u-7", "roles": ["member"], "scopes": ["tasks:read"], "networks": ["10.0.0.0/8"] })
    }

    #[test]
    fn a_key_is_made_listed_rotated_and_revoked() {
        let (directory, now) = (directory(), now());
        let made =
            call(&directory, json!({ "do": "create", "template": template() }), now).unwrap();
        let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
        assert_eq!(made["expires"], "2026-11-24T16:00:00Z");
        assert_eq!(directory.id_of(secret).unwrap().as_str(), id);

        let later = Now { unix_ms: now.unix_ms + 86_400_000, ..now };
        let rotate = json!({ "do": "rotate", "id": id, "overlap_s": 3600 });
        let successor = call(&directory, rotate, later).unwrap();
        assert_eq!(successor["expires"], "2026-11-25T16:00:00Z");
        call(&directory, json!({ "do": "revoke", "id": successor["id"] }), later).unwrap();

        let list = call(&directory, json!({ "do": "list" }), later).unwrap();
        let state_of = |id: &Value| {
            let key = list.as_array().unwrap().iter().find(|key| key["id"] == *id).unwrap();
            key["state"].clone()
        };
        assert_eq!(state_of(&made["id"]), "rotating");
        assert_eq!(state_of(&successor["id"]), "revoked");
        for made in [&made, &successor] {
            assert!(!list.to_string().contains(made["secret"].as_str().unwrap()));
        }
    }

    #[test]
    fn the_list_is_sorted_by_id_over_all_kinds() {
        let (directory, now) = (directory(), now());
        for count in 0..12 {
            let make = json!({ "do": "create", "template": template(), "signing": count % 2 == 0 });
            call(&directory, make, now).unwrap();
        }
        let keys = json!(["an-old-key-0123456789", "another-old-key-012345"]);
        let import = json!({ "do": "import", "template": template(), "keys": keys });
        assert_eq!(call(&directory, import, now).unwrap(), json!({ "imported": 2 }));
        let list = call(&directory, json!({ "do": "list" }), now).unwrap();
        let ids: Vec<&str> =
            list.as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 14);
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(!list.to_string().contains("old-key"));
        let kinds =
            |kind: &str| list.as_array().unwrap().iter().filter(|key| key["kind"] == kind).count();
        assert_eq!((kinds("api-key"), kinds("signing"), kinds("imported")), (6, 6, 2));
    }

    #[test]
    fn what_is_wrong_is_said_and_changes_nothing() {
        let (directory, now) = (directory(), now());
        let with = |key: &str, value: Value| {
            let mut template = template();
            template[key] = value;
            json!({ "do": "create", "template": template })
        };
        for (wrong, status, says) in [
            (with("networks", json!(["10.0.0.1/8"])), 422, "`networks`"),
            (with("name", json!("")), 422, "`name`"),
            (with("expires_in_s", json!(0)), 422, "`expires_ms`"),
            (json!({ "do": "revoke", "id": "nope" }), 422, "`id`"),
            (json!({ "do": "revoke", "id": "AAAAAAAA" }), 404, "no key `AAAAAAAA`"),
            (json!({ "do": "import", "template": template(), "keys": ["short"] }), 422, "line 1"),
        ] {
            let call: Call = serde_json::from_value(wrong).unwrap();
            let failure = answer(&directory, &call, YEAR, now).unwrap_err();
            assert_eq!(failure.status().as_u16(), status, "{failure:?}");
            assert!(failure.message().contains(says), "{failure:?}");
        }
        assert_eq!(call(&directory, json!({ "do": "list" }), now).unwrap(), json!([]));
    }

    #[test]
    fn a_call_that_is_misspelt_is_not_guessed_at() {
        for wrong in [
            json!({ "do": "remove", "id": "AAAAAAAA" }),
            json!({ "do": "revoke", "id": "AAAAAAAA", "yes": true }),
            json!({ "do": "create", "template": { "name": "a", "subject": "b", "role": ["admin"] } }),
        ] {
            assert!(serde_json::from_value::<Call>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
