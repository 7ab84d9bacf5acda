//! Connections: which database, reached how. Several datasets may share one.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::Utc;

#[cfg(feature = "odbc")]
use super::odbc::{self, OdbcSettings};
use super::settings::{Host, Settings};
use super::table::Table;
use super::{
    CHANGED, Changes, Declared, Ending, Opened, Reading, Relation, Shape, SourceColumn, SourceError, SourceTable, State, mysql, postgres,
    session, sqlite,
};

/// A database that the department names.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Its name in the configuration.
    pub name: String,
    /// Which, and how to reach it.
    pub server: Server,
}

/// A kind of database.
#[derive(Debug, Clone)]
pub enum Server {
    /// PostgreSQL.
    Postgres(Arc<Settings>),
    /// MariaDB or MySQL.
    Mysql(Arc<Settings>),
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// What an ODBC driver reaches.
    #[cfg(feature = "odbc")]
    Odbc(Arc<OdbcSettings>),
}

/// A table or query in an open transaction.
pub(super) struct Found {
    /// Every column.
    pub(super) columns: Vec<SourceColumn>,
    /// How a table or view is defined, where changes were asked for and the database tells.
    pub(super) definition: Option<String>,
    /// The columns that can be read.
    pub(super) reading: Arc<dyn Reading>,
    /// How the transaction will have ended.
    pub(super) ending: Ending,
}

impl Connection {
    /// The address, for people; without user and password.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.server {
            Server::Postgres(settings) | Server::Mysql(settings) => match (&settings.host, &self.server) {
                (Host::Name(name), _) => format!("{name}:{}/{}", settings.port, settings.database),
                (Host::Socket(path), Server::Mysql(_)) => format!("{} {}", path.display(), settings.database),
                (Host::Socket(folder), _) => format!("{} (port {})/{}", folder.display(), settings.port, settings.database),
            },
            Server::Sqlite(path) => path.display().to_string(),
            #[cfg(feature = "odbc")]
            Server::Odbc(settings) => format!("ODBC {}", settings.keywords.driver()),
        }
    }

    pub(super) async fn open(
        &self,
        relation: &Relation,
        declared: Declared<'_>,
        changes: Option<&Changes>,
        partitions: usize,
    ) -> Result<Opened, SourceError> {
        // At most a moment before its snapshot is taken.
        let freshness = Utc::now().timestamp();
        let found = match &self.server {
            Server::Postgres(settings) => postgres::open(settings, &self.name, relation, changes).await.map_err(|e| self.failed(&e))?,
            Server::Mysql(settings) => mysql::open(settings, &self.name, relation, declared).await.map_err(|e| self.failed(&e))?,
            Server::Sqlite(path) => sqlite::open(&self.name, path, relation, declared).await?,
            #[cfg(feature = "odbc")]
            Server::Odbc(settings) => odbc::open(settings, &self.name, relation, declared).await.map_err(|e| self.failed(&e))?,
        };
        // All but PostgreSQL take two names that differ in case for one.
        let exact = matches!(self.server, Server::Postgres(_));
        let name = |name: &String| if exact { name.clone() } else { name.to_lowercase() };
        let mut names: Vec<String> = found.columns.iter().map(|column| name(&column.name)).collect();
        names.sort_unstable();
        if let Some([twice, _]) = names.windows(2).find_map(|pair| <&[String; 2]>::try_from(pair).ok().filter(|[a, b]| a == b)) {
            return Err(self.failed(&format!("two columns are called '{twice}': name them apart in the query (AS …)")));
        }
        let frame = |table| Ok::<_, SourceError>(session(partitions)?.read_table(Arc::new(table))?);
        let tells = found.reading.schema().column_with_name(CHANGED).is_some();
        let first = tells.then(|| frame(Table::first(Arc::clone(&found.reading)))).transpose()?;
        let (frame, state) = (frame(Table::new(found.reading))?, State::Snapshot(found.ending));
        let shape = Shape { columns: found.columns, definition: found.definition };
        Ok(Opened { shape, frame, first, freshness, state })
    }

    pub(super) async fn excess(&self, relation: &Relation) -> Result<Vec<String>, SourceError> {
        match &self.server {
            Server::Postgres(settings) => postgres::excess(settings, relation).await.map_err(|e| self.failed(&e)),
            Server::Mysql(settings) => mysql::excess(settings).await.map_err(|e| self.failed(&e)),
            // Opened read-only by SQLite itself.
            Server::Sqlite(_) => Ok(Vec::new()),
            #[cfg(feature = "odbc")]
            Server::Odbc(settings) => odbc::excess(settings, relation).await.map_err(|e| self.failed(&e)),
        }
    }

    pub(super) async fn tables(&self) -> Result<Vec<SourceTable>, SourceError> {
        match &self.server {
            Server::Postgres(settings) => postgres::tables(settings).await.map_err(|e| self.failed(&e)),
            Server::Mysql(settings) => mysql::tables(settings).await.map_err(|e| self.failed(&e)),
            Server::Sqlite(path) => sqlite::tables(&self.name, path).await,
            #[cfg(feature = "odbc")]
            Server::Odbc(settings) => odbc::tables(settings).await.map_err(|e| self.failed(&e)),
        }
    }

    fn failed(&self, cause: &dyn std::fmt::Display) -> SourceError {
        SourceError::Database { connection: self.name.clone(), cause: cause.to_string() }
    }
}
