//! Places for queries: so many at a time in all, of one caller and under one agreement. Who finds none waits a short while in a
//! bounded queue. A free place goes to the waiting caller who holds the fewest, so that nobody's many crowd out another's one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Key;

/// How many, and how long to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) running: usize,
    pub(super) of_one: usize,
    pub(super) waiting: usize,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The caller's own queries take all the caller may have.
    Own,
    /// The gateway's places are taken.
    All,
}

/// The places of a gateway.
#[derive(Debug)]
pub(crate) struct Places {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    of_callers: HashMap<Key, usize>,
    of_agreements: HashMap<String, usize>,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    caller: Key,
    place: oneshot::Sender<Place>,
}

/// A place: dropping it gives it to the next. The caller's part lasts until the answer has been read.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    caller: Key,
    running: bool,
}

impl Places {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, state: Mutex::default() })
    }

    /// Takes a place, or waits for one. `queued`: whether the bounds of the queue apply; detached queries have their own.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn take(self: &Arc<Self>, caller: &Key, wait: Duration, queued: bool) -> Result<Place, Full> {
        let mut granted = match self.enter(caller, queued)? {
            Ok(place) => return Ok(place),
            Err(granted) => granted,
        };
        if let Ok(Ok(place)) = tokio::time::timeout(wait, &mut granted).await {
            return Ok(place);
        }
        granted.close();
        // It may have come at the last moment.
        granted.try_recv().map_err(|_| if self.has_own_left(caller) { Full::All } else { Full::Own })
    }

    /// A place at once, or what to wait for.
    fn enter(self: &Arc<Self>, caller: &Key, queued: bool) -> Result<Result<Place, oneshot::Receiver<Place>>, Full> {
        let mut state = self.state();
        state.waiting.retain(|w| !w.place.is_closed());
        let own_left = state.held(caller) < self.bounds.of_one;
        let others_first = state.waiting.iter().any(|w| state.held(&w.caller) < self.bounds.of_one);
        if state.running < self.bounds.running && own_left && !others_first {
            return Ok(Ok(state.grant(self, caller)));
        }
        let own_waiting = state.waiting.iter().filter(|w| w.caller == *caller).count();
        if queued && own_waiting >= self.bounds.waiting.div_ceil(4) {
            return Err(Full::Own);
        }
        if queued && state.waiting.len() >= self.bounds.waiting {
            return Err(if own_left { Full::All } else { Full::Own });
        }
        let (place, granted) = oneshot::channel();
        state.waiting.push(Waiting { caller: caller.clone(), place });
        Ok(Err(granted))
    }

    fn has_own_left(&self, caller: &Key) -> bool {
        self.state().held(caller) < self.bounds.of_one
    }

    /// Gives free places to those who wait.
    fn hand_on(self: &Arc<Self>) {
        loop {
            let mut state = self.state();
            state.waiting.retain(|w| !w.place.is_closed());
            if state.running >= self.bounds.running {
                return;
            }
            let next = state.waiting.iter().enumerate().filter(|(_, w)| state.held(&w.caller) < self.bounds.of_one);
            let Some((index, _)) = next.min_by_key(|(index, w)| (state.held(&w.caller), *index)) else { return };
            let waiting = state.waiting.remove(index);
            let place = state.grant(self, &waiting.caller);
            drop(state);
            // Who has left meanwhile gives the place back as it is dropped here.
            drop(waiting.place.send(place));
        }
    }

    /// Takes one of an agreement's places, without waiting.
    pub(super) fn under(self: &Arc<Self>, agreement: &str, most: usize) -> Option<UnderAgreement> {
        let mut state = self.state();
        let held = state.of_agreements.entry(agreement.to_owned()).or_default();
        if *held >= most {
            return None;
        }
        *held += 1;
        drop(state);
        Some(UnderAgreement { places: self.clone(), agreement: agreement.to_owned() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held(&self, caller: &Key) -> usize {
        self.of_callers.get(caller).copied().unwrap_or(0)
    }

    fn grant(&mut self, places: &Arc<Places>, caller: &Key) -> Place {
        self.running += 1;
        *self.of_callers.entry(caller.clone()).or_default() += 1;
        Place { places: places.clone(), caller: caller.clone(), running: true }
    }
}

fn one_less<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Place {
    /// Gives the gateway's part back; the caller's part is held on.
    pub(crate) fn executed(&mut self) {
        if std::mem::take(&mut self.running) {
            let mut state = self.places.state();
            state.running = state.running.saturating_sub(1);
            drop(state);
            self.places.hand_on();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        if self.running {
            state.running = state.running.saturating_sub(1);
        }
        one_less(&mut state.of_callers, &self.caller);
        drop(state);
        self.places.hand_on();
    }
}

/// A place under one agreement.
#[derive(Debug)]
pub(crate) struct UnderAgreement {
    places: Arc<Places>,
    agreement: String,
}

impl Drop for UnderAgreement {
    fn drop(&mut self) {
        one_less(&mut self.places.state().of_agreements, &self.agreement);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(subject: &str) -> Key {
        Key { issuer: "i".into(), organisation: "unit".into(), subject: subject.into() }
    }

    fn places(running: usize, of_one: usize, waiting: usize) -> Arc<Places> {
        Places::new(Bounds { running, of_one, waiting })
    }

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(5);

    async fn waiting(places: &Arc<Places>, count: usize) {
        while places.state().waiting.len() < count {
            tokio::task::yield_now().await;
        }
    }

    fn nothing_is_held(places: &Places) {
        let state = places.state();
        assert_eq!((state.running, state.of_callers.len(), state.of_agreements.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn one_caller_cannot_fill_the_gateway_nor_its_queue() {
        let places = places(3, 2, 8);
        let first = places.take(&key("a"), SHORT, true).await.unwrap();
        let second = places.take(&key("a"), SHORT, true).await.unwrap();
        assert_eq!(places.take(&key("a"), SHORT, true).await.unwrap_err(), Full::Own);
        let queued: Vec<_> = (0..2)
            .map(|_| {
                let places = places.clone();
                tokio::spawn(async move { places.take(&key("a"), LONG, true).await })
            })
            .collect();
        waiting(&places, 2).await;
        assert_eq!(places.take(&key("a"), LONG, true).await.unwrap_err(), Full::Own, "its part of the queue is full");
        let other = places.take(&key("b"), SHORT, true).await.unwrap();
        assert_eq!(places.take(&key("c"), SHORT, true).await.unwrap_err(), Full::All);
        drop((first, second, other));
        for place in queued {
            drop(place.await.unwrap().unwrap());
        }
        nothing_is_held(&places);
    }

    #[tokio::test]
    async fn a_free_place_goes_to_who_holds_the_fewest() {
        let places = places(2, 2, 8);
        let mut held = vec![places.take(&key("a"), SHORT, true).await.unwrap(), places.take(&key("a"), SHORT, true).await.unwrap()];
        let wait = |who: &'static str| {
            let places = places.clone();
            tokio::spawn(async move { places.take(&key(who), LONG, true).await.unwrap() })
        };
        let again = wait("a");
        waiting(&places, 1).await;
        let other = wait("b");
        waiting(&places, 2).await;
        held.pop();
        let other = other.await.unwrap();
        assert!(!again.is_finished(), "b holds none and goes first, though a waited longer");
        drop(other);
        drop(again.await.unwrap());
        drop(held);
        nothing_is_held(&places);
    }

    #[tokio::test]
    async fn who_leaves_the_queue_leaves_nothing_behind() {
        let places = places(1, 1, 8);
        let held = places.take(&key("a"), SHORT, true).await.unwrap();
        let (one, two) = (places.clone(), places.clone());
        let leaver = tokio::spawn(async move { one.take(&key("b"), LONG, true).await });
        waiting(&places, 1).await;
        let stayer = tokio::spawn(async move { two.take(&key("c"), LONG, true).await.unwrap() });
        waiting(&places, 2).await;
        leaver.abort();
        assert!(leaver.await.unwrap_err().is_cancelled());
        drop(held);
        drop(stayer.await.unwrap());
        nothing_is_held(&places);
    }

    #[tokio::test]
    async fn an_executed_query_lets_others_run_while_its_answer_is_read() {
        let places = places(1, 1, 8);
        let mut first = places.take(&key("a"), SHORT, true).await.unwrap();
        first.executed();
        let second = places.take(&key("b"), SHORT, true).await.unwrap();
        drop(second);
        assert_eq!(places.take(&key("a"), SHORT, true).await.unwrap_err(), Full::Own, "a's answer is not read yet");
        drop(first);
        drop(places.take(&key("a"), SHORT, true).await.unwrap());
        nothing_is_held(&places);
    }

    #[test]
    fn agreements_have_places_of_their_own() {
        let places = places(9, 9, 9);
        let first = places.under("x", 1).unwrap();
        assert!(places.under("x", 1).is_none());
        drop(places.under("y", 1).unwrap());
        drop(first);
        drop(places.under("x", 1).unwrap());
        nothing_is_held(&places);
    }
}
