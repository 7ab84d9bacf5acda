//! From a table to a dataset that is proposed.

use std::collections::BTreeSet;

use concordat_policy::identifier::IdentifierSpec;
use concordat_policy::{Classification, ColumnType, IdentifierType, Name};

use super::classify::{Guess, guess};
use super::codes::{Codes, codes};
use super::identify::{Candidate, candidates};
use super::profile::{Profile, study};
use super::table::{Column, InspectError, Table, sql_name};

/// A dataset that is proposed.
#[derive(Debug)]
pub struct Proposed {
    /// Its name.
    pub name: String,
    /// Where the table is, for people.
    pub place: String,
    pub(super) source: Vec<(&'static str, String)>,
    /// Who a row is about.
    pub subject: Subject,
    /// What every row told, where the subject is clear.
    pub(super) codes: Option<Codes>,
    /// The columns that are offered.
    pub offered: Vec<Offered>,
    /// The columns that are not, with the reason.
    pub left: Vec<Left>,
}

/// Who a row is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// One answer fits.
    Clear(Answer),
    /// People must decide between these, or others.
    Undecided(Vec<Answer>),
}

/// A column and an identifier's type.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The column's name in the source.
    pub column: String,
    /// The identifier's type.
    pub kind: &'static str,
    /// Why.
    pub why: String,
}

/// A column that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) kind: ColumnType,
    pub(super) classification: Classification,
    /// Why it is classified so.
    pub(super) why: String,
    /// What else to know.
    pub(super) notes: Vec<String>,
    /// A list of values that could be published.
    pub(super) values: Option<Vec<String>>,
}

/// A column that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Its name in the source.
    pub source: String,
    /// Why.
    pub why: String,
    /// How it would be offered, where it could be.
    pub(super) could_be: Option<(String, ColumnType, Classification)>,
}

/// A dataset's name after its table's, other than those that are taken.
pub(super) fn dataset_name(table: &str, taken: &[Proposed]) -> String {
    let name = sql_name(table);
    let numbered = (2..).map(|n| format!("{name}_{n}"));
    std::iter::once(name.clone()).chain(numbered).find(|name| taken.iter().all(|other| other.name != *name)).unwrap_or(name)
}

/// Studies a table and proposes a dataset.
pub(super) async fn propose(name: String, table: Table) -> Result<Proposed, InspectError> {
    let (profiles, _) = study(&table).await?;
    let (found, clear) = candidates(&table, &profiles);
    let answers: Vec<Answer> = found.iter().map(answer).collect();
    let subject = match answers.first() {
        Some(first) if clear => Subject::Clear(first.clone()),
        _ => Subject::Undecided(answers),
    };
    let (mut offered, left) = columns(&table, &profiles, &subject);
    let codes = match &subject {
        Subject::Clear(answer) => Some(lists(&table, answer, &mut offered).await?),
        Subject::Undecided(_) => None,
    };
    Ok(Proposed { name, place: table.place, source: table.source, subject, codes, offered, left })
}

fn answer(candidate: &Candidate) -> Answer {
    let Candidate { column, kind, percent, supported } = candidate;
    let by = if *supported { "" } else { "; but nearly every whole number is" };
    Answer { column: column.clone(), kind, why: format!("{percent} of 100 values are valid as {kind}{by}") }
}

fn columns(table: &Table, profiles: &[Profile], subject: &Subject) -> (Vec<Offered>, Vec<Left>) {
    let (mut offered, mut left): (Vec<Offered>, Vec<Left>) = (Vec::new(), Vec::new());
    let possible = |column: &str| match subject {
        Subject::Clear(answer) => answer.column == column,
        Subject::Undecided(answers) => answers.iter().any(|answer| answer.column == column),
    };
    for (column, profile) in table.columns.iter().zip(profiles) {
        let mut leave = |why: String, could_be| left.push(Left { source: column.name.clone(), why, could_be });
        let name = sql_name(&column.name);
        let (kind, note) = match kind(column, profile) {
            Ok(kind) => kind,
            Err(why) => {
                leave(why, None);
                continue;
            }
        };
        let Guess { classification, why, identifies } = guess(&column.name, kind, profile);
        let could_be = Some((name.clone(), kind, classification));
        match (subject, possible(&column.name), identifies) {
            (Subject::Clear(_), true, _) => {}
            (Subject::Undecided(_), true, _) => leave("it may be the subject's identifier, which never leaves".into(), None),
            (_, false, Some(why)) => leave(why, could_be),
            (_, false, None) if column.name.is_empty() => leave("it has no name".into(), None),
            (_, false, None) if offered.iter().any(|other| other.name == name) => {
                leave(format!("another column is called {name} already"), None)
            }
            (_, false, None) => offered.push(Offered {
                name,
                source: column.name.clone(),
                kind,
                classification,
                why,
                notes: note.into_iter().collect(),
                values: None,
            }),
        }
    }
    (offered, left)
}

/// The column's type, and what to know of it.
fn kind(column: &Column, profile: &Profile) -> Result<(ColumnType, Option<String>), String> {
    let kind = column.kind.clone()?;
    Ok(match kind {
        ColumnType::Integer if profile.leading_zeros > 0 && column.native == "Int64" => {
            (ColumnType::Text, Some("values begin with zeros, which a number would lose: so it is read as text".into()))
        }
        ColumnType::Text if profile.share(profile.other_dates) > 0.5 => {
            (kind, Some("its values look like dates, but not as YYYY-MM-DD: convert the source if they are to be compared as dates".into()))
        }
        _ if profile.filled == 0 => (kind, Some("it holds no value, so its type is a guess too".into())),
        _ => (kind, None),
    })
}

/// Finds the lists that could be published. Classified as special, a list is none of a tool's business.
async fn lists(table: &Table, answer: &Answer, offered: &mut [Offered]) -> Result<Codes, InspectError> {
    let listed = |column: &&Offered| matches!(column.kind, ColumnType::Text | ColumnType::Integer);
    let wanted: BTreeSet<&str> = offered
        .iter()
        .filter(listed)
        .filter(|column| column.classification != Classification::Special)
        .map(|column| column.source.as_str())
        .collect();
    let spec = IdentifierSpec { kind: answer.kind.to_owned(), name: None, pattern: None };
    let identifier = IdentifierType::from_spec(&spec)
        .map_err(|cause| InspectError::new(&table.place, cause, "report this: a type that init itself proposes"))?;
    let mut found = codes(table, &answer.column, &identifier, &wanted).await?;
    for column in offered {
        column.values = found.lists.remove(&column.source);
    }
    Ok(found)
}

impl Proposed {
    /// How many rows there are and how many have a valid identifier, where the subject is clear.
    #[must_use]
    pub fn rows(&self) -> Option<(u64, u64)> {
        self.codes.as_ref().map(|codes| (codes.rows, codes.valid))
    }

    /// Whether the dataset's name is one that the configuration takes.
    pub(super) fn check(&self) -> Result<(), InspectError> {
        Name::parse(&self.name).map(drop).map_err(|e| {
            InspectError::new(&self.place, format!("cannot name a dataset: {e}"), "rename the file or table, with letters a-z and digits")
        })
    }
}
