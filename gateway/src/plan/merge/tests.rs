//! Joins are DataFusion's own, row by row, however the rows come.

use datafusion::arrow::array::{ArrayRef, DictionaryArray, Int64Array};
use datafusion::arrow::datatypes::{Field, Int32Type, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionConfig;

use super::*;

/// A row: its subject, a number and a text that may be null.
pub(in crate::plan) type Row = (u8, Option<i64>, Option<u8>);

/// Rows with columns of these names, in batches of at most `width`.
pub(in crate::plan) fn batches(rows: &[Row], names: [&str; 3], width: usize) -> (SchemaRef, Vec<RecordBatch>) {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let kinds = [(PSEUDONYM, false), (DataType::Int64, true), (text, true)];
    let fields = names.iter().zip(kinds).map(|(name, (kind, nullable))| Field::new(*name, kind, nullable));
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = |rows: &[Row]| {
        // High bytes differ last: the order is that of bytes.
        let subjects = rows.iter().map(|row| (u128::from(row.0) << 120 | u128::from(row.0)).to_be_bytes());
        let texts: Vec<Option<String>> = rows.iter().map(|row| row.2.map(|text| format!("t{}", text % 3))).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(FixedSizeBinaryArray::try_from_iter(subjects).unwrap()),
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
            Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>()),
        ];
        RecordBatch::try_new(schema.clone(), columns).unwrap()
    };
    let batches = rows.chunks(width.max(1)).map(batch).collect();
    (schema, batches)
}

/// Batches as an input that says it is sorted by its first column.
pub(in crate::plan) fn sorted((schema, batches): (SchemaRef, Vec<RecordBatch>)) -> Arc<dyn ExecutionPlan> {
    let key = Arc::new(Column::new(schema.field(0).name(), 0));
    let order = LexOrdering::new([PhysicalSortExpr::new(key, Default::default())]).unwrap();
    let source = MemorySourceConfig::try_new(&[batches], schema, None).unwrap();
    let source = source.try_with_sort_information(vec![order]).unwrap();
    datafusion::catalog::memory::DataSourceExec::from_data_source(source)
}

/// What a plan puts out, in batches of about three rows.
pub(in crate::plan) fn run(plan: Arc<dyn ExecutionPlan>, runtime: Arc<RuntimeEnv>) -> Result<Vec<RecordBatch>> {
    let config = SessionConfig::new().with_batch_size(3);
    let functions = Default::default;
    let task =
        TaskContext::new(None, "test".to_owned(), config, functions(), Default::default(), Default::default(), Default::default(), runtime);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(collect(plan, Arc::new(task)))
}

/// The rows as lines, in their order.
pub(in crate::plan) fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let shown = pretty_format_batches(batches).unwrap().to_string();
    shown.lines().filter(|line| line.starts_with('|')).skip(1).map(str::to_owned).collect()
}

fn joined(left: Arc<dyn ExecutionPlan>, right: Arc<dyn ExecutionPlan>, kind: JoinType) -> SortMergeJoinExec {
    let column = |side: &Arc<dyn ExecutionPlan>| Arc::new(Column::new(side.schema().field(0).name(), 0)) as Arc<dyn PhysicalExpr>;
    let on = vec![(column(&left), column(&right))];
    SortMergeJoinExec::try_new(left, right, on, None, kind, vec![Default::default()], NullEquality::NullEqualsNothing).unwrap()
}

const KINDS: [JoinType; 4] = [JoinType::Inner, JoinType::Left, JoinType::Right, JoinType::Full];

#[test]
fn rows_are_those_of_the_general_join() {
    arbtest::arbtest(|u| {
        let few = |rows: Vec<Row>| {
            let mut rows: Vec<Row> = rows.into_iter().map(|row| (row.0 % 16, row.1, row.2)).collect();
            rows.sort_by_key(|row| row.0);
            rows
        };
        let (left, right) = (few(u.arbitrary()?), few(u.arbitrary()?));
        let (wide, narrow) = (u.int_in_range(1..=9)?, u.int_in_range(1..=5)?);
        for kind in KINDS {
            let (left, right) = (sorted(batches(&left, ["a", "b", "c"], wide)), sorted(batches(&right, ["d", "e", "f"], narrow)));
            let theirs = joined(left, right, kind);
            let ours: Arc<dyn ExecutionPlan> = Arc::new(MergeJoinExec::of(&theirs).unwrap());
            assert_eq!(ours.schema(), theirs.schema());
            let (ours, theirs) = (run(ours, Arc::default()).unwrap(), run(Arc::new(theirs), Arc::default()).unwrap());
            let (mut ours, mut theirs) = (lines(&ours), lines(&theirs));
            if matches!(kind, JoinType::Inner | JoinType::Left) {
                // Who is on the left comes in the order of the left.
                let subjects = |lines: &[String]| lines.iter().map(|line| line.split('|').nth(1).unwrap().to_owned()).collect::<Vec<_>>();
                assert_eq!(subjects(&ours), subjects(&theirs), "{kind}");
            }
            ours.sort();
            theirs.sort();
            assert_eq!(ours, theirs, "{kind}");
        }
        Ok(())
    });
}

/// Joins of a join, whose two columns of pseudonyms are one.
#[test]
fn a_join_of_joins_is_that_of_the_general_join() {
    let rows = |subjects: &[u8]| subjects.iter().map(|subject| (*subject, Some(i64::from(*subject)), None)).collect::<Vec<Row>>();
    let source = |subjects: &[u8], names| sorted(batches(&rows(subjects), names, 2));
    let (a, b, c) = ([1, 2, 2, 3, 5, 7], [2, 3, 3, 7, 9], [2, 2, 3, 4, 7]);
    let (a, b, c) = (source(&a, ["a", "b", "c"]), source(&b, ["d", "e", "f"]), source(&c, ["g", "h", "i"]));
    let within = joined(a, b, JoinType::Inner);
    let ours: Arc<dyn ExecutionPlan> = Arc::new(MergeJoinExec::of(&within).unwrap());
    let ours = MergeJoinExec::of(&joined(ours, c.clone(), JoinType::Inner)).unwrap();
    let ours = run(Arc::new(ours), Arc::default()).unwrap();
    assert_eq!(lines(&ours), lines(&run(Arc::new(joined(Arc::new(within), c, JoinType::Inner)), Arc::default()).unwrap()));
    assert_eq!(lines(&ours).len(), 2 * 2 + 2 + 1);
}

#[test]
fn joins_with_more_to_them_stay_as_they_are() {
    let source = |names| sorted(batches(&[(1, None, None)], names, 1));
    for kind in [JoinType::LeftSemi, JoinType::LeftAnti, JoinType::RightSemi, JoinType::RightAnti, JoinType::LeftMark] {
        assert!(MergeJoinExec::of(&joined(source(["a", "b", "c"]), source(["d", "e", "f"]), kind)).is_none(), "{kind}");
    }
    let numbers = |side: &Arc<dyn ExecutionPlan>| Arc::new(Column::new(side.schema().field(1).name(), 1)) as Arc<dyn PhysicalExpr>;
    let (left, right) = (source(["a", "b", "c"]), source(["d", "e", "f"]));
    let on = vec![(numbers(&left), numbers(&right))];
    let by_number =
        SortMergeJoinExec::try_new(left, right, on, None, JoinType::Inner, vec![Default::default()], NullEquality::NullEqualsNothing);
    assert!(MergeJoinExec::of(&by_number.unwrap()).is_none());
    // What a left join leaves null is no pseudonym to merge by.
    let outer: Arc<dyn ExecutionPlan> = Arc::new(joined(source(["a", "b", "c"]), source(["d", "e", "f"]), JoinType::Left));
    assert_eq!(pseudonym_column(&(Arc::new(Column::new("d", 3)) as _), &outer.schema()), None);
    assert_eq!(pseudonym_column(&(Arc::new(Column::new("a", 0)) as _), &outer.schema()), Some(0));
}

#[test]
fn rows_out_of_order_are_an_error() {
    for rows in [[1, 3, 2, 4], [3, 4, 1, 2]] {
        let rows: Vec<Row> = rows.into_iter().map(|subject| (subject, None, None)).collect();
        let right = sorted(batches(&[(1, None, None), (9, None, None)], ["d", "e", "f"], 1));
        let join = joined(sorted(batches(&rows, ["a", "b", "c"], 2)), right, JoinType::Inner);
        let error = run(Arc::new(MergeJoinExec::of(&join).unwrap()), Arc::default()).unwrap_err();
        assert!(error.to_string().contains("not in the order"), "{error}");
    }
}

#[test]
fn many_rows_of_one_subject_take_counted_memory() {
    let many: Vec<Row> = (0..4000).map(|number| (7, Some(number), None)).collect();
    let join =
        || joined(sorted(batches(&[(7, None, None)], ["a", "b", "c"], 1)), sorted(batches(&many, ["d", "e", "f"], 100)), JoinType::Inner);
    let ours = || Arc::new(MergeJoinExec::of(&join()).unwrap());
    let rows: usize = run(ours(), Arc::default()).unwrap().iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 4000);
    let small = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(50_000))).build_arc().unwrap();
    let error = run(ours(), small).unwrap_err();
    assert!(error.to_string().contains("merge join"), "{error}");
}

#[test]
fn the_first_position_beyond_is_that_of_a_plain_search() {
    arbtest::arbtest(|u| {
        let mut keys: Vec<u128> = u.arbitrary::<Vec<u8>>()?.into_iter().map(u128::from).collect();
        keys.sort_unstable();
        let bound = u128::from(u.arbitrary::<u8>()?);
        let from = u.int_in_range(0..=keys.len())?;
        let expected = (from..keys.len()).find(|at| keys[*at] >= bound).unwrap_or(keys.len());
        assert_eq!(beyond(&keys, from, |key| key < bound), expected);
        Ok(())
    });
}
