//! How the conditions of two values stand to each other by what they say: the same for whatever data, so that it tells nothing of them.
//! Where it is not seen that one holds wherever the other does, it is taken not to: more is withheld then.

use std::collections::HashSet;

use concordat_protect::kinds::Stand;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{BinaryExpr, InList};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator};

/// The conditions of a value: it is of rows for which all of them hold.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct Condition {
    of: Vec<Expr>,
    /// What else holds for these rows, whatever the data are: that they have a value.
    given: Vec<Expr>,
    /// Whether it has none but that they have a value.
    plain: bool,
}

impl Condition {
    /// All of these, of rows for which others are `given`; `None` of none.
    pub(in crate::plan) fn new<'a>(of: impl Iterator<Item = &'a Expr>, given: Vec<Expr>) -> Option<Self> {
        let of: Vec<Expr> = of.flat_map(split_conjunction).cloned().collect();
        (!of.is_empty()).then_some(Self { of, given, plain: false })
    }

    /// Of rows that have a value, which no condition chooses among.
    pub(in crate::plan) fn plain(there: Expr) -> Self {
        Self { of: vec![there], given: Vec::new(), plain: true }
    }

    pub(in crate::plan) fn is_plain(&self) -> bool {
        self.plain
    }

    /// What the statement chooses by. Numbers of which it is the same differ by those who lack a value, whom no condition chooses.
    pub(in crate::plan) fn chosen_by(&self) -> &[Expr] {
        if self.plain { &[] } else { &self.of }
    }

    /// How this one stands to another.
    pub(super) fn stand(&self, other: &Self) -> Stand {
        let within = |one: &Self, other: &Self| {
            let implied = |around: &Expr| one.of.iter().chain(&one.given).any(|part| implies(part, around));
            one.plain && other.plain || other.of.iter().all(implied)
        };
        Stand { within: within(self, other), around: within(other, self) }
    }
}

/// Whether it is seen that a condition holds where another does.
fn implies(one: &Expr, other: &Expr) -> bool {
    let within = || {
        let ((of_one, some), (of_other, all)) = listed(one).zip(listed(other))?;
        Some(of_one == of_other && some.is_subset(&all))
    };
    let either = || match other {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => implies(one, left) || implies(one, right),
        _ => false,
    };
    one == other || within() == Some(true) || narrower(one, other) == Some(true) || either()
}

/// Whether both compare the same with a bound, and whatever keeps the one keeps the other.
fn narrower(one: &Expr, other: &Expr) -> Option<bool> {
    use Operator::{Gt, GtEq, Lt, LtEq};
    let ((of_one, by_one, bound), (of_other, by_other, around)) = bounded(one).zip(bounded(other))?;
    let order = bound.partial_cmp(around)?;
    let further = match (by_one, by_other) {
        (Lt | LtEq, Lt | LtEq) => order.is_lt(),
        (Gt | GtEq, Gt | GtEq) => order.is_gt(),
        _ => return Some(false),
    };
    let reaches = matches!((by_one, by_other), (LtEq, Lt) | (GtEq, Gt));
    Some(of_one == of_other && (further || order.is_eq() && !reaches))
}

/// What is compared with a bound, how, and the bound.
fn bounded(expr: &Expr) -> Option<(&Expr, Operator, &ScalarValue)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return None };
    let bound = literal(right).filter(|bound| !bound.is_null())?;
    Some((left.as_ref(), *op, bound))
}

/// What is compared with a list of values, and the values.
fn listed(expr: &Expr) -> Option<(&Expr, HashSet<&ScalarValue>)> {
    match expr {
        Expr::InList(InList { expr, list, negated: false }) => Some((expr, list.iter().map(literal).collect::<Option<_>>()?)),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => Some((left, HashSet::from([literal(right)?]))),
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    if let Expr::Literal(value, _) = expr { Some(value) } else { None }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn what_follows_from_the_words_alone() {
        let (region, flag, year) = (col("region"), col("flag"), col("year"));
        let north = region.clone().eq(lit("N"));
        let both = |negated| region.clone().in_list(vec![lit("N"), lit("S")], negated);
        let [apart, same, within, around] =
            [(false, false), (true, true), (true, false), (false, true)].map(|(within, around)| Stand { within, around });
        let negated = |expr: &Expr| Expr::Not(Box::new(expr.clone()));
        for (one, other, expected) in [
            (vec![north.clone()], vec![flag.clone()], apart),
            (vec![north.clone()], vec![north.clone()], same),
            (vec![north.clone()], vec![both(false)], within),
            (vec![both(false)], vec![north.clone()], around),
            (vec![region.clone().eq(lit("E"))], vec![both(false)], apart),
            (vec![north.clone().and(flag.clone())], vec![north.clone()], within),
            (vec![north.clone(), flag.clone()], vec![flag.clone().and(north.clone())], same),
            (vec![flag.clone()], vec![flag.clone().or(north.clone())], within),
            (vec![flag.clone().or(north.clone())], vec![flag.clone()], around),
            // Who meets neither of opposites the statement can choose: they are as any two.
            (vec![flag.clone()], vec![negated(&flag)], apart),
            (vec![both(true)], vec![both(false)], apart),
            (vec![north.clone()], vec![region.clone().not_eq(lit("N"))], apart),
            (vec![year.clone().gt(lit(3))], vec![year.clone().gt(lit(2))], within),
            (vec![year.clone().gt_eq(lit(3)).and(year.clone().lt(lit(5)))], vec![year.clone().gt_eq(lit(3))], within),
            (vec![year.clone().lt_eq(lit(3))], vec![year.clone().lt(lit(3))], around),
            (vec![year.clone().lt_eq(lit(3))], vec![year.clone().lt(lit(4))], within),
            (vec![year.clone().gt(lit(3))], vec![year.clone().gt_eq(lit(3))], within),
            (vec![year.clone().gt_eq(lit(3))], vec![year.clone().gt_eq(lit(3))], same),
            (vec![year.clone().gt(lit(3))], vec![year.clone().lt(lit(5))], apart),
            (vec![year.clone().gt(lit(3))], vec![col("month").gt(lit(2))], apart),
            (vec![year.clone().gt(lit(3))], vec![year.clone().gt(lit(2.0))], apart),
            (vec![year.clone().gt(lit(3))], vec![year.clone().gt(lit(ScalarValue::Int32(None)))], apart),
        ] {
            let [one, other] = [&one, &other].map(|of| Condition::new(of.iter(), Vec::new()).unwrap());
            assert_eq!(one.stand(&other), expected, "{one:?} {other:?}");
        }
        assert!(Condition::new([].into_iter(), vec![flag]).is_none());
    }

    /// A number of values without a condition is of whoever has one: conditions of those are within it.
    #[test]
    fn whoever_has_a_value_has_it_under_each_condition() {
        let (flag, wage) = (col("flag"), col("wage").is_not_null());
        let plain = Condition::plain(wage.clone());
        let with = |given| Condition::new([flag.clone()].iter(), given).unwrap();
        let [apart, same, within] = [(false, false), (true, true), (true, false)].map(|(within, around)| Stand { within, around });
        assert_eq!(with(vec![wage.clone()]).stand(&plain), within);
        assert_eq!(with(Vec::new()).stand(&plain), apart);
        assert_eq!(with(vec![wage]).stand(&with(Vec::new())), same);
        assert_eq!(plain.stand(&Condition::plain(col("bonus").is_not_null())), same);
        assert!(plain.chosen_by().is_empty() && !with(Vec::new()).chosen_by().is_empty());
    }
}
