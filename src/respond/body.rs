//! The bodies of refusals: the one error shape, or problem details on request.

use std::sync::OnceLock;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use crate::fields::Fields;
use crate::refusal::extra::{Extra, Spent};
use crate::refusal::{Reason, Refusal};
use crate::respond::Facts;

const PROBLEM: &str = "application/problem+json";

/// The form that errors take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// `{"error": {"code": …, "message": …, "details": …}}`
    #[default]
    Error,
    /// RFC 9457, for callers who accept `application/problem+json` by name.
    Problem,
}

impl Shape {
    /// The form that this caller asked for.
    pub fn asked(headers: &Fields) -> Self {
        let wants = headers
            .get_all(http::header::ACCEPT)
            // What is shorter cannot name it.
            .filter(|value| value.len() >= PROBLEM.len())
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|range| {
                let mut parts = range.split(';').map(str::trim);
                parts.next().is_some_and(|name| name.eq_ignore_ascii_case(PROBLEM))
                    && !parts.any(|parameter| {
                        matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
                    })
            });
        if wants { Self::Problem } else { Self::Error }
    }
}

/// Content type and bytes of a refusal's body.
pub fn of(refusal: &Refusal, facts: &Facts<'_>) -> (HeaderValue, Bytes) {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    const PROBLEM_JSON: HeaderValue = HeaderValue::from_static(PROBLEM);
    // A 401 is one body for everybody, so that nothing can be read from its form.
    if facts.shape == Shape::Problem && refusal.reason.status() != StatusCode::UNAUTHORIZED {
        return (PROBLEM_JSON, Bytes::from(problem(refusal, facts).to_string()));
    }
    let details = match &refusal.extra {
        Extra::None
        | Extra::Allow(_)
        | Extra::Challenge(_)
        | Extra::DpopNonce(_)
        | Extra::RetryAfter(_) => {
            return (JSON, fixed(refusal.reason));
        }
        Extra::Fields(fields) => named(fields),
        Extra::Budget(spent) => budget(spent),
    };
    (JSON, Bytes::from(error(refusal.reason, Some(details)).to_string()))
}

/// The bodies that depend on the reason alone, made once.
fn fixed(reason: Reason) -> Bytes {
    static BODIES: OnceLock<Vec<Bytes>> = OnceLock::new();
    let bodies = BODIES.get_or_init(|| {
        let body = |reason: &Reason| {
            let details = match reason.status().as_u16() {
                401 | 422 | 429 => None,
                _ => Some(json!({ "reason": reason.name() })),
            };
            Bytes::from(error(*reason, details).to_string())
        };
        Reason::ALL.iter().map(body).collect()
    });
    bodies.get(reason as usize).cloned().unwrap_or_default()
}

fn error(reason: Reason, details: Option<Value>) -> Value {
    let mut error = Map::new();
    error.insert("code".to_owned(), reason.code().into());
    error.insert("message".to_owned(), reason.message().into());
    if let Some(details) = details {
        error.insert("details".to_owned(), details);
    }
    json!({ "error": error })
}

fn named(fields: &[(Box<str>, Box<str>)]) -> Value {
    fields
        .iter()
        .map(|(field, says)| (field.to_string(), Value::from(&**says)))
        .collect::<Map<_, _>>()
        .into()
}

fn budget(spent: &Spent) -> Value {
    json!({ "limit": spent.limit, "remaining": spent.remaining, "resetAt": date(spent.reset_at) })
}

fn date(unix_s: u64) -> String {
    i64::try_from(unix_s)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| "9999-12-31T23:59:59Z".to_owned(), |timestamp| timestamp.to_string())
}

/// RFC 9457. `type` names a registered problem where one exists.
fn problem(refusal: &Refusal, facts: &Facts<'_>) -> Value {
    let reason = refusal.reason;
    let mut problem = Map::new();
    let registered = match reason.status() {
        StatusCode::TOO_MANY_REQUESTS => {
            "https://iana.org/assignments/http-problem-types#quota-exceeded"
        }
        _ => "about:blank",
    };
    problem.insert("type".to_owned(), registered.into());
    problem.insert("title".to_owned(), reason.message().into());
    problem.insert("status".to_owned(), reason.status().as_u16().into());
    problem.insert("code".to_owned(), reason.code().into());
    problem.insert("reason".to_owned(), reason.name().into());
    problem.insert("requestId".to_owned(), facts.id.as_str().into());
    match &refusal.extra {
        Extra::Fields(fields) => drop(problem.insert("errors".to_owned(), named(fields))),
        Extra::Budget(spent) => drop(problem.insert("budget".to_owned(), budget(spent))),
        Extra::None
        | Extra::Allow(_)
        | Extra::Challenge(_)
        | Extra::DpopNonce(_)
        | Extra::RetryAfter(_) => {}
    }
    problem.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(shape: Shape) -> Facts<'static> {
        let id = crate::head::RequestId::new(crate::clock::Clock::set_at(0).0.now());
        Facts {
            id,
            tls: true,
            authenticated: false,
            retires_s: None,
            dpop_nonce: None,
            shape,
            origin: None,
            budget: None,
        }
    }

    fn text(refusal: &Refusal, shape: Shape) -> String {
        String::from_utf8(of(refusal, &facts(shape)).1.to_vec()).unwrap()
    }

    #[test]
    fn a_401_is_exactly_its_body_whatever_failed_and_whatever_accept_says() {
        let expected =
            r#"{"error":{"code":"unauthorized","message":"Invalid or missing API key"}}"#;
        for reason in
            Reason::ALL.iter().filter(|reason| reason.status() == StatusCode::UNAUTHORIZED)
        {
            assert_eq!(text(&Refusal::new(*reason), Shape::Error), expected);
            assert_eq!(text(&Refusal::new(*reason), Shape::Problem), expected);
        }
    }

    #[test]
    fn a_429_carries_the_contracts_details_only() {
        let spent = Spent {
            limit: 30,
            remaining: 0,
            reset_at: 1_764_000_060,
            reset_in: 60,
            retry_after: 2,
            window: 60,
        };
        let refusal = Refusal::new(Reason::BudgetEmpty).with(Extra::Budget(spent));
        let body: Value = serde_json::from_str(&text(&refusal, Shape::Error)).unwrap();
        assert_eq!(body["error"]["code"], "rate_limit_exceeded");
        assert_eq!(
            body["error"]["details"],
            json!({ "limit": 30, "remaining": 0, "resetAt": "2025-11-24T16:01:00Z" })
        );
    }

    #[test]
    fn other_refusals_name_their_reason() {
        let body: Value = serde_json::from_str(&text(&Reason::Sql.into(), Shape::Error)).unwrap();
        assert_eq!(body["error"]["details"]["reason"], "sql");
        let problem: Value =
            serde_json::from_str(&text(&Reason::Sql.into(), Shape::Problem)).unwrap();
        assert_eq!(problem["status"], 400);
        assert_eq!(problem["reason"], "sql");
    }

    #[test]
    fn problem_details_are_asked_for_by_name() {
        let mut headers = Fields::new();
        headers.insert(
            "accept",
            HeaderValue::from_static("application/json, application/problem+json;q=0.9"),
        );
        assert_eq!(Shape::asked(&headers), Shape::Problem);
        headers.insert("accept", HeaderValue::from_static("*/*"));
        assert_eq!(Shape::asked(&headers), Shape::Error);
        headers.insert("accept", HeaderValue::from_static("application/problem+json;q=0"));
        assert_eq!(Shape::asked(&headers), Shape::Error);
    }
}
