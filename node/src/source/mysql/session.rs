//! One connection to a server, in a read-only transaction; and a server's errors in our words.

use std::sync::Arc;
use std::time::Duration;

use concordat_operate::certificate::Identity;
use mysql_async::prelude::Queryable as _;
use mysql_async::{ClientIdentity, Conn, DriverError, Error, IoError, Opts, OptsBuilder, SslOpts};

use crate::source::settings::{Host, Settings};

/// How long signing in may take: well within the ten seconds in which a gateway wants an order answered.
pub(super) const LOGIN: Duration = Duration::from_secs(4);
/// The longest message of a server. No value of a column is longer.
const MAX_PACKET: usize = 64 << 20;

/// How long a server may say nothing within an answer: longer than a statement may take.
pub(super) const SILENCE: Duration = Duration::from_secs(660);

/// Times are told in UTC, names and text in UTF-8; a scan gives every row, and its end ends nothing else. What the department's own
/// query means stays with the server's `sql_mode`.
const PREPARE: [&str; 3] = [
    "SET NAMES utf8mb4",
    "SET SESSION time_zone = '+00:00', sql_select_limit = 18446744073709551615, completion_type = 0, lock_wait_timeout = 3, \
     net_write_timeout = 600, wait_timeout = 600",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
];
const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

/// Why a server gave nothing. None of its own texts is kept: they can quote values.
#[derive(Debug, thiserror::Error)]
pub(in crate::source) enum MysqlError {
    #[error("{0}")]
    Io(String),
    #[error("{0}")]
    Protocol(&'static str),
    #[error("the server refused (error {code}): {}", meaning(*code))]
    Server { code: u16 },
    #[error("{}: {}", .0.place, .0.cause)]
    File(concordat_operate::Fault),
}

impl From<Error> for MysqlError {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(error) => Self::Server { code: error.code },
            Error::Io(IoError::Io(error)) => Self::Io(error.to_string()),
            Error::Io(IoError::Tls(error)) => Self::Io(error.to_string()),
            Error::Driver(DriverError::NoClientSslFlagFromServer) => Self::Protocol("the server offers no TLS (have_ssl)"),
            Error::Driver(DriverError::ConnectionClosed) => Self::Protocol("the server closed the connection"),
            Error::Driver(DriverError::PacketTooLarge) => Self::Protocol("a message of the server is longer than 64 MiB"),
            Error::Driver(
                DriverError::CleartextPluginDisabled | DriverError::MysqlOldPasswordDisabled | DriverError::UnknownAuthPlugin { .. },
            ) => Self::Protocol(
                "the server wants the password in a way that is not offered: use caching_sha2_password or mysql_native_password",
            ),
            Error::Driver(_) | Error::Other(_) | Error::Url(_) => Self::Protocol("the server does not speak the protocol as expected"),
        }
    }
}

/// Of the codes that MariaDB and MySQL share.
fn meaning(code: u16) -> &'static str {
    match code {
        1045 | 1698 => "the password is wrong, or the user may not sign in like this or from here",
        1044 => "the user may not use this database",
        1049 => "there is no such database",
        1146 => "there is no such table; names are exact",
        1054 => "there is no such column",
        1060 => "two columns of the query have the same name: name them apart (AS …)",
        1142 | 1143 | 1370 => "the user may not read this (GRANT SELECT ON the table)",
        1064 => "the query is not valid SQL",
        1792 => "the statement would write",
        1205 => "the table is locked",
        1317 | 1969 | 3024 => "the statement was cancelled or took too long",
        1040 | 1203 => "the server has too many connections",
        1053 | 1927 => "the server is shutting down, or somebody ended the connection",
        1264 | 1292 | 1365 | 1366 | 1367 | 1411 | 1690 => "the query failed on a value",
        _ => "see the server's log",
    }
}

/// A connection. When it is dropped while a statement runs, the server is asked to end that.
pub(super) struct Session {
    settings: Arc<Settings>,
    conn: Option<Conn>,
    /// Bytes from which on this server's functions give null for a text.
    longest_text: u64,
    /// What is running.
    running: Option<Running>,
}

/// A statement that may be left before its end. Numbers of connections begin anew, and differ between servers behind one address:
/// only with its mark in the server's list is it the one that was meant.
struct Running {
    connection: u32,
    mark: String,
}

impl Session {
    /// Connects and opens a read-only transaction, whose snapshot is taken at once.
    pub(super) async fn begin(settings: &Arc<Settings>) -> Result<Self, MysqlError> {
        let begin = async {
            let mut conn = connect(settings).await?;
            for statement in PREPARE {
                conn.query_drop(statement).await?;
            }
            let facts: Option<(String, u64)> = conn.query_first("SELECT VERSION(), @@max_allowed_packet").await?;
            let (version, longest_text) = facts.ok_or(MysqlError::Protocol("the server does not tell its version"))?;
            // The one in seconds, the other in milliseconds.
            let longest = if version.contains("MariaDB") { "max_statement_time = 600" } else { "max_execution_time = 600000" };
            conn.query_drop(format!("SET SESSION {longest}")).await?;
            conn.query_drop(BEGIN).await?;
            Ok(Self { settings: Arc::clone(settings), conn: Some(conn), longest_text, running: None })
        };
        within(LOGIN, begin).await
    }

    /// Bytes from which on this server's functions give null for a text.
    pub(super) fn longest_text(&self) -> u64 {
        self.longest_text
    }

    /// The connection, for statements that are waited for.
    #[expect(clippy::expect_used, reason = "it is taken by `drop` only")]
    pub(super) fn conn(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("a session has its connection")
    }

    /// The connection, and `statement` with a mark, for one that may be left before its end; [`Session::commit`] says that it was not.
    pub(super) fn running(&mut self, statement: &str) -> Result<(&mut Conn, String), MysqlError> {
        let mark = getrandom::u64().map_err(|_| MysqlError::Protocol("no random number can be had"))?;
        let mark = format!("concordat {mark:016x}");
        // Within the statement: what stands before it is cut off by some servers.
        let marked = format!("SELECT /* {mark} */ {statement}");
        let connection = self.conn().id();
        self.running = Some(Running { connection, mark });
        Ok((self.conn(), marked))
    }

    /// Ends the transaction. That the server confirms it says that it was whole.
    pub(super) async fn commit(mut self) -> Result<(), MysqlError> {
        self.running = None;
        within(LOGIN, async { Ok(self.conn().query_drop("COMMIT").await?) }).await?;
        if let Some(conn) = self.conn.take() {
            // The rows are whole; how the connection ends says nothing of them.
            let _ = within(LOGIN, async { Ok(conn.disconnect().await?) }).await;
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let (Some(running), Some(conn), Ok(runtime)) = (self.running.take(), self.conn.take(), tokio::runtime::Handle::try_current()) {
            let settings = Arc::clone(&self.settings);
            runtime.spawn(async move {
                // A server whose client is gone goes on until it writes, and the driver reads on before it lets go. One that is gone
                // itself has nothing to end.
                for pause in [0, 50, 100, 200, 300, 500, 1_000, 4_000, 16_000] {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    if within(LOGIN, kill(&settings, &running)).await.is_ok() {
                        break;
                    }
                }
                drop(conn);
            });
        }
    }
}

async fn kill(settings: &Settings, running: &Running) -> Result<(), MysqlError> {
    let mut other = connect(settings).await?;
    let list = "SELECT COALESCE(INFO, '') LIKE CONCAT('%', ?, '%') FROM information_schema.PROCESSLIST WHERE ID = ?";
    let listed: Option<bool> = other.exec_first(list, (running.mark.as_str(), running.connection)).await?;
    if listed == Some(true) {
        other.query_drop(format!("KILL {}", running.connection)).await?;
    }
    other.disconnect().await?;
    // Between two steps a connection shows no statement: it is looked at again.
    if listed == Some(false) { Err(MysqlError::Protocol("the statement is not to be seen yet")) } else { Ok(()) }
}

/// Waits no longer than this.
pub(super) async fn within<T>(time: Duration, what: impl Future<Output = Result<T, MysqlError>>) -> Result<T, MysqlError> {
    tokio::time::timeout(time, what).await.map_err(|_| MysqlError::Io("the server did not answer in time".into()))?
}

async fn connect(settings: &Settings) -> Result<Conn, MysqlError> {
    Ok(Conn::new(options(settings)?).await?)
}

fn options(settings: &Settings) -> Result<Opts, MysqlError> {
    let password = settings.password().map_err(MysqlError::File)?;
    let options = OptsBuilder::default()
        .user(Some(settings.user.as_str()))
        .pass(password.as_ref().map(|password| password.as_str()))
        .db_name(Some(settings.database.as_str()))
        .max_allowed_packet(Some(MAX_PACKET))
        .wait_timeout(Some(600))
        .tcp_keepalive(Some(Duration::from_secs(30)))
        .stmt_cache_size(0)
        .prefer_socket(false);
    let options = match &settings.host {
        Host::Name(name) => options.ip_or_hostname(name).tcp_port(settings.port),
        Host::Socket(path) => options.socket(Some(path.display().to_string())),
    };
    Ok(match &settings.tls {
        None => options,
        Some(tls) => {
            let identity = tls.identity.as_ref().map(|files| {
                // Also looks whether others can read the key.
                let key = Identity::load(files)?.key_pem.as_bytes().to_vec();
                Ok(ClientIdentity::new(files.certificate.clone().into(), key.into()))
            });
            let identity = identity.transpose().map_err(MysqlError::File)?;
            let ssl = SslOpts::default().with_disable_built_in_roots(true).with_root_certs(vec![tls.ca.clone().into()]);
            options.ssl_opts(ssl.with_client_identity(identity))
        }
    }
    .into())
}
