//! An outcome's figures as data: one record a value, for the page's tables, CSV and JSON alike.

use chrono::NaiveDate;
use serde_json::{Value, json};

use super::outcome::Of;
use super::{Published, figure};
use crate::history::superseded;
use crate::inert::{cell, inert, line};
use crate::mission::Outcome;
use crate::schedule::{State, is_of};
use crate::snapshot::Snapshot;
use crate::status::{Measured, OutcomeStatus, groups};

/// The columns of the CSV.
pub(super) const COLUMNS: [&str; 10] = ["date", "breakdown", "group", "value", "unit", "lower", "upper", "status", "reason", "snapshot"];

/// What the headline is called among breakdowns and groups.
pub(super) const HEADLINE: &str = "Headline";

/// One value, or what stands in its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// The day that the data is of; of a period without a snapshot, its first.
    pub(super) date: NaiveDate,
    /// The breakdown's title; none of the headline.
    pub(super) breakdown: Option<String>,
    /// The group's keys.
    pub(super) group: Vec<String>,
    /// What is told.
    pub(super) told: Told,
}

/// What is told of a group on a day.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// By a snapshot: a value, or why there is none.
    Measured(Measured),
    /// The period has no snapshot.
    Missed {
        /// The first day after the period.
        ends: NaiveDate,
        /// The number of the one that it had.
        withdrawn: Option<u64>,
        /// The number of one that is of that time, and was taken on demand.
        demanded: Option<u64>,
    },
}

impl Told {
    /// `told`, `withheld`, `missing`, `missed` or `withdrawn`.
    pub(super) fn status(&self) -> &'static str {
        match self {
            Self::Missed { withdrawn: Some(_), .. } => "withdrawn",
            Self::Missed { .. } => "missed",
            Self::Measured(Measured { value: Some(_), .. }) => "told",
            Self::Measured(measured) if measured.untold.as_deref().is_some_and(|why| why.starts_with("withheld")) => "withheld",
            Self::Measured(_) => "missing",
        }
    }

    pub(super) fn reason(&self, starts: NaiveDate) -> Option<String> {
        match self {
            Self::Missed { withdrawn: Some(number), .. } => {
                Some(format!("withdrawn, no snapshot: snapshot {number} was superseded by one of later data"))
            }
            Self::Missed { ends, demanded, .. } => {
                let last = ends.pred_opt().unwrap_or(*ends);
                let (first, last) = (figure::day(starts), figure::day(last));
                Some(demanded.map_or_else(
                    || format!("no snapshot was taken from {first} to {last}; none of that time's data was asked for since"),
                    |number| format!("no snapshot was taken for {first} to {last}; one on demand, {number}, is of that time"),
                ))
            }
            Self::Measured(measured) => measured.untold.as_deref().map(inert),
        }
    }
}

/// The headline's records, oldest first, then each breakdown's.
pub(super) fn records(published: &Published<'_>, outcome: &Outcome, status: &OutcomeStatus) -> Vec<Record> {
    let headline = |date, told| Record { date, breakdown: None, group: Vec::new(), told };
    let measured = status.history.iter().chain(&status.same_day).map(|measured| headline(measured.as_of, Told::Measured(measured.clone())));
    let missed = status.schedule.iter().filter_map(|one| {
        let withdrawn = match one.state {
            State::Missed => None,
            State::Withdrawn(number) => Some(number),
            State::Taken(_) | State::Due => return None,
        };
        let demanded = |snapshot: &&Snapshot| {
            let taken = &snapshot.taken;
            (&taken.mission, &taken.outcome) == (&published.mission.id, &outcome.id)
                && taken.period.is_none()
                && is_of(taken, one.period)
                && !superseded(published.snapshots, snapshot.number)
        };
        let demanded = published.snapshots.iter().find(demanded).map(|snapshot| snapshot.number);
        Some(headline(one.period.starts, Told::Missed { ends: one.period.ends, withdrawn, demanded }))
    });
    let mut records: Vec<Record> = measured.chain(missed).collect();
    records.sort_by_key(|record| record.date);
    for breakdown in &outcome.breakdowns {
        let of = |snapshot: &Snapshot| {
            groups(outcome, breakdown, snapshot).into_iter().map(|(group, measured)| Record {
                date: measured.as_of,
                breakdown: Some(breakdown.title.clone()),
                group,
                told: Told::Measured(measured),
            })
        };
        records.extend(published.counting(status).flat_map(of).collect::<Vec<_>>());
    }
    records
}

/// RFC 4180, with a line of titles.
pub(super) fn csv(outcome: &Outcome, records: &[Record]) -> String {
    let titles = line(&COLUMNS.map(str::to_owned));
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let row = |record: &Record| {
        let measured = if let Told::Measured(measured) = &record.told { Some(measured) } else { None };
        let bounds = measured.and_then(|measured| measured.interval);
        line(&[
            record.date.to_string(),
            cell(record.breakdown.as_deref().unwrap_or(HEADLINE)),
            cell(&if record.breakdown.is_some() { record.group.join(", ") } else { HEADLINE.to_owned() }),
            number(measured.and_then(|measured| measured.value)),
            cell(&outcome.unit),
            number(bounds.map(|bounds| bounds.low)),
            number(bounds.map(|bounds| bounds.high)),
            record.told.status().to_owned(),
            cell(&record.told.reason(record.date).unwrap_or_default()),
            measured.map_or_else(String::new, |measured| measured.snapshot.to_string()),
        ])
    };
    titles + &records.iter().map(row).collect::<String>()
}

/// The same for programs, with what it rests on.
pub(super) fn json(of: &Of<'_>, records: &[Record]) -> String {
    let (outcome, status) = (of.outcome, of.status);
    let record = |record: &Record| {
        let measured = if let Told::Measured(measured) = &record.told { Some(measured) } else { None };
        json!({
            "date": record.date,
            "breakdown": record.breakdown,
            "group": record.breakdown.as_ref().map(|_| &record.group),
            "value": measured.and_then(|measured| measured.value),
            "lower": measured.and_then(|measured| measured.interval).map(|bounds| bounds.low),
            "upper": measured.and_then(|measured| measured.interval).map(|bounds| bounds.high),
            "status": record.told.status(),
            "reason": record.told.reason(record.date),
            "snapshot": measured.map(|measured| measured.snapshot),
        })
    };
    let snapshot = |snapshot: &Snapshot| {
        let stated = &snapshot.taken.stated;
        json!({
            "number": snapshot.number,
            "taken_at": snapshot.taken.taken_at,
            "period": snapshot.taken.period,
            "data_of": snapshot.taken.days(&outcome.standing).newest,
            "oldest_source_of": snapshot.taken.days(&outcome.standing).oldest,
            "view": snapshot.taken.view,
            "definition": snapshot.taken.definition,
            "digest": snapshot.digest,
            "previous": snapshot.previous,
            "supersedes": snapshot.taken.supersedes,
            "because": snapshot.taken.because,
            "query_id": stated.query_id,
            "purpose": stated.purpose,
            "log_entry": stated.log_entry,
            "receipt": format!("receipts/{}.json", snapshot.number),
            "agreement_digests": stated.agreement_digests,
            "guard_rails_digest": stated.guard_rails_digest,
            "minimum_subjects": stated.minimum_subjects,
            "precision": stated.precision,
            "rules": stated.rules,
            // Without versions of consent ledgers: how often they change, snapshot by snapshot, is nobody's but the departments'.
            "sources": stated.sources.iter().map(|source| json!({
                "department": source.department, "dataset": source.dataset, "freshness": source.freshness.timestamp(),
                "counts": source.counts,
            })).collect::<Vec<_>>(),
            "aim": snapshot.taken.aim,
        })
    };
    let value: Value = json!({
        "version": "concordat.outcome/v1",
        "note": of.publication.note,
        "published_on": of.publication.on,
        "receipts": of.publication.receipts.says(),
        "mission": { "id": of.published.mission.id, "title": of.published.mission.title },
        "outcome": { "id": outcome.id, "title": outcome.title, "description": outcome.description },
        "unit": outcome.unit,
        "direction": outcome.direction,
        "baseline": outcome.baseline,
        "target": outcome.target,
        "milestones": outcome.milestones,
        "lead": outcome.lead,
        "contributing": outcome.contributing,
        "status": { "verdict": status.verdict, "because": status.because, "progress": status.progress, "expected": status.expected,
                    "trend": status.trend, "path": status.path, "restated": status.restated },
        "records": records.iter().map(record).collect::<Vec<_>>(),
        "snapshots": of.published.counting(status).map(snapshot).collect::<Vec<_>>(),
        "corrections": of.corrections().map(|(corrected, by)| json!({
            "superseded": corrected.number, "superseded_digest": corrected.digest, "by": by.number, "because": by.taken.because,
        })).collect::<Vec<_>>(),
        "of_another_definition": status.of_another_definition,
    });
    text(&value)
}

/// JSON on several lines.
pub(super) fn text(value: &Value) -> String {
    // What is a JSON value can be written as one.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}
