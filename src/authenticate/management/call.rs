//! What can be asked about credentials, as the admin API has it, and self-service in part.

use serde::{Deserialize, Serialize};

use crate::authenticate::directory::fault::DirectoryFault;
use crate::authenticate::directory::life::Which;
use crate::authenticate::key_format::KeyId;
use crate::authenticate::signature::public_key::PublicKey;

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
    /// Lists those that fit all of the filter; all without one.
    List(Filter),
    /// Tells everything of one, and how it was used.
    Show {
        /// Its id.
        id: String,
    },
    /// Makes a successor of one, or of all of an owner.
    Rotate {
        /// The id of the credential that is replaced.
        #[serde(default)]
        id: Option<String>,
        /// Or whose are.
        #[serde(default)]
        owner: Option<String>,
        /// Seconds for which both hold.
        overlap_s: u64,
    },
    /// Lets one, or all of an owner, hold no longer until resumed.
    Suspend {
        /// Its id.
        #[serde(default)]
        id: Option<String>,
        /// Or whose.
        #[serde(default)]
        owner: Option<String>,
        /// Why; cut at 200 characters.
        #[serde(default)]
        why: String,
    },
    /// Lets suspended ones hold again.
    Resume {
        /// Its id.
        #[serde(default)]
        id: Option<String>,
        /// Or whose.
        #[serde(default)]
        owner: Option<String>,
    },
    /// Ends one, or all of an owner, at once.
    Revoke {
        /// Its id.
        #[serde(default)]
        id: Option<String>,
        /// Or whose.
        #[serde(default)]
        owner: Option<String>,
    },
    /// Takes over keys that clients already hold.
    Import {
        /// What each of them gives.
        template: Template,
        /// Their texts.
        keys: Vec<String>,
    },
    /// Tells of texts that were found somewhere which keys they are.
    Identify {
        /// The texts.
        keys: Vec<String>,
    },
}

impl Call {
    /// Whether it brings so many keys that its body may be large.
    pub fn is_import(&self) -> bool {
        matches!(self, Self::Import { .. } | Self::Identify { .. })
    }
}

/// Which credentials are listed: those that fit everything that is set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Those of this subject.
    pub owner: Option<String>,
    /// Those that hold beside their successors.
    pub rotating: bool,
    /// Those that hold and are older than their environment allows.
    pub overdue: bool,
    /// Those that hold and end within so many seconds.
    pub expiring_in_s: Option<u64>,
    /// Those that hold and were not used for so many seconds.
    pub unused_for_s: Option<u64>,
}

/// What new credentials give.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// What people call it.
    pub name: String,
    /// Who owns it; operators have to say it, and others can only make keys of their own.
    #[serde(default)]
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
    /// When it begins to hold: a date, or date and time in RFC 3339. Without it, at once.
    #[serde(default)]
    pub not_before: Option<String>,
    /// Networks it may be shown from; none means any.
    #[serde(default)]
    pub networks: Vec<String>,
    /// The environment it is for; without it, the gateway's own.
    #[serde(default)]
    pub environment: Option<String>,
    /// Whether nobody must ever use it.
    #[serde(default)]
    pub canary: bool,
    /// Anything worth knowing; empty for nothing.
    #[serde(default)]
    pub note: String,
}

/// The id with this text.
///
/// # Errors
/// When it is none.
pub(in crate::authenticate) fn key_id(text: &str) -> Result<KeyId, DirectoryFault> {
    KeyId::parse(text).ok_or_else(|| DirectoryFault::Invalid {
        field: "id",
        says: "must be the id of a key, which has eight letters and digits".to_owned(),
    })
}

/// The credentials that are meant: exactly one of both is said.
///
/// # Errors
/// When both are said, or none, or the id is none.
pub(in crate::authenticate) fn which(
    id: Option<&String>,
    owner: Option<&String>,
) -> Result<Which, DirectoryFault> {
    match (id, owner) {
        (Some(id), None) => key_id(id).map(Which::Key),
        (None, Some(owner)) => Ok(Which::Owner(owner.clone())),
        (Some(_), Some(_)) | (None, None) => Err(DirectoryFault::Invalid {
            field: "id",
            says: "or `owner` must be given, and not both".to_owned(),
        }),
    }
}
