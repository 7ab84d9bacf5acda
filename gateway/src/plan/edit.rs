//! Small edits of a statement's own text that may turn one that is refused into one that is permitted.
//!
//! ```text
//! SELECT region, attainment8 FROM dfe.attainment           attainment8 may not be used for output
//! SELECT region, avg(attainment8) AS attainment8 FROM dfe.attainment GROUP BY region
//! ```
//!
//! An edit is a guess from the agreement's uses: whoever shows one has it judged first. Views' texts are not edited: who asks for a
//! view that is refused has not seen its text.

mod bands;
mod condition;
mod scope;

use std::ops::ControlFlow;

use concordat_policy::{Cause, ColumnType, FilterLimit, Permit, Refusal, Use};
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident,
    ObjectName, OrderByKind, Query, Select, SelectItem, SetExpr, VisitMut, VisitorMut, visit_expressions_mut,
};

use self::condition::{add, cut, from_filters, taken};
use self::scope::{Scope, Target, plain};
use super::statement::parse;

/// The most single columns and conditions that are tried one by one.
const MAX_SINGLES: usize = 8;

/// A changed statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) sql: String,
    /// What was changed, in words.
    pub(crate) change: String,
    /// How much beside the refused part it gives up.
    given_up: usize,
}

/// One way to mend a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Summarise the column, or group by it.
    Summarise,
    /// Leave the column out, wherever the answer or its order needs it.
    LeaveOut,
    /// Compare the column with the nearest thresholds of its bands.
    ToBands,
    /// Drop the conditions on the column.
    DropConditions,
    /// Move them from FILTER into WHERE, where its department can apply them.
    ToWhere,
    /// Ask for the mean instead of a single subject's value.
    Average,
    /// Leave the answer's column of this place out.
    LeaveOutNth(usize),
    /// Drop the part of WHERE of this place.
    DropNth(usize),
}

/// The edits of `sql` that may mend `refusal`, nearest first; none where it rests on something else than what is asked.
pub(crate) fn edits(sql: &str, refusal: &Refusal, permit: &Permit) -> Vec<Edit> {
    let (Ok(Parsed::Statement(ast)), Some((target, ways))) = (parse(sql), ways(refusal)) else { return Vec::new() };
    let mut edits: Vec<Edit> = Vec::new();
    for way in ways {
        for ordered in [true, false] {
            let mut edited = ast.as_ref().clone();
            let mut editor = Editor { way, ordered, target: &target, permit, changes: Vec::new(), given_up: 0 };
            let _: ControlFlow<()> = VisitMut::visit(&mut edited, &mut editor);
            let Editor { mut changes, given_up, .. } = editor;
            changes.dedup();
            let sql = edited.to_string();
            if !changes.is_empty() && !edits.iter().any(|edit| edit.sql == sql) {
                edits.push(Edit { sql, change: changes.join("; "), given_up });
            }
        }
    }
    edits.sort_by_key(|edit| edit.given_up);
    edits
}

/// What is at fault, and the ways to mend it.
fn ways(refusal: &Refusal) -> Option<(Target, Vec<Way>)> {
    use Way::{Average, DropConditions, DropNth, LeaveOut, LeaveOutNth, Summarise, ToBands, ToWhere};
    let singles = || (0..MAX_SINGLES).map(LeaveOutNth).chain((0..MAX_SINGLES).map(DropNth));
    Some(match refusal.cause()? {
        Cause::Use { dataset, column, used, .. } => {
            let ways = match used {
                Use::Output | Use::GroupBy => vec![Summarise, LeaveOut],
                Use::Aggregate => vec![LeaveOut],
                Use::Filter => vec![DropConditions, LeaveOut],
                Use::Join => Vec::new(),
            };
            (Target::Column(dataset, column), ways)
        }
        Cause::Unlisted { dataset, column, limit: FilterLimit::Listed, .. } => {
            (Target::Column(dataset, column), vec![DropConditions, LeaveOut])
        }
        Cause::Unlisted { dataset, column, limit: FilterLimit::Bands, .. } => {
            (Target::Column(dataset, column), vec![ToBands, DropConditions, LeaveOut])
        }
        Cause::Kept { dataset, column, .. } => (Target::Column(dataset, column), vec![ToWhere, DropConditions, LeaveOut]),
        Cause::Hidden { column: Some(column) } => {
            let name = column.rsplit('.').next().unwrap_or_default().to_owned();
            (Target::Named(name), vec![LeaveOut, DropConditions])
        }
        Cause::Rule { .. } => (Target::Anything, std::iter::once(Average).chain(singles()).collect()),
        Cause::Hidden { column: None }
        | Cause::Known { .. }
        | Cause::Purpose { .. }
        | Cause::Signature { .. }
        | Cause::Guard { .. }
        | Cause::Unwitnessed { .. } => return None,
    })
}

struct Editor<'a> {
    way: Way,
    /// Whether ORDER BY stays where it does not name the target.
    ordered: bool,
    target: &'a Target,
    permit: &'a Permit,
    changes: Vec<String>,
    given_up: usize,
}

impl VisitorMut for Editor<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let before = self.changes.len();
        self.body(&mut query.body);
        if let SetExpr::Select(select) = query.body.as_ref()
            && self.way == Way::LeaveOut
            && let Some(order) = &mut query.order_by
            && let OrderByKind::Expressions(keys) = &mut order.kind
        {
            let (scope, all) = (Scope::of(select, self.permit), keys.len());
            keys.retain(|key| !scope.mentions(&key.expr, self.target));
            let (left, none) = (keys.len() < all, keys.is_empty());
            if none {
                query.order_by = None;
            }
            if left {
                self.note("leave out");
            }
        }
        if !self.ordered && self.changes.len() > before && query.order_by.take().is_some() {
            self.changes.push("leave out ORDER BY".into());
            self.given_up += 1;
        }
        ControlFlow::Continue(())
    }
}

impl Editor<'_> {
    /// Each SELECT of a query, those of a UNION too. Subqueries are visited as queries of their own.
    fn body(&mut self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left);
                self.body(right);
            }
            _ => {}
        }
    }

    fn select(&mut self, select: &mut Select) {
        let scope = Scope::of(select, self.permit);
        match self.way {
            Way::Summarise => self.summarise(select, &scope),
            Way::LeaveOut => self.leave_out(select, &scope),
            Way::ToBands => {
                if let Target::Column(dataset, column) = self.target
                    && let Some(rule) = self.permit.dataset(dataset).and_then(|permit| permit.dataset.columns.get(column))
                    && bands::moved(select, rule, |expr| scope.is(expr, self.target))
                {
                    self.note("state by its bands the condition on");
                }
            }
            Way::DropConditions => {
                if !taken(select, &scope, self.target).is_empty() {
                    self.note("leave out the condition on");
                }
            }
            Way::ToWhere => {
                let moved = from_filters(&mut select.projection, |part| scope.mentions(part, self.target));
                if !moved.is_empty() {
                    moved.into_iter().for_each(|part| add(&mut select.selection, part));
                    self.note("state in WHERE the condition on");
                }
            }
            Way::Average => self.average(select),
            Way::LeaveOutNth(place) if self.changes.is_empty() && select.projection.len() > 1 && place < select.projection.len() => {
                select.projection.remove(place);
                self.changes.push(format!("leave out column {} of the answer", place + 1));
            }
            Way::DropNth(place) if self.changes.is_empty() => {
                let at = std::cell::Cell::new(0);
                let gone = cut(&mut select.selection, |_| at.replace(at.get() + 1) == place);
                if !gone.is_empty() {
                    self.changes.push(format!("leave out condition {} of WHERE", place + 1));
                }
            }
            Way::LeaveOutNth(_) | Way::DropNth(_) => {}
        }
    }

    /// Notes what becomes of the target.
    fn note(&mut self, what: &str) {
        let name = match self.target {
            Target::Column(dataset, column) => format!("{dataset}.{column}"),
            Target::Named(name) => format!("'{name}'"),
            Target::Anything => return,
        };
        self.changes.push(format!("{what} {name}"));
    }

    /// Puts a summary of the target, or the target as a key, in its place; where nothing is summarised yet, the same of every
    /// column beside it.
    fn summarise(&mut self, select: &mut Select, scope: &Scope<'_>) {
        let GroupByExpr::Expressions(keys, _) = &select.group_by else { return };
        if !select.projection.iter().filter_map(bare).any(|column| scope.is(column, self.target)) {
            return;
        }
        let rows = keys.is_empty() && select.projection.iter().all(|item| bare(item).is_some());
        let mut keys: Vec<Expr> = keys.iter().filter(|key| !scope.is(key, self.target)).cloned().collect();
        let (mut projection, mut changes, mut given_up, mut summaries) = (Vec::new(), Vec::new(), 0, !rows);
        for item in &select.projection {
            let Some(column) = bare(item).filter(|column| rows || scope.is(column, self.target)) else {
                projection.push(item.clone());
                continue;
            };
            let what = match self.treated(column, scope) {
                Treated::Summary(summary) => {
                    summaries = true;
                    projection.push(SelectItem::ExprWithAlias { expr: summary, alias: named(item, column) });
                    "summarise"
                }
                Treated::Key => {
                    keys.push(column.clone());
                    projection.push(item.clone());
                    "group by"
                }
                Treated::Nothing => {
                    given_up += usize::from(!scope.is(column, self.target));
                    "leave out"
                }
            };
            let name = scope.column(column).map_or_else(|| column.to_string(), |(dataset, name)| format!("{dataset}.{name}"));
            changes.push(format!("{what} {name}"));
        }
        if projection.is_empty() {
            return;
        }
        if !summaries {
            let persons = call("count", false, FunctionArgExpr::Wildcard, None);
            projection.push(SelectItem::ExprWithAlias { expr: persons, alias: Ident::new("persons") });
        }
        select.projection = projection;
        select.group_by = GroupByExpr::Expressions(keys, Vec::new());
        select.distinct = None;
        self.given_up += given_up;
        self.changes.append(&mut changes);
    }

    /// What the agreement lets stand in a summary in place of a column.
    fn treated(&self, column: &Expr, scope: &Scope<'_>) -> Treated {
        let Some((dataset, name)) = scope.column(column) else { return Treated::Nothing };
        let Some(agreed) = self.permit.dataset(&dataset).map(|permit| &permit.dataset) else { return Treated::Nothing };
        let Some(uses) = agreed.uses(&name) else { return Treated::Nothing };
        let argument = || FunctionArgExpr::Expr(column.clone());
        match agreed.columns.get(&name).map(|rule| rule.kind) {
            None if uses.contains(&Use::Aggregate) => Treated::Summary(call("count", true, argument(), None)),
            Some(ColumnType::Integer | ColumnType::Number) if uses.contains(&Use::Aggregate) => {
                Treated::Summary(call("avg", false, argument(), None))
            }
            Some(_) if uses.contains(&Use::GroupBy) => Treated::Key,
            Some(ColumnType::Boolean) if uses.contains(&Use::Filter) => {
                Treated::Summary(call("count", false, FunctionArgExpr::Wildcard, Some(column.clone())))
            }
            Some(_) if uses.contains(&Use::Aggregate) => Treated::Summary(call("count", false, argument(), None)),
            _ => Treated::Nothing,
        }
    }

    fn leave_out(&mut self, select: &mut Select, scope: &Scope<'_>) {
        let mut kept = select.projection.clone();
        kept.retain(|item| !scope.mentions(item, self.target));
        let mut left_out = kept.len() < select.projection.len();
        if kept.is_empty() {
            return;
        }
        select.projection = kept;
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
            let all = keys.len();
            keys.retain(|key| !scope.mentions(key, self.target));
            left_out |= keys.len() < all;
        }
        left_out |= !cut(&mut select.having, |part| scope.mentions(part, self.target)).is_empty();
        if left_out {
            self.note("leave out");
        }
    }

    fn average(&mut self, select: &mut Select) {
        let changes = &mut self.changes;
        let _: ControlFlow<()> = visit_expressions_mut(&mut select.projection, |expr| {
            if let Expr::Function(function) = expr {
                let name = function.name.to_string().to_lowercase();
                if matches!(name.as_str(), "min" | "max" | "median" | "stddev" | "var") {
                    function.name = ObjectName::from(vec![Ident::new("avg")]);
                    changes.push(format!("use avg instead of {name}"));
                }
            }
            ControlFlow::Continue(())
        });
    }
}

/// What may stand in a summary in place of a column.
#[expect(clippy::large_enum_variant, reason = "one lives at a time, for a moment")]
enum Treated {
    Summary(Expr),
    Key,
    Nothing,
}

/// The column that an item of the SELECT list is.
fn bare(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            Some(expr).filter(|expr| matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)))
        }
        _ => None,
    }
}

/// The name that a summary of a column bears: the item's, so that what refers to it finds it.
fn named(item: &SelectItem, column: &Expr) -> Ident {
    match (item, column) {
        (SelectItem::ExprWithAlias { alias, .. }, _) => alias.clone(),
        (_, Expr::Identifier(column)) => renamed(column),
        (_, Expr::CompoundIdentifier(parts)) => parts.last().map_or_else(|| Ident::new("summary"), renamed),
        _ => Ident::new("summary"),
    }
}

/// A number of subjects is no subject.
fn renamed(column: &Ident) -> Ident {
    if plain(column) == concordat_policy::column::SUBJECT { Ident::new("subjects") } else { column.clone() }
}

/// `name([DISTINCT] argument) [FILTER (WHERE filter)]`.
fn call(name: &str, distinct: bool, argument: FunctionArgExpr, filter: Option<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: distinct.then_some(DuplicateTreatment::Distinct),
            args: vec![FunctionArg::Unnamed(argument)],
            clauses: Vec::new(),
        }),
        filter: filter.map(Box::new),
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
