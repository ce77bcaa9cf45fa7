//! `check --connect`: tries every upstream, with what proves us and as a stranger who has nothing.

use std::sync::Arc;

use http::Method;
use http::uri::PathAndQuery;
use serde_json::{Value, json};

use crate::cli::exit::Exit;
use crate::clock::Clock;
use crate::forward::credential::Credential;
use crate::forward::probe::{Found, probe};
use crate::forward::upstream::{Upstream, Upstreams};
use crate::mistake::Mistake;
use crate::mistake::code::Code;
use crate::policy::Policy;

/// What was found at one place.
pub struct Tried {
    upstream: String,
    place: String,
    path: String,
    found: Result<Found, String>,
}

/// Tries all targets, one after the other, and every token endpoint.
///
/// # Errors
/// There is no runtime.
pub fn all(
    upstreams: &Upstreams,
    policy: Option<&Policy>,
    clock: &Clock,
) -> Result<Vec<Tried>, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::CouldNot(format!("no runtime: {error}")))?;
    let mut tried = Vec::new();
    for upstream in upstreams.iter() {
        let path = asked(upstream, policy);
        for target in upstream.targets() {
            let found = runtime.block_on(probe(upstream, target, &path));
            tried.push(Tried {
                upstream: upstream.name().to_owned(),
                place: target.name().to_string(),
                path: path.to_string(),
                found: Ok(found),
            });
        }
        if let Some(oauth) = upstream.credential().and_then(Credential::oauth) {
            let fetched = runtime.block_on(oauth.fetch(clock));
            tried.extend(fetched.err().map(|says| Tried {
                upstream: upstream.name().to_owned(),
                place: "token endpoint".to_owned(),
                path: String::new(),
                found: Err(says),
            }));
        }
    }
    Ok(tried)
}

/// A path of the service that only callers who are known may ask for: what it tells a stranger there
/// says most. Where the policy shows none, its root.
fn asked(upstream: &Arc<Upstream>, policy: Option<&Policy>) -> PathAndQuery {
    let routes = policy.map(Policy::routes).unwrap_or_default().iter();
    let routes = routes.filter(|route| {
        route.destination.upstream().is_some_and(|own| own.name() == upstream.name())
            && !route.authenticate.is_open()
            && route.rewrite.is_none()
            && route.pattern.method() == Some(&Method::GET)
    });
    // Without parameters it is most likely there.
    let best = routes.min_by_key(|route| route.pattern.parameters().count());
    best.and_then(|route| route.pattern.example().1.parse().ok())
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
}

impl Tried {
    /// Whether it could not be reached.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.found, Ok(Found::Unreachable(_)) | Err(_))
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let Self { upstream, place, path, .. } = self;
        let says = match &self.found {
            Ok(Found::Unreachable(says)) | Err(says) => format!("not reached: {says}"),
            Ok(Found::Unguarded(status)) => {
                format!("reached; a stranger's GET {path} gets {status}")
            }
            Ok(Found::Guarded(status)) => {
                format!("reached, and refuses strangers (GET {path} gets {status})")
            }
            Ok(Found::Silent) => "reached, and tells strangers nothing".to_owned(),
        };
        format!("upstream {upstream}  {place}  {says}")
    }

    /// The advice that it gives.
    pub fn advice(&self) -> Option<Mistake> {
        let Ok(Found::Unguarded(status)) = &self.found else { return None };
        let Self { upstream, place, path, .. } = self;
        let says = format!(
            "upstream `{upstream}` answers {} to GET {path} at {place} without the gateway's identity",
            status.as_u16()
        );
        let help = "who reaches it around the gateway is let in: give it an `identity` and let it refuse requests without one, or let it ask for our certificate";
        Some(Mistake::new(Code::Unguarded, says).help(help))
    }

    /// The same for programs.
    pub fn document(&self) -> Value {
        let (result, status, says) = match &self.found {
            Ok(Found::Unreachable(says)) | Err(says) => ("unreachable", None, Some(says)),
            Ok(Found::Unguarded(status)) => ("unguarded", Some(status.as_u16()), None),
            Ok(Found::Guarded(status)) => ("guarded", Some(status.as_u16()), None),
            Ok(Found::Silent) => ("silent", None, None),
        };
        json!({
            "upstream": self.upstream, "target": self.place, "path": self.path,
            "result": result, "status": status, "says": says,
        })
    }
}
