//! Who may connect: so many connections in all, so many of one source.
//!
//! A connection that has not proven itself is worth least, whether its handshake is unfinished or it says nothing after it:
//! when a limit is reached, the oldest unproven connection of the source that has most of them makes room. Only a limit that
//! is full of proven connections refuses. What counts as proof is for the listener and the services to say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How many connections a listener takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In all.
    pub connections: usize,
    /// From one address (IPv6: one /64).
    pub of_one_source: usize,
}

/// Keeps count.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    metrics: Arc<Metrics>,
    cut: CancellationToken,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: usize,
    sources: HashMap<IpAddr, Connections>,
}

/// A source's connections. One that is in neither has left, or had to.
#[derive(Debug, Default)]
struct Connections {
    unproven: BTreeMap<u64, CancellationToken>,
    proven: HashSet<u64>,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) proof: Proof,
    /// Cancelled when the connection has to end, and when it has ended.
    pub(crate) ended: CancellationToken,
}

/// Where a connection proves itself. Does not keep its place.
#[derive(Debug, Clone)]
pub(crate) struct Proof {
    gate: Arc<Gate>,
    source: IpAddr,
    id: u64,
}

impl Gate {
    /// Connections have to end when `cut` is cancelled, too.
    pub(crate) fn new(limits: Limits, metrics: Arc<Metrics>, cut: CancellationToken) -> Arc<Self> {
        Arc::new(Self { limits, metrics, cut, inner: Mutex::default() })
    }

    /// A place for a new connection, unproven; `None` when a limit is full of proven ones.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let source = source(address);
        let mut inner = self.inner();
        let crowded = inner.sources.get(&source).is_some_and(|of| of.unproven.len() + of.proven.len() >= self.limits.of_one_source);
        if crowded || inner.open >= self.limits.connections {
            let greedy = if crowded { Some(source) } else { inner.greediest() };
            let evicted = greedy.is_some_and(|greedy| inner.evict(greedy));
            self.metrics.refused(if evicted { "crowded_out" } else { "limit" });
            if !evicted {
                return None;
            }
        }
        inner.next += 1;
        inner.open += 1;
        let (id, ended) = (inner.next, self.cut.child_token());
        inner.sources.entry(source).or_default().unproven.insert(id, ended.clone());
        Some(Place { proof: Proof { gate: Arc::clone(self), source, id }, ended })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Ends the oldest unproven connection of `source`. False when there is none.
    fn evict(&mut self, source: IpAddr) -> bool {
        let oldest = self.sources.get_mut(&source).and_then(|of| of.unproven.pop_first());
        let Some((_, ended)) = oldest else { return false };
        // Its place is free at once; who holds it notices soon, and finds nothing to give back.
        self.left(source);
        ended.cancel();
        true
    }

    /// The source with most unproven connections.
    fn greediest(&self) -> Option<IpAddr> {
        self.sources.iter().max_by_key(|(_, of)| of.unproven.len()).map(|(source, _)| *source)
    }

    /// Counts a connection out that was just removed from its source.
    fn left(&mut self, source: IpAddr) {
        self.open = self.open.saturating_sub(1);
        if self.sources.get(&source).is_some_and(|of| of.unproven.is_empty() && of.proven.is_empty()) {
            self.sources.remove(&source);
        }
    }
}

impl Proof {
    /// The connection has proven itself, and keeps its place until it ends.
    pub(crate) fn prove(&self) {
        let mut inner = self.gate.inner();
        if let Some(of) = inner.sources.get_mut(&self.source)
            && of.unproven.remove(&self.id).is_some()
        {
            of.proven.insert(self.id);
        }
    }

    /// The time for a proof is over: ends the connection if there was none.
    pub(crate) fn expire(&self) {
        let mut inner = self.gate.inner();
        let unproven = inner.sources.get_mut(&self.source).and_then(|of| of.unproven.remove(&self.id));
        if let Some(ended) = unproven {
            inner.left(self.source);
            ended.cancel();
            self.gate.metrics.refused("unproven");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Proof { gate, source, id } = &self.proof;
        let mut inner = gate.inner();
        if inner.sources.get_mut(source).is_some_and(|of| of.unproven.remove(id).is_some() || of.proven.remove(id)) {
            inner.left(*source);
        }
        drop(inner);
        self.ended.cancel();
    }
}

/// The network that counts as one source.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { connections: 6, of_one_source: 4 };

    fn gate() -> Arc<Gate> {
        Gate::new(LIMITS, Metrics::new("t", "0"), CancellationToken::new())
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn places(gate: &Arc<Gate>, last: u8, count: usize) -> Vec<Place> {
        (0..count).map(|_| gate.admit(ip(last)).unwrap()).collect()
    }

    fn ended(places: &[Place]) -> usize {
        places.iter().filter(|place| place.ended.is_cancelled()).count()
    }

    #[test]
    fn unproven_connections_make_room_and_proven_ones_do_not() {
        let gate = gate();
        let silent = places(&gate, 1, 20);
        assert_eq!(ended(&silent), 16, "a source's own limit");
        let other = places(&gate, 2, 3);
        assert_eq!((ended(&silent), ended(&other)), (17, 0), "the source that has most makes room");
        assert!(silent.iter().take(17).all(|place| place.ended.is_cancelled()), "the oldest first");
        other.iter().for_each(|place| place.proof.prove());
        // Too late: it has had to go.
        silent.iter().take(1).for_each(|place| place.proof.prove());
        assert_eq!(gate.inner().open, 6);
        drop(silent);
        assert_eq!(gate.inner().open, 3);
        let busy = places(&gate, 3, 3);
        busy.iter().for_each(|place| place.proof.prove());
        assert!(gate.admit(ip(4)).is_none(), "the limit in all");
        assert_eq!((ended(&busy), ended(&other)), (0, 0));
        drop(other);
        busy.iter().for_each(|place| place.proof.expire());
        let more = places(&gate, 3, 1);
        more.iter().for_each(|place| place.proof.prove());
        assert!(gate.admit(ip(3)).is_none(), "a source's own limit");
        assert!(gate.admit(ip(4)).is_some());
        drop((busy, more));
        let inner = gate.inner();
        assert_eq!((inner.open, inner.sources.len()), (0, 0));
    }

    #[test]
    fn a_connection_that_proves_nothing_in_time_ends_once() {
        let gate = gate();
        let silent = places(&gate, 1, 2);
        silent.iter().take(1).for_each(|place| place.proof.expire());
        assert_eq!((ended(&silent), gate.inner().open), (1, 1));
        drop(silent);
        let inner = gate.inner();
        assert_eq!((inner.open, inner.sources.len()), (0, 0));
    }

    #[test]
    fn everything_ends_with_the_cut() {
        let cut = CancellationToken::new();
        let gate = Gate::new(LIMITS, Metrics::new("t", "0"), cut.clone());
        let places = places(&gate, 1, 2);
        cut.cancel();
        assert_eq!((ended(&places), gate.inner().open), (2, 2));
        drop(places);
        assert_eq!(gate.inner().open, 0);
    }

    #[test]
    fn a_network_of_ipv6_and_a_mapped_address_are_one_source() {
        let parse = |text: &str| source(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::2:3"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), parse("192.0.2.1"));
    }
}
