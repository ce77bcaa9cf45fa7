//! Our own credential at a service behind, such as a third party's API: never the caller's to see.
//!
//! It belongs to one upstream and is written last, so that nothing a caller sends can stand in its
//! place, and nothing that is sent to another upstream can hold it.

pub mod oauth;
pub mod rule;
mod endpoint;
mod query;
pub(in crate::forward) mod signing;

use std::fmt;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};

use crate::clock::Now;
use crate::fields::Fields;
use crate::forward::credential::oauth::OAuth;
use crate::forward::credential::query::Pair;
use crate::forward::credential::signing::Signing;
use crate::refusal::Refusal;
use crate::secret::watched::Watched;

/// What proves us to the targets of one upstream. Made by `rule::compile` alone.
pub struct Credential(Kind);

enum Kind {
    /// A header with a secret.
    Header { name: HeaderName, value: Watched<HeaderValue> },
    /// A parameter of the query with a secret.
    Query(Watched<Pair>),
    /// A signature of each request (RFC 9421).
    Signature(Signing),
    /// A token that is fetched behind the requests (RFC 6749, section 4.4).
    OAuth(Box<OAuth>),
}

impl Credential {
    /// Writes the credential into a request that is otherwise ready, but for a signature. Gives the
    /// path and query that are sent.
    ///
    /// # Errors
    /// There is no token at the moment, or the path would be too long.
    pub(in crate::forward) fn inject(
        &self,
        headers: &mut Fields,
        path: PathAndQuery,
        now: Now,
    ) -> Result<PathAndQuery, Refusal> {
        match &self.0 {
            Kind::Header { name, value } => {
                // Every value that the caller sent under this name goes.
                headers.insert(name.clone(), HeaderValue::clone(&value.load()));
            }
            Kind::Query(pair) => return pair.load().inject(&path),
            Kind::OAuth(oauth) => {
                headers.insert(http::header::AUTHORIZATION, oauth.value(now)?);
            }
            Kind::Signature(_) => {}
        }
        Ok(path)
    }

    /// The signing of requests, where that is the credential.
    pub(in crate::forward) fn signing(&self) -> Option<&Signing> {
        match &self.0 {
            Kind::Signature(signing) => Some(signing),
            Kind::Header { .. } | Kind::Query(_) | Kind::OAuth(_) => None,
        }
    }

    /// The tokens, where those are the credential.
    pub fn oauth(&self) -> Option<&OAuth> {
        match &self.0 {
            Kind::OAuth(oauth) => Some(oauth),
            Kind::Header { .. } | Kind::Query(_) | Kind::Signature(_) => None,
        }
    }

    /// Whether it stands in the query.
    pub(in crate::forward) fn is_in_query(&self) -> bool {
        matches!(self.0, Kind::Query(_))
    }

    /// Follows the reference to the secret again. True when another one is in force.
    ///
    /// # Errors
    /// What is there is no good; what was there before stays in force.
    pub(in crate::forward) fn reload_if_changed(&self) -> Result<bool, String> {
        let changed = match &self.0 {
            Kind::Header { value, .. } => value.reload_if_changed(),
            Kind::Query(pair) => pair.reload_if_changed(),
            Kind::Signature(signing) => signing.reload_if_changed(),
            Kind::OAuth(oauth) => return oauth.reload_if_changed(),
        };
        changed.map_err(|fault| fault.sentence())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Header { .. } => "Credential(header)",
            Kind::Query(_) => "Credential(query)",
            Kind::Signature(_) => "Credential(signature)",
            Kind::OAuth(_) => "Credential(oauth)",
        })
    }
}
