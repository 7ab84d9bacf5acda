//! The lists that are held, and how new they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use concordat_policy::agreement::ConsentAge;
use concordat_policy::{Code, LinkageDomain, Name, Refusal};
use concordat_proto::receipt::Standing;
use concordat_proto::v1;

use super::list::List;
use super::room::{Memory, Room};

/// Which list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Whose ledger.
    pub(super) department: Name,
    pub(super) domain: LinkageDomain,
    pub(super) agreement: Name,
    pub(super) agreement_digest: String,
    /// Of the data that is reached.
    pub(super) basis: v1::Basis,
}

/// A list as a department stated it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) list: Arc<List>,
    pub(super) standing: Standing,
    /// What the department chose by.
    pub(super) rules: String,
    /// The moment at which it judged records with times, by its clock, Unix seconds.
    pub(super) judged_at: i64,
    /// Before it was asked for, by two clocks.
    pub(super) asked: Instant,
    pub(super) as_of: i64,
    /// Of the key that its pseudonyms are made with ([`super::super::Relay::round`]).
    pub(super) round: u64,
}

/// How new a list must be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need {
    Since(Instant),
    Within(ConsentAge),
}

impl Need {
    pub(super) fn met(self, held: &Held) -> bool {
        match self {
            Self::Since(start) => held.asked >= start,
            Self::Within(age) => held.asked.elapsed() <= age.duration(),
        }
    }
}

/// Where a list stands.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) held: Mutex<Option<Held>>,
    pub(super) used: Mutex<Instant>,
    /// Held while the department is asked. Who waits for it may find what it came for.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// All lists.
#[derive(Debug)]
pub(crate) struct Lists {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    memory: Memory,
}

impl Lists {
    /// Lists that take at most so many bytes in all.
    pub(crate) fn new(most: usize) -> Self {
        Self { slots: Mutex::default(), memory: Memory::new(most) }
    }

    pub(super) fn all(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        lock(&self.slots)
    }

    pub(super) fn room(&self) -> Room {
        self.memory.room()
    }

    /// Takes more room for a list of `department`, if need be that of lists which nobody uses.
    pub(super) fn extend(&self, department: &Name, room: &mut Room, bytes: usize) -> Result<(), Refusal> {
        while !room.grow(bytes) {
            if !self.drop_idlest() {
                let most = self.memory.most() >> 20;
                let what = format!(
                    "the lists of whose withdrawals reach other departments' data would take more than {most} MiB, the gateway's limit, \
                     with the one of department '{department}'"
                );
                return Err(Refusal::new(Code::LimitExceeded, what)
                    .department(department)
                    .advice("try again when fewer queries run; the gateway's operator can raise reach_mib"));
            }
        }
        Ok(())
    }

    /// Drops the list that was not used for longest, among those that nobody uses or asks for now. Whether there was one.
    fn drop_idlest(&self) -> bool {
        let mut all = self.all();
        let idle = all.iter().filter(|(_, slot)| slot.idle());
        let idlest = idle.min_by_key(|(_, slot)| *lock(&slot.used)).map(|(key, _)| key.clone());
        idlest.is_some_and(|key| all.remove(&key).is_some())
    }

    pub(super) fn slot(&self, key: &Key) -> Arc<Slot> {
        let new = || Arc::new(Slot { held: Mutex::default(), used: Mutex::new(Instant::now()), turn: tokio::sync::Mutex::default() });
        let slot = Arc::clone(self.all().entry(key.clone()).or_insert_with(new));
        *lock(&slot.used) = Instant::now();
        slot
    }
}

impl Slot {
    /// Whether it holds memory for a list that nobody uses or asks for now.
    fn idle(&self) -> bool {
        let free = |held: &Held| held.list.bytes() > 0 && Arc::strong_count(&held.list) == 1;
        self.turn.try_lock().is_ok() && lock(&self.held).as_ref().is_some_and(free)
    }

    pub(super) fn held(&self) -> Option<Held> {
        lock(&self.held).clone()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use concordat_proto::reach::Changes;

    use super::*;

    #[test]
    fn a_list_is_new_enough_for_a_query_or_for_an_age() {
        let before = Instant::now();
        let held = Held {
            list: Arc::default(),
            standing: Standing::default(),
            rules: String::new(),
            judged_at: 0,
            asked: before,
            as_of: 0,
            round: 0,
        };
        assert!(Need::Since(before).met(&held));
        assert!(!Need::Since(before + Duration::from_millis(1)).met(&held), "what was asked before the query started is too old");
        assert!(Need::Within(ConsentAge::default()).met(&held));
    }

    #[test]
    fn the_idlest_list_makes_room_and_none_that_is_used() {
        let name = |text: &str| Name::parse(text).unwrap();
        let key = |department: &str| Key {
            department: name(department),
            domain: LinkageDomain { mission: name("m"), purpose: name("p"), epoch: 7, rotation: 0 },
            agreement: name("a"),
            agreement_digest: "digest".into(),
            basis: v1::Basis::Consent,
        };
        let lists = Lists::new(100);
        let keep = |department: &str| {
            let mut room = lists.room();
            lists.extend(&name(department), &mut room, 48)?;
            let changes = Changes { added: (0..3u128).map(u128::to_be_bytes).collect(), removed: Vec::new() };
            let list = Arc::new(List::whole(changes).within(room));
            let (standing, asked) = (Standing::default(), Instant::now());
            let slot = lists.slot(&key(department));
            *lock(&slot.held) =
                Some(Held { list: Arc::clone(&list), standing, rules: String::new(), judged_at: 0, asked, as_of: 0, round: 0 });
            Ok::<_, Refusal>(list)
        };
        let known = |department: &str| lists.all().contains_key(&key(department));
        drop(keep("dfe").unwrap());
        let used = keep("dwp").unwrap();
        let also = keep("dhsc").unwrap();
        assert_eq!([known("dfe"), known("dwp"), known("dhsc")], [false, true, true], "who was used before makes room");
        let refusal = keep("dbt").unwrap_err();
        assert_eq!((refusal.code, refusal.department.as_deref()), (Code::LimitExceeded, Some("dbt")));
        assert!(refusal.advice.unwrap().contains("reach_mib"));
        drop((used, also));
        drop(keep("dbt").unwrap());
        assert_eq!([known("dwp"), known("dhsc"), known("dbt")], [false, true, true]);
        drop(lists.slot(&key("dhsc")));
        keep("dfe").unwrap();
        assert_eq!([known("dhsc"), known("dbt"), known("dfe")], [true, false, true]);
    }
}
