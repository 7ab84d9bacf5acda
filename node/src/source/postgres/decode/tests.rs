//! Bytes as a server writes them, and as it should not.

use datafusion::arrow::array::AsArray as _;
use datafusion::arrow::datatypes::{Date32Type, Field, Float64Type, Int64Type, Schema};

use super::*;

const FORMS: [Form; 4] = [Form::Int4, Form::Text, Form::Numeric, Form::Date];

fn decoder(forms: &[Form]) -> Decoder {
    let fields = forms.iter().enumerate().map(|(place, form)| Field::new(format!("c{place}"), form.read_as(), true));
    Decoder::new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), forms)
}

fn field(value: &[u8]) -> Vec<u8> {
    [&i32::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
}

fn numeric(digits: &[u16], weight: i16, sign: u16) -> Vec<u8> {
    let head = [u16::try_from(digits.len()).unwrap(), weight.cast_unsigned(), sign, 2];
    head.iter().chain(digits).flat_map(|part| part.to_be_bytes()).collect()
}

/// A row of [`FORMS`].
fn row() -> Vec<u8> {
    [
        &[0, 4][..],
        &field(&7i32.to_be_bytes()),
        &field("é".as_bytes()),
        &field(&numeric(&[12, 3400], 0, 0x4000)),
        &field(&0i32.to_be_bytes()),
    ]
    .concat()
}

#[test]
fn rows_become_arrays() {
    let mut decoder = decoder(&FORMS);
    assert_eq!(decoder.take(&[HEADER, &row()].concat()), Ok(false));
    let nulls = [&[0, 4][..], &[0xff; 16]].concat();
    assert_eq!(decoder.take(&[nulls, row()].concat()), Ok(false));
    assert_eq!(decoder.take(&[0xff, 0xff]), Ok(false));
    assert!(decoder.ended());
    let batch = decoder.batch().unwrap().unwrap();
    assert_eq!(batch.num_rows(), 3);
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(7), None, Some(7)]);
    assert_eq!(batch.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("é"), None, Some("é")]);
    assert_eq!(batch.column(2).as_primitive::<Float64Type>().value(0), -12.34);
    assert_eq!(batch.column(3).as_primitive::<Date32Type>().value(0), 10_957);
    assert!(decoder.batch().is_none());
    assert!(matches!(decoder.take(&row()), Err(Fault::Bytes(_))), "rows after the end");
}

#[test]
fn rows_of_no_columns_are_counted() {
    let mut decoder = decoder(&[]);
    decoder.take(&[HEADER, &[0, 0], &[0, 0]].concat()).unwrap();
    assert_eq!(decoder.batch().unwrap().unwrap().num_rows(), 2);
}

#[test]
fn every_cut_and_every_lying_length_is_a_fault() {
    let sound = row();
    for cut in 1..sound.len() {
        let mut decoder = decoder(&FORMS);
        assert!(decoder.take(&[HEADER, &sound[..cut]].concat()).is_err(), "{cut}");
    }
    for length in [-2, i32::MIN, i32::MAX, 5, 1 << 30] {
        let mut hostile = sound.clone();
        hostile.splice(2..6, length.to_be_bytes());
        assert!(decoder(&FORMS).take(&[HEADER, &hostile].concat()).is_err(), "{length}");
    }
    for count in [0i16, 3, 5, -2, i16::MIN, i16::MAX] {
        let hostile = [&count.to_be_bytes()[..], &sound[2..]].concat();
        assert!(matches!(decoder(&FORMS).take(&[HEADER, &hostile].concat()), Err(Fault::Bytes(_))), "{count}");
    }
    for header in [&b""[..], b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0", b"PGCOPY\n\xff\r\n\0\0\0\0\0\x7f\xff\xff\xff", b"pgcopy"] {
        assert!(decoder(&FORMS).take(&[header, &sound].concat()).is_err());
    }
}

#[test]
fn any_bytes_at_all_end_in_rows_or_a_fault() {
    arbtest::arbtest(|u| {
        let forms = [Form::Boolean, Form::Int2, Form::Int8, Form::Float4, Form::Whole, Form::Numeric, Form::Instant, Form::Timestamp];
        let mut decoder = decoder(&forms);
        let (hostile, mut input) = (u.arbitrary::<Vec<u8>>()?, HEADER.to_vec());
        input.extend([0, 8]);
        input.extend(hostile);
        let _ = decoder.take(&input);
        let _ = decoder.batch().map(Result::unwrap);
        Ok(())
    });
}

#[test]
fn values_that_do_not_fit_are_faults_of_their_column() {
    for (form, value) in [
        (Form::Boolean, vec![2]),
        (Form::Boolean, vec![]),
        (Form::Int2, vec![0; 4]),
        (Form::Int8, vec![0; 7]),
        (Form::Text, vec![0xff]),
        (Form::Date, i32::MAX.to_be_bytes().to_vec()),
        (Form::Date, i32::MIN.to_be_bytes().to_vec()),
        (Form::Instant, i64::MAX.to_be_bytes().to_vec()),
        (Form::Instant, i64::MIN.to_be_bytes().to_vec()),
        (Form::Timestamp, 252_455_616_000_000_000i64.to_be_bytes().to_vec()),
        (Form::Numeric, numeric(&[10_000], 0, 0)),
        (Form::Numeric, numeric(&[1], 0, 1)),
        (Form::Numeric, numeric(&[1, 2], 0, 0)[..11].to_vec()),
        (Form::Numeric, vec![0; 7]),
        (Form::Whole, numeric(&[1, 5000], 0, 0)),
        (Form::Whole, numeric(&[1], 5, 0)),
        (Form::Whole, numeric(&[], 0, 0xC000)),
        (Form::Whole, numeric(&[922, 3372, 368, 5477, 5808], 4, 0)),
    ] {
        let input = [HEADER, &[0, 1], &field(&value)].concat();
        assert!(matches!(decoder(&[form]).take(&input), Err(Fault::Value(0, _))), "{form:?} {value:?}");
    }
}

#[test]
fn decimals_become_the_nearest_numbers() {
    for (digits, weight, text) in [
        (&[][..], 0, "0"),
        (&[], 30_000, "0"),
        (&[1], 0, "1"),
        (&[1000], -1, "0.1"),
        (&[1, 2345, 6700], 1, "12345.67"),
        (&[3333, 3333, 3333, 3333, 3333], -1, "0.33333333333333333333"),
        (&[9007, 1992, 5474, 993], 3, "9007199254740993"),
        (&[123, 4567, 8901, 2345, 6789, 123, 4500], 2, "12345678901.2345678901234500"),
        (&[1], 77, "1e308"),
        (&[1], -100, "0"),
    ] {
        let bytes = numeric(digits, weight, 0);
        assert_eq!(number(Form::Numeric, &bytes).unwrap(), text.parse::<f64>().unwrap(), "{text}");
        let negative = numeric(digits, weight, 0x4000);
        assert_eq!(number(Form::Numeric, &negative).unwrap(), -text.parse::<f64>().unwrap(), "-{text}");
    }
    assert!(number(Form::Numeric, &numeric(&[], 0, 0xC000)).unwrap().is_nan());
    // Null in a release, as a decimal beyond the range is.
    let infinite = [(0xD000, f64::INFINITY), (0xF000, f64::NEG_INFINITY)];
    infinite.into_iter().for_each(|(sign, number)| assert_eq!(super::number(Form::Numeric, &numeric(&[], 0, sign)), Ok(number)));
    assert_eq!(number(Form::Numeric, &numeric(&[1], 100, 0)), Ok(f64::INFINITY));
    assert_eq!(number(Form::Float8, &f64::INFINITY.to_be_bytes()), Ok(f64::INFINITY));
    assert_eq!(number(Form::Float4, &f32::NEG_INFINITY.to_be_bytes()), Ok(f64::NEG_INFINITY));
    assert_eq!(integer(Form::Whole, &numeric(&[12, 3456], 2, 0x4000)), Ok(-1_234_560_000));
    assert_eq!(integer(Form::Whole, &numeric(&[922, 3372, 368, 5477, 5807], 4, 0)), Ok(i64::MAX));
}

#[test]
fn times_are_told_in_utc() {
    let shown = |microseconds: i64, zoned| time(&microseconds.to_be_bytes(), zoned).unwrap();
    assert_eq!(shown(0, true), "2000-01-01T00:00:00Z");
    assert_eq!(shown(500_000, true), "2000-01-01T00:00:00.500Z");
    assert_eq!(shown(-1, false), "1999-12-31T23:59:59.999999");
}
