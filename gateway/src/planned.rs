//! What was planned for a caller, for when the same question comes again: planning is half of a small query. Clients ask what an answer
//! looks like before they fetch it, and dashboards ask the same every minute.
//!
//! Everything that planning reads is compared: who asks, the statement with its values, the permit with every obligation, and that it is
//! the same estate. Whether the caller may ask is decided anew each time, before anybody looks here. A plan that was made to describe an
//! answer is taken out when it is used, so none runs twice; other plans are made anew of what was judged and optimised before, and share
//! nothing of a run. None is another caller's: how soon an answer comes tells nothing of what others asked, but that they asked many things.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use concordat_policy::Permit;

use crate::limits::Key;
use crate::plan::{Made, Plan, Statement};

/// The most questions of all callers, and of one.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 8;
/// For how long a question is kept in mind, and for how long a plan waits for whoever had its answer described.
const AGE: Duration = Duration::from_secs(600);
const READY: Duration = Duration::from_secs(30);

/// The questions, the oldest first.
#[derive(Default)]
pub(crate) struct Planned(Mutex<VecDeque<Kept>>);

/// What a plan was made from.
#[derive(Clone, PartialEq)]
pub(crate) struct Question {
    caller: Key,
    statement: Statement,
    permit: Permit,
    estate: Same,
}

/// An estate that was not replaced since.
#[derive(Clone)]
struct Same(Arc<dyn Any + Send + Sync>);

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The views and the datasets that a statement names.
pub(crate) type Names = (Vec<String>, Vec<String>);

struct Kept {
    question: Question,
    names: Names,
    made: Arc<Made>,
    ready: Option<(Plan, Instant)>,
    since: Instant,
}

/// What there is for a question.
pub(crate) struct Found {
    pub(crate) names: Names,
    pub(crate) plan: FoundPlan,
}

/// A plan, or what one is made of.
pub(crate) enum FoundPlan {
    Ready(Box<Plan>),
    Made(Arc<Made>),
}

impl Question {
    pub(crate) fn new(caller: Key, statement: &Statement, permit: &Permit, estate: Arc<dyn Any + Send + Sync>) -> Self {
        Self { caller, statement: statement.clone(), permit: permit.clone(), estate: Same(estate) }
    }
}

impl Planned {
    /// Keeps a question in mind with what was made of it, if that is small; of too many, the oldest goes, and those of other estates.
    pub(crate) fn keep(&self, question: Question, names: Names, made: Arc<Made>) {
        if !made.is_small() {
            return;
        }
        let mut kept = self.lock();
        // Two that asked at the same time made the same.
        kept.retain(|one| one.question.estate == question.estate && one.question != question);
        let own = |kept: &VecDeque<Kept>| kept.iter().filter(|one| one.question.caller == question.caller).count();
        if own(&kept) >= MOST_OF_ONE
            && let Some(oldest) = kept.iter().position(|one| one.question.caller == question.caller)
        {
            kept.remove(oldest);
        } else if kept.len() >= MOST {
            kept.pop_front();
        }
        kept.push_back(Kept { question, names, made, ready: None, since: Instant::now() });
    }

    /// Has a plan wait for whoever had its answer described, if the question is still kept in mind.
    pub(crate) fn ready(&self, question: &Question, plan: Plan) {
        if let Some(kept) = self.lock().iter_mut().find(|one| one.question == *question) {
            kept.ready = Some((plan, Instant::now()));
        }
    }

    /// What there is for a question; a plan that waits for it is taken out.
    pub(crate) fn take(&self, question: &Question) -> Option<Found> {
        let mut kept = self.lock();
        let kept = kept.iter_mut().find(|one| one.question == *question)?;
        let ready = kept.ready.take().filter(|(_, since)| since.elapsed() < READY);
        let plan = ready.map_or_else(|| FoundPlan::Made(Arc::clone(&kept.made)), |(plan, _)| FoundPlan::Ready(Box::new(plan)));
        Some(Found { names: kept.names.clone(), plan })
    }

    /// Forgets what nobody came for.
    pub(crate) fn forget(&self) {
        for one in self.lock().iter_mut() {
            one.ready.take_if(|(_, since)| since.elapsed() >= READY);
        }
    }

    /// Without those that are too old.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.front().is_some_and(|one| one.since.elapsed() >= AGE) {
            kept.pop_front();
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{AGREEMENT, agreed, permitted_by, planned_under};

    fn key(subject: &str) -> Key {
        Key { issuer: "i".into(), organisation: "unit".into(), subject: subject.into() }
    }

    const SQL: &str = "SELECT region, count(*) AS n FROM a.people GROUP BY region";

    fn keep(planned: &Planned, question: &Question, plan: Plan) {
        planned.keep(question.clone(), Names::default(), plan.made());
        planned.ready(question, plan);
    }

    /// Whether a plan waited, whether there is what one is made of, or neither.
    fn taken(planned: &Planned, question: &Question) -> Option<bool> {
        planned.take(question).map(|found| matches!(found.plan, FoundPlan::Ready(_)))
    }

    #[tokio::test]
    async fn a_plan_is_taken_once_and_only_for_the_very_question_that_it_was_made_for() {
        let (permit, estate) = (permitted_by(&agreed(AGREEMENT)), Arc::new(0_u8));
        let question =
            |who: &str, sql: &str, permit: &Permit, estate: &Arc<u8>| Question::new(key(who), &sql.into(), permit, estate.clone());
        let plan = async || planned_under(permit.clone(), SQL).await.unwrap();
        let planned = Planned::default();
        let asked = question("a", SQL, &permit, &estate);
        keep(&planned, &asked, plan().await);
        let other = permitted_by(&agreed(&AGREEMENT.replacen("score", "scores", 1)));
        for (what, asked) in [
            ("another's", question("b", SQL, &permit, &estate)),
            ("another statement", question("a", "SELECT count(*) AS n FROM a.people", &permit, &estate)),
            ("another permit", question("a", SQL, &other, &estate)),
            ("another estate", question("a", SQL, &permit, &Arc::new(0))),
        ] {
            assert!(planned.take(&asked).is_none(), "{what}");
            planned.ready(&asked, plan().await);
            assert!(planned.take(&asked).is_none(), "{what}: what nobody keeps in mind has no plan that waits");
        }
        assert_eq!([taken(&planned, &asked), taken(&planned, &asked)], [Some(true), Some(false)], "once");
        let valued = |value| Statement { sql: SQL.into(), parameters: vec![datafusion::common::ScalarValue::Int64(Some(value))] };
        let valued = |value| Question::new(key("a"), &valued(value), &permit, estate.clone());
        keep(&planned, &valued(1), plan().await);
        assert!(taken(&planned, &valued(2)).is_none() && taken(&planned, &valued(1)) == Some(true), "values are part of the question");
        keep(&planned, &question("b", SQL, &permit, &Arc::new(0)), plan().await);
        assert!(taken(&planned, &asked).is_none(), "of an estate that was replaced");
    }

    #[tokio::test]
    async fn of_too_many_the_oldest_of_the_same_caller_goes() {
        let (permit, estate) = (permitted_by(&agreed(AGREEMENT)), Arc::new(0_u8));
        let question = |who: &str, limit: usize| {
            let sql = format!("{SQL} LIMIT {limit}");
            Question::new(key(who), &sql.as_str().into(), &permit, estate.clone())
        };
        let planned = Planned::default();
        let plan = planned_under(permit.clone(), SQL).await.unwrap();
        let keep = |question: Question| planned.keep(question, Names::default(), plan.made());
        keep(question("b", 0));
        for limit in 0..=MOST_OF_ONE {
            keep(question("a", limit));
            keep(question("a", limit));
        }
        assert!(planned.take(&question("a", 0)).is_none(), "the first of its caller");
        assert!(planned.take(&question("a", 1)).is_some() && planned.take(&question("b", 0)).is_some());
    }
}
