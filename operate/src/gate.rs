//! Who may connect: so many connections in all, so many of one source, so many handshakes at a time.
//!
//! A connection that has not said anything yet is worth least: when a limit is reached, the oldest unfinished handshake of
//! the source that has most of them makes room. Only a limit that is full of finished handshakes refuses.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// How many connections a listener takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In all, with handshakes.
    pub connections: usize,
    /// From one address (IPv6: one /64), with handshakes.
    pub of_one_source: usize,
    /// Handshakes at a time.
    pub handshakes: usize,
}

/// Keeps count.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: usize,
    of_source: HashMap<IpAddr, usize>,
    handshakes: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    source: IpAddr,
    id: u64,
    /// Cancelled when the handshake has to make room for another.
    pub(crate) evicted: CancellationToken,
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, inner: Mutex::default() })
    }

    /// A place for a new connection, whose handshake begins now; `None` when the limits are full.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let source = source(address);
        let mut inner = self.inner();
        if inner.of_source.get(&source).is_some_and(|n| *n >= self.limits.of_one_source) && !inner.evict(Some(source)) {
            return None;
        }
        let full = inner.open >= self.limits.connections || inner.handshakes.len() >= self.limits.handshakes;
        if full && !inner.evict(None) {
            return None;
        }
        inner.next += 1;
        let (id, evicted) = (inner.next, CancellationToken::new());
        inner.open += 1;
        *inner.of_source.entry(source).or_default() += 1;
        inner.handshakes.insert(id, (source, evicted.clone()));
        Some(Place { gate: Arc::clone(self), source, id, evicted })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Ends the oldest handshake of `source`, or of the source that has most. False when there is none.
    fn evict(&mut self, source: Option<IpAddr>) -> bool {
        let Some(greedy) = source.or_else(|| self.greediest()) else { return false };
        let oldest = self.handshakes.iter().find(|(_, (of, _))| *of == greedy).map(|(id, _)| *id);
        let Some((_, (source, token))) = oldest.and_then(|id| self.handshakes.remove_entry(&id)) else { return false };
        // Its place is free at once; the task that holds it notices soon, and must not give it back twice.
        self.leave(source);
        token.cancel();
        true
    }

    fn greediest(&self) -> Option<IpAddr> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for (source, _) in self.handshakes.values() {
            *counts.entry(*source).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(source, _)| source)
    }

    fn leave(&mut self, source: IpAddr) {
        self.open = self.open.saturating_sub(1);
        if let Some(count) = self.of_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.of_source.remove(&source);
            }
        }
    }
}

impl Place {
    /// The handshake is done. False when it had to make room just before.
    pub(crate) fn finished(&self) -> bool {
        self.gate.inner().handshakes.remove(&self.id).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.gate.inner();
        inner.handshakes.remove(&self.id);
        if !self.evicted.is_cancelled() {
            inner.leave(self.source);
        }
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

    const LIMITS: Limits = Limits { connections: 6, of_one_source: 4, handshakes: 5 };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn silent_connections_make_room_and_finished_ones_do_not() {
        let gate = Gate::new(LIMITS);
        let silent: Vec<_> = (0..20).map(|_| gate.admit(ip(1)).unwrap()).collect();
        assert_eq!(silent.iter().filter(|p| p.evicted.is_cancelled()).count(), 16);
        let other: Vec<_> = (0..2).map(|_| gate.admit(ip(2)).unwrap()).collect();
        assert_eq!(silent.iter().filter(|p| p.evicted.is_cancelled()).count(), 17, "the source that has most makes room");
        assert!(other.iter().all(Place::finished));
        drop(silent);
        assert_eq!(gate.inner().open, 2);
        let busy: Vec<_> = (0..4).map(|_| gate.admit(ip(3)).unwrap()).collect();
        assert!(busy.iter().all(Place::finished));
        assert!(gate.admit(ip(3)).is_none(), "a source's own limit");
        assert!(gate.admit(ip(4)).is_none(), "the limit in all");
        drop(other);
        assert!(gate.admit(ip(4)).is_some());
        drop(busy);
        let inner = gate.inner();
        assert_eq!((inner.open, inner.of_source.len(), inner.handshakes.len()), (0, 0, 0));
    }

    #[test]
    fn a_network_of_ipv6_and_a_mapped_address_are_one_source() {
        let parse = |text: &str| source(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::2:3"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), parse("192.0.2.1"));
    }
}
