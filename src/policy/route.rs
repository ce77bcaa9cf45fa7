//! One route: the rules of every stage, compiled.

use std::sync::Arc;
use std::time::Duration;

use crate::authenticate::Authenticate;
use crate::authorize::Doors;
use crate::clock::Now;
use crate::forward::SendOptions;
use crate::forward::destination::Destination;
use crate::inspect::Filters;
use crate::limit::Budgets;
use crate::mistake::source::Origin;
use crate::record::meters::RouteMeters;
use crate::refusal::Refusal;
use crate::respond::headers::Rules;
use crate::route::Parameters;
use crate::route::pattern::Pattern;
use crate::route::rewrite::Rewrite;

/// One route: what matches it is in the table, what then holds is here.
pub struct Route {
    /// Its name in the policy.
    pub name: Arc<str>,
    /// Where it stands.
    pub origin: Origin,
    /// One line for reviewers.
    pub summary: String,
    /// Its number in the policy, which budgets per route count by.
    pub number: u32,
    /// What matches, as written.
    pub pattern: Pattern,
    /// The hosts it holds for, as written; none means all.
    pub hosts: Vec<String>,
    /// How callers prove who they are.
    pub authenticate: Authenticate,
    /// Who may use it.
    pub doors: Doors,
    /// How much.
    pub budgets: Budgets,
    /// What may be sent.
    pub filters: Filters,
    /// Who answers.
    pub destination: Destination,
    /// The path that the upstream sees, when it is another.
    pub rewrite: Option<Rewrite>,
    /// From the first byte to the head of the answer, when it is not the upstream's own.
    pub timeout: Option<Duration>,
    /// Whether the upstream sees the caller's own credential.
    pub keep_credentials: bool,
    /// What happens to the headers of answers.
    pub rules: Rules,
    /// Where its requests are counted.
    pub meters: Arc<RouteMeters>,
}

impl Route {
    /// Whether its requests may change something at the service.
    pub fn changes_things(&self) -> bool {
        let method = self.pattern.method().map(http::Method::as_str);
        !matches!(method, Some("GET" | "HEAD" | "OPTIONS"))
    }

    /// The path that the upstream sees, when it is another than the caller's.
    ///
    /// # Errors
    /// When the parameters make it too long.
    pub fn rewritten(&self, parameters: &Parameters) -> Result<Option<Box<str>>, Refusal> {
        self.rewrite.as_ref().map(|rewrite| rewrite.apply(parameters)).transpose()
    }

    /// How a request of this route is sent.
    pub fn send_options<'a>(&self, path: Option<&'a str>, now: Now) -> SendOptions<'a> {
        let keep_credentials = self.keep_credentials;
        SendOptions { path, total: self.timeout, keep_credentials, identity: true, now }
    }
}
