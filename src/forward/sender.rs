//! Sends cleared requests to where they go, or, in rehearsals of a policy, to a canned answer.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::fields::Fields;
use crate::forward::destination::{Destination, keys};
use crate::forward::pool::Pool;
use crate::forward::upstream::Upstreams;
use crate::forward::{Answer, SendOptions, send};
use crate::inspect::Cleared;
use crate::listen::body::Body;
use crate::refusal::Refusal;

/// Sends requests that were cleared.
pub struct Sender(Kind);

enum Kind {
    /// Over the connections of one worker.
    Pool(Box<Pool>),
    /// Nowhere. Only the policy's own tests and `explain` make one; a gateway that listens cannot.
    Canned(Box<Canned>),
}

/// An answer that is given to every request.
#[derive(Clone, Debug, Default)]
pub struct Canned {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: Fields,
    /// The body.
    pub body: Bytes,
}

impl Sender {
    /// A sender with connections of its own to these upstreams.
    pub fn to(upstreams: &Upstreams) -> Self {
        Self(Kind::Pool(Box::new(Pool::new(upstreams))))
    }

    /// A sender that sends nothing and always has this answer.
    pub fn canned(answer: Canned) -> Self {
        Self(Kind::Canned(Box::new(answer)))
    }

    /// Sends one request and waits for the head of its answer.
    ///
    /// # Errors
    /// As [`send`].
    pub async fn send(
        &self,
        destination: &Destination,
        cleared: Cleared,
        options: &SendOptions<'_>,
    ) -> Result<Answer, Refusal> {
        match (&self.0, destination) {
            (Kind::Pool(pool), Destination::Upstream(upstream)) => {
                send(pool, upstream, cleared, options).await
            }
            // In a rehearsal, too: its directory is one of its own, forgotten with it.
            (_, Destination::Keys(service)) => keys(service, cleared, options.now).await,
            (Kind::Canned(canned), Destination::Upstream(_)) => Ok(Answer {
                status: canned.status,
                headers: canned.headers.clone(),
                body: Body::Whole(canned.body.clone()),
                upgraded: None,
                first_byte: Duration::ZERO,
                at: Instant::now().into_std(),
                target: 0,
            }),
        }
    }

    /// Closes idle connections whose time is over, for as long as it is polled.
    pub async fn tend(&self) {
        match &self.0 {
            Kind::Pool(pool) => pool.tend().await,
            Kind::Canned(_) => std::future::pending().await,
        }
    }
}
