use super::*;
use datafusion::arrow::array::{DictionaryArray, Int32Array, Int64Array, StringArray};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool, UnboundedMemoryPool};

/// A row: region, year, its subject, and one of another identifier type.
type Row = (Option<&'static str>, i64, u8, Option<u8>);

fn batch(rows: &[Row]) -> RecordBatch {
    let pseudonym = |subject: u8| [subject; 16];
    let column = |values: Vec<Option<Pseudonym>>| {
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), 16).unwrap()) as ArrayRef
    };
    let columns: [(&str, ArrayRef); 4] = [
        ("region", Arc::new(rows.iter().map(|row| row.0).collect::<StringArray>())),
        ("year", Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>())),
        ("s", column(rows.iter().map(|row| Some(pseudonym(row.2))).collect())),
        ("o", column(rows.iter().map(|row| row.3.map(pseudonym)).collect())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

/// Regions by dictionaries of the batch's own, with a text twice and a null among the values, in place of texts; and a flag.
fn coded(rows: &[Row], turned: bool) -> RecordBatch {
    let mut texts = vec![Some("N"), Some("S"), Some("N"), None];
    if turned {
        texts.reverse();
    }
    let place = |of: Option<&str>, last: bool| {
        let mut places = texts.iter().enumerate().filter(|(_, text)| **text == of).map(|(place, _)| i32::try_from(place).unwrap());
        if last { places.next_back() } else { places.next() }
    };
    let keys = rows.iter().zip(0..).map(|(row, at)| match row.0 {
        // Null by its key, and by its value.
        None if at % 2 == 0 => None,
        region => place(region, at % 2 == 0),
    });
    let regions = DictionaryArray::new(keys.collect::<Int32Array>(), Arc::new(StringArray::from(texts.clone())));
    let plain = batch(rows);
    let mut columns = plain.columns().to_vec();
    columns[0] = Arc::new(regions);
    columns.push(Arc::new(rows.iter().map(|row| (row.0 != Some("S")).then_some(row.0.is_some())).collect::<BooleanArray>()));
    let names = ["region", "year", "s", "o", "flag"];
    RecordBatch::try_from_iter_with_nullable(names.into_iter().zip(columns).map(|(name, array)| (name, array, true))).unwrap()
}

/// Looked up by the codes of their columns, rows stay as those that are looked up by their values.
#[tokio::test]
async fn codes_tell_rows_apart_as_values_do() {
    for (keys, present, k) in [
        (vec![0], vec![], 3),
        (vec![0], vec![3], 2),
        (vec![0, 4], vec![3], 2),
        (vec![4], vec![], 3),
        // A column without codes, and none at all.
        (vec![0, 1], vec![], 1),
        (vec![], vec![3], 2),
    ] {
        let rule = Rule { k, keys: keys.clone(), subjects: vec![2], present: present.clone() };
        let kept = async |batches: Vec<RecordBatch>| {
            let schema = batches[0].schema();
            let input = RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches.into_iter().map(Ok::<_, DataFusionError>)));
            let kept = rule.kept(Box::pin(input), &MemoryConsumer::new("test").register(&all())).await.unwrap();
            kept.iter().flat_map(|batch| batch["year"].as_primitive::<Int64Type>().values().to_vec()).collect::<Vec<_>>()
        };
        let batches = [coded(ROWS, false), coded(MORE, true)];
        let plain = |batch: &RecordBatch| {
            let mut columns = batch.columns().to_vec();
            columns[0] = cast(&columns[0], &DataType::Utf8).unwrap();
            columns[4] = cast(&columns[4], &DataType::Int32).unwrap();
            let schema = batch.schema();
            let named = schema.fields().iter().map(|field| field.name().as_str()).zip(columns).map(|(name, array)| (name, array, true));
            RecordBatch::try_from_iter_with_nullable(named).unwrap()
        };
        let coded_alike = batches.iter().all(|batch| rule.alike(batch).unwrap().is_some());
        assert_eq!(coded_alike, !keys.contains(&1), "{keys:?}");
        let expected = kept(batches.iter().map(plain).collect()).await;
        assert_eq!(kept(batches.to_vec()).await, expected, "{keys:?} {present:?}");
        assert!(!expected.is_empty(), "{keys:?} {present:?}");
    }
    let none = DictionaryArray::new(Int32Array::from(vec![None, None]), Arc::new(StringArray::from(Vec::<&str>::new())));
    let none = Arc::new(none) as ArrayRef;
    assert_eq!((different(&none), codes(&none)), (Some(1), vec![0, 0]));
    // Of too many combinations no table is made, be they of columns or of datasets that a row may lack.
    let rule = |keys, present| Rule { k: 1, keys, subjects: vec![2], present };
    let rows = coded(ROWS, false);
    for (keys, present) in [(vec![0; 4], vec![]), (vec![0], vec![3; 7]), (vec![0], vec![3; 80])] {
        assert!(rule(keys, present).alike(&rows).unwrap().is_none());
    }
    assert!(rule(vec![0; 3], vec![3]).alike(&rows).unwrap().is_some());
}

/// The years of the rows that stay.
async fn years(keys: &[usize], subjects: &[usize], batches: &[&[Row]], pool: Arc<dyn MemoryPool>) -> Result<Vec<i64>> {
    of_datasets(keys, subjects, &[], batches, pool).await
}

async fn of_datasets(
    keys: &[usize],
    subjects: &[usize],
    present: &[usize],
    batches: &[&[Row]],
    pool: Arc<dyn MemoryPool>,
) -> Result<Vec<i64>> {
    let rule = Rule { k: 3, keys: keys.to_vec(), subjects: subjects.to_vec(), present: present.to_vec() };
    let batches: Vec<RecordBatch> = batches.iter().map(|rows| batch(rows)).collect();
    let schema = batches[0].schema();
    let input = RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches.into_iter().map(Ok::<_, DataFusionError>)));
    let held = MemoryConsumer::new("test").register(&pool);
    let kept = rule.kept(Box::pin(input), &held).await?;
    Ok(kept.iter().flat_map(|batch| batch["year"].as_primitive::<Int64Type>().values().to_vec()).collect())
}

fn all() -> Arc<dyn MemoryPool> {
    Arc::new(UnboundedMemoryPool::default())
}

const ROWS: &[Row] = &[
    (Some("N"), 1, 1, Some(1)),
    (Some("S"), 2, 2, Some(2)),
    (Some("N"), 3, 2, Some(2)),
    // Many rows of one subject are one.
    (Some("S"), 4, 3, Some(3)),
    (Some("S"), 5, 3, Some(3)),
    (None, 6, 4, Some(4)),
    (None, 7, 5, Some(5)),
];
const MORE: &[Row] = &[(Some("N"), 8, 7, Some(2)), (None, 9, 6, None)];

#[tokio::test]
async fn only_rows_that_enough_subjects_share_stay_in_their_order() {
    for (keys, subjects, kept) in [
        (vec![0], vec![2], vec![1, 3, 6, 7, 8, 9]),
        // By nothing, all are alike; by what is unique, none.
        (vec![], vec![2], vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (vec![0, 1], vec![2], vec![]),
        // Of both identifier types: two of them are one of the other's, and one has none.
        (vec![0], vec![2, 3], vec![]),
        (vec![], vec![2, 3], vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
        // Nobody's rows are nobody's to share.
        (vec![0], vec![], vec![]),
    ] {
        assert_eq!(years(&keys, &subjects, &[ROWS, MORE], all()).await.unwrap(), kept, "{keys:?} {subjects:?}");
    }
    assert_eq!(years(&[0], &[2], &[ROWS], all()).await.unwrap(), Vec::<i64>::new(), "two are too few");
}

#[tokio::test]
async fn subjects_of_another_dataset_lift_no_row() {
    // Two people of a dataset, and ten that only the other has, under one key.
    let (own, other): (Vec<Row>, Vec<Row>) =
        ((0..2).map(|n| (None, 1, n, Some(n))).collect(), (10..20).map(|n| (None, 2, n, None)).collect());
    let all_years = of_datasets(&[0], &[2], &[], &[&own, &other], all()).await.unwrap();
    assert_eq!((all_years.len(), all_years.contains(&1)), (12, true), "what it is against");
    assert_eq!(of_datasets(&[0], &[2], &[3], &[&own, &other], all()).await.unwrap(), [2; 10]);
    let third: Row = (None, 1, 2, Some(2));
    let enough = of_datasets(&[0], &[2], &[3], &[&own, &other, &[third]], all()).await.unwrap();
    assert_eq!(enough.iter().filter(|year| **year == 1).count(), 3);
}

#[tokio::test]
async fn what_is_held_is_counted() {
    let small: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(64));
    assert!(years(&[0], &[2], &[ROWS], small).await.is_err());
}
