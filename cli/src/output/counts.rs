//! Who is missing from the number, in a line for each source: rows that its department considered and what became of them, subjects
//! that came and found a partner. Numbers are rounded; null is fewer than the number to which they are rounded.

use serde_json::Value;

use crate::out::thousands;

/// The lines of an answer's sources.
pub(super) fn lines(sources: &[Value]) -> Vec<String> {
    sources.iter().filter_map(line).collect()
}

fn line(source: &Value) -> Option<String> {
    let name = format!("{}.{}", source.get("department")?.as_str()?, source.get("dataset")?.as_str()?);
    let counts = source.get("counts")?;
    if let Some(why) = counts.get("not_told").and_then(Value::as_str) {
        return Some(format!("{name}: not counted: {why}"));
    }
    let rows = [
        ("considered", "rows considered"),
        ("invalid_identifiers", "without a valid identifier"),
        ("withheld", "withheld by people's choices"),
        ("delivered", "delivered"),
    ];
    let subjects = [("delivered", "subjects"), ("matched", "with a partner")];
    let of = |part: &str, counts: &[(&str, &str)], all: &Value| {
        let all = all.get(part)?;
        let told: Vec<String> = counts.iter().filter_map(|(key, what)| Some(format!("{} {what}", count(all, key)?))).collect();
        Some(format!("{} (to the nearest {})", told.join(", "), all.get("rounded_to")?))
    };
    let why = counts.get("rows").and_then(|rows| rows.get("considered_not_told")).and_then(Value::as_str);
    let why = why.map(|why| format!("rows considered are not told: {why}"));
    let parts: Vec<String> = [of("rows", &rows, counts), of("subjects", &subjects, counts), why].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("{name}: {}", parts.join("; ")))
}

/// A count; nothing where it was not counted, or is not told for a reason of its own.
fn count(counts: &Value, key: &str) -> Option<String> {
    if counts.get(format!("{key}_not_told")).is_some() {
        return None;
    }
    match counts.get(key)? {
        Value::Null => Some(format!("fewer than {}", counts.get("rounded_to")?)),
        told => told.as_u64().map(thousands),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_source_says_what_became_of_its_rows() {
        let rows = json!({ "rounded_to": 10, "considered": 71_230, "invalid_identifiers": 710, "withheld": null, "delivered": 70_510 });
        let subjects = json!({ "rounded_to": 20, "delivered": 70_500, "matched": 54_200 });
        let source = |counts: Value| json!({ "department": "dfe", "dataset": "attainment", "counts": counts });
        let sources = [
            source(json!({ "rows": rows, "subjects": subjects })),
            source(json!({ "rows": { "rounded_to": 10, "delivered": null }, "subjects": { "rounded_to": 10, "delivered": null } })),
            source(
                json!({ "rows": { "rounded_to": 10, "considered": null, "considered_not_told": "why", "withheld": 20, "delivered": 70 } }),
            ),
            source(json!({ "not_told": "agreement 'x' does not let its subjects be counted" })),
            json!({ "department": "dwp", "dataset": "claims" }),
        ];
        let expected = [
            "dfe.attainment: 71,230 rows considered, 710 without a valid identifier, fewer than 10 withheld by people's choices, \
             70,510 delivered (to the nearest 10); 70,500 subjects, 54,200 with a partner (to the nearest 20)",
            "dfe.attainment: fewer than 10 delivered (to the nearest 10); fewer than 10 subjects (to the nearest 10)",
            "dfe.attainment: 20 withheld by people's choices, 70 delivered (to the nearest 10); rows considered are not told: why",
            "dfe.attainment: not counted: agreement 'x' does not let its subjects be counted",
        ];
        assert_eq!(lines(&sources), expected);
    }
}
