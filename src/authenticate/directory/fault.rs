//! What keeps the directory from doing what an operator asked.

use std::fmt;

use crate::authenticate::key_format::KeyId;
use crate::secret::NoRandomness;
use crate::store::StoreFault;
use crate::units::Span;

/// Why a change to the credentials was not made. Nothing has changed then.
#[derive(Debug)]
pub enum DirectoryFault {
    /// A field of a new key has no acceptable value.
    Invalid {
        /// The field's name, as [`NewKey`](crate::authenticate::directory::record::NewKey) has it.
        field: &'static str,
        /// What is so, and what would be right.
        says: String,
    },
    /// A line of an import is not a key.
    BadLine {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it. The line itself is never shown.
        says: String,
    },
    /// There is no credential with this id.
    Unknown(KeyId),
    /// The credential no longer holds, so it cannot be rotated.
    Over(KeyId),
    /// The credential already has a successor.
    AlreadyRotated {
        /// The credential.
        id: KeyId,
        /// Its successor.
        successor: KeyId,
    },
    /// Nobody of this name owns a credential that the change is about.
    Nobody(String),
    /// The credential is suspended, so it has nothing to hand over.
    Suspended(KeyId),
    /// A new credential would live longer than its environment allows.
    TooOld {
        /// The environment.
        environment: String,
        /// How long its credentials may live.
        max_age: Span,
    },
    /// There are as many credentials as there may be.
    Full {
        /// How many there may be.
        max: usize,
    },
    /// Who asks cannot do this with their own credentials.
    Refused(&'static str),
    /// A credential would give more than the one that asks for it.
    Beyond(&'static str),
    /// The owner has, or lately made, as many credentials as one may.
    TooMany {
        /// How many that is.
        max: usize,
    },
    /// The pepper is too short to be one.
    WeakPepper {
        /// How many bytes it has.
        bytes: usize,
    },
    /// The environment is not a word of 1 to 16 lower-case letters and digits.
    BadEnvironment(String),
    /// A record in the store cannot be read.
    Unreadable {
        /// Its id.
        id: String,
        /// What is wrong with it.
        says: String,
    },
    /// The store failed.
    Store(StoreFault),
}

impl fmt::Display for DirectoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { field, says } => write!(f, "`{field}` {says}"),
            Self::BadLine { line, says } => write!(f, "line {line} {says}"),
            Self::Unknown(id) => write!(
                f,
                "there is no key `{id}`; `portcullis keys list` shows those that there are"
            ),
            Self::Over(id) => write!(
                f,
                "key `{id}` no longer holds, so there is nothing to hand over; create a new one"
            ),
            Self::AlreadyRotated { id, successor } => {
                write!(f, "key `{id}` already has the successor `{successor}`; rotate that one")
            }
            Self::Nobody(owner) => write!(
                f,
                "`{owner}` owns no key that this would change; `portcullis keys list --owner {owner}` shows what there is"
            ),
            Self::Suspended(id) => write!(
                f,
                "key `{id}` is suspended, and a successor would hold at once; resume it first, or create a new one"
            ),
            Self::TooOld { environment, max_age } => write!(
                f,
                "keys of `{environment}` may live for {max_age} at most (`max_age` under [keys] of gateway.toml); choose an earlier end"
            ),
            Self::Full { max } => write!(
                f,
                "there are {max} credentials, which is as many as there may be; nothing was added"
            ),
            Self::Refused(why) => write!(f, "this credential cannot do that: {why}"),
            Self::Beyond(what) => {
                write!(f, "{what} would be more than the credential has that asks for it")
            }
            Self::TooMany { max } => {
                write!(f, "the owner has {max} credentials, which is as many as one may have")
            }
            Self::WeakPepper { bytes } => {
                write!(f, "the pepper has {bytes} bytes; it needs at least 32, all of them random")
            }
            Self::BadEnvironment(text) => write!(
                f,
                "`{text}` is not an environment; write 1 to 16 lower-case letters and digits, for example \"live\""
            ),
            Self::Unreadable { id, says } => write!(
                f,
                "record `{id}` in the store cannot be read ({says}); restore the store from a copy"
            ),
            Self::Store(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for DirectoryFault {}

impl From<StoreFault> for DirectoryFault {
    fn from(fault: StoreFault) -> Self {
        Self::Store(fault)
    }
}

impl From<NoRandomness> for DirectoryFault {
    fn from(missing: NoRandomness) -> Self {
        Self::Store(missing.into())
    }
}
