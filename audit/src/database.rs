//! SQLite files in a log's folder, in which others may have written too: what stands in one is data, and nothing of it acts.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// How long another process may be in the way.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to a file that is there, on which its triggers and views do nothing, and its functions and tables of SQLite's own nothing
/// that harms.
pub(crate) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    ] {
        connection.set_db_config(setting, on)?;
    }
    Ok(connection)
}

/// Whether the file has all that these statements make, and nothing else.
pub(crate) fn is_made_by(connection: &Connection, statements: &str) -> rusqlite::Result<bool> {
    let made = Connection::open_in_memory()?;
    made.execute_batch(statements)?;
    Ok(schema(connection)? == schema(&made)?)
}

/// Type, name, table and statement of all that is there, also of what SQLite itself made for it.
fn schema(connection: &Connection) -> rusqlite::Result<Vec<[String; 4]>> {
    let mut select = connection.prepare("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name, rowid")?;
    // Statements are kept as they were written: these have no texts in them, in which spaces would say something.
    let one = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows = select.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, one(row.get(3)?)]))?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = "CREATE TABLE a (x TEXT PRIMARY KEY, y INTEGER) STRICT; CREATE INDEX b ON a (y) WHERE y IS NOT NULL";

    #[test]
    fn what_was_added_to_a_file_is_seen_and_does_not_act() {
        let added = [
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM a; END",
            "CREATE VIEW v AS SELECT 1",
            "CREATE TABLE c (x)",
            "DROP INDEX b",
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'y IS NOT NULL', 'y > 7') WHERE name = 'b'",
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET tbl_name = 'c' WHERE name = 'sqlite_autoindex_a_1'",
            "DROP TABLE a; CREATE TABLE r (x TEXT, y INTEGER); CREATE VIEW a AS SELECT * FROM r",
        ];
        for added in std::iter::once("").chain(added) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("f");
            Connection::open(&path).unwrap().execute_batch(&TABLES.replace("; ", ";\n   ")).unwrap();
            Connection::open(&path).unwrap().execute_batch(added).unwrap();
            let connection = connect(&path).unwrap();
            assert_eq!(is_made_by(&connection, TABLES).unwrap_or(false), added.is_empty(), "{added}");
            if added.contains("TRIGGER") {
                connection.execute("INSERT INTO a VALUES ('k', 1)", []).unwrap();
                assert_eq!(connection.query_row("SELECT count(*) FROM a", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
            }
            if added.contains("VIEW a") {
                assert!(connection.query_row("SELECT count(*) FROM a", [], |row| row.get::<_, i64>(0)).is_err());
            }
        }
    }
}
