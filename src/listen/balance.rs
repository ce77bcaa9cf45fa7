//! Lets a worker that has too much to do hand connections to one that has time.
//!
//! The kernel spreads new connections over the workers by a hash of their addresses, and does not
//! know how much each will ask for. One caller with many streams of HTTP/2 then fills a worker,
//! and everybody whom the hash put beside it waits, while another worker idles. So ten times a
//! second each worker's busy time is looked at. While one is overloaded and another is not, the
//! first hands on some of what it accepts, and some HTTP/1 connections between two requests.
//! Connections of HTTP/2 stay where their handshake was: what is in flight cannot be moved.
//!
//! Requests pay for it with one relaxed load.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::RuntimeMetrics;
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender, channel};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::listen::Peer;
use crate::listen::counters::Seat;
use crate::listen::drain::Token;
use crate::listen::tls::Secured;

const TURN: Duration = Duration::from_millis(100);
/// A worker that is busy for so many thousandths of a turn is overloaded. What it spends in the
/// kernel while it looks for events is not counted, so a full worker stays below a thousand.
const OVERLOADED: u32 = 750;
/// By so many thousandths another one must have less to do.
const LIGHTER: u32 = 300;
/// Of the connections of an overloaded worker, one in so many may go per turn: what they ask for
/// is known only when it is seen what difference their going made.
const SHARE: u32 = 4;
/// A connection stays for so many turns where it came to, lest one that is itself the load be
/// handed round.
const SETTLED_TURNS: u32 = 20;
/// Connections that wait to be taken over by one worker, at one socket.
const WAITING_MAX: usize = 64;

/// What the workers know of each other's load.
#[derive(Debug)]
pub struct Balance {
    workers: Box<[Worker]>,
    turn: AtomicU32,
}

#[derive(Debug, Default)]
struct Worker {
    connections: AtomicU32,
    /// Who relieves this worker, counted from one; zero is nobody.
    relief: AtomicUsize,
    /// How many connections may still go in this turn.
    may_go: AtomicU32,
}

impl Balance {
    /// For so many workers, none of which is relieved.
    pub fn new(workers: usize) -> Arc<Self> {
        let workers = (0..workers).map(|_| Worker::default()).collect();
        Arc::new(Self { workers, turn: AtomicU32::new(0) })
    }

    /// The posts of all workers at one socket each, which belong to the same listener.
    pub fn posts(self: &Arc<Self>) -> Vec<Post> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            self.workers.iter().map(|_| channel(WAITING_MAX)).unzip();
        let others: Arc<[Sender<Handed>]> = senders.into();
        let posts = receivers.into_iter().enumerate().map(|(worker, inbox)| {
            let place = Place { balance: Arc::clone(self), worker, others: Arc::clone(&others) };
            Post { place: Arc::new(place), inbox }
        });
        posts.collect()
    }

    /// Looks at the load of the workers' runtimes, each of one thread, until `stop` is ready.
    pub async fn keep(
        self: Arc<Self>,
        runtimes: Vec<RuntimeMetrics>,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = pin!(stop);
        let total = || -> Vec<Duration> {
            runtimes.iter().map(|runtime| runtime.worker_total_busy_duration(0)).collect()
        };
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut looked) = (total(), Instant::now());
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                () = &mut stop => return,
            }
            let (after, now) = (total(), Instant::now());
            let span = now.duration_since(looked).max(Duration::from_millis(1));
            let share = |(after, before): (&Duration, &Duration)| {
                let busy = after.saturating_sub(*before).as_micros() * 1000 / span.as_micros();
                u32::try_from(busy.min(1000)).unwrap_or(1000)
            };
            let busy: Vec<u32> = after.iter().zip(&before).map(share).collect();
            self.judge(&busy);
            (before, looked) = (after, now);
        }
    }

    /// Decides who is relieved by whom in the next turn, by the busy thousandths of each worker.
    pub(super) fn judge(&self, busy: &[u32]) {
        self.turn.fetch_add(1, Ordering::Relaxed);
        let lightest = busy.iter().enumerate().min_by_key(|(_, busy)| **busy);
        for (worker, &its) in self.workers.iter().zip(busy) {
            let connections = worker.connections.load(Ordering::Relaxed);
            let relief = lightest
                .filter(|(_, least)| its >= OVERLOADED && its >= **least + LIGHTER)
                // A single connection would only take the load with it.
                .filter(|_| connections > 1)
                .map(|(number, _)| number + 1);
            let may_go = relief.map_or(0, |_| connections.div_ceil(SHARE));
            worker.may_go.store(may_go, Ordering::Relaxed);
            worker.relief.store(relief.unwrap_or(0), Ordering::Relaxed);
        }
    }
}

/// Where one worker accepts the connections of one socket, and takes over those of other workers.
#[derive(Debug)]
pub struct Post {
    pub(super) place: Arc<Place>,
    pub(super) inbox: Receiver<Handed>,
}

#[cfg(test)]
impl Post {
    /// The post of a worker that has no others beside it.
    pub(super) fn alone() -> Self {
        Balance::new(1).posts().remove(0)
    }
}

/// A worker at one socket, as its connections see it.
#[derive(Debug)]
pub(super) struct Place {
    balance: Arc<Balance>,
    worker: usize,
    others: Arc<[Sender<Handed>]>,
}

/// The right to hand one connection to another worker.
pub(super) type Berth = OwnedPermit<Handed>;

impl Place {
    /// Counts one more connection of this worker, for as long as what is returned lives.
    pub(super) fn enter(self: &Arc<Self>) -> Stay {
        if let Some(mine) = self.balance.workers.get(self.worker) {
            mine.connections.fetch_add(1, Ordering::Relaxed);
        }
        Stay { place: Arc::clone(self), since: self.balance.turn.load(Ordering::Relaxed) }
    }

    /// Where a new connection had better go; nothing when it is to stay.
    pub(super) fn elsewhere(&self) -> Option<Berth> {
        let mine = self.balance.workers.get(self.worker)?;
        let other = mine.relief.load(Ordering::Relaxed).checked_sub(1)?;
        let less = |left: u32| left.checked_sub(1);
        mine.may_go.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
        // Where too many wait already, this one is served here.
        self.others.get(other)?.clone().try_reserve_owned().ok()
    }
}

/// A connection's time with one worker.
#[derive(Debug)]
pub(super) struct Stay {
    pub(super) place: Arc<Place>,
    since: u32,
}

impl Stay {
    /// Where a connection that is between two requests had better go; nothing when it is to stay.
    pub(super) fn elsewhere(&self) -> Option<Berth> {
        let Place { balance, worker, .. } = &*self.place;
        // This is the way of nearly all requests.
        if balance.workers.get(*worker)?.relief.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let turns = balance.turn.load(Ordering::Relaxed).wrapping_sub(self.since);
        if turns < SETTLED_TURNS { None } else { self.place.elsewhere() }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(mine) = self.place.balance.workers.get(self.place.worker) {
            mine.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What one worker hands to another.
pub(super) enum Handed {
    /// A connection as the kernel gave it.
    New(TcpStream, SocketAddr),
    /// A connection of HTTP/1 between two requests, with the seat that it keeps.
    Kept(Box<Kept>, (Seat, Token)),
}

/// A connection between two requests.
pub(super) struct Kept {
    pub(super) stream: Carried,
    pub(super) peer: Arc<Peer>,
    pub(super) served: u32,
}

/// The socket of a connection that is handed on, with the state of its TLS.
pub(super) enum Carried {
    Plain(TcpStream),
    Tls(Box<Secured>),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom each worker is relieved by and how many may go, with so many connections each.
    fn judged(connections: &[u32], busy: &[u32]) -> Vec<(usize, u32)> {
        let balance = Balance::new(connections.len());
        for (worker, count) in balance.workers.iter().zip(connections) {
            worker.connections.store(*count, Ordering::Relaxed);
        }
        balance.judge(busy);
        let told = |worker: &Worker| {
            (worker.relief.load(Ordering::Relaxed), worker.may_go.load(Ordering::Relaxed))
        };
        balance.workers.iter().map(told).collect()
    }

    #[test]
    fn only_the_overloaded_are_relieved_and_only_by_one_with_much_less_to_do() {
        assert_eq!(judged(&[9, 9], &[1000, 100]), [(2, 3), (0, 0)]);
        assert_eq!(judged(&[9, 9], &[100, 800]), [(0, 0), (1, 3)]);
        assert_eq!(judged(&[9, 9], &[1000, 701]), [(0, 0), (0, 0)]);
        assert_eq!(judged(&[9, 9], &[700, 0]), [(0, 0), (0, 0)]);
        assert_eq!(judged(&[4, 4, 4], &[900, 1000, 200]), [(3, 1), (3, 1), (0, 0)]);
    }

    #[test]
    fn a_connection_that_is_alone_stays() {
        assert_eq!(judged(&[1, 0], &[1000, 0]), [(0, 0), (0, 0)]);
        assert_eq!(judged(&[5], &[1000]), [(0, 0)]);
    }

    #[test]
    fn no_more_go_than_may_and_none_before_it_has_settled() {
        let balance = Balance::new(2);
        let posts = balance.posts();
        let place = &posts[0].place;
        let stays: Vec<Stay> = (0..8).map(|_| place.enter()).collect();
        balance.judge(&[1000, 0]);
        assert!(stays[0].elsewhere().is_none(), "it has just come");
        for _ in 0..SETTLED_TURNS {
            balance.judge(&[1000, 0]);
        }
        assert_eq!(stays.iter().filter_map(Stay::elsewhere).count(), 2);
        balance.judge(&[500, 400]);
        assert!(stays[0].elsewhere().is_none(), "nobody is overloaded any more");
    }
}
