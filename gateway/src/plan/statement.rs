//! SQL text to a logical plan: one SELECT, resolved against the permit's catalog, views planned as they are needed.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use concordat_mission::mission::Computed;
use concordat_policy::{Cause, Code, DatasetName, Name, Permit, Refusal};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, ScalarValue, TableReference};
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Select, SelectItem, SetExpr, Statement as Ast,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::failure::{hidden, refusal_of, refusal_of_statement};
use super::margins;
use super::parameters;
use super::repetition;
use super::session::VIEWS;
use crate::estate::View;

/// The longest statement, in bytes.
pub(crate) const MAX_STATEMENT: usize = 32 << 10;
/// How deeply views may refer to views.
const MAX_VIEW_DEPTH: usize = 8;
/// The most operators and joins, which bound how deep a plan can become: `a OR b OR c …` nests without brackets.
const MAX_OPERATORS: usize = 400;
/// How deeply the parser nests.
const MAX_NESTING: usize = 40;

/// What is asked: one SELECT, and the values of its parameters.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    /// In the order `$1`, `$2`, …, or of each `?`.
    pub(crate) parameters: Vec<ScalarValue>,
}

impl std::fmt::Debug for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Statement({} bytes, {} parameters)", self.sql.len(), self.parameters.len())
    }
}

impl Statement {
    /// What the log's keyed digest is made of: the text and, of each value, type, whether it is null, and text. Each part has its
    /// length before it, so that no two statements are digested alike.
    pub(crate) fn digested(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut add = |part: &str| {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part.as_bytes());
        };
        add(&self.sql);
        for value in &self.parameters {
            add(&value.data_type().to_string());
            add(if value.is_null() { "null" } else { "" });
            add(&value.to_string());
        }
        bytes
    }

    /// Bytes of memory that it takes.
    pub(crate) fn size(&self) -> usize {
        self.sql.len() + self.parameters.iter().map(ScalarValue::size).sum::<usize>()
    }
}

impl From<&str> for Statement {
    fn from(sql: &str) -> Self {
        Self { sql: sql.to_owned(), parameters: Vec::new() }
    }
}

/// Resolves a statement to a logical plan.
pub(super) async fn resolve(state: &mut SessionState, permit: &Permit, asked: &Statement, views: &[View]) -> Result<LogicalPlan, Refusal> {
    let mut statement = parse(&asked.sql)?;
    parameters::bind(&mut statement, &asked.parameters)?;
    let view = whole_view(&statement, permit, views);
    if let Some(view) = view {
        // DataFusion drops the ORDER BY of whatever stands in FROM; who reads a view as it is expects its order.
        statement = parse(&view.sql)?;
    }
    register_views(state, permit, &statement, views, 0).await?;
    let plan = state.statement_to_plan(statement).await.map_err(refusal_of_statement);
    if view.is_some() { plan.map_err(within_view) } else { plan }
}

/// The types of a statement's parameters, in order: what each is compared with, or text where that is not known.
pub(super) async fn parameter_types(
    state: &mut SessionState,
    permit: &Permit,
    sql: &str,
    views: &[View],
) -> Result<Vec<DataType>, Refusal> {
    let mut statement = parse(sql)?;
    let count = parameters::numbered(&mut statement)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    register_views(state, permit, &statement, views, 0).await?;
    let plan = state.statement_to_plan(statement).await.map_err(refusal_of_statement)?;
    let known = plan.get_parameter_types().map_err(refusal_of)?;
    let kind = |number: usize| match known.get(&format!("${number}")) {
        Some(Some(DataType::Dictionary(_, value))) => value.as_ref().clone(),
        Some(Some(kind)) => kind.clone(),
        _ => DataType::Utf8,
    };
    Ok((1..=count).map(kind).collect())
}

/// Parses exactly one read-only SELECT.
pub(crate) fn parse(sql: &str) -> Result<Parsed, Refusal> {
    if sql.len() > MAX_STATEMENT {
        return Err(Refusal::new(Code::LimitExceeded, "a statement may be at most 32 KiB long").advice("publish part of it as a view"));
    }
    bounded(sql)?;
    let mut statements = DFParserBuilder::new(sql)
        .with_recursion_limit(MAX_NESTING)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(refusal_of)?;
    let one = statements.pop_front();
    match (one, statements.is_empty()) {
        (Some(Parsed::Statement(ast)), true) => match ast.as_ref() {
            Ast::Query(query) if query.locks.is_empty() && selects(&query.body) => {
                repetition::bounded(&ast)?;
                margins::bounded(&ast)?;
                Ok(Parsed::Statement(ast))
            }
            _ => Err(only_select()),
        },
        (None, _) => Err(Refusal::new(Code::Invalid, "the statement is empty").advice("send one SELECT")),
        (Some(_), false) => {
            Err(Refusal::new(Code::Invalid, "several statements in one request are not offered").advice("send them one by one"))
        }
        (Some(_), true) => Err(only_select()),
    }
}

/// The view that the statement reads as it is: `SELECT * FROM views.name`.
fn whole_view<'v>(statement: &Parsed, permit: &Permit, views: &'v [View]) -> Option<&'v View> {
    let Parsed::Statement(ast) = statement else { return None };
    let text = ast.to_string();
    let asked = text.strip_prefix("SELECT * FROM ")?;
    let name = asked.strip_prefix("views.").unwrap_or(asked);
    views.iter().find(|v| v.mission == *permit.mission() && v.name == name)
}

/// Counts what can nest, before anything recursive looks at the statement.
fn bounded(sql: &str) -> Result<(), Refusal> {
    let tokens =
        Tokenizer::new(&GenericDialect {}, sql).tokenize().map_err(|e| refusal_of(DataFusionError::SQL(Box::new(e.into()), None)))?;
    let nests = |token: &&Token| match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::CASE
                | Keyword::SELECT
                | Keyword::UNION
                | Keyword::JOIN
        ),
        Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) | Token::Period | Token::SemiColon => false,
        _ => true,
    };
    let word = |keyword| tokens.iter().any(|t| matches!(t, Token::Word(w) if w.keyword == keyword));
    if word(Keyword::TABLESAMPLE) {
        return Err(Refusal::new(Code::Invalid, "TABLESAMPLE is not offered").advice("ask for all rows; answers are summaries"));
    }
    if tokens.iter().filter(nests).count() > MAX_OPERATORS {
        return Err(Refusal::new(
            Code::LimitExceeded,
            format!("the statement holds more than {MAX_OPERATORS} operators, brackets and joins"),
        )
        .advice("use IN lists, or publish part of it as a view"));
    }
    Ok(())
}

/// The tables that a statement names: (schema, table), for checking a view when it is read.
pub(crate) fn tables(sql: &str) -> Result<Vec<(Option<String>, String)>, Refusal> {
    static EMPTY: LazyLock<SessionState> = LazyLock::new(|| SessionStateBuilder::new().build());
    let references = EMPTY.resolve_table_references(&parse(sql)?).map_err(refusal_of)?;
    Ok(references.into_iter().map(|r| (r.schema().map(str::to_owned), r.table().to_owned())).collect())
}

/// The names of a view's columns, for checking what names them when the estate is read; where its outermost SELECT does not name them all,
/// why they cannot be told.
pub(crate) fn columns(sql: &str) -> Result<Vec<String>, String> {
    let selects = selected(sql)?;
    // The names are those of the first.
    let first = selects.first().ok_or_else(|| "it is no SELECT".to_owned())?;
    first.projection.iter().map(|item| name_of(item).map(folded)).collect()
}

/// What a column of a view is computed by, where that is one call of an aggregate, the same in each SELECT of a UNION; `None` where that
/// cannot be told.
pub(crate) fn computed(sql: &str, column: &str) -> Option<Computed> {
    let selects = selected(sql).ok()?;
    let place = selects.first()?.projection.iter().position(|item| name_of(item).is_ok_and(|name| folded(name) == column))?;
    let mut all = selects.iter().map(|select| match select.projection.get(place)? {
        SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr) => by_call(expr),
        _ => None,
    });
    let first = all.next()??;
    // Of a mean that is of ones in one place only, no more is told than that it is one.
    all.try_fold(first, |first, other| match (first, other?) {
        (first, other) if first == other => Some(first),
        (Computed::Mean | Computed::MeanOfOnes, Computed::Mean | Computed::MeanOfOnes) => Some(Computed::Mean),
        _ => None,
    })
}

fn by_call(expr: &Expr) -> Option<Computed> {
    let call = match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => return by_call(inner),
        Expr::Function(call) if call.over.is_none() => call,
        _ => return None,
    };
    let name = call.name.to_string().to_ascii_lowercase();
    let FunctionArguments::List(list) = &call.args else { return None };
    let argument = match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] => Some(argument),
        _ => None,
    };
    match name.as_str() {
        "count" => Some(Computed::Count),
        "avg" | "mean" if argument.is_some_and(is_one_or_zero) => Some(Computed::MeanOfOnes),
        "avg" | "mean" => Some(Computed::Mean),
        // Of whatever else is an aggregate, the bounds of neither kind hold.
        "sum" | "min" | "max" | "median" | "stddev" | "stddev_pop" | "stddev_samp" | "var" | "var_pop" | "var_samp" => {
            Some(Computed::Other(name))
        }
        _ => None,
    }
}

/// `CASE WHEN … THEN 1 ELSE 0 END`.
fn is_one_or_zero(expr: &Expr) -> bool {
    let digit = |expr: &Expr| expr.to_string().parse::<f64>().is_ok_and(|number| number == 0.0 || (number - 1.0).abs() < f64::EPSILON);
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => is_one_or_zero(inner),
        Expr::Case { conditions, else_result, .. } => {
            conditions.iter().all(|when| digit(&when.result)) && else_result.as_deref().is_none_or(digit)
        }
        _ => false,
    }
}

/// The outermost SELECTs of a view: one, or those of a UNION in their order.
fn selected(sql: &str) -> Result<Vec<Select>, String> {
    let Parsed::Statement(ast) = parse(sql).map_err(|refusal| refusal.message)? else { return Err("it is no SELECT".into()) };
    let Ast::Query(query) = *ast else { return Err("it is no SELECT".into()) };
    let (mut left, mut selects) = (vec![*query.body], Vec::new());
    while let Some(body) = left.pop() {
        match body {
            SetExpr::Select(select) => selects.push(*select),
            SetExpr::Query(query) => left.push(*query.body),
            SetExpr::SetOperation { left: one, right: other, .. } => left.extend([*other, *one]),
            _ => return Err("it is no SELECT".into()),
        }
    }
    Ok(selects)
}

/// As DataFusion resolves it: what is not quoted is in lower case.
fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
}

fn name_of(item: &SelectItem) -> Result<&Ident, String> {
    let name = match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last(),
        _ => None,
    };
    name.ok_or_else(|| format!("'{item}' has no name"))
}

/// For the log: the mission's views that a statement names itself, and the permit's datasets that it names, itself or through these
/// views. Nothing else of the statement is among them, and nothing that the caller may not use or does not exist; of one that does not
/// parse, nothing.
pub(crate) fn named(sql: &str, permit: &Permit, views: &[View]) -> (Vec<String>, Vec<String>) {
    let (mut datasets, mut itself, mut followed, mut left) = (BTreeSet::new(), None, BTreeSet::new(), vec![sql]);
    while let Some(sql) = left.pop() {
        let tables = tables(sql).unwrap_or_default();
        for (schema, table) in &tables {
            let dataset = schema.as_deref().and_then(|schema| Some(DatasetName::new(Name::parse(schema).ok()?, Name::parse(table).ok()?)));
            datasets.extend(dataset.filter(|dataset| permit.dataset(dataset).is_some()).map(|dataset| dataset.to_string()));
        }
        let is_named = |view: &&View| {
            let by = |(schema, table): &(Option<String>, String)| schema.as_deref().is_none_or(|s| s == VIEWS) && *table == view.name;
            view.mission == *permit.mission() && tables.iter().any(by)
        };
        let named: Vec<&View> = views.iter().filter(is_named).collect();
        itself.get_or_insert_with(|| named.iter().map(|view| view.name.clone()).collect());
        left.extend(named.iter().filter(|view| followed.insert(view.name.as_str())).map(|view| view.sql.as_str()));
    }
    (itself.unwrap_or_default(), datasets.into_iter().collect())
}

/// No INSERT, UPDATE or SELECT … INTO hides in the query.
fn selects(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::Query(query) => selects(&query.body),
        SetExpr::SetOperation { left, right, .. } => selects(left) && selects(right),
        SetExpr::Values(_) => true,
        _ => false,
    }
}

fn only_select() -> Refusal {
    Refusal::new(Code::Invalid, "only SELECT is offered: nothing can be changed, explained or configured here")
        .advice("send one SELECT; `concordat catalogue` shows what there is to ask, `concordat explain` what would become of it")
}

/// Plans the views that `statement` names, and those that they name, and puts them into the catalog.
fn register_views<'a>(
    state: &'a mut SessionState,
    permit: &'a Permit,
    statement: &'a Parsed,
    views: &'a [View],
    depth: usize,
) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>> {
    Box::pin(async move {
        if depth > MAX_VIEW_DEPTH {
            return Err(Refusal::new(Code::Invalid, format!("views refer to each other more than {MAX_VIEW_DEPTH} deep, or in a circle")));
        }
        for reference in state.resolve_table_references(statement).map_err(refusal_of)? {
            if let Some(refusal) = told(&reference, permit) {
                // Whoever may know of a dataset is not told of views that read it.
                let known = depth > 0 && matches!(refusal.cause(), Some(Cause::Known { .. }));
                return Err(if known {
                    hidden().operator("a view reads a dataset that this caller may only know of")
                } else {
                    refusal.clone()
                });
            }
            let Some(view) = view_of(&reference, permit, views) else { continue };
            if state.schema_for_ref(TableReference::partial(VIEWS, view.name.as_str())).map_err(refusal_of)?.table_exist(&view.name) {
                continue;
            }
            let inner = parse(&view.sql)?;
            register_views(state, permit, &inner, views, depth + 1).await?;
            let plan = state.statement_to_plan(inner).await.map_err(refusal_of_statement).map_err(within_view)?;
            let table = Arc::new(ViewTable::new(plan, None));
            let schema = state.schema_for_ref(TableReference::partial(VIEWS, view.name.as_str())).map_err(refusal_of)?;
            schema.register_table(view.name.clone(), table).map_err(refusal_of)?;
        }
        Ok(())
    })
}

/// A name that only a view's own text holds is nobody's to learn: such a view is refused like one that does not exist.
fn within_view(refusal: Refusal) -> Refusal {
    match refusal.cause() {
        Some(Cause::Hidden { column: Some(_) }) => hidden().operator("a view names a column that this caller may not use"),
        _ => refusal,
    }
}

/// The refusal of a dataset of which the caller is told more than that: the catalog does not hold it, so that it would look absent.
fn told<'p>(reference: &TableReference, permit: &'p Permit) -> Option<&'p Refusal> {
    permit.told(&DatasetName::new(Name::parse(reference.schema()?).ok()?, Name::parse(reference.table()).ok()?))
}

fn view_of<'v>(reference: &TableReference, permit: &Permit, views: &'v [View]) -> Option<&'v View> {
    let in_views = reference.schema().is_none_or(|schema| schema == VIEWS);
    views.iter().find(|v| in_views && v.mission == *permit.mission() && v.name == reference.table())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_statements_are_digested_alike() {
        let of = |values: [&str; 2]| {
            let parameters = values.map(ScalarValue::from).to_vec();
            Statement { sql: "SELECT 1 WHERE $1 = $2".into(), parameters }.digested()
        };
        assert_ne!(of(["London", "x\")\0Utf8(\"y"]), of(["London\")\0Utf8(\"x", "y"]));
        assert_ne!(of(["a", "bc"]), of(["ab", "c"]));
        let null = Statement { sql: "SELECT $1".into(), parameters: vec![ScalarValue::Utf8(None)] };
        let text = Statement { sql: "SELECT $1".into(), parameters: vec![ScalarValue::from("NULL")] };
        assert_ne!(null.digested(), text.digested());
    }

    #[test]
    fn columns_have_their_names_or_a_reason() {
        for (sql, expected) in [
            ("SELECT a.region, count(*) AS persons, Total, \"Odd\" FROM a GROUP BY ROLLUP (a.region)", "region, persons, total, Odd"),
            ("(SELECT a FROM x) UNION ALL (SELECT b FROM y)", "a"),
            ("WITH t AS (SELECT 1 AS x) SELECT x AS y FROM t", "y"),
        ] {
            assert_eq!(columns(sql).unwrap().join(", "), expected, "{sql}");
        }
        for (sql, why) in
            [("SELECT * FROM a", "'*' has no name"), ("SELECT count(*) FROM a", "has no name"), ("VALUES (1)", "no SELECT"), ("SELEC", "")]
        {
            assert!(columns(sql).unwrap_err().contains(why), "{sql}");
        }
    }

    #[test]
    fn what_a_column_is_computed_by_is_told_where_one_call_does_it() {
        let other = |name: &str| Some(Computed::Other(name.to_owned()));
        for (expression, expected) in [
            ("count(DISTINCT subject)", Some(Computed::Count)),
            ("COUNT(*) FILTER (WHERE a)", Some(Computed::Count)),
            ("avg(score)", Some(Computed::Mean)),
            ("avg(CASE WHEN a THEN 1.0 ELSE 0.0 END)", Some(Computed::MeanOfOnes)),
            ("avg(CASE WHEN a THEN 1 WHEN b THEN 0 END)", Some(Computed::MeanOfOnes)),
            ("avg(CASE WHEN a THEN 2.0 ELSE 0.0 END)", Some(Computed::Mean)),
            ("(CAST(sum(amount) AS BIGINT))", other("sum")),
            ("max(score)", other("max")),
            ("sum(amount) / count(*)", None),
            ("persons", None),
        ] {
            assert_eq!(computed(&format!("SELECT region, {expression} AS m FROM t GROUP BY region"), "m"), expected, "{expression}");
        }
        let both = |one: &str, other: &str| computed(&format!("SELECT {one} AS m FROM t UNION ALL SELECT {other} FROM u"), "m");
        assert_eq!(both("sum(a)", "sum(b)"), other("sum"));
        assert_eq!(both("count(*)", "sum(b)"), None);
        assert_eq!(both("avg(a)", "avg(CASE WHEN b THEN 1 ELSE 0 END)"), Some(Computed::Mean));
        assert_eq!(computed("SELECT sum(a) AS m FROM t", "n"), None);
    }

    #[test]
    fn only_one_select_passes() {
        for sql in ["SELECT 1", "WITH a AS (SELECT 1 AS x) SELECT x FROM a", "(SELECT 1) UNION ALL (SELECT 2)", "VALUES (1)", "SELECT 1;"] {
            assert!(parse(sql).is_ok(), "{sql}");
        }
        for sql in [
            "",
            ";",
            "SELECT 1; SELECT 2",
            "SELECT 1; DROP TABLE x",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "DESCRIBE x",
            "SHOW TABLES",
            "SHOW ALL",
            "SET x = 1",
            "RESET x",
            "CREATE TABLE x (a INT)",
            "CREATE TABLE x AS SELECT 1",
            "CREATE VIEW x AS SELECT 1",
            "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
            "DROP TABLE x",
            "INSERT INTO x VALUES (1)",
            "UPDATE x SET a = 1",
            "DELETE FROM x",
            "COPY x TO '/tmp/x.csv'",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "SELECT 1 INTO x",
            "SELECT 1 FROM x FOR UPDATE",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "BEGIN",
            "COMMIT",
            "USE x",
            "TRUNCATE x",
            "KILL 1",
            "WITH a AS (INSERT INTO x VALUES (1)) SELECT 1 FROM a WHERE",
            "SELEC 1",
        ] {
            let refusal = parse(sql).unwrap_err();
            assert_eq!(refusal.code, Code::Invalid, "{sql}");
        }
        let long = format!("SELECT '{}'", "x".repeat(MAX_STATEMENT));
        assert_eq!(parse(&long).unwrap_err().code, Code::LimitExceeded);
        let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
        assert!(parse(&deep).is_err());
    }
}
