//! The department's datasets: checked against their sources at start, scanned for releases.
//!
//! A scan reads the identifier and the ordered columns only, in the declared types, of the rows for which the agreement's
//! condition and the order's predicate are true. Columns that the agreement codes are coded here, before the predicate and before
//! anything else sees a value. What the source holds beside that is never touched, but for what changes with a row of a database, where
//! its department names that: it tells rows apart, and is in no release.

mod apart;
mod expression;
mod versions;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use concordat_policy::coded::Coded;
use concordat_policy::column::{LINKED, SUBJECT};
use concordat_policy::{Code, ColumnType, DatasetName, Name, Predicate, Refusal};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::dataframe::DataFrame;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, Operator, binary_expr, cast, when};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::{SessionContext, ident};

use self::apart::Told;
pub(crate) use self::apart::can_be_told_apart;
pub use self::apart::{Apart, Known, LeftOut, PART, Parts};
pub use self::versions::{Stayed, Versions, values};
use crate::config::{ColumnConfig, Config, DatasetConfig, Finding, Findings};
use crate::source::{Opened, Relation, Seen, Shape, Source, SourceError, State, finite, freshness, kind};

/// The datasets, by name.
#[derive(Debug)]
pub struct Datasets {
    department: Name,
    datasets: BTreeMap<Name, Dataset>,
    /// What the operator should know, though the sources can be read: rights at databases that the node should not have.
    pub warnings: Vec<String>,
}

/// One dataset.
#[derive(Debug)]
pub struct Dataset {
    /// As declared.
    pub config: DatasetConfig,
    // How old the data was when it was last looked at, Unix seconds.
    fresh: AtomicI64,
}

/// What a scan reads.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The dataset's own name.
    pub dataset: Name,
    /// Whether the second identifier of a link dataset is read: the choices of its subject count.
    pub linked: bool,
    /// The columns, in order.
    pub columns: Vec<(String, ColumnType)>,
    /// What every row must meet by the agreement; `None` means nothing. It meets values as the source holds them.
    pub condition: Option<Predicate>,
    /// The rows that are asked for; `None` means all. It meets coded values.
    pub predicate: Option<Predicate>,
    /// The types of the columns that both read.
    pub predicate_types: BTreeMap<String, ColumnType>,
    /// The columns that are coded, by the agreement.
    pub coded: BTreeMap<String, Coded>,
}

/// A scan that has begun.
pub struct Scan {
    /// The identifier as text (column 0), then the second one if it was selected, then the ordered columns, in any order of rows.
    pub streams: Vec<SendableRecordBatchStream>,
    /// How old the data is, Unix seconds: when files last changed, or when a database's snapshot was taken.
    pub freshness: i64,
    /// By what a snapshot of it is told from others; `None` where none is kept.
    pub(crate) seen: Option<Seen>,
    /// By what rows are told apart, in the column [`PART`] after the others.
    pub apart: Option<Apart>,
    /// Rows that are left out because they are known.
    pub left_out: LeftOut,
    /// What the source is made of.
    pub shape: Shape,
    /// Whether all of it was one state of the source.
    pub witness: Witness,
}

/// The state of the source in which a scan reads.
#[derive(Debug)]
pub struct Witness {
    name: DatasetName,
    state: State,
}

impl Datasets {
    /// Opens every source and checks that its columns are of types that the declared ones hold exactly.
    ///
    /// # Errors
    /// Every [`Finding`].
    pub async fn open(config: &Config) -> Result<Self, Findings> {
        let text = crate::config::read(&config.path)?;
        let mut findings = Vec::new();
        let (mut datasets, mut warnings) = (BTreeMap::new(), Vec::new());
        for (index, declared) in config.datasets.iter().enumerate() {
            let dataset = Dataset { config: declared.clone(), fresh: AtomicI64::new(0) };
            dataset.check(&config.path, &text, &index.to_string(), &mut findings).await;
            warnings.extend(dataset.excess().await);
            datasets.insert(declared.name.clone(), dataset);
        }
        let department = config.department.clone();
        if findings.is_empty() { Ok(Self { department, datasets, warnings }) } else { Err(Findings { findings }) }
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

    /// What a snapshot of a dataset must have seen to answer an order now: its files as they are, or its database or store no longer ago
    /// than its department lets it be. `None` where each order is read anew, or files cannot be looked at. Blocks.
    pub(crate) fn required(&self, name: &Name) -> Option<Seen> {
        let config = &self.datasets.get(name)?.config;
        match &config.source {
            Source::Files(files) => files.files().ok().map(Seen::Files),
            Source::Objects(..) | Source::Database(..) => Seen::at(config.snapshot_age?),
        }
    }

    /// Begins to scan what an order, or a preview, asks for.
    ///
    /// # Errors
    /// [`Code::NodeUnavailable`] when the source cannot be read.
    pub async fn scan(&self, order: &Selection, partitions: usize) -> Result<Scan, Refusal> {
        self.begin(order, partitions, false, None).await
    }

    /// The same, with what tells rows apart where the source has that: of several files the number of each row's, of a database versions.
    /// Without those that are `known` and as they were, as long as the source's columns are: a source of Parquet files has the types of
    /// the first, and a file is read in them.
    ///
    /// # Errors
    /// As [`Datasets::scan`].
    pub async fn scan_apart(&self, order: &Selection, partitions: usize, known: Option<&Known>) -> Result<Scan, Refusal> {
        self.begin(order, partitions, true, known).await
    }

    async fn begin(&self, order: &Selection, partitions: usize, apart: bool, known: Option<&Known>) -> Result<Scan, Refusal> {
        let name = DatasetName::new(self.department.clone(), order.dataset.clone());
        let unreadable = |operator: &dyn std::fmt::Display| unreadable(&name, operator);
        let dataset = self.datasets.get(&order.dataset).ok_or_else(|| unreadable(&"no longer declared"))?;
        let now = Seen::at(Duration::ZERO);
        let opened = dataset.open(partitions).await.map_err(|e| unreadable(&e))?;
        // A database's columns may have changed since the node started.
        let unfit = dataset.unfit(&opened);
        if let Some(unfit) = unfit.first() {
            return Err(unreadable(&unfit.cause));
        }
        let tells = dataset.tells(&opened).is_ok();
        let Opened { shape, frame, first, freshness, state } = opened;
        let known = known.filter(|known| known.shape == shape).map(|known| &known.parts);
        let told = match (&state, &dataset.config.changes) {
            (State::Files(files, found), _) if apart && can_be_told_apart(found) => {
                dataset.by_file(order, &frame, (files, found), known, partitions).await
            }
            (State::Snapshot(_), Some(changes)) if apart && tells => dataset.by_version(order, frame, first, changes, known).await,
            _ => dataset.streams(order, frame, None).await.map(|streams| Told { streams, apart: None, left_out: LeftOut::Nothing }),
        };
        let Told { streams, apart, left_out } = told.map_err(|e| unreadable(&e))?;
        let seen = match &state {
            State::Files(_, found) => Some(Seen::Files(found.clone())),
            State::Snapshot(_) => now.filter(|_| dataset.config.snapshot_age.is_some()),
        };
        Ok(Scan { streams, freshness, seen, apart, left_out, shape, witness: Witness { name, state } })
    }
}

/// The condition that says of each row of typed and coded columns, as a scan gives them, whether it is asked for.
///
/// # Errors
/// For a column that is not among `columns`.
pub(crate) fn condition(
    predicate: &Predicate,
    columns: &DFSchema,
    types: &BTreeMap<String, ColumnType>,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let column = |name: &str| columns.has_column_with_unqualified_name(name).then(|| ident(name));
    let expression = expression::expression(predicate, &column, types).ok_or(unknown_column())?;
    SessionContext::new().create_physical_expr(expression, columns)
}

/// Why a column of the source cannot be what the configuration says.
struct Unfit {
    keys: Vec<String>,
    cause: String,
    remedy: &'static str,
}

impl Dataset {
    /// How old the data was when it was last looked at, Unix seconds; `None` when it cannot be read. Files are looked at now
    /// (blocks); objects and databases when the node starts and whenever they are scanned.
    #[must_use]
    pub fn freshness(&self) -> Option<i64> {
        match &self.config.source {
            Source::Files(files) => files.files().ok().map(|files| freshness(&files)),
            Source::Objects(..) | Source::Database(..) => Some(self.fresh.load(Ordering::Relaxed)).filter(|fresh| *fresh > 0),
        }
    }

    /// One state of the source, ready to be read.
    async fn open(&self, partitions: usize) -> Result<Opened, SourceError> {
        let opened = self.config.source.open(&|column| self.wanted_type(column), self.config.changes.as_ref(), partitions).await?;
        self.fresh.store(opened.freshness, Ordering::Relaxed);
        Ok(opened)
    }

    /// The rows of a frame that an order is about.
    fn narrowed(&self, order: &Selection, frame: DataFrame) -> Result<DataFrame, SourceError> {
        let source = |column: &str| self.config.columns.get(column).map(|c| ident(&c.source));
        let types = &order.predicate_types;
        let held = |column: &str| value(source(column)?, *types.get(column)?, None).ok();
        let coded = |column: &str| value(source(column)?, *types.get(column)?, order.coded.get(column)).ok();
        let condition = order.condition.as_ref().map(|condition| expression::expression(condition, &held, types));
        let predicate = order.predicate.as_ref().map(|predicate| expression::expression(predicate, &coded, types));
        let mut conditions = condition.into_iter().chain(predicate);
        Ok(conditions.try_fold(frame, |frame, only| frame.filter(only.ok_or(unknown_column())?))?)
    }

    /// Streams over a frame, with what tells its rows from others, if anything does.
    async fn streams(
        &self,
        order: &Selection,
        frame: DataFrame,
        part: Option<Expr>,
    ) -> Result<Vec<SendableRecordBatchStream>, SourceError> {
        let frame = self.narrowed(order, frame)?;
        let mut wanted = vec![cast(ident(&self.config.identifier_column), DataType::Utf8).alias(SUBJECT)];
        if order.linked {
            let linked = self.config.linked.as_ref().ok_or(unknown_column())?;
            wanted.push(cast(ident(&linked.column), DataType::Utf8).alias(LINKED));
        }
        for (column, kind) in &order.columns {
            let source = self.config.columns.get(column).map(|column| ident(&column.source));
            wanted.push(value(source.ok_or(unknown_column())?, *kind, order.coded.get(column))?.alias(column));
        }
        wanted.extend(part.map(|part| part.alias(PART)));
        Ok(frame.select(wanted)?.execute_stream_partitioned().await?)
    }

    /// The type in which a column is wanted, of sources whose own types say little; `None` for identifiers and whatever is not offered.
    fn wanted_type(&self, source: &str) -> Option<DataType> {
        self.config.columns.values().find(|column| column.source == source).map(|column| storage_type(column.kind))
    }

    async fn check(&self, path: &Path, text: &str, index: &str, findings: &mut Vec<Finding>) {
        let mut finding = |keys: &[&str], cause: &str, remedy: &str| {
            let cause = format!("dataset '{}': {cause}", self.config.name);
            findings.push(Finding::at(path, text, &[&["dataset", index][..], keys].concat(), cause, remedy));
        };
        let opened = match self.open(1).await {
            Ok(opened) => opened,
            Err(e) => {
                let (key, remedy) = match (&self.config.source, &e) {
                    (Source::Files(_), _) => ("source", "correct `source` or `format`, or the file's permissions"),
                    (Source::Objects(..), _) => ("source", "correct `source`, `format` or the [[connection]]; the store must be running"),
                    (Source::Database(_, Relation::Query(_)), _) => ("query", CONNECTION),
                    (Source::Database(..), _) => ("table", CONNECTION),
                };
                return finding(&[key], &e.to_string(), remedy);
            }
        };
        for unfit in self.unfit(&opened).into_iter().chain(self.tells(&opened).err()) {
            let keys: Vec<&str> = unfit.keys.iter().map(String::as_str).collect();
            finding(&keys, &unfit.cause, unfit.remedy);
        }
    }

    /// Every column that the source has not, or not in a type that the declared one holds exactly.
    fn unfit(&self, opened: &Opened) -> Vec<Unfit> {
        let mut all = Vec::new();
        let mut unfit = |keys: &[&str], cause: String, remedy| {
            all.push(Unfit { keys: keys.iter().map(|key| (*key).to_owned()).collect(), cause, remedy });
        };
        let found = |name: &str| opened.shape.columns.iter().find(|column| column.name == name);
        let linked = self.config.linked.as_ref().map(|linked| ("linked", linked.column.as_str()));
        for (key, identifier) in std::iter::once(("identifier", self.config.identifier_column.as_str())).chain(linked) {
            match found(identifier).map(|column| (column, column.read_as.as_ref())) {
                Some((_, Some(kind))) if is_key(kind) => {}
                Some((column, _)) => unfit(
                    &[key, "column"],
                    format!("the identifier is of type {}", column.native),
                    "an identifier is text or a whole number",
                ),
                None => unfit(&[key, "column"], format!("the source has no column '{identifier}'"), "name the source's column exactly"),
            }
        }
        for (column, declared) in &self.config.columns {
            let keys = ["columns", column.as_str()];
            match found(&declared.source).map(|column| (column, column.read_as.as_ref())) {
                Some((_, Some(kind))) if holds(declared, kind) => {}
                Some((source, Some(_))) => unfit(
                    &keys,
                    format!("column '{column}' is declared as {} and is {} in the source", declared.kind, source.native),
                    "declare the type that the source has, or convert the source",
                ),
                Some((source, None)) => unfit(
                    &keys,
                    format!("column '{column}' is of the type {}, which is not offered", source.native),
                    "remove the column, or use `query` and cast it there to text, a number, a boolean or a date",
                ),
                None => unfit(
                    &keys,
                    format!("the source has no column '{}'", declared.source),
                    "name the source's column exactly (`source = \"…\"`), or remove the column",
                ),
            }
        }
        all
    }

    /// Whether rows can be told from what they were, where the department names what changes with them; else why not.
    fn tells(&self, opened: &Opened) -> Result<(), Unfit> {
        let Some(changes) = &self.config.changes else { return Ok(()) };
        let key = opened.shape.columns.iter().find(|column| column.name == changes.key).and_then(|column| column.read_as.as_ref());
        let (key, column, wanted) = if !key.is_some_and(is_key) {
            ("key", &changes.key, "text or a whole number")
        } else if opened.first.is_none() {
            ("column", &changes.column, "a whole number of at most 18 digits, or a time of milliseconds at least")
        } else {
            return Ok(());
        };
        Err(Unfit {
            keys: vec!["changes".into(), key.into()],
            cause: format!("the source has no column '{column}' that is {wanted}"),
            remedy: "name another column, or leave `changes` out: snapshots are read whole then",
        })
    }

    /// Rights at the database that a reader does not need, each as a sentence. A source that cannot be read has its own finding.
    async fn excess(&self) -> Vec<String> {
        let name = &self.config.name;
        let found = self.config.source.excess().await;
        let found = found.unwrap_or_else(|e| vec![format!("what the node's role may do beside reading could not be asked: {e}")]);
        found.into_iter().map(|excess| format!("dataset '{name}': {excess}")).collect()
    }
}

impl Witness {
    /// A witness of what a test holds in memory.
    #[cfg(test)]
    pub(crate) fn of(files: crate::source::Files) -> Self {
        let found = files.files().unwrap();
        let name = DatasetName::new(crate::fixture::name("dfe"), crate::fixture::name("attainment"));
        Self { name, state: State::Files(files, found) }
    }

    /// Checks that all that was read was one state of the source. Blocks.
    ///
    /// # Errors
    /// [`Code::NodeFaulty`].
    pub fn unchanged(&self) -> Result<(), Refusal> {
        if self.state.is_one() {
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

const CONNECTION: &str = "correct the dataset's table or query, the [[connection]], or the role's rights; the database must be running";

/// A column in the type that is declared for it, coded where it is. A NaN or an infinity is no number: it becomes null, else one row
/// would decide every sum.
fn value(column: Expr, kind: ColumnType, coded: Option<&Coded>) -> Result<Expr, DataFusionError> {
    let mut typed = cast(column, storage_type(kind));
    if kind == ColumnType::Number {
        typed = finite(typed);
    }
    // A null is neither below nor above, and stays.
    let below = coded.and_then(|coded| coded.at_least).map(|bound| (bound, Operator::Lt));
    let above = coded.and_then(|coded| coded.at_most).map(|bound| (bound, Operator::Gt));
    for (bound, beyond) in below.into_iter().chain(above) {
        let bound = bound.value(kind).ok_or_else(|| DataFusionError::Plan("a bound that is no value of its column".into()))?;
        let bound = expression::literal(&bound, kind);
        typed = when(binary_expr(typed.clone(), beyond, bound.clone()), bound).otherwise(typed)?;
    }
    Ok(typed)
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

/// Whether values of the type tell subjects or rows apart.
fn is_key(found: &DataType) -> bool {
    is_text(found) || found.is_integer()
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
