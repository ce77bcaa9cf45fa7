//! The facts of one request: what the log, the metrics and the ring of recent decisions tell.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::USER_AGENT;
use http::{Method, StatusCode};

use crate::authenticate::{Grant, Principal};
use crate::clock::Now;
use crate::head::{Head, RequestId};
use crate::listen::Peer;
use crate::mistake::source::Origin;
use crate::parties::Parties;
use crate::record::meters::{AnsweredBy, RouteMeters};
use crate::refusal::{Reason, Refusal, Stage};

const PATH_BYTES_MAX: usize = 2048;
const USER_AGENT_CHARS_MAX: usize = 200;
const QUERY_NAMES_MAX: usize = 16;
/// A query name that is longer is not told: it may be a secret that stands in the wrong place.
const QUERY_NAME_BYTES_MAX: usize = 32;
const OBSERVED_MAX: usize = 16;

/// How the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last byte.
    Complete,
    /// The caller left before, or its connection was lost.
    CallerLeft,
    /// The upstream broke off.
    UpstreamBroke,
    /// We ended it: the caller's credential no longer held.
    RevokedMeanwhile,
}

impl End {
    /// The name, as the log writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::CallerLeft => "caller-left",
            Self::UpstreamBroke => "upstream-broke",
            Self::RevokedMeanwhile => "revoked-meanwhile",
        }
    }
}

/// The facts of one request, gathered on its way. It holds no credential, no value of the query
/// and no byte of a body.
#[derive(Debug)]
pub struct Account {
    pub(in crate::record) started: Now,
    pub(in crate::record) peer: Arc<Peer>,
    pub(in crate::record) policy: Arc<str>,
    pub(in crate::record) meters: Arc<RouteMeters>,
    /// The name that the answer tells too; nothing only while none has been given.
    pub(in crate::record) id: Option<RequestId>,
    pub(in crate::record) asked: Option<Asked>,
    pub(in crate::record) grant: Option<Arc<Grant>>,
    pub(in crate::record) scheme: &'static str,
    pub(in crate::record) stages: [Passed; Stage::ALL.len()],
    pub(in crate::record) refusal: Option<Refusal>,
    pub(in crate::record) observed: Vec<Refusal>,
    pub(in crate::record) answer: Option<Answered>,
    pub(in crate::record) upstream: Option<(Arc<str>, Duration)>,
    pub(in crate::record) bytes_in: u64,
    pub(in crate::record) streamed_in: Option<Arc<AtomicU64>>,
    pub(in crate::record) bytes_out: u64,
    pub(in crate::record) took: Duration,
    pub(in crate::record) end: End,
    /// Why we ended it, where we did.
    pub(in crate::record) cut: Option<Reason>,
}

/// Whether a stage was passed, and by which rule.
#[derive(Clone, Debug, Default)]
pub(in crate::record) enum Passed {
    #[default]
    No,
    Yes,
    By(Origin),
}

/// The answer's head.
#[derive(Clone, Copy, Debug)]
pub(in crate::record) struct Answered {
    pub(in crate::record) status: StatusCode,
    pub(in crate::record) by: AnsweredBy,
    /// From the start to the answer's head.
    pub(in crate::record) after: Duration,
}

/// What was asked. The texts share one allocation.
#[derive(Debug)]
pub(in crate::record) struct Asked {
    pub(in crate::record) parties: Arc<Parties>,
    pub(in crate::record) method: Method,
    pub(in crate::record) trace: Option<[u8; 32]>,
    texts: String,
    path_ends: usize,
    query_ends: usize,
}

impl Account {
    pub(in crate::record) fn new(
        peer: &Arc<Peer>,
        policy: &Arc<str>,
        meters: &Arc<RouteMeters>,
        now: Now,
    ) -> Box<Self> {
        // The box comes first, so that the account is made in it and not moved there.
        let place = Box::new_uninit();
        let account = Self {
            started: now,
            peer: Arc::clone(peer),
            policy: Arc::clone(policy),
            meters: Arc::clone(meters),
            id: None,
            asked: None,
            grant: None,
            scheme: "none",
            stages: Default::default(),
            refusal: None,
            observed: Vec::new(),
            answer: None,
            upstream: None,
            bytes_in: 0,
            streamed_in: None,
            bytes_out: 0,
            took: Duration::ZERO,
            end: End::CallerLeft,
            cut: None,
        };
        Box::write(place, account)
    }

    pub(in crate::record) fn identify(&mut self, principal: &Principal) {
        self.grant = principal.shared_grant();
        self.scheme = principal.scheme();
    }

    pub(in crate::record) fn pass(&mut self, stage: Stage, rule: Option<&Origin>) {
        if let Some(passed) = self.stages.get_mut(stage as usize) {
            *passed = rule.map_or(Passed::Yes, |rule| Passed::By(rule.clone()));
        }
    }

    pub(in crate::record) fn observe(&mut self, refusal: &Refusal) {
        if self.observed.len() < OBSERVED_MAX {
            self.observed.push(refusal.clone());
        }
    }

    /// The caller's address: as `head` found it, or else the peer's.
    pub(in crate::record) fn client(&self) -> IpAddr {
        self.asked.as_ref().map_or_else(|| self.peer.address.ip(), |asked| asked.parties.client)
    }

    /// Whether the answer has no body whatever its headers say: to HEAD, and with 204 or 304
    /// (RFC 9110, section 6.4.1).
    pub(in crate::record) fn has_bare_answer(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.method == Method::HEAD)
            || self.answer.is_some_and(|answer| {
                matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            })
    }

    /// Body bytes from the caller so far.
    pub(in crate::record) fn received(&self) -> u64 {
        let streamed =
            self.streamed_in.as_ref().map_or(0, |streamed| streamed.load(Ordering::Relaxed));
        self.bytes_in.saturating_add(streamed)
    }
}

impl Asked {
    pub(in crate::record) fn new(head: &Head) -> Self {
        let agent = head.headers.get(USER_AGENT).map_or(&[][..], |agent| agent.as_bytes());
        let query = head.query.as_deref().unwrap_or_default();
        let names = query.len().min(QUERY_NAMES_MAX * (QUERY_NAME_BYTES_MAX + 1));
        let capacity = head.path.len().min(PATH_BYTES_MAX) + names + agent.len().min(256);
        let mut texts = String::with_capacity(capacity);
        texts.push_str(head.path.get(..PATH_BYTES_MAX).unwrap_or(&head.path));
        let path_ends = texts.len();
        for pair in query.split('&').filter(|pair| !pair.is_empty()).take(QUERY_NAMES_MAX) {
            if texts.len() > path_ends {
                texts.push('&');
            }
            // Without `=` it may be a value, and what is very long may be a secret.
            texts.push_str(match pair.split_once('=') {
                Some((name, _)) if name.len() <= QUERY_NAME_BYTES_MAX => name,
                Some(_) | None => "*",
            });
        }
        let query_ends = texts.len();
        match std::str::from_utf8(agent) {
            // Nearly always.
            Ok(agent) if agent.len() <= USER_AGENT_CHARS_MAX => texts.push_str(agent),
            Ok(_) | Err(_) => {
                let agent = agent.get(..4 * USER_AGENT_CHARS_MAX).unwrap_or(agent);
                texts.extend(String::from_utf8_lossy(agent).chars().take(USER_AGENT_CHARS_MAX));
            }
        }
        let trace = head.trace.parent.get(3..35).and_then(|id| id.try_into().ok());
        Self {
            parties: Arc::clone(&head.parties),
            method: head.method.clone(),
            trace,
            texts,
            path_ends,
            query_ends,
        }
    }

    /// The canonical path, cut at 2 KiB.
    pub(in crate::record) fn path(&self) -> &str {
        self.texts.get(..self.path_ends).unwrap_or_default()
    }

    /// The names of the query's parameters, `*` for one that may be more than a name.
    pub(in crate::record) fn query_names(&self) -> impl Iterator<Item = &str> {
        let names = self.texts.get(self.path_ends..self.query_ends).unwrap_or_default();
        names.split('&').filter(|name| !name.is_empty())
    }

    /// What the caller says it is, cut at 200 characters.
    pub(in crate::record) fn user_agent(&self) -> &str {
        self.texts.get(self.query_ends..).unwrap_or_default()
    }
}
