//! WHERE: over rows about subjects every condition is noted as the use `filter` and, where it reads one column only, as what its values can
//! be; over protected values it may meet what is withheld.

use std::collections::BTreeSet;
use std::sync::Arc;

use concordat_policy::{Code, Refusal, Use};
use datafusion::common::Result;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Operator};

use super::super::expression::{Place, Read, outer_reference};
use super::super::listed::listed_only;
use super::super::shape::{Origin, Rows, Safe, Shape, Visible, find, refuse};
use super::Rewriter;

impl Rewriter<'_> {
    pub(super) fn filter(&mut self, filter: Filter, outer: Option<&[Visible]>) -> Result<Shape> {
        match self.rewrite(filter.input.as_ref().clone(), outer)? {
            Shape::Safe(safe) => {
                let predicate = self.safe_expression(filter.predicate, &safe.visible(), &mut BTreeSet::new())?;
                self.undecided |= safe.masked;
                let plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(safe.plan))?);
                Ok(Shape::Safe(Safe { plan, ..safe }))
            }
            Shape::Rows(mut rows) => {
                let mut kept = Vec::new();
                for condition in split_conjunction_owned(filter.predicate) {
                    kept.push(self.condition(condition, &mut rows, outer)?);
                }
                rows.datasets.append(&mut self.subquery_datasets);
                let Some(predicate) = kept.into_iter().reduce(Expr::and) else { return Ok(Shape::Rows(rows)) };
                rows.plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(rows.plan))?);
                Ok(Shape::Rows(rows))
            }
        }
    }

    /// One condition of a WHERE over rows.
    fn condition(&mut self, condition: Expr, rows: &mut Rows, outer: Option<&[Visible]>) -> Result<Expr> {
        if outer_reference(&condition) {
            return self.correlation(condition, &rows.visible, outer);
        }
        if rows.limited {
            return refuse(
                Refusal::new(Code::Disclosure, "rows of single subjects may not be chosen by ORDER BY … LIMIT and then worked on")
                    .advice("remove the LIMIT of the subquery"),
            );
        }
        let mut read = Read::default();
        let place = Place { visible: &rows.visible, subqueries: true };
        let condition = self.row_expression(condition, place, &mut read)?;
        listed_only(self.permit, &condition, &rows.visible)?;
        for (dataset, column) in &read.columns {
            self.uses.add(dataset, column, Use::Filter);
        }
        let mut columns = read.columns.into_iter();
        if let (Some(only), None, false, false) = (columns.next(), columns.next(), read.complex, read.subquery)
            && let Some(named) = read.named.first()
            && read.named.iter().all(|c| c == named)
        {
            rows.narrowed_by.push((only, named.clone(), condition.clone()));
        }
        Ok(condition)
    }

    /// `b.subject = a.subject` inside EXISTS, `a` being of the enclosing query.
    fn correlation(&mut self, condition: Expr, visible: &[Visible], outer: Option<&[Visible]>) -> Result<Expr> {
        if let (Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }), Some(outer)) = (&condition, outer) {
            let (inner, enclosing) = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(c), Expr::OuterReferenceColumn(_, o)) | (Expr::OuterReferenceColumn(_, o), Expr::Column(c)) => {
                    (find(visible, c), find(outer, o))
                }
                _ => (None, None),
            };
            if let (Some(inner), Some(enclosing)) = (inner, enclosing)
                && matches!((&inner.origin, &enclosing.origin), (Origin::Subject { .. }, Origin::Subject { .. }))
            {
                self.linked(&inner.origin, &enclosing.origin)?;
                self.correlated = true;
                return Ok(condition);
            }
        }
        refuse(
            Refusal::new(Code::Disclosure, "a subquery may refer to the enclosing query by its pseudonym only")
                .advice("write WHERE b.subject = a.subject inside EXISTS; compare other columns after a join"),
        )
    }
}
