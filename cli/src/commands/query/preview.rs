//! `concordat query --preview`: how much of an answer would be withheld, without a number of it, and which coarser grouping keeps more.
//!
//! The gateway gets the question as any other, so that it is decided, protected, counted and logged like one. Its rows are dropped as
//! they come: what is told here are how many there are, and what the gateway states of them. The coarser statements are asked alike.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde_json::{Value, json};

use super::Query;
use super::coarser::{Coarser, Groupings, groupings};
use crate::client::{Client, Stage, Watch as _};
use crate::failure::{Failure, Result};
use crate::out::thousands;
use crate::output::Format;
use crate::parameters::Parameters;
use crate::progress::Progress;
use crate::table::{Table, WITHHELD};

/// The most coarser statements that are asked.
const MOST: usize = 4;

/// Asks, and prints what would be withheld.
pub(super) async fn run(query: &Query, sql: &str, parameters: &Parameters) -> Result<()> {
    let format = query.delivery.format(query.target.saved_output()?)?;
    if !matches!(format, Format::Table | Format::Json) {
        return Err(Failure::usage(format!("a preview is not written as {}", format.name())).advice("say --output table or --output json"));
    }
    let progress = query.delivery.watch();
    progress.stage(Stage::Connecting);
    let client = query.target.connect().await?.at_least(&query.at_least);
    let preview = Asking { client, parameters, progress: progress.clone() }.preview(sql).await?;
    progress.done();
    let view = query.question.view.as_deref();
    let text = if format == Format::Json { format!("{}\n", preview.json(view)) } else { preview.text(query.delivery.colour()) };
    query.delivery.hand_over_text(&text)
}

/// Who asks, and how.
struct Asking<'a> {
    client: Client,
    parameters: &'a Parameters,
    progress: Arc<Progress>,
}

impl Asking<'_> {
    async fn preview(&self, sql: &str) -> Result<Preview> {
        let mut preview = Preview { asked: self.counted(sql).await?, told: None, coarser: Vec::new(), notes: Vec::new() };
        if preview.asked.columns.iter().all(|column| column.withheld == 0) {
            preview.notes.push("nothing would be withheld: no coarser grouping was asked".into());
            return Ok(preview);
        }
        let Groupings { values, coarser } = match groupings(sql) {
            Ok(groupings) => groupings,
            Err(why) => {
                preview.notes.push(format!("no coarser grouping was asked: {why}"));
                return Ok(preview);
            }
        };
        preview.told = Some(preview.asked.told(&values));
        if coarser.len() > MOST {
            preview.notes.push(format!("only the first {MOST} keys were left out, one at a time"));
        }
        for Coarser { without, sql, values } in coarser.into_iter().take(MOST) {
            let Some(sql) = sql else {
                preview.notes.push(format!("without {without}: not asked, the key also stands elsewhere in the statement"));
                continue;
            };
            match self.counted(&sql).await {
                Ok(counted) => preview.coarser.push(Tried { without, sql, told: counted.told(&values), counted }),
                Err(failure) => preview.notes.push(format!("without {without}: {failure}")),
            }
        }
        preview.coarser.sort_by(|one, other| other.told.cmp_share(&one.told).then(other.counted.rows.cmp(&one.counted.rows)));
        Ok(preview)
    }

    /// One question, of whose answer only this is kept.
    async fn counted(&self, sql: &str) -> Result<Counted> {
        let mut reading = self.client.ask(sql, self.parameters, self.progress.clone()).await?;
        let mut rows = 0u64;
        while let Some(batch) = reading.next().await? {
            rows = rows.saturating_add(batch.num_rows() as u64);
        }
        Counted::of(reading.schema(), rows, &reading.summary())
    }
}

/// An answer without its values.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    rows: u64,
    columns: Vec<Column>,
    rules: Vec<String>,
    query_id: Value,
    log_entry: Value,
}

/// One column of it.
#[derive(Debug, PartialEq, Eq)]
struct Column {
    name: String,
    told: u64,
    withheld: u64,
    reason: Option<String>,
}

impl Counted {
    /// From what the gateway states; nothing counts as told because it is not stated.
    fn of(schema: &SchemaRef, rows: u64, summary: &Value) -> Result<Self> {
        let unsaid = || Failure::new("the gateway does not state in a way known here what it withheld");
        let mut columns: Vec<Column> =
            schema.fields().iter().map(|field| Column { name: field.name().clone(), told: rows, withheld: 0, reason: None }).collect();
        columns.pop_if(|last| last.name == WITHHELD);
        for stated in summary.get("withheld").and_then(Value::as_array).ok_or_else(unsaid)? {
            let name = stated.get("column").and_then(Value::as_str).ok_or_else(unsaid)?;
            let withheld = stated.get("cells").and_then(Value::as_u64).ok_or_else(unsaid)?;
            let column = columns.iter_mut().find(|column| column.name == name && column.withheld == 0).ok_or_else(unsaid)?;
            column.told = rows.checked_sub(withheld).ok_or_else(unsaid)?;
            column.withheld = withheld;
            column.reason = stated.get("reason").and_then(Value::as_str).map(str::to_owned);
        }
        let rules = summary.get("rules").and_then(Value::as_array).into_iter().flatten();
        let rules = rules.filter_map(Value::as_str).map(str::to_owned).collect();
        let member = |key: &str| summary.get(key).cloned().unwrap_or_default();
        Ok(Self { rows, columns, rules, query_id: member("query_id"), log_entry: member("log_entry") })
    }

    /// How many cells of the columns at these places are told.
    fn told(&self, places: &[usize]) -> Told {
        let columns = || places.iter().filter_map(|place| self.columns.get(*place));
        let sum = |count: fn(&Column) -> u64| columns().map(count).fold(0, u64::saturating_add);
        Told { told: sum(|column| column.told), withheld: sum(|column| column.withheld) }
    }
}

/// Cells of an answer that are no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    told: u64,
    withheld: u64,
}

impl Told {
    fn cells(self) -> u64 {
        self.told.saturating_add(self.withheld)
    }

    /// The share of cells that are told; none of no cells.
    fn share(self) -> f64 {
        if self.cells() == 0 { 0.0 } else { self.told as f64 / self.cells() as f64 }
    }

    fn cmp_share(self, other: &Self) -> std::cmp::Ordering {
        self.share().total_cmp(&other.share())
    }

    /// Rounded down: what is not whole is not called so.
    fn percent(self) -> String {
        format!("{:.1} %", (self.share() * 1_000.0).floor() / 10.0)
    }

    fn words(self) -> String {
        format!("{}, {} of {} numbers told", self.percent(), thousands(self.told), thousands(self.cells()))
    }
}

/// A coarser statement that was asked.
struct Tried {
    without: String,
    sql: String,
    counted: Counted,
    told: Told,
}

/// What is printed.
struct Preview {
    asked: Counted,
    /// Of the columns that are no keys, where the statement could be read.
    told: Option<Told>,
    /// The best first.
    coarser: Vec<Tried>,
    notes: Vec<String>,
}

impl Preview {
    fn text(&self, colour: bool) -> String {
        let row = |column: &Column| {
            let reason = column.reason.clone().unwrap_or_default();
            vec![column.name.clone(), thousands(column.told), thousands(column.withheld), reason]
        };
        let table = Table::of(&["column", "told", WITHHELD, "why"], self.asked.columns.iter().map(row).collect());
        let mut lines = vec![format!("groups: {}; no value is shown", thousands(self.asked.rows)), String::new(), table.text(colour)];
        lines.extend(self.asked.rules.iter().map(|rule| format!("rule: {rule}")));
        if let Some(told) = self.told.filter(|_| !self.coarser.is_empty()) {
            lines.push(format!("as it is: {}; coarser, the best first:", told.words()));
        }
        for Tried { without, sql, counted, told } in &self.coarser {
            lines.push(format!("without {without}: {}, in {} groups", told.words(), thousands(counted.rows)));
            lines.push(format!("    {sql}"));
        }
        lines.extend(self.notes.iter().cloned());
        lines.join("\n") + "\n"
    }

    /// `{"view", "groups", "columns": [{"column", "told", "withheld", "reason"}], "numbers": {"told", "withheld", "share"}, "rules",
    /// "coarser": [{"without", "groups", "told", "withheld", "share", "sql", "query_id", "log_entry"}], "notes", "query_id", "log_entry"}`
    fn json(&self, view: Option<&str>) -> Value {
        let column = |column: &Column| {
            let Column { name, told, withheld, reason } = column;
            json!({ "column": name, "told": told, "withheld": withheld, "reason": reason })
        };
        let tried = |tried: &Tried| {
            json!({
                "without": tried.without,
                "groups": tried.counted.rows,
                "told": tried.told.told,
                "withheld": tried.told.withheld,
                "share": tried.told.share(),
                "sql": tried.sql,
                "query_id": tried.counted.query_id,
                "log_entry": tried.counted.log_entry,
            })
        };
        json!({
            "view": view,
            "groups": self.asked.rows,
            "columns": self.asked.columns.iter().map(column).collect::<Vec<_>>(),
            "numbers": self.told.map(|told| json!({ "told": told.told, "withheld": told.withheld, "share": told.share() })),
            "rules": self.asked.rules,
            "coarser": self.coarser.iter().map(tried).collect::<Vec<_>>(),
            "notes": self.notes,
            "query_id": self.asked.query_id,
            "log_entry": self.asked.log_entry,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};

    fn schema(names: &[&str]) -> SchemaRef {
        Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>()))
    }

    fn counted() -> Counted {
        let summary = json!({
            "query_id": "q1", "log_entry": 7, "rules": ["a rule"],
            "withheld": [{ "column": "persons", "cells": 3, "reason": "few" }],
        });
        Counted::of(&schema(&["region", "persons", "months", WITHHELD]), 1_200, &summary).unwrap()
    }

    #[test]
    fn cells_are_counted_as_the_gateway_states_them() {
        let counted = counted();
        let columns: Vec<_> = counted.columns.iter().map(|c| (c.name.as_str(), c.told, c.withheld)).collect();
        assert_eq!(columns, [("region", 1_200, 0), ("persons", 1_197, 3), ("months", 1_200, 0)]);
        assert_eq!(counted.told(&[1, 2]), Told { told: 2_397, withheld: 3 });
        assert_eq!(counted.told(&[]).share(), 0.0);
    }

    #[test]
    fn a_statement_that_cannot_be_read_tells_nothing() {
        for summary in [
            json!({}),
            json!({ "withheld": "none" }),
            json!({ "withheld": [{ "column": "persons" }] }),
            json!({ "withheld": [{ "column": "others", "cells": 1 }] }),
            json!({ "withheld": [{ "column": "persons", "cells": 9 }] }),
        ] {
            assert!(Counted::of(&schema(&["persons", WITHHELD]), 8, &summary).is_err(), "{summary}");
        }
    }

    #[test]
    fn people_read_counts_reasons_rules_and_the_better_statements() {
        let tried = |without: &str, told| Tried { without: without.into(), sql: format!("SELECT {without}"), told, counted: counted() };
        let preview = Preview {
            asked: counted(),
            told: Some(Told { told: 2_397, withheld: 3 }),
            coarser: vec![tried("year", Told { told: 4, withheld: 0 })],
            notes: vec!["a note".into()],
        };
        let expected = "\
groups: 1,200; no value is shown

column   told   withheld  why
───────  ─────  ────────  ───
region   1,200  0
persons  1,197  3         few
months   1,200  0

rule: a rule
as it is: 99.8 %, 2,397 of 2,400 numbers told; coarser, the best first:
without year: 100.0 %, 4 of 4 numbers told, in 1,200 groups
    SELECT year
a note
";
        assert_eq!(preview.text(false), expected);
        let json = preview.json(Some("v"));
        assert_eq!((&json["view"], &json["groups"], &json["coarser"][0]["share"]), (&json!("v"), &json!(1_200), &json!(1.0)));
        assert_eq!(json["columns"][1], json!({ "column": "persons", "told": 1_197, "withheld": 3, "reason": "few" }));
    }
}
