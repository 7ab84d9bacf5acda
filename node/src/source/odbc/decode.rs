//! From what a driver fetched, column by column, to batches. A value that was cut off fails: by the length that the driver tells, or
//! because it fills the room that it had.

use chrono::{Datelike as _, NaiveDate, NaiveTime};
use concordat_policy::agreement::hex;
use datafusion::arrow::array::StringBuilder;
use odbc_api::buffers::{AnyColumnBufferSlice, ColumnarDynBuffer, NullableSlice};
use odbc_api::sys::{Date, Timestamp};
use odbc_api::{Bit, Pod};

use super::columns::{Column, Form};
use crate::source::batch::{Batch, Builder};

/// Which of the fetched columns, and what is wrong with a value of it.
pub(super) type Wrong = (usize, &'static str);

/// Takes the first `rows` of what was fetched.
pub(super) fn take(batch: &mut Batch, fetched: &ColumnarDynBuffer, rows: usize, columns: &[Column]) -> Result<(), Wrong> {
    batch.rows(rows, |place, builder| {
        let column = columns.get(place).ok_or((place, UNBOUND))?;
        values(builder, column.form, fetched.column(place), rows).map_err(|cause| (place, cause))
    })
}

/// Takes a column's values, and tells how many bytes of text they have.
fn values(builder: &mut Builder, form: Form, cells: AnyColumnBufferSlice<'_>, rows: usize) -> Result<usize, &'static str> {
    match (builder, form) {
        (Builder::Boolean(to), Form::Boolean) => {
            for bit in cells_of::<Bit>(cells)?.take(rows) {
                to.append_option(bit.map(boolean).transpose()?);
            }
        }
        (Builder::Integer(to), Form::Integer) => cells_of::<i64>(cells)?.take(rows).for_each(|whole| to.append_option(whole.copied())),
        (Builder::Integer(to), Form::Whole(precision)) => {
            for digits in digits(form, cells)?.take(rows) {
                let value = digits?.map(|digits| scaled(digits, precision, 0)).transpose()?;
                to.append_option(value.map(i64::try_from).transpose().map_err(|_| "is beyond 63 bits")?);
            }
        }
        (Builder::Decimal(to), Form::Decimal(precision, scale)) => {
            for digits in digits(form, cells)?.take(rows) {
                to.append_option(digits?.map(|digits| scaled(digits, precision, scale.unsigned_abs())).transpose()?);
            }
        }
        (Builder::Number(to), Form::Number) => {
            for number in cells_of::<f64>(cells)?.take(rows) {
                to.append_option(number.copied());
            }
        }
        (Builder::Date(to), Form::Date) => {
            for date in cells_of::<Date>(cells)?.take(rows) {
                to.append_option(date.map(|date| day(date.year, date.month, date.day)).transpose()?);
            }
        }
        (Builder::Date(to), Form::Midnight) => {
            for time in cells_of::<Timestamp>(cells)?.take(rows) {
                to.append_option(time.map(midnight).transpose()?);
            }
        }
        (Builder::Text(to), form) => return texts(to, form, cells, rows),
        _ => return Err(UNBOUND),
    }
    Ok(0)
}

const UNBOUND: &str = "was fetched as another type than its column's";
const CUT: &str = "is longer than its column says, or than 65536 units of text or 131072 bytes";

fn texts(to: &mut StringBuilder, form: Form, cells: AnyColumnBufferSlice<'_>, rows: usize) -> Result<usize, &'static str> {
    let mut bytes = 0;
    let mut append = |text: Option<&str>| {
        bytes += text.map_or(0, str::len);
        to.append_option(text);
    };
    match form {
        Form::Timestamp => {
            for time in cells_of::<Timestamp>(cells)?.take(rows) {
                append(time.map(timestamp).transpose()?.as_deref());
            }
        }
        Form::Hex(_) => {
            let cells = cells.as_binary().ok_or(UNBOUND)?;
            if cells.has_truncated_values().is_some() {
                return Err(CUT);
            }
            for value in cells.iter().take(rows) {
                if value.is_some_and(|bytes| bytes.len() > form.longest()) {
                    return Err(CUT);
                }
                append(value.map(hex).as_deref());
            }
        }
        Form::Text { .. } | Form::Guid => {
            let cells = cells.as_wide_text().ok_or(UNBOUND)?;
            if cells.has_truncated_values().is_some() {
                return Err(CUT);
            }
            let mut text = String::new();
            for row in 0..rows.min(cells.len()) {
                let Some(units) = cells.get(row) else {
                    append(None);
                    continue;
                };
                if units.len() > form.longest() {
                    return Err(CUT);
                }
                text.clear();
                for letter in char::decode_utf16(units.iter().copied()) {
                    text.push(letter.map_err(|_| "is not UTF-16")?);
                }
                match form {
                    Form::Text { padded: true, .. } => append(Some(text.trim_end_matches(' '))),
                    Form::Guid => append(Some(&text.to_ascii_lowercase())),
                    _ => append(Some(&text)),
                }
            }
        }
        _ => return Err(UNBOUND),
    }
    Ok(bytes)
}

fn cells_of<T: Pod>(cells: AnyColumnBufferSlice<'_>) -> Result<NullableSlice<'_, T>, &'static str> {
    cells.as_nullable_slice::<T>().ok_or(UNBOUND)
}

/// The digits of each value.
fn digits(form: Form, cells: AnyColumnBufferSlice<'_>) -> Result<impl Iterator<Item = Result<Option<&[u8]>, &'static str>>, &'static str> {
    let cells = cells.as_text().ok_or(UNBOUND)?;
    if cells.has_truncated_values().is_some() {
        return Err(DIGITS);
    }
    Ok(cells.iter().map(move |digits| if digits.is_some_and(|digits| digits.len() > form.longest()) { Err(DIGITS) } else { Ok(digits) }))
}

fn boolean(bit: &Bit) -> Result<bool, &'static str> {
    match bit.0 {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err("is no boolean: 0 and 1 are"),
    }
}

const DIGITS: &str = "has more digits than its column says";

/// `-1.50` with the scale 2 as -150. Every digit counts: what does not fit is not rounded.
fn scaled(digits: &[u8], precision: u8, scale: u8) -> Result<i128, &'static str> {
    const NONE: &str = "is no decimal number";
    let text = std::str::from_utf8(digits).map_err(|_| NONE)?.trim_matches(' ');
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|digit| digit.is_ascii_digit()) {
        return Err(NONE);
    }
    let (kept, rest) = fraction.split_at(fraction.len().min(scale.into()));
    if rest.bytes().any(|digit| digit != b'0') {
        return Err(DIGITS);
    }
    let zeros = usize::from(scale) - kept.len();
    let mut value = 0i128;
    for digit in whole.bytes().chain(kept.bytes()).chain(std::iter::repeat_n(b'0', zeros)) {
        let digit = i128::from(digit - b'0');
        value = value.checked_mul(10).and_then(|value| value.checked_add(digit)).ok_or(DIGITS)?;
    }
    // 10³⁸ is less than 2¹²⁷.
    if 10i128.checked_pow(precision.into()).is_none_or(|end| value >= end) {
        return Err(DIGITS);
    }
    Ok(if negative { -value } else { value })
}

fn day(year: i16, month: u16, day: u16) -> Result<i32, &'static str> {
    date(year, month, day).map(|date| date.to_epoch_days()).ok_or("is no day of the years 1 to 9999")
}

fn date(year: i16, month: u16, day: u16) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(year.into(), month.into(), day.into()).filter(|date| (1..=9999).contains(&date.year()))
}

fn midnight(time: &Timestamp) -> Result<i32, &'static str> {
    if (time.hour, time.minute, time.second, time.fraction) != (0, 0, 0, 0) {
        return Err("has a time of day, so it is no date: declare it as text, or cast it in a `query`");
    }
    day(time.year, time.month, time.day)
}

fn timestamp(time: &Timestamp) -> Result<String, &'static str> {
    const NONE: &str = "is no time of the years 1 to 9999";
    let date = date(time.year, time.month, time.day).ok_or(NONE)?;
    NaiveTime::from_hms_nano_opt(time.hour.into(), time.minute.into(), time.second.into(), time.fraction).ok_or(NONE)?;
    let Timestamp { hour, minute, second, fraction, .. } = *time;
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:09}").trim_end_matches('0').to_owned() };
    Ok(format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}{fraction}", date.year(), date.month(), date.day()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit_or_fail() {
        let nines = "9".repeat(38);
        for (text, precision, scale, expected) in [
            ("1.50", 5, 2, Ok(150)),
            ("-1.5", 5, 2, Ok(-150)),
            (".5", 5, 2, Ok(50)),
            ("5.", 5, 2, Ok(500)),
            ("-0.05", 5, 2, Ok(-5)),
            ("+7", 5, 0, Ok(7)),
            ("  7 ", 5, 0, Ok(7)),
            ("1.5000", 5, 2, Ok(150)),
            ("1.501", 5, 2, Err(DIGITS)),
            ("1000", 5, 2, Err(DIGITS)),
            ("999.99", 5, 2, Ok(99_999)),
            (nines.as_str(), 38, 0, Ok(10i128.pow(38) - 1)),
            (&format!("{nines}9"), 38, 0, Err(DIGITS)),
            (&format!("{nines}99"), 38, 0, Err(DIGITS)),
            ("1e3", 5, 0, Err("is no decimal number")),
            ("1,5", 5, 1, Err("is no decimal number")),
            ("", 5, 1, Err("is no decimal number")),
            (".", 5, 1, Err("is no decimal number")),
            ("-", 5, 1, Err("is no decimal number")),
            ("NaN", 5, 1, Err("is no decimal number")),
        ] {
            assert_eq!(scaled(text.as_bytes(), precision, scale), expected, "{text}");
        }
        assert_eq!(scaled(b"\xff", 5, 0), Err("is no decimal number"));
    }

    #[test]
    fn days_and_times_are_of_the_years_1_to_9999() {
        let at = |year, month, day, hour, fraction| Timestamp { year, month, day, hour, minute: 0, second: 0, fraction };
        assert_eq!(timestamp(&at(2024, 1, 31, 9, 250_000_000)).unwrap(), "2024-01-31T09:00:00.25");
        assert_eq!(timestamp(&at(1, 1, 1, 0, 1)).unwrap(), "0001-01-01T00:00:00.000000001");
        assert_eq!(midnight(&at(1970, 1, 2, 0, 0)), Ok(1));
        assert!(midnight(&at(1970, 1, 2, 0, 1)).is_err_and(|cause| cause.contains("time of day")));
        for wrong in [at(0, 1, 1, 0, 0), at(-44, 3, 15, 0, 0), at(2023, 2, 29, 0, 0), at(2024, 1, 1, 24, 0), at(2024, 1, 1, 0, u32::MAX)] {
            assert!(timestamp(&wrong).is_err(), "{wrong:?}");
        }
        assert!(day(2023, 2, 29).is_err() && day(10_000, 1, 1).is_err());
        assert_eq!(day(1969, 12, 31), Ok(-1));
    }
}
