//! The administration: metrics, readiness, reload, keys, bans and decisions, on a listener of its own.
//!
//! `/healthz`, `/readyz`, `/metrics` and `/.well-known/jwks.json` are open to callers on the same
//! machine while the listener is bound to loopback. Everything else, and those four on any other
//! address, needs the token.

pub mod answer;
pub mod guard;
pub mod endpoint;
pub mod reloads;
pub mod keys;
pub mod secrets;
pub mod bans;
mod alarms;
pub mod sessions;
pub mod status;
pub mod metrics;
pub mod housekeeping;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts as RequestHead;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::admin::answer::{Answer, Failure};
use crate::admin::bans::{LiftedBan, NewBan, Register};
use crate::admin::endpoint::Endpoint;
use crate::admin::guard::Guard;
use crate::admin::reloads::{Reloads, result_name};
use crate::admin::secrets::{MasterKey, Rekey};
use crate::admin::sessions::NewRevocation;
use crate::authenticate::directory::Directory;
use crate::authenticate::management::call::Call;
use crate::authenticate::sessions::Sessions;
use crate::clock::Now;
use crate::forward::identity::issuer::Issuer;
use crate::forward::upstream::Upstreams;
use crate::gateway::Shared;
use crate::limit::buckets::Buckets;
use crate::listen;
use crate::listen::drain::Drain;
use crate::listen::plain::{Answers, Ends};
use crate::policy::reload::{Outcome, Reloader};
use crate::secret::Secret;
use crate::store::Store;

/// Bytes of a body, other than one that brings keys.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes of a body that brings keys.
const IMPORT_BYTES_MAX: usize = 64 << 20;
/// Bodies that may be so large, at a time; further ones wait.
const IMPORTS_MAX: usize = 2;
/// A body must be there by then.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What the administration looks after.
pub struct Parts {
    /// What requests share.
    pub shared: Arc<Shared>,
    /// All credentials.
    pub directory: Arc<Directory>,
    /// Where credentials and bans outlive the process.
    pub store: Arc<Store>,
    /// What unlocks that.
    pub master: MasterKey,
    /// Tokens and sessions that were revoked.
    pub sessions: Arc<Sessions>,
    /// All token buckets.
    pub buckets: Arc<Buckets>,
    /// What loads the policy again.
    pub reloader: Reloader,
    /// Whether changed policy files are noticed by themselves.
    pub watch: bool,
    /// The services behind.
    pub upstreams: Arc<Upstreams>,
    /// Who signs tokens that tell services who calls.
    pub issuer: Arc<Issuer>,
    /// The listeners.
    pub listeners: Vec<Arc<listen::Shared>>,
    /// What lets in; without it nobody gets further than the open endpoints.
    pub token: Option<Secret>,
    /// Tells whether the gateway is stopping.
    pub drain: Drain,
    /// How long new credentials hold when nothing else is said.
    pub expire_after: Duration,
}

/// The administration of one gateway.
pub struct Admin(Arc<Desk>);

/// Where the administration's work is done, shared with the threads that may block.
pub(in crate::admin) struct Desk {
    parts: Watched,
    guard: Guard,
    bans: Register,
    store: Arc<Store>,
    master: MasterKey,
    sessions: sessions::Register,
    reloads: Reloads,
    started: Now,
    scraping: Mutex<()>,
    imports: Semaphore,
}

/// Of the parts, those that are looked at again and again.
struct Watched {
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    buckets: Arc<Buckets>,
    watch: bool,
    upstreams: Arc<Upstreams>,
    issuer: Arc<Issuer>,
    store: Arc<Store>,
    listeners: Vec<Arc<listen::Shared>>,
    drain: Drain,
    expire_after: Duration,
}

impl Admin {
    /// The administration of these parts. Its uptime begins now, and so does the policy in force.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            shared,
            directory,
            store,
            master,
            sessions,
            buckets,
            reloader,
            watch,
            upstreams,
            issuer,
            listeners,
            token,
            drain,
            expire_after,
        } = parts;
        let reloads = Reloads::new(Arc::clone(&shared), reloader);
        Self(Arc::new(Desk {
            guard: Guard::new(token),
            bans: Register::new(Arc::clone(&shared.bans), Arc::clone(&store)),
            store: Arc::clone(&store),
            master,
            sessions: sessions::Register::new(sessions, Arc::clone(&store)),
            reloads,
            started: shared.clock.now(),
            scraping: Mutex::new(()),
            imports: Semaphore::new(IMPORTS_MAX),
            parts: Watched {
                shared,
                directory,
                buckets,
                watch,
                upstreams,
                issuer,
                store,
                listeners,
                drain,
                expire_after,
            },
        }))
    }

    /// Loads the policy again and tells what came of it; log and metrics are told too. It reads
    /// files and runs the policy's tests, so it belongs on a thread that may block.
    pub fn reload(&self) -> Outcome {
        self.0.reloads.reload()
    }

    /// Opens the access log's file anew, after it was moved away.
    pub fn reopen_log(&self) {
        self.0.parts.shared.record.log().reopen();
    }

    /// Does what must be done about credentials before the process ends: acts upon alarms, and
    /// stores what was noted of their use. It waits for the disk.
    pub fn settle(&self) {
        self.0.answer_alarms();
        self.0.keep_usage();
    }

    pub(in crate::admin) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.0)
    }
}

impl Answers for Admin {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.desk().answer(request).await.unwrap_or_else(Failure::answer)
    }
}

impl Desk {
    /// Answers one request.
    async fn answer<B>(self: Arc<Self>, request: Request<B>) -> Result<Answer, Failure>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        self.guard.refuse_pages(&head.headers, head.uri.authority())?;
        let endpoint = Endpoint::find(&head.method, head.uri.path());
        self.admit(&head, endpoint.as_ref().is_ok_and(Endpoint::is_open))?;
        let recent = || self.parts.shared.record.recent();
        match endpoint? {
            Endpoint::Healthz => Ok(answer::json(&json!({ "status": "alive" }))),
            Endpoint::Readyz => self.ready().map(|value| answer::json(&value)),
            Endpoint::Metrics => self.apart(|desk| Ok(answer::metrics(desk.scrape()))).await,
            Endpoint::IdentityKeys => Ok(answer::keys(&self.parts.issuer.published())),
            Endpoint::Status => self.apart(|desk| Ok(answer::json(&desk.status()))).await,
            Endpoint::Reload => self.apart(|desk| Ok(desk.reloaded())).await,
            Endpoint::Keys => self.keys(body).await,
            Endpoint::Rekey => {
                let rekey: Rekey = parse(&read(body, BODY_BYTES_MAX).await?)?;
                self.apart(move |desk| {
                    let done = desk.master.rekey(&desk.store, &rekey);
                    done.map(|told| answer::json(&told)).map_err(Failure::conflict)
                })
                .await
            }
            Endpoint::Bans => Ok(answer::json(&self.bans.list(self.now()))),
            Endpoint::AddBan => {
                let new: NewBan = parse(&read(body, BODY_BYTES_MAX).await?)?;
                self.apart(move |desk| Ok(answer::json(&desk.bans.add(&new, desk.now())?))).await
            }
            Endpoint::RemoveBan => {
                let lifted: LiftedBan = parse(&read(body, BODY_BYTES_MAX).await?)?;
                self.apart(move |desk| Ok(answer::json(&desk.bans.remove(lifted.network)?))).await
            }
            Endpoint::Sessions => Ok(answer::json(&self.sessions.list())),
            Endpoint::RevokeSession => {
                let new: NewRevocation = parse(&read(body, BODY_BYTES_MAX).await?)?;
                let revoked = move |desk: &Self| desk.sessions.revoke(new, desk.now());
                self.apart(|desk| Ok(answer::json(&revoked(desk)?))).await
            }
            Endpoint::LastRefused => recent()
                .last_refused()
                .map(answer::json_text)
                .ok_or_else(|| Failure::not_found("No request was refused since the start")),
            Endpoint::Decision(id) => recent()
                .find(&id)
                .map(answer::json_text)
                .ok_or_else(|| Failure::not_found("No recent request has this id")),
        }
    }

    /// Lets in monitors on the same machine, and those who have the token.
    fn admit(&self, head: &RequestHead, open: bool) -> Result<(), Failure> {
        let ends = head.extensions.get::<Ends>();
        if open && ends.is_some_and(Ends::are_loopback) {
            return Ok(());
        }
        self.guard.demand_token(&head.headers).inspect_err(|_| {
            let peer = ends.map(|ends| tracing::field::display(ends.peer));
            tracing::warn!(peer, "the administration was asked without its token");
        })
    }

    async fn keys<B>(self: &Arc<Self>, body: B) -> Result<Answer, Failure>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let _place =
            self.imports.acquire().await.map_err(|error| Failure::fault(error.to_string()))?;
        let body = read(body, IMPORT_BYTES_MAX).await?;
        let call: Call = parse_silently(&body)?;
        if !call.is_import() && body.len() > BODY_BYTES_MAX {
            return Err(Failure::too_large(BODY_BYTES_MAX));
        }
        drop(body);
        self.apart(move |desk| {
            let Watched { directory, expire_after, .. } = &desk.parts;
            Ok(answer::json(&keys::answer(directory, &call, *expire_after, desk.now())?))
        })
        .await
    }

    fn reloaded(&self) -> Answer {
        let outcome = self.reloads.reload();
        let hash = Arc::clone(self.parts.shared.policy.load().hash());
        let mut told = json!({ "result": result_name(&outcome), "hash": &*hash });
        if let (Outcome::Refused(says), Some(told)) = (outcome, told.as_object_mut()) {
            told.insert("says".to_owned(), says.into());
        }
        answer::json(&told)
    }

    /// Does work that waits for a disk or takes long on a thread that may block.
    async fn apart(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<Answer, Failure> + Send + 'static,
    ) -> Result<Answer, Failure> {
        let desk = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&desk)).await;
        done.unwrap_or_else(|fault| {
            tracing::error!(%fault, "the administration could not answer");
            Err(Failure::fault("Something went wrong"))
        })
    }

    fn now(&self) -> Now {
        self.parts.shared.clock.now()
    }
}

/// Reads a body of at most so many bytes, in time.
async fn read<B>(body: B, bytes_max: usize) -> Result<Bytes, Failure>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = Limited::new(body, bytes_max).collect();
    let whole = tokio::time::timeout(BODY_TIMEOUT, whole).await.map_err(|_| Failure::timeout())?;
    let whole = whole.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Failure::too_large(bytes_max)
        } else {
            Failure::invalid("The body broke off")
        }
    })?;
    Ok(whole.to_bytes())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::invalid(format!("The body is wrong: {error}")))
}

/// As [`parse`], for a body with keys: the error of a parser repeats what it read.
fn parse_silently<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let is_json = error.is_data();
        let what =
            if is_json { "does not have the form that is expected" } else { "is not valid JSON" };
        let (line, column) = (error.line(), error.column());
        Failure::invalid(format!("The body {what} (line {line}, column {column})"))
    })
}

#[cfg(test)]
mod tests;
