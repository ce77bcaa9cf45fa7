//! Watches the targets: takes those out of rotation that fail, and brings back those that recovered.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::forward::connection::{Connection, Speech};
use crate::forward::headers::Outgoing;
use crate::forward::http1;
use crate::forward::outbound::Outbound;
use crate::forward::patience::Patience;
use crate::forward::upstream::{Target, Upstream, Upstreams};

/// How long a target that is down waits for its next check, at most.
const DOWN_EVERY_MAX: Duration = Duration::from_secs(1);

/// Watches all targets of all upstreams until `stop` is ready.
///
/// A target goes down after `down_after` failed checks in a row, or as many connections that could
/// not be opened for requests; only checks bring it back. One watch serves all workers.
pub async fn watch(upstreams: Arc<Upstreams>, stop: impl Future<Output = ()>) {
    let mut watches = JoinSet::new();
    for upstream in upstreams.iter() {
        let count = u32::try_from(upstream.targets.len()).unwrap_or(u32::MAX).max(1);
        for (index, target) in (0..).zip(upstream.targets.iter()) {
            // Spread over the interval, so that not all are asked at once.
            let offset = upstream.settings.health.every / count * index;
            watches.spawn(watch_one(Arc::clone(upstream), Arc::clone(target), offset));
        }
    }
    stop.await;
    watches.shutdown().await;
}

async fn watch_one(upstream: Arc<Upstream>, target: Arc<Target>, offset: Duration) {
    let health = &upstream.settings.health;
    let (mut good, mut bad) = (0_u32, 0_u32);
    let mut generation = target.generation();
    sleep(offset).await;
    loop {
        let well = check(&upstream, &target).await;
        if target.generation() != generation {
            // It went down meanwhile: what was good before that counts no more.
            generation = target.generation();
            good = 0;
        } else if well {
            (good, bad) = (good.saturating_add(1), 0);
        }
        if !well {
            (good, bad) = (0, bad.saturating_add(1));
        }
        if good >= health.up_after && !target.is_healthy() {
            target.bring_up();
        }
        if bad >= health.down_after {
            target.take_down();
        }
        if target.is_healthy() {
            // Going down for failed connections ends the wait: recovery is then looked for at once.
            tokio::select! {
                () = sleep(health.every) => {}
                () = target.went_down.notified() => {}
            }
        } else {
            sleep(health.every.min(DOWN_EVERY_MAX)).await;
        }
    }
}

/// Whether the target is well: a connection can be opened and, where a path is given, its answer is
/// 2xx or 3xx.
async fn check(upstream: &Upstream, target: &Arc<Target>) -> bool {
    let settings = &upstream.settings;
    let limit = Instant::now() + settings.health.timeout;
    let Ok(mut connection) = Connection::open(target, settings, limit).await else { return false };
    let Some(path) = &settings.health.path else { return true };
    let patience = Patience::new(Instant::now(), settings.health.timeout, limit);
    let address = target.address();
    let status = match connection.speech() {
        Speech::Http1 { link, .. } => {
            let none = HeaderMap::new();
            let request = http1::send::Request {
                method: &Method::GET,
                path: path.path(),
                query: path.query(),
                host: address.host_value(),
                headers: Outgoing::of_our_own(&none),
            };
            let answered = link.ask(request, &mut Outbound::empty(), patience).await;
            answered.ok().map(|answered| answered.head.status)
        }
        Speech::Http2(link) => {
            let Some(uri) = address.uri(address.authority().clone(), path.clone()) else {
                return false;
            };
            let mut request = Request::new(Outbound::empty());
            *request.uri_mut() = uri;
            *request.version_mut() = http::Version::HTTP_2;
            let answered = link.ask(request, patience).await;
            answered.ok().map(|answer| answer.status())
        }
    };
    status.is_some_and(|status| status.is_success() || status.is_redirection())
}
