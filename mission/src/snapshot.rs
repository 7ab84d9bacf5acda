//! A snapshot: one answer of the gateway to one outcome's view, as it was told.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use concordat_policy::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::interval::Precision;
use crate::mission::{Breakdown, Direction, Is, Mission, Outcome, Point, Row};
use crate::schedule::Every;

/// A snapshot as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Its number in the store, from 1.
    pub number: u64,
    /// What was taken.
    #[serde(flatten)]
    pub taken: Taken,
    /// The digest of the one before it, or of the store's beginning.
    pub previous: String,
    /// The digest of everything in it and before it: 64 hexadecimal digits.
    pub digest: String,
}

/// What was asked and answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// The mission.
    pub mission: Name,
    /// The outcome.
    pub outcome: Name,
    /// The first day of the period that it is the snapshot of; none where it was taken on demand.
    pub period: Option<NaiveDate>,
    /// When it was taken.
    pub taken_at: DateTime<Utc>,
    /// Who asked, as the gateway told it.
    pub asked_by: AskedBy,
    /// What was measured, by the estate's copy here: [`definition`].
    pub definition: String,
    /// What the mission's file said of the outcome then.
    pub aim: Aim,
    /// The view that was asked for.
    pub view: String,
    /// What the gateway stated of its answer.
    pub stated: Stated,
    /// The answer's columns, without those of statuses.
    pub columns: Vec<Column>,
    /// Its rows: a cell for each column.
    pub rows: Vec<Vec<Cell>>,
    /// The number of the snapshot that it corrects.
    pub supersedes: Option<u64>,
    /// Why.
    pub because: Option<String>,
}

/// What a mission's file says of an outcome beside its definition: how often and in what time it is due, what does not date it, and its
/// path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aim {
    /// How often a snapshot is due.
    pub every: Every,
    /// From when on.
    pub from: NaiveDate,
    /// Until when: the mission's last day.
    pub ends: NaiveDate,
    /// Datasets whose age does not count.
    pub standing: Vec<String>,
    /// Which way is better.
    pub direction: Direction,
    /// Where it stood.
    pub baseline: Point,
    /// Where it is to stand.
    pub target: Point,
    /// By what it is broken down; empty too where that was not kept yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breakdowns: Vec<Breakdown>,
}

impl Aim {
    /// As the file says it now.
    #[must_use]
    pub fn of(mission: &Mission, outcome: &Outcome) -> Self {
        let Outcome { every, from, standing, direction, baseline, target, breakdowns, .. } = outcome;
        let (every, from, ends, standing) = (*every, *from, mission.ends, standing.clone());
        let breakdowns = breakdowns.clone();
        Self { every, from, ends, standing, direction: *direction, baseline: *baseline, target: *target, breakdowns }
    }

    /// Whether two state the same path.
    #[must_use]
    pub fn same_path(&self, other: &Self) -> bool {
        (self.direction, self.baseline, self.target) == (other.direction, other.baseline, other.target)
    }
}

/// The service identity that asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedBy {
    /// Who issued its token.
    pub issuer: String,
    /// Its name there.
    pub subject: String,
    /// Its organisation.
    pub organisation: String,
}

/// What the gateway states of an answer. Members that are not named here are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stated {
    /// The query's id, as in the logs.
    pub query_id: String,
    /// For which purpose it was answered.
    pub purpose: String,
    /// The entry of the gateway's log that is of the answer, from 1.
    pub log_entry: u64,
    /// The agreements that it rests on, each with the digest of its text.
    pub agreement_digests: BTreeMap<String, String>,
    /// The digest of the gateway's guard rails; none where it has none.
    #[serde(default)]
    pub guard_rails_digest: Option<String>,
    /// How coarsely numbers are told.
    pub precision: Precision,
    /// The least number of distinct subjects behind a number.
    pub minimum_subjects: u32,
    /// The rules that were at work, for people.
    #[serde(default)]
    pub rules: Vec<String>,
    /// What is withheld of which column, how often and why.
    #[serde(default)]
    pub withheld: Vec<Value>,
    /// Where the data came from.
    pub sources: Vec<Source>,
    /// On which versions of the departments' consent ledgers it rests.
    pub consent: Vec<Consent>,
    /// The receipt: the signed word of the gateway's log that the entry of this answer is there for good.
    pub promise: Value,
}

/// A dataset that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The department.
    pub department: String,
    /// Its dataset.
    pub dataset: String,
    /// When it last changed.
    #[serde(with = "chrono::serde::ts_seconds")]
    pub freshness: DateTime<Utc>,
    /// The version of the consent ledger that was applied.
    pub consent_version: u64,
    /// The ledger's generation.
    #[serde(default)]
    pub consent_generation: u32,
    /// How many subjects stand behind it or are missing, as the answer states it: `subjects`, or `not_told` with the reason.
    #[serde(default)]
    pub counts: Option<Value>,
}

/// Of which days the data of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    /// The newest source's: the day that the answer is of. What it says, nobody could have said before.
    pub newest: NaiveDate,
    /// The oldest source's: how fresh it is.
    pub oldest: NaiveDate,
}

/// Where a department's consent ledger stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// The department.
    pub department: String,
    /// The version.
    pub consent_version: u64,
    /// The generation.
    #[serde(default)]
    pub consent_generation: u32,
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Whether its values passed `Protect`, and each has a status.
    pub protected: bool,
}

/// A cell of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Its value; null where it is withheld, or where there is none.
    pub value: Value,
    /// Whether it is told, rounded, noisy or withheld, and why it can have been, in the gateway's words; none of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

impl Cell {
    /// Why it is withheld, or may be; `None` where it is told.
    #[must_use]
    pub fn withheld(&self) -> Option<&str> {
        let status = self.status.as_deref()?;
        status.strip_prefix("withheld: ").or_else(|| status.starts_with("withheld").then_some(status))
    }

    /// The number in it.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        self.value.as_f64().filter(|number| number.is_finite() && self.withheld().is_none())
    }

    /// The value for people.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    fn is(&self, value: &Is) -> bool {
        match value {
            Is::Truth(truth) => self.value == Value::Bool(*truth),
            Is::Whole(whole) => self.value.as_i64() == Some(*whole),
            Is::Text(text) => self.value.as_str() == Some(text),
        }
    }
}

impl Taken {
    /// The place of a column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The cell of a row in a column.
    #[must_use]
    pub fn cell<'r>(&self, row: &'r [Cell], column: &str) -> Option<&'r Cell> {
        row.get(self.column(column)?)
    }

    /// The rows in which each of these columns has this value.
    pub fn rows_where<'t>(&'t self, row: &Row) -> impl Iterator<Item = &'t Vec<Cell>> {
        self.rows.iter().filter(|cells| row.iter().all(|(column, value)| self.cell(cells, column).is_some_and(|cell| cell.is(value))))
    }

    /// The headline's row; `None` where there is none, or several.
    #[must_use]
    pub fn headline(&self, outcome: &Outcome) -> Option<&Vec<Cell>> {
        let mut rows = self.rows_where(&outcome.row);
        rows.next().filter(|_| rows.next().is_none())
    }

    /// Of which days the data is. Those of datasets in `standing` (`department.dataset`), which change seldom by their nature, are passed
    /// over unless there is no other. None is after the day that it was taken, which is both where there is no source.
    #[must_use]
    pub fn days(&self, standing: &[String]) -> Days {
        let sources = &self.stated.sources;
        let only_standing = sources.iter().all(|source| standing.contains(&source.name()));
        let dating = || sources.iter().filter(|source| only_standing || !standing.contains(&source.name())).map(|source| source.freshness);
        let day = |of: Option<DateTime<Utc>>| of.unwrap_or(self.taken_at).min(self.taken_at).date_naive();
        Days { newest: day(dating().max()), oldest: day(dating().min()) }
    }
}

impl Source {
    /// `department.dataset`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.department, self.dataset)
    }
}

/// The digest of what an outcome measures: the statements of its view and of every view that this uses, by name, and which column of which
/// row. Snapshots of two definitions measure two things, whatever they are called.
#[must_use]
pub fn definition(outcome: &Outcome, views: &BTreeMap<String, String>) -> String {
    let statements: BTreeMap<&String, Vec<String>> = views.iter().map(|(name, sql)| (name, statement(sql))).collect();
    let measured = serde_json::json!([outcome.view, statements, outcome.column, outcome.kind, outcome.row]);
    hex(&Sha256::new_with_prefix("concordat.outcome/v3\n").chain_update(measured.to_string()).finalize())
}

/// What the gateway's parser reads of a view's text, word by word as written: without comments and spaces, and with what only looks like a
/// comment. A text in which it finds no words is one word.
#[must_use]
pub fn statement(view_sql: &str) -> Vec<String> {
    let words = Tokenizer::new(&GenericDialect {}, view_sql).with_unescape(false).tokenize();
    let Ok(words) = words else { return vec![view_sql.to_owned()] };
    words.iter().filter(|word| !matches!(word, Token::Whitespace(_))).map(ToString::to_string).collect()
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{mission, snapshot};

    #[test]
    fn the_headline_is_one_row_or_none() {
        let mission = mission();
        let outcome = &mission.outcomes[0];
        let mut taken = snapshot(1, "2026-05-01", None, 0.25).taken;
        assert_eq!(taken.headline(outcome).and_then(|row| taken.cell(row, "share")).and_then(Cell::number), Some(0.25));
        let twice = taken.headline(outcome).unwrap().clone();
        taken.rows.push(twice);
        assert_eq!(taken.headline(outcome), None);
        taken.rows.clear();
        assert_eq!(taken.headline(outcome), None);
    }

    #[test]
    fn a_withheld_cell_has_no_number_whatever_stands_in_it() {
        let cell = |status: &str| Cell { value: 7.into(), status: Some(status.into()) };
        assert_eq!(cell("rounded").number(), Some(7.0));
        let withheld = cell("withheld: fewer than 10 distinct subjects");
        assert_eq!((withheld.number(), withheld.withheld()), (None, Some("fewer than 10 distinct subjects")));
        assert_eq!(Cell { value: Value::Null, status: None }.number(), None);
    }

    #[test]
    fn data_is_of_its_newest_source_as_fresh_as_its_oldest_and_never_of_tomorrow() {
        let mut taken = snapshot(1, "2026-05-01", None, 0.25).taken;
        let of = |taken: &Taken, standing: &[&str]| {
            let days = taken.days(&standing.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            (days.newest.to_string(), days.oldest.to_string())
        };
        let both = |newest: &str, oldest: &str| (newest.to_owned(), oldest.to_owned());
        assert_eq!(of(&taken, &[]), both("2026-05-01", "2026-05-01"));
        let mut areas = taken.stated.sources[0].clone();
        (areas.dataset, areas.freshness) = ("areas".into(), "2020-01-01T12:00:00Z".parse().unwrap());
        taken.stated.sources.push(areas);
        taken.stated.sources[0].freshness = "2026-03-09T12:00:00Z".parse().unwrap();
        assert_eq!(of(&taken, &[]), both("2026-03-09", "2020-01-01"));
        assert_eq!(of(&taken, &["a.areas"]), both("2026-03-09", "2026-03-09"));
        assert_eq!(of(&taken, &["a.areas", "a.people"]), both("2026-03-09", "2020-01-01"), "what is left of nothing is everything");
        taken.stated.sources.iter_mut().for_each(|source| source.freshness = "2090-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(of(&taken, &[]), both("2026-05-01", "2026-05-01"));
        taken.stated.sources.clear();
        assert_eq!(of(&taken, &["a.areas"]), both("2026-05-01", "2026-05-01"));
    }

    #[test]
    fn what_only_looks_like_a_comment_is_part_of_a_statement() {
        let plain = statement("SELECT a\nFROM t -- why\nWHERE b = 'x'");
        assert_eq!(statement("/* why */ SELECT a FROM t\n  -- WHERE c\nWHERE b='x'"), plain);
        // A line that begins like a comment: the end of one, after which something counts, and a part of a text.
        let hidden = "SELECT a FROM t /* note\n-- */ WHERE b = 'x' OR 1 = 1 /*\n*/";
        assert_ne!(statement(hidden), statement("SELECT a FROM t"));
        assert_ne!(statement("SELECT 'a\n-- b\n'"), statement("SELECT 'a\n-- c\n'"));
        for (one, other) in [
            ("SELECT 'a' 'b'", "SELECT 'a'' ''b'"),
            ("SELECT 'a  b'", "SELECT 'a b'"),
            ("SELECT a b", "SELECT ab"),
            ("SELECT a - -1", "SELECT a --1"),
            ("SELECT \"a\"", "SELECT a"),
            ("SELECT 'open", "SELECT  'open"),
        ] {
            assert_ne!(statement(one), statement(other), "{one}");
        }
    }

    #[test]
    fn a_definition_is_what_is_measured_and_not_what_is_said_of_it() {
        let mission = mission();
        let outcome = &mission.outcomes[0];
        let views = |outer: &str, inner: &str| BTreeMap::from([("v".to_owned(), outer.to_owned()), ("w".to_owned(), inner.to_owned())]);
        let sql = views("-- title: T\nSELECT 1\n  FROM w", "SELECT 1 FROM a");
        let plain = definition(outcome, &sql);
        assert_eq!(definition(outcome, &views("-- title: another\n\nSELECT 1\nFROM w\n", "-- why\nSELECT 1 FROM a")), plain);
        let renamed = Outcome { title: "another".into(), description: "x".into(), ..outcome.clone() };
        assert_eq!(definition(&renamed, &sql), plain);
        assert_ne!(definition(outcome, &views("SELECT 2\nFROM w", "SELECT 1 FROM a")), plain);
        assert_ne!(definition(outcome, &views("SELECT 1\nFROM w", "SELECT 2 FROM a")), plain, "a view that its view uses is another");
        assert_ne!(definition(&Outcome { column: "other".into(), ..outcome.clone() }, &sql), plain);
        assert_ne!(definition(&Outcome { row: Row::new(), ..outcome.clone() }, &sql), plain);
    }
}
