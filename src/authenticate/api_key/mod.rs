//! The scheme `api-key`: `Authorization: Bearer KEY`, or `X-API-Key: KEY`, and never both.

use std::sync::Arc;

use http::HeaderName;
use http::header::AUTHORIZATION;

use crate::authenticate::alarm::{Alarm, Cause};
use crate::authenticate::bearer::Carried;
use crate::authenticate::directory::Directory;
use crate::authenticate::exposure::stranger;
use crate::authenticate::key_format::{KeyId, TOKEN_BYTES_MAX, is_token as is_well_formed};
use crate::authenticate::standing::{Keeper, Standing};
use crate::authenticate::{Attempt, Evidence, Grant, Scheme};
use crate::clock::Now;
use crate::fields::Fields;
use crate::fields::value::Value;
use crate::head::Head;
use crate::refusal::{Reason, Refusal};

/// The name of this scheme in policy.
pub const NAME: &str = "api-key";

/// The header beside `Authorization` that may carry a key.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Query parameters that hold a credential wherever they stand: RFC 6750 section 2.3, and what
/// other gateways made a habit.
const QUERY_NAMES: [&str; 4] = ["access_token", "api_key", "apikey", "x-api-key"];

/// Proves callers by the API keys of a directory.
#[derive(Debug)]
pub struct ApiKeyScheme {
    directory: Arc<Directory>,
    /// What else `Authorization` may carry on the route.
    carried: Carried,
}

impl ApiKeyScheme {
    /// The scheme over the keys of this directory.
    pub fn new(directory: Arc<Directory>) -> Self {
        Self { directory, carried: Carried::default() }
    }

    /// What the key gives, if it is known and holds.
    ///
    /// Whether the caller knows the key comes before everything else about it, so that nothing of
    /// a key can be learned without its secret.
    fn prove(&self, text: &[u8], head: &Head, now: Now) -> Result<Evidence, Refusal> {
        let Some((entry, ticket)) = self.directory.find_api_key(text) else {
            // Tokens are ASCII, so this does not fail.
            return Err(self.unknown(str::from_utf8(text).unwrap_or_default()));
        };
        if entry.is_trap(now) {
            return Err(self.trapped(&entry.grant, head));
        }
        if let Err(reason) =
            entry.check(self.directory.environment_name(), head.parties.client, now)
        {
            return Err(Refusal::new(reason).because(format!("key {}", entry.grant.credential)));
        }
        let keeper: Arc<dyn Keeper> = Arc::clone(&self.directory) as _;
        let standing = Some(Standing::new(keeper, ticket));
        let grant = Arc::clone(&entry.grant);
        Ok(Evidence { grant, digest_covered: false, standing, assurance: None, dpop_nonce: None })
    }

    /// Tells those who act behind the request that somebody holds what nobody may use.
    fn trapped(&self, grant: &Grant, head: &Head) -> Refusal {
        if let Some(id) = KeyId::parse(&grant.credential) {
            let client = stranger(head.parties.client, &head.peer);
            self.directory.alarms().raise(Alarm { id, cause: Cause::Canary, client });
        }
        Refusal::new(Reason::CredentialCanary).because(format!("key {}", grant.credential))
    }

    /// Why a text is no key of ours, as far as the text itself tells.
    fn unknown(&self, text: &str) -> Refusal {
        let format = self.directory.format();
        match format.parse(text) {
            Some(parsed) if parsed.env != self.directory.environment() => {
                Refusal::new(Reason::CredentialEnvironment)
                    .because("the key was made for another environment and is not known here")
            }
            Some(_) => Refusal::new(Reason::CredentialUnknown),
            None if format.resembles(text) => Refusal::new(Reason::CredentialMalformed)
                .because("the key's checksum is wrong: it was mistyped or cut"),
            None => Refusal::new(Reason::CredentialUnknown),
        }
    }

    /// Whether a value of `Authorization` is a token that another scheme of the route takes. What
    /// begins like a key of ours is one, and so is what was imported as one.
    fn is_token(&self, value: Value<'_>) -> bool {
        self.carried.is_token(value, |text| self.directory.is_key(text))
    }

    /// Refuses a key in the query, where it has already been written to logs and histories.
    fn refuse_exposed(&self, query: &str) -> Result<(), Refusal> {
        if let Some(parsed) = self.directory.format().find(query) {
            let told = format!("the query holds a well-formed key with the id {}", parsed.id);
            return Err(Refusal::new(Reason::CredentialInQuery).because(told));
        }
        let named = query.split('&').any(|pair| {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            QUERY_NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
        });
        if named {
            return Err(Refusal::new(Reason::CredentialInQuery)
                .because("the query has a parameter that names a credential"));
        }
        Ok(())
    }
}

impl Scheme for ApiKeyScheme {
    fn name(&self) -> &str {
        NAME
    }

    fn attempt(&self, head: &Head, now: Now) -> Attempt {
        if let Some(query) = &head.query
            && let Err(refusal) = self.refuse_exposed(query)
        {
            return Attempt::Rejected(refusal);
        }
        let proved = match presented(&head.headers, |value| self.is_token(value)) {
            Ok(None) => return Attempt::Absent,
            Ok(Some(text)) => self.prove(text, head, now),
            Err(refusal) => Err(refusal),
        };
        match proved {
            Ok(evidence) => Attempt::Accepted(evidence),
            Err(refusal) => Attempt::Rejected(refusal),
        }
    }

    fn on_route(&self, carried: Carried) -> Option<Arc<dyn Scheme>> {
        Some(Arc::new(Self { directory: Arc::clone(&self.directory), carried }))
    }
}

/// The one key that the headers carry, if they carry one.
fn presented(
    headers: &Fields,
    is_token: impl Fn(Value<'_>) -> bool,
) -> Result<Option<&[u8]>, Refusal> {
    let mut bearers = headers.get_all(AUTHORIZATION).filter(|value| !is_token(*value));
    let mut plain = headers.get_all(X_API_KEY);
    let carriers = (bearers.next(), plain.next());
    if bearers.next().is_some() || plain.next().is_some() {
        return Err(Reason::CredentialRepeated.into());
    }
    let token = match carriers {
        (None, None) => return Ok(None),
        // Even when they are equal: the service behind might look at the other one some day.
        (Some(_), Some(_)) => return Err(Reason::CredentialRepeated.into()),
        (Some(value), None) => bearer(value.as_bytes()).ok_or_else(|| {
            Refusal::new(Reason::CredentialMalformed)
                .because("Authorization is not `Bearer`, one space and a key")
        })?,
        (None, Some(value)) => value.as_bytes(),
    };
    if token.len() > TOKEN_BYTES_MAX || !is_well_formed(token) {
        return Err(Refusal::new(Reason::CredentialMalformed)
            .because("the key has characters that no key has, or more than 512"));
    }
    Ok(Some(token))
}

/// What follows `Bearer` and exactly one space (RFC 6750 section 2.1).
pub(in crate::authenticate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

#[cfg(test)]
mod tests;
