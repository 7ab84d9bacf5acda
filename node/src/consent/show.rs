//! What the ledger holds of some people, and what it means now for each purpose.

use std::collections::HashMap;

use chrono::Utc;
use concordat_policy::consent::history::speaking;
use concordat_policy::consent::{Said, Spoken, allows, latest, relevant};
use concordat_policy::{Basis, Code, Name, Refusal};

use super::Consent;
use super::intake::{Intake, IntakeError};
use super::journal::Note;
use super::ledger::{Kept, Known, Subject, entry};

/// The most people who are shown at once.
pub const MAX_SUBJECTS: usize = 1000;
/// The most records of one of them.
const MAX_RECORDS: usize = 5000;
/// The most digests in one entry of the log.
const DIGESTS: usize = 500;

/// Whom to show, checked.
#[derive(Clone)]
pub struct Asked {
    identifier_type: String,
    label: String,
    /// Normalised, in the order in which they were asked for.
    identifiers: Vec<String>,
    purposes: Vec<Purpose>,
    only: Option<Name>,
}

/// A purpose and whose records speak for it.
#[derive(Clone)]
struct Purpose {
    name: Name,
    relevant: Vec<Name>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asked({} identifiers)", self.identifiers.len())
    }
}

/// What the ledger holds of one subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The records, in the order in which they were made.
    pub records: Vec<Kept>,
    /// What they mean, by purpose.
    pub standing: Vec<Standing>,
}

/// What a subject's records mean for one purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The purpose.
    pub purpose: Name,
    /// The last record that speaks for it; `None` where none does.
    pub last: Option<u64>,
    /// Whether the data may be used where the lawful basis is consent.
    pub under_consent: bool,
    /// Whether it may be used under a statutory power that honours objections.
    pub honouring_objections: bool,
}

/// Why nobody can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// None, or too many.
    #[error("ask for 1 to {MAX_SUBJECTS} identifiers")]
    Count,
    /// The type or the purpose.
    #[error(transparent)]
    Unknown(#[from] IntakeError),
    /// One of the identifiers, counted from 1.
    #[error("identifier {0}: {1}")]
    Identifier(usize, IntakeError),
}

impl Intake {
    /// Checks whom to ask for, and for which purpose; for all of the tree if for none.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask<'a>(
        &self,
        identifier_type: &str,
        identifiers: impl Iterator<Item = &'a str>,
        purpose: Option<&str>,
    ) -> Result<Asked, AskError> {
        let kind = self.identifier_type(identifier_type)?;
        let only = purpose.map(|purpose| self.purpose(purpose)).transpose()?;
        let mut normalised = Vec::new();
        for (at, identifier) in identifiers.enumerate().take(MAX_SUBJECTS + 1) {
            let mut out = String::new();
            if !kind.normalise(identifier, &mut out) {
                return Err(AskError::Identifier(at + 1, IntakeError::Identifier(identifier_type.to_owned())));
            }
            normalised.push(out);
        }
        if normalised.is_empty() || normalised.len() > MAX_SUBJECTS {
            return Err(AskError::Count);
        }
        let tree = self.purposes();
        let wanted = tree.iter().map(|purpose| &purpose.id).filter(|id| only.as_ref().is_none_or(|only| only == *id));
        let purposes = wanted.map(|name| Purpose { name: name.clone(), relevant: relevant(tree, name).cloned().collect() }).collect();
        Ok(Asked { identifier_type: identifier_type.to_owned(), label: kind.label(), identifiers: normalised, purposes, only })
    }
}

impl Asked {
    /// For each person, what stands for them in the access log: a digest under the log's own key.
    pub fn digests(&self, digest: impl Fn(&[u8]) -> String) -> Vec<String> {
        let subject = |identifier: &String| digest(&crate::framing::framed(&[b"subject", self.label.as_bytes(), identifier.as_bytes()]));
        self.identifiers.iter().map(subject).collect()
    }

    /// How many people.
    #[must_use]
    pub fn subjects(&self) -> usize {
        self.identifiers.len()
    }

    /// What the log says of showing people with these digests: lists of fields, each for one entry.
    pub(crate) fn entries(&self, digests: &[String]) -> impl Iterator<Item = Vec<(&'static str, serde_json::Value)>> {
        digests.chunks(DIGESTS).map(|digests| {
            vec![
                ("identifier_type", self.identifier_type.as_str().into()),
                ("purpose", self.only.as_ref().map(Name::as_str).into()),
                ("subjects", digests.to_vec().into()),
            ]
        })
    }

    /// Notes in the journal that a command shows these people, or makes their receipts: `event` says which.
    pub(crate) fn notes(&self, event: &'static str, digests: &[String]) -> Vec<Note> {
        let note = |fields: Vec<(&'static str, serde_json::Value)>| {
            fields.into_iter().fold(Note::new(event), |note, (name, value)| note.field(name, value))
        };
        self.entries(digests).map(note).collect()
    }

    /// The people, with what stands in the stead of those who were erased.
    pub(super) fn people(&self, digest: impl Fn(&str) -> String) -> Vec<Known> {
        self.identifiers.iter().map(|identifier| Known { identifier: identifier.clone(), digest: digest(identifier) }).collect()
    }

    /// The identifiers, normalised, in the order in which they were asked for.
    pub(super) fn identifiers(&self) -> &[String] {
        &self.identifiers
    }

    /// The label of the identifiers' type.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    fn standing(purpose: &Purpose, spoken: &[Spoken<'_>], now: i64) -> Standing {
        let latest = latest(spoken, |of| purpose.relevant.iter().any(|name| name.as_str() == of), now);
        let statutory = Basis::Statutory { power: String::new(), honours_objections: true };
        Standing {
            purpose: purpose.name.clone(),
            last: latest.last(),
            under_consent: allows(&Basis::Consent { text: String::new() }, latest),
            honouring_objections: allows(&statutory, latest),
        }
    }

    /// Whether a record counts for what was asked.
    fn counts(&self, kept: &Kept) -> bool {
        let speaks = || self.purposes.iter().flat_map(|p| &p.relevant).any(|name| name.as_str() == kept.purpose);
        self.only.is_none() || kept.said == Said::Erased || speaks()
    }
}

impl Consent {
    /// What the ledger holds of each of those who are asked for, in that order. Reads the whole ledger. Blocks.
    ///
    /// # Errors
    /// As [`Consent::catch_up`]: a ledger that is behind is not shown as if it were whole; [`Code::LimitExceeded`] for somebody
    /// with very many records.
    pub fn show(&self, asked: &Asked) -> Result<Vec<Shown>, Refusal> {
        let reading = self.current()?;
        let people = asked.people(|identifier| self.secret.digest(identifier));
        let (mut places, mut digests): (HashMap<&str, usize>, HashMap<&str, usize>) = Default::default();
        let mut shown: Vec<Shown> = Vec::new();
        for known in &people {
            let place = *places.entry(&known.identifier).or_insert_with(|| {
                shown.push(Shown::default());
                shown.len() - 1
            });
            digests.insert(&known.digest, place);
        }
        let mut too_many = false;
        let read = reading.about(&asked.label, 0, |subject, kept| {
            let place = match subject {
                Subject::Identifier(identifier) => places.get(identifier),
                Subject::Erased(digest) => digests.get(digest),
            };
            if let Some(shown) = place.and_then(|place| shown.get_mut(*place)) {
                let kept = kept()?;
                too_many |= shown.records.len() >= MAX_RECORDS;
                if asked.counts(&kept) && !too_many {
                    shown.records.push(kept);
                }
            }
            Ok(())
        });
        read.map_err(Refusal::internal)?;
        if too_many {
            let message = format!("somebody has more than {MAX_RECORDS} records, more than can be shown at once");
            return Err(Refusal::new(Code::LimitExceeded, message).department(&self.department).advice("ask for one purpose"));
        }
        let now = Utc::now().timestamp();
        for shown in &mut shown {
            let spoken = speaking(shown.records.iter().map(entry));
            shown.standing = asked.purposes.iter().map(|purpose| Asked::standing(purpose, &spoken, now)).collect();
        }
        let of = |identifier: &String| places.get(identifier.as_str()).and_then(|place| shown.get(*place)).cloned().unwrap_or_default();
        Ok(asked.identifiers.iter().map(of).collect())
    }
}
