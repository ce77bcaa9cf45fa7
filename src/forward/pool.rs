//! The connections of one worker to all targets: kept, counted, waited for and given up.
//!
//! A request first takes a *seat* at a target, of which there are as many as connections may be
//! open, and then a connection, from the idle ones or a new one. As a new one is only opened when
//! none is idle, the seats bound the connections, too.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::forward::connection::{Connection, Speech};
use crate::forward::dial::DialFault;
use crate::forward::upstream::{Protocol, Target, Upstream, Upstreams};
use crate::refusal::extra::Extra;
use crate::refusal::{Reason, Refusal};

/// How often idle connections are looked over.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// The connections of one worker. Each worker has its own, so that nothing is contended.
pub struct Pool {
    slots: Box<[Arc<Slot>]>,
}

impl Pool {
    /// An empty pool for the targets of these upstreams.
    pub fn new(upstreams: &Upstreams) -> Self {
        let slots = upstreams.iter().flat_map(|upstream| {
            upstream
                .targets
                .iter()
                .enumerate()
                .map(|(index, target)| Arc::new(Slot::new(upstream, index, target)))
        });
        Self { slots: slots.collect() }
    }

    /// Closes idle connections whose time is over, once a second, for as long as it is polled.
    pub async fn tend(&self) {
        let mut ticks = tokio::time::interval(TEND_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            for slot in &self.slots {
                slot.sweep(now);
            }
        }
    }

    /// A seat at the target that is to be asked: the chosen one, or another one with a free seat, or
    /// the chosen one after waiting for it; and whether it was waited for.
    ///
    /// # Errors
    /// When no target is healthy, too many requests wait already, or none left until `deadline`.
    pub(in crate::forward) async fn seat(
        &self,
        upstream: &Upstream,
        avoid: Option<usize>,
        deadline: Instant,
    ) -> Result<(Lease, bool), Refusal> {
        let Some(chosen) = upstream.choose(avoid) else {
            let seconds = upstream.settings.health.every.as_secs().clamp(1, 60);
            return Err(Refusal::new(Reason::UpstreamUnhealthy)
                .because("no target is healthy")
                .with(Extra::RetryAfter(u32::try_from(seconds).unwrap_or(60))));
        };
        let first = self.slot(upstream, chosen)?;
        if let Some(lease) = first.try_seat() {
            return Ok((lease, false));
        }
        for (index, target) in upstream.targets.iter().enumerate() {
            if index != chosen
                && avoid != Some(index)
                && target.is_healthy()
                && let Some(lease) = self.slot(upstream, index)?.try_seat()
            {
                return Ok((lease, false));
            }
        }
        Ok((Box::pin(first.wait_for_seat(deadline)).await?, true))
    }

    fn slot(&self, upstream: &Upstream, index: usize) -> Result<&Arc<Slot>, Refusal> {
        let slot = self.slots.get(upstream.first_slot.saturating_add(index));
        slot.filter(|slot| std::ptr::eq(&*slot.upstream, upstream)).ok_or_else(|| {
            Refusal::new(Reason::GatewayFault).because("the upstream is of another configuration")
        })
    }
}

/// One target, as this worker is connected to it.
struct Slot {
    upstream: Arc<Upstream>,
    index: usize,
    target: Arc<Target>,
    seats: Semaphore,
    waiting: AtomicUsize,
    /// Connections without a request; the one used last is used next, so that the others can go.
    idle: Mutex<Vec<Idle>>,
    /// The one HTTP/2 connection.
    shared: Mutex<Option<Idle>>,
    /// Held while the shared connection is opened, so that only one is.
    opening: tokio::sync::Mutex<()>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Slot {
    fn new(upstream: &Arc<Upstream>, index: usize, target: &Arc<Target>) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            index,
            target: Arc::clone(target),
            seats: Semaphore::new(upstream.settings.pool.requests_max),
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
            shared: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    fn try_seat(self: &Arc<Self>) -> Option<Lease> {
        let seat = self.seats.try_acquire().ok()?;
        seat.forget();
        Some(Lease::new(self))
    }

    async fn wait_for_seat(self: &Arc<Self>, deadline: Instant) -> Result<Lease, Refusal> {
        let busy = |private| Err(Refusal::new(Reason::UpstreamBusy).because(private));
        let waiting = Waiting::new(self);
        if waiting.before >= self.upstream.settings.pool.waiting_max {
            return busy("too many requests wait for a connection");
        }
        match timeout_at(deadline, self.seats.acquire()).await {
            Ok(Ok(seat)) => {
                seat.forget();
                Ok(Lease::new(self))
            }
            Ok(Err(_)) | Err(_) => busy("no connection became free in time"),
        }
    }

    /// The idle connection that was used last and is still open. When its time is over, so is that
    /// of all others.
    fn take_idle(&self, now: Instant) -> Option<Connection> {
        let pool = &self.upstream.settings.pool;
        loop {
            let mut list = locked(&self.idle);
            let mut idle = list.pop()?;
            let over = now.saturating_duration_since(idle.since) >= pool.idle_timeout;
            let older = if over { std::mem::take(&mut *list) } else { Vec::new() };
            // Connections are closed after the lock is given back.
            drop(list);
            self.target.idle.fetch_sub(1 + older.len(), Ordering::Relaxed);
            if !over
                && idle.connection.is_current(&self.target, pool.lifetime, now)
                && idle.connection.is_open()
            {
                return Some(idle.connection);
            }
        }
    }

    fn put_idle(&self, mut connection: Connection, now: Instant) {
        let pool = &self.upstream.settings.pool;
        if !connection.is_current(&self.target, pool.lifetime, now) {
            return;
        }
        connection.rest();
        let mut list = locked(&self.idle);
        if list.len() < pool.idle_max {
            list.push(Idle { connection, since: now });
            drop(list);
            self.target.idle.fetch_add(1, Ordering::Relaxed);
        } else {
            drop(list);
        }
    }

    /// A hold on the shared connection, if it is open.
    fn take_shared(&self, now: Instant) -> Option<Connection> {
        let lifetime = self.upstream.settings.pool.lifetime;
        let mut shared = locked(&self.shared);
        let held = shared.as_mut()?;
        if held.connection.is_current(&self.target, lifetime, now) && held.connection.is_open() {
            held.since = now;
            return held.connection.share();
        }
        let gone = shared.take();
        drop(shared);
        drop(gone);
        None
    }

    /// A hold on the one connection of all requests, and whether it was used before.
    async fn connect_shared(
        &self,
        fresh: bool,
        now: Instant,
        limit: Instant,
    ) -> Result<(Connection, bool), DialFault> {
        if fresh {
            drop(locked(&self.shared).take());
        } else if let Some(connection) = self.take_shared(now) {
            return Ok((connection, true));
        }
        let opening = self.opening.lock().await;
        if let Some(connection) = self.take_shared(Instant::now()) {
            return Ok((connection, true));
        }
        let connection = Connection::open(&self.target, &self.upstream.settings, limit).await?;
        let held = connection.share().ok_or(DialFault::Protocol)?;
        *locked(&self.shared) = Some(Idle { connection, since: Instant::now() });
        drop(opening);
        Ok((held, false))
    }

    fn sweep(&self, now: Instant) {
        let pool = &self.upstream.settings.pool;
        let stays = |idle: &mut Idle| {
            now.saturating_duration_since(idle.since) < pool.idle_timeout
                && idle.connection.is_current(&self.target, pool.lifetime, now)
                && idle.connection.is_open()
        };
        let gone: Vec<Idle> = locked(&self.idle).extract_if(.., |idle| !stays(idle)).collect();
        self.target.idle.fetch_sub(gone.len(), Ordering::Relaxed);
        let unused = self.seats.available_permits() == pool.requests_max;
        let shared = locked(&self.shared).take_if(|shared| unused && !stays(shared));
        drop((gone, shared));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let list = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.target.idle.fetch_sub(list.len(), Ordering::Relaxed);
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::forward) enum Outcome {
    /// Whoever asked left before it was known.
    Open,
    Ok,
    Error,
    Timeout,
    Refused,
}

/// A seat at a target, held from the choice of the target to the end of the answer's body.
///
/// Dropping it gives the seat back and closes the connection; only [`Lease::give_back`] keeps it.
pub(in crate::forward) struct Lease {
    slot: Arc<Slot>,
    connection: Option<Connection>,
    outcome: Outcome,
}

impl Lease {
    fn new(slot: &Arc<Slot>) -> Self {
        slot.target.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { slot: Arc::clone(slot), connection: None, outcome: Outcome::Open }
    }

    /// The number of the target among those of its upstream.
    pub(in crate::forward) fn index(&self) -> usize {
        self.slot.index
    }

    /// The target.
    pub(in crate::forward) fn target(&self) -> &Target {
        &self.slot.target
    }

    /// What is spoken over the connection, once there is one, and to whom.
    pub(in crate::forward) fn connected(&mut self) -> Option<(&mut Speech, &Target)> {
        let connection = self.connection.as_mut()?;
        Some((connection.speech(), &self.slot.target))
    }

    /// Remembers how the attempt ended.
    pub(in crate::forward) fn ended(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Gets a connection: an idle one unless it has to be `fresh`, or a new one. Tells whether it
    /// was used before, and what time it is then.
    ///
    /// # Errors
    /// When none can be opened. The target's watch is told.
    pub(in crate::forward) async fn connect(
        &mut self,
        fresh: bool,
        now: Instant,
        deadline: Instant,
    ) -> Result<(bool, Instant), DialFault> {
        let Self { slot, connection, outcome } = self;
        let settings = &slot.upstream.settings;
        if !fresh && settings.http == Protocol::Http1 {
            *connection = slot.take_idle(now);
            if connection.is_some() {
                return Ok((true, now));
            }
        }
        let limit = deadline.min(now + settings.timeout.connect);
        let connecting = async {
            match settings.http {
                Protocol::Http1 => {
                    Ok((Connection::open(&slot.target, settings, limit).await?, false))
                }
                Protocol::Http2 => slot.connect_shared(fresh, now, limit).await,
            }
        };
        // In a box: the states of dialing are large and rare, and every request would carry their room.
        let connecting = Box::pin(timeout_at(limit, connecting));
        match connecting.await.unwrap_or(Err(DialFault::Timeout)) {
            Ok((opened, reused)) => {
                if !reused {
                    slot.target.connected();
                }
                *connection = Some(opened);
                Ok((reused, Instant::now()))
            }
            Err(fault) => {
                *outcome = match fault {
                    DialFault::Timeout => Outcome::Timeout,
                    DialFault::Unknown(_)
                    | DialFault::Refused(_)
                    | DialFault::Forbidden
                    | DialFault::Tls(_)
                    | DialFault::Protocol => Outcome::Refused,
                };
                slot.target.connect_failed(settings.health.down_after);
                Err(fault)
            }
        }
    }

    /// Ends the lease with a connection that can be used again.
    pub(in crate::forward) fn give_back(mut self, now: Instant) {
        if let Some(connection) = self.connection.take()
            && self.slot.upstream.settings.http == Protocol::Http1
        {
            self.slot.put_idle(connection, now);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The connection goes before the seat: who takes the seat may open another one.
        self.connection = None;
        let target = &self.slot.target;
        target.in_flight.fetch_sub(1, Ordering::Relaxed);
        let results = &target.results;
        match self.outcome {
            Outcome::Open => {}
            Outcome::Ok => drop(results.ok.fetch_add(1, Ordering::Relaxed)),
            Outcome::Error => drop(results.error.fetch_add(1, Ordering::Relaxed)),
            Outcome::Timeout => drop(results.timeout.fetch_add(1, Ordering::Relaxed)),
            Outcome::Refused => drop(results.refused.fetch_add(1, Ordering::Relaxed)),
        }
        self.slot.seats.add_permits(1);
    }
}

/// A request that waits for a seat, counted for as long as it does.
struct Waiting<'a> {
    slot: &'a Slot,
    /// How many waited before this one.
    before: usize,
}

impl<'a> Waiting<'a> {
    fn new(slot: &'a Slot) -> Self {
        slot.target.waiting.fetch_add(1, Ordering::Relaxed);
        Self { slot, before: slot.waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.slot.waiting.fetch_sub(1, Ordering::Relaxed);
        self.slot.target.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A list behind its lock. A panic elsewhere leaves lists of connections as good as they were.
fn locked<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
