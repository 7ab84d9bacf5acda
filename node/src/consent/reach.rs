//! Whose choices reach other parties' data: pseudonyms, from what was recorded since a version and from what it means now.
//!
//! ```text
//! records since the version ─▶ identifiers ─▶ what all their records mean now (index) ─▶ added · removed
//! ```
//!
//! Nobody is named who never withdrew or objected: of a subject who only agreed, nothing is told.

use concordat_policy::consent::{Event, Latest, reaches};
use concordat_policy::{Basis, Dataset, IdentifierType, Name};
use concordat_proto::reach::Changes;

use super::Consent;
use super::index::View;
use super::ledger::LedgerError;
use crate::pseudonym::{Pseudonym, Pseudonyms};

/// Identifiers that are looked up at a time.
const BATCH: usize = 4_096;
/// When pseudonyms that stand several times are first thrown out.
const COMPACT: usize = 1 << 20;

/// The subjects of one identifier type.
pub struct Kind {
    /// The type's label.
    pub label: String,
    /// Makes their pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// Their records, for all relevant purposes.
    pub view: View,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kind({})", self.label)
    }
}

/// Of what types the identifiers of some data are, each once.
pub fn identifiers<'a>(data: impl Iterator<Item = &'a Dataset>) -> Vec<IdentifierType> {
    let mut types: Vec<IdentifierType> = Vec::new();
    for dataset in data {
        if types.iter().all(|known| known.label() != dataset.identifier.label()) {
            types.push(dataset.identifier.clone());
        }
    }
    types
}

impl Consent {
    /// What changed between two versions of the ledger for data used on `basis`; everybody who is concerned, where the first is 0.
    /// `relevant` are the purposes whose records speak. The views of `kinds` are of the second version. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn reach(&self, (from, to): (u64, u64), basis: &Basis, relevant: &[Name], kinds: Vec<Kind>) -> Result<Changes, LedgerError> {
        let mut gathering: Vec<Gathering> = kinds.into_iter().map(|kind| Gathering::new(kind, basis.clone())).collect();
        self.ledger.since(from, to, |row| {
            // Who is concerned has withdrawn or objected once; who was concerned may have agreed since.
            let concerns = (from > 0 || row.event != Event::Given) && relevant.iter().any(|purpose| purpose.as_str() == row.purpose);
            if concerns && let Some(gathering) = gathering.iter_mut().find(|gathering| gathering.kind.label == row.identifier_type) {
                gathering.take(row.identifier);
            }
            Ok(())
        })?;
        let mut changes = Changes::default();
        for mut gathering in gathering {
            gathering.look_up();
            changes.added.append(&mut gathering.added.pseudonyms);
            changes.removed.append(&mut gathering.removed.pseudonyms);
        }
        if from == 0 {
            changes.removed.clear();
        }
        for all in [&mut changes.added, &mut changes.removed] {
            all.sort_unstable();
            all.dedup();
        }
        Ok(changes)
    }
}

/// Pseudonyms, some of them several times.
struct Several {
    pseudonyms: Vec<Pseudonym>,
    compact: usize,
}

impl Several {
    fn push(&mut self, pseudonym: Pseudonym) {
        if self.pseudonyms.len() >= self.compact {
            self.pseudonyms.sort_unstable();
            self.pseudonyms.dedup();
            self.compact = COMPACT.max(2 * self.pseudonyms.len());
        }
        self.pseudonyms.push(pseudonym);
    }
}

/// The subjects of one identifier type, a batch of identifiers at a time.
struct Gathering {
    kind: Kind,
    basis: Basis,
    // Identifiers, one after the other, and where each ends.
    text: String,
    ends: Vec<usize>,
    scratch: Vec<Pseudonym>,
    latest: Vec<Latest>,
    added: Several,
    removed: Several,
}

impl Gathering {
    fn new(kind: Kind, basis: Basis) -> Self {
        let several = || Several { pseudonyms: Vec::new(), compact: COMPACT };
        let (text, ends, scratch, latest) = Default::default();
        Self { kind, basis, text, ends, scratch, latest, added: several(), removed: several() }
    }

    fn take(&mut self, identifier: &str) {
        self.text.push_str(identifier);
        self.ends.push(self.text.len());
        if self.ends.len() >= BATCH {
            self.look_up();
        }
    }

    fn look_up(&mut self) {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        // Every end lies on a boundary of characters: whole identifiers were appended.
        let identifiers = starts.zip(&self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or_default());
        self.kind.view.latest(identifiers.clone(), &mut self.scratch, &mut self.latest);
        for (identifier, latest) in identifiers.zip(&self.latest) {
            if reaches(&self.basis, *latest) {
                self.added.push(self.kind.pseudonyms.one(identifier));
            } else if latest.withdrawn.max(latest.objected).is_some() {
                self.removed.push(self.kind.pseudonyms.one(identifier));
            }
        }
        self.text.clear();
        self.ends.clear();
    }
}
