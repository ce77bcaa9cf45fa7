//! Responses of the task service: JSON, and failures in the one error shape.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LINK, LOCATION};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value, json};

/// A response of this service.
pub type Answer = Response<Full<Bytes>>;

/// A request that cannot be served, in the contract's terms.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
    details: Map<String, Value>,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, details: Map::new() }
    }

    /// 400, with what is wrong.
    pub fn invalid(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// 401, exactly as the contract has it.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Invalid or missing API key")
    }

    /// 403.
    pub fn forbidden(message: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here")
    }

    /// 405.
    pub fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "The method is not allowed here",
        )
    }

    /// 409, with what is in the way.
    pub fn conflict(message: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 422, naming each bad field.
    pub fn fields(details: Map<String, Value>) -> Self {
        let failure = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "validation_error",
            "Some fields are not valid",
        );
        Self { details, ..failure }
    }

    /// The response that says so.
    pub fn response(self) -> Answer {
        let mut error = Map::new();
        error.insert("code".to_owned(), self.code.into());
        error.insert("message".to_owned(), self.message.into());
        if !self.details.is_empty() {
            error.insert("details".to_owned(), self.details.into());
        }
        json(self.status, &json!({ "error": error }))
    }
}

/// 200 without more, for health checks.
pub fn ok() -> Answer {
    json(StatusCode::OK, &json!({ "status": "ok" }))
}

/// A JSON body.
pub fn json(status: StatusCode, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 201, with the place of what was made.
pub fn created(location: &str, body: &Value) -> Answer {
    let mut response = json(StatusCode::CREATED, body);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// 204.
pub fn nothing() -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// 200 with a page and its `Link` header.
pub fn page(body: &Value, links: &str) -> Answer {
    let mut response = json(StatusCode::OK, body);
    if let Ok(links) = HeaderValue::from_str(links) {
        response.headers_mut().insert(LINK, links);
    }
    response
}
