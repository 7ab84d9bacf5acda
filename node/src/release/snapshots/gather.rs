//! One stream of a scan for a snapshot: every row under its pseudonym, whoever's choices withhold it today.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array as _, ArrayRef, BooleanArray, FixedSizeBinaryArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use concordat_policy::{IdentifierType, Refusal};
use concordat_proto::schema::subject_field;

use super::super::behind::{Behind, stand_in};
use super::super::runs::Runs;
use super::super::worker::{Counts, End, Identifiers, Rules, Work, identifiers};
use crate::consent::View;
use crate::datasets::{Apart, PART, storage_type};
use crate::pseudonym::{Pseudonym, Pseudonyms};

/// Columns before the dataset's own: the pseudonym, or what stands for an identifier that is not valid; whether it is valid; the hash
/// by which its subject's choices are found; of a link dataset, the second identifier's pseudonym and hash. After them, what tells rows
/// `apart`.
pub(super) fn schema(rules: &Rules, apart: Option<Apart>) -> SchemaRef {
    let bytes = |name: &str| Field::new(name, DataType::FixedSizeBinary(16), false);
    let own = [subject_field(), Field::new("valid", DataType::Boolean, false), bytes("choices")];
    let linked = rules.linked.as_ref().map(|_| [bytes("linked"), bytes("linked choices")]);
    let columns = rules.columns.iter().map(|(name, kind)| Field::new(name, storage_type(*kind), true));
    let part = apart.map(|apart| Field::new(PART, apart.kind(), false));
    Arc::new(Schema::new(own.into_iter().chain(linked.into_iter().flatten()).chain(columns).chain(part).collect::<Vec<_>>()))
}

pub(super) struct Gatherer {
    rules: Arc<Rules>,
    schema: SchemaRef,
    runs: Runs,
    valid: Vec<bool>,
    text: String,
    normalised: Identifiers,
    hashes: Vec<Pseudonym>,
    /// Rows so far.
    rows: u64,
    /// Those of all streams.
    all: Arc<AtomicU64>,
}

impl Gatherer {
    pub(super) fn new(rules: Arc<Rules>, schema: SchemaRef, runs: Runs, all: Arc<AtomicU64>) -> Self {
        let normalised = Identifiers::default();
        Self { rules, schema, runs, valid: Vec::new(), text: String::new(), normalised, hashes: Vec::new(), rows: 0, all }
    }

    /// The pseudonyms and hashes of one column of identifiers. Rows that have none that is valid get `otherwise`, and no hash.
    fn of(
        &mut self,
        batch: &RecordBatch,
        column: usize,
        (identifier, pseudonyms, consent): (&IdentifierType, &Pseudonyms, &View),
        otherwise: impl Fn(Option<&str>) -> Pseudonym,
    ) -> Result<[ArrayRef; 2], Refusal> {
        let raw = identifiers(batch, column)?;
        let mut own = vec![true; raw.len()];
        self.normalised.clear();
        for (raw, own) in raw.iter().zip(&mut own) {
            *own = raw.is_some_and(|raw| identifier.normalise(raw, &mut self.text));
            // Rows keep their places.
            self.normalised.push(if *own { &self.text } else { "" });
        }
        let mut made = Vec::new();
        pseudonyms.make(self.normalised.iter(), &mut made);
        consent.hashes(self.normalised.iter(), &mut self.hashes);
        for (((raw, own), pseudonym), hash) in raw.iter().zip(&own).zip(&mut made).zip(&mut self.hashes) {
            if !own {
                (*pseudonym, *hash) = (otherwise(raw), Pseudonym::default());
                // They are told apart by the second half ([`super::super::behind`]); by the first, many that are the same are spread.
                self.rows += 1;
                let spread = self.rows.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
                pseudonym.iter_mut().zip(spread).for_each(|(to, from)| *to = from);
            }
        }
        self.valid.iter_mut().zip(own).for_each(|(valid, own)| *valid &= own);
        Ok([bytes(&made)?, bytes(&self.hashes)?])
    }
}

impl Work for Gatherer {
    type End = End;

    fn take(&mut self, batch: &RecordBatch) -> Result<(), Refusal> {
        self.all.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        let rules = Arc::clone(&self.rules);
        self.valid.clear();
        self.valid.resize(batch.num_rows(), true);
        let first = (&rules.identifier, &rules.pseudonyms, &rules.consent);
        let [subject, choices] = self.of(batch, 0, first, |raw| stand_in(&rules.pseudonyms, raw))?;
        let linked = rules.linked.as_ref().map(|linked| {
            let second = (&linked.identifier, &linked.pseudonyms, &linked.consent);
            self.of(batch, 1, second, |_| Pseudonym::default())
        });
        let linked = linked.transpose()?;
        let valid: ArrayRef = Arc::new(BooleanArray::from(self.valid.clone()));
        let columns = batch.columns().iter().skip(1 + usize::from(linked.is_some())).cloned();
        let all = [subject, valid, choices].into_iter().chain(linked.into_iter().flatten()).chain(columns).collect();
        self.runs.push(RecordBatch::try_new(Arc::clone(&self.schema), all).map_err(Refusal::internal)?)
    }

    fn finish(self) -> Result<End, Refusal> {
        Ok(End { runs: self.runs.finish()?, counts: Counts::default(), behind: Behind::default() })
    }
}

fn bytes(all: &[Pseudonym]) -> Result<ArrayRef, Refusal> {
    let flat: Vec<u8> = all.as_flattened().to_vec();
    Ok(Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(flat), None).map_err(Refusal::internal)?))
}
