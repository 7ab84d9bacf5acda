//! Numbers that are finite, or null: an infinity or NaN would decide every sum and mean that it goes into, so that one value withholds a
//! whole column and what is withheld tells who has it. The node makes them null when it reads its source, and the gateway when a
//! release arrives: it trusts no node to have done so.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _};
use arrow::datatypes::Float64Type;

/// The column with nulls instead of numbers that are not finite; the same where there are none, and where it is of another type.
#[must_use]
pub fn finite(column: &ArrayRef) -> ArrayRef {
    let Some(numbers) = column.as_primitive_opt::<Float64Type>() else { return Arc::clone(column) };
    // Whole arrays at a time, without a branch for each number.
    if numbers.values().iter().fold(true, |all, number| all & number.is_finite()) {
        return Arc::clone(column);
    }
    Arc::new(numbers.unary_opt::<_, Float64Type>(|number| Some(number).filter(|number| number.is_finite())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array as _, Float64Array, Int64Array};

    #[test]
    fn what_is_not_finite_is_null_and_everything_else_stays() {
        let column = |numbers: Vec<Option<f64>>| Arc::new(Float64Array::from(numbers)) as ArrayRef;
        let bad = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN];
        for number in bad {
            let found = finite(&column(vec![Some(1.5), Some(number), None, Some(-0.0)]));
            assert_eq!(found.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(1.5), None, None, Some(-0.0)], "{number}");
        }
        let sliced = finite(&column(vec![Some(f64::NAN), Some(f64::INFINITY), Some(f64::MAX), None]).slice(1, 3));
        assert_eq!(sliced.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [None, Some(f64::MAX), None]);
        for same in
            [column(vec![Some(f64::MAX), Some(f64::MIN_POSITIVE), None]), Arc::new(Int64Array::from(vec![1, i64::MAX])), column(vec![])]
        {
            assert!(Arc::ptr_eq(&same, &finite(&same)));
        }
    }
}
