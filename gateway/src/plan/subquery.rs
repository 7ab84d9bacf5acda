//! Subqueries in expressions: a summary as a value, and the semi and anti joins IN and EXISTS.

use std::collections::BTreeSet;

use concordat_policy::{Code, Refusal};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder, Subquery, when};
use datafusion::prelude::lit;

use super::expression::{Place, Read};
use super::rewrite::Rewriter;
use super::shape::{Origin, Safe, Shape, Visible, find, refuse};

impl Rewriter<'_> {
    /// `(SELECT …)` as a value: only where every value in it is protected and it does not depend on the row.
    pub(super) fn scalar_subquery(&mut self, mut subquery: Subquery) -> Result<Expr> {
        let safe = self.summary_of(&subquery)?;
        let masked = safe.masked;
        self.undecided |= masked;
        subquery.subquery = self.without_mask(safe)?.into();
        let value = Expr::ScalarSubquery(subquery);
        self.met.extend(masked.then(|| value.clone()));
        Ok(value)
    }

    /// Does something to an expression, and returns the subqueries in it whose values may be withheld.
    pub(super) fn meeting<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<(T, Vec<Expr>)> {
        let before = std::mem::take(&mut self.met);
        let done = work(self);
        Ok((done?, std::mem::replace(&mut self.met, before)))
    }

    /// A value over `input` that is null where one of the values `met` in it is withheld, whatever `coalesce` or CASE make of a null.
    pub(super) fn computed_of(expr: Expr, met: Vec<Expr>, input: &LogicalPlan) -> Result<Expr> {
        let Some(withheld) = met.into_iter().map(Expr::is_null).reduce(Expr::or) else { return Ok(expr) };
        let (relation, field) = expr.to_field(input.schema())?;
        let null = ScalarValue::try_from(field.data_type())?;
        Ok(when(withheld, lit(null)).otherwise(expr.unalias())?.alias_qualified(relation, field.name()))
    }

    /// What a subquery used as a value says.
    fn summary_of(&mut self, subquery: &Subquery) -> Result<Safe> {
        if !subquery.outer_ref_columns.is_empty() {
            return refuse(
                Refusal::new(Code::Invalid, "a subquery used as a value may not refer to the enclosing query")
                    .advice("join the datasets instead"),
            );
        }
        let enclosing = self.beside.take();
        let shape = self.rewrite(subquery.subquery.as_ref().clone(), None);
        self.beside = enclosing;
        match shape? {
            Shape::Safe(safe) => Ok(safe),
            Shape::Rows(_) => refuse(
                Refusal::new(Code::Disclosure, "a subquery used as a value must be a summary")
                    .advice("select an aggregate in it; subjects' own values cannot be compared one by one"),
            ),
        }
    }

    /// `(SELECT …)` in the list of a SELECT over protected values. One whose value may be withheld becomes a column beside them, so that
    /// what is computed from it is withheld with it.
    pub(super) fn column_of_subquery(&mut self, mut subquery: Subquery, visible: &[Column], read: &mut BTreeSet<usize>) -> Result<Expr> {
        let safe = self.summary_of(&subquery)?;
        if !safe.masked {
            subquery.subquery = self.without_mask(safe)?.into();
            return Ok(Expr::ScalarSubquery(subquery));
        }
        if !safe.is_one_row() {
            return refuse(
                Refusal::new(Code::Invalid, "a subquery used as a value beside others must be a total: an aggregate without GROUP BY")
                    .advice("select it in FROM, and join it: … FROM a JOIN (SELECT …) AS b ON …"),
            );
        }
        let name = self.fresh("value");
        let mut columns: Vec<Expr> = safe.plan.schema().columns().into_iter().map(Expr::Column).collect();
        if let Some(value) = columns.first_mut() {
            *value = value.clone().alias(&name);
        }
        let plan = LogicalPlanBuilder::from(safe.plan).project(columns)?.build()?;
        let beside = self.beside.get_or_insert_default();
        read.insert(visible.len().saturating_add(beside.len()));
        beside.push(Safe { plan, ..safe });
        Ok(Expr::Column(Column::new_unqualified(name)))
    }

    /// `subject IN (SELECT subject …)`: a semi or anti join.
    pub(super) fn in_subquery(&mut self, mut query: InSubquery, place: Place<'_>, read: &mut Read) -> Result<Expr> {
        let advice = "write a.subject IN (SELECT b.subject FROM …)";
        let outer = match query.expr.as_ref() {
            Expr::Column(column) => find(place.visible, column).map(|v| v.origin.clone()),
            _ => None,
        };
        let (Some(outer @ Origin::Subject { .. }), true) = (outer, query.subquery.outer_ref_columns.is_empty()) else {
            return refuse(Refusal::new(Code::Disclosure, "IN (SELECT …) must compare pseudonyms").advice(advice));
        };
        let Shape::Rows(rows) = self.rewrite(query.subquery.subquery.as_ref().clone(), None)? else {
            return refuse(Refusal::new(Code::Disclosure, "IN (SELECT …) must select pseudonyms").advice(advice));
        };
        rows.unlinked("IN (SELECT …)")?;
        if rows.limited {
            return refuse(
                Refusal::new(Code::Disclosure, "people chosen by ORDER BY … LIMIT cannot be worked on: the limit could choose one person")
                    .advice("remove the LIMIT"),
            );
        }
        let [Visible { origin: inner @ Origin::Subject { .. }, .. }] = rows.visible.as_slice() else {
            return refuse(Refusal::new(Code::Disclosure, "IN (SELECT …) must select one pseudonym").advice(advice));
        };
        self.linked(&outer, inner)?;
        never_null(&outer, inner, "IN (SELECT …)")?;
        read.subquery = true;
        self.subquery_datasets.extend(rows.datasets.iter().cloned());
        query.subquery.subquery = self.visible_only(rows)?.into();
        Ok(Expr::InSubquery(query))
    }

    /// `EXISTS (SELECT … WHERE b.subject = a.subject)`: a semi or anti join. Without that condition it would tell whether
    /// any row exists at all.
    pub(super) fn exists(&mut self, mut exists: Exists, place: Place<'_>, read: &mut Read) -> Result<Expr> {
        let before = std::mem::take(&mut self.correlated);
        let shape = self.rewrite(exists.subquery.subquery.as_ref().clone(), Some(place.visible));
        let correlated = std::mem::replace(&mut self.correlated, before);
        match shape? {
            Shape::Rows(rows) if correlated && !rows.limited => {
                rows.unlinked("EXISTS")?;
                read.subquery = true;
                self.subquery_datasets.extend(rows.datasets.iter().cloned());
                exists.subquery.subquery = self.visible_only(rows)?.into();
                Ok(Expr::Exists(exists))
            }
            _ => refuse(
                Refusal::new(Code::Disclosure, "EXISTS must be tied to the same subject")
                    .advice("write EXISTS (SELECT 1 FROM b WHERE b.subject = a.subject AND …)"),
            ),
        }
    }
}

/// Refuses pseudonyms that an outer join may have left null, where one null decides about everybody: `x NOT IN (…, NULL)` is true of
/// nobody, and whether there is a null may depend on one person.
pub(super) fn never_null(left: &Origin, right: &Origin, place: &str) -> Result<()> {
    let nullable = |origin: &Origin| !matches!(origin, Origin::Subject { nullable: false, .. });
    if nullable(left) || nullable(right) {
        return refuse(
            Refusal::new(Code::Disclosure, format!("{place} compares pseudonyms of which an outer join may leave some null")).advice(
                "compare the pseudonym of the side that every row has, or write EXISTS (SELECT 1 FROM b WHERE b.subject = a.subject)",
            ),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use concordat_policy::Code::{Disclosure, Invalid};
    use concordat_policy::Refusal;

    use crate::plan::tests::{AGREEMENT, agreed, permitted_by, planned_under};

    async fn refusal(sql: &str) -> Refusal {
        planned_under(permitted_by(&agreed(AGREEMENT)), sql).await.err().unwrap_or_else(|| panic!("planned: {sql}"))
    }

    #[tokio::test]
    async fn no_null_decides_about_everybody() {
        for (sql, says) in [
            (
                "SELECT count(*) FROM a.people WHERE subject NOT IN (SELECT c.subject FROM (SELECT subject FROM a.people WHERE age = 3) x LEFT JOIN b.claims c ON c.subject = x.subject)",
                "leave some null",
            ),
            (
                "SELECT count(*) FROM a.people WHERE subject IN (SELECT x.subject FROM a.people x RIGHT JOIN b.claims c ON c.subject = x.subject)",
                "leave some null",
            ),
            (
                "SELECT count(*) FROM a.people p LEFT JOIN b.claims c ON p.subject = c.subject WHERE c.subject NOT IN (SELECT subject FROM a.people WHERE age = 3)",
                "leave some null",
            ),
            (
                "SELECT count(*) FROM (SELECT c.subject FROM a.people p LEFT JOIN b.claims c ON p.subject = c.subject EXCEPT SELECT subject FROM b.links) t",
                "",
            ),
        ] {
            let refusal = refusal(sql).await;
            assert!(matches!(refusal.code, Disclosure | Invalid) && format!("{refusal:?}").contains(says), "{sql}: {refusal:?}");
        }
    }

    #[tokio::test]
    async fn a_value_that_may_be_withheld_is_a_total() {
        let sql = "SELECT region, (SELECT count(*) FROM b.claims WHERE open GROUP BY open) AS m FROM (SELECT region, count(*) AS n FROM a.people GROUP BY region) t";
        let refusal = refusal(sql).await;
        assert_eq!(refusal.code, Invalid, "{refusal:?}");
        assert!(format!("{refusal:?}").contains("must be a total"), "{refusal:?}");
    }
}
