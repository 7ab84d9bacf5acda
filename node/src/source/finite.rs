//! A source's numbers as a release holds them: finite, or null ([`concordat_proto::finite`]). One function of the engine, so that a
//! condition on it can be told from others and sent to a database ([`super::sql`]).

use std::sync::{Arc, LazyLock};

use concordat_proto::finite::finite as only_finite;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, create_udf};

/// The function's name.
pub(super) const NAME: &str = "finite";

static FUNCTION: LazyLock<ScalarUDF> =
    LazyLock::new(|| create_udf(NAME, vec![DataType::Float64], DataType::Float64, Volatility::Immutable, Arc::new(evaluate)));

/// A 64-bit number, or null where it is an infinity or a NaN.
#[must_use]
pub fn finite(number: Expr) -> Expr {
    FUNCTION.call(vec![number])
}

fn evaluate(values: &[ColumnarValue]) -> Result<ColumnarValue> {
    match values {
        [ColumnarValue::Array(numbers)] => Ok(ColumnarValue::Array(only_finite(numbers))),
        [ColumnarValue::Scalar(number)] => {
            let number = only_finite(&number.to_array()?);
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&number, 0)?))
        }
        _ => internal_err!("{NAME} takes one number"),
    }
}
