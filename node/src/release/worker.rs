//! One stream of a scan: rows in, rows of consented subjects under their pseudonyms out.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, FixedSizeBinaryArray, RecordBatch, UInt32Array};
use arrow::buffer::Buffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use concordat_policy::consent::{Latest, allows};
use concordat_policy::{Basis, ColumnType, IdentifierType, Refusal};
use concordat_proto::receipt::Standing;
use concordat_proto::schema::subject_field;
use tempfile::TempDir;

use super::behind::Behind;
use super::buckets::Buckets;
use super::runs::{Run, Runs};
use crate::consent::View;
use crate::datasets::storage_type;
use crate::pseudonym::{Pseudonym, Pseudonyms};

/// What decides over each row.
#[derive(Debug)]
pub struct Rules {
    /// The identifier's type.
    pub identifier: IdentifierType,
    /// Makes the pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// The lawful basis.
    pub basis: Basis,
    /// The subjects' records, for all relevant purposes.
    pub consent: View,
    /// Where the ledger of the records stood.
    pub standing: Standing,
    /// The columns, in order.
    pub columns: Vec<(String, ColumnType)>,
    /// How many distinct subjects must stand behind a number that is told outside.
    pub minimum_subjects: u32,
}

impl Rules {
    /// The schema of rows inside the node: as on the wire, with plain text.
    pub(super) fn schema(&self) -> SchemaRef {
        let columns = self.columns.iter().map(|(name, kind)| Field::new(name, storage_type(*kind), true));
        Arc::new(Schema::new(std::iter::once(subject_field()).chain(columns).collect::<Vec<_>>()))
    }
}

/// How many rows were withheld, and why. For the department's own log only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that are released.
    pub released: u64,
    /// Rows whose identifier is invalid or missing.
    pub invalid_identifiers: u64,
    /// Rows whose subject has not agreed, has withdrawn or has objected.
    pub without_consent: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.released += other.released;
        self.invalid_identifiers += other.invalid_identifiers;
        self.without_consent += other.without_consent;
    }
}

/// Working space that is used again for every batch.
#[derive(Default)]
struct Space {
    one: String,
    // The normalised identifiers, one after the other, and where each ends.
    text: String,
    ends: Vec<usize>,
    rows: Vec<u32>,
    hashes: Vec<Pseudonym>,
    latest: Vec<Latest>,
    pseudonyms: Vec<Pseudonym>,
}

impl Space {
    fn identifiers(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        // Every end lies on a boundary of characters: whole identifiers were appended.
        starts.zip(&self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or_default())
    }
}

/// What a worker leaves.
pub(super) struct End {
    pub(super) runs: Vec<Run>,
    pub(super) counts: Counts,
    pub(super) behind: Behind,
}

pub(super) struct Worker {
    rules: Arc<Rules>,
    schema: SchemaRef,
    /// Where rows go; `None` where they are only counted.
    runs: Option<Runs>,
    counts: Counts,
    behind: Behind,
    space: Space,
}

impl Worker {
    pub(super) fn new(rules: Arc<Rules>, buckets: Buckets, folder: Arc<TempDir>, memory: usize, index: usize) -> Self {
        let schema = rules.schema();
        let runs = Runs::new(Arc::clone(&schema), buckets, folder, memory, index);
        let behind = Behind::new(rules.minimum_subjects);
        Self { rules, schema, runs: Some(runs), counts: Counts::default(), behind, space: Space::default() }
    }

    /// One that decides over each row as a release does, and keeps none.
    pub(super) fn counting(rules: Arc<Rules>) -> Self {
        let behind = Behind::new(rules.minimum_subjects);
        Self { schema: rules.schema(), rules, runs: None, counts: Counts::default(), behind, space: Space::default() }
    }

    /// Takes one batch of the scan: the identifier as text, then the columns.
    pub(super) fn take(&mut self, batch: &RecordBatch) -> Result<(), Refusal> {
        self.normalise(batch)?;
        self.apply_consent();
        self.counts.released += self.space.rows.len() as u64;
        self.behind.released(self.space.identifiers());
        if self.space.rows.is_empty() || self.runs.is_none() {
            return Ok(());
        }
        let mut pseudonyms = std::mem::take(&mut self.space.pseudonyms);
        self.rules.pseudonyms.make(self.space.identifiers(), &mut pseudonyms);
        self.space.pseudonyms = pseudonyms;
        let kept = self.rows(batch)?;
        self.runs.as_mut().map_or(Ok(()), |runs| runs.push(kept))
    }

    pub(super) fn finish(self) -> Result<End, Refusal> {
        Ok(End { runs: self.runs.map_or(Ok(Vec::new()), Runs::finish)?, counts: self.counts, behind: self.behind })
    }

    fn normalise(&mut self, batch: &RecordBatch) -> Result<(), Refusal> {
        let space = &mut self.space;
        space.text.clear();
        space.ends.clear();
        space.rows.clear();
        let identifiers = batch
            .columns()
            .first()
            .and_then(|column| column.as_string_opt::<i32>())
            .ok_or_else(|| Refusal::internal("the scan gave no identifiers"))?;
        for (row, identifier) in (0u32..).zip(identifiers) {
            if identifier.is_some_and(|raw| self.rules.identifier.normalise(raw, &mut space.one)) {
                space.text.push_str(&space.one);
                space.ends.push(space.text.len());
                space.rows.push(row);
            } else {
                self.counts.invalid_identifiers += 1;
            }
        }
        Ok(())
    }

    /// Keeps the rows of subjects whose records allow it.
    fn apply_consent(&mut self) {
        if matches!(self.rules.basis, Basis::Statutory { honours_objections: false, .. }) {
            return;
        }
        let (mut hashes, mut latest) = (std::mem::take(&mut self.space.hashes), std::mem::take(&mut self.space.latest));
        self.rules.consent.latest(self.space.identifiers(), &mut hashes, &mut latest);
        let before = self.space.rows.len();
        if latest.iter().any(|latest| !allows(&self.rules.basis, *latest)) {
            let mut kept = Space::default();
            for ((identifier, row), latest) in self.space.identifiers().zip(&self.space.rows).zip(&latest) {
                if allows(&self.rules.basis, *latest) {
                    kept.text.push_str(identifier);
                    kept.ends.push(kept.text.len());
                    kept.rows.push(*row);
                } else {
                    self.behind.withheld(identifier);
                }
            }
            (self.space.text, self.space.ends, self.space.rows) = (kept.text, kept.ends, kept.rows);
        }
        self.counts.without_consent += (before - self.space.rows.len()) as u64;
        (self.space.hashes, self.space.latest) = (hashes, latest);
    }

    /// The kept rows under their pseudonyms.
    fn rows(&self, batch: &RecordBatch) -> Result<RecordBatch, Refusal> {
        let flat: Vec<u8> = self.space.pseudonyms.as_flattened().to_vec();
        let subjects = FixedSizeBinaryArray::try_new(16, Buffer::from_vec(flat), None).map_err(Refusal::internal)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(subjects)];
        let whole = self.space.rows.len() == batch.num_rows();
        let indices = UInt32Array::from(if whole { Vec::new() } else { self.space.rows.clone() });
        for (column, field) in batch.columns().iter().skip(1).zip(self.schema.fields().iter().skip(1)) {
            debug_assert!(!matches!(field.data_type(), DataType::Dictionary(..)));
            columns.push(if whole { Arc::clone(column) } else { take(column, &indices, None).map_err(Refusal::internal)? });
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(Refusal::internal)
    }
}
