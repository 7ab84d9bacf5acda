//! Who rests on what in an estate: views, datasets and agreements as plain names.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use concordat_mission::reuse::{self, Column, Composition, Place};
use concordat_mission::snapshot::statement;
use concordat_mission::{Mission, Outcome};
use concordat_policy::{Agreement, Dataset, DatasetName, Name};

use super::Estate;
use crate::plan;

impl Estate {
    /// The estate's views, datasets and agreements beside `missions`, which are its own. Whether agreements are signed is as of `now`.
    #[must_use]
    pub fn composition<'m>(&self, missions: &'m [Mission], now: DateTime<Utc>) -> Composition<'m> {
        Composition {
            missions,
            views: self.views.iter().map(|view| view_names(&view.mission, &view.name, &view.sql)).collect(),
            agreements: self.agreements.iter().map(|agreement| self.agreed(agreement, missions, now)).collect(),
        }
    }

    /// The texts of a view of a mission and of every view that it uses, by name; none of what the estate does not have.
    #[must_use]
    pub fn statements(&self, mission: &Name, view: &str) -> BTreeMap<String, String> {
        let own = || self.views.iter().filter(|one| one.mission == *mission);
        let used = self.used(mission, view);
        let wanted = own().filter(|one| one.name == view || used.views.contains(&one.name));
        wanted.map(|one| (one.name.clone(), one.sql.clone())).collect()
    }

    /// What a view of a mission uses, itself or through others.
    fn used(&self, mission: &Name, view: &str) -> reuse::Used {
        let own = self.views.iter().filter(|one| one.mission == *mission);
        let names: Vec<reuse::View> = own.map(|one| view_names(&one.mission, &one.name, &one.sql)).collect();
        reuse::used(&names, &Place { mission: mission.clone(), name: view.to_owned() })
    }

    /// Each dataset of an outcome's view with the agreement that covers it longest, of those of the mission that permit the purpose, that
    /// every party signed and that answer the mission's owner.
    #[must_use]
    pub fn covered(&self, mission: &Mission, outcome: &Outcome, now: DateTime<Utc>) -> Vec<Coverage<'_>> {
        let permits = |one: &&Agreement| one.purposes.iter().any(|agreed| self.purposes.covers(agreed, &outcome.purpose));
        let of_mission = || self.agreements.iter().filter(|one| one.mission == mission.id);
        let signed: Vec<&Agreement> = of_mission().filter(permits).filter(|one| self.signatures.lacking(one, now).is_empty()).collect();
        let words: BTreeSet<String> = self.statements(&mission.id, &outcome.view).values().flat_map(|sql| words(sql)).collect();
        let of = |dataset: DatasetName| {
            // What no agreement knows is no column of it.
            let known = self.agreements.iter().filter_map(|one| one.dataset(&dataset)).flat_map(|agreed| agreed.columns.keys());
            let named: BTreeSet<&str> = known.map(String::as_str).filter(|column| words.contains(*column)).collect();
            let by = longest(&signed, &dataset, &named, &mission.owner, now.date_naive());
            Coverage { dataset, by }
        };
        self.used(&mission.id, &outcome.view).datasets.into_iter().map(of).collect()
    }

    fn agreed(&self, agreement: &Agreement, missions: &[Mission], now: DateTime<Utc>) -> reuse::Agreement {
        let purposes = missions.iter().flat_map(|mission| &mission.outcomes).map(|outcome| &outcome.purpose);
        let permits = |purpose: &&Name| agreement.purposes.iter().any(|agreed| self.purposes.covers(agreed, purpose));
        reuse::Agreement {
            id: agreement.id.clone(),
            mission: agreement.mission.clone(),
            purposes: purposes.filter(permits).cloned().collect(),
            valid_from: agreement.valid_from,
            valid_until: agreement.valid_until,
            signed: self.signatures.lacking(agreement, now).is_empty(),
            datasets: agreement.datasets.iter().map(dataset).collect(),
        }
    }
}

/// What covers a dataset for an outcome.
#[derive(Debug)]
pub struct Coverage<'e> {
    /// The dataset.
    pub dataset: DatasetName,
    /// The agreement, and the columns that the view perhaps uses of the dataset and it does not name: they stand in the view, of whatever
    /// dataset. None where no agreement that began covers it.
    pub by: Option<(&'e Agreement, BTreeSet<String>)>,
}

/// Of these agreements the one that covers a dataset and `columns` of it longest from `today`, for answers to `owner`; where none has all
/// of them, the one that lasts longest.
fn longest<'e>(
    agreements: &[&'e Agreement],
    dataset: &DatasetName,
    columns: &BTreeSet<&str>,
    owner: &str,
    today: NaiveDate,
) -> Option<(&'e Agreement, BTreeSet<String>)> {
    let answers = |one: &&&Agreement| one.valid_from <= today && one.recipients.iter().any(|recipient| recipient.organisation == owner);
    let lacking = |one: &&'e Agreement| {
        let agreed = one.dataset(dataset)?;
        let lacking = columns.iter().filter(|column| !agreed.columns.contains_key(**column)).map(|column| (*column).to_owned());
        Some((*one, lacking.collect::<BTreeSet<String>>()))
    };
    let naming = agreements.iter().filter(answers).filter_map(lacking);
    naming.max_by_key(|(one, lacking)| (lacking.is_empty() && one.valid_until >= today, one.valid_until))
}

/// The words of a statement that may name a column.
fn words(sql: &str) -> impl Iterator<Item = String> {
    statement(sql).into_iter().map(|word| match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
        Some(quoted) => quoted.to_owned(),
        None => word.to_ascii_lowercase(),
    })
}

/// What a view's statement names itself; nothing where it does not parse, as an estate's always do.
#[must_use]
pub fn view_names(mission: &Name, name: &str, sql: &str) -> reuse::View {
    let (mut views, mut datasets) = (BTreeSet::new(), BTreeSet::new());
    for (schema, table) in plan::tables(sql).unwrap_or_default() {
        match schema.as_deref() {
            None | Some(plan::VIEWS) => {
                views.insert(table);
            }
            Some(schema) => {
                let name = Name::parse(schema).and_then(|department| Ok(DatasetName::new(department, Name::parse(&table)?)));
                datasets.extend(name.ok());
            }
        }
    }
    reuse::View { place: Place { mission: mission.clone(), name: name.to_owned() }, views, datasets }
}

fn dataset(dataset: &Dataset) -> reuse::Dataset {
    let column = |(name, rule): (&String, &concordat_policy::ColumnRule)| Column {
        name: name.clone(),
        title: rule.title.clone(),
        kind: rule.kind.to_string(),
    };
    reuse::Dataset {
        name: dataset.name.clone(),
        identifier: dataset.identifier.label(),
        columns: dataset.columns.iter().map(column).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{AGREEMENT, agreed, name};

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    /// `a.people` by two agreements: the first for 2026 with every column, the second from July 2026 for a year without `age`.
    fn two() -> [Agreement; 2] {
        let shorter = AGREEMENT.lines().filter(|line| !line.starts_with("age =")).collect::<Vec<_>>().join("\n");
        let later = shorter.replace("id = \"test\"", "id = \"later\"");
        let later = later.replace("valid_from = \"2026-01-01\"", "valid_from = \"2026-07-01\"");
        let later = later.replace("valid_until = \"2026-12-31\"", "valid_until = \"2027-06-30\"");
        [agreed(AGREEMENT), agreed(&later)]
    }

    fn by(columns: &[&str], owner: &str, today: &str) -> Option<(String, Vec<String>)> {
        let two = two();
        let all: Vec<&Agreement> = two.iter().collect();
        let dataset = DatasetName::new(name("a"), name("people"));
        let found = longest(&all, &dataset, &columns.iter().copied().collect(), owner, day(today))?;
        Some((found.0.id.to_string(), found.1.into_iter().collect()))
    }

    #[test]
    fn what_covers_a_dataset_has_begun_answers_the_owner_and_has_its_columns() {
        let told = |id: &str, lacks: &[&str]| Some((id.to_owned(), lacks.iter().map(|one| (*one).to_owned()).collect()));
        assert_eq!(by(&["score"], "unit", "2025-12-31"), None, "neither has begun");
        assert_eq!(by(&["score"], "unit", "2026-01-01"), told("test", &[]), "its first day is one of it");
        assert_eq!(by(&["score"], "unit", "2026-06-30"), told("test", &[]), "the longer one begins tomorrow");
        assert_eq!(by(&["score"], "unit", "2026-07-01"), told("later", &[]));
        assert_eq!(by(&["score"], "units", "2026-07-01"), None, "answers go to another organisation");
        // With a column that the longer one lacks: the shorter one as long as it lasts, its last day included.
        assert_eq!(by(&["score", "age"], "unit", "2026-12-31"), told("test", &[]));
        assert_eq!(by(&["score", "age"], "unit", "2027-01-01"), told("later", &["age"]));
        // Both ended: what ended last is named.
        assert_eq!(by(&["score"], "unit", "2027-07-01"), told("later", &[]));
    }

    #[test]
    fn words_that_may_name_a_column_are_those_of_the_statement_alone() {
        let found: Vec<String> = words("SELECT P.Age, \"Odd\", 'score' -- secret\nFROM a.people p").collect();
        for (word, there) in [("age", true), ("Odd", true), ("score", false), ("secret", false), ("people", true)] {
            assert_eq!(found.iter().any(|one| one == word), there, "{word}: {found:?}");
        }
    }
}
