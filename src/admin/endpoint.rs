//! The endpoints of the admin listener: which path and method mean what.

use http::Method;

use crate::admin::answer::Failure;

/// What can be asked of the administration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Whether the process is alive.
    Healthz,
    /// Whether it should be sent requests.
    Readyz,
    /// One scrape.
    Metrics,
    /// The public keys that tokens for services are verified with.
    IdentityKeys,
    /// What runs, and how it fares.
    Status,
    /// Loads the policy again.
    Reload,
    /// Does something with keys.
    Keys,
    /// Gives the store new keys.
    Rekey,
    /// Lists the bans in force.
    Bans,
    /// Adds a ban.
    AddBan,
    /// Lifts a ban.
    RemoveBan,
    /// Lists the tokens and sessions that are revoked.
    Sessions,
    /// Revokes a token, a session or all tokens of a subject.
    RevokeSession,
    /// Tells the last request that was refused.
    LastRefused,
    /// Tells the request with this id.
    Decision(String),
}

impl Endpoint {
    /// The endpoint that a method and a path mean.
    ///
    /// # Errors
    /// 404, or 405 with the methods that the path has.
    pub fn find(method: &Method, path: &str) -> Result<Self, Failure> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let writes = *method == Method::POST;
        let read = |endpoint| if reads { Ok(endpoint) } else { Err(Failure::method("GET, HEAD")) };
        let write = |endpoint| if writes { Ok(endpoint) } else { Err(Failure::method("POST")) };
        match path {
            "/healthz" => read(Self::Healthz),
            "/readyz" => read(Self::Readyz),
            "/metrics" => read(Self::Metrics),
            "/.well-known/jwks.json" => read(Self::IdentityKeys),
            "/v1/status" => read(Self::Status),
            "/v1/reload" => write(Self::Reload),
            "/v1/keys" => write(Self::Keys),
            "/v1/secrets/rekey" => write(Self::Rekey),
            "/v1/bans" if writes => Ok(Self::AddBan),
            "/v1/bans" if reads => Ok(Self::Bans),
            "/v1/bans" => Err(Failure::method("GET, HEAD, POST")),
            "/v1/bans/remove" => write(Self::RemoveBan),
            "/v1/sessions" if writes => Ok(Self::RevokeSession),
            "/v1/sessions" if reads => Ok(Self::Sessions),
            "/v1/sessions" => Err(Failure::method("GET, HEAD, POST")),
            "/v1/decisions/last-refused" => read(Self::LastRefused),
            _ => match path.strip_prefix("/v1/decisions/") {
                Some(id) if !id.is_empty() && !id.contains('/') => {
                    read(Self::Decision(id.to_owned()))
                }
                Some(_) | None => Err(Failure::not_found("There is nothing here")),
            },
        }
    }

    /// Whether callers on the same machine need no token for it: a monitor has none, nor has a
    /// service that verifies who calls.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Healthz | Self::Readyz | Self::Metrics | Self::IdentityKeys)
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn only_what_monitors_and_services_ask_is_open() {
        for path in ["/healthz", "/readyz", "/metrics", "/.well-known/jwks.json"] {
            assert!(Endpoint::find(&Method::GET, path).unwrap().is_open(), "{path}");
        }
        for (method, path) in [
            (Method::GET, "/v1/status"),
            (Method::POST, "/v1/reload"),
            (Method::POST, "/v1/keys"),
            (Method::GET, "/v1/bans"),
            (Method::POST, "/v1/bans"),
            (Method::POST, "/v1/bans/remove"),
            (Method::GET, "/v1/sessions"),
            (Method::POST, "/v1/sessions"),
            (Method::GET, "/v1/decisions/last-refused"),
            (Method::GET, "/v1/decisions/0199"),
        ] {
            assert!(!Endpoint::find(&method, path).unwrap().is_open(), "{path}");
        }
    }

    #[test]
    fn a_known_path_tells_its_methods_and_others_are_not_there() {
        for (method, path, status) in [
            (Method::POST, "/healthz", StatusCode::METHOD_NOT_ALLOWED),
            (Method::GET, "/v1/reload", StatusCode::METHOD_NOT_ALLOWED),
            (Method::DELETE, "/v1/bans", StatusCode::METHOD_NOT_ALLOWED),
            (Method::DELETE, "/v1/sessions", StatusCode::METHOD_NOT_ALLOWED),
            (Method::POST, "/v1/decisions/x", StatusCode::METHOD_NOT_ALLOWED),
            (Method::GET, "/", StatusCode::NOT_FOUND),
            (Method::GET, "/metrics/", StatusCode::NOT_FOUND),
            (Method::GET, "/v1/decisions/", StatusCode::NOT_FOUND),
            (Method::GET, "/v1/decisions/a/b", StatusCode::NOT_FOUND),
        ] {
            let failure = Endpoint::find(&method, path).unwrap_err();
            assert_eq!(failure.status(), status, "{method} {path}");
        }
    }
}
