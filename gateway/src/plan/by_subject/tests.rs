//! Groups are DataFusion's own, however the rows come.

use datafusion::arrow::datatypes::DataType;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::{AggregateUDF, Operator as Binary};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, lit};
use datafusion::physical_plan::aggregates::PhysicalGroupBy;

use super::*;
use crate::plan::merge::tests::{Row, batches, lines, run, sorted};

/// By subject and, where `keys`, by text: rows, numbers, their sum, the largest of those above zero.
fn grouped(input: &Arc<dyn ExecutionPlan>, keys: bool) -> AggregateExec {
    let column = |name: &str, position| Arc::new(Column::new(name, position)) as Arc<dyn PhysicalExpr>;
    let mut by = vec![(column("a", 0), "a".to_owned())];
    if keys {
        by.insert(0, (column("c", 2), "c".to_owned()));
    }
    let function = |function: Arc<AggregateUDF>, argument: Arc<dyn PhysicalExpr>, name: &str| {
        Arc::new(AggregateExprBuilder::new(function, vec![argument]).schema(input.schema()).alias(name).build().unwrap())
    };
    let functions = vec![
        function(count_udaf(), lit(1_i64), "rows"),
        function(count_udaf(), column("b", 1), "numbers"),
        function(sum_udaf(), column("b", 1), "sum"),
        function(max_udaf(), column("b", 1), "largest"),
    ];
    let above: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(column("b", 1), Binary::Gt, lit(0_i64)));
    let filters = vec![None, None, None, Some(above)];
    let by = PhysicalGroupBy::new_single(by);
    AggregateExec::try_new(AggregateMode::Single, by, functions, filters, Arc::clone(input), input.schema()).unwrap()
}

#[test]
fn groups_are_those_of_the_general_aggregate() {
    arbtest::arbtest(|u| {
        let mut rows: Vec<Row> =
            u.arbitrary::<Vec<(u8, Option<i8>, Option<u8>)>>()?.into_iter().map(|r| (r.0, r.1.map(i64::from), r.2)).collect();
        let subjects = u.int_in_range(1..=255_u8)?;
        rows.iter_mut().for_each(|row| row.0 %= subjects);
        rows.sort_by_key(|row| row.0);
        let input = sorted(batches(&rows, ["a", "b", "c"], u.int_in_range(1..=9)?));
        for keys in [true, false] {
            let theirs = grouped(&input, keys);
            let ours = BySubject::instead(&theirs).unwrap().unwrap();
            assert_eq!(ours.schema(), theirs.schema());
            let (ours, theirs) = (run(ours, Arc::default()).unwrap(), run(Arc::new(theirs), Arc::default()).unwrap());
            let (mut ours, mut theirs) = (lines(&ours), lines(&theirs));
            ours.sort();
            theirs.sort();
            assert_eq!(ours, theirs);
        }
        Ok(())
    });
}

/// Nothing is kept of subjects that are complete, and of one with many rows only its groups.
#[test]
fn memory_is_that_of_one_subject() {
    let small = |bytes| RuntimeEnvBuilder::new().with_memory_pool(Arc::new(GreedyMemoryPool::new(bytes))).build_arc().unwrap();
    let rows: Vec<Row> = (0..50_000).map(|number| (7, Some(1), Some(u8::try_from(number % 3).unwrap()))).collect();
    let input = sorted(batches(&rows, ["a", "b", "c"], 1_000));
    let groups = || BySubject::instead(&grouped(&input, true)).unwrap().unwrap();
    assert_eq!(lines(&run(groups(), small(20_000)).unwrap()).len(), 3);
    let error = run(groups(), small(50)).unwrap_err();
    assert!(error.to_string().contains("groups by subject"), "{error}");
}

#[test]
fn rows_out_of_order_are_an_error() {
    let rows: Vec<Row> = [3, 4, 1, 2].into_iter().map(|subject| (subject, None, None)).collect();
    let input = sorted(batches(&rows, ["a", "b", "c"], 2));
    let error = run(BySubject::instead(&grouped(&input, true)).unwrap().unwrap(), Arc::default()).unwrap_err();
    assert!(error.to_string().contains("not in the order"), "{error}");
}

/// Without the subject among the keys, or over rows in no order, it is for the general aggregate.
#[test]
fn other_groups_stay_as_they_are() {
    let input = sorted(batches(&[(1, None, None)], ["a", "b", "c"], 1));
    let by = PhysicalGroupBy::new_single(vec![(Arc::new(Column::new("b", 1)) as _, "b".to_owned())]);
    let aggregate = AggregateExec::try_new(AggregateMode::Single, by, vec![], vec![], Arc::clone(&input), input.schema()).unwrap();
    assert!(BySubject::instead(&aggregate).is_none());
    assert_eq!(*input.schema().field(0).data_type(), DataType::FixedSizeBinary(16));
}
