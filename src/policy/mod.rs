//! What the gateway obeys: compiled, immutable, replaced as a whole.

pub mod rule;
pub mod files;
pub mod case;
pub mod sections;
mod unused;
pub mod compile;
mod advice;
mod beside;
mod weaker;
mod certificates;
mod workshop;
mod tokens;
mod destination;
pub mod route;
pub mod reload;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use crate::authenticate::Authenticate;
use crate::authenticate::challenge::Challenge;
use crate::authenticate::exposure::Watch;
use crate::authenticate::introspection::Introspector;
use crate::authenticate::jwt::Verifier;
use crate::authenticate::signature::SignatureScheme;
use crate::authorize::vocabulary::Vocabulary;
use crate::clock::Now;
use crate::fields::Fields;
use crate::head::Head;
use crate::limit::address::AddressBudgets;
use crate::policy::case::Case;
use crate::policy::route::Route;
use crate::record::meters::RouteMeters;
use crate::refusal::extra::Extra;
use crate::refusal::{Reason, Refusal};
use crate::respond::cors;
use crate::respond::headers::Rules;
use crate::route::table::Table;
use crate::route::{Found, Parameters};

/// A whole policy, compiled. A request keeps the one it began with.
pub struct Policy {
    name: Arc<str>,
    hash: Arc<str>,
    table: Table,
    routes: Vec<Route>,
    unmatched: Unmatched,
    keys: Watch,
    address: AddressBudgets,
    cases: Vec<Case>,
    vocabulary: Vocabulary,
    watching: Vec<(Box<str>, u64)>,
    /// Signature schemes by their names, for those who sign as the policy demands.
    signatures: BTreeMap<String, Arc<SignatureScheme>>,
    /// What verifies tokens, for metrics and for those who mint tokens as the policy demands.
    verifiers: Vec<Arc<Verifier>>,
    /// What asks issuers about tokens, for metrics.
    introspectors: Vec<Arc<Introspector>>,
}

/// What holds for requests that no route matches.
struct Unmatched {
    authenticate: Authenticate,
    rules: Rules,
    meters: Arc<RouteMeters>,
}

impl Policy {
    /// The policy's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// SHA-256 of its files, in hex.
    pub fn hash(&self) -> &Arc<str> {
        &self.hash
    }

    /// All routes, in the order of their names' files.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The names that it defines.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The rules that only watch, each with the end of that in Unix seconds.
    pub fn watching(&self) -> &[(Box<str>, u64)] {
        &self.watching
    }

    /// Its tests.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// What looks for credentials that are used as they must not be.
    pub fn keys(&self) -> &Watch {
        &self.keys
    }

    /// The budgets of addresses.
    pub fn address(&self) -> &AddressBudgets {
        &self.address
    }

    /// The rules for answers to requests that no route matches.
    pub fn unmatched_rules(&self) -> &Rules {
        &self.unmatched.rules
    }

    /// The meters for requests that no route matches.
    pub fn unmatched_meters(&self) -> &Arc<RouteMeters> {
        &self.unmatched.meters
    }

    /// The one route for a head.
    ///
    /// # Errors
    /// 404 or 405, for those who are authenticated. Whoever asks for what is not there is asked who
    /// they are first, by [`unmatched`](Self::unmatched), so that the map of routes shows to nobody
    /// who has no business here: strangers get 401.
    pub fn find(&self, head: &Head) -> Result<(&Route, Parameters), Refusal> {
        match self.table.find(&head.method, head.parties.host(), &head.path) {
            Found::Route(number, parameters) => match self.routes.get(number) {
                Some(route) => Ok((route, parameters)),
                None => Err(Reason::GatewayFault.into()),
            },
            Found::OtherMethods(methods) => {
                Err(Refusal::new(Reason::MethodNotAllowed).with(Extra::Allow(methods)))
            }
            Found::Nothing => Err(Refusal::new(Reason::RouteUnknown)),
        }
    }

    /// Who is asked for what by requests that no route matches.
    pub fn unmatched(&self) -> &Authenticate {
        &self.unmatched.authenticate
    }

    /// The route that matches a head, whoever asks; for explanations. Requests take
    /// [`find`](Self::find), which tells strangers nothing.
    pub fn route_of(&self, head: &Head) -> Option<(&Route, Parameters)> {
        match self.table.find(&head.method, head.parties.host(), &head.path) {
            Found::Route(number, parameters) => {
                self.routes.get(number).map(|route| (route, parameters))
            }
            Found::OtherMethods(_) | Found::Nothing => None,
        }
    }

    /// What verifies tokens, one for each `[jwt.NAME]`.
    pub fn verifiers(&self) -> &[Arc<Verifier>] {
        &self.verifiers
    }

    /// What asks issuers about tokens, one for each `[introspection.NAME]`.
    pub fn introspectors(&self) -> &[Arc<Introspector>] {
        &self.introspectors
    }

    /// The signature that is asked of this request, if one is.
    pub fn signature_for(&self, head: &Head) -> Option<&Arc<SignatureScheme>> {
        let route = self.route_of(head);
        let authenticate =
            route.map_or(&self.unmatched.authenticate, |(route, _)| &route.authenticate);
        authenticate.schemes().find_map(|name| self.signatures.get(name))
    }

    /// The route that a browser's preflight asks about, and the headers that answer it. Nothing for
    /// other requests, and for what the route does not allow: those go the way of all requests.
    pub fn preflight(&self, head: &Head) -> Option<(&Route, Fields)> {
        let method = cors::asked_method(&head.method, &head.headers)?;
        let asks = |method: &Method| match self.table.find(method, head.parties.host(), &head.path)
        {
            Found::Route(number, _) => self.routes.get(number),
            Found::OtherMethods(_) | Found::Nothing => None,
        };
        // A service that has OPTIONS of its own answers itself.
        if asks(&Method::OPTIONS).is_some_and(|route| route.pattern.method().is_some()) {
            return None;
        }
        let route = asks(&method)?;
        let headers = route.rules.cors()?.preflight(&head.headers, &method)?;
        Some((route, headers))
    }

    /// What becomes of a refused credential: it is charged to its address, and once that budget is
    /// empty the refusal says so instead. A valid credential never asks this budget.
    pub fn failed(&self, refusal: Refusal, head: &Head, now: Now) -> Refusal {
        if refusal.reason.status() != http::StatusCode::UNAUTHORIZED {
            return refusal;
        }
        self.address.failed(head.parties.client, now).err().unwrap_or(refusal)
    }

    /// What a 401 to a request with or without a body asks for.
    pub fn challenge<'p>(
        &'p self,
        route: Option<&'p Route>,
        reason: Reason,
        with_body: bool,
    ) -> Option<&'p Challenge> {
        route
            .map_or(&self.unmatched.authenticate, |route| &route.authenticate)
            .challenge(reason, with_body)
    }
}
