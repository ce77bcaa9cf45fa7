//! One connection to a target, whichever version of HTTP is spoken over it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::forward::dial::{DialFault, Wire, dial};
use crate::forward::upstream::{Open, Protocol, Settings, Target};
use crate::forward::{http1, http2};

/// An open connection to a target.
pub(in crate::forward) struct Connection {
    speech: Speech,
    born: Instant,
    generation: u32,
}

/// What is spoken over a connection.
pub(in crate::forward) enum Speech {
    /// One request at a time; the connection closes when this is dropped.
    Http1 { link: Box<http1::Link<Wire>>, _open: Open },
    /// Many requests at a time.
    Http2(http2::Link),
}

impl Connection {
    /// Opens a connection before `deadline`, however long looking up, TCP and TLS take each.
    ///
    /// # Errors
    /// As [`DialFault`] has them.
    pub(in crate::forward) async fn open(
        target: &Arc<Target>,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<Self, DialFault> {
        // Read first: a target that goes down while we connect makes this connection an old one.
        let generation = target.generation();
        let opening = async {
            let wire = dial(&target.address, settings).await?;
            let open = Open::new(target);
            Ok(match settings.http {
                Protocol::Http1 => {
                    let link = http1::Link::new(wire, settings.timeout.first_byte);
                    Speech::Http1 { link: Box::new(link), _open: open }
                }
                Protocol::Http2 => Speech::Http2(http2::Link::new(wire, open).await?),
            })
        };
        let speech = timeout_at(deadline, opening).await.map_err(|_| DialFault::Timeout)??;
        Ok(Self { speech, born: Instant::now(), generation })
    }

    /// What is spoken over it.
    pub(in crate::forward) fn speech(&mut self) -> &mut Speech {
        &mut self.speech
    }

    /// Whether the connection is young enough, and from after the last time that `target` was down.
    pub(in crate::forward) fn is_current(
        &self,
        target: &Target,
        lifetime: Duration,
        now: Instant,
    ) -> bool {
        self.generation == target.generation()
            && now.saturating_duration_since(self.born) < lifetime
    }

    /// Whether a request can be sent over it.
    pub(in crate::forward) fn is_open(&mut self) -> bool {
        match &mut self.speech {
            Speech::Http1 { link, .. } => link.is_quiet(),
            Speech::Http2(link) => link.is_open(),
        }
    }

    /// Lets go of what an idle connection does not need.
    pub(in crate::forward) fn rest(&mut self) {
        if let Speech::Http1 { link, .. } = &mut self.speech {
            link.rest();
        }
    }

    /// A second hold on the same connection, where requests can share one.
    pub(in crate::forward) fn share(&self) -> Option<Self> {
        let Speech::Http2(link) = &self.speech else { return None };
        let speech = Speech::Http2(link.clone());
        Some(Self { speech, born: self.born, generation: self.generation })
    }
}
