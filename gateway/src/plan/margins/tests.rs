//! Sets and their numbers; each row once for each.

use datafusion::arrow::array::{AsArray as _, Int64Array, StringArray};
use datafusion::arrow::datatypes::{Int64Type, UInt8Type, UInt16Type};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{cube, grouping_set, rollup};
use datafusion::prelude::col;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::*;

/// The sets of an aggregate over columns `column1`, `column2`, ….
fn sets(columns: usize, keys: Vec<Expr>) -> Result<Option<Sets>> {
    let values = LogicalPlanBuilder::values(vec![(0..columns).map(|value| lit(value as i64)).collect()])?;
    let plan = values.aggregate(keys, vec![count(lit(1i64))])?.build()?;
    let LogicalPlan::Aggregate(aggregate) = plan else { panic!("another plan") };
    Sets::of(&aggregate)
}

fn key(number: usize) -> Expr {
    col(format!("column{number}"))
}

#[test]
fn a_sets_number_says_which_keys_it_leaves_out() {
    let (a, b) = (key(1), key(2));
    let named = |all: &[&[&Expr]]| grouping_set(all.iter().map(|set| set.iter().copied().cloned().collect()).collect());
    for (keys, numbers) in [
        (vec![rollup(vec![a.clone(), b.clone()])], vec![0b11, 0b01, 0b00]),
        (vec![cube(vec![a.clone(), b.clone()])], vec![0b00, 0b01, 0b10, 0b11]),
        (vec![named(&[&[&a], &[&b], &[], &[&a, &b]])], vec![0b01, 0b10, 0b11, 0b00]),
        // The same set again, in whichever order, is told from the first.
        (vec![named(&[&[&a, &b], &[], &[&b, &a], &[]])], vec![0b000, 0b011, 0b100, 0b111]),
        (vec![a.clone(), rollup(vec![b.clone()])], vec![0b01, 0b00]),
        (vec![named(&[&[]])], vec![0]),
    ] {
        let sets = sets(2, keys.clone()).unwrap().unwrap();
        assert_eq!((sets.numbers, sets.kind), (numbers, DataType::UInt8), "{keys:?}");
    }
    assert_eq!(sets(2, vec![a, b]).unwrap(), None);
}

#[test]
fn more_sets_than_can_be_made_are_refused() {
    assert!(sets(5, vec![cube((1..=5).map(key).collect())]).unwrap().is_some());
    assert!(sets(6, vec![cube((1..=6).map(key).collect())]).is_err());
    assert!(sets(31, vec![rollup((1..=31).map(key).collect())]).unwrap().is_some());
    assert!(sets(32, vec![rollup((1..=32).map(key).collect())]).is_err());
    // Eight keys fill the type that DataFusion chooses where it takes no two sets for the same.
    let (forth, back): (Vec<Expr>, Vec<Expr>) = ((1..=8).map(key).collect(), (1..=8).rev().map(key).collect());
    assert!(sets(8, vec![grouping_set(vec![forth.clone(), back])]).is_err());
    assert_eq!(sets(8, vec![grouping_set(vec![forth.clone(), forth])]).unwrap().unwrap().numbers, [0, 0x100]);
}

#[test]
fn a_group_by_is_bounded_before_it_is_planned() {
    let judged = |by: &str| {
        let sql = format!("SELECT 1 FROM (SELECT x FROM t GROUP BY {by}) AS u");
        bounded(&Parser::parse_sql(&GenericDialect {}, &sql).unwrap().remove(0)).map_err(|refusal| refusal.code)
    };
    let columns = |count: usize| (0..count).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
    for by in ["ALL", "x, y", "ROLLUP (x, y), CUBE (z, w, v)", "GROUPING SETS ((x), ())", &format!("CUBE ({})", columns(5))] {
        assert_eq!(judged(by), Ok(()), "{by}");
    }
    for by in ["CUBE (a, b, c), CUBE (d, e), ROLLUP (f)", &format!("CUBE ({})", columns(6)), &format!("x, CUBE ({})", columns(70))] {
        assert_eq!(judged(by), Err(Code::LimitExceeded), "{by}");
    }
    for by in ["x WITH ROLLUP", "x WITH CUBE", "ALL WITH TOTALS"] {
        assert_eq!(judged(by), Err(Code::Invalid), "{by}");
    }
}

/// A row's copies follow one another; keys that are no texts and no numbers stay what they are.
#[test]
fn each_row_stands_once_for_each_set() {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let sets = Sets { keys: 2, numbers: vec![0b00, 0b01, 0b11, 0b111], kind: DataType::UInt16 };
    let keys = cast(&StringArray::from(vec![Some("N"), None, Some("S")]), &text).unwrap();
    let columns: Vec<ArrayRef> = vec![keys, Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(Int64Array::from(vec![10, 10, 11]))];
    let field = |name: &str, kind: DataType, nullable| Field::new(name, kind, nullable);
    let mut fields = vec![field("k0", text, true), field("k1", DataType::Int64, true), field("s", DataType::Int64, false)];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields.clone())), columns).unwrap();
    fields.push(field("set", DataType::UInt16, false));
    let expanded = sets.expand(&batch, Arc::new(Schema::new(fields))).unwrap();
    let text = cast(expanded.column(0), &DataType::Utf8).unwrap();
    let text: Vec<Option<&str>> = text.as_string::<i32>().iter().collect();
    let number = |column: usize| expanded.column(column).as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
    assert_eq!(text, [Some("N"), Some("N"), None, None, None, None, None, None, Some("S"), Some("S"), None, None]);
    assert_eq!(number(1), [Some(1), None, None, None, Some(2), None, None, None, Some(3), None, None, None]);
    assert_eq!(number(2), [10, 10, 10, 10, 10, 10, 10, 10, 11, 11, 11, 11].map(Some));
    let set: Vec<u16> = expanded.column(3).as_primitive::<UInt16Type>().values().to_vec();
    assert_eq!(set, [0, 1, 3, 7, 0, 1, 3, 7, 0, 1, 3, 7]);
    let narrow = Sets { kind: DataType::UInt8, ..sets };
    assert_eq!(narrow.typed(vec![3, 7]).unwrap().as_primitive::<UInt8Type>().values().to_vec(), [3, 7]);
}
