//! The department's datasets: checked against their sources at start, scanned for releases.
//!
//! A scan reads the identifier and the ordered columns only, in the declared types, of the rows for which the order's predicate
//! is true. What the source holds beside that is never touched.

mod expression;

use std::collections::BTreeMap;
use std::path::Path;

use concordat_policy::column::SUBJECT;
use concordat_policy::{Code, ColumnType, DatasetName, Name, Predicate, Refusal};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::functions::expr_fn::isnan;
use datafusion::logical_expr::{Expr, cast, when};
use datafusion::prelude::ident;

use crate::config::{ColumnConfig, Config, DatasetConfig, Finding, Findings};
use crate::source::{Source, SourceError, SourceFile, freshness, kind};

/// The datasets, by name.
#[derive(Debug)]
pub struct Datasets {
    department: Name,
    datasets: BTreeMap<Name, Dataset>,
}

/// One dataset.
#[derive(Debug)]
pub struct Dataset {
    /// As declared.
    pub config: DatasetConfig,
    source: Source,
}

/// What a scan reads.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The dataset's own name.
    pub dataset: Name,
    /// The columns, in order.
    pub columns: Vec<(String, ColumnType)>,
    /// The rows; `None` means all.
    pub predicate: Option<Predicate>,
    /// The types of the columns that the predicate reads.
    pub predicate_types: BTreeMap<String, ColumnType>,
}

/// A scan that has begun.
pub struct Scan {
    /// The identifier as text (column 0), then the ordered columns, in any order of rows.
    pub streams: Vec<SendableRecordBatchStream>,
    /// When the source last changed, Unix seconds.
    pub freshness: i64,
    /// What to compare the source with when the scan has ended.
    pub witness: Witness,
}

/// The source's files as they were when a scan began.
#[derive(Debug)]
pub struct Witness {
    name: DatasetName,
    source: Source,
    files: Vec<SourceFile>,
}

impl Datasets {
    /// Opens every source and checks that its columns are of types that the declared ones hold exactly.
    ///
    /// # Errors
    /// Every [`Finding`].
    pub async fn open(config: &Config) -> Result<Self, Findings> {
        let text = crate::config::read(&config.path)?;
        let mut findings = Vec::new();
        let mut datasets = BTreeMap::new();
        for (index, declared) in config.datasets.iter().enumerate() {
            let dataset = Dataset { source: Source { path: declared.source.clone(), format: declared.format }, config: declared.clone() };
            dataset.check(&config.path, &text, &index.to_string(), &mut findings).await;
            datasets.insert(declared.name.clone(), dataset);
        }
        if findings.is_empty() { Ok(Self { department: config.department.clone(), datasets }) } else { Err(Findings { findings }) }
    }

    /// Every dataset, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Dataset> {
        self.datasets.values()
    }

    /// The dataset, if it is declared.
    #[must_use]
    pub fn dataset(&self, name: &Name) -> Option<&Dataset> {
        self.datasets.get(name)
    }

    /// Begins to scan what an order, or a preview, asks for.
    ///
    /// # Errors
    /// [`Code::NodeUnavailable`] when the source cannot be read.
    pub async fn scan(&self, order: &Selection, partitions: usize) -> Result<Scan, Refusal> {
        let name = DatasetName::new(self.department.clone(), order.dataset.clone());
        let unreadable = |operator: &dyn std::fmt::Display| unreadable(&name, operator);
        let dataset = self.datasets.get(&order.dataset).ok_or_else(|| unreadable(&"no longer declared"))?;
        let files = tokio::task::spawn_blocking({
            let source = dataset.source.clone();
            move || source.files()
        });
        let files = files.await.map_err(|e| unreadable(&e))?.map_err(|e| unreadable(&e))?;
        let streams = dataset.streams(order, &files, partitions).await.map_err(|e| unreadable(&e))?;
        Ok(Scan { streams, freshness: freshness(&files), witness: Witness { name, source: dataset.source.clone(), files } })
    }
}

impl Dataset {
    /// When the source last changed, Unix seconds; `None` when it cannot be read. Blocks.
    #[must_use]
    pub fn freshness(&self) -> Option<i64> {
        self.source.files().ok().map(|files| freshness(&files))
    }

    async fn streams(
        &self,
        order: &Selection,
        files: &[SourceFile],
        partitions: usize,
    ) -> Result<Vec<SendableRecordBatchStream>, SourceError> {
        let frame = self.source.frame(files, |column| self.csv_type(column), partitions).await?;
        let source = |column: &str| self.config.columns.get(column).map(|c| ident(&c.source));
        let frame = match &order.predicate {
            Some(predicate) => {
                let typed = |column: &str| Some(value(source(column)?, *order.predicate_types.get(column)?));
                frame.filter(expression::expression(predicate, &typed, &order.predicate_types).ok_or(unknown_column())?)?
            }
            None => frame,
        };
        let mut wanted = vec![cast(ident(&self.config.identifier_column), DataType::Utf8).alias(SUBJECT)];
        for (column, kind) in &order.columns {
            wanted.push(value(source(column).ok_or(unknown_column())?, *kind).alias(column));
        }
        Ok(frame.select(wanted)?.execute_stream_partitioned().await?)
    }

    /// The type in which a column of a CSV source is read; identifiers and whatever is not offered are text.
    fn csv_type(&self, source: &str) -> Option<DataType> {
        self.config.columns.values().find(|column| column.source == source).map(|column| storage_type(column.kind))
    }

    async fn check(&self, path: &Path, text: &str, index: &str, findings: &mut Vec<Finding>) {
        let name = &self.config.name;
        let mut finding = |keys: &[&str], cause: String, remedy: &str| {
            findings.push(Finding::at(path, text, &[&["dataset", index][..], keys].concat(), cause, remedy));
        };
        let schema = match self.schema().await {
            Ok(schema) => schema,
            Err(e) => {
                return finding(&["source"], format!("dataset '{name}': {e}"), "correct `source` or `format`, or the file's permissions");
            }
        };
        match schema.field_with_name(&self.config.identifier_column) {
            Ok(field) if is_text(field.data_type()) || field.data_type().is_integer() => {}
            Ok(field) => finding(
                &["identifier", "column"],
                format!("dataset '{name}': the identifier is of type {}", field.data_type()),
                "an identifier is text or a whole number",
            ),
            Err(_) => finding(
                &["identifier", "column"],
                format!("dataset '{name}': the source has no column '{}'", self.config.identifier_column),
                "name the source's column exactly",
            ),
        }
        for (column, declared) in &self.config.columns {
            let keys = ["columns", column.as_str()];
            match schema.field_with_name(&declared.source) {
                Ok(field) if holds(declared, field.data_type()) => {}
                Ok(field) => {
                    let cause = format!(
                        "dataset '{name}': column '{column}' is declared as {} and is {} in the source",
                        declared.kind,
                        field.data_type()
                    );
                    finding(&keys, cause, "declare the type that the source has, or convert the source");
                }
                Err(_) => finding(
                    &keys,
                    format!("dataset '{name}': the source has no column '{}'", declared.source),
                    "name the source's column exactly (`source = \"…\"`), or remove the column",
                ),
            }
        }
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        let files = self.source.files()?;
        let frame = self.source.frame(&files, |column| self.csv_type(column), 1).await?;
        Ok(frame.schema().inner().clone())
    }
}

impl Witness {
    /// A witness of what a test holds in memory.
    #[cfg(test)]
    pub(crate) fn of(source: Source) -> Self {
        let files = source.files().unwrap();
        Self { name: DatasetName::new(crate::fixture::name("dfe"), crate::fixture::name("attainment")), source, files }
    }

    /// Checks that the source is still what it was. Blocks.
    ///
    /// # Errors
    /// [`Code::NodeFaulty`].
    pub fn unchanged(&self) -> Result<(), Refusal> {
        if self.source.files().is_ok_and(|files| files == self.files) {
            return Ok(());
        }
        Err(Refusal::new(
            Code::NodeFaulty,
            format!("the source of '{}' changed while it was read, so the release has no receipt", self.name),
        )
        .department(&self.name.department)
        .advice("ask again; the department should replace files by renaming complete ones"))
    }

    /// The refusal for a scan that failed. The engine's text can hold a whole row, so only the kind of error is kept.
    #[must_use]
    pub fn unreadable(&self, error: &DataFusionError) -> Refusal {
        unreadable(&self.name, kind(error))
    }
}

fn unreadable(name: &DatasetName, operator: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::NodeUnavailable, format!("the source of '{name}' cannot be read"))
        .department(&name.department)
        .advice("the department's operator finds the cause in the node's own diagnostics")
        .operator(operator)
}

/// A column in the type that is declared for it. A NaN is no number: it becomes null, else one row would decide every sum.
fn value(column: Expr, kind: ColumnType) -> Expr {
    let typed = cast(column, storage_type(kind));
    if kind != ColumnType::Number {
        return typed;
    }
    let null = Expr::Literal(ScalarValue::Float64(None), None);
    when(isnan(typed.clone()), null).otherwise(typed.clone()).unwrap_or(typed)
}

fn unknown_column() -> DataFusionError {
    DataFusionError::Plan("the order names a column that is not declared".into())
}

/// The Arrow type in which a column is carried inside the node. Text becomes a dictionary only on the wire.
pub(crate) fn storage_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Text => DataType::Utf8,
        ColumnType::Integer => DataType::Int64,
        ColumnType::Number => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Date => DataType::Date32,
    }
}

fn is_text(found: &DataType) -> bool {
    match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// Whether the declared type holds every value of the source's type. A `UInt64` beyond `Int64` fails the release, and is not changed.
fn holds(declared: &ColumnConfig, found: &DataType) -> bool {
    match declared.kind {
        ColumnType::Text => is_text(found),
        ColumnType::Integer => found.is_integer(),
        ColumnType::Number => found.is_numeric(),
        ColumnType::Boolean => *found == DataType::Boolean,
        ColumnType::Date => *found == DataType::Date32,
    }
}

#[cfg(test)]
mod tests;
