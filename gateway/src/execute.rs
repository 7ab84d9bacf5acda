//! Running a plan: orders placed at every node first, streams joined under a memory limit and a deadline, receipts collected
//! before anything counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::Utc;
use concordat_policy::{Agreement, Code, Decision, Name, Permit, Refusal};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt as _;
use futures::future::{join, try_join_all};

use crate::Gateway;
use crate::delivery::Held;
use crate::denominators::counts;
use crate::estate::{Estate, Texts};
use crate::fetch::{Applied, Awaited, Errand, Source, leaves};
use crate::limits::{Allowance, Key, QueryMemory};
use crate::plan::{Plan, ReleaseSpec, refusal_of};
use crate::record::{Opened, unavailable};
use crate::terms::Stop;

/// A complete result: every source signed a receipt, every number passed `Protect` or is permitted as output. Only
/// [`execute`] makes one.
#[derive(Debug)]
pub(crate) struct Protected {
    /// The statement's columns, then the mask if there is one.
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) columns: SchemaRef,
    pub(crate) schema: SchemaRef,
    pub(crate) masked: bool,
    pub(crate) minimum: u32,
    pub(crate) mission: String,
    pub(crate) purpose: String,
    pub(crate) agreements: BTreeSet<String>,
    /// Their texts.
    pub(crate) texts: Texts,
    pub(crate) sources: Vec<Source>,
    /// On which versions of the departments' consent ledgers it rests.
    pub(crate) consent: Vec<Applied>,
    /// What was permitted, for the log.
    pub(crate) decision: Decision,
    /// Its place and its memory.
    pub(crate) held: Held,
    _only_here: (),
}

/// Runs `plan`, under the limits of the agreements that it uses, and while these bind. Rows that departments released are charged
/// however it ends.
///
/// # Errors
/// [`Code::Denied`] when an agreement left meanwhile; [`Code::Outdated`] where consent records or data are older than they may be;
/// [`Code::Unwitnessed`] where too few witnesses have seen the log for too long; [`Code::LimitExceeded`] beyond memory, deadline or answer size; node refusals that name the department. Never a part.
#[tracing::instrument(name = "execute", skip_all)]
pub(crate) async fn execute(
    gateway: &Gateway,
    opened: &Opened,
    permit: &Permit,
    plan: Plan,
    allowance: Allowance,
    stop: &Stop,
) -> Result<Protected, Refusal> {
    let (estate, texts) = (gateway.estate.now(), Texts::of(&plan)?);
    estate.still(&texts, chrono::Utc::now())?;
    // It may have been replaced since the query was opened.
    gateway.estate.replaced.write(&gateway.log).await.map_err(unavailable)?;
    let agreements = agreements_of(&estate, &plan)?;
    gateway.witnessed.permits(&agreements)?;
    let under = gateway.limits.under(&agreements, true)?;
    if let Some(out) = plan.rows_out() {
        gateway.limits.rows_out_left(&out.quotas)?;
    }
    let specs = leaves(plan.physical())?;
    let Allowance { mut place, memory, answer } = allowance;
    let explain = |refusal| answer.explain(memory.explain(refusal));
    let awaited = Awaited::default();
    let errand = Errand {
        query_id: &opened.query_id,
        opened_by: opened.entry(),
        caller: &opened.caller,
        started: Instant::now(),
        awaited: &awaited,
        agreements: &estate.agreements,
        signatures: &estate.signatures,
        now: Utc::now(),
    };
    let run = run(gateway, &errand, &plan, answer.clone());
    let ran = stop.unless(gateway.estate.while_agreed(&texts, run)).await;
    let ran = ran.map_err(|refusal| explain(if stop.is_late() { awaiting(refusal, &specs, &awaited) } else { refusal }));
    // Side by side: each waits for a disk.
    let (caller, released) = (Key::of(&opened.caller), released(&specs));
    let (charged, noted) = join(gateway.limits.charge(&caller, &released), noted(&specs)).await;
    charged?;
    let Ran { batches, mut sources, consent, held } = ran?;
    noted?;
    if let Some(out) = plan.rows_out() {
        gateway.limits.put_out(&out.quotas, batches.iter().map(RecordBatch::num_rows).sum()).await?;
    }
    denominate(&mut sources, &specs, permit, &plan);
    drop(under);
    place.executed();
    Ok(Protected {
        batches,
        columns: plan.columns().clone(),
        schema: plan.answer_schema(),
        masked: plan.masked(),
        minimum: plan.minimum(),
        mission: permit.mission().to_string(),
        purpose: permit.purpose().to_string(),
        agreements: specs.iter().map(|s| s.permit.agreement.to_string()).collect(),
        texts,
        sources,
        consent,
        decision: plan.decision(permit),
        held: Box::new((place, held)),
        _only_here: (),
    })
}

/// Says of each source how many subjects stand behind it.
fn denominate(sources: &mut [Source], specs: &[Arc<ReleaseSpec>], permit: &Permit, plan: &Plan) {
    let (matched, grain) = (plan.matched(), plan.grain(permit));
    let through_link = specs.iter().any(|spec| spec.permit.dataset.linked.is_some());
    for source in sources {
        let mut read = specs.iter().filter(|spec| source.is_of(spec.dataset()));
        if let (Some(spec), alone) = (read.next(), read.next().is_none()) {
            source.partners = matched.get(spec.dataset()).filter(|_| alone).copied().flatten();
            source.counts = Some(counts(source, &spec.permit, grain.as_ref().copied().map_err(String::as_str), through_link));
        }
    }
}

/// The agreements that a plan uses.
pub(crate) fn agreements_of<'e>(estate: &'e Estate, plan: &Plan) -> Result<Vec<&'e Agreement>, Refusal> {
    let specs = leaves(plan.physical())?;
    let used: BTreeSet<_> = specs.iter().map(|s| &s.permit.agreement).collect();
    Ok(estate.agreements.iter().filter(|a| used.contains(&a.id)).collect())
}

/// What a run leaves.
struct Ran {
    batches: Vec<RecordBatch>,
    sources: Vec<Source>,
    consent: Vec<Applied>,
    /// The answer's memory.
    held: MemoryReservation,
}

async fn run(gateway: &Gateway, errand: &Errand<'_>, plan: &Plan, memory: Arc<QueryMemory>) -> Result<Ran, Refusal> {
    let (specs, lists) = gateway.fetcher.place(plan.physical(), errand).await?;
    let most = gateway.limits.settings.answer_mib << 20;
    let (batches, held) = gateway.workers.run(drain(plan.physical().clone(), plan.task(), memory, most)).await??;
    let sources = receipts(&specs).await?;
    let consent = Applied::together(&sources, &lists);
    errand.caller.at_least().check(consent.iter().map(|applied| (applied.department.as_str(), applied.standing())))?;
    Ok(Ran { batches, sources, consent, held })
}

/// Runs the plan to its end. Its rows are held in memory that is counted until the answer has been read.
async fn drain(
    physical: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    memory: Arc<QueryMemory>,
    most: usize,
) -> Result<(Vec<RecordBatch>, MemoryReservation), Refusal> {
    let held = memory.reservation("answer");
    let mut stream = execute_stream(physical, task).map_err(refusal_of)?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await.map_err(refusal_of)? {
        let size = batch.get_array_memory_size();
        if held.size().saturating_add(size) > most {
            return Err(Refusal::new(Code::LimitExceeded, format!("the answer is larger than {} MiB, the gateway's limit", most >> 20))
                .advice("ask for fewer rows or columns"));
        }
        held.try_grow(size).map_err(refusal_of)?;
        batches.push(batch);
    }
    Ok((batches, held))
}

/// Rows that departments have released and receipted so far, by agreement.
fn released(specs: &[Arc<ReleaseSpec>]) -> BTreeMap<String, u64> {
    let mut released = BTreeMap::new();
    for spec in specs {
        let rows: &mut u64 = released.entry(spec.permit.agreement.to_string()).or_default();
        *rows = rows.saturating_add(spec.placed().map_or(0, |placed| placed.released()));
    }
    released
}

/// Names the departments for whose releases, or lists of withdrawals, a query that took too long was still waiting.
fn awaiting(refusal: Refusal, specs: &[Arc<ReleaseSpec>], lists: &Awaited) -> Refusal {
    let lists = lists.departments();
    let releases: BTreeSet<&Name> = specs.iter().filter_map(|spec| spec.placed()?.awaited()).collect();
    let (awaited, what) = if lists.is_empty() { (releases, "releases") } else { (lists.iter().collect(), "lists of withdrawals") };
    if awaited.is_empty() || refusal.code != Code::LimitExceeded || refusal.department.is_some() {
        return refusal;
    }
    let names: Vec<String> = awaited.iter().map(|department| format!("'{department}'")).collect();
    let message = format!("{}; {what} of {} had not come to their end", refusal.message, names.join(", "));
    let department = (names.len() == 1).then(|| awaited.first().map(ToString::to_string)).flatten();
    Refusal { message, department, ..refusal }
}

/// Notes what the receipts oblige to of every release of which all have come.
async fn noted(specs: &[Arc<ReleaseSpec>]) -> Result<(), Refusal> {
    try_join_all(specs.iter().filter_map(|spec| spec.placed()).map(|placed| placed.note())).await.map(|_| ())
}

/// Waits for every release's receipt.
async fn receipts(specs: &[Arc<ReleaseSpec>]) -> Result<Vec<Source>, Refusal> {
    let mut sources = Vec::new();
    for spec in specs {
        let placed = spec.placed().ok_or_else(|| Refusal::internal("a release without an order"))?;
        sources.extend(placed.settle().await?);
    }
    Ok(sources)
}
