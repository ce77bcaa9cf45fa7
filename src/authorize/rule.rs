//! A door as policies write it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::authorize::observe::ObserveRule;
use crate::authorize::step_up::ClaimValue;
use crate::mistake::source::At;
use crate::units::{Network, Span};

/// One way into a route. Everything in it must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoorRule {
    /// `true` opens the door to every caller who is authenticated; only `from` may stand beside it.
    #[serde(default)]
    pub anyone: Option<At<bool>>,
    /// Scopes, all of which the credential must hold.
    #[serde(default)]
    pub scopes: Option<At<Vec<At<String>>>>,
    /// Roles, one of which the credential must hold, directly or through a role that includes it.
    #[serde(default)]
    pub roles: Option<At<Vec<At<String>>>>,
    /// Tiers, one of which the credential must be in.
    #[serde(default)]
    pub tiers: Option<At<Vec<At<String>>>>,
    /// `"path.NAME"` or `"query.NAME"`: this value of the request must be the credential's owner.
    #[serde(default)]
    pub owner: Option<At<String>>,
    /// Networks, in one of which the caller's address must lie.
    #[serde(default)]
    pub from: Option<At<Vec<Network>>>,
    /// Names, one of which the client certificate of the connection must have:
    /// `"spiffe://example.org/ns/prod/*"`, `"*.partner.example"`.
    #[serde(default)]
    pub certificates: Option<At<Vec<At<String>>>>,
    /// Days, on one of which it must be: `"mon"` to `"sun"`.
    #[serde(default)]
    pub days: Option<At<Vec<At<String>>>>,
    /// Times of day, in one of which it must be: `"08:00-18:00"`. `"22:00-06:00"` goes on into the
    /// day that follows the day it begins on.
    #[serde(default)]
    pub hours: Option<At<Vec<At<String>>>>,
    /// The time zone that `days` and `hours` are told in, by its name in the machine's database:
    /// `"Europe/Berlin"`. Default: `"UTC"`.
    #[serde(default)]
    pub zone: Option<At<String>>,
    /// Until a day, the door is only watched: what it would refuse passes, and is recorded.
    #[serde(default)]
    pub observe: Option<At<ObserveRule>>,
    /// Claims that the caller's token must have, each with one of these values.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<ClaimValue>>")]
    pub claims: Option<BTreeMap<String, At<Vec<ClaimValue>>>>,
    /// Levels of authentication (`acr`), one of which the token must have. Whoever lacks nothing
    /// else is asked for it (RFC 9470).
    #[serde(default)]
    pub acr: Option<At<Vec<At<String>>>>,
    /// Methods of authentication (`amr`), all of which the token must have.
    #[serde(default)]
    pub amr: Option<At<Vec<At<String>>>>,
    /// How long ago the person may have been authenticated (`auth_time`), `1s` to `365d`.
    #[serde(default)]
    pub max_age: Option<At<Span>>,
}
