//! What a listener counts: connections, handshakes, refusals, floods. The record reads it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::listen::Shared;
use crate::listen::clients::Turned;

/// The counters of one listener, over all its workers. Gauges go up and down, the rest only up.
#[derive(Debug, Default)]
pub struct Counters {
    /// Gauge: connections whose TLS handshake has not ended.
    pub handshaking: AtomicU64,
    /// Gauge: connections that speak HTTP or a tunnel.
    pub open: AtomicU64,
    /// Gauge: requests whose answer has not ended.
    pub in_flight: AtomicU64,
    /// Connections accepted by the kernel and taken by us, whatever became of them.
    pub accepted: AtomicU64,
    /// Connections closed at once, because the listener held its ceiling of connections.
    pub refused_ceiling: AtomicU64,
    /// Connections closed at once, because their address held its ceiling of connections.
    pub refused_address_ceiling: AtomicU64,
    /// Connections closed at once, because the deadline of the drain had passed.
    pub refused_draining: AtomicU64,
    /// Handshakes that failed, plaintext on a TLS listener included.
    pub handshake_failed: AtomicU64,
    /// Why handshakes ended for want of a good client certificate; also counted as failed.
    pub turned: Turned,
    /// Handshakes that did not end in time.
    pub handshake_timeout: AtomicU64,
    /// Completed handshakes of TLS 1.2.
    pub handshakes_tls12: AtomicU64,
    /// Completed handshakes of TLS 1.3.
    pub handshakes_tls13: AtomicU64,
    /// Completed handshakes that resumed an earlier session; also counted by version.
    pub handshakes_resumed: AtomicU64,
    /// HTTP/2 connections closed for flooding us with frames that carry nothing.
    pub flood_closes: AtomicU64,
    /// Connections that an overloaded worker handed to another.
    pub handed_over: AtomicU64,
    /// Failures of `accept` itself, such as having no file descriptor left.
    pub accept_faults: AtomicU64,
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One unit of a gauge, given back when dropped.
pub(super) struct Held {
    shared: Arc<Shared>,
    gauge: fn(&Counters) -> &AtomicU64,
}

impl Held {
    /// Raises the gauge until this is dropped.
    pub(super) fn new(shared: &Arc<Shared>, gauge: fn(&Counters) -> &AtomicU64) -> Self {
        count(gauge(&shared.counters));
        Self { shared: Arc::clone(shared), gauge }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.gauge)(&self.shared.counters).fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many connections there are, in all and from each address. As large as the total ceiling lets
/// it become, because an address without a connection is forgotten.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    by_address: HashMap<u128, u32>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The listener holds as many connections as it may.
    Listener,
    /// The address does.
    Address,
}

/// The right to hold one connection, given back when dropped.
pub(super) struct Seat {
    shared: Arc<Shared>,
    network: Option<u128>,
}

impl Seat {
    /// Takes a seat. An address of a trusted proxy counts only towards the listener's ceiling,
    /// because it brings the connections of many callers.
    pub(super) fn take(shared: &Arc<Shared>, address: IpAddr) -> Result<Self, Full> {
        let trusted = shared.settings.trusted.iter().any(|network| network.contains(address));
        let network = (!trusted).then(|| network_of(address));
        let bounds = &shared.settings.bounds;
        let mut taken = shared.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= bounds.connections {
            return Err(Full::Listener);
        }
        if let Some(network) = network {
            let held = taken.by_address.entry(network).or_default();
            if *held >= bounds.connections_per_address {
                return Err(Full::Address);
            }
            *held += 1;
        }
        taken.all += 1;
        drop(taken);
        Ok(Self { shared: Arc::clone(shared), network })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.shared.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        let Some(network) = self.network else { return };
        if let Some(held) = taken.by_address.get_mut(&network) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                taken.by_address.remove(&network);
            }
        }
    }
}

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 address, since whoever has
/// one of its addresses has them all.
fn network_of(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX) | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_ne!(network("0.0.0.0"), network("::"));
    }
}
