//! The open record of one request, and the body that closes it with its last byte.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};

use crate::authenticate::Principal;
use crate::clock::Now;
use crate::head::{Head, RequestId};
use crate::listen::TunnelGuard;
use crate::listen::body::{AnswerBody, Body, Broken, Incoming};
use crate::mistake::source::Origin;
use crate::record::Record;
use crate::record::account::{Account, Answered, Asked, End};
use crate::record::families;
use crate::record::meters::{AnsweredBy, ListenerMeters, RouteMeters};
use crate::record::watch::Watch;
use crate::refusal::{Reason, Refusal, Stage};

/// The open record of one request. It is closed exactly once: by its body, by its tunnel, or by
/// being dropped. Dropped without a verdict it says that the caller left, or, when the thread is
/// panicking, that the fault is ours.
#[derive(Debug)]
pub struct Entry {
    account: Option<Box<Account>>,
    record: Arc<Record>,
    listener: Arc<ListenerMeters>,
    /// Whether the caller still may; nothing before it is known who calls.
    watch: Option<Watch>,
    /// When the stage before ended; only for the requests whose stages are timed.
    mark: Option<Now>,
}

impl Entry {
    pub(in crate::record) fn open(
        account: Box<Account>,
        record: &Arc<Record>,
        listener: &Arc<ListenerMeters>,
    ) -> Self {
        listener.in_flight.inc();
        // One in 128: the upper bits of a multiplicative hash of the time.
        let timed = account.started.steady_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57 == 0;
        Self {
            mark: timed.then_some(account.started),
            account: Some(account),
            watch: None,
            record: Arc::clone(record),
            listener: Arc::clone(listener),
        }
    }

    /// Tells what is asked.
    pub fn headed(&mut self, head: &Head) {
        self.write(|account| {
            account.id = Some(head.id);
            account.asked = Some(Asked::new(head));
        });
    }

    /// Tells the name that the answer has, so that a caller who quotes it is found in the record
    /// also when what it sent had no head to speak of.
    pub fn named(&mut self, id: RequestId) {
        self.write(|account| account.id = Some(id));
    }

    /// Tells which route holds.
    pub fn routed(&mut self, meters: &Arc<RouteMeters>) {
        self.write(|account| account.meters = Arc::clone(meters));
    }

    /// Tells who calls. From here on the entry knows whether they still may.
    pub fn identified(&mut self, principal: &mut Principal) {
        if principal.retires_s().is_some() {
            self.record.metrics().add(families::RETIRING_KEYS_USED, [], 1);
        }
        let standings = principal.take_standings();
        if let Some(account) = &mut self.account {
            account.identify(principal);
            let watch = || Watch::new(standings, account.client(), self.record.clock());
            self.watch = principal.grant().is_some().then(watch);
        }
    }

    /// Tells that a stage was passed, and by which rule, if it was one.
    pub fn passed(&mut self, stage: Stage, rule: Option<&Origin>) {
        self.time(stage);
        self.write(|account| account.pass(stage, rule));
    }

    /// Tells what a rule that only watches would have refused.
    pub fn observed(&mut self, refusal: &Refusal) {
        self.write(|account| account.observe(refusal));
    }

    /// Tells that the request is refused. The first refusal stands.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.time(refusal.reason.stage());
        self.write(|account| {
            account.refusal.get_or_insert_with(|| refusal.clone());
        });
    }

    /// Tells which target answered, and how long its first byte took.
    pub fn forwarded(&mut self, target: &Arc<str>, first_byte: Duration) {
        self.write(|account| account.upstream = Some((Arc::clone(target), first_byte)));
    }

    /// Tells the answer's head.
    pub fn answered(&mut self, status: StatusCode, by: AnsweredBy, now: Now) {
        self.write(|account| {
            account.answer = Some(Answered { status, by, after: now.since(account.started) });
        });
    }

    /// Counts the bytes of the request's body, now or as they come.
    pub fn count(&mut self, body: Body) -> Body {
        match body {
            Body::Empty => Body::Empty,
            Body::Whole(bytes) => {
                self.write(|account| account.bytes_in += bytes.len() as u64);
                Body::Whole(bytes)
            }
            Body::Streaming(incoming) => {
                let bytes = Arc::new(AtomicU64::new(0));
                self.write(|account| account.streamed_in = Some(Arc::clone(&bytes)));
                let watch = self.watch.as_ref().map(Watch::again);
                Body::Streaming(Box::pin(Counted { incoming, bytes, watch }))
            }
        }
    }

    /// Puts the entry into the keeping of the answer's body.
    pub fn with<B: http_body::Body>(self, body: B) -> Recorded<B> {
        let bare = self.account.as_ref().is_some_and(|account| account.has_bare_answer());
        let whole = bare || body.is_end_stream();
        Recorded { whole, body, entry: Some(self), passed: 0, ends_at: None }
    }

    fn write(&mut self, tell: impl FnOnce(&mut Account)) {
        if let Some(account) = &mut self.account {
            tell(account);
        }
    }

    fn time(&mut self, stage: Stage) {
        if let Some(mark) = &mut self.mark {
            let now = self.record.clock().now();
            self.record.metrics().stage_took(stage, now.since(*mark));
            *mark = now;
        }
    }

    /// Ready when the caller no longer may; that is then told.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<Reason> {
        let Some(watch) = &mut self.watch else { return Poll::Pending };
        let over = watch.poll_over(context);
        if let Poll::Ready(reason) = over {
            self.write(|account| account.cut = Some(reason));
        }
        over
    }

    /// Closes the entry, at a time that is known already or now.
    fn close(&mut self, end: End, at: Option<Now>) {
        let Some(mut account) = self.account.take() else { return };
        let now = at.unwrap_or_else(|| self.record.clock().now());
        account.took = now.since(account.started);
        account.end = if account.cut.is_some() { End::RevokedMeanwhile } else { end };
        if account.answer.is_none() {
            let reason = match account.refusal.as_ref() {
                Some(refusal) => refusal.reason,
                None if std::thread::panicking() => Reason::GatewayFault,
                None => Reason::ClientLeft,
            };
            account.refusal.get_or_insert_with(|| Refusal::new(reason));
            // A refusal that nobody was there to hear is still counted by its own status.
            account.answer = Some(Answered {
                status: reason.status(),
                by: AnsweredBy::Gateway,
                after: account.took,
            });
        }
        self.listener.in_flight.dec();
        self.record.keep(account);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.close(End::CallerLeft, None);
    }
}

impl TunnelGuard for Entry {
    fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_over(context).map(|_| ())
    }

    fn ended(&mut self, from_caller: u64, to_caller: u64) {
        self.write(|account| {
            account.bytes_in = from_caller;
            account.bytes_out = to_caller;
        });
        self.close(End::Complete, None);
    }
}

/// The body of an answer, with the entry that it closes: at its last frame, its error, or its drop.
#[derive(Debug)]
pub struct Recorded<B> {
    body: B,
    entry: Option<Entry>,
    /// Whether nothing more is to come. Who sees that stops asking, and never sees the end itself.
    whole: bool,
    passed: u64,
    /// When it ends, where that is known.
    ends_at: Option<Now>,
}

impl<B> Recorded<B> {
    /// A body that closes nothing: that of a 101, whose entry goes with its tunnel.
    pub fn untold(body: B) -> Self {
        Self { whole: true, body, entry: None, passed: 0, ends_at: None }
    }

    /// Tells that the body lies in memory at this time, so that no time passes until its end.
    #[must_use]
    pub fn in_memory(mut self, at: Now) -> Self {
        self.ends_at = Some(at);
        self
    }

    fn close(&mut self, end: End) {
        if let Some(mut entry) = self.entry.take() {
            let passed = self.passed;
            entry.write(|account| account.bytes_out = passed);
            entry.close(end, self.ends_at);
        }
    }
}

impl<B> http_body::Body for Recorded<B>
where
    B: http_body::Body<Data = Bytes, Error = Broken> + Unpin,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        // What ends with this frame, as short answers do, is not watched.
        let goes_on = match &polled {
            Poll::Pending => true,
            Poll::Ready(Some(Ok(_))) => !self.body.is_end_stream(),
            Poll::Ready(Some(Err(_)) | None) => false,
        };
        if goes_on && let Poll::Ready(reason) = self.poll_over(context) {
            self.close(End::RevokedMeanwhile);
            return Poll::Ready(Some(Err(Broken::Caller(reason))));
        }
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => self.close(End::Complete),
            Poll::Ready(Some(Err(Broken::Upstream))) => self.close(End::UpstreamBroke),
            Poll::Ready(Some(Err(Broken::Caller(_) | Broken::Connection))) => {
                self.close(End::CallerLeft);
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.passed += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.whole = self.body.is_end_stream();
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Recorded<B> {
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<Reason> {
        self.entry.as_mut().map_or(Poll::Pending, |entry| entry.poll_over(context))
    }
}

impl<B> AnswerBody for Recorded<B>
where
    B: http_body::Body<Data = Bytes, Error = Broken> + Unpin,
{
    fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_over(context).map(|_| self.close(End::RevokedMeanwhile))
    }
}

impl<B> Drop for Recorded<B> {
    fn drop(&mut self) {
        self.close(if self.whole { End::Complete } else { End::CallerLeft });
    }
}

/// A request's body that is counted as it comes.
struct Counted {
    incoming: Pin<Box<dyn Incoming>>,
    bytes: Arc<AtomicU64>,
    watch: Option<Watch>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = self.incoming.as_mut().poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let more = frame.data_ref().map_or(0, Bytes::len);
            self.bytes.fetch_add(more as u64, Ordering::Relaxed);
        }
        let goes_on = matches!(&polled, Poll::Pending | Poll::Ready(Some(Ok(_))));
        if goes_on
            && !self.incoming.is_end_stream()
            && let Some(watch) = &mut self.watch
            && let Poll::Ready(reason) = watch.poll_over(context)
        {
            return Poll::Ready(Some(Err(Broken::Caller(reason))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
