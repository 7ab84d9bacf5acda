//! Answers as JSON, exact, for programs: `{"view":…, "columns":[…], "rows":[{…}], "answer":{…}}`.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::json::writer::JsonArray;
use arrow::json::{Writer, WriterBuilder};
use serde_json::{Value, json};

/// An answer on its way. `W` has an object that [`Json::finish`] ends: cut off, it is no JSON.
pub(super) struct Json<W: Write>(Writer<W, JsonArray>);

impl<W: Write> Json<W> {
    /// The head. `view` is null for ad-hoc SQL.
    pub(super) fn start(mut to: W, view: Option<&str>, schema: &Schema) -> io::Result<Self> {
        let fields = schema.fields().iter();
        let columns: Vec<_> = fields.map(|field| json!({ "name": field.name(), "type": field.data_type().to_string() })).collect();
        write!(to, "{{\"view\":{},\"columns\":{},\"rows\":", json!(view), json!(columns))?;
        Ok(Self(WriterBuilder::new().with_explicit_nulls(true).build(to)))
    }

    /// Rows, in the columns' order, nulls written out, numbers exact.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.0.write(batch).map_err(io::Error::other)
    }

    /// The gateway's statement and the end.
    pub(super) fn finish(mut self, summary: &Value) -> io::Result<W> {
        self.0.finish().map_err(io::Error::other)?;
        let mut to = self.0.into_inner();
        writeln!(to, ",\"answer\":{summary}}}")?;
        Ok(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn numbers_are_exact_and_nulls_are_written() {
        let region: ArrayRef = Arc::new(StringArray::from(vec!["b", "a"]));
        let value: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("region", region, true), ("average", value, true)]).unwrap();
        let text = |view, batches: &[&RecordBatch]| {
            let mut json = Json::start(Vec::new(), view, &batch.schema()).unwrap();
            batches.iter().for_each(|batch| json.write(batch).unwrap());
            String::from_utf8(json.finish(&json!({ "query_id": "q" })).unwrap()).unwrap()
        };
        let once = text(Some("v"), &[&batch]);
        assert!(once.contains(r#"[{"region":"b","average":0.30000000000000004},{"region":"a","average":null}]"#), "{once}");
        let value: Value = serde_json::from_str(&once).unwrap();
        assert_eq!((&value["view"], &value["answer"]["query_id"]), (&json!("v"), &json!("q")));
        let value: Value = serde_json::from_str(&text(None, &[])).unwrap();
        assert_eq!((&value["rows"], &value["view"]), (&json!([]), &json!(null)));
        let value: Value = serde_json::from_str(&text(None, &[&batch, &batch.slice(0, 0), &batch])).unwrap();
        assert_eq!(value["rows"].as_array().unwrap().len(), 4);
    }
}
