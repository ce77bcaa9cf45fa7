//! Makes responses: from the upstream's answer, or from a refusal.

pub mod body;
pub mod cors;
pub mod headers;
pub mod limits;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::authenticate::challenge::Challenge;
use crate::authenticate::jwt::dpop;
use crate::authenticate::jwt::dpop_nonce::DPOP_NONCE;
use crate::fields::Fields;
use crate::fields::value::Short;
use crate::forward::Answer;
use crate::head::RequestId;
use crate::listen::Response;
use crate::listen::body::Body;
use crate::refusal::extra::{Extra, Spent};
use crate::refusal::{Reason, Refusal};
use crate::respond::body::Shape;
use crate::respond::headers::Rules;

/// The name of a request, on every answer.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Room for the fields of an answer that the gateway makes itself, limit headers included.
const REFUSAL_FIELDS: usize = 12;

/// What an answer is told about the request that it answers.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The request's name.
    pub id: RequestId,
    /// Whether the answer travels over TLS.
    pub tls: bool,
    /// Whether the caller was authenticated, so that no cache may keep the answer.
    pub authenticated: bool,
    /// Unix seconds at which the caller's credential gives way to its successor.
    pub retires_s: Option<u64>,
    /// The nonce for the caller's next proof of possession, where it has to know another.
    pub dpop_nonce: Option<&'a HeaderValue>,
    /// The form that errors take for this caller.
    pub shape: Shape,
    /// The origin of the page that asks, if a browser does.
    pub origin: Option<&'a HeaderValue>,
    /// The tightest budget: the name of its limit, and its state.
    pub budget: Option<(&'a str, Spent)>,
}

/// The response that carries an upstream's answer.
pub fn answer(answer: Answer, facts: &Facts<'_>, rules: &Rules) -> Response<Body> {
    let Answer { status, mut headers, body, .. } = answer;
    rules.hide(&mut headers);
    secure(&mut headers, facts, rules);
    rules.add(&mut headers);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // The upstream's own was removed with what belongs to its connection; no caller takes an
        // upgrade for done without it (RFC 6455, section 4.1).
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    if let Some((name, spent)) = facts.budget {
        limits::write(&mut headers, rules.limit_headers(), name, &spent);
    }
    Response { status, headers, body }
}

/// The response that says no.
///
/// Its headers and body hold nothing of the request: only the reason's own words, the state of a
/// budget, names of fields from the schema, and the request's name.
pub fn refuse(
    refusal: &Refusal,
    facts: &Facts<'_>,
    challenge: Option<&Challenge>,
    rules: &Rules,
) -> Response<Body> {
    let (content_type, body) = body::of(refusal, facts);
    let mut fields = Fields::with_capacity(REFUSAL_FIELDS);
    let headers = &mut fields;
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match &refusal.extra {
        Extra::None | Extra::Fields(_) => {}
        Extra::Allow(methods) => {
            if let Ok(methods) = HeaderValue::from_str(methods) {
                headers.insert(ALLOW, methods);
            }
        }
        Extra::Budget(spent) => {
            let name = refusal.rule.as_ref().map_or("address", |rule| rule.rule());
            limits::write(headers, rules.limit_headers(), limits::short(name), spent);
            headers.insert(RETRY_AFTER, HeaderValue::from(spent.retry_after.max(1)));
        }
        Extra::Challenge(challenge) => {
            headers.insert(WWW_AUTHENTICATE, challenge.clone());
        }
        Extra::DpopNonce(nonce) => {
            headers.insert(WWW_AUTHENTICATE, dpop::WANTS_NONCE);
            headers.insert(DPOP_NONCE, nonce.clone());
        }
        Extra::RetryAfter(seconds) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(*seconds));
        }
    }
    if let Some(challenge) = challenge {
        headers.insert(WWW_AUTHENTICATE, challenge.www_authenticate.clone());
        if let Some(dpop) = &challenge.dpop {
            headers.append(WWW_AUTHENTICATE, dpop.clone());
        }
        for wanted in &challenge.accept_signature {
            headers.append(headers::ACCEPT_SIGNATURE, wanted.clone());
        }
        if let Some(wanted) = &challenge.want_content_digest {
            headers.insert(headers::WANT_CONTENT_DIGEST, wanted.clone());
        }
    }
    if matches!(refusal.reason, Reason::DigestMissing | Reason::DigestUnsupported) {
        // RFC 9530, section 4: what would have done.
        let wanted = HeaderValue::from_static("sha-256=10, sha-512=3");
        headers.insert(headers::WANT_CONTENT_DIGEST, wanted);
    }
    if let (Some((name, spent)), false) = (facts.budget, matches!(refusal.extra, Extra::Budget(_)))
    {
        limits::write(headers, rules.limit_headers(), name, &spent);
    }
    secure(headers, facts, rules);
    Response { status: refusal.reason.status(), headers: fields, body: Body::Whole(body) }
}

/// The answer to a browser's preflight, with the headers that [`cors`] found for it.
pub fn preflight(mut headers: Fields, facts: &Facts<'_>) -> Response<Body> {
    secure(&mut headers, facts, &Rules::default());
    Response { status: StatusCode::NO_CONTENT, headers, body: Body::Empty }
}

/// A permanent redirect to the same target over TLS. 308 keeps method and body (RFC 9110, 15.4.9).
pub fn redirect(location: &HeaderValue, facts: &Facts<'_>) -> Response<Body> {
    let mut headers = Fields::with_capacity(REFUSAL_FIELDS);
    headers.insert(http::header::LOCATION, location.clone());
    secure(&mut headers, facts, &Rules::default());
    Response { status: StatusCode::PERMANENT_REDIRECT, headers, body: Body::Empty }
}

/// The headers that every answer carries, whoever made it.
fn secure(headers: &mut Fields, facts: &Facts<'_>, rules: &Rules) {
    if let Some(cors) = rules.cors() {
        cors.write(facts.origin, headers);
    }
    if let Some(id) = Short::of(&[facts.id.as_bytes()]) {
        headers.insert_short(X_REQUEST_ID, id.passing());
    }
    if facts.tls {
        headers.insert(http::header::STRICT_TRANSPORT_SECURITY, headers::HSTS);
    }
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, headers::NOSNIFF);
    if let Some(date) = facts.retires_s.and_then(headers::date) {
        headers.insert(headers::KEY_EXPIRES, date);
    }
    if let Some(nonce) = facts.dpop_nonce {
        headers.insert(DPOP_NONCE, nonce.clone());
        // From a cache, it would be an old one (RFC 9449, section 8.2).
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if facts.authenticated && !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
