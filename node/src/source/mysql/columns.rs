//! The types of MariaDB and MySQL: which Arrow type holds each exactly.
//!
//! | type | column type of a dataset | how |
//! |---|---|---|
//! | `tinyint(1)` `boolean` | boolean, integer | 0 and 1; another value that is read as a boolean fails |
//! | `bit(1)` | boolean | |
//! | other integers, `year`, `decimal(p,0)` with p ≤ 18 | integer, number | as it is; beyond 63 bits fails |
//! | `float` `double`, other `decimal` | number | the nearest 64-bit number |
//! | `date` | date | a day of the years 1 to 9999; the zero date and `2026-02-31` fail |
//! | `char` `varchar` `text` `enum` `set` `json` `uuid` | text | in UTF-8; `char` without its padding |
//! | `timestamp` | text | RFC 3339 in UTC, `2026-01-31T09:00:00.5Z` |
//! | `datetime` | text | the same without the `Z` |
//! | `binary` `varbinary` `blob` | text | lower-case hexadecimal |
//!
//! Everything else (`time`, `bit(n)`, `geometry`, `vector`, …) is refused by name; a `query` can cast it.

use datafusion::arrow::datatypes::DataType;
use mysql_async::Column as Described;
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable as _;

use super::session::{LOGIN, MysqlError, Session, within};
use crate::source::{Declared, SourceColumn};

/// The character set of what is no text.
const BINARY: u16 = 63;

/// How a column's values come, and what they become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An integer of which 0 and 1 fit.
    Boolean,
    Bit,
    Integer,
    /// An integer beside which the server takes 24 for 2024.
    Year,
    /// A decimal without a fraction.
    Whole,
    Number,
    Decimal,
    Date,
    DateTime,
    /// A point in time, in UTC.
    Instant,
    Text,
    Hex,
}

impl Form {
    pub(super) fn read_as(self) -> DataType {
        match self {
            Self::Boolean | Self::Bit => DataType::Boolean,
            Self::Integer | Self::Year | Self::Whole => DataType::Int64,
            Self::Number | Self::Decimal => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::DateTime | Self::Instant | Self::Text | Self::Hex => DataType::Utf8,
        }
    }
}

/// A column that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) form: Form,
    /// The most bytes of a value.
    pub(super) length: u32,
}

/// The columns of a table or query: all, and those that can be read.
pub(super) async fn columns(
    session: &mut Session,
    from: &str,
    declared: Declared<'_>,
) -> Result<(Vec<SourceColumn>, Vec<Column>), MysqlError> {
    let described = within(LOGIN, async {
        let statement = session.conn().prep(format!("SELECT * FROM {from} LIMIT 0")).await?;
        let described = statement.columns();
        session.conn().close(statement).await?;
        Ok(described)
    });
    let described = described.await?;
    let (mut all, mut readable) = (Vec::new(), Vec::new());
    for column in described.iter() {
        let name = std::str::from_utf8(column.name_ref()).map_err(|_| MysqlError::Protocol("a column's name is not UTF-8"))?;
        let (native, form) = typed(column);
        let form = match form {
            Some(Form::Boolean) if declared(name) == Some(DataType::Int64) => Some(Form::Integer),
            form => form,
        };
        all.push(SourceColumn { name: name.to_owned(), native, read_as: form.map(Form::read_as) });
        readable.extend(form.map(|form| Column { name: name.to_owned(), form, length: column.column_length() }));
    }
    Ok((all, readable))
}

/// The server's own name of a column's type, and how it is read.
fn typed(column: &Described) -> (String, Option<Form>) {
    use ColumnType as T;
    let (flags, length, decimals) = (column.flags(), column.column_length(), column.decimals());
    let (text, unsigned) = (column.character_set() != BINARY, flags.contains(ColumnFlags::UNSIGNED_FLAG));
    let integer = |name: &str| (format!("{name}{}", if unsigned { " unsigned" } else { "" }), Some(Form::Integer));
    let plain = |name: &str, form| (name.to_owned(), form);
    match column.column_type() {
        T::MYSQL_TYPE_TINY if length == 1 && !unsigned => plain("tinyint(1)", Some(Form::Boolean)),
        T::MYSQL_TYPE_TINY => integer("tinyint"),
        T::MYSQL_TYPE_SHORT => integer("smallint"),
        T::MYSQL_TYPE_INT24 => integer("mediumint"),
        T::MYSQL_TYPE_LONG => integer("int"),
        T::MYSQL_TYPE_LONGLONG => integer("bigint"),
        T::MYSQL_TYPE_YEAR => plain("year", Some(Form::Year)),
        T::MYSQL_TYPE_FLOAT => plain("float", Some(Form::Number)),
        T::MYSQL_TYPE_DOUBLE => plain("double", Some(Form::Number)),
        T::MYSQL_TYPE_DECIMAL | T::MYSQL_TYPE_NEWDECIMAL => {
            // The length is the widest text's: digits, sign, point.
            let digits = length.saturating_sub(u32::from(!unsigned) + u32::from(decimals > 0));
            let form = if decimals == 0 && digits <= 18 { Form::Whole } else { Form::Decimal };
            (format!("decimal({digits},{decimals})"), Some(form))
        }
        T::MYSQL_TYPE_BIT => (format!("bit({length})"), (length == 1).then_some(Form::Bit)),
        T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_NEWDATE => plain("date", Some(Form::Date)),
        T::MYSQL_TYPE_DATETIME | T::MYSQL_TYPE_DATETIME2 => plain("datetime", Some(Form::DateTime)),
        T::MYSQL_TYPE_TIMESTAMP | T::MYSQL_TYPE_TIMESTAMP2 => plain("timestamp", Some(Form::Instant)),
        T::MYSQL_TYPE_TIME | T::MYSQL_TYPE_TIME2 => plain("time", None),
        T::MYSQL_TYPE_JSON => plain("json", Some(Form::Text)),
        T::MYSQL_TYPE_ENUM => plain("enum", Some(Form::Text)),
        T::MYSQL_TYPE_SET => plain("set", Some(Form::Text)),
        T::MYSQL_TYPE_STRING if flags.contains(ColumnFlags::ENUM_FLAG) => plain("enum", Some(Form::Text)),
        T::MYSQL_TYPE_STRING if flags.contains(ColumnFlags::SET_FLAG) => plain("set", Some(Form::Text)),
        T::MYSQL_TYPE_STRING => plain(if text { "char" } else { "binary" }, Some(if text { Form::Text } else { Form::Hex })),
        T::MYSQL_TYPE_VARCHAR | T::MYSQL_TYPE_VAR_STRING => {
            plain(if text { "varchar" } else { "varbinary" }, Some(if text { Form::Text } else { Form::Hex }))
        }
        T::MYSQL_TYPE_TINY_BLOB | T::MYSQL_TYPE_BLOB | T::MYSQL_TYPE_MEDIUM_BLOB | T::MYSQL_TYPE_LONG_BLOB => {
            plain(if text { "text" } else { "blob" }, Some(if text { Form::Text } else { Form::Hex }))
        }
        T::MYSQL_TYPE_GEOMETRY => plain("geometry", None),
        T::MYSQL_TYPE_VECTOR => plain("vector", None),
        T::MYSQL_TYPE_NULL => plain("null", None),
        _ => plain("a type that is not known", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_without_a_fraction_are_integers_where_64_bits_hold_them() {
        let decimal = |length: u32, decimals: u8, flags: ColumnFlags| {
            let column = Described::new(ColumnType::MYSQL_TYPE_NEWDECIMAL).with_column_length(length).with_decimals(decimals);
            typed(&column.with_flags(flags))
        };
        let (signed, unsigned) = (ColumnFlags::empty(), ColumnFlags::UNSIGNED_FLAG);
        assert_eq!(decimal(19, 0, signed), ("decimal(18,0)".into(), Some(Form::Whole)));
        assert_eq!(decimal(18, 0, unsigned), ("decimal(18,0)".into(), Some(Form::Whole)));
        assert_eq!(decimal(20, 0, signed), ("decimal(19,0)".into(), Some(Form::Decimal)));
        assert_eq!(decimal(12, 2, signed), ("decimal(10,2)".into(), Some(Form::Decimal)));
    }
}
