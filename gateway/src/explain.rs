//! What would become of a statement: permitted, with what each node would be asked for, or denied, with the smallest cause and the
//! nearest query that would be permitted.
//!
//! There is no second judgement here. A statement is judged by [`judged`], as one that is to be answered; so is every proposal, as
//! it stands, before it is shown. What a caller may not know of is in no catalog that a judgement resolves names in, so that a
//! proposal cannot tell of it either.

#[cfg(test)]
mod tests;
mod told;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use concordat_policy::{Code, Decision, Name, Permit, Refusal};
use concordat_proto::{CONTRACT_VERSION, v1};
use tokio_util::sync::CancellationToken;

use crate::estate::Estate;
use crate::fetch::{leaves, orderable, request};
use crate::plan::{Edit, Engine, Plan, Statement, edits};
use crate::workers::Workers;
pub(crate) use told::told;

/// How many edits are made on top of one another.
const MAX_STEPS: usize = 4;
/// How many statements are judged in search of a proposal.
const MAX_JUDGED: usize = 24;
/// How many other purposes and missions are tried.
const MAX_OTHERS: usize = 8;

/// What would become of a statement.
pub(crate) enum Explanation {
    Permitted(Permitted),
    Denied(Refusal, Option<Proposal>),
}

/// A statement that would be answered.
pub(crate) struct Permitted {
    pub(crate) permit: Permit,
    pub(crate) decision: Decision,
    /// What each node would get, and whose node it is.
    pub(crate) requests: Vec<(Name, v1::ReleaseRequest)>,
}

/// A query that is permitted, where another is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) sql: String,
    pub(crate) purpose: Name,
    pub(crate) mission: Name,
    /// What is changed, in words.
    pub(crate) change: String,
}

/// Judges a statement under a permit: plans it, and checks that the orders it needs could be placed. The one judgement there is.
///
/// # Errors
/// As [`Plan::new`] and [`orderable`].
pub(crate) async fn judged(permit: &Permit, statement: &Statement, estate: &Estate, engine: Engine) -> Result<Plan, Refusal> {
    let plan = Plan::new(permit, statement, &estate.views, engine).await?;
    orderable(&leaves(plan.physical())?, &estate.agreements)?;
    Ok(plan)
}

impl Permitted {
    /// What there is to say of a plan. `query_id` is the explanation's.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(crate) fn of(permit: Permit, plan: &Plan, query_id: &str) -> Result<Self, Refusal> {
        let (mut requests, now) = (Vec::new(), Utc::now());
        for spec in leaves(plan.physical())? {
            requests.push((spec.dataset().department.clone(), request(&spec, query_id, CONTRACT_VERSION, now)?));
        }
        Ok(Self { decision: plan.decision(&permit), permit, requests })
    }
}

/// Whether a refusal is a decision about what was asked; others tell of limits and faults, and explain nothing.
pub(crate) fn decides(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::Denied | Code::Invalid | Code::Disclosure)
}

/// Where the nearest permitted query is looked for.
pub(crate) struct Search {
    pub(crate) estate: Arc<Estate>,
    /// The declared purpose.
    pub(crate) purpose: Name,
    /// The request's permit, if it has one.
    pub(crate) permit: Option<Permit>,
    /// What the caller may ask under instead: other purposes, other missions.
    pub(crate) others: Vec<Permit>,
    pub(crate) engine: Engine,
    /// When it is given up, and whether somebody still waits for it.
    pub(crate) until: Instant,
    pub(crate) wanted: CancellationToken,
}

impl Search {
    /// Searches on the threads of queries, while somebody waits. Planning cannot be stopped from outside: that nobody waits any more is
    /// noticed before the next one.
    ///
    /// # Errors
    /// As [`Workers::search`].
    pub(crate) async fn on(self, workers: &Workers, sql: String, refusal: Refusal) -> Result<Option<Proposal>, Refusal> {
        let _waits = self.wanted.clone().drop_guard();
        workers.search(async move { self.nearest(&sql, &refusal).await }).await
    }

    /// The nearest query that is permitted where `sql` met `refusal`: with a small edit, else under another purpose.
    pub(crate) async fn nearest(&self, sql: &str, refusal: &Refusal) -> Option<Proposal> {
        if let Some(permit) = &self.permit
            && let Some(proposal) = self.edited(permit, sql, refusal).await
        {
            return Some(proposal);
        }
        if self.permit.is_some() && refusal.code != Code::Denied {
            return None;
        }
        for permit in &self.others {
            if self.late() {
                return None;
            }
            if self.judge(permit, sql).await.is_ok() {
                let change = if *permit.purpose() == self.purpose {
                    format!("name the mission '{}'", permit.mission())
                } else {
                    format!("ask for the purpose '{}', if that is what it is for", permit.purpose())
                };
                return Some(proposal(permit, sql.to_owned(), change));
            }
        }
        None
    }

    /// Edits step by step: where none of a step's edits is permitted, the first that got past its refusal is edited further.
    async fn edited(&self, permit: &Permit, sql: &str, refusal: &Refusal) -> Option<Proposal> {
        let (mut sql, mut refusal, mut changes) = (sql.to_owned(), refusal.clone(), Vec::new());
        let mut budget = MAX_JUDGED;
        for _ in 0..MAX_STEPS {
            let mut next: Option<(Edit, Refusal)> = None;
            for edit in edits(&sql, &refusal, permit) {
                budget = budget.checked_sub(1).filter(|_| !self.late())?;
                let outcome = self.judge(permit, &edit.sql).await;
                match outcome {
                    Ok(()) => {
                        changes.push(edit.change);
                        return Some(proposal(permit, edit.sql, changes.join("; ")));
                    }
                    Err(other) if next.is_none() && other.cause().is_some_and(|cause| Some(cause) != refusal.cause()) => {
                        next = Some((edit, other));
                    }
                    Err(_) => {}
                }
            }
            let (edit, other) = next?;
            changes.push(edit.change);
            (sql, refusal) = (edit.sql, other);
        }
        None
    }

    async fn judge(&self, permit: &Permit, sql: &str) -> Result<(), Refusal> {
        judged(permit, &sql.into(), &self.estate, self.engine.clone()).await.map(drop)
    }

    fn late(&self) -> bool {
        Instant::now() >= self.until || self.wanted.is_cancelled()
    }
}

fn proposal(permit: &Permit, sql: String, change: String) -> Proposal {
    Proposal { sql, purpose: permit.purpose().clone(), mission: permit.mission().clone(), change }
}

/// The permits among `permits` that differ from `own` and from one another in mission or agreements; those of its mission first.
pub(crate) fn differing(own: Option<&Permit>, permits: impl IntoIterator<Item = Permit>) -> Vec<Permit> {
    let what = |permit: &Permit| (permit.mission().clone(), permit.datasets().map(|d| d.agreement.clone()).collect::<BTreeSet<_>>());
    let mut seen: BTreeSet<_> = own.into_iter().map(what).collect();
    let mut others: Vec<Permit> = permits.into_iter().filter(|permit| seen.insert(what(permit))).collect();
    others.sort_by_key(|permit| own.is_none_or(|own| own.mission() != permit.mission()));
    others.truncate(MAX_OTHERS);
    others
}
