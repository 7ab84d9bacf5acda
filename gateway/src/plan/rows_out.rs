//! Rows of single subjects on their way into an answer: what must be so for them to be planned at all, and the operator that leaves
//! out those that too few share.
//!
//! ```text
//! before                                  after
//!   Limit 5                                 Limit 5
//!     Sort year                               Sort year
//!       Projection year, region                 RowsOfFew k=10: year, region        (sharing.rs)
//!         Scan people                             Projection year, region, subject
//!                                                   Scan people
//! ```
//! ORDER BY and LIMIT choose among the rows that stay. Which columns count, and how many subjects must share them, the agreements
//! say ([`concordat_policy::row_level`]): of several owners the largest number counts, and each owner's columns.
//!
//! Columns that an agreement names in `over` count whether or not the statement shows them: else `SELECT year` would show the years of
//! rows whose region and year few share. They are carried along beside the pseudonym (`link.rs`), fetched for it, and not put out:
//! that is the rule's use of them and not the caller's, so it is not judged as `output`, which the agreement permits of them anyway.
//! Where a GROUP BY the subject has lost one, the statement is refused.
//!
//! Rows are alike only where the same datasets have a row of their subject: after an outer join nobody lifts another department's rows
//! with subjects that they made up.
//!
//! It does not keep two answers from being compared. Where a pseudonym stands in the answer, two answers could be put together row by
//! row; so each must then hold every column that counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use concordat_policy::authorize::DatasetPermit;
use concordat_policy::column::SUBJECT;
use concordat_policy::decision::{Rule, Whose};
use concordat_policy::{Code, DatasetName, Name, Permit, Refusal};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, Projection};

use super::rewrite::Rewriter;
use super::shape::{Origin, Rows, SourceColumn, Visible, refuse};
use super::sharing::RowsOfFew;

/// What an answer of single subjects' rows is bound to.
#[derive(Debug, Clone)]
pub(crate) struct RowsOut {
    /// The number of subjects, and whose it is.
    pub(crate) rule: Rule,
    /// How many rows the owners of what it shows let out.
    pub(crate) quotas: Vec<Quota>,
}

/// How many rows of a dataset's subjects answers may hold, per UTC day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) agreement: Name,
    pub(crate) dataset: DatasetName,
    pub(crate) most: u64,
}

impl Rewriter<'_> {
    /// The rows that the caller may see: cut down to what the statement can name, without those that too few subjects share.
    pub(super) fn rows_out(&mut self, rows: Rows) -> Result<LogicalPlan> {
        let unfit = self.unfit.take().or_else(|| unordered(&self.sorted, &rows.visible));
        self.unfit = unfit.or_else(|| pseudonyms(self.permit, &rows.visible)).or_else(|| lost(&rows));
        let shown = rows.visible.iter().filter(|visible| counts(self.permit, &visible.origin)).map(|visible| &visible.column);
        let keys = shown.chain(hidden(&rows)).cloned().collect();
        let subjects = std::iter::once(&rows.subject).chain(rows.linked.as_ref().map(|linked| &linked.column)).cloned().collect();
        let present = rows.present.iter().filter_map(|present| present.column.clone()).collect();
        let operator = RowsOfFew::over(least(self.permit, &rows), keys, subjects, present);
        self.out = Some(bound(self.permit, &rows));
        let plan = beneath(rows.plan, operator)?;
        LogicalPlanBuilder::from(plan).project(rows.visible.into_iter().map(|v| Expr::Column(v.column)))?.build()
    }
}

/// The columns by which an agreement compares the rows of a dataset that is scanned, and where they stand.
pub(super) fn compared(permit: &Permit, dataset: &DatasetName, visible: &[Visible]) -> Vec<(SourceColumn, Option<Column>)> {
    let over = permit.dataset(dataset).and_then(|permit| permit.dataset.row_level.over.as_ref());
    let named = over.into_iter().flatten().map(|column| (dataset.clone(), column.clone()));
    still_there(named.map(|source| (source, None)).collect(), visible)
}

/// The same columns in rows that have these and no others.
pub(super) fn still_there(compared: Vec<(SourceColumn, Option<Column>)>, visible: &[Visible]) -> Vec<(SourceColumn, Option<Column>)> {
    let place = |source: &SourceColumn| visible.iter().find(|v| is(&v.origin, source)).map(|v| v.column.clone());
    compared.into_iter().map(|(source, _)| (source.clone(), place(&source))).collect()
}

/// Whether it is the dataset's column as it is.
fn is(origin: &Origin, source: &SourceColumn) -> bool {
    matches!(origin, Origin::Source(column) if column == source)
}

/// The columns by which rows are compared and that the answer does not show as they are.
fn hidden(rows: &Rows) -> impl Iterator<Item = &Column> {
    let unseen = move |source: &SourceColumn| !rows.visible.iter().any(|visible| is(&visible.origin, source));
    rows.compared.iter().filter(move |(source, _)| unseen(source)).filter_map(|(_, column)| column.as_ref())
}

/// The refusal of rows of which it is not known any more by what they are compared, or of which datasets they are.
fn lost(rows: &Rows) -> Option<Refusal> {
    if let Some(((dataset, column), _)) = rows.compared.iter().find(|(_, column)| column.is_none()) {
        let message = format!("rows of {dataset} are compared by {column}, which GROUP BY a subject has left out");
        let advice = format!("add {column} of {dataset} to the GROUP BY; the agreement's row_level names it in over");
        return Some(Refusal::new(Code::Disclosure, message).department(&dataset.department).advice(advice));
    }
    rows.present.is_empty().then(|| {
        let message = "after an outer join and GROUP BY a subject it is not known any more of which datasets a row is";
        Refusal::new(Code::Disclosure, message).advice("show the joined rows as they are, or join without LEFT, RIGHT and FULL")
    })
}

/// How many subjects must share a row: the largest number of those whose data is read.
fn least(permit: &Permit, rows: &Rows) -> u32 {
    rows.datasets.iter().map(|dataset| permit.dataset(dataset).map_or(u32::MAX, DatasetPermit::row_level_k)).max().unwrap_or(u32::MAX)
}

fn bound(permit: &Permit, rows: &Rows) -> RowsOut {
    let subjects = least(permit, rows);
    let read: Vec<&DatasetPermit> = rows.datasets.iter().filter_map(|dataset| permit.dataset(dataset)).collect();
    let strictest = || read.iter().filter(|permit| permit.row_level_k() == subjects);
    let agreements: BTreeSet<Name> = strictest().map(|permit| permit.agreement.clone()).collect();
    let departments: BTreeSet<Name> = strictest().map(|permit| permit.dataset.name.department.clone()).collect();
    let whose = Whose { agreements: agreements.into_iter().collect(), departments: departments.into_iter().collect() };
    let rule = Rule::RowsOfFewLeftOut { subjects, whose };
    let shown: BTreeSet<DatasetName> = rows.visible.iter().flat_map(|v| v.origin.shown()).map(|(dataset, _)| dataset).collect();
    let quota = |permit: &&DatasetPermit| Quota {
        agreement: permit.agreement.clone(),
        dataset: permit.dataset.name.clone(),
        most: permit.row_level_rows_per_day(),
    };
    RowsOut { rule, quotas: read.iter().filter(|permit| shown.contains(&permit.dataset.name)).map(quota).collect() }
}

/// Whether rows are compared by a value. What is computed counts if anything of it does; a pseudonym has a rule of its own.
fn counts(permit: &Permit, origin: &Origin) -> bool {
    let is_over = |(dataset, column): &SourceColumn| {
        column == SUBJECT || permit.dataset(dataset).is_none_or(|permit| permit.dataset.row_level.is_over(column))
    };
    match origin {
        Origin::Subject { .. } => false,
        Origin::Source(column) => is_over(column),
        Origin::PerSubject { columns, present } | Origin::Derived { columns, present } => {
            !present.is_empty() || columns.iter().any(is_over)
        }
    }
}

/// The columns that stand in the answer as they are.
fn plain(visible: &[Visible]) -> BTreeSet<SourceColumn> {
    let plain = visible.iter().filter(|visible| matches!(visible.origin, Origin::Source(_) | Origin::Subject { .. }));
    plain.flat_map(|visible| visible.origin.sources()).collect()
}

/// The refusal of an order by what the answer does not show: the order would tell it.
fn unordered(sorted: &BTreeSet<SourceColumn>, visible: &[Visible]) -> Option<Refusal> {
    let plain = plain(visible);
    let (dataset, column) = sorted.iter().find(|column| !plain.contains(*column))?;
    let message = format!("the order of single subjects' rows would tell {dataset}.{column}, which the answer does not show as it is");
    Some(Refusal::new(Code::Disclosure, message).advice("ORDER BY columns that stand in the answer"))
}

/// The refusal of pseudonyms in an answer that could be put together with others.
fn pseudonyms(permit: &Permit, visible: &[Visible]) -> Option<Refusal> {
    let plain = plain(visible);
    let pseudonyms = visible.iter().filter(|visible| matches!(visible.origin, Origin::Subject { .. }));
    pseudonyms.flat_map(|visible| visible.origin.sources()).find_map(|(dataset, _)| {
        let Some(over) = permit.dataset(&dataset).and_then(|permit| permit.dataset.row_level.over.as_ref()) else {
            let message = format!("rows with a pseudonym of {dataset} are shared by nobody, and its agreement names no columns to go by");
            let refusal = Refusal::new(Code::Disclosure, message).department(&dataset.department);
            return Some(refusal.advice("leave the pseudonym out; the agreement could state row_level with over = […]"));
        };
        let missing: Vec<&str> = over.iter().filter(|c| !plain.contains(&(dataset.clone(), (*c).clone()))).map(String::as_str).collect();
        (!missing.is_empty()).then(|| {
            let missing = missing.join(", ");
            let message =
                format!("rows with a pseudonym of {dataset} could be put together with another answer, without {missing} beside it");
            let refusal = Refusal::new(Code::Disclosure, message).department(&dataset.department);
            refusal.advice(format!("add {missing} to the SELECT list, or leave the pseudonym out"))
        })
    })
}

/// Puts the operator beneath ORDER BY and LIMIT, of subqueries too: how many of the rows that they choose are left out would tell where
/// the rows of few are.
fn beneath(plan: LogicalPlan, operator: RowsOfFew) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Limit(mut limit) => {
            limit.input = Arc::new(beneath(limit.input.as_ref().clone(), operator)?);
            Ok(LogicalPlan::Limit(limit))
        }
        LogicalPlan::Sort(mut sort) => {
            sort.input = Arc::new(beneath(sort.input.as_ref().clone(), operator)?);
            Ok(LogicalPlan::Sort(sort))
        }
        LogicalPlan::SubqueryAlias(mut alias) if chosen(&alias.input) => {
            let columns = alias.input.schema().columns();
            let within = |column: &Column| columns.get(alias.schema.maybe_index_of_column(column)?).cloned();
            let Some(operator) = operator.renamed(within) else { return computed() };
            alias.input = Arc::new(beneath(alias.input.as_ref().clone(), operator)?);
            Ok(LogicalPlan::SubqueryAlias(alias))
        }
        LogicalPlan::Projection(mut list) if chosen(&list.input) => {
            let Some(operator) = operator.renamed(|column| behind(&list, column)) else { return computed() };
            list.input = Arc::new(beneath(list.input.as_ref().clone(), operator)?);
            Ok(LogicalPlan::Projection(list))
        }
        plan => Ok(placed(plan, operator)),
    }
}

/// Whether ORDER BY or LIMIT stands beneath SELECT lists and names only.
fn chosen(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(list) => chosen(&list.input),
        LogicalPlan::SubqueryAlias(alias) => chosen(&alias.input),
        _ => false,
    }
}

fn computed<T>() -> Result<T> {
    refuse(
        Refusal::new(Code::Disclosure, "what is computed from rows that a subquery's ORDER BY or LIMIT chose cannot be compared before it")
            .advice("write ORDER BY and LIMIT in the outermost SELECT"),
    )
}

fn placed(plan: LogicalPlan, operator: RowsOfFew) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(operator.on(plan)) })
}

/// The column of a SELECT list's input that one of its own is, if it is one.
fn behind(list: &Projection, column: &Column) -> Option<Column> {
    let mut expr = list.expr.get(list.schema.maybe_index_of_column(column)?)?;
    while let Expr::Alias(alias) = expr {
        expr = &alias.expr;
    }
    if let Expr::Column(column) = expr { Some(column.clone()) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::plan::tests::{AGREEMENT, agreed, name, permitted, planned_under, sign};
    use concordat_policy::Signatures;
    use datafusion::physical_plan::displayable;

    /// The agreement with `row_level` of people, and two more columns that may be put out: the pseudonym and the region. The year may be
    /// summarised.
    fn permit(row_level: &str) -> Permit {
        let text = AGREEMENT
            .replacen("[dataset.columns]\n", &format!("{row_level}\n[dataset.columns]\n"), 1)
            .replacen("[\"join\", \"aggregate\", \"group_by\"]", "[\"join\", \"aggregate\", \"group_by\", \"output\"]", 1)
            .replacen("[\"group_by\", \"filter\"]", "[\"group_by\", \"filter\", \"output\"]", 1)
            .replacen("[\"output\", \"filter\"]", "[\"output\", \"filter\", \"aggregate\"]", 1);
        let agreement = agreed(&text);
        let mut signatures = Signatures::default();
        sign(&mut signatures, &agreement, &[]);
        permitted(&[agreement], &signatures).unwrap()
    }

    async fn planned(row_level: &str, sql: &str) -> Plan {
        planned_under(permit(row_level), sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"))
    }

    const STATED: &str = "row_level = { k = 5, over = [\"region\"], rows_per_day = 7 }";

    #[tokio::test]
    async fn the_largest_number_counts_and_the_owners_of_what_is_shown_count_the_rows() {
        for (row_level, sql, subjects, department, most) in [
            ("", "SELECT year FROM a.people", 10, "a", 10_000),
            (STATED, "SELECT year, region FROM a.people", 5, "a", 7),
            (STATED, "SELECT p.year FROM a.people p JOIN b.claims c ON p.subject = c.subject", 10, "b", 7),
            (STATED, "SELECT year FROM a.people WHERE subject IN (SELECT subject FROM b.claims)", 10, "b", 7),
        ] {
            let plan = planned(row_level, sql).await;
            let out = plan.rows_out().unwrap();
            let departments = vec![name(department)];
            assert_eq!(
                out.rule,
                Rule::RowsOfFewLeftOut { subjects, whose: Whose { agreements: vec![name("test")], departments } },
                "{sql}"
            );
            let dataset = DatasetName::new(name("a"), name("people"));
            assert_eq!(out.quotas, [Quota { agreement: name("test"), dataset, most }], "{sql}");
        }
        assert!(planned("", "SELECT count(*) FROM a.people").await.rows_out().is_none());
    }

    #[tokio::test]
    async fn rows_are_compared_by_the_columns_that_count_before_any_are_chosen() {
        for (row_level, sql, keys) in [
            ("", "SELECT year, region FROM a.people", 2),
            (STATED, "SELECT year, region FROM a.people", 1),
            // What counts does so unseen, wherever the statement leaves it out.
            (STATED, "SELECT year FROM a.people", 1),
            (STATED, "SELECT year AS y FROM (SELECT year FROM a.people WHERE age > 3) AS t ORDER BY y LIMIT 5", 1),
            (STATED, "SELECT y FROM (SELECT year AS y FROM (SELECT year FROM a.people ORDER BY year LIMIT 50) AS t) AS u", 1),
            (STATED, "SELECT coalesce(region, 'none') AS r FROM a.people", 2),
            (STATED, "SELECT p.year FROM a.people p JOIN b.claims c ON p.subject = c.subject", 1),
            (STATED, "SELECT p.year FROM b.claims c LEFT JOIN a.people p ON p.subject = c.subject", 1),
            (STATED, "SELECT y FROM (SELECT region, min(year) AS y FROM a.people GROUP BY subject, region) AS t", 1),
            (STATED, "SELECT region, region IS NULL AS absent FROM a.people", 2),
            ("", "SELECT year FROM a.people ORDER BY year LIMIT 5", 1),
            ("", "SELECT year FROM (SELECT year, region FROM a.people ORDER BY year LIMIT 50) AS t", 1),
            ("", "SELECT year AS y, region FROM a.people WHERE age > 3 ORDER BY region DESC, year LIMIT 5 OFFSET 2", 2),
        ] {
            let shown = displayable(planned(row_level, sql).await.physical().as_ref()).indent(false).to_string();
            let operator = shown.lines().find(|line| line.contains("RowsOfFewExec")).unwrap_or_else(|| panic!("{sql}: {shown}"));
            let listed = operator.split_once("keys=[").unwrap().1.trim_end_matches(']');
            assert_eq!(listed.split(", ").filter(|key| !key.is_empty()).count(), keys, "{sql}: {shown}");
            if let Some(sort) = shown.find("SortExec") {
                assert!(sort < shown.find("RowsOfFewExec").unwrap(), "{sql}: {shown}");
            }
            assert!(!sql.contains("ORDER") || shown.contains("SortExec"), "{sql}: {shown}");
        }
    }

    #[tokio::test]
    async fn rows_are_alike_only_where_the_same_datasets_have_a_row() {
        for (join, may_lack) in [("JOIN", 0), ("LEFT JOIN", 1), ("RIGHT JOIN", 1), ("FULL JOIN", 2)] {
            let sql = format!("SELECT p.year FROM a.people p {join} b.claims c ON p.subject = c.subject");
            let shown = displayable(planned(STATED, &sql).await.physical().as_ref()).indent(false).to_string();
            let present = shown.split_once("present=[").and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
            assert_eq!(present.split(", ").filter(|column| !column.is_empty()).count(), may_lack, "{sql}: {shown}");
        }
    }

    #[tokio::test]
    async fn what_would_tell_beyond_the_rows_is_refused() {
        for (row_level, sql, says) in [
            ("", "SELECT year FROM a.people ORDER BY region", "the order of single subjects' rows would tell a.people.region"),
            ("", "SELECT coalesce(year, 0) AS y FROM a.people ORDER BY year LIMIT 3", "would tell a.people.year"),
            (
                "",
                "SELECT year, coalesce(year, 0) AS y FROM (SELECT year FROM a.people ORDER BY year LIMIT 50) AS t",
                "a subquery's ORDER BY or LIMIT chose",
            ),
            ("", "SELECT subject, year FROM a.people", "names no columns to go by"),
            (STATED, "SELECT subject, year FROM a.people", "without region beside it"),
            (STATED, "SELECT subject, region IS NULL AS absent FROM a.people", "without region beside it"),
            (STATED, "SELECT min(year) AS y FROM a.people GROUP BY subject", "are compared by region"),
            (
                STATED,
                "SELECT region, min(year) AS y FROM a.people p LEFT JOIN b.claims c ON p.subject = c.subject GROUP BY p.subject, region",
                "of which datasets a row is",
            ),
        ] {
            let refusal = planned_under(permit(row_level), sql).await.err().unwrap_or_else(|| panic!("planned: {sql}"));
            assert!(refusal.code == Code::Disclosure && refusal.message.contains(says) && refusal.advice.is_some(), "{sql}: {refusal:?}");
        }
        planned(STATED, "SELECT subject, year, region FROM a.people").await;
    }
}
