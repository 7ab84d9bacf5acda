//! Prepared statements: a SELECT with `?` or `$1`, the types of its parameters, and the rows bound to them.
//!
//! A prepared statement stays here, under a signed handle, until it is closed or an hour passes unused. Several bound rows ask
//! the question several times, one query each; the answers come as one stream.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema};
use concordat_policy::{Code, Refusal};
use datafusion::common::ScalarValue;

use super::kept::{Kept, Limits};
use super::seal::{Kind, Seal};
use super::statements::now;
use crate::authenticate::Caller;
use crate::pipeline::Described;
use crate::plan::Statement;

/// How long an unused one is kept.
const AGE: Duration = Duration::from_secs(3600);
/// The longest that a handle is good, in seconds.
const HANDLE: i64 = 12 * 3600;
/// The most rows that can be bound at once.
pub(super) const MAX_ROWS: usize = 64;

/// What the rows bound to one are counted as, in bytes; they may be no more.
const BOUND: usize = 128 << 10;

/// The prepared statements of all callers.
pub(super) struct Prepared {
    kept: Kept<One>,
}

/// One prepared statement.
#[derive(Clone)]
pub(super) struct One {
    sql: String,
    types: Vec<DataType>,
    /// Its answer; `None` where that is known only with values.
    pub(super) described: Option<Described>,
    rows: Vec<Vec<ScalarValue>>,
}

impl Prepared {
    pub(super) fn new() -> Self {
        Self {
            kept: Kept::new(Limits {
                what: "prepared statements",
                age: AGE,
                most: 2_048,
                most_of_one: 64,
                bytes: 128 << 20,
                bytes_of_one: 8 << 20,
            }),
        }
    }

    /// Keeps a statement and returns its handle.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`].
    pub(super) fn keep(
        &self,
        seal: &Seal,
        caller: &Caller,
        sql: String,
        types: Vec<DataType>,
        described: Option<Described>,
    ) -> Result<Vec<u8>, Refusal> {
        let owner = caller.owner();
        let id = self.kept.keep(&caller.identity_owner(), sql.len() + BOUND, One { sql, types, described, rows: Vec::new() })?;
        Ok(seal.close(Kind::Prepared, &id, &owner, now() + HANDLE))
    }

    /// Looks at the statement behind a handle.
    ///
    /// # Errors
    /// [`Code::Denied`] when it is unknown, closed, lapsed or another caller's.
    pub(super) fn with<R>(&self, seal: &Seal, handle: &[u8], caller: &Caller, work: impl FnOnce(&mut One) -> R) -> Result<R, Refusal> {
        let gone = || {
            Refusal::new(Code::Denied, "the prepared statement is unknown, closed, has lapsed or is another caller's")
                .advice("prepare it again, under the same purpose as it is used")
        };
        let id = seal.open(Kind::Prepared, handle, &caller.owner(), now()).ok_or_else(gone)?;
        self.kept.with(id, work).ok_or_else(gone)
    }

    /// Forgets a statement. Closing twice is no fault.
    pub(super) fn close(&self, seal: &Seal, handle: &[u8], caller: &Caller) {
        if let Some(id) = seal.open(Kind::Prepared, handle, &caller.owner(), now()) {
            self.kept.take(id);
        }
    }
}

impl One {
    /// The statements that it asks: one for each bound row.
    ///
    /// # Errors
    /// [`Code::Invalid`] when it has parameters and none are bound.
    pub(super) fn statements(&self) -> Result<Vec<Statement>, Refusal> {
        let of = |parameters: Vec<ScalarValue>| Statement { sql: self.sql.clone(), parameters };
        match (self.types.len(), self.rows.len()) {
            (0, _) => Ok(vec![of(Vec::new())]),
            (count, 0) => Err(Refusal::new(Code::Invalid, format!("the statement has {count} parameters, and no values are bound"))
                .advice("bind a row of values before it is executed")),
            _ => Ok(self.rows.iter().cloned().map(of).collect()),
        }
    }

    /// Binds the rows of a record batch, each value cast to its parameter's type.
    ///
    /// # Errors
    /// [`Code::Invalid`] or [`Code::LimitExceeded`]; what was bound before stays.
    pub(super) fn bind(&mut self, batches: &[RecordBatch]) -> Result<(), Refusal> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let mut rows = Vec::new();
        for batch in batches {
            if batch.num_columns() != self.types.len() {
                return Err(Refusal::new(
                    Code::Invalid,
                    format!("the statement has {} parameters, and {} columns were bound", self.types.len(), batch.num_columns()),
                ));
            }
            if rows.len() + batch.num_rows() > MAX_ROWS {
                return Err(Refusal::new(Code::LimitExceeded, format!("at most {MAX_ROWS} rows of parameters can be bound at once"))
                    .advice("bind fewer; each row is a query of its own"));
            }
            let columns = batch.columns().iter().zip(&self.types).enumerate().map(|(index, (column, kind))| {
                // Not the lenient cast: it would turn what does not fit into null.
                cast_with_options(column, kind, &strict).map_err(|_| {
                    Refusal::new(Code::Invalid, format!("parameter {} cannot be read as {kind}", index + 1))
                        .advice("bind a value of that type; the parameter's schema states it")
                })
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows() {
                let values = columns.iter().map(|column| ScalarValue::try_from_array(column, row).map_err(Refusal::internal));
                rows.push(values.collect::<Result<Vec<_>, _>>()?);
            }
        }
        if rows.iter().flatten().map(ScalarValue::size).sum::<usize>() > BOUND {
            return Err(Refusal::new(Code::LimitExceeded, format!("at most {} KiB of values can be bound at once", BOUND >> 10)));
        }
        self.rows = rows;
        Ok(())
    }
}

/// The schema of parameters: `$1`, `$2`, ….
pub(super) fn parameter_schema(types: &[DataType]) -> Schema {
    Schema::new(types.iter().enumerate().map(|(index, kind)| Field::new(format!("${}", index + 1), kind.clone(), true)).collect::<Vec<_>>())
}
