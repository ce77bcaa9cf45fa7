//! Lets a busy worker read all that has come before it sends, and then send everything in a row.
//!
//! The other end of a connection sleeps when it has nothing to do, and sending wakes it. Waking
//! another core costs more than the rest of a send; it is paid for each send that finds the other
//! end asleep. Where the sends of many requests follow one another at once, the first one pays for
//! all. Code and data of one kind of work are met while they are warm, besides.

use std::cell::Cell;

thread_local! {
    /// How many requests this worker is at.
    static AT_WORK: Cell<usize> = const { Cell::new(0) };
}

/// A request that the worker is at, for as long as this lives.
pub(in crate::listen) struct AtWork(());

impl AtWork {
    /// Begins one.
    pub(in crate::listen) fn begin() -> Self {
        AT_WORK.set(AT_WORK.get().saturating_add(1));
        Self(())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        // The count decides about order alone, so one that is dropped elsewhere does no harm. A
        // thread that ends has none any more.
        let _ = AT_WORK.try_with(|count| count.set(count.get().saturating_sub(1)));
    }
}

/// Waits for its turn to send: until all that is ready on this worker has been looked at, at most
/// until the worker asks for what has come meanwhile. A request that is alone does not wait.
pub(crate) async fn turn() {
    if AT_WORK.get() > 1 {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn a_busy_worker_reads_all_before_it_sends() {
        let told = Arc::new(Mutex::new(String::new()));
        let requests = (0..3).map(|_| {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let _work = AtWork::begin();
                told.lock().unwrap().push_str("read ");
                turn().await;
                told.lock().unwrap().push_str("sent ");
            })
        });
        for request in requests.collect::<Vec<_>>() {
            request.await.unwrap();
        }
        // The first one is alone yet, and does not know of those behind it.
        assert_eq!(*told.lock().unwrap(), "read sent read read sent sent ");
    }

    #[test]
    fn a_request_that_is_alone_does_not_wait() {
        let mut context = Context::from_waker(Waker::noop());
        let alone = AtWork::begin();
        assert!(pin!(turn()).poll(&mut context).is_ready());
        let other = AtWork::begin();
        drop((alone, other));
        let _again = AtWork::begin();
        assert!(pin!(turn()).poll(&mut context).is_ready());
    }
}
