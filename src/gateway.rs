//! The way of a request: the stages, called in order.
//!
//! ```text
//! listen → head → route → authenticate → authorize → limit → inspect → forward → respond → record
//! ```
//!
//! Two functions know this order. [`Gateway::handle`] opens the record, calls the way, turns a
//! refusal into a response and hands the record to the response's body, which closes it.
//! [`Gateway::pass`] is the way itself: stage calls only, each of which demands what the stage
//! before has proved, so that skipping one does not compile.
//!
//! What a straight reading hides:
//!
//! * A signature is verified over the head and over the digest of the body that the head declares;
//!   the body is compared with that digest in `inspect`, after `limit`. So no byte of a body is
//!   held for a stranger or for someone over budget.
//! * `limit` is asked twice: the budget of the address right after `head`, those of the principal
//!   after `authorize`. Guessing credentials would otherwise cost the guesser nothing.
//! * A request keeps the policy it began with, however often the policy is replaced meanwhile.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderValue, Response, StatusCode};

use crate::clock::{Clock, Now};
use crate::forward::sender::Sender;
use crate::forward::{Answer, AnswerBody};
use crate::head::bans::Bans;
use crate::head::{self, Head};
use crate::inspect::room::Room;
use crate::listen::{Arrival, Handler, Outgoing, Peer, Tunnel};
use crate::policy::Policy;
use crate::policy::route::Route;
use crate::record::Record;
use crate::record::body::Recorded;
use crate::record::entry::Entry;
use crate::refusal::{Reason, Refusal, Spent, Stage};
use crate::respond::{self, Challenges, Facts, body::Shape};

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

/// The gateway, as one worker holds it: what is shared, and the worker's own upstream connections.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    sender: Arc<Sender>,
}

/// What has been learned of a request so far; the response needs it whichever way the request ends.
struct Seen<'p> {
    head: Option<(head::RequestId, Shape)>,
    route: Option<&'p Route>,
    authenticated: bool,
    budget: Option<(Box<str>, Spent)>,
}

/// How the way ended, when it did not end in a refusal.
enum Passed {
    /// An upstream answered.
    Answered(Answer),
    /// The listener only redirects to TLS.
    Redirected(HeaderValue),
}

impl Gateway {
    /// A worker's gateway.
    pub fn new(shared: Arc<Shared>, sender: Arc<Sender>) -> Self {
        Self { shared, sender }
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
        let (raw, body) = arrival.into_request()?;
        entry.arrived(&raw);
        let head = head::read(*raw, peer, now)?;
        seen.head = Some((head.id, Shape::asked(&head.headers)));
        entry.read(&head);
        if let Some(location) = head.redirect() {
            return Ok(Passed::Redirected(location));
        }
        self.shared.bans.check(head.client, now)?;
        policy.address().spend(head.client, now)?;

        let (route, parameters) = policy.find(&head, now)?;
        seen.route = Some(route);
        entry.routed(&route.name, &route.meters, &route.origin);

        let principal = route.authenticate.who(&head, now).map_err(|refusal| policy.failed(refusal, &head, now))?;
        seen.authenticated = principal.grant().is_some();
        entry.identified(&principal);

        let permit = route.doors.allow(principal, &head, &parameters)?;
        entry.passed(Stage::Authorize, permit.door());

        let admission = route.budgets.spend(permit, &head, route.number, now)?;
        seen.budget = admission.tightest().map(|(origin, spent)| (respond::limits::short(origin.rule()).into(), *spent));
        entry.passed(Stage::Limit, admission.tightest().map(|(origin, _)| origin));

        let cleared = route.filters.inspect(head, body, admission, &parameters, &self.shared.room, entry.watch()).await?;
        entry.passed(Stage::Inspect, route.filters.origin());

        let path = route.rewritten(&parameters)?;
        let answer = self.sender.send(&route.upstream, cleared, &route.send_options(path.as_deref(), now)).await?;
        entry.forwarded(&route.upstream, &answer);
        Ok(Passed::Answered(answer))
    }
}

impl Handler for Gateway {
    type Body = Recorded<AnswerBody>;

    async fn handle(&self, peer: &Arc<Peer>, arrival: Arrival) -> Outgoing<Self::Body> {
        let now = self.shared.clock.now();
        let policy = self.shared.policy.load_full();
        let malformed = matches!(arrival, Arrival::Malformed(_));
        let mut entry = self.shared.record.open(peer, policy.hash(), now);
        let mut seen = Seen { head: None, route: None, authenticated: false, budget: None };
        let passed = self.pass(&policy, (peer, arrival), now, &mut entry, &mut seen).await;

        let facts = Facts {
            id: seen.head.map(|(id, _)| id),
            tls: peer.tls.is_some(),
            authenticated: seen.authenticated,
            shape: seen.head.map(|(_, shape)| shape).unwrap_or_default(),
            budget: seen.budget.as_ref().map(|(name, spent)| (&**name, *spent)),
        };
        let rules = seen.route.map_or(policy.unmatched_rules(), |route| &route.rules);
        let mut upgraded = None;
        let response = match passed {
            Ok(Passed::Answered(mut answer)) => {
                upgraded = answer.upgraded.take();
                entry.answered(answer.status, Stage::Forward);
                respond::answer(answer, &facts, rules)
            }
            Ok(Passed::Redirected(location)) => {
                entry.answered(StatusCode::PERMANENT_REDIRECT, Stage::Head);
                respond::redirect(&location, &facts)
            }
            Err(refusal) => {
                entry.refused(&refusal);
                let challenges = policy.challenges(seen.route, refusal.reason);
                respond::refuse(&refusal, &facts, &challenges, rules)
            }
        };
        match upgraded {
            None => Outgoing { response: response.map(|body| Recorded::new(body, entry)), tunnel: None, close: malformed },
            Some(upstream) => tunnel(response, upstream, entry),
        }
    }
}

/// A connection that has become a tunnel carries the record's entry to its end.
fn tunnel(
    response: Response<AnswerBody>,
    upstream: Box<dyn crate::listen::Stream>,
    entry: Entry,
) -> Outgoing<Recorded<AnswerBody>> {
    let idle = forward::TUNNEL_IDLE;
    let tunnel = Tunnel { upstream, keep: Box::new(entry), idle };
    Outgoing { response: response.map(Recorded::unrecorded), tunnel: Some(tunnel), close: false }
}
