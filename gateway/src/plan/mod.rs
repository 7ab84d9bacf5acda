//! From SQL to a plan that may run: parsed, resolved against a catalog that holds only what the permit allows, walked,
//! protected, judged and turned into an execution plan. Nothing here touches the network.

mod by_subject;
mod conditions;
mod contributions;
mod covered;
mod domain;
mod edit;
mod expression;
mod failure;
mod grouped;
mod kinds;
mod link;
mod listed;
mod margins;
mod merge;
mod operator;
mod parameters;
mod predicate;
mod protect;
mod release_table;
mod repetition;
mod rewrite;
mod rows_out;
mod safe;
mod session;
mod shape;
mod sharing;
mod statement;
mod subquery;
mod substitution;
mod summarise;
mod tally;
#[cfg(test)]
pub(crate) mod tests;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use concordat_policy::authorize::DatasetPermit;
use concordat_policy::decision::Rule;
use concordat_policy::denominator::Grain;
use concordat_policy::{Code, ColumnUses, DatasetName, Decision, Permit, Refusal};
use concordat_protect::noise::Secret;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

use by_subject::BySubject;
pub(crate) use edit::{Edit, edits};
pub(crate) use failure::refusal_of;
use merge::MergeJoinExec;
pub(crate) use parameters::{MAX_PARAMETERS, examples, read_as, written_out};
pub(crate) use parameters::{bound, placeholders};
pub(crate) use release_table::{ReleaseExec, ReleaseSpec};
use rewrite::Rewriter;
pub(crate) use rows_out::{Quota, RowsOut};
pub(crate) use session::VIEWS;
use shape::{Safe, Shape, refuse};
pub(crate) use statement::{Statement, columns, computed, named, tables};
use tally::Tally;
pub(crate) use tally::{MOST_OTHERS, Matched};

use crate::estate::View;

/// The name of the last column of an answer in which something may be withheld: text, null where nothing is.
pub const WITHHELD: &str = "withheld";

/// With what a plan is made.
#[derive(Clone)]
pub(crate) struct Engine {
    /// Into how many ranges releases are split.
    pub(crate) partitions: u32,
    /// Its memory.
    pub(crate) runtime: Arc<RuntimeEnv>,
    /// From which noise is derived, where an agreement asks for it.
    pub(crate) noise: Secret,
}

/// What a statement was judged to be and made into, without anything of a run. Nothing in it is of a moment: no function that is offered
/// tells the time. Whether its orders can be placed is, and asked each time.
pub(crate) struct Made {
    /// Optimised.
    logical: LogicalPlan,
    state: SessionState,
    uses: ColumnUses,
    columns: SchemaRef,
    values: Vec<bool>,
    masked: bool,
    minimum: u32,
    magnitudes: bool,
    leaves_out: bool,
    undecided: bool,
    out: Option<RowsOut>,
}

impl Made {
    /// Whether it is small enough to be kept: some MB at most, by a generous estimate.
    pub(crate) fn is_small(&self) -> bool {
        substitution::all_parts(&self.logical) <= MOST_KEPT_PARTS
    }
}

/// The most parts of a plan that is kept.
const MOST_KEPT_PARTS: u64 = 4_000;

/// A plan that may run, once. It begins with [`Plan::new`], and only after the permit has judged every use it makes of a column.
pub struct Plan {
    made: Arc<Made>,
    physical: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    tallies: Vec<Arc<Tally>>,
}

impl Plan {
    /// Plans `question` under `permit`, with the outcome views of the permit's mission at hand.
    ///
    /// # Errors
    /// [`Code::Invalid`] for SQL that does not parse or is not offered; [`Code::Denied`] for datasets, columns or uses that are
    /// not permitted (or do not exist: the two look the same); [`Code::Disclosure`] where a subject's value could reach the
    /// output; [`Code::LimitExceeded`] for statements beyond the size limits.
    pub(crate) async fn new(permit: &Permit, question: &Statement, views: &[View], engine: Engine) -> Result<Self, Refusal> {
        let mut state = session::state(permit, engine.partitions).map_err(refusal_of)?;
        let plan = statement::resolve(&mut state, permit, question, views).await?;
        let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).map_err(failure::refusal_of_statement)?;
        let mut rewriter = Rewriter::new(permit, engine.noise, &plan).map_err(refusal_of)?;
        let (logical, masked) = protected(&mut rewriter, plan).map_err(refusal_of)?;
        permit.judge(&rewriter.uses)?;
        if let Some(refusal) = rewriter.unfit.or_else(|| rewriter.conditions.refusal()) {
            return Err(refusal);
        }
        substitution::bounded(&logical).map_err(refusal_of)?;
        let width = logical.schema().fields().len() - usize::from(masked);
        let columns = answer_columns(&logical, width);
        let mut values = values::values(&logical).map_err(refusal_of)?;
        values.truncate(width);
        let made = Made {
            logical: state.optimize(&logical).and_then(grouped::at_nodes).map_err(failure::refusal_of_statement)?,
            state,
            uses: rewriter.uses,
            columns,
            values,
            masked,
            minimum: rewriter.minimum,
            magnitudes: rewriter.magnitudes,
            leaves_out: rewriter.leaves_out,
            undecided: rewriter.undecided,
            out: rewriter.out,
        };
        Self::of(Arc::new(made), engine.runtime).await
    }

    /// A plan of what was made of a statement, to run in this memory.
    ///
    /// # Errors
    /// As [`Plan::new`], of a statement that fails by itself.
    pub(crate) async fn of(made: Arc<Made>, runtime: Arc<RuntimeEnv>) -> Result<Self, Refusal> {
        let (logical, tallies) = tally::anew(&made.logical).map_err(refusal_of)?;
        // No row is read here: what fails is the statement's own, a constant that cannot be computed for example.
        let physical = made.state.query_planner().create_physical_plan(&logical, &made.state).await;
        let physical = over_sorted(physical.map_err(failure::refusal_of_statement)?).map_err(refusal_of)?;
        let task = made.state.task_ctx();
        Ok(Self { made, physical, task, tallies }.in_memory(runtime))
    }

    /// What other plans of the same question can be made of.
    pub(crate) fn made(&self) -> Arc<Made> {
        Arc::clone(&self.made)
    }

    /// The types of the parameters of `sql`, in order.
    ///
    /// # Errors
    /// As [`Plan::new`], as far as names and syntax go.
    pub(crate) async fn parameters(permit: &Permit, sql: &str, views: &[View], engine: Engine) -> Result<Vec<DataType>, Refusal> {
        let mut state = session::state(permit, engine.partitions).map_err(refusal_of)?;
        statement::parameter_types(&mut state, permit, sql, views).await
    }

    /// What runs.
    pub(crate) fn physical(&self) -> &Arc<dyn ExecutionPlan> {
        &self.physical
    }

    /// Where it runs.
    pub(crate) fn task(&self) -> Arc<TaskContext> {
        self.task.clone()
    }

    /// The same plan, to run in other memory.
    pub(crate) fn in_memory(self, runtime: Arc<RuntimeEnv>) -> Self {
        let task = &self.task;
        let task = TaskContext::new(
            None,
            task.session_id(),
            task.session_config().clone(),
            task.scalar_functions().clone(),
            task.higher_order_functions().clone(),
            task.aggregate_functions().clone(),
            task.window_functions().clone(),
            runtime,
        );
        Self { task: Arc::new(task), ..self }
    }

    /// What was permitted under `permit`: tables, uses, and the rules that apply.
    pub(crate) fn decision(&self, permit: &Permit) -> Decision {
        let mut decision = Decision::of(permit, &self.made.uses, self.made.minimum, self.made.magnitudes);
        decision.rules.extend(self.made.out.as_ref().map(|out| out.rule.clone()));
        decision.rules.extend(self.made.leaves_out.then_some(Rule::SmallGroupsLeftOut));
        decision.rules.extend(self.made.undecided.then_some(Rule::ConditionsOnWithheld));
        decision
    }

    /// The agreements under which it reads.
    pub(crate) fn agreements(&self, permit: &Permit) -> Vec<String> {
        let mut agreements: Vec<String> =
            self.made.uses.datasets().filter_map(|dataset| permit.dataset(dataset)).map(|p| p.agreement.to_string()).collect();
        agreements.sort();
        agreements.dedup();
        agreements
    }

    /// Of each dataset of the statement's joins, the distinct subjects that found a partner; known once the plan has run. Exact: for
    /// whoever rounds it, and the log. `None` where the statement joins the dataset several times.
    pub(crate) fn matched(&self) -> BTreeMap<DatasetName, Option<Matched>> {
        tally::matched(&self.tallies)
    }

    /// In which grain its denominators are told: by the strictest rules of the datasets that it reads.
    ///
    /// # Errors
    /// Why they are not told.
    pub(crate) fn grain(&self, permit: &Permit) -> Result<Grain, String> {
        let (minimum, disclosure) = (permit.minimum_subjects(self.made.uses.datasets()), permit.disclosure(self.made.uses.datasets()));
        Grain::of(minimum, &disclosure).ok_or_else(|| {
            let noisy = |permit: &&DatasetPermit| permit.disclosure.perturbation.is_some();
            let whose = self.made.uses.datasets().filter_map(|dataset| permit.dataset(dataset)).find(noisy);
            let whose = whose.map_or_else(|| "an agreement".to_owned(), |permit| format!("agreement '{}'", permit.agreement));
            format!("{whose} asks for noise on counts, and these without it would undo that; ask for count(DISTINCT subject)")
        })
    }

    /// The statement's columns, as the caller sees them.
    pub(crate) fn columns(&self) -> &SchemaRef {
        &self.made.columns
    }

    /// Of each of them, whether it is of values that passed `Protect` or are computed from such.
    pub(crate) fn values(&self) -> &[bool] {
        &self.made.values
    }

    /// Whether the last column of the running plan is the mask.
    pub(crate) fn masked(&self) -> bool {
        self.made.masked
    }

    /// The strictest minimum that applied; 0 when nothing is summarised.
    pub(crate) fn minimum(&self) -> u32 {
        self.made.minimum
    }

    /// What binds the rows of single subjects that it puts out, if it does.
    pub(crate) fn rows_out(&self) -> Option<&RowsOut> {
        self.made.out.as_ref()
    }

    /// The schema of the answer: the statement's columns and, where something may be withheld, [`WITHHELD`].
    pub(crate) fn answer_schema(&self) -> SchemaRef {
        if !self.made.masked {
            return self.made.columns.clone();
        }
        let withheld = Arc::new(Field::new(WITHHELD, DataType::Utf8, true));
        Arc::new(Schema::new(self.made.columns.fields().iter().cloned().chain([withheld]).collect::<Vec<_>>()))
    }
}

/// The plan with the gateway's own joins and groups over sorted streams, and with joins that give way. A join makes many batches of a
/// few, without ever waiting for anything: only where it gives way now and then can its query be stopped, and others be served.
fn over_sorted(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        if let Some(groups) = node.downcast_ref().and_then(BySubject::instead) {
            return Ok(Transformed::yes(groups?));
        }
        let merge = node.downcast_ref().and_then(MergeJoinExec::of).map(|merge| Arc::new(merge) as Arc<dyn ExecutionPlan>);
        if merge.is_some() || node.name().ends_with("JoinExec") {
            return Ok(Transformed::yes(Arc::new(CooperativeExec::new(merge.unwrap_or(node))) as Arc<dyn ExecutionPlan>));
        }
        Ok(Transformed::no(node))
    })
    .map(|done| done.data)
}

/// The statement with `Protect` in it, and whether its last column is the mask.
fn protected(rewriter: &mut Rewriter<'_>, plan: LogicalPlan) -> Result<(LogicalPlan, bool)> {
    match rewriter.rewrite(plan, None)? {
        Shape::Safe(Safe { plan, masked, .. }) => {
            covered::check(&plan, false)?;
            Ok((plan, masked))
        }
        Shape::Rows(rows) => {
            if rows.visible.is_empty() {
                return refuse(Refusal::new(Code::Disclosure, "a row for each subject, even without columns, tells their number"));
            }
            // A row without a single column of a subject would still tell that the subject exists.
            for dataset in &rows.datasets {
                rewriter.uses.touch(dataset);
            }
            for visible in &rows.visible {
                rewriter.output(&visible.origin.shown());
            }
            if rows.visible.iter().all(|v| v.origin.sources().is_empty()) {
                return refuse(
                    Refusal::new(Code::Disclosure, "a row for each subject, even without a subject's values, tells their exact number")
                        .advice("use count(*)"),
                );
            }
            let plan = rewriter.rows_out(rows)?;
            covered::check(&plan, true)?;
            Ok((plan, false))
        }
    }
}

/// The caller's columns: dictionaries, a matter of the wire between node and gateway, become plain text.
fn answer_columns(plan: &LogicalPlan, width: usize) -> SchemaRef {
    let plain = |kind: &DataType| match kind {
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        other => other.clone(),
    };
    let fields = plan.schema().fields().iter().take(width).map(|f| Field::new(f.name(), plain(f.data_type()), f.is_nullable()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
