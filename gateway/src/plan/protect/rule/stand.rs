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
pub(in crate::plan) struct Condition(Vec<Expr>);

impl Condition {
    /// All of these; `None` of none.
    pub(in crate::plan) fn new<'a>(of: impl Iterator<Item = &'a Expr>) -> Option<Self> {
        let of: Vec<Expr> = of.flat_map(split_conjunction).cloned().collect();
        (!of.is_empty()).then_some(Self(of))
    }

    /// How this one stands to another.
    pub(super) fn stand(&self, other: &Self) -> Stand {
        let within = |one: &Self, other: &Self| other.0.iter().all(|around| one.0.iter().any(|part| implies(part, around)));
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
    one == other || within() == Some(true) || either()
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
            (vec![year.clone().gt(lit(3))], vec![year.clone().gt(lit(2))], apart),
        ] {
            let [one, other] = [&one, &other].map(|of| Condition::new(of.iter()).unwrap());
            assert_eq!(one.stand(&other), expected, "{one:?} {other:?}");
        }
        assert!(Condition::new([].into_iter()).is_none());
    }
}
