//! What a CSV or Parquet source offers, for a federation that is tried out: the node's own inspection, as a description.

use std::collections::BTreeSet;
use std::path::Path;

use concordat_node::config;
use concordat_node::init::codes::codes;
use concordat_node::init::files::{format_of, table};
use concordat_node::init::table::sql_name;
use concordat_node::init::{InspectError, Table};
use concordat_policy::{Classification, ColumnType, IdentifierType};

use crate::failure::{Failure, Result};
use crate::federation::describe::{Column, Format};

/// What a source holds.
pub(super) struct Inferred {
    pub(super) source: String,
    pub(super) format: Format,
    pub(super) columns: Vec<Column>,
    /// Columns of types that cannot be offered, with the reason.
    pub(super) skipped: Vec<String>,
    pub(super) rows: u64,
    pub(super) valid_identifiers: u64,
}

/// Reads the whole source.
pub(super) async fn infer(path: &Path, identifier_column: &str, identifier: &IdentifierType) -> Result<Inferred> {
    let table = table(path).await.map_err(failure)?;
    if !table.columns.iter().any(|column| column.name == identifier_column) {
        let named = table.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>();
        return Err(Failure::usage(format!("{} has no column '{identifier_column}'", path.display()))
            .advice(format!("its columns are: {}", named.join(", "))));
    }
    let listed = |kind: &ColumnType| matches!(kind, ColumnType::Text | ColumnType::Integer);
    let wanted: BTreeSet<&str> =
        table.columns.iter().filter(|column| column.kind.as_ref().is_ok_and(listed)).map(|column| column.name.as_str()).collect();
    let mut found = codes(&table, identifier_column, identifier, &wanted).await.map_err(failure)?;
    let format = match format_of(path).map_err(failure)? {
        config::Format::Csv => Format::Csv,
        config::Format::Parquet => Format::Parquet,
    };
    let (columns, skipped) = columns(&table, identifier_column, |column| found.lists.remove(column));
    Ok(Inferred { source: table.place, format, columns, skipped, rows: found.rows, valid_identifiers: found.valid })
}

fn failure(error: InspectError) -> Failure {
    Failure::new(error.to_string()).advice(error.remedy)
}

/// The offered columns, and what cannot be offered.
fn columns(table: &Table, identifier_column: &str, mut values: impl FnMut(&str) -> Option<Vec<String>>) -> (Vec<Column>, Vec<String>) {
    let (mut columns, mut skipped): (Vec<Column>, _) = (Vec::new(), Vec::new());
    for found in table.columns.iter().filter(|column| column.name != identifier_column) {
        let kind = match &found.kind {
            Ok(kind) => *kind,
            Err(why) => {
                skipped.push(format!("'{}': {why}", found.name));
                continue;
            }
        };
        let name = sql_name(&found.name);
        if columns.iter().any(|column| column.name == name) {
            skipped.push(format!("'{}': another column is called {name} already", found.name));
            continue;
        }
        let (values, source) = (values(&found.name), Some(found.name.clone()).filter(|source| *source != name));
        columns.push(Column { name, kind, classification: Classification::Personal, title: None, values, bands: None, source });
    }
    (columns, skipped)
}
