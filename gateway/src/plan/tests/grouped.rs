//! Where groups are made, and that they tell what rows do.

use std::collections::BTreeMap;

use super::super::over_sorted;
use super::super::release_table::{GroupedTable, ReleaseTable};
use super::*;
use concordat_proto::grouped::{Grouping, Groups};
use concordat_proto::schema::release_schema;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::catalog::TableProvider as _;
use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

/// By what each leaf of a statement's plan is grouped at its node: `None` where rows come.
async fn groupings(sql: &str) -> Vec<Option<Arc<Grouping>>> {
    let plan = planned(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    leaves(plan.physical()).unwrap().iter().map(|spec| spec.grouping.clone()).collect()
}

#[tokio::test]
async fn groups_of_one_dataset_are_made_at_its_node() {
    for (sql, keys, values) in [
        ("SELECT region, count(*) AS n FROM a.people GROUP BY region", "region", ""),
        ("SELECT count(*) AS n FROM a.people", "", ""),
        (
            "SELECT region, flag, count(DISTINCT subject) AS n, avg(score) AS m FROM a.people WHERE age > 18 GROUP BY region, flag",
            "flag region",
            "score",
        ),
        (
            "SELECT region, sum(score) / count(score) AS m FROM a.people WHERE year = 2020 GROUP BY region HAVING count(*) > 20",
            "region",
            "score",
        ),
        ("SELECT region, avg(score) AS m, count(flag) AS n FROM a.people GROUP BY region ORDER BY m DESC LIMIT 3", "region", "flag score"),
        ("SELECT sum(amount) AS s, avg(amount) AS m, count(open) AS o FROM b.claims WHERE open", "", "amount open"),
        ("SELECT p.region, count(*) AS n FROM (SELECT region FROM a.people WHERE year > 2019) p GROUP BY p.region", "region", ""),
        ("SELECT persons FROM views.by_region", "region", "score"),
        ("SELECT a, b, count(*) AS n FROM (SELECT region AS a, region AS b FROM a.people) t GROUP BY a, b", "region", ""),
    ] {
        let found = groupings(sql).await;
        let [Some(grouping)] = found.as_slice() else { panic!("{sql}: {found:?}") };
        let wire = grouping.to_wire();
        assert_eq!((wire.keys.join(" ").as_str(), wire.values.join(" ").as_str()), (keys, values), "{sql}");
    }
}

#[tokio::test]
async fn what_is_added_up_is_what_is_asked_for() {
    for (values, sums, number_sums) in [
        ("count(amount) AS n", "", ""),
        ("sum(amount) AS s", "amount", ""),
        ("avg(amount) AS m", "", "amount"),
        ("sum(amount) AS s, avg(amount) AS m", "amount", "amount"),
    ] {
        let found = groupings(&format!("SELECT {values} FROM b.claims")).await;
        let wire = found[0].as_ref().unwrap_or_else(|| panic!("{values}")).to_wire();
        assert_eq!((wire.sums.join(" ").as_str(), wire.number_sums.join(" ").as_str()), (sums, number_sums), "{values}");
    }
}

#[tokio::test]
async fn rows_come_where_groups_would_not_be_the_same() {
    for sql in [
        // Of two datasets, or the same one twice.
        "SELECT p.region, count(*) AS n FROM a.people p JOIN b.claims c ON p.subject = c.subject GROUP BY p.region",
        // A condition of one value only, and what it leaves over.
        "SELECT region, count(*) FILTER (WHERE flag) AS n FROM a.people GROUP BY region",
        "SELECT region, avg(CASE WHEN flag THEN 1.0 ELSE 0.0 END) AS share FROM a.people GROUP BY region",
        // Totals of totals, through grouping sets.
        "SELECT region, flag, count(*) AS n FROM a.people GROUP BY ROLLUP (region, flag)",
        // Through a link dataset.
        "SELECT count(*) AS n FROM b.links",
        // Per subject first.
        "SELECT count(*) AS n FROM (SELECT subject, sum(score) AS s FROM a.people GROUP BY subject) x",
    ] {
        let found = groupings(sql).await;
        assert!(found.iter().all(Option::is_none) && !found.is_empty(), "{sql}: {found:?}");
    }
}

/// A statement under the test's agreement with `from` replaced.
async fn groups_under(from: &str, to: &str, sql: &str) -> bool {
    assert!(AGREEMENT.contains(from), "{from}");
    let plan = planned_under(permitted_by(&agreed(&AGREEMENT.replace(from, to))), sql).await.unwrap();
    leaves(plan.physical()).unwrap().iter().all(|spec| spec.grouping.is_some())
}

#[tokio::test]
async fn what_needs_pseudonyms_here_is_not_grouped_there() {
    let sql = "SELECT region, avg(score) AS m FROM a.people GROUP BY region";
    let head = "linkage = { keyholder = \"a\" }\n";
    assert!(groups_under(head, head, sql).await);
    // Noise is made of pseudonyms' keys.
    assert!(!groups_under(head, &format!("{head}disclosure = {{ perturbation = {{ variance = 2, most = 5 }} }}\n"), sql).await);
    // Whoever objected elsewhere is removed here.
    let reached = AGREEMENT.replace(head, &format!("{head}withdrawals = \"all_parties\"\n"));
    let plan = planned_under(permitted_by(&agreed(&reached)), sql).await.unwrap();
    assert!(leaves(plan.physical()).unwrap().iter().all(|spec| spec.permit.reached && spec.grouping.is_none()));
    // Keys with too many published values.
    let plan = planned_under(permitted_by(&agreed(&of_many_regions(AGREEMENT))), sql).await.unwrap();
    assert!(leaves(plan.physical()).unwrap().iter().all(|spec| spec.grouping.is_none()));
}

#[tokio::test]
async fn groups_stand_in_the_place_of_the_inner_level() {
    let plan = planned("SELECT region, count(*) AS n, avg(score) AS mean FROM a.people WHERE age > 18 GROUP BY region").await.unwrap();
    insta::assert_snapshot!(shown(&plan));
}

/// Rows of the test's `people`, ascending: some people have several, some values are null, few live in E.
fn people() -> RecordBatch {
    let rows: Vec<(u128, usize)> =
        (0..900_usize).flat_map(|person| (0..=person % 3).map(move |row| ((person as u128) << 118, person * 7 + row))).collect();
    let region = |n: usize| match n % 50 {
        0 => Some("E"),
        1..20 => Some("N"),
        20..45 => Some("S"),
        _ => None,
    };
    let subjects: Vec<u8> = rows.iter().flat_map(|(subject, _)| subject.to_be_bytes()).collect();
    let of = |name: &str| -> ArrayRef {
        match name {
            "subject" => Arc::new(FixedSizeBinaryArray::new(16, subjects.clone().into(), None)),
            "region" => Arc::new(rows.iter().map(|(_, n)| region(*n)).collect::<StringArray>()),
            "flag" => Arc::new(rows.iter().map(|(_, n)| (n % 11 > 0).then_some(n % 3 == 0)).collect::<BooleanArray>()),
            "score" => Arc::new(rows.iter().map(|(_, n)| (n % 7 > 0).then_some((n % 13) as f64 * 0.25 - 1.0)).collect::<Float64Array>()),
            "year" => Arc::new(rows.iter().map(|(_, n)| Some(2_000 + (n % 4) as i64)).collect::<Int64Array>()),
            other => new_null_array(&datafusion::arrow::datatypes::DataType::Int64, if other.is_empty() { 0 } else { rows.len() }),
        }
    };
    let kinds = &agreed(AGREEMENT).datasets[0].columns;
    let schema =
        Arc::new(release_schema(false, kinds.iter().filter(|(_, rule)| !rule.uses.is_empty()).map(|(n, rule)| (n.as_str(), rule.kind))));
    let columns = schema.fields().iter().map(|field| cast(&of(field.name()), field.data_type()).unwrap()).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// The groups of both halves of the rows, as two partitions would have them.
fn groups(grouping: &Arc<Grouping>, rows: &RecordBatch) -> Vec<Vec<RecordBatch>> {
    // Person 450 begins there.
    let half = (0..450).map(|person| 1 + person % 3).sum::<usize>();
    let halves = [rows.slice(0, half), rows.slice(half, rows.num_rows() - half)];
    let made = |rows: &RecordBatch| {
        let mut groups = Groups::new(Arc::clone(grouping));
        let parts: Vec<_> = groups.take(rows).unwrap().into_iter().chain(groups.finish().unwrap()).collect();
        parts.iter().map(|part| grouping.as_sent(part).unwrap()).collect()
    };
    halves.iter().map(made).collect()
}

/// What a plan tells of `people`, row by row, sorted; and whether its groups were made at the node.
async fn told(text: &str, sql: &str) -> (Vec<String>, bool) {
    let plan = planned_under(permitted_by(&agreed(text)), sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let grouped = leaves(plan.physical()).unwrap().iter().any(|spec| spec.grouping.is_some());
    let rows = people();
    let over_rows = |node: LogicalPlan| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        let provider = source_as_provider(&scan.source)?;
        let (schema, partitions) = match provider.downcast_ref::<GroupedTable>() {
            Some(table) => (table.schema(), groups(&table.grouping, &rows)),
            None => (provider.downcast_ref::<ReleaseTable>().unwrap().schema(), vec![vec![rows.clone()]]),
        };
        assert!(scan.filters.is_empty(), "{sql}: conditions are the node's");
        let source = provider_as_source(Arc::new(MemTable::try_new(schema, partitions)?));
        let scan = LogicalPlanBuilder::scan(scan.table_name.clone(), source, scan.projection.clone())?;
        Ok(Transformed::yes(scan.build()?))
    };
    let logical = plan.made.logical.clone().transform(over_rows).unwrap().data;
    let physical = plan.made.state.query_planner().create_physical_plan(&logical, &plan.made.state).await.unwrap();
    let task = plan.in_memory(Arc::new(RuntimeEnv::default())).task();
    let batches = datafusion::physical_plan::collect(over_sorted(physical).unwrap(), task).await.unwrap();
    let line = |batch: &RecordBatch, row| {
        let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
        // Sums are added up in another order.
        let near = |cell: String| cell.parse().map_or(cell, |number: f64| format!("{number:.9}"));
        cells.map(near).collect::<Vec<_>>().join("|")
    };
    let mut all: Vec<String> = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| line(batch, row))).collect();
    all.sort();
    (all, grouped)
}

/// The test's agreement where regions are too many for groups, though no more of them are in the data.
fn of_many_regions(text: &str) -> String {
    let many = (0..5_000).map(|i| format!(", \"x{i}\"")).collect::<String>();
    text.replace("values = [\"N\", \"S\", \"E\"]", &format!("values = [\"N\", \"S\", \"E\"{many}]"))
}

#[tokio::test]
async fn groups_tell_what_rows_do_to_the_last_cell() {
    let mut withheld = 0;
    for sql in [
        "SELECT region, count(*) AS n, count(DISTINCT subject) AS p FROM a.people GROUP BY region",
        "SELECT region, flag, sum(score) AS s, avg(score) AS m, count(score) AS k, count(flag) AS f FROM a.people GROUP BY region, flag",
        "SELECT region, avg(score) AS m FROM a.people GROUP BY region HAVING count(*) > 100",
        "SELECT a, b, flag, avg(score) AS m FROM (SELECT region AS a, region AS b, flag, score FROM a.people) t GROUP BY a, b, flag",
    ] {
        let ((grouped, at_the_node), (rows, elsewhere)) = (told(AGREEMENT, sql).await, told(&of_many_regions(AGREEMENT), sql).await);
        assert!(at_the_node && !elsewhere, "{sql}");
        // So many regions are left out where they are of few; of three each is there, and says that it is withheld.
        let (shown, hidden): (Vec<_>, Vec<_>) = grouped.into_iter().partition(|line| rows.contains(line));
        assert_eq!(shown, rows, "{sql}");
        assert!(shown.len() > 1 && hidden.iter().all(|line| line.contains("||")), "{sql}: {hidden:?}");
        withheld += hidden.len();
    }
    assert!(withheld > 0, "something is withheld");
}

#[tokio::test]
async fn rows_of_single_subjects_that_are_alike_are_told_by_groups() {
    let output = AGREEMENT.replacen("[\"group_by\", \"filter\"]", "[\"group_by\", \"filter\", \"output\"]", 1);
    let flags = output.replacen("[\"group_by\", \"filter\", \"aggregate\"]", "[\"group_by\", \"filter\", \"aggregate\", \"output\"]", 1);
    for sql in [
        "SELECT region, flag FROM a.people",
        "SELECT flag AS f, region AS r, region AS again FROM a.people",
        "SELECT region FROM a.people ORDER BY region LIMIT 1100",
    ] {
        let (grouped, at_the_node) = told(&flags, sql).await;
        let (rows, elsewhere) = told(&of_many_regions(&flags), sql).await;
        assert!(at_the_node && !elsewhere, "{sql}");
        let counts =
            |lines: &[String]| lines.iter().fold(BTreeMap::new(), |mut all, line| (*all.entry(line.clone()).or_insert(0) += 1, all).1);
        assert_eq!(counts(&grouped), counts(&rows), "{sql}");
        assert!(grouped.len() > 1_000, "{sql}");
    }
    // Rows of combinations that few share are in neither.
    assert!(told(&flags, "SELECT region, flag FROM a.people").await.0.len() < people().num_rows());
    // Years have no published list.
    assert!(!told(&flags, "SELECT year, region FROM a.people").await.1);
}
