//! `[[connection]]`, and where a dataset's rows are: every contradiction is a finding.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use concordat_operate::Fault;
use concordat_operate::certificate::Files as Identity;
use concordat_policy::Name;

use super::file::{ChangesFile, ConnectionFile, ConnectionTlsFile, DatasetFile};
use super::{Finding, Findings, Loader};
use crate::source::connection::{Connection, Server};
use crate::source::settings::{Host, Settings, Tls};
use crate::source::{Changes, Files, Objects, Relation, Source, Store, TableName};

/// The longest that a database or a store is not read again: a day.
const MOST_SNAPSHOT_MINUTES: u32 = 24 * 60;

/// The addresses of databases that can be read.
const FORMS: &str = "use postgresql://role@host:port/database, mysql://user@host:port/database, sqlite:file, odbc:Driver=… or s3://access-key@host:port/bucket";

/// The connections by name; `None` for one that was found wrong.
pub(super) type Connections = BTreeMap<Name, Option<Reached>>;

/// What a connection reaches.
#[derive(Debug, Clone)]
pub(super) enum Reached {
    Database(Arc<Connection>),
    Store(Arc<Store>),
}

/// The connection of a text that holds one `[[connection]]`, without a node around it. Relative paths are those of the process.
///
/// # Errors
/// Every [`Finding`]; none holds the text.
pub(crate) fn connection(text: &str) -> Result<Arc<Connection>, Findings> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Alone {
        connection: Vec<ConnectionFile>,
    }
    let path = Path::new("connection");
    let wrong = || Finding::file(path, "no connection can be made of it", FORMS);
    let file: Alone = toml::from_str(text).map_err(|_| wrong())?;
    let mut loader = Loader { path, text, folder: Path::new("."), findings: Vec::new(), warnings: Vec::new() };
    let found = loader.connections(file.connection).into_values().next().flatten();
    match found {
        Some(Reached::Database(connection)) if loader.findings.is_empty() => Ok(connection),
        Some(Reached::Store(_)) if loader.findings.is_empty() => {
            let remedy = "name its objects in node.toml: connection, source and format of a [[dataset]]";
            Err(Finding::file(path, "a store of objects is not inspected", remedy).into())
        }
        _ if loader.findings.is_empty() => Err(wrong().into()),
        _ => Err(Findings { findings: loader.findings.into_iter().map(Finding::without_text).collect() }),
    }
}

impl Loader<'_> {
    pub(super) fn connections(&mut self, files: Vec<ConnectionFile>) -> Connections {
        let mut connections = Connections::new();
        for (index, file) in files.into_iter().enumerate() {
            let index = index.to_string();
            let connection = self.reached(&index, &file);
            if connections.contains_key(&file.name) {
                let cause = format!("connection '{}' is declared twice", file.name);
                self.at(&["connection", &index, "name"], cause, "keep one of the two");
            }
            connections.insert(file.name, connection);
        }
        connections
    }

    fn reached(&mut self, index: &str, file: &ConnectionFile) -> Option<Reached> {
        let name = file.name.to_string();
        if file.protected_by_driver && !file.url.starts_with("odbc:") {
            let cause = "only a connection by ODBC is protected by its driver";
            self.at(&["connection", index, "protected_by_driver"], cause, "remove it");
        }
        let server = match file.url.split_once(':') {
            Some(("postgresql" | "postgres", _)) => self.settings(index, file, POSTGRES).map(|(s, _)| Server::Postgres(Arc::new(s))),
            Some(("mysql" | "mariadb", _)) => self.settings(index, file, MYSQL).map(|(s, _)| Server::Mysql(Arc::new(s))),
            Some(("s3", _)) => return self.store(index, file).map(|store| Reached::Store(Arc::new(store))),
            Some(("sqlite", path)) => self.sqlite(index, file, path),
            Some(("odbc", keywords)) => self.odbc(index, file, keywords),
            _ => {
                self.at(&["connection", index, "url"], "no database of this kind can be read", FORMS);
                None
            }
        };
        server.map(|server| Reached::Database(Arc::new(Connection { name, server })))
    }

    fn store(&mut self, index: &str, file: &ConnectionFile) -> Option<Store> {
        let (settings, region) = self.settings(index, file, S3)?;
        if settings.password_file.is_none() {
            let remedy = "put the secret of the access key into a file of mode 0600 and name that in `password_file`";
            self.at(&["connection", index, "url"], "the access key has no secret", remedy);
        }
        // What stores that know no regions call theirs.
        Some(Store { name: file.name.to_string(), settings, region: region.unwrap_or_else(|| "us-east-1".into()) })
    }

    fn sqlite(&mut self, index: &str, file: &ConnectionFile, path: &str) -> Option<Server> {
        let beside = [("password_file", file.password_file.is_some()), ("tls", file.tls.is_some()), ("plaintext", file.plaintext)];
        for (key, _) in beside.into_iter().filter(|(_, there)| *there) {
            self.at(&["connection", index, key], format!("a file of SQLite has no `{key}`"), "remove it");
        }
        if path.is_empty() || path.starts_with("//") {
            self.at(&["connection", index, "url"], "names no file", "use sqlite:folder/file.db or sqlite:/folder/file.db");
            return None;
        }
        Some(Server::Sqlite(self.folder.join(path)))
    }

    fn settings(&mut self, index: &str, file: &ConnectionFile, kind: Kind) -> Option<(Settings, Option<String>)> {
        let address = match Address::parse(&file.url, kind) {
            Ok(address) => address,
            Err((cause, remedy)) => {
                // The line may hold a password.
                let finding = Finding::at(self.path, self.text, &["connection", index, "url"], cause, remedy);
                self.findings.push(finding.without_text());
                return None;
            }
        };
        let password_file = file.password_file.as_ref().map(|path| self.folder.join(path));
        let tls = file.tls.as_ref().map(|tls| self.connection_tls(index, tls));
        if let Some((key, cause, remedy)) = unprotected(kind, &address.host, tls.is_some(), file.plaintext) {
            self.at(&["connection", index, key], cause, remedy);
        }
        let Address { host, port, user, database, region } = address;
        let settings = Settings { host, port, user, database, password_file, tls: tls.flatten() };
        if let Err(fault) = settings.password() {
            self.fault(&fault);
        }
        Some((settings, region))
    }

    fn connection_tls(&mut self, index: &str, file: &ConnectionTlsFile) -> Option<Tls> {
        let at = |path: &PathBuf| self.folder.join(path);
        let identity = match (&file.certificate, &file.key) {
            (Some(certificate), Some(key)) => Some(Identity { certificate: at(certificate), key: at(key), ca: None }),
            (None, None) => None,
            _ => {
                self.at(&["connection", index, "tls"], "`certificate` and `key` belong together", "name both, or neither");
                return None;
            }
        };
        let tls = Tls { ca: at(&file.ca), identity };
        tls.config().map_err(|fault| self.fault(&fault)).ok()?;
        Some(tls)
    }

    fn fault(&mut self, fault: &Fault) {
        self.findings.push(Finding::file(std::path::Path::new(&fault.place), &fault.cause, &fault.remedy));
    }

    /// Where a dataset's rows are.
    pub(super) fn source(&mut self, index: &str, file: &DatasetFile, connections: &Connections) -> Option<Source> {
        let mut wrong = |key: &str, cause: &str, remedy: &str| {
            self.at(&["dataset", index, key], format!("dataset '{}': {cause}", file.name), remedy);
            None
        };
        match (&file.source, &file.format, &file.connection, &file.table, &file.query) {
            (Some(source), Some(format), None, None, None) => {
                Some(Source::Files(Files { path: self.folder.join(source), format: *format }))
            }
            (Some(_), None, None, None, None) => wrong("source", "`source` without `format`", "add format = \"csv\" or \"parquet\""),
            (Some(key), Some(format), Some(name), None, None) => match key.to_str() {
                Some(key) if !key.is_empty() && !key.starts_with('/') => {
                    self.objects(index, file, name, Objects { key: key.to_owned(), format: *format }, connections)
                }
                _ => wrong(
                    "source",
                    "no key of an object",
                    "use a key, a folder/ or a pattern such as folder/*.parquet, without a / at its start",
                ),
            },
            (None, None, Some(name), Some(table), None) => match TableName::parse(table) {
                Some(table) => self.relation(index, file, name, Relation::Table(table), connections),
                None => wrong("table", "no table's name", "use schema.table, exactly as the database spells it"),
            },
            (None, None, Some(_), None, Some(query)) if query.trim_end().ends_with(';') || query.contains('\0') => {
                wrong("query", "a query is one SELECT without ';'", "remove the ';' at its end")
            }
            (None, None, Some(name), None, Some(query)) => self.relation(index, file, name, Relation::Query(query.clone()), connections),
            (None, None, Some(_), Some(_), Some(_)) => wrong("query", "`table` and `query` contradict each other", "keep one of the two"),
            (None, None, Some(_), None, None) => {
                wrong("connection", "a connection without `table` or `query`", "add table = \"schema.table\" or query = \"SELECT …\"")
            }
            (None, None, None, Some(_), _) => wrong("table", "a `table` without `connection`", "name the [[connection]] it is reached by"),
            (None, None, None, None, Some(_)) => wrong("query", "a `query` without `connection`", "name the [[connection]] it is sent to"),
            (None, _, None, None, None) => {
                wrong("name", "nothing says where its rows are", "add `source` and `format`, or `connection` and `table` or `query`")
            }
            _ => {
                let key = if file.source.is_some() { "source" } else { "format" };
                wrong(
                    key,
                    "files and a database contradict each other",
                    "keep `source` and `format`, or `connection` and `table` or `query`",
                )
            }
        }
    }

    /// How long a snapshot of what a connection reaches answers orders.
    pub(super) fn snapshot_age(&mut self, index: &str, file: &DatasetFile) -> Option<Duration> {
        let minutes = file.snapshot_minutes?;
        let mut wrong = |cause: &str, remedy: &str| {
            self.at(&["dataset", index, "snapshot_minutes"], format!("dataset '{}': {cause}", file.name), remedy);
        };
        if !(1..=MOST_SNAPSHOT_MINUTES).contains(&minutes) {
            wrong("snapshot_minutes is 1 to 1440", "leave it out, so that each order is read anew");
        }
        if file.connection.is_none() {
            wrong("a snapshot of files answers until they change, however old it is", "leave snapshot_minutes out");
        }
        Some(Duration::from_secs(60 * u64::from(minutes)))
    }

    /// By what rows of a database are told from what they were, for its next snapshot.
    pub(super) fn changes(&mut self, index: &str, file: &DatasetFile, source: Option<&Source>) -> Option<Changes> {
        let ChangesFile { key, column } = file.changes.as_ref()?;
        let postgres =
            |source: &Source| matches!(source, Source::Database(connection, _) if matches!(connection.server, Server::Postgres(_)));
        let (cause, remedy) = if key == column {
            ("a key that changes with its row tells it from no other", "name two columns")
        } else if !source.is_none_or(postgres) {
            ("what changes with a row is asked of PostgreSQL only", "leave [dataset.changes] out")
        } else if file.snapshot_minutes.is_none() {
            ("changes are of use to snapshots only, and none is kept", "say with snapshot_minutes for how long one answers")
        } else {
            return Some(Changes { key: key.clone(), column: column.clone() });
        };
        self.at(&["dataset", index, "changes"], format!("dataset '{}': {cause}", file.name), remedy);
        None
    }

    fn connected(&mut self, index: &str, file: &DatasetFile, name: &Name, connections: &Connections) -> Option<Reached> {
        let Some(connection) = connections.get(name) else {
            let cause = format!("dataset '{}': there is no connection '{name}'", file.name);
            self.at(&["dataset", index, "connection"], cause, "declare it: [[connection]] with name and url");
            return None;
        };
        // A connection that was found wrong has its own finding.
        connection.clone()
    }

    fn objects(&mut self, index: &str, file: &DatasetFile, name: &Name, objects: Objects, connections: &Connections) -> Option<Source> {
        match self.connected(index, file, name, connections)? {
            Reached::Store(store) => Some(Source::Objects(store, objects)),
            Reached::Database(_) => {
                let cause = format!("dataset '{}': files and a database contradict each other", file.name);
                let remedy = "keep `source` and `format`, or `connection` and `table` or `query`";
                self.at(&["dataset", index, "source"], cause, remedy);
                None
            }
        }
    }

    fn relation(&mut self, index: &str, file: &DatasetFile, name: &Name, relation: Relation, connections: &Connections) -> Option<Source> {
        let connection = match self.connected(index, file, name, connections)? {
            Reached::Database(connection) => connection,
            Reached::Store(_) => {
                let cause = format!("dataset '{}': a store has no tables and takes no queries", file.name);
                self.at(&["dataset", index, "connection"], cause, "name its objects in `source` and `format`");
                return None;
            }
        };
        if let (Server::Postgres(_), Relation::Table(TableName { schema: None, .. })) = (&connection.server, &relation) {
            let cause = format!("dataset '{}': a table of PostgreSQL without its schema", file.name);
            self.at(&["dataset", index, "table"], cause, "write schema.table, such as public.pupils");
            return None;
        }
        Some(Source::Database(connection, relation))
    }
}

/// Plaintext is for this machine, and has to be asked for; servers of MySQL's kind prove themselves by TLS only.
fn unprotected(kind: Kind, host: &Host, tls: bool, plaintext: bool) -> Option<(&'static str, &'static str, &'static str)> {
    let (socket, loopback) = match host {
        Host::Socket(_) => (true, false),
        Host::Name(name) => (false, name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())),
    };
    match (tls, plaintext) {
        (true, true) => Some(("plaintext", "`plaintext` and `tls` contradict each other", "keep `tls`")),
        (true, false) if socket => Some(("tls", "a Unix socket has no TLS", "remove `tls`")),
        (false, _) if !socket && kind == MYSQL => Some((
            "url",
            "a connection to MariaDB or MySQL needs `tls`: nothing else tells its server from another",
            "add tls = { ca = \"…\" }, or use mysql://user@/database?socket=/path/of/the/socket",
        )),
        (false, false) if !socket => Some((
            "url",
            "the connection has no `tls`",
            "add tls = { ca = \"…\" }; to this machine's own loopback, plaintext = true would do",
        )),
        (false, true) if !socket && !loopback => {
            Some(("plaintext", "plaintext would leave this machine", "add tls = { ca = \"…\" } in place of it"))
        }
        _ => None,
    }
}

/// What differs between the addresses of two kinds of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    /// How an address is written.
    form: &'static str,
    /// The option that names a Unix socket, or the region of a store, which has none.
    option: &'static str,
    options: &'static str,
    port: u16,
}

const POSTGRES: Kind = Kind {
    form: "use postgresql://role@host:port/database, or postgresql://role@/database?host=/folder/of/the/socket",
    option: "host",
    options: "use host and port only; TLS and the password have keys of their own",
    port: 5432,
};

const MYSQL: Kind = Kind {
    form: "use mysql://user@host:port/database, or mysql://user@/database?socket=/path/of/the/socket",
    option: "socket",
    options: "use socket and port only; TLS and the password have keys of their own",
    port: 3306,
};

/// The user is the access key, the database the bucket.
const S3: Kind = Kind {
    form: "use s3://access-key@host:port/bucket, with ?region=… where the store has regions",
    option: "region",
    options: "use region and port only; TLS and the secret have keys of their own",
    port: 443,
};

/// What an address of a server says.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    host: Host,
    port: u16,
    user: String,
    database: String,
    region: Option<String>,
}

type Wrong = (&'static str, &'static str);

impl Address {
    /// `postgresql://role@host:port/database` or `postgresql://role@/database?host=/folder&port=5432`; parts may be %-escaped.
    fn parse(url: &str, kind: Kind) -> Result<Self, Wrong> {
        let (_, rest) = url.split_once("://").ok_or(("this is no address of a server", kind.form))?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').ok_or(("the address names no database", kind.form))?;
        let (user, place) = authority.rsplit_once('@').ok_or(("the address names no user", kind.form))?;
        if user.contains(':') {
            return Err((
                "the address holds a password, which everybody who reads this file would know",
                "put it into a file of mode 0600, name that in `password_file`, and replace the password",
            ));
        }
        let (mut host, mut port) =
            match place.strip_prefix('[').map(|six| six.split_once(']').ok_or(("the host cannot be read", kind.form))) {
                Some(six) => six.map(|(host, port)| (host, port.strip_prefix(':')))?,
                None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
            };
        let unescaped = |text: &str| unescaped(text).ok_or(("the address has an escape that cannot be read", kind.form));
        let mut region = None;
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("region", name)) if kind == S3 && region.is_none() && !name.is_empty() => region = Some(unescaped(name)?),
                Some((name, path)) if name == kind.option && host.is_empty() && path.starts_with('/') => host = path,
                Some(("port", number)) if port.is_none() => port = Some(number),
                _ => {
                    return Err(("the address has an option that is not known", kind.options));
                }
            }
        }
        let (host, user, database) = (unescaped(host)?, unescaped(user)?, unescaped(database)?);
        if [&host, &user, &database].into_iter().any(String::is_empty) {
            return Err(("the address lacks its role, host or database", kind.form));
        }
        let host = if host.starts_with('/') { Host::Socket(host.into()) } else { Host::Name(host) };
        let port = port.map_or(Ok(kind.port), str::parse).map_err(|_| ("the port is no number from 1 to 65535", kind.form))?;
        Ok(Self { host, port, user, database, region })
    }
}

/// `%41` as `A`. Control characters are refused: none of a host, role or database has one.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            digit(rest.next())? << 4 | digit(rest.next())?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(url: &str) -> Kind {
        match url.split_once(':') {
            Some(("mysql", _)) => MYSQL,
            Some(("s3", _)) => S3,
            _ => POSTGRES,
        }
    }

    fn parsed(url: &str) -> Result<(Host, u16, String, String), &'static str> {
        Address::parse(url, kind(url)).map(|a| (a.host, a.port, a.user, a.database)).map_err(|(cause, _)| cause)
    }

    #[test]
    fn addresses() {
        let name = |name: &str| Host::Name(name.into());
        for (url, host, port, user, database) in [
            ("postgresql://reader@db.dfe.internal:5433/pupils", name("db.dfe.internal"), 5433, "reader", "pupils"),
            ("postgres://reader@db/pupils", name("db"), 5432, "reader", "pupils"),
            ("postgresql://a%40b@[::1]:1/p%20q", name("::1"), 1, "a@b", "p q"),
            ("postgresql://r@/d?host=/run/postgresql&port=6000", Host::Socket("/run/postgresql".into()), 6000, "r", "d"),
            ("mysql://r@db/d", name("db"), 3306, "r", "d"),
            ("mysql://r@/d?socket=/run/mysqld.sock", Host::Socket("/run/mysqld.sock".into()), 3306, "r", "d"),
            ("s3://key@store/bucket?region=eu-west-2", name("store"), 443, "key", "bucket"),
            ("postgresql://r@%2Frun/d", Host::Socket("/run".into()), 5432, "r", "d"),
        ] {
            assert_eq!(parsed(url), Ok((host, port, user.into(), database.into())), "{url}");
        }
        for (url, says) in [
            ("postgresql://reader:secret@db/pupils", "holds a password"),
            ("postgresql://db/pupils", "names no user"),
            ("postgresql://reader@db", "names no database"),
            ("postgresql://reader@db/", "lacks"),
            ("postgresql://reader@/d", "lacks"),
            ("postgresql://reader@db:70000/d", "port"),
            ("postgresql://reader@db/d?sslmode=disable", "option"),
            ("postgresql://reader@db/d?password=x", "option"),
            ("postgresql://reader@db/%0", "escape"),
            ("postgresql://reader@db/%00", "escape"),
            ("postgresql://reader@[::1/d", "cannot be read"),
            ("postgresql:reader", "no address"),
            ("postgresql://r@/d?socket=/run/s", "option"),
            ("mysql://r@/d?host=/run", "option"),
        ] {
            assert!(parsed(url).is_err_and(|cause| cause.contains(says)), "{url}: {:?}", parsed(url));
        }
    }

    #[test]
    fn plaintext_stays_on_this_machine_and_is_asked_for() {
        let (socket, here, v6, there) =
            (Host::Socket("/run".into()), Host::Name("127.0.0.1".into()), Host::Name("::1".into()), Host::Name("10.0.0.1".into()));
        for (host, tls, plaintext, wrong) in [
            (&socket, false, false, None),
            (&socket, true, false, Some("tls")),
            (&here, false, true, None),
            (&v6, false, true, None),
            (&here, false, false, Some("url")),
            (&there, false, true, Some("plaintext")),
            (&there, false, false, Some("url")),
            (&there, true, false, None),
            (&there, true, true, Some("plaintext")),
        ] {
            assert_eq!(unprotected(POSTGRES, host, tls, plaintext).map(|(key, ..)| key), wrong, "{host:?} {tls} {plaintext}");
        }
        for (host, tls, plaintext, wrong) in [
            (&socket, false, false, None),
            (&here, false, true, Some("url")),
            (&there, false, false, Some("url")),
            (&there, true, false, None),
        ] {
            assert_eq!(unprotected(MYSQL, host, tls, plaintext).map(|(key, ..)| key), wrong, "{host:?} {tls} {plaintext}");
        }
    }
}
