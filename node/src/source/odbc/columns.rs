//! The types of ODBC: which Arrow type holds each exactly.
//!
//! | type | column type of a dataset | how |
//! |---|---|---|
//! | `bit` | boolean | |
//! | `tinyint` `smallint` `integer` `bigint` | integer, number | beyond 63 bits fails |
//! | `decimal(p,0)` `numeric(p,0)` with p ≤ 18, up to 38 where an integer is declared | integer, number | beyond 63 bits fails |
//! | other `decimal(p,s)` `numeric(p,s)` with p ≤ 38 | number | every digit, as `Decimal128(p,s)`; a digit beyond p and s fails |
//! | `real` `float` `double` | number | as a 64-bit number; NaN and infinities are null |
//! | `date` | date | a day of the years 1 to 9999 |
//! | `timestamp` (also `DATE` of Oracle) | text, date | `2026-01-31T09:00:00.5`; as a date only at midnight, else it fails |
//! | `char` `varchar` `wchar` `wvarchar` and their long forms | text | from UTF-16; fixed lengths without their padding |
//! | `guid` | text | in lower case |
//! | `binary` `varbinary` and their long form | text | lower-case hexadecimal |
//!
//! Everything else (`time`, intervals, `datetimeoffset`, `xml`, `sql_variant`, …) is refused by name; a `query` can cast it. A value longer than
//! [`LONGEST`], or than its column says, fails the scan and is never cut off. What a driver calls by another type than its own
//! database does (a time with its zone as a `timestamp`) cannot be told here.

use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use odbc_api::buffers::BufferDesc;
use odbc_api::sys::SqlDataType;
use odbc_api::{ColumnDescription, DataType as Sql, ResultSetMetadata};

use super::session::OdbcError;
use crate::source::{Declared, SourceColumn};

/// The longest text that is read, in units of UTF-16, and half of the longest binary value, in bytes.
pub(super) const LONGEST: usize = 64 << 10;

/// A column that can be read.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) form: Form,
}

/// How a column's values are fetched, and what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Boolean,
    Integer,
    /// A decimal without a fraction, of so many digits, as an integer.
    Whole(u8),
    Decimal(u8, i8),
    Number,
    Date,
    /// A timestamp that is a day.
    Midnight,
    Timestamp,
    Text {
        units: usize,
        padded: bool,
    },
    Guid,
    Hex(usize),
}

impl Form {
    pub(super) fn read_as(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer | Self::Whole(_) => DataType::Int64,
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Self::Number => DataType::Float64,
            Self::Date | Self::Midnight => DataType::Date32,
            Self::Timestamp | Self::Text { .. } | Self::Guid | Self::Hex(_) => DataType::Utf8,
        }
    }

    /// What a row of it is fetched into. There is room for one more than the longest value: what fills it all was cut off, whatever the
    /// driver says.
    pub(super) fn buffer(self) -> BufferDesc {
        match self {
            Self::Boolean => BufferDesc::Bit { nullable: true },
            Self::Integer => BufferDesc::I64 { nullable: true },
            Self::Whole(_) | Self::Decimal(..) => BufferDesc::Text { max_str_len: self.longest() + 1 },
            Self::Number => BufferDesc::F64 { nullable: true },
            Self::Date => BufferDesc::Date { nullable: true },
            Self::Midnight | Self::Timestamp => BufferDesc::Timestamp { nullable: true },
            Self::Text { .. } | Self::Guid => BufferDesc::WText { max_str_len: self.longest() + 1 },
            Self::Hex(_) => BufferDesc::Binary { max_bytes: self.longest() + 1 },
        }
    }

    /// How many digits, units of UTF-16 or bytes a value has at most; 0 for those of one length.
    pub(super) fn longest(self) -> usize {
        match self {
            // With a sign, a point, and a zero before that.
            Self::Whole(precision) | Self::Decimal(precision, _) => usize::from(precision) + 3,
            Self::Text { units, .. } => units,
            Self::Guid => 38,
            Self::Hex(bytes) => bytes,
            Self::Boolean | Self::Integer | Self::Number | Self::Date | Self::Midnight | Self::Timestamp => 0,
        }
    }
}

/// All columns that were described, and those that can be read.
pub(super) fn columns(described: Vec<(String, Sql)>, declared: Declared<'_>) -> (Vec<SourceColumn>, Vec<Column>) {
    let (mut all, mut readable) = (Vec::new(), Vec::new());
    for (name, kind) in described {
        let (native, form) = typed(kind, declared(&name).as_ref());
        readable.extend(form.map(|form| Column { name: name.clone(), form }));
        all.push(SourceColumn { name, native, read_as: form.map(Form::read_as) });
    }
    (all, readable)
}

/// The name and type of each column of what gives rows.
pub(super) fn described(of: &mut impl ResultSetMetadata) -> Result<Vec<(String, Sql)>, OdbcError> {
    let count = u16::try_from(of.num_result_cols()?).map_err(|_| OdbcError::Driver("the driver tells a negative number of columns"))?;
    // Long enough at once: some drivers count only what they had room for.
    let mut description = ColumnDescription { name: vec![0; 256], ..ColumnDescription::default() };
    let mut all = Vec::new();
    for number in 1..=count {
        of.describe_col(number, &mut description)?;
        let name = description.name_to_string().map_err(|_| OdbcError::Driver("the name of a column is not UTF-16"))?;
        all.push((name, description.data_type));
    }
    Ok(all)
}

/// A type's name, and how its values are read.
pub(super) fn typed(kind: Sql, declared: Option<&DataType>) -> (String, Option<Form>) {
    let plain = |name: &str, form| (name.to_owned(), Some(form));
    match kind {
        Sql::Bit => plain("bit", Form::Boolean),
        Sql::TinyInt => plain("tinyint", Form::Integer),
        Sql::SmallInt => plain("smallint", Form::Integer),
        Sql::Integer => plain("integer", Form::Integer),
        Sql::BigInt => plain("bigint", Form::Integer),
        Sql::Decimal { precision, scale } => (format!("decimal({precision},{scale})"), decimal(precision, scale, declared)),
        Sql::Numeric { precision, scale } => (format!("numeric({precision},{scale})"), decimal(precision, scale, declared)),
        Sql::Real => plain("real", Form::Number),
        Sql::Float { .. } => plain("float", Form::Number),
        Sql::Double => plain("double", Form::Number),
        Sql::Date => plain("date", Form::Date),
        Sql::Timestamp { .. } if declared == Some(&DataType::Date32) => plain("timestamp", Form::Midnight),
        Sql::Timestamp { .. } => plain("timestamp", Form::Timestamp),
        Sql::Char { length } => sized("char", length, true),
        Sql::WChar { length } => sized("wchar", length, true),
        Sql::Varchar { length } => sized("varchar", length, false),
        Sql::WVarchar { length } => sized("wvarchar", length, false),
        // What drivers tell of the length of these is a setting of their own.
        Sql::LongVarchar { .. } => plain("longvarchar", Form::Text { units: LONGEST, padded: false }),
        Sql::WLongVarchar { .. } => plain("wlongvarchar", Form::Text { units: LONGEST, padded: false }),
        Sql::Binary { length } => binary("binary", length),
        Sql::Varbinary { length } => binary("varbinary", length),
        Sql::LongVarbinary { .. } => plain("longvarbinary", Form::Hex(2 * LONGEST)),
        Sql::Other { data_type: SqlDataType(-11), .. } => plain("guid", Form::Guid),
        Sql::Time { .. } => ("time".into(), None),
        Sql::Unknown => ("a type that the driver does not know".into(), None),
        Sql::Other { data_type, .. } => (other(data_type), None),
    }
}

fn decimal(precision: usize, scale: i16, declared: Option<&DataType>) -> Option<Form> {
    let digits = u8::try_from(precision).ok().filter(|digits| (1..=DECIMAL128_MAX_PRECISION).contains(digits))?;
    let scale = i8::try_from(scale).ok().filter(|scale| u8::try_from(*scale).is_ok_and(|scale| scale <= digits))?;
    let whole = scale == 0 && (digits <= 18 || declared == Some(&DataType::Int64));
    Some(if whole { Form::Whole(digits) } else { Form::Decimal(digits, scale) })
}

type Length = Option<std::num::NonZeroUsize>;

fn sized(name: &str, length: Length, padded: bool) -> (String, Option<Form>) {
    // A character outside the basic plane takes two units.
    let units = length.map_or(LONGEST, |length| length.get().saturating_mul(2).min(LONGEST));
    (with_length(name, length), Some(Form::Text { units, padded }))
}

fn binary(name: &str, length: Length) -> (String, Option<Form>) {
    (with_length(name, length), Some(Form::Hex(length.map_or(2 * LONGEST, |length| length.get().min(2 * LONGEST)))))
}

fn with_length(name: &str, length: Length) -> String {
    length.map_or_else(|| name.to_owned(), |length| format!("{name}({length})"))
}

/// The types that drivers number themselves: Microsoft's.
fn other(kind: SqlDataType) -> String {
    match kind.0 {
        -150 => "sql_variant".into(),
        -151 => "a type of .NET".into(),
        -152 => "xml".into(),
        -154 => "time".into(),
        -155 => "datetimeoffset".into(),
        101..=113 => "interval".into(),
        number => format!("the driver's own {number}"),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    #[test]
    fn each_type_is_read_exactly_or_refused_by_name() {
        let length = NonZeroUsize::new;
        let own = |number| Sql::new(SqlDataType(number), 10, 0);
        let text = |units, padded| Some(Form::Text { units, padded });
        for (kind, name, form) in [
            (Sql::Bit, "bit", Some(Form::Boolean)),
            (Sql::TinyInt, "tinyint", Some(Form::Integer)),
            (Sql::BigInt, "bigint", Some(Form::Integer)),
            (Sql::Decimal { precision: 18, scale: 0 }, "decimal(18,0)", Some(Form::Whole(18))),
            (Sql::Decimal { precision: 19, scale: 0 }, "decimal(19,0)", Some(Form::Decimal(19, 0))),
            (Sql::Numeric { precision: 38, scale: 38 }, "numeric(38,38)", Some(Form::Decimal(38, 38))),
            (Sql::Numeric { precision: 39, scale: 2 }, "numeric(39,2)", None),
            (Sql::Numeric { precision: 0, scale: 0 }, "numeric(0,0)", None),
            (Sql::Numeric { precision: 300, scale: 0 }, "numeric(300,0)", None),
            // Oracle's NUMBER(3,-2) and NUMBER(2,5).
            (Sql::Decimal { precision: 3, scale: -2 }, "decimal(3,-2)", None),
            (Sql::Decimal { precision: 2, scale: 5 }, "decimal(2,5)", None),
            (Sql::Real, "real", Some(Form::Number)),
            (Sql::Float { precision: 53 }, "float", Some(Form::Number)),
            (Sql::Date, "date", Some(Form::Date)),
            (Sql::Timestamp { precision: 6 }, "timestamp", Some(Form::Timestamp)),
            (Sql::Time { precision: 0 }, "time", None),
            (Sql::Char { length: length(5) }, "char(5)", text(10, true)),
            (Sql::WVarchar { length: length(4000) }, "wvarchar(4000)", text(8000, false)),
            (Sql::Varchar { length: None }, "varchar", text(LONGEST, false)),
            (Sql::Varchar { length: length(usize::MAX) }, "varchar(18446744073709551615)", text(LONGEST, false)),
            (Sql::LongVarchar { length: length(8190) }, "longvarchar", text(LONGEST, false)),
            (Sql::Varbinary { length: length(16) }, "varbinary(16)", Some(Form::Hex(16))),
            (Sql::LongVarbinary { length: None }, "longvarbinary", Some(Form::Hex(2 * LONGEST))),
            (own(-11), "guid", Some(Form::Guid)),
            (own(-155), "datetimeoffset", None),
            (own(-152), "xml", None),
            (own(103), "interval", None),
            (own(-9999), "the driver's own -9999", None),
            (Sql::Unknown, "a type that the driver does not know", None),
        ] {
            assert_eq!(typed(kind, None), (name.to_owned(), form), "{kind:?}");
        }
    }

    #[test]
    fn what_is_declared_decides_between_exact_readings_only() {
        let decimal = |precision, scale| Sql::Decimal { precision, scale };
        assert_eq!(typed(decimal(38, 0), Some(&DataType::Int64)).1, Some(Form::Whole(38)));
        assert_eq!(typed(decimal(38, 2), Some(&DataType::Int64)).1, Some(Form::Decimal(38, 2)));
        assert_eq!(typed(Sql::Timestamp { precision: 0 }, Some(&DataType::Date32)).1, Some(Form::Midnight));
        assert_eq!(typed(Sql::Bit, Some(&DataType::Int64)).1, Some(Form::Boolean));
    }
}
