//! Brings the metrics that others count up to date, and makes one scrape of everything.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::admin::Desk;
use crate::authenticate::alarm::Cause;
use crate::authenticate::directory::state::State;
use crate::authenticate::sessions::REVOCATIONS_MAX;
use crate::clock::Now;
use crate::forward::credential::Credential;
use crate::forward::upstream::Upstream;
use crate::listen;
use crate::record::families;
use crate::record::metrics::Metrics;

impl Desk {
    /// One scrape. It walks through all keys, so it is made on a thread that may block.
    pub(in crate::admin) fn scrape(&self) -> String {
        // Totals are raised by what they lack, so two scrapes at a time would count it twice.
        let _turn = self.scraping.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.parts.shared.clock.now();
        let metrics = self.parts.shared.record.metrics();
        for listener in &self.parts.listeners {
            tell_listener(metrics, listener);
        }
        for upstream in self.parts.upstreams.iter() {
            tell_upstream(metrics, upstream);
        }
        let published = self.parts.issuer.count() as f64;
        metrics.set(families::IDENTITY_KEYS_PUBLISHED, [], published);
        self.tell_memory(metrics);
        self.tell_keys(metrics, now);
        self.tell_tokens(metrics, now);
        let (manual, canary) = self.bans.counts(now);
        metrics.set(families::BANS_IN_FORCE, ["manual"], manual as f64);
        metrics.set(families::BANS_IN_FORCE, ["canary"], canary as f64);
        self.parts.shared.record.scrape()
    }

    fn tell_tokens(&self, metrics: &Metrics, now: Now) {
        metrics.set(families::REVOCATIONS_HELD, [], self.sessions.count() as f64);
        metrics.set(families::REVOCATIONS_MAX, [], REVOCATIONS_MAX as f64);
        metrics.clear(families::TOKEN_KEYS);
        metrics.clear(families::TOKEN_KEYS_AGE);
        for verifier in self.parts.shared.policy.load().verifiers() {
            let (name, keys) = (verifier.name(), verifier.keys());
            if keys.source().is_some() {
                let (age_s, count) = keys.age(now).unwrap_or((f64::INFINITY, 0));
                metrics.set(families::TOKEN_KEYS, [name], count as f64);
                metrics.set(families::TOKEN_KEYS_AGE, [name], age_s);
                let (ok, failed) = keys.counts();
                metrics.raise(families::TOKEN_KEYS_FETCHES, [name, "ok"], ok);
                metrics.raise(families::TOKEN_KEYS_FETCHES, [name, "failed"], failed);
            }
            let counts = verifier.counts();
            for (result, counter) in [
                ("cached", &counts.cached),
                ("verified", &counts.verified),
                ("refused", &counts.refused),
            ] {
                // Counted since the last scrape: a new policy begins to count anew.
                let more = counter.swap(0, Ordering::Relaxed);
                metrics.add(families::TOKENS_JUDGED, [name, result], more);
            }
            metrics.add(families::TOKEN_CACHE_EVICTIONS, [name], verifier.take_evicted());
        }
        for introspector in self.parts.shared.policy.load().introspectors() {
            let (name, counts) = (introspector.name(), introspector.counts());
            for (result, counter) in [
                ("active", &counts.active),
                ("inactive", &counts.inactive),
                ("failed", &counts.failed),
                ("stale", &counts.stale),
            ] {
                let more = counter.swap(0, Ordering::Relaxed);
                metrics.add(families::TOKENS_ASKED_ABOUT, [name, result], more);
            }
            let cached = introspector.take_cached();
            metrics.add(families::TOKENS_ASKED_ABOUT, [name, "cached"], cached);
            metrics.add(families::TOKEN_CACHE_EVICTIONS, [name], introspector.take_evicted());
        }
    }

    fn tell_memory(&self, metrics: &Metrics) {
        let (buckets, room) = (&self.parts.buckets, &self.parts.shared.room);
        metrics.set(families::LIMIT_BUCKETS, [], buckets.held() as f64);
        metrics.set(families::LIMIT_BUCKETS_MAX, [], buckets.ceiling() as f64);
        metrics.raise(families::LIMIT_EVICTIONS, [], buckets.evictions());
        metrics.raise(families::LIMIT_STORE_REFUSED, [], buckets.refused());
        metrics.set(families::BUFFERED_BYTES, [], room.bytes_held() as f64);
        metrics.set(families::BUFFERED_BYTES_MAX, [], room.bytes_max() as f64);
        metrics.raise(families::BUFFER_REFUSED, [], room.refused());
    }

    fn tell_keys(&self, metrics: &Metrics, now: Now) {
        let counts = self.parts.directory.counts_by_state(now);
        for state in State::ALL {
            metrics.set(families::KEYS_HELD, [state.name()], counts.of(state) as f64);
        }
        let alarms = self.parts.directory.alarms();
        for cause in Cause::ALL {
            metrics.raise(families::KEY_ALARMS, [cause.name()], alarms.raised(cause));
        }
        metrics.raise(families::KEY_ALARMS_DROPPED, [], alarms.dropped());
        metrics.set(families::KEYS_OVERDUE, [], counts.overdue as f64);
        match counts.next_expiry_ms {
            Some(end_ms) => metrics.set(families::KEY_NEXT_EXPIRY, [], end_ms as f64 / 1000.0),
            None => metrics.clear(families::KEY_NEXT_EXPIRY),
        }
    }
}

fn tell_listener(metrics: &Metrics, listener: &listen::Shared) {
    let (name, counters) = (&**listener.settings.name(), &listener.counters);
    let open = read(&counters.open);
    // HTTP/2 has many requests on one connection, so this many connections at most are active.
    let active = read(&counters.in_flight).min(open);
    for (state, count) in
        [("handshaking", read(&counters.handshaking)), ("active", active), ("idle", open - active)]
    {
        metrics.set(families::CONNECTIONS_OPEN, [name, state], count as f64);
    }
    metrics.raise(families::CONNECTIONS_ACCEPTED, [name], read(&counters.accepted));
    for (reason, counter) in [
        ("ceiling", &counters.refused_ceiling),
        ("address-ceiling", &counters.refused_address_ceiling),
        ("draining", &counters.refused_draining),
        ("accept-fault", &counters.accept_faults),
    ] {
        metrics.raise(families::CONNECTIONS_REFUSED, [name, reason], read(counter));
    }
    metrics.raise(families::CONNECTIONS_HANDED_OVER, [name], read(&counters.handed_over));
    metrics.raise(families::CONNECTION_FLOODS, [name], read(&counters.flood_closes));
    let hosts = listener.settings.tls_hosts();
    let shown = hosts.iter().map(|host| host.certificates().not_after_unix_s());
    let Some(expiry_s) = shown.min() else { return };
    for (version, result, counter) in [
        ("1.2", "ok", &counters.handshakes_tls12),
        ("1.3", "ok", &counters.handshakes_tls13),
        ("none", "failed", &counters.handshake_failed),
        ("none", "timeout", &counters.handshake_timeout),
    ] {
        metrics.raise(families::TLS_HANDSHAKES, [name, version, result], read(counter));
    }
    metrics.raise(families::TLS_RESUMED, [name], read(&counters.handshakes_resumed));
    for result in ["applied", "refused"] {
        metrics.add(families::CERTIFICATE_RELOADS, [name, result], 0);
    }
    // The first that ends is the one that somebody has to look after.
    metrics.set(families::CERTIFICATE_EXPIRY, [name], expiry_s as f64);
    let turned = &counters.turned;
    for (reason, counter) in [
        ("missing", &turned.missing),
        ("unknown-issuer", &turned.unknown),
        ("expired", &turned.expired),
        ("revoked", &turned.revoked),
        ("unfit", &turned.unfit),
        ("no-server-name", &turned.nameless),
    ] {
        metrics.raise(families::CLIENT_CERTIFICATES_REFUSED, [name, reason], read(counter));
    }
    let asked = || hosts.iter().filter_map(|host| host.clients());
    if let Some(end_s) = asked().map(|clients| clients.authorities_end_unix_s()).min() {
        metrics.set(families::CLIENT_AUTHORITY_EXPIRY, [name], end_s as f64);
    }
    if let Some(end_s) = asked().filter_map(|clients| clients.lists_end_unix_s()).min() {
        metrics.set(families::REVOCATION_LIST_EXPIRY, [name], end_s as f64);
    }
}

fn tell_upstream(metrics: &Metrics, upstream: &Upstream) {
    let name = upstream.name();
    for target in upstream.targets() {
        let healthy = f64::from(u8::from(target.is_healthy()));
        metrics.set(families::UPSTREAM_TARGET_HEALTHY, [name, target.name()], healthy);
        for (result, counter) in [
            ("ok", &target.results.ok),
            ("error", &target.results.error),
            ("timeout", &target.results.timeout),
            ("refused", &target.results.refused),
        ] {
            let labels = [name, target.name(), result];
            metrics.raise(families::UPSTREAM_REQUESTS, labels, read(counter));
        }
    }
    let retries = upstream.retries();
    if let Some(expiry_s) = upstream.certificate_not_after_s() {
        metrics.set(families::CERTIFICATE_EXPIRY, [&*format!("upstream:{name}")], expiry_s as f64);
    }
    if let Some(oauth) = upstream.credential().and_then(Credential::oauth) {
        for (result, counter) in [("ok", &oauth.fetched), ("error", &oauth.failed)] {
            metrics.raise(families::UPSTREAM_TOKENS, [name, result], read(counter));
        }
        if let Some(end_s) = oauth.end_s() {
            metrics.set(families::UPSTREAM_TOKEN_EXPIRY, [name], end_s as f64);
        }
    }
    if let Some(tokens) = upstream.tokens() {
        metrics.raise(families::IDENTITY_TOKENS_SIGNED, [name], tokens.signed());
    }
    for (reason, counter) in [("connect", &retries.connect), ("stale", &retries.stale)] {
        metrics.raise(families::UPSTREAM_RETRIES, [name, reason], read(counter));
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
