//! One stream of a scan: rows in, rows of consented subjects under their pseudonyms out.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, FixedSizeBinaryArray, RecordBatch, StringArray, UInt32Array};
use arrow::buffer::Buffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use concordat_policy::consent::{Latest, allows};
use concordat_policy::denominator::Grain;
use concordat_policy::{Basis, ColumnType, IdentifierType, Refusal};
use concordat_proto::receipt::Standing;
use concordat_proto::schema::{linked_field, subject_field};

use super::behind::{Behind, stand_in};
use super::buckets::Buckets;
use super::runs::{Run, Runs, Spill};
use crate::consent::View;
use crate::datasets::storage_type;
use crate::orders::VerifiedOrder;
use crate::pseudonym::{Pseudonym, Pseudonyms};

/// What decides over each row.
#[derive(Debug)]
pub struct Rules {
    /// The identifier's type.
    pub identifier: IdentifierType,
    /// Makes the pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// The second identifier, of a link dataset.
    pub linked: Option<Linked>,
    /// The lawful basis.
    pub basis: Basis,
    /// The subjects' records, for all relevant purposes.
    pub consent: View,
    /// Where the ledger of the records stood.
    pub standing: Standing,
    /// The columns, in order.
    pub columns: Vec<(String, ColumnType)>,
    /// In which grain it is told outside how many subjects are left out; `None` for not at all.
    pub grain: Option<Grain>,
    /// Whether the order has a condition of its own: how many subjects meet it and are withheld is then not told.
    pub conditional: bool,
}

/// What decides over the second identifier of a link dataset.
#[derive(Debug)]
pub struct Linked {
    /// Its type.
    pub identifier: IdentifierType,
    /// Makes its pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// Its subjects' records, for all relevant purposes. A row is withheld if either subject's say so.
    pub consent: View,
    /// Whether its pseudonym is released.
    pub released: bool,
}

impl Rules {
    /// What decides over the rows of one order.
    pub(crate) fn of(self, order: &VerifiedOrder) -> Self {
        let linked = self.linked.map(|linked| Linked { released: order.linked, ..linked });
        Self { linked, columns: order.columns.clone(), conditional: order.predicate.is_some(), ..self }
    }

    /// In which grain it is told how many subjects are left out: not of a link dataset, where a single firm's choice can withhold the
    /// rows of a thousand people.
    pub(super) fn told_in(&self) -> Option<Grain> {
        self.grain.filter(|_| self.linked.is_none())
    }

    /// The schema of rows inside the node: as on the wire, with plain text.
    pub(super) fn schema(&self) -> SchemaRef {
        let columns = self.columns.iter().map(|(name, kind)| Field::new(name, storage_type(*kind), true));
        let linked = self.linked.as_ref().filter(|linked| linked.released).map(|_| linked_field());
        Arc::new(Schema::new(std::iter::once(subject_field()).chain(linked).chain(columns).collect::<Vec<_>>()))
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

/// Normalised identifiers, one after the other, and where each ends.
#[derive(Default)]
pub(crate) struct Identifiers {
    text: String,
    ends: Vec<usize>,
}

impl Identifiers {
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    pub(crate) fn push(&mut self, identifier: &str) {
        self.text.push_str(identifier);
        self.ends.push(self.text.len());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        // Every end lies on a boundary of characters: whole identifiers were appended.
        starts.zip(&self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or_default())
    }

    /// Those for which `keep` is true.
    fn kept(&self, keep: &[bool]) -> Self {
        let mut kept = Self::default();
        self.iter().zip(keep).filter(|(_, keep)| **keep).for_each(|(identifier, _)| kept.push(identifier));
        kept
    }
}

/// Working space that is used again for every batch.
#[derive(Default)]
struct Space {
    one: String,
    other: String,
    subjects: Identifiers,
    // Of a link dataset, as many as subjects; else none.
    linked: Identifiers,
    rows: Vec<u32>,
    hashes: Vec<Pseudonym>,
    latest: Vec<Latest>,
    allowed: Vec<bool>,
    pseudonyms: Vec<Pseudonym>,
}

/// What is done with the rows of one stream.
pub(crate) trait Work: Send + Sized + 'static {
    /// What it leaves.
    type End: Send + 'static;

    /// Takes one batch of the scan: the identifier as text, that of a link dataset's second one, then the columns.
    fn take(&mut self, batch: &RecordBatch) -> Result<(), Refusal>;

    /// After the last one.
    fn finish(self) -> Result<Self::End, Refusal>;
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
    pub(super) fn new(rules: Arc<Rules>, buckets: Buckets, spill: Spill, memory: usize, index: usize) -> Self {
        let schema = rules.schema();
        let runs = Runs::new(Arc::clone(&schema), buckets, spill, memory, index);
        let behind = Behind::new(rules.told_in(), rules.conditional);
        Self { rules, schema, runs: Some(runs), counts: Counts::default(), behind, space: Space::default() }
    }

    /// One that decides over each row as a release does, and keeps none.
    pub(super) fn counting(rules: Arc<Rules>) -> Self {
        let behind = Behind::new(rules.told_in(), rules.conditional);
        Self { schema: rules.schema(), rules, runs: None, counts: Counts::default(), behind, space: Space::default() }
    }

    fn normalise(&mut self, batch: &RecordBatch) -> Result<(), Refusal> {
        let (space, rules) = (&mut self.space, &self.rules);
        space.subjects.clear();
        space.linked.clear();
        space.rows.clear();
        let linked = rules.linked.as_ref().map(|linked| Ok::<_, Refusal>((linked, identifiers(batch, 1)?))).transpose()?;
        for (row, identifier) in (0u32..).zip(identifiers(batch, 0)?) {
            let valid = identifier.is_some_and(|raw| rules.identifier.normalise(raw, &mut space.one))
                && linked.as_ref().is_none_or(|(linked, others)| {
                    let other = usize::try_from(row).ok().filter(|row| others.is_valid(*row)).map(|row| others.value(row));
                    other.is_some_and(|raw| linked.identifier.normalise(raw, &mut space.other))
                });
            if valid {
                space.subjects.push(&space.one);
                if linked.is_some() {
                    space.linked.push(&space.other);
                }
                space.rows.push(row);
            } else {
                self.counts.invalid_identifiers += 1;
                self.behind.invalid(|| stand_in(&rules.pseudonyms, identifier));
            }
        }
        Ok(())
    }

    /// Keeps the rows of subjects whose records allow it. In a link dataset, the records of both.
    fn apply_consent(&mut self) {
        let (space, rules) = (&mut self.space, &self.rules);
        if matches!(rules.basis, Basis::Statutory { honours_objections: false, .. }) {
            return;
        }
        rules.consent.latest(space.subjects.iter(), &mut space.hashes, &mut space.latest);
        space.allowed.clear();
        space.allowed.extend(space.latest.iter().map(|latest| allows(&rules.basis, *latest)));
        if let Some(linked) = &rules.linked {
            linked.consent.latest(space.linked.iter(), &mut space.hashes, &mut space.latest);
            let both = space.allowed.iter_mut().zip(&space.latest);
            both.for_each(|(allowed, latest)| *allowed &= allows(&rules.basis, *latest));
        }
        let before = space.rows.len();
        if space.allowed.contains(&false) {
            let withheld = space.subjects.iter().zip(&space.allowed).filter(|(_, allowed)| !**allowed);
            withheld.for_each(|(subject, _)| self.behind.withheld(|| rules.pseudonyms.one(subject)));
            let allowed = std::mem::take(&mut space.allowed);
            (space.subjects, space.linked) = (space.subjects.kept(&allowed), space.linked.kept(&allowed));
            let mut keep = allowed.iter();
            space.rows.retain(|_| keep.next().is_some_and(|keep| *keep));
            space.allowed = allowed;
        }
        self.counts.without_consent += (before - space.rows.len()) as u64;
    }

    /// The kept rows under their pseudonyms.
    fn rows(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Refusal> {
        let (space, rules) = (&mut self.space, &self.rules);
        let mut columns: Vec<ArrayRef> = Vec::new();
        let released = rules.linked.as_ref().filter(|linked| linked.released).map(|linked| (&linked.pseudonyms, &space.linked));
        for (pseudonyms, identifiers) in std::iter::once((&rules.pseudonyms, &space.subjects)).chain(released) {
            pseudonyms.make(identifiers.iter(), &mut space.pseudonyms);
            let flat: Vec<u8> = space.pseudonyms.as_flattened().to_vec();
            let subjects = FixedSizeBinaryArray::try_new(16, Buffer::from_vec(flat), None).map_err(Refusal::internal)?;
            columns.push(Arc::new(subjects));
        }
        let (read, pseudonyms) = (1 + usize::from(rules.linked.is_some()), columns.len());
        let whole = space.rows.len() == batch.num_rows();
        let indices = UInt32Array::from(if whole { Vec::new() } else { space.rows.clone() });
        for (column, field) in batch.columns().iter().skip(read).zip(self.schema.fields().iter().skip(pseudonyms)) {
            debug_assert!(!matches!(field.data_type(), DataType::Dictionary(..)));
            columns.push(if whole { Arc::clone(column) } else { take(column, &indices, None).map_err(Refusal::internal)? });
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(Refusal::internal)
    }
}

impl Work for Worker {
    type End = End;

    fn take(&mut self, batch: &RecordBatch) -> Result<(), Refusal> {
        self.normalise(batch)?;
        self.apply_consent();
        self.counts.released += self.space.rows.len() as u64;
        if self.space.rows.is_empty() || self.runs.is_none() {
            return Ok(());
        }
        let kept = self.rows(batch)?;
        self.runs.as_mut().map_or(Ok(()), |runs| runs.push(kept))
    }

    fn finish(self) -> Result<End, Refusal> {
        Ok(End { runs: self.runs.map_or(Ok(Vec::new()), Runs::finish)?, counts: self.counts, behind: self.behind })
    }
}

/// The identifiers in a column of the scan.
pub(crate) fn identifiers(batch: &RecordBatch, column: usize) -> Result<&StringArray, Refusal> {
    let column = batch.columns().get(column).and_then(|column| column.as_string_opt::<i32>());
    column.ok_or_else(|| Refusal::internal("the scan gave no identifiers"))
}
