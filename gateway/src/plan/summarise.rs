//! Aggregates over subjects' rows, rewritten in two levels so that contributors are counted exactly while streams stay
//! sorted: first per group and subject, then per group.
//!
//! ```text
//! Protect min=10
//!   Projection keys, values, contributors per value
//!     Aggregate by keys:            sum(part) … , count(*) FILTER (subject contributes)
//!       Aggregate by keys, subject: part = sum(arg) FILTER (…), n = count(arg), hits = count(*) FILTER (condition)
//!         Projection keys, subject, arguments, conditions
//! ```
//! Of GROUPING SETS, ROLLUP and CUBE the totals are made between the two levels (`margins.rs`).
//!
//! The contributors of a value are the distinct subjects with a non-null argument for whom the aggregate's FILTER and, in
//! `CASE WHEN condition THEN …`, the condition hold, all in one and the same row. What would give one subject a weight of its
//! own inside an aggregate is refused: a computed argument, several WHENs, an ELSE other than 0 or NULL; and in `rewrite.rs`,
//! joins that multiply chosen subjects' rows. Rows that a dataset itself holds several of per subject do weigh: `Protect` looks at
//! how a value is spread over its contributors (`contributions.rs`). Where a full join lets a row be of either department, a value
//! counts as many contributors as the one of them that has the fewest: no department lifts a cell with subjects it made up.

use std::collections::BTreeSet;
use std::sync::Arc;

use concordat_policy::column::SUBJECT;
use concordat_policy::{Code, ColumnType, DatasetName, Disclosure, Refusal, Use};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, sum};
use datafusion::logical_expr::expr::{AggregateFunction, Case, Cast, TryCast};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr, ExprFunctionExt as _, Extension, LogicalPlan, LogicalPlanBuilder, cast, when};
use datafusion::prelude::{coalesce, lit};

use super::contributions::contributions;
use super::domain::key_domain;
use super::expression::{Place, Read, not_offered};
use super::listed::listed_only;
use super::margins::Sets;
use super::protect::{Kind, Protect, Rule, Value};
use super::rewrite::Rewriter;
use super::safe::{MAX_MASKED, bare};
use super::shape::{Origin, Present, Rows, Safe, Shape, SourceColumn, Visible, find, refuse};
use super::tally::{Counted, Part, Tally};

/// What an aggregate computes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Measure {
    Rows,
    Values,
    Subjects,
    Sum,
    Average,
}

/// One aggregate of the statement, taken apart.
struct Summary {
    measure: Measure,
    /// The argument; null where the row contributes nothing.
    argument: Expr,
    /// FILTER.
    filter: Option<Expr>,
    /// The condition of a CASE argument.
    condition: Option<Expr>,
    /// Whether it counts the subjects of the other identifier type, of rows that come through a link dataset.
    of_linked: bool,
    /// Whether a condition, or a join, chooses its contributors among the group's subjects.
    conditional: bool,
    /// The datasets whose rows contribute to it, of those of which a row may have none.
    of: BTreeSet<DatasetName>,
}

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
        let visible = columns.into_iter().zip(origins).map(|(column, origin)| Visible { column, origin }).collect();
        // Which of its rows had a row of the other datasets is not known any more.
        let present = if rows.present.iter().all(|present| present.column.is_none()) { rows.present } else { Vec::new() };
        Ok(Shape::Rows(Rows { plan, subject, visible, present, ..rows }))
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
                Expr::Literal(..) if !widened => {
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
        let minimum = self.permit.minimum_subjects(&rows.datasets);
        self.minimum = self.minimum.max(minimum);
        let domain = match sets {
            _ if summaries.is_empty() => None,
            Some(sets) => Some(sets.domain(self.permit, &keys, &rows, &aggregate.schema)?),
            None => key_domain(self.permit, &keys, &rows)?,
        };
        // Even beside a published domain a key can be null or unlisted.
        self.leaves_out |= !keys.is_empty();
        let linked = rows.linked.is_some();
        let disclosure = self.permit.disclosure(&rows.datasets);
        self.magnitudes |= summaries.iter().any(|summary| matches!(summary.measure, Measure::Sum | Measure::Average));
        let mut inner = self.by_subject(&keys, &summaries, rows)?;
        if let Some(sets) = sets {
            inner = sets.expanded(inner, linked)?;
        }
        let (outer, values) = self.by_key(aggregate, width, &summaries, inner, linked, &disclosure)?;
        let (mask, subjects) = (self.fresh("withheld"), outer.schema().fields().len().saturating_sub(1));
        let (sets, secret) = (sets.cloned(), self.secret.clone());
        let protect = Protect::try_new(outer, Rule { keys: width, sets, values, subjects, minimum, disclosure, secret, domain, mask })?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(protect) });
        Ok(Shape::Safe(Safe { plan, width: width + summaries.len(), masked: true }))
    }

    /// Takes one aggregate apart and notes the uses of its columns.
    fn summary(&mut self, expr: &Expr, rows: &Rows) -> Result<Summary> {
        let Expr::AggregateFunction(function) = expr else { return not_offered("", "this kind of aggregate") };
        let params = &function.params;
        let name = function.func.name();
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return not_offered("", "ORDER BY inside an aggregate");
        }
        let [argument] = params.args.as_slice() else { return not_offered("the aggregate", name) };
        let filter = params.filter.as_deref().map(|f| self.counted_condition(f.clone(), rows)).transpose()?;
        let measure = match (name, params.distinct) {
            ("count", true) => Measure::Subjects,
            ("count", false) if matches!(argument, Expr::Literal(v, _) if !v.is_null()) => Measure::Rows,
            ("count", false) => Measure::Values,
            ("sum", false) => Measure::Sum,
            ("avg", false) => Measure::Average,
            ("min" | "max" | "median" | "stddev" | "var", _) => {
                return refuse(
                    Refusal::new(Code::Disclosure, format!("{name} shows or nearly shows single subjects' values"))
                        .advice("use avg, or count with FILTER (WHERE …) over bands"),
                );
            }
            _ => return not_offered("the aggregate", &format!("{name}{}", if params.distinct { " DISTINCT" } else { "" })),
        };
        if measure == Measure::Rows {
            self.counted(rows);
            let (conditional, of) = (filter.is_some(), rows.uncertain(rows.subject_of.iter()));
            return Ok(Summary { measure, argument: lit(1i64), filter, condition: None, of_linked: false, conditional, of });
        }
        let (chosen, of) = self.contributing(argument, rows)?;
        let of_linked = self.label(argument, rows)?.is_some_and(|label| label != rows.label);
        let (argument, condition) = self.argument(argument, measure, rows)?;
        let conditional = chosen || filter.is_some() || condition.is_some();
        Ok(Summary { measure, argument, filter, condition, of_linked, conditional, of })
    }

    /// Whether an argument is there for those only who found a partner, and the datasets that it comes from.
    fn contributing(&mut self, argument: &Expr, rows: &Rows) -> Result<(bool, BTreeSet<DatasetName>)> {
        let origin = match stripped(argument) {
            Expr::Column(column) => find(&rows.visible, column).map(|visible| visible.origin.clone()),
            other => self.coalesced_subject(other, rows)?,
        };
        let datasets = |origin: &Origin| rows.uncertain(origin.sources().iter().map(|(dataset, _)| dataset));
        Ok(match origin {
            Some(origin @ Origin::Subject { nullable: true, .. }) => (true, datasets(&origin)),
            Some(origin) => (false, datasets(&origin)),
            // A literal under a condition counts whatever row it meets.
            None => (false, rows.uncertain(rows.subject_of.iter())),
        })
    }

    /// The identifier type of an argument that is a pseudonym.
    fn label(&mut self, argument: &Expr, rows: &Rows) -> Result<Option<String>> {
        let origin = match argument {
            Expr::Column(column) => find(&rows.visible, column).map(|visible| visible.origin.clone()),
            other => self.coalesced_subject(other, rows)?,
        };
        Ok(if let Some(Origin::Subject { label, .. }) = origin { Some(label) } else { None })
    }

    /// The argument of an aggregate: a bare column, or `CASE WHEN condition THEN (column | literal) [ELSE 0 | NULL] END`.
    fn argument(&mut self, argument: &Expr, measure: Measure, rows: &Rows) -> Result<(Expr, Option<Expr>)> {
        match stripped(argument) {
            Expr::Column(column) => {
                let Some(visible) = find(&rows.visible, column) else { return computed_argument() };
                match (&visible.origin, measure) {
                    (Origin::Subject { .. }, Measure::Subjects | Measure::Values)
                    | (Origin::Source(_) | Origin::PerSubject { .. }, Measure::Values | Measure::Sum | Measure::Average) => {}
                    (_, Measure::Subjects) => {
                        return refuse(
                            Refusal::new(Code::Disclosure, "count(DISTINCT …) counts subjects only")
                                .advice("write count(DISTINCT a.subject)"),
                        );
                    }
                    _ => return computed_argument(),
                }
                for (dataset, column) in visible.origin.sources() {
                    self.uses.add(&dataset, &column, Use::Aggregate);
                }
                Ok((soft(argument.clone()), None))
            }
            Expr::ScalarFunction(_) if matches!(measure, Measure::Subjects | Measure::Values) => {
                let Some(origin) = self.coalesced_subject(argument, rows)? else { return computed_argument() };
                for (dataset, column) in origin.sources() {
                    self.uses.add(&dataset, &column, Use::Aggregate);
                }
                Ok((argument.clone(), None))
            }
            Expr::Case(case) if measure != Measure::Subjects => self.conditional(argument, case, rows),
            _ => computed_argument(),
        }
    }

    fn conditional(&mut self, argument: &Expr, case: &Case, rows: &Rows) -> Result<(Expr, Option<Expr>)> {
        let ([(condition, value)], None) = (case.when_then_expr.as_slice(), &case.expr) else { return computed_argument() };
        if !case.else_expr.as_deref().is_none_or(|e| matches!(stripped(e), Expr::Literal(v, _) if is_zero_or_null(v))) {
            return computed_argument();
        }
        match stripped(value) {
            Expr::Literal(..) => self.counted(rows),
            Expr::Column(column) => match find(&rows.visible, column).map(|v| &v.origin) {
                Some(Origin::Source((dataset, column))) => self.uses.add(dataset, column, Use::Aggregate),
                _ => return computed_argument(),
            },
            _ => return computed_argument(),
        }
        let condition = self.counted_condition(condition.as_ref().clone(), rows)?;
        let mut rebuilt = case.clone();
        rebuilt.when_then_expr = vec![(Box::new(condition.clone()), Box::new(soft(value.as_ref().clone())))];
        // The casts that type coercion put around the CASE stay; those inside were made soft above.
        let rebuilt = replace_stripped(argument, Expr::Case(rebuilt));
        Ok((soft(rebuilt), Some(condition)))
    }

    /// A condition inside an aggregate: it decides who counts, so its columns need the use `filter`.
    fn counted_condition(&mut self, condition: Expr, rows: &Rows) -> Result<Expr> {
        let mut read = Read::default();
        let condition = self.row_expression(condition, Place { visible: &rows.visible, subqueries: false }, &mut read)?;
        listed_only(self.permit, &condition, &rows.visible)?;
        for (dataset, column) in read.columns {
            self.uses.add(&dataset, &column, Use::Filter);
        }
        Ok(condition)
    }

    /// The inner level. Columns of the result: `k0 … `, `s`, through a link dataset `o` (the subject of the other identifier type, or
    /// the row's own where it has none), then per summary `p` (partial), `n` (values), `h` (condition hits).
    fn by_subject(&mut self, keys: &[(Expr, Origin)], summaries: &[Summary], rows: Rows) -> Result<LogicalPlan> {
        let mut projected: Vec<Expr> = keys.iter().enumerate().map(|(i, (key, _))| bare(key).clone().alias(format!("__k{i}"))).collect();
        projected.push(Expr::Column(rows.subject.clone()).alias("__s"));
        let other = rows.linked.as_ref().map(|linked| {
            projected.push(coalesce(vec![Expr::Column(linked.column.clone()), Expr::Column(rows.subject.clone())]).alias("__o"));
            named("__o")
        });
        for (i, summary) in summaries.iter().enumerate() {
            projected.push(summary.argument.clone().alias(format!("__a{i}")));
            let filter = summary.filter.clone().unwrap_or_else(|| lit(true));
            projected.push(decided(filter.clone())?.alias(format!("__f{i}")));
            // A hit is decided row by row: the condition and the value must hold together, in one row.
            let hit = summary.condition.clone().map_or(filter.clone(), |c| filter.and(c).and(summary.argument.clone().is_not_null()));
            projected.push(decided(hit)?.alias(format!("__c{i}")));
        }
        let parts = joined_parts(&rows, &mut projected);
        let suppliers = suppliers(&parts, summaries)?;
        let through = other.as_ref().map(|_| "__o");
        let groups: Vec<Expr> = (0..keys.len()).map(|i| named(&format!("__k{i}"))).chain([named("__s")]).chain(other).collect();
        let mut partials = Vec::new();
        for (i, summary) in summaries.iter().enumerate() {
            let (argument, filter, hit) = (named(&format!("__a{i}")), named(&format!("__f{i}")), named(&format!("__c{i}")));
            let plain = summary.filter.is_none();
            let counted = if plain { count(argument.clone()) } else { count(argument.clone()).filter(filter.clone()).build()? };
            if matches!(summary.measure, Measure::Sum | Measure::Average) {
                let added = if plain { sum(argument) } else { sum(argument).filter(filter).build()? };
                partials.push(added.alias(format!("__p{i}")));
            }
            partials.push(counted.alias(format!("__n{i}")));
            if summary.condition.is_some() {
                partials.push(count(lit(1i64)).filter(hit).build()?.alias(format!("__h{i}")));
            }
        }
        for (dataset, column) in suppliers {
            partials.push(count(named(&column)).alias(present_name(&dataset)));
        }
        let mut plan = LogicalPlanBuilder::from(rows.plan).project(projected)?.build()?;
        if parts.len() > 1 {
            let tally = Arc::new(Tally::new("__s", through, parts));
            self.tallies.push(tally.clone());
            plan = LogicalPlan::Extension(Extension { node: Arc::new(Counted::new(plan, tally)) });
        }
        LogicalPlanBuilder::from(plan).aggregate(groups, partials)?.build()
    }

    /// The outer level: keys and values under the statement's own names, then what stands behind each value, the group's subjects
    /// last; and where each of it stands. Through a link dataset the contributors of a value are those of the identifier type that
    /// has fewer.
    fn by_key(
        &mut self,
        aggregate: &Aggregate,
        keys: usize,
        summaries: &[Summary],
        inner: LogicalPlan,
        linked: bool,
        rules: &Disclosure,
    ) -> Result<(LogicalPlan, Vec<Value>)> {
        let groups: Vec<Expr> = (0..keys).map(|i| named(&format!("__k{i}"))).collect();
        // Of bytes of any length, which DataFusion counts in less memory than those of a fixed one.
        let distinct = |name: &str| count_distinct(cast(named(name), DataType::Binary));
        // DISTINCT is said again beside the FILTER: DataFusion's builder forgets that of the expression that it begins with.
        let distinct_where = |name: &str, condition: Expr| distinct(name).filter(condition).distinct().build();
        let subjects = if linked { distinct("__s") } else { count(lit(1i64)) };
        let mut totals = vec![subjects.alias("__subjects")];
        totals.extend(linked.then(|| distinct("__o").alias("__others")));
        let looked_at = Rule::looks_at_contributions(rules);
        let (mut projected, mut behind, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (relation, field)) in aggregate.schema.iter().enumerate().take(keys) {
            let key = cast_if_needed(named(&format!("__k{i}")), field.data_type(), false);
            projected.push(key.alias_qualified(relation.cloned(), field.name()));
        }
        let mut place = keys + summaries.len();
        // Adds a column of what stands behind a value, and says where.
        let mut put = |expr: Expr| {
            behind.push(expr);
            place += 1;
            place - 1
        };
        for (i, (summary, (relation, field))) in summaries.iter().zip(aggregate.schema.iter().skip(keys)).enumerate() {
            let (n, h) = (named(&format!("__n{i}")), named(&format!("__h{i}")));
            let contributes = if summary.condition.is_some() { h } else { n.clone() }.gt(lit(0i64));
            let magnitude = matches!(summary.measure, Measure::Sum | Measure::Average);
            if magnitude {
                totals.push(sum(named(&format!("__p{i}"))).alias(format!("__tp{i}")));
            }
            totals.push(sum(n.clone()).alias(format!("__tn{i}")));
            let own = format!("__tc{i}");
            let mut fewest = named(&own);
            if linked {
                totals.push(distinct_where("__s", contributes.clone())?.alias(&own));
                totals.push(distinct_where("__o", contributes.clone())?.alias(format!("__to{i}")));
                fewest = fewer(fewest, named(&format!("__to{i}")))?;
            } else {
                totals.push(count(lit(1i64)).filter(contributes.clone()).build()?.alias(&own));
            }
            for dataset in summary.of.iter().filter(|_| summary.of.len() > 1) {
                let name = format!("__td{i}_{}", present_name(dataset));
                let there = contributes.clone().and(named(&present_name(dataset)).gt(lit(0i64)));
                totals.push(count(lit(1i64)).filter(there).build()?.alias(&name));
                fewest = fewer(fewest, named(&name))?;
            }
            let value = match summary.measure {
                Measure::Subjects if summary.of_linked => named(&format!("__to{i}")),
                Measure::Subjects => named(&own),
                Measure::Sum => named(&format!("__tp{i}")),
                Measure::Average => {
                    cast(named(&format!("__tp{i}")), DataType::Float64) / cast(named(&format!("__tn{i}")), DataType::Float64)
                }
                Measure::Rows | Measure::Values => coalesce(vec![named(&format!("__tn{i}")), lit(0i64)]),
            };
            projected.push(cast_if_needed(value, field.data_type(), true).alias_qualified(relation.cloned(), field.name()));
            let contributors = put(fewest.alias(format!("__b{i}")));
            let number = (summary.measure == Measure::Average).then(|| put(named(&format!("__tn{i}"))));
            let mut contributed = Vec::new();
            if looked_at {
                let one = match summary.measure {
                    Measure::Subjects => lit(1f64),
                    Measure::Rows | Measure::Values => cast(n, DataType::Float64),
                    Measure::Sum | Measure::Average => cast(named(&format!("__p{i}")), DataType::Float64),
                };
                // A pair of subjects is one row of the inner level; of each kind a subject may stand in several.
                let ways: &[(&str, bool)] = match (linked, summary.measure) {
                    (false, _) => &[("__s", false)],
                    (true, Measure::Subjects) if summary.of_linked => &[("__o", true)],
                    (true, Measure::Subjects) => &[("__s", true)],
                    (true, _) => &[("__s", true), ("__o", true)],
                };
                for (subject, several) in ways {
                    let name = format!("__x{i}{subject}");
                    let secret = rules.perturbation.is_some().then(|| self.secret.clone());
                    let found = contributions(one.clone(), named(subject), contributes.clone(), secret, *several)?;
                    totals.push(found.alias(&name));
                    contributed.push(put(named(&name)));
                }
            }
            let kind = match summary.measure {
                Measure::Rows | Measure::Values | Measure::Subjects => Kind::Count,
                Measure::Sum => Kind::Sum,
                Measure::Average => Kind::Mean,
            };
            values.push(Value { kind, column: keys + i, contributors, conditional: summary.conditional, contributed, number });
        }
        behind.push(if linked { fewer(named("__subjects"), named("__others"))?.alias("__subjects") } else { named("__subjects") });
        let outer = LogicalPlanBuilder::from(inner).aggregate(groups, totals)?;
        Ok((outer.project(projected.into_iter().chain(behind))?.build()?, values))
    }
}

/// Of values to which rows of several departments contribute, the columns that say whose a row is.
fn suppliers(parts: &[Part], summaries: &[Summary]) -> Result<Vec<(DatasetName, String)>> {
    let needed: BTreeSet<&DatasetName> = summaries.iter().map(|summary| &summary.of).filter(|of| of.len() > 1).flatten().collect();
    let column = |dataset: &DatasetName| parts.iter().find(|part| part.dataset == *dataset)?.column.clone();
    let found: Vec<_> = needed.iter().filter_map(|dataset| Some(((*dataset).clone(), column(dataset)?))).collect();
    if found.len() == needed.len() {
        return Ok(found);
    }
    refuse(
        Refusal::new(
            Code::Disclosure,
            "rows that may be of either department, as a full join makes them, are counted for each; after GROUP BY a subject it is not \
             known any more whose they are",
        )
        .advice("summarise the joined rows directly"),
    )
}

/// The column of the inner level that says how many of a subject's rows have one of `dataset`.
fn present_name(dataset: &DatasetName) -> String {
    format!("__d_{}_{}", dataset.department, dataset.dataset)
}

/// The datasets of a statement's joins for [`Tally`], and the pseudonyms that it reads beside the row's own.
fn joined_parts(rows: &Rows, projected: &mut Vec<Expr>) -> Vec<Part> {
    if rows.present.len() < 2 {
        return Vec::new();
    }
    let part = |(i, present): (usize, &Present)| {
        let column = present.column.as_ref().map(|column| {
            let name = format!("__w{i}");
            projected.push(Expr::Column(column.clone()).alias(&name));
            name
        });
        Part { dataset: present.dataset.clone(), column, apart: present.label != rows.label }
    };
    rows.present.iter().enumerate().map(part).collect()
}

/// The smaller of two counts.
fn fewer(one: Expr, other: Expr) -> Result<Expr> {
    when(other.clone().lt(one.clone()), other).otherwise(one)
}

/// True or false, never unknown.
fn decided(condition: Expr) -> Result<Expr> {
    when(condition, lit(true)).otherwise(lit(false))
}

fn cast_if_needed(expr: Expr, to: &DataType, value: bool) -> Expr {
    if value { cast(expr, to.clone()) } else { expr }
}

fn named(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// The expression below casts and aliases.
fn stripped(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => stripped(&alias.expr),
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => stripped(expr),
        other => other,
    }
}

/// `expr` with what [`stripped`] finds replaced.
fn replace_stripped(expr: &Expr, with: Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => replace_stripped(&alias.expr, with),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            Expr::TryCast(TryCast { expr: Box::new(replace_stripped(expr, with)), field: field.clone() })
        }
        _ => with,
    }
}

/// Casts that give null instead of an error, down to the first node that is no cast.
fn soft(expr: Expr) -> Expr {
    let inner = stripped(&expr).clone();
    replace_stripped(&expr, inner)
}

fn is_zero_or_null(value: &ScalarValue) -> bool {
    value.is_null() || matches!(value, ScalarValue::Int64(Some(0))) || matches!(value, ScalarValue::Float64(Some(v)) if *v == 0.0)
}

fn computed_argument<T>() -> Result<T> {
    refuse(
        Refusal::new(
            Code::Disclosure,
            "an aggregate over subjects takes a column, or CASE WHEN condition THEN (column or literal) [ELSE 0] END",
        )
        .advice("compute with the protected results instead: sum(a) / sum(b) rather than sum(a / b)"),
    )
}
