//! The published domain of a result's keys: every combination of the listed values that the statement's own conditions let
//! through. `Protect` shows each of them, so that a group of nobody and a group of a few look alike, and a key never tells
//! where one person is. It depends on the agreement and the statement only, never on data.

use std::sync::Arc;

use concordat_policy::{ColumnRule, ColumnType, Permit};
use datafusion::arrow::array::{Array as _, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::{cast, filter, take};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{DFSchema, Result};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::create_physical_expr;

use super::shape::{Origin, Rows};

/// Larger domains are not completed; their small groups are left out instead.
const MAX_COMBINATIONS: usize = 2_000;

/// The domain of `keys`, a column per key; `None` where a key has no published list or there are too many combinations.
pub(super) fn key_domain(permit: &Permit, keys: &[(Expr, Origin)], rows: &Rows) -> Result<Option<RecordBatch>> {
    let mut lists = Vec::new();
    let mut combinations = 1usize;
    for (_, origin) in keys {
        let Origin::Source((dataset, column)) = origin else { return Ok(None) };
        let rule = permit.dataset(dataset).and_then(|p| p.dataset.columns.get(column));
        let Some(mut values) = rule.and_then(listed) else { return Ok(None) };
        for (source, named, condition) in &rows.narrowed_by {
            if source.0 == *dataset && source.1 == *column {
                values = narrowed(values, named, condition)?;
            }
        }
        combinations = combinations.saturating_mul(values.len());
        lists.push(values);
    }
    if lists.is_empty() || combinations > MAX_COMBINATIONS {
        return Ok(None);
    }
    let fields: Vec<Field> = lists.iter().enumerate().map(|(i, l)| Field::new(format!("k{i}"), l.data_type().clone(), true)).collect();
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut stride = combinations;
    for list in &lists {
        stride /= list.len().max(1);
        let positions: UInt32Array =
            (0..combinations).filter_map(|i| u32::try_from((i / stride.max(1)) % list.len().max(1)).ok()).collect();
        columns.push(take(list, &positions, None)?);
    }
    Ok(Some(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?))
}

/// A column's published values in their wire type.
fn listed(rule: &ColumnRule) -> Option<ArrayRef> {
    let values = rule.values.as_deref();
    Some(match rule.kind {
        ColumnType::Boolean => Arc::new(BooleanArray::from(vec![false, true])),
        ColumnType::Text => {
            let text = StringArray::from_iter_values(values?);
            cast(&text, &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))).ok()?
        }
        ColumnType::Integer => Arc::new(Int64Array::from(values?.iter().map(|v| v.parse().ok()).collect::<Option<Vec<i64>>>()?)),
        ColumnType::Number => Arc::new(Float64Array::from(values?.iter().map(|v| v.parse().ok()).collect::<Option<Vec<f64>>>()?)),
        ColumnType::Date => cast(&StringArray::from_iter_values(values?), &DataType::Date32).ok().filter(|d| d.null_count() == 0)?,
    })
}

/// The values for which a condition of the statement on this column alone is true.
fn narrowed(values: ArrayRef, named: &datafusion::common::Column, condition: &Expr) -> Result<ArrayRef> {
    let schema = Arc::new(Schema::new(vec![Field::new(named.name.clone(), values.data_type().clone(), true)]));
    let qualified = match &named.relation {
        Some(relation) => DFSchema::try_from_qualified_schema(relation.clone(), &schema)?,
        None => DFSchema::try_from(schema.as_ref().clone())?,
    };
    let batch = RecordBatch::try_new(schema, vec![values.clone()])?;
    let keep = create_physical_expr(condition, &qualified, &ExecutionProps::new(), &PhysicalPlanningContext::default())?
        .evaluate(&batch)?
        .into_array(batch.num_rows())?;
    Ok(filter(&values, as_boolean_array(&keep)?)?)
}
