//! The join of streams that are sorted by one pseudonym. Both sides are read once and to their end, whatever the other holds, so that
//! how long and how much is read tells nothing of who is where.
//!
//! It stands in the place of DataFusion's sort-merge join wherever the one condition is that two pseudonyms are equal, neither of
//! which can be null; conditions beyond that, and joins that only ask whether there is a partner, stay with DataFusion's. The rows
//! and the columns are the same, and come in the order of the pseudonyms that the plan states. A pseudonym is compared as a 128-bit number.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use concordat_proto::schema::pseudonyms;
use datafusion::arrow::array::{Array as _, ArrayRef, FixedSizeBinaryArray, RecordBatch, UInt32Array, new_null_array};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::compute::{concat_batches, take};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{JoinType, NullEquality, Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::SortMergeJoinExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt as _, TryStreamExt as _};

/// The type of pseudonyms.
const PSEUDONYM: DataType = DataType::FixedSizeBinary(16);

/// The pseudonyms of a column, as numbers in the order of their bytes.
pub(super) fn numbers(column: &ArrayRef) -> Result<Vec<u128>> {
    let pseudonyms = pseudonyms(column).filter(|_| column.null_count() == 0);
    let pseudonyms = pseudonyms.ok_or_else(|| internal_datafusion_err!("a pseudonym that is none"))?;
    Ok(pseudonyms.iter().map(|bytes| u128::from_be_bytes(*bytes)).collect())
}

/// The column of pseudonyms that an expression is, if none of them can be null.
pub(super) fn pseudonym_column(expr: &Arc<dyn PhysicalExpr>, input: &SchemaRef) -> Option<usize> {
    let position = expr.downcast_ref::<Column>()?.index();
    let field = input.fields().get(position)?;
    (*field.data_type() == PSEUDONYM && !field.is_nullable()).then_some(position)
}

/// The first position from `from` on of which `past` does not hold; it holds of none after that. Near positions are looked at first.
pub(super) fn beyond(keys: &[u128], from: usize, past: impl Fn(u128) -> bool) -> usize {
    let (mut low, mut step) = (from, 1);
    while keys.get(low + step - 1).is_some_and(|key| past(*key)) {
        low += step;
        step *= 2;
    }
    let high = keys.len().min(low + step - 1);
    low + keys.get(low..high).map_or(0, |between| between.partition_point(|key| past(*key)))
}

/// A join on one pseudonym.
#[derive(Debug)]
pub(super) struct MergeJoinExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    /// The columns that are equal.
    on: (usize, usize),
    keeps: Keeps,
    properties: Arc<PlanProperties>,
}

/// Of which sides rows without a partner stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Keeps {
    left: bool,
    right: bool,
}

impl MergeJoinExec {
    /// In the place of `join`, if it can be.
    pub(super) fn of(join: &SortMergeJoinExec) -> Option<Self> {
        let keeps = match join.join_type() {
            JoinType::Inner => Keeps { left: false, right: false },
            JoinType::Left => Keeps { left: true, right: false },
            JoinType::Right => Keeps { left: false, right: true },
            JoinType::Full => Keeps { left: true, right: true },
            _ => return None,
        };
        let ([(left, right)], [options], None) = (join.on(), join.sort_options(), join.filter()) else { return None };
        if options.descending || join.null_equality() != NullEquality::NullEqualsNothing {
            return None;
        }
        let on = (pseudonym_column(left, &join.left().schema())?, pseudonym_column(right, &join.right().schema())?);
        let properties = Arc::clone(join.properties());
        Some(Self { left: join.left().clone(), right: join.right().clone(), on, keeps, properties })
    }
}

impl DisplayAs for MergeJoinExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.keeps.left, self.keeps.right) {
            (false, false) => "Inner",
            (true, false) => "Left",
            (false, true) => "Right",
            (true, true) => "Full",
        };
        write!(f, "MergeJoinExec: join_type={kind}, on=[({}, {})]", self.on.0, self.on.1)
    }
}

impl ExecutionPlan for MergeJoinExec {
    fn name(&self) -> &'static str {
        "MergeJoinExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }
    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // Only what its inputs do inside changes: it is put in when the plan is made.
        let [left, right] = <[_; 2]>::try_from(children).map_err(|_| internal_datafusion_err!("a join of other than two inputs"))?;
        Ok(Arc::new(Self { left, right, on: self.on, keeps: self.keeps, properties: Arc::clone(&self.properties) }))
    }
    // Required by the trait although deprecated in favour of the method above.
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn apply_expressions(&self, _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let held = MemoryConsumer::new("merge join").register(context.memory_pool());
        let merge = Merge {
            left: Side::new(self.left.execute(partition, Arc::clone(&context))?, self.on.0),
            right: Side::new(self.right.execute(partition, Arc::clone(&context))?, self.on.1),
            keeps: self.keeps,
            schema: self.schema(),
            size: context.session_config().batch_size(),
            pairs: Pairs::default(),
            within: 0,
            matched: 0,
            held,
        };
        let batches = futures::stream::try_unfold(merge, |mut merge| async move { Ok(merge.next().await?.map(|batch| (batch, merge))) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// One input, and the batch of it that is at hand.
struct Side {
    input: futures::stream::Fuse<SendableRecordBatchStream>,
    schema: SchemaRef,
    key: usize,
    batch: Option<RecordBatch>,
    keys: Vec<u128>,
    /// The first row that has not been joined.
    at: usize,
    /// What was read ahead; it has rows.
    ahead: Option<RecordBatch>,
    /// Whether the last pseudonym's rows are all in the batch.
    whole: bool,
    /// Whether no two of its rows have the same pseudonym.
    unique: bool,
}

impl Side {
    fn new(input: SendableRecordBatchStream, key: usize) -> Self {
        let schema = input.schema();
        Self { input: input.fuse(), schema, key, batch: None, keys: Vec::new(), at: 0, ahead: None, whole: false, unique: true }
    }

    /// The pseudonyms of `rows`.
    fn keys_of(&self, batch: &RecordBatch, rows: Range<usize>) -> Result<Vec<u128>> {
        let column = batch.columns().get(self.key);
        let column = column.ok_or_else(|| internal_datafusion_err!("a join on a column that is not there"))?;
        numbers(&column.slice(rows.start, rows.len()))
    }

    fn load(&mut self, batch: RecordBatch) -> Result<()> {
        let keys = self.keys_of(&batch, 0..batch.num_rows())?;
        // Rows in another order would lose partners in silence.
        if !keys.is_sorted() || keys.first().is_some_and(|first| self.keys.last().is_some_and(|last| first < last)) {
            return Err(internal_datafusion_err!("a join's input is not in the order of its pseudonyms"));
        }
        index(keys.len())?;
        self.unique = keys.array_windows().all(|[before, after]| before < after);
        (self.keys, self.batch, self.at, self.whole) = (keys, Some(batch), 0, false);
        Ok(())
    }

    /// The next batch that has rows.
    async fn read(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.ahead.take() {
            return Ok(Some(batch));
        }
        while let Some(batch) = self.input.try_next().await? {
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Sees to it that there is a row at hand; whether there is one.
    async fn ready(&mut self) -> Result<bool> {
        if self.at == self.keys.len() {
            let Some(batch) = self.read().await? else { return Ok(false) };
            self.load(batch)?;
        }
        Ok(true)
    }

    /// Whether the rows of the batch's last pseudonym go on in the next one.
    async fn goes_on(&mut self) -> Result<bool> {
        self.ahead = self.read().await?;
        let first = self.ahead.as_ref().map(|ahead| self.keys_of(ahead, 0..1)).transpose()?.unwrap_or_default();
        self.whole = first.first() != self.keys.last();
        Ok(!self.whole)
    }

    /// Brings all rows of the pseudonym at hand, which is the batch's last, into one batch.
    async fn gather(&mut self, held: &mut MemoryReservation) -> Result<()> {
        let mut parts: Vec<RecordBatch> = self.batch.iter().map(|batch| batch.slice(self.at, self.keys.len() - self.at)).collect();
        let mut whole = true;
        while let Some(next) = self.read().await? {
            let (first, last) = (self.keys_of(&next, 0..1)?, self.keys_of(&next, next.num_rows() - 1..next.num_rows())?);
            if first.first() != self.keys.last() {
                self.ahead = Some(next);
                break;
            }
            // Beside the parts stands what they become.
            held.try_grow(next.get_array_memory_size().saturating_mul(2))?;
            parts.push(next);
            if last.first() != self.keys.last() {
                whole = false;
                break;
            }
        }
        self.load(concat_batches(&self.schema, &parts)?)?;
        self.whole = whole;
        Ok(())
    }

    /// The rows at `positions`, column by column, all null beside [`NOBODY`]. `known` are their pseudonyms, if they are at hand.
    fn rows(&self, positions: &[u32], known: Option<ArrayRef>) -> Result<Vec<ArrayRef>> {
        let alone = positions.iter().filter(|position| **position == NOBODY).count();
        let Some(batch) = self.batch.as_ref().filter(|_| alone < positions.len()) else {
            return Ok(self.schema.fields().iter().map(|field| new_null_array(field.data_type(), positions.len())).collect());
        };
        let following = alone == 0 && positions.array_windows().all(|[before, after]| *after == before + 1);
        let indices = UInt32Array::from_iter(positions.iter().map(|position| (*position != NOBODY).then_some(*position)));
        let mut rows: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
        for (position, column) in batch.columns().iter().enumerate() {
            let same = batch.columns().iter().take(position).position(|before| Arc::ptr_eq(before, column));
            let chosen = match (known.as_ref().filter(|_| position == self.key), same.and_then(|same| rows.get(same)), positions.first()) {
                (Some(chosen), ..) | (None, Some(chosen), _) => Arc::clone(chosen),
                (None, None, Some(first)) if following => column.slice(*first as usize, positions.len()),
                _ if position == self.key && alone == 0 => self.pseudonyms_at(positions)?,
                _ => take(column, &indices, None)?,
            };
            rows.push(chosen);
        }
        Ok(rows)
    }

    fn pseudonyms_at(&self, positions: &[u32]) -> Result<ArrayRef> {
        let bytes = positions.iter().map(|position| self.keys.get(*position as usize).copied().unwrap_or_default().to_be_bytes());
        let bytes = bytes.collect::<Vec<_>>().into_flattened();
        Ok(Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(bytes), None)?))
    }
}

/// Rows that were found to belong together, by their positions in the batches at hand.
#[derive(Default)]
struct Pairs {
    left: Vec<u32>,
    right: Vec<u32>,
}

/// Beside a row without partner.
const NOBODY: u32 = u32::MAX;

fn index(position: usize) -> Result<u32> {
    u32::try_from(position).ok().filter(|position| *position != NOBODY).ok_or_else(|| internal_datafusion_err!("a batch that is too large"))
}

impl Pairs {
    fn one_with(&mut self, left: usize, right: Range<usize>) -> Result<()> {
        let left = index(left)?;
        self.left.resize(self.left.len() + right.len(), left);
        self.right.extend(index(right.start)?..index(right.end)?);
        Ok(())
    }

    fn left_alone(&mut self, left: Range<usize>) -> Result<()> {
        self.right.resize(self.right.len() + left.len(), NOBODY);
        self.left.extend(index(left.start)?..index(left.end)?);
        Ok(())
    }

    fn right_alone(&mut self, right: Range<usize>) -> Result<()> {
        self.left.resize(self.left.len() + right.len(), NOBODY);
        self.right.extend(index(right.start)?..index(right.end)?);
        Ok(())
    }
}

/// Why looking for pairs stopped.
enum Stop {
    /// A batch is at its end, or there are pairs for a batch.
    Out,
    /// The right side's pseudonym at hand may go on in its next batch.
    Last,
}

struct Merge {
    left: Side,
    right: Side,
    keeps: Keeps,
    schema: SchemaRef,
    /// Rows of an output batch, about.
    size: usize,
    pairs: Pairs,
    /// Of the right rows with the pseudonym at hand, the first that was not paired with the left row at hand; 0 before any was.
    within: usize,
    /// Right rows before this one have found a partner.
    matched: usize,
    held: MemoryReservation,
}

impl Merge {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if self.right.at == self.right.keys.len() {
                self.begin_right();
                self.held.free();
            }
            match (self.left.ready().await?, self.right.ready().await?) {
                (false, false) => return Ok(None),
                (true, true) => {
                    if let Stop::Last = self.scan()? {
                        if !self.right.goes_on().await? {
                            continue;
                        }
                        // Pairs are of the batches at hand.
                        if self.pairs.left.is_empty() {
                            self.right.gather(&mut self.held).await?;
                            self.begin_right();
                        }
                    }
                }
                (true, false) => {
                    let rest = self.left.at..self.left.keys.len();
                    self.left.at = rest.end;
                    if self.keeps.left {
                        self.pairs.left_alone(rest)?;
                    }
                }
                (false, true) => {
                    let rest = self.right.at.max(self.matched)..self.right.keys.len();
                    self.right.at = rest.end;
                    if self.keeps.right {
                        self.pairs.right_alone(rest)?;
                    }
                }
            }
            if !self.pairs.left.is_empty() {
                return self.put().map(Some);
            }
        }
    }

    /// Nothing of the right batch at hand has been paired.
    fn begin_right(&mut self) {
        (self.within, self.matched) = (0, 0);
    }

    /// Pairs rows until a batch is at its end or there is enough to put out.
    fn scan(&mut self) -> Result<Stop> {
        if self.right.unique && self.keeps == (Keeps { left: false, right: false }) {
            self.scan_unique();
        }
        let Self { left, right, keeps, size, pairs, within, matched, .. } = self;
        while let (Some(&ours), Some(&theirs)) = (left.keys.get(left.at), right.keys.get(right.at)) {
            let room = size.saturating_sub(pairs.left.len());
            if room == 0 {
                break;
            }
            match ours.cmp(&theirs) {
                Ordering::Less => {
                    let to = beyond(&left.keys, left.at, |key| key < theirs);
                    if keeps.left {
                        pairs.left_alone(left.at..to)?;
                    }
                    left.at = to;
                }
                Ordering::Greater => {
                    let to = beyond(&right.keys, right.at, |key| key < ours);
                    if keeps.right {
                        pairs.right_alone(right.at.max(*matched)..to)?;
                    }
                    right.at = to;
                }
                Ordering::Equal => {
                    let end = beyond(&right.keys, right.at, |key| key == theirs);
                    if end == right.keys.len() && !right.whole {
                        return Ok(Stop::Last);
                    }
                    let from = right.at.max(*within);
                    let to = end.min(from.saturating_add(room));
                    pairs.one_with(left.at, from..to)?;
                    *matched = end;
                    if to == end {
                        (*within, left.at) = (0, left.at + 1);
                    } else {
                        *within = to;
                    }
                }
            }
        }
        Ok(Stop::Out)
    }

    /// The same, but for the last right row, where no right row has another's pseudonym and none stays without a partner. Whether two rows
    /// belong together is as good as a coin's toss: nothing here is decided by a jump.
    fn scan_unique(&mut self) {
        let Self { left, right, size, pairs, .. } = self;
        let before = pairs.left.len();
        let ours = left.keys.get(left.at..).unwrap_or_default();
        let theirs = right.keys.get(right.at..right.keys.len().saturating_sub(1)).unwrap_or_default();
        // Each left row has one partner at most.
        let most = before + ours.len().min(size.saturating_sub(before));
        pairs.left.resize(most + 1, 0);
        pairs.right.resize(most + 1, 0);
        let (mut own, mut other, mut found) = (0, 0, before);
        while found < most
            && let (Some(&a), Some(&b)) = (ours.get(own), theirs.get(other))
            && let (Some(a_row), Some(b_row)) = (pairs.left.get_mut(found), pairs.right.get_mut(found))
        {
            // `load` has seen that positions fit.
            (*a_row, *b_row) = ((left.at + own) as u32, (right.at + other) as u32);
            found += usize::from(a == b);
            own += usize::from(a <= b);
            other += usize::from(b < a);
        }
        pairs.left.truncate(found);
        pairs.right.truncate(found);
        left.at += own;
        right.at += other;
    }

    /// The rows of the pairs.
    fn put(&mut self) -> Result<RecordBatch> {
        let pairs = std::mem::take(&mut self.pairs);
        let mut columns = self.left.rows(&pairs.left, None)?;
        // Where each row has both, they are the same.
        let known = columns.get(self.left.key).filter(|_| !self.keeps.left && !self.keeps.right).cloned();
        columns.append(&mut self.right.rows(&pairs.right, known)?);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

#[cfg(test)]
pub(in crate::plan) mod tests;
