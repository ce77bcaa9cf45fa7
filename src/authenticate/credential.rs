//! The public id of a credential, as records show it: never its secret.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::authenticate::key_format::KeyId;

/// The public id of a credential.
#[derive(Clone)]
pub enum CredentialId {
    /// That of a credential which the directory keeps. It needs no memory of its own, of which a
    /// million keys would take 32 bytes each.
    Kept(KeyId),
    /// What else proved a caller is called: a token, a certificate.
    Passing(Arc<str>),
}

impl Default for CredentialId {
    fn default() -> Self {
        Self::Passing(Arc::default())
    }
}

impl Deref for CredentialId {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Kept(id) => id.as_str(),
            Self::Passing(name) => name,
        }
    }
}

/// Ids are their texts, whoever keeps them.
impl PartialEq for CredentialId {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for CredentialId {}

impl From<KeyId> for CredentialId {
    fn from(id: KeyId) -> Self {
        Self::Kept(id)
    }
}

impl From<Arc<str>> for CredentialId {
    fn from(name: Arc<str>) -> Self {
        Self::Passing(name)
    }
}

impl From<String> for CredentialId {
    fn from(name: String) -> Self {
        Self::Passing(name.into())
    }
}

impl From<&str> for CredentialId {
    fn from(name: &str) -> Self {
        Self::Passing(name.into())
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
