use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringDictionaryBuilder,
};
use arrow::datatypes::Int32Type;
use concordat_protect::Spread;

use super::groups::{MOST_HELD, SOME, spreads};
use super::*;
use crate::receipt::Grouped;
use crate::schema::release_schema;
use crate::v1;

type Row = (u128, Option<&'static str>, Option<bool>, Option<i64>, Option<f64>);

const COLUMNS: [(&str, ColumnType); 4] =
    [("region", ColumnType::Text), ("urban", ColumnType::Boolean), ("months", ColumnType::Integer), ("score", ColumnType::Number)];

fn columns() -> Vec<(String, ColumnType)> {
    COLUMNS.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
}

/// Groups that add up every value that can be.
fn grouping(keys: &[&str], values: &[&str]) -> Arc<Grouping> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let named: Vec<_> = columns().into_iter().filter(|(name, _)| keys.iter().chain(values).any(|of| of == name)).collect();
    let of = |kinds: &[&str]| values.iter().filter(|value| kinds.contains(*value)).map(|value| (*value).to_owned()).collect();
    let (sums, number_sums) = (of(&["months", "score"]), of(&["months"]));
    Arc::new(Grouping::of(&v1::Grouping { keys: owned(keys), values: owned(values), sums, number_sums }, &named).unwrap())
}

fn batch(rows: &[Row]) -> RecordBatch {
    let subjects: Vec<u8> = rows.iter().flat_map(|row| row.0.to_be_bytes()).collect();
    let mut regions = StringDictionaryBuilder::<Int32Type>::new();
    rows.iter().for_each(|row| regions.append_option(row.1));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::new(16, subjects.into(), None)),
        Arc::new(regions.finish()),
        Arc::new(rows.iter().map(|row| row.2).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.3).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.4).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(Arc::new(release_schema(false, COLUMNS)), columns).unwrap()
}

const ROWS_OF: [Row; 8] = [
    (1, Some("North"), Some(true), Some(3), Some(1.5)),
    (1, Some("North"), Some(true), Some(-5), None),
    (1, Some("South"), None, None, Some(0.25)),
    (2, Some("North"), Some(true), None, Some(-4.0)),
    (5, None, Some(false), Some(0), None),
    (7, Some("South"), None, Some(9), Some(2.0)),
    (7, Some("North"), Some(true), Some(1), Some(1.0)),
    (7, Some("South"), None, Some(1), Some(1.0)),
];

/// All parts of the groups of `rows`, given in batches of `size`.
fn grouped(grouping: &Arc<Grouping>, rows: &[Row], size: usize) -> (Vec<RecordBatch>, Grouped) {
    let mut groups = Groups::new(Arc::clone(grouping));
    let mut parts: Vec<RecordBatch> = rows.chunks(size).flat_map(|rows| groups.take(&batch(rows)).unwrap()).collect();
    parts.extend(groups.finish().unwrap());
    (parts, groups.made_of())
}

fn number(batch: &RecordBatch, column: &str, row: usize) -> Option<i64> {
    let column = batch.column_by_name(column).unwrap().as_primitive::<arrow::datatypes::Int64Type>();
    column.is_valid(row).then(|| column.value(row))
}

fn spread_of(batch: &RecordBatch, field: &str, row: usize) -> Spread {
    let column = batch.column_by_name(&spread(field)).unwrap().as_fixed_size_binary();
    Spread::from_bytes(column.value(row).try_into().unwrap())
}

fn spread_over(own: &[f64]) -> Spread {
    let mut spread = Spread::default();
    own.iter().for_each(|own| spread.add(*own));
    spread
}

#[test]
fn subjects_are_counted_once_in_each_group_with_all_that_they_have_in_it_however_rows_come() {
    let grouping = grouping(&["region", "urban"], &["months", "score"]);
    for size in 1..=8 {
        let (parts, made_of) = grouped(&grouping, &ROWS_OF, size);
        assert_eq!(made_of, Grouped { rows: 8, subjects: 4 });
        let [part] = parts.as_slice() else { panic!("one part") };
        let regions = part.column(0).as_string::<i32>().iter().collect::<Vec<_>>();
        assert_eq!(regions, [Some("North"), Some("South"), None], "in the order in which they come");
        let all = |column: &str| (0..3).map(|row| number(part, column, row)).collect::<Vec<_>>();
        assert_eq!(all(SUBJECTS), [3, 2, 1].map(Some));
        assert_eq!(all(ROWS), [4, 3, 1].map(Some));
        assert_eq!(all("months.values"), [3, 2, 1].map(Some));
        assert_eq!(all("months.contributors"), [2, 1, 1].map(Some));
        assert_eq!(all("months.sum"), [-1, 10, 0].map(Some));
        assert_eq!(all("score.contributors"), [3, 2, 0].map(Some));
        assert_eq!(spread_of(part, ROWS, 0), spread_over(&[2.0, 1.0, 1.0]));
        assert_eq!(spread_of(part, "months.values", 0), spread_over(&[2.0, 1.0]));
        assert_eq!(spread_of(part, "months.sum", 0), spread_over(&[-2.0, 1.0]));
        let as_numbers = part.column_by_name("months.number_sum").unwrap().as_primitive::<arrow::datatypes::Float64Type>();
        assert_eq!(as_numbers.iter().collect::<Vec<_>>(), [-1.0, 10.0, 0.0].map(Some));
        assert_eq!(spread_of(part, "score.sum", 1), spread_over(&[0.25, 3.0]));
        assert_eq!(spread_of(part, "score.sum", 2), Spread::default());
        assert!(part.column_by_name("score.sum").unwrap().is_null(2), "no value adds up to nothing");
        let mut check = Check::new(grouping.as_ref().clone());
        assert!(check.check(&grouping.as_sent(part).unwrap()).is_some() && check.is(made_of), "it is what the gateway takes");
    }
}

#[test]
fn without_keys_all_are_one_group_and_without_rows_there_is_none() {
    let grouping = grouping(&[], &["region"]);
    let (parts, _) = grouped(&grouping, &ROWS_OF, 3);
    let [part] = parts.as_slice() else { panic!("one part") };
    assert_eq!((part.num_rows(), number(part, "region.values", 0), number(part, "region.contributors", 0)), (1, Some(7), Some(3)));
    assert_eq!(grouped(&grouping, &[], 1).0, [] as [RecordBatch; 0]);
}

#[test]
fn groups_beyond_what_is_held_come_in_parts_and_no_subject_is_in_two_parts_of_a_group() {
    let grouping = grouping(&["months"], &["score"]);
    // Each subject has two rows in each of two groups, and there are more groups than are held.
    let rows: Vec<Row> = (0..40_000_u128)
        .flat_map(|subject| {
            let own = i64::try_from(subject).unwrap();
            [own, own + 1, own, own + 1].map(|months| (subject, None, None, Some(months), Some(1.0)))
        })
        .collect();
    let (parts, made_of) = grouped(&grouping, &rows, 50_001);
    assert!(parts.len() > 1, "{} parts", parts.len());
    assert_eq!(made_of, Grouped { rows: 160_000, subjects: 40_000 });
    let mut check = Check::new(grouping.as_ref().clone());
    let mut subjects: HashMap<i64, i64> = HashMap::new();
    for part in &parts {
        assert!(part.num_rows() <= MOST_HELD / 3 + 2, "{} groups are held", part.num_rows());
        check.check(&grouping.as_sent(part).unwrap()).unwrap();
        for row in 0..part.num_rows() {
            *subjects.entry(number(part, "months.key", row).unwrap()).or_default() += number(part, SUBJECTS, row).unwrap();
            let of = usize::try_from(number(part, SUBJECTS, row).unwrap()).unwrap();
            assert_eq!(spread_of(part, "score.sum", row), spread_over(&vec![2.0; of]), "each with both rows");
        }
    }
    assert!(check.is(made_of) && !check.is(Grouped { rows: 159_999, ..made_of }) && !check.is(Grouped { subjects: 1, ..made_of }));
    assert!((0..=40_000).all(|months| subjects[&months] == if (1..40_000).contains(&months) { 2 } else { 1 }));
}

#[test]
fn how_rows_come_is_not_seen_in_any_part() {
    let grouping = grouping(&["months"], &["score", "urban"]);
    // One row, two rows, and none that tells anything; zeros of both signs; more groups than are held.
    let rows: Vec<Row> = (0..30_000_i64)
        .flat_map(|subject| {
            let score = [Some(-0.0), Some(0.0), None, Some(1.5)][usize::try_from(subject % 4).unwrap()];
            let row = move |months| (u128::try_from(subject).unwrap(), None, (months % 3 == 0).then_some(true), Some(months), score);
            std::iter::once(row(subject))
                .chain((subject % 5 == 0).then(|| row(subject % 40)))
                .chain((subject % 7 == 0).then(|| row(subject)))
        })
        .collect();
    let (whole, made_of) = grouped(&grouping, &rows, rows.len());
    assert!(whole.len() > 1, "{} parts", whole.len());
    for size in [37, 4_096, 9_999] {
        assert_eq!(grouped(&grouping, &rows, size), (whole.clone(), made_of), "in batches of {size}");
    }
    let zeros = whole.iter().flat_map(|part| (0..part.num_rows()).map(|row| spread_of(part, "score.sum", row)));
    assert!(zeros.filter(|spread| spread.nonzero == 0).all(|spread| !(spread.lowest.is_sign_negative() && spread.lowest == 0.0)));
}

#[test]
fn long_keys_are_held_in_no_greater_number_than_their_bytes_allow() {
    let grouping = grouping(&["region"], &[]);
    let long = |n: u128| -> &'static str { Box::leak(format!("{n}{}", "x".repeat(8 << 10)).into_boxed_str()) };
    let rows: Vec<Row> = (0..2_500).map(|n| (n, Some(long(n)), None, None, None)).collect();
    let (parts, made_of) = grouped(&grouping, &rows, 100);
    assert_eq!((made_of.rows, parts.iter().map(RecordBatch::num_rows).sum::<usize>()), (2_500, 2_500));
    assert!(parts.len() == 3 && parts.iter().all(|part| part.num_rows() <= SOME + 1), "{:?}", parts.iter().map(RecordBatch::num_rows));
}

#[test]
fn who_is_in_more_groups_than_are_held_is_in_none() {
    let grouping = grouping(&["months"], &[]);
    let rows: Vec<Row> = (0..=8_192_i64).map(|months| (1, None, None, Some(months), None)).collect();
    let mut groups = Groups::new(Arc::clone(&grouping));
    assert!(groups.take(&batch(&rows[..8_192])).unwrap().is_empty());
    assert_eq!(groups.take(&batch(&rows[8_192..])), Err(GroupError::TooMany));
}

#[test]
fn what_is_counted_only_may_be_as_large_as_it_likes_and_means_add_up_numbers() {
    let far = |subject| (subject, None, None, Some(i64::MAX), None);
    let months = [("months".to_owned(), ColumnType::Integer)];
    let counted = Grouping::new(Vec::new(), months.to_vec());
    let meant = counted.clone().adding(&[], &months).unwrap();
    for (grouping, sum) in [(counted, None), (meant, Some(2.0 * i64::MAX as f64))] {
        let (parts, _) = grouped(&Arc::new(grouping), &[far(1), far(2)], 2);
        assert_eq!(number(&parts[0], "months.values", 0), Some(2));
        let column = parts[0].column_by_name("months.number_sum");
        assert_eq!(column.map(|column| column.as_primitive::<arrow::datatypes::Float64Type>().value(0)), sum);
    }
}

#[test]
fn whole_sums_wrap_beside_a_spread_that_does_not_and_numbers_that_add_up_to_none_are_no_groups() {
    let months = [("months".to_owned(), ColumnType::Integer)];
    let whole = Arc::new(Grouping::new(Vec::new(), months.to_vec()).adding(&months, &[]).unwrap());
    let far = |subject, months| (subject, None, None, Some(months), None);
    let (parts, _) = grouped(&whole, &[far(1, i64::MAX), far(2, 1)], 2);
    assert_eq!(number(&parts[0], "months.sum", 0), Some(i64::MIN));
    assert_eq!(spread_of(&parts[0], "months.sum", 0), spread_over(&[i64::MAX as f64, 1.0]));
    let mut groups = Groups::new(grouping(&[], &["score"]));
    // Also where they cancel each other: how they are spread is beyond it.
    for other in [f64::MAX, -f64::MAX] {
        let rows = [(1, None, None, None, Some(f64::MAX)), (2, None, None, None, Some(other)), (3, None, None, None, None)];
        // The last subject's rows may go on; those before are complete.
        for rows in [&rows[..2], &rows] {
            let made = groups.take(&batch(rows)).and_then(|_| groups.finish());
            assert_eq!(made.unwrap_err(), GroupError::TooLarge("score".into()));
            groups = Groups::new(grouping(&[], &["score"]));
        }
    }
}

#[test]
fn what_no_order_may_ask_for_is_refused() {
    let wire = |keys: &[&str], values: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let sums = owned(&["score"].into_iter().filter(|_| values.contains(&"score")).collect::<Vec<_>>());
        Grouping::of(&v1::Grouping { keys: owned(keys), values: owned(values), sums, number_sums: Vec::new() }, &columns())
    };
    let text = vec!["region".to_owned()];
    let of_text = v1::Grouping { keys: text.clone(), values: text.clone(), sums: text.clone(), number_sums: Vec::new() };
    assert!(Grouping::of(&of_text, &[("region".into(), ColumnType::Text)]).unwrap_err().contains("no such value"));
    let all = wire(&["region", "urban"], &["months", "score", "region"]).unwrap();
    assert_eq!(Grouping::of(&all.to_wire(), &columns()), Ok(all));
    for (keys, values, says) in [
        (&["region", "region"][..], &["urban", "months", "score"][..], "each once"),
        (&["region", "urban", "months", "score"], &[], "no key"),
        (&["region", "born"], &["urban", "months", "score"], "no columns of the order"),
        (&["region"], &["urban", "months"], "neither a key nor a value"),
    ] {
        let refused = wire(keys, values).unwrap_err();
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn groups_that_no_rows_add_up_to_are_found() {
    let grouping = grouping(&["region"], &["months"]);
    let (parts, _) = grouped(&grouping, &ROWS_OF, 8);
    assert_eq!(parts.len(), 1);
    let honest = grouping.as_sent(&parts[0]).unwrap();
    let with = |column: &str, lie: ArrayRef| {
        let columns = honest.schema_ref().fields().iter().zip(honest.columns());
        let columns = columns.map(|(field, own)| if field.name() == column { Arc::clone(&lie) } else { Arc::clone(own) }).collect();
        RecordBatch::try_new(honest.schema(), columns).unwrap()
    };
    let taken = |batch: &RecordBatch| Check::new(grouping.as_ref().clone()).check(batch).is_some();
    assert!(taken(&honest));
    let numbers = |of: [i64; 3]| Arc::new(Int64Array::from(of.to_vec())) as ArrayRef;
    let lies = [
        ("subjects", numbers([0, 2, 1])),
        ("subjects", numbers([9, 2, 1])),
        ("subjects", numbers([-3, 2, 1])),
        ("subjects", numbers([2, 2, 1])),
        ("rows", numbers([2, 3, 1])),
        ("rows.spread", spreads([spread_over(&[0.5; 3]), spread_over(&[1.0; 2]), spread_over(&[1.0])].into_iter())),
        ("months.values", numbers([5, 2, 1])),
        ("months.values", numbers([0, 2, 1])),
        ("months.contributors", numbers([4, 1, 1])),
        ("months.sum", Arc::new(Int64Array::from(vec![None, Some(10), Some(0)])) as ArrayRef),
        ("months.sum.spread", spreads([f64::NAN; 3].into_iter().map(|own| Spread { absolute: own, ..spread_over(&[1.0]) }))),
    ];
    for (column, lie) in lies {
        assert!(!taken(&with(column, lie)), "{column}");
    }
}
