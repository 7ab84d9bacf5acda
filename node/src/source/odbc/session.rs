//! One connection by a driver, with what its kind of database needs for one state; and a driver's errors in our words.
//!
//! | database | one state, because |
//! |---|---|
//! | SQL Server | one statement under `SNAPSHOT`, or under `READ COMMITTED` where the database's own rows are versioned; else refused |
//! | Oracle | one transaction, `READ ONLY` |
//! | PostgreSQL | one transaction, `READ ONLY`, `REPEATABLE READ` |
//! | another | one statement: what it sees is for the department to know, and `check` says so |
//!
//! Every transaction ends with a rollback: whatever a statement did, nothing of it stays. `SQL_ATTR_ACCESS_MODE` is not set: `odbc-api` has
//! no safe call for it, and drivers take it as a hint only. Nor is there a safe call that cancels: a statement that nobody waits for
//! ends with its next rows or with its time.

use std::time::Duration;

use odbc_api::buffers::{BufferDesc, ColumnarDynBuffer};
use odbc_api::handles::{Statement, StatementImpl};
use odbc_api::{Connection, ConnectionOptions, Cursor as _, CursorImpl, Error, environment};

use super::places::Place;
use super::settings::OdbcSettings;

/// How long signing in may take, in seconds: well within the ten in which a gateway wants an order answered.
const LOGIN_SECONDS: u32 = 4;
/// How long a statement may take, in seconds.
const STATEMENT_SECONDS: usize = 600;
/// The longest name or right that a catalogue tells, in units of UTF-16.
const LONGEST_NAME: usize = 512;

/// Why a driver gave nothing. None of its own texts is kept: they can quote values.
#[derive(Debug, thiserror::Error)]
pub(in crate::source) enum OdbcError {
    #[error("the driver or server refused (SQLSTATE {state}, error {native}): {}", meaning(state))]
    State { state: String, native: i32 },
    #[error("{0}")]
    Driver(&'static str),
    #[error("{}: {}", .0.place, .0.cause)]
    File(concordat_operate::Fault),
}

impl From<Error> for OdbcError {
    fn from(error: Error) -> Self {
        match error {
            Error::Diagnostics { record, .. } => Self::State { state: record.state.as_str().to_owned(), native: record.native_error },
            Error::FailedAllocatingEnvironment | Error::UnsupportedOdbcApiVersion(_) => {
                Self::Driver("the driver manager does not speak ODBC 3.8: install a newer unixODBC")
            }
            Error::TooLargeValueForBuffer { .. } => Self::Driver("an answer is longer than its description"),
            Error::InvalidRowArraySize { .. } => Self::Driver("the driver does not give several rows at a time"),
            Error::OracleOdbcDriverDoesNotSupport64Bit(_) => {
                Self::Driver("the driver does not give integers of 64 bits: cast the column in a `query`, to a decimal")
            }
            _ => Self::Driver("the driver does not do what ODBC asks of it"),
        }
    }
}

fn meaning(state: &str) -> &'static str {
    match state {
        "28000" | "28P01" => "the password is wrong, or the account may not sign in like this or from here",
        "01000" | "IM003" | "IM004" => "the driver's library cannot be loaded (odbcinst -q -d lists the drivers)",
        "IM002" => "the driver manager knows no such driver or data source (odbcinst -q -d and -q -s list them)",
        "42S02" | "42P01" => "there is no such table; names are exact",
        "42S22" | "42703" => "there is no such column",
        "42501" => "the account may not read this (GRANT SELECT ON the table)",
        "25006" => "the statement would write",
        "HYT00" | "HYT01" | "HY008" | "57014" => "the statement was cancelled or took too long",
        _ if state.starts_with("08") => "the server cannot be reached, does not prove itself, or ended the connection",
        _ if state.starts_with("22") => "the query failed on a value",
        _ if state.starts_with("42") || state == "37000" => "the query is not valid SQL, or the account may not read this",
        _ => "see the server's log",
    }
}

/// A kind of database, by the name that its driver tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    SqlServer,
    Oracle,
    Postgres,
    Other,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            _ if name.ends_with("SQL Server") => Self::SqlServer,
            _ if name.starts_with("Oracle") => Self::Oracle,
            _ if name.starts_with("PostgreSQL") => Self::Postgres,
            _ => Self::Other,
        }
    }
}

pub(super) type RowsOf<'c> = CursorImpl<StatementImpl<'c>>;

/// An open transaction.
pub(super) struct Session {
    // Taken when it ends.
    connection: Option<Connection<'static>>,
    place: Option<Place>,
    pub(super) kind: Kind,
    quote: char,
}

impl Session {
    /// Connects and opens a transaction. Blocks.
    pub(super) fn begin(settings: &OdbcSettings) -> Result<Self, OdbcError> {
        let place = settings.place().ok_or(OdbcError::Driver("64 connections to this database are open: it is too slow for the orders"))?;
        let given = settings.connection_string().map_err(OdbcError::File)?;
        let options = ConnectionOptions { login_timeout_sec: Some(LOGIN_SECONDS), packet_size: None };
        let connection = environment()?.connect_with_connection_string(&given, options)?;
        // Before anything is asked: only a session ends a connection without the driver's words.
        let mut session = Self { connection: Some(connection), place: Some(place), kind: Kind::Other, quote: '"' };
        session.kind = Kind::of(&session.connection().database_management_system_name()?);
        session.quote = session
            .connection()
            .identifier_quote_char()?
            .filter(char::is_ascii_punctuation)
            .ok_or(OdbcError::Driver("the driver tells no character that quotes names (SQL_IDENTIFIER_QUOTE_CHAR)"))?;
        session.prepare()?;
        Ok(session)
    }

    fn prepare(&self) -> Result<(), OdbcError> {
        let connection = self.connection();
        match self.kind {
            Kind::SqlServer => {
                let versioned = self.texts(
                    "SELECT CAST(snapshot_isolation_state AS varchar(1)), CAST(is_read_committed_snapshot_on AS varchar(1)) \
                     FROM sys.databases WHERE database_id = DB_ID()",
                    2,
                )?;
                self.run(isolation(&versioned)?)?;
                self.run("SET LOCK_TIMEOUT 3000")?;
                connection.set_autocommit(false)?;
            }
            Kind::Oracle => {
                self.run("ALTER SESSION SET NLS_NUMERIC_CHARACTERS = '.,'")?;
                self.run("ALTER SESSION SET TIME_ZONE = '+00:00'")?;
                connection.set_autocommit(false)?;
                self.run("SET TRANSACTION READ ONLY")?;
            }
            Kind::Postgres => {
                self.run("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")?;
                self.run("SET TIME ZONE 'UTC'")?;
                connection.set_autocommit(false)?;
            }
            Kind::Other => connection.set_autocommit(false)?,
        }
        Ok(())
    }

    #[expect(clippy::expect_used, reason = "it is taken by `drop` and `end` only")]
    pub(super) fn connection(&self) -> &Connection<'static> {
        self.connection.as_ref().expect("a session has its connection")
    }

    /// A statement without an answer.
    fn run(&self, statement: &str) -> Result<(), OdbcError> {
        if let Some(cursor) = self.connection().execute(statement, (), None)? {
            drop(cursor.into_stmt());
        }
        Ok(())
    }

    /// Begins a statement that gives rows.
    pub(super) fn rows(&self, statement: &str) -> Result<RowsOf<'_>, OdbcError> {
        let mut prepared = self.connection().preallocate()?;
        // A driver that knows no limit has none, which `check` tells: an order's own time ends the scan with its next rows.
        let _ = prepared.set_query_timeout_sec(STATEMENT_SECONDS);
        prepared.into_cursor(statement, ())?.ok_or(OdbcError::Driver("the statement gives no rows"))
    }

    /// Whether the driver takes a limit of a statement's time.
    pub(super) fn limits_time(&self) -> Result<bool, OdbcError> {
        Ok(self.connection().preallocate()?.set_query_timeout_sec(STATEMENT_SECONDS).is_ok())
    }

    /// The rows of a statement whose columns are short texts. A null is an empty text.
    pub(super) fn texts(&self, statement: &str, columns: u16) -> Result<Vec<Vec<String>>, OdbcError> {
        texts(self.rows(statement)?, &(1..=columns).collect::<Vec<_>>())
    }

    /// The tables and views that the driver lists, as schema and name; the schema is empty where there is none.
    pub(super) fn listed(&self) -> Result<Vec<Vec<String>>, OdbcError> {
        let catalog = match self.kind {
            // Without it, tables of the other databases are listed too.
            Kind::SqlServer => self.texts("SELECT DB_NAME()", 1)?.into_iter().flatten().next().unwrap_or_default(),
            _ => String::new(),
        };
        let statement = self.connection().preallocate()?;
        texts(statement.into_tables_cursor(&catalog, "%", "%", "TABLE,VIEW")?, &[2, 3])
    }

    /// A name between the driver's quotes.
    pub(super) fn name(&self, name: &str) -> String {
        let quote = self.quote;
        format!("{quote}{}{quote}", name.replace(quote, &format!("{quote}{quote}")))
    }

    /// Forgets what a failed statement left of the transaction, and begins another.
    pub(super) fn again(&self) -> Result<(), OdbcError> {
        self.connection().rollback()?;
        if self.kind == Kind::Oracle { self.run("SET TRANSACTION READ ONLY") } else { Ok(()) }
    }

    /// Ends the transaction. That the database confirms it says that it was whole.
    pub(super) fn end(self) -> Result<(), OdbcError> {
        Ok(self.connection().rollback()?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let place = self.place.take();
            let leave = move || {
                // By hand, because dropping it panics with the driver's own words when the server is gone.
                let mut handle = connection.into_handle();
                let _ = handle.rollback();
                let _ = handle.disconnect();
                drop(place);
            };
            // A server may let itself be waited for.
            let _ = std::thread::Builder::new().name("odbc end".into()).spawn(leave);
        }
    }
}

/// How a statement of SQL Server comes to see one moment; by whether snapshots are on, and whether committed rows are versioned.
fn isolation(versioned: &[Vec<String>]) -> Result<&'static str, OdbcError> {
    let [row] = versioned else { return Err(OdbcError::Driver("the server does not tell how its database isolates statements")) };
    match row.as_slice() {
        [snapshots, _] if snapshots == "1" => Ok("SET TRANSACTION ISOLATION LEVEL SNAPSHOT"),
        [_, committed] if committed == "1" => Ok("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"),
        _ => Err(OdbcError::Driver(
            "a statement of this database does not see one moment: \
             ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON, or READ_COMMITTED_SNAPSHOT ON",
        )),
    }
}

fn texts<S: Statement>(cursor: CursorImpl<S>, columns: &[u16]) -> Result<Vec<Vec<String>>, OdbcError> {
    let buffers = columns.iter().map(|column| (*column, BufferDesc::WText { max_str_len: LONGEST_NAME }));
    let mut block = cursor.bind_buffer(ColumnarDynBuffer::from_descs_and_indices(64, buffers))?;
    let mut rows = Vec::new();
    while let Some(fetched) = block.fetch_with_truncation_check(true)? {
        for row in 0..fetched.num_rows() {
            let text = |place| {
                let text = fetched.column(place).as_wide_text().and_then(|column| column.get(row)).unwrap_or_default();
                String::from_utf16(text).map_err(|_| OdbcError::Driver("a name is not UTF-16"))
            };
            rows.push((0..columns.len()).map(text).collect::<Result<Vec<_>, _>>()?);
        }
    }
    let (cursor, _) = block.unbind()?;
    drop(cursor.into_stmt());
    Ok(rows)
}

/// Runs on a thread of its own: a driver may keep it for minutes, and neither the runtime nor its end waits for that.
pub(super) async fn apart<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> Result<T, OdbcError> + Send + 'static,
) -> Result<T, OdbcError> {
    let (sender, done) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("odbc".into()).spawn(move || drop(sender.send(work())));
    thread.map_err(|_| OdbcError::Driver("no thread can be had"))?;
    match tokio::time::timeout(time, done).await {
        Ok(done) => done.unwrap_or(Err(OdbcError::Driver("the driver failed"))),
        Err(_) => Err(OdbcError::Driver("the server did not answer in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_known_by_the_name_that_their_driver_tells() {
        for (name, kind) in [
            ("Microsoft SQL Server", Kind::SqlServer),
            ("Oracle", Kind::Oracle),
            ("PostgreSQL", Kind::Postgres),
            ("SQLite", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
        }
    }

    #[test]
    fn sql_server_is_read_at_one_moment_or_not_at_all() {
        let row = |snapshots: &str, committed: &str| vec![vec![snapshots.to_owned(), committed.to_owned()]];
        assert!(isolation(&row("1", "1")).unwrap().ends_with("SNAPSHOT"));
        assert!(isolation(&row("1", "0")).unwrap().ends_with("SNAPSHOT"));
        assert!(isolation(&row("0", "1")).unwrap().ends_with("READ COMMITTED"));
        // 2 and 3 are on their way.
        for refused in [row("0", "0"), row("3", "0"), row("", ""), Vec::new()] {
            assert!(isolation(&refused).unwrap_err().to_string().contains("moment") || refused.is_empty());
        }
    }

    #[test]
    fn errors_hold_the_code_and_none_of_the_drivers_words() {
        let error = OdbcError::State { state: "42S02".into(), native: 208 }.to_string();
        assert_eq!(error, "the driver or server refused (SQLSTATE 42S02, error 208): there is no such table; names are exact");
    }
}
