//! Who rests on what: which datasets and views are used by whom, where departments publish the same, and what ends with an agreement.
//!
//! ```text
//! agreement ─names─▶ dataset ◀─names─ view ◀─names─ view ◀─measures─ outcome of a mission
//! ```
//!
//! A view uses what it names, itself or through other views of its mission. An outcome uses what its view uses, under the agreements of its
//! mission that permit its purpose. Answers are never partial: an outcome that lacks one dataset has no measure.
//!
//! Two things are hints and no more. *Overlaps* are columns of one name or title, one type and one type of identifier at several departments:
//! whether they mean the same, people must find out. And where another agreement names the same dataset, whether its columns suffice is told
//! by what it lacks of those that the ending one permits; which of them a view needs, and for what, only planning it tells (`concordat
//! explain`).

mod impact;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::NaiveDate;
use concordat_policy::{DatasetName, Name};
use serde::{Serialize, Serializer};

pub use self::impact::{Covered, Impact, Losing, Loss, Other};
use crate::mission::{Mission, Outcome};

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Composition<'e> {
    /// The missions with outcomes.
    pub missions: &'e [Mission],
    /// The views of all missions.
    pub views: Vec<View>,
    /// The agreements of all missions.
    pub agreements: Vec<Agreement>,
}

/// A view, and what it names itself.
#[derive(Debug, Clone)]
pub struct View {
    /// Which it is.
    pub place: Place,
    /// The views of its mission that it names.
    pub views: BTreeSet<String>,
    /// The datasets that it names.
    pub datasets: BTreeSet<DatasetName>,
}

/// An agreement.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// Its id.
    pub id: Name,
    /// Its mission.
    pub mission: Name,
    /// Of the outcomes' purposes those that it permits.
    pub purposes: BTreeSet<Name>,
    /// The first day that it is in force.
    pub valid_from: NaiveDate,
    /// The last.
    pub valid_until: NaiveDate,
    /// Whether every party has signed it. What is not signed covers nothing.
    pub signed: bool,
    /// The datasets that it names.
    pub datasets: Vec<Dataset>,
}

/// A dataset, as an agreement names it.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Whose and which.
    pub name: DatasetName,
    /// The type of its identifier.
    pub identifier: String,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// A column of a dataset.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its title, for people.
    pub title: Option<String>,
    /// The type of its values.
    pub kind: String,
}

/// Something of a mission, by its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The mission.
    pub mission: Name,
    /// Its name.
    pub name: String,
}

/// Everything that is used, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reuse {
    /// Each dataset.
    pub datasets: Vec<DatasetUse>,
    /// Each view.
    pub views: Vec<ViewUse>,
    /// Where departments may publish the same.
    pub overlaps: Vec<Overlap>,
}

/// By whom a dataset is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatasetUse {
    /// The dataset.
    #[serde(serialize_with = "text")]
    pub dataset: DatasetName,
    /// The agreements that name it.
    pub agreements: BTreeSet<Name>,
    /// Their missions.
    pub missions: BTreeSet<Name>,
    /// The views that use it, themselves or through others.
    pub views: BTreeSet<Place>,
    /// The outcomes whose views do.
    pub outcomes: BTreeSet<Place>,
}

/// By whom a view is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ViewUse {
    /// The view.
    pub view: Place,
    /// The views that use it, themselves or through others.
    pub views: BTreeSet<Place>,
    /// The outcomes that use it, as their view or through it.
    pub outcomes: BTreeSet<Place>,
    /// The datasets that it uses, itself or through others.
    #[serde(serialize_with = "texts")]
    pub datasets: BTreeSet<DatasetName>,
}

/// Columns that several departments have alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Overlap {
    /// What they have in common: their name or title.
    pub called: String,
    /// The type of their values.
    #[serde(rename = "type")]
    pub kind: String,
    /// The type of identifier of the subjects that they are of.
    pub identifier: String,
    /// The columns: `department.dataset.column`.
    pub columns: BTreeSet<String>,
}

impl Composition<'_> {
    /// Everything that is used, and by whom, by name.
    #[must_use]
    pub fn reuse(&self) -> Reuse {
        let used: Vec<(&View, Used)> = self.views.iter().map(|view| (view, self.used(&view.place))).collect();
        let named = self.agreements.iter().flat_map(|agreement| agreement.datasets.iter().map(|dataset| &dataset.name));
        let datasets: BTreeSet<&DatasetName> = named.chain(self.views.iter().flat_map(|view| &view.datasets)).collect();
        let dataset_use = |dataset: &DatasetName| {
            let naming = || self.agreements.iter().filter(|agreement| agreement.dataset(dataset).is_some());
            DatasetUse {
                dataset: dataset.clone(),
                agreements: naming().map(|agreement| agreement.id.clone()).collect(),
                missions: naming().map(|agreement| agreement.mission.clone()).collect(),
                views: used.iter().filter(|(_, used)| used.datasets.contains(dataset)).map(|(view, _)| view.place.clone()).collect(),
                outcomes: self.outcomes(|view| self.used(view).datasets.contains(dataset)),
            }
        };
        let view_use = |(view, own): &(&View, Used)| {
            let of = &view.place;
            let through = used.iter().filter(|(other, used)| other.place.mission == of.mission && used.views.contains(&of.name));
            ViewUse {
                view: of.clone(),
                views: through.map(|(other, _)| other.place.clone()).collect(),
                outcomes: self.outcomes(|view| view == of || (view.mission == of.mission && self.used(view).views.contains(&of.name))),
                datasets: own.datasets.clone(),
            }
        };
        Reuse {
            datasets: datasets.into_iter().map(dataset_use).collect(),
            views: used.iter().map(view_use).collect(),
            overlaps: self.overlaps(),
        }
    }

    fn used(&self, view: &Place) -> Used {
        used(&self.views, view)
    }

    fn outcomes(&self, of: impl Fn(&Place) -> bool) -> BTreeSet<Place> {
        let all = self.missions.iter().flat_map(|mission| mission.outcomes.iter().map(move |outcome| (mission, outcome)));
        let place = |mission: &Mission, name: &str| Place { mission: mission.id.clone(), name: name.to_owned() };
        let using = all.filter(|(mission, outcome): &(&Mission, &Outcome)| of(&place(mission, &outcome.view)));
        using.map(|(mission, outcome)| place(mission, outcome.id.as_str())).collect()
    }

    /// Columns of one name, and columns of one title and several names.
    fn overlaps(&self) -> Vec<Overlap> {
        type Key = (String, String, String);
        let (mut by_name, mut by_title): (BTreeMap<Key, Alike>, BTreeMap<Key, Alike>) = (BTreeMap::new(), BTreeMap::new());
        for dataset in self.agreements.iter().flat_map(|agreement| &agreement.datasets) {
            for column in &dataset.columns {
                let key = |called: String| (called, column.kind.clone(), dataset.identifier.clone());
                by_name.entry(key(column.name.clone())).or_default().add(dataset, column);
                if let Some(title) = column.title.as_ref().map(|title| title.trim().to_lowercase()).filter(|title| !title.is_empty()) {
                    by_title.entry(key(title)).or_default().add(dataset, column);
                }
            }
        }
        let named = by_name.into_iter().filter(|(_, alike)| alike.departments.len() > 1);
        let titled = by_title.into_iter().filter(|(_, alike)| alike.departments.len() > 1 && alike.names.len() > 1);
        let overlap = |((called, kind, identifier), alike): (Key, Alike)| Overlap { called, kind, identifier, columns: alike.columns };
        named.chain(titled).map(overlap).collect()
    }
}

/// What a view uses.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// Other views; itself only where it is in a circle.
    pub views: BTreeSet<String>,
    /// Datasets.
    pub datasets: BTreeSet<DatasetName>,
}

/// What a view uses, itself or through others. Views that name each other in a circle end nowhere else.
#[must_use]
pub fn used(views: &[View], of: &Place) -> Used {
    let (mut used, mut left) = (Used::default(), vec![of.name.clone()]);
    while let Some(name) = left.pop() {
        let found = views.iter().find(|one| one.place.mission == of.mission && one.place.name == name);
        let Some(found) = found else { continue };
        used.datasets.extend(found.datasets.iter().cloned());
        left.extend(found.views.iter().filter(|next| used.views.insert((*next).clone())).cloned());
    }
    used
}

/// Columns with something in common.
#[derive(Debug, Default)]
struct Alike {
    departments: BTreeSet<Name>,
    names: BTreeSet<String>,
    columns: BTreeSet<String>,
}

impl Alike {
    fn add(&mut self, dataset: &Dataset, column: &Column) {
        self.departments.insert(dataset.name.department.clone());
        self.names.insert(column.name.clone());
        self.columns.insert(format!("{}.{}", dataset.name, column.name));
    }
}

impl Agreement {
    /// What it says of a dataset.
    fn dataset(&self, name: &DatasetName) -> Option<&Dataset> {
        self.datasets.iter().find(|dataset| dataset.name == *name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mission, self.name)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn text<S: Serializer>(name: &DatasetName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

fn texts<'n, S: Serializer>(names: impl IntoIterator<Item = &'n DatasetName>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.into_iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{day, mission};

    pub(super) fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    pub(super) fn dataset_name(text: &str) -> DatasetName {
        let (department, dataset) = text.split_once('.').unwrap();
        DatasetName::new(name(department), name(dataset))
    }

    /// `a.people: region text = Region, income number`.
    pub(super) fn dataset(text: &str) -> Dataset {
        let (of, columns) = text.split_once(": ").unwrap();
        let column = |column: &str| {
            let (typed, title) = column.split_once(" = ").map_or((column, None), |(typed, title)| (typed, Some(title.to_owned())));
            let (name, kind) = typed.split_once(' ').unwrap();
            Column { name: name.into(), title, kind: kind.into() }
        };
        let identifier = if of.starts_with('f') { "company_number" } else { "nino" };
        Dataset { name: dataset_name(of), identifier: identifier.into(), columns: columns.split(", ").map(column).collect() }
    }

    pub(super) fn agreement(id: &str, of: &str, until: &str, datasets: &[&str]) -> Agreement {
        Agreement {
            id: name(id),
            mission: name(of),
            purposes: [name("m.measure")].into(),
            valid_from: day("2026-01-01"),
            valid_until: day(until),
            signed: true,
            datasets: datasets.iter().map(|text| dataset(text)).collect(),
        }
    }

    pub(super) fn view(of: &str, called: &str, views: &[&str], datasets: &[&str]) -> View {
        View {
            place: Place { mission: name(of), name: called.into() },
            views: views.iter().map(|view| (*view).to_owned()).collect(),
            datasets: datasets.iter().map(|dataset| dataset_name(dataset)).collect(),
        }
    }

    fn shown<T: ToString>(all: &BTreeSet<T>) -> String {
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_used_through_views_is_used() {
        let missions = [mission()];
        let composition = Composition {
            missions: &missions,
            views: vec![
                view("m", "v", &["joined"], &[]),
                view("m", "joined", &["people"], &["b.claims"]),
                view("m", "people", &["joined"], &["a.people"]),
                view("n", "people", &[], &["a.people"]),
                view("m", "alone", &[], &["c.firms"]),
            ],
            agreements: vec![
                agreement("one", "m", "2027-12-31", &["a.people: region text", "b.claims: region text"]),
                agreement("two", "n", "2027-12-31", &["a.people: region text", "d.unused: x text"]),
            ],
        };
        let reuse = composition.reuse();
        let of: Vec<[String; 5]> = reuse
            .datasets
            .iter()
            .map(|one| [one.dataset.to_string(), shown(&one.agreements), shown(&one.missions), shown(&one.views), shown(&one.outcomes)])
            .collect();
        assert_eq!(
            of,
            [
                ["a.people", "one two", "m n", "m/joined m/people m/v n/people", "m/fewer"],
                ["b.claims", "one", "m", "m/joined m/people m/v", "m/fewer"],
                ["c.firms", "", "", "m/alone", ""],
                ["d.unused", "two", "n", "", ""],
            ]
            .map(|row| row.map(str::to_owned))
        );
        let of: Vec<[String; 4]> =
            reuse.views.iter().map(|one| [one.view.to_string(), shown(&one.views), shown(&one.outcomes), shown(&one.datasets)]).collect();
        assert_eq!(
            of,
            [
                ["m/v", "", "m/fewer", "a.people b.claims"],
                // In a circle: each uses the other, and itself.
                ["m/joined", "m/joined m/people m/v", "m/fewer", "a.people b.claims"],
                ["m/people", "m/joined m/people m/v", "m/fewer", "a.people b.claims"],
                ["n/people", "", "", "a.people"],
                ["m/alone", "", "", "c.firms"],
            ]
            .map(|row| row.map(str::to_owned))
        );
        let told = serde_json::to_value(&reuse).unwrap();
        assert_eq!(
            (told["datasets"][0]["dataset"].as_str(), told["views"][0]["datasets"][1].as_str()),
            (Some("a.people"), Some("b.claims"))
        );
    }

    #[test]
    fn overlaps_are_of_one_name_or_title_and_one_type_of_value_and_subject() {
        let composition = Composition {
            missions: &[],
            views: Vec::new(),
            agreements: vec![
                agreement("one", "m", "2027-12-31", &["a.people: region text = Region, income number = Income a year"]),
                agreement(
                    "two",
                    "n",
                    "2027-12-31",
                    &["a.people: region text = Region", "a.more: region text", "b.claims: region text, income text"],
                ),
                agreement("three", "n", "2027-12-31", &["c.tax: earned number = income a Year", "firms.all: region text"]),
            ],
        };
        let overlaps: Vec<[String; 4]> =
            composition.reuse().overlaps.into_iter().map(|one| [one.called, one.kind, one.identifier, shown(&one.columns)]).collect();
        // Firms have regions too, which are not those of people; another type of income is another thing.
        assert_eq!(
            overlaps,
            [
                ["region", "text", "nino", "a.more.region a.people.region b.claims.region"],
                ["income a year", "number", "nino", "a.people.income c.tax.earned"],
            ]
            .map(|row| row.map(str::to_owned))
        );
    }
}
