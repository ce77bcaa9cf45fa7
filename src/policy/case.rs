//! A policy's own tests: `[[test]]`, a request and what must become of it.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::authorize::vocabulary::Vocabulary;
use crate::fields::Fields;
use crate::mistake::code::Code;
use crate::mistake::source::{At, Origin};
use crate::mistake::{Reading, suggest};
use crate::refusal::{Reason, Stage};

/// Where tests come from when they do not say: an address of documentation (RFC 5737).
const FROM_USUAL: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
/// How often one test may repeat its request.
const REPEATS_MAX: u32 = 100_000;

/// A test as written: `[[test]]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseRule {
    /// What it protects, in a sentence.
    pub name: At<String>,
    /// Method and target: "GET /v1/tasks?limit=5".
    pub request: At<String>,
    /// Who calls. Left out: nobody, without any credential.
    #[serde(rename = "as")]
    pub caller: Option<CallerRule>,
    /// Headers of the request.
    #[serde(default)]
    pub headers: BTreeMap<String, At<String>>,
    /// Host of the request. Default: "localhost".
    pub host: Option<String>,
    /// Address of the caller. Default: "192.0.2.1".
    pub from: Option<At<String>>,
    /// Body of the request; its type is application/json unless `headers` say otherwise.
    pub body: Option<String>,
    /// The request is sent so many times; what is expected is expected of the last. Default: 1.
    pub repeat: Option<At<u32>>,
    /// When it is sent. Default: now.
    #[schemars(with = "Option<String>")]
    pub now: Option<At<toml::value::Datetime>>,
    /// What the upstream answers. Default: 200 with an empty body.
    pub upstream: Option<UpstreamAnswerRule>,
    /// What must become of it.
    pub expect: ExpectRule,
}

/// Who calls in a test: a key with these facts is made for it, and shown like any other.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallerRule {
    /// The subject: the user who owns the key.
    pub sub: String,
    /// Roles.
    #[serde(default)]
    pub roles: Vec<At<String>>,
    /// Scopes.
    #[serde(default)]
    pub scopes: Vec<At<String>>,
    /// Tier.
    pub tier: Option<At<String>>,
    /// Whether the request is signed as the route demands. Default: false.
    #[serde(default)]
    pub signed: bool,
    /// The name in the certificate that the connection shows, a SPIFFE ID or a DNS name. Default:
    /// it shows none. A caller of whom nothing else is said has no key.
    pub certificate: Option<String>,
    /// The `[jwt.NAME]` whose token is shown in place of a key.
    pub jwt: Option<String>,
    /// What that token says beside, for example `{ acr = "phr", amr = ["otp"] }`.
    #[serde(default)]
    pub claims: serde_json::Map<String, serde_json::Value>,
}

/// What the upstream answers in a test.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamAnswerRule {
    /// The status. Default: 200.
    pub status: Option<At<u16>>,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, At<String>>,
    /// The body. Default: empty.
    pub body: Option<String>,
}

/// What must become of a request. Whatever is left out is not looked at.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectRule {
    /// "allow" or "refuse".
    pub decision: Decision,
    /// The status that is answered.
    pub status: Option<At<u16>>,
    /// The stage that refuses.
    pub stage: Option<At<String>>,
    /// The reason, from `portcullis schema reasons`.
    pub reason: Option<At<String>>,
    /// The rule that decides, for example "limits.write".
    pub rule: Option<String>,
    /// The route that matches.
    pub route: Option<String>,
    /// Headers of the answer.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Body of the answer.
    pub body: Option<String>,
    /// Reasons that were only observed.
    pub observed: Option<Vec<At<String>>>,
}

/// The verdict of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The request reaches the upstream.
    Allow,
    /// It is refused.
    Refuse,
}

/// A test that can be run.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it protects.
    pub name: String,
    /// Where it stands.
    pub origin: Origin,
    /// The request.
    pub request: CaseRequest,
    /// Who calls.
    pub caller: Option<CaseCaller>,
    /// How often it is sent.
    pub repeat: u32,
    /// Unix milliseconds at which it is sent; nothing means now.
    pub now_ms: Option<u64>,
    /// What the upstream answers.
    pub upstream: (StatusCode, Fields, String),
    /// What must become of it.
    pub expect: ExpectRule,
}

/// Who calls in a test. Every name is one that the policy defines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseCaller {
    /// The subject.
    pub sub: String,
    /// Roles.
    pub roles: Vec<String>,
    /// Scopes.
    pub scopes: Vec<String>,
    /// Tier.
    pub tier: Option<String>,
    /// Whether the request is signed as its route demands.
    pub signed: bool,
    /// The name in the certificate that its connection shows.
    pub certificate: Option<String>,
    /// The `[jwt.NAME]` whose token is shown in place of a key.
    pub jwt: Option<String>,
    /// What that token says beside.
    pub claims: serde_json::Map<String, serde_json::Value>,
}

/// The request of a test.
#[derive(Clone, Debug)]
pub struct CaseRequest {
    /// The method.
    pub method: Method,
    /// The target.
    pub target: String,
    /// The host.
    pub host: String,
    /// Headers.
    pub headers: Fields,
    /// The caller's address.
    pub from: std::net::IpAddr,
    /// The body.
    pub body: Option<String>,
}

impl Case {
    /// Compiles a test.
    pub fn compile(
        rule: &CaseRule,
        vocabulary: &Vocabulary,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        let before = reading.mistakes.count().0;
        let request = CaseRequest::compile(rule, reading);
        let caller =
            rule.caller.as_ref().map(|caller| CaseCaller::compile(caller, vocabulary, reading));
        let upstream = answer(rule.upstream.as_ref(), reading);
        let now_ms = rule.now.as_ref().and_then(|at| moment(at, reading));
        check_expectation(&rule.expect, reading);
        let repeat = rule.repeat.as_ref().map_or(1, |repeat| repeat.value);
        if let Some(at) = rule.repeat.as_ref().filter(|at| !(1..=REPEATS_MAX).contains(&at.value)) {
            reading.wrong(
                Code::BadTest,
                &at.span,
                "`repeat` must lie between 1 and 100,000",
                "repeat less often",
            );
        }
        if reading.mistakes.count().0 > before {
            return None;
        }
        Some(Self {
            name: rule.name.value.clone(),
            origin: reading.origin("test", &rule.name.span),
            request: request?,
            caller,
            repeat,
            now_ms,
            upstream,
            expect: rule.expect.clone(),
        })
    }
}

impl CaseCaller {
    fn compile(rule: &CallerRule, vocabulary: &Vocabulary, reading: &mut Reading<'_>) -> Self {
        let CallerRule { sub, roles, scopes, tier, signed, certificate, jwt, claims } = rule;
        // Reported where a name is not defined; a misspelt role would make the test prove nothing.
        for role in roles {
            vocabulary.role(role, reading);
        }
        for scope in scopes {
            vocabulary.scope(scope, reading);
        }
        if let Some(tier) = tier {
            vocabulary.tier(tier, reading);
        }
        let texts = |names: &[At<String>]| names.iter().map(|name| name.value.clone()).collect();
        Self {
            sub: sub.clone(),
            roles: texts(roles),
            scopes: texts(scopes),
            tier: tier.as_ref().map(|tier| tier.value.clone()),
            signed: *signed,
            certificate: certificate.clone(),
            jwt: jwt.clone(),
            claims: claims.clone(),
        }
    }
}

impl ExpectRule {
    /// Expects this verdict and nothing else.
    pub fn only(decision: Decision) -> Self {
        Self {
            decision,
            status: None,
            stage: None,
            reason: None,
            rule: None,
            route: None,
            headers: BTreeMap::new(),
            body: None,
            observed: None,
        }
    }
}

impl CaseRequest {
    fn compile(rule: &CaseRule, reading: &mut Reading<'_>) -> Option<Self> {
        let parsed = rule.request.split_once(' ').and_then(|(method, target)| {
            let method = Method::from_bytes(method.as_bytes()).ok()?;
            (!target.is_empty() && !target.contains(' ')).then(|| (method, target.to_owned()))
        });
        if parsed.is_none() {
            reading.wrong(
                Code::BadTest,
                &rule.request.span,
                format!("`{}` is not a method and a target", rule.request.value),
                "write for example request = \"GET /v1/tasks?limit=5\"",
            );
        }
        let from = rule.from.as_ref().map_or_else(|| Ok(FROM_USUAL), |at| at.parse());
        if let (Err(_), Some(at)) = (&from, &rule.from) {
            reading.wrong(
                Code::BadTest,
                &at.span,
                format!("`{}` is not an address", at.value),
                "write an IP address, for example from = \"203.0.113.9\"",
            );
        }
        let headers = headers(&rule.headers, reading);
        let (method, target) = parsed?;
        Some(Self {
            method,
            target,
            host: rule.host.clone().unwrap_or_else(|| "localhost".to_owned()),
            headers,
            from: from.ok()?,
            body: rule.body.clone(),
        })
    }
}

fn answer(
    rule: Option<&UpstreamAnswerRule>,
    reading: &mut Reading<'_>,
) -> (StatusCode, Fields, String) {
    let Some(rule) = rule else { return (StatusCode::OK, Fields::new(), String::new()) };
    let status =
        rule.status.as_ref().map_or(Ok(StatusCode::OK), |at| StatusCode::from_u16(at.value));
    if let (Err(_), Some(at)) = (&status, &rule.status) {
        reading.wrong(
            Code::BadTest,
            &at.span,
            format!("{} is not a status", at.value),
            "write 100 to 599",
        );
    }
    (
        status.unwrap_or_default(),
        headers(&rule.headers, reading),
        rule.body.clone().unwrap_or_default(),
    )
}

fn headers(written: &BTreeMap<String, At<String>>, reading: &mut Reading<'_>) -> Fields {
    let mut headers = Fields::new();
    for (name, value) in written {
        match (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => {
                headers.append(name, value);
            }
            _ => reading.wrong(
                Code::BadTest,
                &value.span,
                format!("`{name}: {}` is not a header", value.value),
                "write a name of letters and hyphens, and a value of visible characters",
            ),
        }
    }
    headers
}

fn moment(at: &At<toml::value::Datetime>, reading: &mut Reading<'_>) -> Option<u64> {
    let text = at.value.to_string();
    let text = if at.value.time.is_none() { format!("{text}T00:00:00Z") } else { text };
    let millis = text
        .parse::<jiff::Timestamp>()
        .ok()
        .and_then(|moment| u64::try_from(moment.as_millisecond()).ok());
    if millis.is_none() {
        reading.wrong(
            Code::BadTest,
            &at.span,
            format!("`{text}` is not a moment"),
            "write a date, or a date with time and zone: 2026-11-25T09:00:00Z",
        );
    }
    millis
}

fn check_expectation(expect: &ExpectRule, reading: &mut Reading<'_>) {
    let reasons = Reason::ALL.iter().map(|reason| reason.name());
    for at in expect.reason.iter().chain(expect.observed.iter().flatten()) {
        if Reason::by_name(at).is_none() {
            reading.wrong(
                Code::BadTest,
                &at.span,
                format!("`{}` is not a reason", at.value),
                suggest(at, reasons.clone()),
            );
        }
    }
    if let Some(at) = &expect.stage
        && !Stage::ALL.iter().any(|stage| stage.name() == at.value)
    {
        let stages = Stage::ALL.iter().map(|stage| stage.name());
        reading.wrong(
            Code::BadTest,
            &at.span,
            format!("`{}` is not a stage", at.value),
            suggest(at, stages),
        );
    }
    if let Some(at) = expect.status.as_ref().filter(|at| StatusCode::from_u16(at.value).is_err()) {
        reading.wrong(
            Code::BadTest,
            &at.span,
            format!("{} is not a status", at.value),
            "write 100 to 599",
        );
    }
}
