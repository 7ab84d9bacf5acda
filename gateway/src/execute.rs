//! Running a plan: orders placed at every node first, streams joined under a memory limit and a deadline, receipts collected
//! before anything counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use concordat_policy::{Code, Permit, Refusal};
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt as _;

use crate::Gateway;
use crate::fetch::{Errand, Source};
use crate::plan::{Plan, ReleaseSpec, refusal_of};
use crate::record::Opened;

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
    pub(crate) leaves_out: bool,
    pub(crate) undecided: bool,
    pub(crate) mission: String,
    pub(crate) purpose: String,
    pub(crate) agreements: BTreeSet<String>,
    pub(crate) sources: Vec<Source>,
    /// `dataset.column: use` for each use made, for the log.
    pub(crate) uses: Vec<String>,
    _only_here: (),
}

/// Runs `plan`.
///
/// # Errors
/// [`Code::LimitExceeded`] beyond memory, deadline or answer size; node refusals that name the department. Never a part.
#[tracing::instrument(name = "execute", skip_all)]
pub(crate) async fn execute(gateway: &Gateway, opened: &Opened, permit: &Permit, plan: Plan) -> Result<Protected, Refusal> {
    let deadline = gateway.limits.deadline;
    tokio::time::timeout(deadline, run(gateway, opened, permit, plan)).await.unwrap_or_else(|_| {
        Err(Refusal::new(Code::LimitExceeded, format!("the query took longer than {} s and was stopped", deadline.as_secs()))
            .advice("narrow it, or ask the operator for a longer deadline"))
    })
}

async fn run(gateway: &Gateway, opened: &Opened, permit: &Permit, plan: Plan) -> Result<Protected, Refusal> {
    let errand = Errand { query_id: &opened.query_id, caller: &opened.caller, agreements: &gateway.estate.agreements };
    let specs = gateway.fetcher.place(plan.physical(), &errand).await?;
    let mut stream = execute_stream(plan.physical().clone(), plan.task()).map_err(refusal_of)?;
    let (mut batches, mut size) = (Vec::new(), 0usize);
    while let Some(batch) = stream.try_next().await.map_err(refusal_of)? {
        size += batch.get_array_memory_size();
        if size > gateway.limits.answer {
            return Err(Refusal::new(Code::LimitExceeded, format!("the answer is larger than {} MiB", gateway.limits.answer >> 20))
                .advice("ask for fewer rows or columns"));
        }
        batches.push(batch);
    }
    drop(stream);
    let sources = receipts(&specs).await?;
    Ok(Protected {
        batches,
        columns: plan.columns().clone(),
        schema: plan.answer_schema(),
        masked: plan.masked(),
        minimum: plan.minimum(),
        leaves_out: plan.leaves_out(),
        undecided: plan.undecided(),
        mission: permit.mission().to_string(),
        purpose: permit.purpose().to_string(),
        agreements: specs.iter().map(|s| s.permit.agreement.to_string()).collect(),
        sources,
        uses: plan.uses().iter().map(|(dataset, column, used)| format!("{dataset}.{column}: {used}")).collect(),
        _only_here: (),
    })
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
