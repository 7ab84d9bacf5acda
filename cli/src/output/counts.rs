//! Who is missing from the number, in a line for each source: the subjects that were considered and what became of them. Numbers are
//! rounded; null is fewer than the number to which they are rounded.

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
    let subjects = counts.get("subjects")?;
    let all = [
        ("considered", "subjects considered"),
        ("invalid_identifiers", "identifiers that are not valid"),
        ("withheld", "withheld by people's choices"),
        ("delivered", "delivered"),
        ("matched", "with a partner"),
    ];
    let told: Vec<String> = all.iter().filter_map(|(key, what)| Some(format!("{} {what}", count(subjects, key)?))).collect();
    let why = subjects.get("considered_not_told").and_then(Value::as_str);
    let why = why.map_or_else(String::new, |why| format!("; subjects considered are not told: {why}"));
    Some(format!("{name}: {} (to the nearest {}){why}", told.join(", "), subjects.get("rounded_to")?))
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
    fn each_source_says_what_became_of_its_subjects() {
        let subjects = json!({
            "rounded_to": 10, "considered": 71_230, "invalid_identifiers": 710, "withheld": null, "delivered": 70_520, "matched": 54_200,
        });
        let source = |counts: Value| json!({ "department": "dfe", "dataset": "attainment", "counts": counts });
        let not_told = json!({ "rounded_to": 10, "considered": null, "considered_not_told": "why", "withheld": 20, "delivered": 70 });
        let sources = [
            source(json!({ "subjects": subjects })),
            source(json!({ "subjects": { "rounded_to": 10, "delivered": null } })),
            source(json!({ "subjects": not_told })),
            source(json!({ "not_told": "agreement 'x' does not let its subjects be counted" })),
            json!({ "department": "dwp", "dataset": "claims" }),
        ];
        let expected = [
            "dfe.attainment: 71,230 subjects considered, 710 identifiers that are not valid, fewer than 10 withheld by people's choices, \
             70,520 delivered, 54,200 with a partner (to the nearest 10)",
            "dfe.attainment: fewer than 10 delivered (to the nearest 10)",
            "dfe.attainment: 20 withheld by people's choices, 70 delivered (to the nearest 10); subjects considered are not told: why",
            "dfe.attainment: not counted: agreement 'x' does not let its subjects be counted",
        ];
        assert_eq!(lines(&sources), expected);
    }
}
