//! When and whence a credential holds: the one place that decides it.

use std::net::IpAddr;

use crate::clock::Now;
use crate::refusal::Reason;
use crate::units::Network;

/// When, whence and where a credential holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Unix milliseconds before which it does not hold yet.
    pub not_before_ms: Option<u64>,
    /// Unix milliseconds from which on it no longer holds.
    pub expires_ms: Option<u64>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether it was suspended, and not resumed.
    pub suspended: bool,
    /// Networks it may be shown from; none means any.
    pub networks: Box<[Network]>,
}

impl Bounds {
    /// Whether the credential holds now, for a caller at this address.
    ///
    /// # Errors
    /// The private reason why it does not; its public face is always the same.
    pub fn check(&self, client: IpAddr, now: Now) -> Result<(), Reason> {
        Holding {
            not_before_ms: self.not_before_ms.unwrap_or(0),
            expires_ms: self.expires_ms.unwrap_or(u64::MAX),
            revoked: self.revoked,
            suspended: self.suspended,
            networks: &self.networks,
        }
        .check(client, now)
    }
}

/// The same as [`Bounds`], as it is looked at.
pub(in crate::authenticate) struct Holding<'a> {
    pub(in crate::authenticate) not_before_ms: u64,
    pub(in crate::authenticate) expires_ms: u64,
    pub(in crate::authenticate) revoked: bool,
    pub(in crate::authenticate) suspended: bool,
    pub(in crate::authenticate) networks: &'a [Network],
}

impl Holding<'_> {
    pub(in crate::authenticate) fn check(&self, client: IpAddr, now: Now) -> Result<(), Reason> {
        if self.revoked {
            return Err(Reason::CredentialRevoked);
        }
        if self.suspended {
            return Err(Reason::CredentialSuspended);
        }
        if now.unix_ms >= self.expires_ms || now.unix_ms < self.not_before_ms {
            return Err(Reason::CredentialExpired);
        }
        if !self.networks.is_empty()
            && !self.networks.iter().any(|network| network.contains(client))
        {
            return Err(Reason::CredentialNetwork);
        }
        Ok(())
    }
}
