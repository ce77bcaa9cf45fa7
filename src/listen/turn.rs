//! Lets a busy worker read all that has come before it sends, and then send everything in a row.
//!
//! The other end of a connection sleeps when it has nothing to do, and sending wakes it. To wake
//! another core is dear, and each send pays that finds the other end asleep. Where the sends of many
//! requests follow one another at once, the first one pays for all.

use std::cell::Cell;

thread_local! {
    /// How many requests this worker has begun since it last had nothing to do.
    static BEGUN: Cell<u32> = const { Cell::new(0) };
}

/// Notes that a request begins.
pub(in crate::listen) fn begin() {
    BEGUN.set(BEGUN.get().saturating_add(1));
}

/// Notes that the worker has nothing to do. Its runtime says so before it sleeps.
pub fn rest() {
    BEGUN.set(0);
}

/// Waits for its turn to send: until all that is ready on this worker has been looked at, at most
/// until the worker asks for what has come meanwhile. The first request after a rest does not wait,
/// so that where there is little to do, none does.
pub(crate) async fn turn() {
    if BEGUN.get() > 1 {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Waker};

    use tokio::runtime::Builder;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_busy_worker_reads_all_before_it_sends() {
        let told = Arc::new(Mutex::new(String::new()));
        let runtime = Builder::new_current_thread().on_thread_park(rest).build().unwrap();
        let come: Vec<_> = (0..3)
            .map(|_| {
                let told = Arc::clone(&told);
                runtime.spawn(async move {
                    begin();
                    told.lock().unwrap().push_str("read ");
                    turn().await;
                    told.lock().unwrap().push_str("sent ");
                })
            })
            .collect();
        runtime.block_on(async {
            for request in come {
                request.await.unwrap();
            }
        });
        // The first one does not know of those behind it.
        assert_eq!(*told.lock().unwrap(), "read sent read read sent sent ");
    }

    #[test]
    fn the_first_request_after_a_rest_does_not_wait() {
        let (wake, woken) = oneshot::channel();
        let wake = Mutex::new(Some(wake));
        let asleep = move || {
            rest();
            wake.lock().unwrap().take().into_iter().for_each(|wake| wake.send(()).unwrap());
        };
        let runtime = Builder::new_current_thread().on_thread_park(asleep).build().unwrap();
        let waits = || {
            let mut context = Context::from_waker(Waker::noop());
            pin!(turn()).poll(&mut context).is_pending()
        };
        runtime.block_on(async {
            begin();
            begin();
            assert!(waits());
            woken.await.unwrap();
            begin();
            assert!(!waits());
        });
    }
}
