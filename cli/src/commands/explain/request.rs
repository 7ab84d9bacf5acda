//! What a node would be asked for, as a line and as JSON. Its condition stands as SQL would write it; the caller wrote its literals.

use concordat_policy::{Comparison, Predicate, Value};
use concordat_proto::v1::NodeRequest;
use concordat_proto::{predicate, v1};
use serde_json::json;

use super::words::printable;

/// Node, dataset, columns, rows, parts.
pub(super) fn row(asked: &NodeRequest) -> Vec<String> {
    let request = asked.request.clone().unwrap_or_default();
    let columns = match &request.grouping {
        Some(grouping) => groups(grouping),
        None if request.columns.is_empty() => "none".to_owned(),
        None => request.columns.join(", "),
    };
    let rows = rows(&request).unwrap_or_else(|| "all".into());
    vec![asked.department.clone(), request.dataset.clone(), columns, rows, request.partitions.to_string()]
}

pub(super) fn to_json(asked: &NodeRequest) -> serde_json::Value {
    let request = asked.request.clone().unwrap_or_default();
    let domain = request.domain.as_ref().map(|d| json!({ "mission": d.mission, "purpose": d.purpose, "epoch": d.epoch }));
    json!({
        "department": asked.department,
        "dataset": request.dataset,
        "agreement": request.agreement,
        "agreement_digest": request.agreement_digest,
        "domain": domain,
        "columns": request.columns,
        "grouping": request.grouping.as_ref().map(|grouping| json!({ "keys": grouping.keys, "values": grouping.values, "sums": grouping.sums, "number_sums": grouping.number_sums })),
        "rows": rows(&request),
        "partitions": request.partitions,
        "basis": request.basis().as_str_name().trim_start_matches("BASIS_").to_lowercase(),
    })
}

/// What comes in the place of rows and pseudonyms.
fn groups(grouping: &v1::Grouping) -> String {
    let by = if grouping.keys.is_empty() { "all as one group".to_owned() } else { format!("groups by {}", grouping.keys.join(", ")) };
    let of = if grouping.values.is_empty() { String::new() } else { format!(" and of {}", grouping.values.join(", ")) };
    format!("{by}: totals of rows{of}")
}

/// The condition on rows; `None` where all are asked for.
fn rows(request: &v1::ReleaseRequest) -> Option<String> {
    let wire = request.predicate.as_ref()?;
    Some(predicate::parse(wire).map_or_else(|_| "a condition that this program does not know".into(), |known| condition(&known)))
}

fn condition(predicate: &Predicate) -> String {
    let list = |parts: &[Predicate], by: &str, none: &str| match parts {
        [] => none.to_owned(),
        [only] => condition(only),
        parts => parts.iter().map(bracketed).collect::<Vec<_>>().join(by),
    };
    match predicate {
        Predicate::Compare { column, comparison, value } => format!("{column} {} {}", sign(*comparison), literal(value)),
        Predicate::In { column, values } => format!("{column} IN ({})", values.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Predicate::IsNull { column } => format!("{column} IS NULL"),
        Predicate::IsTrue { column } => column.clone(),
        Predicate::And(parts) => list(parts, " AND ", "true"),
        Predicate::Or(parts) => list(parts, " OR ", "false"),
        Predicate::Not(part) => format!("NOT {}", bracketed(part)),
    }
}

fn bracketed(part: &Predicate) -> String {
    match part {
        Predicate::And(_) | Predicate::Or(_) | Predicate::Not(_) => format!("({})", condition(part)),
        _ => condition(part),
    }
}

fn sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("'{}'", printable(&text.replace('\'', "''"))),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Date(day) => format!("'{day}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_reads_as_sql() {
        let compare = |column: &str, comparison, value| Predicate::Compare { column: column.into(), comparison, value };
        let either = Predicate::Or(vec![Predicate::IsNull { column: "b".into() }, Predicate::IsTrue { column: "c".into() }]);
        let all = Predicate::And(vec![
            compare("a", Comparison::GreaterOrEqual, Value::Integer(3)),
            Predicate::Not(Box::new(either)),
            Predicate::In { column: "d".into(), values: vec![Value::Text("it's".into()), Value::Text("x".into())] },
        ]);
        assert_eq!(condition(&all), "a >= 3 AND (NOT (b IS NULL OR c)) AND d IN ('it''s', 'x')");
        let request = v1::ReleaseRequest { dataset: "claims".into(), partitions: 2, ..v1::ReleaseRequest::default() };
        let asked = NodeRequest { department: "dwp".into(), request: Some(request) };
        assert_eq!(row(&asked), ["dwp", "claims", "none", "all", "2"]);
        assert_eq!(to_json(&asked)["grouping"], json!(null));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let grouped = |keys: &[&str], values: &[&str]| NodeRequest {
            request: asked.request.clone().map(|request| v1::ReleaseRequest {
                grouping: Some(v1::Grouping { keys: names(keys), values: names(values), ..v1::Grouping::default() }),
                ..request
            }),
            ..asked.clone()
        };
        assert_eq!(row(&grouped(&["region", "open"], &["months"]))[2], "groups by region, open: totals of rows and of months");
        assert_eq!(row(&grouped(&[], &[]))[2], "all as one group: totals of rows");
        assert_eq!(
            to_json(&grouped(&["region"], &[]))["grouping"],
            json!({ "keys": ["region"], "values": [], "sums": [], "number_sums": [] })
        );
    }
}
