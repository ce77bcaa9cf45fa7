//! The bundled task service: an in-memory API to stand behind the gate, reached only over a socket.

pub mod answer;
pub mod api;
pub mod model;
pub mod page;
pub mod seed;
pub mod store;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response};

use crate::clock::Clock;
use crate::forward::identity::{IDENTITY, Verifier};
use crate::listen::plain::Answers;
use crate::tasks::answer::Failure;
use crate::tasks::api::{Call, Caller};
use crate::tasks::store::Store;

/// Bodies are never longer, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The service: its store, its time, and whose word it takes for who calls.
pub struct Service {
    store: Mutex<Store>,
    verifier: Verifier,
    clock: Clock,
}

impl Service {
    /// A service with the seeded tasks and users. It believes only identities that `verifier`
    /// accepts, so nobody who reaches its port around the gateway gets anything.
    pub fn new(verifier: Verifier, clock: Clock) -> Arc<Self> {
        let store = Mutex::new(seed::store(clock.now()));
        Arc::new(Self { store, verifier, clock })
    }
}

impl Answers for Service {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        if parts.uri.path() == "/healthz" {
            return answer::ok();
        }
        let now = self.clock.now();
        let identity = parts.headers.get(&IDENTITY).and_then(|value| {
            let query = parts.uri.query().unwrap_or_default();
            let here = (parts.method.as_str(), parts.uri.path(), query);
            self.verifier.verify(value.as_bytes(), here, now).ok()
        });
        let Some(caller) = identity.as_ref().and_then(Caller::of) else {
            return Failure::unauthorized().response();
        };
        let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return Failure::invalid("The body is too large or broke off").response(),
        };
        let call = Call {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            body: &body,
            caller: &caller,
            now,
        };
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        api::answer(&mut store, &call).unwrap_or_else(|failure| failure.response())
    }
}
