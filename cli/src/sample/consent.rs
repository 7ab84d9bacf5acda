//! The departments' consent records: given, withdrawn and objected, in the order in which they were recorded.
//!
//! The Department of Health and Social Care works on consent, so whoever is not in its file is not used. The others work on
//! a statutory power and honour objections. The health programme asked people of 40 and over only.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::Sample;
use super::columns::Source;
use super::draw::{Draw, Topic};
use super::nino::nino;
use super::person::Person;
use super::recorded;
use super::write::Sink;
use crate::failure::{Failure, Result};

/// Records of one batch.
const BATCH: usize = 65_536;

/// The department that works on consent.
pub(super) const ON_CONSENT: &str = "dhsc";

/// The department's file of consent records, below its node's folder.
pub(super) fn path(department: &str) -> &'static str {
    if department == ON_CONSENT { "consent.parquet" } else { "consent.csv" }
}

type Record = (String, &'static str, &'static str);

/// Writes the department's file.
pub(super) fn write(sample: &Sample, source: &Source, part: u64, folder: &Path) -> Result<()> {
    let path = folder.join(path(source.department));
    let fields = ["identifier", "identifier_type", "purpose", "event"].map(|name| Field::new(name, DataType::Utf8, false));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let mut sink = Sink::create(&path, Arc::clone(&schema))?;
    let mut records = Vec::with_capacity(BATCH);
    for index in 0..sample.people {
        let person = Person::of(sample.seed, index, sample.people);
        if !recorded(sample, &person, index, part) {
            continue;
        }
        let mut draw = Draw::of(sample.seed, index, Topic::Consent, part);
        for (purpose, event) in choices(source.department == ON_CONSENT, &person, &mut draw) {
            records.push((nino(index), purpose, event));
        }
        if records.len() >= BATCH - 8 {
            sink.write(&batch(&schema, &records)?, &path)?;
            records.clear();
        }
    }
    sink.write(&batch(&schema, &records)?, &path)?;
    sink.finish(&path)
}

/// One person's records at one department.
pub(super) fn choices(on_consent: bool, person: &Person, draw: &mut Draw) -> Vec<(&'static str, &'static str)> {
    if person.always_recorded {
        return if on_consent { vec![("opportunity", "given"), ("health", "given")] } else { Vec::new() };
    }
    let mut records = Vec::new();
    if !on_consent {
        if draw.chance(0.012) {
            records.push(("opportunity", "objected"));
            if draw.chance(0.1) {
                records.push(("opportunity", "given"));
            }
        }
        if draw.chance(0.006) {
            records.push(("health", "objected"));
        }
        return records;
    }
    if draw.chance(0.93) {
        records.push(("opportunity", "given"));
        match draw.unit() {
            u if u < 0.02 => records.push(("opportunity", "withdrawn")),
            u if u < 0.03 => records.push(("opportunity.measure", "withdrawn")),
            u if u < 0.04 => records.push(("opportunity", "objected")),
            _ => {}
        }
    }
    if person.age() >= 40 && draw.chance(0.88) {
        records.push(("health", "given"));
        if draw.chance(0.04) {
            records.push(("health.prevention", "withdrawn"));
        }
    }
    records
}

fn batch(schema: &SchemaRef, records: &[Record]) -> Result<RecordBatch> {
    let text = |field: fn(&Record) -> &str| Arc::new(records.iter().map(|r| Some(field(r))).collect::<StringArray>()) as _;
    RecordBatch::try_new(Arc::clone(schema), vec![text(|r| &r.0), text(|_| "nino"), text(|r| r.1), text(|r| r.2)])
        .map_err(|e| Failure::new(format!("the sample's consent records do not fit their schema: {e}")))
}
