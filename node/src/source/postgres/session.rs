//! One connection to a server: statements in, rows out.

use std::sync::Arc;

use super::login::{CancelKey, cancel, login};
use super::wire::{SqlState, Wire, WireError};
use crate::source::settings::Settings;

/// Bytes that the answer to one question about the catalogue may have.
const ANSWER: usize = 64 << 20;

/// Every transaction begins so. Literals and names mean what they say here, times are told in UTC, and no statement waits or runs
/// for ever. Nothing of it outlives the transaction, so that a pooler in between gives the connection to others as it was.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL standard_conforming_strings = on; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL client_encoding = 'UTF8'; \
    SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'; SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; \
    SET LOCAL statement_timeout = '600s'; SET LOCAL lock_timeout = '3s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) oid: u32,
    pub(super) modifier: i32,
}

/// An answer in text form.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) columns: Vec<Described>,
    pub(super) rows: Vec<Vec<Option<String>>>,
    // What the last statement was, as the server says it: `COMMIT`, `ROLLBACK`.
    tag: Vec<u8>,
}

/// A connection. When it is dropped while a statement runs, the server is asked to cancel it.
pub(super) struct Session {
    settings: Arc<Settings>,
    wire: Wire,
    key: Option<CancelKey>,
    busy: bool,
}

impl Session {
    /// Connects and opens a read-only transaction, whose snapshot is taken by its first question.
    pub(super) async fn begin(settings: &Arc<Settings>) -> Result<Self, WireError> {
        let (wire, key) = login(settings).await?;
        let mut session = Self { settings: Arc::clone(settings), wire, key, busy: false };
        session.ask(BEGIN).await?;
        Ok(session)
    }

    /// Asks one question, or says several things of which one is answered.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Answer, WireError> {
        self.query(sql).await?;
        let (mut answer, mut failed, mut bytes) = (Answer::default(), None, 0);
        loop {
            let (tag, body) = self.wire.next().await?;
            bytes += body.len();
            if bytes > ANSWER {
                return Err(WireError::Protocol("an answer about the catalogue is longer than 64 MiB"));
            }
            match tag {
                b'T' => answer.columns = described(&body).ok_or(WireError::Protocol("a description of columns cannot be read"))?,
                b'D' => answer.rows.push(texts(&body).ok_or(WireError::Protocol("a row cannot be read"))?),
                b'C' => answer.tag = body,
                b'E' => failed = Some(WireError::Server(SqlState::of(&body))),
                b'S' | b'N' | b'A' | b'I' => {}
                b'Z' => {
                    self.busy = false;
                    return failed.map_or(Ok(answer), Err);
                }
                _ => return Err(WireError::Protocol("an unexpected message in an answer")),
            }
        }
    }

    /// Ends the transaction. That the server confirms it says that it was whole.
    pub(super) async fn commit(mut self) -> Result<(), WireError> {
        let answer = self.ask("COMMIT").await?;
        if answer.tag != b"COMMIT\0" {
            return Err(WireError::Protocol("the transaction was not ended in order"));
        }
        self.wire.send(b'X', &[]).await
    }

    /// Sends a `COPY … TO STDOUT (FORMAT binary)` of this many columns, and reads up to the first row.
    pub(super) async fn copy_out(&mut self, sql: &str, columns: usize) -> Result<(), WireError> {
        self.query(sql).await?;
        loop {
            match self.wire.next().await? {
                (b'H', body) => return check_copy(&body, columns),
                (b'E', body) => return Err(WireError::Server(SqlState::of(&body))),
                (b'S' | b'N' | b'A', _) => {}
                _ => return Err(WireError::Protocol("an unexpected message before the rows")),
            }
        }
    }

    /// Hands the rows of a `COPY` that have arrived to `take`, at least one unless it was the last; `false` when there are no more.
    /// Stops early when `take` has had enough for now.
    pub(super) async fn copied<E: From<WireError>>(&mut self, mut take: impl FnMut(&[u8]) -> Result<bool, E>) -> Result<bool, E> {
        loop {
            match self.wire.ready()? {
                Some((b'd', body)) => {
                    if take(body)? {
                        return Ok(true);
                    }
                }
                Some((b'c' | b'S' | b'N' | b'A' | b'C', _)) => {}
                Some((b'Z', _)) => {
                    self.busy = false;
                    return Ok(false);
                }
                Some((b'E', body)) => return Err(WireError::Server(SqlState::of(body)).into()),
                Some(_) => return Err(WireError::Protocol("an unexpected message among the rows").into()),
                None => self.wire.fill().await?,
            }
        }
    }

    async fn query(&mut self, sql: &str) -> Result<(), WireError> {
        if sql.contains('\0') {
            return Err(WireError::Protocol("a statement holds a NUL"));
        }
        self.busy = true;
        self.wire.send(b'Q', &[sql.as_bytes(), b"\0"].concat()).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let (true, Some(key), Ok(runtime)) = (self.busy, self.key, tokio::runtime::Handle::try_current()) {
            let settings = Arc::clone(&self.settings);
            // A server that is gone has nothing to cancel.
            runtime.spawn(async move { cancel(&settings, key).await.ok() });
        }
    }
}

fn check_copy(body: &[u8], columns: usize) -> Result<(), WireError> {
    let mut expected = vec![1];
    expected.extend(u16::try_from(columns).unwrap_or(u16::MAX).to_be_bytes());
    expected.extend(std::iter::repeat_n([0, 1], columns).flatten());
    if body == expected { Ok(()) } else { Err(WireError::Protocol("the rows would not come in binary form, or in other columns")) }
}

/// A `RowDescription`.
fn described(body: &[u8]) -> Option<Vec<Described>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let name = std::str::from_utf8(rest.get(..end)?).ok()?.to_owned();
        // Table (4), place (2), type (4), length (2), modifier (4), form (2).
        let (fields, after) = rest.get(end + 1..)?.split_first_chunk::<18>()?;
        let [_, _, _, _, _, _, o0, o1, o2, o3, _, _, m0, m1, m2, m3, _, _] = *fields;
        columns.push(Described { name, oid: u32::from_be_bytes([o0, o1, o2, o3]), modifier: i32::from_be_bytes([m0, m1, m2, m3]) });
        rest = after;
    }
    rest.is_empty().then_some(columns)
}

/// A `DataRow` in text form.
fn texts(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        rest = after;
        values.push(match usize::try_from(length) {
            Err(_) if length == -1 => None,
            Err(_) => return None,
            Ok(length) => {
                let (value, after) = rest.split_at_checked(length)?;
                rest = after;
                Some(std::str::from_utf8(value).ok()?.to_owned())
            }
        });
    }
    rest.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_descriptions_and_rows_are_refused() {
        let column = [&b"id\0"[..], &[0; 6], &23u32.to_be_bytes(), &[0, 4], &(-1i32).to_be_bytes(), &[0, 0]].concat();
        let one = [&[0, 1][..], &column].concat();
        assert_eq!(described(&one).unwrap(), [Described { name: "id".into(), oid: 23, modifier: -1 }]);
        assert_eq!(texts(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff").unwrap(), [Some("a".into()), None]);
        for cut in 0..one.len() {
            assert_eq!(described(&one[..cut]), None, "{cut}");
        }
        for body in [&b"\xff\xff"[..], b"\0\x01\x7f\xff\xff\xffa", b"\0\x01\xff\xff\xff\xfe", b"\0\x01\0\0\0\x01\xff", b"\0\0x", b"\0"] {
            assert_eq!(texts(body), None, "{body:?}");
        }
        assert!(check_copy(&[1, 0, 2, 0, 1, 0, 1], 2).is_ok());
        for body in [&[0, 0, 1, 0, 0][..], &[1, 0, 2, 0, 1, 0, 1], &[], &[1, 0, 1, 0, 0], &[1, 0xff, 0xff]] {
            assert!(check_copy(body, 1).is_err(), "{body:?}");
        }
    }
}
