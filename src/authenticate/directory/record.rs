//! A credential as it is asked for, as it is stored, and as it is shown.

use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::state::{Marks, State};
use crate::authenticate::key_format::{KeyId, is_word};
use crate::authenticate::signature::public_key::PublicKey;
use crate::clock::Now;
use crate::store::Table;
use crate::units::Network;

/// How many bytes prove a credential: the keyed hash of an API key, or a signing secret.
pub(in crate::authenticate) const PROOF_BYTES: usize = 32;

const TEXT_CHARS_MAX: usize = 128;
const NOTE_CHARS_MAX: usize = 512;
const LIST_MAX: usize = 64;

/// What a new credential shall give, and when and whence it shall hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What people call it: 1 to 128 characters.
    pub name: String,
    /// Who owns it: 1 to 128 visible ASCII characters. The service is told.
    pub subject: String,
    /// Roles, at most 64.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Scopes, at most 64.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Tier; without one the policy's strictest holds.
    #[serde(default)]
    pub tier: Option<String>,
    /// Networks it may be shown from, at most 64; none means any.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// Unix milliseconds before which it does not hold.
    #[serde(default)]
    pub not_before_ms: Option<u64>,
    /// Unix milliseconds from which on it no longer holds; without it, it holds until revoked.
    #[serde(default)]
    pub expires_ms: Option<u64>,
    /// Anything worth knowing, at most 512 characters.
    #[serde(default)]
    pub note: Option<String>,
    /// The environment it is for; without one, that of the gateway that makes it. A gateway of
    /// another environment refuses it.
    #[serde(default)]
    pub environment: Option<String>,
    /// Whether nobody must ever use it: whoever does raises an alarm.
    #[serde(default)]
    pub canary: bool,
    /// The credential by which its owner made it; nothing when an operator did.
    #[serde(default)]
    pub made_by: Option<String>,
}

impl NewKey {
    /// Whether all of it is acceptable.
    pub(in crate::authenticate) fn check(&self, now: Now) -> Result<(), DirectoryFault> {
        let invalid =
            |field, says: &str| Err(DirectoryFault::Invalid { field, says: says.to_owned() });
        let is_shown = |text: &str, max: usize| {
            (1..=max).contains(&text.chars().count()) && !text.chars().any(char::is_control)
        };
        let is_visible = |text: &str| {
            (1..=TEXT_CHARS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        };
        if !is_shown(&self.name, TEXT_CHARS_MAX) {
            return invalid("name", "must have 1 to 128 characters and no control character");
        }
        if !is_visible(&self.subject) {
            return invalid("subject", "must be 1 to 128 visible ASCII characters without spaces");
        }
        for (field, texts) in [("roles", &self.roles), ("scopes", &self.scopes)] {
            if texts.len() > LIST_MAX || !texts.iter().all(|text| is_visible(text)) {
                return invalid(
                    field,
                    "must be at most 64 names of visible ASCII characters without spaces",
                );
            }
        }
        if self.tier.as_ref().is_some_and(|tier| !is_visible(tier)) {
            return invalid("tier", "must be a name of visible ASCII characters without spaces");
        }
        if self.networks.len() > LIST_MAX {
            return invalid("networks", "must be at most 64");
        }
        if self.expires_ms.is_some_and(|expires| expires <= now.unix_ms) {
            return invalid("expires_ms", "must lie ahead; the key would never hold");
        }
        if let (Some(begins), Some(expires)) = (self.not_before_ms, self.expires_ms)
            && expires <= begins
        {
            return invalid(
                "expires_ms",
                "must lie after `not_before_ms`; the key would never hold",
            );
        }
        if self.note.as_ref().is_some_and(|note| !is_shown(note, NOTE_CHARS_MAX)) {
            return invalid("note", "must have 1 to 512 characters and no control character");
        }
        if self.environment.as_ref().is_some_and(|environment| !is_word(environment)) {
            return invalid("environment", "must have 1 to 16 lower-case letters and digits");
        }
        Ok(())
    }
}

/// The kinds of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An API key that this gateway made.
    ApiKey,
    /// An API key that somebody else made and clients already hold.
    Imported,
    /// A secret that signs requests.
    Signing,
    /// The public key of somebody who signs requests and keeps the private one.
    Verifying,
}

impl Kind {
    /// The table that such credentials stand in.
    pub(in crate::authenticate) fn table(self) -> Table {
        match self {
            Self::ApiKey | Self::Imported => Table::Keys,
            Self::Signing | Self::Verifying => Table::Signing,
        }
    }
}

/// A credential without its secret: what the store keeps beside the proof, and what lists show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// The public id.
    pub id: KeyId,
    /// Which kind of credential it is.
    pub kind: Kind,
    /// What people call it.
    pub name: String,
    /// Who owns it.
    pub subject: String,
    /// Roles.
    pub roles: Vec<String>,
    /// Scopes.
    pub scopes: Vec<String>,
    /// Tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Networks it may be shown from; none means any.
    #[serde(serialize_with = "as_texts")]
    pub networks: Vec<Network>,
    /// The environment it was made for.
    pub environment: String,
    /// Unix milliseconds at which it was made.
    pub created_ms: u64,
    /// Unix milliseconds before which it does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_ms: Option<u64>,
    /// Unix milliseconds from which on it no longer holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Unix milliseconds at which it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<u64>,
    /// Unix milliseconds at which it was suspended, unless it was resumed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_ms: Option<u64>,
    /// Why it was suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_why: Option<String>,
    /// Whether nobody must ever use it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub canary: bool,
    /// The credential by which its owner made it; nothing when an operator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// The key that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_from: Option<KeyId>,
    /// The key that replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_to: Option<KeyId>,
    /// Unix milliseconds until which it holds beside its successor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotating_until_ms: Option<u64>,
    /// Anything worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The public key that verifies signatures; only those of the kind `verifying` have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    /// Unix seconds of its last use. Kept apart from the rest, which no use changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_s: Option<u64>,
}

impl Described {
    /// Where it stands in its life.
    pub fn state(&self, now: Now) -> State {
        State::of(self.marks(), self.expires_ms, now)
    }

    /// What was done to it.
    pub(in crate::authenticate) fn marks(&self) -> Marks {
        Marks {
            revoked: self.revoked_ms.is_some(),
            suspended: self.suspended_ms.is_some(),
            rotating: self.rotated_to.is_some(),
        }
    }

    /// The same again from now on, for as long as this one was made for.
    pub(in crate::authenticate) fn again(&self, now: Now) -> NewKey {
        let lasts_ms = self.expires_ms.map(|end| end.saturating_sub(self.created_ms));
        NewKey {
            name: self.name.clone(),
            subject: self.subject.clone(),
            roles: self.roles.clone(),
            scopes: self.scopes.clone(),
            tier: self.tier.clone(),
            networks: self.networks.clone(),
            not_before_ms: None,
            expires_ms: lasts_ms.map(|lasts| now.unix_ms.saturating_add(lasts)),
            note: self.note.clone(),
            environment: Some(self.environment.clone()),
            canary: self.canary,
            made_by: self.made_by.clone(),
        }
    }
}

/// A credential as it is stored, sealed: `proof (32) | JSON of Described`.
pub(in crate::authenticate) struct Record {
    pub(in crate::authenticate) proof: Zeroizing<[u8; PROOF_BYTES]>,
    pub(in crate::authenticate) described: Described,
}

impl Record {
    /// A new credential.
    pub(in crate::authenticate) fn new(
        id: KeyId,
        kind: Kind,
        new: NewKey,
        environment: &str,
        now: Now,
        proof: Zeroizing<[u8; PROOF_BYTES]>,
    ) -> Self {
        let NewKey {
            name,
            subject,
            roles,
            scopes,
            tier,
            networks,
            not_before_ms,
            expires_ms,
            note,
            environment: wanted,
            canary,
            made_by,
        } = new;
        let described = Described {
            id,
            kind,
            name,
            subject,
            roles,
            scopes,
            tier,
            networks,
            environment: wanted.unwrap_or_else(|| environment.to_owned()),
            created_ms: now.unix_ms,
            not_before_ms,
            expires_ms,
            revoked_ms: None,
            suspended_ms: None,
            suspended_why: None,
            canary,
            made_by,
            rotated_from: None,
            rotated_to: None,
            rotating_until_ms: None,
            note,
            public_key: None,
            last_used_s: None,
        };
        Self { proof, described }
    }

    /// The bytes that the store seals.
    pub(in crate::authenticate) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, DirectoryFault> {
        let json = serde_json::to_vec(&self.described).map_err(|error| self.unreadable(&error))?;
        // One allocation of the right size, so that the proof is not left behind by a growing one.
        let mut bytes = Zeroizing::new(Vec::with_capacity(PROOF_BYTES + json.len()));
        bytes.extend_from_slice(self.proof.as_slice());
        bytes.extend_from_slice(&json);
        Ok(bytes)
    }

    /// The record that these bytes are.
    pub(in crate::authenticate) fn from_bytes(
        id: &str,
        bytes: &[u8],
    ) -> Result<Self, DirectoryFault> {
        let unreadable = |says: String| DirectoryFault::Unreadable { id: id.to_owned(), says };
        let (proof, json) = bytes
            .split_first_chunk::<PROOF_BYTES>()
            .ok_or_else(|| unreadable("it is too short".to_owned()))?;
        let described: Described =
            serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))?;
        if described.id.as_str() != id {
            return Err(unreadable("it names another id".to_owned()));
        }
        if (described.kind == Kind::Verifying) != described.public_key.is_some() {
            return Err(unreadable("its kind and its public key do not agree".to_owned()));
        }
        Ok(Self { proof: Zeroizing::new(*proof), described })
    }

    fn unreadable(&self, error: &serde_json::Error) -> DirectoryFault {
        DirectoryFault::Unreadable { id: self.described.id.to_string(), says: error.to_string() }
    }
}

fn as_texts<S: Serializer>(networks: &[Network], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(networks.iter().map(ToString::to_string))
}
