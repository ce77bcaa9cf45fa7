//! Tokens by OAuth 2.0 client credentials: fetched behind the requests, before the last one ends.
//!
//! One task for each upstream asks the token endpoint, so that no two ask at a time; requests take
//! what lies in memory, and are refused while there is nothing.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clock::{Clock, Now};
use crate::forward::credential::endpoint::{Endpoint, Form, Granted};
use crate::forward::upstream::{Upstream, Upstreams};
use crate::refusal::extra::Extra;
use crate::refusal::{Reason, Refusal};
use crate::secret::watched::Watched;

/// A token of which nobody says how long it holds is replaced after so long, and used until it is.
const UNTOLD: Duration = Duration::from_secs(300);
/// A token is replaced so long before its end, or a quarter of its life before.
const LEAD_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether a token is due.
const TURN: Duration = Duration::from_millis(250);
/// How long the endpoint is left alone after a failure: twice as long each time.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How long it is left alone before a token is replaced that the service did not take.
const DOUBT_EVERY: Duration = Duration::from_secs(10);

/// The tokens of one upstream.
pub struct OAuth {
    pub(in crate::forward::credential) endpoint: Endpoint,
    pub(in crate::forward::credential) form: Watched<Form>,
    current: ArcSwapOption<Token>,
    /// Whether the service refused the token although it should hold.
    doubted: AtomicBool,
    wanted: Notify,
    /// Why there was no token last, until somebody tells it.
    fault: Mutex<Option<String>>,
    /// How often a token was fetched.
    pub fetched: AtomicU64,
    /// How often none was to be had.
    pub failed: AtomicU64,
}

/// A token, by the steady clock.
struct Token {
    value: HeaderValue,
    since_ns: u64,
    refresh_ns: u64,
    end_ns: u64,
    /// When it ends by the calendar, in Unix seconds, where that is known.
    end_s: Option<u64>,
}

impl OAuth {
    pub(in crate::forward::credential) fn new(endpoint: Endpoint, form: Watched<Form>) -> Self {
        Self {
            endpoint,
            form,
            current: ArcSwapOption::empty(),
            doubted: AtomicBool::new(false),
            wanted: Notify::new(),
            fault: Mutex::default(),
            fetched: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// The value of `Authorization`.
    ///
    /// # Errors
    /// There is no token that holds; it is being asked for.
    pub(in crate::forward::credential) fn value(&self, now: Now) -> Result<HeaderValue, Refusal> {
        match &*self.current.load() {
            Some(token) if now.steady_ns < token.end_ns => Ok(token.value.clone()),
            Some(_) | None => {
                self.wanted.notify_one();
                Err(Refusal::new(Reason::UpstreamCredentialMissing)
                    .because("there is no token for the service")
                    .with(Extra::RetryAfter(5)))
            }
        }
    }

    /// The service did not take the token: another is asked for, though not at once again and again.
    pub(in crate::forward) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// When the token ends, in Unix seconds, where there is one and its end is known.
    pub fn end_s(&self) -> Option<u64> {
        self.current.load().as_ref().and_then(|token| token.end_s)
    }

    /// Why there was no token last. Told once.
    pub fn take_fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Follows the references to the client's id and secret again. With others, another token is
    /// asked for.
    pub(in crate::forward::credential) fn reload_if_changed(&self) -> Result<bool, String> {
        let mut endpoint = Ok(());
        self.endpoint.upstream.reload_if_changed(|_, done| endpoint = done);
        let changed = self.form.reload_if_changed().map_err(|fault| fault.sentence())?;
        if changed {
            self.doubt();
        }
        endpoint.map(|()| changed)
    }

    /// Asks the endpoint once, and keeps what it gives.
    ///
    /// # Errors
    /// Why there is no token, in words that hold no secret.
    pub async fn fetch(&self, clock: &Clock) -> Result<(), String> {
        let form = self.form.load();
        match self.endpoint.ask(&form).await {
            Ok(granted) => {
                self.doubted.store(false, Ordering::Relaxed);
                self.current.store(Some(Arc::new(Token::new(granted, clock.now()))));
                self.fetched.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(says) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(says.clone());
                Err(says)
            }
        }
    }

    fn is_due(&self, now: Now) -> bool {
        let Some(token) = &*self.current.load() else { return true };
        let held = Duration::from_nanos(now.steady_ns.saturating_sub(token.since_ns));
        let doubted = self.doubted.load(Ordering::Relaxed) && held >= DOUBT_EVERY;
        doubted || now.steady_ns >= token.refresh_ns
    }

    async fn keep_fresh(&self, clock: &Clock) {
        let mut failures = 0_u32;
        loop {
            if !self.is_due(clock.now()) {
                tokio::select! {
                    () = sleep(TURN) => {}
                    () = self.wanted.notified() => {}
                }
                continue;
            }
            if self.fetch(clock).await.is_ok() {
                failures = 0;
                continue;
            }
            // Requests that want a token do not make this wait shorter.
            sleep(BACKOFF_MIN.saturating_mul(1 << failures.min(6)).min(BACKOFF_MAX)).await;
            failures = failures.saturating_add(1);
        }
    }
}

impl Token {
    fn new(granted: Granted, now: Now) -> Self {
        let Granted { value, lifetime } = granted;
        let span = lifetime.unwrap_or(UNTOLD);
        let after = |span: Duration| {
            now.steady_ns.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
        };
        Self {
            value,
            since_ns: now.steady_ns,
            refresh_ns: after(span.saturating_sub(LEAD_MAX.min(span / 4))),
            end_ns: lifetime.map_or(u64::MAX, after),
            end_s: lifetime.map(|span| now.unix_s().saturating_add(span.as_secs())),
        }
    }
}

/// Keeps a token at hand for every upstream that wants one, until `stop` is ready.
pub async fn watch(upstreams: Arc<Upstreams>, clock: Clock, stop: impl Future<Output = ()>) {
    let mut watches = JoinSet::new();
    for upstream in upstreams.iter().filter(|upstream| tokens(upstream).is_some()) {
        let (upstream, clock) = (Arc::clone(upstream), clock.clone());
        watches.spawn(async move {
            if let Some(oauth) = tokens(&upstream) {
                oauth.keep_fresh(&clock).await;
            }
        });
    }
    stop.await;
    watches.shutdown().await;
}

fn tokens(upstream: &Upstream) -> Option<&OAuth> {
    upstream.credential().and_then(|credential| credential.oauth())
}
