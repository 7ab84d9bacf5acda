//! Rows of a binary `COPY`, straight into Arrow builders: no value is looked at twice, none is copied but into its array.
//!
//! Every length is checked before it is used, against what is there: hostile bytes end in a [`Fault`], never in a panic.
//! Source: PostgreSQL documentation, `COPY`, "Binary Format"; the forms of values as `src/backend/utils/adt/*send` writes them.

use std::sync::Arc;

use chrono::{DateTime, Datelike as _, SecondsFormat, Utc};
use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder,
};
use datafusion::arrow::datatypes::SchemaRef;

use super::columns::Form;
use crate::source::BATCH_ROWS;

/// What stands before the first row: the signature, no flags (with OIDs there would be one), no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Bytes of text after which a batch is full, whatever its rows.
const BATCH_BYTES: usize = 8 << 20;
/// Days from 1970-01-01 to PostgreSQL's 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(super) const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

/// What is wrong with the bytes or with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server's bytes are no rows of these columns.
    Bytes(&'static str),
    /// A value of the column at this place does not fit.
    Value(usize, &'static str),
}

const CUT: Fault = Fault::Bytes("a row is cut short");

/// Rows on their way into a batch.
pub(super) struct Decoder {
    schema: SchemaRef,
    columns: Vec<Builder>,
    rows: usize,
    bytes: usize,
    begun: bool,
    ended: bool,
}

enum Builder {
    Boolean(BooleanBuilder),
    Integer(Form, Int64Builder),
    Number(Form, Float64Builder),
    Date(Date32Builder),
    Text(Form, StringBuilder),
}

impl Decoder {
    /// `schema` has the Arrow types of `forms`, in order.
    pub(super) fn new(schema: SchemaRef, forms: &[Form]) -> Self {
        let builder = |form: &Form| match form {
            Form::Boolean => Builder::Boolean(BooleanBuilder::with_capacity(BATCH_ROWS)),
            Form::Int2 | Form::Int4 | Form::Int8 | Form::Whole | Form::Microseconds { .. } => {
                Builder::Integer(*form, Int64Builder::with_capacity(BATCH_ROWS))
            }
            Form::Float4 | Form::Float8 | Form::Numeric => Builder::Number(*form, Float64Builder::with_capacity(BATCH_ROWS)),
            Form::Date => Builder::Date(Date32Builder::with_capacity(BATCH_ROWS)),
            Form::Timestamp | Form::Instant | Form::Text => Builder::Text(*form, StringBuilder::with_capacity(BATCH_ROWS, BATCH_ROWS * 8)),
        };
        Self { schema, columns: forms.iter().map(builder).collect(), rows: 0, bytes: 0, begun: false, ended: false }
    }

    /// Takes the body of one `CopyData`: whole rows, as servers send them. Tells whether the batch is full.
    pub(super) fn take(&mut self, mut input: &[u8]) -> Result<bool, Fault> {
        if !self.begun {
            input = input.strip_prefix(HEADER).ok_or(Fault::Bytes("the rows do not begin as binary rows do"))?;
            self.begun = true;
        }
        while let Some((count, rest)) = input.split_first_chunk::<2>() {
            if self.ended {
                return Err(Fault::Bytes("there is a row after the last one"));
            }
            let count = i16::from_be_bytes(*count);
            if count == -1 {
                self.ended = true;
                input = rest;
                continue;
            }
            if usize::try_from(count) != Ok(self.columns.len()) {
                return Err(Fault::Bytes("a row has another number of columns"));
            }
            self.bytes += rest.len();
            input = self.row(rest)?;
        }
        if input.is_empty() { Ok(self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES) } else { Err(CUT) }
    }

    fn row<'a>(&mut self, mut input: &'a [u8]) -> Result<&'a [u8], Fault> {
        for (place, column) in self.columns.iter_mut().enumerate() {
            let (length, rest) = input.split_first_chunk::<4>().ok_or(CUT)?;
            let length = i32::from_be_bytes(*length);
            if length == -1 {
                column.null();
                input = rest;
                continue;
            }
            let length = usize::try_from(length).map_err(|_| Fault::Bytes("a value has a negative length"))?;
            let (value, rest) = rest.split_at_checked(length).ok_or(CUT)?;
            column.value(value).map_err(|cause| Fault::Value(place, cause))?;
            input = rest;
        }
        self.rows += 1;
        Ok(input)
    }

    /// The rows since the last batch; `None` when there are none.
    pub(super) fn batch(&mut self) -> Option<datafusion::common::Result<RecordBatch>> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        if rows == 0 {
            return None;
        }
        let arrays = self.columns.iter_mut().map(Builder::finish).collect();
        Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options).map_err(Into::into))
    }

    /// Whether the mark after the last row was seen.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }
}

impl Builder {
    fn null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Integer(_, builder) => builder.append_null(),
            Self::Number(_, builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Text(_, builder) => builder.append_null(),
        }
    }

    fn value(&mut self, value: &[u8]) -> Result<(), &'static str> {
        match self {
            Self::Boolean(builder) => builder.append_value(match value {
                [0] => false,
                [1] => true,
                _ => return Err("is no boolean"),
            }),
            Self::Integer(form, builder) => builder.append_value(integer(*form, value)?),
            Self::Number(form, builder) => builder.append_value(number(*form, value)?),
            Self::Date(builder) => builder.append_value(date(value)?),
            Self::Text(Form::Text, builder) => builder.append_value(std::str::from_utf8(value).map_err(|_| "is not UTF-8")?),
            Self::Text(form, builder) => builder.append_value(time(value, *form == Form::Instant)?),
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Integer(_, builder) => Arc::new(builder.finish()),
            Self::Number(_, builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Text(_, builder) => Arc::new(builder.finish()),
        }
    }
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], &'static str> {
    <[u8; N]>::try_from(value).map_err(|_| "has another length than its type")
}

fn integer(form: Form, value: &[u8]) -> Result<i64, &'static str> {
    Ok(match form {
        Form::Int2 => i16::from_be_bytes(fixed(value)?).into(),
        Form::Int4 => i32::from_be_bytes(fixed(value)?).into(),
        Form::Whole => Decimal::read(value)?.whole()?,
        _ => i64::from_be_bytes(fixed(value)?),
    })
}

fn number(form: Form, value: &[u8]) -> Result<f64, &'static str> {
    Ok(match form {
        Form::Float4 => f32::from_be_bytes(fixed(value)?).into(),
        Form::Numeric => Decimal::read(value)?.nearest(),
        _ => f64::from_be_bytes(fixed(value)?),
    })
}

fn date(value: &[u8]) -> Result<i32, &'static str> {
    let days = i32::from_be_bytes(fixed(value)?);
    if days == i32::MIN { None } else { days.checked_add(EPOCH_DAYS) }.ok_or("is an infinite date")
}

/// A timestamp in RFC 3339, or without zone.
fn time(value: &[u8], zoned: bool) -> Result<String, &'static str> {
    const BEYOND: &str = "is an infinite time, or one beyond the years 0 to 9999";
    let microseconds = i64::from_be_bytes(fixed(value)?).checked_add(EPOCH_MICROSECONDS).ok_or(BEYOND)?;
    let time = DateTime::<Utc>::from_timestamp_micros(microseconds).filter(|time| (0..=9999).contains(&time.year())).ok_or(BEYOND)?;
    let mut text = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    if !zoned {
        text.truncate(text.len() - 1);
    }
    Ok(text)
}

/// A `numeric`: digits of base 10,000, the first of which counts 10,000 to the power of `weight`.
struct Decimal<'a> {
    digits: &'a [[u8; 2]],
    weight: i16,
    sign: u16,
}

impl<'a> Decimal<'a> {
    fn read(value: &'a [u8]) -> Result<Self, &'static str> {
        const MALFORMED: &str = "is no decimal";
        let ([n0, n1, w0, w1, s0, s1, _, _], rest) = value.split_first_chunk::<8>().ok_or(MALFORMED)?;
        let (digits, left) = rest.as_chunks::<2>();
        let sign = u16::from_be_bytes([*s0, *s1]);
        let sound = left.is_empty()
            && digits.len() == usize::from(u16::from_be_bytes([*n0, *n1]))
            && digits.iter().all(|digit| u16::from_be_bytes(*digit) < 10_000)
            && matches!(sign, 0 | 0x4000 | 0xC000 | 0xD000 | 0xF000);
        if sound { Ok(Self { digits, weight: i16::from_be_bytes([*w0, *w1]), sign }) } else { Err(MALFORMED) }
    }

    /// The power of ten that the last digit's unit counts.
    fn exponent(&self) -> i64 {
        let below = i64::try_from(self.digits.len()).unwrap_or(i64::MAX / 8) - 1;
        4 * (i64::from(self.weight) - below)
    }

    /// The digits as one integer, if they are few.
    fn mantissa(&self) -> Option<u64> {
        let add = |sum: u64, digit: &[u8; 2]| sum.checked_mul(10_000)?.checked_add(u16::from_be_bytes(*digit).into());
        self.digits.iter().try_fold(0, add)
    }

    fn whole(&self) -> Result<i64, &'static str> {
        const UNFIT: &str = "is no whole number of 64 bits";
        let negative = match self.sign {
            0 => false,
            0x4000 => true,
            _ => return Err(UNFIT),
        };
        if self.digits.is_empty() {
            return Ok(0);
        }
        let mantissa = self.mantissa().and_then(|m| i64::try_from(m).ok()).ok_or(UNFIT)?;
        let power = u32::try_from(self.exponent()).ok().and_then(|exponent| 10i64.checked_pow(exponent)).ok_or(UNFIT)?;
        let whole = mantissa.checked_mul(power).ok_or(UNFIT)?;
        Ok(if negative { -whole } else { whole })
    }

    /// The nearest 64-bit number; infinite beyond their range.
    fn nearest(&self) -> f64 {
        let magnitude = match self.sign {
            0xC000 => return f64::NAN,
            0xD000 => return f64::INFINITY,
            0xF000 => return f64::NEG_INFINITY,
            _ => self.magnitude(),
        };
        if self.sign == 0x4000 { -magnitude } else { magnitude }
    }

    fn magnitude(&self) -> f64 {
        const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
        const POWERS: [f64; 23] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
        ];
        if self.digits.is_empty() {
            return 0.0;
        }
        let exponent = self.exponent();
        let power = usize::try_from(exponent.unsigned_abs()).ok().and_then(|place| POWERS.get(place));
        // Both sides are exact, so that one operation rounds once, to the nearest.
        if let (Some(mantissa), Some(power)) = (self.mantissa().filter(|mantissa| *mantissa <= EXACT), power) {
            let mantissa = mantissa as f64;
            return if exponent < 0 { mantissa / power } else { mantissa * power };
        }
        let digits: String = self.digits.iter().map(|digit| format!("{:04}", u16::from_be_bytes(*digit))).collect();
        format!("{digits}e{exponent}").parse().unwrap_or(f64::INFINITY)
    }
}

#[cfg(test)]
mod tests;
