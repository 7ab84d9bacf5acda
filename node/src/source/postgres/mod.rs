//! PostgreSQL: a table or query, read by one binary `COPY`, or two, within one read-only transaction.
//!
//! ```text
//! login ─▶ BEGIN … READ ONLY REPEATABLE READ ─▶ columns ─▶ COPY (SELECT …) ─▶ decode ─▶ batches ─▶ COMMIT
//!                                                           └ of keys and changes first, where they are asked for
//! ```
//!
//! The protocol is spoken here. Weighed against it:
//! - `tokio-postgres` takes any length that a server claims (4 GiB of memory for one message), makes an object of every row, and brings
//!   `rand` 0.10, whose features make the engine compile twice;
//! - `datafusion-table-providers` brings OpenSSL for PostgreSQL and MySQL, builds every row as an object before it becomes columns, and
//!   sends conditions without regard to collations;
//! - of the protocol a reader of tables needs nine messages.
//!
//! The department's administrator wrote the query, so it is trusted as `node.toml` is; what keeps it from writing is the transaction,
//! and what keeps the node from writing at all is a role with nothing but `SELECT` ([`excess`] says when it has more).

mod columns;
mod decode;
mod login;
mod read;
mod scram;
mod session;
mod wire;

use std::sync::Arc;

use self::columns::{changed, columns};
use self::read::Rows;
use self::session::Session;
use self::wire::WireError;
use super::connection::Found;
use super::settings::Settings;
use super::{Changes, Ending, Relation, SourceTable, TableName, sql};

/// What a role may do beyond single tables, as the end of a sentence about it; empty where it may only read. Of a superuser, only that.
const POWERS: &str = "SELECT CASE WHEN r.rolsuper THEN 'is a superuser' ELSE pg_catalog.concat_ws('; ', \
    CASE WHEN r.rolcreaterole THEN 'may create roles' END, CASE WHEN r.rolcreatedb THEN 'may create databases' END, \
    CASE WHEN r.rolreplication THEN 'may replicate' END, CASE WHEN r.rolbypassrls THEN 'passes row security' END, \
    CASE WHEN pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') THEN 'may create schemas' END, \
    (SELECT 'may create tables in ' || pg_catalog.string_agg(n.nspname::text, ', ') FROM pg_catalog.pg_namespace n \
     WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND pg_catalog.has_schema_privilege(n.oid, 'CREATE')), \
    (SELECT 'is a member of ' || pg_catalog.string_agg(m.rolname::text, ', ') FROM pg_catalog.pg_roles m \
     WHERE m.rolname IN ('pg_write_all_data', 'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files') \
     AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER'))) END \
    FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// What else can make a table's or a view's rows others than they were: where it and its partitions lie, its columns with what they have
/// where nothing was written, and its query.
const DEFINITION: &str = "SELECT pg_catalog.concat_ws('/', c.oid, c.relfilenode, c.relkind, c.relrowsecurity, pg_catalog.pg_get_viewdef(c.oid), \
    (SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.to_jsonb(a)::text, ',' ORDER BY a.attnum)) \
     FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid), \
    (SELECT pg_catalog.string_agg(pg_catalog.pg_get_expr(d.adbin, d.adrelid), ',' ORDER BY d.adnum) \
     FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid), \
    (SELECT pg_catalog.string_agg(p.oid::text || ':' || p.relfilenode::text, ',' ORDER BY p.oid) \
     FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid WHERE i.inhparent = c.oid)) \
    FROM pg_catalog.pg_class c";

/// Opens the transaction in which it is read, and looks at the columns.
pub(super) async fn open(
    settings: &Arc<Settings>,
    connection: &str,
    relation: &Relation,
    changes: Option<&Changes>,
) -> Result<Found, WireError> {
    let mut session = Session::begin(settings).await?;
    let from = from(relation);
    let (all, mut readable) = columns(&mut session, &from).await?;
    readable.extend(changes.and_then(|changes| changed(&changes.column, &all, &readable)));
    let definition = match (changes, relation) {
        (Some(_), Relation::Table(table)) => {
            let oid = format!("{}::pg_catalog.regclass", quoted(&from_table(table)));
            single(&session.ask(&format!("{DEFINITION} WHERE c.oid = {oid}")).await?)
        }
        _ => None,
    };
    let utf8 = single(&session.ask("SELECT pg_catalog.current_setting('server_encoding')").await?).as_deref() == Some("UTF8");
    let ending = Ending::default();
    let rows = Rows::new(connection, session, from, readable, utf8, ending.clone());
    Ok(Found { columns: all, definition, reading: Arc::new(rows), ending })
}

/// What the role may do beside reading.
pub(super) async fn excess(settings: &Arc<Settings>, relation: &Relation) -> Result<Vec<String>, WireError> {
    let mut session = Session::begin(settings).await?;
    let mut found = Vec::new();
    if let Some(powers) = single(&session.ask(POWERS).await?).filter(|powers| !powers.is_empty()) {
        found.push(format!("role '{}' {powers}", settings.user));
    }
    let first = match relation {
        Relation::Table(table) => format!("c.oid = {}::pg_catalog.regclass DESC, ", quoted(&from_table(table))),
        Relation::Query(_) => String::new(),
    };
    let rights = ["INSERT", "UPDATE", "DELETE", "TRUNCATE"].map(|right| {
        let column = if matches!(right, "INSERT" | "UPDATE") {
            format!(" OR pg_catalog.has_any_column_privilege(c.oid, '{right}')")
        } else {
            String::new()
        };
        format!("CASE WHEN pg_catalog.has_table_privilege(c.oid, '{right}'){column} THEN '{right}' END")
    });
    let tables = session
        .ask(&format!(
            "SELECT n.nspname, c.relname, pg_catalog.concat_ws(', ', {}, \
             CASE WHEN pg_catalog.pg_has_role(c.relowner, 'USAGE') THEN 'everything else (it owns it)' END) AS rights \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'f') \
             ORDER BY {first}1, 2",
            rights.join(", ")
        ))
        .await?;
    session.commit().await?;
    let excess = tables.rows.iter().filter_map(|row| match row.as_slice() {
        [Some(schema), Some(table), Some(rights)] if !rights.is_empty() => Some((schema, table, rights)),
        _ => None,
    });
    let excess: Vec<_> = excess.collect();
    found.extend(
        excess.iter().take(3).map(|(schema, table, rights)| format!("role '{}' may do {rights} at {schema}.{table}", settings.user)),
    );
    if excess.len() > 3 {
        found.push(format!("role '{}' may write to {} more tables", settings.user, excess.len() - 3));
    }
    Ok(found)
}

/// Every table and view that the role may read, with its columns.
pub(super) async fn tables(settings: &Arc<Settings>) -> Result<Vec<SourceTable>, WireError> {
    let mut session = Session::begin(settings).await?;
    let names = session
        .ask(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
             AND NOT c.relispartition AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
             AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT') ORDER BY 1, 2",
        )
        .await?;
    let mut tables = Vec::new();
    for row in &names.rows {
        let [Some(schema), Some(name)] = row.as_slice() else { continue };
        let name = TableName { schema: Some(schema.clone()), name: name.clone() };
        let columns = match columns(&mut session, &from_table(&name)).await {
            Ok((all, _)) => all,
            // The role may not read all columns, or a view is broken: the transaction is over, the table is listed without.
            Err(WireError::Server(_)) => {
                session = Session::begin(settings).await?;
                Vec::new()
            }
            Err(e) => return Err(e),
        };
        tables.push(SourceTable { name, columns });
    }
    session.commit().await?;
    Ok(tables)
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
    let schema = table.schema.as_deref().map(|schema| format!("{}.", sql::name(schema)));
    format!("{}{}", schema.unwrap_or_default(), sql::name(&table.name))
}

fn quoted(text: &str) -> String {
    sql::quoted(text).unwrap_or_else(|| "''".into())
}

fn single(answer: &session::Answer) -> Option<String> {
    answer.rows.first()?.first()?.clone()
}
