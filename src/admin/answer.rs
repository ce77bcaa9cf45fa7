//! Answers of the admin listener: JSON, and failures in the one error shape.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

/// The text format of Prometheus.
const METRICS_TYPE: &str = "text/plain; version=0.0.4";
const JSON_TYPE: &str = "application/json";
/// A JWK Set (RFC 7517, section 8.5.2).
const KEYS_TYPE: &str = "application/jwk-set+json";
/// Public keys may be kept for less time than a new one is published ahead.
const KEYS_CACHE: &str = "public, max-age=300";
/// What a 401 asks for (RFC 6750, section 3).
const CHALLENGE: &str = "Bearer realm=\"portcullis admin\"";

/// An answer of the admin listener.
pub type Answer = Response<Full<Bytes>>;

/// Why something was not done, in the terms of the one error shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    missing: Vec<String>,
    allow: Option<&'static str>,
}

impl Failure {
    /// 400: the request itself is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// 401, with exactly the body that every 401 of the gateway has.
    pub fn unauthorized() -> Self {
        let message = "Invalid or missing API key";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// 403: nobody who sends this is served.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404: there is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 405, with the methods that are allowed.
    pub fn method(allowed: &'static str) -> Self {
        let message = "The method is not allowed here";
        let failure = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        Self { allow: Some(allowed), ..failure }
    }

    /// 408: the body did not arrive in time.
    pub fn timeout() -> Self {
        let message = "The body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    /// 409: what there is already stands in the way.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 413: the body has more bytes than are accepted here.
    pub fn too_large(bytes_max: usize) -> Self {
        let message =
            format!("The body is larger than the {bytes_max} bytes that are accepted here");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
    }

    /// 421: the host that is asked for is not this listener.
    pub fn misdirected() -> Self {
        let message = "The administration answers to IP addresses and localhost only";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected_request", message)
    }

    /// 422: a value is not acceptable.
    pub fn unacceptable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_error", message)
    }

    /// 500: it is our fault.
    pub fn fault(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// 503, with what is missing.
    pub fn unavailable(message: impl Into<String>, missing: Vec<String>) -> Self {
        let failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", message);
        Self { missing, ..failure }
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is said to the operator.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The answer that says so.
    pub fn answer(self) -> Answer {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let (false, Some(error)) = (self.missing.is_empty(), error.as_object_mut()) {
            error.insert("details".to_owned(), json!({ "missing": self.missing }));
        }
        let mut answer = json(&json!({ "error": error }));
        *answer.status_mut() = self.status;
        let challenge =
            (self.status == StatusCode::UNAUTHORIZED).then_some((WWW_AUTHENTICATE, CHALLENGE));
        let allow = self.allow.map(|allowed| (ALLOW, allowed));
        for (name, value) in challenge.into_iter().chain(allow) {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }

    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), missing: Vec::new(), allow: None }
    }
}

/// 200 with a JSON value.
pub fn json(value: &Value) -> Answer {
    text(JSON_TYPE, value.to_string())
}

/// 200 with JSON that is text already.
pub fn json_text(text_of_json: String) -> Answer {
    text(JSON_TYPE, text_of_json)
}

/// 200 with public keys.
pub fn keys(set: &Value) -> Answer {
    let mut answer = text(KEYS_TYPE, set.to_string());
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(KEYS_CACHE));
    answer
}

/// 200 with a scrape.
pub fn metrics(scrape: String) -> Answer {
    text(METRICS_TYPE, scrape)
}

fn text(content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn body_of(answer: Answer) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(answer.into_body().collect()).unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn a_401_is_exactly_the_contracts_body() {
        let answer = Failure::unauthorized().answer();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(answer.headers().contains_key(WWW_AUTHENTICATE));
        assert_eq!(
            serde_json::from_str::<Value>(&body_of(answer)).unwrap(),
            json!({ "error": { "code": "unauthorized", "message": "Invalid or missing API key" } })
        );
    }

    #[test]
    fn what_is_missing_stands_in_the_details() {
        let answer =
            Failure::unavailable("Not ready", vec!["upstream `tasks`".to_owned()]).answer();
        let body: Value = serde_json::from_str(&body_of(answer)).unwrap();
        assert_eq!(body["error"]["details"]["missing"][0], "upstream `tasks`");
    }
}
