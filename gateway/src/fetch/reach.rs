//! Whose choices, recorded at one department, reach the others' data: a list for each department, linkage domain, agreement and lawful
//! basis, in memory only, brought up to date by what changed since the ledger's version that it states.
//!
//! ```text
//! a department that the query reads, or of which the caller wants a version  →  asked after the query started
//! any other party of the agreement                                           →  asked at most `max_consent_age` ago, else asked now
//! ```
//!
//! What cannot be had refuses the query. A list is used with its node's signed statement only, and only for the data of other
//! departments: what a department recorded for its own data its node has applied. A list and the same department's release are each of
//! the moment at which they were made; both are after the query's start, and the answer states the earlier. No node learns of another's
//! list, nor how many rows it removed. A new epoch has a key of its own here; of a new generation, or under new rules, the node sends the
//! whole list. Where a linkage key was brought to somebody, it may be another: the domain's lists are asked for anew, as a whole.
//! All lists together take bounded memory ([`room`]): the idlest make room, and where none does the query is refused.

mod list;
mod room;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use concordat_policy::agreement::ConsentAge;
use concordat_policy::{Agreement, Code, LinkageDomain, Name, Refusal, Signatures};
use concordat_proto::receipt::Standing;
use concordat_proto::v1;
use futures::future::{join_all, try_join_all};

pub(crate) use self::list::{List, without};
use self::room::{Memory, Room};
use super::{Errand, Fetcher, Source, agreement, domain};
use crate::plan::ReleaseSpec;

/// After what time a list is forgotten that no query has asked for.
const IDLE: Duration = Duration::from_secs(3_600);

/// Which list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Whose ledger.
    department: Name,
    domain: LinkageDomain,
    agreement: Name,
    agreement_digest: String,
    /// Of the data that is reached.
    basis: v1::Basis,
}

/// A list as a department stated it.
#[derive(Debug, Clone)]
struct Held {
    list: Arc<List>,
    standing: Standing,
    /// What the department chose by.
    rules: String,
    /// The moment at which it judged records with times, by its clock, Unix seconds.
    judged_at: i64,
    /// Before it was asked for, by two clocks.
    asked: Instant,
    as_of: i64,
    /// Of the key that its pseudonyms are made with ([`super::Relay::round`]).
    round: u64,
}

/// An agreement, and what tells which keys are its parties' now.
type Agreed<'a> = (&'a Agreement, &'a Signatures);

/// How new a list must be.
#[derive(Debug, Clone, Copy)]
enum Need {
    Since(Instant),
    Within(ConsentAge),
}

impl Need {
    fn met(self, held: &Held) -> bool {
        match self {
            Self::Since(start) => held.asked >= start,
            Self::Within(age) => held.asked.elapsed() <= age.duration(),
        }
    }
}

/// Where a list stands.
#[derive(Debug)]
struct Slot {
    held: Mutex<Option<Held>>,
    used: Mutex<Instant>,
    /// Held while the department is asked. Who waits for it may find what it came for.
    turn: tokio::sync::Mutex<()>,
}

/// Which departments a query is waiting for, to tell whose choices reach the others' data. What is dropped meanwhile stays in it.
#[derive(Debug, Default)]
pub(crate) struct Awaited(Mutex<Vec<Name>>);

impl Awaited {
    /// The departments.
    pub(crate) fn departments(&self) -> BTreeSet<Name> {
        lock(&self.0).iter().cloned().collect()
    }

    fn begin(&self, department: &Name) {
        lock(&self.0).push(department.clone());
    }

    fn end(&self, department: &Name) {
        let mut all = lock(&self.0);
        if let Some(at) = all.iter().position(|awaited| awaited == department) {
            all.swap_remove(at);
        }
    }
}

/// All lists.
#[derive(Debug)]
pub(crate) struct Lists {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    memory: Memory,
}

/// Where the consent ledger of a department stood that an answer rests on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Applied {
    /// The department.
    pub(crate) department: String,
    /// The least version of its ledger that was applied to any of the data.
    pub(crate) consent_version: u64,
    /// The ledger's generation, where the department once acknowledged that it restored a backup.
    #[serde(skip_serializing_if = "first")]
    pub(crate) consent_generation: u32,
    /// Where the query did not read its data: when it stated that version, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_of: Option<i64>,
}

fn first(generation: &u32) -> bool {
    *generation == 0
}

impl Applied {
    fn new(department: &str, standing: Standing, as_of: Option<i64>) -> Self {
        let Standing { generation, version } = standing;
        Self { department: department.to_owned(), consent_version: version, consent_generation: generation, as_of }
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing { generation: self.consent_generation, version: self.consent_version }
    }

    /// What releases and lists together rest on: of each department the earlier.
    pub(crate) fn together(sources: &[Source], lists: &[Self]) -> Vec<Self> {
        let own = sources.iter().map(|source| Self::new(&source.department, source.standing(), None));
        let mut all: BTreeMap<String, Self> = BTreeMap::new();
        for applied in own.chain(lists.iter().cloned()) {
            match all.get(&applied.department) {
                Some(known) if known.standing() <= applied.standing() => {}
                _ => drop(all.insert(applied.department.clone(), applied)),
            }
        }
        all.into_values().collect()
    }
}

impl Fetcher {
    /// Gives every release of a query the lists of those who are to be removed from it.
    ///
    /// # Errors
    /// [`Code::Outdated`] where what another party recorded is older than the agreement allows; refusals that name the department.
    pub(super) async fn withhold(&self, specs: &[Arc<ReleaseSpec>], errand: &Errand<'_>) -> Result<Vec<Applied>, Refusal> {
        let read: BTreeSet<&Name> = specs.iter().map(|spec| &spec.dataset().department).collect();
        let mut wanted: HashMap<Key, (&Agreement, Need)> = HashMap::new();
        let mut of_specs = Vec::new();
        for spec in specs {
            let (agreement, domain) = (agreement(errand.agreements, &spec.permit.agreement)?, domain(spec, errand.now)?);
            let mut keys = Vec::new();
            for department in agreement.reaching(&spec.permit.dataset) {
                let key = Key {
                    department: department.clone(),
                    domain: domain.clone(),
                    agreement: agreement.id.clone(),
                    agreement_digest: agreement.digest.clone(),
                    basis: v1::Basis::from(&spec.permit.dataset.basis),
                };
                let now = read.contains(department) || errand.caller.at_least().names(department);
                let need = if now { Need::Since(errand.started) } else { Need::Within(agreement.max_consent_age) };
                wanted.insert(key.clone(), (agreement, need));
                keys.push(key);
            }
            of_specs.push((spec, keys));
        }
        let asked = wanted.into_iter().map(|(key, (agreement, need))| self.awaited(key, agreement, need, errand));
        let held: HashMap<Key, Held> = try_join_all(asked).await?.into_iter().collect();
        for (spec, keys) in of_specs {
            let lists = keys.iter().filter_map(|key| held.get(key)).map(|held| Arc::clone(&held.list)).collect::<Vec<_>>();
            if lists.len() != keys.len() {
                return Err(Refusal::internal("a list that was asked for is not there"));
            }
            spec.withhold(lists)?;
        }
        let applied = |(key, held): (&Key, &Held)| {
            let as_of = (!read.contains(&key.department)).then_some(held.as_of);
            Applied::new(key.department.as_str(), held.standing, as_of)
        };
        Ok(held.iter().map(applied).collect())
    }

    async fn awaited(&self, key: Key, agreement: &Agreement, need: Need, errand: &Errand<'_>) -> Result<(Key, Held), Refusal> {
        errand.awaited.begin(&key.department);
        let held = self.held(&key, (agreement, errand.signatures), need).await;
        errand.awaited.end(&key.department);
        held.map(|held| (key, held))
    }

    /// A list that is as new as it must be.
    async fn held(&self, key: &Key, agreed: Agreed<'_>, need: Need) -> Result<Held, Refusal> {
        let slot = self.lists.slot(key);
        let enough = |held: &Held| need.met(held) && held.round == self.relay.round(&key.domain);
        if let Some(held) = slot.held().filter(enough) {
            return Ok(held);
        }
        let _turn = slot.turn.lock().await;
        // Whoever had the turn before may have asked late enough.
        if let Some(held) = slot.held().filter(enough) {
            return Ok(held);
        }
        self.bring_up(&slot, key, agreed).await.map_err(|refusal| match need {
            Need::Within(age) => outdated(&key.department, age, refusal),
            Need::Since(_) => refusal,
        })
    }

    /// Asks the department for what changed. The caller has the turn.
    async fn bring_up(&self, slot: &Slot, key: &Key, agreed: Agreed<'_>) -> Result<Held, Refusal> {
        let before = slot.held();
        let (asked, as_of) = (Instant::now(), chrono::Utc::now().timestamp());
        let mut told = self.told(key, agreed, before.as_ref()).await?;
        let list = match before.filter(|_| told.since.is_some()) {
            None => Arc::new(List::whole(told.changes).within(told.room)),
            Some(before) if told.changes.added.is_empty() && told.changes.removed.is_empty() => before.list,
            Some(before) => {
                self.lists.extend(&key.department, &mut told.room, before.list.bytes_after(&told.changes))?;
                Arc::new(before.list.after(&told.changes).within(told.room))
            }
        };
        let held = Held { list, standing: told.standing, rules: told.rules, judged_at: told.judged_at, asked, as_of, round: told.round };
        *lock(&slot.held) = Some(held.clone());
        Ok(held)
    }

    /// Brings up to date, ahead of need, what queries of the last hour asked for and what was asked for in half the time that an
    /// agreement allows; forgets the other lists, those of past epochs, and those of agreements that `agreements` does not hold any more.
    pub(crate) async fn refresh_lists(&self, agreements: &[Agreement], signatures: &Signatures) {
        let (now, mut due) = (chrono::Utc::now(), Vec::new());
        self.lists.all().retain(|key, slot| {
            let agreement = agreements.iter().find(|agreement| agreement.id == key.agreement && agreement.digest == key.agreement_digest);
            let current = |agreement: &&Agreement| {
                let Key { domain: LinkageDomain { mission, purpose, .. }, .. } = key;
                LinkageDomain::at(mission.clone(), purpose.clone(), &agreement.linkage, now).as_ref() == Some(&key.domain)
            };
            let wanted = agreement.filter(|_| lock(&slot.used).elapsed() < IDLE).filter(current);
            let Some(agreement) = wanted else { return false };
            let half = agreement.max_consent_age.duration() / 2;
            if slot.held().is_some_and(|held| held.asked.elapsed() > half) {
                due.push((key.clone(), Arc::clone(slot), agreement));
            }
            true
        });
        join_all(due.into_iter().map(|(key, slot, agreement)| self.refresh(key, slot, (agreement, signatures)))).await;
    }

    async fn refresh(&self, key: Key, slot: Arc<Slot>, agreed: Agreed<'_>) {
        // Somebody asks already.
        let Ok(_turn) = slot.turn.try_lock() else { return };
        if let Err(refusal) = self.bring_up(&slot, &key, agreed).await {
            let (department, cause) = (key.department.as_str(), refusal.operator.as_deref().unwrap_or(&refusal.message));
            tracing::warn!(department, cause, "what a department recorded could not be brought up to date");
        }
    }
}

impl Lists {
    /// Lists that take at most so many bytes in all.
    pub(crate) fn new(most: usize) -> Self {
        Self { slots: Mutex::default(), memory: Memory::new(most) }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        lock(&self.slots)
    }

    fn room(&self) -> Room {
        self.memory.room()
    }

    /// Takes more room for a list of `department`, if need be that of lists which nobody uses.
    fn extend(&self, department: &Name, room: &mut Room, bytes: usize) -> Result<(), Refusal> {
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

    fn slot(&self, key: &Key) -> Arc<Slot> {
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

    fn held(&self) -> Option<Held> {
        lock(&self.held).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the query does not read, and cannot do without. What a node did wrong, or the log could not hold, stays what it is.
fn outdated(department: &Name, age: ConsentAge, cause: Refusal) -> Refusal {
    if !matches!(cause.code, Code::NodeUnavailable | Code::NodeTimeout | Code::NodeRefused) {
        return cause;
    }
    let message = format!(
        "withdrawals and objections recorded by department '{department}' reach this data, and those known here are more than {age} old: {}",
        cause.message
    );
    let advice = cause.advice.unwrap_or_else(|| "try again later; `concordat departments` shows which nodes answer".into());
    let refusal = Refusal::new(Code::Outdated, message).department(department).advice(advice);
    cause.operator.into_iter().fold(refusal, Refusal::operator)
}

#[cfg(test)]
mod tests {
    use concordat_proto::reach::Changes;

    use super::*;

    #[test]
    fn of_each_department_the_earlier_version_is_stated() {
        let at = |generation, version| Standing { generation, version };
        let source = |department: &str, standing: Standing| Source {
            department: department.into(),
            dataset: "d".into(),
            consent_version: standing.version,
            consent_generation: standing.generation,
            freshness: 1,
            counts: None,
            rows: 1,
            delivered: 1,
            subjects: 1,
            partners: None,
            denominators: None,
        };
        let sources = [source("dfe", at(0, 9)), source("dwp", at(1, 2))];
        let lists = [Applied::new("dfe", at(0, 8), None), Applied::new("dwp", at(1, 3), None), Applied::new("dhsc", at(0, 4), Some(77))];
        let together = Applied::together(&sources, &lists);
        let stated: Vec<_> = together.iter().map(|a| (a.department.as_str(), a.standing(), a.as_of)).collect();
        assert_eq!(stated, [("dfe", at(0, 8), None), ("dhsc", at(0, 4), Some(77)), ("dwp", at(1, 2), None)]);
        let json = serde_json::to_value(&together).unwrap();
        assert_eq!(json[0], serde_json::json!({ "department": "dfe", "consent_version": 8 }));
        assert_eq!(json[1]["as_of"], 77);
    }

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

    #[test]
    fn only_what_could_not_be_had_is_outdated() {
        let department = Name::parse("dhsc").unwrap();
        let refused = |code| outdated(&department, ConsentAge::default(), Refusal::new(code, "why").department("dhsc").operator("more"));
        for code in [Code::NodeUnavailable, Code::NodeTimeout, Code::NodeRefused] {
            let refusal = refused(code);
            assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Outdated, Some("dhsc")));
            assert!(refusal.message.contains("more than 15 minutes old: why") && refusal.operator.is_some(), "{refusal}");
        }
        assert_eq!(refused(Code::NodeFaulty).code, Code::NodeFaulty);
        assert_eq!(refused(Code::LogUnavailable).code, Code::LogUnavailable);
    }
}
