//! One aggregate over subjects' rows, taken apart: what it computes, of whom, under which conditions.
//!
//! The contributors of a value are the distinct subjects with a non-null argument for whom the aggregate's FILTER and, in
//! `CASE WHEN condition THEN …`, the condition hold, all in one and the same row. What would give one subject a weight of its
//! own inside an aggregate is refused: a computed argument, several WHENs, an ELSE other than 0 or NULL.
//!
//! What a condition leaves over is said row by row: a subject may have rows that it chose and others that it did not. A CASE under a
//! FILTER leaves over two things, of the group and of those whom the FILTER chose: a statement can ask for the whole of either. So does a
//! FILTER of an argument that those alone have who found a partner, and that of those who have it.

use std::collections::BTreeSet;

use concordat_policy::{Code, ColumnType, DatasetName, Refusal, Use};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ExprSchema as _, Result, ScalarValue};
use datafusion::logical_expr::expr::{Case, Cast, TryCast};
use datafusion::logical_expr::{Expr, when};
use datafusion::prelude::lit;

use super::super::expression::{Place, Read, not_offered};
use super::super::listed::listed_only;
use super::super::protect::Condition;
use super::super::rewrite::Rewriter;
use super::super::shape::{Origin, Rows, find, refuse};
use super::absent::holds_only_there;

/// What an aggregate computes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Rows,
    Values,
    Subjects,
    Sum,
    Average,
}

/// One aggregate of the statement, taken apart.
pub(super) struct Summary {
    pub(super) measure: Measure,
    /// The argument; null where the row contributes nothing.
    pub(super) argument: Expr,
    /// FILTER.
    pub(super) filter: Option<Expr>,
    /// The condition of a CASE argument.
    pub(super) condition: Option<Expr>,
    /// Whether it counts the subjects of the other identifier type, of rows that come through a link dataset.
    pub(super) of_linked: bool,
    /// Where a condition, or a join, chooses its contributors: what it leaves over.
    pub(super) lefts: Vec<Left>,
    /// Where rows may be of either department, as a full join makes them: the datasets whose subjects alone could fill up what is left
    /// over.
    pub(super) fills: BTreeSet<DatasetName>,
    /// The datasets whose rows contribute to it, of those of which a row may have none.
    pub(super) of: BTreeSet<DatasetName>,
    /// Whether it adds up whole numbers, whatever they are cast to.
    pub(super) whole: bool,
    /// By what it chooses among rows: its conditions, whether they have a partner and, of a number of values, whether they have one.
    pub(super) chooses: Option<Condition>,
}

/// What a condition leaves over.
pub(super) struct Left {
    /// Not null in the rows that it chooses among.
    pub(super) could: Expr,
    /// The value of those of them that it does not choose, null in others.
    pub(super) left: Expr,
    pub(super) of: Of,
}

/// Of what something is left over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Of the value, and of the number of values.
    Both,
    /// The value alone: with ELSE 0 a mean counts those too whom its CASE does not choose.
    Value,
    /// The number of values alone.
    Number,
}

/// A condition inside an aggregate, and the datasets that it reads.
struct Chosen {
    expr: Expr,
    of: BTreeSet<DatasetName>,
}

impl Summary {
    /// Whether it is a sum or a mean.
    pub(super) fn magnitude(&self) -> bool {
        matches!(self.measure, Measure::Sum | Measure::Average)
    }

    /// Who is chosen by its conditions, from the one that chooses among all on.
    pub(super) fn chosen(&self) -> impl Iterator<Item = Expr> {
        let both = self.filter.clone().zip(self.condition.clone()).map(|(filter, condition)| filter.and(condition));
        let one = self.filter.clone().or_else(|| self.condition.clone());
        one.into_iter().chain(both)
    }
}

impl Rewriter<'_> {
    /// Takes one aggregate apart and notes the uses of its columns.
    pub(super) fn summary(&mut self, expr: &Expr, rows: &Rows) -> Result<Summary> {
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
            let of = rows.uncertain(rows.subject_of.iter());
            let fills = fills(rows, &of, filter.iter());
            let filter = filter.map(|filter| filter.expr);
            let lefts = filter.iter().map(|filter| left(lit(1i64), filter.clone(), Of::Both)).collect::<Result<_>>()?;
            let (argument, condition, of_linked, whole) = (lit(1i64), None, false, true);
            let chooses = Condition::new(filter.iter(), given(filter.iter(), None, &of, rows));
            return Ok(Summary { measure, argument, filter, condition, of_linked, lefts, fills, of, whole, chooses });
        }
        let (chosen, of) = self.contributing(argument, rows)?;
        let of_linked = self.label(argument, rows)?.is_some_and(|label| label != rows.label);
        let told = chosen && matches!(measure, Measure::Subjects | Measure::Values);
        let (value, counts_all) = (conditional_value(argument).map(|value| soft(value.clone())), has_else(argument));
        let whole = !matches!(measure, Measure::Sum | Measure::Average) || whole(argument, rows);
        let there = value_there(argument, rows);
        let (argument, condition) = self.argument(argument, measure, rows)?;
        let fills = fills(rows, &of, filter.iter().chain(&condition));
        let (filter, condition) = (filter.map(|filter| filter.expr), condition.map(|condition| condition.expr));
        let lefts = match (value, &filter, &condition) {
            (Some(value), None, Some(condition)) => {
                let of = if counts_all { Of::Value } else { Of::Both };
                vec![left(value, condition.clone(), of)?]
            }
            (Some(value), Some(filter), Some(condition)) => {
                let of = if counts_all { Of::Value } else { Of::Both };
                let within = when(filter.clone(), value.clone()).end()?;
                let mut lefts = vec![left(value, filter.clone().and(condition.clone()), of)?, left(within, condition.clone(), of)?];
                if counts_all && measure == Measure::Average {
                    lefts.push(left(argument.clone(), filter.clone(), Of::Number)?);
                }
                lefts
            }
            _ if told => {
                let there = argument.clone().is_not_null();
                let mut lefts = vec![left(lit(1i64), filter.iter().cloned().fold(there.clone(), Expr::and), Of::Both)?];
                if let Some(filter) = &filter {
                    lefts.push(left(argument.clone(), filter.clone(), Of::Both)?);
                    // Whom it chooses of those who have none: nobody, where it reads what these lack.
                    if !holds_only_there(filter, &|column| rows.of_one(column, &of)) {
                        lefts.push(left(when(filter.clone(), lit(1i64)).end()?, there, Of::Both)?);
                    }
                }
                lefts
            }
            _ => filter.iter().map(|filter| left(argument.clone(), filter.clone(), Of::Both)).collect::<Result<_>>()?,
        };
        let partner = told.then(|| partner(&of, rows).unwrap_or_else(|| argument.clone().is_not_null()));
        let parts: Vec<&Expr> = filter.iter().chain(&condition).chain(&partner).collect();
        let given = given(parts.iter().copied(), there.clone(), &of, rows);
        let plain = || there.filter(|_| measure == Measure::Values).map(Condition::plain);
        let chooses = Condition::new(parts.into_iter(), given).or_else(plain);
        Ok(Summary { measure, argument, filter, condition, of_linked, lefts, fills, of, whole, chooses })
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
            Some(origin @ Origin::Subject { .. }) => (false, datasets(&origin)),
            Some(origin) => {
                let of: BTreeSet<DatasetName> = origin.sources().into_iter().map(|(dataset, _)| dataset).collect();
                (!of.is_empty() && of.iter().all(|dataset| rows.may_lack(dataset)), datasets(&origin))
            }
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

    /// The argument of an aggregate: a bare column, or `CASE WHEN condition THEN (column | 1 | 100) [ELSE 0 | NULL] END`.
    fn argument(&mut self, argument: &Expr, measure: Measure, rows: &Rows) -> Result<(Expr, Option<Chosen>)> {
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
                if !cast_to(argument, &|to| self.keeps(&visible.origin, to)) {
                    self.unfit.get_or_insert_with(chooses);
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
            // With ELSE 0 it would count who does not meet the condition.
            Expr::Case(case) if measure == Measure::Values && case.else_expr.as_deref().is_some_and(|e| !is_null(e)) => computed_argument(),
            Expr::Case(case) if measure != Measure::Subjects => self.conditional(argument, case, rows),
            _ => computed_argument(),
        }
    }

    fn conditional(&mut self, argument: &Expr, case: &Case, rows: &Rows) -> Result<(Expr, Option<Chosen>)> {
        let ([(condition, value)], None) = (case.when_then_expr.as_slice(), &case.expr) else { return computed_argument() };
        if !case.else_expr.as_deref().is_none_or(|e| matches!(stripped(e), Expr::Literal(v, _) if is_zero_or_null(v))) {
            return computed_argument();
        }
        let number = |to: &DataType| matches!(to, DataType::Int64 | DataType::Float64);
        let kept = match stripped(value) {
            Expr::Literal(literal, _) => {
                self.counted(rows);
                if !is_null(value) && !WEIGHTS.iter().any(|weight| literal == weight) {
                    self.unfit.get_or_insert_with(weighs);
                }
                cast_to(value, &number) && cast_to(argument, &number)
            }
            Expr::Column(column) => match find(&rows.visible, column).map(|v| &v.origin) {
                Some(origin @ Origin::Source((dataset, column))) => {
                    self.uses.add(dataset, column, Use::Aggregate);
                    cast_to(value, &|to| self.keeps(origin, to)) && cast_to(argument, &|to| self.keeps(origin, to))
                }
                _ => return computed_argument(),
            },
            _ => return computed_argument(),
        };
        if !kept {
            self.unfit.get_or_insert_with(chooses);
        }
        let condition = self.counted_condition(condition.as_ref().clone(), rows)?;
        let mut rebuilt = case.clone();
        rebuilt.when_then_expr = vec![(Box::new(condition.expr.clone()), Box::new(soft(value.as_ref().clone())))];
        // The casts that type coercion put around the CASE stay; those inside were made soft above.
        let rebuilt = replace_stripped(argument, Expr::Case(rebuilt));
        Ok((soft(rebuilt), Some(condition)))
    }

    /// Whether a cast gives every value of a column: what gives null instead decides who counts, as a condition does.
    fn keeps(&self, origin: &Origin, to: &DataType) -> bool {
        let Origin::Source((dataset, column)) = origin else {
            return matches!(origin, Origin::PerSubject { .. }) && *to == DataType::Float64;
        };
        let rule = self.permit.dataset(dataset).and_then(|p| p.dataset.columns.get(column));
        rule.is_some_and(|rule| match rule.kind {
            ColumnType::Integer | ColumnType::Boolean => matches!(to, DataType::Int64 | DataType::Float64),
            ColumnType::Number => *to == DataType::Float64,
            ColumnType::Text => *to == DataType::Utf8,
            ColumnType::Date => *to == DataType::Date32,
        })
    }

    /// A condition inside an aggregate: it decides who counts, so its columns need the use `filter`.
    fn counted_condition(&mut self, condition: Expr, rows: &Rows) -> Result<Chosen> {
        let mut read = Read::default();
        let expr = self.row_expression(condition, Place { visible: &rows.visible, subqueries: false }, &mut read)?;
        listed_only(self.permit, &expr, &rows.visible)?;
        for (dataset, column) in &read.columns {
            self.uses.add(dataset, column, Use::Filter);
        }
        let mut of = read.present;
        of.extend(read.columns.into_iter().map(|(dataset, _)| dataset));
        Ok(Chosen { expr, of })
    }
}

/// That the column is there which an aggregate counts or adds up, where it can be null.
fn value_there(argument: &Expr, rows: &Rows) -> Option<Expr> {
    let value = stripped(conditional_value(argument).unwrap_or(argument));
    let Expr::Column(column) = value else { return None };
    let subject = find(&rows.visible, column).is_some_and(|v| matches!(v.origin, Origin::Subject { nullable: false, .. }));
    let never_null = subject || rows.plan.schema().field_from_column(column).is_ok_and(|field| !field.is_nullable());
    (!never_null).then(|| value.clone().is_not_null())
}

/// That a row has one of the dataset that values come from, if it is one of which rows may have none.
fn partner(of: &BTreeSet<DatasetName>, rows: &Rows) -> Option<Expr> {
    let dataset = of.first().filter(|_| of.len() == 1)?;
    let mut of_it = rows.present.iter().filter(|present| present.dataset == *dataset);
    // Joined with itself, it is not known whose row it is.
    let (Some(present), None) = (of_it.next(), of_it.next()) else { return None };
    present.column.clone().map(|column| Expr::Column(column).is_not_null())
}

/// What holds, whatever the data are, for rows that `parts` choose: that they have a value, and a row of each dataset without which they
/// would have none, or would not be chosen.
fn given<'a>(parts: impl Iterator<Item = &'a Expr> + Clone, there: Option<Expr>, of: &BTreeSet<DatasetName>, rows: &Rows) -> Vec<Expr> {
    let with = |dataset: &DatasetName| {
        let alone = BTreeSet::from([dataset.clone()]);
        let only_there = |part: &Expr| holds_only_there(part, &|column| rows.of_one(column, &alone));
        partner(&alone, rows).filter(|_| *of == alone || parts.clone().any(only_there))
    };
    rows.present.iter().filter_map(|present| with(&present.dataset)).chain(there).collect()
}

/// What is left over of `value` by a condition on its rows.
fn left(value: Expr, chosen: Expr, of: Of) -> Result<Left> {
    let left = when(chosen.is_not_true(), value.clone()).end()?;
    Ok(Left { could: value, left, of })
}

/// The datasets that contribute to a value or that its conditions read, of those whose subjects rows may be of without others'.
fn fills<'a>(rows: &Rows, of: &BTreeSet<DatasetName>, conditions: impl Iterator<Item = &'a Chosen>) -> BTreeSet<DatasetName> {
    let read: BTreeSet<DatasetName> = conditions.flat_map(|condition| condition.of.iter().cloned()).collect();
    rows.of_either(of.union(&read))
}

/// What a CASE may count each row as. Others would choose how its sum is rounded: several together tell the number exactly.
const WEIGHTS: &[ScalarValue] =
    &[ScalarValue::Int64(Some(1)), ScalarValue::Int64(Some(100)), ScalarValue::Float64(Some(1.0)), ScalarValue::Float64(Some(100.0))];

/// Whether what an aggregate adds up are whole numbers: of a mean too, which takes them as others.
fn whole(argument: &Expr, rows: &Rows) -> bool {
    match stripped(argument) {
        Expr::Column(column) => rows.plan.schema().data_type(column).is_ok_and(DataType::is_integer),
        Expr::Case(case) => case.when_then_expr.iter().all(|(_, value)| whole(value, rows)),
        // Of those that a CASE may count as.
        Expr::Literal(..) => true,
        _ => false,
    }
}

/// Whether every cast around an expression is to a type that `keeps` its values.
fn cast_to(expr: &Expr, keeps: &dyn Fn(&DataType) -> bool) -> bool {
    match expr {
        Expr::Alias(alias) => cast_to(&alias.expr, keeps),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => keeps(field.data_type()) && cast_to(expr, keeps),
        _ => true,
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(stripped(expr), Expr::Literal(value, _) if value.is_null())
}

fn chooses() -> Refusal {
    Refusal::new(Code::Disclosure, "a cast inside an aggregate that can give nothing instead of a value decides who counts")
        .advice("aggregate the column as it is, and cast the protected result")
}

fn weighs() -> Refusal {
    Refusal::new(
        Code::Disclosure,
        "a CASE inside an aggregate counts each row as 1 or 100: another number would choose how its sum is rounded",
    )
    .advice("write THEN 1, and multiply the protected result")
}

/// What a CASE gives where its condition holds.
fn conditional_value(argument: &Expr) -> Option<&Expr> {
    let Expr::Case(case) = stripped(argument) else { return None };
    case.when_then_expr.first().map(|(_, value)| value.as_ref())
}

/// Whether an argument is a CASE that gives something where its condition does not hold.
fn has_else(argument: &Expr) -> bool {
    matches!(stripped(argument), Expr::Case(case) if case.else_expr.as_deref().is_some_and(|e| !is_null(e)))
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

pub(super) fn computed_argument<T>() -> Result<T> {
    refuse(
        Refusal::new(
            Code::Disclosure,
            "an aggregate over subjects takes a column, or CASE WHEN condition THEN (column or 1 or 100) [ELSE 0] END",
        )
        .advice("compute with the protected results instead: sum(a) / sum(b) rather than sum(a / b)"),
    )
}
