//! Plans that were made to describe an answer, each for the one query of the same caller that mostly follows: clients ask what an answer
//! looks like before they fetch it, and planning is half of a small query.
//!
//! Everything that planning reads is compared: who asks, the statement with its values, the permit with every obligation, and that it is
//! the same estate. Whether the caller may ask is decided anew each time, before anybody looks here. A plan is taken out when it is
//! used, so none runs twice, and none is another caller's: how soon an answer comes tells nothing of what others asked.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use concordat_policy::Permit;

use crate::limits::Key;
use crate::plan::{Plan, Statement};

/// The most of all callers, and of one.
const MOST: usize = 64;
const MOST_OF_ONE: usize = 4;
/// For how long one is kept.
const AGE: Duration = Duration::from_secs(30);

/// The plans, the oldest first.
#[derive(Default)]
pub(crate) struct Planned(Mutex<VecDeque<Kept>>);

/// What a plan was made from.
#[derive(PartialEq)]
pub(crate) struct Question {
    caller: Key,
    statement: Statement,
    permit: Permit,
    estate: Same,
}

/// An estate that was not replaced since.
struct Same(Arc<dyn Any + Send + Sync>);

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

struct Kept {
    question: Question,
    plan: Plan,
    since: Instant,
}

impl Question {
    pub(crate) fn new(caller: Key, statement: &Statement, permit: &Permit, estate: Arc<dyn Any + Send + Sync>) -> Self {
        Self { caller, statement: statement.clone(), permit: permit.clone(), estate: Same(estate) }
    }
}

impl Planned {
    /// Keeps a plan; of too many, the oldest goes.
    pub(crate) fn keep(&self, question: Question, plan: Plan) {
        let mut kept = self.lock();
        let own = |kept: &VecDeque<Kept>| kept.iter().filter(|one| one.question.caller == question.caller).count();
        if own(&kept) >= MOST_OF_ONE
            && let Some(oldest) = kept.iter().position(|one| one.question.caller == question.caller)
        {
            kept.remove(oldest);
        } else if kept.len() >= MOST {
            kept.pop_front();
        }
        kept.push_back(Kept { question, plan, since: Instant::now() });
    }

    /// Takes the plan of a question.
    pub(crate) fn take(&self, question: &Question) -> Option<Plan> {
        let mut kept = self.lock();
        let found = kept.iter().position(|one| one.question == *question)?;
        kept.remove(found).map(|one| one.plan)
    }

    /// Forgets what nobody came for.
    pub(crate) fn forget(&self) {
        self.lock().retain(|one| one.since.elapsed() < AGE);
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

    #[tokio::test]
    async fn a_plan_is_taken_once_and_only_for_the_very_question_that_it_was_made_for() {
        let (permit, estate) = (permitted_by(&agreed(AGREEMENT)), Arc::new(0_u8));
        let question =
            |who: &str, sql: &str, permit: &Permit, estate: &Arc<u8>| Question::new(key(who), &sql.into(), permit, estate.clone());
        let plan = async || planned_under(permit.clone(), SQL).await.unwrap();
        let planned = Planned::default();
        planned.keep(question("a", SQL, &permit, &estate), plan().await);
        let other = permitted_by(&agreed(&AGREEMENT.replacen("score", "scores", 1)));
        for (what, asked) in [
            ("another's", question("b", SQL, &permit, &estate)),
            ("another statement", question("a", "SELECT count(*) AS n FROM a.people", &permit, &estate)),
            ("another permit", question("a", SQL, &other, &estate)),
            ("another estate", question("a", SQL, &permit, &Arc::new(0))),
        ] {
            assert!(planned.take(&asked).is_none(), "{what}");
        }
        let asked = question("a", SQL, &permit, &estate);
        assert!(planned.take(&asked).is_some() && planned.take(&asked).is_none(), "once");
        let valued = |value| Statement { sql: SQL.into(), parameters: vec![datafusion::common::ScalarValue::Int64(Some(value))] };
        let valued = |value| Question::new(key("a"), &valued(value), &permit, estate.clone());
        planned.keep(valued(1), plan().await);
        assert!(planned.take(&valued(2)).is_none() && planned.take(&valued(1)).is_some(), "values are part of the question");
    }

    #[tokio::test]
    async fn of_too_many_the_oldest_of_the_same_caller_goes() {
        let (permit, estate) = (permitted_by(&agreed(AGREEMENT)), Arc::new(0_u8));
        let question = |who: &str, limit: usize| {
            let sql = format!("{SQL} LIMIT {limit}");
            Question::new(key(who), &sql.as_str().into(), &permit, estate.clone())
        };
        let planned = Planned::default();
        planned.keep(question("b", 0), planned_under(permit.clone(), SQL).await.unwrap());
        for limit in 0..=MOST_OF_ONE {
            planned.keep(question("a", limit), planned_under(permit.clone(), SQL).await.unwrap());
        }
        assert!(planned.take(&question("a", 0)).is_none(), "the first of its caller");
        assert!(planned.take(&question("a", 1)).is_some() && planned.take(&question("b", 0)).is_some());
    }
}
