//! Who answers the requests of a route: a service behind the gateway, or the gateway's own self-service.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

use crate::authenticate::exposure::is_private;
use crate::authenticate::self_service::SelfService;
use crate::clock::Now;
use crate::fields::Fields;
use crate::forward::Answer;
use crate::forward::upstream::Upstream;
use crate::inspect::Cleared;
use crate::listen::body::Body;
use crate::refusal::{Reason, Refusal};

/// Who answers.
#[derive(Clone)]
pub enum Destination {
    /// A service behind the gateway.
    Upstream(Arc<Upstream>),
    /// The gateway itself, about the caller's own keys.
    Keys(Arc<SelfService>),
}

impl Destination {
    /// The service behind the gateway; nothing where there is none.
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        match self {
            Self::Upstream(upstream) => Some(upstream),
            Self::Keys(_) => None,
        }
    }

    /// The name, for lists.
    pub fn name(&self) -> &str {
        match self {
            Self::Upstream(upstream) => upstream.name(),
            Self::Keys(_) => "self-service",
        }
    }
}

/// Answers a call about keys.
pub(in crate::forward) async fn keys(
    service: &Arc<SelfService>,
    cleared: Cleared,
    now: Now,
) -> Result<Answer, Refusal> {
    let (head, body, admission, _held) = cleared.into_parts();
    // What is answered holds a secret.
    if !is_private(&head.peer) {
        return Err(Reason::CredentialPlaintext.into());
    }
    let body = match body {
        Body::Whole(bytes) => bytes,
        Body::Empty => Bytes::new(),
        Body::Streaming(_) => return Err(Reason::GatewayFault.into()),
    };
    let told = service.serve(admission.permit().principal(), body, now).await?;
    let mut headers = Fields::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(Answer {
        status: StatusCode::OK,
        headers,
        body: Body::Whole(Bytes::from(told.to_string())),
        upgraded: None,
        first_byte: Duration::ZERO,
        at: tokio::time::Instant::now().into_std(),
        target: 0,
    })
}
