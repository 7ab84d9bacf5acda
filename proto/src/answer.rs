//! The digest of an answer: the gateway's log promises it, and whoever holds the answer works it out again.
//!
//! ```text
//! column = SHA-256 over its rows: 00 for null, else 01 ‖ the value
//! digest = SHA-256("concordat.answer/v1\n" ‖ salt (32 bytes) ‖ rows ‖ number of columns
//!                  ‖ for each column: length ‖ name ‖ length ‖ type ‖ column)
//! ```
//!
//! Numbers and lengths are little-endian, of eight bytes. A value of fixed width is its bytes as Arrow lays them out, little-endian; a boolean
//! is `00` or `01`; text and bytes follow their length. Types are named as [`AnswerDigest::of`] tells. It does not depend on how rows are
//! cut into batches, how texts are laid out (plain, long, views, dictionaries), whether a column may be null, or on metadata; it does
//! depend on the order of rows and columns. A column that holds nothing but nulls is of type `null`, whatever its schema says: where a
//! parameter was bound as null, its column has another type in the plan than was announced.
//!
//! The salt is random and travels with the promise alone: who reads the log must not be able to try answers against the digest there.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

use arrow::array::{Array as _, ArrayRef, AsArray as _, GenericByteArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType as _, ByteArrayType, DataType, IntervalUnit, Schema, TimeUnit};
use sha2::{Digest as _, Sha256};

/// A digest of an answer.
pub type Digest = [u8; 32];

/// Random bytes that a digest is salted with.
pub type Salt = [u8; 32];

/// The first bytes of what is hashed.
const DOMAIN: &[u8] = b"concordat.answer/v1\n";

/// From how many rows on threads are worth while.
const MANY: usize = 1 << 16;

/// Why an answer has no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// A column of a type that has no form here: lists, structures, maps, unions.
    #[error("the column '{column}' is of type {kind}, of which an answer has no digest")]
    Type {
        /// Its name.
        column: String,
        /// Arrow's name of the type.
        kind: DataType,
    },
    /// Rows that do not have the columns of the schema.
    #[error("rows do not have the columns of their answer")]
    Columns,
}

/// A digest in the making, over rows as they come. Takes 300 bytes for each column, whatever the answer's size.
#[derive(Debug)]
pub struct AnswerDigest {
    columns: Vec<Column>,
    rows: u64,
}

#[derive(Debug)]
struct Column {
    name: String,
    form: Form,
    hash: Sha256,
    /// Whether it has a value.
    told: bool,
}

/// How a column's values are hashed, and the name of their type.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Form {
    layout: Layout,
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Nothing,
    Boolean,
    /// So many bytes each.
    Fixed(usize),
    Text,
    Bytes,
}

impl AnswerDigest {
    /// Begins, over an answer with these columns. Types are named `boolean`, `int8` to `int64`, `uint8` to `uint64`, `float16` to `float64`,
    /// `date32`, `date64`, `time32[s]`, `time64[us]`, `timestamp[us]`, `timestamp[us, Europe/London]`, `duration[ns]`,
    /// `interval[year_month]`, `interval[day_time]`, `interval[month_day_nano]`, `decimal128(38, 10)`, `text` and `bytes`.
    ///
    /// # Errors
    /// [`AnswerError::Type`].
    pub fn of(schema: &Schema) -> Result<Self, AnswerError> {
        let column = |field: &arrow::datatypes::FieldRef| {
            let other = || AnswerError::Type { column: field.name().clone(), kind: field.data_type().clone() };
            let form = Form::of(field.data_type()).ok_or_else(other)?;
            Ok(Column { name: field.name().clone(), form, hash: Sha256::new(), told: false })
        };
        Ok(Self { columns: schema.fields().iter().map(column).collect::<Result<_, _>>()?, rows: 0 })
    }

    /// The next rows.
    ///
    /// # Errors
    /// [`AnswerError::Columns`].
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), AnswerError> {
        self.add_on(1, std::slice::from_ref(batch))
    }

    /// All of these rows: where they are many, the columns side by side on threads. Blocks.
    ///
    /// # Errors
    /// As [`AnswerDigest::add`].
    pub fn add_all(&mut self, batches: &[RecordBatch]) -> Result<(), AnswerError> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let threads = if rows < MANY { 1 } else { thread::available_parallelism().map_or(1, NonZero::get).min(self.columns.len()) };
        self.add_on(threads, batches)
    }

    fn add_on(&mut self, threads: usize, batches: &[RecordBatch]) -> Result<(), AnswerError> {
        if batches.iter().any(|batch| batch.num_columns() != self.columns.len()) {
            return Err(AnswerError::Columns);
        }
        let columns = Mutex::new(self.columns.iter_mut().enumerate());
        let next = || columns.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((place, column)) = next() {
                batches.iter().try_for_each(|batch| column.add(batch.columns().get(place).ok_or(AnswerError::Columns)?))?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            // Where no thread is to be had, this one does all.
            let others: Vec<_> = (1..threads).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
            let own = work();
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic))).fold(own, Result::and)
        })?;
        self.rows = batches.iter().fold(self.rows, |rows, batch| rows.saturating_add(batch.num_rows() as u64));
        Ok(())
    }

    /// How many rows there were.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The digest of all of them.
    #[must_use]
    pub fn finish(self, salt: &Salt) -> Digest {
        let number = |number: u64| number.to_le_bytes();
        let mut whole = Sha256::new().chain_update(DOMAIN).chain_update(salt);
        whole.update(number(self.rows));
        whole.update(number(self.columns.len() as u64));
        for Column { name, form, hash, told } in self.columns {
            for text in [name.as_str(), if told { &form.name } else { NULL }] {
                whole.update(number(text.len() as u64));
                whole.update(text);
            }
            whole.update(hash.finalize());
        }
        whole.finalize().into()
    }
}

/// The type of a column without values.
const NULL: &str = "null";

impl Column {
    fn add(&mut self, values: &ArrayRef) -> Result<(), AnswerError> {
        let form = Form::of(values.data_type()).ok_or(AnswerError::Columns)?;
        let hashed = if form == self.form {
            form.layout.hashed(values)
        } else if form.layout == Layout::Nothing {
            Some(vec![0; values.len()])
        } else {
            None
        };
        self.hash.update(hashed.ok_or(AnswerError::Columns)?);
        self.told |= values.logical_null_count() < values.len();
        Ok(())
    }
}

impl Form {
    fn of(kind: &DataType) -> Option<Self> {
        let layout = match kind {
            DataType::Dictionary(_, values) => return Self::of(values),
            DataType::Null => Layout::Nothing,
            DataType::Boolean => Layout::Boolean,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Layout::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Layout::Bytes,
            other => Layout::Fixed(other.primitive_width()?),
        };
        Some(Self { layout, name: named(kind)? })
    }
}

fn named(kind: &DataType) -> Option<String> {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256, Duration, Interval, Time32, Time64, Timestamp};
    let plain = |name: &str| Some(name.to_owned());
    match kind {
        DataType::Null => plain(NULL),
        DataType::Boolean => plain("boolean"),
        DataType::Int8 => plain("int8"),
        DataType::Int16 => plain("int16"),
        DataType::Int32 => plain("int32"),
        DataType::Int64 => plain("int64"),
        DataType::UInt8 => plain("uint8"),
        DataType::UInt16 => plain("uint16"),
        DataType::UInt32 => plain("uint32"),
        DataType::UInt64 => plain("uint64"),
        DataType::Float16 => plain("float16"),
        DataType::Float32 => plain("float32"),
        DataType::Float64 => plain("float64"),
        DataType::Date32 => plain("date32"),
        DataType::Date64 => plain("date64"),
        Time32(of) => Some(format!("time32[{}]", unit(*of))),
        Time64(of) => Some(format!("time64[{}]", unit(*of))),
        Duration(of) => Some(format!("duration[{}]", unit(*of))),
        Timestamp(of, None) => Some(format!("timestamp[{}]", unit(*of))),
        Timestamp(of, Some(zone)) => Some(format!("timestamp[{}, {zone}]", unit(*of))),
        Interval(IntervalUnit::YearMonth) => plain("interval[year_month]"),
        Interval(IntervalUnit::DayTime) => plain("interval[day_time]"),
        Interval(IntervalUnit::MonthDayNano) => plain("interval[month_day_nano]"),
        Decimal32(precision, scale) => Some(format!("decimal32({precision}, {scale})")),
        Decimal64(precision, scale) => Some(format!("decimal64({precision}, {scale})")),
        Decimal128(precision, scale) => Some(format!("decimal128({precision}, {scale})")),
        Decimal256(precision, scale) => Some(format!("decimal256({precision}, {scale})")),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => plain("text"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => plain("bytes"),
        _ => None,
    }
}

fn unit(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

impl Layout {
    /// The rows of a column as they are hashed; `None` where an array is not what its type says.
    fn hashed(self, values: &ArrayRef) -> Option<Vec<u8>> {
        let kind = match values.data_type() {
            DataType::Dictionary(_, kind) => kind.as_ref(),
            kind => kind,
        };
        let plain = |kind: &DataType| cast(values, kind).ok();
        let rows = values.len();
        match self {
            Self::Nothing => Some(vec![0; rows]),
            Self::Boolean => {
                let flat = plain(kind)?;
                let of = flat.as_boolean_opt()?;
                Some(each(&flat, 1, |row, to| to.push(u8::from(of.value(row)))))
            }
            Self::Text if *values.data_type() == DataType::Utf8 => Some(sized(values.as_string_opt::<i32>()?)),
            Self::Text => Some(sized(plain(&DataType::LargeUtf8)?.as_string_opt::<i64>()?)),
            Self::Bytes => Some(sized(plain(&DataType::LargeBinary)?.as_binary_opt::<i64>()?)),
            Self::Fixed(width) => {
                let flat = plain(kind)?;
                let data = flat.to_data();
                let start = data.offset().checked_mul(width)?;
                let of = data.buffers().first()?.as_slice().get(start..start.checked_add(rows.checked_mul(width)?)?)?;
                let mut of = of.chunks_exact(width);
                Some(each(&flat, width, |_, to| to.extend(of.next().unwrap_or_default())))
            }
        }
    }
}

/// Puts each row after its mark. Every row is asked for, so that who walks along keeps in step; what a null slot holds is dropped.
fn each(column: &ArrayRef, width: usize, mut value: impl FnMut(usize, &mut Vec<u8>)) -> Vec<u8> {
    let (rows, nulls) = (column.len(), column.logical_nulls());
    let mut hashed = Vec::with_capacity(rows.saturating_mul(width.saturating_add(1)));
    for row in 0..rows {
        let end = hashed.len();
        hashed.push(1);
        value(row, &mut hashed);
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            hashed.truncate(end);
            hashed.push(0);
        }
    }
    hashed
}

/// Puts each row after its mark and its length.
fn sized<T: ByteArrayType>(column: &GenericByteArray<T>) -> Vec<u8> {
    let bytes = column.value_offsets().last().zip(column.value_offsets().first());
    let bytes = bytes.map_or(0, |(end, start)| end.as_usize().saturating_sub(start.as_usize()));
    let mut hashed = Vec::with_capacity(column.len().saturating_mul(9).saturating_add(bytes));
    for value in column {
        let Some(value) = value.map(AsRef::<[u8]>::as_ref) else {
            hashed.push(0);
            continue;
        };
        hashed.push(1);
        hashed.extend_from_slice(&(value.len() as u64).to_le_bytes());
        hashed.extend_from_slice(value);
    }
    hashed
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, ListArray,
        NullArray, StringArray, StringViewArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Field, Int32Type};

    use super::*;

    const SALT: Salt = [7; 32];

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    fn digest(batches: &[RecordBatch]) -> Digest {
        let mut digest = AnswerDigest::of(&batches[0].schema()).unwrap();
        batches.iter().for_each(|batch| digest.add(batch).unwrap());
        digest.finish(&SALT)
    }

    fn answer() -> RecordBatch {
        batch(vec![
            ("region", Arc::new(StringArray::from(vec![Some("London"), Some(""), None]))),
            ("n", Arc::new(Int64Array::from(vec![Some(12_345), None, Some(0)]))),
            ("mean", Arc::new(Float64Array::from(vec![0.5, -0.0, f64::NAN]))),
            ("big", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
            ("day", Arc::new(Date32Array::from(vec![1, 2, 3]))),
        ])
    }

    #[test]
    fn it_is_worked_out_by_hand_from_what_is_written_above() {
        let (mut n, mut region) = (Vec::new(), Vec::new());
        n.extend([1].into_iter().chain(12_345_i64.to_le_bytes()).chain([0]));
        region.extend([1].into_iter().chain(6_u64.to_le_bytes()).chain(*b"London").chain([1]).chain(0_u64.to_le_bytes()));
        let mut whole = b"concordat.answer/v1\n".to_vec();
        whole.extend([7; 32]);
        whole.extend(2_u64.to_le_bytes());
        whole.extend(2_u64.to_le_bytes());
        for (name, kind, rows) in [("region", "text", region), ("n", "int64", n)] {
            whole.extend((name.len() as u64).to_le_bytes());
            whole.extend(name.as_bytes());
            whole.extend((kind.len() as u64).to_le_bytes());
            whole.extend(kind.as_bytes());
            whole.extend(Sha256::digest(rows));
        }
        let answer = answer().slice(0, 2).project(&[0, 1]).unwrap();
        assert_eq!(digest(&[answer]).as_slice(), Sha256::digest(whole).as_slice());
    }

    #[test]
    fn how_rows_are_cut_and_texts_laid_out_makes_no_difference() {
        let whole = answer();
        let expected = digest(std::slice::from_ref(&whole));
        let many = vec![whole.clone(); MANY / whole.num_rows() + 1];
        for threads in [1, 2, 3, 9] {
            let mut at_once = AnswerDigest::of(&whole.schema()).unwrap();
            at_once.add_on(threads, &many[1..]).unwrap();
            at_once.add_all(&many[..1]).unwrap();
            assert_eq!((at_once.rows(), at_once.finish(&SALT)), (3 * many.len() as u64, digest(&many)), "{threads} threads");
            let text = batch(whole.schema().fields().iter().map(|field| (field.name().as_str(), Arc::clone(whole.column(0)))).collect());
            let other = AnswerDigest::of(&whole.schema()).unwrap().add_on(threads, &[whole.clone(), text]);
            assert_eq!(other, Err(AnswerError::Columns), "{threads} threads");
        }
        let fewer = whole.project(&[0]).unwrap();
        assert_eq!(AnswerDigest::of(&whole.schema()).unwrap().add_all(&vec![fewer; MANY]), Err(AnswerError::Columns));
        assert_eq!(digest(&[whole.slice(0, 1), whole.slice(1, 0), whole.slice(1, 2)]), expected);
        let views: StringViewArray = vec![Some("London"), Some(""), None].into_iter().collect();
        let coded: DictionaryArray<Int32Type> = vec![Some("London"), Some(""), None].into_iter().collect();
        for texts in [Arc::new(views) as ArrayRef, Arc::new(coded)] {
            let mut columns = whole.columns().to_vec();
            columns[0] = texts;
            let names = whole.schema();
            let names = names.fields().iter().map(|field| field.name().as_str());
            assert_eq!(digest(&[batch(names.zip(columns).collect())]), expected);
        }
    }

    #[test]
    fn every_change_of_an_answer_is_another_digest() {
        let one = |column: ArrayRef| batch(vec![("n", column)]);
        let numbers = |numbers: Vec<Option<i64>>| one(Arc::new(Int64Array::from(numbers)));
        let mut all = vec![
            digest(&[answer()]),
            digest(&[answer().slice(0, 2)]),
            digest(&[answer().project(&[1, 0, 2, 3, 4]).unwrap()]),
            digest(&[numbers(vec![Some(1), Some(2)])]),
            digest(&[numbers(vec![Some(2), Some(1)])]),
            digest(&[numbers(vec![Some(1), None])]),
            digest(&[numbers(vec![Some(1), Some(0)])]),
            digest(&[numbers(vec![Some(1)])]),
            digest(&[numbers(vec![None])]),
            digest(&[numbers(vec![])]),
            digest(&[batch(vec![("m", Arc::new(Int64Array::from(vec![1])))])]),
            digest(&[one(Arc::new(Int32Array::from(vec![1])))]),
            digest(&[one(Arc::new(TimestampMicrosecondArray::from(vec![1])))]),
            digest(&[one(Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC")))]),
            digest(&[one(Arc::new(Decimal128Array::from(vec![1]).with_precision_and_scale(10, 2).unwrap()))]),
            digest(&[one(Arc::new(Decimal128Array::from(vec![1]).with_precision_and_scale(10, 3).unwrap()))]),
            digest(&[one(Arc::new(StringArray::from(vec!["ab", "c"])))]),
            digest(&[one(Arc::new(StringArray::from(vec!["a", "bc"])))]),
            digest(&[one(Arc::new(FixedSizeBinaryArray::try_from_iter([b"ab", b"cd"].into_iter()).unwrap()))]),
        ];
        let mut salted = AnswerDigest::of(&answer().schema()).unwrap();
        salted.add(&answer()).unwrap();
        assert_eq!(salted.rows(), 3);
        all.push(salted.finish(&[8; 32]));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_column_of_nulls_has_no_type() {
        let expected = digest(&[batch(vec![("n", Arc::new(NullArray::new(2)))])]);
        assert_eq!(digest(&[batch(vec![("n", Arc::new(Int64Array::from(vec![None, None])))])]), expected);
        // As the first of several answers announces it.
        let mut announced = AnswerDigest::of(&Schema::new(vec![Field::new("n", DataType::Int64, true)])).unwrap();
        announced.add(&batch(vec![("n", Arc::new(NullArray::new(2)))])).unwrap();
        assert_eq!(announced.finish(&SALT), expected);
    }

    #[test]
    fn what_has_no_form_is_refused_and_so_are_other_columns() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]);
        let refused = AnswerDigest::of(&batch(vec![("many", Arc::new(lists))]).schema()).unwrap_err();
        assert!(matches!(&refused, AnswerError::Type { column, .. } if column == "many"), "{refused}");
        let mut digest = AnswerDigest::of(&answer().schema()).unwrap();
        assert_eq!(digest.add(&answer().project(&[0]).unwrap()), Err(AnswerError::Columns));
        assert_eq!(digest.add(&answer().project(&[1, 0, 2, 3, 4]).unwrap()), Err(AnswerError::Columns));
    }
}
