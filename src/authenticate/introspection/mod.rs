//! Proves callers by tokens that only their issuer can read: it is asked what they are worth (RFC 7662).

pub mod rule;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::watch;

use crate::authenticate::ask::{Errands, Question};
use crate::authenticate::bearer::{Carried, Presented, has_three_parts, presented};
use crate::authenticate::client::Site;
use crate::authenticate::directory::Directory;
use crate::authenticate::jwt::binding::{self, Demand};
use crate::authenticate::jwt::cache::{Cache, Digest};
use crate::authenticate::jwt::claims::{Limits, Mapping, Times, Verified, check_ends};
use crate::authenticate::jwt::dpop_nonce::DpopNonces;
use crate::authenticate::jwt::json::{Json, Object};
use crate::authenticate::jwt::jws::TOKEN_BYTES_MAX;
use crate::authenticate::jwt::token::Token;
use crate::authenticate::jwt::{credential, sha256};
use crate::authenticate::nonce::Nonces;
use crate::authenticate::sessions::Sessions;
use crate::authenticate::standing::{Keeper, Standing, Ticket};
use crate::authenticate::{Attempt, Evidence, Scheme};
use crate::clock::{Clock, Now};
use crate::head::Head;
use crate::mistake::source::Origin;
use crate::refusal::extra::Extra;
use crate::refusal::{Reason, Refusal};

/// The family of these schemes, as `auth` names them before the dot.
pub const FAMILY: &str = "introspection";

/// How many tokens may be asked about at a time.
const FLIGHTS_MAX: usize = 256;

/// How long the end of a question is waited for after its time: it says why there is no answer, and
/// whether the last one will do.
const MARGIN: Duration = Duration::from_millis(250);

/// For so many seconds an issuer that gave no answer is not asked again about a token that goes on.
const RETRY_S: u64 = 5;

/// Accepts tokens that their issuer calls active, as a policy's `[introspection.NAME]` demands.
pub struct IntrospectionScheme {
    introspector: Arc<Introspector>,
    /// What else `Authorization` may carry on the route.
    carried: Carried,
}

/// What all routes that name the scheme share.
pub struct Introspector {
    /// `introspection.NAME`.
    name: String,
    origin: Origin,
    site: Site,
    /// The gateway's own credential at the issuer.
    authorization: HeaderValue,
    issuer: Option<Box<str>>,
    audience: Box<[Box<str>]>,
    limits: Limits,
    mapping: Mapping,
    is_bound: bool,
    dpop_nonces: Option<DpopNonces>,
    active_s: u64,
    inactive_s: u64,
    /// How long an active token counts beyond `active_s` while its issuer gives no answer; nothing
    /// refuses then.
    stale_s: Option<u64>,
    timeout: Duration,
    cache: Cache<Answer>,
    directory: Arc<Directory>,
    /// Who asks about a token at the moment, so that each is asked about once.
    flights: Mutex<HashMap<Digest, watch::Receiver<Option<Outcome>>>>,
    errands: Errands,
    sessions: Arc<Sessions>,
    nonces: Arc<Nonces>,
    clock: Clock,
    counts: Counts,
}

/// What the issuer said of a token.
#[derive(Debug)]
enum Answer {
    Active(Arc<Opaque>),
    Inactive,
}

/// A token that its issuer called active, and whom to ask what was said of it since.
#[derive(Debug)]
struct Opaque {
    token: Token,
    digest: Digest,
    /// When its issuer said so, in Unix seconds.
    asked_s: u64,
    /// Weak, for it remembers this token itself.
    introspector: Weak<Introspector>,
}

impl Keeper for Opaque {
    /// Nobody is asked anew for something long: a later request with the same token asks, and what
    /// its issuer then says counts here too.
    fn still_holds(&self, _: Ticket, _: IpAddr, now: Now) -> Result<(), Reason> {
        self.token.check(now).map_err(|refusal| refusal.reason)?;
        let last = self.introspector.upgrade().and_then(|asked| asked.cache.last(&self.digest));
        match last.as_deref() {
            Some(Answer::Inactive) => Err(Reason::TokenInactive),
            Some(Answer::Active(_)) | None => Ok(()),
        }
    }
}

/// What came of asking.
type Outcome = Result<Arc<Answer>, Refusal>;

/// How often what was said of tokens, since the counts were last taken.
#[derive(Debug, Default)]
pub struct Counts {
    /// The answer was in memory.
    pub found: AtomicU64,
    /// It was so because the request had waited for it.
    pub awaited: AtomicU64,
    /// The issuer called the token active.
    pub active: AtomicU64,
    /// The issuer called it anything else.
    pub inactive: AtomicU64,
    /// The issuer gave no valid answer in time, or too many were asked about.
    pub failed: AtomicU64,
    /// The last answer was used for that reason, though it was over.
    pub stale: AtomicU64,
}

impl Scheme for IntrospectionScheme {
    fn name(&self) -> &str {
        &self.introspector.name
    }

    fn attempt(&self, head: &Head, now: Now) -> Attempt {
        match self.shown(head) {
            Ok(None) => Attempt::Absent,
            Ok(Some((how, token))) => self.introspector.look_up(how, token, head, now),
            Err(refusal) => Attempt::Rejected(refusal.by(&self.introspector.origin)),
        }
    }

    fn on_route(&self, carried: Carried) -> Option<Arc<dyn Scheme>> {
        Some(Arc::new(Self { introspector: Arc::clone(&self.introspector), carried }))
    }
}

impl IntrospectionScheme {
    /// What all routes that name the scheme share.
    pub fn introspector(&self) -> &Arc<Introspector> {
        &self.introspector
    }

    fn shown<'h>(&self, head: &'h Head) -> Result<Option<(Presented, &'h str)>, Refusal> {
        let Some((how, token)) = presented(&head.headers)? else { return Ok(None) };
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::new(Reason::TokenMalformed).because("more than 8192 bytes"));
        }
        let is_others = (self.carried.tokens && has_three_parts(token))
            || (how == Presented::Bearer
                && self.carried.keys
                && self.introspector.directory.is_key(token));
        Ok((!is_others).then_some((how, token)))
    }
}

impl Introspector {
    /// The name of the scheme, `introspection.NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it fared.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many requests found an answer in memory without waiting, since this was last asked.
    pub fn take_cached(&self) -> u64 {
        let awaited = self.counts.awaited.swap(0, Ordering::Relaxed);
        self.counts.found.swap(0, Ordering::Relaxed).saturating_sub(awaited)
    }

    /// How many answers were forgotten for others before their time, since this was last asked.
    pub fn take_evicted(&self) -> u64 {
        self.cache.take_evicted()
    }

    /// What is known of a token; a question when nothing is.
    fn look_up(self: &Arc<Self>, how: Presented, token: &str, head: &Head, now: Now) -> Attempt {
        let digest = sha256(token);
        let Some(answer) = self.cache.get(&digest, now.unix_s()) else {
            let asking = Arc::clone(self);
            let token: Box<str> = token.into();
            return Attempt::Ask(Question::new(
                async move { asking.ask(digest, token).await.map(drop) },
                self.timeout + MARGIN,
            ));
        };
        self.counts.found.fetch_add(1, Ordering::Relaxed);
        match self.judge(&answer, (how, token), head, now) {
            Ok(evidence) => Attempt::Accepted(evidence),
            Err(refusal) => Attempt::Rejected(refusal.by(&self.origin)),
        }
    }

    /// Whether an active token lets this request in. Looked at each time.
    fn judge(
        &self,
        answer: &Answer,
        shown: (Presented, &str),
        head: &Head,
        now: Now,
    ) -> Result<Evidence, Refusal> {
        let Answer::Active(opaque) = answer else { return Err(Reason::TokenInactive.into()) };
        opaque.token.check(now)?;
        let verified = &opaque.token.verified;
        let demand = Demand {
            is_bound: self.is_bound,
            skew_s: self.limits.skew_s,
            nonces: &self.nonces,
            dpop_nonces: self.dpop_nonces.as_ref(),
        };
        let dpop_nonce = binding::check(verified, shown, head, now, demand)?;
        Ok(Evidence {
            grant: Arc::clone(&verified.grant),
            digest_covered: false,
            standing: Some(Standing::new(Arc::clone(opaque) as _, Ticket::default())),
            assurance: Some(Arc::clone(&verified.assurance)),
            dpop_nonce,
        })
    }

    /// Asks about a token, and makes do with the last answer where there is none and the policy
    /// allows it.
    async fn ask(self: Arc<Self>, digest: Digest, token: Box<str>) -> Outcome {
        let outcome = self.ask_issuer(digest, token).await;
        if let Err(refusal) = &outcome
            && refusal.reason == Reason::IntrospectionFailed
            && let Some(last) = self.outlast(&digest)
        {
            return Ok(last);
        }
        outcome
    }

    /// The last answer, when it was that the token is active and may go on for now.
    fn outlast(&self, digest: &Digest) -> Option<Arc<Answer>> {
        let (stale_s, now_s) = (self.stale_s?, self.clock.now().unix_s());
        let last = self.cache.last(digest)?;
        let Answer::Active(opaque) = &*last else { return None };
        let until_s = opaque.asked_s.saturating_add(self.active_s).saturating_add(stale_s);
        let until_s = until_s.min(opaque.token.end_s());
        if now_s >= until_s {
            return None;
        }
        let held_s = until_s.min(now_s.saturating_add(RETRY_S));
        self.cache.put(*digest, Arc::clone(&last), held_s, now_s);
        self.counts.stale.fetch_add(1, Ordering::Relaxed);
        self.counts.awaited.fetch_add(1, Ordering::Relaxed);
        let age_s = now_s.saturating_sub(opaque.asked_s);
        tracing::warn!(scheme = %self.name, age_s, "the issuer gives no answer; a token goes on by the last one");
        Some(last)
    }

    /// Asks about a token, or waits with those who asked about it already.
    async fn ask_issuer(self: &Arc<Self>, digest: Digest, token: Box<str>) -> Outcome {
        let mut flight = match self.join(digest, token) {
            Ok(flight) => flight,
            Err(refusal) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                return Err(refusal.by(&self.origin));
            }
        };
        let landed = flight.wait_for(Option::is_some).await.ok();
        let outcome = landed.and_then(|outcome| outcome.clone());
        if let Some(Ok(_)) = &outcome {
            self.counts.awaited.fetch_add(1, Ordering::Relaxed);
        }
        outcome
            .unwrap_or_else(|| Err(failed("nobody asked the issuer")))
            .map_err(|refusal| refusal.by(&self.origin))
    }

    /// The flight that asks about this token: one under way, or a new one.
    fn join(
        self: &Arc<Self>,
        digest: Digest,
        token: Box<str>,
    ) -> Result<watch::Receiver<Option<Outcome>>, Refusal> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&digest) {
            return Ok(flight.clone());
        }
        if flights.len() >= FLIGHTS_MAX {
            return Err(failed("too many tokens are asked about at the moment"));
        }
        let (landing, flight) = watch::channel(None);
        let asking = Arc::clone(self);
        let errand = Box::pin(async move {
            let outcome = asking.fetch(&digest, &token).await;
            asking.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
            let _ = landing.send(Some(outcome));
        });
        if !self.errands.send(errand) {
            return Err(failed("nobody can ask the issuer at the moment"));
        }
        flights.insert(digest, flight.clone());
        Ok(flight)
    }

    /// Asks the issuer (RFC 7662, section 2.1), and remembers what it says.
    async fn fetch(self: &Arc<Self>, digest: &Digest, token: &str) -> Outcome {
        let encoded = utf8_percent_encode(token, NON_ALPHANUMERIC);
        let body = format!("token={encoded}&token_type_hint=access_token");
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        let answered = self.site.ask(request, self.timeout).await;
        let read = answered.map_err(|silent| silent.to_string()).and_then(|answered| {
            if answered.status != StatusCode::OK {
                return Err(format!("the issuer answered {}", answered.status.as_u16()));
            }
            Object::read(&answered.body).map_err(|says| format!("the issuer's answer {says}"))
        });
        let claims = read.map_err(|says| {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(scheme = %self.name, %says, "a token could not be introspected");
            failed("the issuer gave no valid answer")
        })?;
        let now = self.clock.now();
        let (answer, until_s) = self.weigh(&claims, digest, now);
        let counter = match &answer {
            Answer::Active(_) => &self.counts.active,
            Answer::Inactive => &self.counts.inactive,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let answer = Arc::new(answer);
        self.cache.put(*digest, Arc::clone(&answer), until_s, now.unix_s());
        Ok(answer)
    }

    /// What an answer means, and until which Unix second it counts: never beyond the token's end.
    fn weigh(self: &Arc<Self>, claims: &Object, digest: &Digest, now: Now) -> (Answer, u64) {
        let now_s = now.unix_s();
        let inactive = (Answer::Inactive, now_s.saturating_add(self.inactive_s));
        if claims.get("active") != Some(&Json::Bool(true)) {
            return inactive;
        }
        let is_meant = check_ends(claims, self.issuer.as_deref(), &self.audience);
        let until_s = now_s.saturating_add(self.active_s);
        // An issuer need not say when a token ends; then its next answer does.
        let times = Times::read_or(claims, u64::MAX);
        let name = |jti: Option<&str>| credential(jti, digest);
        let verified = is_meant.and(times).and_then(|times| {
            // An issuer that calls active what has ended is not believed.
            times.check(&self.limits, now)?;
            Verified::with(times, claims, &self.mapping, name, 0)
        });
        match verified {
            Ok(verified) => {
                let token = Token::new(verified, self.limits, &self.sessions);
                let (end_s, introspector) = (token.end_s(), Arc::downgrade(self));
                let opaque = Opaque { token, digest: *digest, asked_s: now_s, introspector };
                (Answer::Active(Arc::new(opaque)), until_s.min(end_s))
            }
            Err(refusal) => {
                tracing::warn!(scheme = %self.name, reason = refusal.reason.name(), "an active token is not meant for this API, or says too little");
                inactive
            }
        }
    }
}

fn failed(says: &'static str) -> Refusal {
    Refusal::new(Reason::IntrospectionFailed).because(says).with(Extra::RetryAfter(1))
}

impl fmt::Debug for Introspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)
    }
}
