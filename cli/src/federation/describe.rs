//! What a federation consists of, as plain data: the input of [`make`](super::make). `demo`, `init` and the tests fill it in.

use concordat_policy::{Classification, ColumnType, Use};

/// A whole federation.
#[derive(Debug, Clone, Default)]
pub struct Federation {
    /// The departments, each with a node.
    pub departments: Vec<Department>,
    /// The purpose tree, which every node and the gateway hold.
    pub purposes: Vec<Purpose>,
    /// The missions.
    pub missions: Vec<Mission>,
    /// The agreements; every party gets its own copy.
    pub agreements: Vec<Agreement>,
    /// The outcome views.
    pub views: Vec<View>,
    /// What missions are to change.
    pub objects: Vec<Objects>,
    /// For whom `client/client.toml` is written.
    pub caller: Caller,
    /// Who reads the gateway's log; where there is one, every node has an auditor too.
    pub auditor: Option<Caller>,
    /// The gateway's limits.
    pub limits: Limits,
}

/// A department.
#[derive(Debug, Clone, Default)]
pub struct Department {
    /// Its name, for example `dfe`.
    pub id: String,
    /// Its title, for people.
    pub title: String,
    /// Its datasets.
    pub datasets: Vec<Dataset>,
    /// Its file of consent records, relative to the node's folder or absolute.
    pub consent: Option<String>,
    /// Whom callers may ask about its datasets and rules.
    pub contact: Option<String>,
    /// The node's budget for one release, in MiB; the node's own default where absent.
    pub release_memory_mib: Option<u32>,
}

/// A dataset that a node offers.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Its title, for people.
    pub title: String,
    /// File, folder or glob; relative to the node's folder or absolute.
    pub source: String,
    /// `parquet` or `csv`.
    pub format: Format,
    /// The source's column that identifies the subject.
    pub identifier_column: String,
    /// The type of that identifier.
    pub identifier: Identifier,
    /// The second identifier of a link dataset.
    pub linked: Option<Linked>,
    /// The offered columns.
    pub columns: Vec<Column>,
}

/// The second identifier of a link dataset.
#[derive(Debug, Clone)]
pub struct Linked {
    /// The source's column that holds it.
    pub column: String,
    /// Its type.
    pub identifier: Identifier,
}

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Parquet.
    Parquet,
    /// CSV with a header row.
    Csv,
}

impl Format {
    /// As `node.toml` writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }
}

/// A type of identifier: `kind` as in `node.toml`, with `name` and `pattern` for `custom`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier {
    /// `nino`, `nhs_number`, `upn`, `uprn`, `company_number` or `custom`.
    pub kind: String,
    /// For `custom`.
    pub name: Option<String>,
    /// For `custom`.
    pub pattern: Option<String>,
}

impl Identifier {
    /// One of the fixed types.
    #[must_use]
    pub fn of(kind: &str) -> Self {
        Self { kind: kind.to_owned(), name: None, pattern: None }
    }
}

/// An offered column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name in SQL.
    pub name: String,
    /// The type of its values.
    pub kind: ColumnType,
    /// How sensitive it is.
    pub classification: Classification,
    /// What it means, for people.
    pub title: Option<String>,
    /// The published list of its values, where it is a code.
    pub values: Option<Vec<String>>,
    /// The thresholds that conditions may compare it with where an agreement lets it filter; `None` for any value.
    pub bands: Option<Vec<String>>,
    /// Its name in the source, if different.
    pub source: Option<String>,
}

/// An entry of the purpose tree.
#[derive(Debug, Clone)]
pub struct Purpose {
    /// Its name.
    pub id: String,
    /// Its title, for people.
    pub title: String,
    /// The wider purpose.
    pub parent: Option<String>,
    /// Known, but no longer usable.
    pub retired: bool,
}

/// A mission.
#[derive(Debug, Clone)]
pub struct Mission {
    /// Its name.
    pub id: String,
    /// Its title, for people.
    pub title: String,
    /// The political goal.
    pub goal: String,
}

/// A mission's outcomes and outputs.
#[derive(Debug, Clone)]
pub struct Objects {
    /// The mission.
    pub mission: String,
    /// The whole `.toml` file.
    pub text: String,
}

/// An outcome view.
#[derive(Debug, Clone)]
pub struct View {
    /// Its name, `[a-z0-9_]`.
    pub name: String,
    /// The whole `.sql` file, header included.
    pub text: String,
}

/// An agreement. The parties are the departments of its datasets, the keyholder first among them.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// Its name.
    pub id: String,
    /// Its title, for people.
    pub title: String,
    /// The mission it serves.
    pub mission: String,
    /// The purposes it permits.
    pub purposes: Vec<String>,
    /// The first day it is in force.
    pub valid_from: chrono::NaiveDate,
    /// The last day it is in force.
    pub valid_until: chrono::NaiveDate,
    /// The least number of distinct subjects behind any number that is shown.
    pub minimum_subjects: u32,
    /// The other disclosure rules.
    pub disclosure: concordat_policy::Disclosure,
    /// The party that creates the linkage key.
    pub keyholder: String,
    /// The length of an epoch in days.
    pub epoch_days: u32,
    /// What may be taken under it.
    pub limits: concordat_policy::agreement::Limits,
    /// Organisation and roles that may receive answers.
    pub recipients: Vec<(String, Vec<String>)>,
    /// What is agreed about each dataset.
    pub datasets: Vec<AgreedDataset>,
}

/// What is agreed about one dataset.
#[derive(Debug, Clone)]
pub struct AgreedDataset {
    /// Whose.
    pub department: String,
    /// Which; the department's description states its columns.
    pub dataset: String,
    /// Why the law allows it.
    pub basis: concordat_policy::Basis,
    /// The permitted uses of the pseudonym.
    pub subject_uses: Vec<Use>,
    /// Those of a link dataset's second pseudonym.
    pub linked_uses: Vec<Use>,
    /// The permitted uses of columns. Columns that are not named here are not part of the agreement.
    pub columns: Vec<(String, Vec<Use>)>,
}

/// For whom `client.toml` is written.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The issuer's name for the user.
    pub subject: String,
    /// The organisation.
    pub organisation: String,
    /// The roles.
    pub roles: Vec<String>,
    /// The purpose that is declared where none is given.
    pub purpose: String,
}

/// The gateway's limits; its own defaults where absent. The keys are those of `[limits]` in `gateway.toml`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Memory of one query's execution, in MiB.
    pub memory_mib: Option<u32>,
    /// Time of one query, in seconds.
    pub deadline_seconds: Option<u32>,
    /// Size of one answer, in MiB.
    pub answer_mib: Option<u32>,
    /// Time after which an answer that is not read is dropped, in seconds.
    pub unread_seconds: Option<u32>,
    /// Queries at a time.
    pub concurrent_queries: Option<u32>,
    /// Time that a query may wait for a place, in seconds.
    pub wait_seconds: Option<u32>,
    /// Requests of one caller per minute.
    pub caller_requests_per_minute: Option<u32>,
    /// Queries of one caller at a time.
    pub caller_concurrent_queries: Option<u32>,
    /// Rows released for one caller per day.
    pub caller_rows_per_day: Option<u64>,
    /// Time of a detached query, in seconds.
    pub detached_deadline_seconds: Option<u32>,
    /// Time that its answer is kept, in minutes.
    pub detached_keep_minutes: Option<u32>,
}
