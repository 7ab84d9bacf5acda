//! Groups and their totals: GROUPING SETS, ROLLUP and CUBE over subjects' rows. A subject's part of a group goes into the group's
//! totals too, and the subject counts once in each.
//!
//! ```text
//! Protect                                                  the set's number is one more key
//!   Aggregate by keys, set: …                              the outer level   (summarise/levels.rs)
//!     Aggregate by keys, set, subject: part = sum(part)    a subject's parts of one total become one
//!       Expand                                             each row once per set, its other keys null   (margins/expand.rs)
//!         Aggregate by keys, subject: part = …             the inner level   (summarise/levels.rs)
//! ```
//!
//! The set's number is DataFusion's own, so that `grouping(…)` reads it, and it tells a null that stands for a total from a key
//! that is null. The published domain is each set's own, and the total over everything is always shown: as without GROUP BY.

mod expand;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;

use concordat_policy::{Code, Permit, Refusal};
use datafusion::arrow::array::{Array as _, ArrayRef, RecordBatch, UInt64Array, new_null_array};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{
    Aggregate, Expr, Extension, GroupingSet, LogicalPlan, LogicalPlanBuilder, Operator, binary_expr, lit, when,
};
use datafusion::sql::sqlparser::ast::{Expr as Ast, GroupByExpr, Select, Statement, Visit as _, Visitor};

pub(super) use self::expand::Expand;
use super::domain::key_domain;
use super::kinds::met;
use super::safe::MAX_MASKED;
use super::shape::{Origin, Rows, refuse};
use super::summarise::MET;

/// The most grouping sets of one GROUP BY: every subject's row is read once for each.
const MAX_SETS: usize = 32;

/// The grouping sets of one aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sets {
    /// The number of keys of all sets together.
    keys: usize,
    /// Each set's number ([`Aggregate::INTERNAL_GROUPING_ID`]): a bit for each key that is not in it, the last key's lowest; above
    /// those, how many sets of the same keys stand before it.
    numbers: Vec<u64>,
    /// The type of the numbers.
    kind: DataType,
}

impl Sets {
    /// The grouping sets of `aggregate`; `None` where its keys are plain ones.
    pub(super) fn of(aggregate: &Aggregate) -> Result<Option<Self>> {
        let [Expr::GroupingSet(grouping)] = aggregate.group_expr.as_slice() else { return Ok(None) };
        let keys = grouping.distinct_expr();
        if keys.len() >= MAX_MASKED {
            return refuse(
                Refusal::new(Code::LimitExceeded, format!("a summary may have at most {MAX_MASKED} columns")).advice("ask for fewer"),
            );
        }
        let Some(field) = aggregate.schema.fields().get(keys.len()) else {
            return refuse(Refusal::internal("grouping sets without a number"));
        };
        let left_out: Vec<u64> = match grouping {
            GroupingSet::Rollup(_) => (0..=keys.len()).rev().map(lowest).collect(),
            GroupingSet::Cube(_) => (0..=lowest(keys.len())).take(MAX_SETS + 1).collect(),
            GroupingSet::GroupingSets(sets) => {
                let bits = |set: &Vec<Expr>| keys.iter().fold(0u64, |bits, &key| (bits << 1) | u64::from(!set.contains(key)));
                sets.iter().map(bits).collect()
            }
        };
        if left_out.len() > MAX_SETS {
            return refuse(too_many());
        }
        let mut numbers = Vec::new();
        for (position, set) in left_out.iter().enumerate() {
            let before = left_out.iter().take(position).filter(|other| *other == set).count() as u64;
            let Some(above) = before.checked_mul(lowest(keys.len()) + 1) else { return repeated() };
            numbers.push(above | set);
        }
        let sets = Self { keys: keys.len(), numbers, kind: field.data_type().clone() };
        // DataFusion chooses a type in which the sets that it takes for the same can be told apart.
        if sets.typed(sets.numbers.clone())?.null_count() > 0 { repeated() } else { Ok(Some(sets)) }
    }

    /// Whether a set is without a key.
    pub(super) fn leaves_out(&self, number: u64, key: usize) -> bool {
        let place = u32::try_from(self.keys.saturating_sub(key + 1)).unwrap_or(u32::MAX);
        number.checked_shr(place).is_some_and(|bits| bits & 1 == 1)
    }

    /// A column of sets' numbers.
    fn typed(&self, numbers: Vec<u64>) -> Result<ArrayRef> {
        Ok(cast(&UInt64Array::from(numbers), &self.kind)?)
    }

    /// The published domain of every set: a column per key, null where the set is without it, and the set's number. Sets whose keys
    /// have none are not in it. `schema` is the aggregate's.
    pub(super) fn domain(&self, permit: &Permit, keys: &[(Expr, Origin)], rows: &Rows, schema: &DFSchema) -> Result<RecordBatch> {
        let mut fields: Vec<Field> = schema.iter().take(self.keys).map(|(_, field)| field.as_ref().clone().with_nullable(true)).collect();
        fields.push(Field::new(Aggregate::INTERNAL_GROUPING_ID, self.kind.clone(), false));
        let schema = Arc::new(Schema::new(fields));
        let mut parts = Vec::new();
        for &number in &self.numbers {
            let within = keys.iter().enumerate().filter(|(key, _)| !self.leaves_out(number, *key));
            let within: Vec<(Expr, Origin)> = within.map(|(_, key)| key.clone()).collect();
            let (listed, combinations) = match key_domain(permit, &within, rows)? {
                Some(domain) => (domain.columns().to_vec(), domain.num_rows()),
                None if within.is_empty() => (Vec::new(), 1),
                None => continue,
            };
            let mut listed = listed.iter();
            let mut columns = Vec::new();
            for (key, field) in schema.fields().iter().take(self.keys).enumerate() {
                let values = if self.leaves_out(number, key) { None } else { listed.next() };
                let nulls = || Ok::<_, ArrowError>(new_null_array(field.data_type(), combinations));
                columns.push(values.map_or_else(nulls, |values| cast(values, field.data_type()))?);
            }
            columns.push(self.typed(vec![number; combinations])?);
            parts.push(RecordBatch::try_new(schema.clone(), columns)?);
        }
        Ok(concat_batches(&schema, &parts)?)
    }

    /// The inner level of `summarise/levels.rs`, once for each set, with each subject's parts of one group put together. Columns: as there,
    /// the set's number after the keys as if it were the last of them.
    pub(super) fn expanded(&self, inner: LogicalPlan, linked: bool) -> Result<LogicalPlan> {
        let columns = inner.schema().columns();
        let Some((groups, parts)) = columns.split_at_checked(self.keys + 1 + usize::from(linked)) else {
            return refuse(Refusal::internal("an inner level of another shape"));
        };
        let number = format!("__k{}", self.keys);
        let expand = Expand::try_new(inner, Arc::new(self.clone()), number.clone())?;
        let (keys, subjects) = groups.split_at(self.keys);
        let groups = keys.iter().cloned().chain([Column::new_unqualified(number)]).chain(subjects.iter().cloned()).map(Expr::Column);
        let one = |part: &Column| if part.name == MET { met(Expr::Column(part.clone())) } else { sum(Expr::Column(part.clone())) };
        let sums = parts.iter().map(|part| one(part).alias(&part.name));
        LogicalPlanBuilder::from(LogicalPlan::Extension(Extension { node: Arc::new(expand) })).aggregate(groups, sums)?.build()
    }

    /// A mask whose first bits are the keys', without those that the row's set, of which `number` is the column, leaves out: such a
    /// null is a total's.
    pub(super) fn of_shown_keys(&self, mask: Expr, number: &Column) -> Result<Expr> {
        (0..self.keys).try_fold(mask, |mask, key| {
            let bit = ScalarValue::UInt64(Some(lowest(self.keys - key) - lowest(self.keys - key - 1))).cast_to(&self.kind)?;
            let zero = ScalarValue::UInt64(Some(0)).cast_to(&self.kind)?;
            let total = binary_expr(Expr::Column(number.clone()), Operator::BitwiseAnd, lit(bit)).not_eq(lit(zero));
            let shown = when(total, lit(!(lowest(key + 1) - lowest(key)))).otherwise(lit(u64::MAX))?;
            Ok(binary_expr(mask, Operator::BitwiseAnd, shown))
        })
    }
}

/// The lowest bits, as many as fewer than 64 `keys`.
fn lowest(keys: usize) -> u64 {
    (0..keys).fold(0u64, |bits, _| (bits << 1) | 1)
}

fn too_many() -> Refusal {
    Refusal::new(Code::LimitExceeded, format!("a GROUP BY may stand for at most {MAX_SETS} grouping sets"))
        .advice("CUBE of n keys stands for 2^n, ROLLUP for n + 1, beside each other for their product; name the sets with GROUPING SETS")
}

fn repeated<T>() -> Result<T> {
    refuse(Refusal::new(Code::Invalid, "the same grouping set stands in the GROUP BY too often").advice("name each set once"))
}

/// Refuses statements whose GROUP BY stands for too many sets, before anything makes them: of a CUBE beside other keys DataFusion
/// makes all 2^n while it plans. Refuses WITH ROLLUP and the like too, which it passes over in silence.
pub(super) fn bounded(statement: &Statement) -> Result<(), Refusal> {
    match statement.visit(&mut Groups) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

struct Groups;

impl Visitor for Groups {
    type Break = Refusal;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refusal> {
        let none: &[Ast] = &[];
        let (keys, with) = match &select.group_by {
            GroupByExpr::All(with) => (none, with),
            GroupByExpr::Expressions(keys, with) => (keys.as_slice(), with),
        };
        if !with.is_empty() {
            return ControlFlow::Break(
                Refusal::new(Code::Invalid, "WITH ROLLUP, CUBE or TOTALS, or GROUPING SETS after keys, is not offered")
                    .advice("write GROUP BY ROLLUP (…), CUBE (…) or GROUPING SETS (…)"),
            );
        }
        let stands_for = |key: &Ast| match key {
            Ast::Cube(keys) => u32::try_from(keys.len()).ok().and_then(|n| 1usize.checked_shl(n)).unwrap_or(usize::MAX),
            Ast::Rollup(keys) => keys.len().saturating_add(1),
            Ast::GroupingSets(sets) => sets.len(),
            _ => 1,
        };
        let sets = keys.iter().fold(1usize, |sets, key| sets.saturating_mul(stands_for(key)));
        if sets > MAX_SETS { ControlFlow::Break(too_many()) } else { ControlFlow::Continue(()) }
    }
}
