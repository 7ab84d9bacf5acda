//! `concordat dummy`: rows of nobody, with the columns, types and codes of a dataset or view, to develop against.
//!
//! Made from what the catalogue says and what the gateway tells of a statement without running it. No department is asked.

mod rows;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use clap::Args;
use concordat_policy::ColumnType;
use concordat_proto::schema::wire_type;
use concordat_proto::v1::explain_response::Decision;
use concordat_proto::v1::{CatalogueResponse, Column, Dataset, ExplainResponse, ExplainedTable};
use serde_json::json;

use self::rows::{Values, Wanted, rows};
use super::delivery::Delivery;
use super::query;
use super::target::Target;
use crate::client::{Answer, Stage, Watch as _};
use crate::failure::{Failure, Result};
use crate::table::WITHHELD;

/// What is said of every dummy, on standard error and in whatever the format has for it.
const NOTICE: &str = "made up from the catalogue: no row is about anybody, and no number means anything";
/// The type under which the catalogue shows pseudonyms.
const PSEUDONYM: &str = "pseudonym";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat dummy dfe.attainment --to attainment.parquet
  concordat dummy dwp.claims --rows 100000 --to claims.parquet        (joins with the other on subject: same --rows, same --seed)
  concordat dummy opportunity_by_region --output csv

Rows are made up from what the catalogue says: the columns that you may use, their types and published values, each value as likely as
any other: no department is asked, and no row is read. Pseudonyms begin with 'dummy', as texts of columns without a published
list do; a few values are null. A view gets the columns of its answer, and a row for each combination of the codes by which it groups,
where these columns keep their names; the numbers of some rows are withheld, as they can be in an answer. The same --seed makes the
same rows. JSON says in member 'answer', Arrow and Parquet in the metadata 'concordat.dummy', that it is a dummy; CSV has no place for it.")]
pub(crate) struct Dummy {
    /// A dataset, department.dataset, or an outcome view
    #[arg(value_name = "DATASET|VIEW")]
    of: String,
    /// How many rows; of a view at most one for each combination of its codes
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rows: u32,
    /// Another makes other rows
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    delivery: Delivery,
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(dummy: Dummy) -> Result<()> {
    let format = dummy.delivery.format(dummy.target.saved_output()?)?;
    let progress = dummy.delivery.watch();
    progress.stage(Stage::Connecting);
    let client = dummy.target.connect().await?;
    let catalogue = client.catalogue().await?;
    let name = dummy.of.strip_prefix("views.").unwrap_or(&dummy.of);
    let (view, wanted) = if let Some(dataset) = catalogue.datasets.iter().find(|dataset| dataset.name == dummy.of) {
        (None, of_dataset(dataset))
    } else if let Some(view) = catalogue.views.iter().find(|view| view.name == name) {
        progress.stage(Stage::Planning);
        let sql = query::of_view(&view.name);
        let (columns, explained) = (client.columns(&sql).await?, client.explain(&sql).await?);
        (Some(view.name.as_str()), of_view(&columns, &explained, &catalogue))
    } else {
        return Err(Failure::usage(format!("nothing that you may use for this purpose is called '{}'", dummy.of))
            .advice("`concordat catalogue` lists datasets and views; with --purpose, those of another purpose"));
    };
    let batch = rows(&dummy.of, &wanted, usize::try_from(dummy.rows).unwrap_or(usize::MAX), dummy.seed)?;
    progress.clear();
    let summary = json!({ "dummy": NOTICE, "of": dummy.of, "seed": dummy.seed });
    let answer = Answer { schema: batch.schema(), batches: vec![batch], summary };
    dummy.delivery.hand_over(view, &answer, format, &[format!("dummy of {}: {NOTICE}", dummy.of)])
}

/// A dataset's columns. Text is plain: dictionaries are a matter between node and gateway.
fn of_dataset(dataset: &Dataset) -> Vec<Wanted> {
    let column = |column: &Column| {
        if column.r#type == PSEUDONYM {
            // The title names the identifier's type: columns of one type share their subjects.
            return Wanted { field: field(&column.name, DataType::Utf8, false), values: Values::Subjects(column.title.clone()) };
        }
        let values = if column.values.is_empty() { Values::Any } else { Values::Listed(column.values.clone()) };
        Wanted { field: field(&column.name, plain(&column.r#type), true), values }
    };
    dataset.columns.iter().map(column).collect()
}

/// The columns of a view's answer, with the codes of those columns of datasets that it groups by or shows under their own names.
fn of_view(columns: &SchemaRef, explained: &ExplainResponse, catalogue: &CatalogueResponse) -> Vec<Wanted> {
    let tables = match &explained.decision {
        Some(Decision::Permitted(permitted)) => permitted.tables.as_slice(),
        _ => &[],
    };
    let values = |field: &FieldRef| {
        if field.name() == WITHHELD { Values::Withheld } else { codes(field, tables, catalogue).unwrap_or(Values::Any) }
    };
    columns.fields().iter().map(|field| Wanted { values: values(field), field: Arc::clone(field) }).collect()
}

fn codes(field: &Field, tables: &[ExplainedTable], catalogue: &CatalogueResponse) -> Option<Values> {
    tables.iter().find_map(|table| {
        let used = table.columns.iter().find(|column| column.name == *field.name())?;
        let dataset = catalogue.datasets.iter().find(|dataset| dataset.name == table.dataset)?;
        let column = dataset.columns.iter().find(|column| column.name == *field.name())?;
        let is = |of: &str| used.needs.iter().any(|needed| needed == of);
        let list = match field.data_type() {
            DataType::Boolean => vec!["false".to_owned(), "true".to_owned()],
            _ => column.values.clone(),
        };
        match (is("group_by"), is("output")) {
            _ if list.is_empty() => None,
            (true, _) => Some(Values::Key(list)),
            (false, true) => Some(Values::Listed(list)),
            (false, false) => None,
        }
    })
}

fn field(name: &str, kind: DataType, nullable: bool) -> FieldRef {
    Arc::new(Field::new(name, kind, nullable))
}

/// The type in which an answer shows a column of this type of the catalogue; text for one that a newer gateway may have.
fn plain(kind: &str) -> DataType {
    let known = [ColumnType::Integer, ColumnType::Number, ColumnType::Boolean, ColumnType::Date];
    known.into_iter().find(|known| known.to_string() == kind).map_or(DataType::Utf8, wire_type)
}
