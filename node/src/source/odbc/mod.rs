//! ODBC: a table or query of SQL Server, Oracle, or whatever else a driver of the department's own choice reaches.
//!
//! ```text
//! connect ─▶ one moment (by the kind of database) ─▶ columns of a prepared statement ─▶ SELECT ─▶ fetched column by column ─▶ batches ─▶ rollback
//! ```
//!
//! Only with the cargo feature `odbc`: `odbc-api` links the machine's driver manager, unixODBC, and the drivers are code of others that runs
//! in this process. Each scan has a thread of its own, which a driver may keep until its statement's time is up.
//!
//! | | |
//! |---|---|
//! | memory | the driver fetches into at most 8 MiB (a single row if that is larger), and two batches wait |
//! | sent to the database | the columns; conditions stay with the engine, because what they mean differs between databases |
//! | a scan that is dropped | ends with the next rows: ODBC's own cancelling has no safe call in `odbc-api` |
//! | a driver that does not come back | keeps one of its connection's 64 places ([`places`]) until its statement's time is up |
//! | one state | [`session`]: one statement, in a transaction that ends with a rollback |
//!
//! The department's administrator wrote the query and chose the driver, so both are trusted as `node.toml` is. SQL Server has no read-only
//! transaction: what keeps a query from writing there is the rollback, and an account that may only read ([`rights`] says when it may more).
//!
//! Deliberately absent: TLS and certificates of our own. The driver has them, and `keywords` refuses what would turn them off or does not tell.

mod columns;
mod decode;
mod keywords;
mod places;
mod read;
mod rights;
mod session;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use self::columns::columns;
pub use self::keywords::Keywords;
use self::read::Rows;
pub(super) use self::session::OdbcError;
use self::session::{Kind, Session, apart};
pub use self::settings::OdbcSettings;
use super::connection::Found;
use super::{Declared, Ending, Relation, SourceTable, TableName};

/// How long signing in and describing may take: within the ten seconds in which a gateway wants an order answered.
const OPEN: Duration = Duration::from_secs(8);
/// How long the list of the tables of a database may take.
const LIST: Duration = Duration::from_secs(300);

/// Opens the transaction in which it is read, and looks at the columns.
pub(super) async fn open(
    settings: &Arc<OdbcSettings>,
    connection: &str,
    relation: &Relation,
    declared: Declared<'_>,
) -> Result<Found, OdbcError> {
    let (settings, relation) = (Arc::clone(settings), relation.clone());
    let opened = apart(OPEN, move || {
        let session = Session::begin(&settings)?;
        let from = from(&session, &relation);
        let described = described(&session, &from)?;
        Ok((session, from, described))
    });
    let (session, from, described) = opened.await?;
    let (all, readable) = columns(described, declared);
    let ending = Ending::default();
    let rows = Rows::new(connection, session, from, readable, ending.clone());
    Ok(Found { columns: all, definition: None, reading: Arc::new(rows), ending })
}

/// What the account may do beside reading, as far as its kind of database tells; and whether a statement could go on for ever.
pub(super) async fn excess(settings: &Arc<OdbcSettings>, relation: &Relation) -> Result<Vec<String>, OdbcError> {
    let (settings, relation) = (Arc::clone(settings), relation.clone());
    apart(OPEN, move || {
        let session = Session::begin(&settings)?;
        let mut told = rights::excess(&session, &relation)?;
        if !session.limits_time()? {
            told.push(
                "the driver takes no limit of a statement's time: a slow statement keeps one of the connection's 64 places until it ends"
                    .into(),
            );
        }
        Ok(told)
    })
    .await
}

/// Every table and view that the driver lists, with the columns that a statement would give.
pub(super) async fn tables(settings: &Arc<OdbcSettings>) -> Result<Vec<SourceTable>, OdbcError> {
    let settings = Arc::clone(settings);
    apart(LIST, move || {
        let session = Session::begin(&settings)?;
        let hidden = hidden(&session)?;
        let mut tables = Vec::new();
        for listed in session.listed()? {
            let [schema, name] = <[String; 2]>::try_from(listed).map_err(|_| OdbcError::Driver("the driver lists tables without names"))?;
            if hidden.contains(&schema) {
                continue;
            }
            let name = TableName { schema: Some(schema).filter(|schema| !schema.is_empty()), name };
            let columns = match described(&session, &from_table(&session, &name)) {
                Ok(described) => columns(described, &|_| None).0,
                // The account may not read all columns, or a view is broken: the table is listed without.
                Err(OdbcError::State { .. }) => {
                    session.again()?;
                    Vec::new()
                }
                Err(e) => return Err(e),
            };
            tables.push(SourceTable { name, columns });
        }
        session.end()?;
        Ok(tables)
    })
    .await
}

/// Schemas that are the database's own.
fn hidden(session: &Session) -> Result<Vec<String>, OdbcError> {
    let fixed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Ok(match session.kind {
        Kind::SqlServer => fixed(&["sys", "INFORMATION_SCHEMA"]),
        Kind::Postgres => fixed(&["pg_catalog", "information_schema"]),
        Kind::Oracle => {
            let own = session.texts("SELECT USERNAME FROM ALL_USERS WHERE ORACLE_MAINTAINED = 'Y'", 1)?;
            own.into_iter().flatten().collect()
        }
        Kind::Other => Vec::new(),
    })
}

type Described = Vec<(String, odbc_api::DataType)>;

/// The columns' names and types, by a statement that is prepared and gives no row.
fn described(session: &Session, from: &str) -> Result<Described, OdbcError> {
    columns::described(&mut session.connection().prepare(&format!("SELECT * FROM {from} WHERE 1 = 0"))?)
}

/// What stands behind `FROM`.
fn from(session: &Session, relation: &Relation) -> String {
    match relation {
        Relation::Table(table) => from_table(session, table),
        // The line's end closes a comment that the query ends with. Oracle knows no AS here.
        Relation::Query(query) => format!("({query}\n) source"),
    }
}

fn from_table(session: &Session, table: &TableName) -> String {
    let schema = table.schema.as_deref().map(|schema| format!("{}.", session.name(schema)));
    format!("{}{}", schema.unwrap_or_default(), session.name(&table.name))
}
