//! A policy as it is written: the sections of `policies/*.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::authenticate::certificate::CertificateRule;
use crate::authenticate::exposure::KeysRule;
use crate::authenticate::introspection::rule::IntrospectionRule;
use crate::authenticate::jwt::rule::JwtRule;
use crate::authenticate::rule::AuthRule;
use crate::authenticate::self_service::SelfServiceRule;
use crate::authenticate::signature::rule::SignatureRule;
use crate::authorize::rule::DoorRule;
use crate::authorize::vocabulary::{RoleRule, TierRule};
use crate::inspect::body::rule::BodyChoice;
use crate::inspect::detect::rule::FilterRule;
use crate::inspect::headers::HeadersRule;
use crate::inspect::query::QueryRule;
use crate::limit::address::AddressRule;
use crate::limit::rule::LimitRule;
use crate::mistake::source::At;
use crate::policy::case::CaseRule;
use crate::respond::cors::CorsRule;
use crate::respond::headers::ResponseRule;
use crate::respond::limits::LimitHeaders;
use crate::units::Span;

/// A file of the policy directory. All files together are one policy: every name is defined once,
/// in whichever file, and order never matters.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename = "policy")]
pub struct PolicyFile {
    /// The version of this format: 1. Stands in one file.
    pub version: Option<u32>,
    /// The policy's name, for metrics and records. Stands in one file.
    pub name: Option<String>,
    /// Roles: what a credential's holder is. A role may include others.
    #[serde(default)]
    pub roles: BTreeMap<String, RoleRule>,
    /// Scopes: what a credential may be used for, each with a sentence.
    #[serde(default)]
    pub scopes: BTreeMap<String, String>,
    /// Tiers: how much a credential may ask.
    #[serde(default)]
    pub tiers: BTreeMap<String, TierRule>,
    /// What becomes of API keys that are used as they must not be.
    pub keys: Option<KeysRule>,
    /// The budget of every address, asked before anything else.
    pub address: Option<AddressRule>,
    /// Token buckets, by name.
    #[serde(default)]
    pub limits: BTreeMap<String, LimitRule>,
    /// Attack detection, by name.
    #[serde(default)]
    pub filters: BTreeMap<String, FilterRule>,
    /// Request signatures (RFC 9421), by name.
    #[serde(default)]
    pub signatures: BTreeMap<String, SignatureRule>,
    /// Client certificates and whom they prove, by name.
    #[serde(default)]
    pub certificates: BTreeMap<String, CertificateRule>,
    /// Issuers whose tokens are accepted (RFC 7519), by name.
    #[serde(default)]
    pub jwt: BTreeMap<String, JwtRule>,
    /// Issuers that are asked what a token is worth (RFC 7662), by name.
    #[serde(default)]
    pub introspection: BTreeMap<String, IntrospectionRule>,
    /// What every route gets unless it says otherwise; a route's value replaces, never merges.
    pub defaults: Option<DefaultsRule>,
    /// Routes, by name.
    #[serde(default)]
    pub routes: BTreeMap<String, RouteRule>,
    /// Tests: a request and what must become of it.
    #[serde(default)]
    pub test: Vec<CaseRule>,
}

/// What every route gets unless it says otherwise.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefaultsRule {
    /// How callers prove who they are. Requests that no route matches are asked for it too.
    pub auth: Option<At<AuthRule>>,
    /// The budgets of every route.
    pub limits: Option<At<Vec<At<String>>>>,
    /// Which limit headers are sent: "both", "x-ratelimit", "ietf" or "none". Default: "both".
    #[serde(default)]
    pub limit_headers: LimitHeaders,
    /// Attack detection: the name of a filter, or "none".
    pub filter: Option<At<String>>,
    /// From the request's first byte to the head of its answer. Default: the upstream's `timeout.total`.
    pub timeout: Option<Span>,
    /// What bodies may be.
    pub body: Option<At<BodyChoice>>,
    /// What the query may be.
    pub query: Option<At<QueryRule>>,
    /// What headers must be.
    pub headers: Option<At<HeadersRule>>,
    /// What happens to the headers of answers.
    pub response: Option<At<ResponseRule>>,
    /// Pages of which other origins may call, in browsers. Default: none.
    pub cors: Option<At<CorsRule>>,
}

/// One route: which requests it matches, and the rules that then hold.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteRule {
    /// One line that a reviewer reads first.
    pub summary: String,
    /// One method and one path: "GET /v1/tasks/{id:uuid}". `{name}` matches one segment, `{name:int}`
    /// and `{name:uuid}` also check it, `{rest...}` takes the rest; `*` is any method.
    #[serde(rename = "match")]
    pub pattern: At<String>,
    /// Hosts that the route holds for: "api.example.com", "*.example.com". Default: all.
    pub hosts: Option<Vec<At<String>>>,
    /// The upstream of `gateway.toml` that answers. Needed unless `self_service` is written.
    pub upstream: Option<At<String>>,
    /// Lets callers manage their own API keys here; the gateway itself answers. Default: it does not.
    pub self_service: Option<At<SelfServiceRule>>,
    /// How callers prove who they are: `{ any = ["api-key"] }`, `{ all = [...] }`, or "none".
    pub auth: Option<At<AuthRule>>,
    /// Doors. Any one that opens lets the request in; within a door everything must hold.
    pub allow: Option<At<Vec<At<DoorRule>>>>,
    /// Doors that refuse: whoever fits one stays outside, whatever `allow` says.
    pub deny: Option<At<Vec<At<DoorRule>>>>,
    /// The budgets that are spent, all or none.
    pub limits: Option<At<Vec<At<String>>>>,
    /// Attack detection: the name of a filter, or "none".
    pub filter: Option<At<String>>,
    /// What the body may be.
    pub body: Option<At<BodyChoice>>,
    /// What the query may be.
    pub query: Option<At<QueryRule>>,
    /// What headers must be.
    pub headers: Option<At<HeadersRule>>,
    /// From the request's first byte to the head of its answer. Default: the upstream's `timeout.total`.
    pub timeout: Option<Span>,
    /// The path that the upstream sees: "/v2/tasks/{id}". Default: the path that was matched.
    pub rewrite: Option<At<String>>,
    /// What happens to the headers of answers.
    pub response: Option<At<ResponseRule>>,
    /// Pages of which other origins may call, in browsers; `{ origins = [] }` takes a default away.
    pub cors: Option<At<CorsRule>>,
    /// Whether the upstream sees the caller's own credential. Default: false.
    #[serde(default)]
    pub keep_credentials: bool,
}
