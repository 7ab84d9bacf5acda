//! The objects: a mission, its outcomes, the outputs meant to cause them. [`Mission::parse`] reads a `missions/*.toml` of the estate.

use std::collections::BTreeMap;
use std::fmt;

use chrono::NaiveDate;
use concordat_policy::{Name, Problem};
use serde::{Deserialize, Serialize};

use crate::schedule::Every;

/// A mission's document with every field explained, which parses and names nothing that an estate has.
pub const DRAFT: &str = include_str!("draft.toml");

/// A mission: a political goal, with the changes by which it is known whether it is reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mission {
    /// Its name, as in `missions.toml`.
    pub id: Name,
    /// Its title, for people.
    pub title: String,
    /// The goal, in a sentence.
    pub goal: String,
    /// The organisation that answers for it, as tokens name it.
    pub owner: String,
    /// The service identity that takes its snapshots: `sub` of its token, of the organisation `owner`.
    pub identity: String,
    /// Its first day.
    pub starts: NaiveDate,
    /// Its last day.
    pub ends: NaiveDate,
    /// What is to change.
    pub outcomes: Vec<Outcome>,
    /// What is done about it.
    pub outputs: Vec<Output>,
}

/// A measurable change: one column of one row of an outcome view, from a baseline to a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Its name, unique in the mission.
    pub id: Name,
    /// Its title, for people.
    pub title: String,
    /// What is to be understood by it, for people.
    pub description: String,
    /// For which purpose the view is asked.
    pub purpose: Name,
    /// The view, of the same mission.
    pub view: String,
    /// The view's column that is the measure.
    pub column: String,
    /// What kind of number that is.
    pub kind: Kind,
    /// The row of the view that is the headline: columns with their values. Empty where the view has one row.
    pub row: Row,
    /// What it is measured in, for people.
    pub unit: String,
    /// Which way is better.
    pub direction: Direction,
    /// Where it stood, and when.
    pub baseline: Point,
    /// Where it is to stand, and by when.
    pub target: Point,
    /// What is to be reached on the way, by date.
    pub milestones: Vec<Milestone>,
    /// The department that leads.
    pub lead: Name,
    /// The departments that contribute.
    pub contributing: Vec<Name>,
    /// By what the view breaks the measure down.
    pub breakdowns: Vec<Breakdown>,
    /// How often a snapshot is due.
    pub every: Every,
    /// From when on snapshots are due: the mission's first day where nothing else is said.
    pub from: NaiveDate,
    /// After how many days data is too old to say how the outcome stands.
    pub fresh_for_days: u32,
    /// Datasets (`department.dataset`) that change seldom by their nature: their age neither dates a snapshot nor makes it too old.
    pub standing: Vec<String>,
}

/// What kind of number a measure is: how coarsely it is told follows from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A number of subjects.
    Count,
    /// A mean of zeros and ones, 0 to 1.
    Share {
        /// The view's column that tells the number of values behind it.
        counted: String,
    },
    /// A mean.
    Mean {
        /// As for a share.
        counted: String,
        /// The most, by size, that one subject's value can be.
        largest: f64,
    },
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More is better.
    Up,
    /// Less is better.
    Down,
}

/// A value at a date.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The value, in the measure's own unit.
    pub value: f64,
    /// The day.
    pub on: NaiveDate,
}

/// A point on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Milestone {
    /// Its title, for people.
    pub title: String,
    /// The value to be reached.
    pub value: f64,
    /// By when.
    pub on: NaiveDate,
}

/// Which row of a view is meant: each of these columns has this value.
pub type Row = BTreeMap<String, Is>;

/// A value of a column, as a file states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Is {
    /// A boolean.
    Truth(bool),
    /// A whole number.
    Whole(i64),
    /// A text.
    Text(String),
}

impl fmt::Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truth(truth) => truth.fmt(f),
            Self::Whole(whole) => whole.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// How the rows of a view break its measure down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breakdown {
    /// Its title, for people.
    pub title: String,
    /// The columns by which rows are told apart.
    pub by: Vec<String>,
    /// Which rows are meant; all where it is empty, but for the headline's own.
    #[serde(default)]
    pub row: Row,
}

/// An activity that is meant to move outcomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its name, unique in the mission.
    pub id: Name,
    /// Its title, for people.
    pub title: String,
    /// What is done.
    pub activity: String,
    /// Who does it.
    pub owner: String,
    /// The outcomes that it should move.
    pub outcomes: Vec<Name>,
    /// How it stands.
    pub status: OutputStatus,
    /// Since when it stands so.
    pub since: NaiveDate,
    /// Why it was stopped or changed.
    #[serde(default)]
    pub because: Option<String>,
    /// Its own numbers: what was done, by its owner's count. No outcome is measured by them.
    #[serde(default)]
    pub counts: Vec<Count>,
}

/// How an output stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStatus {
    /// It runs as it was planned.
    Running,
    /// It runs otherwise than before.
    Changed,
    /// It does not run any more.
    Stopped,
}

impl Output {
    /// Its first day, where the file says it: of one that was changed or stopped it says when that was.
    #[must_use]
    pub fn began(&self) -> Option<NaiveDate> {
        (self.status == OutputStatus::Running).then_some(self.since)
    }

    /// The first day on which there was none of it any more.
    #[must_use]
    pub fn stopped(&self) -> Option<NaiveDate> {
        (self.status == OutputStatus::Stopped).then_some(self.since)
    }
}

impl OutputStatus {
    /// The word for it, as files have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Changed => "changed",
            Self::Stopped => "stopped",
        }
    }
}

/// A number of an output's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Of what.
    pub what: String,
    /// How many.
    pub value: f64,
    /// By which day.
    pub on: NaiveDate,
}

/// What the estate knows, for checking what a mission names.
pub trait Known {
    /// Title and goal of a mission, as `missions.toml` states them.
    fn mission(&self, id: &Name) -> Option<(&str, &str)>;
    /// Whether there is such a department.
    fn department(&self, id: &Name) -> bool;
    /// Whether some agreement of the mission names an organisation as one that gets answers.
    fn receives(&self, mission: &Name, organisation: &str) -> bool;
    /// Whether some agreement of the mission permits an active purpose.
    fn permits(&self, mission: &Name, purpose: &Name) -> bool;
    /// Whether some agreement of the mission names a dataset (`department.dataset`).
    fn covers(&self, mission: &Name, dataset: &str) -> bool;
    /// The columns of a view of the mission; an error where they cannot be told without planning it.
    fn columns(&self, mission: &Name, view: &str) -> Option<Result<Vec<String>, String>>;
    /// What a column of a view of the mission is computed by, where its outermost SELECT tells.
    fn computed(&self, mission: &Name, view: &str, column: &str) -> Option<Computed>;
}

/// What a column of a view is, by the outermost function of its expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Computed {
    /// A number of subjects or values.
    Count,
    /// A mean of what is 0 or 1 by a CASE.
    MeanOfOnes,
    /// A mean.
    Mean,
    /// Another aggregate, by its name.
    Other(String),
}

impl Kind {
    /// What is wrong where a measure of this kind is computed so: bounds are worked out by the kind.
    fn misstates(&self, computed: &Computed) -> Option<(String, &'static str)> {
        let fits = matches!(
            (self, computed),
            (Self::Count, Computed::Count)
                | (Self::Share { .. }, Computed::MeanOfOnes | Computed::Mean)
                | (Self::Mean { .. }, Computed::MeanOfOnes | Computed::Mean)
        );
        if fits {
            return None;
        }
        let (is, remedy) = match computed {
            Computed::Count => ("a count".to_owned(), "declare kind = \"count\", without `counted` and `largest`"),
            Computed::MeanOfOnes => (
                "a mean of zeros and ones".into(),
                "declare kind = \"share\" with `counted`, the column with the number of values behind it",
            ),
            Computed::Mean => ("a mean".into(), "declare kind = \"mean\" with `counted` and `largest`, or kind = \"share\" with `counted`"),
            Computed::Other(function) => (
                format!("computed by {function}()"),
                "measure a count, a share or a mean: count(DISTINCT subject), or avg(…) beside the number of values",
            ),
        };
        Some((is, remedy))
    }
}

impl Mission {
    /// Reads a `missions/*.toml`: one mission with its `[[outcome]]`s and `[[output]]`s.
    ///
    /// # Errors
    /// Everything wrong with the document by itself.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        crate::file::parse(text)
    }

    /// The outcome of that name.
    #[must_use]
    pub fn outcome(&self, id: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.id.as_str() == id)
    }

    /// The outputs that should move an outcome.
    pub fn outputs_of<'m>(&'m self, outcome: &'m Outcome) -> impl Iterator<Item = &'m Output> {
        self.outputs.iter().filter(|output| output.outcomes.contains(&outcome.id))
    }

    /// Everything that the mission, as read from `text`, names and the estate does not have.
    #[must_use]
    pub fn problems(&self, text: &str, known: &dyn Known) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |id: &Name, near: &str, cause: String, remedy: &str| problems.push(place(text, id, near, cause, remedy));
        match known.mission(&self.id) {
            None => {
                problem(
                    &self.id,
                    self.id.as_str(),
                    format!("the mission '{}' is not in missions.toml", self.id),
                    "declare it, or correct its name",
                );
            }
            Some((title, goal)) => {
                for (what, here, there) in [("title", &self.title, title), ("goal", &self.goal, goal)] {
                    if !there.is_empty() && here != there {
                        let cause = format!("the {what} of the mission '{}' is another in missions.toml: '{there}'", self.id);
                        problem(&self.id, here, cause, "state it the same way in both files");
                    }
                }
            }
        }
        if !known.receives(&self.id, &self.owner) {
            let cause = format!("no agreement of the mission has its owner '{}' among its recipients", self.owner);
            problem(&self.id, &self.owner, cause, "name the organisation as agreements and tokens do");
        }
        for said in self.undrafted() {
            problem(&self.id, said, format!("'{said}' is the draft's word for what is to be said"), "say it, or leave it out");
        }
        for outcome in &self.outcomes {
            let of = format!("of outcome '{}'", outcome.id);
            for department in std::iter::once(&outcome.lead).chain(&outcome.contributing) {
                if !known.department(department) {
                    let cause = format!("the department '{department}' {of} is not in departments.toml");
                    problem(&outcome.id, department.as_str(), cause, "declare it, or correct its name");
                }
            }
            if !known.permits(&self.id, &outcome.purpose) {
                let cause = format!("the purpose '{}' {of} is not active, or no agreement of the mission permits it", outcome.purpose);
                problem(
                    &outcome.id,
                    outcome.purpose.as_str(),
                    cause,
                    "name an active purpose of purposes.toml that an agreement of the mission permits",
                );
            }
            for dataset in outcome.standing.iter().filter(|dataset| !known.covers(&self.id, dataset)) {
                let cause = format!("the dataset '{dataset}' {of} is in no agreement of the mission");
                problem(&outcome.id, dataset, cause, "name a dataset that the view reads, as department.dataset");
            }
            match known.columns(&self.id, &outcome.view) {
                None => {
                    let cause = format!("the view '{}' {of} is not one of the mission's", outcome.view);
                    problem(&outcome.id, &outcome.view, cause, "name a file of views/ whose `-- mission:` is this mission");
                }
                Some(Err(why)) => {
                    let cause = format!("the columns of the view '{}' {of} cannot be told: {why}", outcome.view);
                    problem(&outcome.id, &outcome.view, cause, "name each column in the view's outermost SELECT");
                }
                Some(Ok(columns)) => {
                    let computed = known.computed(&self.id, &outcome.view, &outcome.column);
                    if let Some((is, remedy)) = computed.and_then(|computed| outcome.kind.misstates(&computed)) {
                        let cause = format!(
                            "the column '{}' of the view '{}' {of} is {is}, and its kind says otherwise",
                            outcome.column, outcome.view
                        );
                        problem(&outcome.id, "kind", cause, remedy);
                    }
                    for column in outcome.columns().filter(|column| !columns.iter().any(|known| known == column)) {
                        let cause = format!("the view '{}' {of} has no column '{column}'; it has {}", outcome.view, columns.join(", "));
                        problem(&outcome.id, column, cause, "name one of its columns, or add it to the view");
                    }
                }
            }
        }
        problems
    }
}

impl Mission {
    /// Words of the draft that still stand in it.
    fn undrafted(&self) -> Vec<&str> {
        // The draft parses, as a test says.
        let draft = Self::parse(DRAFT).ok();
        let drafted: Vec<&str> = draft.iter().flat_map(Self::words).filter(|word| !word.chars().any(char::is_lowercase)).collect();
        let own = self.words().into_iter();
        own.filter(|word| drafted.contains(word)).collect()
    }

    /// What is said in it for people.
    fn words(&self) -> Vec<&str> {
        let milestones = self.outcomes.iter().flat_map(|outcome| &outcome.milestones).map(|one| one.title.as_str());
        let counts = self.outputs.iter().flat_map(|output| &output.counts).map(|one| one.what.as_str());
        let own = [self.title.as_str(), self.goal.as_str(), self.owner.as_str(), self.identity.as_str()].into_iter();
        let outcomes = self.outcomes.iter().flat_map(|one| [one.title.as_str(), one.description.as_str()]);
        let outputs = self.outputs.iter().flat_map(|one| [one.title.as_str(), one.activity.as_str(), one.owner.as_str()]);
        own.chain(milestones).chain(counts).chain(outcomes).chain(outputs).filter(|word| !word.is_empty()).collect()
    }
}

impl Outcome {
    /// The columns of the view that it needs.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let broken_down = self.breakdowns.iter().flat_map(|breakdown| breakdown.by.iter().chain(breakdown.row.keys()));
        std::iter::once(&self.column).chain(self.kind.counted()).chain(self.row.keys()).chain(broken_down).map(String::as_str)
    }
}

impl Kind {
    /// The column that tells the number of values behind a mean.
    #[must_use]
    pub fn counted(&self) -> Option<&String> {
        match self {
            Self::Count => None,
            Self::Share { counted } | Self::Mean { counted, .. } => Some(counted),
        }
    }
}

/// A problem near the first `near` after the table of `id` begins, as a value, else as a key, else anywhere: what several tables name is shown
/// in the right one.
pub(crate) fn place(text: &str, id: &Name, near: &str, cause: impl Into<String>, remedy: &str) -> Problem {
    let table = text.find(&format!("\"{id}\"")).unwrap_or(0);
    let rest = text.get(table..).unwrap_or_default();
    let key = || rest.find(&format!("\n{near} =")).map(|at| at + 1);
    let found = rest.find(&format!("\"{near}\"")).or_else(key).or_else(|| rest.find(near));
    let span = found.map(|at| (table + at)..(table + at + near.len()));
    Problem { span, near: None, cause: cause.into(), remedy: remedy.to_owned() }
}
