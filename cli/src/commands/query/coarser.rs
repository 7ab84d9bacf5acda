//! A statement's coarser groupings: the same statement without one of the keys that it groups by.
//!
//! ```text
//! SELECT region, year, count(*) AS persons FROM dfe.attainment GROUP BY region, year ORDER BY region, year
//! SELECT region, count(*) AS persons FROM dfe.attainment GROUP BY region ORDER BY region                       without year
//! ```
//!
//! Only where the rest surely stays the same question: a key that stands anywhere else, in HAVING say, stays, and what is more than
//! one SELECT with plain keys has no coarser grouping here. Conditions of WHERE stay as they are. An edited statement is a guess: the
//! gateway judges it like any other.

use std::mem::take;
use std::ops::ControlFlow;
use std::slice::from_ref;

use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, Value, ValueWithSpan, Visit,
    visit_expressions,
};

/// How deeply the parser nests, as the gateway's does.
const MAX_NESTING: usize = 40;

/// What can be asked instead of a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Groupings {
    /// The places of the answer's columns that are no keys.
    pub(super) values: Vec<usize>,
    /// One for each key, in the order of GROUP BY.
    pub(super) coarser: Vec<Coarser>,
}

/// A statement without one of its keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Coarser {
    /// The key.
    pub(super) without: String,
    /// The statement; `None` where the key also stands where it cannot just be left out.
    pub(super) sql: Option<String>,
    /// The places of its answer's columns that are no keys.
    pub(super) values: Vec<usize>,
}

/// A column's name, with or without its table's.
type Name = [Ident];

/// The coarser groupings of `sql`, or why there are none. The gateway has taken the statement before: it is bounded.
pub(super) fn groupings(sql: &str) -> Result<Groupings, &'static str> {
    let query = parsed(sql).ok_or("the statement is no plain SELECT")?;
    let SetExpr::Select(select) = query.body.as_ref() else { return Err("the statement is more than one SELECT") };
    if query.with.is_some() {
        return Err("the statement has a WITH");
    }
    if query.limit_clause.is_some() || query.fetch.is_some() || !query.pipe_operators.is_empty() {
        return Err("the statement limits its rows");
    }
    if select.distinct.is_some() || select.top.is_some() || select.qualify.is_some() || !select.named_window.is_empty() {
        return Err("the statement has a DISTINCT, QUALIFY or WINDOW of its own");
    }
    let GroupByExpr::Expressions(grouped, modifiers) = &select.group_by else { return Err("GROUP BY ALL names no keys") };
    if grouped.is_empty() && modifiers.is_empty() {
        return Err("the statement has no GROUP BY of its own; of a view, ask in SQL for what it computes");
    }
    let keys = grouped.iter().map(name).collect::<Option<Vec<_>>>().filter(|_| modifiers.is_empty());
    let mut known: Vec<&Name> = Vec::new();
    for key in keys.ok_or("its keys are not all plain columns")? {
        if !known.iter().any(|other| same(other, key)) {
            known.push(key);
        }
    }
    let keys = known;
    if keys.len() < 2 {
        return Err("the statement groups by one key only");
    }
    if !select.projection.iter().all(|item| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })) {
        return Err("its columns are not all named");
    }
    let values = values(&select.projection, &keys);
    if values.is_empty() {
        return Err("the statement computes nothing");
    }
    let coarser = keys.iter().map(|key| Coarser::of(&query, select, key, &keys)).collect();
    Ok(Groupings { values, coarser })
}

impl Coarser {
    fn of(query: &Query, select: &Select, key: &Name, keys: &[&Name]) -> Self {
        let without = key.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
        let Some(left) = left(query, select, key) else { return Self { without, sql: None, values: Vec::new() } };
        let values = match left.body.as_ref() {
            SetExpr::Select(select) => values(&select.projection, keys),
            _ => Vec::new(),
        };
        Self { without, sql: Some(left.to_string()), values }
    }
}

/// What is left of a statement without `key`.
fn left(query: &Query, select: &Select, key: &Name) -> Option<Query> {
    let gone: Vec<bool> = select.projection.iter().map(|item| shows(item, key)).collect();
    let names = names(select, key);
    let about = |expr: &Expr| name(expr).is_some_and(|name| names.iter().any(|of| same(of, name)));
    let mut kept = select.clone();
    kept.projection.retain(|item| !shows(item, key));
    let GroupByExpr::Expressions(keys, _) = &mut kept.group_by else { return None };
    keys.retain(|key| !about(key));
    if keys.is_empty() {
        return None;
    }
    let mut order = query.order_by.clone();
    if let Some(by) = &mut order {
        let OrderByKind::Expressions(entries) = &mut by.kind else { return None };
        *entries = take(entries).into_iter().filter(|entry| !about(&entry.expr)).filter_map(|entry| placed(entry, &gone)).collect();
        if entries.is_empty() {
            order = None;
        }
    }
    if mentions(&kept.projection, &about) || mentions(&kept.having, &about) || mentions(&order, &about) {
        return None;
    }
    Some(Query { body: Box::new(SetExpr::Select(Box::new(kept))), order_by: order, ..query.clone() })
}

/// The names by which a statement can mean a key: its own, and those that the SELECT list gives it.
fn names<'a>(select: &'a Select, key: &'a Name) -> Vec<&'a Name> {
    let mut names = vec![key];
    for item in select.projection.iter().filter(|item| shows(item, key)) {
        match item {
            SelectItem::UnnamedExpr(expr) => names.extend(name(expr)),
            SelectItem::ExprWithAlias { expr, alias } => names.extend(name(expr).into_iter().chain([from_ref(alias)])),
            _ => {}
        }
    }
    names
}

/// Whether an item of the SELECT list is the key and nothing else. GROUP BY may name it by its alias.
fn shows(item: &SelectItem, key: &Name) -> bool {
    match item {
        SelectItem::UnnamedExpr(expr) => name(expr).is_some_and(|name| same(name, key)),
        SelectItem::ExprWithAlias { expr, alias } => {
            name(expr).is_some_and(|name| same(name, key) || key.len() == 1 && same(from_ref(alias), key))
        }
        _ => false,
    }
}

/// The places of a SELECT list that are no keys.
fn values(items: &[SelectItem], keys: &[&Name]) -> Vec<usize> {
    let places = items.iter().enumerate();
    places.filter(|(_, item)| !keys.iter().any(|key| shows(item, key))).map(|(place, _)| place).collect()
}

/// An entry of ORDER BY among what is left; one that counts columns counts those that are left.
fn placed(mut entry: OrderByExpr, gone: &[bool]) -> Option<OrderByExpr> {
    if let Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) = &mut entry.expr {
        let place = number.parse::<usize>().ok()?.checked_sub(1)?;
        if *gone.get(place)? {
            return None;
        }
        let before = gone.iter().take(place).filter(|gone| !**gone).count();
        *number = before.saturating_add(1).to_string();
    }
    Some(entry)
}

fn mentions(node: &impl Visit, about: &impl Fn(&Expr) -> bool) -> bool {
    let found = visit_expressions(node, |expr| if about(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
    found.is_break()
}

/// The column that an expression is.
fn name(expr: &Expr) -> Option<&Name> {
    match expr {
        Expr::Identifier(column) => Some(from_ref(column)),
        Expr::CompoundIdentifier(parts) => Some(parts.as_slice()),
        _ => None,
    }
}

/// Whether two names can mean the same column: alike as far as both go.
fn same(one: &Name, other: &Name) -> bool {
    one.iter().rev().zip(other.iter().rev()).all(|(one, other)| plain(one) == plain(other))
}

/// An identifier as SQL compares it.
fn plain(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn parsed(sql: &str) -> Option<Query> {
    let parser = DFParserBuilder::new(sql).with_recursion_limit(MAX_NESTING).build();
    let mut statements = parser.and_then(|mut parser| parser.parse_statements()).ok()?;
    match (statements.pop_front()?, statements.is_empty()) {
        (Parsed::Statement(statement), true) => match *statement {
            Statement::Query(query) => Some(*query),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of each key: `key: statement`, without a statement where the key cannot be left out.
    fn each(sql: &str) -> Vec<String> {
        let all = groupings(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).coarser;
        all.into_iter().map(|one| format!("{}: {}", one.without, one.sql.unwrap_or_default())).collect()
    }

    #[test]
    fn a_key_is_left_out_wherever_it_stands() {
        for (sql, expected) in [
            (
                "SELECT region, year, count(*) AS n FROM a.b GROUP BY region, year ORDER BY region, n DESC",
                [
                    "region: SELECT year, count(*) AS n FROM a.b GROUP BY year ORDER BY n DESC",
                    "year: SELECT region, count(*) AS n FROM a.b GROUP BY region ORDER BY region, n DESC",
                ],
            ),
            (
                "SELECT x.region AS r, y.region AS s, sum(x.v) AS v FROM a.b x JOIN c.d y ON x.subject = y.subject \
                 WHERE x.region = $region GROUP BY x.region, y.region ORDER BY r, y.region",
                [
                    "x.region: SELECT y.region AS s, sum(x.v) AS v FROM a.b x JOIN c.d y ON x.subject = y.subject WHERE x.region = $region GROUP BY y.region ORDER BY y.region",
                    "y.region: SELECT x.region AS r, sum(x.v) AS v FROM a.b x JOIN c.d y ON x.subject = y.subject WHERE x.region = $region GROUP BY x.region ORDER BY r",
                ],
            ),
            // By ordinal, by alias, in another case, unqualified beside qualified, not shown at all.
            (
                "SELECT count(*) AS n, t.Region AS area, year FROM a.b AS t GROUP BY area, t.year ORDER BY 3, 2 DESC, 1",
                [
                    "area: SELECT count(*) AS n, year FROM a.b AS t GROUP BY t.year ORDER BY 2, 1",
                    "t.year: SELECT count(*) AS n, t.Region AS area FROM a.b AS t GROUP BY area ORDER BY 2 DESC, 1",
                ],
            ),
            (
                "SELECT avg(v) FROM a.b GROUP BY \"Band\", band HAVING avg(v) > 1 ORDER BY band",
                [
                    "\"Band\": SELECT avg(v) FROM a.b GROUP BY band HAVING avg(v) > 1 ORDER BY band",
                    "band: SELECT avg(v) FROM a.b GROUP BY \"Band\" HAVING avg(v) > 1",
                ],
            ),
        ] {
            assert_eq!(each(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_key_that_stands_elsewhere_stays() {
        for sql in [
            "SELECT region, year, count(*) AS n FROM a.b GROUP BY region, year HAVING region <> 'x'",
            "SELECT region, year, count(*) AS n FROM a.b GROUP BY region, year ORDER BY upper(region)",
            "SELECT upper(region) AS r, year, count(*) AS n FROM a.b GROUP BY region, year",
            "SELECT region, year, count(*) FILTER (WHERE region = 'x') AS n FROM a.b GROUP BY region, year",
            "SELECT region AS r, year, count(*) AS n FROM a.b GROUP BY region, year HAVING r <> 'x'",
        ] {
            let all = each(sql);
            assert!(all[0] == "region: " && all[1].starts_with("year: SELECT"), "{sql}: {all:?}");
        }
    }

    #[test]
    fn values_are_the_columns_that_are_no_keys() {
        let all = groupings("SELECT count(*) AS n, region, avg(v) AS m, year FROM a.b GROUP BY region, year").unwrap();
        assert_eq!(all.values, [0, 2]);
        assert_eq!(all.coarser.iter().map(|one| one.values.clone()).collect::<Vec<_>>(), [[0, 1], [0, 2]]);
    }

    #[test]
    fn what_is_more_complicated_has_none_and_says_why() {
        for (sql, why) in [
            ("SELECT * FROM views.v", "no GROUP BY of its own"),
            ("SELECT count(*) AS n FROM a.b", "no GROUP BY of its own"),
            ("SELECT region, count(*) AS n FROM a.b GROUP BY region", "one key only"),
            ("SELECT b.region, count(*) AS n FROM a.b GROUP BY region, b.region", "one key only"),
            ("SELECT region, year FROM a.b GROUP BY region, year", "computes nothing"),
            ("SELECT region, year, count(*) AS n FROM a.b GROUP BY 1, 2", "plain columns"),
            ("SELECT region, year, count(*) AS n FROM a.b GROUP BY region, upper(year)", "plain columns"),
            ("SELECT region, year, count(*) AS n FROM a.b GROUP BY ROLLUP (region, year)", "plain columns"),
            ("SELECT region, year, count(*) AS n FROM a.b GROUP BY region, year WITH ROLLUP", "plain columns"),
            ("SELECT region, count(*) AS n FROM a.b GROUP BY ALL", "GROUP BY ALL"),
            ("SELECT region, year, count(*) AS n FROM a.b GROUP BY region, year LIMIT 3", "limits its rows"),
            ("SELECT DISTINCT region, year, count(*) AS n FROM a.b GROUP BY region, year", "DISTINCT"),
            ("WITH t AS (SELECT 1) SELECT region, year, count(*) AS n FROM t GROUP BY region, year", "WITH"),
            ("SELECT a, b, count(*) FROM x.y GROUP BY a, b UNION ALL SELECT a, b, count(*) FROM x.z GROUP BY a, b", "one SELECT"),
            ("SELECT 1; SELECT 2", "plain SELECT"),
            ("SELEC", "plain SELECT"),
        ] {
            let told = groupings(sql).unwrap_err();
            assert!(told.contains(why), "{sql}: {told}");
        }
    }
}
