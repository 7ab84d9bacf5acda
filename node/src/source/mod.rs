//! Sources: where a dataset's rows are, and how they are read. Nothing here knows of agreements, consent or pseudonyms.
//!
//! | source | read by | one state, because | freshness |
//! |---|---|---|---|
//! | [`Files`]: CSV, Parquet | the engine's own readers | the files are the same when the scan has ended | the newest file's change |
//! | objects of a store that speaks S3: CSV, Parquet | [`objects`]: the engine's own readers, in ranges | each is read as it was listed, by its tag | the newest object's change |
//! | PostgreSQL: a table or query | [`postgres`]: binary `COPY`, decoded straight into Arrow | one transaction, `READ ONLY REPEATABLE READ`, committed after the last row | when the snapshot was taken |
//! | MariaDB, MySQL: a table or query | [`mysql`]: one prepared `SELECT` | one transaction, `READ ONLY`, `REPEATABLE READ`, of a consistent snapshot | when the snapshot was taken |
//! | SQL Server, Oracle, others: a table or query, with the feature `odbc` | `odbc`: one `SELECT`, fetched in columns | one statement, as its database promises it | when the columns were looked at |
//! | SQLite: a table or query | [`sqlite`]: one statement | one read transaction | when the snapshot was taken |
//!
//! ```text
//! Source::open ─▶ Opened { shape · frame · freshness · state } ─▶ frame: projection, conditions, limit ─▶ streams ─▶ state.is_one
//! ```
//!
//! Invariants
//! - A column's type either has one Arrow type that holds its values, or the column is not in the frame and [`SourceColumn::read_as`]
//!   is `None`: `check` refuses it by its type's name.
//! - An infinity or a NaN is read as it is, and becomes null where a release reads a column as a number ([`finite()`]).
//! - A value that the Arrow type cannot hold fails the scan. Errors name the column and never the value; of a database's own error
//!   texts, which quote values, only the code is kept.
//! - A condition is handed to a database only where its SQL selects at least the rows for which it is true ([`sql`]); the engine
//!   evaluates it again.
//! - A scan that is dropped stops at the database too; by ODBC, with its next rows.
//! - Of PostgreSQL, where the department names what changes with a row ([`Changes`]), that can be read first, in the same transaction.
//!
//! To add a kind of database: implement [`Reading`] for one open transaction and give [`connection::Server`] a variant.
//!
//! Deliberately absent: pools (a scan opens its own connection: 6 ms beside a scan, and a database that was restarted is found
//! again by itself), writing, and the drivers with OpenSSL.

mod batch;
pub mod connection;
mod files;
mod finite;
mod mysql;
mod objects;
#[cfg(feature = "odbc")]
mod odbc;
mod postgres;
pub mod settings;
pub(crate) mod sql;
mod sqlite;
mod table;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrame;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

pub use self::connection::Connection;
pub(crate) use self::files::touched;
pub use self::files::{Files, SourceFile, freshness};
pub use self::finite::finite;
pub use self::objects::{Objects, Store};
#[cfg(feature = "odbc")]
pub use self::odbc::{Keywords, OdbcSettings};
pub(crate) use self::table::{Reading, Wanted};

/// Rows of a batch of a scan.
pub(crate) const BATCH_ROWS: usize = 32_768;

/// Why a source could not be read. For the operator. The engine's texts can hold whole rows, so only their kind is said.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or folder.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// No file at all.
    #[error("{0}: no such file, or nothing in it")]
    Nothing(PathBuf),
    /// CSV files of one source with different headers.
    #[error("{0}: another header row than the source's first file")]
    Header(PathBuf),
    /// The engine.
    #[error("the source cannot be read: {}", kind(.0))]
    Engine(DataFusionError),
    /// A database: which connection, and what happened, in our words.
    #[error("connection '{connection}': {cause}")]
    Database {
        /// The connection's name.
        connection: String,
        /// Without values and without the database's own text.
        cause: String,
    },
    /// What was read first in a transaction did not agree with the rows that were read then.
    #[error(
        "two readings within one transaction gave other rows: leave `changes` out of the dataset, whose rows are not those of one state"
    )]
    Changed,
    /// A value that the type in which its column is read cannot hold.
    #[error("a value of column '{column}' {cause}")]
    Value {
        /// The source's column.
        column: String,
        /// What is wrong with it, without the value.
        cause: &'static str,
    },
}

impl From<DataFusionError> for SourceError {
    fn from(error: DataFusionError) -> Self {
        Self::Engine(error)
    }
}

impl From<SourceError> for DataFusionError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Engine(error) => error,
            error => Self::External(Box::new(error)),
        }
    }
}

/// What kind of error it was, without the source's contents.
pub(crate) fn kind(error: &DataFusionError) -> String {
    // The engine's readers wrap what a source says in errors of their own.
    let mut chain = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    if let Some(ours) = chain.find_map(|e| e.downcast_ref::<SourceError>()) {
        return ours.to_string();
    }
    let kind = match error.find_root() {
        DataFusionError::ArrowError(..) => {
            "a row does not fit the declared types, or the file is damaged: `check` the configuration against the source"
        }
        DataFusionError::ParquetError(_) => "the Parquet file is damaged",
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => "a file cannot be opened or read",
        DataFusionError::ResourcesExhausted(_) => "not enough memory",
        _ => "the engine failed",
    };
    kind.into()
}

/// Where a dataset's rows are.
#[derive(Debug, Clone)]
pub enum Source {
    /// Files.
    Files(Files),
    /// Objects of a store.
    Objects(Arc<Store>, Objects),
    /// A database.
    Database(Arc<Connection>, Relation),
}

/// What is read of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// A table or view, by its exact name.
    Table(TableName),
    /// A `SELECT`, in the database's own SQL, as the department wrote it.
    Query(String),
}

/// A table's exact name: nothing is folded to another case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// Its schema, where the database has such.
    pub schema: Option<String>,
    /// Its own name.
    pub name: String,
}

impl TableName {
    /// Reads `name` or `schema.name`; everything after the first dot is the name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (schema, name) = text.split_once('.').map_or((None, text), |(schema, name)| (Some(schema.to_owned()), name));
        let sound = |part: &str| !part.is_empty() && !part.contains('\0');
        (sound(name) && schema.as_deref().is_none_or(sound)).then(|| Self { schema, name: name.to_owned() })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.schema.iter().try_for_each(|schema| write!(f, "{schema}."))?;
        f.write_str(&self.name)
    }
}

/// A column as the source itself describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceColumn {
    /// Its name in the source.
    pub name: String,
    /// The source's own name of its type, `numeric(10,2)` or `Utf8`.
    pub native: String,
    /// The type in which its values are read; `None` where no type of a dataset's columns holds them.
    pub read_as: Option<DataType>,
}

/// What a source is made of, but for its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Every column, also those that cannot be read.
    pub columns: Vec<SourceColumn>,
    /// How a table or view of a database is defined beside that, where it was asked for what changes.
    pub definition: Option<String>,
}

impl From<Vec<SourceColumn>> for Shape {
    fn from(columns: Vec<SourceColumn>) -> Self {
        Self { columns, definition: None }
    }
}

/// A table that a connection offers, for proposing datasets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTable {
    /// Its name, as `table` takes it.
    pub name: TableName,
    /// Its columns, in the table's order; empty where the role may not read it.
    pub columns: Vec<SourceColumn>,
}

/// What tells whether a row of a database is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The column that tells a row from all others.
    pub key: String,
    /// The column that holds something else whenever anything of the row was changed: a number, or a time.
    pub column: String,
}

/// What stands in the column that changes, in a frame: a number, or the microseconds since 2000 of a time. No column of a source has a NUL in its name.
pub const CHANGED: &str = "\0changed";

/// The type that the configuration wants for a column of the source, by the column's name there: for sources whose own types
/// say little.
pub type Declared<'a> = &'a (dyn Fn(&str) -> Option<DataType> + Send + Sync);

/// One state of a source, ready to be read.
pub struct Opened {
    /// What it is made of.
    pub shape: Shape,
    /// The columns that can be read, and [`CHANGED`] where it was asked for. Runs once.
    pub frame: DataFrame,
    /// The same, where there is [`CHANGED`]: what is read of it, to its end and once, is of the state of which `frame` is read then.
    pub first: Option<DataFrame>,
    /// How old the data is, Unix seconds.
    pub freshness: i64,
    /// The state that is read.
    pub state: State,
}

/// The state of a source in which a scan reads.
#[derive(Debug)]
pub enum State {
    /// Files, as they were.
    Files(Files, Vec<SourceFile>),
    /// A database's snapshot.
    Snapshot(Ending),
}

impl State {
    /// Whether everything that was read belongs to one state: the files are still the same; the transaction stayed open to the
    /// end of the rows and was ended in order. Blocks.
    #[must_use]
    pub fn is_one(&self) -> bool {
        match self {
            Self::Files(files, then) => files.files().is_ok_and(|now| now == *then),
            Self::Snapshot(ending) => ending.0.load(Ordering::Acquire),
        }
    }
}

/// By what a snapshot of a source is told from its present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Its files, as they were found.
    Files(Vec<SourceFile>),
    /// A database or a store of objects, at that time by both clocks: neither says whether anything changed without being read.
    At(Instant, SystemTime),
}

impl Seen {
    /// What was read now, or `ago`.
    pub(crate) fn at(ago: Duration) -> Option<Self> {
        Some(Self::At(Instant::now().checked_sub(ago)?, SystemTime::now().checked_sub(ago)?))
    }

    /// Whether what was read when this was seen answers who asks for `wanted`: the same files, or a time that is not before that one.
    pub(crate) fn answers(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Files(then), Self::Files(now)) => then == now,
            // One clock stands still while a machine is suspended, the other can be set back.
            (Self::At(then, wall), Self::At(earliest, by_wall)) => then >= earliest && wall >= by_wall,
            _ => false,
        }
    }
}

/// How a transaction ended: whole, or not (yet).
#[derive(Debug, Clone, Default)]
pub struct Ending(Arc<AtomicBool>);

impl Ending {
    /// Every row was given, and the database confirmed the end of the transaction.
    pub(crate) fn whole(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Source {
    /// Opens one state of the source. Reads no row.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn open(&self, declared: Declared<'_>, changes: Option<&Changes>, partitions: usize) -> Result<Opened, SourceError> {
        match self {
            Self::Files(files) => open_files(files, declared, partitions).await,
            Self::Objects(store, objects) => store.open(objects, declared, partitions).await,
            Self::Database(connection, relation) => connection.open(relation, declared, changes, partitions).await,
        }
    }

    /// What the node's role at a database could do beside reading this source; empty for files and objects.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn excess(&self) -> Result<Vec<String>, SourceError> {
        match self {
            // What else a key may do, a store does not tell.
            Self::Files(_) | Self::Objects(..) => Ok(Vec::new()),
            Self::Database(connection, relation) => connection.excess(relation).await,
        }
    }
}

async fn open_files(files: &Files, declared: Declared<'_>, partitions: usize) -> Result<Opened, SourceError> {
    let found = tokio::task::spawn_blocking({
        let files = files.clone();
        move || files.files()
    });
    let found = found.await.map_err(|e| DataFusionError::External(Box::new(e)))??;
    let (frame, freshness) = (files.frame(&found, declared, partitions).await?, freshness(&found));
    let state = State::Files(files.clone(), found);
    Ok(Opened { shape: columns(&frame).into(), freshness, state, frame, first: None })
}

/// The columns of files.
fn columns(frame: &DataFrame) -> Vec<SourceColumn> {
    let column =
        |name: &String, kind: &DataType| SourceColumn { name: name.clone(), native: kind.to_string(), read_as: Some(kind.clone()) };
    frame.schema().fields().iter().map(|field| column(field.name(), field.data_type())).collect()
}

/// Tables and columns of a database, with the types that the database gives them. Reads no row and changes nothing.
///
/// # Errors
/// [`SourceError`].
pub async fn inspect(connection: &Connection) -> Result<Vec<SourceTable>, SourceError> {
    connection.tables().await
}

/// A session over one source. The engine's own string views and its caches are off: views drag whole buffers along, and a cached
/// listing would hide a change of the source.
pub(crate) fn session(partitions: usize) -> Result<SessionContext, DataFusionError> {
    let config = SessionConfig::new()
        .with_target_partitions(partitions.max(1))
        .with_batch_size(BATCH_ROWS)
        .with_collect_statistics(false)
        .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
    // What a source holds is sorted and spilled by releases, in their own private folder; the engine writes nothing.
    let runtime = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_engine_writes_nothing_to_disk() {
        assert!(!super::session(2).unwrap().runtime_env().disk_manager.tmp_files_enabled());
    }
}
