//! What the public is shown: a folder of pages and files, made of objects, snapshots and statuses alone.
//!
//! ```text
//! index.html                      every mission and how its outcomes stand
//! missions/M/index.html           a mission: goal, outcomes, what is done about them
//! missions/M/O/index.html         an outcome: figure, chart with its table, breakdowns, what is withheld, who is missing, sources
//! missions/M/O/O.csv, .json       its figures; O.csv-metadata.json says what the columns are (CSVW)
//! missions/M/O/receipts/N.json    the signed promise of the log that the answer behind snapshot N is in it
//! register.html                   the agreements, and how they were used; register.csv with metadata
//! about.html, accessibility.html  how to read it; what is known of its accessibility
//! catalog.jsonld                  a catalogue of the data (DCAT 3)
//! ```
//!
//! Invariants
//! - Every figure is a cell that passed `Protect`, bounds or a status worked out of such cells alone, or what an object or an agreement
//!   states; [`site`] compares each with its snapshot and publishes nothing where one is not there. A withheld cell's value is never read.
//! - Nothing is told of a superseded snapshot but that it was corrected, by which, and why.
//! - No script, no address of anybody else's, no font or image to load. Whatever stands in a title, key or reason stays text, in HTML, SVG,
//!   CSV and JSON.
//! - The same input gives the same bytes.
//!
//! Deliberately absent: where the input comes from, and the clock; [`write`] alone touches files.

mod about;
mod board;
mod catalogue;
mod chart;
mod figure;
mod outcome;
mod page;
mod record;
mod register;
mod svg;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use concordat_policy::{Agreement, Name};

use self::record::{Record, Told};
pub use self::write::{Continued, MARKER, WriteError, continued, write};
use crate::history::superseded;
use crate::interval::of_row;
use crate::mission::{Mission, Outcome};
use crate::pivot::Pivot;
use crate::snapshot::{Cell, Snapshot};
use crate::status::{Measured, OutcomeStatus, row_of};
use crate::store::Head;

/// Everything that is published at once.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The day on which it is made.
    pub on: NaiveDate,
    /// What every page says first: that the people are generated, for example.
    pub note: Option<String>,
    /// The missions.
    pub missions: Vec<Published<'a>>,
    /// The departments' titles.
    pub departments: BTreeMap<Name, String>,
    /// Why its history does not continue the one that was published before, where it does not.
    pub anew: Option<String>,
    /// How far the history of snapshots goes that it was made of.
    pub head: Head,
    /// What was verified of its receipts.
    pub receipts: Receipts,
    /// The agreements of the missions.
    pub agreements: Vec<Registered<'a>>,
    /// How they were used.
    pub used: Used,
}

/// A mission with what is known of it.
#[derive(Debug)]
pub struct Published<'a> {
    /// The mission.
    pub mission: &'a Mission,
    /// The store's snapshots, of whatever mission, in the store's order.
    pub snapshots: &'a [Snapshot],
    /// The store's pivots, of whatever mission, oldest first.
    pub pivots: &'a [Pivot],
    /// How its outcomes stand, in the mission's order.
    pub statuses: Vec<OutcomeStatus>,
}

/// An agreement as the register has it.
#[derive(Debug)]
pub struct Registered<'a> {
    /// The agreement.
    pub agreement: &'a Agreement,
    /// Whether it binds, in a few words: in force, not signed by everybody, ended.
    pub standing: String,
}

/// What was verified of snapshots' receipts before anything was published. Every page says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipts {
    /// Nothing: no key was given.
    Unverified,
    /// Each by a key.
    By {
        /// The key, as text: the log's name, its hash and the public key.
        key: String,
        /// Whether it is only the one that lay in the log's own folder: who made the log made it.
        own: bool,
        /// Whether what snapshots say was also compared with the log's entries.
        held: bool,
    },
}

impl Receipts {
    /// In a sentence.
    #[must_use]
    pub fn says(&self) -> String {
        match self {
            Self::Unverified => {
                "Nobody verified the receipts of these snapshots: that a gateway gave these answers is the word of who publishes \
                                 alone."
                    .into()
            }
            Self::By { key, own, held } => {
                let whose = if *own {
                    "a key that lay in the log's own folder, which shows that the log is of one hand, and not of whose: compare it with the one \
                     that the log's operator published"
                } else {
                    "the key of the log that was given to who publishes"
                };
                let held = if *held {
                    "What it says was held to the log's entry of its answer"
                } else {
                    "What snapshots say was not held to the log's entries"
                };
                format!("Each snapshot's receipt was verified by {whose}. {held}. The key: {key}.")
            }
        }
    }
}

/// How agreements were used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Used {
    /// Who publishes could not read the log.
    NotStated {
        /// Why, in a clause.
        because: String,
    },
    /// By the gateway's log.
    Stated {
        /// The first day that the log tells of.
        from: NaiveDate,
        /// The day on which it was read.
        until: NaiveDate,
        /// What it was counted from: the log's size and head, and whether it was verified.
        by: String,
        /// Each number that is not 0.
        queries: Vec<Queries>,
    },
}

/// How many queries were answered. They are queries, and not people: they are told exactly, and nobody who asked is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queries {
    /// Under which agreement.
    pub agreement: String,
    /// The first day of the month.
    pub month: NaiveDate,
    /// For which purpose.
    pub purpose: String,
    /// How many.
    pub answered: u64,
}

/// The files of a site, by path with `/`, relative to its folder.
pub type Site = BTreeMap<String, Vec<u8>>;

/// Why nothing is published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A figure that is in no snapshot.
    #[error("outcome '{outcome}' of mission '{mission}': {what}")]
    Unbacked {
        /// The mission.
        mission: Name,
        /// The outcome.
        outcome: Name,
        /// Which figure.
        what: String,
    },
    /// A chart that cannot be drawn.
    #[error("a chart cannot be drawn: {0}")]
    Chart(String),
    /// A file that cannot be made.
    #[error("{path} cannot be made: {cause}")]
    File {
        /// Its path in the site.
        path: String,
        /// Why.
        cause: String,
    },
}

/// The site.
///
/// # Errors
/// [`PublishError::Unbacked`] where a status tells what no protected cell of its snapshot does: then nothing is made at all.
pub fn site(publication: &Publication<'_>) -> Result<Site, PublishError> {
    publication.missions.iter().try_for_each(Published::whole)?;
    let mut files = Files(Site::new());
    files.add("style.css", include_str!("style.css"))?;
    files.add("index.html", board::index(publication))?;
    files.add("about.html", about::method(publication))?;
    files.add("accessibility.html", about::accessibility(publication))?;
    files.add("register.html", register::page(publication))?;
    files.add("register.csv", register::csv(publication))?;
    files.add("register.csv-metadata.json", catalogue::of_register())?;
    files.add("catalog.jsonld", catalogue::catalogue(publication))?;
    for published in &publication.missions {
        let folder = format!("missions/{}", published.mission.id);
        files.add(&format!("{folder}/index.html"), board::mission(publication, published))?;
        for (outcome, status) in published.outcomes() {
            let of = outcome::Of { publication, published, outcome, status };
            let (id, folder) = (&outcome.id, format!("{folder}/{}", outcome.id));
            let records = record::records(published, outcome, status);
            published.backed(outcome, status, &records)?;
            files.add(&format!("{folder}/index.html"), of.page(&records)?)?;
            files.add(&format!("{folder}/{id}.csv"), record::csv(outcome, &records))?;
            files.add(&format!("{folder}/{id}.csv-metadata.json"), catalogue::of_figures(published.mission, outcome))?;
            files.add(&format!("{folder}/{id}.json"), record::json(&of, &records))?;
            for snapshot in published.counting(status) {
                let promise = snapshot.taken.stated.promise.to_string() + "\n";
                files.add(&format!("{folder}/receipts/{}.json", snapshot.number), promise)?;
            }
        }
    }
    Ok(files.0)
}

impl Publication<'_> {
    /// The texts of agreements on which published snapshots rest, by the agreement's id: their digests.
    fn texts(&self) -> BTreeMap<&'_ str, BTreeSet<&'_ str>> {
        let mut texts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for published in &self.missions {
            for snapshot in published.outcomes().flat_map(|(_, status)| published.counting(status)) {
                for (id, digest) in &snapshot.taken.stated.agreement_digests {
                    texts.entry(id).or_default().insert(digest);
                }
            }
        }
        texts
    }
}

struct Files(Site);

impl Files {
    fn add(&mut self, path: &str, content: impl Into<Vec<u8>>) -> Result<(), PublishError> {
        match self.0.insert(path.to_owned(), content.into()) {
            None => Ok(()),
            Some(_) => Err(PublishError::File { path: path.to_owned(), cause: "two files would have this name".into() }),
        }
    }
}

impl<'a> Published<'a> {
    /// The outcomes, each with how it stands.
    fn outcomes(&self) -> impl Iterator<Item = (&'a Outcome, &OutcomeStatus)> {
        let status = |outcome: &Outcome| self.statuses.iter().find(|status| status.outcome == outcome.id);
        self.mission.outcomes.iter().filter_map(move |outcome| Some((outcome, status(outcome)?)))
    }

    fn snapshot(&self, number: u64) -> Option<&'a Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.number == number)
    }

    /// The snapshots of which something is told, oldest data first.
    fn counting(&self, status: &OutcomeStatus) -> impl Iterator<Item = &'a Snapshot> {
        let mut told: Vec<&Measured> = status.history.iter().chain(&status.same_day).collect();
        told.sort_by_key(|measured| (measured.as_of, measured.snapshot));
        told.into_iter().filter_map(|measured| self.snapshot(measured.snapshot))
    }

    /// That each outcome has a status.
    fn whole(&self) -> Result<(), PublishError> {
        let lacks = |outcome: &&Outcome| !self.statuses.iter().any(|status| status.outcome == outcome.id);
        self.mission.outcomes.iter().find(lacks).map_or(Ok(()), |outcome| Err(self.unbacked(outcome, "nothing says how it stands")))
    }

    fn unbacked(&self, outcome: &Outcome, what: impl Into<String>) -> PublishError {
        PublishError::Unbacked { mission: self.mission.id.clone(), outcome: outcome.id.clone(), what: what.into() }
    }

    /// That each figure of the records and of the status is the cell of its own row and column, and passed `Protect`.
    fn backed(&self, outcome: &Outcome, status: &OutcomeStatus, records: &[Record]) -> Result<(), PublishError> {
        let of_records = records.iter().filter_map(|record| match &record.told {
            Told::Measured(measured) => Some((record.breakdown.as_deref().map(|title| (title, &record.group)), measured)),
            Told::Missed { .. } => None,
        });
        let groups = status.breakdowns.iter().flat_map(|breakdown| breakdown.groups.iter().map(move |group| (breakdown, group)));
        let of_groups = groups.map(|(breakdown, group)| (Some((breakdown.title.as_str(), &group.keys)), &group.measured));
        for (group, measured) in of_records.chain(status.latest.iter().map(|latest| (None, latest))).chain(of_groups) {
            let snapshot = self.snapshot(measured.snapshot);
            let snapshot = snapshot.ok_or_else(|| self.unbacked(outcome, format!("there is no snapshot {}", measured.snapshot)))?;
            let number = snapshot.number;
            if (&snapshot.taken.mission, &snapshot.taken.outcome) != (&self.mission.id, &outcome.id) {
                return Err(self.unbacked(outcome, format!("snapshot {number} is of another outcome")));
            }
            if superseded(self.snapshots, number) {
                return Err(self.unbacked(outcome, format!("snapshot {number} is superseded")));
            }
            if measured.as_of != snapshot.taken.days(&outcome.standing).newest || !is_told(outcome, snapshot, group, measured) {
                return Err(self.unbacked(outcome, format!("snapshot {number} does not tell what its status does")));
            }
        }
        Ok(())
    }
}

/// Whether the snapshot tells it of this group, or as its headline, by a column that passed `Protect`. What is not told needs no cell.
fn is_told(outcome: &Outcome, snapshot: &Snapshot, group: Option<(&str, &Vec<String>)>, measured: &Measured) -> bool {
    let taken = &snapshot.taken;
    let Some(value) = measured.value else { return measured.interval.is_none() };
    let place = taken.column(&outcome.column).and_then(|place| taken.columns.get(place));
    let row = match group {
        None => taken.headline(outcome),
        Some((title, keys)) => {
            outcome.breakdowns.iter().find(|one| one.title == title).and_then(|one| row_of(outcome, one, snapshot, keys))
        }
    };
    let tells = |row: &Vec<Cell>| {
        taken.cell(row, &outcome.column).and_then(Cell::number) == Some(value) && of_row(outcome, taken, row) == measured.interval
    };
    place.is_some_and(|column| column.protected) && row.is_some_and(tells)
}
