//! Whose choices, recorded at one department, reach the others' data: a list for each department, linkage domain, agreement and lawful
//! basis, in memory only, brought up to date by what changed since the ledger's version that it states.
//!
//! ```text
//! a department that the query reads, or of which the caller wants a version  →  asked after the query started
//! any other party of the agreement                                           →  asked at most `max_consent_age` ago, else asked now
//! any other department of the agreement's mission ([`mission`])              →  where its ledger stands, as old at most, else asked now
//! ```
//!
//! What cannot be had refuses the query. A list is used with its node's signed statement only, and only for the data of other
//! departments: what a department recorded for its own data its node has applied. A list and the same department's release are each of
//! the moment at which they were made; both are after the query's start, and the answer states the earlier. No node learns of another's
//! list, nor how many rows it removed. A new epoch has a key of its own here; of a new generation, or under new rules, the node sends the
//! whole list. Where a linkage key was brought to somebody, it may be another: the domain's lists are asked for anew, as a whole.
//! All lists together take bounded memory ([`room`]): the idlest make room, and where none does the query is refused.

mod applied;
mod list;
mod lists;
mod mission;
mod room;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use concordat_policy::agreement::ConsentAge;
use concordat_policy::{Agreement, Code, LinkageDomain, Name, Refusal, Signatures};
use concordat_proto::v1;
use futures::future::{join_all, try_join_all};

pub(crate) use self::applied::Applied;
pub(crate) use self::list::{List, without};
pub(crate) use self::lists::Lists;
use self::lists::{Held, Key, Need, Slot, lock};
use super::{Errand, Fetcher, agreement, domain};
use crate::plan::ReleaseSpec;

/// After what time a list is forgotten that no query has asked for.
const IDLE: Duration = Duration::from_secs(3_600);

/// An agreement, and what tells which keys are its parties' now.
type Agreed<'a> = (&'a Agreement, &'a Signatures);

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

impl Fetcher {
    /// Gives every release of a query the lists of those who are to be removed from it.
    ///
    /// # Errors
    /// [`Code::Outdated`] where what another party recorded, or is known of another department of the mission, is older than the agreement
    /// allows; refusals that name the department.
    pub(super) async fn withhold(&self, specs: &[Arc<ReleaseSpec>], errand: &Errand<'_>) -> Result<Vec<Applied>, Refusal> {
        let read: BTreeSet<&Name> = specs.iter().map(|spec| &spec.dataset().department).collect();
        let mut wanted: HashMap<Key, (&Agreement, Need)> = HashMap::new();
        let (mut of_specs, mut beside) = (Vec::new(), BTreeMap::new());
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
            if !keys.is_empty() {
                for department in mission::others(errand.agreements, errand.signatures, agreement, errand.now) {
                    let age = beside.entry(department).or_insert(agreement.max_consent_age);
                    *age = (*age).min(agreement.max_consent_age);
                }
            }
            of_specs.push((spec, keys));
        }
        beside.retain(|department, _| !read.contains(department));
        try_join_all(beside.into_iter().map(|(department, age)| self.heard(department, age, errand))).await?;
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

    /// That where a department's ledger stands is known from long enough ago.
    async fn heard(&self, department: &Name, age: ConsentAge, errand: &Errand<'_>) -> Result<(), Refusal> {
        errand.awaited.begin(department);
        let heard = self.nodes.heard(department, age.duration()).await;
        errand.awaited.end(department);
        heard.map_err(|refusal| unheard(department, age, refusal))
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
                if let Err(refusal) = self.lists.extend(&key.department, &mut told.room, before.list.bytes_after(&told.changes)) {
                    // Its own room is given back, so that the next query can have it whole.
                    *lock(&slot.held) = None;
                    return Err(refusal);
                }
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

fn outdated(department: &Name, age: ConsentAge, cause: Refusal) -> Refusal {
    let what = format!("withdrawals and objections recorded by department '{department}' reach this data, and those known here are");
    too_old(department, &what, age, cause)
}

fn unheard(department: &Name, age: ConsentAge, cause: Refusal) -> Refusal {
    let what = format!("department '{department}' belongs to this query's mission, and what is known here of its consent ledger is");
    too_old(department, &what, age, cause)
}

/// What the query does not read, and cannot do without. What a node did wrong, or the log could not hold, stays what it is.
fn too_old(department: &Name, what: &str, age: ConsentAge, cause: Refusal) -> Refusal {
    if !matches!(cause.code, Code::NodeUnavailable | Code::NodeTimeout | Code::NodeRefused) {
        return cause;
    }
    let message = format!("{what} more than {age} old: {}", cause.message);
    let advice = cause.advice.unwrap_or_else(|| "try again later; `concordat departments` shows which nodes answer".into());
    let refusal = Refusal::new(Code::Outdated, message).department(department).advice(advice);
    cause.operator.into_iter().fold(refusal, Refusal::operator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_not_be_had_is_outdated() {
        let department = Name::parse("dhsc").unwrap();
        let refused = |code| outdated(&department, ConsentAge::default(), Refusal::new(code, "why").department("dhsc").operator("more"));
        for code in [Code::NodeUnavailable, Code::NodeTimeout, Code::NodeRefused] {
            let refusal = refused(code);
            assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Outdated, Some("dhsc")));
            assert!(refusal.message.contains("more than 15 minutes old: why") && refusal.operator.is_some(), "{refusal}");
        }
        let refusal = unheard(&department, ConsentAge::default(), Refusal::new(Code::NodeTimeout, "why"));
        assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Outdated, Some("dhsc")));
        assert!(refusal.message.contains("'dhsc' belongs to this query's mission") && refusal.message.contains("more than 15 minutes old"));
        assert_eq!(refused(Code::NodeFaulty).code, Code::NodeFaulty);
        assert_eq!(refused(Code::LogUnavailable).code, Code::LogUnavailable);
    }
}
