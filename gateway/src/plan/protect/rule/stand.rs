//! How the conditions of two values stand to each other by what they say: the same for whatever data, so that it tells nothing of them.
//! Where it is not seen that one holds wherever the other does, it is taken not to: more is withheld then.

use std::collections::{BTreeSet, HashSet};

use concordat_protect::kinds::Stand;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{BinaryExpr, InList};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator};

use super::super::super::shape::SourceColumn;

/// The conditions of a value: it is of rows for which all of them hold.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct Condition {
    of: Vec<Expr>,
    /// What they read.
    reads: BTreeSet<SourceColumn>,
}

impl Condition {
    /// All of these; `None` of none.
    pub(in crate::plan) fn new<'a>(of: impl Iterator<Item = &'a Expr>, reads: &BTreeSet<SourceColumn>) -> Option<Self> {
        let of: Vec<Expr> = of.flat_map(split_conjunction).cloned().collect();
        (!of.is_empty()).then(|| Self { of, reads: reads.clone() })
    }

    /// How this one stands to another.
    pub(super) fn stand(&self, other: &Self) -> Stand {
        let within = |one: &Self, other: &Self| other.of.iter().all(|around| one.of.iter().any(|part| implies(part, around)));
        Stand {
            near: !self.reads.is_disjoint(&other.reads),
            within: within(self, other),
            around: within(other, self),
            opposite: denies(&self.of, &other.of) || denies(&other.of, &self.of),
        }
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

/// Whether conditions are the negation of others, but for rows without a value.
fn denies(one: &[Expr], other: &[Expr]) -> bool {
    match one {
        [Expr::Not(negated)] => split_conjunction(negated).into_iter().eq(other),
        [Expr::InList(list)] => other == [Expr::InList(InList { negated: !list.negated, ..list.clone() })],
        [Expr::BinaryExpr(BinaryExpr { left, op: Operator::NotEq, right })] => {
            other == [Expr::BinaryExpr(BinaryExpr { left: left.clone(), op: Operator::Eq, right: right.clone() })]
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use concordat_policy::{DatasetName, Name};
    use datafusion::prelude::{col, lit};

    use super::*;

    fn condition(of: &[Expr]) -> Condition {
        let source = |column: &str| (DatasetName::new(Name::parse("a").unwrap(), Name::parse("people").unwrap()), column.to_owned());
        let reads = of.iter().flat_map(Expr::column_refs).map(|column| source(&column.name)).collect();
        Condition::new(of.iter(), &reads).unwrap()
    }

    #[test]
    fn what_follows_from_the_words_alone() {
        let (region, flag, year) = (col("region"), col("flag"), col("year"));
        let north = region.clone().eq(lit("N"));
        let both = |negated| region.clone().in_list(vec![lit("N"), lit("S")], negated);
        let stand = |near, within, around, opposite| Stand { near, within, around, opposite };
        let negated = |expr: &Expr| Expr::Not(Box::new(expr.clone()));
        for (one, other, expected) in [
            (vec![north.clone()], vec![flag.clone()], stand(false, false, false, false)),
            (vec![north.clone()], vec![north.clone()], stand(true, true, true, false)),
            (vec![north.clone()], vec![both(false)], stand(true, true, false, false)),
            (vec![both(false)], vec![north.clone()], stand(true, false, true, false)),
            (vec![region.clone().eq(lit("E"))], vec![both(false)], stand(true, false, false, false)),
            (vec![north.clone().and(flag.clone())], vec![north.clone()], stand(true, true, false, false)),
            (vec![north.clone(), flag.clone()], vec![flag.clone().and(north.clone())], stand(true, true, true, false)),
            (vec![flag.clone()], vec![flag.clone().or(north.clone())], stand(true, true, false, false)),
            (vec![flag.clone().or(north.clone())], vec![flag.clone()], stand(true, false, true, false)),
            (vec![flag.clone()], vec![negated(&flag)], stand(true, false, false, true)),
            (vec![negated(&flag.clone().and(north.clone()))], vec![flag.clone(), north.clone()], stand(true, false, false, true)),
            (vec![negated(&flag), north.clone()], vec![flag.clone()], stand(true, false, false, false)),
            (vec![both(true)], vec![both(false)], stand(true, false, false, true)),
            (vec![north.clone()], vec![region.clone().not_eq(lit("N"))], stand(true, false, false, true)),
            (vec![year.clone().gt(lit(3))], vec![year.clone().gt(lit(2))], stand(true, false, false, false)),
        ] {
            let [one, other] = [condition(&one), condition(&other)];
            assert_eq!(one.stand(&other), expected, "{one:?} {other:?}");
        }
        assert!(Condition::new([].into_iter(), &BTreeSet::new()).is_none());
    }
}
