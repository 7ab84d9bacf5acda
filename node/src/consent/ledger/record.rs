//! Records, as they are written and as they are read.

use chrono::{DateTime, SecondsFormat};
use concordat_policy::Name;
use concordat_policy::consent::{Capacity, Event, Said, Term};

/// One consent record. `Debug` hides the identifier.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The label of the identifier's type.
    pub identifier_type: String,
    /// The identifier, normalised.
    pub identifier: String,
    /// The purpose.
    pub purpose: Name,
    /// What happened.
    pub event: Event,
    /// What it says beside that.
    pub details: Details,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record({} for {})", self.event.as_str(), self.purpose)
    }
}

/// What a record may say beside its event. Most records say nothing more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// When it speaks.
    pub term: Term,
    /// Who acted for the subject; `None` where the subject acted.
    pub acting: Option<Acting>,
}

/// Somebody who acted for a subject. `Debug` hides who.
#[derive(Clone, PartialEq, Eq)]
pub struct Acting {
    /// In which capacity.
    pub capacity: Capacity,
    /// The department's own reference of that person.
    pub by: String,
}

impl std::fmt::Debug for Acting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Acting({})", self.capacity.as_str())
    }
}

/// Whom a row of the ledger is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::consent) enum Subject<'a> {
    /// The identifier, normalised.
    Identifier(&'a str),
    /// Somebody who was erased, by the digest that stands in for the identifier ([`crate::consent::secret`]).
    Erased(&'a str),
}

/// What the index learns from a row, without copies.
#[derive(Clone, Copy)]
pub(in crate::consent) struct Row<'a> {
    pub(in crate::consent) identifier_type: &'a str,
    pub(in crate::consent) subject: Subject<'a>,
    /// Of somebody erased: the identifier, if it is kept ([`crate::consent::secret`]).
    pub(in crate::consent) sealed: Option<&'a [u8]>,
    pub(in crate::consent) step: Step<'a>,
}

/// What becomes of a subject's history.
#[derive(Clone, Copy)]
pub(in crate::consent) enum Step<'a> {
    /// One more choice.
    Choice { purpose: &'a str, event: Event, term: Term },
    /// Nothing of what was said before speaks any more. Whatever still does follows.
    Forget,
}

/// One record of somebody's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its place in the ledger.
    pub place: u64,
    /// The purpose, which may have left the purpose tree since. Empty for an erasure.
    pub purpose: String,
    /// What it says.
    pub said: Said,
    /// Who acted for the subject.
    pub acting: Option<Acting>,
    /// RFC 3339, UTC.
    pub recorded_at: String,
    /// The place of the record that says that this one was wrong.
    pub corrected_by: Option<u64>,
    /// Whether it is about somebody erased, under a digest.
    pub erased: bool,
    /// Of a choice: the number of what its receipt states ([`crate::consent::stated`]).
    pub(in crate::consent) stated: Option<i64>,
}

impl Kept {
    /// `given`, `withdrawn`, `objected`, `corrected` or `erased`.
    #[must_use]
    pub fn event(&self) -> &'static str {
        match self.said {
            Said::Choice(event, _) => event.as_str(),
            Said::Corrected(_) => CORRECTED,
            Said::Erased => ERASED,
        }
    }

    /// When it speaks.
    #[must_use]
    pub fn term(&self) -> Term {
        match self.said {
            Said::Choice(_, term) => term,
            Said::Corrected(_) | Said::Erased => Term::default(),
        }
    }

    /// The place of the record that it says was wrong.
    #[must_use]
    pub fn corrects(&self) -> Option<u64> {
        match self.said {
            Said::Corrected(place) => Some(place),
            Said::Choice(..) | Said::Erased => None,
        }
    }
}

/// A record that still speaks, and whose it is.
pub(in crate::consent) struct Made {
    /// The label of the identifier's type.
    pub(in crate::consent) identifier_type: String,
    pub(in crate::consent) identifier: String,
    pub(in crate::consent) kept: Kept,
}

/// As the ledger writes the events that are no choices.
pub(in crate::consent) const CORRECTED: &str = "corrected";
pub(in crate::consent) const ERASED: &str = "erased";

/// A moment as people read it: RFC 3339, UTC.
#[must_use]
pub fn moment(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0).map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default()
}
