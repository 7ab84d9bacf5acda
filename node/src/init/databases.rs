//! Tables of a database, reached as the node itself will reach it: the same `[[connection]]` is read here and written down.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;

use super::table::{Column, InspectError, Rows, Table, column_type};
use super::write::quoted;
use crate::config::connection;
use crate::source::{Connection, Relation, Source, SourceColumn, SourceTable, inspect};

/// The connection's name in the configuration.
const NAME: &str = "database";

/// How a database is reached.
#[derive(Debug, Clone, Default)]
pub struct Reached {
    /// `postgresql://role@host:port/database`, `mysql://user@host:port/database`, `sqlite:file` or `odbc:Driver={…};…`, without a password.
    pub url: String,
    /// A file of mode 0600 that holds the password.
    pub password_file: Option<PathBuf>,
    /// The authorities of the database's certificate.
    pub ca: Option<PathBuf>,
    /// Without TLS, to this machine's own loopback only.
    pub plaintext: bool,
    /// By ODBC: the driver protects the connection, or reads a file.
    pub protected_by_driver: bool,
}

/// What a database offers.
#[derive(Debug)]
pub struct Offer {
    /// `[[connection]]`, as `node.toml` has it.
    pub connection: String,
    /// Its tables and views.
    pub tables: Vec<Table>,
    /// Those that the role may not read.
    pub unreadable: Vec<String>,
}

/// Whether `from` is an address of a database; else it is a path.
#[must_use]
pub fn is_address(from: &str) -> bool {
    from.contains("://") || from.starts_with("sqlite:") || from.starts_with("odbc:")
}

/// Every table and view that the role may read.
///
/// # Errors
/// [`InspectError`]: for a connection that is not sound or cannot be made, and when there is no table.
pub async fn tables(reached: &Reached) -> Result<Offer, InspectError> {
    let text = reached.text()?;
    let connection = connection(&text).map_err(|found| {
        let found = found.findings.iter().map(|finding| (finding.cause(), finding.remedy()));
        let (causes, remedies): (Vec<_>, Vec<_>) = found.unzip();
        InspectError::new("--from", causes.join("; "), remedies.join("; "))
    })?;
    let found = inspect(&connection).await.map_err(|e| {
        InspectError::new(
            connection.address(),
            e.to_string(),
            "correct the address, the password file, --tls-ca or the role's rights; the database must be running",
        )
    })?;
    let (readable, unreadable): (Vec<_>, Vec<_>) = found.into_iter().partition(|table| !table.columns.is_empty());
    if readable.is_empty() {
        return Err(InspectError::new(
            connection.address(),
            "holds no table that this role may read",
            "GRANT SELECT on the tables to the role",
        ));
    }
    let unreadable = unreadable.into_iter().map(|table| table.name.to_string()).collect();
    Ok(Offer { connection: text, tables: readable.into_iter().map(|found| table(&connection, found)).collect(), unreadable })
}

impl Reached {
    /// `[[connection]]`, with paths that hold wherever the configuration lies.
    fn text(&self) -> Result<String, InspectError> {
        let absolute = |path: &Path| -> Result<String, InspectError> {
            let found =
                path.canonicalize().map_err(|e| InspectError::new(path.display(), format!("cannot be read: {e}"), "correct the path"))?;
            let text = found.to_str().ok_or_else(|| InspectError::new(path.display(), "has a path that is not UTF-8", "rename it"))?;
            Ok(text.to_owned())
        };
        let url = match self.url.strip_prefix("sqlite:") {
            Some(file) => format!("sqlite:{}", absolute(Path::new(file))?),
            None => self.url.clone(),
        };
        let mut text = format!("[[connection]]\nname = {}\nurl = {}\n", quoted(NAME), quoted(&url));
        if let Some(path) = &self.password_file {
            let _ = writeln!(text, "password_file = {}", quoted(&absolute(path)?));
        }
        if let Some(path) = &self.ca {
            let _ = writeln!(text, "tls = {{ ca = {} }}", quoted(&absolute(path)?));
        }
        if self.plaintext {
            text.push_str("plaintext = true\n");
        }
        if self.protected_by_driver {
            text.push_str("protected_by_driver = true\n");
        }
        Ok(text)
    }
}

fn table(connection: &Arc<Connection>, found: SourceTable) -> Table {
    let name = found.name.to_string();
    Table {
        // The usual schemas say nothing.
        name: name.strip_prefix("public.").or_else(|| name.strip_prefix("dbo.")).unwrap_or(&name).to_owned(),
        place: format!("{} {name}", connection.address()),
        source: vec![("connection", quoted(NAME)), ("table", quoted(&name))],
        columns: found.columns.into_iter().map(column).collect(),
        rows: rows(Source::Database(Arc::clone(connection), Relation::Table(found.name))),
    }
}

fn column(found: SourceColumn) -> Column {
    let refused = || format!("values of the type {} cannot be offered; a `query` in place of `table` may cast them", found.native);
    let kind = found.read_as.as_ref().and_then(column_type).ok_or_else(refused);
    Column { name: found.name, native: found.native, kind }
}

fn rows(source: Source) -> Rows {
    Box::new(move || {
        let source = source.clone();
        async move { Ok(source.open(&|_| None, None, 1).await?.frame.execute_stream().await?) }.boxed()
    })
}
