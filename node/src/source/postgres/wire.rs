//! Messages of PostgreSQL's protocol 3.0, framed. Nothing that the server sends makes this side allocate more than it has
//! received: a length is checked against a bound when its message begins, and the buffer grows with what arrives.
//!
//! Source: PostgreSQL documentation, "Frontend/Backend Protocol", "Message Formats".

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest message that is taken: one row of a scan, or a part of a catalogue's answer.
const MESSAGE: usize = 16 << 20;
/// What is read at once.
const READ: usize = 256 << 10;
/// How long a server may be silent within a statement. Longer than its own `statement_timeout`.
const SILENCE: Duration = Duration::from_secs(660);

/// Either kind of socket, with or without TLS.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

/// Why the conversation with a server ended. Holds nothing of what the server said but its code.
#[derive(Debug, thiserror::Error)]
pub(in crate::source) enum WireError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the server does not speak PostgreSQL's protocol as expected: {0}")]
    Protocol(&'static str),
    #[error("the server refused (SQLSTATE {}): {}", .0.as_str(), .0.meaning())]
    Server(SqlState),
    #[error("{0}")]
    Login(&'static str),
    #[error("{}: {}", .0.place, .0.cause)]
    File(concordat_operate::Fault),
}

/// A server's five-character error code. Its text is not kept: it can quote values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) struct SqlState([u8; 5]);

impl SqlState {
    /// The code within an `ErrorResponse`.
    pub(super) fn of(body: &[u8]) -> Self {
        let field = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
        let code = field.and_then(|code| <[u8; 5]>::try_from(code).ok()).filter(|code| code.iter().all(u8::is_ascii_alphanumeric));
        Self(code.unwrap_or(*b"XX000"))
    }

    pub(in crate::source) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    fn meaning(&self) -> &'static str {
        match self.as_str() {
            "28P01" => "the password is wrong",
            code if code.starts_with("28") => "the role may not sign in like this (see the server's pg_hba.conf)",
            "3D000" => "there is no such database",
            "42P01" => "there is no such table; names are exact, and a query names its tables with their schemas",
            "42703" => "there is no such column",
            "42501" => "the role may not read this (GRANT SELECT ON the table, USAGE ON its schema)",
            "42601" => "the query is not valid SQL",
            "57014" => "the statement was cancelled or took too long",
            "55P03" => "the table is locked",
            "57P01" | "57P02" | "57P03" => "the server is shutting down or starting up",
            "53300" => "the server has too many connections",
            "22003" | "22P02" | "22007" | "22008" => "a value does not fit its type",
            "25006" => "the statement would write",
            "40001" => "the server could not keep the snapshot",
            code if code.starts_with("42") => "the statement does not fit the database's objects or types",
            code if code.starts_with("22") => "the query failed on a value",
            code if code.starts_with("53") => "the server is out of memory or disk",
            _ => "see the server's log",
        }
    }
}

/// A connection's bytes as messages.
pub(super) struct Wire {
    socket: Box<dyn Socket>,
    input: BytesMut,
    // The length of the message that was given out last.
    taken: usize,
}

impl Wire {
    pub(super) fn new(socket: Box<dyn Socket>) -> Self {
        Self { socket, input: BytesMut::new(), taken: 0 }
    }

    /// The next message that has wholly arrived: its tag and body. The one before it is gone.
    pub(super) fn ready(&mut self) -> Result<Option<(u8, &[u8])>, WireError> {
        self.input.advance(std::mem::take(&mut self.taken));
        let Some([tag, length @ ..]) = self.input.first_chunk::<5>().copied() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length < 4 {
            return Err(WireError::Protocol("a message's length is too small"));
        }
        if length > MESSAGE {
            return Err(WireError::Protocol("a row or message is longer than 16 MiB"));
        }
        let Some(body) = self.input.get(5..=length) else { return Ok(None) };
        self.taken = length + 1;
        Ok(Some((tag, body)))
    }

    /// Waits for more bytes.
    pub(super) async fn fill(&mut self) -> Result<(), WireError> {
        self.input.reserve(READ);
        let read = tokio::time::timeout(SILENCE, self.socket.read_buf(&mut self.input));
        match read.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Result<(u8, Vec<u8>), WireError> {
        loop {
            if let Some((tag, body)) = self.ready()? {
                return Ok((tag, body.to_vec()));
            }
            self.fill().await?;
        }
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, tag: u8, body: &[u8]) -> Result<(), WireError> {
        let mut message = vec![tag];
        message.extend(length(body)?);
        message.extend_from_slice(body);
        self.raw(&message).await
    }

    /// Sends bytes as they are.
    pub(super) async fn raw(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.socket.write_all(bytes).await?;
        Ok(self.socket.flush().await?)
    }
}

/// The length of a message with this body, as it is sent.
pub(super) fn length(body: &[u8]) -> Result<[u8; 4], WireError> {
    let length = body.len().checked_add(4).and_then(|length| u32::try_from(length).ok());
    length.map(u32::to_be_bytes).ok_or(WireError::Protocol("a message to the server is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fed(bytes: &[u8]) -> Result<(u8, Vec<u8>), WireError> {
        let (mut server, client) = tokio::io::duplex(1 << 16);
        server.write_all(bytes).await.unwrap();
        drop(server);
        Wire::new(Box::new(client)).next().await
    }

    #[tokio::test]
    async fn lying_lengths_end_the_conversation_and_allocate_nothing() {
        assert_eq!(fed(b"Z\0\0\0\x05I").await.unwrap(), (b'Z', b"I".to_vec()));
        for (bytes, says) in [
            (&b"D\0\0\0\x03"[..], "too small"),
            (b"D\0\0\0\0", "too small"),
            (b"D\x7f\xff\xff\xff", "16 MiB"),
            (b"D\xff\xff\xff\xff", "16 MiB"),
            (b"D\0\0\0\x09abc", "end of file"),
            (b"D\0\0", "end of file"),
            (b"", "end of file"),
        ] {
            let error = fed(bytes).await.unwrap_err().to_string();
            assert!(error.contains(says), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn only_a_code_is_kept_of_what_a_server_says() {
        let body = b"SERROR\0VERROR\0C22P02\0Minvalid input syntax: \"AB123456C\"\0\0";
        let error = WireError::Server(SqlState::of(body)).to_string();
        assert_eq!(error, "the server refused (SQLSTATE 22P02): a value does not fit its type");
        for hostile in [&b"C"[..], b"C22\0", b"C\x1b[31m\0", b"Cab cd\0", b"", b"C1234567\0"] {
            assert_eq!(SqlState::of(hostile).as_str(), "XX000");
        }
    }
}
