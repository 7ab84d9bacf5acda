//! Whether a condition, by its words, holds only in rows that have a row of a dataset which an outer join may leave out: whatever the data
//! are, nobody is then chosen by it who has none. Where that is not seen it is taken not to: more is withheld then.

use datafusion::common::Column;
use datafusion::logical_expr::expr::{Between, BinaryExpr, Cast, InList, Like, TryCast};
use datafusion::logical_expr::{Expr, Operator};

/// Whether `condition` is not true where each column is null that is one of the dataset's.
pub(super) fn holds_only_there(condition: &Expr, of: &dyn Fn(&Column) -> bool) -> bool {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => holds_only_there(left, of) || holds_only_there(right, of),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => holds_only_there(left, of) && holds_only_there(right, of),
        Expr::IsNotNull(of_column) => unknown(of_column, of),
        other => unknown(other, of),
    }
}

/// Whether an expression is null there.
fn unknown(expr: &Expr, of: &dyn Fn(&Column) -> bool) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    match expr {
        Expr::Column(column) => of(column),
        Expr::BinaryExpr(BinaryExpr { left, op: Eq | NotEq | Lt | LtEq | Gt | GtEq, right }) => unknown(left, of) || unknown(right, of),
        Expr::Not(expr)
        | Expr::Cast(Cast { expr, .. })
        | Expr::TryCast(TryCast { expr, .. })
        | Expr::InList(InList { expr, .. })
        | Expr::Between(Between { expr, .. })
        | Expr::Like(Like { expr, .. }) => unknown(expr, of),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{coalesce, col, lit};

    use super::*;

    #[test]
    fn what_reads_a_column_that_is_not_there_does_not_hold() {
        let (region, flag, own) = (col("region"), col("flag"), col("own"));
        let north = region.clone().eq(lit("N"));
        for (condition, expected) in [
            (flag.clone(), true),
            (Expr::Not(Box::new(north.clone())), true),
            (region.clone().not_eq(lit("N")), true),
            (lit("N").not_eq(region.clone()), true),
            (region.clone().in_list(vec![lit("N")], true), true),
            (region.clone().is_not_null(), true),
            (own.clone().and(flag.clone()), true),
            (north.clone().or(flag.clone()), true),
            (own.clone(), false),
            (own.clone().or(flag.clone()), false),
            (region.clone().is_null(), false),
            (Expr::Not(Box::new(region.clone().is_null())), false),
            (Expr::Not(Box::new(own.clone().and(flag.clone()))), false),
            (coalesce(vec![region.clone(), lit("N")]).eq(lit("N")), false),
        ] {
            assert_eq!(holds_only_there(&condition, &|column| column.name != "own"), expected, "{condition}");
        }
    }
}
