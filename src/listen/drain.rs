//! Lets requests end before a process does: first everybody is told, then what is left is cut.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use tokio::sync::Notify;

const DRAINING: u8 = 1;
const CUT: u8 = 2;

/// Tells every listener and connection that the process wants to end. Clones are one drain.
#[derive(Clone, Debug, Default)]
pub struct Drain(Arc<State>);

#[derive(Debug, Default)]
struct State {
    phase: AtomicU8,
    began: Notify,
    cut: Notify,
    open: AtomicUsize,
    emptied: Notify,
}

/// Keeps a drain from being finished, for as long as it lives.
#[derive(Debug)]
pub struct Token(Drain);

impl Drain {
    /// Begins the drain. Answers now carry `Connection: close`, HTTP/2 gets GOAWAY, and connections
    /// close after the requests that are in flight. Does nothing the second time.
    pub fn begin(&self) {
        self.enter(DRAINING, &self.0.began);
    }

    /// Ends everything that is left: the deadline of the drain has passed.
    pub fn cut(&self) {
        self.begin();
        self.enter(CUT, &self.0.cut);
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        self.0.phase.load(Ordering::Acquire) >= DRAINING
    }

    /// Whether what is left has to end at once.
    pub fn is_cut(&self) -> bool {
        self.0.phase.load(Ordering::Acquire) >= CUT
    }

    /// Waits until the drain begins.
    pub async fn began(&self) {
        wait(&self.0.began, || self.is_draining()).await;
    }

    /// Waits until what is left is cut.
    pub async fn was_cut(&self) {
        wait(&self.0.cut, || self.is_cut()).await;
    }

    /// Waits until no listener and no connection is left. Resolves at once while none is open,
    /// also before the drain has begun.
    pub async fn finished(&self) {
        wait(&self.0.emptied, || self.open() == 0).await;
    }

    /// How many listeners and connections hold the drain open.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Acquire)
    }

    /// Holds the drain open until the token is dropped.
    pub fn token(&self) -> Token {
        self.0.open.fetch_add(1, Ordering::AcqRel);
        Token(self.clone())
    }

    fn enter(&self, phase: u8, told: &Notify) {
        if self.0.phase.fetch_max(phase, Ordering::AcqRel) < phase {
            told.notify_waiters();
        }
    }

    /// Runs `work`, waking its task once when the drain begins, and gives it up when what is left
    /// is cut.
    ///
    /// The two waits are registered once and not at every poll: a connection is one task, so its
    /// waker stays the same, and after a wake-up the phase is read from an atomic.
    pub(super) async fn wake_and_cut<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        let mut began = pin!(self.0.began.notified());
        let mut cut = pin!(self.0.cut.notified());
        let mut registered: Option<Waker> = None;
        std::future::poll_fn(|context| {
            let known = registered.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
            if !known {
                let _ = began.as_mut().poll(context);
                let _ = cut.as_mut().poll(context);
                registered = Some(context.waker().clone());
            }
            if self.is_cut() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.0.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.0.emptied.notify_waiters();
        }
    }
}

/// Waits for a condition that `told` announces. Enabling before asking closes the gap between.
async fn wait(told: &Notify, is_so: impl Fn() -> bool) {
    loop {
        let mut notified = pin!(told.notified());
        notified.as_mut().enable();
        if is_so() {
            return;
        }
        notified.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_is_finished_when_its_last_token_is_dropped() {
        let drain = Drain::default();
        let (first, second) = (drain.token(), drain.token());
        drain.begin();
        drain.began().await;
        drop(first);
        let waiting = tokio::spawn({
            let drain = drain.clone();
            async move { drain.finished().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn work_is_woken_at_the_beginning_and_given_up_at_the_cut() {
        let drain = Drain::default();
        let polls = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn({
            let (drain, polls) = (drain.clone(), Arc::clone(&polls));
            async move {
                let work = std::future::poll_fn(|_| {
                    polls.fetch_add(1, Ordering::SeqCst);
                    Poll::<()>::Pending
                });
                drain.wake_and_cut(work).await
            }
        });
        tokio::task::yield_now().await;
        assert_eq!(polls.load(Ordering::SeqCst), 1);
        drain.begin();
        tokio::task::yield_now().await;
        assert_eq!(polls.load(Ordering::SeqCst), 2);
        drain.cut();
        assert_eq!(task.await.unwrap(), None);
    }
}
