//! One connection to a server, in a read-only transaction; and a server's errors in our words.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{ClientIdentity, Conn, DriverError, Error, IoError, Opts, OptsBuilder, SslOpts};

use crate::source::settings::{Host, Settings};

/// How long signing in may take: well within the ten seconds in which a gateway wants an order answered.
const LOGIN: Duration = Duration::from_secs(4);
/// The longest message of a server. No value of a column is longer.
const MAX_PACKET: usize = 64 << 20;

/// Times are told in UTC, names and text in UTF-8, and nothing waits for ever. What the department's own query means stays with the
/// server's `sql_mode`.
const PREPARE: [&str; 3] = [
    "SET NAMES utf8mb4",
    "SET SESSION time_zone = '+00:00', lock_wait_timeout = 3, net_write_timeout = 600, wait_timeout = 600",
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
    busy: bool,
}

impl Session {
    /// Connects and opens a read-only transaction, whose snapshot is taken at once.
    pub(super) async fn begin(settings: &Arc<Settings>) -> Result<Self, MysqlError> {
        let mut session = Self { settings: Arc::clone(settings), conn: Some(connect(settings).await?), busy: false };
        for statement in PREPARE {
            session.conn().query_drop(statement).await?;
        }
        let version: Option<String> = session.conn().query_first("SELECT VERSION()").await?;
        // The one in seconds, the other in milliseconds.
        let longest = match version {
            Some(version) if version.contains("MariaDB") => "SET SESSION max_statement_time = 600",
            _ => "SET SESSION max_execution_time = 600000",
        };
        session.conn().query_drop(longest).await?;
        session.conn().query_drop(BEGIN).await?;
        Ok(session)
    }

    /// The connection, for statements that end before they are waited for no longer.
    #[expect(clippy::expect_used, reason = "it is taken by `drop` only")]
    pub(super) fn conn(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("a session has its connection")
    }

    /// The connection, for a statement that may be left before its end; [`Session::commit`] says that it was not.
    pub(super) fn running(&mut self) -> &mut Conn {
        self.busy = true;
        self.conn()
    }

    /// Ends the transaction. That the server confirms it says that it was whole.
    pub(super) async fn commit(mut self) -> Result<(), MysqlError> {
        self.busy = false;
        self.conn().query_drop("COMMIT").await?;
        match self.conn.take() {
            Some(conn) => Ok(conn.disconnect().await?),
            None => Ok(()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let (true, Some(conn), Ok(runtime)) = (self.busy, self.conn.take(), tokio::runtime::Handle::try_current()) {
            let (settings, id) = (Arc::clone(&self.settings), conn.id());
            // A server whose client is gone goes on until it writes. One that is gone itself has nothing to end.
            runtime.spawn(async move {
                drop(conn);
                let mut other = connect(&settings).await?;
                other.query_drop(format!("KILL {id}")).await?;
                Ok::<(), MysqlError>(other.disconnect().await?)
            });
        }
    }
}

async fn connect(settings: &Settings) -> Result<Conn, MysqlError> {
    let options = options(settings)?;
    tokio::time::timeout(LOGIN, Conn::new(options))
        .await
        .map_err(|_| MysqlError::Io("signing in took too long".into()))?
        .map_err(Into::into)
}

fn options(settings: &Settings) -> Result<Opts, MysqlError> {
    let password = settings.password().map_err(MysqlError::File)?;
    let options = OptsBuilder::default()
        .user(Some(settings.user.as_str()))
        .pass(password.as_ref().map(|password| password.as_str()))
        .db_name(Some(settings.database.as_str()))
        .max_allowed_packet(Some(MAX_PACKET))
        .wait_timeout(Some(600))
        .stmt_cache_size(0)
        .prefer_socket(false);
    let options = match &settings.host {
        Host::Name(name) => options.ip_or_hostname(name).tcp_port(settings.port),
        Host::Socket(path) => options.socket(Some(path.display().to_string())),
    };
    Ok(match &settings.tls {
        None => options,
        Some(tls) => {
            let identity =
                tls.identity.as_ref().map(|files| ClientIdentity::new(files.certificate.clone().into(), files.key.clone().into()));
            let ssl = SslOpts::default().with_disable_built_in_roots(true).with_root_certs(vec![tls.ca.clone().into()]);
            options.ssl_opts(ssl.with_client_identity(identity))
        }
    }
    .into())
}
