//! Rows of single subjects that are wholly compared by columns with few published values: they are as many copies of each combination as
//! there are rows of it, and whether enough subjects share it the node's groups say. Their order is that of combinations, not of people,
//! so that two answers cannot be put together by it.
//!
//! ```text
//! Projection region                  Projection region
//!   RowsOfFew k=10: region    ─▶       Copies
//!     TableScan region, subject          Filter subjects >= 10
//!                                          Aggregate region.key: rows, subjects
//!                                            TableScan groups
//! ```

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use concordat_policy::column::SUBJECT;
use concordat_proto::grouped::{Grouping, ROWS, SUBJECTS, key};
use datafusion::arrow::array::{AsArray as _, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, Projection, TableScan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _, Partitioning, PlanProperties};
use datafusion::prelude::lit;
use futures::TryStreamExt as _;

use super::super::operator::{Operator, Planned, over};
use super::super::sharing::Sharing;
use super::{beneath, groups_of, of_group, resolved, table_of};

/// A projection of rows that groups can stand in the place of.
pub(super) struct Alike<'p> {
    list: &'p Projection,
    shared: &'p Sharing,
    scan: &'p TableScan,
    grouping: Grouping,
    /// Of each column beneath but the pseudonym: the column of the dataset that it is.
    columns: Vec<(Column, String)>,
}

impl<'p> Alike<'p> {
    pub(super) fn of(list: &'p Projection) -> Option<Self> {
        let LogicalPlan::Extension(extension) = list.input.as_ref() else { return None };
        let shared = extension.node.as_any().downcast_ref::<Sharing>()?;
        let (LogicalPlan::TableScan(scan), below) = beneath(shared.input())? else { return None };
        let provider = table_of(scan)?;
        let table = provider.downcast_ref::<super::ReleaseTable>()?;
        let own = |column: &Column| {
            let Expr::Column(own) = resolved(&Expr::Column(column.clone()), &below)? else { return None };
            Some(own.name)
        };
        let rule = shared.rule();
        let all = shared.input().schema().columns();
        let all: Vec<(Column, String)> = all.into_iter().map(|column| own(&column).map(|of| (column, of))).collect::<Option<_>>()?;
        let (subject, columns): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, of)| of == SUBJECT);
        let keys: BTreeSet<&Column> = rule.keys.iter().collect();
        let compared = columns.iter().all(|(column, _)| keys.contains(column)) && columns.len() == keys.len();
        let alone = rule.present.is_empty() && subject.len() == 1 && rule.subjects.iter().eq(subject.iter().map(|(column, _)| column));
        // A pseudonym in the answer, or in what is computed for it, is of one row.
        let shown = list.expr.iter().any(|expr| expr.column_refs().iter().any(|column| rule.subjects.contains(column)));
        if !compared || !alone || shown {
            return None;
        }
        let named: BTreeSet<&String> = columns.iter().map(|(_, of)| of).collect();
        let keys = named.iter().map(|name| Some(((*name).clone(), table.kind(name)?))).collect::<Option<Vec<_>>>()?;
        table.groups_by(keys.iter().map(|(name, _)| name.as_str())).then(|| Self {
            list,
            shared,
            scan,
            grouping: Grouping::new(keys, Vec::new()),
            columns,
        })
    }

    /// The plan that stands in the place of the projection, with its columns.
    pub(super) fn instead(self) -> Result<LogicalPlan> {
        let keys = self.grouping.keys().map(|name| of_group(&key(name))).collect::<Vec<_>>();
        let (rows, subjects) = (Column::new_unqualified("__rows"), Column::new_unqualified("__subjects"));
        let totals = [(ROWS, &rows), (SUBJECTS, &subjects)].map(|(field, name)| sum(of_group(field)).alias(&name.name));
        let enough = Expr::Column(subjects).gt_eq(lit(i64::from(self.shared.rule().k)));
        let named = self.columns.iter().map(|(column, of)| of_group(&key(of)).alias_qualified(column.relation.clone(), &column.name));
        let named: Vec<Expr> = named.chain([Expr::Column(rows)]).collect();
        let groups = groups_of(self.scan, self.grouping)?.aggregate(keys, totals)?.filter(enough)?.project(named)?.build()?;
        let copies = LogicalPlan::Extension(Extension { node: Arc::new(Copies::try_new(groups)?) });
        LogicalPlanBuilder::from(copies).project(self.list.expr.clone())?.build()
    }
}

/// The logical node: each row as many times as its last column says, which is not put out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::plan) struct Copies {
    input: LogicalPlan,
    schema: DFSchemaRef,
}

impl Copies {
    fn try_new(input: LogicalPlan) -> Result<Self> {
        let kept = input.schema().fields().len().saturating_sub(1);
        let fields = input.schema().iter().take(kept).map(|(relation, field)| (relation.cloned(), Arc::clone(field))).collect();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(Self { input, schema })
    }
}

impl PartialOrd for Copies {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for Copies {
    fn name(&self) -> &str {
        "Copies"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }
    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Copies")
    }
    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        Self::try_new(inputs.into_iter().next().ok_or_else(|| internal_datafusion_err!("Copies without input"))?)
    }
}

impl Planned for Copies {
    fn planned(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        over(Arc::new(CopiesExec { schema: Arc::new(self.schema.as_arrow().clone()) }), input)
    }
}

/// The operator.
#[derive(Debug)]
struct CopiesExec {
    schema: SchemaRef,
}

impl Operator for CopiesExec {
    const NAME: &'static str = "CopiesExec";
    const WHOLE: bool = false;

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<PlanProperties>> {
        let partitioning = Partitioning::UnknownPartitioning(input.output_partitioning().partition_count());
        let equivalence = EquivalenceProperties::new(Arc::clone(&self.schema));
        Ok(Arc::new(PlanProperties::new(equivalence, partitioning, EmissionType::Incremental, Boundedness::Bounded)))
    }

    fn describe(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (most, out) = (context.session_config().batch_size().max(1), Arc::clone(&schema));
        let batches = input.execute(partition, context)?.and_then(move |batch| {
            let schema = Arc::clone(&schema);
            // One batch at a time: whoever reads may stop.
            std::future::ready(
                rows_of(&batch).map(|rows| futures::stream::iter(Pieces { rows, most }.map(move |rows| copied(&batch, &rows, &schema)))),
            )
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(out, batches.try_flatten())))
    }
}

/// How many copies there are of each row.
fn rows_of(batch: &RecordBatch) -> Result<Vec<u64>> {
    let other = || internal_datafusion_err!("copies of no number");
    let rows = batch.columns().last().and_then(|column| column.as_primitive_opt::<Int64Type>()).ok_or_else(other)?;
    let mut rows = rows.iter().map(|rows| u64::try_from(rows?).ok()).collect::<Option<Vec<_>>>().ok_or_else(other)?;
    // The last one first, to be taken from the end.
    rows.reverse();
    Ok(rows)
}

/// The places of rows, each as often as it is to be copied, as many at a time as fill a batch.
struct Pieces {
    rows: Vec<u64>,
    most: usize,
}

impl Iterator for Pieces {
    type Item = Vec<(usize, usize)>;

    /// Places counted from the end, and how often.
    fn next(&mut self) -> Option<Self::Item> {
        let (mut piece, mut left) = (Vec::new(), self.most);
        while left > 0
            && let Some(rows) = self.rows.last_mut()
        {
            let taken = usize::try_from(*rows).unwrap_or(usize::MAX).min(left);
            *rows -= taken as u64;
            left -= taken;
            let done = *rows == 0;
            piece.push((self.rows.len(), taken));
            if done {
                self.rows.pop();
            }
        }
        (!piece.is_empty()).then_some(piece)
    }
}

fn copied(batch: &RecordBatch, rows: &[(usize, usize)], schema: &SchemaRef) -> Result<RecordBatch> {
    let all = batch.num_rows();
    let place = |from_end: usize| u32::try_from(all.saturating_sub(from_end)).unwrap_or(u32::MAX);
    let places = UInt32Array::from_iter_values(rows.iter().flat_map(|(from_end, times)| std::iter::repeat_n(place(*from_end), *times)));
    let columns = batch.columns().iter().take(schema.fields().len()).map(|column| take(column, &places, None));
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(places.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

    #[test]
    fn each_row_is_copied_as_often_as_it_says_in_batches_of_a_size() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c"), Some("d")]));
        let rows: ArrayRef = Arc::new(Int64Array::from(vec![3, 0, 5, 1]));
        let batch = RecordBatch::try_from_iter_with_nullable([("text", texts, true), ("rows", rows, false)]).unwrap();
        let schema = Arc::new(batch.schema().project(&[0]).unwrap());
        for most in [1, 2, 4, 100] {
            let pieces = Pieces { rows: rows_of(&batch).unwrap(), most };
            let copies: Vec<RecordBatch> = pieces.map(|piece| copied(&batch, &piece, &schema).unwrap()).collect();
            assert!(copies.iter().all(|copies| copies.num_rows() <= most));
            let all: String =
                copies.iter().flat_map(|copies| copies.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>()).collect();
            assert_eq!(all, "aaacccccd", "in batches of {most}");
        }
    }
}
