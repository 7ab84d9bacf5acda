//! Expressions: the allow-list of kinds, and which columns each one reads.
//!
//! Over rows about subjects an expression must not be able to fail, because a failure that depends on one person's value is
//! an answer about that person: no arithmetic, casts between few types that give null instead of an error, few functions.
//! Over protected values more may be computed.

use std::collections::BTreeSet;

use concordat_policy::{Cause, Code, DatasetName, Refusal, Use};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, Cast, TryCast};
use datafusion::logical_expr::{Expr, Operator};

use super::rewrite::Rewriter;
use super::shape::{Origin, SourceColumn, Visible, find, refuse};

/// The deepest expression.
const MAX_DEPTH: usize = 200;

/// Functions that cannot fail whatever the row holds.
const ROW_FUNCTIONS: &[&str] = &["coalesce", "nullif", "lower", "upper", "date_part"];

/// What an expression over rows read.
#[derive(Default)]
pub(super) struct Read {
    /// Source columns whose values it read.
    pub(super) columns: BTreeSet<SourceColumn>,
    /// Datasets of which it read whether, or how often, the subject is in them.
    pub(super) present: BTreeSet<DatasetName>,
    /// Whether it holds a subquery.
    pub(super) subquery: bool,
    /// Whether it read something that is not one source column as it is.
    pub(super) complex: bool,
    /// The columns of the node it named.
    pub(super) named: Vec<Column>,
}

/// Where an expression over rows stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The columns it can name.
    pub(super) visible: &'a [Visible],
    /// Whether `IN (SELECT …)` and `EXISTS` may stand here: in WHERE.
    pub(super) subqueries: bool,
}

impl Rewriter<'_> {
    /// Checks and rewrites an expression over rows, noting what it reads.
    pub(super) fn row_expression(&mut self, expr: Expr, place: Place<'_>, read: &mut Read) -> Result<Expr> {
        self.row_node(expr, place, read, 0)
    }

    fn row_node(&mut self, expr: Expr, place: Place<'_>, read: &mut Read, depth: usize) -> Result<Expr> {
        bounded(depth)?;
        match expr {
            Expr::Column(column) => {
                self.row_column(&column, place, read)?;
                return Ok(Expr::Column(column));
            }
            Expr::Literal(ref value, _) if row_type(&value.data_type()) => return Ok(expr),
            Expr::IsNull(inner) if self.is_subject(&inner, place, read) => return Ok(Expr::IsNull(inner)),
            Expr::IsNotNull(inner) if self.is_subject(&inner, place, read) => return Ok(Expr::IsNotNull(inner)),
            Expr::ScalarSubquery(subquery) => {
                read.complex = true;
                return self.scalar_subquery(subquery);
            }
            Expr::InSubquery(subquery) if place.subqueries => return self.in_subquery(subquery, place, read),
            Expr::Exists(exists) if place.subqueries => return self.exists(exists, place, read),
            _ => {}
        }
        row_kind(&expr)?;
        let place =
            if matches!(&expr, Expr::Not(_) | Expr::Alias(_)) || logical(&expr) { place } else { Place { subqueries: false, ..place } };
        let expr = expr.map_children(|child| self.row_node(child, place, read, depth + 1).map(Transformed::yes))?.data;
        match expr {
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => match *expr {
                Expr::Literal(value, metadata) => Ok(Expr::Literal(strictly_cast(&value, field.data_type())?, metadata)),
                other => Ok(Expr::TryCast(TryCast { expr: Box::new(other), field })),
            },
            other => Ok(truth(other)),
        }
    }

    fn row_column(&mut self, column: &Column, place: Place<'_>, read: &mut Read) -> Result<()> {
        let Some(visible) = find(place.visible, column) else { return unknown_column(column) };
        read.named.push(column.clone());
        match &visible.origin {
            Origin::Subject { .. } => {
                return refuse(
                    Refusal::new(Code::Disclosure, "a pseudonym may only be joined on, counted, grouped by, or tested for null")
                        .advice("join with a.subject = b.subject, or write count(DISTINCT a.subject)"),
                );
            }
            Origin::Source(column) => {
                read.columns.insert(column.clone());
            }
            Origin::PerSubject { columns, present } | Origin::Derived { columns, present } => {
                read.complex = true;
                read.columns.extend(columns.iter().cloned());
                read.present.extend(present.iter().cloned());
            }
        }
        Ok(())
    }

    /// Whether `expr` is a pseudonym that is tested for null: "is this person in that dataset?", a use of `join`.
    fn is_subject(&mut self, expr: &Expr, place: Place<'_>, read: &mut Read) -> bool {
        let Expr::Column(column) = expr else { return false };
        let Some(Visible { origin: origin @ Origin::Subject { .. }, .. }) = find(place.visible, column) else { return false };
        for (dataset, column) in origin.sources() {
            self.uses.add(&dataset, &column, Use::Join);
            read.present.insert(dataset);
        }
        read.complex = true;
        true
    }

    /// Notes that two pseudonyms are compared; they must be of one identifier type.
    pub(super) fn linked(&mut self, left: &Origin, right: &Origin) -> Result<()> {
        let (Origin::Subject { label: l, .. }, Origin::Subject { label: r, .. }) = (left, right) else {
            return refuse(Refusal::internal("linked() on something that is no pseudonym"));
        };
        if l != r {
            let name = |label: &str| label.split(':').take(2).collect::<Vec<_>>().join(":");
            return refuse(
                Refusal::new(
                    Code::Invalid,
                    format!("pseudonyms of {} and {} never match: the datasets identify subjects differently", name(l), name(r)),
                )
                .advice("join datasets whose identifier types are equal; `concordat catalogue` lists them"),
            );
        }
        for (dataset, column) in left.sources().into_iter().chain(right.sources()) {
            self.uses.add(&dataset, &column, Use::Join);
        }
        Ok(())
    }

    /// Checks and rewrites an expression over protected values; adds the positions of the columns that it reads.
    pub(super) fn safe_expression(&mut self, expr: Expr, visible: &[Column], read: &mut BTreeSet<usize>) -> Result<Expr> {
        self.safe_node(expr, visible, read, 0)
    }

    /// Checks an expression over protected values that stays in the plan as it stands: one that the walk would have to change, for
    /// the sake of a subquery in it, is refused.
    pub(super) fn as_it_stands(&mut self, expr: &Expr, visible: &[Column], read: &mut BTreeSet<usize>) -> Result<()> {
        if self.safe_expression(expr.clone(), visible, read)? == *expr {
            return Ok(());
        }
        refuse(
            Refusal::new(
                Code::Invalid,
                "a subquery inside an aggregate of summaries, a key of their groups, VALUES or LIMIT is not offered",
            )
            .advice("select the subquery as a column of FROM, and name that column"),
        )
    }

    fn safe_node(&mut self, expr: Expr, visible: &[Column], read: &mut BTreeSet<usize>, depth: usize) -> Result<Expr> {
        bounded(depth)?;
        match expr {
            Expr::Column(column) => {
                let Some(position) = visible.iter().position(|c| *c == column) else { return unknown_column(&column) };
                read.insert(position);
                return Ok(Expr::Column(column));
            }
            Expr::ScalarSubquery(subquery) if self.beside.is_some() => return self.column_of_subquery(subquery, visible, read),
            Expr::ScalarSubquery(subquery) => return self.scalar_subquery(subquery),
            _ => {}
        }
        safe_kind(&expr)?;
        Ok(expr.map_children(|child| self.safe_node(child, visible, read, depth + 1).map(Transformed::yes))?.data)
    }
}

fn bounded(depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return refuse(
            Refusal::new(Code::LimitExceeded, format!("an expression is nested more than {MAX_DEPTH} deep"))
                .advice("use IN lists instead of long OR chains"),
        );
    }
    Ok(())
}

fn logical(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryExpr(BinaryExpr { op: Operator::And | Operator::Or, .. }))
}

fn row_kind(expr: &Expr) -> Result<()> {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};
    match expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) if of_bits(*op) => {
            not_offered("over single subjects' values the operator", &op.to_string())
        }
        Expr::BinaryExpr(BinaryExpr { op: Plus | Minus | Multiply | Divide | Modulo, .. }) | Expr::Negative(_) => refuse(
            Refusal::new(
                Code::Disclosure,
                "over single subjects' values there is no arithmetic: an error in it would tell about one person",
            )
            .advice("compute with protected results, for example sum(a) / count(*); or ask the department to publish the computed column"),
        ),
        Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) if !row_type(field.data_type()) => {
            not_offered("over single subjects' values a cast to", &field.data_type().to_string())
        }
        Expr::Literal(value, _) => not_offered("over single subjects' values a literal of type", &value.data_type().to_string()),
        Expr::Like(like) if like.escape_char.is_some() || !matches!(like.pattern.as_ref(), Expr::Literal(..)) => {
            not_offered("over single subjects' values", "LIKE with a computed pattern or ESCAPE")
        }
        Expr::ScalarFunction(function) if !ROW_FUNCTIONS.contains(&function.name()) => {
            not_offered("over single subjects' values the function", function.name())
        }
        Expr::ScalarFunction(function) if function.name() == "date_part" && !date_part_ok(function.args.first()) => {
            not_offered("over single subjects' values", "date_part other than of year, quarter, month, week or day")
        }
        other => safe_kind(other),
    }
}

fn safe_kind(expr: &Expr) -> Result<()> {
    match expr {
        Expr::Alias(_)
        | Expr::Literal(..)
        | Expr::Like(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::Cast(_)
        | Expr::TryCast(_)
        | Expr::InList(_)
        // The catalog of functions is itself an allow-list.
        | Expr::ScalarFunction(_) => Ok(()),
        Expr::BinaryExpr(BinaryExpr { op, .. }) if operator_ok(*op) => Ok(()),
        Expr::BinaryExpr(BinaryExpr { op, .. }) => not_offered("the operator", &op.to_string()),
        Expr::WindowFunction(_) => not_offered("", "OVER (…), window functions,"),
        Expr::Exists(_) | Expr::InSubquery(_) => refuse(
            Refusal::new(Code::Disclosure, "IN (SELECT …) and EXISTS may stand in the WHERE of subjects' rows only")
                .advice("move the condition into the WHERE clause below the aggregate"),
        ),
        Expr::Placeholder(_) => not_offered("", "a parameter ($1, ?)"),
        Expr::GroupingSet(_) => not_offered("", "GROUPING SETS, ROLLUP or CUBE"),
        _ => not_offered("", "this kind of expression"),
    }
}

fn operator_ok(op: Operator) -> bool {
    use Operator::{And, Divide, Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, Minus, Modulo, Multiply, NotEq, Or, Plus};
    let logic = matches!(op, And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom);
    // No `||`: a text doubled twenty times over fills the memory while the statement is planned.
    logic || of_bits(op) || matches!(op, Plus | Minus | Multiply | Divide | Modulo)
}

/// What `grouping(…)` is computed with.
fn of_bits(op: Operator) -> bool {
    matches!(op, Operator::BitwiseAnd | Operator::BitwiseOr | Operator::BitwiseShiftLeft | Operator::BitwiseShiftRight)
}

/// `IS [NOT] TRUE`, `FALSE` and `UNKNOWN` in terms of AND, NOT and IS NULL: release orders can say those, and DataFusion plans
/// `IS NOT TRUE` with another nullability than it declares.
fn truth(expr: Expr) -> Expr {
    let is_true = |e: Box<Expr>| e.as_ref().clone().and(Expr::IsNotNull(e));
    let is_false = |e: Box<Expr>| Expr::Not(e.clone()).and(Expr::IsNotNull(e));
    match expr {
        Expr::IsTrue(e) => is_true(e),
        Expr::IsNotTrue(e) => Expr::Not(Box::new(is_true(e))),
        Expr::IsFalse(e) => is_false(e),
        Expr::IsNotFalse(e) => Expr::Not(Box::new(is_false(e))),
        Expr::IsUnknown(e) => Expr::IsNull(e),
        Expr::IsNotUnknown(e) => Expr::IsNotNull(e),
        other => other,
    }
}

/// The types that values of rows may have: those of the wire, and what comparisons between them are made in.
fn row_type(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, value) => row_type(value),
        DataType::Null | DataType::Boolean | DataType::Int32 | DataType::Int64 | DataType::Float64 | DataType::Date32 | DataType::Utf8 => {
            true
        }
        _ => false,
    }
}

/// A literal in the type that its comparison needs; one that does not fit is the statement's mistake, not a row's.
fn strictly_cast(value: &ScalarValue, to: &DataType) -> Result<ScalarValue> {
    match value.cast_to(to) {
        Ok(cast) if cast.is_null() == value.is_null() => Ok(cast),
        _ => refuse(
            Refusal::new(Code::Invalid, format!("a literal of the statement is no {to}"))
                .advice("dates are written '2026-12-31'; numbers without quotes"),
        ),
    }
}

fn date_part_ok(part: Option<&Expr>) -> bool {
    match part {
        Some(Expr::Literal(ScalarValue::Utf8(Some(part)) | ScalarValue::Utf8View(Some(part)) | ScalarValue::LargeUtf8(Some(part)), _)) => {
            matches!(part.to_ascii_lowercase().as_str(), "year" | "quarter" | "month" | "week" | "day")
        }
        _ => false,
    }
}

/// Refuses something that the service does not do.
pub(super) fn not_offered<T>(what: &str, name: &str) -> Result<T> {
    refuse(
        Refusal::new(Code::Invalid, format!("{what} {name} is not offered").trim_start().to_owned())
            .advice("the README lists the SQL that the gateway takes"),
    )
}

fn unknown_column<T>(column: &Column) -> Result<T> {
    refuse(
        Refusal::because(Code::Denied, Cause::Hidden { column: Some(column.name.clone()) })
            .advice("`concordat catalogue` lists columns and their permitted uses"),
    )
}

/// Whether any expression below holds a reference to the enclosing query.
pub(super) fn outer_reference(expr: &Expr) -> bool {
    let mut found = false;
    // The closure never fails.
    let _ = expr.apply(|e| {
        found |= matches!(e, Expr::OuterReferenceColumn(..));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}
