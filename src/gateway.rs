//! The way of a request: the stages, called in order. Read this first.
//!
//! ```text
//! listen → head → route → authenticate → authorize → limit → inspect → forward → respond → record
//! ```
//!
//! Two functions know this order. [`Gateway::handle`](Handler::handle) opens the record, calls the
//! way, turns a refusal into a response and hands the record to the response's body, which closes
//! it. `Gateway::pass` is the way itself: stage calls only, each of which demands what the stage
//! before has proved, so that skipping one does not compile.
//!
//! What a straight reading hides:
//!
//! * A signature is verified over the head and over the digest of the body that the head declares;
//!   the body is compared with that digest in `inspect`, after `limit`. So no byte of a body is
//!   held for a stranger or for someone over budget, unless a signature covers trailers and its rule
//!   says how much may be held for them.
//! * `limit` is asked twice: the budget of the address right after `head`, those of the principal
//!   after `authorize`. Guessing credentials would otherwise cost the guesser nothing.
//! * A request keeps the policy it began with, however often the policy is replaced meanwhile.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::ORIGIN;
use http::{HeaderValue, StatusCode};

use crate::authenticate::{Authenticate, Principal};
use crate::clock::{Clock, Now};
use crate::fields::Fields;
use crate::fields::value::Value;
use crate::forward::Answer;
use crate::forward::sender::Sender;
use crate::head::bans::Bans;
use crate::head::{self, Head, RequestId};
use crate::inspect::Observed;
use crate::listen::body::Body;
use crate::listen::room::Room;
use crate::listen::{Arrival, Handler, Length, Outgoing, Peer, Response, Stream, Tunnel};
use crate::mistake::source::Origin;
use crate::policy::Policy;
use crate::policy::route::Route;
use crate::record::Record;
use crate::record::entry::{Entry, Recorded};
use crate::record::meters::{AnsweredBy, ListenerMeters};
use crate::refusal::extra::Spent;
use crate::refusal::{Refusal, Stage};
use crate::respond::body::Shape;
use crate::respond::{self, Facts, limits};

/// Everything that requests share. One for the process.
pub struct Shared {
    /// Where time comes from.
    pub clock: Clock,
    /// The policy in force; swapped whole.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Metrics, access log, recent decisions.
    pub record: Arc<Record>,
    /// Addresses that are refused.
    pub bans: Arc<Bans>,
    /// The one ceiling on all bodies held in memory.
    pub room: Arc<Room>,
}

/// The gateway, as one listener of one worker holds it: what is shared, the worker's own upstream
/// connections, and where the listener's requests are counted.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    sender: Arc<Sender>,
    listener: Arc<ListenerMeters>,
}

/// What has been learned of a request so far; its response needs it whichever way it ends.
#[derive(Default)]
struct Seen<'p> {
    id: Option<RequestId>,
    shape: Shape,
    route: Option<&'p Route>,
    authenticated: bool,
    retires_s: Option<u64>,
    dpop_nonce: Option<Box<HeaderValue>>,
    origin: Option<HeaderValue>,
    budget: Option<(Origin, Spent)>,
    with_body: bool,
}

/// How the way ended, when it did not end in a refusal.
enum Passed {
    /// An upstream answered.
    Answered(Answer),
    /// The listener only redirects to TLS.
    Redirected(HeaderValue),
    /// A browser asked whether a page may ask.
    Preflight(Fields),
}

impl Gateway {
    /// A gateway for one listener of one worker.
    pub fn new(shared: Arc<Shared>, sender: Arc<Sender>, listener: Arc<ListenerMeters>) -> Self {
        Self { shared, sender, listener }
    }

    /// Passes one request through the stages. Each line makes the proof that the next one asks for.
    async fn pass<'p>(
        &self,
        policy: &'p Policy,
        (peer, arrival): (&Arc<Peer>, Arrival),
        now: Now,
        entry: &mut Entry,
        seen: &mut Seen<'p>,
    ) -> Result<Passed, Refusal> {
        let (raw, mut body) = arrival.request()?;
        let head = head::read(raw, peer, &peer.trusted, now)
            .map_err(|refusal| policy.keys().found(refusal, peer, now))?;
        (seen.id, seen.shape) = (Some(head.id), Shape::asked(&head.headers));
        seen.origin = head.header(&ORIGIN).and_then(Value::to_header_value);
        seen.with_body = head.length != Length::None;
        entry.headed(&head);
        policy.keys().plaintext(&head, now)?;
        if let Some(location) = head.redirect() {
            return Ok(Passed::Redirected(location));
        }
        self.shared.bans.check(head.parties.client, now)?;
        policy.address().spend(head.parties.client, now)?;
        entry.passed(Stage::Head, None);

        if let Some((route, headers)) = policy.preflight(&head) {
            entry.routed(&route.meters);
            return Ok(Passed::Preflight(headers));
        }
        let (route, parameters) = match policy.find(&head) {
            Ok(found) => found,
            // Strangers do not learn what is not there.
            Err(missing) => {
                let unread = (&mut body, &self.shared.room);
                Self::identify(policy, policy.unmatched(), &head, unread, now).await?;
                return Err(missing);
            }
        };
        seen.route = Some(route);
        entry.routed(&route.meters);
        entry.passed(Stage::Route, Some(&route.origin));

        let unread = (&mut body, &self.shared.room);
        let mut principal = Self::identify(policy, &route.authenticate, &head, unread, now).await?;
        (seen.authenticated, seen.retires_s) = (principal.grant().is_some(), principal.retires_s());
        seen.dpop_nonce = principal.take_dpop_nonce();
        entry.identified(&mut principal);
        entry.passed(Stage::Authenticate, None);

        let permit = route.doors.allow(principal, &head, &parameters, now)?;
        permit.observed().iter().for_each(|refusal| entry.observed(refusal));
        entry.passed(Stage::Authorize, permit.door());

        let admission = route.budgets.spend(permit, &head, now)?;
        seen.budget = admission.tightest().cloned();
        admission.observed().iter().for_each(|refusal| entry.observed(refusal));
        entry.passed(Stage::Limit, admission.tightest().map(|(origin, _)| origin));

        let body = entry.count(body);
        let mut watch = Observed::default();
        let held = self.shared.room.hold();
        let cleared =
            route.filters.inspect(head, body, admission, &parameters, held, &mut watch).await;
        watch.refusals().for_each(|refusal| entry.observed(&refusal));
        let cleared = cleared?;
        entry.passed(Stage::Inspect, None);

        let path = route.rewritten(&parameters)?;
        let options = route.send_options(path.as_deref(), now);
        let answer = self.sender.send(&route.destination, cleared, &options).await?;
        if let Some(upstream) = route.destination.upstream() {
            entry.forwarded(upstream.target_name(answer.target), answer.first_byte);
        }
        entry.passed(Stage::Forward, None);
        Ok(Passed::Answered(answer))
    }

    /// Who calls. This waits for the outside where a scheme has to ask, and reads the body where a
    /// signature covers what follows it.
    async fn identify(
        policy: &Policy,
        authenticate: &Authenticate,
        head: &Head,
        unread: (&mut Body, &Arc<Room>),
        now: Now,
    ) -> Result<Principal, Refusal> {
        let identified = authenticate.identify(head, unread, now).await;
        identified.map_err(|refusal| policy.failed(refusal, head, now))
    }
}

impl Handler for Gateway {
    type Body = Recorded<Body>;

    async fn handle(&self, peer: &Arc<Peer>, arrival: Arrival) -> Outgoing<Self::Body> {
        let now = self.shared.clock.now();
        let policy = self.shared.policy.load_full();
        let close = matches!(arrival, Arrival::Malformed(_));
        let mut entry = self.shared.record.open(peer, &self.listener, policy.hash(), now);
        let mut seen = Seen::default();
        let passed = self.pass(&policy, (peer, arrival), now, &mut entry, &mut seen).await;

        let facts = Facts {
            id: seen.id.unwrap_or_else(|| RequestId::new(now)),
            tls: peer.tls.is_some(),
            authenticated: seen.authenticated,
            retires_s: seen.retires_s,
            dpop_nonce: seen.dpop_nonce.as_deref(),
            shape: seen.shape,
            origin: seen.origin.as_ref(),
            budget: seen
                .budget
                .as_ref()
                .map(|(limit, spent)| (limits::short(limit.rule()), *spent)),
        };
        entry.named(facts.id);
        let rules = seen.route.map_or_else(|| policy.unmatched_rules(), |route| &route.rules);
        let ended = match &passed {
            Ok(Passed::Answered(answer)) => self.shared.clock.at(answer.at),
            Ok(Passed::Redirected(_) | Passed::Preflight(_)) | Err(_) => self.shared.clock.now(),
        };
        let mut upgraded = None;
        let response = match passed {
            Ok(Passed::Answered(mut answer)) => {
                upgraded = answer.upgraded.take();
                let upstream = seen.route.and_then(|route| route.destination.upstream());
                let by = upstream.map_or(AnsweredBy::Gateway, |_| AnsweredBy::Upstream);
                entry.answered(answer.status, by, ended);
                respond::answer(answer, &facts, rules)
            }
            Ok(Passed::Redirected(location)) => {
                entry.answered(StatusCode::PERMANENT_REDIRECT, AnsweredBy::Gateway, ended);
                respond::redirect(&location, &facts)
            }
            Ok(Passed::Preflight(headers)) => {
                entry.answered(StatusCode::NO_CONTENT, AnsweredBy::Gateway, ended);
                respond::preflight(headers, &facts)
            }
            Err(refusal) => {
                entry.refused(&refusal);
                entry.answered(refusal.reason.status(), AnsweredBy::Gateway, ended);
                let challenge = policy.challenge(seen.route, refusal.reason, seen.with_body);
                respond::refuse(&refusal, &facts, challenge, rules)
            }
        };
        match upgraded {
            None => {
                let response = response.map(|body| match body {
                    Body::Streaming(_) => entry.with(body),
                    Body::Empty | Body::Whole(_) => entry.with(body).in_memory(ended),
                });
                Outgoing { response, tunnel: None, close, at: ended }
            }
            Some(upstream) => {
                let upstream_of = seen.route.and_then(|route| route.destination.upstream());
                let idle = upstream_of
                    .map_or_else(Default::default, |upstream| upstream.settings().idle_timeout());
                tunnel(response, upstream, (entry, ended), idle)
            }
        }
    }
}

/// A connection that has become a tunnel carries the record's entry to its end.
fn tunnel(
    response: Response<Body>,
    upstream: Box<dyn Stream>,
    (entry, at): (Entry, Now),
    idle: std::time::Duration,
) -> Outgoing<Recorded<Body>> {
    let tunnel = Tunnel { upstream, keep: Box::new(entry), idle };
    let response = response.map(Recorded::untold);
    Outgoing { response, tunnel: Some(tunnel), close: false, at }
}
