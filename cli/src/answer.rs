//! Answers as JSON, exact, for programs: `{"view":…, "columns":[…], "rows":[{…}], "answer":{…}}`.

use arrow::json::WriterBuilder;
use arrow::json::writer::JsonArray;
use serde_json::json;

use crate::client::Answer;
use crate::failure::{Failure, Result};

/// The answer as one JSON object. `view` is null for ad-hoc SQL; nulls of rows are written out; numbers are exact.
pub(crate) fn to_json(view: Option<&str>, answer: &Answer) -> Result<String> {
    let fields = answer.schema.fields().iter();
    let columns: Vec<_> = fields.map(|field| json!({ "name": field.name(), "type": field.data_type().to_string() })).collect();
    let mut rows = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
    let batches: Vec<_> = answer.batches.iter().collect();
    let failed = |e| Failure::new(format!("the answer cannot be written as JSON: {e}"));
    rows.write_batches(&batches).and_then(|()| rows.finish()).map_err(failed)?;
    let rows = String::from_utf8(rows.into_inner()).map_err(|e| Failure::new(e.to_string()))?;
    // The rows' own text stays as it is: it keeps the columns' order.
    let rows = if rows.is_empty() { "[]" } else { rows.as_str() };
    Ok(format!("{{\"view\":{},\"columns\":{},\"rows\":{rows},\"answer\":{}}}\n", json!(view), json!(columns), answer.summary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
    use std::sync::Arc;

    #[test]
    fn numbers_are_exact_and_nulls_are_written() {
        let region: ArrayRef = Arc::new(StringArray::from(vec!["b", "a"]));
        let value: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("region", region, true), ("average", value, true)]).unwrap();
        let answer = Answer { schema: batch.schema(), batches: vec![batch], summary: json!({ "query_id": "q" }) };
        let text = to_json(Some("v"), &answer).unwrap();
        assert!(text.contains(r#"[{"region":"b","average":0.30000000000000004},{"region":"a","average":null}]"#), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["view"], &value["answer"]["query_id"]), (&json!("v"), &json!("q")));
        let empty = Answer { batches: Vec::new(), ..answer };
        let value: serde_json::Value = serde_json::from_str(&to_json(None, &empty).unwrap()).unwrap();
        assert_eq!((&value["rows"], &value["view"]), (&json!([]), &json!(null)));
    }
}
