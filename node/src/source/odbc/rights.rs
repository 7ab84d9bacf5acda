//! What an account may do beside reading, asked in the words of its kind of database.

use super::session::{Kind, OdbcError, Session};
use crate::source::{Relation, TableName, sql};

/// Each as a sentence.
pub(super) fn excess(session: &Session, relation: &Relation) -> Result<Vec<String>, OdbcError> {
    let table = match relation {
        Relation::Table(table) => Some(table),
        Relation::Query(_) => None,
    };
    let statement = match session.kind {
        Kind::SqlServer => sql_server(table),
        Kind::Oracle => ORACLE.to_owned(),
        Kind::Postgres => postgres(table),
        Kind::Other => {
            return Ok(vec![
                "what the account may do beside reading cannot be told of this kind of database by ODBC".into(),
                "whether one statement sees one moment cannot be told of this kind of database by ODBC".into(),
            ]);
        }
    };
    let rights = session.texts(&statement, 2)?;
    Ok(rights.into_iter().map(|right| format!("the account may do {}", right.join(" at "))).collect())
}

/// Rights and their places, of SQL Server.
fn sql_server(table: Option<&TableName>) -> String {
    let at_table = table.map_or_else(String::new, |table| {
        let part = |name: &str| format!("[{}]", name.replace(']', "]]"));
        let name = table.schema.iter().chain([&table.name]).map(|name| part(name)).collect::<Vec<_>>().join(".");
        let (name, place) = (text(&name), text(&table.to_string()));
        format!(
            " UNION ALL SELECT r, N{place} FROM (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('ALTER'), ('CONTROL')) AS rights(r) \
             WHERE HAS_PERMS_BY_NAME(N{name}, 'OBJECT', r) = 1"
        )
    });
    format!(
        "SELECT r, N'the database' FROM (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('EXECUTE'), ('ALTER'), ('CONTROL')) AS rights(r) \
         WHERE HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', r) = 1 \
         UNION ALL SELECT 'everything', N'the server' WHERE IS_SRVROLEMEMBER('sysadmin') = 1{at_table}"
    )
}

/// Rights and their places, of Oracle: by the system, by grant, by an active role, by owning.
const ORACLE: &str = "SELECT PRIVILEGE, 'the database' FROM SESSION_PRIVS \
     WHERE PRIVILEGE NOT IN ('CREATE SESSION', 'ALTER SESSION', 'SET CONTAINER', 'SELECT ANY TABLE', 'READ ANY TABLE') \
     UNION ALL SELECT PRIVILEGE, OWNER || '.' || TABLE_NAME FROM USER_TAB_PRIVS WHERE GRANTEE = USER AND PRIVILEGE NOT IN ('SELECT', 'READ') \
     UNION ALL SELECT PRIVILEGE, OWNER || '.' || TABLE_NAME FROM ROLE_TAB_PRIVS \
     WHERE PRIVILEGE NOT IN ('SELECT', 'READ', 'EXECUTE') AND ROLE IN (SELECT ROLE FROM SESSION_ROLES) \
     UNION ALL SELECT 'everything', USER || '.' || TABLE_NAME FROM USER_TABLES";

/// Rights and their places, of PostgreSQL.
fn postgres(table: Option<&TableName>) -> String {
    let at_table = table.map_or_else(String::new, |table| {
        let name = table.schema.iter().chain([&table.name]).map(|name| sql::name(name)).collect::<Vec<_>>().join(".");
        let (name, place) = (text(&name), text(&table.to_string()));
        format!(
            " UNION ALL SELECT r, {place} FROM (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE')) AS rights(r) \
             WHERE pg_catalog.has_table_privilege({name}, r)"
        )
    });
    format!("SELECT 'everything', 'the server' FROM pg_catalog.pg_roles WHERE rolname = current_user AND rolsuper{at_table}")
}

/// A name as a text.
fn text(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_names() {
        let table = TableName { schema: Some("a]'".into()), name: "b".into() };
        assert!(sql_server(Some(&table)).contains("HAS_PERMS_BY_NAME(N'[a]]''].[b]', 'OBJECT', r)"));
        assert!(!sql_server(None).contains("OBJECT"));
        let table = TableName { schema: None, name: "it's \"odd\"".into() };
        assert!(postgres(Some(&table)).contains("has_table_privilege('\"it''s \"\"odd\"\"\"', r)"));
    }
}
