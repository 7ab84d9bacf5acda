//! Whose choices reach other parties' data: pseudonyms, from what was recorded since a version and from what it means now.
//!
//! ```text
//! records since the version, choices that took effect or expired since ─▶ identifiers ─▶ what all their records mean now (index)
//!     ─▶ added · removed
//! ```
//!
//! Somebody erased is told of like everybody else as long as a withdrawal or objection is kept: erasing nobody permits elsewhere what
//! was withheld. Where nothing is kept any more of somebody who may have been told of, whoever follows is told the whole list
//! ([`Consent::follows`]).
//!
//! Of a subject who only agreed, and whose records were never corrected, nothing is told. That consent has expired is no withdrawal
//! ([`concordat_policy::consent`]), and reaches nothing.

use concordat_policy::consent::{Event, Latest, reaches};
use concordat_policy::{Basis, Dataset, IdentifierType, Name};
use concordat_proto::reach::Changes;

use super::Consent;
use super::index::View;
use super::ledger::{LedgerError, Step, Subject};
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
    for identifier in
        data.flat_map(|dataset| std::iter::once(&dataset.identifier).chain(dataset.linked.as_ref().map(|linked| &linked.identifier)))
    {
        if types.iter().all(|known| known.label() != identifier.label()) {
            types.push(identifier.clone());
        }
    }
    types
}

/// Where a list stood.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    /// The ledger's version.
    pub version: u64,
    /// When records with times were judged, Unix seconds.
    pub moment: i64,
}

impl Consent {
    /// Whether a list that stood at `version` can be followed by what changed since. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn follows(&self, version: u64) -> Result<bool, LedgerError> {
        Ok(!self.ledger.reading()?.nameless(version)?)
    }

    /// What changed for data used on `basis`; everybody who is concerned, where there was no list that can be followed
    /// ([`Consent::follows`]). `relevant` are the purposes whose records speak. The views of `kinds` are judged at `now`. Blocks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn reach(
        &self,
        since: Option<Since>,
        now: i64,
        basis: &Basis,
        relevant: &[Name],
        kinds: Vec<Kind>,
    ) -> Result<Changes, LedgerError> {
        let mut gathering: Vec<Gathering> = kinds.into_iter().map(|kind| Gathering::new(kind, basis.clone())).collect();
        let mut take = |identifier_type: &str, identifier: &str, corrected: bool| {
            if let Some(gathering) = gathering.iter_mut().find(|gathering| gathering.kind.label == identifier_type) {
                gathering.take(identifier, corrected);
            }
        };
        let speaks = |purpose: &str| relevant.iter().any(|name| name.as_str() == purpose);
        let reading = self.ledger.reading()?;
        reading.since(since.map_or(0, |since| since.version), |row| {
            let concerns = match row.step {
                // What was corrected may have been the last word. A whole list is told of each record by itself.
                Step::Forget => since.is_some(),
                // Who is concerned has withdrawn or objected once; who was concerned may have agreed since.
                Step::Choice { purpose, event, .. } => speaks(purpose) && (since.is_some() || event != Event::Given),
            };
            if concerns {
                let corrected = matches!(row.step, Step::Forget);
                match (row.subject, row.sealed) {
                    (Subject::Identifier(identifier), _) => take(row.identifier_type, identifier, corrected),
                    (Subject::Erased(digest), Some(sealed)) => {
                        take(row.identifier_type, &self.secret.opened(row.identifier_type, digest, sealed)?, corrected);
                    }
                    (Subject::Erased(_), None) => {}
                }
            }
            Ok(())
        })?;
        if let Some(since) = since {
            reading.turned(since.moment, now, |identifier_type, subject| {
                // What is kept of somebody erased has no times.
                if let Subject::Identifier(identifier) = subject {
                    take(identifier_type, identifier, false);
                }
            })?;
        }
        let mut changes = Changes::default();
        for mut gathering in gathering {
            gathering.look_up();
            changes.added.append(&mut gathering.added.pseudonyms);
            changes.removed.append(&mut gathering.removed.pseudonyms);
        }
        if since.is_none() {
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
    // Identifiers, one after the other; where each ends, and whether a record about it was corrected.
    text: String,
    ends: Vec<(usize, bool)>,
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

    fn take(&mut self, identifier: &str, corrected: bool) {
        self.text.push_str(identifier);
        self.ends.push((self.text.len(), corrected));
        if self.ends.len() >= BATCH {
            self.look_up();
        }
    }

    fn look_up(&mut self) {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        // Every end lies on a boundary of characters: whole identifiers were appended.
        let identifiers = starts.zip(&self.ends).map(|(start, (end, _))| self.text.get(start..*end).unwrap_or_default());
        self.kind.view.latest(identifiers.clone(), &mut self.scratch, &mut self.latest);
        for ((identifier, latest), (_, corrected)) in identifiers.zip(&self.latest).zip(&self.ends) {
            if reaches(&self.basis, *latest) {
                self.added.push(self.kind.pseudonyms.one(identifier));
            } else if *corrected || latest.withdrawn.max(latest.objected).is_some() {
                self.removed.push(self.kind.pseudonyms.one(identifier));
            }
        }
        self.text.clear();
        self.ends.clear();
    }
}
