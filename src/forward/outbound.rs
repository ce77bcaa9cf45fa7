//! A request's body on its way to the upstream, and what becomes of it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::listen::Length;
use crate::listen::body::{Body, Broken};
use crate::refusal::Reason;

/// What a body that streams tells those who wait for the answer.
#[derive(Debug, Default)]
pub(in crate::forward) struct Progress {
    awaits_caller: AtomicBool,
    frames: AtomicU32,
    broken: OnceLock<Broken>,
}

impl Progress {
    /// Whether the next bytes are the caller's to send: the upstream has all that came so far.
    pub(in crate::forward) fn awaits_caller(&self) -> bool {
        self.awaits_caller.load(Ordering::Acquire)
    }

    /// How many frames went to the upstream so far.
    pub(in crate::forward) fn frames(&self) -> u32 {
        self.frames.load(Ordering::Acquire)
    }

    /// How the body broke off, if it did.
    pub(in crate::forward) fn broken(&self) -> Option<Broken> {
        self.broken.get().copied()
    }
}

/// A request's body, as the upstream's connection reads it.
pub(in crate::forward) struct Outbound {
    body: Body,
    /// Whether any of it was read.
    touched: bool,
    /// Bytes that must still come, where the head said how many there are.
    left: Option<u64>,
    progress: Option<Arc<Progress>>,
}

impl Outbound {
    /// The body behind a head that declares `length`.
    pub(in crate::forward) fn new(body: Body, length: Length) -> Self {
        if !matches!(body, Body::Streaming(_)) {
            return Self { body, touched: false, left: None, progress: None };
        }
        let left = match length {
            Length::None => Some(0),
            Length::Exactly(bytes) => Some(bytes),
            Length::Unknown => None,
        };
        let outbound = Self { body, touched: false, left, progress: None };
        // A connection does not read what says that it has ended, so nothing would be told of it.
        if outbound.is_end_stream() { Self::empty() } else { outbound }
    }

    /// No body.
    pub(in crate::forward) fn empty() -> Self {
        Self { body: Body::Empty, touched: false, left: None, progress: None }
    }

    /// The same body, which tells what becomes of it to those who do not read it themselves.
    pub(in crate::forward) fn watched(mut self) -> Self {
        if matches!(self.body, Body::Streaming(_)) {
            self.progress.get_or_insert_default();
        }
        self
    }

    /// What is told of a watched body; nothing for one that lies in memory and cannot fail.
    pub(in crate::forward) fn progress(&self) -> Option<Arc<Progress>> {
        self.progress.clone()
    }

    /// The number of bytes, where it is known before the first is read.
    pub(in crate::forward) fn length(&self) -> Option<u64> {
        match &self.body {
            Body::Empty => Some(0),
            Body::Whole(bytes) => Some(bytes.len() as u64),
            Body::Streaming(_) => self.left,
        }
    }

    /// All of it, where it lies in memory.
    pub(in crate::forward) fn whole(&self) -> Option<Bytes> {
        match &self.body {
            Body::Empty => Some(Bytes::new()),
            Body::Whole(bytes) => Some(bytes.clone()),
            Body::Streaming(_) => None,
        }
    }

    /// Whether it lies in memory, or there is none.
    pub(in crate::forward) fn is_in_memory(&self) -> bool {
        !matches!(self.body, Body::Streaming(_))
    }

    /// Whether all of it is still here.
    pub(in crate::forward) fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Takes the body to where it is read. One that lies in memory stays here, too.
    pub(in crate::forward) fn take(&mut self) -> Self {
        match self.whole() {
            Some(whole) => Self { body: Body::Whole(whole), ..Self::empty() },
            None => std::mem::replace(self, Self { touched: true, ..Self::empty() }),
        }
    }

    /// Counts the bytes against what the head declared: neither more nor fewer may reach an
    /// upstream, whatever carried them to us (RFC 9113, section 8.1.1).
    fn counted(&mut self, frame: Option<usize>) -> Result<(), Broken> {
        let Some(left) = self.left else { return Ok(()) };
        match frame {
            Some(bytes) => {
                let rest = left.checked_sub(bytes as u64);
                self.left = Some(rest.ok_or(Broken::Caller(Reason::FramingAmbiguous))?);
                Ok(())
            }
            None if left > 0 => Err(Broken::Caller(Reason::BodyIncomplete)),
            None => Ok(()),
        }
    }

    fn poll_counted(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            let polled = ready!(Pin::new(&mut self.body).poll_frame(context));
            self.touched = true;
            let Some(frame) = polled else {
                return Poll::Ready(self.counted(None).err().map(Err));
            };
            // Trailers of a request are dropped: a target may read them as headers.
            match frame?.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.counted(Some(data.len()))?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Err(_trailers) => {}
            }
        }
    }
}

impl http_body::Body for Outbound {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = self.poll_counted(context);
        if let Some(progress) = &self.progress {
            progress.awaits_caller.store(polled.is_pending(), Ordering::Release);
            match &polled {
                Poll::Ready(Some(Ok(_))) => {
                    progress.frames.fetch_add(1, Ordering::AcqRel);
                }
                // The first break is the one that counts.
                Poll::Ready(Some(Err(broken))) => drop(progress.broken.set(*broken)),
                Poll::Pending | Poll::Ready(None) => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.left.is_none_or(|left| left == 0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(|| self.body.size_hint(), SizeHint::with_exact)
    }
}
