//! Groups by a pseudonym and other keys, over rows that come in the pseudonym's order: a subject's groups are complete when the next one
//! begins. Nothing is hashed but the keys of subjects with several rows, and no more is kept than one batch and one subject's groups.
//!
//! It stands in the place of DataFusion's aggregate by hash where that would have the same rows to group; the groups, their values and
//! the columns are the same.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray as _, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _, PlanProperties};
use futures::TryStreamExt as _;

use super::merge::{beyond, numbers, pseudonym_column};
use super::operator::{Operator, over};

/// Groups of one subject each.
#[derive(Debug)]
pub(super) struct BySubject {
    of: AggregateExec,
    /// The subject, among the columns of the input, and among the keys.
    subject: usize,
    key: usize,
}

impl BySubject {
    /// What stands in the place of `aggregate`, if something can.
    pub(super) fn instead(aggregate: &AggregateExec) -> Option<Result<Arc<dyn ExecutionPlan>>> {
        let (input, groups) = (aggregate.input(), aggregate.group_expr());
        if !matches!(aggregate.mode(), AggregateMode::Single | AggregateMode::SinglePartitioned)
            || !groups.is_single()
            || aggregate.limit_options().is_some()
        {
            return None;
        }
        let plain = |f: &Arc<AggregateFunctionExpr>| f.groups_accumulator_supported() && !f.is_distinct() && f.order_bys().is_empty();
        if !aggregate.aggr_expr().iter().all(plain) {
            return None;
        }
        let schema = input.schema();
        let (key, subject) = groups.expr().iter().enumerate().find_map(|(key, (expr, _))| {
            let subject = pseudonym_column(expr, &schema)?;
            let by_subject = PhysicalSortExpr::new(Arc::clone(expr), Default::default());
            input.equivalence_properties().ordering_satisfy([by_subject]).unwrap_or(false).then_some((key, subject))
        })?;
        Some(over(Arc::new(Self { of: aggregate.clone(), subject, key }), Arc::clone(input)))
    }
}

impl Operator for BySubject {
    const NAME: &'static str = "BySubjectExec";
    const WHOLE: bool = false;

    fn properties(&self, _input: &Arc<dyn ExecutionPlan>) -> Result<Arc<PlanProperties>> {
        Ok(Arc::clone(self.of.properties()))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.of.group_expr().expr().iter().map(|(_, name)| name.as_str()).collect();
        let values: Vec<&str> = self.of.aggr_expr().iter().map(|function| function.name()).collect();
        write!(f, "keys=[{}], values=[{}]", keys.join(", "), values.join(", "))
    }

    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let held = MemoryConsumer::new("groups by subject").register(context.memory_pool());
        let grouping = Grouping::new(self, &input.schema(), Arc::clone(&schema), held)?;
        let input = input.execute(partition, context)?;
        let batches = futures::stream::try_unfold(Some((input, grouping)), |state| async move {
            let Some((mut input, mut grouping)) = state else { return Ok::<_, DataFusionError>(None) };
            while let Some(batch) = input.try_next().await? {
                if let Some(groups) = grouping.take(&batch)? {
                    return Ok(Some((groups, Some((input, grouping)))));
                }
            }
            Ok(grouping.finish()?.map(|groups| (groups, None)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// What is computed of each group.
struct Value {
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    accumulator: Box<dyn GroupsAccumulator>,
}

/// Groups of one partition.
struct Grouping {
    schema: SchemaRef,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// The subject, among the columns of the input, and among the keys.
    subject: usize,
    key: usize,
    values: Vec<Value>,
    /// Tells the keys but the subject apart.
    rows: RowConverter,
    /// The groups that were not put out: their number, and their keys, in pieces.
    count: usize,
    pieces: Vec<Vec<ArrayRef>>,
    /// What pieces of batches before take.
    kept: usize,
    /// The last subject, and its groups.
    current: Option<u128>,
    of_current: HashMap<Box<[u8]>, usize>,
    /// What these take.
    bytes: usize,
    held: MemoryReservation,
}

impl Grouping {
    fn new(by: &BySubject, input: &SchemaRef, schema: SchemaRef, held: MemoryReservation) -> Result<Self> {
        let aggregate = &by.of;
        let keys: Vec<_> = aggregate.group_expr().expr().iter().map(|(expr, _)| Arc::clone(expr)).collect();
        let value = |(function, filter): (&Arc<AggregateFunctionExpr>, &Option<_>)| {
            let accumulator = function.create_groups_accumulator()?;
            Ok::<_, DataFusionError>(Value { arguments: function.expressions(), filter: filter.clone(), accumulator })
        };
        let values = aggregate.aggr_expr().iter().zip(aggregate.filter_expr()).map(value).collect::<Result<_>>()?;
        let others = keys.iter().enumerate().filter(|(position, _)| *position != by.key);
        let fields = others.map(|(_, key)| Ok(SortField::new(key.data_type(input)?))).collect::<Result<_>>()?;
        Ok(Self {
            schema,
            pieces: vec![Vec::new(); keys.len()],
            keys,
            subject: by.subject,
            key: by.key,
            values,
            rows: RowConverter::new(fields)?,
            count: 0,
            kept: 0,
            current: None,
            of_current: HashMap::new(),
            bytes: 0,
            held,
        })
    }

    /// Takes a batch; the groups of the subjects that it is not about, if there are any.
    fn take(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let column = batch.columns().get(self.subject);
        let subjects = numbers(column.ok_or_else(|| internal_datafusion_err!("groups by a column that is not there"))?)?;
        if !subjects.is_sorted() || subjects.first().is_some_and(|first| self.current.is_some_and(|current| *first < current)) {
            return Err(internal_datafusion_err!("rows to be grouped are not in the order of their subjects"));
        }
        let of_current = beyond(&subjects, 0, |subject| self.current == Some(subject));
        let (before, after) = subjects.split_at(of_current);
        self.add(&batch.slice(0, before.len()), before)?;
        if after.is_empty() {
            return Ok(None);
        }
        let groups = self.finish()?;
        self.add(&batch.slice(before.len(), after.len()), after)?;
        Ok(groups)
    }

    /// Adds rows, whose subjects are these.
    fn add(&mut self, batch: &RecordBatch, subjects: &[u128]) -> Result<()> {
        if subjects.is_empty() {
            return Ok(());
        }
        let evaluated = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(batch.num_rows());
        let keys = self.keys.iter().map(evaluated).collect::<Result<Vec<_>>>()?;
        let others: Vec<ArrayRef> = keys.iter().enumerate().filter(|(key, _)| *key != self.key).map(|(_, column)| column.clone()).collect();
        let mut assigned = Assigned { groups: Vec::with_capacity(subjects.len()), firsts: Vec::with_capacity(subjects.len()) };
        let (mut at, mut several) = (0, 0);
        while let Some(&subject) = subjects.get(at) {
            let end = beyond(subjects, at, |next| next == subject);
            // The last one may have more rows in the next batch.
            if end == at + 1 && end < subjects.len() && self.current != Some(subject) {
                self.apart(several..at, subjects, &others, &mut assigned)?;
                self.group(at, &mut assigned)?;
                several = end;
            }
            at = end;
        }
        self.apart(several..at, subjects, &others, &mut assigned)?;
        let firsts = assigned.firsts;
        let all = firsts.len() == subjects.len();
        let firsts = UInt32Array::from(firsts);
        for (pieces, key) in self.pieces.iter_mut().zip(keys).filter(|_| !firsts.is_empty()) {
            let piece = if all { key } else { take(&key, &firsts, None)? };
            // The first is of the batch at hand.
            self.kept += if pieces.is_empty() { 0 } else { piece.get_array_memory_size() };
            pieces.push(piece);
        }
        for value in &mut self.values {
            let arguments = value.arguments.iter().map(evaluated).collect::<Result<Vec<_>>>()?;
            let filter = value.filter.as_ref().map(evaluated).transpose()?;
            let filter = match &filter {
                Some(filter) => Some(filter.as_boolean_opt().ok_or_else(|| internal_datafusion_err!("a filter that is none"))?),
                None => None,
            };
            value.accumulator.update_batch(&arguments, &assigned.groups, filter, self.count)?;
        }
        let values: usize = self.values.iter().map(|value| value.accumulator.size()).sum();
        self.held.try_resize(values + self.bytes + self.kept)
    }

    /// Gives each of `rows` its group, by the keys beside the subject.
    fn apart(&mut self, rows: Range<usize>, subjects: &[u128], others: &[ArrayRef], assigned: &mut Assigned) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let columns: Vec<ArrayRef> = others.iter().map(|column| column.slice(rows.start, rows.len())).collect();
        let told = if columns.is_empty() { None } else { Some(self.rows.convert_columns(&columns)?) };
        for (index, row) in rows.enumerate() {
            let subject = subjects.get(row).copied();
            if self.current != subject {
                (self.current, self.bytes) = (subject, 0);
                self.of_current.clear();
            }
            let told = told.as_ref().map(|told| told.row(index));
            let told = told.as_ref().map_or(&[][..], |told| told.as_ref());
            if let Some(group) = self.of_current.get(told) {
                assigned.groups.push(*group);
            } else {
                self.bytes += told.len() + BYTES;
                self.of_current.insert(told.into(), self.count);
                self.group(row, assigned)?;
            }
        }
        Ok(())
    }

    /// A new group, whose first row this is.
    fn group(&mut self, row: usize, assigned: &mut Assigned) -> Result<()> {
        assigned.groups.push(self.count);
        assigned.firsts.push(u32::try_from(row).map_err(|_| internal_datafusion_err!("a batch that is too large"))?);
        self.count += 1;
        Ok(())
    }

    /// The groups that were not put out, if there are any.
    fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.count == 0 {
            return Ok(None);
        }
        (self.count, self.kept) = (0, 0);
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for pieces in &mut self.pieces {
            let pieces = std::mem::take(pieces);
            columns.push(match pieces.as_slice() {
                [one] => Arc::clone(one),
                _ => concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
            });
        }
        for value in &mut self.values {
            columns.push(value.accumulator.evaluate(EmitTo::All)?);
        }
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }
}

/// What a group of the subject at hand takes beside its keys, by a generous estimate.
const BYTES: usize = 96;

/// The group of each row of a batch, and the first rows of new groups.
struct Assigned {
    groups: Vec<usize>,
    firsts: Vec<u32>,
}

#[cfg(test)]
mod tests;
