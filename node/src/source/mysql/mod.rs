//! MariaDB and MySQL: a table or query, read by one statement within one read-only transaction.
//!
//! ```text
//! sign-in ─▶ START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY ─▶ columns ─▶ SELECT (prepared: binary rows) ─▶ batches ─▶ COMMIT
//! ```
//!
//! `mysql_async` speaks the protocol. Tables of an engine without transactions (MyISAM, Aria) have no snapshot: the one statement
//! that reads them keeps them locked, and what a query joins of them is as each was when it was reached.
//!
//! The department's administrator wrote the query, so it is trusted as `node.toml` is; what keeps it from writing is the transaction,
//! and what keeps the node from writing at all is a user with nothing but `SELECT` ([`excess`] says when it has more).
//!
//! Deliberately absent: plaintext over TCP. A server of this kind proves itself by its certificate only, also on the loopback.

mod columns;
mod read;
mod session;

use std::sync::Arc;

use mysql_async::prelude::Queryable as _;

use self::columns::columns;
use self::read::Rows;
pub(super) use self::session::MysqlError;
use self::session::Session;
use super::connection::Found;
use super::settings::Settings;
use super::{Declared, Ending, Relation, SourceTable, TableName};

/// Opens the transaction in which it is read, and looks at the columns.
pub(super) async fn open(
    settings: &Arc<Settings>,
    connection: &str,
    relation: &Relation,
    declared: Declared<'_>,
) -> Result<Found, MysqlError> {
    let mut session = Session::begin(settings).await?;
    let from = from(relation);
    let (all, readable) = columns(&mut session, &from, declared).await?;
    let ending = Ending::default();
    let rows = Rows::new(connection, session, from, readable, ending.clone());
    Ok(Found { columns: all, definition: None, reading: Arc::new(rows), ending })
}

/// What the user may do beside reading, as `SHOW GRANTS` lists it.
pub(super) async fn excess(settings: &Arc<Settings>) -> Result<Vec<String>, MysqlError> {
    let mut session = Session::begin(settings).await?;
    let grants: Vec<String> = session.conn().query("SHOW GRANTS").await?;
    session.commit().await?;
    let found = grants.iter().filter_map(|grant| beyond_reading(grant));
    Ok(found.map(|(rights, place)| format!("user '{}' may do {rights} at {place}", settings.user)).collect())
}

/// Every table and view of the database that the user may read, with its columns.
pub(super) async fn tables(settings: &Arc<Settings>) -> Result<Vec<SourceTable>, MysqlError> {
    let mut session = Session::begin(settings).await?;
    let list = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE <> 'SEQUENCE' ORDER BY 1";
    let names: Vec<String> = session.conn().query(list).await?;
    let mut tables = Vec::new();
    for name in names {
        let name = TableName { schema: None, name };
        let columns = match columns(&mut session, &from_table(&name), &|_| None).await {
            Ok((all, _)) => all,
            // The user may not read all columns, or a view is broken: the table is listed without.
            Err(MysqlError::Server { .. }) => Vec::new(),
            Err(e) => return Err(e),
        };
        tables.push(SourceTable { name, columns });
    }
    session.commit().await?;
    Ok(tables)
}

/// The rights of a line of `SHOW GRANTS` that a reader does not need, and where it has them.
fn beyond_reading(grant: &str) -> Option<(String, String)> {
    let rest = grant.strip_prefix("GRANT ")?;
    let Some((rights, rest)) = rest.split_once(" ON ") else {
        // A role, whose own grants follow when it is active.
        return None;
    };
    let place = rest.split_once(" TO ").map_or(rest, |(place, _)| place);
    let mut depth = 0usize;
    let listed = rights.split(|letter: char| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    let right = |listed: &str| listed.split_once('(').map_or(listed, |(right, _)| right).trim().to_owned();
    let harmless = ["USAGE", "SELECT", "SHOW VIEW", "SHOW DATABASES"];
    let mut found: Vec<String> = listed.map(right).filter(|right| !harmless.contains(&right.as_str())).collect();
    if rest.contains("WITH GRANT OPTION") {
        found.push("GRANT OPTION".into());
    }
    (!found.is_empty()).then(|| (found.join(", "), place.replace('`', "")))
}

/// What stands behind `FROM`.
fn from(relation: &Relation) -> String {
    match relation {
        Relation::Table(table) => from_table(table),
        // The line's end closes a comment that the query ends with.
        Relation::Query(query) => format!("({query}\n) AS source"),
    }
}

fn from_table(table: &TableName) -> String {
    let schema = table.schema.as_deref().map(|schema| format!("{}.", name(schema)));
    format!("{}{}", schema.unwrap_or_default(), name(&table.name))
}

/// A name between backticks: whatever `sql_mode` says, that is what they mean.
fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_beyond_reading_are_told_with_their_place() {
        for (grant, expected) in [
            ("GRANT USAGE ON *.* TO `reader`@`%` IDENTIFIED BY PASSWORD '*1'", None),
            ("GRANT SELECT, SHOW VIEW ON `office`.* TO `reader`@`%`", None),
            ("GRANT SELECT (`a`, `b`) ON `office`.`claims` TO `reader`@`%`", None),
            ("GRANT `analysts` TO `reader`@`%`", None),
            ("GRANT SELECT, INSERT, UPDATE (`a`, `b`) ON `office`.* TO `reader`@`%`", Some(("INSERT, UPDATE", "office.*"))),
            ("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION", Some(("ALL PRIVILEGES, GRANT OPTION", "*.*"))),
        ] {
            let expected = expected.map(|(rights, place): (&str, &str)| (rights.to_owned(), place.to_owned()));
            assert_eq!(beyond_reading(grant), expected, "{grant}");
        }
    }

    #[test]
    fn names_are_quoted() {
        let table = TableName { schema: Some("a`b".into()), name: "c d".into() };
        assert_eq!(from(&Relation::Table(table)), "`a``b`.`c d`");
        assert_eq!(from(&Relation::Query("SELECT 1 -- end".into())), "(SELECT 1 -- end\n) AS source");
    }
}
