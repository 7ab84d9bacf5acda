//! `RowsOfFew`: leaves out the rows that fewer than k distinct subjects share, and keeps the others as they are, in their order.
//!
//! Two rows are shared where the columns that count are equal in both, nulls among them, and where both have, or lack, a row of each
//! dataset that an outer join may leave out. Through a link dataset, k subjects of each identifier type must share a row. Every row is read before the first one leaves; what is held is counted as the query's memory.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, FixedSizeBinaryArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{cast, filter_record_batch, is_not_null, take_record_batch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{Column, DFSchemaRef, DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, PlanProperties};
use futures::TryStreamExt as _;

use super::operator::{Operator, Planned, at_the_end, over};

/// A pseudonym.
type Pseudonym = [u8; 16];

/// What a pseudonym in a set, or a group beside its key, takes, by a generous estimate.
const BYTES: usize = 64;

/// The rule, before it stands on a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RowsOfFew {
    pub(super) k: u32,
    pub(super) keys: Vec<Column>,
    pub(super) subjects: Vec<Column>,
    pub(super) present: Vec<Column>,
}

impl RowsOfFew {
    /// Rows are compared by `keys`, and by which of `present` are null, the pseudonyms of datasets that a row may lack; `subjects` are
    /// the pseudonyms that each row is about, one for each identifier type.
    pub(super) fn over(k: u32, keys: Vec<Column>, subjects: Vec<Column>, present: Vec<Column>) -> Self {
        Self { k, keys, subjects, present }
    }

    /// The same with other names; `None` where one has none.
    pub(super) fn renamed(&self, name: impl Fn(&Column) -> Option<Column>) -> Option<Self> {
        let all = |columns: &[Column]| columns.iter().map(&name).collect::<Option<Vec<Column>>>();
        Some(Self { k: self.k, keys: all(&self.keys)?, subjects: all(&self.subjects)?, present: all(&self.present)? })
    }

    /// The logical node.
    pub(super) fn on(self, input: LogicalPlan) -> Sharing {
        Sharing { input, rule: self }
    }
}

/// The logical node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sharing {
    input: LogicalPlan,
    rule: RowsOfFew,
}

impl PartialOrd for Sharing {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl Sharing {
    pub(super) fn input(&self) -> &LogicalPlan {
        &self.input
    }

    pub(super) fn rule(&self) -> &RowsOfFew {
        &self.rule
    }

    fn positions(&self, columns: &[Column]) -> Result<Vec<usize>> {
        columns.iter().map(|column| self.input.schema().index_of_column(column)).collect()
    }
}

impl UserDefinedLogicalNodeCore for Sharing {
    fn name(&self) -> &str {
        "RowsOfFew"
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
        write!(f, "RowsOfFew: k={}", self.rule.k)
    }
    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let input = inputs.into_iter().next().ok_or_else(|| internal_datafusion_err!("RowsOfFew without input"))?;
        Ok(self.rule.clone().on(input))
    }
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let own = [&self.rule.keys, &self.rule.subjects, &self.rule.present].map(|columns| self.positions(columns).ok());
        let [Some(keys), Some(subjects), Some(present)] = own else { return None };
        let mut needed: Vec<usize> = output_columns.iter().copied().chain(keys).chain(subjects).chain(present).collect();
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

impl Planned for Sharing {
    fn planned(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let RowsOfFew { k, keys, subjects, present } = &self.rule;
        let (keys, subjects, present) = (self.positions(keys)?, self.positions(subjects)?, self.positions(present)?);
        let k = usize::try_from(*k).unwrap_or(usize::MAX);
        over(Arc::new(SharingExec(Arc::new(Rule { k, keys, subjects, present }))), input)
    }
}

/// The operator.
#[derive(Debug)]
struct SharingExec(Arc<Rule>);

impl Operator for SharingExec {
    const NAME: &'static str = "RowsOfFewExec";
    const WHOLE: bool = true;

    fn properties(&self, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<PlanProperties>> {
        Ok(at_the_end(input.schema()))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { k, keys, present, .. } = self.0.as_ref();
        write!(f, "k={k}, present={present:?}, keys={keys:?}")
    }

    fn execute(
        &self,
        input: &Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let held = MemoryConsumer::new("rows of few").register(context.memory_pool());
        let (rule, input) = (self.0.clone(), input.execute(partition, context)?);
        let kept = async move { Ok::<_, DataFusionError>((rule.kept(input, &held).await?.into_iter(), held)) };
        // The memory is given back with the last batch.
        let batches = futures::stream::once(kept).map_ok(|kept| {
            futures::stream::try_unfold(kept, |(mut kept, held)| async move {
                Ok::<_, DataFusionError>(kept.next().map(|batch: RecordBatch| (batch, (kept, held))))
            })
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches.try_flatten())))
    }
}

/// What is applied: positions of columns in the input.
#[derive(Debug)]
struct Rule {
    k: usize,
    keys: Vec<usize>,
    subjects: Vec<usize>,
    present: Vec<usize>,
}

impl Rule {
    /// The rows that stay, once all have been read.
    async fn kept(&self, mut input: SendableRecordBatchStream, held: &MemoryReservation) -> Result<Vec<RecordBatch>> {
        let (mut groups, mut read) = (Groups::default(), Vec::new());
        while let Some(batch) = input.try_next().await? {
            held.try_grow(batch.get_array_memory_size())?;
            let of_rows = groups.add(self, &batch, held)?;
            read.push((batch, of_rows));
        }
        let enough = groups.enough(self);
        let stays = |group: &usize| enough.get(*group).is_some_and(|enough| *enough);
        let kept = |(batch, of_rows): (RecordBatch, Vec<usize>)| {
            if of_rows.iter().all(stays) {
                return Ok(batch);
            }
            let stay = BooleanArray::from(of_rows.iter().map(stays).collect::<Vec<_>>());
            filter_record_batch(&batch, &stay).map_err(DataFusionError::from)
        };
        read.into_iter().map(kept).collect()
    }

    /// Which rows have the same codes in all columns by which rows are compared; `None` where columns have none, or too many.
    fn alike(&self, batch: &RecordBatch) -> Result<Option<Alike>> {
        let keys = self.keys.iter().map(|place| column(batch, *place)).collect::<Result<Vec<_>>>()?;
        let present = self.present.iter().map(|place| column(batch, *place)).collect::<Result<Vec<_>>>()?;
        // A place for each, only where they are few beside the rows.
        let most = batch.num_rows().saturating_mul(2).clamp(FEW_CODES, MOST_CODES);
        let every = keys.iter().map(|column| different(column)).chain(present.iter().map(|_| Some(2)));
        let few =
            |all: usize, different: Option<usize>| different.and_then(|different| all.checked_mul(different)).filter(|all| *all <= most);
        let Some(all) = every.clone().try_fold(1, few) else { return Ok(None) };
        let mut of_rows = vec![0; batch.num_rows()];
        let codes = keys.iter().map(|column| codes(column)).chain(present.iter().map(|column| there(column)));
        for (codes, different) in codes.zip(every) {
            let different = different.unwrap_or(1);
            of_rows.iter_mut().zip(codes).for_each(|(all, code)| *all = *all * different + code);
        }
        let (mut firsts, mut places) = (Vec::new(), vec![None; all]);
        for (row, code) in (0_u32..).zip(&mut of_rows) {
            let place = places.get_mut(*code).ok_or_else(|| internal_datafusion_err!("a code beyond those that there are"))?;
            *code = *place.get_or_insert_with(|| {
                firsts.push(row);
                firsts.len() - 1
            });
        }
        Ok(Some(Alike { firsts, of_rows }))
    }

    /// What each row is compared by, as bytes.
    fn keys_of(&self, batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
        let mut columns = Vec::new();
        for key in &self.keys {
            let column = column(batch, *key)?;
            columns.push(match column.data_type() {
                DataType::Dictionary(_, value) => cast(column, value)?,
                _ => Arc::clone(column),
            });
        }
        for dataset in &self.present {
            columns.push(Arc::new(is_not_null(column(batch, *dataset)?)?));
        }
        if columns.is_empty() {
            return Ok(vec![Vec::new(); batch.num_rows()]);
        }
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let rows = RowConverter::new(fields)?.convert_columns(&columns)?;
        Ok(rows.iter().map(|row| row.as_ref().to_vec()).collect())
    }
}

fn column(batch: &RecordBatch, place: usize) -> Result<&ArrayRef> {
    batch.columns().get(place).ok_or_else(|| internal_datafusion_err!("RowsOfFew lacks a column"))
}

/// Rows of a batch that are alike by the codes of their columns.
struct Alike {
    /// The first row of each.
    firsts: Vec<u32>,
    /// Of each row, the place of the first one that is like it among these.
    of_rows: Vec<usize>,
}

/// The most combinations of codes for which a place is kept, and how many are of small batches too.
const MOST_CODES: usize = 1 << 16;
const FEW_CODES: usize = 256;

/// How many codes the values of a column can have; `None` where they have none.
fn different(column: &ArrayRef) -> Option<usize> {
    let texts = || column.as_any_dictionary_opt()?.values().len().checked_add(1);
    if column.as_boolean_opt().is_some() { Some(3) } else { texts() }
}

/// A code for each value of such a column, equal only where values are; one stands for null.
fn codes(column: &ArrayRef) -> Vec<usize> {
    let values = if let Some(flags) = column.as_boolean_opt() {
        (0..flags.len()).map(|row| usize::from(flags.value(row))).collect()
    } else {
        let texts = column.as_any_dictionary_opt().filter(|texts| !texts.values().is_empty());
        texts.map_or_else(|| vec![0; column.len()], |texts| texts.normalized_keys())
    };
    values.into_iter().enumerate().map(|(row, code)| if column.is_valid(row) { code + 1 } else { 0 }).collect()
}

/// Which rows have one of a dataset.
fn there(column: &ArrayRef) -> Vec<usize> {
    (0..column.len()).map(|row| usize::from(column.is_valid(row))).collect()
}

/// Rows that are compared alike, and who shares them, as far as it takes to know whether they are enough.
#[derive(Default)]
struct Groups {
    by_key: HashMap<Vec<u8>, usize>,
    /// By group, by kind of subject.
    subjects: Vec<Vec<HashSet<Pseudonym>>>,
}

impl Groups {
    /// Adds a batch; says of each row to which group it belongs.
    fn add(&mut self, rule: &Rule, batch: &RecordBatch, held: &MemoryReservation) -> Result<Vec<usize>> {
        let columns = rule.subjects.iter().map(|position| pseudonyms(batch, *position)).collect::<Result<Vec<_>>>()?;
        let of_rows = match rule.alike(batch)? {
            // Which rows are alike in different batches, their values say.
            Some(Alike { firsts, of_rows }) => {
                let groups = self.of_values(rule, &take_record_batch(batch, &UInt32Array::from(firsts))?, held)?;
                let of_row = |place: usize| groups.get(place).copied();
                of_rows.into_iter().map(of_row).collect::<Option<_>>().ok_or_else(|| internal_datafusion_err!("a row like none"))?
            }
            None => self.of_values(rule, batch, held)?,
        };
        for (row, group) in of_rows.iter().enumerate() {
            for (column, known) in columns.iter().zip(self.subjects.get_mut(*group).into_iter().flatten()) {
                // A row that an outer join left without a subject of this kind is shared by nobody of it.
                if known.len() < rule.k && column.is_valid(row) {
                    let subject = column.value(row).try_into().map_err(|_| internal_datafusion_err!("a pseudonym of another length"))?;
                    if known.insert(subject) {
                        held.try_grow(BYTES)?;
                    }
                }
            }
        }
        Ok(of_rows)
    }

    /// The group of each row, by the values that it is compared by.
    fn of_values(&mut self, rule: &Rule, batch: &RecordBatch, held: &MemoryReservation) -> Result<Vec<usize>> {
        let mut of_rows = Vec::with_capacity(batch.num_rows());
        for key in rule.keys_of(batch)? {
            of_rows.push(match self.by_key.get(&key) {
                Some(group) => *group,
                None => {
                    held.try_grow(key.len().saturating_add(BYTES))?;
                    self.subjects.push(vec![HashSet::new(); rule.subjects.len()]);
                    let group = self.by_key.len();
                    self.by_key.insert(key, group);
                    group
                }
            });
        }
        Ok(of_rows)
    }

    /// Of each group, whether enough subjects share it.
    fn enough(&self, rule: &Rule) -> Vec<bool> {
        let enough = |kinds: &Vec<HashSet<_>>| !kinds.is_empty() && kinds.iter().all(|known| known.len() >= rule.k);
        self.subjects.iter().map(enough).collect()
    }
}

fn pseudonyms(batch: &RecordBatch, position: usize) -> Result<&FixedSizeBinaryArray> {
    let column = batch.columns().get(position).and_then(|column| column.as_fixed_size_binary_opt());
    column.ok_or_else(|| internal_datafusion_err!("RowsOfFew over something that is no pseudonym"))
}

#[cfg(test)]
mod tests;
