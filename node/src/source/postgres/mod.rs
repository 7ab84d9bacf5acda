//! PostgreSQL: a table or query, read by one binary `COPY` within one read-only transaction.
//!
//! ```text
//! login ─▶ BEGIN … READ ONLY REPEATABLE READ ─▶ columns ─▶ COPY (SELECT …) ─▶ decode ─▶ batches ─▶ COMMIT
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
//! and what keeps the node from writing at all is a role with nothing but `SELECT` ([`Settings::excess`] says when it has more).

mod columns;
mod decode;
mod login;
mod read;
mod scram;
mod session;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use concordat_operate::Fault;
use concordat_operate::certificate::{self, Files, Identity, certificates, provider};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use self::columns::columns;
use self::read::Rows;
use self::session::Session;
use self::wire::WireError;
use super::connection::Found;
use super::{Ending, Relation, SourceTable, TableName, sql};

/// Where a server is, and as whom the node signs in.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub host: Host,
    /// Its port, which also names its Unix socket.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// A file whose first line is the role's password; read anew for each connection.
    pub password_file: Option<PathBuf>,
    /// Absent only for a Unix socket, or where plaintext to this machine was asked for.
    pub tls: Option<Tls>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name or address.
    Name(String),
    /// The folder of a Unix socket.
    Socket(PathBuf),
}

/// How a server is known, and the node to it.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The authorities of the server's certificate, in PEM.
    pub ca: PathBuf,
    /// The node's own certificate and key, where the server asks for one.
    pub identity: Option<Files>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn config(&self) -> Result<ClientConfig, Fault> {
        let mut roots = RootCertStore::empty();
        let unusable =
            |e: rustls::Error| Fault::new(self.ca.display(), format!("cannot be used: {e}"), "use the authority's own certificate");
        for authority in certificates(&self.ca, &certificate::text(&self.ca)?)? {
            roots.add(authority).map_err(unusable)?;
        }
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(unusable)?;
        let builder = builder.with_root_certificates(roots);
        let Some(files) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let identity = Identity::load(files)?;
        let unusable = |cause: String| Fault::new(files.key.display(), cause, "use the private key of this certificate, PKCS#8 in PEM");
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|_| unusable("holds no private key".into()))?;
        builder.with_client_auth_cert(identity.chain, key).map_err(|e| unusable(e.to_string()))
    }
}

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

impl Settings {
    /// The role's password, if there is a file of it.
    ///
    /// # Errors
    /// When the file cannot be read, or others could, or is empty.
    pub fn password(&self) -> Result<Option<Zeroizing<String>>, Fault> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let text = certificate::private(path).map_err(|fault| Fault {
            cause: fault.cause.replace("a private key", "a password"),
            remedy: fault.remedy.replace("the key", "the password"),
            ..fault
        })?;
        let first = text.lines().next().filter(|line| !line.is_empty() && !line.contains('\0'));
        let first = first.ok_or_else(|| Fault::new(path.display(), "holds no password in its first line", "put it there, alone"))?;
        Ok(Some(Zeroizing::new(first.to_owned())))
    }

    pub(super) async fn open(self: &Arc<Self>, connection: &str, relation: &Relation) -> Result<Found, WireError> {
        let mut session = Session::begin(self).await?;
        let from = from(relation);
        let (all, readable) = columns(&mut session, &from).await?;
        let utf8 = single(&session.ask("SELECT pg_catalog.current_setting('server_encoding')").await?).as_deref() == Some("UTF8");
        let ending = Ending::default();
        let rows = Rows::new(connection, session, from, readable, utf8, ending.clone());
        Ok(Found { columns: all, reading: Arc::new(rows), ending })
    }

    /// What the role may do beside reading.
    pub(super) async fn excess(self: &Arc<Self>, relation: &Relation) -> Result<Vec<String>, WireError> {
        let mut session = Session::begin(self).await?;
        let mut found = Vec::new();
        if let Some(powers) = single(&session.ask(POWERS).await?).filter(|powers| !powers.is_empty()) {
            found.push(format!("role '{}' {powers}", self.user));
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
            excess.iter().take(3).map(|(schema, table, rights)| format!("role '{}' may do {rights} at {schema}.{table}", self.user)),
        );
        if excess.len() > 3 {
            found.push(format!("role '{}' may write to {} more tables", self.user, excess.len() - 3));
        }
        Ok(found)
    }

    /// Every table and view that the role may read, with its columns.
    pub(super) async fn tables(self: &Arc<Self>) -> Result<Vec<SourceTable>, WireError> {
        let mut session = Session::begin(self).await?;
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
                    session = Session::begin(self).await?;
                    Vec::new()
                }
                Err(e) => return Err(e),
            };
            tables.push(SourceTable { name, columns });
        }
        session.commit().await?;
        Ok(tables)
    }
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
