//! `concordat query`: one question, one answer.

use clap::Args;

use super::Output;
use super::target::Target;
use crate::answer::to_json;
use crate::client::Answer;
use crate::failure::Result;
use crate::out;
use crate::table::Table;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat query --view opportunity_by_region
  concordat query --view cardiovascular_support --purpose health.prevention
  concordat query --output json --sql \"
    SELECT a.disadvantage_band, count(DISTINCT a.subject) AS persons, avg(c.months_claiming) AS months
    FROM dfe.attainment a JOIN dwp.claims c ON c.subject = a.subject
    WHERE c.conditionality = 'searching for work' GROUP BY a.disadvantage_band\"

Tables are department.dataset; `concordat views` lists them with their columns and permitted uses. Datasets join on subject,
the person's pseudonym. Answers are summaries: numbers that rest on too few people are withheld, and the answer says so.")]
#[group(skip)]
pub(crate) struct Query {
    #[command(flatten)]
    question: Question,
    /// Let the query run on by itself, and print the id with which `concordat result` picks its answer up
    #[arg(long)]
    detach: bool,
    /// How to print the answer
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    target: Target,
}

/// What is asked: one of the two.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Question {
    /// An outcome view of the estate
    #[arg(long, value_name = "NAME", value_parser = view_name)]
    view: Option<String>,
    /// One SELECT
    #[arg(long, value_name = "SELECT")]
    sql: Option<String>,
}

/// A view's name stands in SQL, so it must be one.
fn view_name(text: &str) -> std::result::Result<String, String> {
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if ok { Ok(text.to_owned()) } else { Err("a view's name consists of a-z, 0-9 and _".into()) }
}

pub(crate) async fn run(query: Query) -> Result<()> {
    let question = &query.question;
    let client = query.target.connect().await?;
    let sql = question.view.as_deref().map_or_else(|| question.sql.clone().unwrap_or_default(), of_view);
    if query.detach {
        let id = client.detach(&sql).await?;
        out::progress(&format!("pick the answer up with: {} result {id}", super::program()));
        return out::result(&format!("{id}\n"));
    }
    let answer = client.query(&sql).await?;
    print(question.view.as_deref(), &answer, query.output)
}

/// The question that asks for a view.
pub(crate) fn of_view(view: &str) -> String {
    format!("SELECT * FROM views.{view}")
}

/// Prints the answer to standard output; for tables, where it comes from to standard error.
pub(crate) fn print(view: Option<&str>, answer: &Answer, output: Output) -> Result<()> {
    if output == Output::Json {
        return out::result(&to_json(view, answer)?);
    }
    let (table, reasons) = Table::of_answer(&answer.schema, &answer.batches)?;
    out::result(&table.text(out::colour()))?;
    for reason in reasons {
        out::progress(&format!("withheld: {reason}"));
    }
    if let Some(left_out) = answer.summary.get("left_out").and_then(serde_json::Value::as_str) {
        out::progress(&format!("left out: {left_out}"));
    }
    if let Some(line) = footer(&answer.summary) {
        out::progress(&line);
    }
    Ok(())
}

/// One line about the answer's sources and its log entry.
fn footer(summary: &serde_json::Value) -> Option<String> {
    let text = |value: &serde_json::Value, key: &str| match value.get(key)? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Null => None,
        other => Some(other.to_string()),
    };
    let sources = summary.get("sources").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = sources.iter().filter_map(|source| Some(format!("{}.{}", text(source, "department")?, text(source, "dataset")?)));
    let mut parts = vec![format!("from {}", named.collect::<Vec<_>>().join(", "))];
    if sources.is_empty() {
        parts.clear();
    }
    parts.extend(text(summary, "query_id").map(|id| format!("query {id}")));
    parts.extend(text(summary, "log_entry").map(|entry| format!("log entry {entry}")));
    (!parts.is_empty()).then(|| parts.join(" · "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_footer_names_sources_query_and_log_entry() {
        let summary = serde_json::json!({
            "query_id": "q1", "log_entry": 7,
            "sources": [{ "department": "dfe", "dataset": "attainment" }, { "department": "dwp", "dataset": "claims" }],
        });
        assert_eq!(footer(&summary).as_deref(), Some("from dfe.attainment, dwp.claims · query q1 · log entry 7"));
        assert_eq!(footer(&serde_json::json!({})), None);
    }

    #[test]
    fn view_names_hold_no_sql() {
        assert!(view_name("opportunity_by_region").is_ok());
        for bad in ["", "a b", "a;", "A", "a.b", "a--"] {
            assert!(view_name(bad).is_err(), "{bad}");
        }
    }
}
