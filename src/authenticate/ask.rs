//! Questions to the outside: a scheme asks, whoever calls it waits, bounded in time, and goes on.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::refusal::{Reason, Refusal};

/// How many errands may wait or run at a time. Each is one request to somebody outside.
const ERRANDS_MAX: usize = 256;

/// What a scheme has to know from outside before it can answer.
pub struct Question {
    answered: Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>,
    limit: Duration,
}

impl Question {
    /// A question that is answered when the future is ready: what was asked is in memory then. It
    /// is waited for so long at most.
    pub fn new(
        answered: impl Future<Output = Result<(), Refusal>> + Send + 'static,
        limit: Duration,
    ) -> Self {
        Self { answered: Box::pin(answered), limit }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// When there was none, or none in time.
    pub async fn answer(self) -> Result<(), Refusal> {
        let late = Refusal::new(Reason::IntrospectionFailed).because("no answer in time");
        timeout(self.limit, self.answered).await.unwrap_or(Err(late))
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Question")
    }
}

/// One request to somebody outside, which goes on whoever has left meanwhile.
pub type Errand = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes errands from requests and has them run on the thread beside the workers.
#[derive(Clone)]
pub struct Errands {
    sender: mpsc::Sender<Errand>,
    receiver: Arc<Mutex<Option<mpsc::Receiver<Errand>>>>,
}

impl Default for Errands {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(ERRANDS_MAX);
        Self { sender, receiver: Arc::new(Mutex::new(Some(receiver))) }
    }
}

impl Errands {
    /// Errands that nobody runs: whoever asks is told so at once.
    pub fn none() -> Self {
        let errands = Self::default();
        drop(errands.take());
        errands
    }

    /// Hands one over; false when there are too many, or nobody runs them.
    pub fn send(&self, errand: Errand) -> bool {
        self.sender.try_send(errand).is_ok()
    }

    fn take(&self) -> Option<mpsc::Receiver<Errand>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Runs errands until `stop` is ready.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Some(mut errands) = self.take() else { return };
        let mut stop = std::pin::pin!(stop);
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                Some(errand) = errands.recv(), if running.len() < ERRANDS_MAX => {
                    running.spawn(errand);
                }
                Some(_) = running.join_next() => {}
                () = &mut stop => return,
            }
        }
    }
}
