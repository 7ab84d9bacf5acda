//! Aggregates over subjects' rows. Those that group by the subject stay rows about subjects; of the others each aggregate is taken apart
//! (`summary.rs`), computed in two levels (`levels.rs`, `outer.rs`), and `Protect` stands directly above.
//!
//! Joins that multiply chosen subjects' rows, and so give them a weight of their own, are refused in `rewrite/join.rs`.

mod absent;
mod levels;
mod outer;
mod summary;
mod together;

use std::collections::BTreeSet;
use std::sync::Arc;

use concordat_policy::column::SUBJECT;
use concordat_policy::disclosure::{Margins, Telling};
use concordat_policy::{Code, ColumnType, Refusal, Use};
use concordat_protect::margins::MOST_KEYS;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::expr::{AggregateFunction, Cast};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr, Extension, LogicalPlan, LogicalPlanBuilder};

use self::outer::{Outer, Protected};
use self::summary::{Summary, computed_argument};
pub(super) use self::together::MET;
use self::together::{compared, rows_meet};
use super::domain::key_domain;
use super::expression::not_offered;
use super::margins::Sets;
use super::protect::{Protect, Rule};
use super::rewrite::Rewriter;
use super::rows_out::still_there;
use super::safe::{MAX_MASKED, bare};
use super::shape::{Origin, Rows, Safe, Shape, SourceColumn, Visible, find, refuse};

impl Rewriter<'_> {
    pub(super) fn aggregate(&mut self, aggregate: Aggregate, input: Shape) -> Result<Shape> {
        match input {
            Shape::Safe(safe) => self.aggregate_safe(aggregate, safe),
            Shape::Rows(rows) if rows.limited => refuse(
                Refusal::new(Code::Disclosure, "rows chosen by ORDER BY … LIMIT cannot be summarised: the limit could choose one person")
                    .advice("remove the LIMIT of the subquery"),
            ),
            Shape::Rows(rows) => {
                let mut keys = Vec::new();
                let sets = Sets::of(&aggregate)?;
                for expr in grouping_set_to_exprlist(&aggregate.group_expr)? {
                    keys.push(self.row_value(expr.clone(), &rows)?);
                }
                if keys.iter().any(|(_, origin)| matches!(origin, Origin::Subject { .. })) {
                    if sets.is_some() {
                        return refuse(
                            Refusal::new(Code::Disclosure, "a pseudonym cannot be a key in GROUPING SETS, ROLLUP or CUBE")
                                .advice("GROUP BY the pseudonym in a subquery, and make the totals of what comes of it"),
                        );
                    }
                    self.per_subject(aggregate, keys, rows)
                } else {
                    self.protected(&aggregate, keys, sets.as_ref(), rows)
                }
            }
        }
    }

    /// DISTINCT: groups without measures.
    pub(super) fn distinct(&mut self, input: Shape) -> Result<Shape> {
        match input {
            Shape::Safe(safe) => {
                let plan = LogicalPlanBuilder::from(safe.plan).distinct()?.build()?;
                Ok(Shape::Safe(Safe { plan, ..safe }))
            }
            Shape::Rows(rows) => {
                let keys: Vec<Expr> = rows.visible.iter().map(|v| Expr::Column(v.column.clone())).collect();
                let visible = self.visible_plan(&rows)?;
                let aggregate = Aggregate::try_new(Arc::new(visible), keys, vec![])?;
                self.aggregate(aggregate, Shape::Rows(rows))
            }
        }
    }

    /// A plan with the visible columns, for the schema of a DISTINCT.
    fn visible_plan(&mut self, rows: &Rows) -> Result<LogicalPlan> {
        LogicalPlanBuilder::from(rows.plan.clone()).project(rows.visible.iter().map(|v| Expr::Column(v.column.clone())))?.build()
    }

    /// GROUP BY that includes the subject: still rows about subjects.
    fn per_subject(&mut self, aggregate: Aggregate, keys: Vec<(Expr, Origin)>, rows: Rows) -> Result<Shape> {
        rows.unlinked("GROUP BY a pseudonym")?;
        let mut subject = None;
        for (position, (_, origin)) in keys.iter().enumerate() {
            self.note_key(origin)?;
            if let Origin::Subject { nullable, .. } = origin {
                if *nullable {
                    return refuse(
                        Refusal::new(
                            Code::Disclosure,
                            "grouping by a pseudonym that an outer join can leave null would put several subjects into one group",
                        )
                        .advice("group by the preserved side's pseudonym, or by coalesce(a.subject, b.subject)"),
                    );
                }
                subject = Some(position);
            }
        }
        let mut origins: Vec<Origin> = keys.iter().map(|(_, origin)| origin.clone()).collect();
        for expr in &aggregate.aggr_expr {
            let Expr::AggregateFunction(function) = bare(expr) else { return not_offered("", "this kind of aggregate") };
            origins.push(self.per_subject_measure(function, &rows)?);
        }
        let plan = LogicalPlanBuilder::from(rows.plan).aggregate(keys.into_iter().map(|(e, _)| e), aggregate.aggr_expr)?.build()?;
        let columns = plan.schema().columns();
        let subject = subject.and_then(|position| columns.get(position).cloned());
        let Some(subject) = subject else { return refuse(Refusal::internal("a group by subject without subject")) };
        let visible: Vec<Visible> = columns.into_iter().zip(origins).map(|(column, origin)| Visible { column, origin }).collect();
        // Which of its rows had a row of the other datasets is not known any more.
        let present = if rows.present.iter().all(|present| present.column.is_none()) { rows.present } else { Vec::new() };
        let compared = still_there(rows.compared, &visible);
        Ok(Shape::Rows(Rows { plan, subject, visible, present, compared, ..rows }))
    }

    fn per_subject_measure(&mut self, function: &AggregateFunction, rows: &Rows) -> Result<Origin> {
        let params = &function.params;
        if !matches!(function.func.name(), "count" | "sum" | "avg" | "min" | "max") || params.distinct || !params.order_by.is_empty() {
            return not_offered("per subject, the aggregate", function.func.name());
        }
        if params.filter.is_some() {
            return not_offered("", "FILTER inside a group by subject");
        }
        let (mut columns, mut present) = (BTreeSet::new(), BTreeSet::new());
        for argument in &params.args {
            // The one cast that cannot fail, and that `avg` of whole numbers needs: a number to Float64.
            let (bare, widened) = match argument {
                Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Float64 => (expr.as_ref(), true),
                other => (other, false),
            };
            match bare {
                // Of another function it would be a weight of the statement's own choice.
                Expr::Literal(..) if !widened && function.func.name() == "count" => {
                    self.counted(rows);
                    present.extend(rows.datasets.iter().cloned());
                }
                Expr::Column(column) => match find(&rows.visible, column).map(|v| v.origin.clone()) {
                    Some(Origin::Source(source)) if !widened || self.is_number(&source) => columns.extend([source]),
                    Some(origin @ Origin::Subject { .. }) if !widened => columns.extend(origin.sources()),
                    _ => return computed_argument(),
                },
                _ => return computed_argument(),
            }
        }
        for (dataset, column) in &columns {
            self.uses.add(dataset, column, Use::Aggregate);
        }
        Ok(Origin::PerSubject { columns, present })
    }

    /// Rows are counted without a column of theirs: that counts subjects.
    fn counted(&mut self, rows: &Rows) {
        for dataset in &rows.subject_of {
            self.uses.add(dataset, SUBJECT, Use::Aggregate);
        }
    }

    fn is_number(&self, (dataset, column): &SourceColumn) -> bool {
        let rule = self.permit.dataset(dataset).and_then(|p| p.dataset.columns.get(column));
        rule.is_some_and(|rule| matches!(rule.kind, ColumnType::Integer | ColumnType::Number))
    }

    fn note_key(&mut self, origin: &Origin) -> Result<()> {
        if matches!(origin, Origin::PerSubject { .. }) {
            return refuse(
                Refusal::new(Code::Disclosure, "a number computed per subject cannot be a group's key: it has no published list of values")
                    .advice("summarise it instead, for example avg(…)"),
            );
        }
        for (dataset, column) in origin.sources() {
            self.uses.add(&dataset, &column, Use::GroupBy);
        }
        Ok(())
    }

    /// GROUP BY without the subject: two levels and `Protect`.
    fn protected(&mut self, aggregate: &Aggregate, keys: Vec<(Expr, Origin)>, sets: Option<&Sets>, rows: Rows) -> Result<Shape> {
        for (_, origin) in &keys {
            self.note_key(origin)?;
        }
        if aggregate.aggr_expr.is_empty() && keys.iter().all(|(_, origin)| origin.sources().is_empty()) {
            // It tells whether there are enough people.
            self.counted(&rows);
        }
        let mut summaries = Vec::new();
        for expr in &aggregate.aggr_expr {
            summaries.push(self.summary(bare(expr), &rows)?);
        }
        // The number of a row's grouping set is one more key.
        let width = keys.len() + usize::from(sets.is_some());
        if width + summaries.len() > MAX_MASKED {
            return refuse(
                Refusal::new(Code::LimitExceeded, format!("a summary may have at most {MAX_MASKED} columns")).advice("ask for fewer"),
            );
        }
        let computed = keys.iter().filter(|(_, origin)| matches!(origin, Origin::Derived { .. })).map(|(key, _)| key);
        self.conditions.add(&aggregate.input, summaries.iter().flat_map(Summary::chosen), computed)?;
        let minimum = self.permit.minimum_subjects(&self.read);
        self.minimum = self.minimum.max(minimum);
        let domain = match sets {
            _ if summaries.is_empty() => None,
            Some(sets) => Some(sets.domain(self.permit, &keys, &rows, &aggregate.schema)?),
            None => key_domain(self.permit, &keys, &rows)?,
        };
        // Even beside a published domain a key can be null or unlisted.
        self.leaves_out |= !keys.is_empty();
        let linked = rows.linked.is_some();
        let disclosure = self.permit.disclosure(&self.read);
        if disclosure.margins == Margins::Protected && keys.len() > MOST_KEYS {
            return refuse(
                Refusal::new(Code::LimitExceeded, format!("values over more than {MOST_KEYS} keys cannot be protected against totals"))
                    .advice("group by fewer columns; the agreement's rule 'margins' asks for it"),
            );
        }
        // Through a link dataset numbers of subjects are judged as sums are.
        self.magnitudes |= linked || summaries.iter().any(Summary::magnitude);
        if disclosure.complement == Telling::Shown {
            summaries.iter_mut().for_each(|summary| summary.lefts.clear());
        }
        let key_of: BTreeSet<_> = keys.iter().flat_map(|(_, origin)| origin.shown()).map(|(dataset, _)| dataset).collect();
        let key_of = rows.of_either(key_of.iter());
        let met = rows_meet(&compared(&summaries, &disclosure))?;
        let mut inner = self.by_subject(&keys, &summaries, &key_of, met, rows)?;
        if let Some(sets) = sets {
            inner = sets.expanded(inner, linked)?;
        }
        let outer = Outer::new(linked, &disclosure, &self.secret).over(inner, aggregate, width, &summaries, &key_of)?;
        let Protected { plan, values, known, kinds } = outer;
        let (mask, subjects) = (self.fresh("withheld"), plan.schema().fields().len().saturating_sub(1));
        let (sets, secret) = (sets.cloned(), self.secret.clone());
        let rule = Rule { keys: width, sets, values, subjects, known, kinds, minimum, disclosure, secret, domain, mask };
        let protect = Protect::try_new(plan, rule)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(protect) });
        Ok(Shape::Safe(Safe { plan, width: width + summaries.len(), masked: true }))
    }
}
