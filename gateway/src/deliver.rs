//! The answer as the caller gets it: the statement's columns, for each row what was withheld and why, of each cell its status where that
//! was asked for, and a summary.
//!
//! It is stated, with its digest, before its log entry is closed, and delivered afterwards as it was stated: entry and promise are of it.

mod cells;
mod withheld;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use concordat_audit::Answered;
use concordat_policy::Refusal;
use concordat_policy::decision::{self, Rule};
use concordat_proto::answer::{AnswerDigest, Digest, Salt};
use serde_json::{Value, json};

pub(crate) use self::cells::Cells;
use self::cells::Statuses;
use self::withheld::is_withheld;
use crate::delivery::Held;
use crate::estate::Texts;
use crate::execute::Protected;
use crate::record::Closed;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    /// What stands behind the answer: query id, mission, purpose, sources with consent versions and freshness, versions of all
    /// consent ledgers that it rests on, what was withheld, log entry and the log's promise of it. Travels as the application metadata of the stream's schema message.
    pub(crate) summary: Value,
    /// The texts of agreements that it rests on.
    pub(crate) texts: Texts,
    /// Kept until the answer has been read.
    pub(crate) held: Held,
}

/// An answer as it will leave, and its digest. Only [`state`] makes one.
#[derive(Debug)]
pub(crate) struct Stated {
    /// What it was made of.
    pub(crate) protected: Protected,
    batches: Vec<RecordBatch>,
    /// Columns of which something is withheld, how many cells and why.
    withheld: Vec<Value>,
    cells_withheld: u64,
    rows: u64,
    salt: Salt,
    digest: Digest,
}

impl Stated {
    /// What the log promises of it.
    pub(crate) fn answered(&self, query_id: &str) -> Answered {
        Answered { query_id: query_id.to_owned(), rows: self.rows, salt: self.salt, digest: self.digest }
    }

    /// How many cells are withheld.
    pub(crate) fn cells_withheld(&self) -> u64 {
        self.cells_withheld
    }
}

/// Makes the rows that will leave, and works out their digest.
///
/// # Errors
/// [`concordat_policy::Code::Internal`] when the result does not have the shape that was planned.
pub(crate) fn state(protected: Protected) -> Result<Stated, Refusal> {
    let cells = protected.withheld()?;
    let statuses = Statuses::of(&protected.schema, &protected.decision);
    let batches = protected.batches.iter().map(|batch| shown(batch, &protected, &statuses)).collect::<Result<Vec<_>, _>>()?;
    let reason = reason(&protected);
    let withheld: Vec<Value> = protected
        .columns
        .fields()
        .iter()
        .zip(&cells)
        .filter(|(_, cells)| **cells > 0)
        .map(|(field, cells)| json!({ "column": field.name(), "cells": cells, "reason": reason }))
        .collect();
    let mut digest = AnswerDigest::of(&protected.schema).map_err(Refusal::internal)?;
    digest.add_all(&batches).map_err(Refusal::internal)?;
    let mut salt = Salt::default();
    getrandom::fill(&mut salt).map_err(Refusal::internal)?;
    let rows = digest.rows();
    Ok(Stated { protected, batches, withheld, cells_withheld: cells.iter().sum(), rows, salt, digest: digest.finish(&salt) })
}

/// The answer to a logged query.
pub(crate) fn deliver(closed: Closed) -> Answer {
    let Closed { stated, query_id, entry, promise, guard_rails } = closed;
    let Stated { protected, batches, withheld, .. } = stated;
    let summary = json!({
        "query_id": query_id,
        "mission": protected.mission,
        "purpose": protected.purpose,
        "agreements": protected.agreements,
        "agreement_digests": protected.texts.digests(),
        "guard_rails_digest": guard_rails,
        "sources": protected.sources,
        "consent": protected.consent,
        "minimum_subjects": protected.minimum,
        "precision": precision(&protected.decision.rules),
        "withheld": withheld,
        "rules": decision::stated(&protected.decision.rules, &protected.decision.tables, protected.minimum),
        "log_entry": entry,
        "promise": promise,
    });
    Answer { schema: protected.schema.clone(), batches, summary, texts: protected.texts, held: protected.held }
}

/// How coarsely numbers are told, for programs: `{"round_to": 5, "noise": {"variance": 2, "most": 5}}`; 1 and null where they are not.
fn precision(rules: &[Rule]) -> Value {
    let round_to = rules.iter().find_map(|rule| if let Rule::Rounded { to, .. } = rule { Some(*to) } else { None });
    let noise = rules.iter().find_map(|rule| match rule {
        Rule::Perturbed { variance, most, .. } => Some(json!({ "variance": variance, "most": most })),
        _ => None,
    });
    json!({ "round_to": round_to.unwrap_or(1), "noise": noise })
}

/// Why a value may be withheld. Which rule it was is not told: that would say how many stand behind it.
fn reason(protected: &Protected) -> String {
    use Rule::{Complement, Dominance, Homogeneous, Margins, PPercent};
    let few = few(protected.minimum);
    let others = |rule: &Rule| matches!(rule, Dominance { .. } | PPercent { .. } | Homogeneous { .. } | Complement { .. } | Margins { .. });
    if protected.decision.rules.iter().any(others) { format!("{few}, or another rule of disclosure") } else { few }
}

fn few(minimum: u32) -> String {
    format!("fewer than {minimum} distinct subjects")
}

/// One batch with plain text columns and, from the mask, the statuses and reasons.
fn shown(batch: &RecordBatch, protected: &Protected, statuses: &Statuses) -> Result<RecordBatch, Refusal> {
    let mask = protected.mask(batch)?;
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (place, (field, column)) in protected.columns.fields().iter().zip(batch.columns()).enumerate() {
        columns.push(cast(column, field.data_type()).map_err(Refusal::internal)?);
        columns.extend(statuses.column(place, mask, batch.num_rows()).map(|status| Arc::new(status) as ArrayRef));
    }
    if let Some(mask) = mask {
        let reasons: StringArray = mask.iter().map(|mask| named(mask, protected)).collect();
        columns.push(Arc::new(reasons));
    }
    RecordBatch::try_new(protected.schema.clone(), columns).map_err(Refusal::internal)
}

/// `persons, share: fewer than 10 distinct subjects`.
fn named(mask: Option<u64>, protected: &Protected) -> Option<String> {
    let fields = protected.columns.fields().iter().enumerate();
    let names: Vec<&str> = fields.filter(|(place, _)| is_withheld(mask, *place)).map(|(_, field)| field.name().as_str()).collect();
    (!names.is_empty()).then(|| format!("{}: {}", names.join(", "), reason(protected)))
}
