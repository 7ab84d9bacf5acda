//! Joins: rows about subjects on the pseudonym only, so that each stays about exactly one; nothing with itself, as chosen people's rows
//! would count several times. Summaries join as any tables do (`safe.rs`), rows with summaries not at all.

use std::sync::Arc;

use concordat_policy::column::SUBJECT;
use concordat_policy::{Code, Refusal, Use};
use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality, Result};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, Operator};
use datafusion::prelude::coalesce;

use super::super::expression::{Place, Read, not_offered};
use super::super::link::{Carried, carried};
use super::super::listed::listed_only;
use super::super::shape::{Origin, Rows, Shape, Visible, find, refuse};
use super::super::subquery::never_null;
use super::Rewriter;

impl Rewriter<'_> {
    pub(super) fn join(&mut self, join: Join) -> Result<Shape> {
        let left = self.rewrite(join.left.as_ref().clone(), None)?;
        let right = self.rewrite(join.right.as_ref().clone(), None)?;
        match (left, right) {
            (Shape::Rows(left), Shape::Rows(right)) => self.join_rows(join, left, right).map(Shape::Rows),
            (Shape::Safe(left), Shape::Safe(right)) => self.join_safe(join, left, right).map(Shape::Safe),
            _ => refuse(
                Refusal::new(Code::Disclosure, "rows of single subjects cannot be joined with summaries")
                    .advice("summarise both sides first, or use a subquery as a value: … > (SELECT avg(…) FROM …)"),
            ),
        }
    }

    fn join_rows(&mut self, join: Join, left: Rows, right: Rows) -> Result<Rows> {
        if left.limited || right.limited {
            return refuse(Refusal::new(Code::Disclosure, "rows chosen by ORDER BY … LIMIT cannot be joined").advice("remove the LIMIT"));
        }
        if join.join_constraint == JoinConstraint::Using && matches!(join.join_type, JoinType::Right | JoinType::Full) {
            return refuse(
                Refusal::new(Code::Invalid, "USING and NATURAL under RIGHT and FULL joins return the left key only")
                    .advice("write ON a.subject = b.subject and, for the key, coalesce(a.subject, b.subject)"),
            );
        }
        if let Some(twice) = left.datasets.intersection(&right.datasets).next() {
            return refuse(
                Refusal::new(
                    Code::Disclosure,
                    format!("the dataset '{twice}' cannot be joined with itself: chosen people's rows would count several times"),
                )
                .advice("read it once, and use WHERE, FILTER (WHERE …) or subject IN (SELECT …)"),
            );
        }
        let sides: Vec<Visible> = left.visible.iter().chain(&right.visible).cloned().collect();
        let mut conditions: Vec<Expr> = join.on.iter().map(|(l, r)| l.clone().eq(r.clone())).collect();
        conditions.extend(join.filter.clone().map(split_conjunction_owned).unwrap_or_default());
        let mut tied = false;
        let mut kept = Vec::new();
        for condition in conditions {
            if let Some((l, r)) = subjects_compared(&condition, &left.visible, &right.visible) {
                self.linked(&l, &r)?;
                if join.null_equality == NullEquality::NullEqualsNull {
                    never_null(&l, &r, "INTERSECT, or EXCEPT,")?;
                }
                tied = true;
                kept.push(condition);
            } else {
                let mut read = Read::default();
                let condition = self.row_expression(condition, Place { visible: &sides, subqueries: false }, &mut read)?;
                listed_only(self.permit, &condition, &sides)?;
                kept.push(condition);
                outer_condition(join.join_type, &read, &left.visible, &right.visible)?;
                for (dataset, column) in read.columns {
                    self.uses.add(&dataset, &column, Use::Filter);
                }
            }
        }
        if !tied {
            return refuse(
                Refusal::new(Code::Disclosure, "datasets about subjects join on the pseudonym only")
                    .advice("write … JOIN b ON a.subject = b.subject"),
            );
        }
        self.joined_rows(&join, left, right, kept)
    }

    fn joined_rows(&mut self, join: &Join, left: Rows, right: Rows, conditions: Vec<Expr>) -> Result<Rows> {
        use JoinType::{Full, Inner, Left, LeftAnti, LeftSemi, Right, RightAnti, RightSemi};
        let kind = join.join_type;
        if !matches!(kind, Inner | Left | Right | Full | LeftSemi | LeftAnti | RightSemi | RightAnti) {
            return not_offered("", "this kind of join");
        }
        let nulled = |visible: Vec<Visible>, nulled: bool| {
            visible.into_iter().map(move |mut v| {
                if let Origin::Subject { nullable, .. } = &mut v.origin {
                    *nullable |= nulled;
                }
                v
            })
        };
        let Carried { label, present, linked } = carried(kind, &left, &right)?;
        let keep_left = !matches!(kind, RightSemi | RightAnti);
        let keep_right = !matches!(kind, LeftSemi | LeftAnti);
        let mut visible: Vec<Visible> = Vec::new();
        if keep_left {
            visible.extend(nulled(left.visible, matches!(kind, Right | Full)));
        }
        if keep_right {
            visible.extend(nulled(right.visible, matches!(kind, Left | Full)));
        }
        let on = conditions.into_iter().reduce(Expr::and);
        let joined = Join::try_new(
            Arc::new(left.plan),
            Arc::new(right.plan),
            vec![],
            on,
            kind,
            JoinConstraint::On,
            join.null_equality,
            join.null_aware,
        )?;
        let mut plan = LogicalPlan::Join(joined);
        let mut subject_of = if matches!(kind, Right | RightSemi | RightAnti) { right.subject_of.clone() } else { left.subject_of.clone() };
        let subject = match kind {
            Right | RightSemi | RightAnti => right.subject,
            Full => {
                subject_of.extend(right.subject_of.iter().cloned());
                let name = self.fresh(SUBJECT);
                let columns = plan.schema().columns().into_iter().map(Expr::Column);
                let own = coalesce(vec![Expr::Column(left.subject), Expr::Column(right.subject)]).alias(&name);
                plan = LogicalPlanBuilder::from(plan.clone()).project(columns.chain([own]))?.build()?;
                Column::new_unqualified(name)
            }
            _ => left.subject,
        };
        let compared = [(left.compared, keep_left), (right.compared, keep_right)];
        let compared = compared.into_iter().filter(|(_, kept)| *kept).flat_map(|(columns, _)| columns).collect();
        let datasets = left.datasets.into_iter().chain(right.datasets).collect();
        // Below the null-supplying side of an outer join a condition does not narrow the keys: its groups gain a null.
        let narrowed_by = match kind {
            Inner => left.narrowed_by.into_iter().chain(right.narrowed_by).collect(),
            Left | LeftSemi | LeftAnti => left.narrowed_by,
            Right | RightSemi | RightAnti => right.narrowed_by,
            _ => Vec::new(),
        };
        Ok(Rows { plan, subject, label, linked, present, subject_of, visible, compared, datasets, narrowed_by, limited: false })
    }
}

/// In an outer join a condition beside the pseudonyms may read the null-supplying side only: otherwise who fails it stands
/// in two rows, and counting rows against people would tell how many fail it.
fn outer_condition(kind: JoinType, read: &Read, left: &[Visible], right: &[Visible]) -> Result<()> {
    let only = |side: &[Visible]| read.named.iter().all(|c| find(side, c).is_some());
    let allowed = match kind {
        JoinType::Left => only(right),
        JoinType::Right => only(left),
        JoinType::Full => false,
        _ => true,
    };
    if allowed {
        return Ok(());
    }
    refuse(
        Refusal::new(
            Code::Disclosure,
            "the ON of an outer join takes, beside a.subject = b.subject, conditions on the side that may be missing only",
        )
        .advice("move the condition into WHERE, or into a subquery before the join; FULL joins take none"),
    )
}

/// The two pseudonyms that `condition` compares, one of each side.
fn subjects_compared(condition: &Expr, left: &[Visible], right: &[Visible]) -> Option<(Origin, Origin)> {
    let Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }) = condition else { return None };
    let (Expr::Column(a), Expr::Column(b)) = (a.as_ref(), b.as_ref()) else { return None };
    let pair = find(left, a).zip(find(right, b)).or_else(|| find(left, b).zip(find(right, a)))?;
    let subject = |v: &Visible| matches!(v.origin, Origin::Subject { .. });
    (subject(pair.0) && subject(pair.1)).then(|| (pair.0.origin.clone(), pair.1.origin.clone()))
}
