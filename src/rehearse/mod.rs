//! Rehearses a policy: sends requests through the very gateway that serves, without a socket.

pub mod decision;
pub mod outcome;
pub mod walk;
mod caller;
mod stand_in;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;

use crate::authenticate::directory::Directory;
use crate::authenticate::nonce::Nonces;
use crate::authenticate::outside::Outside;
use crate::clock::{Clock, Now};
use crate::fields::Fields;
use crate::forward::sender::{Canned, Sender};
use crate::forward::upstream::Upstreams;
use crate::gateway::{Gateway, Shared};
use crate::head::bans::Bans;
use crate::limit::buckets::Buckets;
use crate::listen::room::Room;
use crate::listen::{Arrival, ClientCertificate, Handler, Peer, Response, TlsFacts};
use crate::mistake::code::Code;
use crate::mistake::{Mistake, Mistakes};
use crate::policy::Policy;
use crate::policy::case::Case;
use crate::policy::compile::{self, Ground};
use crate::policy::files::Files;
use crate::policy::reload::Proof;
use crate::record::Record;
use crate::record::log::{Log, LogPlan};
use crate::record::metrics::{Build, Metrics};
use crate::rehearse::caller::Caller;
use crate::rehearse::decision::Decision;
use crate::rehearse::outcome::Outcome;
use crate::secret::Secret;
use crate::secret::reference::Reference;
use crate::units::Size;

/// Bodies of a rehearsal may take so much memory.
const ROOM: Size = Size(256 << 20);
/// Buckets that one test may fill. A test repeats at most 100,000 times, for one caller.
const BUCKETS_MAX: usize = 1 << 16;
/// Nonces that are remembered; more than the requests of one test.
const NONCES_MAX: usize = 1 << 18;
const PEPPER_BYTES: usize = 32;
/// The environment of the keys that callers are given.
const ENVIRONMENT: &str = "test";
/// The listener that requests of a rehearsal come from, as records name it.
const LISTENER: &str = "rehearsal";
/// Answers are never longer: the upstream's stands in the policy's file, the others are ours.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A policy on a ground of its own, with nothing of a running gateway: keys, nonces, budgets and
/// metrics belong to the rehearsal, and requests that are let through get a canned answer.
pub struct Rehearsal {
    policy: Arc<Policy>,
    ground: Ground,
    files: usize,
    now: Now,
    /// Requests of one test follow one another; tests do not mix their budgets.
    turn: Mutex<()>,
}

/// What became of a request.
pub(in crate::rehearse) struct Happened {
    /// What the record says of it.
    decision: Decision,
    /// The answer.
    status: StatusCode,
    headers: Fields,
    body: Bytes,
}

impl Rehearsal {
    /// Reads and compiles the policy of a directory. Without `upstreams` (there is no
    /// configuration) every upstream that a route names is taken to be there.
    pub fn load(
        dir: &Path,
        upstreams: Option<&Arc<Upstreams>>,
        now: Now,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        Self::of(&Files::read(dir, mistakes), upstreams, now, mistakes)
    }

    /// The same, of files that were read already.
    pub fn of(
        files: &Files,
        upstreams: Option<&Arc<Upstreams>>,
        now: Now,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let upstreams = upstreams.map_or_else(|| Arc::new(stand_in::upstreams(files)), Arc::clone);
        let ground = match ground(upstreams, now) {
            Ok(ground) => ground,
            Err(says) => {
                mistakes.push(Mistake::new(
                    Code::Unreadable,
                    format!("the policy cannot be rehearsed: {says}"),
                ));
                return None;
            }
        };
        let policy = Arc::new(compile::compile(files, &ground, mistakes)?);
        Some(Self { policy, ground, files: files.sources.len(), now, turn: Mutex::new(()) })
    }

    /// How many files the policy has.
    pub fn files(&self) -> usize {
        self.files
    }

    /// The policy.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Runs a test: budgets are whole at its start, and nothing is left of it at its end.
    pub fn run(&self, case: &Case) -> Outcome {
        Outcome::of(case, self.send(case).as_ref().map_err(String::as_str))
    }

    /// Sends the request of a test, as often as the test says; what became of the last.
    pub(in crate::rehearse) fn send(&self, case: &Case) -> Result<Happened, String> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_budgets();
        let clock = self.clock(case);
        let caller =
            Caller::new(case.caller.as_ref(), (&self.policy, &self.ground.directory), clock.now())?;
        let peer = peer(case);
        let arrival = || caller.arrival(&case.request, &self.policy, &peer, clock.now());
        let earlier = self.gateway(case, &clock, &self.ground.record);
        let record = fresh_record(&clock)?;
        let gateway = self.gateway(case, &clock, &record);
        let answer = on_own_runtime(async {
            for _ in 1..case.repeat {
                exchange(&earlier, &peer, arrival()?).await?;
            }
            exchange(&gateway, &peer, arrival()?).await
        })?;
        // This record has seen one request only, the last.
        let told = record.recent().last_refused().or_else(|| record.recent().last_allowed());
        let decision = Decision::read(&told.ok_or("the record tells nothing of it")?)?;
        let Response { status, headers, body } = answer;
        Ok(Happened { decision, status, headers, body })
    }

    /// A gateway that obeys this policy and has the test's answer for whatever it lets through.
    fn gateway(&self, case: &Case, clock: &Clock, record: &Arc<Record>) -> Gateway {
        let shared = Shared {
            clock: clock.clone(),
            policy: Arc::new(ArcSwap::new(Arc::clone(&self.policy))),
            record: Arc::clone(record),
            bans: Arc::new(Bans::default()),
            room: Room::new(ROOM),
        };
        let (status, headers, body) = case.upstream.clone();
        let sender = Sender::canned(Canned { status, headers, body: body.into() });
        Gateway::new(Arc::new(shared), Arc::new(sender), record.metrics().listener(LISTENER))
    }

    /// The clock of a test: it stands still when the test says, or when the policy was loaded.
    pub(in crate::rehearse) fn clock(&self, case: &Case) -> Clock {
        Clock::set_at(case.now_ms.unwrap_or(self.now.unix_ms)).0
    }

    /// Makes all budgets whole again.
    pub(in crate::rehearse) fn forget_budgets(&self) {
        self.ground.buckets.forget_all();
    }

    pub(in crate::rehearse) fn directory(&self) -> &Directory {
        &self.ground.directory
    }
}

/// The proof that a policy must stand before it is taken into force: its own tests, all of them.
pub fn proof(upstreams: Arc<Upstreams>, clock: Clock) -> Proof {
    Box::new(move |files| {
        let mut mistakes = Mistakes::default();
        let rehearsal = Rehearsal::of(files, Some(&upstreams), clock.now(), &mut mistakes);
        let Some(rehearsal) = rehearsal else {
            let says = mistakes
                .iter()
                .filter(|mistake| !mistake.is_advice())
                .map(|mistake| mistake.render(false));
            return Err(says.collect::<Vec<_>>().join("\n"));
        };
        let failed = rehearsal.policy.cases().iter().filter_map(|case| {
            let outcome = rehearsal.run(case);
            (!outcome.passed).then(|| outcome.report(case))
        });
        let failed: Vec<String> = failed.collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join("\n\n")) }
    })
}

/// A ground without a past, for one rehearsal.
fn ground(upstreams: Arc<Upstreams>, now: Now) -> Result<Ground, String> {
    let pepper = Secret::random(PEPPER_BYTES).map_err(|fault| fault.to_string())?;
    let directory =
        Directory::in_memory(&pepper, ENVIRONMENT).map_err(|fault| fault.to_string())?;
    let clock = Clock::set_at(now.unix_ms).0;
    let check = |reference: &str| reference.parse::<Reference>().map(drop);
    let outside = Outside::rehearsed(check).map_err(|fault| fault.to_string())?;
    Ok(Ground {
        upstreams,
        directory: Arc::new(directory),
        nonces: Arc::new(Nonces::with_history(NONCES_MAX)),
        outside,
        buckets: Arc::new(Buckets::new(BUCKETS_MAX)),
        record: fresh_record(&clock)?,
        clock,
    })
}

/// A record that nobody reads but the rehearsal itself.
fn fresh_record(clock: &Clock) -> Result<Arc<Record>, String> {
    let build = Build { version: env!("CARGO_PKG_VERSION"), revision: "unknown", rustc: "unknown" };
    let metrics = Metrics::new(build).map_err(|error| error.to_string())?;
    let log = Log::start(LogPlan::none()).map_err(|error| error.to_string())?;
    Ok(Record::new(metrics, log, clock.clone()))
}

/// The connection of a test's caller: over TLS, from the address that the test says, with the
/// certificate that it says.
pub(in crate::rehearse) fn peer(case: &Case) -> Arc<Peer> {
    let name = case.caller.as_ref().and_then(|caller| caller.certificate.as_deref());
    let certificate = name.map(|name| Arc::new(ClientCertificate::rehearsed(name)));
    Arc::new(Peer {
        address: SocketAddr::new(case.request.from, 40_000),
        local: SocketAddr::from(([127, 0, 0, 1], 8443)),
        listener: LISTENER.into(),
        tls: Some(TlsFacts {
            // Who shows a certificate has said where.
            server_name: certificate.is_some().then(|| case.request.host.as_str().into()),
            version: "TLSv1.3",
            certificate,
            name_binds: false,
        }),
        trusted: Arc::new([]),
        redirect_port: None,
        parties: Default::default(),
    })
}

async fn exchange(
    gateway: &Gateway,
    peer: &Arc<Peer>,
    arrival: Arrival,
) -> Result<Response<Bytes>, String> {
    let outgoing = gateway.handle(peer, arrival).await;
    let Response { status, headers, body } = outgoing.response;
    let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX);
    let body = body.collect().await.map_err(|error| format!("the answer broke off: {error}"))?;
    Ok(Response { status, headers, body: body.to_bytes() })
}

/// Waits for a future on a thread and a runtime of its own, because whoever asks may be inside a
/// runtime already, where waiting is not allowed.
fn on_own_runtime<T: Send>(
    future: impl Future<Output = Result<T, String>> + Send,
) -> Result<T, String> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| format!("there is no runtime: {error}"))?.block_on(future)
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|_| Err("a stage of the gateway panicked".to_owned()))
}
