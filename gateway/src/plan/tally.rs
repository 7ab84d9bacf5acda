//! `Tally`: counts, below the aggregate, for each dataset of the statement's joins the distinct subjects that found a partner.
//! Rows pass as they are.
//!
//! ```text
//! Aggregate by keys, subject
//!   Tally a.people, b.claims
//!     Projection keys, subject, arguments, pseudonyms of datasets that may be missing      (summarise/levels.rs)
//!       Join …
//! ```
//! A subject of a dataset has found a partner where it stands in a row beside another dataset's row, after every condition of the
//! statement. Rows that come ordered by their subject, as merged releases do, are counted in constant memory; others keep each
//! pseudonym once, in memory that is counted. What was found is exact, and for whoever rounds it ([`crate::denominators`]).
//!
//! Through a link dataset a count of people rests on firms too, and may be shown where there are enough of both: beside each count
//! stand the distinct subjects of the other identifier type in the same rows, as far as it takes to know whether they are enough.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use concordat_policy::DatasetName;
use concordat_proto::schema::pseudonyms;
use datafusion::arrow::array::{Array as _, RecordBatch};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _, PlanProperties};
use futures::TryStreamExt as _;

use super::operator::{Operator, Planned, over};

/// A pseudonym.
type Pseudonym = [u8; 16];

/// The most subjects of the other identifier type that are kept in mind. Under a larger minimum no count through a link dataset is
/// told.
pub(crate) const MOST_OTHERS: usize = 10_000;

/// Who found a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matched {
    /// The dataset's distinct subjects.
    pub(crate) subjects: u64,
    /// Through a link dataset: the distinct subjects of the other identifier type beside them, at most [`MOST_OTHERS`].
    pub(crate) others: Option<u64>,
}

/// One dataset of the counted rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub(super) dataset: DatasetName,
    /// The column with its pseudonym, null where it has no row; `None` where every row has one, which is the row's own.
    pub(super) column: Option<String>,
    /// Whether the pseudonym is of another identifier type than the row's own.
    pub(super) apart: bool,
}

/// What is counted, and what was found.
#[derive(Debug)]
pub(super) struct Tally {
    /// The column with the row's own pseudonym.
    subject: String,
    /// Through a link dataset: the column with the pseudonym of the other identifier type, null where it has none.
    other: Option<String>,
    parts: Vec<Part>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// Partitions, and those of them that were read to their end.
    partitions: usize,
    ended: usize,
    counts: Vec<u64>,
    /// Where rows are not ordered: who was counted, per part.
    seen: Vec<HashSet<Pseudonym>>,
    /// Through a link dataset: subjects of the other identifier type beside whoever was counted, per part.
    others: Vec<HashSet<Pseudonym>>,
    /// The memory of both.
    held: Vec<MemoryReservation>,
}

impl Tally {
    pub(super) fn new(subject: &str, other: Option<&str>, parts: Vec<Part>) -> Self {
        Self { subject: subject.to_owned(), other: other.map(str::to_owned), parts, found: Mutex::default() }
    }

    /// The distinct subjects of each dataset that found a partner; nothing while not all rows were read.
    fn matched(&self) -> Vec<(&DatasetName, Matched)> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.partitions == 0 || found.ended != found.partitions {
            return Vec::new();
        }
        let of = |index: usize| match found.seen.get(index) {
            Some(seen) => seen.len() as u64,
            None => found.counts.get(index).copied().unwrap_or(0),
        };
        let others = |index: usize| found.others.get(index).map_or(0, |others| others.len().min(MOST_OTHERS) as u64);
        let matched = |index| Matched { subjects: of(index), others: self.other.is_some().then(|| others(index)) };
        self.parts.iter().enumerate().map(|(index, part)| (&part.dataset, matched(index))).collect()
    }
}

/// What the tallies of one plan found, by dataset. One that was counted twice is in it as `None`: it is not known which is meant.
pub(super) fn matched(tallies: &[Arc<Tally>]) -> BTreeMap<DatasetName, Option<Matched>> {
    let mut all: BTreeMap<DatasetName, Option<Matched>> = BTreeMap::new();
    for (dataset, count) in tallies.iter().flat_map(|tally| tally.matched()) {
        all.entry(dataset.clone()).and_modify(|known| *known = None).or_insert(Some(count));
    }
    all
}

/// A plan whose tallies have counted nothing, and these.
pub(super) fn anew(plan: &LogicalPlan) -> Result<(LogicalPlan, Vec<Arc<Tally>>)> {
    let mut all: Vec<(Arc<Tally>, Arc<Tally>)> = Vec::new();
    let plan = plan.clone().transform_down_with_subqueries(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        let Some(Counted { input, tally }) = extension.node.as_any().downcast_ref() else { return Ok(Transformed::no(node)) };
        // One that counts in two places stays one.
        let known = all.iter().find(|(before, _)| Arc::ptr_eq(before, tally)).map(|(_, new)| Arc::clone(new));
        let new = known.unwrap_or_else(|| {
            let new = Arc::new(Tally::new(&tally.subject, tally.other.as_deref(), tally.parts.clone()));
            all.push((Arc::clone(tally), Arc::clone(&new)));
            new
        });
        let node = Arc::new(Counted::new(input.clone(), new));
        Ok(Transformed::yes(LogicalPlan::Extension(Extension { node })))
    })?;
    Ok((plan.data, all.into_iter().map(|(_, new)| new).collect()))
}

/// The logical node.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    input: LogicalPlan,
    tally: Arc<Tally>,
}

impl Counted {
    pub(super) fn new(input: LogicalPlan, tally: Arc<Tally>) -> Self {
        Self { input, tally }
    }

    /// The columns that counting reads, by name.
    fn read(&self) -> impl Iterator<Item = &str> {
        let own = std::iter::once(self.tally.subject.as_str()).chain(self.tally.other.as_deref());
        own.chain(self.tally.parts.iter().filter_map(|part| part.column.as_deref()))
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tally, &other.tally) && self.input == other.input
    }
}
impl Eq for Counted {}
impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.tally.subject, &self.tally.parts).hash(state);
    }
}
impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for Counted {
    fn name(&self) -> &str {
        "Tally"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }
    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tally: {}", named(&self.tally))
    }
    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.into_iter().next().ok_or_else(|| internal_datafusion_err!("Tally without input"))?;
        Ok(Self { input, tally: self.tally.clone() })
    }
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let own = self.read().filter_map(|name| self.input.schema().index_of_column_by_name(None, name));
        let mut needed: Vec<usize> = output_columns.iter().copied().chain(own).collect();
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

fn named(tally: &Tally) -> String {
    tally.parts.iter().map(|part| part.dataset.to_string()).collect::<Vec<_>>().join(", ")
}

impl Planned for Counted {
    fn planned(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        over(Arc::new(TallyExec(self.tally.clone())), input)
    }
}

/// The operator.
#[derive(Debug)]
struct TallyExec(Arc<Tally>);

impl TallyExec {
    /// Whether each subject's rows come one after the other, all in one partition: releases are ranges of pseudonyms in order, and
    /// joins on the same pseudonym keep both.
    fn ordered(&self, input: &Arc<dyn ExecutionPlan>) -> Result<bool> {
        let Self(tally) = self;
        if tally.parts.iter().any(|part| part.apart) {
            return Ok(false);
        }
        let position = input.schema().index_of(&tally.subject)?;
        let by_subject = PhysicalSortExpr::new(Arc::new(Column::new(&tally.subject, position)) as _, Default::default());
        input.equivalence_properties().ordering_satisfy([by_subject])
    }
}

impl Operator for TallyExec {
    const NAME: &'static str = "TallyExec";
    const WHOLE: bool = false;

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<PlanProperties>> {
        Ok(Arc::clone(input.properties()))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&named(&self.0))
    }

    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Self(tally) = self;
        {
            let mut found = tally.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.partitions = input.output_partitioning().partition_count();
            found.counts.resize(tally.parts.len(), 0);
        }
        let held = MemoryConsumer::new("tally").register(context.memory_pool());
        let counting = Counting::new(tally.clone(), input, self.ordered(input)?, held)?;
        let input = input.execute(partition, context)?;
        let batches = futures::stream::try_unfold((input, counting), |(mut input, mut counting)| async move {
            let Some(batch) = input.try_next().await? else {
                counting.end();
                return Ok::<_, DataFusionError>(None);
            };
            counting.take(&batch)?;
            Ok(Some((batch, (input, counting))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// Counts one partition.
struct Counting {
    tally: Arc<Tally>,
    /// The row's own pseudonym, that of the other identifier type, and per part its column, if it has one.
    subject: usize,
    other: Option<usize>,
    columns: Vec<Option<usize>>,
    ordered: bool,
    /// Of ordered rows: the subject at hand, and which parts have found a partner of it.
    current: Option<(Pseudonym, Vec<bool>)>,
    counts: Vec<u64>,
    seen: Vec<HashSet<Pseudonym>>,
    others: Vec<HashSet<Pseudonym>>,
    held: MemoryReservation,
}

/// What a pseudonym in a set takes, by a generous estimate.
const BYTES: usize = 40;

impl Counting {
    fn new(tally: Arc<Tally>, input: &Arc<dyn ExecutionPlan>, ordered: bool, held: MemoryReservation) -> Result<Self> {
        let schema = input.schema();
        let position = |name: &str| schema.index_of(name);
        let columns = tally.parts.iter().map(|part| part.column.as_deref().map(position).transpose()).collect::<Result<Vec<_>, _>>()?;
        let other = tally.other.as_deref().map(position).transpose()?;
        let (subject, parts) = (position(&tally.subject)?, tally.parts.len());
        let sets = |kept: bool| if kept { vec![HashSet::new(); parts] } else { Vec::new() };
        let (seen, others) = (sets(!ordered), sets(other.is_some()));
        Ok(Self { tally, subject, other, columns, ordered, current: None, counts: vec![0; parts], seen, others, held })
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let own = Pseudonyms::of(batch, self.subject)?;
        let other = self.other.map(|position| Pseudonyms::of(batch, position)).transpose()?;
        let column = |position: &Option<usize>| position.map(|position| Pseudonyms::of(batch, position)).transpose();
        let parts = self.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let subject = own.at(row)?;
            let present = |part: &Option<Pseudonyms<'_>>| part.as_ref().is_none_or(|column| column.is_valid(row));
            let partnered = parts.iter().filter(|&part| present(part)).count() > 1;
            if self.ordered && self.current.as_ref().is_none_or(|(current, _)| *current != subject) {
                self.close();
                self.current = Some((subject, vec![false; parts.len()]));
            }
            if !partnered {
                continue;
            }
            for (index, part) in parts.iter().enumerate().filter(|&(_, part)| present(part)) {
                if let (Some(other), Some(others)) = (&other, self.others.get_mut(index)) {
                    // Beside a pseudonym that is of the other type itself, the row's own is the other.
                    let apart = self.tally.parts.get(index).is_some_and(|part| part.apart);
                    let beside = if apart { Some(subject) } else { other.is_valid(row).then(|| other.at(row)).transpose()? };
                    // Who has none lifts nobody over the minimum.
                    if let Some(beside) = beside.filter(|beside| others.len() < MOST_OTHERS && !others.contains(beside)) {
                        self.held.try_grow(BYTES)?;
                        others.insert(beside);
                    }
                }
                if let Some((_, matched)) = &mut self.current {
                    matched.iter_mut().skip(index).take(1).for_each(|matched| *matched = true);
                } else if let Some(seen) = self.seen.get_mut(index) {
                    let pseudonym = part.as_ref().map_or(Ok(subject), |column| column.at(row))?;
                    if !seen.contains(&pseudonym) {
                        self.held.try_grow(BYTES)?;
                        seen.insert(pseudonym);
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts the subject at hand.
    fn close(&mut self) {
        if let Some((_, matched)) = self.current.take() {
            self.counts.iter_mut().zip(matched).for_each(|(count, matched)| *count += u64::from(matched));
        }
    }

    /// The partition was read to its end.
    fn end(mut self) {
        self.close();
        let mut found = self.tally.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.ended += 1;
        found.counts.iter_mut().zip(&self.counts).for_each(|(all, own)| *all += own);
        together(&mut found.seen, self.seen);
        together(&mut found.others, self.others);
        found.held.push(self.held);
    }
}

/// Adds one partition's sets to those of all.
fn together(all: &mut Vec<HashSet<Pseudonym>>, own: Vec<HashSet<Pseudonym>>) {
    all.resize(all.len().max(own.len()), HashSet::new());
    all.iter_mut().zip(own).for_each(|(all, own)| all.extend(own));
}

/// A column of pseudonyms, some of which may be null.
struct Pseudonyms<'a> {
    values: &'a [Pseudonym],
    nulls: Option<&'a NullBuffer>,
}

impl<'a> Pseudonyms<'a> {
    fn of(batch: &'a RecordBatch, position: usize) -> Result<Self> {
        let column = batch.columns().get(position);
        let pseudonyms = column.and_then(|column| Some(Self { values: pseudonyms(column)?, nulls: column.nulls() }));
        pseudonyms.ok_or_else(|| internal_datafusion_err!("Tally over something that is no pseudonym"))
    }

    fn is_valid(&self, row: usize) -> bool {
        self.nulls.is_none_or(|nulls| nulls.is_valid(row))
    }

    fn at(&self, row: usize) -> Result<Pseudonym> {
        self.values.get(row).copied().ok_or_else(|| internal_datafusion_err!("a row without a pseudonym"))
    }
}

#[cfg(test)]
mod tests;
