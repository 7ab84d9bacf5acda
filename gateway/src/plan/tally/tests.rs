//! What is counted equals a plain evaluator, however the rows come.

use std::collections::BTreeSet;

use datafusion::arrow::array::{ArrayRef, FixedSizeBinaryArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool, UnboundedMemoryPool};

use super::*;

/// A row: its subject, and of which of two further datasets there is a row. Subjects are small numbers.
type Row = (u8, bool, bool);

fn pseudonym(subject: u8) -> Pseudonym {
    [subject; 16]
}

fn batch(rows: &[Row]) -> RecordBatch {
    let own = rows.iter().map(|row| Some(pseudonym(row.0)));
    let second = rows.iter().map(|row| row.1.then(|| pseudonym(row.0)));
    let third = rows.iter().map(|row| row.2.then(|| pseudonym(row.0)));
    let column = |values: Vec<Option<Pseudonym>>| {
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), 16).unwrap()) as ArrayRef
    };
    let columns = vec![column(own.collect()), column(second.collect()), column(third.collect())];
    let fields = ["s", "b", "c"].map(|name| Field::new(name, DataType::FixedSizeBinary(16), name != "s"));
    RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).unwrap()
}

fn part(dataset: &str, column: Option<&str>) -> Part {
    let name = |text: &str| concordat_policy::Name::parse(text).unwrap();
    Part { dataset: DatasetName::new(name("d"), name(dataset)), column: column.map(str::to_owned), apart: false }
}

fn tally() -> Arc<Tally> {
    Arc::new(Tally::new("s", None, vec![part("a", None), part("b", Some("b")), part("c", Some("c"))]))
}

fn counting(tally: &Arc<Tally>, ordered: bool, pool: Arc<dyn MemoryPool>) -> Counting {
    tally.found.lock().unwrap().counts.resize(3, 0);
    let seen = if ordered { Vec::new() } else { vec![HashSet::new(); 3] };
    let (tally, held) = (tally.clone(), MemoryConsumer::new("test").register(&pool));
    let (columns, others) = (vec![None, Some(1), Some(2)], Vec::new());
    Counting { tally, subject: 0, other: None, columns, ordered, current: None, counts: vec![0; 3], seen, others, held }
}

/// Counts each partition's batches; the last partition may be left unread.
fn counted(partitions: &[Vec<Vec<Row>>], ordered: bool, all: bool) -> Vec<u64> {
    let tally = tally();
    tally.found.lock().unwrap().partitions = partitions.len();
    for batches in &partitions[..partitions.len() - usize::from(!all)] {
        let mut counting = counting(&tally, ordered, Arc::new(UnboundedMemoryPool::default()));
        batches.iter().for_each(|rows| counting.take(&batch(rows)).unwrap());
        counting.end();
    }
    tally.matched().into_iter().map(|(_, matched)| matched.subjects).collect()
}

fn expected(rows: &[Row]) -> Vec<u64> {
    let matched = |present: &dyn Fn(&Row) -> bool| {
        let partnered = rows.iter().filter(|row| row.1 || row.2).filter(|&row| present(row));
        partnered.map(|row| row.0).collect::<BTreeSet<_>>().len() as u64
    };
    vec![matched(&|_| true), matched(&|row| row.1), matched(&|row| row.2)]
}

#[test]
fn ordered_and_scattered_rows_are_counted_as_a_plain_evaluator_does() {
    arbtest::arbtest(|u| {
        let mut rows: Vec<Row> = u.arbitrary()?;
        let scattered: Vec<Vec<Vec<Row>>> = rows.chunks(5).map(|rows| rows.chunks(2).map(<[Row]>::to_vec).collect()).collect();
        let expected = expected(&rows);
        if !scattered.is_empty() {
            assert_eq!(counted(&scattered, false, true), expected);
        }
        rows.sort_unstable();
        let (low, high) = rows.split_at(rows.partition_point(|row| row.0 < 128));
        let ordered: Vec<Vec<Vec<Row>>> = [low, high].map(|rows| rows.chunks(3).map(<[Row]>::to_vec).collect()).into();
        assert_eq!(counted(&ordered, true, true), expected);
        Ok(())
    });
}

#[test]
fn a_plan_that_was_not_read_to_its_end_has_counted_nothing() {
    let partitions = vec![vec![vec![(1, true, false)]], vec![vec![(200, true, true)]]];
    assert_eq!(counted(&partitions, true, true), [2, 2, 1]);
    assert!(counted(&partitions, true, false).is_empty());
    assert!(tally().matched().is_empty());
}

#[test]
fn scattered_pseudonyms_take_counted_memory() {
    let rows: Vec<Row> = (0..=255).map(|subject| (subject, true, true)).collect();
    let mut counting = counting(&tally(), false, Arc::new(GreedyMemoryPool::new(100 * BYTES)));
    assert!(matches!(counting.take(&batch(&rows)), Err(DataFusionError::ResourcesExhausted(_))));
}

#[test]
fn a_dataset_that_is_counted_twice_is_not_told() {
    let tallies = [tally(), tally()];
    for tally in &tallies {
        tally.found.lock().unwrap().partitions = 1;
        let mut counting = counting(tally, true, Arc::new(UnboundedMemoryPool::default()));
        counting.take(&batch(&[(1, true, false)])).unwrap();
        counting.end();
    }
    let once: Vec<_> = matched(&tallies[..1]).into_values().map(|matched| matched.map(|matched| matched.subjects)).collect();
    assert_eq!(once, [Some(1), Some(1), Some(0)]);
    assert!(matched(&tallies).into_values().all(|count| count.is_none()));
}

/// A row through a link dataset: somebody, the firm beside them, if there is one, and whether that firm has a row of its own.
type LinkedRow = (u8, Option<u8>, bool);

/// Somebody's pseudonym is never a firm's.
fn firm(firm: u8) -> Pseudonym {
    let mut pseudonym = [0; 16];
    (pseudonym[0], pseudonym[1]) = (firm, !firm);
    pseudonym
}

/// `s` somebody, `o` the firm, `e` the link dataset's row, `f` the firm's own.
fn linked_batch(rows: &[LinkedRow]) -> RecordBatch {
    let column = |values: Vec<Option<Pseudonym>>| {
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), 16).unwrap()) as ArrayRef
    };
    let columns = vec![
        column(rows.iter().map(|row| Some(pseudonym(row.0))).collect()),
        column(rows.iter().map(|row| row.1.map(firm)).collect()),
        column(rows.iter().map(|row| row.1.map(|_| pseudonym(row.0))).collect()),
        column(rows.iter().map(|row| row.1.filter(|_| row.2).map(firm)).collect()),
    ];
    let fields = ["s", "o", "e", "f"].map(|name| Field::new(name, DataType::FixedSizeBinary(16), true));
    RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).unwrap()
}

#[test]
fn through_a_link_dataset_the_subjects_of_the_other_type_are_counted_beside() {
    arbtest::arbtest(|u| {
        let rows: Vec<LinkedRow> = u.arbitrary::<Vec<(u8, Option<u8>, bool)>>()?;
        let firms = Part { apart: true, ..part("firms", Some("f")) };
        let tally = Arc::new(Tally::new("s", Some("o"), vec![part("people", None), part("employers", Some("e")), firms]));
        let parts: Vec<&[LinkedRow]> = rows.chunks(7).collect();
        *tally.found.lock().unwrap() = Found { partitions: parts.len(), counts: vec![0; 3], ..Found::default() };
        for rows in &parts {
            let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
            let (tally, held) = (tally.clone(), MemoryConsumer::new("test").register(&pool));
            let (columns, sets) = (vec![None, Some(2), Some(3)], || vec![HashSet::new(); 3]);
            let (seen, others, counts) = (sets(), sets(), vec![0; 3]);
            let mut counting =
                Counting { tally, subject: 0, other: Some(1), columns, ordered: false, current: None, counts, seen, others, held };
            counting.take(&linked_batch(rows)).unwrap();
            counting.end();
        }
        let people =
            |has: fn(&LinkedRow) -> bool| rows.iter().filter(|row| has(row)).map(|row| row.0).collect::<BTreeSet<_>>().len() as u64;
        let firms =
            |has: fn(&LinkedRow) -> bool| rows.iter().filter(|row| has(row)).filter_map(|row| row.1).collect::<BTreeSet<_>>().len() as u64;
        let (linked, own) = (|row: &LinkedRow| row.1.is_some(), |row: &LinkedRow| row.1.is_some() && row.2);
        let of = |subjects, others| Matched { subjects, others: Some(others) };
        let expected = [of(people(linked), firms(linked)), of(people(linked), firms(linked)), of(firms(own), people(own))];
        let found: Vec<Matched> = tally.matched().into_iter().map(|(_, matched)| matched).collect();
        assert!(parts.is_empty() || found == expected, "{rows:?}: {found:?}");
        Ok(())
    });
}
